//! Exact search: is there a placement of these blocks within a given capacity?
//!
//! Only placements in which every block rests on the arena's floor or on another block are looked at: pushing blocks
//! down turns any placement into such a one. The search fills memory from the bottom. Every unplaced block has a lowest
//! offset, and each section's level is the lowest of the offsets of its unplaced blocks. A node takes a section whose
//! level is a local minimum and asks which block begins exactly there: each candidate in turn, and at last none, in
//! which case all candidates must rest on another unplaced block and their lowest offsets rise.
//!
//! What keeps it small: a bound per section (its unplaced blocks one after another, none below its lowest offset),
//! splitting whenever no unplaced block spans two neighbouring groups of sections, one try for blocks that are alike,
//! and a memory of refuted states. Canonical placements, section bounds and decomposition follow Moffitt, "MiniMalloc:
//! A Lightweight Memory Allocator for Hardware-Accelerated Machine Learning", ASPLOS 2023.

use super::greedy::Packing;
use super::problem::{Block, Problem, independent};
use super::tactics::{SectionRule, Tactic, scramble};
use rustc_hash::FxHashSet;
use std::ops::Range;
use std::time::Instant;

/// Parts with more blocks are left to the heuristics: the search recurses once a block, and keeps the rest each time.
pub(super) const MOST_BLOCKS: usize = 1_000;

/// The memory of refuted states stops growing here, at some 20 MB.
const MOST_REFUTED: usize = 500_000;

/// How many steps pass between two looks at the clock.
const STEPS_PER_LOOK: u64 = 100_000;

/// What the search found out about one capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A placement was found; it is [`Search::packing`].
    Found,
    /// There is none.
    Impossible,
    /// The steps or the time ran out.
    GaveUp,
}

/// The search over one part of a problem; keeps what it learns from one call of [`Search::decide`] to the next.
pub(super) struct Search<'a> {
    problem: &'a Problem,
    part: Range<usize>,
    /// The offset of every block of the part, in block order, after [`Verdict::Found`].
    offsets: Vec<u64>,
    /// Steps taken so far.
    pub(super) steps: u64,
    deadline: Option<Instant>,
    /// The number of steps at which to look at the clock again.
    next_look: u64,
    capacity: u64,
    step_limit: u64,
    section_rule: SectionRule,
    /// Position of each block in the order of the tactic's block rule.
    rank: Vec<usize>,
    /// Fingerprints of states that have no solution within `capacity`.
    refuted: FxHashSet<u128>,
    /// By section; valid between `measure` and the next node.
    levels: Vec<Level>,
}

/// An unplaced block and the lowest offset that it can still take.
#[derive(Clone, Copy)]
struct Item {
    block: usize,
    lowest: u64,
}

/// What the unplaced blocks of one section say.
#[derive(Clone, Copy)]
struct Level {
    /// The lowest of their offsets.
    height: u64,
    /// A lower bound of the highest end.
    end: u64,
    /// How many could begin at `height` as far as this section is concerned.
    n_candidates: u64,
    /// Whether one of those spans a section with a lower level.
    overhangs: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(problem: &'a Problem, part: Range<usize>, deadline: Option<Instant>) -> Search<'a> {
        Search {
            problem,
            offsets: vec![0; part.len()],
            steps: 0,
            deadline,
            next_look: 0,
            capacity: 0,
            step_limit: 0,
            section_rule: SectionRule::LeastSlack,
            rank: Vec::new(),
            refuted: FxHashSet::default(),
            levels: Vec::new(),
            part,
        }
    }

    /// Looks for a placement within `capacity`, which must be below `u64::MAX`, taking at most `steps` steps.
    pub(super) fn decide(&mut self, capacity: u64, tactic: Tactic, steps: u64) -> Verdict {
        // What does not fit into less memory may fit into more.
        if capacity > self.capacity {
            self.refuted.clear();
        }
        self.capacity = capacity;
        self.step_limit = self.steps.saturating_add(steps);
        self.section_rule = tactic.section;
        self.levels.resize(self.problem.sections_of(&self.part).end, Level::EMPTY);
        self.rank = vec![0; self.part.len()];
        for (rank, block) in tactic.order(self.problem, &self.part).into_iter().enumerate() {
            self.rank[block - self.part.start] = rank;
        }
        self.solve(self.part.clone().map(|block| Item { block, lowest: 0 }).collect())
    }

    /// The placement found last; only after [`Verdict::Found`].
    pub(super) fn packing(&self) -> Packing {
        let blocks = &self.problem.blocks[self.part.clone()];
        let peak = blocks.iter().zip(&self.offsets).map(|(block, offset)| offset + block.size).max().unwrap_or(0);
        Packing { offsets: self.offsets.clone(), peak }
    }

    /// Places all of `items`, which come in block order and are connected in time.
    fn solve(&mut self, mut items: Vec<Item>) -> Verdict {
        let mut states = Vec::new();
        loop {
            if !self.may_go_on() {
                return Verdict::GaveUp;
            }
            let state = fingerprint(&items);
            if !self.measure(&items) || self.refuted.contains(&state) {
                break;
            }
            states.push(state);
            let section = self.choose_section(&items);
            let candidates = self.candidates(&items, section);
            let mut tried: Vec<&Block> = Vec::new();
            for &candidate in &candidates {
                let block = &self.problem.blocks[candidate.block];
                if tried.iter().any(|other| alike(other, block)) {
                    continue;
                }
                tried.push(block);
                match self.solve_above(&items, candidate) {
                    Verdict::Impossible => {}
                    verdict => return verdict,
                }
            }
            self.lift(&mut items, &candidates);
        }
        if self.refuted.len() < MOST_REFUTED {
            self.refuted.extend(states);
        }
        Verdict::Impossible
    }

    /// Places `base` at its lowest offset, and then all other items.
    fn solve_above(&mut self, items: &[Item], base: Item) -> Verdict {
        let blocks = &self.problem.blocks;
        let block = &blocks[base.block];
        let top = base.lowest.saturating_add(block.size);
        let others = items.iter().filter(|item| item.block != base.block);
        let raised: Vec<Item> = others
            .map(|&item| {
                let other = &blocks[item.block];
                let lowest = if other.meets(block) { item.lowest.max(other.align_up(top)) } else { item.lowest };
                Item { lowest, ..item }
            })
            .collect();
        let mut runs = independent(raised.iter().map(|item| &blocks[item.block].sections));
        // One run without a solution settles the whole, and the shortest is the soonest known.
        runs.sort_by_key(|run| run.len());
        let runs: Vec<Vec<Item>> = runs.into_iter().map(|run| raised[run].to_vec()).collect();
        drop(raised);
        for run in runs {
            match self.solve(run) {
                Verdict::Found => {}
                verdict => return verdict,
            }
        }
        self.offsets[base.block - self.part.start] = base.lowest;
        Verdict::Found
    }

    /// Fills `levels` for the sections of `items`; false if some section's blocks cannot all end within the capacity.
    fn measure(&mut self, items: &[Item]) -> bool {
        let blocks = &self.problem.blocks;
        for item in items {
            for level in &mut self.levels[blocks[item.block].sections.clone()] {
                *level = Level::EMPTY;
            }
        }
        let mut by_offset = items.to_vec();
        by_offset.sort_unstable_by_key(|item| (item.lowest, item.block));
        for item in &by_offset {
            let block = &blocks[item.block];
            self.steps += block.width() + 1;
            for level in &mut self.levels[block.sections.clone()] {
                level.height = level.height.min(item.lowest);
                level.end = level.end.max(item.lowest).saturating_add(block.size);
                if level.end > self.capacity {
                    return false;
                }
            }
        }
        for item in items {
            let levels = &mut self.levels[blocks[item.block].sections.clone()];
            let overhangs = levels.iter().any(|level| level.height < item.lowest);
            for level in levels.iter_mut().filter(|level| level.height == item.lowest) {
                level.n_candidates += 1;
                level.overhangs |= overhangs;
            }
        }
        true
    }

    /// The section to fill next. A block placed there has no unplaced block beside it that could still go below.
    fn choose_section(&self, items: &[Item]) -> usize {
        let blocks = &self.problem.blocks;
        let start = blocks[items[0].block].sections.start;
        let end = items.iter().map(|item| blocks[item.block].sections.end).max().unwrap_or(start);
        let minima = (start..end).filter(|&section| !self.levels[section].overhangs);
        let key = |&section: &usize| {
            let level = self.levels[section];
            let slack = self.capacity - level.end;
            match self.section_rule {
                SectionRule::FewestCandidates => (level.n_candidates, slack),
                SectionRule::LeastSlack => (slack, level.n_candidates),
                SectionRule::LowestWithFewestCandidates => (level.height, level.n_candidates),
            }
        };
        minima.min_by_key(key).expect("the lowest level of all has no overhang")
    }

    /// The items that can begin exactly at the level of `section`, in the order of the tactic.
    fn candidates(&self, items: &[Item], section: usize) -> Vec<Item> {
        let height = self.levels[section].height;
        let begins =
            |item: &&Item| item.lowest == height && self.problem.blocks[item.block].sections.contains(&section);
        let mut candidates: Vec<Item> = items.iter().filter(begins).copied().collect();
        candidates.sort_by_key(|item| self.rank[item.block - self.part.start]);
        candidates
    }

    /// Raises the candidates of a section at whose level none of them begins: each rests on another unplaced block, and
    /// the lowest of them on one that is no candidate, because candidates all share the section.
    fn lift(&mut self, items: &mut [Item], candidates: &[Item]) {
        let blocks = &self.problem.blocks;
        let is_candidate = |item: &Item| candidates.iter().any(|candidate| candidate.block == item.block);
        let rest_on =
            |block: &Block, below: &Item, lowest: u64| block.align_up(lowest.saturating_add(blocks[below.block].size));
        let on_others: Vec<u64> = candidates
            .iter()
            .map(|candidate| {
                let block = &blocks[candidate.block];
                let others = items.iter().filter(|item| !is_candidate(item) && blocks[item.block].meets(block));
                others.map(|item| rest_on(block, item, item.lowest)).min().unwrap_or(u64::MAX)
            })
            .collect();
        self.steps += (candidates.len() * items.len()) as u64;
        for item in items.iter_mut().filter(|item| is_candidate(item)) {
            let block = &blocks[item.block];
            let lifts = candidates.iter().zip(&on_others).map(|(candidate, &lift)| {
                if candidate.block == item.block { lift } else { rest_on(block, candidate, lift) }
            });
            item.lowest = lifts.min().unwrap_or(u64::MAX);
        }
    }

    fn may_go_on(&mut self) -> bool {
        if self.steps >= self.next_look {
            self.next_look = self.steps + STEPS_PER_LOOK;
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.next_look = self.steps;
                return false;
            }
        }
        self.steps < self.step_limit
    }
}

impl Level {
    const EMPTY: Level = Level { height: u64::MAX, end: 0, n_candidates: 0, overhangs: false };
}

/// Whether exchanging the two changes nothing.
fn alike(a: &Block, b: &Block) -> bool {
    a.sections == b.sections && a.size == b.size && a.align == b.align
}

/// 128 bits that stand for a set of items: the state of a search is nothing else. Two states that appear in one search
/// agree by accident with a probability below 2^-80, and could then hide a placement, never yield a false one.
fn fingerprint(items: &[Item]) -> u128 {
    items.iter().fold(0, |sum, item| {
        let low = scramble(item.lowest ^ scramble(item.block as u64));
        let high = scramble(low ^ scramble(!item.lowest));
        sum.wrapping_add(u128::from(high) << 64 | u128::from(low))
    })
}

#[cfg(test)]
mod tests;
