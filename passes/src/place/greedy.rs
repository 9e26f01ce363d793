//! Placement in one pass: take the blocks in some order and put each into a hole between those already placed.

use super::problem::{Block, Problem};
use std::ops::Range;

/// An offset for every block of a part, in block order, and the highest end.
#[derive(Clone, Debug)]
pub(super) struct Packing {
    pub(super) offsets: Vec<u64>,
    pub(super) peak: u64,
}

/// Which of several holes that are large enough a block takes.
#[derive(Clone, Copy)]
enum Fit {
    /// The lowest.
    First,
    /// The smallest; the space above everything is the largest of all.
    Best,
}

/// The best packing of several orders and fits; stops at the first whose peak is at most `goal`.
///
/// Returns `None` only if every packing exceeds 64 bits.
pub(super) fn pack(problem: &Problem, part: &Range<usize>, goal: u64) -> Option<Packing> {
    let mut best: Option<Packing> = None;
    for order in ORDERS {
        let order = order(problem, part);
        for fit in [Fit::First, Fit::Best] {
            let Some(packing) = pack_in_order(problem, part, &order, fit) else { continue };
            if best.as_ref().is_none_or(|best| packing.peak < best.peak) {
                best = Some(packing);
            }
            if best.as_ref().is_some_and(|best| best.peak <= goal) {
                return best;
            }
        }
    }
    best
}

type Order = fn(&Problem, &Range<usize>) -> Vec<usize>;

/// Large, long or central blocks first: what is placed late must fit into what is left.
const ORDERS: [Order; 6] = [
    |problem, part| problem.sorted_by(part, |block| (block.size, block.width())),
    |problem, part| problem.sorted_by(part, |block| u128::from(block.size) * u128::from(block.width())),
    |problem, part| problem.sorted_by(part, |block| (block.width(), block.size)),
    |problem, part| problem.sorted_by(part, |block| (problem.load_under(block), block.size)),
    from_the_peak_outward,
    |_, part| part.clone().collect(),
];

/// Nearest to the fullest section first, the larger first among equally near.
fn from_the_peak_outward(problem: &Problem, part: &Range<usize>) -> Vec<usize> {
    let sections = problem.sections_of(part);
    let peak = sections.rev().max_by_key(|&section| problem.load[section]).unwrap_or(0);
    let distance = |block: &Block| {
        let after = block.sections.start.saturating_sub(peak);
        let before = (peak + 1).saturating_sub(block.sections.end);
        after.max(before)
    };
    problem.sorted_by(part, |block| (std::cmp::Reverse(distance(block)), block.size))
}

fn pack_in_order(problem: &Problem, part: &Range<usize>, order: &[usize], fit: Fit) -> Option<Packing> {
    let mut offsets = vec![0; part.len()];
    let mut peak = 0;
    // Blocks already placed with their offset, lowest first.
    let mut placed: Vec<(u64, &Block)> = Vec::with_capacity(part.len());
    for &position in order {
        let block = &problem.blocks[position];
        let offset = choose_hole(block, &placed, fit);
        peak = peak.max(offset.checked_add(block.size)?);
        offsets[position - part.start] = offset;
        placed.insert(placed.partition_point(|&(other, _)| other < offset), (offset, block));
    }
    peak.checked_mul(problem.unit)?;
    Some(Packing { offsets, peak })
}

/// The offset that `block` takes among the placed blocks, which come by rising offset.
fn choose_hole(block: &Block, placed: &[(u64, &Block)], fit: Fit) -> u64 {
    let mut best_hole: Option<(u64, u64)> = None;
    let mut floor = 0;
    for &(offset, other) in placed.iter().filter(|(_, other)| block.meets(other)) {
        let start = block.align_up(floor);
        if start.saturating_add(block.size) <= offset {
            let hole = offset - floor;
            match fit {
                Fit::First => return start,
                Fit::Best if best_hole.is_none_or(|(smallest, _)| hole < smallest) => best_hole = Some((hole, start)),
                Fit::Best => {}
            }
        }
        floor = floor.max(offset + other.size);
    }
    best_hole.map_or_else(|| block.align_up(floor), |(_, start)| start)
}

#[cfg(test)]
mod tests {
    use super::super::Lifetime;
    use super::*;

    #[test]
    fn first_fit_takes_the_lowest_hole_and_best_fit_the_smallest() {
        let lifetimes = [(0, 9, 4), (0, 1, 5), (0, 9, 1), (0, 1, 2), (0, 9, 1), (1, 2, 2)]
            .map(|(lower, upper, bytes)| Lifetime { lower, upper, bytes, align: 1 });
        let problem = Problem::new(&lifetimes).unwrap();
        let blocks: Vec<usize> = (0..6).collect();
        let offset_of_last = |fit| pack_in_order(&problem, &(0..6), &blocks, fit).unwrap().offsets[5];
        assert_eq!(offset_of_last(Fit::First), 4);
        assert_eq!(offset_of_last(Fit::Best), 10);
    }

    #[test]
    fn blocks_at_the_peak_come_first() {
        let lifetimes = [(0, 2, 1), (1, 3, 5), (2, 4, 5), (3, 5, 1), (4, 6, 4)].map(|(lower, upper, bytes)| Lifetime {
            lower,
            upper,
            bytes,
            align: 1,
        });
        let problem = Problem::new(&lifetimes).unwrap();
        assert_eq!(from_the_peak_outward(&problem, &(0..5)), [1, 2, 0, 3, 4]);
    }
}
