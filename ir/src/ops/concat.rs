//! Tensors joined along an axis they have, or along a new one. Each input is copied to its place in the output by a
//! kernel of its own, which disappears where the producer can write there itself.

use super::common::{agreed, indices, indices_with};
use super::conv::is_default;
use super::reshape::axis_of;
use super::*;
use crate::Dim;
use crate::kernel::{Index, KernelBuilder};

/// Tensors one behind the other along `dim`; all other axes are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The axis along which they are joined.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dim: i32,
}

/// Tensors of one shape along the new axis `dim`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The place of the new axis.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dim: i32,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "Concat",
        about: "joins tensors along an axis",
        read: |fields| crate::text::read(fields).map(Op::Concat),
    },
    LayerKind {
        name: "Stack",
        about: "joins tensors of one shape along a new axis",
        read: |fields| crate::text::read(fields).map(Op::Stack),
    },
];

/// Takes the element types and lengths of all inputs together; `free` may differ and becomes the sum.
fn joined(inputs: &[&TensorType], free: Option<usize>) -> Result<TensorType, Mismatch> {
    let mut all = inputs[0].clone();
    for input in &inputs[1..] {
        let wrong = |expected: &str| Mismatch::new(expected, format!("{all} and {input}"), "change one of the inputs");
        if input.dtype != all.dtype || input.rank() != all.rank() {
            return Err(wrong("inputs of one element type and rank"));
        }
        let mut shape = all.shape.clone();
        for (axis, (dim, other)) in shape.iter_mut().zip(&input.shape).enumerate() {
            *dim = match free {
                Some(free) if free == axis => dim.clone() + other.clone(),
                _ => agreed(dim, other).ok_or_else(|| wrong("inputs whose other axes are equal"))?,
            };
        }
        all.shape = shape;
    }
    Ok(all)
}

impl OpSpec for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::at_least(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let dim = axis_of(self.dim, inputs[0].rank(), "dim")?;
        Ok([joined(inputs, Some(dim))?].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let out = &site.outputs[0];
        let dim = axis_of(self.dim, out.dims.len(), "dim").expect("verified: the axis exists");
        let mut start = 0;
        let place = |input: &Operand| {
            let mut k = KernelBuilder::new(&input.dims);
            let axes = k.outer_axes();
            let to = indices_with(&axes, dim, axes[dim] + start);
            start += input.dims[dim] as i64;
            let value = k.load(input, axes);
            k.store(out, to, value);
            k.finish()
        };
        site.inputs.iter().map(place).collect()
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let upstream = back.upstream();
        let dim = axis_of(self.dim, back.ty(upstream).rank(), "dim").expect("verified: the axis exists");
        let mut gradients = back.nothing();
        let mut start = 0;
        for i in 0..gradients.len() {
            let n = back.dims(back.input(i))[dim];
            if back.wants(i) {
                gradients[i] = Some(back.range(upstream, dim, start, n));
            }
            start += n;
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        let output = Array::from_fn(&dims, |at| {
            let mut at = at.to_vec();
            let mut input = inputs.iter();
            let mut source = input.next().expect("verified: at least one input");
            while at[dim] >= source.dims[dim] {
                at[dim] -= source.dims[dim];
                source = input.next().expect("verified: lengths add up");
            }
            source.at(&at)
        });
        vec![output]
    }
}

impl OpSpec for Stack {
    fn name(&self) -> &'static str {
        "Stack"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::at_least(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let dim = axis_of(self.dim, inputs[0].rank() + 1, "dim")?;
        let mut all = joined(inputs, None)?;
        all.shape.insert(dim, Dim::from(inputs.len()));
        Ok([all].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let out = &site.outputs[0];
        let dim = axis_of(self.dim, out.dims.len(), "dim").expect("verified: the axis exists");
        let place = |(i, input): (usize, &Operand)| {
            let mut k = KernelBuilder::new(&input.dims);
            let axes = k.outer_axes();
            let mut to = indices(&axes);
            to.insert(dim, Index::from(i as i64));
            let value = k.load(input, axes);
            k.store(out, to, value);
            k.finish()
        };
        site.inputs.iter().enumerate().map(place).collect()
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let upstream = back.upstream();
        let dim = axis_of(self.dim, back.ty(upstream).rank(), "dim").expect("verified: the axis exists");
        let mut gradients = back.nothing();
        for i in 0..gradients.len() {
            if back.wants(i) {
                gradients[i] = Some(back.node(Select { dim: dim as i32, index: i as i64 }, &[upstream]));
            }
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        let output = Array::from_fn(&dims, |at| {
            let mut at = at.to_vec();
            let input = at.remove(dim);
            inputs[input].at(&at)
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_add_up() {
        let (n, h) = (Dim::symbol("N"), Dim::symbol("H"));
        let a = TensorType::f32([n.clone(), h.clone(), 3.into()]);
        let b = TensorType::f32([n.clone(), h.clone() * 2, 3.into()]);
        assert_eq!(Concat { dim: -2 }.infer(&[&a, &b]).unwrap()[0], TensorType::f32([n, h * 3, 3.into()]));
        let mismatch = Concat { dim: 0 }.infer(&[&a, &b]).unwrap_err();
        assert_eq!(mismatch.expected, "inputs whose other axes are equal");
        assert_eq!(mismatch.found, "f32[N, H, 3] and f32[N, 2*H, 3]");
    }

    #[test]
    fn a_stack_has_a_new_axis() {
        let a = TensorType::f32([2usize, 3]);
        assert_eq!(Stack { dim: -1 }.infer(&[&a, &a]).unwrap()[0], TensorType::f32([2usize, 3, 2]));
        assert_eq!(Stack { dim: 3 }.infer(&[&a, &a]).unwrap_err().field, Some("dim"));
        let labels = TensorType::new(DType::I64, [2usize, 3]);
        assert_eq!(Stack { dim: 0 }.infer(&[&a, &labels]).unwrap_err().expected, "inputs of one element type and rank");
    }
}
