//! The networks in `models/`: what they count, what their tensors are called, and that every stage of the compiler gives
//! what the reference gives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::ir::graph::Graph;
use fusewright::ir::kernel::{BufferId, Program, Role};
use fusewright::ir::ops::Op;
use fusewright::ir::{Array, Tensor, TensorType, evaluate, kernel, text};
use fusewright::{Bindings, Model, Options, Weights, bindings};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every model and its learned parameters: counted by torchvision where it has the network, by hand elsewhere.
const COUNTS: &[(&str, u64)] = &[
    ("alexnet", 61_100_840),
    ("autoencoder", 437_664),
    ("conv1d", 16_962),
    ("dense_12mp", 1_219_277_910),
    ("densenet121", 7_978_856),
    ("edge", 0),
    ("edge_padded", 0),
    ("lenet5", 61_706),
    ("lenet5_1998", 61_706),
    ("linear_regression", 11),
    ("mlp", 235_146),
    ("mobilenet_v2", 3_504_872),
    ("neuron", 3),
    ("resnet18", 11_689_512),
    ("resnet50", 25_557_032),
    ("sine_1x1", 4),
    ("sine_1x100", 301),
    ("sine_2x10", 141),
    ("squeezenet1_1", 1_235_496),
    ("transformer_encoder", 99_968),
    ("unet_small", 116_770),
    ("vgg16", 138_357_544),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn source(name: &str) -> String {
    fs::read_to_string(folder("models").join(format!("{name}.ron"))).unwrap()
}

fn load(name: &str) -> Model {
    Model::load(folder("models").join(format!("{name}.ron"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text for images of another size; unchanged where the size of images is not 224x224.
fn resized(text: &str, height: usize, width: usize) -> String {
    text.replace("224, 224", &format!("{height}, {width}"))
}

/// The text with an eighth of the channels, so that slow evaluators see networks of full depth.
fn slim(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut line = line.to_string();
        for field in ["out", "mid", "wide", "squeezed", "expanded", "groups"] {
            let Some(start) = line.find(&format!("{field}: ")).map(|place| place + field.len() + 2) else { continue };
            let digits = line[start..].chars().take_while(char::is_ascii_digit).count();
            if let Ok(channels @ 16..) = line[start..start + digits].parse::<u32>() {
                line.replace_range(start..start + digits, &(channels / 8).to_string());
            }
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Random values for inputs and parameters, such that the values inside the network stay near 1.
fn random_values(graph: &Graph) -> BTreeMap<String, Tensor> {
    let mut seed = 1u64;
    let mut random = |low: f64, high: f64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (low + (high - low) * (seed >> 40) as f64 / 16_777_216.0) as f32
    };
    let mut values = BTreeMap::new();
    for (_, node) in graph.nodes().filter(|(_, node)| matches!(node.op, Op::Input(_) | Op::Parameter(_))) {
        let dims = node.types[0].dims().unwrap();
        let fan_in: usize = dims.iter().skip(1).product();
        let (low, high) = match node.op {
            Op::Input(_) => (-1.0, 1.0),
            _ if node.name.ends_with("bias") || node.name.ends_with("running_mean") => (-0.25, 0.25),
            _ if dims.len() == 1 => (0.5, 1.5),
            _ => (-(3.0 / fan_in as f64).sqrt(), (3.0 / fan_in as f64).sqrt()),
        };
        let elements = (0..dims.iter().product()).map(|_| random(low, high)).collect();
        values.insert(node.name.clone(), Tensor::from_vec::<f32>(&dims, elements));
    }
    values
}

/// One size for every symbol of the model.
fn smallest_bindings(model: &Model) -> Bindings {
    let symbols = model.definition().symbols();
    bindings(symbols.iter().map(|symbol| (symbol.as_str(), if symbol == "N" { 1 } else { 3 })))
}

/// Fails where a value is further from the reference than `tolerance` times its largest value.
#[track_caller]
fn compare(what: &str, name: &str, got: &[f64], wanted: &Array, tolerance: f64) {
    assert_eq!(got.len(), wanted.data.len(), "{what}: the size of `{name}`");
    let scale = wanted.data.iter().fold(0f64, |most, x| most.max(x.abs()));
    for (i, (got, wanted)) in got.iter().zip(&wanted.data).enumerate() {
        let near = (got - wanted).abs() <= tolerance * scale;
        assert!(near, "{what}: `{name}`[{i}]: expected {wanted}, found {got} (all below {scale})");
    }
}

/// The outputs of a program by the kernels' evaluator.
fn run_kernels(program: &Program, given: &BTreeMap<String, Array>) -> Vec<(String, Array)> {
    let sources = program.buffer_ids().filter(|(_, info)| matches!(info.role, Role::Input | Role::Parameter));
    let given: BTreeMap<BufferId, Array> = sources.map(|(id, info)| (id, given[&info.name].clone())).collect();
    let memory = kernel::evaluate(program, &given).unwrap_or_else(|fault| panic!("{fault}"));
    program.outputs.iter().map(|(name, id)| (name.clone(), memory.array(*id))).collect()
}

/// Runs emitted code and compares with the reference; with `levels`, every stage before it too.
fn agrees(name: &str, model: &Model, fuse: bool, levels: bool) {
    let bindings = smallest_bindings(model);
    let bound = model.bind(&bindings).unwrap_or_else(|error| panic!("{name}: {error}"));
    let values = random_values(bound.graph());
    let mut weights = Weights::default();
    let mut inputs = Vec::new();
    for (_, node) in bound.graph().nodes() {
        match node.op {
            Op::Input(_) => inputs.push((node.name.as_str(), &values[&node.name])),
            Op::Parameter(_) => weights.insert(&node.name, values[&node.name].clone()),
            _ => {}
        }
    }
    let options =
        Options { fuse, verify: true, details: levels, weights: Some(weights), bindings, ..Options::default() };
    let executable = bound.compile(Options { bindings: Bindings::new(), ..options }).unwrap();
    let mut session = executable.session(&Bindings::new()).unwrap();
    let found = session.run_tensors(&inputs).unwrap();

    let given: BTreeMap<String, Array> =
        values.iter().map(|(name, tensor)| (name.clone(), tensor.to_array())).collect();
    let wanted = evaluate::evaluate(bound.graph(), &given);
    let finite = |(_, array): &(String, Array)| array.data.iter().all(|x| x.is_finite());
    assert!(wanted.iter().all(finite), "{name}: the random network gives numbers");
    if let Some(details) = &session.planned().compilation.details {
        let optimised = evaluate::evaluate(&details.optimised, &given);
        for ((output, got), (_, wanted)) in optimised.iter().zip(&wanted) {
            compare(&format!("{name}, optimised graph"), output, &got.data, wanted, 1e-6);
        }
        for ((output, got), (_, wanted)) in run_kernels(&details.program, &given).iter().zip(&wanted) {
            compare(&format!("{name}, kernels (fuse: {fuse})"), output, &got.data, wanted, 1e-6);
        }
    }
    assert_eq!(found.len(), wanted.len(), "{name}: the number of outputs");
    for ((output, got), (expected, wanted)) in found.iter().zip(&wanted) {
        assert_eq!(output, expected, "{name}: the order of outputs");
        compare(&format!("{name}, emitted code (fuse: {fuse})"), output, &got.data().to_f64(), wanted, 1e-4);
    }
}

#[test]
fn all_models_are_counted() {
    let mut files: Vec<String> = fs::read_dir(folder("models"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".ron")?.to_string()))
        .filter(|name| !name.starts_with("train_"))
        .collect();
    files.sort();
    let known: Vec<&str> = COUNTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(files, known);
    for (name, count) in COUNTS {
        assert_eq!(load(name).parameter_count(), Some(*count), "the parameters of {name}");
    }
}

#[test]
fn all_models_are_in_canonical_form() {
    for (name, _) in COUNTS {
        let text = source(name);
        assert!(text.starts_with("// "), "{name} says what it is");
        assert!(text.lines().count() <= 64, "{name} fits on a screen");
        assert_eq!(text::format(&text).unwrap(), text, "{name}");
        let model = load(name);
        let printed = model.definition().to_ron();
        let again = Model::parse(&printed).unwrap_or_else(|error| panic!("{name}: {error}\n{printed}"));
        // Constants may come in another order; no line refers to a place.
        let nodes = |model: &Model| {
            let mut lines: Vec<String> = model.graph().to_string().lines().map(str::to_string).collect();
            lines.sort();
            lines
        };
        assert_eq!(nodes(&again), nodes(&model), "{name} read from its print");
    }
}

/// `name dtype shape` a line, as torchvision's `state_dict` has them.
#[test]
fn tensors_are_named_as_in_torchvision() {
    let lists: Vec<PathBuf> =
        fs::read_dir(folder("tests/state_dicts")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(lists.len(), 7);
    for list in lists {
        let name = list.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&list).unwrap();
        let mut wanted = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.contains("num_batches_tracked")) {
            let [tensor, "f32", shape] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{name}: {line}") };
            let shape: Vec<usize> = shape.split('x').map(|length| length.parse().unwrap()).collect();
            wanted.insert(tensor.to_string(), TensorType::f32(shape));
        }
        let model = load(name);
        let parameters = model.graph().nodes().filter(|(_, node)| matches!(node.op, Op::Parameter(_)));
        let found: BTreeMap<String, TensorType> =
            parameters.map(|(_, node)| (node.name.clone(), node.types[0].clone())).collect();
        for (tensor, ty) in &wanted {
            assert_eq!(found.get(tensor), Some(ty), "{name}: {tensor}");
        }
        assert_eq!(found.len(), wanted.len(), "{name}: tensors that torchvision does not have");
    }
}

/// The edges of an image: by the reference, and by emitted code, which must give the same.
fn edges(name: &str, image: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let model = load(name);
    let (height, width) = (image.len(), image[0].len());
    let image = Tensor::from_vec(&[1, 1, height, width], image.concat());
    let sizes = bindings([("N", 1), ("H", height), ("W", width)]);
    let executable = model.compile(Options { verify: true, ..Options::default() }).unwrap();
    let inputs = [("image", &image)];
    let (_, wanted) = &fusewright::reference(&executable, &sizes, &inputs).unwrap()[0];
    let (_, found) = &executable.session(&sizes).unwrap().run_tensors(&inputs).unwrap()[0];
    assert_eq!(found.data().to_f64(), wanted.data, "{name}");
    wanted.data.chunks(wanted.dims[3]).map(<[f64]>::to_vec).collect()
}

#[test]
fn edges_are_where_the_image_gets_darker() {
    let image = vec![vec![1.0, 1.0, 1.0, 0.0, 0.0, 0.0]; 6];
    assert_eq!(edges("edge", &image), vec![[0.0, 3.0, 3.0, 0.0]; 4]);
    let (rim, middle) = ([-2.0, 0.0, 2.0, 2.0, 0.0, 0.0], [-3.0, 0.0, 3.0, 3.0, 0.0, 0.0]);
    assert_eq!(edges("edge_padded", &image), [rim, middle, middle, middle, middle, rim]);
}

#[test]
fn a_shifted_image_has_shifted_edges() {
    // Multiples of 1/64, whose sums are exact.
    let pixel = |y: usize, x: usize| ((y * 37 + x * x * 11) % 64) as f32 / 64.0;
    let image = |down: usize, right: usize| -> Vec<Vec<f32>> {
        (0..12).map(|y| (0..17).map(|x| pixel(y + 2 - down, x + 3 - right)).collect()).collect()
    };
    let (still, moved) = (edges("edge", &image(0, 0)), edges("edge", &image(2, 3)));
    for y in 2..10 {
        assert_eq!(moved[y][3..], still[y - 2][..12], "row {y}");
    }
    assert_ne!(still, moved);
}

#[test]
fn edges_of_a_photograph_are_typed() {
    let sizes = bindings([("N", 1), ("H", 3024), ("W", 4032)]);
    let shape = |name| load(name).bind(&sizes).unwrap().graph().outputs[0].value;
    for (name, height, width) in [("edge", 3022usize, 4030usize), ("edge_padded", 3024, 4032)] {
        let bound = load(name).bind(&sizes).unwrap();
        assert_eq!(*bound.graph().value_type(shape(name)), TensorType::f32([1, 1, height, width]), "{name}");
    }
}

/// Full depth, an eighth of the channels where there are many, images of odd sizes: graph, optimised graph, kernels and
/// emitted code, fused and not.
#[test]
fn every_stage_agrees_with_the_reference() {
    for (name, _) in COUNTS.iter().filter(|(name, _)| *name != "dense_12mp") {
        let text = source(name);
        let text = match *name {
            "alexnet" => slim(&resized(&text, 71, 67)),
            "unet_small" => slim(&text.replace("64, 64", "20, 28")),
            _ if text.contains("224, 224") => slim(&resized(&text, 37, 45)),
            _ => text,
        };
        let model = Model::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        for fuse in [false, true] {
            agrees(name, &model, fuse, true);
        }
    }
}

/// All channels, at the smallest image that the network takes.
#[test]
fn the_smallest_images_agree_with_the_reference() {
    for (name, smallest) in [
        ("alexnet", 63),
        ("densenet121", 29),
        ("mobilenet_v2", 1),
        ("resnet18", 1),
        ("resnet50", 1),
        ("squeezenet1_1", 17),
        ("vgg16", 32),
    ] {
        let text = source(name);
        let model = (1..).find_map(|side| Some((side, Model::parse(&resized(&text, side, side)).ok()?)));
        let (side, model) = model.unwrap();
        assert_eq!(side, smallest, "{name}");
        agrees(name, &model, true, false);
    }
}
