//! Model files: good ones and their graphs, bad ones and every word that is said about them. `BLESS=1 cargo test`
//! rewrites the answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright_ir::{Model, Source};
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ron"));
    files.sort();
    files
}

/// Compares with the text file beside the model; a failure shows both.
fn compare(model: &Path, answer: &str, wrong: &mut Vec<String>) {
    let golden = model.with_extension("txt");
    let answer = format!("{}\n", answer.trim_end());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &answer).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    if answer != expected {
        wrong.push(format!("{}\n--- expected\n{expected}--- found\n{answer}", model.display()));
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_string()
}

#[test]
fn good_models_become_graphs() {
    let mut wrong = Vec::new();
    for path in files("good") {
        let text = fs::read_to_string(&path).unwrap();
        let name = name(&path);
        match Model::parse(&name, &text) {
            Ok(model) => compare(&path, &model.graph.to_string(), &mut wrong),
            Err(faults) => wrong.push(faults.render(Some(Source { path: &name, text: &text }), false)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bad_models_are_told_why() {
    let mut wrong = Vec::new();
    for path in files("bad") {
        let text = fs::read_to_string(&path).unwrap();
        let name = name(&path);
        match Model::parse(&name, &text) {
            Ok(_) => wrong.push(format!("{name} is taken for good")),
            Err(faults) => compare(&path, &faults.render(Some(Source { path: &name, text: &text }), false), &mut wrong),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lenet_has_as_many_parameters_as_it_had() {
    let model = Model::parse("lenet5.ron", include_str!("good/lenet5.ron")).unwrap();
    assert_eq!(model.parameter_count(), Some(61_706));
    assert_eq!(model.symbols(), ["N"]);
    let bound = model.bind(&[("N".to_string(), 3)].into()).unwrap();
    let output = bound.graph.value_type(bound.graph.outputs[0].value);
    assert_eq!(output.to_string(), "f32[3, 10]");
}
