//! Axes of length 1 repeated, and whole tensors repeated.

use super::common::{Length, indices};
use super::map::broadcast_at;
use super::*;
use crate::Dim;
use crate::kernel::{Index, KernelBuilder};

/// Axes of length 1 take the lengths of `shape`; new axes may stand in front.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expand {
    /// The new lengths; -1 keeps an axis of the input as it is.
    pub shape: SmallVec<[Length; 4]>,
}

/// The tensor `repeats[i]` times along axis `i`. Of a short list the last entry is for the last axis; a long one gives
/// the input new axes in front.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// How often the tensor is repeated along each axis.
    pub repeats: SmallVec<[u32; 4]>,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "Expand",
        about: "repeats axes of length 1",
        read: |fields| crate::text::read(fields).map(Op::Expand),
    },
    LayerKind {
        name: "Tile",
        about: "repeats the whole tensor along each axis",
        read: |fields| crate::text::read(fields).map(Op::Tile),
    },
];

impl OpSpec for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn bind(&self, bindings: &crate::Bindings) -> Option<Op> {
        let shape = self.shape.iter().map(|length| length.bind(bindings)).collect();
        Some(Op::Expand(Expand { shape }))
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let input = inputs[0];
        let Some(new) = self.shape.len().checked_sub(input.rank()) else {
            let expected = format!("at least {} lengths (the input is {input})", input.rank());
            let help = "write a length for each axis, -1 to keep it";
            return Err(Mismatch::new(expected, format!("{}", self.shape.len()), help).in_field("shape"));
        };
        let mut shape = Vec::with_capacity(self.shape.len());
        for (axis, length) in self.shape.iter().enumerate() {
            let own = axis.checked_sub(new).map(|axis| &input.shape[axis]);
            let wrong = |expected: String, found: String| {
                Err(Mismatch::new(expected, found, "only axes of length 1 can be repeated").in_field("shape"))
            };
            shape.push(match (length.dim("shape")?, own) {
                (None, Some(own)) => own.clone(),
                (None, None) => return wrong("a length for each new axis".to_string(), format!("-1 at axis {axis}")),
                (Some(dim), None) => dim,
                (Some(dim), Some(own)) if *own == Dim::Known(1) || *own == dim => dim,
                // A symbol that another pass has bound.
                (Some(Dim::Symbolic(_)), Some(own @ Dim::Known(_))) => own.clone(),
                (Some(dim), Some(own)) => return wrong(format!("{own}, or -1, at axis {axis}"), dim.to_string()),
            });
        }
        Ok([TensorType::new(input.dtype, shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let value = k.load(input, broadcast_at(input, &axes));
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (dims, upstream) = (back.dims(back.input(0)), back.upstream());
        let gradient = back.sum_to(upstream, &dims);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        vec![Array::from_fn(&dims, |at| repeated(inputs[0], at))]
    }
}

/// The element at `at` of the input repeated without end, new axes in front.
fn repeated(input: &Array, at: &[usize]) -> f64 {
    let own = &at[at.len() - input.dims.len()..];
    let own: Vec<usize> = own.iter().zip(&input.dims).map(|(i, n)| i % n).collect();
    input.at(&own)
}

impl OpSpec for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        if self.repeats.contains(&0) {
            return Err(Mismatch::new("1 or more", "0", "write how often each axis is repeated").in_field("repeats"));
        }
        let rank = self.repeats.len().max(inputs[0].rank());
        let (new, plain) = (rank - inputs[0].rank(), rank - self.repeats.len());
        let shape = (0..rank).map(|axis| {
            let own = axis.checked_sub(new).map_or(Dim::Known(1), |axis| inputs[0].shape[axis].clone());
            own * axis.checked_sub(plain).map_or(1, |axis| self.repeats[axis])
        });
        Ok([TensorType::new(inputs[0].dtype, shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let new = out.dims.len() - input.dims.len();
        let lengths: Vec<usize> =
            (0..out.dims.len()).map(|i| i.checked_sub(new).map_or(1, |i| input.dims[i])).collect();
        // Each output axis is two of the loop: which copy, and where in it. Both ends are affine.
        let copies = out.dims.iter().zip(&lengths).map(|(n, length)| n.checked_div(*length).unwrap_or(0));
        let space: Vec<usize> = copies.chain(lengths.iter().copied()).collect();
        let mut k = KernelBuilder::new(&space);
        let axes = k.outer_axes();
        let (copy, within) = axes.split_at(lengths.len());
        let value = k.load(input, indices(&within[new..]));
        let to = (0..lengths.len()).map(|i| Index::from(copy[i] * lengths[i] as i64 + within[i]));
        k.store(out, to, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (dims, upstream) = (back.dims(back.input(0)), back.upstream());
        let all = back.dims(upstream);
        let new = all.len() - dims.len();
        // Each axis is two: which copy, and where in it.
        let lengths = (0..all.len()).map(|i| i.checked_sub(new).map_or(1, |i| dims[i]));
        let pairs: Vec<usize> = all.iter().zip(lengths).flat_map(|(&n, length)| [n / length, length]).collect();
        let copies: Vec<usize> = (0..all.len()).map(|i| 2 * i).filter(|&i| pairs[i] > 1).collect();
        let apart = back.reshaped(upstream, &pairs);
        let sum = back.summed(apart, &copies);
        let gradient = back.reshaped(sum, &dims);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        vec![Array::from_fn(&dims, |at| repeated(inputs[0], at))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(input: &TensorType, lengths: &[i64]) -> Result<String, Mismatch> {
        let op = Expand { shape: lengths.iter().map(|&n| Length::Number(n)).collect() };
        op.infer(&[input]).map(|types| types[0].to_string())
    }

    #[test]
    fn only_axes_of_one_grow() {
        let ty = TensorType::f32([Dim::symbol("N"), 1.into(), 3.into()]);
        assert_eq!(expand(&ty, &[-1, 4, 3]).as_deref(), Ok("f32[N, 4, 3]"));
        assert_eq!(expand(&ty, &[5, -1, 4, -1]).as_deref(), Ok("f32[5, N, 4, 3]"));
        assert_eq!(expand(&ty, &[-1, 4, 6]).unwrap_err().expected, "3, or -1, at axis 2");
        assert_eq!(expand(&ty, &[2, 4, 3]).unwrap_err().expected, "N, or -1, at axis 0");
        assert_eq!(expand(&ty, &[-1, -1, -1, -1]).unwrap_err().found, "-1 at axis 0");
        assert_eq!(expand(&ty, &[3]).unwrap_err().field, Some("shape"));
    }

    #[test]
    fn tiles_multiply_lengths() {
        let ty = TensorType::f32([Dim::symbol("N"), 3.into()]);
        let tile = |repeats: &[u32]| Tile { repeats: repeats.into() }.infer(&[&ty]).map(|types| types[0].to_string());
        assert_eq!(tile(&[2]).as_deref(), Ok("f32[N, 6]"));
        assert_eq!(tile(&[4, 2, 1]).as_deref(), Ok("f32[4, 2*N, 3]"));
        assert_eq!(tile(&[0]).unwrap_err().field, Some("repeats"));
    }
}
