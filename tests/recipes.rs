//! The training files that ship with the project: that they are sound, with the data that they name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::data::Order;
use fusewright::ir::recipe::{Network, Optimizer};
use fusewright::ir::tensor::Data;
use fusewright::ir::{Tensor, TensorType, ops, text};
use fusewright::passes::train::StepOptions;
use fusewright::{Recipe, ir};
use std::fs;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The names of the training files in a folder, without their endings.
fn names(of: &str) -> Vec<String> {
    let files = fs::read_dir(folder(of)).unwrap().map(|entry| entry.unwrap().file_name().to_str().unwrap().to_string());
    let mut names: Vec<String> = files.filter_map(|name| name.strip_suffix(".ron").map(str::to_string)).collect();
    names.retain(|name| name.starts_with("train_"));
    names.sort();
    names
}

fn load(path: &Path) -> Recipe {
    Recipe::load(path).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

/// Every training, its learned parameters, its examples, and the types of one example and its target.
const TRAININGS: &[(&str, u64, usize, usize, &str, &str)] = &[
    ("train_autoencoder", 437_664, 8000, 2000, "f32[1, 1, 28, 28]", ""),
    ("train_convnet", 20_586, 8000, 2000, "f32[1, 1, 28, 28]", "i64[1]"),
    ("train_gunpoint", 16_962, 50, 150, "f32[1, 1, 150]", "i64[1]"),
    ("train_lenet5", 61_706, 8000, 2000, "f32[1, 1, 28, 28]", "i64[1]"),
    ("train_lenet5_1998", 61_706, 8000, 2000, "f32[1, 1, 28, 28]", "i64[1]"),
    ("train_linear_regression", 11, 442, 442, "f32[1, 10]", "f32[1, 1]"),
    ("train_mlp", 101_770, 8000, 2000, "f32[1, 1, 28, 28]", "i64[1]"),
    ("train_resnet_small", 78_042, 8000, 2000, "f32[1, 1, 28, 28]", "i64[1]"),
    ("train_sine_1x1", 4, 256, 100, "f32[1, 1]", "f32[1, 1]"),
    ("train_sine_1x100", 301, 256, 100, "f32[1, 1]", "f32[1, 1]"),
    ("train_sine_2x10", 141, 256, 100, "f32[1, 1]", "f32[1, 1]"),
    ("train_softmax", 7_850, 8000, 2000, "f32[1, 1, 28, 28]", "i64[1]"),
];

#[test]
fn trainings_are_sound() {
    assert_eq!(names("models"), TRAININGS.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    for (name, parameters, examples, tests, input, target) in TRAININGS {
        let path = folder("models").join(format!("{name}.ron"));
        let source = fs::read_to_string(&path).unwrap();
        assert!(source.starts_with("// "), "{name} says what it is");
        assert_eq!(text::format(&source).unwrap(), source, "{name} in canonical form");
        let recipe = load(&path);
        assert_eq!(recipe.model().parameter_count(), Some(*parameters), "{name}");
        let (train, test) = recipe.data().unwrap().unwrap();
        assert_eq!((train.len(), test.unwrap().len()), (*examples, *tests), "{name}");
        assert_eq!(train.input_type(1).to_string(), *input, "{name}");
        assert_eq!(train.target_type(1).map_or(String::new(), |ty| ty.to_string()), *target, "{name}");
    }
}

/// Inputs, names of tensors and learning rates of the rows that are timed beside PyTorch.
#[test]
fn rows_have_the_tensors_of_their_modules() {
    let rows: [(&str, &[usize], &[&str], f64); 3] = [
        ("train_convnet_b64", &[64, 3, 32, 32], &["0", "11", "13", "2", "5", "7"], 0.01),
        ("train_lenet_b64", &[64, 1, 28, 28], &["0", "11", "3", "7", "9"], 0.1),
        ("train_mlp_b64", &[64, 784], &["0", "2", "4"], 0.1),
    ];
    assert_eq!(names("benches/rows"), rows.map(|(name, ..)| name));
    for (name, input, layers, rate) in rows {
        let path = folder("benches/rows").join(format!("{name}.ron"));
        let source = fs::read_to_string(&path).unwrap();
        assert_eq!(text::format(&source).unwrap(), source, "{name} in canonical form");
        let recipe = load(&path);
        let definition = recipe.definition();
        assert!(matches!(definition.model, Network::Inline(_)) && recipe.data().unwrap().is_none(), "{name}");
        assert!(matches!(definition.optimizer, Optimizer::Sgd { lr, .. } if lr.0 == rate), "{name}");
        assert_eq!((definition.objective.target.as_str(), definition.batch), ("labels", 64), "{name}");
        let wanted = recipe.wanted().unwrap();
        assert_eq!(wanted.input, TensorType::f32(input.iter().copied()), "{name}");
        assert_eq!(wanted.labels.unwrap().classes, 10, "{name}");
        let nodes = recipe.model().graph().nodes();
        let mut found: Vec<&str> = nodes
            .filter(|(_, node)| matches!(node.op, ops::Op::Parameter(_)))
            .filter_map(|(_, node)| node.name.strip_suffix(".weight"))
            .collect();
        found.sort_unstable();
        assert_eq!(found, layers, "{name}");
    }
}

#[test]
fn digits_come_in_batches() {
    let recipe = load(&folder("models/train_lenet5.ron"));
    let (train, _) = recipe.data().unwrap().unwrap();
    let batch = recipe.definition().batch;
    let mut order = Order::new(train.len(), batch, recipe.definition().seed);
    let zeros = |ty: TensorType| {
        let dims = ty.dims().unwrap();
        Tensor::new(&dims, Data::zeros(ty.dtype, dims.iter().product()))
    };
    let (mut image, mut label) = (zeros(train.input_type(batch)), zeros(train.target_type(batch).unwrap()));
    let mut counts = [0; 10];
    for number in 0..order.batches() {
        train.fill(order.batch(0, number), &mut image, &mut label);
        label.as_slice::<i64>().unwrap().iter().for_each(|&label| counts[label as usize] += 1);
        let pixels = image.as_slice::<f32>().unwrap();
        assert!(pixels.iter().all(|pixel| (0.0..=1.0).contains(pixel)) && pixels.contains(&1.0));
    }
    assert!(counts.iter().all(|count| (650..950).contains(count)), "{counts:?}");
}

/// What does not fit is told at its place, in the file that it is in.
#[test]
fn steps_that_cannot_be_are_told() {
    let step = |model: &str, training: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.ron"), model).unwrap();
        fs::write(folder.path().join("t.ron"), training).unwrap();
        let recipe = Recipe::load(folder.path().join("t.ron")).unwrap();
        let options = StepOptions { steps_per_epoch: 1, total_steps: 1 };
        let step = recipe.sizes(recipe.definition().batch, None).and_then(|sizes| recipe.step(&sizes, &options));
        step.map_err(|error| error.render(false).replace(&folder.path().display().to_string(), "FOLDER"))
    };
    let told = training(r#"model: "m.ron","#);
    assert!(step(NET, &told).is_ok());
    let fixed = step(&NET.replace('N', "3"), &told).unwrap_err();
    assert!(fixed.contains("--> FOLDER/t.ron:5:12") && fixed.contains("expected: 3 examples a step"), "{fixed}");
    let class = step(NET, &told.replace("MSELoss", "MSELoss(reduction: \"batchmean\")")).unwrap_err();
    assert!(class.contains("--> FOLDER/t.ron:3:11") && class.contains("batchmean"), "{class}");
    let rounded = NET.replace(
        "layers: [",
        "layers: [Dense(name: \"b\", out: 2), ArgMax(name: \"top\", dim: 1, keepdim: true), Cast(to: f32), ",
    );
    let rounded = step(&rounded, &told).unwrap_err();
    assert!(rounded.contains("--> FOLDER/m.ron:1:"), "{rounded}");
}

fn refused(files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
    let error = Recipe::load(folder.path().join("t.ron")).and_then(|recipe| recipe.data()).unwrap_err();
    error.render(false).replace(&folder.path().display().to_string(), "FOLDER")
}

const NET: &str = r#"(fusewright: 1, inputs: [(name: "x", shape: [N, 2])], layers: [Dense(name: "a", out: 1)])"#;

fn training(rest: &str) -> String {
    format!(
        "(\n    fusewright: 1,\n    loss: MSELoss,\n    optimizer: Sgd(lr: 0.1),\n    batch: 2,\n    epochs: 1,\n    {rest}\n)\n"
    )
}

#[test]
fn faults_of_data_point_into_the_training_file() {
    let data = r#"model: "m.ron", data: (train: Csv(file: "d.csv", inputs: ["a", "b"], targets: ["y"])),"#;
    let told = refused(&[("t.ron", &training(data)), ("m.ron", NET), ("d.csv", "a,b,y\n1,2,3\n4,x,6\n")]);
    assert!(told.contains("`FOLDER/d.csv` line 3, column `b`: a cell is not a number"), "{told}");
    assert!(told.contains("--> FOLDER/t.ron:7:62\n") && told.contains("^^^^^^^^^^"), "{told}");
    assert!(told.contains("expected: a finite number") && told.contains("found: \"x\""), "{told}");
    let told = refused(&[("t.ron", &training(data)), ("m.ron", NET)]);
    assert!(told.contains("found: no such file or folder") && told.contains("\"d.csv\""), "{told}");
    let told = refused(&[("t.ron", &training(data))]);
    assert!(told.contains("`FOLDER/m.ron` cannot be read") && told.contains("--> FOLDER/t.ron:7:12"), "{told}");
    let told = refused(&[("t.ron", &training(data)), ("m.ron", &NET.replace("Dense", "Dence"))]);
    assert!(told.contains("--> FOLDER/m.ron:1:64") && told.contains("did you mean `Dense`?"), "{told}");
}

#[test]
fn networks_that_cannot_be_fed_are_told() {
    let data = r#"data: (train: Csv(file: "d.csv", targets: ["y"])),"#;
    let table = ("d.csv", "a,b,y\n1,2,3\n4,5,6\n");
    for (model, place, words) in [
        (
            r#"(inputs: [(name: "x", shape: [N, 2]), (name: "z", shape: [N, 2])], layers: [Add(from: ["x", "z"])])"#,
            "7:12",
            "found: 2: `x`, `z`",
        ),
        (
            r#"(inputs: [(name: "x", shape: [N, 2])], layers: [Relu(name: "a"), Tanh(name: "b")], outputs: ["a", "b"])"#,
            "3:11",
            "found: the outputs `a`, `b`",
        ),
        (r#"(inputs: [(name: "x", shape: [N, 3])], layers: [Relu])"#, "8:19", "expected: f32[N, 3], the first axis"),
        (r#"(inputs: [(name: "x", shape: [N, 2])], layers: [Relu])"#, "8:47", "expected: f32[N, 2], the first axis"),
    ] {
        let told = refused(&[("t.ron", &training(&format!("model: {model},\n    {data}"))), table]);
        assert!(told.contains(&format!("--> FOLDER/t.ron:{place}\n")) && told.contains(words), "{told}");
    }
}

#[test]
fn a_text_has_no_files() {
    let text = training(r#"model: "m.ron","#);
    assert!(Recipe::parse(&text).unwrap_err().render(false).contains("a training that was parsed from a text"));
    let text = training(&format!("model: {NET}, data: (train: Csv(file: \"d.csv\", targets: [\"y\"])),"));
    let recipe = Recipe::parse(&text).unwrap();
    assert_eq!(recipe.wanted().unwrap().target, Some(TensorType::f32([ir::Dim::symbol("N"), 1usize.into()])));
    assert!(recipe.data().unwrap_err().render(false).contains("the examples cannot be found"));
}
