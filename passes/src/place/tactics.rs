//! In which order the search tries sections and blocks: every tactic gets to the same answer, sooner or much later.
//!
//! Each of these is quick on some instances and hopeless on others, and which is which cannot be told beforehand. So
//! many short attempts are better than few long ones, and from the second round on the order of blocks is shuffled a
//! little, differently each time.

use super::problem::{Block, Problem};
use std::ops::Range;

/// In which order a search tries sections and blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tactic {
    pub(super) section: SectionRule,
    block: BlockRule,
    /// 0 keeps the order of the block rule; any other number moves blocks ahead by up to [`REACH`] of the order.
    shuffle: u64,
}

/// Which local minimum is filled next.
#[derive(Clone, Copy, Debug)]
pub(super) enum SectionRule {
    /// Of the lowest, that with the fewest candidates.
    LowestWithFewestCandidates,
    /// That with the fewest candidates, and the least slack of these.
    FewestCandidates,
    /// That with the least slack, and the fewest candidates of these.
    LeastSlack,
}

/// Which candidate is tried first.
#[derive(Clone, Copy, Debug)]
enum BlockRule {
    Largest,
    Longest,
    LargestArea,
    MostLoaded,
}

/// One in how many places of the order a shuffled block may move.
const REACH: usize = 3;

/// All tactics, in the order in which they are tried in a round: neighbours differ in both rules.
pub(super) fn tactics(round: u32) -> impl Iterator<Item = Tactic> {
    use BlockRule::{Largest, LargestArea, Longest, MostLoaded};
    use SectionRule::{FewestCandidates, LeastSlack, LowestWithFewestCandidates};
    let sections = [LowestWithFewestCandidates, FewestCandidates, LeastSlack];
    let blocks = [Largest, MostLoaded, Longest, LargestArea];
    // 3 and 4 have no common divisor: counting through both at once meets every pair.
    (0..12).map(move |k| Tactic {
        section: sections[k % 3],
        block: blocks[k % 4],
        shuffle: u64::from(round) * (k as u64 + 1),
    })
}

impl Tactic {
    /// The blocks of a part, first tried first.
    pub(super) fn order(self, problem: &Problem, part: &Range<usize>) -> Vec<usize> {
        let area = |block: &Block| u128::from(block.width()) * u128::from(block.size);
        let order = match self.block {
            BlockRule::Largest => problem.sorted_by(part, |block| (block.size, block.width())),
            BlockRule::Longest => problem.sorted_by(part, |block| (block.width(), block.size)),
            BlockRule::LargestArea => problem.sorted_by(part, area),
            BlockRule::MostLoaded => problem.sorted_by(part, |block| (problem.load_under(block), block.size)),
        };
        if self.shuffle == 0 {
            return order;
        }
        let reach = (part.len() / REACH + 1) as u64;
        let shift = |block: usize| scramble(self.shuffle ^ scramble(block as u64)) % reach;
        let mut places: Vec<_> =
            order.iter().enumerate().map(|(place, &block)| (place as u64 + shift(block), block)).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, block)| block).collect()
    }
}

/// The finaliser of SplitMix64: a bijection in which every input bit reaches every output bit.
pub(super) fn scramble(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
