//! The passes over graphs, in their order.

use crate::{absorb_padding, fold_batch_norm, fold_constants, merge_duplicates, remove_dead, simplify};
use fusewright_ir::Graph;

/// One rewriting of the graph that keeps its meaning.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The name that dumps and `--after` use.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Rewrites the graph; whether anything changed.
    pub run: fn(&mut Graph) -> bool,
}

/// All passes, in the order they run.
pub const PIPELINE: &[Pass] = &[
    Pass { name: "remove-dead", about: "drops nodes that no result needs", run: remove_dead::run },
    Pass { name: "simplify", about: "drops nodes that change nothing, and joins views", run: simplify::run },
    Pass {
        name: "absorb-padding",
        about: "a Pad of zeros becomes padding of the convolution",
        run: absorb_padding::run,
    },
    Pass {
        name: "fold-batch-norm",
        about: "statistics become a scale and a shift, in the weights where they can",
        run: fold_batch_norm::run,
    },
    Pass { name: "fold-constants", about: "nodes of constants become constants", run: fold_constants::run },
    Pass {
        name: "merge-duplicates",
        about: "equal operation and operands become one node",
        run: merge_duplicates::run,
    },
    Pass { name: "sweep", about: "drops what the passes before have left unused", run: remove_dead::run },
];

/// Runs all passes; `observe` sees the graph after each, and whether it changed.
///
/// # Panics
/// In builds with debug assertions, if a pass leaves a graph whose types are not those that `infer` gives.
pub fn run(graph: &mut Graph, observe: &mut dyn FnMut(&Pass, bool, &Graph)) {
    for pass in PIPELINE {
        let changed = (pass.run)(graph);
        if cfg!(debug_assertions)
            && let Some(problem) = inconsistency(graph)
        {
            panic!("after pass {}: {problem}", pass.name);
        }
        observe(pass, changed, graph);
    }
}

/// A node whose types are not those that its operands give, if there is one.
fn inconsistency(graph: &Graph) -> Option<String> {
    let order = graph.topological();
    if order.len() != graph.len() {
        return Some("the graph has a cycle".to_string());
    }
    order.into_iter().find_map(|id| {
        let node = graph.node(id);
        let operands: Vec<_> = node.inputs.iter().map(|&value| graph.value_type(value)).collect();
        match node.op.check(&operands) {
            Ok(types) if types == node.types => None,
            Ok(types) => Some(format!("`{}` has type {:?}, its operands give {types:?}", node.name, node.types)),
            Err(mismatch) => Some(format!("`{}`: expected {}, found {}", node.name, mismatch.expected, mismatch.found)),
        }
    })
}
