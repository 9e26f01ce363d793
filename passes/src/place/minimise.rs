//! From "is there a placement within this capacity?" to the lowest peak: which capacities to ask for, and how long.

use super::greedy::{self, Packing};
use super::problem::Problem;
use super::search::{MOST_BLOCKS, Search, Verdict};
use super::tactics::{Tactic, tactics};
use super::{Limits, PlaceError};
use std::time::Instant;

/// Offsets of all blocks of a problem, in block order.
pub(super) struct Solution {
    pub(super) offsets: Vec<u64>,
    pub(super) peak: u64,
    pub(super) proven_optimal: bool,
}

/// What is known about one independent part.
struct Part<'a> {
    packing: Packing,
    /// No placement of this part has a lower peak.
    proven: u64,
    search: Search<'a>,
    /// Rounds of search so far.
    rounds: u32,
    /// Steps that one tactic may take in the next round.
    patience: u64,
    /// One part in so many of the way to the goal is asked for when the goal itself is too hard.
    modesty: u64,
}

/// Places all blocks, heuristics first, then search within the limits.
pub(super) fn minimise(problem: &Problem, limits: &Limits) -> Result<Solution, PlaceError> {
    let deadline = limits.deadline.and_then(|time| Instant::now().checked_add(time));
    let lower_bound = problem.lower_bound();
    let mut parts = Vec::with_capacity(problem.parts.len());
    for range in &problem.parts {
        let packing = greedy::pack(problem, range, lower_bound).ok_or(PlaceError::TooLarge)?;
        let width: u64 = problem.blocks[range.clone()].iter().map(|block| block.width() + 1).sum();
        parts.push(Part {
            packing,
            proven: problem.lower_bound_of(range),
            search: Search::new(problem, range.clone(), deadline),
            rounds: 0,
            // Enough to place every block once without going back, and as much again.
            patience: width.saturating_mul(range.len() as u64),
            modesty: 2,
        });
    }
    let enough = limits.capacity.map_or(0, |bytes| bytes / problem.unit);
    let mut steps_left = limits.search_steps;
    // The part with the highest peak decides; the others need not be better than what is proven for any of them.
    while let Some(highest) = (0..parts.len()).rev().max_by_key(|&part| parts[part].packing.peak) {
        let goal = proven(&parts).max(enough);
        let out_of_time = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let part = &mut parts[highest];
        let too_many = part.packing.offsets.len() > MOST_BLOCKS;
        if part.packing.peak <= goal || steps_left == 0 || out_of_time || too_many {
            break;
        }
        let steps_before = part.search.steps;
        part.round(goal, steps_left);
        steps_left = steps_left.saturating_sub(part.search.steps - steps_before);
    }
    let peak = parts.iter().map(|part| part.packing.peak).max().unwrap_or(0);
    Ok(Solution {
        peak,
        proven_optimal: peak <= proven(&parts),
        offsets: parts.into_iter().flat_map(|part| part.packing.offsets).collect(),
    })
}

/// The highest peak that some part is known to need.
fn proven(parts: &[Part<'_>]) -> u64 {
    parts.iter().map(|part| part.proven).max().unwrap_or(0)
}

impl Part<'_> {
    /// Lets every tactic ask for `goal`, and then for some way from the known peak towards it. Tactics either succeed
    /// soon or hardly ever, so all of them get a little patience before any gets more in the next round.
    fn round(&mut self, goal: u64, steps: u64) {
        let end = self.search.steps.saturating_add(steps);
        for tactic in tactics(self.rounds) {
            self.ask(goal.max(self.proven), tactic, end);
            let gap = self.packing.peak.saturating_sub(goal.max(self.proven));
            self.modesty = match self.ask(self.packing.peak - gap.div_ceil(self.modesty), tactic, end) {
                Verdict::GaveUp => self.modesty.saturating_mul(2),
                Verdict::Found | Verdict::Impossible => (self.modesty / 2).max(2),
            };
            if self.packing.peak <= goal.max(self.proven) || self.search.steps >= end {
                return;
            }
        }
        self.rounds += 1;
        self.patience = self.patience.saturating_mul(2);
    }

    /// Asks whether this part fits into `capacity`, and keeps what the answer says.
    fn ask(&mut self, capacity: u64, tactic: Tactic, end: u64) -> Verdict {
        if capacity >= self.packing.peak {
            return Verdict::Found;
        }
        let steps = self.patience.min(end.saturating_sub(self.search.steps));
        let verdict = self.search.decide(capacity, tactic, steps);
        match verdict {
            Verdict::Found => self.packing = self.search.packing(),
            Verdict::Impossible => self.proven = self.proven.max(capacity + 1),
            Verdict::GaveUp => {}
        }
        verdict
    }
}
