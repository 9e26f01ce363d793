//! What a session promises: a run allocates nothing and executes emitted code only; many sessions share an executable
//! across threads; a run can be cancelled.

use fusewright::data::Order;
use fusewright::ir::ops::Op;
use fusewright::runtime::{RunError, View, ViewMut};
use fusewright::{Model, Options, Recipe, Tensor, bindings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Counts the allocations of the thread that asks.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches a thread-local number that
// needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // At the end of a thread its locals are gone.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn lenet5() -> Model {
    Model::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/lenet5.ron")).expect("models/ holds LeNet-5")
}

fn image() -> Vec<f32> {
    (0..784).map(|i| (i % 17) as f32 / 17.0).collect()
}

#[test]
fn examples_are_handed_out_without_an_allocation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/train_lenet5.ron");
    let (data, _) = Recipe::load(path).unwrap().data().unwrap().unwrap();
    let mut order = Order::new(data.len(), 64, 1);
    let mut images = Tensor::from_vec(&[64, 1, 28, 28], vec![0f32; 64 * 784]);
    let mut labels = Tensor::from_vec(&[64], vec![0i64; 64]);
    let before = ALLOCATIONS.get();
    for epoch in 0..2 {
        for batch in 0..order.batches() {
            data.fill(order.batch(epoch, batch), &mut images, &mut labels);
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(labels.as_slice::<i64>().unwrap().contains(&9));
}

#[test]
fn a_run_allocates_nothing_and_evaluates_no_reference() {
    let executable = lenet5().compile(Options::default()).unwrap();
    let mut session = executable.session(&bindings([("N", 1)])).unwrap();
    let (image, mut logits) = (image(), vec![0f32; 10]);
    let (input, output) = (session.inputs()[0].0.clone(), session.outputs()[0].0.clone());
    let mut outputs = [(output.as_str(), ViewMut::F32(&mut logits))];
    let before = (ALLOCATIONS.get(), Op::reference_calls());
    for _ in 0..100 {
        session.run(&[(input.as_str(), View::F32(&image))], &mut outputs).unwrap();
    }
    assert_eq!((ALLOCATIONS.get(), Op::reference_calls()), before);
    assert!(logits.iter().any(|&x| x != 0.0));
}

#[test]
fn threads_share_an_executable() {
    let executable = lenet5().compile(Options::default()).unwrap();
    let run = |executable: &fusewright::Executable| {
        let mut session = executable.session(&bindings([("N", 1)])).unwrap();
        let (image, mut logits) = (image(), vec![0f32; 10]);
        let (input, output) = (session.inputs()[0].0.clone(), session.outputs()[0].0.clone());
        for _ in 0..50 {
            let mut outputs = [(output.as_str(), ViewMut::F32(&mut logits))];
            session.run(&[(input.as_str(), View::F32(&image))], &mut outputs).unwrap();
        }
        logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let alone = run(&executable);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| run(&executable))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alone);
        }
    });
}

#[test]
fn a_run_can_be_cancelled() {
    let executable = lenet5().compile(Options::default()).unwrap();
    let mut session = executable.session(&bindings([("N", 1)])).unwrap();
    let (image, mut logits) = (image(), vec![0f32; 10]);
    let (input, output) = (session.inputs()[0].0.clone(), session.outputs()[0].0.clone());
    let flag = session.cancel_flag();
    let mut run = || {
        let mut outputs = [(output.as_str(), ViewMut::F32(&mut logits))];
        session.run(&[(input.as_str(), View::F32(&image))], &mut outputs)
    };
    flag.store(true, Ordering::Relaxed);
    assert_eq!(run(), Err(RunError::Cancelled));
    flag.store(false, Ordering::Relaxed);
    assert_eq!(run(), Ok(()));
}

#[test]
fn wrong_inputs_are_refused() {
    let executable = lenet5().compile(Options::default()).unwrap();
    let mut session = executable.session(&bindings([("N", 2)])).unwrap();
    let (image, mut logits) = (image(), vec![0f32; 20]);
    let (input, output) = (session.inputs()[0].0.clone(), session.outputs()[0].0.clone());
    let mut outputs = [(output.as_str(), ViewMut::F32(&mut logits))];
    let error = session.run(&[(input.as_str(), View::F32(&image))], &mut outputs).unwrap_err();
    assert!(matches!(&error, RunError::Port { name, .. } if *name == input), "{error}");
    let error = session.run(&[], &mut outputs).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}
