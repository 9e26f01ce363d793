//! What must hold for every graph: checked after reading, after binding, and after each pass in tests.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::dim::Dim;
use crate::graph::{Graph, Node, NodeId, NodeMap};
use crate::ops::{Mismatch, Op};
use crate::tensor::TensorType;
use std::collections::HashMap;

/// The most nodes that a graph may have.
pub const NODE_LIMIT: usize = 100_000;

/// All faults of a graph: names used twice, operands that are missing or on a cycle, types that are not what the
/// operations give, sizes beyond the limits, results that do not exist.
///
/// # Errors
/// The faults, each at its layer.
pub fn verify(graph: &Graph) -> Result<(), Diagnostics> {
    let mut faults = Diagnostics::default();
    if graph.len() > NODE_LIMIT {
        let found = format!("{}", graph.len());
        faults.push(
            Diagnostic::new("the graph is too large").expected(format!("at most {NODE_LIMIT} nodes")).found(found),
        );
        return Err(faults);
    }
    let mut names = HashMap::new();
    let mut exists = vec![false; graph.nodes().map(|(id, _)| id.index() + 1).max().unwrap_or(0)];
    for (id, node) in graph.nodes() {
        exists[id.index()] = true;
        if names.insert(node.name.as_str(), id).is_some() {
            faults.push(Diagnostic::new(format!("the name `{}` is used twice", node.name)).at(node.span.clone()));
        }
    }
    let ports = |id: NodeId| if exists.get(id.index()) == Some(&true) { graph.node(id).types.len() } else { 0 };
    let order = graph.topological();
    if order.len() < graph.len() {
        let mut placed = NodeMap::filled(graph, false);
        order.iter().for_each(|&id| placed[id] = true);
        if let Some((_, node)) = graph.nodes().find(|(id, _)| !placed[*id]) {
            let title = format!("layer `{}` is on a cycle", node.name);
            faults.push(Diagnostic::new(title).at(node.span.clone()).help("a layer may use earlier layers only"));
        }
    }
    for &id in &order {
        let node = graph.node(id);
        let title = |what: &str| Diagnostic::new(format!("layer `{}`: {what}", node.name)).at(node.span.clone());
        if let Some(missing) = node.inputs.iter().position(|value| value.port as usize >= ports(value.node)) {
            faults.push(title("an operand does not exist").found(format!("operand {missing}")));
            continue;
        }
        for ty in &node.types {
            if let Some(fault) = size_fault(ty) {
                faults.push(mismatch(title("the size is not possible"), &fault));
            }
        }
        let operands: Vec<&TensorType> = node.inputs.iter().map(|&value| graph.value_type(value)).collect();
        match node.op.check(&operands) {
            Err(fault) => faults.push(mismatch(title("the inputs do not fit"), &fault)),
            Ok(types) if types != node.types => {
                let text = |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                faults.push(
                    title("the type is not what the operation gives").expected(text(&types)).found(text(&node.types)),
                );
            }
            Ok(_) => {}
        }
    }
    let mut results = HashMap::new();
    for output in &graph.outputs {
        if output.value.port as usize >= ports(output.value.node) {
            faults.push(Diagnostic::new(format!("output `{}` names a value that does not exist", output.name)));
        } else if output.is_update {
            let state = graph.find(&output.name).map(|id| graph.node(id));
            let fits = |state: &Node| {
                matches!(&state.op, Op::Parameter(parameter) if parameter.is_state)
                    && state.types[0] == *graph.value_type(output.value)
            };
            if !state.is_some_and(fits) {
                let fault = Diagnostic::new(format!("nothing can be updated by `{}`", output.name));
                faults.push(fault.expected("a parameter that is state, of the type of the value"));
            }
        }
        if results.insert((output.name.as_str(), output.is_update), ()).is_some() {
            faults.push(Diagnostic::new(format!("two outputs are called `{}`", output.name)));
        }
    }
    faults.into_result()
}

fn mismatch(diagnostic: Diagnostic, fault: &Mismatch) -> Diagnostic {
    diagnostic.expected(&fault.expected).found(&fault.found).help(&fault.help)
}

/// Why a value of this type cannot be, if it cannot: an axis without elements, or sizes beyond the limits.
pub fn size_fault(ty: &TensorType) -> Option<Mismatch> {
    let too_large = "make the layer or its input smaller";
    for dim in &ty.shape {
        match dim {
            Dim::Known(n) if *n < 1 => {
                let help = "check the sizes of the layer and of its input";
                return Some(Mismatch::new("1 or more elements along every axis", ty.to_string(), help));
            }
            Dim::Known(n) if *n > Dim::LIMIT => {
                let expected = format!("at most {} elements along every axis", Dim::LIMIT);
                return Some(Mismatch::new(expected, ty.to_string(), too_large));
            }
            _ => {}
        }
    }
    match ty.elements() {
        Dim::Known(n) if n > TensorType::ELEMENT_LIMIT => {
            let expected = format!("at most {} elements in a tensor", TensorType::ELEMENT_LIMIT);
            Some(Mismatch::new(expected, ty.to_string(), too_large))
        }
        _ => None,
    }
}
