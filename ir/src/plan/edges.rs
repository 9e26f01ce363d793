//! Loads beyond the edges of their buffers. Tiles that find other elements inside are run apart from each other, so that
//! for each of them it is known which elements there are: a load that is always inside needs no check, one that is
//! always outside is a constant, and of one that crosses an edge along a vector a part of the lanes is loaded.

use super::{Layout, Schedule, Vector, access};
use crate::kernel::{Affine, Axis, BufferId, Index, Kernel, Literal, Space};
use smallvec::SmallVec;
use std::ops::Range;

/// The indices of a kernel that may be beyond the edges of their buffers.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    crossings: Vec<Crossing>,
    unrolled: u64,
}

/// An index that may be beyond the edges along one axis of its buffer.
#[derive(Clone, Debug)]
struct Crossing {
    /// The outer axis that it moves with, and how far in a step.
    axis: Axis,
    coefficient: i64,
    /// What the rest of the index may be.
    rests: SmallVec<[i64; 8]>,
    bounds: (i64, i64),
}

impl Crossing {
    /// Whether all indices are inside from one place along the axis to another.
    fn holds(&self, first: usize, last: usize) -> bool {
        let at = |place| self.rests.iter().all(|&rest| self.is_inside(place, rest));
        at(first) && at(last)
    }

    /// Whether an index is inside at a place along the axis.
    fn is_inside(&self, place: usize, rest: i64) -> bool {
        (self.bounds.0..self.bounds.1).contains(&(self.coefficient * place as i64 + rest))
    }
}

/// Tiles along an axis are told apart into no more kinds than this, nor into more combinations of them in all.
const MOST_KINDS: usize = 9;
const MOST_VARIANTS: usize = 30;

/// Inner loops over which an edge is crossed are written out; of no more steps than this.
const MOST_STEPS: usize = 128;

/// Tiles along the vector of kernels that fold nothing are written out where they cross edges; of no more points than
/// this.
pub const MOST_CROSSING_LANES: usize = 256;

/// The first place along an axis of a buffer that a load finds, and the first one behind all: the halo counts where it
/// holds what the load finds `outside`.
pub fn bounds(layout: &Layout, dims: &[usize], dim: usize, outside: Option<Literal>) -> (i64, i64) {
    let covered = outside.is_some() && layout.halo_value == outside;
    let (before, behind) = if covered { layout.halo_of(dim) } else { (0, 0) };
    (-(before as i64), (dims[dim] + behind) as i64)
}

impl Edges {
    /// The edges that loads of `kernel` cross; `buffer` gives layout and axes. `None` where an index has a form for which
    /// it cannot be told in advance.
    pub fn of<'a>(kernel: &Kernel, buffer: impl Fn(BufferId) -> (&'a Layout, &'a [usize])) -> Option<Edges> {
        let n_outer = kernel.outer.len() as u32;
        let mut edges = Edges::default();
        for read in access::reads(kernel) {
            let (layout, dims) = buffer(read.buffer);
            for (dim, index) in read.at.iter().enumerate() {
                access::plain(index)?;
                let bounds = bounds(layout, dims, dim, read.outside);
                let Some(form) = crossing_form(index, &read.extents, bounds) else { continue };
                read.outside?;
                let long = |axis: Axis| read.extents[axis.0 as usize] > 1;
                let mut outer = form.terms.iter().filter(|(axis, _)| axis.0 < n_outer && long(*axis));
                let (&(axis, coefficient), None) = (outer.next()?, outer.next()) else { return None };
                let inner = form.terms.iter().filter(|(axis, _)| axis.0 >= n_outer).map(|(axis, _)| *axis);
                let steps: usize = inner.clone().map(|axis| read.extents[axis.0 as usize]).product();
                if steps > MOST_STEPS {
                    return None;
                }
                inner.for_each(|axis| edges.unrolled |= 1 << axis.0);
                let mut rests: SmallVec<[i64; 8]> = [form.offset].into_iter().collect();
                for &(other, step) in form.terms.iter().filter(|(other, _)| *other != axis) {
                    let steps = 0..read.extents[other.0 as usize] as i64;
                    rests = rests.iter().flat_map(|&rest| steps.clone().map(move |i| rest + i * step)).collect();
                }
                edges.crossings.push(Crossing { axis, coefficient, rests, bounds });
            }
        }
        Some(edges)
    }

    /// Whether all loads are inside.
    pub fn is_empty(&self) -> bool {
        self.crossings.is_empty()
    }

    /// Whether an edge is crossed along an inner axis: its positions must be known wherever such a load is done.
    pub fn must_unroll(&self, axis: Axis) -> bool {
        self.unrolled >> axis.0 & 1 == 1
    }

    /// Whether the tiles of a schedule can be run apart where it must be.
    pub fn fit(&self, kernel: &Kernel, schedule: &Schedule) -> bool {
        if self.is_empty() {
            return true;
        }
        let Some(Vector::Outer { lanes, .. }) = schedule.vector else { return false };
        if kernel.folds.is_empty() && lanes as usize > MOST_CROSSING_LANES {
            return false;
        }
        let mut variants = 1;
        for (axis, &extent) in kernel.outer.iter().enumerate() {
            let axis = Axis(axis as u32);
            let Some(kinds) = self.kinds(axis, extent, schedule.tile_size(axis)) else { return false };
            variants *= kinds.len().max(1);
        }
        variants <= MOST_VARIANTS
    }

    /// The whole tiles of `step` points along an outer axis, those next to each other together that find the same inside: windows of
    /// wide steps find the same from many places. `None` where they are of too many kinds.
    pub fn kinds(&self, axis: Axis, extent: usize, step: usize) -> Option<SmallVec<[Range<usize>; 8]>> {
        let own = || self.crossings.iter().filter(|crossing| crossing.axis == axis);
        let tiles = extent / step;
        let is_inside = |tile: &usize| own().all(|crossing| crossing.holds(tile * step, (tile + 1) * step - 1));
        // What is inside is an interval.
        let first = (0..tiles).take_while(|tile| !is_inside(tile)).count();
        let last = tiles - (first..tiles).rev().take_while(|tile| !is_inside(tile)).count();
        let alike = |tile: usize, other: usize| {
            own().all(|crossing| {
                let found = |place: usize| crossing.rests.iter().map(move |&rest| crossing.is_inside(place, rest));
                (0..step).all(|point| found(tile * step + point).eq(found(other * step + point)))
            })
        };
        let mut kinds: SmallVec<[Range<usize>; 8]> = SmallVec::new();
        for tile in (0..first).chain((first < last).then_some(first)).chain(last..tiles) {
            let end = if tile == first && first < last { last } else { tile + 1 };
            let known = kinds.len();
            match kinds.last_mut() {
                Some(kind) if alike(kind.start, tile) => kind.end = end,
                _ if known == MOST_KINDS => return None,
                _ => kinds.push(tile..end),
            }
        }
        Some(kinds)
    }
}

/// The form of an index that is not always within its bounds.
fn crossing_form<'i>(index: &'i Index, extents: &Space, bounds: (i64, i64)) -> Option<&'i Affine> {
    let form = access::plain(index)?;
    let (low, high) = form.dividend_range(extents);
    (low < bounds.0 || high >= bounds.1).then_some(form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::build::Operand;
    use crate::kernel::{FoldKind, KernelBuilder};
    use crate::tensor::DType;

    /// The edges of a sum of three taps so far apart, with as much padding, over a signal of 33.
    fn edges(dilation: i64) -> Edges {
        let operand = |id, n| Operand { buffer: BufferId(id), dtype: DType::F32, dims: vec![n] };
        let mut k = KernelBuilder::new(&[33]);
        let (place, tap) = (k.outer(0), k.inner(0));
        let at = Affine::from(place) + tap * dilation + -dilation;
        let value = k.load_or(&operand(0, 33), [at], Literal::f32(0.0));
        let sum = k.fold(FoldKind::Sum, &[3], value);
        k.store(&operand(1, 33), [place], sum);
        let layout = Layout::row_major(1);
        Edges::of(&k.finish(), |_| (&layout, &[33])).expect("taps are written out")
    }

    fn kinds(dilation: i64, step: usize) -> Option<Vec<Range<usize>>> {
        edges(dilation).kinds(Axis(0), 33, step).map(|kinds| kinds.into_vec())
    }

    #[test]
    fn tiles_that_find_the_same_are_one_kind() {
        assert_eq!(kinds(1, 1), Some(vec![0..1, 1..32, 32..33]));
        // The first tap is outside at twelve places, the last at as many.
        assert_eq!(kinds(12, 1), Some(vec![0..12, 12..21, 21..33]));
        // No place has all three.
        assert_eq!(kinds(18, 1), Some(vec![0..15, 15..18, 18..33]));
        assert_eq!(kinds(40, 1).map(|kinds| kinds.len()), Some(1));
        // Of tiles of seven, the second has the first tap at two of its points; the last five points are another tile.
        assert_eq!(kinds(12, 7), Some(vec![0..1, 1..2, 2..3, 3..4]));
        assert_eq!(edges(0).kinds(Axis(0), 33, 40), Some(SmallVec::new()));
    }

    #[test]
    fn tiles_of_too_many_kinds_are_refused() {
        let mut edges = edges(1);
        edges.crossings[0].rests = (-6..=6).collect();
        assert_eq!(edges.kinds(Axis(0), 33, 1), None);
        edges.crossings[0].rests = (-4..=4).collect();
        assert_eq!(edges.kinds(Axis(0), 33, 1).map(|kinds| kinds.len()), Some(MOST_KINDS));
    }
}
