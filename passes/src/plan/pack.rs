//! Constants in the order in which kernels read them.
//!
//! A load of a constant becomes a load of a packed copy whose axes are the loop axes that occur in it, so that flips,
//! groups, dilation and flattened images are gone from its indices. The copy is made when parameters are given.

use super::draft::{Draft, DraftBuffer, DraftKernel};
use crate::merge;
use fusewright_ir::kernel::{Affine, Axis, BufferId, BufferInfo, Index, Kernel, KernelBuilder, Role, Scalar, ScalarId};
use fusewright_ir::plan::access::{Part, Read, any_depends, is_proven, plain, reads, stride, with_scalars};
use fusewright_ir::plan::{Block, Layout, Schedule, Vector};
use smallvec::SmallVec;
use std::collections::HashMap;

/// The loads of a kernel that may be packed: constants at plain affine places that are proven to be inside. A load that
/// several parts need runs over outer axes only.
pub fn packable(draft: &Draft, kernel: &Kernel) -> Vec<ScalarId> {
    let n_outer = kernel.outer.len() as u32;
    let reads = reads(kernel);
    let fits = |read: &Read| {
        let buffer = draft.buffer(read.buffer);
        let inner = read.at.iter().filter_map(plain).any(|form| form.terms.iter().any(|(axis, _)| axis.0 >= n_outer));
        let shared = reads.iter().filter(|other| other.id == read.id).count() > 1;
        buffer.is_constant()
            && is_proven(read.at, &read.extents, &buffer.layout, &buffer.info.dims, false)
            && !(inner && shared)
    };
    let mut ids: Vec<ScalarId> = reads.iter().filter(|read| fits(read)).map(|read| read.id).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// What two equal packings have in common.
#[derive(PartialEq, Eq, Hash)]
struct Packing {
    source: BufferId,
    at: SmallVec<[Index; 4]>,
    dims: Vec<usize>,
    layout: Layout,
}

/// Packs the constants of all scheduled kernels; the packing kernels run once, before all others.
pub fn all(draft: &mut Draft) {
    let mut known: HashMap<Packing, BufferId> = HashMap::new();
    let mut setup = Vec::new();
    for k in 0..draft.kernels.len() {
        if draft.kernels[k].once || draft.kernels[k].schedule.vector.is_none() {
            continue;
        }
        let kernel = draft.kernels[k].kernel().clone();
        let schedule = draft.kernels[k].schedule.clone();
        let mut replaced: HashMap<ScalarId, Scalar> = HashMap::new();
        let loose = packable(draft, &kernel);
        for read in reads(&kernel).iter().filter(|read| loose.contains(&read.id)) {
            if replaced.contains_key(&read.id) || !wants_packing(draft, &kernel, read, &schedule) {
                continue;
            }
            let (axes, layout) = packed_layout(&kernel, &schedule, read);
            let dims: Vec<usize> = axes.iter().map(|axis| read.extents[axis.0 as usize]).collect();
            let at = read.at.iter().map(|index| renumbered(index, &axes)).collect();
            let packing = Packing { source: read.buffer, at, dims, layout };
            let buffer = match known.get(&packing) {
                Some(&buffer) => buffer,
                None => {
                    let (buffer, kernel) = pack(draft, &packing);
                    setup.push(kernel);
                    known.insert(packing, buffer);
                    buffer
                }
            };
            let at = axes.iter().map(|&axis| axis.into()).collect();
            replaced.insert(read.id, Scalar::Load { buffer, at, outside: None });
        }
        if !replaced.is_empty() {
            let packed = with_scalars(&kernel, |id, scalar| replaced.get(&id).cloned().unwrap_or(scalar));
            draft.kernels[k].named.kernel = packed;
        }
    }
    draft.kernels.extend(setup);
    join_producers(draft);
}

/// Whether a kernel reads a constant in another order than its vectors need, or block by block in a fold.
fn wants_packing(draft: &Draft, kernel: &Kernel, read: &Read, schedule: &Schedule) -> bool {
    let buffer = draft.buffer(read.buffer);
    let step = |axis| stride(read.at, axis, &buffer.layout, &buffer.info.dims);
    let contiguous = |axis| matches!(step(axis), Some(0 | 1));
    match (schedule.vector, read.part) {
        (Some(Vector::Outer { axis, .. }), Part::Fold(_)) => {
            let alone = || occurring(read) == [axis];
            !contiguous(axis) || (step(axis) == Some(1) && !alone())
        }
        (Some(Vector::Outer { axis, .. }), Part::Store(_)) => !contiguous(axis),
        (Some(Vector::Inner), Part::Fold(i)) => schedule.fold_orders[i].last().is_some_and(|&axis| !contiguous(axis)),
        (Some(Vector::Inner), Part::Store(i)) => {
            let n_inner = kernel.stores[i].inner.len();
            n_inner > 0 && !contiguous(Axis((kernel.outer.len() + n_inner) as u32 - 1))
        }
        (None, _) => false,
    }
}

/// The loop axes of more than one step along which a load moves, ascending.
fn occurring(read: &Read) -> Vec<Axis> {
    let long = (0..read.extents.len()).filter(|&axis| read.extents[axis] > 1).map(|axis| Axis(axis as u32));
    long.filter(|&axis| any_depends(read.at, axis)).collect()
}

/// The axes of the packed buffer, and its layout: what one vector meets in a fold lies together,
/// `[outer axes..][vector axis / lanes][fold axes..][lanes]`.
fn packed_layout(kernel: &Kernel, schedule: &Schedule, read: &Read) -> (Vec<Axis>, Layout) {
    let n_outer = kernel.outer.len() as u32;
    let axes = occurring(read);
    let vector = match schedule.vector {
        Some(Vector::Outer { axis, lanes }) if axes.contains(&axis) => Some((axis, lanes)),
        _ => None,
    };
    let inner: Vec<Axis> = match read.part {
        Part::Fold(i) => schedule.fold_orders[i].iter().copied().filter(|axis| axes.contains(axis)).collect(),
        Part::Store(_) => axes.iter().copied().filter(|axis| axis.0 >= n_outer).collect(),
    };
    let outer = axes.iter().filter(|axis| axis.0 < n_outer && vector.is_none_or(|(vector, _)| vector != **axis));
    let order = outer.copied().chain(vector.map(|(axis, _)| axis)).chain(inner);
    let place = |axis: Axis| axes.iter().position(|other| *other == axis).expect("one of the axes") as u8;
    let block = match (vector, read.part) {
        (Some((axis, lanes)), Part::Fold(_)) => Some(Block { axis: place(axis), lanes }),
        _ => None,
    };
    let layout = Layout { order: order.map(place).collect(), block, ..Layout::row_major(axes.len()) };
    (axes, layout)
}

/// The index over the axes of the packed buffer; axes of one step are at 0.
fn renumbered(index: &Index, axes: &[Axis]) -> Index {
    let form = |axis: Axis| match axes.iter().position(|other| *other == axis) {
        Some(place) => Affine::from(Axis(place as u32)),
        None => Affine::constant(0),
    };
    index.map(|affine| affine.substitute(form), |id| id)
}

fn pack(draft: &mut Draft, packing: &Packing) -> (BufferId, DraftKernel) {
    let source = draft.operand(packing.source);
    let name = format!("{}.packed", draft.buffer(packing.source).info.name);
    let info = BufferInfo { name: name.clone(), dtype: source.dtype, dims: packing.dims.clone(), role: Role::Computed };
    let buffer = DraftBuffer { layout: packing.layout.clone(), once: true, ..DraftBuffer::computed(info) };
    let buffer = draft.add(buffer);
    let mut k = KernelBuilder::new(&packing.dims);
    let axes = k.outer_axes();
    let value = k.load(&source, packing.at.clone());
    k.store(&draft.operand(buffer), axes, value);
    let kernel = DraftKernel { once: true, ..DraftKernel::new(k.finish(), vec![name], PACK) };
    (buffer, kernel)
}

/// What packing kernels are called.
const PACK: &str = "pack";

/// Where one packing kernel is all that reads what another kernel computes once, the two become one.
fn join_producers(draft: &mut Draft) {
    let uses = draft.uses();
    let mut gone = vec![false; draft.kernels.len()];
    for k in 0..draft.kernels.len() {
        if draft.kernels[k].named.about != PACK {
            continue;
        }
        let [source] = draft.kernels[k].kernel().reads()[..] else { continue };
        let (&[producer], &[_]) = (&uses.writers[source.0 as usize][..], &uses.readers[source.0 as usize][..]) else {
            continue;
        };
        let joined = merge::into_loads(draft.kernels[producer].kernel(), draft.kernels[k].kernel(), source);
        if let Ok(joined) = joined {
            let first = &draft.kernels[producer].named;
            let (nodes, about) = (first.nodes.clone(), format!("{} {PACK}", first.about));
            let named = &mut draft.kernels[k].named;
            (named.kernel, named.nodes, named.about) = (joined, nodes, about);
            gone[producer] = true;
        }
    }
    let mut gone = gone.into_iter();
    draft.kernels.retain(|_| !gone.next().unwrap_or(false));
}
