//! The memory that a network or a training takes is what its plan says: weights are dropped when they are packed, and what compiling
//! took is given back. A process of its own, so that nothing else is counted, without threads: glibc gives back the end of the
//! heap for the main thread alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::{Model, Options, Recipe, Tensor, Trainer, bindings};
use std::path::Path;

/// Bytes of this process that are in memory and are no file's, by page: what `/proc/self/status` says may be late by some.
/// `None` where the system does not tell.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn main() {
    // Small ones first, before anything was freed that they could use.
    training("train_mlp_b64", &[64, 784]);
    training("train_lenet_b64", &[64, 1, 28, 28]);
    training("train_convnet_b64", &[64, 3, 32, 32]);
    inference();
}

/// Steps of a network over a process that has read its recipe, inputs included and code not.
fn training(row: &str, dims: &[usize]) {
    let Some(bare) = resident() else { return };
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/rows/{row}.ron"));
    let recipe = Recipe::load(recipe).unwrap();
    let before = resident().unwrap();
    let mut trainer = Trainer::new(recipe, None, Options::default()).unwrap();
    let x = (0..dims.iter().product()).map(|i: usize| (i % 13) as f32 / 13.0).collect();
    let x = Tensor::from_vec(dims, x);
    let labels = Tensor::from_vec(&[64], (0..64i64).map(|i| i % 10).collect());
    for _ in 0..3 {
        trainer.step(&[("x", &x), ("labels", &labels)]).unwrap();
    }
    let after = resident().unwrap() - trainer.executable().code_bytes() as u64;
    let (plan, given) = (trainer.plan(), x.data().bytes().len() + labels.data().bytes().len());
    let wanted = plan.arena_bytes + plan.scratch_bytes + plan.constant_bytes + (trainer.state().bytes() + given) as u64;
    let ratio = (after - before) as f64 / wanted as f64;
    println!("{row} from recipe {ratio:.4}");
    // What reading text touches of the stack and leaves in the allocator's caches: a thirtieth of the smallest.
    let ratio = (after - bare) as f64 / wanted as f64;
    println!("{row} from bare {ratio:.4} excess {}", (after - bare) as i64 / 1024 - wanted as i64 / 1024);
    assert!((0.95..1.10).contains(&ratio), "{row}: {} bytes with its text for a plan of {wanted}", after - bare);
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
    assert!((0.95..1.05).contains(&ratio), "{} bytes for a plan of {wanted}", after - before);
    assert_eq!(results[0].1.dims(), [1, 1000]);
    // 132 MB before the setup's scaled weights went into its transforms, which take 97.
    assert!(plan.constant_bytes < 110 << 20, "{} bytes of constants", plan.constant_bytes);
}
