//! asin, acos, atan, atan2.

use std::f32::consts::{FRAC_PI_2, PI};

use super::Lanes;

/// What rounding left of pi / 2.
const FRAC_PI_2_REST: f32 = -4.371139e-8;
const PI_REST: f32 = 2.0 * FRAC_PI_2_REST;

/// (asin(s) / s - 1) / s^2 on `[0, 1/2]` in powers of s^2, relative error 4.9e-9 in asin.
const ASIN: [f32; 5] = [0.16666752, 0.074953094, 0.045469154, 0.024184734, 0.04215843];
/// (atan(z) / z - 1) / z^2 on `[0, 1]` in powers of z^2, relative error 1.7e-8 in atan.
const ATAN: [f32; 8] =
    [-0.33333153, 0.19993767, -0.14211, 0.10665757, -0.07551623, 0.043204166, -0.016362773, 0.0029193016];

/// asin x; NaN where |x| > 1.
pub fn asin<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let (far, p) = asin_small(l, x);
    let rest = l.fma(p, l.constant(-2.0), l.constant(FRAC_PI_2_REST));
    let y = l.select(far, l.add(rest, l.constant(FRAC_PI_2)), p);
    l.copysign(y, x)
}

/// acos x; NaN where |x| > 1.
pub fn acos<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let (far, p) = asin_small(l, x);
    let negative = l.lt(x, l.constant(0.0));
    // pi/2 - asin x near zero; 2 p, or pi less that, near the ends.
    let near = l.add(l.sub(l.constant(FRAC_PI_2_REST), l.copysign(p, x)), l.constant(FRAC_PI_2));
    let twice = l.add(p, p);
    let other = l.add(l.sub(l.constant(PI_REST), twice), l.constant(PI));
    l.select(far, l.select(negative, other, twice), near)
}

/// atan x; an argument above 1 is inverted.
pub fn atan<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let a = l.abs(x);
    let one = l.constant(1.0);
    let steep = l.gt(a, one);
    let angle = atan_unit(l, l.div(l.select(steep, one, a), l.select(steep, a, one)));
    let other = l.add(l.sub(l.constant(FRAC_PI_2_REST), angle), l.constant(FRAC_PI_2));
    l.copysign(l.select(steep, other, angle), x)
}

/// The angle of the point (x, y), in `[-pi, pi]`, with the signs of zeros as in C: the smaller
/// coordinate over the larger, then mirrored.
pub fn atan2<L: Lanes>(l: &L, y: L::Value, x: L::Value) -> L::Value {
    let (ax, ay) = (l.abs(x), l.abs(y));
    let steep = l.gt(ay, ax);
    let small = l.select(steep, ax, ay);
    let large = l.select(steep, ay, ax);
    // Two infinities are on the diagonal, two zeros on the axis.
    let z = l.select(l.eq(small, large), l.constant(1.0), l.div(small, large));
    let z = l.select(l.eq(large, l.constant(0.0)), small, z);
    // The angle from the nearest half axis: 0, pi / 2 or pi, and against the clock where exactly
    // one of `steep` and `left` holds. The sign bit of x, because -0 is on the left.
    let left = l.ilt(x, l.int_constant(0));
    let axis = l.select(left, l.constant(PI), l.constant(0.0));
    let axis = l.select(steep, l.constant(FRAC_PI_2), axis);
    let backward = l.xor(x, l.select(steep, l.int_constant(i32::MIN), l.int_constant(0)));
    let angle = l.xor(atan_unit(l, z), l.and(backward, l.int_constant(i32::MIN)));
    l.copysign(plus_axis(l, axis, angle), y)
}

/// atan z for z in `[0, 1]`.
fn atan_unit<L: Lanes>(l: &L, z: L::Value) -> L::Value {
    let square = l.mul(z, z);
    l.fma(l.mul(z, square), l.polynomial(square, &ATAN), z)
}

/// `axis + angle`, for a multiple of pi / 2 that has been rounded.
fn plus_axis<L: Lanes>(l: &L, axis: L::Value, angle: L::Value) -> L::Value {
    const REST: f32 = FRAC_PI_2_REST / FRAC_PI_2;
    l.add(l.fma(axis, l.constant(REST), angle), axis)
}

/// Whether |x| is above 1/2, and asin s, where s is |x| below 1/2 and sqrt((1 - |x|) / 2) above:
/// asin |x| = pi/2 - 2 asin s.
fn asin_small<L: Lanes>(l: &L, x: L::Value) -> (L::Mask, L::Value) {
    let a = l.abs(x);
    let half = l.constant(0.5);
    let far = l.gt(a, half);
    let square = l.select(far, l.fma(a, l.constant(-0.5), half), l.mul(a, a));
    let s = l.select(far, l.sqrt(square), a);
    (far, l.fma(l.mul(s, square), l.polynomial(square, &ASIN), s))
}
