//! Tiles at the ends of axes, where there are fewer lanes or points than elsewhere.

use super::estimate::Estimate;
use super::{Facts, MOST_POINTS, Tile, WORTH_TWO};
use crate::plan::machine::Machine;
use fusewright_ir::kernel::Axis;
use fusewright_ir::plan::{Rest, Schedule, Vector};
use smallvec::SmallVec;

/// By how much points of their own must be better at the last lanes: they are one more leaf, where they are no fewer.
const WORTH: f64 = 1.02;

impl Facts<'_> {
    /// The tile at the last lanes. Of 512 channels in vectors of eight, three a tile, one vector is left over: with four points its
    /// four sums wait for each other, and with seven they do not.
    pub fn last_lanes(&self, schedule: &Schedule, machine: &Machine) -> Option<Rest> {
        let Vector::Outer { axis: vector, lanes } = schedule.vector? else { return None };
        let rest = (self.extent(vector) as u32 % lanes).next_multiple_of(machine.vector_lanes);
        if rest == 0 || rest >= lanes || schedule.windows || self.kernel.folds.is_empty() {
            return None;
        }
        let estimate = Estimate::of(self, machine, vector);
        let mut best = (estimate.total(rest, &schedule.tile) / WORTH, None);
        let mut consider = |tile: &[(Axis, u32)]| {
            let total = estimate.total(rest, tile);
            if estimate.fits(rest, tile) && total < best.0 {
                best = (total, Some(SmallVec::from_slice(tile)));
            }
        };
        // Loops around that over lanes have the points that they have elsewhere.
        let sizes = |&(axis, points): &(Axis, u32)| match schedule.is_within(axis, vector) {
            true => 1..=self.most_points(axis),
            false => points..=points,
        };
        match schedule.tile[..] {
            [one] => sizes(&one).for_each(|points| consider(&[(one.0, points)])),
            [one, two] => {
                for points in sizes(&one) {
                    let rows = sizes(&two).filter(|rows| points * rows <= MOST_POINTS);
                    rows.for_each(|rows| consider(&[(one.0, points), (two.0, rows)]));
                }
            }
            _ => {}
        }
        best.1.map(|tile| Rest { axis: vector, tile })
    }

    /// The best tile of all, where `best` is that of those whose rows end in fewer points along the same axis. A row of seven by
    /// three leaves one over, and three of such, below each other, are a tile, too.
    pub fn with_end(
        &self,
        estimate: &Estimate,
        axes: &[Axis],
        all_lanes: impl Iterator<Item = u32> + Clone,
        mut best: (f64, Tile),
    ) -> Tile {
        let pairs = axes.iter().flat_map(|&axis| axes.iter().map(move |&other| (axis, other)));
        // Loops over rows go within those over columns then: the outermost, which threads share, must be one of neither.
        let are_shared = |axis: Axis| self.are_large(&self.weight_axes(estimate.vector, Some(axis)), estimate.machine);
        for (axis, other) in pairs.filter(|&(axis, other)| axis != other && are_shared(axis)) {
            let sizes =
                all_lanes.clone().flat_map(|lanes| (2..=self.most_points(axis)).map(move |n| (lanes, (axis, n))));
            for (lanes, row) in sizes.filter(|&(lanes, row)| estimate.fits(lanes, &[row])) {
                let last = (axis, self.extent(axis) as u32 % row.1);
                // Most are no better even if the last points cost no more than others.
                if last.1 == 0 || estimate.least_with_end(lanes, row) * WORTH_TWO >= best.0 {
                    continue;
                }
                for end in (2..=self.most_points(other)).take_while(|n| n * last.1 <= MOST_POINTS).map(|n| (other, n)) {
                    let total = estimate.total_with_end(lanes, row, end);
                    if estimate.fits(lanes, &[last, end]) && total * WORTH_TWO < best.0 {
                        let rest = Some(Rest { axis, tile: [last, end].into_iter().collect() });
                        let windows = estimate.is_of_windows(&[row]);
                        best = (total, Tile { lanes, points: SmallVec::from_elem(row, 1), windows, rest });
                    }
                }
            }
        }
        best.1
    }
}
