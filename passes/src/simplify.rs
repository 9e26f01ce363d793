//! Nodes that change nothing are dropped; views of views become one; operations become cheaper ones with the same
//! values. Every rule names the operation it is about and answers with the value that takes the node's place.

use fusewright_ir::graph::Node;
use fusewright_ir::ops::{Map, Op, Permute};
use fusewright_ir::{Graph, GraphBuilder, NodeId, ValueId};

/// What takes the place of a node's only output.
enum Instead {
    Value(ValueId),
    Node(Box<Op>, Vec<ValueId>),
}

type Rule = fn(&Graph, &Node) -> Option<Instead>;

const RULES: &[Rule] = &[identity, unit_operand, same_shape, permutation, repeated_function, small_power];

/// The pass: rules are applied until none fits.
pub fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    while let Some((id, instead)) = graph.topological().into_iter().find_map(|id| {
        let node = graph.node(id);
        let used = graph.is_output(id) || !graph.users(id).is_empty();
        let instead = RULES.iter().filter(|_| used && node.types.len() == 1).find_map(|rule| rule(graph, node))?;
        Some((id, instead))
    }) {
        replace(graph, id, instead);
        changed = true;
    }
    changed
}

fn replace(graph: &mut Graph, id: NodeId, instead: Instead) {
    let new = match instead {
        Instead::Value(value) => value,
        Instead::Node(op, inputs) => {
            let (name, span) = (graph.node(id).name.clone(), graph.node(id).span.clone());
            let mut build = GraphBuilder::on(std::mem::take(graph));
            build.set_span(span);
            let value = build.node(&name, *op, &inputs);
            *graph = build.finish();
            value
        }
    };
    debug_assert_eq!(graph.value_type(id.into()), graph.value_type(new), "a rule keeps the type");
    graph.replace_uses(id.into(), new);
    graph.remove(id);
}

fn function(node: &Node) -> Option<&'static str> {
    let Op::Map(map) = &node.op else { return None };
    Some(map.function.name)
}

fn identity(_: &Graph, node: &Node) -> Option<Instead> {
    let nothing = function(node) == Some("Identity") || matches!(node.op, Op::Dropout(_));
    nothing.then(|| Instead::Value(node.inputs[0]))
}

/// x * 1, x / 1, x + 0 and x - 0, where the shape stays. (x + 0 turns -0 into 0, which compares equal.)
fn unit_operand(graph: &Graph, node: &Node) -> Option<Instead> {
    let (unit, commutes) = match function(node)? {
        "Add" => (0.0, true),
        "Sub" => (0.0, false),
        "Mul" => (1.0, true),
        "Div" => (1.0, false),
        _ => return None,
    };
    let is_unit = |value: ValueId| match &graph.node(value.node).op {
        Op::Constant(constant) => {
            let elements = constant.tensor.dims().iter().product::<usize>();
            elements > 0 && elements <= 4096 && constant.tensor.data().to_f64().iter().all(|&x| x == unit)
        }
        _ => false,
    };
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let kept = if is_unit(b) {
        a
    } else if commutes && is_unit(a) {
        b
    } else {
        return None;
    };
    (*graph.value_type(kept) == node.types[0]).then_some(Instead::Value(kept))
}

/// A view, or a resize, that leaves the shape as it is; axes of length 1 may move freely between others.
fn same_shape(graph: &Graph, node: &Node) -> Option<Instead> {
    let keeps_order =
        matches!(node.op, Op::Flatten(_) | Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_) | Op::Unflatten(_));
    (keeps_order && *graph.value_type(node.inputs[0]) == node.types[0]).then(|| Instead::Value(node.inputs[0]))
}

/// The order of axes that a transposing node gives.
fn order_of(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    let rank = graph.value_type(node.inputs.first().copied()?).rank();
    let axis = |number: i32| number.rem_euclid(rank.max(1) as i32) as usize;
    match &node.op {
        Op::Permute(permute) => Some(permute.dims.iter().map(|&number| axis(number)).collect()),
        Op::Transpose(transpose) => {
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(axis(transpose.dim0), axis(transpose.dim1));
            Some(order)
        }
        _ => None,
    }
}

/// A permutation that moves nothing is dropped, and one of another becomes one.
fn permutation(graph: &Graph, node: &Node) -> Option<Instead> {
    let order = order_of(graph, node)?;
    if order.iter().enumerate().all(|(i, &axis)| i == axis) {
        return Some(Instead::Value(node.inputs[0]));
    }
    let before = graph.node(node.inputs[0].node);
    let first = order_of(graph, before)?;
    let dims = order.iter().map(|&axis| first[axis] as i32).collect();
    Some(Instead::Node(Box::new(Op::Permute(Permute { dims })), before.inputs.to_vec()))
}

/// relu(relu(x)), abs(abs(x)) and the like; -(-x).
fn repeated_function(graph: &Graph, node: &Node) -> Option<Instead> {
    let name = function(node)?;
    let before = graph.node(node.inputs[0].node);
    if function(before) != Some(name) {
        return None;
    }
    match name {
        "Relu" | "Relu6" | "Abs" | "Floor" | "Ceil" | "Round" | "Trunc" | "Sign" => {
            Some(Instead::Value(node.inputs[0]))
        }
        "Neg" | "Not" => Some(Instead::Value(before.inputs[0])),
        _ => None,
    }
}

/// pow(x, 2) as x * x, pow(x, 1) as x, pow(x, -1) as 1 / x: exponents that are one constant for all elements.
fn small_power(graph: &Graph, node: &Node) -> Option<Instead> {
    if function(node)? != "Pow" || *graph.value_type(node.inputs[0]) != node.types[0] {
        return None;
    }
    let Op::Constant(exponent) = &graph.node(node.inputs[1].node).op else { return None };
    let [exponent] = exponent.tensor.data().to_f64()[..] else { return None };
    let x = node.inputs[0];
    match exponent {
        1.0 => Some(Instead::Value(x)),
        2.0 => Some(Instead::Node(Box::new(Op::Map(Map::named("Mul")?)), vec![x, x])),
        -1.0 => Some(Instead::Node(Box::new(Op::Map(Map::named("Reciprocal")?)), vec![x])),
        _ => None,
    }
}
