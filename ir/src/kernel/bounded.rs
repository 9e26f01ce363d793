//! Arithmetic in f64 that knows how far an f32 execution may stray: every number carries a bound of the difference
//! between itself and what correct machine code computes in its place.
//!
//! The rules: an f32 operation rounds by at most half an ULP ([`UnaryOp`] says which functions may err by 4); errors of
//! operands pass through by evaluating the function at the ends of their intervals, or by its Lipschitz constant; a
//! result that may be denormal may be flushed to zero; an error of infinity stands for "anything, NaN included". A
//! number without error is exactly what the machine has, so that comparisons of exact numbers stay certain.

use super::scalar::{BinaryOp, CompareOp, Literal, UnaryOp};
use crate::ops::map::erfc;
use crate::tensor::DType;

/// A number, and how far from it an f32 execution may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    /// The value in f64.
    pub value: f64,
    /// The bound of the difference; infinite where the execution may have anything.
    pub error: f64,
}

/// A register of the evaluator: a float, or an integer, which is exact in `integer` and rounded in `real`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub real: Bounded,
    pub integer: i64,
}

/// The least normal f32: what a flush to zero loses at most.
pub(super) const TINY: f64 = f32::MIN_POSITIVE as f64;
/// Half an ULP of x is at most this times |x|.
pub(super) const HALF_ULP: f64 = 1.0 / (1u32 << 24) as f64;
/// In halves of an ULP: what a correctly rounded operation and what a transcendental function may err by.
const ROUNDED: f64 = 1.0;
const APPROXIMATE: f64 = 8.0;

impl Bounded {
    /// A number that the machine has exactly.
    pub fn exact(value: f64) -> Bounded {
        Bounded { value, error: 0.0 }
    }

    /// Anything; `value` is what exact arithmetic gives.
    pub fn anything(value: f64) -> Bounded {
        Bounded { value, error: f64::INFINITY }
    }

    /// The least value of the interval.
    pub fn low(self) -> f64 {
        if self.error == 0.0 { self.value } else { self.value - self.error }
    }

    /// The greatest value of the interval.
    pub fn high(self) -> f64 {
        if self.error == 0.0 { self.value } else { self.value + self.error }
    }

    /// `value` of exact operands, rounded once to f32.
    pub(super) fn nearest(value: f64) -> Bounded {
        Bounded::machine(value, f64::from(value as f32))
    }

    /// `value`, where the machine has `native`, or zero if that is denormal.
    fn machine(value: f64, native: f64) -> Bounded {
        let flushed = if native.abs() < TINY && value != 0.0 { TINY } else { 0.0 };
        Bounded { value, error: distance(native, value) + flushed }
    }

    /// `value` of operands whose errors move it by at most `propagated`, then rounded by `halves` of an ULP.
    pub(super) fn rounded(value: f64, propagated: f64, halves: f64) -> Bounded {
        if !value.is_finite() {
            return Bounded { value, error: if propagated == 0.0 { 0.0 } else { f64::INFINITY } };
        }
        let magnitude = value.abs() + propagated;
        if magnitude.is_nan() || magnitude > f64::from(f32::MAX) {
            return Bounded::anything(value);
        }
        let flushed = if value.abs() - propagated < 2.0 * TINY && magnitude > 0.0 { TINY } else { 0.0 };
        Bounded { value, error: propagated + magnitude * halves * HALF_ULP + flushed }
    }

    /// Either of two, of which `self` is what exact arithmetic gives.
    fn or(self, other: Bounded) -> Bounded {
        let error = self.error.max(distance(other.value, self.value) + other.error);
        Bounded { value: self.value, error }
    }
}

/// |a - b|: 0 of equal infinities and of two NaN, infinite where only one is NaN.
fn distance(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let distance = (a - b).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

impl Number {
    pub fn float(real: Bounded) -> Number {
        Number { real, integer: 0 }
    }

    pub fn integer(integer: i64, error: f64) -> Number {
        Number { real: Bounded { value: integer as f64, error }, integer }
    }

    /// A truth value that may be otherwise unless `certain`.
    pub fn truth(truth: bool, certain: bool) -> Number {
        Number::integer(i64::from(truth), if certain { 0.0 } else { 1.0 })
    }

    pub fn literal(literal: Literal) -> Number {
        match literal {
            Literal::F32(bits) => Number::float(Bounded::nearest(f64::from(f32::from_bits(bits)))),
            Literal::I64(n) => Number::integer(n, 0.0),
            Literal::I32(n) => Number::integer(n.into(), 0.0),
            Literal::U32(n) => Number::integer(n.into(), 0.0),
            Literal::U8(n) => Number::integer(n.into(), 0.0),
            Literal::Bool(b) => Number::integer(b.into(), 0.0),
        }
    }

    /// What an element of `dtype` holds when a user gives `value`.
    pub fn given(value: f64, dtype: DType) -> Number {
        match dtype {
            DType::F32 | DType::F64 => Number::float(Bounded::nearest(value)),
            DType::Bool => Number::integer(i64::from(value != 0.0), 0.0),
            _ => Number::integer(saturate(value, dtype), 0.0),
        }
    }

    fn is_exact(self) -> bool {
        self.real.error == 0.0
    }
}

/// `x` as an integer of `dtype`, as `as` converts.
fn saturate(x: f64, dtype: DType) -> i64 {
    match dtype {
        DType::I32 => i64::from(x as i32),
        DType::U32 => i64::from(x as u32),
        DType::U8 => i64::from(x as u8),
        DType::Bool => i64::from(x != 0.0),
        DType::I64 | DType::F32 | DType::F64 => x as i64,
    }
}

/// `n` cut to the bits of `dtype`.
pub(super) fn wrap(n: i64, dtype: DType) -> i64 {
    match dtype {
        DType::I32 => i64::from(n as i32),
        DType::U32 => i64::from(n as u32),
        DType::U8 => i64::from(n as u8),
        DType::Bool => i64::from(n != 0),
        DType::I64 | DType::F32 | DType::F64 => n,
    }
}

/// A function of one number of `dtype`.
pub(super) fn unary(op: UnaryOp, x: Number, dtype: DType) -> Number {
    if dtype.is_float() {
        return Number::float(unary_float(op, x.real));
    }
    match op {
        UnaryOp::Neg => Number::integer(wrap(x.integer.wrapping_neg(), dtype), x.real.error),
        UnaryOp::Abs => Number::integer(wrap(x.integer.wrapping_abs(), dtype), x.real.error),
        UnaryOp::Not => Number::integer(i64::from(x.integer == 0), x.real.error),
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => x,
        _ => Number::integer(0, f64::INFINITY),
    }
}

/// A function of one float.
pub fn unary_float(op: UnaryOp, x: Bounded) -> Bounded {
    let function: fn(f64) -> f64 = match op {
        UnaryOp::Neg => return Bounded { value: -x.value, error: x.error },
        UnaryOp::Abs => return Bounded { value: x.value.abs(), error: x.error },
        UnaryOp::Not => return Bounded::anything(f64::NAN),
        UnaryOp::Floor => return steps(x, f64::floor),
        UnaryOp::Ceil => return steps(x, f64::ceil),
        UnaryOp::Round => return steps(x, f64::round_ties_even),
        UnaryOp::Trunc => return steps(x, f64::trunc),
        UnaryOp::Sqrt if x.error == 0.0 => return Bounded::nearest(x.value.sqrt()),
        UnaryOp::Sqrt => return Bounded::rounded(x.value.sqrt(), moved(x, f64::sqrt), ROUNDED),
        UnaryOp::Sin => return wave(x, f64::sin),
        UnaryOp::Cos => return wave(x, f64::cos),
        // Between two poles the tangent rises; an interval that touches a pole may give anything.
        UnaryOp::Tan
            if (x.low() / std::f64::consts::PI + 0.5).floor() != (x.high() / std::f64::consts::PI + 0.5).floor() =>
        {
            return Bounded::anything(x.value.tan());
        }
        UnaryOp::Cosh if x.low() < 0.0 && x.high() > 0.0 => {
            let (value, least) = (x.value.cosh(), 1.0);
            return Bounded::rounded(value, moved(x, f64::cosh).max(value - least), APPROXIMATE);
        }
        // Falls to its least value, then rises.
        UnaryOp::Gelu if x.low() < GELU_LEAST_AT && x.high() > GELU_LEAST_AT => {
            let value = gelu(x.value);
            return Bounded::rounded(value, moved(x, gelu).max(value - gelu(GELU_LEAST_AT)), APPROXIMATE);
        }
        UnaryOp::Tan => f64::tan,
        UnaryOp::Cosh => f64::cosh,
        UnaryOp::Exp => f64::exp,
        UnaryOp::Expm1 => f64::exp_m1,
        UnaryOp::Log => f64::ln,
        UnaryOp::Log1p => f64::ln_1p,
        UnaryOp::Asin => f64::asin,
        UnaryOp::Acos => f64::acos,
        UnaryOp::Atan => f64::atan,
        UnaryOp::Sinh => f64::sinh,
        UnaryOp::Tanh => f64::tanh,
        UnaryOp::Asinh => f64::asinh,
        UnaryOp::Acosh => f64::acosh,
        UnaryOp::Atanh => f64::atanh,
        UnaryOp::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
        UnaryOp::Erf => |x| if x.abs() < 1e-3 { small_erf(x) } else { 1.0 - erfc(x) },
        UnaryOp::Erfc => erfc,
        UnaryOp::NormalCdf => |x| 0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        UnaryOp::Gelu => gelu,
    };
    let value = function(x.value);
    let underflow = if value == 0.0 && x.value != 0.0 { TINY } else { 0.0 };
    let mut result = Bounded::rounded(value, moved(x, function), APPROXIMATE);
    result.error += underflow;
    result
}

/// Where x Phi(x) is least.
const GELU_LEAST_AT: f64 = -0.751_791_524_693_564_4;

/// x Phi(x) and its limit.
fn gelu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY { -0.0 } else { x * 0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2) }
}

/// The first terms of erf's series, which leaves x^7.
fn small_erf(x: f64) -> f64 {
    std::f64::consts::FRAC_2_SQRT_PI * (x - x.powi(3) / 3.0 + x.powi(5) / 10.0)
}

/// How far a monotone function moves over the interval of its argument.
fn moved(x: Bounded, function: fn(f64) -> f64) -> f64 {
    if x.error == 0.0 {
        return 0.0;
    }
    if x.error.is_infinite() {
        return f64::INFINITY;
    }
    let value = function(x.value);
    distance(function(x.low()), value).max(distance(function(x.high()), value))
}

/// A monotone function whose results are whole numbers, without rounding.
fn steps(x: Bounded, function: fn(f64) -> f64) -> Bounded {
    Bounded { value: function(x.value), error: moved(x, function) }
}

/// Sine and cosine: within -1..1, with slopes of at most 1.
fn wave(x: Bounded, function: fn(f64) -> f64) -> Bounded {
    let propagated = if x.error.is_finite() { x.error.min(2.0) } else { x.error };
    Bounded::rounded(function(x.value), propagated, APPROXIMATE)
}

/// A function of two numbers of `dtype`.
pub(super) fn binary(op: BinaryOp, a: Number, b: Number, dtype: DType) -> Number {
    if dtype.is_float() {
        return Number::float(binary_float(op, a.real, b.real));
    }
    let (x, y) = (a.integer, b.integer);
    let exact = a.is_exact() && b.is_exact();
    let sum = a.real.error + b.real.error;
    let both_ways = if exact { 0.0 } else { f64::INFINITY };
    match op {
        BinaryOp::Add => wrapped(x.wrapping_add(y), sum, dtype),
        BinaryOp::Sub => wrapped(x.wrapping_sub(y), sum, dtype),
        BinaryOp::Mul => Number::integer(wrap(x.wrapping_mul(y), dtype), both_ways),
        BinaryOp::Div if y == 0 => Number::integer(0, both_ways),
        BinaryOp::Div => Number::integer(wrap(x.wrapping_div(y), dtype), both_ways),
        BinaryOp::Max => Number::integer(x.max(y), a.real.error.max(b.real.error)),
        BinaryOp::Min => Number::integer(x.min(y), a.real.error.max(b.real.error)),
        BinaryOp::And => {
            let no = (x == 0 && a.is_exact()) || (y == 0 && b.is_exact());
            Number::integer(x & y, if no || exact { 0.0 } else { 1.0 })
        }
        BinaryOp::Or => {
            let yes = (x != 0 && a.is_exact()) || (y != 0 && b.is_exact());
            Number::integer(x | y, if yes || exact { 0.0 } else { 1.0 })
        }
        BinaryOp::Xor => Number::integer(x ^ y, both_ways),
        BinaryOp::MulHigh => Number::integer(((x as u64).wrapping_mul(y as u64) >> 32) as i64, both_ways),
        BinaryOp::Pow | BinaryOp::Atan2 => Number::integer(0, f64::INFINITY),
    }
}

/// An integer whose interval must not wrap for its error to stand.
fn wrapped(n: i64, error: f64, dtype: DType) -> Number {
    let wrapped = wrap(n, dtype);
    let error = if error == 0.0 || wrapped == n { error } else { f64::INFINITY };
    Number::integer(wrapped, error)
}

/// A function of two floats.
pub fn binary_float(op: BinaryOp, a: Bounded, b: Bounded) -> Bounded {
    let exact = a.error == 0.0 && b.error == 0.0;
    let (x, y) = (a.value, b.value);
    match op {
        BinaryOp::Add if exact => Bounded::nearest(x + y),
        BinaryOp::Sub if exact => Bounded::nearest(x - y),
        BinaryOp::Mul if exact => Bounded::nearest(x * y),
        BinaryOp::Div if exact => Bounded::nearest(x / y),
        BinaryOp::Add if (x + y).is_finite() => Bounded::rounded(x + y, a.error + b.error, ROUNDED),
        BinaryOp::Sub if (x - y).is_finite() => Bounded::rounded(x - y, a.error + b.error, ROUNDED),
        BinaryOp::Mul if (x * y).is_finite() => {
            Bounded::rounded(x * y, x.abs() * b.error + y.abs() * a.error + a.error * b.error, ROUNDED)
        }
        BinaryOp::Add => corners(a, b, |x, y| x + y, ROUNDED),
        BinaryOp::Sub => corners(a, b, |x, y| x - y, ROUNDED),
        BinaryOp::Mul => corners(a, b, |x, y| x * y, ROUNDED),
        BinaryOp::Div if y.abs() <= b.error => Bounded::anything(x / y),
        BinaryOp::Div => corners(a, b, |x, y| x / y, ROUNDED),
        BinaryOp::Max => greater(a, b),
        BinaryOp::Min => {
            let lesser = greater(unary_float(UnaryOp::Neg, a), unary_float(UnaryOp::Neg, b));
            Bounded { value: -lesser.value, error: lesser.error }
        }
        BinaryOp::Pow => power(a, b),
        // The cut runs along the negative second axis; beside it, the angle may be that of the other side.
        // At 0 the sign of the zero decides, which sums and products of zeros do not settle.
        BinaryOp::Atan2 if b.low() <= 0.0 && x.abs() <= a.error => {
            let reach = if (a.error + b.error).is_finite() { std::f64::consts::TAU } else { f64::INFINITY };
            Bounded::rounded(x.atan2(y), reach, APPROXIMATE)
        }
        BinaryOp::Atan2 => corners(a, b, f64::atan2, APPROXIMATE),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::MulHigh => Bounded::anything(f64::NAN),
    }
}

/// A function that is monotone in each argument over their intervals: its extremes are at the corners.
fn corners(a: Bounded, b: Bounded, function: fn(f64, f64) -> f64, halves: f64) -> Bounded {
    let value = function(a.value, b.value);
    if a.error.is_infinite() || b.error.is_infinite() {
        return Bounded::anything(value);
    }
    let at = |x, y| distance(function(x, y), value);
    let low = at(a.low(), b.low()).max(at(a.low(), b.high()));
    let high = at(a.high(), b.low()).max(at(a.high(), b.high()));
    Bounded::rounded(value, low.max(high), halves)
}

/// The greater of two, NaN if either is.
fn greater(a: Bounded, b: Bounded) -> Bounded {
    for (x, other) in [(a, b), (b, a)] {
        if x.value.is_nan() {
            // NaN is never inexact; beside it, whatever the other may be, the result is NaN.
            return x;
        }
        if x.low() >= other.high() {
            return x;
        }
    }
    let value = a.value.max(b.value);
    if a.error.is_infinite() || b.error.is_infinite() {
        return Bounded::anything(value);
    }
    let (low, high) = (a.low().max(b.low()), a.high().max(b.high()));
    Bounded { value, error: distance(low, value).max(distance(high, value)) }
}

/// x^y. Off zero it is monotone in each argument; an inexact exponent needs a base above zero.
fn power(a: Bounded, b: Bounded) -> Bounded {
    let (x, y) = (a.value, b.value);
    let value = x.powf(y);
    if a.error == 0.0 && b.error == 0.0 {
        return Bounded::rounded(value, 0.0, APPROXIMATE);
    }
    if value.is_nan() {
        // 1^NaN and NaN^0 are 1, and may lie in the intervals.
        return Bounded::anything(value);
    }
    if a.low() > 0.0 {
        return corners(a, b, f64::powf, APPROXIMATE);
    }
    if b.error != 0.0 || y.fract() != 0.0 || (y < 0.0 && a.high() >= 0.0) {
        return Bounded::anything(value);
    }
    // A whole exponent: monotone on either side of zero, where the power is zero (or one, of exponent zero).
    let mut result = corners(a, b, f64::powf, APPROXIMATE);
    result.error = result.error.max(if a.high() > 0.0 { distance(0f64.powf(y), value) } else { 0.0 });
    result
}

/// `a * b + c` with one rounding.
pub fn fma(a: Bounded, b: Bounded, c: Bounded) -> Bounded {
    let value = a.value.mul_add(b.value, c.value);
    if a.error == 0.0 && b.error == 0.0 && c.error == 0.0 {
        let native = (a.value as f32).mul_add(b.value as f32, c.value as f32);
        return Bounded::machine(value, native.into());
    }
    if !value.is_finite() {
        return Bounded::anything(value);
    }
    let product = a.value.abs() * b.error + b.value.abs() * a.error + a.error * b.error;
    Bounded::rounded(value, product + c.error, ROUNDED)
}

/// A comparison of two numbers of `dtype`; uncertain where their intervals meet.
pub(super) fn compare(op: CompareOp, a: Number, b: Number, dtype: DType) -> Number {
    let truth = match dtype.is_float() {
        true => compared(op, &a.real.value, &b.real.value),
        false => compared(op, &a.integer, &b.integer),
    };
    let (x, y) = (a.real, b.real);
    let apart = x.high() < y.low() || y.high() < x.low();
    let certain = a.is_exact() && b.is_exact() || apart || is_nan(x) || is_nan(y);
    Number::truth(truth, certain)
}

/// Whether the machine has NaN for sure.
fn is_nan(x: Bounded) -> bool {
    x.value.is_nan() && x.error == 0.0
}

fn compared<T: PartialOrd>(op: CompareOp, a: &T, b: &T) -> bool {
    match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Lt => a < b,
        CompareOp::Le => a <= b,
        CompareOp::Gt => a > b,
        CompareOp::Ge => a >= b,
    }
}

/// `yes` or `no`; either where the condition is uncertain.
pub(super) fn select(condition: Number, yes: Number, no: Number) -> Number {
    let (mut chosen, other) = if condition.integer != 0 { (yes, no) } else { (no, yes) };
    if !condition.is_exact() {
        chosen.real = chosen.real.or(other.real);
    }
    chosen
}

/// A number of type `from` as one of type `to`, as `as` converts.
pub(super) fn cast(x: Number, from: DType, to: DType) -> Number {
    let Bounded { value, error } = x.real;
    match (from.is_float(), to.is_float()) {
        (true, true) => x,
        (false, true) if error == 0.0 => Number::float(Bounded::machine(value, f64::from(x.integer as f32))),
        (false, true) => Number::float(Bounded::rounded(value, error, ROUNDED)),
        (_, false) if to == DType::Bool => {
            let truth = if from.is_float() { value != 0.0 } else { x.integer != 0 };
            Number::truth(truth, error == 0.0 || value.abs() > error)
        }
        (true, false) => {
            let n = saturate(value, to);
            let reach = |end: f64| (saturate(end, to) as f64 - n as f64).abs();
            let error = match error {
                0.0 => 0.0,
                f64::INFINITY => error,
                _ => reach(value - error).max(reach(value + error)),
            };
            Number::integer(n, error)
        }
        (false, false) => wrapped(x.integer, error, to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNARY: &[UnaryOp] = &[
        UnaryOp::Neg,
        UnaryOp::Abs,
        UnaryOp::Sqrt,
        UnaryOp::Exp,
        UnaryOp::Expm1,
        UnaryOp::Log,
        UnaryOp::Log1p,
        UnaryOp::Sin,
        UnaryOp::Cos,
        UnaryOp::Tan,
        UnaryOp::Asin,
        UnaryOp::Acos,
        UnaryOp::Atan,
        UnaryOp::Sinh,
        UnaryOp::Cosh,
        UnaryOp::Tanh,
        UnaryOp::Asinh,
        UnaryOp::Acosh,
        UnaryOp::Atanh,
        UnaryOp::Sigmoid,
        UnaryOp::Erf,
        UnaryOp::Erfc,
        UnaryOp::NormalCdf,
        UnaryOp::Gelu,
        UnaryOp::Floor,
        UnaryOp::Ceil,
        UnaryOp::Round,
        UnaryOp::Trunc,
    ];
    const BINARY: &[BinaryOp] = &[
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Max,
        BinaryOp::Min,
        BinaryOp::Pow,
        BinaryOp::Atan2,
    ];
    const COMPARE: &[CompareOp] =
        &[CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];

    /// What the evaluator holds, and an f32 that a machine may have in its place.
    type Pair = (Bounded, f32);

    fn any_float() -> impl Strategy<Value = f32> {
        prop_oneof![
            6 => (-512i32..512).prop_map(|n| n as f32 / 64.0),
            6 => (-20.0f32..20.0, -30i32..12).prop_map(|(x, k)| x * (k as f32).exp2()),
            1 => any::<f32>(),
            1 => prop::sample::select(vec![0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]),
        ]
    }

    fn pair() -> impl Strategy<Value = Pair> {
        let error = prop_oneof![2 => Just(0.0), 2 => 0.0..1e-6f64, 1 => 0.0..0.3];
        (any_float(), error, -1.0..1.0f64).prop_map(|(native, error, place)| {
            let native = if native.is_subnormal() { 0.0 } else { native };
            let error = error * f64::from(native).abs();
            if !error.is_normal() {
                return (Bounded::exact(native.into()), native);
            }
            (Bounded { value: f64::from(native) + error * place, error: error * 1.000001 }, native)
        })
    }

    /// As a machine that flushes denormals, and errs by `ulps`.
    fn machine(exact: f64, ulps: i32) -> f32 {
        let nearest = exact as f32;
        let moved = match nearest.is_normal() {
            true => f32::from_bits((nearest.to_bits() as i32 + ulps) as u32),
            false => nearest,
        };
        if moved.is_subnormal() { 0.0 } else { moved }
    }

    fn holds(bound: Bounded, native: f32) -> bool {
        bound.error == f64::INFINITY || distance(f64::from(native), bound.value) <= bound.error
    }

    fn textbook(op: UnaryOp, x: f64) -> f64 {
        unary_float(op, Bounded::exact(x)).value
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn unary_bounds_hold(op in prop::sample::select(UNARY), (x, native) in pair(), ulps in -3..=3i32) {
            let result = unary_float(op, x);
            let exact = matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sqrt | UnaryOp::Floor)
                || matches!(op, UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc);
            let found = machine(textbook(op, native.into()), if exact { 0 } else { ulps });
            prop_assert!(holds(result, found), "{:?} {:?}: {:?}, found {}", op, x, result, found);
        }

        #[test]
        fn binary_bounds_hold(
            op in prop::sample::select(BINARY),
            (x, a) in pair(),
            (y, b) in pair(),
            ulps in -3..=3i32,
        ) {
            let result = binary_float(op, x, y);
            let found = match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div => a / b,
                BinaryOp::Pow => machine(f64::from(a).powf(b.into()), ulps),
                BinaryOp::Atan2 => machine(f64::from(a).atan2(b.into()), ulps),
                _ if a.is_nan() || b.is_nan() => f32::NAN,
                BinaryOp::Max => a.max(b),
                _ => a.min(b),
            };
            let found = if found.is_subnormal() { 0.0 } else { found };
            prop_assert!(holds(result, found), "{:?} {:?} {:?}: {:?}, found {}", op, x, y, result, found);
        }

        #[test]
        fn fused_bounds_hold((x, a) in pair(), (y, b) in pair(), (z, c) in pair()) {
            let (result, found) = (fma(x, y, z), a.mul_add(b, c));
            prop_assert!(holds(result, found), "{:?} {:?} {:?}: {:?}, found {}", x, y, z, result, found);
        }

        #[test]
        fn choices_are_certain_or_both(
            op in prop::sample::select(COMPARE),
            (x, a) in pair(),
            (y, b) in pair(),
            to in prop::sample::select(vec![DType::I64, DType::I32, DType::U32, DType::U8, DType::Bool]),
        ) {
            let (x, y) = (Number::float(x), Number::float(y));
            let (truth, found) = (compare(op, x, y, DType::F32), compared(op, &a, &b));
            prop_assert!(holds(truth.real, f32::from(u8::from(found))), "{:?}: {:?}, found {}", op, truth, found);
            let (chosen, found) = (select(truth, x, y), if found { a } else { b });
            prop_assert!(holds(chosen.real, found), "{:?} of {:?} {:?}, found {}", chosen, x, y, found);
            let (whole, found) = (cast(x, DType::F32, to), saturate(a.into(), to));
            let strays = (found as f64 - whole.real.value).abs();
            prop_assert!(strays <= whole.real.error, "{:?} as {}: {:?}, found {}", x, to, whole, found);
        }
    }

    #[test]
    fn integers_wrap_and_divide_as_documented() {
        let of = |op, a: i64, b: i64, dtype| {
            let result = binary(op, Number::integer(a, 0.0), Number::integer(b, 0.0), dtype);
            assert_eq!((result.real.value, result.real.error), (result.integer as f64, 0.0));
            result.integer
        };
        assert_eq!(of(BinaryOp::Add, 250, 10, DType::U8), 4);
        assert_eq!(of(BinaryOp::Sub, 0, 1, DType::U32), 0xffff_ffff);
        assert_eq!(of(BinaryOp::Mul, 0xffff_ffff, 0xffff_ffff, DType::U32), 1);
        assert_eq!(of(BinaryOp::MulHigh, 0xffff_ffff, 0xffff_ffff, DType::U32), 0xffff_fffe);
        assert_eq!(of(BinaryOp::Xor, 0b1100, 0b1010, DType::U32), 0b0110);
        assert_eq!(of(BinaryOp::Div, -7, 2, DType::I64), -3);
        assert_eq!(of(BinaryOp::Div, 7, 0, DType::I32), 0);
        assert_eq!(of(BinaryOp::Div, i32::MIN.into(), -1, DType::I32), i32::MIN.into());
        assert_eq!(of(BinaryOp::Max, i64::MAX, i64::MAX - 1, DType::I64), i64::MAX);
        assert_eq!(of(BinaryOp::Add, i64::MAX, 1, DType::I64), i64::MIN);
    }

    #[test]
    fn exact_numbers_stay_exact() {
        let quarter = Bounded::exact(0.25);
        for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Max] {
            assert_eq!(binary_float(op, Bounded::exact(3.5), quarter).error, 0.0, "{op:?}");
        }
        assert!(binary_float(BinaryOp::Div, quarter, Bounded::exact(3.0)).error > 0.0);
    }
}
