//! sinh, cosh, tanh.

use super::Lanes;
use super::exponential::{BIASED, LN_2, LN_2_REST, LOG2_E, exp_halved};

/// (tanh(r) / r - 1) / r^2 on `[-ln 2 / 4, ln 2 / 4]` in powers of r^2, relative error 5.6e-8 in
/// tanh.
const TANH: [f32; 2] = [-0.33331266, 0.1311028];
/// Where tanh has come within a quarter of a unit of 1.
const TANH_ONE: f32 = 9.1;
/// (sinh(x) / x - 1) / x^2 on `[0, 1]` in powers of x^2, relative error 2.4e-8 in sinh.
const SINH: [f32; 3] = [0.16666716, 0.008330271, 0.00020373338];

/// tanh x for `x = n ln 2 / 2 + r`, from `t = tanh r` and `s = e^(n ln 2) = 2^n` by the addition
/// theorem: `((s - 1) + t (s + 1)) / ((s + 1) + t (s - 1))`. There is no cancellation at small x,
/// where s is 1, and the rounded divisor is never below the rounded dividend, so that the result is
/// in `[-1, 1]`.
pub fn tanh<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let x = l.max(l.constant(-TANH_ONE), x);
    let x = l.min(l.constant(TANH_ONE), x);
    let bias = l.constant(BIASED);
    let sum = l.fma(x, l.constant(2.0 * LOG2_E), bias);
    let n = l.sub(sum, bias);
    let r = l.fma(n, l.constant(-0.5 * LN_2), x);
    let r = l.fma(n, l.constant(-0.5 * LN_2_REST), r);
    let square = l.mul(r, r);
    let t = l.fma(l.mul(r, square), l.polynomial(square, &TANH), r);
    let s = l.shl(sum, 23);
    let one = l.constant(1.0);
    let (below, above) = (l.sub(s, one), l.add(s, one));
    l.div(l.fma(t, above, below), l.fma(t, below, above))
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
