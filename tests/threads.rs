//! What holds on several threads: the same bits for every number of them, on whole models; nothing is allocated; faults
//! and cancellation reach the caller; the processor's mode is the caller's again.

use fusewright::ir::kernel::build::Operand;
use fusewright::ir::kernel::{BufferId, Index, KernelBuilder};
use fusewright::ir::plan::{Layout, Place, Plan, PlannedBuffer, Port, Schedule, Step};
use fusewright::ir::tensor::DType;
use fusewright::runtime::{self, RunError, Settings, Threads, View, ViewMut};
use fusewright::{Executable, Isa, Model, Options, Tensor, bindings, initialize};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn model(name: &str, change: impl Fn(String) -> String) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{name}.ron"));
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("weights:")).collect();
    Model::parse(&change(lines.join("\n"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Inputs from 0 to 1.
fn inputs(session: &fusewright::Session) -> Vec<(String, Tensor)> {
    use fusewright::ir::ops::{Initializer, Parameter, Real};
    let random = |(name, ty): (String, fusewright::ir::TensorType)| {
        let dims = ty.dims().unwrap();
        let init = Initializer::Uniform { low: Real(0.0), high: Real(1.0) };
        let tensor = initialize(&Parameter { ty, init, trainable: false, is_state: false }, &dims, &name, 5);
        (name, tensor)
    };
    session.inputs().into_iter().map(random).collect()
}

/// The bits of all outputs with each number of threads: every step that can be shared is, and as by default.
fn same_bits(name: &str, model: &Model, batch: usize) {
    same_bits_with(name, model, batch, Options::default());
}

fn same_bits_with(name: &str, model: &Model, batch: usize, options: Options) {
    let symbols = model.definition().symbols();
    let sizes = bindings(symbols.iter().map(|symbol| (symbol.as_str(), if symbol == "N" { batch } else { 5 })));
    let executable = model.compile(Options { bindings: sizes.clone(), ..options }).unwrap();
    let planned = executable.planned(&sizes).unwrap();
    let session = executable.session(&sizes).unwrap();
    let inputs = inputs(&session);
    let views: Vec<(&str, View)> =
        inputs.iter().map(|(name, tensor)| (name.as_str(), runtime::view(tensor).unwrap())).collect();
    let run = |threads: Threads| {
        let mut session = runtime::Session::with_threads(planned.executable.clone(), threads);
        let mut all = Vec::new();
        for _ in 0..4 {
            let mut results: Vec<(String, Vec<f32>)> = executable
                .session(&sizes)
                .unwrap()
                .outputs()
                .into_iter()
                .map(|(name, ty)| (name, vec![f32::NAN; ty.dims().unwrap().iter().product()]))
                .collect();
            let mut outputs: Vec<(&str, ViewMut)> =
                results.iter_mut().map(|(name, data)| (name.as_str(), ViewMut::F32(data))).collect();
            session.run(&views, &mut outputs).unwrap();
            let bits = |(_, data): &(String, Vec<f32>)| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            all.push(results.iter().map(bits).collect::<Vec<_>>());
        }
        all
    };
    let alone = run(Threads::default());
    assert!(alone[0].iter().flatten().all(|&x| f32::from_bits(x).is_finite()), "{name}");
    for most in [1, 2, 3, 4] {
        for worthwhile in [Duration::ZERO, Threads::default().worthwhile] {
            let threads = Threads { most, worthwhile, ..Threads::default() };
            assert!(run(threads) == alone, "{name}: other bits with {threads:?}");
        }
    }
}

#[test]
fn bands_have_the_same_bits() {
    let text = "(fusewright: 1, inputs: [(name: \"x\", shape: [1, 64, 56, 56])],
        layers: [Conv2d(out: 64, kernel_size: 3, padding: 1), Relu, Conv2d(out: 64, kernel_size: 3, padding: 1)])";
    let model = Model::parse(text).unwrap();
    let executable = model.compile(Options::default()).unwrap();
    let planned = executable.planned(&bindings([])).unwrap();
    assert_eq!(planned.executable.plan().bands.len(), 2, "both convolutions run in bands");
    assert!(planned.executable.plan().scratch_bytes > 0);
    same_bits("bands", &model, 1);
}

#[test]
fn gathered_rows_have_the_same_bits() {
    let text = "(fusewright: 1, inputs: [(name: \"x\", shape: [2, 70, 40, 41])], layers: [Conv2d(out: 61, kernel_size: 1), Relu])";
    let model = Model::parse(text).unwrap();
    let options = || Options { isa: Isa::Portable, ..Options::default() };
    let planned = model.compile(options()).unwrap().planned(&bindings([])).unwrap();
    assert!(
        planned.executable.plan().bands.is_empty() && planned.executable.plan().scratch_bytes > 0,
        "rows are gathered"
    );
    same_bits_with("gathered", &model, 2, options());
}

#[test]
fn lenet_has_the_same_bits() {
    for batch in [1, 3] {
        same_bits("lenet5", &model("lenet5", |text| text), batch);
    }
}

#[test]
fn resnet_has_the_same_bits() {
    same_bits("resnet18", &model("resnet18", |text| text.replace("224, 224", "37, 45")), 1);
}

#[test]
fn mobilenet_has_the_same_bits() {
    same_bits("mobilenet_v2", &model("mobilenet_v2", |text| text.replace("224, 224", "45, 37")), 2);
}

#[test]
fn a_transformer_has_the_same_bits() {
    same_bits("transformer_encoder", &model("transformer_encoder", |text| text), 2);
}

#[test]
fn long_folds_have_the_same_bits() {
    let text = r#"(
        fusewright: 1,
        inputs: [(name: "x", shape: [1, 40000])],
        layers: [
            LayerNorm(name: "norm", normalized_shape: 40000),
            Dense(name: "dense", out: 10), Softmax(name: "classes", dim: -1),
            Softmax(name: "shares", from: "norm", dim: -1),
        ],
        outputs: {"classes": "classes", "shares": "shares"},
        seed: 3,
    )"#;
    let model = Model::parse(text).unwrap();
    same_bits("long", &model, 1);
    let planned = model.compile(Options::default()).unwrap().planned(&bindings([])).unwrap();
    let parts = planned.executable.plan().steps.iter().filter(|step| step.about.ends_with("(parts)")).count();
    assert_eq!(parts, 4, "the moments, the products, the greatest and the sum");
}

fn wide() -> Model {
    let layers = r#"Dense(name: "a", out: 2000), Tanh, Dense(name: "b", out: 700), Softmax(dim: -1, name: "y")"#;
    let text = format!(
        r#"(fusewright: 1, inputs: [(name: "x", shape: [16, 300])], layers: [{layers}], outputs: {{"y": "y"}}, seed: 3)"#
    );
    Model::parse(&text).unwrap()
}

fn on_threads(model: &Model, threads: usize) -> (Executable, fusewright::Session) {
    let executable = model.compile(Options { threads, ..Options::default() }).unwrap();
    let session = executable.session(&bindings([])).unwrap();
    (executable, session)
}

#[test]
fn sessions_that_run_at_once_give_the_same_bits() {
    let model = wide();
    let x = Tensor::from_vec(&[16, 300], (0..4800).map(|i| (i % 13) as f32 / 13.0).collect::<Vec<f32>>());
    let wanted = on_threads(&model, 1).1.run_tensors(&[("x", &x)]).unwrap();
    let (executable, _) = on_threads(&model, 2);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = executable.session(&bindings([])).unwrap();
                for _ in 0..30 {
                    assert_eq!(session.run_tensors(&[("x", &x)]).unwrap(), wanted);
                }
            });
        }
    });
}

#[test]
fn a_shared_run_can_be_cancelled() {
    let (_, mut session) = on_threads(&wide(), 3);
    let x = Tensor::from_vec(&[16, 300], vec![0f32; 4800]);
    let flag = session.cancel_flag();
    session.run_tensors(&[("x", &x)]).unwrap();
    flag.store(true, Ordering::Relaxed);
    assert!(session.run_tensors(&[("x", &x)]).is_err());
    flag.store(false, Ordering::Relaxed);
    session.run_tensors(&[("x", &x)]).unwrap();
}

/// y[i] = x[at[i]] over many rows, of which one has a wrong index.
#[test]
fn a_wrong_index_is_told_wherever_it_is_found() {
    const N: usize = 4096;
    let buffer = |name: &str, dtype, n, place| PlannedBuffer {
        name: name.into(),
        dtype,
        dims: vec![n],
        layout: Layout::row_major(1),
        place,
    };
    let operand = |id: u32, dtype, n| Operand { buffer: BufferId(id), dtype, dims: vec![n] };
    let mut k = KernelBuilder::new(&[N]);
    let i = k.outer(0);
    let at = k.load(&operand(1, DType::I64, N), [i]);
    let value = k.load(&operand(0, DType::F32, 10), [Index::Computed(at)]);
    k.store(&operand(2, DType::F32, N), [i], value);
    let kernel = k.finish();
    let schedule = Schedule::plain(&kernel);
    let port = |name: &str, id, n| Port { name: name.into(), buffer: BufferId(id), dims: vec![n] };
    let plan = Plan {
        buffers: vec![
            buffer("x", DType::F32, 10, Place::Input(0)),
            buffer("at", DType::I64, N, Place::Input(1)),
            buffer("y", DType::F32, N, Place::Output(0)),
        ],
        steps: vec![Step { nodes: vec!["gather".to_string()], about: String::new(), kernel, schedule }],
        inputs: vec![port("x", 0, 10), port("at", 1, N)],
        outputs: vec![port("y", 2, N)],
        ..Plan::default()
    };
    let executable = runtime::Executable::new(plan, Settings::default(), |_| None).unwrap();
    let threads = Threads { worthwhile: Duration::ZERO, ..Threads::new(2) };
    let mut session = runtime::Session::with_threads(Arc::new(executable), threads);
    let x: Vec<f32> = (0..10).map(|i| i as f32).collect();
    for guilty in [None, Some(0), Some(N / 2 - 1), Some(N / 2), Some(N - 1)] {
        let mut at: Vec<i64> = (0..N as i64).map(|i| i % 10).collect();
        if let Some(place) = guilty {
            at[place] = 10;
        }
        for _ in 0..50 {
            let mut y = vec![0f32; N];
            let inputs = [("x", View::F32(&x)), ("at", View::I64(&at))];
            let result = session.run(&inputs, &mut [("y", ViewMut::F32(&mut y))]);
            match guilty {
                None => assert!(result.is_ok() && y.iter().enumerate().all(|(i, &y)| y == (i % 10) as f32)),
                Some(_) => assert_eq!(result, Err(RunError::Index { nodes: vec!["gather".to_string()] })),
            }
        }
    }
}

#[test]
fn small_numbers_are_zero_within_a_run_only() {
    use std::hint::black_box;
    let layers = r#"Add(name: "s", from: ["x", "x"]), Add(name: "y", from: ["s", "x"])"#;
    let text = format!(r#"(fusewright: 1, inputs: [(name: "x", shape: [64, 4096])], layers: [{layers}])"#);
    let model = Model::parse(&text).unwrap();
    let tiny = f32::from_bits(5);
    let x = Tensor::from_vec(&[64, 4096], vec![tiny; 64 * 4096]);
    for threads in [1, 2] {
        let (_, mut session) = on_threads(&model, threads);
        let outputs = session.run_tensors(&[("x", &x)]).unwrap();
        assert!(outputs[0].1.as_slice::<f32>().unwrap().iter().all(|y| y.to_bits() == 0));
        assert_eq!((black_box(tiny) + black_box(tiny)).to_bits(), 10, "the caller's mode");
        assert_eq!(mode_after_a_fault(&mut session), 10, "the caller's mode after a fault");
    }
}

/// The bits of the sum of two tiny numbers after a run that was refused.
fn mode_after_a_fault(session: &mut fusewright::Session) -> u32 {
    let flag = session.cancel_flag();
    flag.store(true, Ordering::Relaxed);
    let x = Tensor::from_vec(&[64, 4096], vec![0f32; 64 * 4096]);
    assert!(session.run_tensors(&[("x", &x)]).is_err());
    flag.store(false, Ordering::Relaxed);
    let tiny = std::hint::black_box(f32::from_bits(5));
    (tiny + tiny).to_bits()
}
