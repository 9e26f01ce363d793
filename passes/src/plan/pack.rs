//! Constants in the order in which kernels read them.
//!
//! A load of a constant becomes a load of a packed copy whose axes are the loop axes that occur in it, so that flips,
//! groups, dilation and flattened images are gone from its indices. The copy is made when parameters are given. One
//! matrix of a product of two that are computed in each call is packed too, by a step, where its elements are used often
//! enough.

use super::draft::{Draft, DraftBuffer, DraftKernel, Uses};
use super::layout::contractions;
use crate::merge;
use fusewright_ir::kernel::{Affine, Axis, BufferId, BufferInfo, Index, Kernel, KernelBuilder, Role, Scalar, ScalarId};
use fusewright_ir::plan::access::{Part, Read, any_depends, is_proven, plain, reads, stride, with_scalars};
use fusewright_ir::plan::{Block, Layout, Schedule, Vector};
use rustc_hash::FxHashMap;

/// The loads of a kernel that may be packed: constants at plain affine places that are proven to be inside. A load that
/// several parts need runs over outer axes only.
pub fn packable(draft: &Draft, kernel: &Kernel) -> Vec<ScalarId> {
    let n_outer = kernel.outer.len() as u32;
    let reads = reads(kernel);
    let fits = |read: &Read| {
        let buffer = draft.buffer(read.buffer);
        let of_inner = |index| plain(index).is_some_and(|form| form.terms.iter().any(|(axis, _)| axis.0 >= n_outer));
        let inner = || read.at.iter().any(of_inner);
        let shared = || reads.iter().filter(|other| other.id == read.id).count() > 1;
        buffer.is_constant()
            && is_proven(read.at, &read.extents, &buffer.layout, &buffer.info.dims, false)
            && !(inner() && shared())
    };
    let mut ids: Vec<ScalarId> = reads.iter().filter(|read| fits(read)).map(|read| read.id).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// A matrix is packed in each call where every element is used so often.
const WORTH_MOVING: usize = 16;

/// The loads of matrices that are computed, or given, in each call and used often enough to be packed for one kernel.
pub fn movable(draft: &Draft, kernel: &Kernel) -> Vec<ScalarId> {
    let mut ids = Vec::new();
    for contraction in contractions(draft, kernel) {
        for read in contraction.weight.iter().filter(|read| !draft.buffer(read.buffer).is_constant()) {
            let buffer = draft.buffer(read.buffer);
            let is_fixed = |axis: &usize| !any_depends(read.at, Axis(*axis as u32));
            let uses: usize = (0..kernel.outer.len()).filter(is_fixed).map(|axis| kernel.outer[axis]).product();
            let proven = is_proven(read.at, &read.extents, &buffer.layout, &buffer.info.dims, false);
            let alone = reads(kernel).iter().filter(|other| other.id == read.id).count() == 1;
            if uses >= WORTH_MOVING && proven && alone {
                ids.push(read.id);
            }
        }
    }
    ids
}

/// What two equal packings have in common.
#[derive(PartialEq, Eq, Hash)]
struct Packing {
    source: BufferId,
    at: Vec<Index>,
    dims: Vec<usize>,
    layout: Layout,
}

/// Packs what scheduled kernels read in another order than their vectors like. Constants are packed once; what is
/// computed in each call is packed right before its first use.
pub fn all(draft: &mut Draft) {
    let mut known: FxHashMap<Packing, BufferId> = FxHashMap::default();
    let mut setup = Vec::new();
    let mut added = Vec::new();
    let uses = draft.uses();
    for k in 0..draft.kernels.len() {
        if draft.kernels[k].once || draft.kernels[k].schedule.vector.is_none() {
            continue;
        }
        let kernel = draft.kernels[k].kernel().clone();
        let schedule = draft.kernels[k].schedule.clone();
        let mut replaced: FxHashMap<ScalarId, Scalar> = FxHashMap::default();
        let mut loose = packable(draft, &kernel);
        loose.extend(movable(draft, &kernel));
        for read in reads(&kernel).iter().filter(|read| loose.contains(&read.id)) {
            if replaced.contains_key(&read.id) || !wants_packing(draft, &kernel, read, &schedule) {
                continue;
            }
            let (axes, layout) = packed_layout(&kernel, &schedule, read);
            if lay_out(draft, &uses, read, &axes, &layout) {
                continue;
            }
            let dims: Vec<usize> = axes.iter().map(|axis| read.extents[axis.0 as usize]).collect();
            let at = read.at.iter().map(|index| renumbered(index, &axes)).collect();
            let packing = Packing { source: read.buffer, at, dims, layout };
            let buffer = match known.get(&packing) {
                Some(&buffer) => buffer,
                None => {
                    let (buffer, kernel) = pack(draft, &packing);
                    if kernel.once {
                        setup.push(kernel)
                    } else {
                        added.push((k, kernel))
                    }
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
    draft.insert(added);
    draft.kernels.extend(setup);
    join_producers(draft);
}

/// Gives a buffer that setup computes for one load alone, element by element along the axes of the reader, the layout
/// that a packed copy would have. Whether that was possible.
fn lay_out(draft: &mut Draft, uses: &Uses, read: &Read, axes: &[Axis], layout: &Layout) -> bool {
    let id = read.buffer.0 as usize;
    let (&[writer], &[reader]) = (&uses.writers[id][..], &uses.readers[id][..]) else { return false };
    let buffer = draft.buffer(read.buffer);
    let loads = reads(draft.kernels[reader].kernel()).iter().filter(|other| other.buffer == read.buffer).count();
    if !buffer.once || !buffer.layout.is_row_major() || loads != 1 {
        return false;
    }
    // The dimension of each axis; dimensions of one element are outermost.
    let whole = |dim: &usize, axis: &Axis| {
        read.at[*dim].as_axis() == Some(*axis) && buffer.info.dims[*dim] == read.extents[axis.0 as usize]
    };
    let dims: Vec<Option<usize>> = axes.iter().map(|axis| (0..read.at.len()).find(|dim| whole(dim, axis))).collect();
    let Some(dims) = dims.into_iter().collect::<Option<Vec<usize>>>() else { return false };
    let single: Vec<usize> = (0..read.at.len()).filter(|dim| !dims.contains(dim)).collect();
    if single.iter().any(|&dim| buffer.info.dims[dim] != 1) {
        return false;
    }
    let order = single.iter().copied().chain(layout.order.iter().map(|&place| dims[place as usize]));
    let own = Layout {
        order: order.map(|dim| dim as u8).collect(),
        block: layout.block.map(|block| Block { axis: dims[block.axis as usize] as u8, ..block }),
        ..Layout::row_major(read.at.len())
    };
    let kernel = draft.kernels[writer].kernel();
    if let (Some(block), [store, ..]) = (own.block, kernel.stores.as_slice())
        && let Some(axis) =
            store.at[block.axis as usize].as_axis().filter(|axis| (axis.0 as usize) < kernel.outer.len())
        && kernel.stores.iter().all(|other| other.at[block.axis as usize] == store.at[block.axis as usize])
    {
        let mut schedule = Schedule::plain(kernel);
        schedule.order.retain(|other| *other != axis);
        schedule.order.insert(0, axis);
        schedule.vector = Some(Vector::Outer { axis, lanes: block.lanes });
        draft.kernels[writer].schedule = schedule;
    }
    draft.buffer_mut(read.buffer).layout = own;
    true
}

/// Whether a kernel reads a constant in another order than its vectors need, or block by block in a fold.
fn wants_packing(draft: &Draft, kernel: &Kernel, read: &Read, schedule: &Schedule) -> bool {
    let buffer = draft.buffer(read.buffer);
    let step = |axis| stride(read.at, axis, &buffer.layout, &buffer.info.dims);
    let contiguous = |axis| matches!(step(axis), Some(0 | 1));
    match (schedule.vector, read.part) {
        // What is contiguous already need not be moved in each call.
        (Some(Vector::Outer { axis, .. }), _) if !buffer.is_constant() => !contiguous(axis),
        (Some(Vector::Outer { axis, .. }), Part::Fold(_)) => {
            let alone = || occurring(read) == [axis];
            !contiguous(axis) || (step(axis) == Some(1) && !alone())
        }
        (Some(Vector::Inner), _) if !buffer.is_constant() => false,
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
    let once = draft.buffer(packing.source).is_constant();
    let buffer = DraftBuffer { layout: packing.layout.clone(), once, ..DraftBuffer::computed(info) };
    let buffer = draft.add(buffer);
    let mut k = KernelBuilder::new(&packing.dims);
    let axes = k.outer_axes();
    let value = k.load(&source, packing.at.clone());
    k.store(&draft.operand(buffer), axes, value);
    let mut kernel = DraftKernel { once, ..DraftKernel::new(k.finish(), vec![name], PACK) };
    kernel.schedule.order = packing.layout.order.iter().map(|&axis| Axis(u32::from(axis))).collect();
    let is_large = packing.dims.iter().product::<usize>() >= LARGE;
    if let Some(block) = packing.layout.block.filter(|_| is_large || !once) {
        kernel.schedule.vector = Some(Vector::Outer { axis: Axis(u32::from(block.axis)), lanes: block.lanes });
    }
    (buffer, kernel)
}

/// So many elements that are packed once are worth vectors, whose code takes longer to make.
const LARGE: usize = 1 << 14;

/// What packing kernels are called.
const PACK: &str = "pack";

/// Where a kernel that runs once, such as a packing or a transform of weights, is all that reads what another computes once,
/// and reads nothing else, the two become one: what lies between them is never in memory.
fn join_producers(draft: &mut Draft) {
    let uses = draft.uses();
    let mut gone = vec![false; draft.kernels.len()];
    for k in 0..draft.kernels.len() {
        let consumer = &draft.kernels[k];
        let (true, &[source]) = (consumer.once, &consumer.kernel().reads()[..]) else { continue };
        let (&[producer], &[_]) = (&uses.writers[source.0 as usize][..], &uses.readers[source.0 as usize][..]) else {
            continue;
        };
        let first = &draft.kernels[producer];
        // Whether an element is there would be asked at each of many loads.
        let is_asked = reads(first.kernel()).iter().any(|read| read.outside.is_some());
        if is_asked && reads(consumer.kernel()).len() > 1 {
            continue;
        }
        if let Ok(joined) = merge::into_loads(first.kernel(), consumer.kernel(), source) {
            let about = format!("{} {}", first.named.about, consumer.named.about);
            let mut all = DraftKernel { once: true, ..DraftKernel::new(joined, first.named.nodes.clone(), &about) };
            // Views may have split axes.
            if all.kernel().folds.is_empty() && all.kernel().outer == consumer.kernel().outer {
                all.schedule = consumer.schedule.clone();
            }
            draft.kernels[k] = all;
            gone[producer] = true;
        }
    }
    let mut gone = gone.into_iter();
    draft.kernels.retain(|_| !gone.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::machine::Machine;
    use crate::plan::samples::{draft, kernel};
    use crate::plan::schedule;
    use fusewright_ir::plan::access::with_buffers;

    fn packed(shape: &str, layers: &str) -> Draft {
        let mut draft = draft(shape, layers);
        schedule::all(&mut draft, &Machine::PORTABLE);
        all(&mut draft);
        draft
    }

    fn weight<'d>(draft: &'d Draft, node: &str) -> &'d DraftBuffer {
        let reads = kernel(draft, node).kernel().reads();
        let buffers = reads.iter().map(|id| draft.buffer(*id));
        buffers.into_iter().find(|buffer| buffer.info.name.ends_with(".packed")).expect("weights are packed")
    }

    #[test]
    fn weights_lie_as_they_are_read() {
        let layers = r#"Conv2d(out: 16, kernel_size: 1), Conv2d(name: "a", out: 12, kernel_size: [3, 2], flip_kernel: true),
            Flatten, Dense(name: "b", out: 10)"#;
        let draft = packed("[1, 3, 9, 9]", layers);
        let a = weight(&draft, "a");
        let lanes = a.layout.block.expect("blocks of output channels").lanes;
        assert_eq!((a.info.dims.as_slice(), a.layout.to_string()), (&[12, 16, 3, 2][..], format!("0/{lanes} 2 3 1")));
        let reads = reads(kernel(&draft, "a").kernel());
        let read = reads.iter().find(|read| draft.buffer(read.buffer).info.name == a.info.name).unwrap();
        assert!(read.at.iter().all(|index| index.as_axis().is_some()), "no flips are left: {:?}", read.at);
        // The dense layer reads the image behind the flatten channel by channel, and so its weights lie.
        let b = weight(&draft, "b");
        assert_eq!((b.info.dims.as_slice(), b.layout.to_string()), (&[10, 12, 7, 8][..], "0/12 2 3 1".to_string()));
    }

    #[test]
    fn what_is_made_of_weights_is_packed_at_once() {
        let layers = r#"Conv2d(name: "a", out: 8, kernel_size: 3, bias: false), Flatten, Dense(out: 2)"#;
        let mut program = crate::plan::samples::program("[1, 3, 9, 9]", layers, true);
        // The weights are doubled by a kernel of their own.
        let source = program.buffer_ids().find(|(_, info)| info.name == "a.weight").map(|(id, _)| id).unwrap();
        let doubled = program.add_buffer(BufferInfo { role: Role::Computed, ..program.buffer(source).clone() });
        for named in &mut program.kernels {
            named.kernel = with_buffers(&named.kernel, |id| if id == source { doubled } else { id });
        }
        let mut draft = Draft::new(program.clone());
        let mut k = KernelBuilder::new(&[8, 3, 3, 3]);
        let axes = k.outer_axes();
        let value = k.load(&draft.operand(source), axes.clone());
        let value = k.add(value, value);
        k.store(&draft.operand(doubled), axes, value);
        let named = DraftKernel::new(k.finish(), vec!["double".to_string()], "Add").named;
        program.kernels.insert(0, named);
        draft = Draft::new(program);
        let common = crate::plan::rows::common_dims(&draft);
        crate::plan::layout::choose(&mut draft, &common, &Machine::PORTABLE);
        schedule::all(&mut draft, &Machine::PORTABLE);
        all(&mut draft);
        let setup: Vec<&str> =
            draft.kernels.iter().filter(|kernel| kernel.once).map(|kernel| kernel.named.about.as_str()).collect();
        // What one load alone needs is computed where it is wanted; the dense layer's weights are packed.
        assert_eq!(setup, ["Add", "pack"]);
        assert!(draft.buffer(doubled).layout.block.is_some());
    }

    #[test]
    fn one_parameter_read_twice_alike_is_packed_once() {
        let layers = r#"Dense(name: "a", out: 16, bias: false), Relu, Dense(name: "b", out: 16, bias: false)"#;
        let mut program = crate::plan::samples::program("[4, 16]", layers, true);
        let find = |name: &str| program.buffer_ids().find(|(_, info)| info.name == name).map(|(id, _)| id).unwrap();
        let (a, b) = (find("a.weight"), find("b.weight"));
        for named in &mut program.kernels {
            named.kernel = with_buffers(&named.kernel, |id| if id == b { a } else { id });
        }
        let mut draft = Draft::new(program);
        schedule::all(&mut draft, &Machine::PORTABLE);
        all(&mut draft);
        assert_eq!(draft.kernels.iter().filter(|kernel| kernel.once).count(), 1);
    }
}
