//! What a graph means: every node by its operation's reference, in f64. The oracle of all later stages.

use crate::graph::{Graph, NodeId, NodeMap};
use crate::ops::Op;
use crate::tensor::Array;
use std::collections::BTreeMap;

/// The results of the graph by name. `given` holds inputs and parameters by the names of their nodes. A value is dropped
/// after its last use, so that the largest networks fit.
///
/// # Panics
/// If a shape still holds a symbol, an input or parameter is missing, or has other axes than its node.
pub fn evaluate(graph: &Graph, given: &BTreeMap<String, Array>) -> Vec<(String, Array)> {
    evaluate_with(graph, given, |_, _| {})
}

/// The values of every node: one array an output. For small graphs, and for finding the layer at fault.
///
/// # Panics
/// As [`evaluate`].
pub fn evaluate_all(graph: &Graph, given: &BTreeMap<String, Array>) -> NodeMap<Vec<Array>> {
    let mut all = NodeMap::filled(graph, Vec::new());
    evaluate_with(graph, given, |id, values| all[id] = values.iter().map(|&value| value.clone()).collect());
    all
}

/// As [`evaluate`]; calls `observe` with the outputs of each node as soon as they are known.
///
/// # Panics
/// As [`evaluate`].
pub fn evaluate_with(
    graph: &Graph,
    given: &BTreeMap<String, Array>,
    mut observe: impl FnMut(NodeId, &[&Array]),
) -> Vec<(String, Array)> {
    let mut uses = NodeMap::filled(graph, 0usize);
    for (_, node) in graph.nodes() {
        for operand in &node.inputs {
            uses[operand.node] += 1;
        }
    }
    for output in &graph.outputs {
        uses[output.value.node] += 1;
    }
    let mut values: NodeMap<Option<Held>> = NodeMap::filled(graph, None);
    for id in graph.topological() {
        let node = graph.node(id);
        let held = match &node.op {
            Op::Input(_) | Op::Parameter(_) => {
                let array = given.get(&node.name).unwrap_or_else(|| panic!("verified: `{}` is given", node.name));
                Held::Given(array)
            }
            op => {
                let operands: Vec<&Array> = node
                    .inputs
                    .iter()
                    .map(|operand| {
                        let held = values[operand.node].as_ref().expect("operands come first and live until used");
                        held.port(operand.port as usize)
                    })
                    .collect();
                Held::Computed(op.reference(&operands, &node.types))
            }
        };
        for (port, ty) in node.types.iter().enumerate() {
            let (found, wanted) = (&held.port(port).dims, ty.dims().expect("verified: all symbols are bound"));
            assert_eq!(*found, wanted, "`{}` has the axes of its type", node.name);
        }
        observe(id, &(0..node.types.len()).map(|port| held.port(port)).collect::<Vec<_>>());
        values[id] = (uses[id] > 0).then_some(held);
        for operand in &node.inputs {
            uses[operand.node] -= 1;
            if uses[operand.node] == 0 {
                values[operand.node] = None;
            }
        }
    }
    let value = |output: &crate::graph::Output| {
        let held = values[output.value.node].as_ref().expect("outputs are used by the caller");
        (output.name.clone(), held.port(output.value.port as usize).clone())
    };
    graph.outputs.iter().map(value).collect()
}

/// The values of a node: the caller's, or our own.
#[derive(Clone)]
enum Held<'a> {
    Given(&'a Array),
    Computed(Vec<Array>),
}

impl Held<'_> {
    fn port(&self, port: usize) -> &Array {
        match self {
            Held::Given(array) => array,
            Held::Computed(arrays) => &arrays[port],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::GraphBuilder;
    use crate::ops::{Dense, Map};
    use crate::tensor::{Tensor, TensorType};

    fn map(name: &str) -> Op {
        Op::Map(Map::named(name).unwrap())
    }

    #[test]
    fn values_live_until_their_last_use() {
        // y = relu(dense(x)) + dense(x), and the dense layer itself is a result.
        let mut build = GraphBuilder::new();
        let x = build.input("x", TensorType::f32([1usize, 2]));
        let dense = build.layer("dense", Op::Dense(Dense { out: 2, bias: true }), &[x]);
        let relu = build.layer("relu", map("Relu"), &[dense]);
        let bias = build.constant("ten", Tensor::from_vec(&[1], vec![10f32]));
        let sum = build.layer("sum", map("Add"), &[relu, dense]);
        let sum = build.layer("more", map("Add"), &[sum, bias]);
        build.output("y", sum);
        build.output("hidden", dense);
        let graph = build.finish();
        let array = |dims: &[usize], data: &[f64]| Array { dims: dims.to_vec(), data: data.to_vec() };
        let given = BTreeMap::from([
            ("x".to_string(), array(&[1, 2], &[1.0, 2.0])),
            ("dense.weight".to_string(), array(&[2, 2], &[1.0, 2.0, -3.0, 0.5])),
            ("dense.bias".to_string(), array(&[2], &[0.25, 0.0])),
        ]);
        let expected =
            [("y".to_string(), array(&[1, 2], &[20.5, 8.0])), ("hidden".to_string(), array(&[1, 2], &[5.25, -2.0]))];
        assert_eq!(evaluate(&graph, &given), expected);

        let all = evaluate_all(&graph, &given);
        assert_eq!(all[relu.node], [array(&[1, 2], &[5.25, 0.0])]);
        assert_eq!(all[bias.node], [array(&[1], &[10.0])]);
    }
}
