use super::*;
use crate::place::tactics::tactics;
use crate::place::{Lifetime, Placement, verify};
use proptest::prelude::*;

/// The search's own answer, one search a part; it is not allowed to be "gave up".
fn decide(searches: &mut [Search<'_>], capacity: u64, tactic: Tactic) -> Option<Vec<Packing>> {
    let mut packings = Vec::new();
    for search in searches {
        match search.decide(capacity, tactic, u64::MAX) {
            Verdict::Found => packings.push(search.packing()),
            Verdict::Impossible => return None,
            Verdict::GaveUp => panic!("the steps have no limit"),
        }
    }
    Some(packings)
}

/// The slow, obvious version: every aligned offset for every block, in input order, without any theory.
fn fits(lifetimes: &[Lifetime], capacity: u64, placed: &mut Vec<u64>) -> bool {
    let Some(next) = lifetimes.get(placed.len()) else { return true };
    let size = next.bytes.next_multiple_of(next.align);
    (0..=capacity.saturating_sub(size)).step_by(next.align as usize).any(|offset| {
        let free = lifetimes.iter().zip(placed.iter()).all(|(other, &at)| {
            let apart = other.upper <= next.lower || next.upper <= other.lower;
            apart || at + other.bytes.next_multiple_of(other.align) <= offset || offset + size <= at
        });
        if !free || offset + size > capacity {
            return false;
        }
        placed.push(offset);
        let found = fits(lifetimes, capacity, placed);
        if !found {
            placed.pop();
        }
        found
    })
}

/// Few steps and small sizes, so that many optima lie above the lower bound.
fn tiny() -> impl Strategy<Value = Vec<Lifetime>> {
    let lifetime = (0..6_u32, 1..5_u32, 1..6_u64, prop::sample::select(vec![1_u64, 1, 2, 3]));
    prop::collection::vec(lifetime, 1..10).prop_map(|rows| {
        let lifetime = |(lower, length, bytes, align)| Lifetime { lower, upper: lower + length, bytes, align };
        rows.into_iter().map(lifetime).collect()
    })
}

/// A rectangle of 40 steps x 100 bytes cut into blocks: they are known to fit into 100 bytes, and only just.
fn perfect() -> impl Strategy<Value = Vec<Lifetime>> {
    let cut = (any::<prop::sample::Index>(), any::<bool>(), any::<prop::sample::Index>());
    prop::collection::vec(cut, 5..60).prop_map(|cuts| {
        let mut blocks = vec![Lifetime { lower: 0, upper: 40, bytes: 100, align: 1 }];
        for (which, in_time, at) in cuts {
            let which = which.index(blocks.len());
            let whole = blocks[which];
            let (mut first, mut second) = (whole, whole);
            if in_time && whole.upper - whole.lower > 1 {
                first.upper = whole.lower + 1 + at.index((whole.upper - whole.lower - 1) as usize) as u32;
                second.lower = first.upper;
            } else if whole.bytes > 1 {
                first.bytes = 1 + at.index((whole.bytes - 1) as usize) as u64;
                second.bytes = whole.bytes - first.bytes;
            } else {
                continue;
            }
            blocks[which] = first;
            blocks.push(second);
        }
        blocks
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_tactic_agrees_with_brute_force(lifetimes in tiny()) {
        let problem = Problem::new(&lifetimes).unwrap();
        let bound = problem.lower_bound();
        let is_possible = |units: &u64| fits(&lifetimes, units * problem.unit, &mut Vec::new());
        let optimum = (bound..).find(is_possible).unwrap();
        for tactic in tactics(0).chain(tactics(1)) {
            // The same searches for all capacities: what they remember must not outlive the capacity it is true for.
            let mut searches: Vec<_> =
                problem.parts.iter().map(|part| Search::new(&problem, part.clone(), None)).collect();
            prop_assert!((bound..optimum).all(|capacity| decide(&mut searches, capacity, tactic).is_none()));
            let packings = decide(&mut searches, optimum, tactic).expect("brute force has found one");
            let mut offsets = vec![0; lifetimes.len()];
            let placed = packings.iter().flat_map(|packing| &packing.offsets);
            for (block, offset) in problem.blocks.iter().zip(placed) {
                offsets[block.index] = offset * problem.unit;
            }
            let bytes = optimum * problem.unit;
            let placement = Placement { offsets, bytes, lower_bound_bytes: 0, proven_optimal: false };
            prop_assert_eq!(verify(&lifetimes, &placement), Ok(()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_fits_is_never_refuted(lifetimes in perfect()) {
        let problem = Problem::new(&lifetimes).unwrap();
        for tactic in tactics(0).chain(tactics(1)) {
            for part in &problem.parts {
                let verdict = Search::new(&problem, part.clone(), None).decide(100, tactic, 100_000);
                prop_assert_ne!(verdict, Verdict::Impossible);
            }
        }
    }
}

#[test]
fn lifted_blocks_rest_on_others_directly_or_not() {
    // Both candidates of section 0 have room below them only if the long one rests on the block of section 1; the
    // short one meets nothing but the long one.
    let lifetimes = [(0, 2, 4), (0, 1, 3), (1, 2, 2)];
    let lifetimes = lifetimes.map(|(lower, upper, bytes)| Lifetime { lower, upper, bytes, align: 1 });
    let problem = Problem::new(&lifetimes).unwrap();
    let mut search = Search::new(&problem, 0..3, None);
    let mut items = [0, 1, 2].map(|block| Item { block, lowest: 0 });
    let candidates = [items[0], items[1]];
    search.lift(&mut items, &candidates);
    assert_eq!(items.map(|item| item.lowest), [2, 6, 0]);
}

#[test]
fn states_differ_by_block_and_by_offset() {
    let state = |items: &[(usize, u64)]| {
        fingerprint(&items.iter().map(|&(block, lowest)| Item { block, lowest }).collect::<Vec<_>>())
    };
    let states = [
        state(&[]),
        state(&[(0, 0)]),
        state(&[(0, 1)]),
        state(&[(1, 0)]),
        state(&[(0, 0), (1, 0)]),
        state(&[(0, 1), (1, 0)]),
        state(&[(0, 0), (1, 1)]),
    ];
    for (index, state) in states.iter().enumerate() {
        assert!(!states[..index].contains(state), "state {index}");
    }
}

#[test]
fn the_deepest_search_fits_the_stack() {
    // One block after another from the bottom: the search recurses as often as there are blocks.
    let lifetimes: Vec<Lifetime> =
        (1..=MOST_BLOCKS as u64).map(|bytes| Lifetime { lower: 0, upper: 1, bytes, align: 1 }).collect();
    let problem = Problem::new(&lifetimes).unwrap();
    let mut search = Search::new(&problem, 0..lifetimes.len(), None);
    let tactic = tactics(0).next().unwrap();
    assert_eq!(search.decide(problem.lower_bound(), tactic, u64::MAX), Verdict::Found);
    assert_eq!(search.packing().peak, problem.lower_bound());
}
