//! Loads beyond the edges of their buffers. The tiles at both ends of an axis are run apart from those between, so that
//! for each of them it is known which elements there are: a load that is always inside needs no check, one that is
//! always outside is a constant, and of one that crosses an edge along a vector a part of the lanes is loaded.

use super::{Layout, Schedule, Vector, access};
use crate::kernel::{Affine, Axis, BufferId, Index, Kernel, Literal, Space};

/// The indices of a kernel that may be beyond the edges of their buffers.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    crossings: Vec<Crossing>,
    unrolled: u64,
}

/// Tiles at the ends of an axis that are run apart, the remainder behind the last whole tile not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// At the start.
    pub first: usize,
    /// At the end.
    pub last: usize,
}

/// An index that may be beyond the edges along one axis of its buffer.
#[derive(Clone, Debug)]
struct Crossing {
    /// The outer axis that it moves with, and how far in a step.
    axis: Axis,
    coefficient: i64,
    /// The least and greatest of the rest of the index.
    rest: (i64, i64),
    bounds: (i64, i64),
}

/// More tiles than this are not run apart at one end of an axis, nor more combinations of them in all.
const MOST_ENDS: usize = 4;
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
                let (low, high) = form.dividend_range(&read.extents);
                let reach = coefficient * (read.extents[axis.0 as usize] as i64 - 1);
                let rest = (low - reach.min(0), high - reach.max(0));
                edges.crossings.push(Crossing { axis, coefficient, rest, bounds });
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
            let ends = self.ends(axis, extent, schedule.tile_size(axis));
            if ends.first > MOST_ENDS || ends.last > MOST_ENDS {
                return false;
            }
            variants *= ends.first + ends.last + 1;
        }
        variants <= MOST_VARIANTS
    }

    /// The tiles of `step` points at the ends of an outer axis at which some load is not wholly inside.
    pub fn ends(&self, axis: Axis, extent: usize, step: usize) -> Ends {
        let inside = |tile: usize| {
            let (start, last) = ((tile * step) as i64, (((tile + 1) * step).min(extent)) as i64 - 1);
            self.crossings.iter().filter(|crossing| crossing.axis == axis).all(|crossing| {
                let (a, b) = (crossing.coefficient * start, crossing.coefficient * last);
                a.min(b) + crossing.rest.0 >= crossing.bounds.0 && a.max(b) + crossing.rest.1 < crossing.bounds.1
            })
        };
        let (whole, all) = (extent / step, extent.div_ceil(step));
        let first = (0..whole).take_while(|&tile| !inside(tile)).count();
        let rest = (first..all).rev().take_while(|&tile| !inside(tile)).count();
        Ends { first, last: rest.saturating_sub(all - whole) }
    }
}

/// The form of an index that is not always within its bounds.
fn crossing_form<'i>(index: &'i Index, extents: &Space, bounds: (i64, i64)) -> Option<&'i Affine> {
    let form = access::plain(index)?;
    let (low, high) = form.dividend_range(extents);
    (low < bounds.0 || high >= bounds.1).then_some(form)
}
