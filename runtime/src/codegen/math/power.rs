//! pow.
//!
//! `x^y = 2^(y log2 |x|)` with the logarithm as a sum of two floats, because its error is
//! multiplied by up to 128: with `s = f / (2 + f)`, `log2(1 + f) = s (c + s^2 P(s^2))`, where s and
//! c = 2 / ln 2 are sums of two floats and the last term is below a hundredth.

use super::Lanes;
use super::exponential::exp2_sum;
use super::logarithm::split;

/// 2 / ln 2 and what its rounding left.
const LEAD: (f32, f32) = (2.88539, 3.851926e-8);
/// (log2((1 + s) / (1 - s)) / s - 2 / ln 2) / s^2 on `[0, 3 - sqrt 8]` in powers of s^2, relative
/// error 1.1e-11 in the logarithm.
const TAIL: [f32; 4] = [0.9617967, 0.5770788, 0.41192725, 0.33649078];

/// x^y with the special values of C: 1 where y is 0 or x is 1, whatever the other; NaN where x is
/// negative and y not an integer; the sign of x where y is an odd integer; limits at zeros and
/// infinities.
pub fn pow<L: Lanes>(l: &L, x: L::Value, y: L::Value) -> L::Value {
    let one = l.constant(1.0);
    let infinity = l.constant(f32::INFINITY);
    let a = l.abs(x);
    let size = size(l, a, y);

    let integral = l.eq(l.floor(y), y);
    let half_y = l.mul(y, l.constant(0.5));
    let odd = l.mask_and(integral, l.mask_not(l.eq(l.floor(half_y), half_y)));
    let negative = l.ilt(x, l.int_constant(0));
    let signed = l.select(l.mask_and(odd, negative), l.neg(size), size);

    // -0 and -inf have no complex powers; a negative NaN is NaN already.
    let below_zero = l.mask_and(negative, l.mask_not(l.ieq(l.shl(x, 1), l.int_constant(0))));
    let complex = l.mask_and(l.mask_and(below_zero, l.lt(a, infinity)), l.mask_not(integral));
    let real = l.select(complex, l.constant(f32::NAN), signed);

    let at_one = l.mask_and(l.eq(a, one), l.eq(l.abs(y), infinity));
    let always_one = l.mask_or(l.mask_or(l.eq(x, one), l.eq(y, l.constant(0.0))), at_one);
    l.select(always_one, one, real)
}

/// a^y for `a >= 0`, except where a is 1 and y is infinite.
fn size<L: Lanes>(l: &L, a: L::Value, y: L::Value) -> L::Value {
    let (high, low) = log2_pair(l, a);
    // The logarithms of 0 and infinity (and NaN) are themselves.
    let zero = l.ieq(a, l.int_constant(0));
    let regular = l.lt(a, l.constant(f32::INFINITY));
    let high = l.select(regular, high, a);
    let high = l.select(zero, l.constant(f32::NEG_INFINITY), high);

    let product = l.mul(y, high);
    let rest = l.fma(y, low, l.fma(y, high, l.neg(product)));
    // Beyond, the result is 0 or infinite, and the rest may be NaN.
    let moderate = l.lt(l.abs(product), l.constant(256.0));
    let rest = l.select(moderate, rest, l.constant(0.0));
    exp2_sum(l, l.max(l.constant(-127.0), product), rest)
}

/// log2 a for positive finite a, as a sum of two floats, to about 2^-30 of its size.
fn log2_pair<L: Lanes>(l: &L, a: L::Value) -> (L::Value, L::Value) {
    let (k, f) = split(l, a);
    // s = f / (2 + f), with the rounding errors of the sum and of the quotient.
    let sum = l.add(f, l.constant(2.0));
    let sum_rest = l.sub(f, l.sub(sum, l.constant(2.0)));
    let inverse = l.div(l.constant(1.0), sum);
    let s = l.mul(f, inverse);
    let minus_s = l.neg(s);
    let left = l.fma(minus_s, sum_rest, l.fma(minus_s, sum, f));
    let s_rest = l.mul(left, inverse);

    let square = l.mul(s, s);
    let slope = l.fma(square, l.polynomial(square, &TAIL), l.constant(LEAD.1));
    let lead = l.constant(LEAD.0);
    let product = l.mul(s, lead);
    let product_rest = l.fma(s, lead, l.neg(product));
    // The derivative in s is lead + 3 slope, near enough.
    let derivative = l.fma(slope, l.constant(3.0), lead);
    let rest = l.fma(s, slope, l.fma(s_rest, derivative, product_rest));

    // |k| >= |product| or k = 0, so that this sum loses nothing; then one more, so that `low` is
    // below half a unit.
    let sum = l.add(k, product);
    let low = l.add(l.sub(product, l.sub(sum, k)), rest);
    let high = l.add(sum, low);
    (high, l.sub(low, l.sub(high, sum)))
}
