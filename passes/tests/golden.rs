//! Golden files: a model, the pass it is for, and what comes out. `BLESS=1` rewrites the answers.
//!
//! The first line names the pass (`// test: simplify`), `fuse` (kernels and the reason for every edge) or `all` (the graph
//! after the whole pipeline). Lines that begin with `//>` are the answer.

use fusewright_ir::Model;
use fusewright_passes::{fuse, lower, pipeline};
use std::fs;
use std::path::Path;

fn answer(test: &str, text: &str, path: &str) -> String {
    let model = Model::parse(path, text).unwrap_or_else(|faults| panic!("{path}: {faults}"));
    let mut graph = model.graph;
    match test {
        "fuse" => {
            pipeline::run(&mut graph, &mut |_, _, _| {});
            let (program, decisions) = fuse::fuse(lower::lower(&graph));
            let kernels = program.to_string();
            let edges = decisions.iter().map(|decision| {
                let verdict = if decision.fused { "joins" } else { "stays apart from" };
                format!("{} {verdict} {}: {}\n", decision.consumer, decision.producer, decision.reason)
            });
            kernels + &edges.collect::<String>()
        }
        "all" => {
            pipeline::run(&mut graph, &mut |_, _, _| {});
            graph.to_string()
        }
        name => {
            let pass = pipeline::PIPELINE.iter().find(|pass| pass.name == name);
            let pass = pass.unwrap_or_else(|| panic!("{path}: no pass is called {name}"));
            let changed = (pass.run)(&mut graph);
            if changed { graph.to_string() } else { "(unchanged)\n".to_string() }
        }
    }
}

#[test]
fn passes_do_what_their_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 8, "the folder holds the files");
    let mut wrong = Vec::new();
    let mut tested = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let test =
            text.lines().next().and_then(|line| line.strip_prefix("// test: ")).unwrap_or_else(|| panic!("{name}"));
        tested.push(test.to_string());
        let model = text.split("//> ").next().unwrap_or("");
        let lines: String = answer(test, model, &name).lines().map(|line| format!("//> {line}\n")).collect();
        let wanted = format!("{}\n{lines}", model.trim_end());
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &wanted).unwrap();
        } else if wanted != text {
            wrong.push(format!("{name}:\n{lines}"));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 rewrites these answers:\n{}", wrong.join("\n"));
    for pass in pipeline::PIPELINE {
        assert!(pass.name == "sweep" || tested.iter().any(|test| test == pass.name), "{} has a file", pass.name);
    }
}
