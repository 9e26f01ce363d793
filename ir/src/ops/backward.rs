//! Where the gradient of a node is built: its operands, what reaches its outputs, and the usual steps.

use super::common::Length;
use super::*;
use crate::graph::{NodeId, ValueId};
use crate::tensor::{Data, Tensor};
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

    /// The lengths of the axes of a value.
    pub fn dims(&self, value: ValueId) -> Vec<usize> {
        self.build.graph().value_type(value).dims().expect("verified: gradients are built of bound graphs")
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.build.graph().value_type(value)
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

    /// Adds an operation.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.build.node(&self.name, op.into(), inputs)
    }

    /// Adds an elementwise function with its default attributes.
    pub fn map(&mut self, function: &str, inputs: &[ValueId]) -> ValueId {
        self.node(Map::named(function).expect("a row of the table"), inputs)
    }

    /// a + b.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.map("Add", &[a, b])
    }

    /// a - b.
    pub fn sub(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.map("Sub", &[a, b])
    }

    /// a * b.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.map("Mul", &[a, b])
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.node(Constant::new(tensor), &[])
    }

    /// An f32 constant of one element and no axes, rounded from `number`.
    pub fn number(&mut self, number: f64) -> ValueId {
        self.numbers(&[], &[number])
    }

    /// An f32 constant.
    pub fn numbers(&mut self, dims: &[usize], numbers: &[f64]) -> ValueId {
        self.constant(Tensor::new(dims, Data::from_f64(DType::F32, numbers)))
    }

    /// `value * factor`.
    pub fn scaled(&mut self, value: ValueId, factor: f64) -> ValueId {
        if factor == 1.0 {
            return value;
        }
        let factor = self.number(factor);
        self.mul(value, factor)
    }

    /// The same elements under other axes.
    pub fn reshaped(&mut self, value: ValueId, dims: &[usize]) -> ValueId {
        if self.dims(value) == dims {
            return value;
        }
        self.node(Reshape { shape: lengths(dims) }, &[value])
    }

    /// Repeated to fill these axes.
    pub fn expanded(&mut self, value: ValueId, dims: &[usize]) -> ValueId {
        if self.dims(value) == dims {
            return value;
        }
        self.node(Expand { shape: lengths(dims) }, &[value])
    }

    /// The last two axes exchanged.
    pub fn transposed(&mut self, value: ValueId) -> ValueId {
        self.node(Transpose { dim0: -1, dim1: -2 }, &[value])
    }

    /// The sum over axes, which keep the length 1.
    pub fn summed(&mut self, value: ValueId, axes: &[usize]) -> ValueId {
        self.reduced(Reduction::Sum, value, axes)
    }

    /// A reduction over axes, which keep the length 1.
    pub fn reduced(&mut self, function: Reduction, value: ValueId, axes: &[usize]) -> ValueId {
        if axes.is_empty() {
            return value;
        }
        self.node(Reduce::over(function, axes.iter().map(|&axis| axis as i32), true), &[value])
    }

    /// The gradient of what was broadcast from `dims`: the sum of all that came from one element.
    pub fn sum_to(&mut self, value: ValueId, dims: &[usize]) -> ValueId {
        let own = self.dims(value);
        let new = own.len() - dims.len();
        let axes: Vec<usize> =
            (0..own.len()).filter(|&axis| axis < new || dims[axis - new] == 1 && own[axis] != 1).collect();
        let sum = self.summed(value, &axes);
        self.reshaped(sum, dims)
    }

    /// Zeros of these axes.
    pub fn zeros(&mut self, dims: &[usize]) -> ValueId {
        let zero = self.number(0.0);
        self.expanded(zero, dims)
    }

    /// The first `n` elements along an axis.
    pub fn first(&mut self, value: ValueId, axis: usize, n: usize) -> ValueId {
        self.range(value, axis, 0, n)
    }

    /// `n` elements along an axis, from `start` on.
    pub fn range(&mut self, value: ValueId, axis: usize, start: usize, n: usize) -> ValueId {
        if start == 0 && self.dims(value)[axis] == n {
            return value;
        }
        let (start, end) = (start as i64, (start + n) as i64);
        self.node(Slice { dim: axis as i32, start, end, step: 1 }, &[value])
    }

    /// The values of a constant, where `value` is one.
    pub fn constant_of(&self, value: ValueId) -> Option<Array> {
        match &self.build.graph().node(value.node).op {
            Op::Constant(constant) => Some(constant.tensor.to_array()),
            _ => None,
        }
    }
}

/// Lengths as attributes.
fn lengths(dims: &[usize]) -> SmallVec<[Length; 4]> {
    dims.iter().map(|&n| Length::Number(n as i64)).collect()
}
