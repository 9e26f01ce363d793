//! erf, erfc, the normal distribution and GELU.
//!
//! The tails are `e^(-a^2/2) g(a)` with a smooth g, a ratio of polynomials. The exponent reaches
//! 88, where half a unit in its last place would be 64 units of the result: so the square is never
//! rounded, but enters the reduced argument through one fma.

use super::Lanes;
use super::exponential::{BIASED, INTEGRAL, LOG2_E};

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
    unit: 1.0,
    shift: -0.12077993,
    exp: [-1.0, 0.5000003, -0.16666825, 0.041653305, -0.008319259, 0.0015579658],
    n: [26.016438, 33.65653, 20.540989, 6.681902, 1.0035908],
    r: [29.356339, 19.069462, 6.738552, 1.0],
};
/// Where e^(-z^2) has a zero for its factor.
const ERFC_ZERO: f32 = 9.37;
/// erfc(a / sqrt 2) / 2 for `0 <= a <= 13.3`, relative error 3e-8.
const NORMAL: Tail = Tail {
    unit: 2.0,
    shift: 0.45158872,
    exp: [-0.5, 0.12500012, -0.020833338, 0.002602342, -0.00025579275, 1.7338425e-5],
    n: [68.043686, 61.438663, 26.202227, 5.9381075, 0.61527324],
    r: [108.58169, 48.58985, 11.995716, 1.225],
};
/// Where e^(-a^2 / 2) has a zero for its factor.
const NORMAL_ZERO: f32 = 13.25;

/// A tail as `e^-z N(a) / (2 a N(a) + R(a))` with `z = (a^2 + shift) / unit`. Far out, this tends to `e^-z / (2 a)`
/// whatever the rounding errors of N, so that the shift must be right; it also centres the logarithm of that ratio.
///
/// `e^-z` is `2^n (1 + e)` with a small e, which is added in the fma that multiplies by N: the exponential is never rounded
/// by itself. Of the fits, which are equally good for a range of shifts and any common factor of N and R, one was chosen
/// whose rounding errors add up to least, over all arguments.
struct Tail {
    /// 1 or 2.
    unit: f32,
    shift: f32,
    /// (e^(-y / unit) - 1) / y where y is within unit * ln 2 / 2 of the shift.
    exp: [f32; 6],
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
    let tail = ERFC.at(l, z);
    let two_less = l.sub(l.constant(2.0), tail);
    l.select(l.lt(x, l.constant(0.0)), two_less, tail)
}

/// The normal distribution, erfc(-x / sqrt 2) / 2, accurate in its negative tail.
pub fn normal_cdf<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let a = l.min(l.constant(NORMAL_ZERO), l.abs(x));
    let tail = NORMAL.at(l, a);
    let one_less = l.sub(l.constant(1.0), tail);
    l.select(l.lt(x, l.constant(0.0)), tail, one_less)
}

/// x times [`normal_cdf`], as max(x, 0) - |x| Q(|x|) with Q the upper tail. The power of two in Q goes to |x|, by its
/// exponent: the product may be normal where Q is not. Beyond `NORMAL_ZERO` it stays as small as it is there.
pub fn gelu<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    if let Some(lookup) = l.lookup() {
        return super::gelu::by_tables(l, lookup, x);
    }
    let a = l.min(l.constant(NORMAL_ZERO), l.abs(x));
    let (ratio, sum) = NORMAL.parts(l, a, INTEGRAL);
    let scaled = l.iadd(a, l.shl(sum, 23));
    // -0 below zero, for the sign of what is flushed.
    l.fma(l.neg(scaled), ratio, l.max(l.constant(-0.0), x))
}

impl Tail {
    /// The tail at a.
    fn at<L: Lanes>(&self, l: &L, a: L::Value) -> L::Value {
        let (ratio, sum) = self.parts(l, a, BIASED);
        l.mul(ratio, l.shl(sum, 23))
    }

    /// The tail at a without its factor 2^n, and `bias + n`, for a^2 of up to 127.4 units of ln 2. The square is rounded
    /// only after its multiple of ln 2 has been taken away.
    fn parts<L: Lanes>(&self, l: &L, a: L::Value, bias: f32) -> (L::Value, L::Value) {
        let bias = l.constant(bias);
        let sum = l.fma(l.mul(a, l.constant(-LOG2_E / self.unit)), a, bias);
        let n = l.sub(sum, bias);
        let rest = l.fma(n, l.constant(LN_2_SHORT_REST * self.unit), l.constant(self.shift));
        let y = l.add(l.fma(a, a, l.mul(n, l.constant(LN_2_SHORT * self.unit))), rest);
        let exp = l.mul(y, l.polynomial(y, &self.exp));

        let n = l.polynomial(a, &self.n);
        let denominator = l.fma(l.add(a, a), n, l.polynomial(a, &self.r));
        (l.div(l.fma(n, exp, n), denominator), sum)
    }
}
