//! The tile at the last lanes of a row, where there are fewer of them.

use super::estimate::Estimate;
use super::{Facts, MOST_POINTS};
use crate::plan::machine::Machine;
use fusewright_ir::kernel::Axis;
use fusewright_ir::plan::{Schedule, Vector};
use smallvec::SmallVec;

/// By how much points of their own must be better: they are one more leaf, where they are no fewer.
const WORTH: f64 = 1.02;

impl Facts<'_> {
    /// See [`Schedule::rest`]. Of 512 channels in vectors of eight, three a tile, one vector is left over: with four points its
    /// four sums wait for each other, and with seven they do not.
    pub fn rest(&self, schedule: &Schedule, machine: &Machine) -> SmallVec<[(Axis, u32); 2]> {
        let none = SmallVec::new();
        let Some(Vector::Outer { axis: vector, lanes }) = schedule.vector else { return none };
        let rest = (self.extent(vector) as u32 % lanes).next_multiple_of(machine.vector_lanes);
        if rest == 0 || rest >= lanes || schedule.windows || self.kernel.folds.is_empty() {
            return none;
        }
        let estimate = Estimate::of(self, machine, vector);
        let mut best = (estimate.total(rest, &schedule.tile) / WORTH, none);
        let mut consider = |tile: &[(Axis, u32)]| {
            let total = estimate.total(rest, tile);
            if estimate.fits(rest, tile) && total < best.0 {
                best = (total, tile.into());
            }
        };
        // Loops around that over lanes have the points that they have elsewhere.
        let sizes = |&(axis, points): &(Axis, u32)| match schedule.is_within_lanes(axis) {
            true => 1..=(self.extent(axis) as u32).min(MOST_POINTS),
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
        best.1
    }
}
