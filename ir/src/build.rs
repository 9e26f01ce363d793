//! Building graphs node by node: used by the text reader, by passes and gradients, and by tests.

use crate::diagnostic::Span;
use crate::graph::{Graph, Node, NodeId, Output, ValueId};
use crate::ops::{Constant, Initializer, Input, Mismatch, Op, Parameter};
use crate::tensor::{Tensor, TensorType};
use std::collections::HashSet;

/// Adds nodes to a graph, each with a unique name and inferred types.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: Graph,
    names: HashSet<String>,
    span: Option<Span>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> GraphBuilder {
        GraphBuilder::default()
    }

    /// Goes on with a graph.
    pub fn on(graph: Graph) -> GraphBuilder {
        let names = graph.nodes().map(|(_, node)| node.name.clone()).collect();
        GraphBuilder { graph, names, span: None }
    }

    /// The place in the text that the next nodes come from.
    pub fn set_span(&mut self, span: Option<Span>) {
        self.span = span;
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// `name`, or `name.2` and so on where it is taken.
    pub fn unique_name(&self, name: &str) -> String {
        let mut candidate = name.to_string();
        let mut n = 2;
        while self.names.contains(&candidate) {
            candidate = format!("{name}.{n}");
            n += 1;
        }
        candidate
    }

    /// Adds an operation. A name that is taken is made unique.
    ///
    /// # Errors
    /// Where the operands do not fit the operation.
    pub fn try_node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> Result<NodeId, Mismatch> {
        let operands: Vec<&TensorType> = inputs.iter().map(|&value| self.graph.value_type(value)).collect();
        let types = op.check(&operands)?;
        let name = self.unique_name(name);
        self.names.insert(name.clone());
        Ok(self.graph.add(Node { name, op, inputs: inputs.into(), types, span: self.span.clone() }))
    }

    /// Adds an operation whose operands are known to fit.
    ///
    /// # Panics
    /// Where they do not.
    pub fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        match self.try_node(name, op, inputs) {
            Ok(id) => id.into(),
            Err(mismatch) => panic!("node `{name}`: expected {}, found {}", mismatch.expected, mismatch.found),
        }
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.node(name, Op::Input(Input { ty }), &[])
    }

    /// Adds a learned parameter.
    pub fn parameter(&mut self, name: &str, ty: TensorType, init: Initializer) -> ValueId {
        self.node(name, Op::Parameter(Parameter { ty, init, trainable: true, is_state: false }), &[])
    }

    /// Adds what a session keeps from one run to the next, beside the parameters that are learned.
    pub fn state(&mut self, name: &str, ty: TensorType, init: Initializer) -> ValueId {
        self.node(name, Op::Parameter(Parameter { ty, init, trainable: false, is_state: true }), &[])
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.node(name, Op::Constant(Constant::new(tensor)), &[])
    }

    /// Adds a layer: its parameters under `name.weight` and so on with their default initialisers, then the operation.
    ///
    /// # Errors
    /// Where the inputs do not fit the operation.
    pub fn try_layer(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> Result<NodeId, Mismatch> {
        let operands: Vec<&TensorType> = inputs.iter().map(|&value| self.graph.value_type(value)).collect();
        op.check_arity(operands.len())?;
        let parameters = op.spec().parameters(&operands)?;
        let mut all = inputs.to_vec();
        for spec in parameters {
            let parameter = Parameter { ty: spec.ty, init: spec.init, trainable: spec.trainable, is_state: false };
            all.push(self.node(&format!("{name}.{}", spec.field), Op::Parameter(parameter), &[]));
        }
        self.try_node(name, op, &all)
    }

    /// Adds a layer whose inputs are known to fit.
    ///
    /// # Panics
    /// Where they do not.
    pub fn layer(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        match self.try_layer(name, op, inputs) {
            Ok(id) => id.into(),
            Err(mismatch) => panic!("layer `{name}`: expected {}, found {}", mismatch.expected, mismatch.found),
        }
    }

    /// Puts a node that has at least the outputs of `old` in its place, for every user and result; it takes the name,
    /// too, and `old` is no more.
    pub fn replace_node(&mut self, old: NodeId, new: NodeId) {
        for port in 0..self.graph.node(old).types.len() as u32 {
            self.graph.replace_uses(ValueId { node: old, port }, ValueId { node: new, port });
        }
        let name = self.graph.remove(old).name;
        self.names.remove(&self.graph.node(new).name);
        self.graph.update(new, |node| node.name = name);
    }

    /// Makes a value a result of the graph.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.graph.outputs.push(Output { name: name.to_string(), value, is_update: false });
    }

    /// Makes no value a result any more.
    pub fn clear_outputs(&mut self) {
        self.graph.outputs.clear();
    }

    /// Makes a value take the place of a parameter that is state, when the run is over.
    pub fn update(&mut self, state: ValueId, value: ValueId) {
        let name = self.graph.node(state.node).name.clone();
        self.graph.outputs.push(Output { name, value, is_update: true });
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }
}
