//! sin, cos, tan.
//!
//! The argument loses its multiple of pi (of pi / 2 for the tangent) and one odd polynomial does
//! the rest; the parity of the multiple is a sign (a reciprocal for the tangent). Up to [`LARGE`]
//! the multiple is subtracted in three parts, with fma: the first step is exact, the others round
//! relative to what is left, so that results near a zero keep all their digits. Above,
//! [`half_turns`](super::turns::half_turns) multiplies by digits of 1 / (2 pi).

use super::Lanes;
use super::exponential::INTEGRAL;
use super::turns::{self, Fraction};

/// The largest |x| that [`sin`], [`cos`] and [`tan`] take.
pub const LARGE: f32 = 131_072.0;

/// pi in three parts, each cut (so that all are positive) after 24 bits.
const PI: [f32; 3] = [3.1415925, 1.5099579e-7, 1.0780605e-14];
const HALF_PI: [f32; 3] = [1.5707963, 7.5497894e-8, 5.3903025e-15];

/// (sin(r) / r - 1) / r^2 on `[-pi/2, pi/2]` in powers of r^2, relative error 2e-8 in sin. Chosen
/// among the neighbours of the best fit so that, as it is evaluated here, no result is above 1 and
/// that of pi / 2 is 1.
const SIN: [f32; 4] = [-0.16666655, 0.00833303, -0.00019808912, 2.6054586e-6];
/// (tan(r) / r - 1) / r^2 on `[-pi/4, pi/4]` in powers of r^2, relative error 2.1e-8 in tan.
const TAN: [f32; 6] = [0.3333313, 0.13339539, 0.05334938, 0.024653142, 0.0027592531, 0.009600437];

/// Where the plain forms will not do: |x| above [`LARGE`], but not infinite, which they turn into
/// NaN.
pub fn is_large<L: Lanes>(l: &L, x: L::Value) -> L::Mask {
    let a = l.abs(x);
    l.mask_and(l.gt(a, l.constant(LARGE)), l.lt(a, l.constant(f32::INFINITY)))
}

/// sin x for `|x| <= `[`LARGE`]; NaN at infinities, unspecified between.
pub fn sin<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    sin_polynomial(l, sin_argument(l, x))
}

/// cos x for `|x| <= `[`LARGE`]; NaN at infinities, unspecified between.
pub fn cos<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    sin_polynomial(l, cos_argument(l, x))
}

/// tan x for `|x| <= `[`LARGE`]; NaN at infinities, unspecified between.
pub fn tan<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let (r, parity) = tan_argument(l, x);
    tan_polynomial(l, r, parity)
}

/// sin x for every x.
pub fn sin_large<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let turns = turns::turns(l, x);
    let fraction = turns::half_turns(l, turns);
    let far = l.xor(turns::radians(l, &fraction, 1), sign_bit(l, x));
    let far = l.xor(far, l.shl(fraction.parity, 31));
    sin_polynomial(l, l.select(is_large(l, x), far, sin_argument(l, x)))
}

/// cos x for every x: the sine a quarter turn on.
pub fn cos_large<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let turns = turns::quarter_turn_on(l, turns::turns(l, x));
    let fraction = turns::half_turns(l, turns);
    let far = l.xor(turns::radians(l, &fraction, 1), l.shl(fraction.parity, 31));
    sin_polynomial(l, l.select(is_large(l, x), far, cos_argument(l, x)))
}

/// tan x for every x.
pub fn tan_large<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let fraction: Fraction<L> = turns::quarter_turns(l, turns::turns(l, x));
    let far = l.xor(turns::radians(l, &fraction, 2), sign_bit(l, x));
    let large = is_large(l, x);
    let (near, near_parity) = tan_argument(l, x);
    tan_polynomial(l, l.select(large, far, near), l.select(large, fraction.parity, near_parity))
}

/// The r in `[-pi/2, pi/2]` with sin r = sin x.
fn sin_argument<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    let integral = l.constant(INTEGRAL);
    let sum = l.fma(x, l.constant(std::f32::consts::FRAC_1_PI), integral);
    let r = subtract_multiple(l, x, l.sub(sum, integral), &PI);
    l.xor(r, l.shl(sum, 31))
}

/// The r in `[-pi/2, pi/2]` with sin r = cos x: x less an odd number of pi / 2.
fn cos_argument<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    // One more than for the sine: cos(n pi + pi / 2 + r) = -(-1)^n sin r, so r changes sign where n
    // is even.
    let integral = l.constant(INTEGRAL + 1.0);
    let half = l.constant(0.5);
    let sum = l.add(l.fma(x, l.constant(std::f32::consts::FRAC_1_PI), l.constant(-0.5)), integral);
    let r = subtract_multiple(l, x, l.add(l.sub(sum, integral), half), &PI);
    l.xor(r, l.shl(sum, 31))
}

/// The r in `[-pi/4, pi/4]` that is x less a multiple of pi / 2, and that multiple (in its lowest
/// bit).
fn tan_argument<L: Lanes>(l: &L, x: L::Value) -> (L::Value, L::Value) {
    let integral = l.constant(INTEGRAL);
    let sum = l.fma(x, l.constant(std::f32::consts::FRAC_2_PI), integral);
    (subtract_multiple(l, x, l.sub(sum, integral), &HALF_PI), sum)
}

fn subtract_multiple<L: Lanes>(l: &L, x: L::Value, multiple: L::Value, parts: &[f32; 3]) -> L::Value {
    parts.iter().fold(x, |r, &part| l.fma(multiple, l.constant(-part), r))
}

/// sin r as a product, which keeps the sign of a zero.
pub(super) fn sin_polynomial<L: Lanes>(l: &L, r: L::Value) -> L::Value {
    let square = l.mul(r, r);
    l.mul(r, l.fma(square, l.polynomial(square, &SIN), l.constant(1.0)))
}

/// tan r, or tan(r + pi / 2) = -1 / tan r where the parity is odd.
fn tan_polynomial<L: Lanes>(l: &L, r: L::Value, parity: L::Value) -> L::Value {
    let square = l.mul(r, r);
    let tan = l.fma(l.mul(r, square), l.polynomial(square, &TAN), r);
    let odd = l.ilt(l.shl(parity, 31), l.int_constant(0));
    l.select(odd, l.div(l.constant(-1.0), tan), tan)
}

fn sign_bit<L: Lanes>(l: &L, x: L::Value) -> L::Value {
    l.and(x, l.int_constant(i32::MIN))
}
