//! What a register tile costs, in cycles.

use super::windows::Windows;
use super::{Facts, MOST_POINTS};
use crate::plan::machine::Machine;
use fusewright_ir::kernel::{Axis, BinaryOp, Fold, FoldKind, Scalar};
use fusewright_ir::plan::Schedule;
use fusewright_ir::plan::access::{Part, Read, any_depends};
use fusewright_ir::tensor::DType;
use smallvec::SmallVec;

/// Cycles until a sum can be added to again: four, and one for what is late.
pub const LATENCY: f64 = 5.0;

/// The same where leaves are so short that one begins before the sums of the one before are known.
const OVERLAPPING_LATENCY: f64 = 4.0;

/// How much faster additions to few sums are than one after the other, as a processor sees those that come later.
const LOOK_AHEAD: f64 = 1.3;

/// Bytes that come from the second-level cache in a cycle, of vectors that are read one behind the other.
pub const L2_BYTES_A_CYCLE: f64 = 24.0;

/// The same of the last-level cache.
const L3_BYTES_A_CYCLE: f64 = 12.0;

/// What a load of one element into all lanes costs, in loads of a vector: many machines need a shuffle.
const BROADCAST: f64 = 1.5;

/// What a load costs of a vector that begins anywhere: many are in two lines of the cache.
const UNALIGNED: f64 = 1.25;

/// Machines with so many registers, or more, read one element for all lanes where they multiply with it.
const MANY_REGISTERS: u32 = 32;

/// What tiles are chosen by: the cycles of the innermost loop, at two multiply-adds or two loads a cycle, [`LATENCY`] until a sum
/// can be added to again, and vectors of a block that a near cache cannot hold at the pace of the next.
pub struct Estimate<'a> {
    facts: &'a Facts<'a>,
    pub machine: &'a Machine,
    pub vector: Axis,
    /// The loads of folds.
    pub reads: Vec<&'a Read<'a>>,
    /// The steps of the longest fold.
    pub steps: usize,
    /// Sums a point.
    parts: u32,
    /// Windows that are summed, where lanes have weights of their own.
    windows: Option<Windows>,
}

impl<'a> Estimate<'a> {
    /// Of a kernel that folds.
    pub fn of(facts: &'a Facts<'a>, machine: &'a Machine, vector: Axis) -> Estimate<'a> {
        let folds = &facts.kernel.folds;
        Estimate {
            facts,
            machine,
            vector,
            reads: facts.reads.iter().filter(|read| matches!(read.part, Part::Fold(_))).collect(),
            steps: folds.iter().map(|fold| fold.inner.iter().product::<usize>()).max().unwrap_or(1),
            parts: folds.iter().map(|fold| fold.kind.results(DType::F32).len() as u32).sum(),
            windows: Windows::of(facts, vector, machine),
        }
    }
}

impl Estimate<'_> {
    /// Whether windows are summed in which lanes have weights of their own.
    pub fn is_of_windows_apart(&self) -> bool {
        self.windows.is_some()
    }

    /// The most points of a tile along two axes together.
    pub fn most_points_of_two(&self) -> u32 {
        if self.windows.is_some() { 2 * MOST_POINTS } else { MOST_POINTS }
    }

    fn vectors(&self, lanes: u32) -> u32 {
        lanes / self.machine.vector_lanes
    }

    /// Whether all that is folded in a tile is elements of windows that overlap, each with the same number where there are
    /// others, and is folded in no other tile.
    fn overlaps(&self, points: &[(Axis, u32)]) -> bool {
        let axes = points.iter().map(|(axis, _)| *axis).chain([self.vector]);
        let mut moving = self.reads.iter().filter(|read| axes.clone().any(|axis| any_depends(read.at, axis)));
        let (Some(read), None) = (moving.next(), moving.next()) else { return false };
        let mut long = self.facts.outer_axes().filter(|axis| self.facts.extent(*axis) > 1);
        points.iter().any(|&(axis, n)| n > 1 && self.facts.overlap(read, axis, n) < 1.0)
            && long.all(|axis| any_depends(read.at, axis))
    }

    /// Whether that is products, which are summed: see [`Schedule::windows`].
    pub fn is_of_windows(&self, points: &[(Axis, u32)]) -> bool {
        let kernel = self.facts.kernel;
        let is_product = |fold: &Fold| {
            fold.kind == FoldKind::Sum && matches!(kernel.body.get(fold.value), Scalar::Binary(BinaryOp::Mul, ..))
        };
        kernel.folds.iter().all(is_product) && self.overlaps(points)
    }

    /// Whether weights are read again for every row of vectors, as windows are written out that have more than registers hold.
    fn reads_weights_by_row(&self, points: &[(Axis, u32)]) -> bool {
        self.machine.registers < MANY_REGISTERS && !Schedule::weights_stay(self.steps) && self.is_of_windows(points)
    }

    /// The registers of such a row beside sums: a weight for each point and an element, or both of every two neighbours.
    fn waiting(&self, points: &[(Axis, u32)]) -> u32 {
        let all: u32 = points.iter().map(|(_, n)| n).product();
        let is_of_pairs = self.reads.iter().any(|read| self.facts.stride(read, self.vector) == Some(2));
        if is_of_pairs { 2 * all + 3 } else { all + 1 }
    }

    /// Whether all is in registers: beside the sums a row of vectors and, where instructions cannot read one element for all
    /// lanes, that element.
    pub fn fits(&self, lanes: u32, points: &[(Axis, u32)]) -> bool {
        if let Some(windows) = self.windows.as_ref().filter(|_| points.iter().any(|(_, n)| *n > 1)) {
            return windows.costs(self.vectors(lanes), points, self.machine).registers <= self.machine.registers;
        }
        // Elements that several folds share, and the numbers that all sums take, have the other half of the registers.
        let most = match self.overlaps(points) {
            true if self.reads_weights_by_row(points) => self.machine.registers.saturating_sub(self.waiting(points)),
            true => self.machine.registers / 2,
            false => u32::MAX,
        };
        let (vectors, points) = (self.vectors(lanes), points.iter().map(|(_, n)| n).product::<u32>());
        let operands = vectors.min(points) + u32::from(self.machine.registers < MANY_REGISTERS);
        let accumulators = (self.machine.accumulators / self.parts).max(1);
        let is_too_large = vectors * points > accumulators
            || (points > 1 && vectors * points > most)
            || (points > 1 && vectors * points * self.parts + operands > self.machine.registers);
        !is_too_large || (vectors, points) == (1, 1)
    }

    /// Cycles of one step of all tiles.
    pub fn total(&self, lanes: u32, points: &[(Axis, u32)]) -> f64 {
        let own: SmallVec<[Axis; 2]> = points.iter().map(|(axis, _)| *axis).collect();
        self.along(lanes, &SmallVec::new(), points) * self.tiles_beside(lanes, &own)
    }

    /// The tiles along all axes but `own`.
    fn tiles_beside(&self, lanes: u32, own: &[Axis]) -> f64 {
        let blocks = f64::from((self.facts.extent(self.vector) as u32).div_ceil(lanes));
        let others = self.facts.outer_axes().filter(|axis| *axis != self.vector && !own.contains(axis));
        blocks * others.map(|axis| self.facts.extent(axis) as f64).product::<f64>()
    }

    /// The same with `end` at the last points of `row`, which is the only axis of the tile elsewhere.
    pub fn total_with_end(&self, lanes: u32, row: (Axis, u32), end: (Axis, u32)) -> f64 {
        let extent = |axis: Axis| self.facts.extent(axis) as u32;
        let last = SmallVec::from_elem((row.0, extent(row.0) % row.1), 1);
        let whole = f64::from(extent(row.0) / row.1 * extent(end.0)) * self.step(lanes, &[row]);
        (whole + self.along(lanes, &last, &[end])) * self.tiles_beside(lanes, &[row.0, end.0])
    }

    /// What that cannot be less than, were the last points no dearer than others.
    pub fn least_with_end(&self, lanes: u32, row: (Axis, u32)) -> f64 {
        let all = self.facts.extent(row.0) as f64 / f64::from(row.1) * self.step(lanes, &[row]);
        all * self.tiles_beside(lanes, &[row.0])
    }

    /// Of the tiles along the axes in `points`, and the smaller ones at their ends, which have points along others.
    fn along(&self, lanes: u32, others: &SmallVec<[(Axis, u32); 2]>, points: &[(Axis, u32)]) -> f64 {
        let Some((&(axis, n), rest)) = points.split_first() else { return self.step(lanes, others) };
        let length = self.facts.extent(axis) as u32;
        let with = |n: u32| {
            let mut all = others.clone();
            all.push((axis, n));
            self.along(lanes, &all, rest)
        };
        let end = if length.is_multiple_of(n) { 0.0 } else { with(length % n) };
        f64::from(length / n) * with(n) + end
    }

    /// Of one tile.
    fn step(&self, lanes: u32, points: &[(Axis, u32)]) -> f64 {
        let vectors = self.vectors(lanes);
        let all: u32 = points.iter().map(|(_, n)| n).product();
        if let Some(windows) = &self.windows {
            let costs = windows.costs(vectors, points, self.machine);
            let (steps, sums) = (self.steps as f64, f64::from(vectors * all));
            let rounds = sums / f64::from(costs.chains) / LOOK_AHEAD;
            let adding = (sums / 2.0).max(OVERLAPPING_LATENCY).max(OVERLAPPING_LATENCY * rounds);
            return adding.max(costs.loads / steps).max(costs.fetching / steps) + 0.5;
        }
        let fetching = match 4 * u64::from(lanes) * self.steps as u64 {
            near if near <= self.machine.l1_bytes / 2 => 0.0,
            block if block <= self.machine.l2_bytes => f64::from(4 * lanes) / L2_BYTES_A_CYCLE,
            _ => f64::from(4 * lanes) / L3_BYTES_A_CYCLE,
        };
        let written_out = self.steps * (all * vectors) as usize <= Schedule::most_unrolled(self.is_of_windows(points));
        let (weight, element) = match written_out && self.reads_weights_by_row(points) {
            true => (f64::from(all), UNALIGNED),
            false => (BROADCAST, 1.0),
        };
        let loads: f64 = self
            .reads
            .iter()
            .map(|read| {
                let moving = points.iter().filter(|(axis, _)| any_depends(read.at, *axis));
                let times: f64 = moving
                    .map(|&(axis, n)| f64::from(n) * if written_out { self.facts.overlap(read, axis, n) } else { 1.0 })
                    .product();
                times * if any_depends(read.at, self.vector) { f64::from(vectors) * element } else { weight }
            })
            .sum();
        let sums = f64::from(vectors * all * self.parts);
        (sums / 2.0).max(loads / 2.0).max(LATENCY).max(fetching) + 0.5
    }
}
