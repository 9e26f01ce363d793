//! Scalars written with operators: `x * x.sigmoid()`.

use super::{BinaryOp, CompareOp, KernelBuilder, Literal, Scalar, ScalarId, UnaryOp};
use crate::tensor::DType;
use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A kernel under construction, shared by the terms of one formula.
#[derive(Debug)]
pub struct Formula<'b>(RefCell<&'b mut KernelBuilder>);

/// A scalar of a [`Formula`].
///
/// ```
/// use fusewright_ir::kernel::{KernelBuilder, formula::Formula};
/// let mut k = KernelBuilder::new(&[]);
/// let x = k.number(2.0);
/// let formula = Formula::new(&mut k);
/// let x = formula.term(x);
/// let softsign = (x / (x.abs() + 1.0)).id();
/// # let _ = softsign;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Term<'f> {
    formula: &'f Formula<'f>,
    id: ScalarId,
}

/// A term, or a number that becomes a constant of the type of the term beside it.
pub trait IntoTerm<'f> {
    /// The term.
    fn beside(self, other: Term<'f>) -> Term<'f>;
}

impl<'f> IntoTerm<'f> for Term<'f> {
    fn beside(self, _: Term<'f>) -> Term<'f> {
        self
    }
}

impl<'f> IntoTerm<'f> for f64 {
    fn beside(self, other: Term<'f>) -> Term<'f> {
        other.make(|k| {
            let dtype = k.dtype(other.id);
            k.literal(Literal::of(dtype, self))
        })
    }
}

impl<'b> Formula<'b> {
    /// Formulas in this kernel.
    pub fn new(kernel: &'b mut KernelBuilder) -> Formula<'b> {
        Formula(RefCell::new(kernel))
    }
}

impl<'f> Formula<'f> {
    /// A scalar as a term.
    pub fn term(&'f self, id: ScalarId) -> Term<'f> {
        Term { formula: self, id }
    }
}

impl<'f> Term<'f> {
    /// The scalar in its kernel.
    pub fn id(self) -> ScalarId {
        self.id
    }

    fn make(self, build: impl FnOnce(&mut KernelBuilder) -> ScalarId) -> Term<'f> {
        let id = build(&mut self.formula.0.borrow_mut());
        Term { formula: self.formula, id }
    }

    fn join(self, op: BinaryOp, other: impl IntoTerm<'f>) -> Term<'f> {
        let other = other.beside(self);
        self.make(|k| k.binary(op, self.id, other.id))
    }

    /// Whether it is a constant.
    pub fn is_constant(self) -> bool {
        matches!(self.formula.0.borrow().scalars().get(self.id), Scalar::Const(_))
    }

    /// Whether it is this constant.
    pub fn is_number(self, number: f64) -> bool {
        let kernel = self.formula.0.borrow();
        matches!(kernel.scalars().get(self.id), Scalar::Const(literal) if literal.value() == number)
    }

    /// A function of the term.
    pub fn apply(self, op: UnaryOp) -> Term<'f> {
        self.make(|k| k.unary(op, self.id))
    }

    /// Converted to `dtype`.
    pub fn cast(self, dtype: DType) -> Term<'f> {
        self.make(|k| k.cast(dtype, self.id))
    }

    /// The greater, NaN if either is.
    pub fn max(self, other: impl IntoTerm<'f>) -> Term<'f> {
        self.join(BinaryOp::Max, other)
    }

    /// The lesser, NaN if either is.
    pub fn min(self, other: impl IntoTerm<'f>) -> Term<'f> {
        self.join(BinaryOp::Min, other)
    }

    /// Raised to a power.
    pub fn pow(self, exponent: impl IntoTerm<'f>) -> Term<'f> {
        self.join(BinaryOp::Pow, exponent)
    }

    /// The angle of the point (`x`, self).
    pub fn atan2(self, x: impl IntoTerm<'f>) -> Term<'f> {
        self.join(BinaryOp::Atan2, x)
    }

    /// Both true.
    pub fn and(self, other: Term<'f>) -> Term<'f> {
        self.join(BinaryOp::And, other)
    }

    /// Either true.
    pub fn or(self, other: Term<'f>) -> Term<'f> {
        self.join(BinaryOp::Or, other)
    }

    /// One of them true.
    pub fn xor(self, other: Term<'f>) -> Term<'f> {
        self.join(BinaryOp::Xor, other)
    }

    /// Compared, a truth value.
    pub fn is(self, op: CompareOp, other: impl IntoTerm<'f>) -> Term<'f> {
        let other = other.beside(self);
        self.make(|k| k.compare(op, self.id, other.id))
    }

    /// Whether it is greater.
    pub fn above(self, other: impl IntoTerm<'f>) -> Term<'f> {
        self.is(CompareOp::Gt, other)
    }

    /// Whether it is less.
    pub fn below(self, other: impl IntoTerm<'f>) -> Term<'f> {
        self.is(CompareOp::Lt, other)
    }

    /// Whether it is equal.
    pub fn equals(self, other: impl IntoTerm<'f>) -> Term<'f> {
        self.is(CompareOp::Eq, other)
    }

    /// `yes` where this truth value holds, else `no`.
    pub fn choose(self, yes: Term<'f>, no: impl IntoTerm<'f>) -> Term<'f> {
        let no = no.beside(yes);
        self.make(|k| k.select(self.id, yes.id, no.id))
    }
}

macro_rules! unary {
    ($($name:ident $op:ident)*) => {
        #[allow(missing_docs, reason = "each is documented by its UnaryOp")]
        impl<'f> Term<'f> { $(pub fn $name(self) -> Term<'f> { self.apply(UnaryOp::$op) })* }
    };
}
unary! { abs Abs sqrt Sqrt exp Exp exp_m1 Expm1 ln Log ln_1p Log1p tanh Tanh sigmoid Sigmoid }

macro_rules! operators {
    ($($operator:ident $method:ident)*) => { $(
        impl<'f, T: IntoTerm<'f>> $operator<T> for Term<'f> {
            type Output = Term<'f>;
            fn $method(self, other: T) -> Term<'f> { self.join(BinaryOp::$operator, other) }
        }
        impl<'f> $operator<Term<'f>> for f64 {
            type Output = Term<'f>;
            fn $method(self, other: Term<'f>) -> Term<'f> { self.beside(other).join(BinaryOp::$operator, other) }
        }
    )* };
}
operators! { Add add Sub sub Mul mul Div div }

impl<'f> Neg for Term<'f> {
    type Output = Term<'f>;
    fn neg(self) -> Term<'f> {
        self.apply(UnaryOp::Neg)
    }
}
