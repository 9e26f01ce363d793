//! The vector IR: the innermost body of a kernel, as straight-line vector code and counted loops.
//!
//! A leaf computes one register tile. It is written once (`build`), and lowered for each target: to plain CLIF on
//! 128-bit vectors (`clif`), which every machine that Cranelift supports runs, and to AVX-512 or AVX2 (`x64`).

pub mod build;
pub mod clif;
mod elements;
pub mod lanes;
pub mod x64;

use smallvec::{SmallVec, smallvec};

/// A vector of 32-bit lanes, seen as f32 or as i32 by each instruction; defined once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vector(pub u32);

/// One truth value a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mask(pub u32);

/// Names a loop of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoopId(pub u32);

/// The code of one register tile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// The number of 64-bit parameters: addresses, and positions as integers.
    pub parameters: usize,
    /// The lanes of a vector.
    pub width: usize,
    /// The code.
    pub body: Vec<Inst>,
    /// How many vectors, masks and loops there are.
    pub counts: Counts,
}

/// How many names of each kind are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Vectors.
    pub vectors: u32,
    /// Masks.
    pub masks: u32,
    /// Loops.
    pub loops: u32,
}

/// `parameter + sum of (loop position * bytes) + offset`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The parameter that holds the base.
    pub base: usize,
    /// Bytes a step of each loop, outer loops first.
    pub terms: SmallVec<[(LoopId, i64); 4]>,
    /// Bytes.
    pub offset: i64,
}

/// The lanes `from..to` of a vector, one at least. Addresses are those of lane 0, in use or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lanes {
    /// The first.
    pub from: usize,
    /// The one behind the last.
    pub to: usize,
}

impl Lanes {
    /// The first lanes.
    pub fn first(n: usize) -> Lanes {
        Lanes { from: 0, to: n }
    }

    /// How many.
    pub fn count(self) -> usize {
        self.to - self.from
    }
}

/// How lanes relate to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Lanes are neighbours. Those outside of `lanes` are 0 when read, and not written; their memory is not touched.
    Vector {
        /// Which lanes.
        lanes: Lanes,
    },
    /// One element for all lanes.
    Broadcast,
    /// Lanes are `bytes` apart. Those outside of `lanes` are 0 when read, and not written; their memory is not touched.
    Strided {
        /// Which lanes.
        lanes: Lanes,
        /// The distance.
        bytes: i64,
    },
}

/// Functions of one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as in the kernel IR; the last two convert")]
pub enum Unary {
    Neg,
    Abs,
    Sqrt,
    Floor,
    Ceil,
    Round,
    Trunc,
    /// i32 to f32.
    ToFloat,
    /// u32 to f32.
    UnsignedToFloat,
}

/// Functions of two vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as in the kernel IR; those with I work on integers")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// `a > b ? a : b`: the second where either is NaN.
    Greater,
    /// `a < b ? a : b`: the second where either is NaN.
    Lesser,
    IAdd,
    ISub,
    IMul,
    UMulHigh,
    And,
    Or,
    Xor,
}

/// Shifts of 32-bit integers by a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the usual three")]
pub enum Shift {
    Left,
    LogicalRight,
    ArithmeticRight,
}

/// Comparisons lane by lane; those of f32 are false on NaN, but for `Unordered`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the usual ones; those with I compare signed integers, with U unsigned ones")]
pub enum Compare {
    Lt,
    Le,
    Eq,
    Gt,
    Ge,
    /// Either is NaN.
    Unordered,
    IEq,
    ILt,
    ULt,
}

/// Functions of masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the usual three")]
pub enum Logic {
    And,
    Or,
    Xor,
}

/// Bits by number.
pub type Table = [u32; 32];

/// What is left of the lanes of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as the folds of the kernel IR")]
pub enum Reduction {
    Sum,
    Product,
    Max,
    Min,
}

/// The places at which the tiles of one leaf start along an outer axis: both ends count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starts {
    /// The first.
    pub low: i64,
    /// The last.
    pub high: i64,
}

impl Starts {
    /// One place.
    pub fn at(place: usize) -> Starts {
        Starts { low: place as i64, high: place as i64 }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "fields are operands in the order of the name")]
pub enum Inst {
    /// The same bits in every lane.
    Constant {
        to: Vector,
        bits: u32,
    },
    /// A parameter that is a position, as i32 in every lane, plus a number for each loop step, plus the lane's number
    /// times `lane_step`.
    Position {
        to: Vector,
        parameter: usize,
        terms: SmallVec<[(LoopId, i64); 4]>,
        offset: i64,
        lane_step: i64,
    },
    Load {
        to: Vector,
        from: Address,
        access: Access,
    },
    /// With `streaming`, whole vectors pass by the caches, 16 bytes at a time; the address is a multiple of 16.
    Store {
        value: Vector,
        to: Address,
        access: Access,
        streaming: bool,
    },
    /// Asks for memory that is read soon. It may lie outside of what there is.
    Prefetch {
        from: Address,
    },
    Unary {
        to: Vector,
        op: Unary,
        a: Vector,
    },
    Binary {
        to: Vector,
        op: Binary,
        a: Vector,
        b: Vector,
    },
    Shift {
        to: Vector,
        op: Shift,
        a: Vector,
        by: u32,
    },
    /// `a * b + c` with one rounding.
    Fma {
        to: Vector,
        a: Vector,
        b: Vector,
        c: Vector,
    },
    Compare {
        to: Mask,
        op: Compare,
        a: Vector,
        b: Vector,
    },
    Logic {
        to: Mask,
        op: Logic,
        a: Mask,
        b: Mask,
    },
    Not {
        to: Mask,
        a: Mask,
    },
    Select {
        to: Vector,
        condition: Mask,
        yes: Vector,
        no: Vector,
    },
    /// The first `lanes` lanes of `a`, the others of `b`.
    Blend {
        to: Vector,
        lanes: usize,
        a: Vector,
        b: Vector,
    },
    /// The lanes of even number, or those of odd number, those of `a` before those of `b`; `mixed` where their order is to be that
    /// of [`Inst::Unmix`].
    Evens {
        to: Vector,
        a: Vector,
        b: Vector,
        odd: bool,
        mixed: bool,
    },
    /// Pairs of lanes that come from two vectors in turns, those of the first before those of the second. Only for vectors of
    /// eight lanes or more, which are mixed by simpler instructions.
    Unmix {
        to: Vector,
        a: Vector,
    },
    /// The lanes of `a` and of `b` in turns, in two vectors.
    Interleave {
        to: [Vector; 2],
        a: Vector,
        b: Vector,
    },
    /// The entry of a table that the low five bits of each lane number. Only for vectors of 16 lanes, which read 32 entries
    /// by one instruction.
    Lookup {
        to: Vector,
        table: &'static Table,
        index: Vector,
    },
    /// As many vectors as one has lanes: lane `j` of the `i`-th becomes lane `i` of the `j`-th.
    Transpose {
        to: Vec<Vector>,
        from: Vec<Vector>,
    },
    /// All lanes combined, in every lane; the tree is fixed: halves, then quarters.
    Reduce {
        to: Vector,
        op: Reduction,
        a: Vector,
    },
    Loop(Loop),
}

/// A value that an instruction gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// Lanes of 32 bits.
    Vector(Vector),
    /// Truth values.
    Mask(Mask),
}

impl Inst {
    /// The values that it gives, a loop's apart.
    pub fn gives(&self) -> SmallVec<[Name; 2]> {
        match self {
            Inst::Store { .. } | Inst::Prefetch { .. } | Inst::Loop(_) => SmallVec::new(),
            Inst::Compare { to, .. } | Inst::Logic { to, .. } | Inst::Not { to, .. } => smallvec![Name::Mask(*to)],
            Inst::Interleave { to, .. } => to.iter().copied().map(Name::Vector).collect(),
            Inst::Transpose { to, .. } => to.iter().copied().map(Name::Vector).collect(),
            Inst::Constant { to, .. }
            | Inst::Position { to, .. }
            | Inst::Load { to, .. }
            | Inst::Unary { to, .. }
            | Inst::Binary { to, .. }
            | Inst::Shift { to, .. }
            | Inst::Fma { to, .. }
            | Inst::Select { to, .. }
            | Inst::Blend { to, .. }
            | Inst::Evens { to, .. }
            | Inst::Unmix { to, .. }
            | Inst::Lookup { to, .. }
            | Inst::Reduce { to, .. } => smallvec![Name::Vector(*to)],
        }
    }

    /// The masks that it reads, a loop's apart.
    pub fn masks(&self) -> SmallVec<[Mask; 2]> {
        match self {
            Inst::Logic { a, b, .. } => smallvec![*a, *b],
            Inst::Not { a, .. } => smallvec![*a],
            Inst::Select { condition, .. } => smallvec![*condition],
            _ => SmallVec::new(),
        }
    }

    /// The vectors that it reads, a loop's apart.
    pub fn vectors(&self, with: &mut dyn FnMut(Vector)) {
        match self {
            Inst::Constant { .. } | Inst::Position { .. } | Inst::Load { .. } | Inst::Loop(_) => {}
            Inst::Logic { .. } | Inst::Not { .. } | Inst::Prefetch { .. } => {}
            Inst::Store { value, .. } => with(*value),
            Inst::Transpose { from, .. } => from.iter().for_each(|&row| with(row)),
            Inst::Unary { a, .. }
            | Inst::Shift { a, .. }
            | Inst::Reduce { a, .. }
            | Inst::Lookup { index: a, .. }
            | Inst::Unmix { a, .. } => with(*a),
            Inst::Binary { a, b, .. }
            | Inst::Compare { a, b, .. }
            | Inst::Blend { a, b, .. }
            | Inst::Evens { a, b, .. }
            | Inst::Interleave { a, b, .. } => {
                with(*a);
                with(*b);
            }
            Inst::Fma { a, b, c, .. } => [a, b, c].into_iter().for_each(|&vector| with(vector)),
            Inst::Select { yes, no, .. } => {
                with(*yes);
                with(*no);
            }
        }
    }
}

/// `for i in 0..count`, at least once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loop {
    /// Its name, for addresses.
    pub id: LoopId,
    /// The number of steps, 1 or more.
    pub count: u64,
    /// Values that pass from step to step.
    pub carried: Vec<Carried>,
    /// What is done.
    pub body: Vec<Inst>,
}

/// A value that passes from step to step of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Carried {
    /// Its value within a step.
    pub inside: Vector,
    /// Its value before the first step.
    pub start: Vector,
    /// Its value at the end of a step.
    pub next: Vector,
    /// Its value after the last step.
    pub after: Vector,
}
