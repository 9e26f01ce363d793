//! Drops nodes that no result needs. Inputs stay: users go on giving them; and state that is updated stays, read or not.

use fusewright_ir::Graph;
use fusewright_ir::ops::Op;

/// The pass.
pub fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    for id in graph.topological().into_iter().rev() {
        let node = graph.node(id);
        let stays = match &node.op {
            Op::Input(_) => true,
            Op::Parameter(_) => graph.outputs.iter().any(|output| output.is_update && output.name == node.name),
            _ => false,
        };
        if !stays && !graph.is_output(id) && graph.users(id).is_empty() {
            graph.remove(id);
            changed = true;
        }
    }
    changed
}
