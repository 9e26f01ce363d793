//! Large angles in turns, exactly, without tables or variable shifts (after Payne and Hanek, 1983).
//!
//! `|x| = m 2^e` with a 24-bit integer m. Of the digits of 1 / (2 pi), those before position e make
//! whole turns and those after e + 96 are too small to matter: 96 digits times m, modulo 2^96, are
//! the fraction of a turn, of which the upper 64 bits are kept. No f32 is nearer to a multiple of
//! pi / 2 than about 2^-30, so that 30 correct bits and more remain after any cancellation. The
//! window of digits is chosen by two selects a word and a multiplication by a power of two.

use super::Lanes;

/// Digits of 1 / (2 pi), behind six zeros, so that the first window belongs to e = -6 (x = 2^17).
const DIGITS: [u32; 7] = [0x00a2_f983, 0x6e4e_4415, 0x29fc_2757, 0xd1f5_34dd, 0xc0db_6295, 0x993c_4390, 0x41fe_5163];

/// A fraction of a turn in units of 2^-64.
pub(super) struct Turns<L: Lanes> {
    high: L::Value,
    low: L::Value,
}

/// An angle as a whole number of half or quarter turns, of which only the parity is kept, and a
/// rest in `[-1/2, 1/2]` of them.
pub(super) struct Fraction<L: Lanes> {
    /// The parity of the whole number in the lowest bit; other bits are anything.
    pub parity: L::Value,
    /// The size of the rest in units of 2^-64.
    high: L::Value,
    low: L::Value,
    /// All ones where the rest is negative, else zero.
    negative: L::Value,
}

/// |x| modulo one turn, for |x| from 2^17 to the largest finite; anything elsewhere.
pub(super) fn turns<L: Lanes>(l: &L, x: L::Value) -> Turns<L> {
    let mantissa = l.or(l.and(x, l.int_constant(0x007f_ffff)), l.int_constant(0x0080_0000));
    // The exponent field of 2^17 is 144: offset 0.
    let exponent = l.and(l.shr_logical(x, 23), l.int_constant(0xff));
    let offset = l.isub(exponent, l.int_constant(144));
    let window = digits_from(l, offset);

    let middle = l.imul(mantissa, window[1]);
    let low = l.iadd(middle, l.umulhi(mantissa, window[2]));
    let sign = l.int_constant(i32::MIN);
    let carry = l.ilt(l.xor(low, sign), l.xor(middle, sign));
    let high = l.iadd(l.imul(mantissa, window[0]), l.umulhi(mantissa, window[1]));
    let high = l.select(carry, l.iadd(high, l.int_constant(1)), high);
    Turns { high, low }
}

/// The angle a quarter of a turn further.
pub(super) fn quarter_turn_on<L: Lanes>(l: &L, turns: Turns<L>) -> Turns<L> {
    Turns { high: l.iadd(turns.high, l.int_constant(1 << 30)), low: turns.low }
}

/// The angle in half turns.
pub(super) fn half_turns<L: Lanes>(l: &L, turns: Turns<L>) -> Fraction<L> {
    fraction(l, turns, 1)
}

/// The angle in quarter turns.
pub(super) fn quarter_turns<L: Lanes>(l: &L, turns: Turns<L>) -> Fraction<L> {
    fraction(l, turns, 2)
}

/// The rest of a fraction in radians, `pi / divisor` being its unit.
pub(super) fn radians<L: Lanes>(l: &L, fraction: &Fraction<L>, divisor: u8) -> L::Value {
    const PI: f32 = std::f32::consts::PI;
    const PI_REST: f32 = -8.742278e-8;
    const HIGH_UNIT: f32 = 1.0 / 4_294_967_296.0;
    const LOW_UNIT: f32 = HIGH_UNIT / 16_777_216.0;
    let divisor = f32::from(divisor);
    // 24 bits of the size, exactly, and the 31 bits below.
    let coarse = l.to_float(l.and(fraction.high, l.int_constant(!0x7f)));
    let fine = l.or(l.shl(l.and(fraction.high, l.int_constant(0x7f)), 24), l.shr_logical(fraction.low, 8));
    let rest = l.mul(l.to_float(fine), l.constant(PI / divisor * LOW_UNIT));
    let rest = l.fma(coarse, l.constant(PI_REST / divisor * HIGH_UNIT), rest);
    let size = l.fma(coarse, l.constant(PI / divisor * HIGH_UNIT), rest);
    l.or(size, l.shl(fraction.negative, 31))
}

/// The angle in units of `2^-bits` turns.
fn fraction<L: Lanes>(l: &L, turns: Turns<L>, bits: u32) -> Fraction<L> {
    let whole = l.shr_logical(turns.high, 32 - bits);
    let high = l.or(l.shl(turns.high, bits), l.shr_logical(turns.low, 32 - bits));
    let low = l.shl(turns.low, bits);
    // From the upper half on, the nearest whole number is the next, and the rest is negative.
    let negative = l.shr_arithmetic(high, 31);
    Fraction {
        parity: l.xor(whole, negative),
        // The complement is the negative less one unit of 2^-64.
        high: l.xor(high, negative),
        low: l.xor(low, negative),
        negative,
    }
}

/// 96 digits from `offset` (0 to 110) on.
fn digits_from<L: Lanes>(l: &L, offset: L::Value) -> [L::Value; 3] {
    let digits = DIGITS.map(|word| l.int_constant(word.cast_signed()));
    let bit = |value: i32| l.ieq(l.and(offset, l.int_constant(value)), l.int_constant(value));
    let (by_64, by_32) = (bit(64), bit(32));
    let even: [L::Value; 5] = std::array::from_fn(|i| l.select(by_64, digits[i + 2], digits[i]));
    let words: [L::Value; 4] = std::array::from_fn(|i| l.select(by_32, even[i + 1], even[i]));
    let power = power_of_two(l, l.and(offset, l.int_constant(31)));
    std::array::from_fn(|i| l.or(l.imul(words[i], power), l.umulhi(words[i + 1], power)))
}

/// 1 shifted left by 0 to 31, as a product of two powers that are exact as small floats.
fn power_of_two<L: Lanes>(l: &L, shift: L::Value) -> L::Value {
    let first = l.shr_logical(shift, 1);
    let power = |exponent| l.to_int(l.iadd(l.shl(exponent, 23), l.constant(1.0)));
    l.imul(power(first), power(l.isub(shift, first)))
}
