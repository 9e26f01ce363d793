//! Writing kernels: what every operation's `lower` uses.

use super::*;
use crate::tensor::DType;

/// A tensor as a kernel sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The buffer.
    pub buffer: BufferId,
    /// The type of its elements.
    pub dtype: DType,
    /// Its logical axes.
    pub dims: Vec<usize>,
}

/// Builds one kernel. Scalars are made first, then folds, then stores; [`KernelBuilder::finish`] gives the kernel.
///
/// ```
/// use fusewright_ir::kernel::{BufferId, FoldKind, KernelBuilder, build::Operand};
/// use fusewright_ir::tensor::DType;
/// // y[i] = sum over k of x[i, k] * w[k]
/// let x = Operand { buffer: BufferId(0), dtype: DType::F32, dims: vec![4, 3] };
/// let w = Operand { buffer: BufferId(1), dtype: DType::F32, dims: vec![3] };
/// let y = Operand { buffer: BufferId(2), dtype: DType::F32, dims: vec![4] };
/// let mut k = KernelBuilder::new(&[4]);
/// let (i, j) = (k.outer(0), k.inner(0));
/// let (a, b) = (k.load(&x, [i, j]), k.load(&w, [j]));
/// let product = k.mul(a, b);
/// let sum = k.fold(FoldKind::Sum, &[3], product);
/// k.store(&y, [i], sum);
/// let kernel = k.finish();
/// assert_eq!(kernel.reads(), [BufferId(0), BufferId(1)]);
/// ```
#[derive(Debug)]
pub struct KernelBuilder {
    kernel: Kernel,
}

impl KernelBuilder {
    /// A kernel over `outer`.
    pub fn new(outer: &[usize]) -> KernelBuilder {
        KernelBuilder { kernel: Kernel { outer: outer.into(), ..Kernel::default() } }
    }

    /// The `i`-th outer axis.
    pub fn outer(&self, i: usize) -> Axis {
        debug_assert!(i < self.kernel.outer.len(), "outer axis {i} exists");
        Axis(i as u32)
    }

    /// All outer axes.
    pub fn outer_axes(&self) -> Vec<Axis> {
        (0..self.kernel.outer.len() as u32).map(Axis).collect()
    }

    /// The `i`-th inner axis of the fold or store that uses the scalar at hand.
    pub fn inner(&self, i: usize) -> Axis {
        Axis((self.kernel.outer.len() + i) as u32)
    }

    /// Any scalar, interned; its type is `dtype`.
    pub fn scalar(&mut self, scalar: Scalar, dtype: DType) -> ScalarId {
        self.kernel.body.intern(scalar, dtype)
    }

    /// The scalars so far.
    pub fn scalars(&self) -> &ScalarDag {
        &self.kernel.body
    }

    /// The type of a scalar.
    pub fn dtype(&self, scalar: ScalarId) -> DType {
        self.kernel.body.dtype(scalar)
    }

    /// The element at `at`, which is inside for every point.
    pub fn load(&mut self, from: &Operand, at: impl IntoIterator<Item = impl Into<Index>>) -> ScalarId {
        self.load_or(from, at, None)
    }

    /// The element at `at`, or `outside` beyond the edges.
    pub fn load_or(
        &mut self,
        from: &Operand,
        at: impl IntoIterator<Item = impl Into<Index>>,
        outside: impl Into<Option<Literal>>,
    ) -> ScalarId {
        let at: Vec<Index> = at.into_iter().map(Into::into).collect();
        debug_assert_eq!(at.len(), from.dims.len(), "one index an axis");
        self.scalar(Scalar::Load { buffer: from.buffer, at, outside: outside.into() }, from.dtype)
    }

    /// A constant.
    pub fn literal(&mut self, literal: Literal) -> ScalarId {
        self.scalar(Scalar::Const(literal), literal.dtype())
    }

    /// An f32 constant, rounded from `value`.
    pub fn number(&mut self, value: f64) -> ScalarId {
        self.literal(Literal::f32(value as f32))
    }

    /// The value of an affine form of the axes, as i64.
    pub fn position(&mut self, affine: impl Into<Affine>) -> ScalarId {
        self.scalar(Scalar::Position(affine.into()), DType::I64)
    }

    /// A function of one scalar.
    pub fn unary(&mut self, op: UnaryOp, a: ScalarId) -> ScalarId {
        let dtype = self.dtype(a);
        self.scalar(Scalar::Unary(op, a), dtype)
    }

    /// A function of two scalars of one type.
    pub fn binary(&mut self, op: BinaryOp, a: ScalarId, b: ScalarId) -> ScalarId {
        let dtype = self.dtype(a);
        debug_assert_eq!(dtype, self.dtype(b), "{op:?} takes two of one type");
        self.scalar(Scalar::Binary(op, a, b), dtype)
    }

    /// a + b.
    pub fn add(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Add, a, b)
    }

    /// a - b.
    pub fn sub(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Sub, a, b)
    }

    /// a * b.
    pub fn mul(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Mul, a, b)
    }

    /// a / b.
    pub fn div(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Div, a, b)
    }

    /// The greater, NaN if either is.
    pub fn max(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Max, a, b)
    }

    /// The lesser, NaN if either is.
    pub fn min(&mut self, a: ScalarId, b: ScalarId) -> ScalarId {
        self.binary(BinaryOp::Min, a, b)
    }

    /// a * b + c with one rounding.
    pub fn fma(&mut self, a: ScalarId, b: ScalarId, c: ScalarId) -> ScalarId {
        self.scalar(Scalar::Fma(a, b, c), DType::F32)
    }

    /// A truth value.
    pub fn compare(&mut self, op: CompareOp, a: ScalarId, b: ScalarId) -> ScalarId {
        debug_assert_eq!(self.dtype(a), self.dtype(b), "{op:?} compares two of one type");
        self.scalar(Scalar::Compare(op, a, b), DType::Bool)
    }

    /// `yes` where `condition` holds, else `no`.
    pub fn select(&mut self, condition: ScalarId, yes: ScalarId, no: ScalarId) -> ScalarId {
        let dtype = self.dtype(yes);
        debug_assert_eq!(dtype, self.dtype(no), "select has one type");
        self.scalar(Scalar::Select(condition, yes, no), dtype)
    }

    /// Converted to `dtype`.
    pub fn cast(&mut self, dtype: DType, a: ScalarId) -> ScalarId {
        if self.dtype(a) == dtype { a } else { self.scalar(Scalar::Cast(dtype, a), dtype) }
    }

    /// Adds a fold of `value` over `inner` and gives the first part of its result.
    pub fn fold(&mut self, kind: FoldKind, inner: &[usize], value: ScalarId) -> ScalarId {
        self.kernel.folds.push(Fold { inner: inner.into(), kind, value });
        self.folded(0)
    }

    /// Part `part` of the result of the fold added last.
    pub fn folded(&mut self, part: u32) -> ScalarId {
        let fold = self.kernel.folds.len() as u32 - 1;
        let last = &self.kernel.folds[fold as usize];
        let dtype = last.kind.results(self.kernel.body.dtype(last.value))[part as usize];
        self.scalar(Scalar::Folded { fold, part }, dtype)
    }

    /// Adds a store at every point of `outer`.
    pub fn store(&mut self, to: &Operand, at: impl IntoIterator<Item = impl Into<Index>>, value: ScalarId) {
        self.store_over(&[], to, at, value);
    }

    /// Adds a store at every point of `outer` x `inner`.
    pub fn store_over(
        &mut self,
        inner: &[usize],
        to: &Operand,
        at: impl IntoIterator<Item = impl Into<Index>>,
        value: ScalarId,
    ) {
        let at: Vec<Index> = at.into_iter().map(Into::into).collect();
        debug_assert_eq!(at.len(), to.dims.len(), "one index an axis");
        debug_assert_eq!(to.dtype, self.dtype(value), "the buffer holds what is stored");
        let (inner, buffer) = (inner.into(), to.buffer);
        self.kernel.stores.push(Store { inner, buffer, at, value, combine: Combine::Set });
    }

    /// Adds a store that is added to what is there, at every point of `outer`.
    pub fn store_more(&mut self, to: &Operand, at: impl IntoIterator<Item = impl Into<Index>>, value: ScalarId) {
        self.store(to, at, value);
        let store = self.kernel.stores.last_mut().expect("a store was added");
        store.combine = Combine::Add;
    }

    /// The kernel.
    pub fn finish(self) -> Kernel {
        self.kernel
    }
}
