//! exp, exp2, expm1.
//!
//! `e^x = 2^n e^r` with `n = round(x / ln 2)`. Adding 1.5 * 2^23 + 127 rounds `x / ln 2` to an
//! integer and leaves `n + 127` in the low bits, one shift away from the float `2^n`. Normal
//! results need `n` from -126 to 128, one more than floats have exponents: the last is folded into
//! the polynomial, which is fitted on `[-ln 2 / 2, ln 2]`, by holding `n` at 127. Above, the
//! polynomial itself overflows; below, `n = -127` makes the factor an exact zero.

use super::Lanes;

/// 1.5 * 2^23: adding it rounds to an integer and leaves that integer in the low bits.
pub(super) const INTEGRAL: f32 = 12_582_912.0;
/// 1.5 * 2^23 + 127: adding it rounds to an integer and leaves that integer + 127 in the low bits.
pub(super) const BIASED: f32 = 12_583_039.0;
pub(super) const LOG2_E: f32 = 1.442695;
/// ln 2, cut after 24 bits (so that both parts are positive), and the rest.
pub(super) const LN_2: f32 = 0.6931471;
pub(super) const LN_2_REST: f32 = 5.769999e-8;
/// `-127 ln 2`: any argument below has a zero for its factor.
pub(super) const LOWEST: f32 = -88.02969;

/// e^r on `[-ln 2 / 2, ln 2]`, relative error 4.6e-8.
const EXP: [f32; 7] = [1.0, 1.0, 0.5000021, 0.16667017, 0.041622404, 0.008325216, 0.0016229253];
/// 2^r on `[-1/2, 1]`, relative error 4.5e-8.
const EXP2: [f32; 7] = [1.0, 0.6931471, 0.24022777, 0.055505384, 0.009606743, 0.0013331664, 0.00017973484];
/// The same with relative error 1.8e-9.
const EXP2_LONG: [f32; 8] =
    [1.0, 0.6931472, 0.24022649, 0.0555042, 0.009618395, 0.0013323802, 0.0001535559, 1.7791568e-5];
/// (e^r - 1 - r) / r^2 on `[-ln 2 / 2, ln 2]`, relative error 8e-9 in e^r - 1.
const EXPM1: [f32; 6] = [0.49999997, 0.16666692, 0.041667677, 0.008327375, 0.0013855525, 0.00023028361];

/// e^x, by a polynomial of degree 6.
pub fn exp<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let x = l.max(l.constant(LOWEST), x);
    exp_halved(l, x, 0)
}

/// 2^x, by a polynomial of degree 6; the reduced argument is exact.
pub fn exp2<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let x = l.max(l.constant(-127.0), x);
    let (n, factor) = nearest_power(l, x, 1.0, BIASED);
    l.mul(l.polynomial(l.sub(x, n), &EXP2), factor)
}

/// e^x - 1, by a polynomial of degree 7: with `p = e^r - 1` it is `2^n p + (2^n - 1)`.
pub fn expm1<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let clamped = l.max(l.constant(LOWEST), x);
    let (n, factor) = nearest_power(l, clamped, LOG2_E, BIASED);
    let r = subtract_ln_2(l, clamped, n);
    let p = l.fma(l.mul(r, r), l.polynomial(r, &EXPM1), r);
    let result = l.fma(p, factor, l.sub(factor, l.constant(1.0)));
    // For the sign of a zero.
    l.copysign(result, x)
}

/// `e^x / 2^halvings` for `x >= LOWEST`, without overflow before the result's own.
pub(super) fn exp_halved<L: Lanes>(l: &L, x: L::Value, halvings: u8) -> L::Value {
    let (n, factor) = nearest_power(l, x, LOG2_E, BIASED - f32::from(halvings));
    let r = subtract_ln_2(l, x, n);
    l.mul(l.polynomial(r, &EXP), factor)
}

/// 2^(high + low) for `high >= -127` and a low part of at most a few units in the last place of the
/// high one, with a polynomial of degree 7.
pub(super) fn exp2_sum<L: Lanes>(l: &L, high: L::Value, low: L::Value) -> L::Value {
    let (n, factor) = nearest_power(l, high, 1.0, BIASED);
    let r = l.add(l.sub(high, n), low);
    l.mul(l.polynomial(r, &EXP2_LONG), factor)
}

/// `n = round(x * scale)` and `2^(n + bias - BIASED)`, with `n` held where that factor is at most
/// 2^127.
fn nearest_power<L: Lanes>(l: &L, x: L::Value, scale: f32, bias: f32) -> (L::Value, L::Value) {
    let bias = l.constant(bias);
    let sum = l.fma(x, l.constant(scale), bias);
    let sum = l.min(l.constant(BIASED + 127.0), sum);
    (l.sub(sum, bias), l.shl(sum, 23))
}

/// `x - n ln 2` for integral n: the first step is exact, the second rounds once.
fn subtract_ln_2<L: Lanes>(l: &L, x: L::Value, n: L::Value) -> L::Value {
    let r = l.fma(n, l.constant(-LN_2), x);
    l.fma(n, l.constant(-LN_2_REST), r)
}
