//! What kernels read and write, index by index: the facts that layouts, halos and schedules are chosen and checked by.

use super::{Layout, Schedule, Vector};
use crate::kernel::{Affine, Axis, BufferId, Combine, Index, Kernel, Literal, Scalar, ScalarId, Space};
use crate::tensor::DType;
use smallvec::SmallVec;

/// A part of a kernel with a space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `kernel.folds[i]`.
    Fold(usize),
    /// `kernel.stores[i]`.
    Store(usize),
}

/// A load, as one part of a kernel does it.
#[derive(Clone, Debug)]
pub struct Read<'k> {
    /// The scalar.
    pub id: ScalarId,
    /// What is read.
    pub buffer: BufferId,
    /// Where.
    pub at: &'k [Index],
    /// What it gives beyond the edges.
    pub outside: Option<Literal>,
    /// The part that needs it.
    pub part: Part,
    /// The extents of all axes of that part.
    pub extents: Space,
}

impl Read<'_> {
    /// The number of points at which the element is read.
    pub fn points(&self) -> u64 {
        self.extents.iter().map(|&n| n as u64).product()
    }
}

/// The parts of a kernel: which, its inner space, and the scalars it needs.
pub fn parts(kernel: &Kernel) -> impl Iterator<Item = (Part, &Space, Vec<ScalarId>)> {
    let folds = kernel.folds.iter().enumerate().map(|(i, fold)| (Part::Fold(i), &fold.inner, vec![fold.value]));
    let stores = kernel.stores.iter().enumerate().map(|(i, store)| {
        let computed = store.at.iter().filter_map(|index| match index {
            Index::Computed(value) => Some(*value),
            _ => None,
        });
        (Part::Store(i), &store.inner, computed.chain([store.value]).collect())
    });
    folds.chain(stores)
}

/// All loads, each once for every part that needs it. Stores without inner axes are one part, named by the last of them
/// that needs the load: a transform has dozens.
pub fn reads(kernel: &Kernel) -> Vec<Read<'_>> {
    let mut reads = Vec::new();
    let mut needed_by = vec![None; kernel.body.len()];
    for (part, inner, roots) in parts(kernel) {
        if let (Part::Store(_), true) = (part, inner.is_empty()) {
            roots.iter().for_each(|root| needed_by[root.0 as usize] = Some(part));
            continue;
        }
        for id in kernel.body.reachable(roots) {
            reads.extend(read_of(kernel, id, part, inner));
        }
    }
    // Operands come before what needs them.
    for id in (0..kernel.body.len() as u32).rev().map(ScalarId) {
        let Some(part) = needed_by[id.0 as usize] else { continue };
        kernel.body.get(id).for_each_operand(|operand| {
            let known = &mut needed_by[operand.0 as usize];
            *known = Some(known.map_or(part, |other| later(other, part)));
        });
    }
    for (id, part) in needed_by.into_iter().enumerate() {
        let Some(part) = part else { continue };
        reads.extend(read_of(kernel, ScalarId(id as u32), part, &Space::new()));
    }
    reads
}

fn later(a: Part, b: Part) -> Part {
    match (a, b) {
        (Part::Store(i), Part::Store(j)) => Part::Store(i.max(j)),
        (other, _) => other,
    }
}

fn read_of<'k>(kernel: &'k Kernel, id: ScalarId, part: Part, inner: &Space) -> Option<Read<'k>> {
    let Scalar::Load { buffer, at, outside } = kernel.body.get(id) else { return None };
    Some(Read { id, buffer: *buffer, at, outside: *outside, part, extents: kernel.space(inner) })
}

/// What a nest gathers in scratch, where its schedule says so: the elements of one load for one tile, a row of lanes for each
/// step of the fold.
pub struct Gathered<'k> {
    /// The load.
    pub read: Read<'k>,
    /// The innermost loop of more than one step: its first tile gathers, the others read what it has gathered.
    pub again: Axis,
    /// The axes of the fold along which the load moves, with the distance of their rows in elements.
    pub rows: Vec<(Axis, usize)>,
    /// The elements that all rows take.
    pub elements: usize,
}

impl Gathered<'_> {
    /// The bytes of scratch that all rows take.
    pub fn bytes(&self) -> u64 {
        4 * self.elements as u64
    }
}

/// What a kernel can gather when it is run so: a load of its only fold that is alone to move along the vectors, at plain places
/// that are the same for all tiles along the innermost loop. Threads do not share that loop.
pub fn gathered<'k>(kernel: &'k Kernel, schedule: &Schedule) -> Option<Gathered<'k>> {
    let (Some(Vector::Outer { axis, lanes }), [fold]) = (schedule.vector, &kernel.folds[..]) else { return None };
    let extent = |axis: Axis| kernel.outer[axis.0 as usize];
    let again = *schedule.order.iter().rfind(|&&axis| extent(axis) > 1)?;
    if again == axis || schedule.order.first() == Some(&again) {
        return None;
    }
    let all = reads(kernel);
    let read = alone_along(&all, axis)?;
    let is_tiled = |axis: Axis| {
        let rests = schedule.rests.iter().map(|rest| &rest.tile).chain([&schedule.tile]);
        rests.flatten().any(|&(own, points)| own == axis && points > 1)
    };
    let is_alike = |other: Axis| other == axis || !any_depends(read.at, other) || !(other == again || is_tiled(other));
    let fits = kernel.body.dtype(read.id) == DType::F32
        && read.at.iter().all(|index| plain(index).is_some())
        && all.iter().filter(|other| other.id == read.id).count() == 1
        && (0..kernel.outer.len() as u32).map(Axis).all(is_alike);
    if !fits {
        return None;
    }
    let n_outer = kernel.outer.len();
    let (mut rows, mut elements) = (Vec::new(), lanes as usize);
    for (i, &length) in fold.inner.iter().enumerate().rev() {
        let axis = Axis((n_outer + i) as u32);
        if any_depends(read.at, axis) {
            rows.push((axis, elements));
            elements *= length;
        }
    }
    Some(Gathered { read: read.clone(), again, rows, elements })
}

/// A load that the tiles of a block of lanes share.
#[derive(Clone, Debug)]
pub struct Shared<'k> {
    /// The load.
    pub read: Read<'k>,
    /// The loops over those tiles, the outermost first: it moves along none of them.
    pub loops: SmallVec<[Axis; 6]>,
    /// Its elements of each lane.
    pub elements: usize,
}

/// What all tiles of the same lanes read of a kernel's only fold when it is run so, if one load is alone in that.
pub fn shared<'k>(kernel: &'k Kernel, schedule: &Schedule) -> Option<Shared<'k>> {
    let (Some(Vector::Outer { axis, .. }), [fold]) = (schedule.vector, &kernel.folds[..]) else { return None };
    let place = schedule.order.iter().position(|own| *own == axis)?;
    let loops = schedule.order[place + 1..].iter().copied();
    let loops: SmallVec<[Axis; 6]> = loops.filter(|axis| kernel.outer[axis.0 as usize] > 1).collect();
    let all = reads(kernel);
    let read = alone_along(&all, axis)?;
    let is_same = !loops.is_empty() && !loops.iter().any(|&axis| any_depends(read.at, axis));
    is_same.then(|| Shared { read: read.clone(), loops, elements: fold.inner.iter().product() })
}

/// The load of the first fold that moves along an axis, if it is alone in that.
fn alone_along<'r, 'k>(reads: &'r [Read<'k>], axis: Axis) -> Option<&'r Read<'k>> {
    let mut moving = reads.iter().filter(|read| read.part == Part::Fold(0) && any_depends(read.at, axis));
    moving.next().filter(|_| moving.next().is_none())
}

/// Whether the index moves with `axis`. A computed index may move with any.
pub fn depends(index: &Index, axis: Axis) -> bool {
    match index {
        Index::Affine(at) | Index::Table { at, .. } => at.coefficient(axis) != 0,
        Index::Computed(_) => true,
    }
}

/// Whether any index moves with `axis`.
pub fn any_depends(at: &[Index], axis: Axis) -> bool {
    at.iter().any(|index| depends(index, axis))
}

/// By how many elements a step along `axis` moves; `None` where steps differ. Along the blocked axis of a layout it is
/// the step within a block.
pub fn stride(at: &[Index], axis: Axis, layout: &Layout, dims: &[usize]) -> Option<i64> {
    let strides = layout.strides(dims);
    let mut sum = 0;
    for (dim, index) in at.iter().enumerate().filter(|(_, index)| depends(index, axis)) {
        let affine = plain(index)?;
        let step = match layout.block {
            Some(block) if block.axis as usize == dim => affine.as_axis().map(|_| 1)?,
            _ => strides[dim] as i64,
        };
        sum += affine.coefficient(axis) * step;
    }
    Some(sum)
}

/// The stores of a kernel by pairs that write every other element of one row each: along `axis` both move by two elements,
/// and the second of a pair is one element further. `None` where some store has no partner.
pub fn alternating<'l>(
    kernel: &Kernel,
    axis: Axis,
    layout: impl Fn(BufferId) -> (&'l Layout, &'l [usize]),
) -> Option<Vec<(usize, usize)>> {
    let is_next = |first: usize, second: usize| {
        let (a, b) = (&kernel.stores[first], &kernel.stores[second]);
        let (layout, dims) = layout(a.buffer);
        let strides = layout.strides(dims);
        let mut differing = (0..a.at.len().min(b.at.len())).filter(|&dim| a.at[dim] != b.at[dim]);
        let (Some(dim), None) = (differing.next(), differing.next()) else { return false };
        let is_one_further = match (plain(&a.at[dim]), plain(&b.at[dim])) {
            (Some(a), Some(b)) => a.terms == b.terms && b.offset == a.offset + 1,
            _ => false,
        };
        a.buffer == b.buffer
            && a.inner == b.inner
            && is_one_further
            && strides[dim] == 1
            && layout.block.is_none()
            && stride(&a.at, axis, layout, dims) == Some(2)
    };
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for first in 0..kernel.stores.len() {
        pairs.extend((0..kernel.stores.len()).find(|&second| is_next(first, second)).map(|second| (first, second)));
    }
    let mut all: Vec<usize> = pairs.iter().flat_map(|&(first, second)| [first, second]).collect();
    all.sort_unstable();
    (!pairs.is_empty() && all.into_iter().eq(0..kernel.stores.len())).then_some(pairs)
}

/// The affine form of an index without a divisor.
pub fn plain(index: &Index) -> Option<&Affine> {
    index.as_affine().filter(|affine| affine.divisor == 1)
}

/// Whether a plain affine index is always within an axis of `length`, or before or behind it by no more than `beyond`.
pub fn is_within(index: &Index, extents: &[usize], length: usize, beyond: (usize, usize)) -> bool {
    plain(index).is_some_and(|form| {
        let (low, high) = form.dividend_range(extents);
        -low <= beyond.0 as i64 && high < (length + beyond.1) as i64
    })
}

/// Whether every index is plain and needs no check: within the buffer, or, with `halo`, within that.
pub fn is_proven(at: &[Index], extents: &[usize], layout: &Layout, dims: &[usize], halo: bool) -> bool {
    let beyond = |dim| if halo { layout.halo_of(dim) } else { (0, 0) };
    at.iter().enumerate().all(|(dim, index)| is_within(index, extents, dims[dim], beyond(dim)))
}

/// The same kernel with each scalar replaced by what `change` makes of it, its operands renamed already. Scalars that
/// nothing needs are left out.
pub fn with_scalars(kernel: &Kernel, change: impl Fn(ScalarId, Scalar) -> Scalar) -> Kernel {
    let mut result = kernel.without_scalars();
    let mut renamed = vec![ScalarId(u32::MAX); kernel.body.len()];
    for id in kernel.live() {
        let scalar = kernel.body.get(id).map(|id| renamed[id.0 as usize], Affine::clone);
        renamed[id.0 as usize] = result.body.intern(change(id, scalar), kernel.body.dtype(id));
    }
    for fold in &mut result.folds {
        fold.value = renamed[fold.value.0 as usize];
    }
    for store in &mut result.stores {
        store.value = renamed[store.value.0 as usize];
        store.at = store.at.iter().map(|index| index.map(Affine::clone, |id| renamed[id.0 as usize])).collect();
    }
    result
}

/// The same kernel with every affine form as `change` makes it, its outer axes as they are.
pub fn with_forms(kernel: &Kernel, change: impl Fn(&Affine) -> Affine) -> Kernel {
    let mut result = kernel.without_scalars();
    // Forms that differ stay different, and so do scalars.
    for (id, scalar) in kernel.body.iter() {
        result.body.intern(scalar.map(|id| id, &change), kernel.body.dtype(id));
    }
    for store in &mut result.stores {
        store.at = store.at.iter().map(|index| index.map(&change, |id| id)).collect();
    }
    result
}

/// The same kernel with every buffer that it reads and writes in the place of another, as `renamed` says.
pub fn with_buffers(kernel: &Kernel, renamed: impl Fn(BufferId) -> BufferId) -> Kernel {
    let mut result = with_scalars(kernel, |_, scalar| match scalar {
        Scalar::Load { buffer, at, outside } => Scalar::Load { buffer: renamed(buffer), at, outside },
        other => other,
    });
    for store in &mut result.stores {
        store.buffer = renamed(store.buffer);
    }
    result
}

/// Whether `kernel` reads every element of `from` before it writes the element of `to` at the same index, and nowhere
/// else.
pub fn is_in_place(kernel: &Kernel, from: BufferId, to: BufferId) -> bool {
    let mut stores = kernel.stores.iter().enumerate().filter(|(_, store)| store.buffer == to);
    let (Some((s, store)), None) = (stores.next(), stores.next()) else { return false };
    if store.combine != Combine::Set {
        return false;
    }
    let extents = kernel.space(&store.inner);
    let n_outer = kernel.outer.len();
    let is_outer =
        |index: &Index| plain(index).is_some_and(|f| f.terms.iter().all(|(axis, _)| (axis.0 as usize) < n_outer));
    // Points of different outer positions never meet: they differ along a dimension that both index alike.
    let outer_dims: Vec<usize> = (0..store.at.len()).filter(|&dim| is_outer(&store.at[dim])).collect();
    reads(kernel).iter().filter(|read| read.buffer == from).all(|read| {
        let alike = outer_dims.iter().copied().filter(|&dim| read.at[dim] == store.at[dim]);
        let apart = tells_apart(alike.map(|dim| &store.at[dim]), &extents, n_outer);
        let in_time = match read.part {
            Part::Fold(_) => true,
            Part::Store(i) if i < s => true,
            Part::Store(i) => {
                i == s && read.at == store.at.as_slice() && tells_apart(store.at.iter(), &extents, extents.len())
            }
        };
        apart && in_time
    })
}

/// Whether these indices differ for any two points that differ along one of the first `n` axes.
fn tells_apart<'i>(at: impl Iterator<Item = &'i Index>, extents: &[usize], n: usize) -> bool {
    told_apart(at, extents)[..n].iter().all(|&told| told)
}

/// For each axis, whether these indices differ for any two points that differ along it: some index is a mixed-radix
/// number of which the position is a digit.
pub fn told_apart<'i>(at: impl Iterator<Item = &'i Index>, extents: &[usize]) -> Vec<bool> {
    let mut told: Vec<bool> = extents.iter().map(|&extent| extent <= 1).collect();
    for form in at.filter_map(plain) {
        let mut terms: Vec<(Axis, u64)> = form.terms.iter().map(|&(axis, k)| (axis, k.unsigned_abs())).collect();
        terms.retain(|(axis, _)| extents[axis.0 as usize] > 1);
        terms.sort_by_key(|(_, k)| *k);
        let mut reach = 0;
        let distinct = terms.iter().all(|(axis, k)| {
            let beyond = *k > reach;
            reach += k * (extents[axis.0 as usize] as u64 - 1);
            beyond
        });
        if distinct {
            terms.iter().for_each(|(axis, _)| told[axis.0 as usize] = true);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::build::Operand;
    use crate::kernel::{FoldKind, KernelBuilder};
    use crate::tensor::DType;

    #[test]
    fn strides_follow_the_layout() {
        let channels_last = Layout { order: [0, 2, 3, 1].into_iter().collect(), ..Layout::row_major(4) };
        let dims = [2, 5, 7, 8];
        let at: Vec<Index> =
            vec![Axis(0).into(), Axis(1).into(), (Axis(2) * 2 + Axis(4)).into(), (Axis(3) * -1 + 7).into()];
        let steps: Vec<_> = (0..6).map(|i| stride(&at, Axis(i), &channels_last, &dims)).collect();
        assert_eq!(steps, [Some(280), Some(1), Some(80), Some(-5), Some(40), Some(0)]);
        let halves: Vec<Index> = vec![Affine::from(Axis(0)).exact_div(2).into()];
        assert_eq!(stride(&halves, Axis(0), &Layout::row_major(1), &[4]), None);
    }

    #[test]
    fn halos_prove_what_lies_beyond_the_edges() {
        let at: Vec<Index> = vec![(Axis(0) + Axis(1) + -1).into()];
        let mut layout = Layout::row_major(1);
        assert!(!is_proven(&at, &[8, 3], &layout, &[8], true));
        layout.halo = [(1, 1)].into_iter().collect();
        assert!(is_proven(&at, &[8, 3], &layout, &[8], true));
        assert!(!is_proven(&at, &[8, 3], &layout, &[8], false));
        assert!(!is_proven(&at, &[8, 4], &layout, &[8], true));
    }

    #[test]
    fn points_that_differ_are_told_apart() {
        for (terms, told) in [
            (&[(0, 1)][..], [true, false]),
            (&[(0, 8), (1, 1)], [true, true]),
            (&[(0, 1), (1, -4)], [true, true]),
            (&[(0, 7), (1, 1)], [false, false]),
            (&[(0, 1), (1, 1)], [false, false]),
        ] {
            let index = Index::Affine(Affine::new(terms.iter().map(|&(axis, k)| (Axis(axis), k)), 3));
            assert_eq!(told_apart([&index].into_iter(), &[4, 8]), told, "{terms:?}");
        }
    }

    #[test]
    fn a_load_counts_once_for_each_part_that_needs_it() {
        let x = Operand { buffer: BufferId(0), dtype: DType::F32, dims: vec![3] };
        let y = Operand { buffer: BufferId(1), dtype: DType::F32, dims: vec![3] };
        let mut k = KernelBuilder::new(&[3]);
        let i = k.outer(0);
        let value = k.load(&x, [i]);
        let sum = k.fold(FoldKind::Sum, &[2], value);
        let both = k.add(sum, value);
        k.store(&y, [i], both);
        let kernel = k.finish();
        let found: Vec<_> = reads(&kernel).iter().map(|read| (read.part, read.points())).collect();
        assert_eq!(found, [(Part::Fold(0), 6), (Part::Store(0), 3)]);
    }
}
