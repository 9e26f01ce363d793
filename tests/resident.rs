//! The memory that a network or a training takes is what its plan says: weights are dropped when they are packed, and what reading
//! and compiling took is given back. Each in a process of its own that has done nothing before, without threads: glibc gives back
//! the end of the heap for the main thread alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::{Model, Options, Recipe, Tensor, Trainer, bindings};
use std::env;
use std::path::Path;
use std::process::Command;

/// Bytes of this process that are in memory and are no file's, by page: what `/proc/self/status` says may be late by some.
/// `None` where the system does not tell.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// What is measured, each in a process that is told its name.
const CASES: [(&str, fn()); 4] = [
    ("mlp", || training("train_mlp_b64", &[64, 784])),
    ("lenet", || training("train_lenet_b64", &[64, 1, 28, 28])),
    ("convnet", || training("train_convnet_b64", &[64, 3, 32, 32])),
    ("resnet", inference),
];

/// Says which case a process is for.
const CASE: &str = "FUSEWRIGHT_RESIDENT_CASE";

fn main() {
    let Some(case) = env::var_os(CASE) else {
        for (name, _) in CASES {
            let status = Command::new(env::current_exe().unwrap()).env(CASE, name).status().unwrap();
            assert!(status.success(), "{name}");
        }
        return;
    };
    let (_, measure) = CASES.into_iter().find(|(name, _)| case == *name).unwrap();
    measure();
}

/// Steps of a network over a process that has read nothing, inputs included and code not.
fn training(row: &str, dims: &[usize]) {
    let Some(bare) = resident() else { return };
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/rows/{row}.ron"));
    let mut trainer = Trainer::new(Recipe::load(recipe).unwrap(), None, Options::default()).unwrap();
    let x = (0..dims.iter().product()).map(|i: usize| (i % 13) as f32 / 13.0).collect();
    let x = Tensor::from_vec(dims, x);
    let labels = Tensor::from_vec(&[64], (0..64i64).map(|i| i % 10).collect());
    for _ in 0..3 {
        trainer.step(&[("x", &x), ("labels", &labels)]).unwrap();
    }
    let taken = resident().unwrap() - trainer.executable().code_bytes() as u64 - bare;
    let (plan, given) = (trainer.plan(), x.data().bytes().len() + labels.data().bytes().len());
    let wanted = plan.arena_bytes + plan.scratch_bytes + plan.constant_bytes + (trainer.state().bytes() + given) as u64;
    let ratio = taken as f64 / wanted as f64;
    println!("{row}: {taken} bytes for a plan of {wanted}, {ratio:.3}");
    assert!((0.95..1.05).contains(&ratio), "{row}");
}

/// A run of ResNet-18.
fn inference() {
    let model = Model::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet18.ron")).unwrap();
    let image = Tensor::from_vec(&[1, 3, 224, 224], (0..150_528).map(|i| (i % 251) as f32 / 251.0).collect());
    let Some(before) = resident() else { return };
    let executable = model.compile(Options::default()).unwrap();
    let mut session = executable.session(&bindings([("N", 1)])).unwrap();
    let results = session.run_tensors(&[("image", &image)]).unwrap();
    let after = resident().unwrap();
    let planned = executable.planned(&bindings([("N", 1)])).unwrap();
    let plan = planned.executable.plan();
    let wanted = plan.constant_bytes + plan.arena_bytes + plan.scratch_bytes;
    let ratio = (after - before) as f64 / wanted as f64;
    println!("resnet18: {} bytes for a plan of {wanted}, {ratio:.3}", after - before);
    assert!((0.95..1.05).contains(&ratio), "resnet18");
    assert_eq!(results[0].1.dims(), [1, 1000]);
    // 132 MB before the setup's scaled weights went into its transforms, which take 97.
    assert!(plan.constant_bytes < 110 << 20, "{} bytes of constants", plan.constant_bytes);
}
