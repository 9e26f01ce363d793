//! sigmoid and softplus, which need e^y only where it cannot overflow: a polynomial of degree 5 on
//! `[-ln 2 / 2, ln 2 / 2]` and one multiplication by 2^n do.

use super::Lanes;
use super::exponential::{BIASED, LN_2, LN_2_REST, LOG2_E, LOWEST};

/// e^-r on `[-ln 2 / 2, ln 2 / 2]`, relative error 1.06e-7.
const EXP_OF_MINUS: [f32; 6] = [1.0, -1.0, 0.4999923, -0.1666712, 0.04189023, -0.00831207];
/// log(1 + e) / e on `[0, 1]`, relative error 3.4e-8.
const LOG1P: [f32; 9] =
    [1.0, -0.49999648, 0.3332133, -0.24857219, 0.19153859, -0.13754217, 0.07920926, -0.030068615, 0.0053655137];

/// 1 / (1 + e^-x). The sum is at least 1, so that the result is in `[0, 1]`; where e^-x would pass
/// 2^127 its factor is infinite and the result 0.
pub fn sigmoid<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let x = l.max(l.constant(-88.72284), x);
    let x = l.min(l.constant(-LOWEST), x);
    let (p, factor) = exp_of_minus(l, x);
    let one = l.constant(1.0);
    l.div(one, l.fma(p, factor, one))
}

/// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), with polynomials of degree 5 and 8.
pub fn softplus<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let (p, factor) = exp_of_minus(l, l.min(l.constant(-LOWEST), l.abs(x)));
    let e = l.mul(p, factor);
    l.fma(e, l.polynomial(e, &LOG1P), l.max(l.constant(0.0), x))
}

/// Polynomial and power of two whose product is e^-x, for x from `-128 ln 2` (where the power is
/// infinite) to `127 ln 2` (where it is 0).
fn exp_of_minus<L: Lanes>(l: &L, x: L::Value) -> (L::Value, L::Value) {
    let bias = l.constant(BIASED);
    let sum = l.fma(x, l.constant(-LOG2_E), bias);
    let n = l.sub(sum, bias);
    let r = l.fma(n, l.constant(LN_2), x);
    let r = l.fma(n, l.constant(LN_2_REST), r);
    (l.polynomial(r, &EXP_OF_MINUS), l.shl(sum, 23))
}
