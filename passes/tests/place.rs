//! Memory placement on real networks, on hard instances, on random ones and at the edges of the input.

use fusewright_passes::place::{Lifetime, Limits, PlaceError, Placement, place, verify};
use proptest::prelude::*;
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

#[derive(Deserialize)]
struct Row {
    lower: u32,
    upper: u32,
    size: u64,
}

fn read(path: &Path, align: u64) -> Vec<Lifetime> {
    let mut reader = csv::Reader::from_path(path).expect("a readable file");
    let rows = reader.deserialize().map(|row| row.expect("a well-formed row"));
    rows.map(|Row { lower, upper, size }| Lifetime { lower, upper, bytes: size, align }).collect()
}

/// Places and checks what must hold for every placement.
fn placed(lifetimes: &[Lifetime], limits: &Limits) -> Placement {
    let placement = place(lifetimes, limits).expect("well-formed lifetimes");
    assert_eq!(verify(lifetimes, &placement), Ok(()));
    assert_eq!(placement.lower_bound_bytes, most_live_bytes(lifetimes));
    assert!(placement.bytes >= placement.lower_bound_bytes);
    assert!(placement.proven_optimal || placement.bytes > placement.lower_bound_bytes);
    placement
}

/// The lower bound by its definition: no set of live buffers is larger than one at which some buffer begins.
fn most_live_bytes(lifetimes: &[Lifetime]) -> u64 {
    let live_bytes = |step: u32| {
        let live = lifetimes.iter().filter(|lifetime| (lifetime.lower..lifetime.upper).contains(&step));
        live.map(|lifetime| lifetime.bytes.next_multiple_of(lifetime.align)).sum()
    };
    lifetimes.iter().map(|lifetime| live_bytes(lifetime.lower)).max().unwrap_or(0)
}

#[test]
fn real_networks_meet_the_lower_bound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/memplan");
    let mut n_networks = 0;
    for entry in folder.read_dir().expect("the networks are part of the project") {
        let path = entry.expect("a readable folder").path();
        for align in [1, 64] {
            let lifetimes = read(&path, align);
            let placement = placed(&lifetimes, &Limits::default());
            assert_eq!(placement.bytes, placement.lower_bound_bytes, "{} aligned to {align}", path.display());
        }
        n_networks += 1;
    }
    assert_eq!(n_networks, 11);
}

#[test]
#[ignore = "needs the instances of MiniMalloc in $FUSEWRIGHT_DATA/minimalloc"]
fn hard_instances_fit_their_capacity() {
    let data = std::env::var_os("FUSEWRIGHT_DATA").expect("FUSEWRIGHT_DATA names the data folder");
    for (file, capacity) in [
        ("A.1048576", 1 << 20),
        ("B.1048576", 1 << 20),
        ("C.1048576", 1 << 20),
        ("D.1048576", 1 << 20),
        ("input.12", 12),
    ] {
        let lifetimes = read(&Path::new(&data).join("minimalloc").join(file).with_added_extension("csv"), 1);
        let placement = placed(&lifetimes, &Limits::default().capacity(capacity));
        assert!(placement.bytes <= capacity, "{file}: {} bytes", placement.bytes);
        let heuristics = placed(&lifetimes, &Limits::NO_SEARCH);
        assert!(file == "input.12" || heuristics.bytes > capacity, "{file} is not hard");
    }
}

#[test]
fn search_improves_on_the_heuristics() {
    let lifetimes = [(2, 4, 3), (4, 8, 4), (2, 5, 3), (1, 3, 2), (5, 7, 1)];
    let lifetimes = lifetimes.map(|(lower, upper, bytes)| Lifetime { lower, upper, bytes, align: 1 });
    let heuristics = placed(&lifetimes, &Limits::NO_SEARCH);
    assert_eq!((heuristics.bytes, heuristics.proven_optimal), (9, false));
    assert_eq!(placed(&lifetimes, &Limits::NO_SEARCH.capacity(8)), heuristics);
    let searched = placed(&lifetimes, &Limits::default());
    assert_eq!((searched.bytes, searched.lower_bound_bytes, searched.proven_optimal), (8, 8, true));
    assert_eq!(placed(&lifetimes, &Limits::within(Duration::from_secs(60))), searched);
}

#[test]
fn search_proves_optima_above_the_lower_bound() {
    // Whichever is below, the other begins at the next multiple of its alignment and ends at 12.
    let lifetimes = [4, 6].map(|align| Lifetime { lower: 0, upper: 1, bytes: align, align });
    assert!(!placed(&lifetimes, &Limits::NO_SEARCH).proven_optimal);
    let placement = placed(&lifetimes, &Limits::default());
    assert_eq!((placement.bytes, placement.lower_bound_bytes, placement.proven_optimal), (12, 10, true));
}

#[test]
fn nothing_takes_no_bytes() {
    let none = Placement { offsets: vec![], bytes: 0, lower_bound_bytes: 0, proven_optimal: true };
    assert_eq!(place(&[], &Limits::default()), Ok(none));
    let empty = Lifetime { lower: 0, upper: 9, bytes: 0, align: 64 };
    let never = Lifetime { lower: 3, upper: 3, bytes: u64::MAX, align: 64 };
    let some = Lifetime { lower: 0, upper: 9, bytes: 65, align: 64 };
    let placement = placed(&[empty, never], &Limits::default());
    assert_eq!((placement.bytes, placement.proven_optimal), (0, true));
    assert_eq!(placed(&[empty, some, never, some], &Limits::default()).bytes, 256);
}

#[test]
fn sizes_near_the_end_of_u64_do_not_wrap() {
    let all = |lower, upper| Lifetime { lower, upper, bytes: u64::MAX, align: 1 };
    let placement = placed(&[all(0, 1), all(1, 2)], &Limits::default());
    assert_eq!((placement.bytes, placement.proven_optimal), (u64::MAX, true));
    assert_eq!(place(&[all(0, 2), all(1, 2)], &Limits::default()), Err(PlaceError::TooLarge));
    let rounded = Lifetime { lower: 0, upper: 1, bytes: u64::MAX, align: 2 };
    assert_eq!(place(&[rounded], &Limits::default()), Err(PlaceError::TooLarge));
    // The sum fits, but neither block can begin at its alignment behind the other.
    let half = |align: u64| Lifetime { lower: 0, upper: 1, bytes: align, align };
    assert_eq!(place(&[half((1 << 63) + 1), half((1 << 63) - 2)], &Limits::default()), Err(PlaceError::TooLarge));
    let huge = [(0, 2, 1 << 62), (1, 3, 1 << 62), (2, 4, 3 << 61), (0, 4, 5)];
    let huge = huge.map(|(lower, upper, bytes)| Lifetime { lower, upper, bytes, align: 1 });
    placed(&huge, &Limits::default());
}

#[test]
fn malformed_lifetimes_are_errors() {
    let good = Lifetime { lower: 0, upper: 1, bytes: 1, align: 1 };
    let backwards = Lifetime { lower: 2, ..good };
    let unaligned = Lifetime { align: 0, ..good };
    let error = |lifetimes: &[Lifetime]| place(lifetimes, &Limits::default()).expect_err("malformed");
    assert_eq!(error(&[good, backwards]), PlaceError::EndsBeforeItBegins { index: 1 });
    assert_eq!(error(&[unaligned, good]), PlaceError::ZeroAlignment { index: 0 });
    assert_eq!(error(&[good, backwards]).to_string(), "buffer 1 ends before it begins");
}

#[test]
fn many_buffers_are_left_to_the_heuristics() {
    let lifetime =
        |n: u32| Lifetime { lower: n, upper: n + 2 + n * 7 % 5, bytes: u64::from(1 + n * 31 % 97), align: 4 };
    let lifetimes: Vec<_> = (0..3_000).map(lifetime).collect();
    placed(&lifetimes, &Limits { search_steps: 1_000_000, ..Limits::default() });
}

/// Up to 40 buffers with sizes and alignments that leave holes.
fn lifetimes() -> impl Strategy<Value = Vec<Lifetime>> {
    let align = prop::sample::select(vec![1, 4, 6, 16, 64]);
    let lifetime = (0..30_u32, 0..12_u32, 0..300_u64, align);
    let lifetime =
        lifetime.prop_map(|(lower, steps, bytes, align)| Lifetime { lower, upper: lower + steps, bytes, align });
    prop::collection::vec(lifetime, 0..40)
}

proptest! {
    #[test]
    fn placements_are_valid_and_repeatable(lifetimes in lifetimes()) {
        let limits = Limits { search_steps: 200_000, ..Limits::default() };
        let placement = placed(&lifetimes, &limits);
        prop_assert_eq!(place(&lifetimes, &limits), Ok(placement.clone()));
        let heuristics = placed(&lifetimes, &Limits::NO_SEARCH);
        prop_assert!(placement.bytes <= heuristics.bytes);
        if heuristics.proven_optimal {
            prop_assert_eq!(placement.bytes, heuristics.bytes);
        }
        let timed = placed(&lifetimes, &Limits::within(Duration::from_millis(1)));
        prop_assert!(timed.bytes <= heuristics.bytes);
        prop_assert!(!placement.proven_optimal || placement.bytes <= timed.bytes);
    }

    #[test]
    fn capacity_is_a_goal_not_a_promise(lifetimes in lifetimes()) {
        // Where anything will do, nothing is searched; where only the optimum will do, nothing better comes out.
        let full = placed(&lifetimes, &Limits { search_steps: 200_000, ..Limits::default() });
        let easy = placed(&lifetimes, &Limits::default().capacity(u64::MAX));
        prop_assert_eq!(&easy, &placed(&lifetimes, &Limits::NO_SEARCH));
        if full.proven_optimal {
            let aimed = placed(&lifetimes, &Limits::default().capacity(full.bytes));
            prop_assert!(aimed.bytes >= full.bytes);
        }
    }
}
