//! Kernel IR: a loop nest, and the scalars computed at its points.
//!
//! For every point of `outer` the folds run in order, each over `outer` x its own inner axes, then the stores, which
//! may run over inner axes again. Buffers are indexed by their logical axes; layout is the plan's affair.

mod accumulate;
pub mod bounded;
pub mod build;
pub mod derive;
pub mod evaluate;
pub mod formula;
pub mod index;
pub mod print;
pub mod scalar;
pub mod verify;

pub use bounded::Bounded;
pub use build::KernelBuilder;
pub use derive::{Slope, derivative};
pub use evaluate::{Evaluation, Fault, evaluate};
pub use index::{Affine, Axis, Index};
pub use scalar::{BinaryOp, CompareOp, Literal, Scalar, ScalarDag, ScalarId, UnaryOp};
pub use verify::verify;

use crate::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::sync::Arc;

/// Names a buffer of a [`Program`] and of the plan made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// Extents of loop axes.
pub type Space = SmallVec<[usize; 4]>;

/// A fused loop nest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Kernel {
    /// The axes shared by all folds and stores: `Axis(0)..Axis(outer.len())`.
    pub outer: Space,
    /// Run in order at every point of `outer`.
    pub folds: SmallVec<[Fold; 1]>,
    /// Run after the folds at every point of `outer`.
    pub stores: SmallVec<[Store; 1]>,
    /// The scalars.
    pub body: ScalarDag,
}

/// Reduces `value` over the points of `inner`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fold {
    /// The inner axes: `Axis(outer.len())` and on. Points are visited with the last axis fastest.
    pub inner: Space,
    /// How values are combined.
    pub kind: FoldKind,
    /// What is reduced.
    pub value: ScalarId,
}

/// How a fold combines values, and what it leaves. An empty fold leaves the start value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FoldKind {
    /// The sum; starts at 0.
    Sum,
    /// The product; starts at 1.
    Product,
    /// The greatest; NaN if any is; starts at -infinity (the least integer).
    Max,
    /// The least; NaN if any is; starts at +infinity (the greatest integer).
    Min,
    /// The greatest, and as i64 its first place in the flattened inner space; a NaN is greater than all.
    ArgMax,
    /// The least, and as i64 its first place in the flattened inner space; a NaN is less than all.
    ArgMin,
    /// The mean, and the sum of squared differences from it (Welford 1962).
    Moments,
}

impl FoldKind {
    /// The types of the parts of the result, where values of `dtype` are folded.
    pub fn results(self, dtype: DType) -> SmallVec<[DType; 2]> {
        match self {
            FoldKind::ArgMax | FoldKind::ArgMin => [dtype, DType::I64].into_iter().collect(),
            FoldKind::Moments => [dtype, dtype].into_iter().collect(),
            _ => [dtype].into_iter().collect(),
        }
    }
}

/// Writes `value` to `buffer[at]` at the points of `inner`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// The inner axes: `Axis(outer.len())` and on; often none.
    pub inner: Space,
    /// What is written.
    pub buffer: BufferId,
    /// Where; every index is inside the buffer.
    pub at: Vec<Index>,
    /// The value written.
    pub value: ScalarId,
    /// Whether it replaces what is there or is added to it.
    pub combine: Combine,
}

/// What a store does with the old element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Combine {
    /// Replaces it.
    Set,
    /// Adds to it: the scatter that is the gradient of a gather. Points are visited in order.
    Add,
}

impl Kernel {
    /// The same loops, folds and stores, for scalars that are yet to be made.
    pub fn without_scalars(&self) -> Kernel {
        let (outer, folds, stores) = (self.outer.clone(), self.folds.clone(), self.stores.clone());
        Kernel { outer, folds, stores, body: ScalarDag::default() }
    }

    /// The extents of `outer` followed by those of `inner`: the space that axes index within a fold or store.
    pub fn space(&self, inner: &Space) -> Space {
        self.outer.iter().chain(inner).copied().collect()
    }

    /// The buffers read by scalars that folds and stores need, each once, in order of first use.
    pub fn reads(&self) -> Vec<BufferId> {
        let mut buffers = Vec::new();
        for id in self.live() {
            if let Scalar::Load { buffer, .. } = self.body.get(id)
                && !buffers.contains(buffer)
            {
                buffers.push(*buffer);
            }
        }
        buffers
    }

    /// The buffers written, each once.
    pub fn writes(&self) -> Vec<BufferId> {
        let mut buffers = Vec::new();
        for store in &self.stores {
            if !buffers.contains(&store.buffer) {
                buffers.push(store.buffer);
            }
        }
        buffers
    }

    /// The scalars that some fold or store needs, operands first.
    pub fn live(&self) -> Vec<ScalarId> {
        let folds = self.folds.iter().map(|fold| fold.value);
        let stores = self.stores.iter().flat_map(|store| {
            let computed = store.at.iter().filter_map(|index| match index {
                Index::Computed(value) => Some(*value),
                _ => None,
            });
            computed.chain([store.value])
        });
        self.body.reachable(folds.chain(stores))
    }

    /// The number of scalar operations (loads and constants not counted) over all points: a measure of cost. What several
    /// stores of one point have in common is counted once.
    pub fn operations(&self) -> u64 {
        let count = |roots: &[ScalarId]| {
            let ids = self.body.reachable(roots.iter().copied());
            ids.iter().filter(|&&id| self.body.get(id).has_operands()).count() as u64
        };
        let points = |inner: &Space| self.space(inner).iter().map(|&n| n as u64).product::<u64>();
        let folds = self.folds.iter().map(|fold| points(&fold.inner) * (1 + count(&[fold.value])));
        let (single, inner): (Vec<&Store>, Vec<&Store>) = self.stores.iter().partition(|store| store.inner.is_empty());
        let inner = inner.into_iter().map(|store| points(&store.inner) * count(&[store.value]));
        let together: Vec<ScalarId> = single.into_iter().map(|store| store.value).collect();
        let together = points(&Space::new()) * count(&together);
        folds.sum::<u64>() + inner.sum::<u64>() + together
    }
}

/// What kernels read and write: a tensor without a place.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferInfo {
    /// The name of the value, for people.
    pub name: String,
    /// The type of the elements.
    pub dtype: DType,
    /// The logical axes.
    pub dims: Vec<usize>,
    /// Where its values come from.
    pub role: Role,
}

impl BufferInfo {
    /// The bytes of all elements.
    pub fn bytes(&self) -> u64 {
        (self.dims.iter().product::<usize>() * self.dtype.bytes()) as u64
    }
}

/// Where the values of a buffer come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// The user gives it for each run.
    Input,
    /// A parameter: given once, the same for all runs.
    Parameter,
    /// A parameter of the session: given before a run, and replaced after it where the program updates it.
    State,
    /// Written in the model.
    Constant(Arc<Tensor>),
    /// A kernel writes it.
    Computed,
}

/// A network as kernels: what `lower` and `fuse` make and `plan` starts from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// All buffers, by [`BufferId`].
    pub buffers: Vec<BufferInfo>,
    /// In an order in which they can run.
    pub kernels: Vec<NamedKernel>,
    /// The results: name and buffer.
    pub outputs: Vec<(String, BufferId)>,
    /// State that a run replaces when it is over, with what takes its place. Kernels read what it was before.
    pub updates: Vec<Update>,
}

/// State and its next value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// A buffer of [`Role::State`].
    pub state: BufferId,
    /// A buffer of the same type.
    pub value: BufferId,
}

/// A kernel and what it computes, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedKernel {
    /// The names of the graph nodes it computes, in order.
    pub nodes: Vec<String>,
    /// The operations of those nodes, for dumps: `Conv2d Relu`.
    pub about: String,
    /// The loop nest.
    pub kernel: Kernel,
}

impl Program {
    /// The buffer.
    pub fn buffer(&self, id: BufferId) -> &BufferInfo {
        &self.buffers[id.0 as usize]
    }

    /// All buffers with their ids.
    pub fn buffer_ids(&self) -> impl Iterator<Item = (BufferId, &BufferInfo)> {
        self.buffers.iter().enumerate().map(|(i, info)| (BufferId(i as u32), info))
    }

    /// Adds a buffer.
    pub fn add_buffer(&mut self, info: BufferInfo) -> BufferId {
        self.buffers.push(info);
        BufferId(self.buffers.len() as u32 - 1)
    }
}
