//! The verifier finds what no builder makes.

use fusewright_ir::ops::{Flatten, Map, Op};
use fusewright_ir::{Graph, GraphBuilder, Node, Output, TensorType, ValueId, verify};
use smallvec::smallvec;

fn relu() -> Op {
    Op::Map(Map::named("Relu").expect("a function"))
}

fn node(name: &str, op: Op, inputs: &[ValueId], ty: TensorType) -> Node {
    Node { name: name.to_string(), op, inputs: inputs.into(), types: smallvec![ty], span: None }
}

fn sound() -> (Graph, ValueId, ValueId) {
    let mut build = GraphBuilder::new();
    let x = build.input("x", TensorType::f32([2usize, 3]));
    let y = build.node("y", relu(), &[x]);
    build.output("y", y);
    (build.finish(), x, y)
}

fn faults(graph: &Graph) -> Vec<String> {
    verify(graph).err().map_or(Vec::new(), |faults| faults.0.into_iter().map(|fault| fault.title).collect())
}

#[test]
fn a_sound_graph_has_no_faults() {
    assert_eq!(faults(&sound().0), [""; 0]);
}

#[test]
fn every_fault_is_found() {
    let (mut graph, x, y) = sound();
    graph.add(node("x", relu(), &[x], TensorType::f32([2usize, 3])));
    graph.add(node("wrong", relu(), &[x], TensorType::f32([2usize, 4])));
    graph.add(node("arity", relu(), &[x, y], TensorType::f32([2usize, 3])));
    graph.add(node("port", relu(), &[ValueId { port: 7, ..x }], TensorType::f32([2usize, 3])));
    graph.add(node("axis", Op::Flatten(Flatten { start_dim: 5, end_dim: -1 }), &[x], TensorType::f32([6usize])));
    graph.outputs.push(Output { name: "y".to_string(), value: y, is_update: false });
    graph.outputs.push(Output { name: "far".to_string(), value: ValueId { port: 1, ..y }, is_update: false });
    assert_eq!(
        faults(&graph),
        [
            "the name `x` is used twice",
            "layer `wrong`: the type is not what the operation gives",
            "layer `arity`: the inputs do not fit",
            "layer `port`: an operand does not exist",
            "layer `axis`: the inputs do not fit",
            "two outputs are called `y`",
            "output `far` names a value that does not exist",
        ]
    );
}

#[test]
fn cycles_and_sizes_are_found() {
    let (mut graph, x, y) = sound();
    let z = graph.add(node("z", relu(), &[y], TensorType::f32([2usize, 3])));
    graph.set_inputs(y.node, smallvec![z.into()]);
    assert_eq!(faults(&graph), ["layer `y` is on a cycle"]);
    graph.set_inputs(y.node, smallvec![x]);
    assert_eq!(faults(&graph), [""; 0]);

    let mut build = GraphBuilder::new();
    let x = build.input("x", TensorType::f32([1i64 << 20, 1 << 20]));
    let empty = build.input("empty", TensorType::f32([0usize]));
    build.output("x", x);
    build.output("empty", empty);
    assert_eq!(
        faults(&build.finish()),
        ["layer `x`: the size is not possible", "layer `empty`: the size is not possible"]
    );
}
