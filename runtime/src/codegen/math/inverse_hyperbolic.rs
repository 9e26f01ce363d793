//! asinh, acosh, atanh: all through log1p of an expression without cancellation.

use std::f32::consts::LN_2;

use super::Lanes;
use super::logarithm::{log1p, log1p_inside};

/// From here on asinh x and acosh x are log(2 x) and log1p(x) is log x.
const FAR: f32 = 268_435_456.0;

/// asinh |x| = log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))).
pub fn asinh<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let a = l.abs(x);
    let one = l.constant(1.0);
    let root = l.sqrt(l.fma(a, a, one));
    let near = l.fma(a, l.div(a, l.add(one, root)), a);
    let y = log1p_or_log_2x(l, near, a);
    let y = l.select(l.lt(a, l.constant(f32::INFINITY)), y, a);
    l.copysign(y, x)
}

/// acosh x = log1p(t + sqrt(t^2 + 2 t)) with `t = x - 1`; NaN below 1.
pub fn acosh<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let one = l.constant(1.0);
    let t = l.sub(x, one);
    let near = l.add(t, l.sqrt(l.fma(t, t, l.add(t, t))));
    let y = log1p_or_log_2x(l, near, x);
    let y = l.select(l.lt(x, l.constant(f32::INFINITY)), y, x);
    l.select(l.lt(x, one), l.constant(f32::NAN), y)
}

/// atanh |x| = log1p(2 |x| / (1 - |x|)) / 2; infinite at 1, NaN above, where the ratio is at most
/// -2.
pub fn atanh<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let a = l.abs(x);
    let ratio = l.div(l.add(a, a), l.sub(l.constant(1.0), a));
    l.copysign(l.mul(l.constant(0.5), log1p(l, ratio)), x)
}

/// log1p(near), or log(2 a) for a so large that `near` may have overflowed.
fn log1p_or_log_2x<L: Lanes>(l: &L, near: L::Value, a: L::Value) -> L::Value {
    let far = l.gt(a, l.constant(FAR));
    let y = log1p_inside(l, l.select(far, a, near));
    l.select(far, l.add(y, l.constant(LN_2)), y)
}
