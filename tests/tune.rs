//! Convolutions computed in the way that was measured to be the fastest: the file of what was measured.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::{Executable, Model, Options, Tensor, bindings};
use std::path::Path;

const LAYERS: &str = r#"Conv2d(name: "a", out: 16, kernel_size: 3, padding: 1), Relu,
    Conv2d(name: "b", out: 24, kernel_size: 5), Conv2d(name: "c", out: 8, kernel_size: 1)"#;

fn compiled(file: Option<&Path>) -> Result<Executable, String> {
    let text = format!("(fusewright: 1, inputs: [(name: \"x\", shape: [2, 16, 20, 20])], layers: [{LAYERS}], seed: 3)");
    let tuning = file.map(Path::to_path_buf);
    let options = Options { tuning, verify: true, ..Options::default() };
    Model::parse(&text).unwrap().compile(options).map_err(|fault| fault.render(false))
}

fn output(executable: &Executable) -> Tensor {
    let x = Tensor::from_vec(&[2, 16, 20, 20], (0..12800).map(|i| (i % 23) as f32 / 23.0 - 0.5).collect());
    executable.session(&bindings([])).unwrap().run_tensors(&[("x", &x)]).unwrap().remove(0).1
}

fn kernels(executable: &Executable) -> Vec<String> {
    let planned = executable.planned(&bindings([])).unwrap();
    planned.executable.plan().steps.iter().map(|step| step.about.to_string()).collect()
}

#[test]
fn what_is_measured_is_kept_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tuning.json");
    let first = compiled(Some(&file)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("2 x 16 to 16 channels, 3x3 over 20x20, weights that stay"), "{text}");
    assert!(text.contains("2 x 16 to 24 channels, 5x5 over 16x16, weights that stay"), "{text}");
    assert!(!text.contains("1x1"), "{text}");
    // The second time nothing is measured, and the same is chosen.
    let second = compiled(Some(&file)).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(kernels(&first), kernels(&second));
    let (want, got) = (output(&compiled(None).unwrap()), output(&second));
    for (want, got) in want.as_slice::<f32>().unwrap().iter().zip(got.as_slice::<f32>().unwrap()) {
        assert!((want - got).abs() <= 1e-4, "{want} and {got}");
    }
}

#[test]
fn what_the_file_says_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tuning.json");
    compiled(Some(&file)).unwrap();
    let measured: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let about = |points: &[usize]| {
        let mut text = measured.clone();
        for ways in text["machines"].as_object_mut().unwrap().values_mut() {
            ways.as_object_mut().unwrap().values_mut().for_each(|way| *way = points.into());
        }
        std::fs::write(&file, text.to_string()).unwrap();
        kernels(&compiled(Some(&file)).unwrap()).join(", ")
    };
    let direct = about(&[]);
    assert!(!direct.contains("F("), "{direct}");
    let transformed = about(&[6, 6]);
    assert!(transformed.contains("F(4x4,3x3)") && transformed.contains("F(2x2,5x5)"), "{transformed}");
    // No transform has seven points: measured again, and put right.
    about(&[7, 7]);
    let mended: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let ways = mended["machines"].as_object().unwrap().values().flat_map(|ways| ways.as_object().unwrap().values());
    assert!(ways.clone().count() == 2 && ways.into_iter().all(|way| *way != serde_json::json!([7, 7])), "{mended}");
}

#[test]
fn entries_of_other_machines_stay() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tuning.json");
    std::fs::write(&file, r#"{"fusewright_tuning": 1, "machines": {"another": {"a convolution": [4, 4]}}}"#).unwrap();
    compiled(Some(&file)).unwrap();
    let text: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(text["machines"]["another"]["a convolution"], serde_json::json!([4, 4]));
    assert_eq!(text["machines"].as_object().unwrap().len(), 2);
}

#[test]
fn files_of_something_else_are_refused_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tuning.json");
    let cases = [
        ("letters", "expected value"),
        (r#"{"fusewright_tuning": 2, "machines": {}}"#, "version 2"),
        (r#"{"a": 1}"#, "unknown field"),
        (r#"{"fusewright_tuning": 1, "machines": {"m": {"k": [-1]}}}"#, "invalid value"),
    ];
    for (text, found) in cases {
        std::fs::write(&file, text).unwrap();
        let fault = compiled(Some(&file)).unwrap_err();
        assert!(fault.contains("is not a file of measured convolutions") && fault.contains(found), "{fault}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    let missing = folder.path().join("no such folder/tuning.json");
    let fault = compiled(Some(&missing)).unwrap_err();
    assert!(fault.contains("cannot be written"), "{fault}");
}
