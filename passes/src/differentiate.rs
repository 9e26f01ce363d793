//! Gradients as graphs: reverse mode over the nodes between a value and what it is differentiated by.
//!
//! Nodes are visited from the value back; the contributions of all users of a value are summed before its own node is
//! asked for the gradients of its operands. Only operands on a path from what is wanted are asked for. The new nodes have
//! the names and places of the layers they come from.

use fusewright_ir::model::Gradient;
use fusewright_ir::ops::{Backward, Constant, Expand, Map, Op, common::Length};
use fusewright_ir::tensor::Tensor;
use fusewright_ir::{Diagnostic, Diagnostics, Graph, GraphBuilder, NodeId, NodeMap, Output, ValueId};
use std::collections::HashMap;

/// Adds the gradients of `of` by each value of `by`, in their order: of the sum of its elements, each times that of
/// `upstream` where one is given, which has the shape of `of`. A gradient has the shape of what it is by. Every shape of
/// the graph is a number.
///
/// An operation may be put in the place of another with the same name and values, one that saves more for its gradient:
/// ids of nodes other than inputs and parameters are to be looked up again.
///
/// # Errors
/// Where `of` is not made of floats, does not depend on a value of `by`, or does so by way of layers that have no
/// gradient.
pub fn differentiate(
    graph: Graph,
    of: ValueId,
    upstream: Option<ValueId>,
    by: &[ValueId],
) -> Result<(Graph, Vec<ValueId>), Diagnostics> {
    let moves = moving(&graph, by);
    check(&graph, of, upstream, by)?;
    let mut order = graph.topological();
    order.reverse();
    let mut build = GraphBuilder::on(graph);
    let name = format!("{}.grad", build.graph().node(of.node).name);
    let mut tape = Tape { reached: HashMap::new(), results: vec![None; by.len()] };
    let start = match upstream {
        Some(upstream) => upstream,
        None => filled(&mut build, &name, 1.0, of),
    };
    tape.reached.insert(of, vec![start]);
    let mut faults = Diagnostics::default();
    for id in order {
        if let Err(fault) = tape.visit(&mut build, &moves, id, by) {
            faults.push(explained(build.graph(), fault, id, of, by));
            break;
        }
    }
    faults.into_result()?;
    let mut results = Vec::with_capacity(by.len());
    for (&value, result) in by.iter().zip(tape.results) {
        let name = format!("{}.grad", build.graph().node(value.node).name);
        build.set_span(build.graph().node(value.node).span.clone());
        results.push(result.unwrap_or_else(|| filled(&mut build, &name, 0.0, value)));
    }
    build.set_span(None);
    Ok((build.finish(), results))
}

/// Adds the gradients that a model asks for as results of its graph. Every shape is a number.
///
/// # Errors
/// As [`differentiate`].
///
/// # Panics
/// Where a name means nothing: [`Model::check_gradient`](fusewright_ir::Model::check_gradient) tells of that.
pub fn requested(mut graph: Graph, gradients: &[Gradient]) -> Result<Graph, Diagnostics> {
    let mut rest = gradients;
    while let Some(first) = rest.first() {
        // Those of one value are made in one sweep.
        let alike = |other: &&Gradient| (&other.of, &other.upstream) == (&first.of, &first.upstream);
        let (now, later) = rest.split_at(rest.iter().take_while(alike).count());
        let value = |name: &str| graph.find_value(name).expect("verified: the names of gradients mean something");
        let by: Vec<ValueId> = now.iter().map(|gradient| value(&gradient.by)).collect();
        let (of, upstream) = (value(&first.of), first.upstream.as_deref().map(value));
        let (whole, results) = differentiate(graph, of, upstream, &by)?;
        graph = whole;
        for (gradient, value) in now.iter().zip(results) {
            graph.outputs.push(Output { name: gradient.name.clone(), value, is_update: false });
        }
        rest = later;
    }
    Ok(graph)
}

/// What can be told of the gradients of a model before its sizes are known: that there are layers with gradients all the
/// way. Those of other gradients are told of later.
///
/// # Errors
/// As [`differentiate`].
pub fn check_requested(graph: &Graph, gradients: &[Gradient]) -> Result<(), Diagnostics> {
    let mut faults = Diagnostics::default();
    for gradient in gradients {
        let value = |name: &String| graph.find_value(name);
        let upstream = gradient.upstream.as_ref().and_then(value);
        if let (Some(of), Some(by)) = (value(&gradient.of), value(&gradient.by)) {
            faults.include(check(graph, of, upstream, &[by]));
        }
    }
    faults.into_result()
}

/// The gradients on the way.
struct Tape {
    /// What has reached a value from its users.
    reached: HashMap<ValueId, Vec<ValueId>>,
    /// The sums at the values that are wanted.
    results: Vec<Option<ValueId>>,
}

impl Tape {
    /// Sums what has reached the outputs of a node, and passes it on to the operands.
    ///
    /// # Errors
    /// Why the operation has no gradient.
    fn visit(
        &mut self,
        build: &mut GraphBuilder,
        moves: &NodeMap<bool>,
        id: NodeId,
        by: &[ValueId],
    ) -> Result<(), String> {
        let node = build.graph().node(id);
        let (operands, ports) = (node.inputs.clone(), node.types.len() as u32);
        build.set_span(node.span.clone());
        let upstream: Vec<Option<ValueId>> =
            (0..ports).map(|port| self.sum(build, ValueId { node: id, port })).collect();
        for (value, result) in by.iter().zip(&mut self.results).filter(|(value, _)| value.node == id) {
            *result = upstream[value.port as usize];
        }
        let wanted: Vec<bool> = operands
            .iter()
            .map(|value| moves[value.node] && build.graph().value_type(*value).dtype.is_float())
            .collect();
        if !wanted.contains(&true) || upstream.iter().all(Option::is_none) {
            return Ok(());
        }
        let gradients = Backward::new(build, id, upstream, wanted.clone()).run()?;
        for ((operand, gradient), wanted) in operands.into_iter().zip(gradients).zip(wanted) {
            if let (true, Some(gradient)) = (wanted, gradient) {
                debug_assert_eq!(
                    build.graph().value_type(gradient),
                    build.graph().value_type(operand),
                    "a gradient has the type of its operand"
                );
                self.reached.entry(operand).or_default().push(gradient);
            }
        }
        Ok(())
    }

    fn sum(&mut self, build: &mut GraphBuilder, value: ValueId) -> Option<ValueId> {
        let contributions = self.reached.remove(&value)?;
        let name = format!("{}.grad", build.graph().node(value.node).name);
        let add = || Op::Map(Map::named("Add").expect("a row of the table"));
        contributions.into_iter().reduce(|sum, more| build.node(&name, add(), &[sum, more]))
    }
}

/// Whether the values of a node move with those of `by`, floats all the way.
fn moving(graph: &Graph, by: &[ValueId]) -> NodeMap<bool> {
    let mut moves = NodeMap::filled(graph, false);
    for id in graph.topological() {
        let float = |value: &&ValueId| graph.value_type(**value).dtype.is_float();
        let operands = &graph.node(id).inputs;
        moves[id] =
            by.iter().any(|value| value.node == id) || operands.iter().filter(float).any(|value| moves[value.node]);
    }
    moves
}

/// Whether `of` moves with the values of a node, floats all the way.
fn reaching(graph: &Graph, of: ValueId) -> NodeMap<bool> {
    let mut reaches = NodeMap::filled(graph, false);
    reaches[of.node] = true;
    for id in graph.topological().into_iter().rev() {
        if reaches[id] {
            let operands = graph.node(id).inputs.iter().filter(|&&value| graph.value_type(value).dtype.is_float());
            operands.for_each(|value| reaches[value.node] = true);
        }
    }
    reaches
}

/// The inputs and parameters that `of` may be differentiated by, in the order of their nodes.
pub fn sources(graph: &Graph, of: ValueId) -> Vec<ValueId> {
    let reaches = reaching(graph, of);
    let is_source = |op: &Op| matches!(op, Op::Input(_) | Op::Parameter(_));
    let nodes =
        graph.nodes().filter(|(id, node)| reaches[*id] && is_source(&node.op) && node.types[0].dtype.is_float());
    nodes.map(|(id, _)| id.into()).collect()
}

fn check(graph: &Graph, of: ValueId, upstream: Option<ValueId>, by: &[ValueId]) -> Result<(), Diagnostics> {
    let mut faults = Diagnostics::default();
    for &value in by.iter().chain([&of]) {
        let ty = graph.value_type(value);
        if !ty.dtype.is_float() {
            let node = graph.node(value.node);
            let fault = Diagnostic::new(format!("`{}` has no gradient", graph.value_name(value))).at(node.span.clone());
            faults
                .push(fault.expected("f32 elements").found(ty.to_string()).help("whole numbers do not move smoothly"));
        }
    }
    if let Some(upstream) = upstream.filter(|&upstream| graph.value_type(upstream) != graph.value_type(of)) {
        let fault =
            Diagnostic::new(format!("`{}` does not fit `{}`", graph.value_name(upstream), graph.value_name(of)));
        let (wanted, found) = (graph.value_type(of), graph.value_type(upstream));
        faults.push(fault.expected(wanted.to_string()).found(found.to_string()));
    }
    faults.into_result()?;
    let reaches = reaching(graph, of);
    let mut faults = Diagnostics::default();
    for &value in by.iter().filter(|value| !reaches[value.node]) {
        faults.push(apart(graph, of, value));
    }
    faults.into_result()
}

/// That `of` does not move with `by`: not at all, or not by floats alone.
fn apart(graph: &Graph, of: ValueId, by: ValueId) -> Diagnostic {
    let (of_name, by_name) = (graph.value_name(of), graph.value_name(by));
    let title = format!("`{of_name}` has no gradient by `{by_name}`");
    let Some(path) = path(graph, by.node, of.node) else {
        let fault = Diagnostic::new(title).at(graph.node(of.node).span.clone());
        return fault.expected(format!("a path from `{by_name}` to `{of_name}`")).found("none");
    };
    let steps = path.iter().find(|&&id| graph.node(id).types.iter().all(|ty| !ty.dtype.is_float()));
    let stop = steps.map_or(of.node, |&id| id);
    let fault = Diagnostic::new(title).at(graph.node(stop).span.clone());
    fault
        .expected("layers with gradients on the way")
        .found(format!("{} in {}", described(graph, stop), names(graph, &path)))
        .help("leave the layer out, or differentiate by what comes behind it")
}

/// Why an operation on the way has no gradient.
fn explained(graph: &Graph, reason: String, at: NodeId, of: ValueId, by: &[ValueId]) -> Diagnostic {
    let before = by.iter().find_map(|value| path(graph, value.node, at)).unwrap_or_default();
    let behind = path(graph, at, of.node).unwrap_or_default();
    let whole: Vec<NodeId> = before.into_iter().chain(behind.into_iter().skip(1)).collect();
    let fault = Diagnostic::new(format!("{} has no gradient: {reason}", described(graph, at)));
    fault.at(graph.node(at).span.clone()).found(names(graph, &whole))
}

fn described(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    format!("layer `{}` ({})", node.name, node.op.spec().name())
}

fn names(graph: &Graph, path: &[NodeId]) -> String {
    path.iter().map(|&id| graph.node(id).name.as_str()).collect::<Vec<_>>().join(" -> ")
}

/// The nodes from one to another, along operands.
fn path(graph: &Graph, from: NodeId, to: NodeId) -> Option<Vec<NodeId>> {
    let mut before: NodeMap<Option<NodeId>> = NodeMap::filled(graph, None);
    before[from] = Some(from);
    for id in graph.topological() {
        if before[id].is_none() {
            before[id] = graph.node(id).inputs.iter().map(|value| value.node).find(|&node| before[node].is_some());
        }
    }
    before[to]?;
    let mut nodes = vec![to];
    while let Some(&last) = nodes.last().filter(|&&last| last != from) {
        nodes.push(before[last].expect("every node of a path has one before it"));
    }
    nodes.reverse();
    Some(nodes)
}

/// A constant of the shape of `like`.
fn filled(build: &mut GraphBuilder, name: &str, number: f32, like: ValueId) -> ValueId {
    let dims = build.graph().value_type(like).dims().expect("verified: gradients are built of bound graphs");
    let one = build.node(name, Constant::new(Tensor::from_vec(&[], vec![number])).into(), &[]);
    if dims.is_empty() {
        return one;
    }
    let shape = dims.iter().map(|&n| Length::Number(n as i64)).collect();
    build.node(name, Expand { shape }.into(), &[one])
}
