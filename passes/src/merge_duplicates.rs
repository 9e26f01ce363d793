//! Nodes of equal operation and operands become one.

use fusewright_ir::ops::Op;
use fusewright_ir::{Graph, NodeId, ValueId};
use std::collections::HashMap;

/// The pass.
pub fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut known: HashMap<(&'static str, Vec<ValueId>), Vec<NodeId>> = HashMap::new();
    for id in graph.topological() {
        let node = graph.node(id);
        if matches!(node.op, Op::Input(_) | Op::Parameter(_)) {
            continue;
        }
        let same = known.entry((node.op.spec().name(), node.inputs.to_vec())).or_default();
        match same.iter().find(|&&other| graph.node(other).op == node.op).copied() {
            None => same.push(id),
            Some(first) => {
                for port in 0..graph.node(id).types.len() as u32 {
                    graph.replace_uses(ValueId { node: id, port }, ValueId { node: first, port });
                }
                changed = true;
            }
        }
    }
    changed
}
