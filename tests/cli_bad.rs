//! Bad weights, arrays, images and options: each is refused with exit code 2 and the text in `tests/bad/NAME.txt`.
//! `BLESS=1 cargo test --test cli_bad` writes the texts anew; the diff is the review.

use fusewright::data::{npy, safetensors};
use fusewright::{Options, Recipe, Tensor, Trainer};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// A folder with sound files, which a case then spoils.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("m.ron", MODEL);
        folder.write("pixels.ron", PIXELS);
        folder.write("named.ron", MODEL.replace(")])", ")], weights: \"w.safetensors\")"));
        folder.weights(&[("a.weight", &[3, 2]), ("a.bias", &[3])]);
        npy::write(&folder.path("x.npy"), &Tensor::from_vec(&[1, 2], vec![1f32, 2.0])).unwrap();
        folder.write("images.idx", idx(8, &[2, 4, 4], 32));
        folder.write("labels.idx", idx(8, &[2], 2));
        folder.write("t.ron", TRAINING);
        folder.write("digit.pgm", "P5 4 4 255 0123456789abcdef");
        folder
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn weights(&self, tensors: &[(&str, &[usize])]) {
        let zeros = |dims: &[usize]| Tensor::from_vec(dims, vec![0f32; dims.iter().product()]);
        let all: Vec<(&str, Tensor)> = tensors.iter().map(|(name, dims)| (*name, zeros(dims))).collect();
        safetensors::write(&self.path("w.safetensors"), all.iter().map(|(name, tensor)| (*name, tensor))).unwrap();
    }

    /// A table of two examples for the model of two inputs, and a training on it.
    fn table(&self, model: &str, optimizer: &str) {
        self.write("m.ron", model);
        let data = "train: Csv(file: \"d.csv\", inputs: [\"a\", \"b\"], targets: [\"y\"])";
        let idx = "train: Idx(images: \"images.idx\", labels: \"labels.idx\")";
        let training =
            TRAINING.replace("pixels.ron", "m.ron").replace("CrossEntropyLoss", "MSELoss").replace(idx, data);
        self.write("t.ron", training.replace("Sgd(lr: 0.1)", optimizer).replace("batch: 2", "batch: 1"));
        self.write("d.csv", "a,b,y\n1,2,3\n4,5,6\n7,8,9\n");
    }

    /// A checkpoint of the training as it begins.
    fn checkpoint(&self, name: &str) {
        let recipe = Recipe::load(self.path("t.ron")).unwrap();
        let (train, _) = recipe.data().unwrap().unwrap();
        Trainer::new(recipe, Some(&train), Options::default()).unwrap().save(self.path(name)).unwrap();
    }

    /// Keeps so many bytes of a file.
    fn cut(&self, name: &str, keep: usize) {
        let bytes = std::fs::read(self.path(name)).unwrap();
        self.write(name, &bytes[..keep]);
    }

    /// A safetensors file of this header, with eight bytes of data.
    fn header(&self, text: &str) {
        self.write("w.safetensors", [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &[0; 8]].concat());
    }

    /// An npy file of this header, without elements.
    fn npy(&self, header: &str) {
        let length = (header.len() as u16).to_le_bytes();
        self.write("x.npy", [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes()].concat());
    }
}

const MODEL: &str = "(fusewright: 1, inputs: [(name: \"x\", shape: [N, 2])], layers: [Dense(name: \"a\", out: 3)])";
const PIXELS: &str = "(
    fusewright: 1,
    inputs: [(name: \"image\", shape: [N, 1, 4, 4], normalize: (std: [255]))],
    layers: [Flatten, Dense(name: \"a\", out: 3)],
)";

const CONVOLUTION: &str = "(fusewright: 1, inputs: [(name: \"x\", shape: [N, 2, 8, 8])],
    layers: [Conv2d(name: \"a\", out: 3, kernel_size: 3)])";

const LINE: &str = "(fusewright: 1, inputs: [(name: \"x\", shape: [N, 2])], layers: [Dense(name: \"a\", out: 1)])";

const TRAINING: &str = "(
    fusewright: 1,
    model: \"pixels.ron\",
    loss: CrossEntropyLoss,
    optimizer: Sgd(lr: 0.1),
    batch: 2,
    epochs: 1,
    data: (train: Idx(images: \"images.idx\", labels: \"labels.idx\")),
)
";

fn idx(kind: u8, dims: &[u32], elements: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|n| n.to_be_bytes()));
    bytes.resize(bytes.len() + elements, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A name, what is spoilt, and the command that must be refused.
type Case = (&'static str, fn(&Folder), &'static str);

const RUN: &str = "run m.ron --input x.npy --weights w.safetensors";
const EVAL: &str = "eval pixels.ron --images images.idx --labels labels.idx";
const TRAIN: &str = "train t.ron";
const IMAGE: &str = "run pixels.ron --image digit.pgm";

const CASES: &[Case] = &[
    // Examples to train on.
    ("examples_absent", |f| std::fs::remove_file(f.path("images.idx")).unwrap(), "check t.ron"),
    ("examples_empty", |f| f.write("images.idx", idx(8, &[0, 4, 4], 0)), "check t.ron"),
    ("examples_of_another_size", |f| f.write("images.idx", idx(8, &[2, 3, 3], 18)), "check t.ron"),
    ("example_labels_of_another_number", |f| f.write("labels.idx", idx(8, &[3], 3)), "check t.ron"),
    ("example_labels_out_of_range", |f| f.write("labels.idx", [idx(8, &[2], 0), vec![3, 255]].concat()), "check t.ron"),
    (
        "table_cells",
        |f| {
            let table = "Csv(file: \"t.csv\", inputs: [\"a\", \"b\"], targets: [\"y\"])";
            let training = TRAINING.replace("pixels.ron", "m.ron").replace("CrossEntropyLoss", "MSELoss");
            f.write("t.ron", training.replace("Idx(images: \"images.idx\", labels: \"labels.idx\")", table));
            f.write("t.csv", "a,b,y\n1,two,3\n,5,6\n");
        },
        "check t.ron",
    ),
    // Trainings.
    ("training_of_no_data", |f| f.write("t.ron", TRAINING.split("    data:").next().unwrap().to_string() + ")"), TRAIN),
    ("training_of_empty_data", |f| f.write("images.idx", idx(8, &[0, 4, 4], 0)), TRAIN),
    ("training_of_mismatched_data", |f| f.write("labels.idx", idx(8, &[3], 3)), TRAIN),
    ("training_of_labels_out_of_range", |f| f.write("labels.idx", [idx(8, &[2], 0), vec![3, 255]].concat()), TRAIN),
    (
        "training_without_gradient",
        |f| {
            let layers =
                "layers: [Dense(name: \"a\", out: 4), ArgMax(name: \"top\", dim: 1, keepdim: true), Cast(to: f32)]";
            f.table(&LINE.replace("layers: [Dense(name: \"a\", out: 1)]", layers), "Sgd(lr: 0.1)");
        },
        TRAIN,
    ),
    ("training_that_diverges", |f| f.table(LINE, "Sgd(lr: 1e30)"), "train t.ron --checkpoint c --every 1steps"),
    (
        "training_of_ignored_labels",
        |f| f.write("t.ron", TRAINING.replace("CrossEntropyLoss", "CrossEntropyLoss(ignore_index: 0)")),
        TRAIN,
    ),
    ("training_into_no_folder", |_| {}, "train t.ron --checkpoint none/c"),
    ("training_into_a_folder", |f| std::fs::create_dir(f.path("d")).unwrap(), "train t.ron --save d"),
    ("training_over_its_file", |_| {}, "train t.ron --checkpoint c --save ./t.ron"),
    ("training_over_its_examples", |_| {}, "train t.ron --report images.idx"),
    ("training_over_its_network", |_| {}, "train t.ron --checkpoint pixels.ron"),
    ("training_over_its_checkpoint", |_| {}, "train t.ron --checkpoint c --save c"),
    ("training_over_what_it_resumes", |f| f.checkpoint("c"), "train t.ron --resume c --save c"),
    ("training_every_without_checkpoint", |_| {}, "train t.ron --every 2"),
    ("training_of_too_many_steps", |f| f.table(LINE, "Sgd(lr: 0.1)"), "train t.ron --epochs 2147483647"),
    ("parameters_over_their_network", |_| {}, "init m.ron -o m.ron"),
    ("result_over_an_input", |_| {}, "run m.ron --input x.npy --output ./x.npy"),
    ("step_of_two_batches", |_| {}, "bench t.ron --bind N=3"),
    (
        "step_of_another_batch",
        |f| {
            npy::write(&f.path("i.npy"), &Tensor::from_vec(&[1, 1, 4, 4], vec![0f32; 16])).unwrap();
            npy::write(&f.path("l.npy"), &Tensor::from_vec(&[1], vec![0i64])).unwrap();
        },
        "bench t.ron --input image=i.npy --input labels=l.npy",
    ),
    ("attribute_beyond_f32", |f| f.write("t.ron", TRAINING.replace("lr: 0.1", "lr: 1e39")), TRAIN),
    (
        "gradients_of_what_is_not_defined",
        |f| f.write("m.ron", MODEL.replace(", out: 3)", ", out: 3), Log(name: \"logarithm\")")),
        "check m.ron --gradients",
    ),
    (
        "table_of_mixed_labels",
        |f| {
            let table = "Csv(file: \"t.csv\", inputs: [\"a\", \"b\"], targets: [\"y\"])";
            let training = TRAINING.replace("pixels.ron", "m.ron");
            f.write("t.ron", training.replace("Idx(images: \"images.idx\", labels: \"labels.idx\")", table));
            f.write("t.csv", "a,b,y\n1,2,0\n3,4,\n5,6,2\n7,8,nan\n");
        },
        TRAIN,
    ),
    (
        "training_of_a_last_batch_of_one",
        |f| {
            f.table(&LINE.replace("out: 1)", "out: 4), BatchNorm1d, Dense(name: \"b\", out: 1)"), "Sgd(lr: 0.1)");
            f.write("t.ron", std::fs::read_to_string(f.path("t.ron")).unwrap().replace("batch: 1", "batch: 2"));
        },
        TRAIN,
    ),
    ("checkpoint_absent", |_| {}, "train t.ron --resume none"),
    (
        "checkpoint_cut",
        |f| {
            f.checkpoint("c");
            f.cut("c", std::fs::read(f.path("c")).unwrap().len() - 7);
        },
        "train t.ron --resume c",
    ),
    (
        "checkpoint_cut_in_the_header",
        |f| {
            f.checkpoint("c");
            f.cut("c", 90);
        },
        "train t.ron --resume c",
    ),
    ("checkpoint_that_is_weights", |_| {}, "train t.ron --resume w.safetensors"),
    (
        "checkpoint_of_another_network",
        |f| {
            f.table(LINE, "Adam(lr: 0.1)");
            f.checkpoint("c");
            f.table(&LINE.replace("out: 1)", "out: 3), Dense(name: \"b\", out: 1)"), "Sgd(lr: 0.1)");
        },
        "train t.ron --resume c",
    ),
    ("checkpoint_of_another_seed", |f| f.checkpoint("c"), "train t.ron --resume c --seed 5"),
    ("step_of_an_unknown_input", |_| {}, "bench t.ron --seconds 0.01 --input z=x.npy"),
    ("training_without_its_model", |f| std::fs::remove_file(f.path("pixels.ron")).unwrap(), "check t.ron"),
    ("training_in_the_place_of_a_model", |_| {}, "run t.ron"),
    // Weights.
    ("weights_absent", |_| {}, "run m.ron --input x.npy --weights none.safetensors"),
    ("weights_are_a_folder", |f| std::fs::create_dir(f.path("d")).unwrap(), "run m.ron --input x.npy --weights d"),
    ("weights_empty", |f| f.write("w.safetensors", ""), RUN),
    ("weights_cut_in_the_header", |f| f.cut("w.safetensors", 20), RUN),
    ("weights_cut_in_the_data", |f| f.cut("w.safetensors", 150), RUN),
    (
        "weights_with_bytes_to_spare",
        |f| f.header(r#"{"a.bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#),
        RUN,
    ),
    ("weights_header_too_long", |f| f.write("w.safetensors", [0xff; 64]), RUN),
    ("weights_header_is_no_json", |f| f.header("{'a': 1}"), RUN),
    ("weights_header_is_deep", |f| f.header(&format!("{{\"a\":{}", "[".repeat(100_000))), RUN),
    (
        "weights_overlap",
        |f| {
            f.header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#)
        },
        RUN,
    ),
    ("weights_of_another_length", |f| f.header(r#"{"a.bias":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#), RUN),
    (
        "weights_that_overflow",
        |f| f.header(r#"{"a.bias":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,8]}}"#),
        RUN,
    ),
    ("weights_of_unknown_type", |f| f.header(r#"{"a.bias":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}}"#), RUN),
    ("weights_of_bytes", |f| f.header(r#"{"a.bias":{"dtype":"I8","shape":[8],"data_offsets":[0,8]}}"#), RUN),
    ("weights_missing", |f| f.weights(&[("a.weight", &[3, 2])]), RUN),
    ("weights_extra", |f| f.weights(&[("a.weight", &[3, 2]), ("a.bias", &[3]), ("b.bias", &[1]), ("c", &[1])]), RUN),
    ("weights_misspelt", |f| f.weights(&[("a.weigth", &[3, 2]), ("a.bias", &[3])]), RUN),
    ("weights_transposed", |f| f.weights(&[("a.weight", &[2, 3]), ("a.bias", &[3])]), RUN),
    ("weights_with_all_faults", |f| f.weights(&[("a.weight", &[2, 3]), ("b.bias", &[3])]), RUN),
    // Weights that a model names.
    ("named_weights_absent", |f| std::fs::remove_file(f.path("w.safetensors")).unwrap(), "check named.ron"),
    (
        "named_weights_absolute",
        |f| f.write("m.ron", MODEL.replace(")])", ")], weights: \"/etc/passwd\")")),
        "check m.ron",
    ),
    (
        "named_weights_above",
        |f| f.write("m.ron", MODEL.replace(")])", ")], weights: \"../w.safetensors\")")),
        "check m.ron",
    ),
    ("named_weights_do_not_fit", |f| f.weights(&[("a.weight", &[3, 2])]), "check named.ron"),
    // Arrays.
    ("array_absent", |_| {}, "run m.ron --input none.npy"),
    ("array_is_text", |f| f.write("x.npy", "1 2 3"), RUN),
    ("array_cut_in_the_header", |f| f.cut("x.npy", 30), RUN),
    ("array_cut_in_the_data", |f| f.cut("x.npy", 130), RUN),
    ("array_of_version_9", |f| f.write("x.npy", b"\x93NUMPY\x09\x00"), RUN),
    ("array_header_too_long", |f| f.write("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), RUN),
    ("array_header_is_deep", |f| f.npy(&"(".repeat(60_000)), RUN),
    ("array_of_objects", |f| f.npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 2), }"), RUN),
    (
        "array_larger_than_its_file",
        |f| f.npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 2), }"),
        RUN,
    ),
    (
        "array_that_overflows",
        |f| f.npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 8), }"),
        RUN,
    ),
    (
        "array_of_another_shape",
        |f| npy::write(&f.path("x.npy"), &Tensor::from_vec(&[2, 3], vec![0f32; 6])).unwrap(),
        RUN,
    ),
    ("array_of_another_rank", |f| npy::write(&f.path("x.npy"), &Tensor::from_vec(&[2], vec![0f32; 2])).unwrap(), RUN),
    (
        "array_of_another_type",
        |f| npy::write(&f.path("x.npy"), &Tensor::from_vec(&[1, 2], vec![0i64; 2])).unwrap(),
        RUN,
    ),
    ("input_missing", |_| {}, "run m.ron"),
    ("input_unknown", |_| {}, "run m.ron --input y=x.npy"),
    ("input_twice", |_| {}, "run m.ron --input x.npy --input x=x.npy"),
    ("output_unknown", |_| {}, "run m.ron --input x.npy --output y=y.npy"),
    ("output_into_no_folder", |_| {}, "run m.ron --input x.npy --output none/y.npy"),
    // Labelled images.
    ("images_absent", |_| {}, "eval pixels.ron --images none --labels labels.idx"),
    ("images_are_text", |f| f.write("images.idx", "hello world"), EVAL),
    ("images_cut", |f| f.cut("images.idx", 40), EVAL),
    ("images_with_bytes_to_spare", |f| f.write("images.idx", idx(8, &[2, 4, 4], 33)), EVAL),
    ("images_larger_than_their_file", |f| f.write("images.idx", idx(8, &[u32::MAX, 4, 4], 0)), EVAL),
    ("images_of_unknown_type", |f| f.write("images.idx", idx(7, &[2, 4, 4], 32)), EVAL),
    ("images_gzip_cut", |f| f.write("images.idx", &gzip(&idx(8, &[2, 4, 4], 32))[..20]), EVAL),
    ("images_gzip_bomb", |f| f.write("images.idx", gzip(&idx(8, &[2, 4, 4], 64 << 20))), EVAL),
    (
        "images_gzip_damaged",
        |f| f.write("images.idx", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff\xff\xff"),
        EVAL,
    ),
    ("images_of_another_size", |f| f.write("images.idx", idx(8, &[2, 5, 4], 40)), EVAL),
    ("labels_out_of_range", |f| f.write("labels.idx", [idx(8, &[2], 0), vec![1, 3]].concat()), EVAL),
    (
        "images_none",
        |f| {
            f.write("images.idx", idx(8, &[0, 4, 4], 0));
            f.write("labels.idx", idx(8, &[0], 0));
        },
        EVAL,
    ),
    (
        "images_of_other_channels",
        |f| {
            f.write("images.idx", idx(8, &[2, 3, 4, 4], 96));
            let model = PIXELS.replace("[N, 1, 4, 4]", "[N, C, 4, 4]").replace("std: [255]", "mean: [1, 2]");
            f.write("pixels.ron", model.replace("Flatten, Dense(name: \"a\", out: 3)", "GlobalAvgPool, Flatten"));
        },
        EVAL,
    ),
    ("labels_of_another_number", |f| f.write("labels.idx", idx(8, &[3], 3)), EVAL),
    ("labels_of_floats", |f| f.write("labels.idx", idx(13, &[2], 8)), EVAL),
    ("digits_for_another_input", |_| {}, "eval pixels.ron"),
    // Pictures.
    ("picture_absent", |_| {}, "run pixels.ron --image none.png"),
    ("picture_is_text", |f| f.write("digit.pgm", "hello"), IMAGE),
    ("picture_cut", |f| f.cut("digit.pgm", 15), IMAGE),
    ("picture_too_large", |f| f.write("digit.pgm", "P5 999999 999999 255 "), IMAGE),
    ("picture_for_no_image", |_| {}, "run m.ron --image digit.pgm"),
    // Models and options.
    ("model_absent", |_| {}, "check none.ron"),
    ("model_is_a_folder", |f| std::fs::create_dir(f.path("d")).unwrap(), "check d"),
    ("model_is_not_text", |f| f.write("m.ron", [0x28, 0xff, 0x29]), "check m.ron"),
    ("symbol_unknown", |_| {}, "compile m.ron --bind H=3"),
    ("symbol_twice", |_| {}, "compile m.ron --bind N=3 --batch 4"),
    ("symbol_too_large", |_| {}, "compile m.ron --bind N=99999999999"),
    ("symbol_without_value", |f| f.write("m.ron", MODEL.replace('N', "H")), "compile m.ron"),
    ("pass_unknown", |_| {}, "compile m.ron --after magic"),
    (
        "memory_below_the_floor",
        |f| f.write("m.ron", MODEL.replace(")])", "), Relu, Dense(name: \"b\", out: 1)])")),
        "compile m.ron --batch 1000 --memory 2KiB",
    ),
    ("tuning_is_text", |f| f.write("t.json", "hello"), "compile m.ron --batch 1 --tune t.json"),
    ("tuning_into_no_folder", |f| f.write("m.ron", CONVOLUTION), "compile m.ron --batch 1 --tune none/t.json"),
    ("tuning_of_exact_sums", |_| {}, "compile m.ron --tune t.json --exact"),
    ("cache_that_is_a_file", |_| {}, "compile m.ron --batch 1 --cache x.npy"),
    ("cache_below_a_file", |_| {}, "run m.ron --input x.npy --cache x.npy/kept"),
    ("seconds_out_of_range", |_| {}, "bench m.ron --seconds 0"),
    ("weights_into_no_folder", |_| {}, "init m.ron -o none/w.safetensors"),
    ("page_into_no_folder", |_| {}, "compile m.ron --html none/page.html"),
];

#[test]
fn bad_input_is_refused() {
    let bless = std::env::var_os("BLESS").is_some();
    let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut wrong = String::new();
    for (name, spoil, line) in CASES {
        let folder = Folder::new();
        spoil(&folder);
        let output = Command::new(env!("CARGO_BIN_EXE_fusewright"))
            .args(line.split(' '))
            .current_dir(folder.0.path())
            .output()
            .unwrap();
        let found = format!("$ fusewright {line}\n{}", String::from_utf8(output.stderr).unwrap());
        let path = texts.join(format!("{name}.txt"));
        if bless {
            std::fs::write(&path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if output.status.code() != Some(2) {
            let _ = writeln!(wrong, "{name}: {}\n{found}", output.status);
        } else if found != expected {
            let _ = writeln!(wrong, "{name}: found\n{found}\nexpected\n{expected}");
        }
        assert!(output.stdout.is_empty(), "{name} prints before it is refused");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_text_has_its_case() {
    let texts = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")).unwrap();
    for text in texts {
        let name = text.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string();
        assert!(CASES.iter().any(|(case, _, _)| *case == name), "{name}");
    }
}

#[test]
#[cfg(unix)]
fn links_do_not_leave_the_folder() {
    let (folder, other) = (Folder::new(), Folder::new());
    std::fs::remove_file(folder.path("w.safetensors")).unwrap();
    std::os::unix::fs::symlink(other.path("w.safetensors"), folder.path("w.safetensors")).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_fusewright")).arg("check").arg(folder.path("named.ron")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("`w.safetensors` is outside the model's folder") && text.contains("a link to"), "{text}");
}
