//! The scalar computed at each point of a kernel: a hash-consed graph in an arena, so that a value used many times is
//! one node, however often a formula mentions it.

use super::BufferId;
use super::index::{Affine, Index};
use crate::tensor::DType;
use hashbrown::hash_table::{Entry, HashTable};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// Names a scalar of one [`ScalarDag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScalarId(pub u32);

/// A constant; floats are compared by their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Literal {
    /// The bits of an f32.
    F32(u32),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit integer.
    I32(i32),
    /// A 32-bit counter.
    U32(u32),
    /// A byte.
    U8(u8),
    /// A truth value.
    Bool(bool),
}

impl Literal {
    /// An f32.
    pub fn f32(value: f32) -> Literal {
        Literal::F32(value.to_bits())
    }

    /// `value` as a literal of `dtype`, converted as `as` does. F64 has no literals and becomes F32.
    pub fn of(dtype: DType, value: f64) -> Literal {
        match dtype {
            DType::F32 | DType::F64 => Literal::f32(value as f32),
            DType::I64 => Literal::I64(value as i64),
            DType::I32 => Literal::I32(value as i32),
            DType::U32 => Literal::U32(value as u32),
            DType::U8 => Literal::U8(value as u8),
            DType::Bool => Literal::Bool(value != 0.0),
        }
    }

    /// The type of the constant.
    pub fn dtype(self) -> DType {
        match self {
            Literal::F32(_) => DType::F32,
            Literal::I64(_) => DType::I64,
            Literal::I32(_) => DType::I32,
            Literal::U32(_) => DType::U32,
            Literal::U8(_) => DType::U8,
            Literal::Bool(_) => DType::Bool,
        }
    }

    /// The value, exact for all but I64 beyond 2^53.
    pub fn value(self) -> f64 {
        match self {
            Literal::F32(bits) => f64::from(f32::from_bits(bits)),
            Literal::I64(n) => n as f64,
            Literal::I32(n) => f64::from(n),
            Literal::U32(n) => f64::from(n),
            Literal::U8(n) => f64::from(n),
            Literal::Bool(b) => f64::from(u8::from(b)),
        }
    }
}

/// Functions of one scalar. Those of f32 follow IEEE 754 and are within 4 ULP where they are not exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnaryOp {
    /// -x, of floats and integers.
    Neg,
    /// |x|, of floats and integers.
    Abs,
    /// Truth negated.
    Not,
    /// Square root; NaN below zero.
    Sqrt,
    /// e^x.
    Exp,
    /// e^x - 1, accurate near 0.
    Expm1,
    /// Natural logarithm.
    Log,
    /// ln(1 + x), accurate near 0.
    Log1p,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Tangent of radians.
    Tan,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Hyperbolic tangent.
    Tanh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
    /// 1 / (1 + e^-x), in [0, 1] for every x.
    Sigmoid,
    /// The error function.
    Erf,
    /// 1 - erf(x), accurate in its tail.
    Erfc,
    /// The standard normal distribution function, erfc(-x / sqrt 2) / 2.
    NormalCdf,
    /// x times the standard normal distribution function of x; -0 at -infinity, its limit.
    Gelu,
    /// Rounded down.
    Floor,
    /// Rounded up.
    Ceil,
    /// Rounded to the nearest integer, ties to even.
    Round,
    /// Rounded towards zero.
    Trunc,
}

/// Functions of two scalars of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BinaryOp {
    /// Sum; integers wrap.
    Add,
    /// Difference; integers wrap.
    Sub,
    /// Product; integers wrap.
    Mul,
    /// Quotient; of integers rounded towards zero, and 0 where the divisor is 0.
    Div,
    /// The greater; NaN where either is NaN.
    Max,
    /// The lesser; NaN where either is NaN.
    Min,
    /// x^y, of floats, with the special cases of IEEE 754 `pow`.
    Pow,
    /// The angle of the point (second, first), of floats.
    Atan2,
    /// Both true.
    And,
    /// Either true.
    Or,
    /// Bitwise exclusive or of u32, or of truth values.
    Xor,
    /// The upper 32 bits of the product of two u32.
    MulHigh,
}

/// Comparisons; with NaN all but `Ne` are false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// One scalar value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::large_enum_variant, reason = "most scalars of a kernel are loads; a box each would cost more")]
pub enum Scalar {
    /// A constant.
    Const(Literal),
    /// The element of `buffer` at `at`, one index an axis; where any index is outside the buffer, `outside` instead.
    Load {
        /// What is read.
        buffer: BufferId,
        /// Where.
        at: Vec<Index>,
        /// The value beyond the edges; `None` where every affine or table index is proven inside.
        outside: Option<Literal>,
    },
    /// A result of an earlier fold of the same kernel.
    Folded {
        /// Which fold.
        fold: u32,
        /// Which part of its result (`FoldKind::results`).
        part: u32,
    },
    /// The value of an affine form of the loop axes, as i64; its divisor is 1.
    Position(Affine),
    /// A function of one scalar.
    Unary(UnaryOp, ScalarId),
    /// A function of two.
    Binary(BinaryOp, ScalarId, ScalarId),
    /// A truth value.
    Compare(CompareOp, ScalarId, ScalarId),
    /// The second where the first (a truth value) holds, else the third; both are computed.
    Select(ScalarId, ScalarId, ScalarId),
    /// `a * b + c` of f32 with one rounding.
    Fma(ScalarId, ScalarId, ScalarId),
    /// Converted as Rust's `as` does: float to integer truncates and saturates, integer to integer wraps, to a truth
    /// value is a comparison with 0.
    Cast(DType, ScalarId),
}

impl Scalar {
    /// The scalars it is computed from, those within load indices included.
    pub fn operands(&self) -> SmallVec<[ScalarId; 3]> {
        let mut all = SmallVec::new();
        self.for_each_operand(|id| all.push(id));
        all
    }

    /// Whether there are any.
    pub fn has_operands(&self) -> bool {
        let mut any = false;
        self.for_each_operand(|_| any = true);
        any
    }

    /// Calls `visit` with each of [`Scalar::operands`].
    pub fn for_each_operand(&self, mut visit: impl FnMut(ScalarId)) {
        match self {
            Scalar::Const(_) | Scalar::Folded { .. } | Scalar::Position(_) => {}
            Scalar::Load { at, .. } => {
                for index in at {
                    if let Index::Computed(value) = index {
                        visit(*value);
                    }
                }
            }
            Scalar::Unary(_, a) | Scalar::Cast(_, a) => visit(*a),
            Scalar::Binary(_, a, b) | Scalar::Compare(_, a, b) => [*a, *b].into_iter().for_each(visit),
            Scalar::Select(a, b, c) | Scalar::Fma(a, b, c) => [*a, *b, *c].into_iter().for_each(visit),
        }
    }

    /// The same scalar with operands renamed by `rename` and affine forms rewritten by `change`.
    pub fn map(&self, rename: impl Fn(ScalarId) -> ScalarId, change: impl Fn(&Affine) -> Affine) -> Scalar {
        match self {
            Scalar::Const(_) | Scalar::Folded { .. } => self.clone(),
            Scalar::Position(affine) => Scalar::Position(change(affine)),
            Scalar::Load { buffer, at, outside } => Scalar::Load {
                buffer: *buffer,
                at: at.iter().map(|index| index.map(&change, &rename)).collect(),
                outside: *outside,
            },
            Scalar::Unary(op, a) => Scalar::Unary(*op, rename(*a)),
            Scalar::Cast(dtype, a) => Scalar::Cast(*dtype, rename(*a)),
            Scalar::Binary(op, a, b) => Scalar::Binary(*op, rename(*a), rename(*b)),
            Scalar::Compare(op, a, b) => Scalar::Compare(*op, rename(*a), rename(*b)),
            Scalar::Select(a, b, c) => Scalar::Select(rename(*a), rename(*b), rename(*c)),
            Scalar::Fma(a, b, c) => Scalar::Fma(rename(*a), rename(*b), rename(*c)),
        }
    }
}

/// All scalars of a kernel; operands have smaller ids than their users.
#[derive(Clone, Debug, Default)]
pub struct ScalarDag {
    nodes: Vec<Scalar>,
    types: Vec<DType>,
    /// The scalars, to be found by what they are.
    known: HashTable<ScalarId>,
}

impl ScalarDag {
    /// The scalar of this form and type, made where it is new. `dtype` is that of the result.
    pub fn intern(&mut self, scalar: Scalar, dtype: DType) -> ScalarId {
        let hash_of = |scalar: &Scalar| FxBuildHasher.hash_one(scalar);
        let same = |id: &ScalarId| self.nodes[id.0 as usize] == scalar;
        let rehash = |id: &ScalarId| hash_of(&self.nodes[id.0 as usize]);
        let id = match self.known.entry(hash_of(&scalar), same, rehash) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(place) => *place.insert(ScalarId(self.nodes.len() as u32)).get(),
        };
        self.nodes.push(scalar);
        self.types.push(dtype);
        id
    }

    /// The scalar.
    pub fn get(&self, id: ScalarId) -> &Scalar {
        &self.nodes[id.0 as usize]
    }

    /// The type of its value.
    pub fn dtype(&self, id: ScalarId) -> DType {
        self.types[id.0 as usize]
    }

    /// All scalars, operands before users.
    pub fn iter(&self) -> impl Iterator<Item = (ScalarId, &Scalar)> {
        self.nodes.iter().enumerate().map(|(i, scalar)| (ScalarId(i as u32), scalar))
    }

    /// The number of scalars.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The scalars that `roots` are computed from, themselves included, operands first.
    pub fn reachable(&self, roots: impl IntoIterator<Item = ScalarId>) -> Vec<ScalarId> {
        let mut needed = vec![false; self.nodes.len()];
        for root in roots {
            needed[root.0 as usize] = true;
        }
        for i in (0..self.nodes.len()).rev() {
            if needed[i] {
                self.nodes[i].for_each_operand(|operand| needed[operand.0 as usize] = true);
            }
        }
        (0..self.nodes.len()).filter(|&i| needed[i]).map(|i| ScalarId(i as u32)).collect()
    }
}

impl PartialEq for ScalarDag {
    fn eq(&self, other: &ScalarDag) -> bool {
        self.nodes == other.nodes && self.types == other.types
    }
}
impl Eq for ScalarDag {}

impl std::hash::Hash for ScalarDag {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nodes.hash(state);
        self.types.hash(state);
    }
}
