//! Writing nodes one below the other: what gradients, training and updates are composed with.

use super::common::Length;
use super::*;
use crate::graph::{Graph, ValueId};
use crate::tensor::{Data, Tensor};

/// A place where nodes are added, under a name of its own. All types are concrete.
pub trait Compose {
    /// The graph so far.
    fn graph(&self) -> &Graph;

    /// Adds an operation.
    ///
    /// # Panics
    /// Where the operands do not fit it.
    fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId;

    /// The lengths of the axes of a value.
    fn dims(&self, value: ValueId) -> Vec<usize> {
        self.graph().value_type(value).dims().expect("verified: nodes are composed in bound graphs")
    }

    /// The type of a value.
    fn ty(&self, value: ValueId) -> &TensorType {
        self.graph().value_type(value)
    }

    /// Adds an elementwise function with its default attributes.
    fn map(&mut self, function: &str, inputs: &[ValueId]) -> ValueId {
        self.node(Map::named(function).expect("a row of the table"), inputs)
    }

    /// a + b.
    fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.map("Add", &[a, b])
    }

    /// a - b.
    fn sub(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.map("Sub", &[a, b])
    }

    /// a * b.
    fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.map("Mul", &[a, b])
    }

    /// a / b.
    fn div(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.map("Div", &[a, b])
    }

    /// `kept * old + (1 - kept) * new`.
    fn mixed(&mut self, old: ValueId, new: ValueId, kept: f64) -> ValueId {
        let (old, new) = (self.scaled(old, kept), self.scaled(new, 1.0 - kept));
        self.add(old, new)
    }

    /// A constant.
    fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.node(Constant::new(tensor), &[])
    }

    /// An f32 constant of one element and no axes, rounded from `number`.
    fn number(&mut self, number: f64) -> ValueId {
        self.numbers(&[], &[number])
    }

    /// An f32 constant.
    fn numbers(&mut self, dims: &[usize], numbers: &[f64]) -> ValueId {
        self.constant(Tensor::new(dims, Data::from_f64(DType::F32, numbers)))
    }

    /// `value * factor`.
    fn scaled(&mut self, value: ValueId, factor: f64) -> ValueId {
        if factor == 1.0 {
            return value;
        }
        let factor = self.number(factor);
        self.mul(value, factor)
    }

    /// The same elements under other axes.
    fn reshaped(&mut self, value: ValueId, dims: &[usize]) -> ValueId {
        if self.dims(value) == dims {
            return value;
        }
        self.node(Reshape { shape: lengths(dims) }, &[value])
    }

    /// Repeated to fill these axes.
    fn expanded(&mut self, value: ValueId, dims: &[usize]) -> ValueId {
        if self.dims(value) == dims {
            return value;
        }
        self.node(Expand { shape: lengths(dims) }, &[value])
    }

    /// The last two axes exchanged.
    fn transposed(&mut self, value: ValueId) -> ValueId {
        self.node(Transpose { dim0: -1, dim1: -2 }, &[value])
    }

    /// The sum over axes, which keep the length 1.
    fn summed(&mut self, value: ValueId, axes: &[usize]) -> ValueId {
        self.reduced(Reduction::Sum, value, axes)
    }

    /// A reduction over axes, which keep the length 1.
    fn reduced(&mut self, function: Reduction, value: ValueId, axes: &[usize]) -> ValueId {
        if axes.is_empty() {
            return value;
        }
        self.node(Reduce::over(function, axes.iter().map(|&axis| axis as i32), true), &[value])
    }

    /// The gradient of what was broadcast from `dims`: the sum of all that came from one element.
    fn sum_to(&mut self, value: ValueId, dims: &[usize]) -> ValueId {
        let own = self.dims(value);
        let new = own.len() - dims.len();
        let axes: Vec<usize> =
            (0..own.len()).filter(|&axis| axis < new || dims[axis - new] == 1 && own[axis] != 1).collect();
        let sum = self.summed(value, &axes);
        self.reshaped(sum, dims)
    }

    /// Zeros of these axes.
    fn zeros(&mut self, dims: &[usize]) -> ValueId {
        let zero = self.number(0.0);
        self.expanded(zero, dims)
    }

    /// The first `n` elements along an axis.
    fn first(&mut self, value: ValueId, axis: usize, n: usize) -> ValueId {
        self.range(value, axis, 0, n)
    }

    /// `n` elements along an axis, from `start` on.
    fn range(&mut self, value: ValueId, axis: usize, start: usize, n: usize) -> ValueId {
        if start == 0 && self.dims(value)[axis] == n {
            return value;
        }
        let (start, end) = (start as i64, (start + n) as i64);
        self.node(Slice { dim: axis as i32, start, end, step: 1 }, &[value])
    }
}

/// Lengths as attributes.
fn lengths(dims: &[usize]) -> SmallVec<[Length; 4]> {
    dims.iter().map(|&n| Length::Number(n as i64)).collect()
}
