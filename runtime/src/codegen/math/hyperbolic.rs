//! sinh, cosh, tanh.

use super::Lanes;
use super::exponential::exp_halved;

/// tanh x = x N(x^2) / D(x^2) on `[0, 9.02]`, relative error 4.2e-8.
const TANH_NUMERATOR: [f32; 5] = [1.0, 0.13379718, 0.0034940343, 2.0583491e-5, 1.3318978e-8];
const TANH_DENOMINATOR: [f32; 5] = [1.0, 0.46713033, 0.025871074, 0.00032830928, 7.7620206e-7];
/// Where tanh has come within a quarter of a unit of 1.
const TANH_ONE: f32 = 9.02;
/// (sinh(x) / x - 1) / x^2 on `[0, 1]` in powers of x^2, relative error 2.4e-8 in sinh.
const SINH: [f32; 3] = [0.16666716, 0.008330271, 0.00020373338];

/// tanh x, as a ratio of polynomials of degree 9 and 8; no exponential, no branch for small x.
pub fn tanh<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let x = l.max(l.constant(-TANH_ONE), x);
    let x = l.min(l.constant(TANH_ONE), x);
    let square = l.mul(x, x);
    let numerator = l.mul(x, l.polynomial(square, &TANH_NUMERATOR));
    l.div(numerator, l.polynomial(square, &TANH_DENOMINATOR))
}

/// sinh x: a polynomial of degree 7 below 1, `E - 1 / (4 E)` with `E = e^|x| / 2` from there.
pub fn sinh<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let a = l.abs(x);
    let half_exp = exp_halved(l, a, 1);
    let far = l.sub(half_exp, l.div(l.constant(0.25), half_exp));
    let square = l.mul(a, a);
    let near = l.fma(l.mul(a, square), l.polynomial(square, &SINH), a);
    l.copysign(l.select(l.lt(a, l.constant(1.0)), near, far), x)
}

/// cosh x = `E + 1 / (4 E)` with `E = e^|x| / 2`.
pub fn cosh<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let half_exp = exp_halved(l, l.abs(x), 1);
    l.add(half_exp, l.div(l.constant(0.25), half_exp))
}
