//! Lifetimes as the solver wants them: whole units of size, time cut into few sections, independent parts apart.

use super::{Lifetime, PlaceError};
use std::cmp::Reverse;
use std::ops::Range;

/// A buffer that takes storage. Sizes, alignments and offsets are in units of [`Problem::unit`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Position in the input.
    pub(super) index: usize,
    /// The sections in which it is live, never empty.
    pub(super) sections: Range<usize>,
    /// Size, a positive multiple of `align`.
    pub(super) size: u64,
    /// Its offset is a multiple of this.
    pub(super) align: u64,
}

/// All blocks, by first section and then by input order.
pub(super) struct Problem {
    pub(super) blocks: Vec<Block>,
    /// The sum of sizes live in each section.
    pub(super) load: Vec<u64>,
    /// Bytes in one unit. All sizes are whole units, and so are all offsets at which a block rests on others.
    pub(super) unit: u64,
    /// Ranges of `blocks` no two of which share a section: each is a problem of its own.
    pub(super) parts: Vec<Range<usize>>,
}

impl Block {
    /// Whether both are live in some section.
    pub(super) fn meets(&self, other: &Block) -> bool {
        self.sections.start < other.sections.end && other.sections.start < self.sections.end
    }

    /// The lowest allowed offset at or above `floor`; `u64::MAX` if there is none.
    pub(super) fn align_up(&self, floor: u64) -> u64 {
        floor.checked_next_multiple_of(self.align).unwrap_or(u64::MAX)
    }

    /// How many sections it spans.
    pub(super) fn width(&self) -> u64 {
        self.sections.len() as u64
    }
}

impl Problem {
    /// Checks and rounds all lifetimes and drops those that take no storage.
    pub(super) fn new(lifetimes: &[Lifetime]) -> Result<Problem, PlaceError> {
        let section_starts = section_starts(lifetimes);
        let section = |time: u32| section_starts.partition_point(|&start| start < time);
        let mut blocks = Vec::new();
        for (index, lifetime) in lifetimes.iter().enumerate() {
            if lifetime.lower > lifetime.upper {
                return Err(PlaceError::EndsBeforeItBegins { index });
            }
            if lifetime.align == 0 {
                return Err(PlaceError::ZeroAlignment { index });
            }
            if takes_storage(lifetime) {
                let align = lifetime.align;
                let size = lifetime.bytes.checked_next_multiple_of(align).ok_or(PlaceError::TooLarge)?;
                blocks.push(Block { index, sections: section(lifetime.lower)..section(lifetime.upper), size, align });
            }
        }
        let unit = unit(&blocks);
        for block in &mut blocks {
            block.size /= unit;
            block.align = (block.align / unit).max(1);
        }
        blocks.sort_by_key(|block| (block.sections.start, block.index));
        let mut load = vec![0_u64; section_starts.len()];
        for block in &blocks {
            for section in block.sections.clone() {
                load[section] = load[section].checked_add(block.size).ok_or(PlaceError::TooLarge)?;
            }
        }
        if load.iter().any(|units| units.checked_mul(unit).is_none()) {
            return Err(PlaceError::TooLarge);
        }
        let parts = independent(blocks.iter().map(|block| &block.sections));
        Ok(Problem { blocks, load, unit, parts })
    }

    /// The largest load of a section.
    pub(super) fn lower_bound(&self) -> u64 {
        self.load.iter().copied().max().unwrap_or(0)
    }

    /// The largest load of a section that these blocks span.
    pub(super) fn lower_bound_of(&self, part: &Range<usize>) -> u64 {
        let sections = self.sections_of(part);
        self.load[sections].iter().copied().max().unwrap_or(0)
    }

    /// The sections that a part spans.
    pub(super) fn sections_of(&self, part: &Range<usize>) -> Range<usize> {
        let blocks = &self.blocks[part.clone()];
        let end = blocks.iter().map(|block| block.sections.end).max().unwrap_or(0);
        blocks.first().map_or(0, |block| block.sections.start)..end
    }

    /// The largest load that a block lives through.
    pub(super) fn load_under(&self, block: &Block) -> u64 {
        self.load[block.sections.clone()].iter().copied().max().unwrap_or(0)
    }

    /// The blocks of a part, by falling `key`, ties in block order.
    pub(super) fn sorted_by<K: Ord>(&self, part: &Range<usize>, key: impl Fn(&Block) -> K) -> Vec<usize> {
        let mut order: Vec<usize> = part.clone().collect();
        order.sort_by_cached_key(|&block| Reverse(key(&self.blocks[block])));
        order
    }
}

/// Cuts intervals that come by rising start into runs, such that intervals of different runs never meet.
pub(super) fn independent<'a>(intervals: impl Iterator<Item = &'a Range<usize>>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut reach = 0;
    for (position, interval) in intervals.enumerate() {
        match runs.last_mut() {
            Some(run) if interval.start < reach => run.end = position + 1,
            _ => runs.push(position..position + 1),
        }
        reach = reach.max(interval.end);
    }
    runs
}

/// A buffer without bytes or without a live step may be anywhere.
fn takes_storage(lifetime: &Lifetime) -> bool {
    lifetime.bytes > 0 && lifetime.lower < lifetime.upper
}

/// The steps that matter: at each, a buffer begins and the next event is an end, so the set of live buffers is maximal.
/// Two lifetimes overlap exactly if both cover one of them (the maximal cliques of an interval graph).
fn section_starts(lifetimes: &[Lifetime]) -> Vec<u32> {
    const END: u8 = 0;
    const BEGIN: u8 = 1;
    let stored = lifetimes.iter().filter(|lifetime| takes_storage(lifetime));
    let mut events: Vec<(u32, u8)> = stored.flat_map(|l| [(l.upper, END), (l.lower, BEGIN)]).collect();
    // Intervals are half-open: at one step, ends come before beginnings.
    events.sort_unstable();
    let maximal = events.windows(2).filter(|pair| pair[0].1 == BEGIN && pair[1].1 == END);
    maximal.map(|pair| pair[0].0).collect()
}

/// The largest unit that divides every size and either divides an alignment or is a multiple of it. A multiple of the
/// unit rounded up to an alignment is then a multiple of the unit, and fewer peaks are possible than there are bytes.
fn unit(blocks: &[Block]) -> u64 {
    let mut unit = blocks.iter().fold(0, |divisor, block| gcd(divisor, block.size)).max(1);
    while let Some(block) = blocks.iter().find(|block| unit % block.align != 0 && block.align % unit != 0) {
        unit = gcd(unit, block.align);
    }
    unit
}

/// Greatest common divisor; `gcd(0, n)` is `n`.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(lower: u32, upper: u32, bytes: u64, align: u64) -> Lifetime {
        Lifetime { lower, upper, bytes, align }
    }

    #[test]
    fn sections_are_the_maximal_live_sets() {
        // 0..2 and 1..4 meet at step 1; 3..5 meets the second only; 5..6 meets nothing.
        let lifetimes = [lifetime(3, 5, 6, 2), lifetime(0, 2, 7, 2), lifetime(1, 4, 12, 2), lifetime(5, 6, 2, 2)];
        let problem = Problem::new(&lifetimes).unwrap();
        assert_eq!(problem.unit, 2);
        assert_eq!(problem.load, [4 + 6, 3 + 6, 1]);
        assert_eq!(problem.parts, [0..3, 3..4]);
        let sections: Vec<_> = problem.blocks.iter().map(|block| (block.index, block.sections.clone())).collect();
        assert_eq!(sections, [(1, 0..1), (2, 0..2), (0, 1..2), (3, 2..3)]);
    }

    #[test]
    fn malformed_lifetimes_are_named() {
        let good = lifetime(0, 1, 8, 8);
        let error = |bad| Problem::new(&[good, bad]).map(|_| ()).unwrap_err();
        assert_eq!(error(lifetime(2, 1, 0, 1)), PlaceError::EndsBeforeItBegins { index: 1 });
        assert_eq!(error(lifetime(0, 0, 1, 0)), PlaceError::ZeroAlignment { index: 1 });
        assert_eq!(error(lifetime(0, 1, u64::MAX, 1)), PlaceError::TooLarge);
        assert_eq!(error(lifetime(5, 6, u64::MAX, 2)), PlaceError::TooLarge);
    }

    #[test]
    fn units_are_as_large_as_sizes_and_alignments_allow() {
        let scaled = |lifetimes: &[Lifetime]| {
            let problem = Problem::new(lifetimes).unwrap();
            let blocks = problem.blocks.iter().map(|block| (block.size, block.align)).collect::<Vec<_>>();
            (problem.unit, blocks)
        };
        assert_eq!(scaled(&[]), (1, vec![]));
        assert_eq!(scaled(&[lifetime(0, 9, 3072, 1), lifetime(0, 9, 2048, 64)]), (1024, vec![(3, 1), (2, 1)]));
        assert_eq!(scaled(&[lifetime(0, 9, 60, 20), lifetime(0, 9, 5, 30)]), (10, vec![(6, 2), (3, 3)]));
        assert_eq!(scaled(&[lifetime(0, 9, 12, 3), lifetime(0, 9, 24, 8)]), (1, vec![(12, 3), (24, 8)]));
    }
}
