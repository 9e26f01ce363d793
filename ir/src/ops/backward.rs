//! Where the gradient of a node is built: its operands, what reaches its outputs, and the usual steps.

use super::*;
use crate::graph::{Graph, NodeId, ValueId};
use crate::{GraphBuilder, Span};

/// One gradient an operand, of its shape; none where the operand is not wanted or has no part in the outputs.
pub type Gradients = SmallVec<[Option<ValueId>; 4]>;

/// A node whose gradient is being built. All types are concrete.
#[derive(Debug)]
pub struct Backward<'a> {
    build: &'a mut GraphBuilder,
    node: NodeId,
    name: String,
    inputs: SmallVec<[ValueId; 4]>,
    upstream: Vec<Option<ValueId>>,
    wanted: Vec<bool>,
    refusal: Option<String>,
}

impl<'a> Backward<'a> {
    /// The gradient of `node`, where `upstream` has the gradients of its outputs and `wanted` says which operands need
    /// theirs. New nodes have the node's name and its place in the text.
    pub fn new(
        build: &'a mut GraphBuilder,
        node: NodeId,
        upstream: Vec<Option<ValueId>>,
        wanted: Vec<bool>,
    ) -> Backward<'a> {
        let forward = build.graph().node(node);
        let span: Option<Span> = forward.span.clone();
        let name = match forward.name.ends_with(".grad") || forward.name.contains(".grad.") {
            true => forward.name.clone(),
            false => format!("{}.grad", forward.name),
        };
        let inputs = forward.inputs.clone();
        build.set_span(span);
        Backward { build, node, name, inputs, upstream, wanted, refusal: None }
    }

    /// The gradients of the operands.
    ///
    /// # Errors
    /// Why there are none, where the operation has no gradient for what is wanted.
    pub fn run(mut self) -> Result<Gradients, String> {
        let op = self.build.graph().node(self.node).op.clone();
        let gradients = op.spec().gradient(&mut self);
        match self.refusal {
            Some(reason) => Err(reason),
            None => {
                debug_assert_eq!(gradients.len(), self.inputs.len(), "`{}`: one gradient an operand", self.name);
                Ok(gradients)
            }
        }
    }

    /// An operand of the node.
    pub fn input(&self, i: usize) -> ValueId {
        self.inputs[i]
    }

    /// All operands of the node.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// An output of the node.
    pub fn output(&self, port: u32) -> ValueId {
        ValueId { node: self.node, port }
    }

    /// Whether the gradient of an operand is needed; false where there is no such operand.
    pub fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// The gradient of the first output.
    pub fn upstream(&self) -> ValueId {
        self.upstream[0].expect("an output that is reached has a gradient")
    }

    /// The gradients of all outputs, those that nothing reaches missing.
    pub fn upstreams(&self) -> &[Option<ValueId>] {
        &self.upstream
    }

    /// No gradient for any operand.
    pub fn nothing(&self) -> Gradients {
        SmallVec::from_elem(None, self.inputs.len())
    }

    /// The gradient of the only operand.
    pub fn only(&self, gradient: ValueId) -> Gradients {
        [Some(gradient)].into_iter().collect()
    }

    /// Says why there is no gradient.
    pub fn refuse(&mut self, reason: impl Into<String>) -> Gradients {
        self.refusal = Some(reason.into());
        self.nothing()
    }

    /// Puts an operation with the same operands and at least the same outputs in the node's place: one that saves more
    /// for the gradient.
    pub fn extend(&mut self, op: impl Into<Op>) {
        let name = self.build.graph().node(self.node).name.clone();
        let new = self.build.node(&name, op.into(), &self.inputs.clone()).node;
        self.build.replace_node(self.node, new);
        self.node = new;
    }

    /// The values of a constant, where `value` is one.
    pub fn constant_of(&self, value: ValueId) -> Option<Array> {
        match &self.build.graph().node(value.node).op {
            Op::Constant(constant) => Some(constant.tensor.to_array()),
            _ => None,
        }
    }
}

impl Compose for Backward<'_> {
    fn graph(&self) -> &Graph {
        self.build.graph()
    }

    fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.build.node(&self.name, op.into(), inputs)
    }
}
