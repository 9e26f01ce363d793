//! Small networks for the tests of the stages.

use super::draft::{Draft, DraftKernel};
use super::machine::Machine;
use super::{halo, layout, rows};
use crate::fuse::fuse;
use crate::lower::lower;
use fusewright_ir::Model;
use fusewright_ir::kernel::Program;

/// The kernels of layers behind an input `x` of this shape, joined where `join`.
pub fn program(shape: &str, layers: &str, join: bool) -> Program {
    let text = format!("(fusewright: 1, inputs: [(name: \"x\", shape: {shape})], layers: [{layers}])");
    let model = Model::parse("sample.ron", &text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    let program = lower(&model.graph);
    if join { fuse(program).0 } else { program }
}

/// The draft of joined kernels, with layouts and halos.
pub fn draft(shape: &str, layers: &str) -> Draft {
    draft_on(&Machine::PORTABLE, shape, layers)
}

/// The same for another machine.
pub fn draft_on(machine: &Machine, shape: &str, layers: &str) -> Draft {
    let mut draft = Draft::new(program(shape, layers, true));
    let common = rows::common_dims(&draft);
    layout::choose(&mut draft, &common, machine);
    halo::widen(&mut draft, machine);
    draft
}

/// The kernel that computes a node.
pub fn kernel<'d>(draft: &'d Draft, node: &str) -> &'d DraftKernel {
    let is_copy = |kernel: &DraftKernel| ["layout", "halo", "pack"].contains(&kernel.named.about.as_str());
    let mut kernels = draft.kernels.iter().filter(|kernel| !is_copy(kernel));
    kernels.find(|kernel| kernel.named.nodes.iter().any(|name| name == node)).expect("the node has a kernel")
}

/// The layout of what a kernel writes.
pub fn layout_behind(draft: &Draft, node: &str) -> String {
    draft.buffer(kernel(draft, node).kernel().writes()[0]).layout.to_string()
}

/// What the kernels are called, in order.
pub fn abouts(draft: &Draft) -> Vec<&str> {
    draft.kernels.iter().map(|kernel| kernel.named.about.as_str()).collect()
}
