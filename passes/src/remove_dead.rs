//! Drops nodes that no result needs. Inputs stay: users go on giving them.

use fusewright_ir::Graph;
use fusewright_ir::ops::Op;

/// The pass.
pub fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    for id in graph.topological().into_iter().rev() {
        let is_input = matches!(graph.node(id).op, Op::Input(_));
        if !is_input && !graph.is_output(id) && graph.users(id).is_empty() {
            graph.remove(id);
            changed = true;
        }
    }
    changed
}
