//! Fused against unfused: the same pipeline, planner and code, with every node its own kernel or joined. Outputs are
//! compared before anything is timed.

use criterion::{Criterion, criterion_group, criterion_main};
use fusewright::{Model, Options, Session, Tensor, bindings};
use std::hint::black_box;
use std::path::Path;

const CASES: &[(&str, &str)] = &[
    (
        "conv3x3 64@56, bias, relu",
        "(fusewright: 1, inputs: [(name: \"x\", shape: [1, 64, 56, 56])],
          layers: [Conv2d(out: 64, kernel_size: 3, padding: 1), Relu])",
    ),
    (
        "conv3x3 64@56, bias, gelu",
        "(fusewright: 1, inputs: [(name: \"x\", shape: [1, 64, 56, 56])],
          layers: [Conv2d(out: 64, kernel_size: 3, padding: 1), Gelu])",
    ),
    (
        "dense 256 to 512, batch 64, bias, sigmoid",
        "(fusewright: 1, inputs: [(name: \"x\", shape: [64, 256])], layers: [Dense(out: 512), Sigmoid])",
    ),
    (
        "eight elementwise steps over 4M",
        "(fusewright: 1, inputs: [(name: \"x\", shape: [4194304])], layers: [Add(value: 0.5), Mul(value: 1.5),
          Max(value: -1.0), Min(value: 1.0), Add(value: 0.25), Mul(value: 0.75), Max(value: -0.5), Min(value: 0.5)])",
    ),
];

const MODELS: &[&str] = &["lenet5", "resnet18", "mobilenet_v2"];

/// A session, its inputs and a place for its results.
struct Ready {
    session: Session,
    inputs: Vec<(String, Tensor)>,
    results: Vec<(String, Tensor)>,
}

impl Ready {
    fn new(model: &Model, fuse: bool) -> Ready {
        let executable = model.compile(Options { fuse, ..Options::default() }).expect("the model compiles");
        let mut session = executable.session(&bindings([("N", 1)])).expect("one image fits");
        let inputs: Vec<(String, Tensor)> = session
            .inputs()
            .into_iter()
            .map(|(name, ty)| {
                let dims = ty.dims().expect("plans have no symbols");
                let elements = (0..dims.iter().product()).map(|i: usize| (i % 251) as f32 / 251.0 - 0.5).collect();
                (name, Tensor::from_vec::<f32>(&dims, elements))
            })
            .collect();
        let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let results = session.run_tensors(&given).expect("the inputs fit");
        Ready { session, inputs, results }
    }

    fn run(&mut self) {
        let given: Vec<(&str, &Tensor)> = self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        self.session.run_into(&given, &mut self.results).expect("the inputs fit");
    }
}

fn compare(name: &str, fused: &Ready, unfused: &Ready) {
    for ((_, a), (_, b)) in fused.results.iter().zip(&unfused.results) {
        let (a, b) = (a.data().to_f64(), b.data().to_f64());
        let scale = b.iter().fold(1e-3, |most: f64, x| most.max(x.abs()));
        let worst = a.iter().zip(&b).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= 1e-4 * scale, "{name}: fused and unfused differ by {worst} of {scale}");
    }
}

fn pair(c: &mut Criterion, name: &str, model: &Model) {
    let (mut fused, mut unfused) = (Ready::new(model, true), Ready::new(model, false));
    compare(name, &fused, &unfused);
    let mut group = c.benchmark_group(name);
    group.sample_size(20);
    group.bench_function("fused", |b| b.iter(|| black_box(&mut fused).run()));
    group.bench_function("unfused", |b| b.iter(|| black_box(&mut unfused).run()));
    group.finish();
}

fn fused_against_unfused(c: &mut Criterion) {
    for (name, text) in CASES {
        pair(c, name, &Model::parse(text).expect("the text is a model"));
    }
    for name in MODELS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{name}.ron"));
        pair(c, name, &Model::load(path).expect("models/ holds models"));
    }
}

criterion_group!(benches, fused_against_unfused);
criterion_main!(benches);
