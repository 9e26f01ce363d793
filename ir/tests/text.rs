//! Model files: good ones and their graphs, bad ones and every word that is said about them. `BLESS=1 cargo test`
//! rewrites the answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright_ir::text::format;
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

/// The lines of a graph, without the order of what does not depend on each other.
fn lines(model: &Model) -> Vec<String> {
    let mut lines: Vec<String> = model.graph.to_string().lines().map(str::to_string).collect();
    lines.sort();
    lines
}

fn graph(name: &str, text: &str) -> Model {
    let rendered = |faults: fusewright_ir::Diagnostics| faults.render(Some(Source { path: name, text }), false);
    Model::parse(name, text).map_err(rendered).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

#[test]
fn printing_and_reading_give_the_same_graph() {
    for path in files("good") {
        let model = graph(&name(&path), &fs::read_to_string(&path).unwrap());
        let printed = model.to_ron();
        let again = graph("printed", &printed);
        assert_eq!(lines(&model), lines(&again), "{printed}");
        assert_eq!(
            (&model.name, &model.images, &model.classes, &model.weights, model.seed),
            (&again.name, &again.images, &again.classes, &again.weights, again.seed)
        );
        assert_eq!(printed, again.to_ron());
        assert_eq!(printed, format(&printed).unwrap());
    }
}

#[test]
fn files_have_a_canonical_form() {
    let mut wrong = Vec::new();
    for path in files("format") {
        let formatted = format(&fs::read_to_string(&path).unwrap()).unwrap();
        compare(&path, &formatted, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn formatting_twice_changes_nothing() {
    for path in ["good", "bad", "format"].into_iter().flat_map(files) {
        let text = fs::read_to_string(&path).unwrap();
        let Ok(once) = format(&text) else { continue };
        assert_eq!(once, format(&once).unwrap(), "{}", path.display());
    }
}
