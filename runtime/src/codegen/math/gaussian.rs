//! erf, erfc, the normal distribution and GELU.
//!
//! The tails are `e^(-a^2/2) g(a)` with a smooth g, a ratio of polynomials. The exponent reaches
//! 88, where half a unit in its last place would be 64 units of the result: so the square is never
//! rounded, but enters the reduced argument through one fma.

use super::Lanes;
use super::exponential::{BIASED, LOG2_E};

/// ln 2 cut after 17 bits, so that its product with an exponent is exact, and the rest.
const LN_2_SHORT: f32 = 0.693_145_75;
const LN_2_SHORT_REST: f32 = 1.4286068e-6;

/// erf(a) / a - 1 on `[0, 1]` in powers of a^2, relative error 4e-8 in erf.
const ERF_NEAR: [f32; 6] = [0.12837912, -0.37612322, 0.11280156, -0.026710777, 0.0049170386, -0.0005629628];
/// log2(erfc a) on `[1, 3.93]`, relative error 1.6e-8 in erf.
const ERF_FAR: [f32; 6] = [-0.0037788996, -1.6123857, -0.9438703, -0.12810983, 0.021397417, -0.001669456];
/// -2^f on `[-1/2, 1/2]`, relative error 1e-7.
const MINUS_EXP2: [f32; 6] = [-1.0, -0.693147, -0.24022248, -0.055506878, -0.009671321, -0.0013281737];
/// Where erf has come within half a unit of 1.
const ERF_ONE: f32 = 3.93;
/// erfc(z) for `0 <= z <= 9.4`, relative error 3e-8.
const ERFC: Tail = Tail {
    exp: [0.5641884, 0.5641884, 0.28209418, 0.09403059, 0.02350868, 0.0047214604, 0.00078012905],
    n: [1.5597626, 2.0275517, 1.2428306, 0.40647224, 0.06159686],
    r: [0.88, 0.5771334, 0.20484771, 0.030697746],
};
/// Where e^(-z^2) has a zero for its factor.
const ERFC_ZERO: f32 = 9.37;
/// erfc(a / sqrt 2) / 2 for `0 <= a <= 13.3`, relative error 3e-8.
const NORMAL: Tail = Tail {
    exp: [0.39894134, 0.39894134, 0.19947064, 0.06648965, 0.01662329, 0.0033387952, 0.00055122917],
    n: [1.9175751, 1.7525288, 0.7557025, 0.17365257, 0.018412275],
    r: [1.53, 0.7015011, 0.17514418, 0.018345192],
};
/// Where e^(-a^2 / 2) has a zero for its factor.
const NORMAL_ZERO: f32 = 13.25;

/// A tail as `c e^y N(a) / (a N(a) + R(a))`. Far out, this tends to `c e^y / a` whatever the
/// rounding errors of N. Of the fits, which are equally good for a range of c and for any common
/// factor of N and R, one was chosen whose value at 0 is exact and whose mantissas near 0 are
/// large.
struct Tail {
    /// c e^y on `[-ln 2 / 2, ln 2 / 2]`.
    exp: [f32; 7],
    n: [f32; 5],
    r: [f32; 4],
}

/// erf x: a polynomial of degree 11 below 1, from there `1 - 2^q(|x|)` with one of degree 5.
pub fn erf<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let a = l.min(l.constant(ERF_ONE), l.abs(x));
    let square = l.mul(a, a);
    let near = l.fma(a, l.polynomial(square, &ERF_NEAR), a);
    let bias = l.constant(BIASED);
    let log2_erfc = l.polynomial(a, &ERF_FAR);
    let sum = l.add(log2_erfc, bias);
    let fraction = l.sub(log2_erfc, l.sub(sum, bias));
    let one = l.constant(1.0);
    let far = l.fma(l.polynomial(fraction, &MINUS_EXP2), l.shl(sum, 23), one);
    l.copysign(l.select(l.lt(a, one), near, far), x)
}

/// 1 - erf x, accurate in its tail: e^(-x^2) times a ratio for positive x, 2 minus that for
/// negative.
pub fn erfc<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let z = l.min(l.constant(ERFC_ZERO), l.abs(x));
    let tail = ERFC.at(l, z, l.neg(z));
    let two_less = l.sub(l.constant(2.0), tail);
    l.select(l.lt(x, l.constant(0.0)), two_less, tail)
}

/// The normal distribution, erfc(-x / sqrt 2) / 2, accurate in its negative tail.
pub fn normal_cdf<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let a = l.min(l.constant(NORMAL_ZERO), l.abs(x));
    let tail = NORMAL.at(l, a, l.mul(a, l.constant(-0.5)));
    let one_less = l.sub(l.constant(1.0), tail);
    l.select(l.lt(x, l.constant(0.0)), tail, one_less)
}

/// x times [`normal_cdf`], as max(x, 0) - |x| Q(|x|) with Q the upper tail. The product a Q(a) is
/// `c e^y M / (M + R)` with `M = a N`, so that it has no rounding error more than Q, and keeps its
/// power of two to the last, because it may be normal where Q is not. -0 at -inf, which is the limit.
pub fn gelu<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let a = l.min(l.constant(NORMAL_ZERO), l.abs(x));
    let (exp, factor) = NORMAL.exp_of_product(l, a, l.mul(a, l.constant(-0.5)));
    let m = l.mul(a, l.polynomial(a, &NORMAL.n));
    let denominator = l.add(m, l.polynomial(a, &NORMAL.r));
    let product = l.div(l.mul(m, exp), denominator);
    // -0 below zero, for the sign of what is flushed.
    l.fma(l.neg(product), factor, l.max(l.constant(-0.0), x))
}

impl Tail {
    /// The tail at a, where y = a b.
    fn at<L: Lanes>(&self, l: &L, a: L::Value, b: L::Value) -> L::Value {
        let (exp, factor) = self.exp_of_product(l, a, b);
        let n = l.polynomial(a, &self.n);
        let denominator = l.fma(a, n, l.polynomial(a, &self.r));
        l.mul(l.div(l.mul(n, exp), denominator), factor)
    }

    /// Two numbers, the second a power of two, whose product is `c e^(a b)`, for
    /// `-127.4 ln 2 < a b <= 0`. The product a b is rounded only after its multiple of ln 2 has been
    /// taken away.
    fn exp_of_product<L: Lanes>(&self, l: &L, a: L::Value, b: L::Value) -> (L::Value, L::Value) {
        let bias = l.constant(BIASED);
        let sum = l.fma(b, l.mul(a, l.constant(LOG2_E)), bias);
        let n = l.sub(sum, bias);
        let y = l.fma(b, a, l.mul(n, l.constant(-LN_2_SHORT)));
        let y = l.fma(n, l.constant(-LN_2_SHORT_REST), y);
        (l.polynomial(y, &self.exp), l.shl(sum, 23))
    }
}
