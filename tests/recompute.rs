//! Steps of training with a limit of memory: smaller arenas, and the same bits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::ir::tensor::DType;
use fusewright::{Bindings, Error, Options, Recipe, Tensor, Trainer};
use std::path::Path;

fn trainer(path: &str, memory_limit: Option<u64>) -> Result<Trainer, Error> {
    let recipe = Recipe::load(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let bindings = Bindings::from([("N".to_string(), recipe.definition().batch)]);
    let bindings = if path.starts_with("models") { bindings } else { Bindings::new() };
    Trainer::new(recipe, None, Options { memory_limit, bindings, ..Options::default() })
}

#[test]
fn explore() {
    for path in ["benches/rows/train_lenet_b64.ron", "benches/rows/train_convnet_b64.ron", "models/train_resnet_small.ron", "benches/rows/train_mlp_b64.ron"] {
        let t = std::time::Instant::now();
        let whole = trainer(path, None).unwrap();
        println!("{path}: arena {} bound {} unplanned {} in {:?} {:?}", whole.plan().arena_bytes, whole.plan().lower_bound_bytes, whole.plan().unplanned_bytes, t.elapsed(), whole.compilation().stages);
        if std::env::var_os("DUMP").is_some() { println!("{}", whole.plan()); }
        let t = std::time::Instant::now();
        let floor = trainer(path, Some(0)).err().unwrap().render(false);
        println!("{floor} in {:?}", t.elapsed());
        let floor: u64 = floor.split("found: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let all = whole.plan().arena_bytes;
        for i in 0..=4 {
            let limit = floor + (all - floor) * i / 4;
            let t = std::time::Instant::now();
            let some = trainer(path, Some(limit)).unwrap_or_else(|e| panic!("{}", e.render(false)));
            let plan = some.plan();
            let ops: u64 = plan.steps.iter().map(|step| step.kernel.operations()).sum();
            println!("limit {limit}: arena {} bound {} saved {} repeated {:.2}% {} clones, in {:?}", plan.arena_bytes, plan.lower_bound_bytes, plan.saved_bytes, 100.0 * plan.repeated_operations as f64 / (ops - plan.repeated_operations) as f64, plan.steps.iter().filter(|s| s.about.ends_with("(again)")).count(), t.elapsed());
            if i == 0 { profile(plan); }
            fusewright::ir::plan::verify(plan).unwrap_or_else(|e| panic!("{}", e.join("\n")));
        }
    }
    let _ = (DType::F32, Tensor::from_vec(&[1], vec![0f32]));
}

fn profile(plan: &fusewright::ir::plan::Plan) {
    use fusewright::ir::plan::Place;
    let mut lives = std::collections::BTreeMap::new();
    for (t, step) in plan.steps.iter().enumerate() {
        for id in step.kernel.writes().into_iter().chain(step.kernel.reads()) {
            if matches!(plan.buffer(id).place, Place::Arena(_)) { let e = lives.entry(id).or_insert((t, t)); e.1 = t; }
        }
    }
    let mut worst = (0, 0);
    for (t, step) in plan.steps.iter().enumerate() {
        let live: u64 = lives.iter().filter(|(_, l)| l.0 <= t && t <= l.1).map(|(id, _)| plan.buffer(*id).bytes()).sum();
        let own: u64 = lives.keys().filter(|id| step.kernel.reads().contains(id) || step.kernel.writes().contains(id)).map(|id| plan.buffer(*id).bytes()).sum();
        if live > worst.0 { worst = (live, t); }
        println!("  {t:3} live {live:10} own {own:10} {} {}", step.about, step.nodes.join(" ").chars().take(60).collect::<String>());
    }
    let t = worst.1;
    for (id, l) in lives.iter().filter(|(_, l)| l.0 <= t && t <= l.1) {
        let b = plan.buffer(*id);
        println!("   peak at {t}: b{} {} {:?} {} {:?} {}", id.0, b.name, b.dims, b.bytes(), l, b.place);
    }
}
