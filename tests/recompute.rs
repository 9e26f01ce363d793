//! Steps of training within limits of memory: smaller arenas, and the same bits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::ir::plan::{Plan, verify};
use fusewright::ir::tensor::DType;
use fusewright::{Bindings, Data, Error, Options, Recipe, Tensor, Trainer};
use std::path::Path;

fn trainer(path: &str, memory_limit: Option<u64>) -> Result<Trainer, Error> {
    let recipe = Recipe::load(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))?;
    let batch = ("N".to_string(), recipe.definition().batch);
    let bindings = if path.starts_with("models") { Bindings::from([batch]) } else { Bindings::new() };
    Trainer::new(recipe, None, Options { memory_limit, bindings, details: true, ..Options::default() })
}

/// The plan of a step, loops and all.
fn plan(trainer: &Trainer) -> &Plan {
    &trainer.compilation().details.as_ref().unwrap().plan
}

/// The least limit, as the refusal of a lower one tells it.
fn floor(path: &str) -> u64 {
    let refusal = trainer(path, Some(0)).err().expect("nothing fits into no bytes");
    let text = refusal.render(false);
    let number = text.split("found: ").nth(1).and_then(|text| text.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// The bits of losses and state after three steps on numbers at random.
fn trained(trainer: &mut Trainer) -> Vec<Vec<u8>> {
    let mut bits = Vec::new();
    let mut seed = 1u32;
    for _ in 0..3 {
        let given: Vec<(String, Tensor)> = trainer
            .inputs()
            .iter()
            .map(|(name, ty)| {
                let dims = ty.dims().unwrap();
                let mut number = || {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f64::from(seed >> 8) / f64::from(1 << 24)
                };
                let label = ty.dtype == DType::I64;
                let numbers =
                    (0..dims.iter().product()).map(|_| if label { (number() * 10.0).floor() } else { number() });
                (name.clone(), Tensor::new(&dims, Data::from_f64(ty.dtype, &numbers.collect::<Vec<_>>())))
            })
            .collect();
        let given: Vec<(&str, &Tensor)> = given.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        bits.push(trainer.step(&given).unwrap().loss.to_bits().to_le_bytes().to_vec());
    }
    let names: Vec<String> = trainer.state().names().map(|(name, ..)| name.to_string()).collect();
    bits.extend(names.iter().map(|name| trainer.tensor(name).unwrap().data().bytes().to_vec()));
    bits
}

/// Arenas and bits at four limits between the floor, which is no more than the given share of the arena, and that.
fn check(path: &str, share: f64) {
    let mut whole = trainer(path, None).unwrap();
    let (all, least) = (whole.plan().arena_bytes, floor(path));
    assert!(least as f64 <= share * all as f64, "{path}: the floor of {all} bytes is {least}");
    let wanted = trained(&mut whole);
    for quarter in 0..4 {
        let limit = least + (all - least) * quarter / 4;
        let mut limited = trainer(path, Some(limit)).unwrap();
        let plan = plan(&limited);
        assert_eq!(verify(plan), Ok(()), "{path}: {limit}");
        assert!(plan.arena_bytes <= limit, "{path}: {} of {limit} bytes", plan.arena_bytes);
        assert_eq!(plan.saved_bytes, all - plan.arena_bytes, "{path}");
        // Copies have no operations.
        assert!(plan.steps.len() > whole.plan().steps.len(), "{path}: {limit}");
        assert!(trained(&mut limited) == wanted, "{path}: other bits within {limit} bytes");
    }
    let limited = trainer(path, Some(all)).unwrap();
    assert_eq!((limited.plan().saved_bytes, limited.plan().repeated_operations), (0, 0));
    assert!(plan(&limited) == plan(&whole), "{path}: nothing changes where all fits");
}

#[test]
fn lenet_within_limits() {
    check("benches/rows/train_lenet_b64.ron", 0.92);
}

#[test]
fn convolutions_within_limits() {
    check("benches/rows/train_convnet_b64.ron", 0.8);
}

#[test]
fn batch_norms_within_limits() {
    check("models/train_resnet_small.ron", 0.99);
}
