//! The networks of `benches/rows`, which are timed beside other programs: their inputs, outputs and tensors are those of
//! the PyTorch modules that they stand for, so that the same files feed both.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::ir::ops::Op;
use fusewright::ir::{TensorType, text};
use fusewright::{Model, Options, Tensor, bindings, reference};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Names and shapes of the tensors of a PyTorch module.
enum Tensors {
    /// As they are.
    Listed(&'static [(&'static str, &'static [usize])]),
    /// A list in `tests/state_dicts`.
    Torchvision,
}
use Tensors::{Listed, Torchvision};

const MLP: Tensors = Listed(&[
    ("0.bias", &[256]),
    ("0.weight", &[256, 784]),
    ("2.bias", &[128]),
    ("2.weight", &[128, 256]),
    ("4.bias", &[10]),
    ("4.weight", &[10, 128]),
]);
const LENET: Tensors = Listed(&[
    ("0.bias", &[6]),
    ("0.weight", &[6, 1, 5, 5]),
    ("11.bias", &[10]),
    ("11.weight", &[10, 84]),
    ("3.bias", &[16]),
    ("3.weight", &[16, 6, 5, 5]),
    ("7.bias", &[120]),
    ("7.weight", &[120, 400]),
    ("9.bias", &[84]),
    ("9.weight", &[84, 120]),
]);

/// Every row: its input, its output and its tensors.
const ROWS: &[(&str, &[usize], &[usize], Tensors)] = &[
    ("bias_gelu_1024", &[1024, 1024], &[1024, 1024], Listed(&[("b", &[1024])])),
    ("chain_4m", &[4_194_304], &[4_194_304], Listed(&[])),
    (
        "conv1x1_256_64_56",
        &[1, 256, 56, 56],
        &[1, 64, 56, 56],
        Listed(&[("0.bias", &[64]), ("0.weight", &[64, 256, 1, 1])]),
    ),
    (
        "conv1x1_64_256_56",
        &[1, 64, 56, 56],
        &[1, 256, 56, 56],
        Listed(&[("0.bias", &[256]), ("0.weight", &[256, 64, 1, 1])]),
    ),
    (
        "conv3x3_128_28",
        &[1, 128, 28, 28],
        &[1, 128, 28, 28],
        Listed(&[("0.bias", &[128]), ("0.weight", &[128, 128, 3, 3])]),
    ),
    (
        "conv3x3_256_14",
        &[1, 256, 14, 14],
        &[1, 256, 14, 14],
        Listed(&[("0.bias", &[256]), ("0.weight", &[256, 256, 3, 3])]),
    ),
    ("conv3x3_512_7", &[1, 512, 7, 7], &[1, 512, 7, 7], Listed(&[("0.bias", &[512]), ("0.weight", &[512, 512, 3, 3])])),
    ("conv3x3_64_56", &[1, 64, 56, 56], &[1, 64, 56, 56], Listed(&[("0.bias", &[64]), ("0.weight", &[64, 64, 3, 3])])),
    (
        "conv3x3_64_56_gelu",
        &[1, 64, 56, 56],
        &[1, 64, 56, 56],
        Listed(&[("0.bias", &[64]), ("0.weight", &[64, 64, 3, 3])]),
    ),
    ("conv5x5_32_56", &[1, 32, 56, 56], &[1, 32, 56, 56], Listed(&[("0.bias", &[32]), ("0.weight", &[32, 32, 5, 5])])),
    (
        "conv7x7s2_3_64_224",
        &[1, 3, 224, 224],
        &[1, 64, 112, 112],
        Listed(&[("0.bias", &[64]), ("0.weight", &[64, 3, 7, 7])]),
    ),
    (
        "convdw3x3_128_56",
        &[1, 128, 56, 56],
        &[1, 128, 56, 56],
        Listed(&[("0.bias", &[128]), ("0.weight", &[128, 1, 3, 3])]),
    ),
    ("dense_4m_100", &[1, 4_000_000], &[1, 100], Listed(&[("bias", &[100]), ("weight", &[100, 4_000_000])])),
    ("edge_12mp", &[1, 1, 3024, 4032], &[1, 1, 3024, 4032], Listed(&[("bias", &[1]), ("weight", &[1, 1, 3, 3])])),
    ("gemm_1024", &[1024, 1024], &[1024, 1024], Listed(&[("0.bias", &[1024]), ("0.weight", &[1024, 1024])])),
    ("gemm_512", &[512, 512], &[512, 512], Listed(&[("0.bias", &[512]), ("0.weight", &[512, 512])])),
    ("identity", &[1, 8], &[1, 8], Listed(&[])),
    ("lenet_b1", &[1, 1, 28, 28], &[1, 10], LENET),
    ("lenet_b64", &[64, 1, 28, 28], &[64, 10], LENET),
    ("lenet_sigavg_b1", &[1, 1, 28, 28], &[1, 10], LENET),
    ("mlp_b1", &[1, 784], &[1, 10], MLP),
    ("mlp_b64", &[64, 784], &[64, 10], MLP),
    ("mobilenet_v2", &[1, 3, 224, 224], &[1, 1000], Torchvision),
    ("resnet18", &[1, 3, 224, 224], &[1, 1000], Torchvision),
    ("squeezenet1_1", &[1, 3, 224, 224], &[1, 1000], Torchvision),
    ("vgg16", &[1, 3, 224, 224], &[1, 1000], Torchvision),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn load(name: &str) -> Model {
    Model::load(folder("benches/rows").join(format!("{name}.ron"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn types(name: &str, tensors: &Tensors) -> BTreeMap<String, TensorType> {
    match tensors {
        Listed(list) => {
            list.iter().map(|(name, dims)| (name.to_string(), TensorType::f32(dims.iter().copied()))).collect()
        }
        Torchvision => {
            let text = fs::read_to_string(folder("tests/state_dicts").join(format!("{name}.txt"))).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("num_batches_tracked"));
            let parts = lines.map(|line| line.split(' ').collect::<Vec<_>>());
            let shape = |text: &str| TensorType::f32(text.split('x').map(|n| n.parse::<usize>().unwrap()));
            parts.map(|line| (line[0].to_string(), shape(line[2]))).collect()
        }
    }
}

#[test]
fn rows_have_the_tensors_of_their_modules() {
    let files = fs::read_dir(folder("benches/rows")).unwrap();
    let mut files: Vec<String> =
        files.map(|entry| entry.unwrap().file_name().to_str().unwrap().replace(".ron", "")).collect();
    files.retain(|name| !name.starts_with("train_"));
    files.sort();
    assert_eq!(files, ROWS.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    for (name, input, output, tensors) in ROWS {
        let source = fs::read_to_string(folder("benches/rows").join(format!("{name}.ron"))).unwrap();
        assert!(source.starts_with("// "), "{name} says what it is");
        assert_eq!(text::format(&source).unwrap(), source, "{name} in canonical form");

        let model = load(name);
        let graph = model.graph();
        let inputs = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Input(_)));
        let inputs: Vec<_> = inputs.map(|(_, node)| (node.name.as_str(), &node.types[0])).collect();
        assert_eq!(inputs, [("x", &TensorType::f32(input.iter().copied()))], "{name}");
        let outputs: Vec<_> =
            graph.outputs.iter().map(|output| (output.name.as_str(), graph.value_type(output.value))).collect();
        assert_eq!(outputs, [("y", &TensorType::f32(output.iter().copied()))], "{name}");

        let parameters = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Parameter(_)));
        let found: BTreeMap<String, TensorType> =
            parameters.map(|(_, node)| (node.name.clone(), node.types[0].clone())).collect();
        assert_eq!(found, types(name, tensors), "{name}");
    }
}

/// The rows that the reference can follow in little time.
#[test]
fn small_rows_agree_with_the_reference() {
    for name in ["identity", "mlp_b1", "mlp_b64", "lenet_b1", "lenet_sigavg_b1", "conv3x3_512_7", "bias_gelu_1024"] {
        let executable = load(name).compile(Options { verify: true, ..Options::default() }).unwrap();
        let mut session = executable.session(&bindings([])).unwrap();
        let dims = session.inputs()[0].1.dims().unwrap();
        let numbers = (0..dims.iter().product()).map(|i: usize| (i * 37 % 251) as f32 / 50.0 - 2.5).collect();
        let x = Tensor::from_vec::<f32>(&dims, numbers);
        let (_, found) = &session.run_tensors(&[("x", &x)]).unwrap()[0];
        let (_, wanted) = &reference(&executable, &bindings([]), &[("x", &x)]).unwrap()[0];
        let scale = wanted.data.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        for (i, (found, wanted)) in found.data().to_f64().iter().zip(&wanted.data).enumerate() {
            assert!((found - wanted).abs() <= 1e-5 * scale, "{name}: y[{i}] is {found}, expected {wanted}");
        }
    }
}
