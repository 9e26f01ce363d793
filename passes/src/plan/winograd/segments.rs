//! How the tiles of a convolution are cut into bands: rows of tiles whose inputs and products at the points stay in a near
//! cache from one kernel to the next, and take little memory.

use super::kernels::{Tooms, tiles};
use super::recognise::Convolution;
use crate::plan::Machine;

/// Rows of tiles along the first window that kernels of their own compute, at several positions with as many rows each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first row of tiles.
    pub first: usize,
    /// Positions of a band; 1 for no band.
    pub positions: usize,
    /// Rows of tiles at each position.
    pub rows: usize,
}

/// Products need so many tiles at once for their taps to be worth reading again at each position.
const TILES_AT_ONCE: usize = 28;

/// Segments that keep what lies at the points in the second-level cache, where there is more of it.
pub fn in_cache(convolution: &Convolution, tooms: &Tooms, machine: &Machine) -> Vec<Segment> {
    let points: usize = tooms.iter().map(|toom| toom.points()).product();
    let batch: usize = convolution.batch.iter().map(|(_, extent)| extent).product();
    let tiles = tiles(convolution, tooms);
    let in_row = batch * tiles[1..].iter().product::<usize>();
    let (channels, out) = (convolution.depth(), convolution.out.1);
    let row_bytes = (4 * points * in_row * (channels + out)) as u64;
    let tap_bytes = (4 * points * channels * out) as u64;
    if row_bytes * tiles[0] as u64 <= machine.l2_bytes * 3 / 2 || tap_bytes > machine.l3_bytes / 3 {
        return of_rows(convolution, tooms, None);
    }
    let fitting = (machine.l2_bytes * 5 / 8 / row_bytes) as usize;
    let rows = fitting.max(TILES_AT_ONCE.div_ceil(in_row));
    let whole = convolution.windows[0].place.1 / tooms[0].outputs;
    // A number of rows that leaves none over, where one is near.
    let even = (rows.div_ceil(2)..=rows).rev().find(|rows| tiles[0] == whole && whole.is_multiple_of(*rows));
    match even {
        Some(rows) => of_rows(convolution, tooms, Some(rows)),
        // What is left over takes kernels of its own.
        None if whole / rows >= 4 => of_rows(convolution, tooms, Some(rows)),
        None => of_rows(convolution, tooms, None),
    }
}

/// A band of positions with so many rows of whole tiles each, and what is left.
pub fn of_rows(convolution: &Convolution, tooms: &Tooms, rows: Option<usize>) -> Vec<Segment> {
    let all = tiles(convolution, tooms)[0];
    let whole = convolution.windows[0].place.1 / tooms[0].outputs;
    let rows = rows.unwrap_or(all).max(1);
    let positions = whole / rows;
    if positions < 2 {
        return vec![Segment { first: 0, positions: 1, rows: all }];
    }
    let done = positions * rows;
    let rest = Segment { first: done, positions: 1, rows: all - done };
    let band = Segment { first: 0, positions, rows };
    [band, rest].into_iter().filter(|segment| segment.rows > 0).collect()
}
