//! log, log2, log1p.
//!
//! `x = 2^k (1 + f)` with `1 + f` from sqrt(1/2) to sqrt(2), taken from the bits of x, and `log x =
//! k ln 2 + (f - f^2 / 2 + f^3 P(f))`. A subnormal x is its bits as an integer times 2^-149, which
//! also holds where arithmetic takes subnormals for zeros.

use super::Lanes;
use super::exponential::{LN_2, LN_2_REST};

/// The bits of sqrt(1/2).
const SQRT_HALF: i32 = 0x3f35_04f3;
const MANTISSA: i32 = 0x007f_ffff;
/// The bits of 2^-126.
const SMALLEST_NORMAL: i32 = 0x0080_0000;

/// (log(1 + f) - f + f^2 / 2) / f^3 on `[sqrt(1/2) - 1, sqrt(2) - 1]`, relative error 1.6e-8 in the
/// logarithm.
const LOG: [f32; 8] =
    [0.3333333, -0.25000525, 0.19999832, -0.16629384, 0.14235982, -0.13155039, 0.12555608, -0.07386824];
/// (log2(1 + f) / f - log2 e) / f on the same interval, relative error 6e-9 in the logarithm.
const LOG2: [f32; 9] =
    [-0.72134733, 0.4808982, -0.36069867, 0.28857186, -0.23957683, 0.20447204, -0.19119273, 0.187133, -0.11104991];
/// log2 e and what its rounding left.
const LOG2_E: (f32, f32) = (1.442695, 1.925963e-8);

/// The natural logarithm; -inf at zero, NaN below.
pub fn log<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let (k, f) = split(l, x);
    let tail = l.fma(l.mul(f, f), cubic_tail(l, f), l.mul(k, l.constant(LN_2_REST)));
    let y = l.fma(k, l.constant(LN_2), l.add(f, tail));
    logarithm_ends(l, x, y)
}

/// The logarithm to base 2, exact at powers of two; -inf at zero, NaN below.
pub fn log2<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let (k, f) = split(l, x);
    let slope = l.fma(f, l.polynomial(f, &LOG2), l.constant(LOG2_E.1));
    let y = l.fma(f, l.constant(LOG2_E.0), l.mul(f, slope));
    logarithm_ends(l, x, l.add(k, y))
}

/// log(1 + x); -inf at -1, NaN below.
pub fn log1p<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let y = log1p_inside(l, x);
    let minus_one = l.constant(-1.0);
    let y = l.select(l.lt(x, l.constant(f32::INFINITY)), y, x);
    let y = l.select(l.eq(x, minus_one), l.constant(f32::NEG_INFINITY), y);
    l.select(l.lt(x, minus_one), l.constant(f32::NAN), y)
}

/// log(1 + x) for finite x above -1. The exponent k is that of 1 + x rounded; `f = 2^-k x + (2^-k -
/// 1)` rounds once and is x itself where k is zero.
pub(super) fn log1p_inside<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let one = l.constant(1.0);
    let sum = l.add(one, x);
    // -k, so that its product with a negative number is the -0 that keeps the sign of a zero.
    let minus_k = l.shr_arithmetic(l.isub(l.int_constant(SQRT_HALF + MANTISSA), sum), 23);
    // 4 * 2^-k, which is normal for every k up to 128, and a quarter of x.
    let quarter = l.constant(0.25);
    let factor = l.iadd(l.shl(minus_k, 23), l.constant(4.0));
    let f = l.fma(l.mul(x, quarter), factor, l.fma(factor, quarter, l.constant(-1.0)));
    let f = l.select(l.ieq(minus_k, l.int_constant(0)), x, f);
    let minus_k = l.to_float(minus_k);
    let tail = l.fma(l.mul(f, f), cubic_tail(l, f), l.mul(minus_k, l.constant(-LN_2_REST)));
    l.fma(minus_k, l.constant(-LN_2), l.add(f, tail))
}

/// k and f with `x = 2^k (1 + f)` for positive finite x.
pub(super) fn split<L: Lanes>(l: &L, x: L::Value) -> (L::Value, L::Value) {
    let subnormal = l.ilt(x, l.int_constant(SMALLEST_NORMAL));
    let x = l.select(subnormal, l.to_float(x), x);
    let base = l.int_constant(SQRT_HALF);
    let above = l.isub(x, base);
    let k = l.to_float(l.shr_arithmetic(above, 23));
    let k = l.select(subnormal, l.add(k, l.constant(-149.0)), k);
    let one_and_f = l.iadd(l.and(above, l.int_constant(MANTISSA)), base);
    (k, l.sub(one_and_f, l.constant(1.0)))
}

/// `(log(1 + f) - f) / f^2`.
fn cubic_tail<L: Lanes>(l: &L, f: L::Value) -> L::Value {
    l.fma(f, l.polynomial(f, &LOG), l.constant(-0.5))
}

/// `y` for positive finite x, and what a logarithm is elsewhere. Compares integers, which see
/// subnormals.
fn logarithm_ends<L: Lanes>(l: &L, x: L::Value, y: L::Value) -> L::Value {
    let zero = l.int_constant(0);
    let y = l.select(l.lt(x, l.constant(f32::INFINITY)), y, x);
    let y = l.select(l.ilt(x, zero), l.constant(f32::NAN), y);
    l.select(l.ieq(l.shl(x, 1), zero), l.constant(f32::NEG_INFINITY), y)
}
