//! The operations that the elementary functions are made of.

/// Gives the entry of a table that the low five bits of an index number.
pub type Lookup<L> = fn(&L, &'static [u32; 32], <L as Lanes>::Value) -> <L as Lanes>::Value;

/// Emits operations on vectors of 32-bit lanes, or does them.
///
/// A [`Value`](Lanes::Value) has no type of its own: each operation reads its lanes as f32 or as
/// i32, and a change of view costs nothing. Arithmetic on f32 rounds to nearest even, once; integer
/// arithmetic wraps. Subnormal numbers may be flushed to zero by arithmetic and compares, but not
/// by `select`, `abs`, `neg`, `copysign` and the integer operations, which move bits.
///
/// Methods take `&self`, so that formulas can be nested as they are written on paper; a lowering
/// keeps its instruction builder in a `RefCell`.
pub trait Lanes {
    /// A vector of 32-bit lanes.
    type Value: Copy;
    /// One truth value a lane.
    type Mask: Copy;

    /// The same f32 in every lane.
    fn constant(&self, value: f32) -> Self::Value;
    /// `a + b`.
    fn add(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a - b`.
    fn sub(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a * b`.
    fn mul(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a / b`.
    fn div(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a * b + c`, rounded once.
    fn fma(&self, a: Self::Value, b: Self::Value, c: Self::Value) -> Self::Value;
    /// The square root; NaN below zero.
    fn sqrt(&self, a: Self::Value) -> Self::Value;
    /// `a` with its sign bit cleared.
    fn abs(&self, a: Self::Value) -> Self::Value;
    /// `a` with its sign bit flipped.
    fn neg(&self, a: Self::Value) -> Self::Value;
    /// `magnitude` with the sign bit of `sign`.
    fn copysign(&self, magnitude: Self::Value, sign: Self::Value) -> Self::Value;
    /// The largest integral f32 that is not above `a`; infinities and NaN stay.
    fn floor(&self, a: Self::Value) -> Self::Value;
    /// The nearest integral f32, halves to even; infinities and NaN stay.
    fn round(&self, a: Self::Value) -> Self::Value;
    /// `a < b ? a : b`: gives `b` if either is NaN, so put the value whose NaN must live second.
    fn min(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a > b ? a : b`: gives `b` if either is NaN, so put the value whose NaN must live second.
    fn max(&self, a: Self::Value, b: Self::Value) -> Self::Value;

    /// `mask ? a : b`, on bits.
    fn select(&self, mask: Self::Mask, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a < b`; false on NaN.
    fn lt(&self, a: Self::Value, b: Self::Value) -> Self::Mask;
    /// `a <= b`; false on NaN.
    fn le(&self, a: Self::Value, b: Self::Value) -> Self::Mask;
    /// `a == b`; false on NaN.
    fn eq(&self, a: Self::Value, b: Self::Value) -> Self::Mask;
    /// `a > b`; false on NaN.
    fn gt(&self, a: Self::Value, b: Self::Value) -> Self::Mask {
        self.lt(b, a)
    }
    /// `a >= b`; false on NaN.
    fn ge(&self, a: Self::Value, b: Self::Value) -> Self::Mask {
        self.le(b, a)
    }
    /// Whether `a` is NaN.
    fn is_nan(&self, a: Self::Value) -> Self::Mask;
    /// Both.
    fn mask_and(&self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Either.
    fn mask_or(&self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// The opposite.
    fn mask_not(&self, a: Self::Mask) -> Self::Mask;

    /// The same i32 in every lane.
    fn int_constant(&self, value: i32) -> Self::Value;
    /// `a + b` on integers.
    fn iadd(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// `a - b` on integers.
    fn isub(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// The low 32 bits of `a * b`.
    fn imul(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// The high 32 bits of `a * b`, both unsigned.
    fn umulhi(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// Bitwise and.
    fn and(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// Bitwise or.
    fn or(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// Bitwise exclusive or.
    fn xor(&self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// Shift left by `bits < 32`.
    fn shl(&self, a: Self::Value, bits: u32) -> Self::Value;
    /// Shift right by `bits < 32`, zeros in.
    fn shr_logical(&self, a: Self::Value, bits: u32) -> Self::Value;
    /// Shift right by `bits < 32`, copies of the sign in.
    fn shr_arithmetic(&self, a: Self::Value, bits: u32) -> Self::Value;
    /// `a == b` on integers.
    fn ieq(&self, a: Self::Value, b: Self::Value) -> Self::Mask;
    /// `a < b` on signed integers.
    fn ilt(&self, a: Self::Value, b: Self::Value) -> Self::Mask;
    /// An integral f32 with `|a| <= 2^22` to i32. The functions here ask no more, so that adding
    /// 1.5 * 2^23 and subtracting its bits will do.
    fn to_int(&self, a: Self::Value) -> Self::Value;
    /// Any i32 to the nearest f32.
    fn to_float(&self, a: Self::Value) -> Self::Value;

    /// What looks up a table by the low five bits of each lane, where that is one instruction.
    fn lookup(&self) -> Option<Lookup<Self>> {
        None
    }

    /// `c[0] + c[1] x + c[2] x^2 + ...`, by Horner's rule: one `fma` a power.
    fn polynomial(&self, x: Self::Value, coefficients: &[f32]) -> Self::Value {
        let mut highest_first = coefficients.iter().rev();
        let mut sum = self.constant(highest_first.next().copied().unwrap_or(0.0));
        for &coefficient in highest_first {
            sum = self.fma(sum, x, self.constant(coefficient));
        }
        sum
    }
}
