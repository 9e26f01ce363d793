//! `OPERATIONS.md` is made from the layers themselves; `BLESS=1` rewrites it.

use fusewright_ir::ops::LAYERS;
use fusewright_ir::text::parse;
use std::fs;
use std::path::Path;

const HEAD: &str = "# Operations

Every layer that a model file can name, with its attributes; names and defaults are PyTorch's. Each has the meaning that its
docstring in `ir/src/ops` states. \"Kernels\" counts the cases of `ir/tests/support/cases.rs` that hold its loop nests to its
f64 reference and its gradient to finite differences, \"PyTorch\" the cases that hold the reference to numbers which PyTorch
gave (`tests/torch_grad.rs` has more of these, with gradients); every layer is drawn by the random graphs of `tests/law.rs`
as well, which hold the machine code to all of them.

| layer | what | attributes | kernels | PyTorch |
|---|---|---|---|---|
";

/// The names of a layer's attributes: what its reader says when it is given another.
fn attributes(
    read: fn(&fusewright_ir::text::Value) -> Result<fusewright_ir::ops::Op, fusewright_ir::text::FieldError>,
) -> Vec<String> {
    let strange = parse("(no_attribute_has_this_name: 1)").expect("the text is a struct");
    let error = read(&strange).expect_err("the attribute is unknown");
    error.unknown.map(|unknown| unknown.1).unwrap_or_default()
}

/// How often a layer of this name stands at the beginning of a string in `text`.
fn cases(text: &str, name: &str) -> usize {
    [format!("\"{name}\""), format!("\"{name}(")].iter().map(|start| text.matches(start.as_str()).count()).sum()
}

#[test]
fn the_table_of_operations_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let text = |file: &str| fs::read_to_string(folder.join(file)).expect("the test is there");
    let kernels = text("support/cases.rs");
    let pytorch = text("pytorch_windows.rs") + &text("pytorch_pointwise.rs");
    let mut layers: Vec<_> = LAYERS.iter().flat_map(|kinds| kinds.iter()).collect();
    layers.sort_by_key(|kind| kind.name);
    let mut table = HEAD.to_string();
    for kind in layers {
        let attributes: Vec<String> = attributes(kind.read).iter().map(|name| format!("`{name}`")).collect();
        let (held, numbers) = (cases(&kernels, kind.name), cases(&pytorch, kind.name));
        let (name, about) = (kind.name, kind.about.replace('|', "\\|"));
        table += &format!("| `{name}` | {about} | {} | {held} | {numbers} |\n", attributes.join(", "));
    }
    let path = folder.join("../../OPERATIONS.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &table).expect("the file can be written");
    }
    let kept = fs::read_to_string(&path).expect("BLESS=1 writes it");
    assert!(kept.replace("\r\n", "\n") == table, "OPERATIONS.md is not what the layers say: run with BLESS=1");
}
