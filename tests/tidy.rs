//! House rules that the compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of the workspace's crates, with their text.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
        }
    }
    files.sort();
    assert!(files.len() > 5, "the folders hold the sources");
    files
}

const CRATES: &[&str] = &["src", "ir/src", "passes/src", "runtime/src"];

/// The files in which some line holds `word`, comments aside.
fn files_with(word: &str) -> Vec<String> {
    let holds = |text: &str| text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
    let all = sources(CRATES).into_iter().filter(|(_, text)| holds(text));
    all.map(|(path, _)| path.to_string_lossy().replace('\\', "/")).collect()
}

#[test]
fn dependencies_stay_where_they_belong() {
    assert_eq!(files_with("petgraph::"), ["ir/src/graph.rs"]);
    for file in files_with("cranelift_") {
        assert!(file.starts_with("runtime/src/"), "{file} names cranelift");
    }
    for file in files_with("ron::") {
        assert!(file.starts_with("ir/src/text/"), "{file} names ron");
    }
    for file in files_with("fusewright_runtime").into_iter().chain(files_with("fusewright_passes")) {
        assert!(file.starts_with("src/"), "{file} knows a crate beside or above it");
    }
}

#[test]
fn operations_are_matched_in_one_place() {
    let arms = |text: &str| text.matches("Op::$variant(op) =>").count();
    let all: usize = sources(CRATES).iter().map(|(_, text)| arms(text)).sum();
    assert_eq!(all, 1, "the list in ops/mod.rs makes the one match");
}

#[test]
fn unsafe_code_is_where_the_design_says() {
    let allowed = ["code", "executable", "float_mode", "memory", "pool", "session"];
    let allowed = allowed.map(|name| format!("runtime/src/{name}.rs"));
    for file in files_with("unsafe ").into_iter().chain(files_with("unsafe{")) {
        assert!(allowed.contains(&file), "{file} holds unsafe code");
    }
    for library in ["src/lib.rs", "ir/src/lib.rs", "passes/src/lib.rs"] {
        let text = fs::read_to_string(root().join(library)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{library} forbids unsafe code");
    }
}

#[test]
fn every_unsafe_block_proves_itself() {
    for (path, text) in sources(CRATES) {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if code.contains("unsafe {") || code.contains("unsafe impl") {
                let before = &lines[i.saturating_sub(8)..i];
                assert!(before.iter().any(|line| line.contains("SAFETY")), "{}:{}", path.display(), i + 1);
            }
        }
    }
}

#[test]
fn nothing_is_left_undone() {
    // Written apart, so that this file is not found itself.
    for word in [["to", "do!("], ["unimpl", "emented!("], ["db", "g!("]] {
        let word = word.concat();
        assert_eq!(files_with(&word), [""; 0], "{word}");
    }
}

#[test]
fn no_unwrap_outside_tests() {
    for (path, text) in sources(CRATES) {
        let product = text.split("#[cfg(test)]").next().unwrap_or("");
        let is_test = path.to_string_lossy().contains("tests");
        for (i, line) in product.lines().enumerate() {
            let code = line.trim_start();
            assert!(is_test || code.starts_with("//") || !code.contains(".unwrap()"), "{}:{}", path.display(), i + 1);
        }
    }
}
