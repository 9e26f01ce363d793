//! erf, erfc, the normal distribution and GELU.
//!
//! The tails are `e^(-a^2/2) g(a)` with a smooth g, a ratio of polynomials. The exponent reaches 88, where half a unit
//! in its last place would be 64 units of the result: so the square is never rounded, but enters the reduced
//! argument through one fma.

use super::Lanes;
use super::exponential::{BIASED, LOG2_E};

/// ln 2 cut after 17 bits, so that its product with an exponent is exact, and the rest.
const LN_2_SHORT: f32 = 0.693_145_75;
const LN_2_SHORT_REST: f32 = 1.4286068e-6;

/// e^r on `[-ln 2 / 2, ln 2 / 2]`, relative error 3.4e-9.
const EXP: [f32; 7] = [1.0, 1.0, 0.49999994, 0.16666523, 0.0416682, 0.008368635, 0.001382954];
/// erf x = x N(x^2) / D(x^2) on `[0, 3.88]`, relative error 5.8e-8.
const ERF_NUMERATOR: [f32; 6] = [1.1283792, 0.18894616, 0.052590914, 0.0037119042, 0.00028528852, 2.0827908e-6];
const ERF_DENOMINATOR: [f32; 6] = [1.0, 0.5007823, 0.11353734, 0.014861254, 0.0011524631, 3.845207e-5];
/// Where erf has come within a quarter of a unit of 1.
const ERF_ONE: f32 = 3.88;
/// erfc(z) e^(z^2) on `[0, 9.4]`, relative error 2.6e-8.
const ERFC: Ratio = (
    [1.0, 1.2312521, 0.723999, 0.22554852, 0.032007024],
    [1.0, 2.3596315, 2.3865514, 1.3111513, 0.39980385, 0.05673017],
);
/// Where e^(-z^2) has a zero for its factor.
const ERFC_ZERO: f32 = 9.37;
/// erfc(a / sqrt 2) e^(a^2 / 2) / 2 on `[0, 13.3]`, relative error 1.4e-8.
const NORMAL_TAIL: Ratio = (
    [0.5, 0.43532825, 0.18101071, 0.039875392, 0.004001417],
    [1.0, 1.6685413, 1.1933213, 0.46359086, 0.099960156, 0.010029923],
);
/// Where e^(-a^2 / 2) has a zero for its factor.
const NORMAL_ZERO: f32 = 13.25;

type Ratio = ([f32; 5], [f32; 6]);

/// erf x, as a ratio of polynomials of degree 11 and 10.
pub fn erf<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let x = l.max(l.constant(-ERF_ONE), x);
    let x = l.min(l.constant(ERF_ONE), x);
    let square = l.mul(x, x);
    let numerator = l.mul(x, l.polynomial(square, &ERF_NUMERATOR));
    l.div(numerator, l.polynomial(square, &ERF_DENOMINATOR))
}

/// 1 - erf x, accurate in its tail: e^(-x^2) times a ratio for positive x, 2 minus that for negative.
pub fn erfc<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let z = l.min(l.constant(ERFC_ZERO), l.abs(x));
    let (p, factor) = exp_of_product(l, l.neg(z), z);
    let tail = l.mul(times_ratio(l, p, z, &ERFC), factor);
    l.select(l.lt(x, l.constant(0.0)), l.sub(l.constant(2.0), tail), tail)
}

/// The normal distribution, erfc(-x / sqrt 2) / 2, accurate in its negative tail.
pub fn normal_cdf<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let (_, tail, factor) = normal_tail(l, x);
    let tail = l.mul(tail, factor);
    l.select(l.lt(x, l.constant(0.0)), tail, l.sub(l.constant(1.0), tail))
}

/// x times [`normal_cdf`], as max(x, 0) - |x| Q(|x|) with Q the upper tail. The product keeps its power of two to the
/// last, because x Q(x) may be normal where Q(x) is not. 0 at -inf, which is the limit.
pub fn gelu<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let (a, tail, factor) = normal_tail(l, x);
    l.fma(l.neg(l.mul(a, tail)), factor, l.max(l.constant(0.0), x))
}

/// a = |x|, held where the tail is 0, and two numbers whose product is the upper tail at a.
fn normal_tail<L: Lanes>(l: &L, x: L::Value) -> (L::Value, L::Value, L::Value) {
    let a = l.min(l.constant(NORMAL_ZERO), l.abs(x));
    let (p, factor) = exp_of_product(l, l.mul(a, l.constant(-0.5)), a);
    (a, times_ratio(l, p, a, &NORMAL_TAIL), factor)
}

/// Polynomial and power of two whose product is e^(a b), for `-127.4 ln 2 < a b <= 0`. The product a b is rounded only
/// after its multiple of ln 2 has been taken away.
fn exp_of_product<L: Lanes>(l: &L, a: L::Value, b: L::Value) -> (L::Value, L::Value) {
    let bias = l.constant(BIASED);
    let sum = l.fma(a, l.mul(b, l.constant(LOG2_E)), bias);
    let n = l.sub(sum, bias);
    let r = l.fma(a, b, l.mul(n, l.constant(-LN_2_SHORT)));
    let r = l.fma(n, l.constant(-LN_2_SHORT_REST), r);
    (l.polynomial(r, &EXP), l.shl(sum, 23))
}

/// `p N(a) / D(a)`.
fn times_ratio<L: Lanes>(l: &L, p: L::Value, a: L::Value, (numerator, denominator): &Ratio) -> L::Value {
    l.div(l.mul(p, l.polynomial(a, numerator)), l.polynomial(a, denominator))
}
