//! The derivative of a scalar by another, as scalars of the same kernel: how the gradient of an elementwise function
//! comes from its formula.
//!
//! Derivatives run forward, from the operand to the result, so that a branch that is not taken has no part in them: an
//! overflow there would make a product with 0 NaN.

use super::formula::{Formula, IntoTerm, Term};
use super::{BinaryOp, CompareOp, KernelBuilder, Scalar, ScalarId, UnaryOp};
use rustc_hash::FxHashMap;
use std::f64::consts::{FRAC_2_SQRT_PI, PI};

/// A derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slope {
    /// 0 everywhere, or everywhere but at jumps.
    Zero,
    /// 1 everywhere.
    One,
    /// Any scalar.
    Scalar(ScalarId),
}

/// The derivative of `of` by the scalar `by`, both f32. At corners it is PyTorch's: 0 of |x| at 0, 0 of max(x, c) and
/// min(x, c) at a constant c, half for each of two equal operands.
pub fn derivative(k: &mut KernelBuilder, of: ScalarId, by: ScalarId) -> Slope {
    let body: Vec<(ScalarId, Scalar)> =
        k.scalars().reachable([of]).into_iter().map(|id| (id, k.scalars().get(id).clone())).collect();
    let mut slopes: FxHashMap<ScalarId, Slope> = FxHashMap::default();
    for (id, scalar) in body {
        let slope = if id == by { Slope::One } else { rule(k, id, &scalar, |id| slopes[&id]) };
        slopes.insert(id, slope);
    }
    slopes.get(&of).copied().unwrap_or(Slope::Zero)
}

/// The derivative of one scalar from those of its operands.
fn rule(k: &mut KernelBuilder, id: ScalarId, scalar: &Scalar, slope: impl Fn(ScalarId) -> Slope) -> Slope {
    let zero = scalar.operands().iter().all(|&operand| slope(operand) == Slope::Zero);
    if zero || !k.dtype(id).is_float() {
        return Slope::Zero;
    }
    let formula = Formula::new(k);
    let term = |id: ScalarId| formula.term(id);
    let moved = |id: ScalarId| Moved::new(&formula, slope(id));
    let result = match *scalar {
        Scalar::Const(_) | Scalar::Load { .. } | Scalar::Folded { .. } | Scalar::Position(_) => Moved::Zero,
        Scalar::Compare(..) | Scalar::Cast(..) => Moved::Zero,
        Scalar::Unary(op, a) => unary(op, term(a), term(id), moved(a)),
        Scalar::Binary(op, a, b) => binary(op, [term(a), term(b)], term(id), [moved(a), moved(b)]),
        Scalar::Select(condition, yes, no) => moved(yes).beside(term(condition), moved(no), term(yes)),
        Scalar::Fma(a, b, c) => {
            let product = moved(a).times(term(b)).plus(moved(b).times(term(a)), term(a));
            product.plus(moved(c), term(a))
        }
    };
    match result {
        Moved::Zero => Slope::Zero,
        Moved::One => Slope::One,
        Moved::By(term) => Slope::Scalar(term.id()),
    }
}

/// A derivative while a rule makes it.
#[derive(Clone, Copy)]
enum Moved<'f> {
    Zero,
    One,
    By(Term<'f>),
}

impl<'f> Moved<'f> {
    fn new(formula: &'f Formula<'f>, slope: Slope) -> Moved<'f> {
        match slope {
            Slope::Zero => Moved::Zero,
            Slope::One => Moved::One,
            Slope::Scalar(id) => Moved::By(formula.term(id)),
        }
    }

    /// As a term; `like` is any of its type.
    fn term(self, like: Term<'f>) -> Term<'f> {
        match self {
            Moved::Zero => 0.0.beside(like),
            Moved::One => 1.0.beside(like),
            Moved::By(term) => term,
        }
    }

    fn times(self, factor: Term<'f>) -> Moved<'f> {
        match self {
            Moved::Zero => Moved::Zero,
            _ if factor.is_number(0.0) => Moved::Zero,
            Moved::One if factor.is_number(1.0) => Moved::One,
            Moved::One => Moved::By(factor),
            Moved::By(term) if factor.is_number(1.0) => Moved::By(term),
            Moved::By(term) => Moved::By(term * factor),
        }
    }

    fn over(self, divisor: Term<'f>) -> Moved<'f> {
        match self {
            Moved::Zero => Moved::Zero,
            moved => Moved::By(moved.term(divisor) / divisor),
        }
    }

    fn plus(self, other: Moved<'f>, like: Term<'f>) -> Moved<'f> {
        match (self, other) {
            (Moved::Zero, moved) | (moved, Moved::Zero) => moved,
            (Moved::One, Moved::One) => Moved::By(2.0.beside(like)),
            (a, b) => Moved::By(a.term(like) + b.term(like)),
        }
    }

    fn negated(self, like: Term<'f>) -> Moved<'f> {
        match self {
            Moved::Zero => Moved::Zero,
            Moved::One => Moved::By((-1.0).beside(like)),
            Moved::By(term) => Moved::By(-term),
        }
    }

    /// This where `condition` holds, else `other`.
    fn beside(self, condition: Term<'f>, other: Moved<'f>, like: Term<'f>) -> Moved<'f> {
        match (self, other) {
            (Moved::Zero, Moved::Zero) => Moved::Zero,
            (Moved::One, Moved::One) => Moved::One,
            (a, b) => Moved::By(condition.choose(a.term(like), b.term(like))),
        }
    }

    fn is_zero(self) -> bool {
        matches!(self, Moved::Zero)
    }
}

/// The derivative of y = op(a).
fn unary<'f>(op: UnaryOp, a: Term<'f>, y: Term<'f>, moved: Moved<'f>) -> Moved<'f> {
    match op {
        UnaryOp::Neg => moved.negated(a),
        UnaryOp::Abs => {
            let below = moved.negated(a).beside(a.below(0.0), Moved::Zero, a);
            moved.beside(a.above(0.0), below, a)
        }
        UnaryOp::Sqrt => moved.times(0.5 / y),
        UnaryOp::Exp => moved.times(y),
        UnaryOp::Expm1 => moved.times(a.exp()),
        UnaryOp::Log => moved.over(a),
        UnaryOp::Log1p => moved.over(a + 1.0),
        UnaryOp::Sin => moved.times(a.apply(UnaryOp::Cos)),
        UnaryOp::Cos => moved.times(-a.apply(UnaryOp::Sin)),
        UnaryOp::Tan => moved.times(y * y + 1.0),
        UnaryOp::Asin => moved.over((1.0 - a * a).sqrt()),
        UnaryOp::Acos => moved.negated(a).over((1.0 - a * a).sqrt()),
        UnaryOp::Atan => moved.over(a * a + 1.0),
        UnaryOp::Sinh => moved.times(a.apply(UnaryOp::Cosh)),
        UnaryOp::Cosh => moved.times(a.apply(UnaryOp::Sinh)),
        UnaryOp::Tanh => moved.times(1.0 - y * y),
        UnaryOp::Asinh => moved.over((a * a + 1.0).sqrt()),
        UnaryOp::Acosh => moved.over((a * a - 1.0).sqrt()),
        UnaryOp::Atanh => moved.over(1.0 - a * a),
        UnaryOp::Sigmoid => moved.times(y * (1.0 - y)),
        UnaryOp::Erf => moved.times((-(a * a)).exp() * FRAC_2_SQRT_PI),
        UnaryOp::Erfc => moved.times((-(a * a)).exp() * -FRAC_2_SQRT_PI),
        UnaryOp::NormalCdf => moved.times(normal_density(a)),
        UnaryOp::Gelu => moved.times(a.apply(UnaryOp::NormalCdf) + a * normal_density(a)),
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc | UnaryOp::Not => Moved::Zero,
    }
}

/// e^(-a^2 / 2) / sqrt(2 pi).
fn normal_density(a: Term<'_>) -> Term<'_> {
    (a * a * -0.5).exp() * (0.5 / PI).sqrt()
}

/// The derivative of y = op(a, b).
fn binary<'f>(op: BinaryOp, [a, b]: [Term<'f>; 2], y: Term<'f>, [by_a, by_b]: [Moved<'f>; 2]) -> Moved<'f> {
    match op {
        BinaryOp::Add => by_a.plus(by_b, a),
        BinaryOp::Sub => by_a.plus(by_b.negated(b), a),
        BinaryOp::Mul => by_a.times(b).plus(by_b.times(a), a),
        BinaryOp::Div => by_a.over(b).plus(by_b.times(y).negated(b).over(b), a),
        BinaryOp::Max => extreme([a.above(b), a.below(b)], [a, b], [by_a, by_b]),
        BinaryOp::Min => extreme([a.below(b), a.above(b)], [a, b], [by_a, by_b]),
        BinaryOp::Pow => {
            let by_base = match by_a.is_zero() {
                true => Moved::Zero,
                false => by_a.times(b.equals(0.0).choose(0.0.beside(a), b * a.pow(b - 1.0))),
            };
            let by_exponent = match by_b.is_zero() {
                true => Moved::Zero,
                false => {
                    let flat = a.equals(0.0).and(b.is(CompareOp::Ge, 0.0));
                    by_b.times(flat.choose(0.0.beside(a), y * a.ln()))
                }
            };
            by_base.plus(by_exponent, a)
        }
        BinaryOp::Atan2 => {
            let square = a * a + b * b;
            by_a.times(b).over(square).plus(by_b.times(a).over(square).negated(a), a)
        }
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::MulHigh => Moved::Zero,
    }
}

/// The derivative of the greater or lesser of a and b: of a where the first condition holds, of b where the second does,
/// and in between half of each; or nothing where one of them is a constant, or one is NaN.
fn extreme<'f>([of_a, of_b]: [Term<'f>; 2], [a, b]: [Term<'f>; 2], [by_a, by_b]: [Moved<'f>; 2]) -> Moved<'f> {
    let between = match by_a.plus(by_b, a) {
        _ if a.is_constant() || b.is_constant() => Moved::Zero,
        moved => moved.times(0.5.beside(a)),
    };
    by_a.beside(of_a, by_b.beside(of_b, between, a), a)
}
