//! A `Pad` of zeros in front of a convolution becomes padding of the convolution.

use fusewright_ir::ops::window::Padding;
use fusewright_ir::ops::{Op, PadMode};
use fusewright_ir::{Graph, GraphBuilder, NodeId};

/// The pass.
pub fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    for id in graph.topological() {
        if let Some(op) = absorbed(graph, id) {
            let node = graph.node(id);
            let (name, span) = (node.name.clone(), node.span.clone());
            let mut inputs = node.inputs.to_vec();
            inputs[0] = graph.node(inputs[0].node).inputs[0];
            let mut build = GraphBuilder::on(std::mem::take(graph));
            build.set_span(span);
            let new = build.node(&name, op, &inputs);
            *graph = build.finish();
            graph.replace_uses(id.into(), new);
            graph.remove(id);
            changed = true;
        }
    }
    changed
}

/// The convolution with the padding of the node before it added to its own.
fn absorbed(graph: &Graph, id: NodeId) -> Option<Op> {
    let Op::Conv(conv) = &graph.node(id).op else { return None };
    let Op::Pad(pad) = &graph.node(graph.node(id).inputs[0].node).op else { return None };
    let zeros = pad.mode == PadMode::Constant && pad.value.0 == 0.0;
    if !zeros || pad.padding.len() > conv.spatial || pad.padding.iter().any(|&(a, b)| a < 0 || b < 0) {
        return None;
    }
    let own: Vec<(u32, u32)> = match &conv.padding {
        Padding::All(n) => vec![(*n, *n); conv.spatial],
        Padding::Each(list) => list.iter().map(|&n| (n, n)).collect(),
        Padding::Pairs(list) => list.to_vec(),
        // What "same" means depends on the padded length.
        Padding::Named(_) => return None,
    };
    let skipped = conv.spatial - pad.padding.len();
    let sum = |own: u32, added: i32| own.checked_add(added as u32);
    let pairs: Option<_> = own
        .iter()
        .enumerate()
        .map(|(axis, &(before, after))| {
            let added = axis.checked_sub(skipped).map_or((0, 0), |i| pad.padding[i]);
            Some((sum(before, added.0)?, sum(after, added.1)?))
        })
        .collect();
    let mut conv = conv.clone();
    conv.padding = Padding::Pairs(pairs?);
    Some(Op::Conv(conv))
}
