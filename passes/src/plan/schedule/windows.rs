//! What tiles cost whose sums go over windows that overlap, where lanes have weights of their own: depthwise convolutions of
//! images whose channels are neighbours.
//!
//! The elements of a vector's lanes are read one after the other, each once, and added to all sums that need it; weights wait in
//! registers. Loops over the slower taps are not written out where a tile has many sums, and elements are read again by each step.

use super::Facts;
use super::estimate::L2_BYTES_A_CYCLE;
use crate::plan::machine::Machine;
use fusewright_ir::kernel::{Axis, BinaryOp, FoldKind, Scalar};
use fusewright_ir::plan::Schedule;
use fusewright_ir::plan::access::{Part, any_depends, plain};
use smallvec::SmallVec;

/// Windows of one fold.
pub struct Windows {
    /// Those that overlap along an outer axis, the one whose taps are the slowest loop first.
    windows: SmallVec<[Window; 2]>,
    /// Whether the elements come from a second-level cache. Those that come from farther do so at their own pace, whatever the tile.
    are_in_l2: bool,
}

/// A window along an axis.
struct Window {
    place: Axis,
    taps: usize,
    step: i64,
    dilation: i64,
}

impl Window {
    /// The elements that `n` neighbours have.
    fn elements(&self, n: u32) -> usize {
        let places = 0..i64::from(n);
        let taps = 0..self.taps as i64;
        let mut all: SmallVec<[i64; 64]> =
            places.flat_map(|place| taps.clone().map(move |tap| place * self.step + tap * self.dilation)).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }
}

/// What a tile takes for all steps of its fold.
pub struct Costs {
    /// Vectors that are read.
    pub loads: f64,
    /// Registers.
    pub registers: u32,
    /// Sums that are added to before the first of them is again.
    pub chains: u32,
    /// Cycles in which elements come from the second-level cache.
    pub fetching: f64,
}

impl Windows {
    /// The windows of a kernel whose only fold sums them, in vectors along `vector`.
    pub fn of(facts: &Facts<'_>, vector: Axis, machine: &Machine) -> Option<Windows> {
        let [fold] = &facts.kernel.folds[..] else { return None };
        let is_product = matches!(facts.kernel.body.get(fold.value), Scalar::Binary(BinaryOp::Mul, ..));
        let mut reads = facts.reads.iter().filter(|read| read.part == Part::Fold(0));
        let (Some(first), Some(second), None) = (reads.next(), reads.next(), reads.next()) else { return None };
        if fold.kind != FoldKind::Sum || !is_product || ![first, second].iter().all(|read| any_depends(read.at, vector))
        {
            return None;
        }
        let n_outer = facts.kernel.outer.len() as u32;
        let windows = |read: &super::Read| -> SmallVec<[Window; 2]> {
            let window = |tap: Axis| {
                let taps = read.extents[tap.0 as usize];
                let form = read.at.iter().filter_map(plain).find(|form| form.coefficient(tap) != 0)?;
                let mut outer = form.terms.iter().filter(|(own, _)| own.0 < n_outer && *own != vector);
                let (&(place, step), None) = (outer.next()?, outer.next()) else { return None };
                let window = Window { place, taps, step: step.abs(), dilation: form.coefficient(tap).abs() };
                (taps > 1 && facts.extent(place) > 1).then_some(window)
            };
            facts.fold_order(0).into_iter().filter_map(window).collect()
        };
        let (elements, found) = match (windows(first), windows(second)) {
            (found, other) if other.is_empty() => (first, found),
            (other, found) if other.is_empty() => (second, found),
            _ => return None,
        };
        let weights = if std::ptr::eq(elements, first) { second } else { first };
        let is_apart = found.iter().all(|window| !any_depends(weights.at, window.place));
        let bytes = facts.draft.buffer(elements.buffer).bytes();
        let taps: usize = fold.inner.iter().product();
        let is_whole = found.iter().map(|window| window.taps).product::<usize>() == taps;
        (!found.is_empty() && is_apart && is_whole)
            .then_some(Windows { windows: found, are_in_l2: (machine.l1_bytes / 2..machine.l2_bytes).contains(&bytes) })
    }

    /// What a tile of `vectors` at these points takes.
    pub fn costs(&self, vectors: u32, points: &[(Axis, u32)], machine: &Machine) -> Costs {
        let all: u32 = points.iter().map(|(_, n)| n).product();
        let points_along =
            |window: &Window| points.iter().find(|(axis, _)| *axis == window.place).map_or(1, |(_, n)| *n);
        let taps = |windows: &[Window]| windows.iter().map(|window| window.taps).product::<usize>();
        let most = Schedule::most_unrolled(false);
        let is_written_out = |from: &usize| taps(&self.windows[*from..]) * (all * vectors) as usize <= most;
        let from = (0..self.windows.len()).find(is_written_out).unwrap_or(self.windows.len());
        let (rolled, written_out) = self.windows.split_at(from);
        // Points along other axes share weights only.
        let others: u32 = points
            .iter()
            .filter(|(axis, _)| self.windows.iter().all(|window| window.place != *axis))
            .map(|(_, n)| n)
            .product();
        let apart: u32 = rolled.iter().map(points_along).product();
        let shared: usize = written_out.iter().map(|window| window.elements(points_along(window))).product();
        let elements = (others * apart) as usize * shared;
        let weights = taps(written_out);
        let waiting = match written_out.split_last() {
            Some((last, slower)) => {
                let rows = slower.iter().map(|window| points_along(window).min(window.taps as u32));
                rows.product::<u32>() * last.taps as u32
            }
            None => 1,
        };
        let adding = |window: &Window| points_along(window).min((window.taps as u32).div_ceil(window.step as u32));
        let chains = others * apart * written_out.iter().map(adding).product::<u32>();
        let loads = vectors as usize * taps(rolled) * (elements + weights);
        let fetching = match self.windows.split_last().filter(|_| self.are_in_l2) {
            Some((last, slower)) => {
                let rows: usize = slower.iter().map(|window| window.elements(points_along(window))).product();
                let new = f64::from(points_along(last)) * last.step as f64;
                let elements = rows as f64 * new * f64::from(others * vectors);
                elements * f64::from(4 * machine.vector_lanes) / L2_BYTES_A_CYCLE
            }
            None => 0.0,
        };
        Costs { loads: loads as f64, registers: vectors * all + waiting + 1, chains, fetching }
    }
}
