//! The folder of compiled networks: what is loaded from it has the bits of what is compiled, and nothing else is loaded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::ir::DType;
use fusewright::{Data, Executable, Isa, Model, Options, Recipe, Tensor, Trainer, Weights, bindings};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const LAYERS: &str = r#"Conv2d(name: "a", out: 6, kernel_size: 3), Relu, Flatten, Dense(name: "y", out: 5)"#;

fn text(layers: &str, shape: &str) -> String {
    format!("(fusewright: 1, inputs: [(name: \"x\", shape: [{shape}])], layers: [{layers}], seed: 3)")
}

fn small() -> Model {
    Model::parse(&text(LAYERS, "2, 3, 9, 9")).unwrap()
}

fn options(folder: &Path) -> Options {
    Options { cache: Some(folder.to_path_buf()), ..Options::default() }
}

fn compiled(model: &Model, options: Options) -> Executable {
    model.compile(options).unwrap_or_else(|fault| panic!("{}", fault.render(false)))
}

fn stages(executable: &Executable) -> Vec<&'static str> {
    let planned = executable.planned(&bindings([])).unwrap();
    planned.compilation.stages.iter().map(|(name, _)| *name).collect()
}

fn is_loaded(executable: &Executable) -> bool {
    stages(executable).contains(&"load")
}

/// The bytes of all outputs for inputs of made-up numbers.
fn outputs(executable: &Executable) -> Vec<Vec<u8>> {
    let mut session = executable.session(&bindings([])).unwrap();
    let make = |(name, ty): (String, fusewright::ir::TensorType)| {
        let dims = ty.dims().unwrap();
        let n: usize = dims.iter().product();
        let data = match ty.dtype {
            DType::F32 => Data::F32((0..n).map(|i| (i * 7 % 23) as f32 / 23.0 - 0.4).collect()),
            _ => Data::I64((0..n).map(|i| (i % 3) as i64).collect()),
        };
        (name, Tensor::new(&dims, data))
    };
    let inputs: Vec<(String, Tensor)> = session.inputs().into_iter().map(make).collect();
    let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let results = session.run_tensors(&given).unwrap();
    results.into_iter().map(|(_, tensor)| tensor.data().bytes().to_vec()).collect()
}

/// All files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// The only file of a folder.
fn only(folder: &Path) -> PathBuf {
    let mut all = files(folder);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn what_is_loaded_has_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let resized = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(format!("models/{name}.ron")).unwrap();
        Model::parse(&text.replace(from, to).replace("[N,", "[2,")).unwrap()
    };
    let parsed = |layers: &str, shape: &str| Model::parse(&text(layers, shape)).unwrap();
    let band = r#"Conv2d(out: 64, kernel_size: 3, padding: 1), Relu, Conv2d(out: 64, kernel_size: 3, padding: 1)"#;
    let tables = r#"Pad(padding: [(1, 2), (2, 1)], mode: reflect), Upsample(size: [9, 13]), Sin, Softmax(dim: -1)"#;
    let gradients = text(LAYERS, "2, 3, 9, 9").replace("seed: 3", "seed: 3, grad: {\"g\": (of: \"y\", by: \"x\")}");
    let models = [
        ("small", small()),
        ("gradients", Model::parse(&gradients).unwrap()),
        ("bands", parsed(band, "1, 64, 56, 56")),
        ("tables", parsed(tables, "1, 2, 5, 7")),
        ("resnet18", resized("resnet18", "224, 224", "37, 45")),
        ("mobilenet_v2", resized("mobilenet_v2", "224, 224", "45, 37")),
        ("transformer_encoder", resized("transformer_encoder", "", "")),
    ];
    for isa in [Isa::Avx512, Isa::Avx2, Isa::Portable].into_iter().filter(|isa| isa.is_available()) {
        for (name, model) in &models {
            let wanted = compiled(model, Options { isa, ..Options::default() });
            let made = compiled(model, Options { isa, ..options(folder.path()) });
            let loaded = compiled(model, Options { isa, ..options(folder.path()) });
            assert!(!stages(&wanted).contains(&"keep"), "{name}");
            assert!(!is_loaded(&made) && stages(&made).contains(&"keep"), "{name} {isa}");
            assert!(is_loaded(&loaded), "{name} {isa}");
            let bits = outputs(&wanted);
            assert!(outputs(&made) == bits && outputs(&loaded) == bits, "{name} {isa}");
            let [wanted, loaded] = [wanted, loaded].map(|all| all.planned(&bindings([])).unwrap().executable.clone());
            assert_eq!(wanted.plan(), loaded.plan(), "{name} {isa}");
            assert_eq!(wanted.code_bytes(), loaded.code_bytes(), "{name} {isa}");
        }
    }
}

#[test]
fn what_differs_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let made = |model: &Model, options: Options| !is_loaded(&compiled(model, options));
    let plain = || options(folder.path());
    assert!(made(&small(), plain()));
    assert!(!made(&small(), plain()));
    let other = |from: &str, to: &str| Model::parse(&text(LAYERS, "2, 3, 9, 9").replace(from, to)).unwrap();
    for (from, to) in [
        ("seed: 3", "seed: 4"),
        ("out: 6", "out: 7"),
        ("kernel_size: 3", "kernel_size: 3, padding: 1"),
        ("Relu", "Tanh"),
        ("9, 9", "9, 8"),
        ("name: \"a\"", "name: \"b\""),
        ("[2, 3", "[1, 3"),
    ] {
        assert!(made(&other(from, to), plain()), "{to}");
        assert!(!made(&other(from, to), plain()), "{to}");
    }
    for (what, changed) in [
        ("fuse", Options { fuse: false, ..plain() }),
        ("exact", Options { exact: true, ..plain() }),
        ("constant_limit", Options { constant_limit: Some(1 << 20), ..plain() }),
        ("memory_limit", Options { memory_limit: Some(1 << 20), ..plain() }),
        ("weights", Options { weights: Some(small().weights().unwrap().in_memory().unwrap()), ..plain() }),
    ] {
        assert!(made(&small(), changed.clone()), "{what}");
        assert!(!made(&small(), changed), "{what}");
    }
    // What decides nothing in an executable, and what a file does not hold.
    assert!(!made(&small(), Options { threads: 2, spin: 0, ..plain() }));
    for asked in [
        Options { verify: true, ..plain() },
        Options { details: true, ..plain() },
        Options { listings: true, ..plain() },
        Options { dumps: true, ..plain() },
    ] {
        assert!(made(&small(), asked));
    }
    assert!(!made(&small(), plain()));

    // What is measured in the first compilation is known to the second.
    let tuned = || Options { tuning: Some(folder.path().join("tuning.json")), ..plain() };
    let convolution = Model::parse(&text("Conv2d(out: 16, kernel_size: 3)", "1, 16, 20, 20")).unwrap();
    assert!(made(&convolution, tuned()));
    assert!(!made(&convolution, tuned()));
    assert!(made(&convolution, plain()));
}

#[test]
fn weights_are_known_by_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, path) = (folder.path().join("cache"), folder.path().join("w.safetensors"));
    let save = |seed: u64, age: u64| {
        Weights::initialized(small().graph(), seed).save(&path).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    let given = || Options { weights: Some(Weights::load(&path).unwrap()), ..options(&cache) };
    // A file that was written just now may be written again without its time showing that.
    save(1, 0);
    for _ in 0..2 {
        assert!(!is_loaded(&compiled(&small(), given())));
    }
    save(1, 1000);
    let first = compiled(&small(), given());
    assert!(!is_loaded(&first));
    let opened = given();
    assert!(is_loaded(&compiled(&small(), opened.clone())));

    // Other parameters of the same length: the time is another, and the file in the cache is replaced.
    save(2, 100);
    let changed = compiled(&small(), given());
    assert!(!is_loaded(&changed) && outputs(&changed) != outputs(&first));
    assert!(is_loaded(&compiled(&small(), given())));
    only(&cache);

    // What is loaded reads no parameter: this file holds none any more.
    let opened = given();
    std::fs::write(&path, b"").unwrap();
    let loaded = compiled(&small(), opened);
    assert!(is_loaded(&loaded) && outputs(&loaded) == outputs(&changed));

    // In memory they are known by their numbers.
    let held = |seed| Some(Weights::initialized(small().graph(), seed).in_memory().unwrap());
    assert!(!is_loaded(&compiled(&small(), Options { weights: held(1), ..options(&cache) })));
    assert!(!is_loaded(&compiled(&small(), Options { weights: held(2), ..options(&cache) })));
    let again = compiled(&small(), Options { weights: held(1), ..options(&cache) });
    assert!(is_loaded(&again) && outputs(&again) == outputs(&first));
}

#[test]
fn damaged_files_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = outputs(&compiled(&small(), options(folder.path())));
    let path = only(folder.path());
    let sound = std::fs::read(&path).unwrap();
    let is_refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let made = compiled(&small(), options(folder.path()));
        assert!(!is_loaded(&made), "{what}");
        assert!(outputs(&made) == wanted, "{what}");
        assert!(std::fs::read(only(folder.path())).unwrap() == sound, "{what}: it is replaced by what was there");
    };
    let step = sound.len() / 150;
    for at in (0..40).chain((40..sound.len()).step_by(step)).chain([sound.len() - 1]) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        is_refused(&bytes, &format!("another bit in byte {at} of {}", sound.len()));
    }
    for length in [0, 1, 24, 31, 500, sound.len() / 2, sound.len() - 1] {
        is_refused(&sound[..length], &format!("cut to {length} bytes"));
    }
    is_refused(&[&sound[..], &[0]].concat(), "a byte more");
    // The file of another network, sound in itself.
    let other = tempfile::tempdir().unwrap();
    compiled(&Model::parse(&text(LAYERS, "2, 3, 8, 8")).unwrap(), options(other.path()));
    is_refused(&std::fs::read(only(other.path())).unwrap(), "another network");
    assert!(is_loaded(&compiled(&small(), options(folder.path()))));
}

#[test]
fn many_may_use_a_folder_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("made/where/there/is/none");
    let all: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| outputs(&compiled(&small(), options(&cache))))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|one| *one == all[0]));
    only(&cache);
    assert!(is_loaded(&compiled(&small(), options(&cache))));
}

#[test]
fn trainings_are_kept_too() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::load("models/train_sine_1x100.ron").unwrap().with_epochs(3);
    let (train, _) = recipe.data().unwrap().unwrap();
    let run = |options: Options| {
        let mut trainer = Trainer::new(recipe.clone(), Some(&train), options).unwrap();
        trainer.fit(&train, None, |_, _| std::ops::ControlFlow::Continue(())).unwrap();
        let loaded = trainer.compilation().stages.iter().any(|(name, _)| *name == "load");
        let scores = trainer.evaluate(&train).unwrap();
        (loaded, scores.loss.to_bits())
    };
    let wanted = run(Options::default());
    assert_eq!(run(options(folder.path())), wanted);
    assert_eq!(run(options(folder.path())), (true, wanted.1));
}

#[test]
fn commands_use_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.ron"), text(LAYERS, "2, 3, 9, 9")).unwrap();
    let run = |line: &str| {
        let command = &mut Command::new(env!("CARGO_BIN_EXE_fusewright"));
        let output = command.args(line.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Each process finds what another made, whatever operations the network has.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for model in ["models/transformer_encoder.ron", "models/train_lenet5.ron", "models/unet_small.ron"] {
        let line = |command: &str| format!("{command} {} --cache shared", root.join(model).display());
        let command = if model.contains("train") { "bench --seconds 0.001 --json" } else { "compile" };
        run(&line(command));
        let made = files(&folder.path().join("shared"));
        run(&line(command));
        assert_eq!(files(&folder.path().join("shared")), made, "{model}");
    }
    let stages = |line: &str| {
        let told: serde_json::Value = serde_json::from_str(&run(line)).unwrap();
        told["stages_ms"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert!(stages("compile m.ron --json --cache kept").contains(&"keep".to_string()));
    let mut loaded = stages("compile m.ron --json --cache kept");
    loaded.sort();
    assert_eq!(loaded, ["bind", "load", "parse"]);
    let path = only(&folder.path().join("kept"));
    let time = path.metadata().unwrap().modified().unwrap();
    let input = Tensor::from_vec(&[2, 3, 9, 9], vec![0.5f32; 486]);
    fusewright::data::npy::write(&folder.path().join("x.npy"), &input).unwrap();
    assert_eq!(run("run m.ron --input x.npy --cache kept"), run("run m.ron --input x.npy"));
    run("bench m.ron --seconds 0.01 --json --cache kept");
    assert_eq!(path.metadata().unwrap().modified().unwrap(), time, "it is only read");
}
