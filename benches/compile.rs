//! From the text of a model to an executable, weights packed.

use criterion::{Criterion, criterion_group, criterion_main};
use fusewright::{Model, Options, bindings};
use std::path::Path;

fn compile(c: &mut Criterion) {
    for name in ["lenet5", "resnet18", "mobilenet_v2"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{name}.ron"));
        let model = Model::load(&path).expect("models/ holds models");
        // Weights in memory: what is timed is compiling, not drawing random numbers.
        let executable = model.compile(Options::default()).expect("the model compiles");
        let weights = executable.weights().in_memory().expect("they are drawn");
        let mut group = c.benchmark_group("compile");
        group.sample_size(10);
        group.bench_function(name, |b| {
            b.iter(|| {
                let model = Model::load(&path).expect("models/ holds models");
                let options = Options { weights: Some(weights.clone()), ..Options::default() };
                let executable = model.compile(options).expect("the model compiles");
                executable.planned(&bindings([("N", 1)])).expect("one image fits")
            });
        });
        group.finish();
    }
}

criterion_group!(benches, compile);
criterion_main!(benches);
