//! Which points of a kernel share a vector.

use super::{Facts, MOST_POINTS};
use crate::plan::machine::Machine;
use fusewright_ir::kernel::{Axis, Combine, FoldKind};
use fusewright_ir::plan::Vector;
use fusewright_ir::plan::access::{Part, Read, alternating, any_depends, is_proven};
use smallvec::SmallVec;

/// How loads may move along a vector.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loads {
    /// To the next element, or not at all.
    Contiguous,
    /// In equal steps.
    Strided,
    /// In equal steps, and stores of a contraction as well.
    Scattered,
}

impl Facts<'_> {
    /// Whether what is loaded and stored is such that vectors can be.
    pub fn may_be_vector(&self) -> bool {
        let read = |read: &Read| self.kernel.body.dtype(read.id).is_lane();
        let folded = self.kernel.folds.iter().all(|fold| !matches!(fold.kind, FoldKind::ArgMax | FoldKind::ArgMin));
        let stored = self.kernel.stores.iter().all(|store| {
            let buffer = self.draft.buffer(store.buffer);
            let extents = self.kernel.space(&store.inner);
            store.combine == Combine::Set
                && buffer.info.dtype.is_lane()
                && is_proven(&store.at, &extents, &buffer.layout, &buffer.info.dims, true)
        });
        self.reads.iter().all(read) && folded && stored
    }

    /// The axis of the vectors: an outer one where that is possible and long enough, else the innermost of folds and
    /// stores, else an outer one along which loads are gathered element by element.
    pub fn vector(
        &self,
        outer: Option<Axis>,
        fold_orders: &[SmallVec<[Axis; 6]>],
        machine: &Machine,
    ) -> Option<Vector> {
        // How much of the last vector is used; sums across the lanes of a vector cost about as much again.
        let width = machine.vector_lanes as usize;
        let use_of = |n: usize| n as f64 / n.next_multiple_of(width) as f64;
        let inner = self.inner_extent(fold_orders);
        match (outer, inner) {
            (Some(outer), Some(inner)) if use_of(self.extent(outer)) < 0.5 * use_of(inner) => Some(Vector::Inner),
            (_, Some(_)) if self.is_streaming(fold_orders, machine) => Some(Vector::Inner),
            (None, Some(inner)) => {
                let strided = self.outer_axis(Loads::Strided);
                // Windows are narrow: every other element of a long row is a better vector.
                let is_fuller =
                    |axis: &Axis| self.strides_are_short(*axis) && use_of(self.extent(*axis)) > 2.0 * use_of(inner);
                let any = || self.strided_axis().filter(|&axis| self.is_better_strided(axis, inner, machine));
                let axis = strided.filter(is_fuller).or_else(any);
                Some(axis.map_or(Vector::Inner, |axis| Vector::Outer { axis, lanes: machine.vector_lanes }))
            }
            (outer, _) => {
                let axis = outer.or_else(|| self.strided_axis())?;
                Some(Vector::Outer { axis, lanes: machine.vector_lanes })
            }
        }
    }

    /// Whether one fold takes less along an outer axis, where the lanes of some loads are apart, than along its last axis of `inner`
    /// points, where each result is what is left of the lanes of a vector.
    fn is_better_strided(&self, axis: Axis, inner: usize, machine: &Machine) -> bool {
        let [fold] = &self.kernel.folds[..] else { return false };
        let width = machine.vector_lanes as usize;
        let steps: usize = fold.inner.iter().product();
        let reduced = width * (steps / inner * inner.div_ceil(width) + REDUCTION);
        let load = |read: &Read| -> f64 {
            let cycles = match self.stride(read, axis) {
                _ if self.is_loose(read) => 1.0,
                Some(0 | 1) => 1.0,
                Some(2) => 3.0,
                _ => 1.25 * width as f64,
            };
            // What all points of a tile share is read once.
            let shares = |other: &Axis| *other != axis && !any_depends(read.at, *other);
            let points = self.own_axes().filter(shares).map(|other| self.extent(other)).max().unwrap_or(1);
            cycles / points.clamp(1, MOST_POINTS as usize) as f64
        };
        let loads: f64 = self.reads.iter().filter(|read| matches!(read.part, Part::Fold(_))).map(load).sum();
        let extent = self.extent(axis);
        let part_in_use = extent as f64 / extent.next_multiple_of(width) as f64;
        steps as f64 * (1.0 + loads) / part_in_use * WORTH_STRIDES < reduced as f64
    }

    /// Whether every load moves by two elements at most along an axis: two vectors hold what one needs.
    fn strides_are_short(&self, axis: Axis) -> bool {
        self.reads.iter().all(|read| self.is_loose(read) || matches!(self.stride(read, axis), Some(0..=2)))
    }

    /// Whether a fold reads constants that are too large for any cache, each element once a call, and along the fold as
    /// they lie: memory is as fast in this order as in any, and needs no packed copy.
    fn is_streaming(&self, fold_orders: &[SmallVec<[Axis; 6]>], machine: &Machine) -> bool {
        self.reads.iter().any(|read| {
            let Part::Fold(fold) = read.part else { return false };
            let buffer = self.draft.buffer(read.buffer);
            buffer.is_constant()
                && buffer.bytes() > machine.l3_bytes
                && fold_orders[fold].last().is_some_and(|&axis| self.stride(read, axis) == Some(1))
                && self.outer_axes().all(|axis| self.extent(axis) == 1 || any_depends(read.at, axis))
        })
    }

    /// The longest outer axis along which all that is loaded and stored is contiguous.
    pub fn contiguous_axis(&self) -> Option<Axis> {
        self.outer_axis(Loads::Contiguous)
    }

    /// The longest outer axis along which loads move in equal steps, stores element by element where they can.
    pub fn strided_axis(&self) -> Option<Axis> {
        self.outer_axis(Loads::Strided).or_else(|| self.outer_axis(Loads::Scattered))
    }

    /// The longest outer axis along which every store is contiguous, or two together are, and every load moves in the way
    /// stated.
    fn outer_axis(&self, loads: Loads) -> Option<Axis> {
        let moves = |step: Option<i64>| match loads {
            Loads::Contiguous => matches!(step, Some(0 | 1)),
            Loads::Strided | Loads::Scattered => step.is_some(),
        };
        let scatters = loads == Loads::Scattered && !self.kernel.folds.is_empty();
        let fits = |axis: &Axis| {
            self.extent(*axis) > 1
                && self.reads.iter().all(|read| self.is_loose(read) || moves(self.stride(read, *axis)))
                && ((0..self.kernel.stores.len()).all(|store| self.store_stride(store, *axis) == Some(1))
                    || (loads == Loads::Strided && self.fills_rows_by_pairs(*axis))
                    || (scatters
                        && (0..self.kernel.stores.len()).all(|store| self.store_stride(store, *axis) > Some(0))))
        };
        self.own_axes().filter(fits).max_by_key(|axis| self.extent(*axis))
    }

    /// Whether stores go by pairs that write every other element of rows along an axis.
    fn fills_rows_by_pairs(&self, axis: Axis) -> bool {
        let layout = |id| {
            let buffer = self.draft.buffer(id);
            (&buffer.layout, buffer.info.dims.as_slice())
        };
        self.kernel.folds.is_empty() && alternating(self.kernel, axis, layout).is_some()
    }

    /// The length of the last inner axis of all folds and stores over inner axes, where they share it, it is innermost
    /// in every fold, and every load of theirs is contiguous along it or the same. Where nothing is folded, the greatest of
    /// their lengths: each store goes along its own.
    fn inner_extent(&self, fold_orders: &[SmallVec<[Axis; 6]>]) -> Option<usize> {
        let n_outer = self.kernel.outer.len();
        let folds = self.kernel.folds.iter().enumerate().map(|(i, fold)| (Part::Fold(i), &fold.inner));
        let stores = self.kernel.stores.iter().enumerate().filter(|(_, store)| !store.inner.is_empty());
        let stores = stores.map(|(i, store)| (Part::Store(i), &store.inner));
        let may_differ = self.kernel.folds.is_empty();
        let mut shared: Option<(Axis, usize)> = None;
        for (part, inner) in folds.chain(stores) {
            let axis = Axis((n_outer + inner.len()).checked_sub(1)? as u32);
            let extent = *inner.last()?;
            if shared.is_some_and(|known| known.0 != axis || !(may_differ || known.1 == extent)) {
                return None;
            }
            shared = Some((axis, shared.map_or(extent, |known| known.1.max(extent))));
            let loads = self.reads.iter().filter(|read| read.part == part);
            let contiguous =
                loads.clone().all(|read| self.is_loose(read) || matches!(self.stride(read, axis), Some(0 | 1)));
            let innermost = match part {
                Part::Store(i) => self.store_stride(i, axis) == Some(1),
                Part::Fold(i) => fold_orders[i].last() == Some(&axis),
            };
            if !(contiguous && innermost) {
                return None;
            }
        }
        shared.map(|(_, extent)| extent).filter(|&extent| extent > 1)
    }
}

/// Cycles in which the lanes of a vector are added up, and by how much less vectors of results must take than that.
const REDUCTION: usize = 8;
const WORTH_STRIDES: f64 = 1.5;
