//! What a leaf asks the caches for, long before it or another is to read it.

use super::forms::Linear;
use super::{Builder, Point, TILES_AHEAD};
use crate::codegen::leaf::{Address, LoopId};
use fusewright_ir::kernel::BufferId;
use fusewright_ir::plan::access::Shared;
use smallvec::SmallVec;

/// A step of the loops over tiles, of the tile at hand and of its fold, in bytes of a block that all tiles ask for together, one
/// part behind the other in the order of the loops.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// For a point along each loop's axis, the outermost first.
    points: SmallVec<[usize; 6]>,
    /// For a step of the fold.
    step: usize,
}

impl Parts {
    /// Of `bytes`, for a tile of `tile` points and `steps` steps within loops over `extents` points.
    fn of(bytes: usize, extents: &[usize], tile: &[usize], steps: usize) -> Parts {
        let a_point = bytes.div_ceil(extents.iter().product::<usize>().max(1));
        let points = (0..extents.len()).map(|i| {
            let (around, within) = (&tile[..i], &extents[i + 1..]);
            a_point * around.iter().product::<usize>() * within.iter().product::<usize>()
        });
        Parts { points: points.collect(), step: (a_point * tile.iter().product::<usize>()).div_ceil(steps.max(1)) }
    }
}

impl Builder<'_> {
    /// Asks for a part of the row that is gathered next: the tiles that do so take turns along its bytes.
    pub(super) fn ask_ahead(&mut self, form: &Linear, buffer: BufferId, point: &Point) {
        let schedule = &self.recipe.schedule;
        let (_, gathered) = self.gather.as_ref().expect("something is gathered");
        let again = gathered.again;
        let (bytes, step) = (4 * schedule.tile_size(self.lane), schedule.tile_size(again));
        let first = (self.recipe.kernel.outer[again.0 as usize] / step).saturating_sub(TILES_AHEAD) * step;
        let a_point = bytes / (TILES_AHEAD * step);
        let here = self.address(form, buffer, point);
        let mut parameter = self.parameters[here.base].clone();
        parameter.terms.push((again, a_point as i64));
        parameter.terms.sort();
        let base = self.parameter(parameter);
        self.writer.prefetch(Address { base, offset: here.offset + bytes as i64 - (first * a_point) as i64, ..here });
    }

    /// Asks for a part of what the tiles of the next block of lanes share, once a step: each tile has its part, and each step of
    /// its fold.
    pub(super) fn ask_for_next(&mut self, form: &Linear, buffer: BufferId, point: &Point) {
        // Blocks that do not lie one behind the other are rows far apart.
        if !form.padded || point[self.lane.0 as usize] != 0 {
            return;
        }
        let Some(Shared { loops, elements, .. }) = self.shared.clone() else { return };
        let recipe = self.recipe;
        let lanes = recipe.schedule.tile_size(self.lane);
        let [extents, tile] = [&recipe.kernel.outer[..], &self.tile[..]]
            .map(|all| loops.iter().map(|axis| all[axis.0 as usize]).collect::<SmallVec<[usize; 6]>>());
        let parts = Parts::of(4 * lanes * elements, &extents, &tile, elements);

        let here = self.address(form, buffer, point);
        let mut parameter = self.parameters[here.base].clone();
        parameter.terms.extend(loops.iter().copied().zip(parts.points.iter().map(|&bytes| bytes as i64)));
        parameter.terms.sort();
        let base = self.parameter(parameter);
        let a_lane = form.terms.iter().find(|(axis, _)| *axis == self.lane).map_or(0, |(_, elements)| 4 * elements);
        let mut terms: SmallVec<[(LoopId, i64); 4]> = SmallVec::new();
        let (mut offset, mut behind) = (a_lane * lanes as i64, parts.step as i64);
        for &axis in recipe.schedule.fold_orders[0].iter().rev() {
            offset += self.step_along(axis, behind, &mut terms);
            behind *= recipe.kernel.folds[0].inner[axis.0 as usize - self.n_outer()] as i64;
        }
        terms.sort();
        self.writer.prefetch(Address { base, terms, offset });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many lines of a block of `bytes` are asked for by tiles of `tile` points within loops over `extents` points, whose last
    /// ones along the outer loop have `end` points: those of 100, and how often each, times 100.
    fn asked(bytes: usize, extents: [usize; 2], tile: [usize; 2], end: [usize; 2], steps: usize) -> (usize, usize) {
        let mut lines = vec![0; bytes.div_ceil(64)];
        let mut starts = |from: usize, tile: [usize; 2]| {
            for inner in (0..extents[1]).step_by(tile[1]) {
                let tile = [tile[0], tile[1].min(extents[1] - inner)];
                let parts = Parts::of(bytes, &extents, &tile, steps);
                let begin = from * parts.points[0] + inner * parts.points[1];
                let mut own: Vec<usize> = (0..steps).map(|step| (begin + step * parts.step) / 64).collect();
                own.dedup();
                own.into_iter().for_each(|line| {
                    if let Some(line) = lines.get_mut(line) {
                        *line += 1
                    }
                });
            }
        };
        let whole = extents[0] / tile[0] * tile[0];
        (0..whole).step_by(tile[0]).for_each(|from| starts(from, tile));
        if whole < extents[0] {
            starts(whole, end);
        }
        let covered = lines.iter().filter(|&&times| times > 0).count();
        (covered * 100 / lines.len(), lines.iter().sum::<usize>() * 100 / lines.len())
    }

    #[test]
    fn the_tiles_of_a_block_ask_for_the_whole_next_one() {
        // Seven by seven places in tiles of six along the outer loop, the last column by four; rows of eight; one axis.
        for (extents, tile, end) in [
            ([7, 7], [6, 1], [1, 4]),
            ([7, 7], [1, 6], [1, 1]),
            ([14, 14], [6, 1], [2, 3]),
            ([1, 196], [1, 6], [1, 1]),
            ([28, 28], [4, 2], [4, 2]),
        ] {
            let (covered, times) = asked(4 * 16 * 4608, extents, tile, end, 4608);
            assert!(covered >= 97, "{extents:?} by {tile:?}: {covered} of 100 lines");
            assert!(times <= 160, "{extents:?} by {tile:?}: each {times} hundredths of a time");
        }
    }
}
