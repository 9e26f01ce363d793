//! The command line as users call it: the real program, its output and its exit codes.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn fusewright(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fusewright")).args(arguments).output().unwrap()
}

/// What a command prints that must go well.
fn printed(arguments: &[&str]) -> String {
    let output = fusewright(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    assert_eq!(errors, "", "{arguments:?}: nothing is said where nothing is wrong");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).unwrap()
}

/// What a command says that must be refused.
fn refused(arguments: &[&str]) -> String {
    let output = fusewright(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

const LENET: &str = "models/lenet5.ron";

#[test]
fn digits_are_classified() {
    for (name, correct) in [("lenet5", 1967), ("lenet5_1998", 1933)] {
        let folder = tempfile::tempdir().unwrap();
        let logits = folder.path().join("logits.npy");
        let logits = logits.to_str().unwrap();
        let model = format!("models/{name}.ron");
        let result = json(&["eval", &model, "--output", logits, "--json"]);
        assert_eq!((result["correct"].as_u64(), result["total"].as_u64()), (Some(correct), Some(2000)));
        assert!(result["images_per_s"].as_f64().unwrap() > 0.0);
        let found = fusewright::data::npy::read(Path::new(logits)).unwrap();
        let wanted = fusewright::data::npy::read(format!("tests/data/{name}.logits.npy").as_ref()).unwrap();
        assert_eq!(found.dims(), wanted.dims());
        for (found, wanted) in found.data().to_f64().iter().zip(wanted.data().to_f64()) {
            assert!((found - wanted).abs() < 1e-4);
        }
    }
    let text = printed(&["eval", LENET, "--batch", "7"]);
    assert!(text.starts_with("1,967 of 2,000 right (98.35 %)\n"), "{text}");
}

#[test]
fn other_images_and_weights_are_taken() {
    let files = "models/data/mnist10k/t10k-";
    let (images, labels) = (format!("{files}images-idx3-ubyte.gz"), format!("{files}labels-idx1-ubyte.gz"));
    let weights = "models/lenet5.safetensors";
    let result = json(&["eval", LENET, "--weights", weights, "--images", &images, "--labels", &labels, "--json"]);
    assert_eq!(result["correct"], 1967);
    // The other network's parameters have the same shapes, and another meaning.
    let result = json(&["eval", LENET, "--weights", "models/lenet5_1998.safetensors", "--json"]);
    assert!(result["correct"].as_u64().unwrap() < 1900);
}

#[test]
fn summaries_count() {
    let result = json(&["summary", LENET, "--json"]);
    assert_eq!(result["parameters"], 61_706);
    assert_eq!(result["multiply_adds"], "416520*N");
    let c1 = &result["layers"][1];
    assert_eq!((&c1["name"], &c1["operation"], &c1["parameters"]), (&"c1".into(), &"Conv2d".into(), &156.into()));
    assert_eq!(c1["outputs"][0], "f32[N, 6, 28, 28]");
    let result = json(&["summary", LENET, "--bind", "N=2", "--json"]);
    assert_eq!(result["multiply_adds"], 833_040);
    let text = printed(&["summary", LENET]);
    assert!(text.contains("parameters     61,706\n"), "{text}");
}

#[test]
fn huge_networks_are_counted_without_being_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.ron");
    let text = "(fusewright: 1, inputs: [(name: \"image\", shape: [N, 3, 3024, 4032])],
        layers: [Flatten, Dense(name: \"a\", out: 100), Relu, Dense(name: \"b\", out: 10)])";
    std::fs::write(&path, text).unwrap();
    let result = json(&["summary", path.to_str().unwrap(), "--json"]);
    assert_eq!(result["parameters"], 3 * 3024 * 4032 * 100u64 + 100 + 1010);
}

#[test]
fn compiling_is_shown() {
    let result = json(&["compile", LENET, "--batch", "4", "--json"]);
    for key in ["arena_bytes", "lower_bound_bytes", "unplanned_bytes", "code_bytes"] {
        assert!(result[key].as_u64().unwrap() > 0, "{key}");
    }
    assert!(result["compile_ms"].as_f64().unwrap() > 0.0);
    assert!(result["arena_bytes"].as_u64() >= result["lower_bound_bytes"].as_u64());
    let fused = result["kernels"].as_u64().unwrap();
    let unfused = json(&["compile", LENET, "--batch", "4", "--unfused", "--json"])["kernels"].as_u64().unwrap();
    assert!(fused < unfused, "{fused} {unfused}");

    for (form, part) in [
        ("graph", "c1: f32[1, 6, 28, 28] = Conv2d("),
        ("groups", "c1 relu1  ; Conv2d Relu"),
        ("kernels", "relu1[i j k l] = relu(sum["),
        ("plan", "arena "),
        ("clif", "function u0:"),
        ("asm", "block0:"),
    ] {
        let text = printed(&["compile", LENET, "--emit", form]);
        assert!(text.contains(part), "{form}: {text}");
    }
    // Every step has a listing, and those of convolutions multiply, in leaves that they may share.
    let (plan, listings) = (json(&["compile", LENET, "--json"]), printed(&["compile", LENET, "--emit", "asm"]));
    let steps: Vec<&str> = listings.split("; step: ").skip(1).collect();
    assert_eq!(steps.len() as u64, plan["kernels"].as_u64().unwrap(), "{listings}");
    let title = |step: &&&str| step.lines().next().unwrap_or_default().to_string();
    let sums = || steps.iter().filter(|step| title(step).contains("Conv2d") || title(step).contains("Dense"));
    assert!(sums().count() == 5 && sums().all(|step| step.contains("mul") || step.contains("fmadd")), "{listings}");
    if fusewright::Isa::detect() != fusewright::Isa::Portable {
        assert!(listings.contains("; loop of Conv2d"), "the kernel above its loops: {listings}");
    }
    assert!(printed(&["compile", LENET, "--after", "lower"]).contains("relu1[i j k l] = relu(c1["));
    assert!(printed(&["compile", LENET, "--explain"]).contains("the consumer works point by point"));
    assert!(printed(&["compile", LENET]).contains("Conv2d Relu"));
}

#[test]
fn compiling_the_step_of_a_training_is_shown() {
    let step = "benches/rows/train_mlp_b64.ron";
    let result = json(&["compile", step, "--json"]);
    // Weights and biases of three layers, and a counter, each from a line of its own.
    let numbers = 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10 + 1;
    let state = result["state_bytes"].as_u64().unwrap();
    assert!((4 * numbers..4 * numbers + 7 * 64).contains(&state), "{state}");
    assert_eq!(result["constant_bytes"], 0);
    let arena = |batch: &str| {
        json(&["compile", "models/train_sine_1x100.ron", "--json", "--batch", batch])["arena_bytes"].as_u64().unwrap()
    };
    assert!(arena("8") < arena("64"));
    for (form, part) in [
        ("graph", "0.weight.update: f32[256, 784]"),
        ("groups", "CrossEntropyLoss"),
        ("kernels", "sum["),
        ("plan", "state 0"),
        ("asm", "; step: "),
    ] {
        let text = printed(&["compile", step, "--emit", form]);
        assert!(text.contains(part), "{form}: {text}");
    }
    assert!(printed(&["compile", step, "--after", "lower"]).contains("loss"));
    assert!(printed(&["compile", step]).contains("\nstate      "));
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("page.html");
    printed(&["compile", step, "--html", html.to_str().unwrap()]);
    assert!(std::fs::read_to_string(html).unwrap().contains("CrossEntropyLoss"));
}

#[test]
fn pictures_of_networks_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (html, dot) = (folder.path().join("page.html"), folder.path().join("graph.dot"));
    let text = printed(&["compile", LENET, "--html", html.to_str().unwrap(), "--dot", dot.to_str().unwrap()]);
    assert!(text.contains("arena"));
    let page = std::fs::read_to_string(html).unwrap();
    for part in ["<!DOCTYPE html>", "<title>lenet5 - Fusewright</title>", "MaxPool2d", "class=\"block\"", "</html>"] {
        assert!(page.contains(part), "{part}");
    }
    for from_outside in ["http", "<script", "@import", "url("] {
        assert!(!page.contains(from_outside), "{from_outside}");
    }
    for tag in ["svg", "g", "table", "section", "text", "title"] {
        let count = |form: &str| page.matches(form).count();
        let opened = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
        assert_eq!(opened, count(&format!("</{tag}>")), "<{tag}>");
    }
    let dot = std::fs::read_to_string(dot).unwrap();
    assert!(dot.starts_with("digraph") && dot.contains("in0 -> k1 ") && dot.contains("-> out0"), "{dot}");
}

#[test]
fn arrays_go_in_and_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (zeros, logits) = (path("zeros.npy"), path("logits.npy"));
    // f64 is NumPy's usual type, and three images bind N.
    let images = fusewright::Tensor::from_vec(&[3, 1, 28, 28], vec![0f64; 3 * 784]);
    fusewright::data::npy::write(zeros.as_ref(), &images).unwrap();
    let text = printed(&["run", LENET, "--input", &zeros, "--output", &format!("f3={logits}"), "--verify"]);
    assert!(text.starts_with("f3: agrees with the reference"), "{text}");
    assert_eq!(fusewright::data::npy::read(logits.as_ref()).unwrap().dims(), [3, 10]);
    let shown = printed(&["run", LENET, "--input", &format!("image={zeros}")]);
    assert!(shown.starts_with("f3: f32[3, 10]\n"), "{shown}");
    let best = printed(&["run", LENET, "--input", &zeros, "--top", "2"]);
    assert_eq!(best.lines().filter(|line| line.contains(" %  ")).count(), 6, "{best}");
}

#[test]
fn pictures_are_classified() {
    // The first digit of the test split, as a picture.
    let images = fusewright::data::idx::read("models/data/mnist10k/t10k-images-idx3-ubyte.gz".as_ref()).unwrap();
    let labels = fusewright::data::idx::read("models/data/mnist10k/t10k-labels-idx1-ubyte.gz".as_ref()).unwrap();
    let label = labels.as_slice::<u8>().unwrap()[0];
    let pixels = &images.as_slice::<u8>().unwrap()[..784];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digit.pgm");
    std::fs::write(&path, [b"P5 28 28 255\n", pixels].concat()).unwrap();
    let text = printed(&["run", LENET, "--image", path.to_str().unwrap(), "--top", "3"]);
    assert_eq!(text.lines().count(), 3);
    assert!(text.lines().next().unwrap().ends_with(&format!(" %  {label}")), "{text}");
}

#[test]
fn benches_compare() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let result = json(&["bench", LENET, "--seconds", "0.01", "--json", "--trace", trace.to_str().unwrap()]);
    for key in ["median_us", "min_us", "arena_bytes", "constant_bytes", "code_bytes"] {
        assert!(result[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(result.get("unfused").is_none());
    let kernels = result["kernels"].as_array().unwrap();
    assert!(kernels.iter().any(|kernel| kernel["operations"] == "Conv2d Relu"));
    let trace: Value = serde_json::from_slice(&std::fs::read(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.len(), kernels.len());
    assert!(events.iter().all(|event| event["ph"] == "X" && event["dur"].is_number()));
    let both = json(&["bench", LENET, "--seconds", "0.01", "--json", "--unfused"]);
    assert!(both["unfused"]["kernels"].as_array().unwrap().len() > kernels.len());
    let text = printed(&["bench", LENET, "--seconds", "0.01", "--threads", "4", "--unfused"]);
    assert!(text.contains("threads  4") && text.contains("the outputs agree"), "{text}");
}

#[test]
fn steps_of_trainings_are_measured() {
    let row = "benches/rows/train_mlp_b64.ron";
    let result = json(&["bench", row, "--seconds", "0.01", "--json"]);
    for key in ["median_us", "min_us", "arena_bytes", "state_bytes", "code_bytes", "compile_ms"] {
        assert!(result[key].as_f64().unwrap() > 0.0, "{key}");
    }
    let losses = |result: &Value| -> Vec<f64> {
        result["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect()
    };
    let first = losses(&result);
    assert_eq!(first.len(), 5);
    assert!(first[0] > 2.2 && first[0] < 2.5 && first[4] < first[0], "{first:?}");
    assert!(result["kernels"].as_array().unwrap().iter().all(|kernel| kernel["median_us"].is_number()));

    // The same labels, and inputs of 0: the losses are other ones.
    let folder = tempfile::tempdir().unwrap();
    let (x, labels) = (folder.path().join("x.npy"), folder.path().join("labels.npy"));
    fusewright::data::npy::write(&x, &fusewright::Tensor::from_vec(&[64, 784], vec![0f32; 64 * 784])).unwrap();
    let numbers: Vec<i64> = (0..64).map(|i| i % 10).collect();
    fusewright::data::npy::write(&labels, &fusewright::Tensor::from_vec(&[64], numbers)).unwrap();
    let (x, labels) = (format!("x={}", x.display()), format!("labels={}", labels.display()));
    let inputs = ["--input", &x, "--input", &labels];
    let line = [&["bench", row, "--seconds", "0.01", "--json", "--threads", "2"], &inputs[..]].concat();
    let given = losses(&json(&line));
    assert!((given[0] - first[0]).abs() > 1e-4, "{given:?}");
    let line = [&["bench", row, "--seconds", "0.01", "--json"], &inputs[..]].concat();
    assert_eq!(losses(&json(&line)), given, "the same bits for any number of threads");

    let text = printed(&["bench", "models/train_sine_2x10.ron", "--seconds", "0.01"]);
    assert!(text.contains("losses  ") && text.contains("the losses agree"), "{text}");
    let refusal = refused(&["bench", row, "--seconds", "0.01", "--input", "z=z.npy"]);
    assert!(refusal.contains("no input `z`") && refusal.contains("`labels`"), "{refusal}");
}

#[test]
fn initial_weights_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (a, b, c) = (path("a.safetensors"), path("b.safetensors"), path("c.safetensors"));
    assert!(printed(&["init", LENET, "--seed", "7", "-o", &a]).ends_with("10 tensors, 61,706 parameters\n"));
    printed(&["init", LENET, "--seed", "7", "-o", &b]);
    printed(&["init", LENET, "--seed", "8", "-o", &c]);
    let read = |path: &str| std::fs::read(path).unwrap();
    assert_eq!(read(&a), read(&b));
    assert_ne!(read(&a), read(&c));
    let untrained = json(&["eval", LENET, "--weights", &a, "--json"]);
    assert!(untrained["correct"].as_u64().unwrap() < 800);
}

#[test]
fn formatting_twice_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.ron");
    let text = "(fusewright:1,inputs:[(name:\"x\",shape:[N,2])],layers:[Dense(out:3), // three\nRelu])";
    std::fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap();
    let once = printed(&["fmt", name]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the file stays without --write");
    assert_eq!(printed(&["fmt", name, "--write"]), "");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), once);
    assert_eq!(printed(&["fmt", name]), once);
    assert!(once.contains("// three"));
}

#[test]
fn sound_models_are_said_to_be() {
    assert_eq!(printed(&["check", LENET]), "models/lenet5.ron: sound (13 layers, 61,706 parameters)\n");
    let training = "models/train_lenet5.ron";
    let told = "sound (13 layers, 61,706 parameters; 8,000 examples, 2,000 to evaluate with)";
    assert_eq!(printed(&["check", training]), format!("{training}: {told}\n"));
    let row = "benches/rows/train_mlp_b64.ron";
    assert_eq!(printed(&["check", row]), format!("{row}: sound (6 layers, 235,146 parameters; no data)\n"));
    let refusal = refused(&["run", training]);
    assert!(refusal.contains("this is a training file, not a model") && refusal.contains("lenet5.ron"), "{refusal}");
}

#[test]
fn faults_are_shown_at_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.ron");
    let text = "(fusewright: 1, inputs: [(name: \"x\", shape: [N, 2])],\n layers: [Dens(out: 3), Relu(from: \"y\")])";
    std::fs::write(&path, text).unwrap();
    let said = refused(&["check", path.to_str().unwrap()]);
    for part in ["bad.ron:2:11", "Dens(out: 3)", "^", "did you mean `Dense`?", "`y`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains('\x1b'), "colours are for terminals");
}

#[test]
fn every_command_has_help() {
    for command in ["check", "fmt", "summary", "compile", "run", "eval", "bench", "train", "init"] {
        let text = printed(&[command, "--help"]);
        assert!(text.contains("Usage: fusewright") && text.len() > 100, "{command}: {text}");
        let all = printed(&["--help"]);
        assert!(all.contains(command));
    }
    assert!(printed(&["--version"]).starts_with("fusewright "));
}

#[test]
fn wrong_command_lines_are_the_users_fault() {
    for (arguments, part) in [
        (vec!["chek", LENET], "chek"),
        (vec!["check"], "<MODEL>"),
        (vec!["compile", LENET, "--emit", "rust"], "rust"),
        (vec!["compile", LENET, "--batch", "0"], "from 1"),
        (vec!["compile", LENET, "--bind", "N"], "SYMBOL=VALUE"),
        (vec!["compile", LENET, "--bind", "N=0"], "1 or more"),
        (vec!["compile", LENET, "--bind", "N=-1"], "whole number"),
        (vec!["bench", LENET, "--threads", "0"], "0"),
        (vec!["eval", LENET, "--images", "x"], "--labels"),
    ] {
        assert!(refused(&arguments).contains(part), "{arguments:?}");
    }
}

#[test]
fn readers_may_leave_early() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fusewright"))
        .args(["compile", LENET, "--emit", "asm"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}
