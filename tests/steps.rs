//! Ten thousand steps of a training: nothing is allocated, the process does not grow, parameters stay where they are, and the
//! number of threads changes no bit. One test alone in its process, without a harness, for what is allocated and resident belongs to
//! all of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/status.rs"]
mod status;

use fusewright::{Event, Options, Recipe, Tensor, Trainer};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the allocations of all threads.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged; counting needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`. Passed on, so that fresh memory is resident when it is used.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Bytes of this process in memory; `None` where the system does not tell.
fn resident() -> Option<u64> {
    status::status("VmRSS")
}

fn recipe(path: &str) -> Recipe {
    Recipe::load(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// All state, bit by bit.
fn bits(trainer: &Trainer) -> Vec<(String, Vec<u8>)> {
    let state = trainer.state();
    state.names().map(|(name, ..)| (name.to_string(), state.get(name).unwrap().data().bytes().to_vec())).collect()
}

fn main() {
    a_step_takes_the_memory_of_its_plan();
    let [one, two] = [1, 2].map(train);
    assert!(one == two, "the number of threads changes no bit");
}

/// What becomes resident in the first steps is what the plan says, within 5 %.
fn a_step_takes_the_memory_of_its_plan() {
    let mut trainer = Trainer::new(recipe("benches/rows/train_convnet_b64.ron"), None, Options::default()).unwrap();
    let x = Tensor::from_vec(&[64, 3, 32, 32], (0..64 * 3072).map(|i| (i % 13) as f32 / 13.0).collect());
    let labels = Tensor::from_vec(&[64], (0..64i64).map(|i| i % 10).collect());
    let plan = trainer.plan();
    // The state and the constants are in memory already, with what they were set to.
    let planned = plan.arena_bytes + plan.scratch_bytes;
    let before = resident();
    for _ in 0..2 {
        trainer.step(&[("x", &x), ("labels", &labels)]).unwrap();
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        let taken = (after - before) as f64;
        assert!((taken / planned as f64 - 1.0).abs() < 0.05, "{taken} bytes for a plan of {planned}");
    }
}

/// 10,000 steps by `fit`, the last batch of each epoch a smaller one, and by hand.
fn train(threads: usize) -> Vec<(String, Vec<u8>)> {
    let recipe = recipe("models/train_softmax.ron").with_batch(96).with_epochs(120);
    let (data, _) = recipe.data().unwrap().unwrap();
    let mut trainer = Trainer::new(recipe, Some(&data), Options { threads, ..Options::default() }).unwrap();
    let per_epoch = trainer.length().steps_per_epoch;
    assert_eq!((per_epoch, data.len() % 96), (84, 32));
    let address =
        |trainer: &Trainer| ["scores.weight", "scores.bias", "step"].map(|name| trainer.state().address(name));
    let begin = address(&trainer);
    let mut settled = None;
    trainer
        .fit(&data, None, |_, event| {
            // By the end of the first epoch both sizes of batches have their code.
            if let Event::Step { step, .. } = event {
                match &settled {
                    None if step == 2 * per_epoch => {
                        let resident = resident();
                        settled = Some((allocations(), resident));
                    }
                    Some((before, _)) => assert_eq!(allocations(), *before, "step {step}"),
                    None => {}
                }
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let (_, before) = settled.unwrap();
    assert_eq!((trainer.steps(), address(&trainer)), (120 * per_epoch, begin));
    if let (Some(before), Some(after)) = (before, resident()) {
        // Pages of the heap that were given back after compiling are touched again between epochs.
        assert!(after <= before + (128 << 10), "{before} bytes resident, then {after}");
    }

    let examples = trainer.examples(&data, &(0..96).collect::<Vec<_>>());
    let inputs: Vec<(&str, &Tensor)> = examples.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let before = allocations();
    for _ in 0..100 {
        trainer.step(&inputs).unwrap();
    }
    assert_eq!(allocations(), before);
    bits(&trainer)
}
