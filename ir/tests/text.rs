//! Model files: good ones and their graphs, bad ones and every word that is said about them. `BLESS=1 cargo test`
//! rewrites the answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright_ir::recipe::{Network, Recipe};
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
fn good_recipes_are_read() {
    let mut wrong = Vec::new();
    for path in files("good_recipes") {
        let text = fs::read_to_string(&path).unwrap();
        let name = name(&path);
        assert!(Recipe::is_recipe(&text), "{name}");
        assert_eq!(format(&text).unwrap(), text, "{name} in canonical form");
        match Recipe::parse(&name, &text) {
            Ok(recipe) => compare(&path, &told(&recipe), &mut wrong),
            Err(faults) => wrong.push(faults.render(Some(Source { path: &name, text: &text }), false)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All that a recipe says.
fn told(recipe: &Recipe) -> String {
    let network = match &recipe.model {
        Network::File(path) => path.clone(),
        Network::Inline(model) => format!("{} of\n{}", model.name, model.graph),
    };
    let Recipe { objective, optimizer, rate, clip, metrics, batch, epochs, seed, data, .. } = recipe;
    let loss = &recipe.text[objective.span.clone().unwrap()];
    format!(
        "model: {network}\nloss: {} of {:?} and {} from `{loss}`\n{optimizer:?}\n{rate:?}\n{clip:?}\n{metrics:?}\n\
         batch: {batch}, epochs: {epochs}, seed: {seed}\n{data:#?}",
        objective.loss, objective.output, objective.target
    )
}

#[test]
fn bad_recipes_are_told_why() {
    let mut wrong = Vec::new();
    for path in files("bad_recipes") {
        let text = fs::read_to_string(&path).unwrap();
        let name = name(&path);
        match Recipe::parse(&name, &text) {
            Ok(_) => wrong.push(format!("{name} is taken for good")),
            Err(faults) => compare(&path, &faults.render(Some(Source { path: &name, text: &text }), false), &mut wrong),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn parts_of_recipes_have_places() {
    let text = include_str!("good_recipes/whole.ron");
    let recipe = Recipe::parse("whole.ron", text).unwrap();
    let place = |fields: &[&str]| recipe.place(fields).map(|span| &text[span]);
    assert_eq!(place(&["data", "test", "file"]), Some("\"data/test.csv\""));
    assert_eq!(place(&["optimizer", "dampening"]), place(&["optimizer"]), "a default has no place of its own");
    assert_eq!((place(&["seed"]), place(&["name"])), (Some("7"), None));
    // Faults of a model within point into the same text.
    let Network::Inline(model) = &recipe.model else { panic!("it is in the file") };
    let fault = model.bind(&[("N".to_string(), 1), ("M".to_string(), 1)].into()).unwrap_err();
    assert!(fault.render(Some(model.source()), false).contains("no symbol `M`"));
    assert_eq!((&model.path, &model.text), (&recipe.path, &recipe.text));
    assert!(!Recipe::is_recipe(include_str!("good/lenet5.ron")) && !Recipe::is_recipe("(loss: "));
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

fn bind(model: &Model, bindings: &[(&str, usize)]) -> Result<Model, String> {
    let bindings = bindings.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    model.bind(&bindings).map_err(|faults| faults.render(Some(model.source()), false))
}

#[test]
fn binding_infers_every_type_again() {
    let text = r#"(
    fusewright: 1,
    inputs: [(name: "x", shape: [N, 3, H, 8]), (name: "y", shape: [M])],
    layers: [
        Conv2d(name: "c", from: "x", out: 2, kernel_size: 3, padding: 1),
        Reshape(name: "rows", shape: [N, -1]),
        Dense(name: "d", out: 4),
        Add(from: ["d", "y"]),
    ],
)"#;
    let model = graph("m", text);
    assert_eq!(model.symbols(), ["N", "H", "M"]);
    assert_eq!(model.parameter_count(), None);
    let bound = bind(&model, &[("N", 2), ("H", 5), ("M", 4)]).unwrap();
    assert_eq!(bound.parameter_count(), Some(2 * 27 + 2 + 4 * 80 + 4));
    assert!(bound.graph.to_string().contains("d.bias: f32[4] = Parameter(f32[4], FanInUniform(fan_in:80))"));
    assert!(bound.graph.to_string().contains("rows: f32[2, 80] = Reshape(shape:[2,-1]) c"), "{}", bound.graph);
    assert!(bound.graph.nodes().all(|(_, node)| node.types.iter().all(|ty| ty.dims().is_some())));
    fusewright_ir::verify(&bound.graph).unwrap();
    let again = graph("again", &bound.to_ron());
    assert_eq!(lines(&bound), lines(&again));

    // What fits for no numbers is told at the layer; what depends on it is passed over.
    let unfit = bind(&model, &[("N", 2), ("H", 5), ("M", 3)]).unwrap_err();
    let expected = r#"error: layer `add1`: it does not fit these sizes
 --> m:8:9
  |
8 |         Add(from: ["d", "y"]),
  |         ^^^^^^^^^^^^^^^^^^^^^
  |
  = expected: shapes that agree from the last axis backwards (1 stands for any length)
  = found: f32[2, 4] and f32[3]
  = help: reshape or transpose one of them"#;
    assert_eq!(unfit, expected);
    let unbound = bind(&model, &[("N", 2), ("K", 3)]).unwrap_err();
    for part in ["the symbol `H` has no value", "the symbol `M` has no value", "the model has no symbol `K`"] {
        assert!(unbound.contains(part), "{unbound}");
    }
    let small = graph("m", &text.replace("kernel_size: 3, padding: 1", "kernel_size: 3"));
    let small = bind(&small, &[("N", 1), ("H", 2), ("M", 4)]).unwrap_err();
    assert_eq!(small.matches("error:").count(), 1, "{small}");
    assert!(small.contains("layer `c`: `kernel_size` does not fit\n --> m:5:59"), "{small}");
    let huge = bind(&model, &[("N", 1 << 31), ("H", 2), ("M", 4)]).unwrap_err();
    assert!(huge.contains("at most 2147483647 elements along every axis"), "{huge}");
    assert!(bind(&model, &[("N", 0), ("H", 2), ("M", 4)]).is_err());
}
