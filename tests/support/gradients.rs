//! The graph of a training step's backward half: the gradients of a network's results.

use super::network::{Built, Values};
use fusewright::ir::ops::{Map, Op, Reduce, Reduction};
use fusewright::ir::{Graph, GraphBuilder, Output, ValueId};
use fusewright::passes::differentiate::differentiate;

/// The network whose results are the gradients, by all sources that they move with, of its float results: of the sum of
/// their elements, each times a number that is given. `None` where nothing moves.
pub fn of(built: &Built, seed: u64) -> Option<Built> {
    let mut given = built.given.clone();
    let mut build = GraphBuilder::on(built.graph.clone());
    let map = |name: &str| Op::Map(Map::named(name).expect("a row of the table"));
    let mut total: Option<ValueId> = None;
    for (i, output) in built.graph.outputs.iter().enumerate() {
        let ty = build.graph().value_type(output.value).clone();
        if ty.dtype.is_float() {
            let name = format!("u{i}");
            given.insert(name.clone(), Values::of(ty.dtype, false).tensor(&ty, seed, &name));
            let weight = build.input(&name, ty);
            let product = build.node("product", map("Mul"), &[output.value, weight]);
            let sum = build.node("sum", Reduce::over(Reduction::Sum, [], false).into(), &[product]);
            total = Some(total.map_or(sum, |total| build.node("total", map("Add"), &[total, sum])));
        }
    }
    let total = total?;
    let mut graph = build.finish();
    graph.outputs.clear();
    let by: Vec<ValueId> = built
        .given
        .keys()
        .map(|name| graph.find(name).expect("what is given is a node").into())
        .filter(|&source| is_moved(&graph, total, source))
        .collect();
    if by.is_empty() {
        return None;
    }
    let (mut graph, gradients) = differentiate(graph, total, None, &by).ok()?;
    for (i, value) in gradients.into_iter().enumerate() {
        graph.outputs.push(Output { name: format!("y{i}"), value, is_update: false });
    }
    Some(Built { graph, given })
}

/// Whether there is a gradient: the weights of classes, for one, have none.
fn is_moved(graph: &Graph, total: ValueId, source: ValueId) -> bool {
    differentiate(graph.clone(), total, None, &[source]).is_ok()
}
