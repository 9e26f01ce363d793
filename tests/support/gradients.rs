//! The graph of a training step's backward half: the gradients of a network's results, and what parameters become by them.

use super::network::{Built, Values};
use fusewright::ir::ops::{Map, Op, Reduce, Reduction};
use fusewright::ir::{DType, Graph, GraphBuilder, NodeId, Output, Tensor, TensorType, ValueId};
use fusewright::passes::differentiate::differentiate;
use fusewright::passes::train::mode;
use std::collections::BTreeMap;

/// The network whose results are the gradients, by all sources that they move with, of its float results: of the sum of
/// their elements, each times a number that is given. `None` where nothing moves.
pub fn of(built: &Built, seed: u64) -> Option<Built> {
    let mut given = built.given.clone();
    let (mut build, statistics) = forward(built, seed, &mut given);
    let map = |name: &str| Op::Map(Map::named(name).expect("a row of the table"));
    let mut total: Option<ValueId> = None;
    for (i, output) in build.graph().outputs.clone().iter().enumerate() {
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
    for (i, value) in statistics.into_iter().enumerate() {
        graph.outputs.push(Output { name: format!("s{i}"), value, is_update: false });
    }
    Some(Built { graph, given })
}

/// The network as it is in training, of every third seed, and what becomes of its statistics then.
fn forward(built: &Built, seed: u64, given: &mut BTreeMap<String, Tensor>) -> (GraphBuilder, Vec<ValueId>) {
    let trained = if seed.is_multiple_of(3) { trained(built, seed) } else { None };
    let Some(trained) = trained else { return (GraphBuilder::on(built.graph.clone()), Vec::new()) };
    *given = trained.given;
    let (mut graph, mut statistics) = (trained.graph, Vec::new());
    graph.outputs.retain(|output| {
        let is_statistic = output.name.starts_with("new ");
        if is_statistic {
            statistics.push(output.value);
        }
        !is_statistic
    });
    (GraphBuilder::on(graph), statistics)
}

/// The network as it is in training, with its new statistics as results `new ...`; none where a channel has one element
/// only, which is refused.
pub fn trained(built: &Built, seed: u64) -> Option<Built> {
    let mut given = built.given.clone();
    let mut build = GraphBuilder::on(built.graph.clone());
    let counter = build.input("count of steps", TensorType::new(DType::I32, [0usize; 0]));
    let name = build.graph().node(counter.node).name.clone();
    given.insert(name, Tensor::from_vec(&[], vec![(seed % 1000) as i32]));
    for (statistic, value) in mode::train(&mut build, counter, seed).ok()? {
        let name = build.graph().node(statistic.node).name.clone();
        build.output(&format!("new {name}"), value);
    }
    Some(Built { graph: build.finish(), given })
}

/// The network of [`of`] as a step: its parameters are state, and become what is a step down their gradients; now and then
/// two of them change places, or one becomes what it was with no regard to its gradient.
pub fn step(built: &Built, seed: u64) -> Option<Built> {
    let Built { mut graph, given } = of(built, seed)?;
    let parameters: Vec<NodeId> =
        graph.nodes().filter(|(_, node)| matches!(node.op, Op::Parameter(_))).map(|(id, _)| id).collect();
    for &id in &parameters {
        graph.update(id, |node| match &mut node.op {
            Op::Parameter(parameter) => parameter.is_state = true,
            _ => unreachable!("only parameters were taken"),
        });
    }
    let gradients: Vec<Output> = std::mem::take(&mut graph.outputs);
    let by: Vec<ValueId> = given.keys().filter_map(|name| graph.find(name)).map(ValueId::from).collect();
    let mut build = GraphBuilder::on(graph);
    let map = |name: &str| Op::Map(Map::named(name).expect("a row of the table"));
    let rate = build.constant("rate", Tensor::from_vec(&[], vec![0.125f32]));
    for (i, &id) in parameters.iter().enumerate() {
        let old = ValueId::from(id);
        let ty = build.graph().value_type(old).clone();
        let alike = |other: &&NodeId| **other != id && *build.graph().value_type((**other).into()) == ty;
        let partner = parameters.iter().find(alike).copied();
        let gradient =
            gradients.iter().find(|output| *build.graph().value_type(output.value) == ty && by.contains(&old));
        match (partner, gradient, (seed + i as u64) % 4) {
            (Some(partner), _, 0) => build.update(old, partner.into()),
            (_, Some(gradient), _) => {
                let gradient = gradient.value;
                let change = build.node("change", map("Mul"), &[gradient, rate]);
                let new = build.node("new", map("Sub"), &[old, change]);
                build.update(old, new);
            }
            _ => {}
        }
    }
    let mut graph = build.finish();
    // The results of a step are few.
    graph.outputs.extend(gradients.into_iter().take(1));
    graph.outputs.sort_by_key(|output| output.is_update);
    Some(Built { graph, given })
}

/// Whether there is a gradient: the weights of classes, for one, have none.
fn is_moved(graph: &Graph, total: ValueId, source: ValueId) -> bool {
    differentiate(graph.clone(), total, None, &[source]).is_ok()
}
