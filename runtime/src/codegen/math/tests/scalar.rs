//! [`Lanes`] done rather than emitted: one lane, its bits in a u32.

use std::cell::Cell;

use super::super::{Lanes, Lookup};

/// One lane that counts its operations (constants are free). With `FLUSH`, arithmetic and compares
/// take subnormal arguments and results for zeros of their sign, as x86 does under FTZ and DAZ. With `TABLES`, it looks them up.
#[derive(Default)]
pub struct Scalar<const FLUSH: bool, const TABLES: bool = false> {
    operations: Cell<usize>,
}

impl<const FLUSH: bool, const TABLES: bool> Scalar<FLUSH, TABLES> {
    /// Operations done so far.
    pub fn operations(&self) -> usize {
        self.operations.get()
    }

    fn flush(value: f32) -> f32 {
        if FLUSH && value.is_subnormal() { 0.0f32.copysign(value) } else { value }
    }

    fn float(value: u32) -> f32 {
        Self::flush(f32::from_bits(value))
    }

    fn count<T>(&self, result: T) -> T {
        self.operations.set(self.operations.get() + 1);
        result
    }

    fn result(&self, value: f32) -> u32 {
        self.count(Self::flush(value).to_bits())
    }
}

impl<const FLUSH: bool, const TABLES: bool> Lanes for Scalar<FLUSH, TABLES> {
    type Value = u32;
    type Mask = bool;

    fn constant(&self, value: f32) -> u32 {
        value.to_bits()
    }
    fn add(&self, a: u32, b: u32) -> u32 {
        self.result(Self::float(a) + Self::float(b))
    }
    fn sub(&self, a: u32, b: u32) -> u32 {
        self.result(Self::float(a) - Self::float(b))
    }
    fn mul(&self, a: u32, b: u32) -> u32 {
        self.result(Self::float(a) * Self::float(b))
    }
    fn div(&self, a: u32, b: u32) -> u32 {
        self.result(Self::float(a) / Self::float(b))
    }
    fn fma(&self, a: u32, b: u32, c: u32) -> u32 {
        self.result(Self::float(a).mul_add(Self::float(b), Self::float(c)))
    }
    fn sqrt(&self, a: u32) -> u32 {
        self.result(Self::float(a).sqrt())
    }
    fn abs(&self, a: u32) -> u32 {
        self.count(a & 0x7fff_ffff)
    }
    fn neg(&self, a: u32) -> u32 {
        self.count(a ^ 0x8000_0000)
    }
    fn copysign(&self, magnitude: u32, sign: u32) -> u32 {
        self.count((magnitude & 0x7fff_ffff) | (sign & 0x8000_0000))
    }
    fn floor(&self, a: u32) -> u32 {
        self.result(Self::float(a).floor())
    }
    fn round(&self, a: u32) -> u32 {
        self.result(Self::float(a).round_ties_even())
    }
    fn min(&self, a: u32, b: u32) -> u32 {
        self.count(if Self::float(a) < Self::float(b) { a } else { b })
    }
    fn max(&self, a: u32, b: u32) -> u32 {
        self.count(if Self::float(a) > Self::float(b) { a } else { b })
    }

    fn select(&self, mask: bool, a: u32, b: u32) -> u32 {
        self.count(if mask { a } else { b })
    }
    fn lt(&self, a: u32, b: u32) -> bool {
        self.count(Self::float(a) < Self::float(b))
    }
    fn le(&self, a: u32, b: u32) -> bool {
        self.count(Self::float(a) <= Self::float(b))
    }
    fn eq(&self, a: u32, b: u32) -> bool {
        self.count(Self::float(a) == Self::float(b))
    }
    fn is_nan(&self, a: u32) -> bool {
        self.count(Self::float(a).is_nan())
    }
    fn mask_and(&self, a: bool, b: bool) -> bool {
        self.count(a & b)
    }
    fn mask_or(&self, a: bool, b: bool) -> bool {
        self.count(a | b)
    }
    fn mask_not(&self, a: bool) -> bool {
        self.count(!a)
    }

    fn int_constant(&self, value: i32) -> u32 {
        value.cast_unsigned()
    }
    fn iadd(&self, a: u32, b: u32) -> u32 {
        self.count(a.wrapping_add(b))
    }
    fn isub(&self, a: u32, b: u32) -> u32 {
        self.count(a.wrapping_sub(b))
    }
    fn imul(&self, a: u32, b: u32) -> u32 {
        self.count(a.wrapping_mul(b))
    }
    fn umulhi(&self, a: u32, b: u32) -> u32 {
        self.count(((u64::from(a) * u64::from(b)) >> 32) as u32)
    }
    fn and(&self, a: u32, b: u32) -> u32 {
        self.count(a & b)
    }
    fn or(&self, a: u32, b: u32) -> u32 {
        self.count(a | b)
    }
    fn xor(&self, a: u32, b: u32) -> u32 {
        self.count(a ^ b)
    }
    fn shl(&self, a: u32, bits: u32) -> u32 {
        self.count(a << bits)
    }
    fn shr_logical(&self, a: u32, bits: u32) -> u32 {
        self.count(a >> bits)
    }
    fn shr_arithmetic(&self, a: u32, bits: u32) -> u32 {
        self.count((a.cast_signed() >> bits).cast_unsigned())
    }
    fn ieq(&self, a: u32, b: u32) -> bool {
        self.count(a == b)
    }
    fn ilt(&self, a: u32, b: u32) -> bool {
        self.count(a.cast_signed() < b.cast_signed())
    }
    fn to_int(&self, a: u32) -> u32 {
        // By the magic addition, the weakest form that the contract allows.
        const MAGIC: f32 = 12_582_912.0;
        self.count((Self::float(a) + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()))
    }
    fn to_float(&self, a: u32) -> u32 {
        self.count((a.cast_signed() as f32).to_bits())
    }
    fn lookup(&self) -> Option<Lookup<Self>> {
        TABLES.then_some(|lane, table, index| lane.count(table[index as usize % table.len()]))
    }
}
