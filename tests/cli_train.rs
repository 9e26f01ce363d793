//! `fusewright train` as users call it: lines, checkpoints, signals, full disks, pages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn fusewright(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fusewright")).args(arguments).output().unwrap()
}

/// What a training prints that must go well.
fn printed(arguments: &[&str]) -> String {
    let output = fusewright(&[&["train"], arguments].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Its lines as JSON.
fn epochs(arguments: &[&str]) -> Vec<Value> {
    printed(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder for what a training writes.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// All that is in it.
    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().to_str().unwrap().into()).collect();
        names.sort();
        names
    }
}

const SOFTMAX: &str = "models/train_softmax.ron";
const SINE: &str = "models/train_sine_2x10.ron";

#[test]
fn epochs_are_told_and_weights_are_used() {
    let folder = Folder::new();
    let weights = folder.name("w.safetensors");
    let all = epochs(&[SOFTMAX, "--epochs", "2", "--save", &weights, "--json"]);
    assert_eq!(all.len(), 2);
    assert_eq!((&all[1]["epoch"], &all[1]["step"]), (&2.into(), &250.into()));
    assert!(all[1]["train"]["loss"].as_f64() < all[0]["train"]["loss"].as_f64());
    assert!(all[1]["samples_per_s"].as_f64().unwrap() > 0.0 && all[1]["seconds"].as_f64().unwrap() > 0.0);

    // The same network as a model: what was learned is what `eval` counts.
    let training = std::fs::read_to_string(SOFTMAX).unwrap();
    let model = &training[training.find("model: (").unwrap() + 7..training.find("    loss:").unwrap()];
    let model = format!("(fusewright: 1, {}", model.trim().trim_end_matches(',').trim_start_matches('('));
    std::fs::write(folder.path("m.ron"), model).unwrap();
    let output = fusewright(&["eval", &folder.name("m.ron"), "--weights", &weights, "--json"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = all[1]["test"]["accuracy"].as_f64().unwrap();
    assert!((result["accuracy"].as_f64().unwrap() - told).abs() < 0.002, "{result} {told}");

    let table = printed(&[SOFTMAX, "--epochs", "2", "--threads", "2"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("test accuracy") && lines[0].contains("samples/s"), "{table}");
    assert!(lines[2].trim_start().starts_with("2/2 "), "{table}");
    assert!(lines[2].contains(&format!("{told:.5}")), "the same for any number of threads: {told}, {table}");
}

#[test]
fn errors_are_in_the_units_of_the_table() {
    let all = epochs(&["models/train_linear_regression.ron", "--json"]);
    let last = &all[999];
    for score in [&last["train"]["loss"], &last["test"]["mean_squared_error"]] {
        assert!((score.as_f64().unwrap() - 2859.697).abs() < 0.1, "{last}");
    }
}

#[test]
fn a_training_goes_on_with_the_same_bits() {
    let folder = Folder::new();
    let (whole, parts) = (folder.name("whole.safetensors"), folder.name("parts.safetensors"));
    let (first, second) = (folder.name("first"), folder.name("second"));
    let told = epochs(&[SINE, "--epochs", "6", "--save", &whole, "--json"]);
    // Half of it; the rate falls with the length of the training, which is therefore the same.
    let child = interrupted(&[SINE, "--epochs", "6", "--checkpoint", &first, "--every", "3steps", "--json"], 0);
    assert!(child.status.code() == Some(130) || child.status.code() == Some(0), "{child:?}");
    let rest =
        epochs(&[SINE, "--epochs", "6", "--resume", &first, "--checkpoint", &second, "--save", &parts, "--json"]);
    assert!(folder.read("whole.safetensors") == folder.read("parts.safetensors"));
    let without_time = |epoch: &Value| (epoch["epoch"].clone(), epoch["train"].clone(), epoch["test"].clone());
    let offset = told.len() - rest.len();
    for (rest, told) in rest.iter().zip(&told[offset..]) {
        assert_eq!(without_time(rest), without_time(told));
    }
    // A training that is over stays over.
    assert_eq!(printed(&[SINE, "--epochs", "6", "--resume", &second]), "");
}

/// Starts a training, waits for so many lines, and interrupts it.
fn interrupted(arguments: &[&str], lines: usize) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fusewright"))
        .arg("train")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..lines {
        reader.read_line(&mut String::new()).unwrap();
    }
    if lines > 0 {
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }
    std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
#[cfg(unix)]
fn an_interruption_saves() {
    let folder = Folder::new();
    let (checkpoint, weights) = (folder.name("c"), folder.name("w.safetensors"));
    // So long that it cannot be over before the signal.
    let output = interrupted(&[SINE, "--epochs", "2000000", "--checkpoint", &checkpoint, "--every", "1000000"], 3);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("--resume") && errors.contains("stopped after step "), "{errors}");
    let step: u64 = errors.split("after step ").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    let epoch = step / 8 + 2;
    let all = epochs(&[SINE, "--epochs", &epoch.to_string(), "--resume", &checkpoint, "--save", &weights, "--json"]);
    assert_eq!(all.last().unwrap()["epoch"], epoch);
    assert_eq!(folder.names(), ["c", "w.safetensors"], "nothing else is left behind");
}

#[test]
#[cfg(unix)]
fn a_full_disk_loses_nothing() {
    let folder = Folder::new();
    let checkpoint = folder.name("c");
    printed(&[SOFTMAX, "--epochs", "1", "--checkpoint", &checkpoint]);
    let before = folder.read("c");
    // Files of 8 KiB and no more: the checkpoint has 31. The signal that would end the program is ignored.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_fusewright");
    let output = Command::new("bash")
        .args(["-c", script, "bash", program, "train", SOFTMAX, "--epochs", "2", "--resume", &checkpoint])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains(&format!("`{checkpoint}` cannot be written")), "{errors}");
    assert!(errors.contains("the last good checkpoint is") && errors.contains("after step 125"), "{errors}");
    assert!(folder.read("c") == before, "the old checkpoint is as it was");
    assert_eq!(folder.names(), ["c"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("2/2"), "the training went on to its end");
}

#[test]
#[cfg(unix)]
fn what_cannot_be_written_keeps_nothing_else_from_it() {
    let folder = Folder::new();
    let (checkpoint, weights) = (folder.name("c"), folder.name("w.safetensors"));
    // Files of 2 KiB and no more: room for the parameters, but not for the optimiser's state beside them.
    let script = "trap '' XFSZ; ulimit -f 2; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_fusewright");
    let training = [SINE, "--epochs", "3", "--checkpoint", &checkpoint, "--save", &weights];
    let output = Command::new("bash")
        .args([&["-c", script, "bash", program, "train"][..], &training].concat())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains(&format!("`{checkpoint}` cannot be written")), "{errors}");
    assert_eq!(folder.names(), ["w.safetensors"], "{errors}");
}

/// A batch is the whole set where it is larger, however large.
#[test]
fn a_batch_may_be_larger_than_the_set() {
    let folder = Folder::new();
    std::fs::write(folder.path("d.csv"), "a,y\n1,2\n2,4\n3,5\n").unwrap();
    let training = |batch: &str| {
        let text = format!(
            "(fusewright: 1, model: (inputs: [(name: \"x\", shape: [N, 1])], layers: [Dense(name: \"l\", out: 1)]),
            loss: MSELoss, optimizer: Sgd(lr: 0.1), batch: {batch}, epochs: 2000000,
            data: (train: Csv(file: \"d.csv\", targets: [\"y\"])))"
        );
        std::fs::write(folder.path("t.ron"), text).unwrap();
        let page = folder.name("p.html");
        let all = epochs(&[&folder.name("t.ron"), "--epochs", "20", "--json", "--report", &page]);
        all.last().unwrap()["train"]["loss"].clone()
    };
    assert_eq!(training("2147483647"), training("3"));
}

#[test]
fn a_changed_bit_is_noticed() {
    let folder = Folder::new();
    let checkpoint = folder.name("c");
    printed(&[SOFTMAX, "--epochs", "1", "--checkpoint", &checkpoint]);
    let sound = folder.read("c");
    for place in [sound.len() - 1, sound.len() - 4001, sound.len() / 2] {
        let mut damaged = sound.clone();
        damaged[place] ^= 1;
        std::fs::write(&checkpoint, &damaged).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_fusewright"))
            .args(["train", SOFTMAX, "--epochs", "2", "--resume", &checkpoint])
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("is no checkpoint of this training: it is damaged"), "{errors}");
        assert!(folder.read("c") == damaged, "the file stays as it is");
    }
}

#[test]
fn pages_are_whole() {
    let folder = Folder::new();
    let page = folder.name("p.html");
    printed(&["models/train_sine_1x1.ron", "--epochs", "20", "--report", &page]);
    let text = String::from_utf8(folder.read("p.html")).unwrap();
    for part in [
        "<title>train_sine_1x1 - Fusewright</title>",
        "mean squared error",
        "<polyline",
        "target over input",
        "class=\"block\"",
        "<th>median</th>",
        "</html>",
    ] {
        assert!(text.contains(part), "{part} is not in the page");
    }
    for outside in ["<script", "http://", "https://", "src="] {
        assert!(!text.contains(outside), "{outside} is in the page");
    }
    assert_eq!(text.matches("<section>").count(), text.matches("</section>").count());
}
