//! Sums over windows that overlap, as those of a depthwise convolution.

use super::forms::linear;
use super::{Base, Builder, Point, Position};
use crate::codegen::leaf::Vector;
use crate::codegen::leaf::elements::Windows;
use fusewright_ir::kernel::{Axis, BinaryOp, BufferId, FoldKind, Index, Literal, Scalar, ScalarId, Space};
use fusewright_ir::plan::Schedule;
use smallvec::SmallVec;

/// A fold that sums products of elements of windows, which overlap at the points of the tile, and weights, which are the same at
/// all points of one vector.
#[derive(Clone, Debug)]
pub struct WindowSums {
    elements: BufferId,
    /// Of each sum the distance along the lanes, in bytes.
    lanes: Vec<i64>,
    /// Of each sum that along the other axes with points of the tile, with the axes of the fold that windows along them have.
    points: Vec<SmallVec<[(i64, u64); 2]>>,
    are_apart: bool,
}

impl Builder<'_> {
    /// The windows of a fold along an outer lane axis whose sums are first added to in this order, if it is of such.
    pub(super) fn windows_of<'p>(
        &self,
        (kind, inner): (FoldKind, &Space),
        value: ScalarId,
        points: impl Iterator<Item = &'p Point>,
    ) -> Option<WindowSums> {
        let body = &self.recipe.kernel.body;
        let &Scalar::Binary(BinaryOp::Mul, a, b) = body.get(value) else { return None };
        let (Scalar::Load { buffer, at, .. }, Scalar::Load { buffer: other, at: weights, .. }) =
            (body.get(a), body.get(b))
        else {
            return None;
        };
        let (mut elements, mut weights) = ((*buffer, at), (*other, weights));
        if !self.is_window(elements.1) {
            std::mem::swap(&mut elements, &mut weights);
        }
        let any_moves = |at: &[Index], axis: usize| at.iter().any(|index| moves(index, axis));
        let lane = self.lane.0 as usize;
        let is_shared =
            (0..self.n_outer()).all(|axis| axis == lane || self.tile[axis] == 1 || !any_moves(weights.1, axis));
        if kind != FoldKind::Sum || !self.is_window(elements.1) || !is_shared || elements.0 == weights.0 {
            return None;
        }
        let are_apart = any_moves(weights.1, lane);
        let form = linear(self.recipe, self.lane, elements.0, elements.1)?;
        let taps = |axis: usize| {
            let along = elements.1.iter().filter(|index| moves(index, axis)).filter_map(Index::as_affine);
            let inner = along.flat_map(|form| form.terms.iter().filter(|(axis, _)| axis.0 as usize >= self.n_outer()));
            inner.fold(0u64, |bits, (axis, _)| bits | 1 << axis.0)
        };
        let others = form.terms.iter().filter(|(axis, _)| (axis.0 as usize) < self.n_outer() && *axis != self.lane);
        let others: Vec<(usize, i64, u64)> =
            others.map(|&(Axis(axis), step)| (axis as usize, 4 * step, taps(axis as usize))).collect();
        let mut sums = WindowSums { elements: elements.0, lanes: Vec::new(), points: Vec::new(), are_apart };
        for point in points {
            sums.lanes.push(4 * form.lane_step * i64::from(point[lane]));
            sums.points.push(others.iter().map(|&(axis, step, taps)| (step * i64::from(point[axis]), taps)).collect());
        }
        // Many registers hold whatever is near, and others few weights.
        let taps: usize = inner.iter().product();
        (are_apart || !(self.writer.has_many_registers() || Schedule::weights_stay(taps))).then_some(sums)
    }

    /// Whether the lanes of a fold may be in any order until all is summed: it sums products of every other element and what is the
    /// same in all lanes.
    pub(super) fn may_mix(&self, kind: FoldKind, value: ScalarId) -> bool {
        let body = &self.recipe.kernel.body;
        let &Scalar::Binary(BinaryOp::Mul, a, b) = body.get(value) else { return false };
        let step = |id: ScalarId| match body.get(id) {
            Scalar::Load { buffer, at, outside: None | Some(Literal::F32(0)) } => {
                let form = linear(self.recipe, self.lane, *buffer, at)?;
                self.transposed_axis(&form).is_none().then_some(form.lane_step)
            }
            _ => None,
        };
        kind == FoldKind::Sum
            && self.writer.mixes()
            && matches!((step(a), step(b)), (Some(2), Some(0)) | (Some(0), Some(2)))
    }

    /// Sums of mixed lanes in order.
    pub(super) fn unmixed(&mut self, sums: Vec<Vector>) -> Vec<Vector> {
        sums.into_iter().map(|sum| self.writer.unmix(sum)).collect()
    }

    /// Whether an index goes along an axis with points of the tile and along one of the fold.
    fn is_window(&self, at: &[Index]) -> bool {
        let n_outer = self.n_outer();
        at.iter().any(|index| {
            let tiled = (0..n_outer).any(|axis| self.tile[axis] > 1 && moves(index, axis));
            tiled && index.as_affine().is_some_and(|form| form.terms.iter().any(|(axis, _)| axis.0 as usize >= n_outer))
        })
    }

    /// Puts what was written since `begin` into the order of elements, where it is sums of windows.
    pub(super) fn add_by_element(&mut self, begin: usize) {
        // Where taps are steps of a loop, points share elements between its steps, which is as good as not at all.
        let in_loops = self.positions.iter().enumerate().fold(0u64, |bits, (axis, position)| match position {
            Position::Loop { .. } => bits | 1 << axis,
            Position::At(_) => bits,
        });
        let apart = |point: &SmallVec<[(i64, u64); 2]>| {
            point.iter().filter(|(_, taps)| taps & in_loops != 0).map(|(distance, _)| distance).sum()
        };
        let windows = self.windows.as_ref().map(|sums| Windows {
            is_element: self
                .parameters
                .iter()
                .map(|parameter| parameter.base == Base::Slot(sums.elements.0 as usize))
                .collect(),
            lanes: sums.lanes.clone(),
            points: sums.points.iter().map(apart).collect(),
            are_apart: sums.are_apart,
        });
        self.writer.add_by_element(begin, windows.as_ref());
    }
}

fn moves(index: &Index, axis: usize) -> bool {
    index.as_affine().is_some_and(|form| form.coefficient(Axis(axis as u32)) != 0)
}
