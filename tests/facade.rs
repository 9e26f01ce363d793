//! The library as users call it.

use fusewright::ir::ops::{Dense, Op};
use fusewright::ir::{GraphBuilder, TensorType};
use fusewright::runtime::{RunError, View, ViewMut};
use fusewright::{Bindings, Executable, Model, Options, Tensor, Weights, bindings, reference};
use std::sync::atomic::Ordering;

fn lenet5() -> Model {
    Model::load("models/lenet5.ron").unwrap()
}

/// The digits of the test split, from `begin`, as the network reads them.
fn digits(begin: usize, n: usize) -> Tensor {
    let images = fusewright::data::idx::read("models/data/mnist10k/t10k-images-idx3-ubyte.gz".as_ref()).unwrap();
    let pixels = &images.as_slice::<u8>().unwrap()[begin * 784..(begin + n) * 784];
    Tensor::from_vec(&[n, 1, 28, 28], pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect())
}

fn logits(executable: &Executable, images: &Tensor) -> Vec<f32> {
    let mut session = executable.session(&bindings([("N", images.dims()[0])])).unwrap();
    let results = session.run_tensors(&[("image", images)]).unwrap();
    assert_eq!(results[0].0, "f3");
    results[0].1.as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn logits_are_those_of_pytorch() {
    for name in ["lenet5", "lenet5_1998"] {
        let model = Model::load(format!("models/{name}.ron")).unwrap();
        assert_eq!(model.parameter_count(), Some(61_706));
        let executable = model.compile(Options { verify: true, ..Options::default() }).unwrap();
        let wanted = fusewright::data::npy::read(format!("tests/data/{name}.logits.npy").as_ref()).unwrap();
        let wanted = wanted.as_slice::<f32>().unwrap();
        // 2000 digits in batches of 300: the last is a smaller one.
        for begin in (0..2000).step_by(300) {
            let n = 300.min(2000 - begin);
            for (i, (got, want)) in logits(&executable, &digits(begin, n)).iter().zip(&wanted[begin * 10..]).enumerate()
            {
                assert!((got - want).abs() < 1e-4, "{name}: digit {}: {got}, PyTorch {want}", begin + i / 10);
            }
        }
    }
}

#[test]
fn many_threads_share_an_executable() {
    let executable = lenet5().compile(Options::default()).unwrap();
    let alone = logits(&executable, &digits(0, 24));
    let results: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let run = |i: usize| {
            let executable = executable.clone();
            // Different batches at once: some threads plan while others run.
            scope.spawn(move || logits(&executable, &digits(i * 4, 4)))
        };
        let threads: Vec<_> = (0..6).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.concat(), alone, "the same bits in any batch");
}

#[test]
fn plans_are_kept() {
    let executable = lenet5().compile(Options::default()).unwrap();
    let first = executable.planned(&bindings([("N", 3)])).unwrap();
    let again = executable.planned(&bindings([("N", 3)])).unwrap();
    let other = executable.planned(&bindings([("N", 4)])).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    assert!(!std::sync::Arc::ptr_eq(&first, &other));
    let stages: Vec<&str> = first.compilation.stages.iter().map(|(name, _)| *name).collect();
    assert_eq!(stages, ["bind", "optimise", "lower", "fuse", "plan", "generate"]);
}

/// An executable holds no weights of a file: each choice of sizes reads them.
#[test]
fn weights_are_read_again_for_other_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    lenet5().weights().unwrap().save(&path).unwrap();
    let options = Options { weights: Some(Weights::load(&path).unwrap()), ..Options::default() };
    let executable = lenet5().compile(options).unwrap();
    assert_eq!(
        logits(&executable, &digits(0, 2)),
        logits(&lenet5().compile(Options::default()).unwrap(), &digits(0, 2))
    );
    logits(&executable, &digits(0, 3));
    assert_eq!(executable.weights().resident_bytes(), 0);

    // Cut in place: what is planned runs on, other sizes are refused.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    logits(&executable, &digits(0, 2));
    let error = executable.session(&bindings([("N", 4)])).err().expect("half of the weights are gone");
    let fault = &error.diagnostics().expect("it is the user's fault").0[0];
    assert!(fault.title.ends_with("was changed after it was opened"), "{error}");
    assert_eq!(fault.found, Some(format!("{} bytes", bytes.len() / 2)));
    assert!(reference(&executable, &bindings([("N", 2)]), &[("image", &digits(0, 2))]).is_err());
}

#[test]
fn weights_of_a_seed_are_drawn_again() {
    let text = "(fusewright: 1, inputs: [(name: \"x\", shape: [N, 2])], layers: [Dense(name: \"y\", out: 3)])";
    let executable = Model::parse(text).unwrap().compile(Options::default()).unwrap();
    let row = |n: usize| {
        let x = Tensor::from_vec(&[n, 2], vec![1f32; 2 * n]);
        let mut session = executable.session(&bindings([("N", n)])).unwrap();
        session.run_tensors(&[("x", &x)]).unwrap()[0].1.as_slice::<f32>().unwrap()[..3].to_vec()
    };
    assert_eq!(row(1), row(2));
    assert_eq!(executable.weights().resident_bytes(), 0);
}

#[test]
fn fused_and_unfused_agree_with_the_reference() {
    let text = "(fusewright: 1, inputs: [(name: \"x\", shape: [N, 3, 9, 9])], layers: [
        Conv2d(name: \"c1\", out: 5, kernel_size: 3, padding: 1), BatchNorm2d, Relu(name: \"r1\"),
        Conv2d(name: \"c2\", out: 5, kernel_size: 3, padding: 1), BatchNorm2d(name: \"b2\"),
        Add(from: [\"b2\", \"r1\"]), Relu, GlobalAvgPool, Flatten, Dense(name: \"fc\", out: 4), Softmax(dim: 1),
    ])";
    let model = Model::parse(text).unwrap();
    let batch = bindings([("N", 2)]);
    let x: Vec<f32> = (0..486).map(|i| (i * 37 % 64) as f32 / 32.0 - 1.0).collect();
    let x = Tensor::from_vec(&[2, 3, 9, 9], x);
    let mut kernels = Vec::new();
    for fuse in [true, false] {
        let options = Options { fuse, verify: true, bindings: batch.clone(), ..Options::default() };
        let executable = model.compile(options).unwrap();
        let mut session = executable.session(&Bindings::new()).unwrap();
        let got = session.run_tensors(&[("x", &x)]).unwrap().swap_remove(0).1;
        let want = reference(&executable, &batch, &[("x", &x)]).unwrap().swap_remove(0).1;
        for (got, want) in got.data().to_f64().iter().zip(&want.data) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        kernels.push(session.planned().executable.plan().steps.len());
    }
    assert!(kernels[0] < kernels[1], "{kernels:?}");
}

#[test]
fn slices_run_without_tensors() {
    let executable = lenet5().compile(Options { bindings: bindings([("N", 1)]), ..Options::default() }).unwrap();
    let mut session = executable.session(&Bindings::new()).unwrap();
    let image = digits(5, 1);
    let pixels = image.as_slice::<f32>().unwrap();
    let mut scores = [0f32; 10];
    session.run(&[("image", View::F32(pixels))], &mut [("f3", ViewMut::F32(&mut scores))]).unwrap();
    assert_eq!(scores.to_vec(), logits(&executable, &image));

    session.cancel_flag().store(true, Ordering::Relaxed);
    let cancelled = session.run(&[("image", View::F32(pixels))], &mut [("f3", ViewMut::F32(&mut scores))]);
    assert_eq!(cancelled, Err(RunError::Cancelled));
}

#[test]
fn graphs_built_in_rust_run_and_are_saved() {
    let mut build = GraphBuilder::new();
    let x = build.input("x", TensorType::f32([1usize, 2]));
    let y = build.layer("fc", Op::Dense(Dense { out: 1, bias: true }), &[x]);
    build.output("y", y);
    let model = Model::from_graph(build.finish()).unwrap();

    let mut weights = Weights::default();
    weights.insert("fc.weight", Tensor::from_vec(&[1, 2], vec![2f32, 3.0]));
    weights.insert("fc.bias", Tensor::from_vec(&[1], vec![0.5f32]));
    let run = |model: &Model| {
        let executable = model.compile(Options { weights: Some(weights.clone()), ..Options::default() }).unwrap();
        let x = Tensor::from_vec(&[1, 2], vec![10f32, 100.0]);
        executable.session(&Bindings::new()).unwrap().run_tensors(&[("x", &x)]).unwrap()
    };
    let y = Tensor::from_vec(&[1, 1], vec![320.5f32]);
    assert_eq!(run(&model), [("y".to_string(), y)]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.ron");
    model.save(&path).unwrap();
    assert_eq!(run(&Model::load(&path).unwrap()), run(&model));
}

#[test]
fn wrong_inputs_are_all_named() {
    let executable = lenet5().compile(Options::default()).unwrap();
    let mut session = executable.session(&bindings([("N", 2)])).unwrap();
    let error = session.run_tensors(&[("picture", &digits(0, 2))]).unwrap_err().to_string();
    assert!(error.contains("the input `image` is missing") && error.contains("no input `picture`"), "{error}");
    let error = session.run_tensors(&[("image", &digits(0, 3))]).unwrap_err().to_string();
    assert!(error.contains("f32[2, 1, 28, 28]") && error.contains("f32[3, 1, 28, 28]"), "{error}");
}

#[test]
fn symbols_without_values_are_faults() {
    let executable = lenet5().compile(Options::default()).unwrap();
    let error = executable.session(&Bindings::new()).err().unwrap().to_string();
    assert!(error.contains("the symbol `N` has no value") && error.contains("models/lenet5.ron:7"), "{error}");
    let error = executable.session(&bindings([("N", 1), ("H", 2)])).err().unwrap().to_string();
    assert!(error.contains("no symbol `H`"), "{error}");
}
