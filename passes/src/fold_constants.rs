//! Nodes whose operands are all constants become constants, computed by the reference. What would grow beyond its
//! operands, or cost more than it saves, stays: it is computed once in the setup anyway.

use fusewright_ir::ops::{Constant, Op};
use fusewright_ir::{Array, Graph, GraphBuilder, ValueId};

/// Results of at most so many elements are folded whatever their operands' size.
const SMALL_ELEMENTS: usize = 4096;

/// The pass.
pub fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    for id in graph.topological() {
        let node = graph.node(id);
        let operands: Option<Vec<Array>> = node
            .inputs
            .iter()
            .map(|operand| match &graph.node(operand.node).op {
                Op::Constant(constant) => Some(constant.tensor.to_array()),
                _ => None,
            })
            .collect();
        let Some(operands) = operands.filter(|operands| !operands.is_empty()) else { continue };
        let elements: Option<usize> =
            node.types.iter().map(|ty| ty.elements().known().filter(|&n| n <= SMALL_ELEMENTS)).sum();
        if elements.is_none() || operands.iter().map(|operand| operand.data.len()).sum::<usize>() > 16 * SMALL_ELEMENTS
        {
            continue;
        }
        let (name, types, span) = (node.name.clone(), node.types.clone(), node.span.clone());
        let results = node.op.reference(&operands.iter().collect::<Vec<_>>(), &types);
        let mut build = GraphBuilder::on(std::mem::take(graph));
        build.set_span(span);
        let constants: Vec<ValueId> = results
            .iter()
            .zip(&types)
            .map(|(result, ty)| {
                build.node(&format!("{name}.folded"), Op::Constant(Constant::new(result.to_tensor(ty.dtype))), &[])
            })
            .collect();
        *graph = build.finish();
        for (port, constant) in constants.into_iter().enumerate() {
            graph.replace_uses(ValueId { node: id, port: port as u32 }, constant);
        }
        changed = true;
    }
    changed
}
