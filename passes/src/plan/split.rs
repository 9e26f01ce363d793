//! Long folds of few results: each is cut into chunks whose partial results one kernel computes, with the chunks as an
//! axis that threads can share, and another kernel combines. The chunks depend on the shape alone, and the combining
//! kernel folds them in one order, so that the bits do not depend on who computed what.
//!
//! A kernel of several folds (a softmax or a norm over a long axis) becomes one such pair a fold, and what it stores at
//! each point of an axis becomes a kernel over that axis.
//!
//! A sum of many results over operands that no near cache holds (the weight gradient of a convolution: all pixels of all
//! images) is cut, too, into chunks whose operands a cache does hold: else each tile of results would fetch all of them.

use super::draft::{Uses, known};
use fusewright_ir::kernel::{
    Affine, Axis, BinaryOp, BufferId, BufferInfo, Combine, Fold, FoldKind, Index, Kernel, Literal, NamedKernel,
    Program, Role, Scalar, ScalarId, Space, Store,
};
use fusewright_ir::plan::access::{any_depends, plain};
use fusewright_ir::tensor::DType;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// More results than this keep several threads busy as they are.
const FEW_RESULTS: usize = 128;

/// So many lines of a softmax or a norm do, too, where nearly each thread has one: cut, they are read from afar for each of their
/// folds, and what a softmax raises is computed twice.
const FEW_LINES: usize = 7;

/// The chunks of a fold: as many as give each so many points, within limits that leave enough to share and little to
/// combine.
const CHUNK_POINTS: usize = 8192;
const CHUNKS: std::ops::RangeInclusive<usize> = 8..=64;

/// Which folds are cut.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Those over at least so many points, where a kernel has few results.
    pub long: usize,
    /// Sums whose operands take more bytes, where many results need all of them.
    pub near_bytes: u64,
}

/// The axis along which a fold is cut, and into how many chunks.
type Cut = Option<(usize, usize)>;

/// Cuts the folds of all kernels.
pub fn all(program: &mut Program, limits: Limits) {
    let uses = Uses::of(program.buffers.len(), program.kernels.iter().map(|named| &named.kernel));
    let weights = known(program, &uses, true).buffers;
    for named in std::mem::take(&mut program.kernels) {
        let cuts = cuts(program, &weights, &named.kernel, limits);
        if cuts.iter().any(Option::is_some) {
            Splitting { program, named: &named, cuts, results: Vec::new() }.run();
        } else {
            program.kernels.push(named);
        }
    }
}

/// How each fold of a kernel is cut; `weights` says which buffers belong to the network.
fn cuts(program: &Program, weights: &[bool], kernel: &Kernel, limits: Limits) -> Vec<Cut> {
    let results: usize = kernel.outer.iter().product();
    if results == 0 || kernel.stores.iter().any(|store| store.combine != Combine::Set) {
        return Vec::new();
    }
    if results <= if kernel.folds.len() > 1 { FEW_LINES } else { FEW_RESULTS } {
        return kernel.folds.iter().map(|fold| chunks(fold, limits.long)).collect();
    }
    match kernel.folds.as_slice() {
        [fold] if fold.kind == FoldKind::Sum => vec![near_chunks(program, weights, kernel, fold, limits.near_bytes)],
        _ => Vec::new(),
    }
}

/// Results along the axes that an operand does not move along, for which it is fetched once: those of a register tile.
const TILE_RESULTS: u64 = 32;

/// Operands are cut where they would be fetched so often.
const FETCHES: u64 = 4;

/// The chunks of a sum whose operands are fetched again and again from afar: of such a length that a chunk's are near, along
/// an axis that all operands move along; none where the partial results would be as dear to keep. Weights are packed, and
/// stay where they are for many results.
fn near_chunks(program: &Program, weights: &[bool], kernel: &Kernel, fold: &Fold, near_bytes: u64) -> Cut {
    let loads: Vec<(BufferId, &[Index])> = kernel
        .body
        .reachable([fold.value])
        .into_iter()
        .filter_map(|id| match kernel.body.get(id) {
            Scalar::Load { buffer, at, .. } => Some((*buffer, at.as_slice())),
            _ => None,
        })
        .collect();
    let mut buffers: Vec<BufferId> = loads.iter().map(|(buffer, _)| *buffer).collect();
    buffers.sort_unstable();
    buffers.dedup();
    if buffers.iter().any(|id| weights[id.0 as usize]) {
        return None;
    }
    let n_outer = kernel.outer.len() as u32;
    // How often an operand is fetched: what moves with all results is fetched once.
    let fetches = |id: BufferId| -> u64 {
        let moves = |axis: u32| loads.iter().any(|(buffer, at)| *buffer == id && any_depends(at, Axis(axis)));
        let fixed = (0..n_outer).filter(|&axis| !moves(axis)).map(|axis| kernel.outer[axis as usize] as u64);
        (fixed.product::<u64>() / TILE_RESULTS).max(1)
    };
    let far = buffers.iter().filter(|id| program.buffer(**id).bytes() > near_bytes / 2);
    let bytes: u64 = far.clone().map(|id| program.buffer(*id).bytes()).sum();
    let fetched: u64 = far.map(|id| program.buffer(*id).bytes().saturating_mul(fetches(*id))).sum();
    let results: u64 = kernel.outer.iter().map(|&n| n as u64).product();
    let wanted = bytes.div_ceil(near_bytes.max(1));
    let is_cheap = |n: usize| (2 * 4 * results).saturating_mul(n as u64) <= fetched / FETCHES;
    let fits = |axis: usize| {
        let axis = Axis(n_outer + axis as u32);
        loads.iter().all(|(_, at)| at.iter().filter_map(plain).any(|form| form.coefficient(axis) != 0))
    };
    let axes = (0..fold.inner.len()).filter(|&axis| fits(axis));
    let cut = |axis: usize| {
        let length = fold.inner[axis];
        let n = (2..=length).find(|&n| n as u64 >= wanted && length.is_multiple_of(n))?;
        is_cheap(n).then_some((axis, n))
    };
    axes.filter_map(cut).next().filter(|_| bytes > near_bytes && fetched >= FETCHES * bytes)
}

/// The inner axis along which a fold is cut, and the number of chunks, which divides it: of all possible ones the nearest
/// to what is wanted, outer axes first.
fn chunks(fold: &Fold, long: usize) -> Cut {
    let points: usize = fold.inner.iter().product();
    if points < long || matches!(fold.kind, FoldKind::ArgMax | FoldKind::ArgMin) {
        return None;
    }
    let wanted = (points / CHUNK_POINTS).clamp(*CHUNKS.start(), *CHUNKS.end()) as f64;
    let distance = |n: usize| (n as f64 / wanted).ln().abs();
    let mut best: Option<(usize, usize)> = None;
    for (axis, &length) in fold.inner.iter().enumerate() {
        for n in (2..=(length / 2).min(4 * CHUNKS.end())).filter(|&n| length.is_multiple_of(n)) {
            if best.is_none_or(|(_, other)| distance(n) < distance(other)) {
                best = Some((axis, n));
            }
        }
    }
    best
}

/// One kernel on its way to several.
struct Splitting<'a> {
    program: &'a mut Program,
    named: &'a NamedKernel,
    /// By fold.
    cuts: Vec<Cut>,
    /// Where the parts of the results of the folds done so far are, each over the outer axes.
    results: Vec<SmallVec<[BufferId; 2]>>,
}

/// A kernel being built from pieces of another: the scalars that were taken over.
struct Target {
    kernel: Kernel,
    taken: FxHashMap<ScalarId, ScalarId>,
    /// The results of folds that the kernel itself has, by fold of the old kernel and part.
    own: FxHashMap<(u32, u32), ScalarId>,
}

impl Splitting<'_> {
    fn run(mut self) {
        let kernel = &self.named.kernel;
        // What is stored point by point of the outer axes can be stored by the kernel that has the last result.
        let apart = kernel.stores.iter().any(|store| !store.inner.is_empty());
        let last = kernel.folds.len() - 1;
        for fold in 0..=last {
            let mut target = self.folded(fold);
            if fold == last && !apart {
                for store in &kernel.stores {
                    self.store(&mut target, store, kernel.outer.len());
                }
            } else {
                let own: Vec<ScalarId> =
                    (0..target.own.len() as u32).map(|part| target.own[&(fold as u32, part)]).collect();
                let buffers = own.into_iter().map(|value| self.keep(&mut target, value, &[])).collect();
                self.results.push(buffers);
            }
            self.push(target.kernel, "");
        }
        if apart {
            let mut spaces: Vec<&Space> = Vec::new();
            for store in &kernel.stores {
                if !spaces.contains(&&store.inner) {
                    spaces.push(&store.inner);
                }
            }
            for inner in spaces {
                let mut target = Target::over(kernel.space(inner));
                for store in kernel.stores.iter().filter(|store| store.inner == *inner) {
                    self.store(&mut target, store, kernel.outer.len() + inner.len());
                }
                self.push(target.kernel, "");
            }
        }
    }

    /// A kernel over the outer axes that has the result of a fold: by combining partial results, which are computed
    /// before, where the fold is long.
    fn folded(&mut self, number: usize) -> Target {
        let kernel = &self.named.kernel;
        let fold = &kernel.folds[number];
        let mut target = Target::over(kernel.outer.clone());
        let Some((axis, n)) = self.cuts[number] else {
            let value = self.take(&mut target, fold.value, &Affine::from);
            target.fold(number, fold.kind, fold.inner.clone(), value);
            return target;
        };
        let partial = self.partial(number, axis, n);
        let at: SmallVec<[Axis; 4]> = (0..kernel.outer.len() as u32).map(Axis).collect();
        let chunk = Axis(kernel.outer.len() as u32);
        let load = |target: &mut Target, buffer: BufferId| {
            let at = std::iter::once(chunk).chain(at.iter().copied()).map(Into::into).collect();
            let dtype = self.program.buffer(buffer).dtype;
            target.kernel.body.intern(Scalar::Load { buffer, at, outside: None }, dtype)
        };
        let value = load(&mut target, partial[0]);
        target.fold(number, fold.kind, [n].into_iter().collect(), value);
        if fold.kind == FoldKind::Moments {
            // Chunks of equal length: the squares within them, and those of their means (Chan, Golub and LeVeque 1983).
            let squares = load(&mut target, partial[1]);
            let within = target.sum([n].into_iter().collect(), squares);
            let between = target.own[&(number as u32, 1)];
            let length = fold.inner.iter().product::<usize>() / n;
            let body = &mut target.kernel.body;
            let length = body.intern(Scalar::Const(Literal::f32(length as f32)), DType::F32);
            let between = body.intern(Scalar::Binary(BinaryOp::Mul, between, length), DType::F32);
            let all = body.intern(Scalar::Binary(BinaryOp::Add, within, between), DType::F32);
            target.own.insert((number as u32, 1), all);
        }
        target
    }

    /// Adds the kernel that folds each chunk by itself, and gives the buffers of the parts of its results, over the
    /// chunks and the outer axes.
    fn partial(&mut self, number: usize, axis: usize, n: usize) -> SmallVec<[BufferId; 2]> {
        let kernel = &self.named.kernel;
        let fold = &kernel.folds[number];
        let n_outer = kernel.outer.len() as u32;
        let mut target = Target::over(kernel.outer.iter().copied().chain([n]).collect());
        let mut inner = fold.inner.clone();
        inner[axis] /= n;
        let length = inner[axis] as i64;
        let value = self.take(&mut target, fold.value, &|old| match old.0.checked_sub(n_outer) {
            None => old.into(),
            Some(i) if i as usize == axis => Axis(n_outer) * length + Axis(old.0 + 1),
            Some(_) => Axis(old.0 + 1).into(),
        });
        target.fold(number, fold.kind, inner, value);
        let own: Vec<ScalarId> = (0..target.own.len() as u32).map(|part| target.own[&(number as u32, part)]).collect();
        let buffers = own.into_iter().map(|value| self.keep(&mut target, value, &[n])).collect();
        self.push(target.kernel, " (parts)");
        buffers
    }

    /// Stores a value in a new buffer over the outer axes, with `chunks` in front of them.
    fn keep(&mut self, target: &mut Target, value: ScalarId, chunks: &[usize]) -> BufferId {
        let outer = &self.named.kernel.outer;
        let n = outer.len() as u32;
        let info = BufferInfo {
            name: self.named.nodes.last().cloned().unwrap_or_default(),
            dtype: target.kernel.body.dtype(value),
            dims: chunks.iter().chain(outer).copied().collect(),
            role: Role::Computed,
        };
        let buffer = self.program.add_buffer(info);
        let axes = (n..n + chunks.len() as u32).chain(0..n);
        let at = axes.map(|axis| Axis(axis).into()).collect();
        target.kernel.stores.push(Store { inner: Space::new(), buffer, at, value, combine: Combine::Set });
        buffer
    }

    /// Takes a store over, whose inner axes are outer ones now; the kernel has `n_axes` of them in all.
    fn store(&self, target: &mut Target, store: &Store, n_axes: usize) {
        debug_assert_eq!(target.kernel.outer.len(), n_axes, "axes keep their numbers");
        let value = self.take(target, store.value, &Affine::from);
        let mut at = Vec::new();
        for index in &store.at {
            if let Index::Computed(id) = index {
                self.take(target, *id, &Affine::from);
            }
            at.push(index.map(Affine::clone, |id| target.taken[&id]));
        }
        let store = Store { inner: Space::new(), buffer: store.buffer, at, value, combine: store.combine };
        target.kernel.stores.push(store);
    }

    /// Takes a scalar and its operands over, with each axis replaced by a form, and results of folds loaded.
    fn take(&self, target: &mut Target, root: ScalarId, forms: &dyn Fn(Axis) -> Affine) -> ScalarId {
        let body = &self.named.kernel.body;
        for id in body.reachable([root]) {
            if target.taken.contains_key(&id) {
                continue;
            }
            let new = match body.get(id) {
                Scalar::Folded { fold, part } => match target.own.get(&(*fold, *part)) {
                    Some(&own) => own,
                    None => {
                        let buffer = self.results[*fold as usize][*part as usize];
                        let at = (0..self.named.kernel.outer.len() as u32).map(|axis| Axis(axis).into()).collect();
                        target.kernel.body.intern(Scalar::Load { buffer, at, outside: None }, body.dtype(id))
                    }
                },
                scalar => {
                    let scalar = scalar.map(|id| target.taken[&id], |affine| affine.substitute(forms));
                    target.kernel.body.intern(scalar, body.dtype(id))
                }
            };
            target.taken.insert(id, new);
        }
        target.taken[&root]
    }

    fn push(&mut self, kernel: Kernel, what: &str) {
        let about = format!("{}{what}", self.named.about);
        self.program.kernels.push(NamedKernel { nodes: self.named.nodes.clone(), about, kernel });
    }
}

impl Target {
    fn over(outer: Space) -> Target {
        Target { kernel: Kernel { outer, ..Kernel::default() }, taken: FxHashMap::default(), own: FxHashMap::default() }
    }

    /// Adds a fold in the place of the old kernel's fold `number`.
    fn fold(&mut self, number: usize, kind: FoldKind, inner: Space, value: ScalarId) {
        let dtype = self.kernel.body.dtype(value);
        let fold = self.kernel.folds.len() as u32;
        self.kernel.folds.push(Fold { inner, kind, value });
        for (part, dtype) in kind.results(dtype).into_iter().enumerate() {
            let part = part as u32;
            let result = self.kernel.body.intern(Scalar::Folded { fold, part }, dtype);
            self.own.insert((number as u32, part), result);
        }
    }

    /// Adds a sum that the old kernel does not have.
    fn sum(&mut self, inner: Space, value: ScalarId) -> ScalarId {
        let dtype = self.kernel.body.dtype(value);
        let fold = self.kernel.folds.len() as u32;
        self.kernel.folds.push(Fold { inner, kind: FoldKind::Sum, value });
        self.kernel.body.intern(Scalar::Folded { fold, part: 0 }, dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::program;

    /// What each kernel does, its axes, and the points of its folds.
    fn kernels(shape: &str, layers: &str, long: usize) -> Vec<String> {
        let mut program = program(shape, layers, true);
        all(&mut program, Limits { long, near_bytes: 1 << 20 });
        assert_eq!(fusewright_ir::kernel::verify(&program), Ok(()), "{program}");
        let line = |named: &NamedKernel| {
            let folds: Vec<&[usize]> = named.kernel.folds.iter().map(|fold| fold.inner.as_slice()).collect();
            format!("{} over {:?}, folds {folds:?}", named.about, named.kernel.outer)
        };
        program.kernels.iter().map(line).collect()
    }

    #[test]
    fn a_long_product_has_partial_sums() {
        let layers = r#"Dense(name: "a", out: 10), Relu(name: "b")"#;
        let split = ["Dense Relu (parts) over [1, 10, 8], folds [[5000]]", "Dense Relu over [1, 10], folds [[8]]"];
        assert_eq!(kernels("[1, 40000]", layers, 16384), split);
        assert_eq!(kernels("[1, 4000]", layers, 16384).len(), 1, "short folds stay");
        assert_eq!(kernels("[13, 40000]", layers, 16384).len(), 1, "many results stay");
        assert_eq!(kernels("[1, 40009]", layers, 16384).len(), 1, "a prime has no chunks of equal length");
    }

    #[test]
    fn norms_become_a_kernel_a_fold() {
        let norm = kernels("[2, 100000]", r#"LayerNorm(name: "a", normalized_shape: 100000)"#, 16384);
        let parts = "LayerNorm (parts) over [2, 10], folds [[10000]]";
        let combined = "LayerNorm over [2], folds [[10], [10]]";
        assert_eq!(norm, [parts, combined, "LayerNorm over [2, 100000], folds []"]);
        let softmax = kernels("[1, 65536]", r#"Softmax(name: "a", dim: -1)"#, 16384);
        assert_eq!(softmax.len(), 5, "{softmax:?}");
    }

    #[test]
    fn operands_that_are_far_are_cut_to_what_is_near() {
        // 64 images of 32x32 and 32 channels are 8 MiB, and so is what is summed with them.
        let layers = |n: usize| {
            let text = format!(
                "(fusewright: 1, inputs: [(name: \"x\", shape: [{n}, 32, 32, 32]), (name: \"u\", shape: [{n}, 32, 32, 32])],
                layers: [Conv2d(name: \"a\", from: \"x\", out: 32, kernel_size: 3, padding: 1)],
                grad: {{\"dw\": (of: \"a\", by: \"a.weight\", upstream: \"u\")}})"
            );
            let model = fusewright_ir::Model::parse("net.ron", &text).unwrap();
            let mut graph = crate::differentiate::requested(model.graph.clone(), &model.gradients).unwrap();
            graph.outputs.retain(|output| output.name == "dw");
            crate::pipeline::run(&mut graph, &mut |_, _, _| {});
            let mut program = crate::fuse::fuse(crate::lower::lower(&graph)).0;
            all(&mut program, Limits { long: 1 << 14, near_bytes: 512 << 10 });
            assert_eq!(fusewright_ir::kernel::verify(&program), Ok(()), "{program}");
            program.kernels.iter().map(|named| format!("{:?}", named.kernel.outer)).collect::<Vec<_>>()
        };
        assert_eq!(layers(64), ["[32, 32, 3, 3, 32]", "[32, 32, 3, 3]"]);
        assert_eq!(layers(2), ["[32, 32, 3, 3]"]);
    }

    #[test]
    fn the_axis_of_the_chunks_is_the_outermost_that_fits() {
        let pool = kernels("[1, 4, 128, 128]", r#"GlobalAvgPool(name: "a")"#, 16384);
        assert!(pool[0].ends_with("over [1, 4, 1, 1, 8], folds [[16, 128]]"), "{pool:?}");
    }
}
