//! Local response normalisation across neighbouring channels.

use super::common::expect_float;
use super::window::{Padding, PerAxis};
use super::*;
use crate::graph::ValueId;
use crate::kernel::{BinaryOp, FoldKind, Index, KernelBuilder, Literal};

/// Input `[batch, channels, spatial...]`; output has its shape: `x / (k + alpha / size * sum of squares) ^ beta`, where
/// the sum is over the channels from `c - size / 2` to `c + (size - 1) / 2` (Krizhevsky et al. 2012, section 3.3; dividing
/// alpha by the size is PyTorch's).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    /// The number of neighbouring channels.
    pub size: u32,
    /// The weight of the mean of squares.
    #[serde(default = "alpha", skip_serializing_if = "is_alpha")]
    pub alpha: Real,
    /// The exponent.
    #[serde(default = "beta", skip_serializing_if = "is_beta")]
    pub beta: Real,
    /// Added to the weighted mean of squares.
    #[serde(default = "k", skip_serializing_if = "is_k")]
    pub k: Real,
}

fn alpha() -> Real {
    Real(1e-4)
}

fn is_alpha(alpha: &Real) -> bool {
    *alpha == self::alpha()
}

fn beta() -> Real {
    Real(0.75)
}

fn is_beta(beta: &Real) -> bool {
    *beta == self::beta()
}

fn k() -> Real {
    Real(1.0)
}

fn is_k(k: &Real) -> bool {
    *k == self::k()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "LocalResponseNorm",
    about: "divides by a power of the squares of neighbouring channels",
    read: |fields| crate::text::read(fields).map(Op::LocalResponseNorm),
}];

impl LocalResponseNorm {
    /// How many channels in front of and behind its own count: farther ones are outside for every channel.
    fn reach(&self, channels: usize) -> (usize, usize) {
        let (size, farthest) = (self.size as usize, channels.saturating_sub(1));
        ((size / 2).min(farthest), ((size - 1) / 2).min(farthest))
    }

    /// The sum of each channel and its neighbours; or, turned round, of the channels that it is a neighbour of.
    fn neighbours(&self, back: &mut Backward, value: ValueId, dims: &[usize], turned: bool) -> ValueId {
        let (mut before, mut after) = self.reach(dims[1]);
        if turned {
            (before, after) = (after, before);
        }
        let window = PerAxis::Each([(before + 1 + after) as u32, 1].into_iter().collect());
        let sums = AvgPool {
            spatial: 2,
            kernel_size: window,
            stride: Some(PerAxis::All(1)),
            padding: Padding::Pairs([(before as u32, after as u32), (0, 0)].into_iter().collect()),
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: Some(1),
        };
        let flat = back.reshaped(value, &[dims[0], 1, dims[1], dims[2..].iter().product()]);
        let sum = back.node(sums, &[flat]);
        back.reshaped(sum, dims)
    }
}

impl OpSpec for LocalResponseNorm {
    fn name(&self) -> &'static str {
        "LocalResponseNorm"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        if inputs[0].rank() < 3 {
            let expected = "an input of shape [batch, channels, spatial...]";
            return Err(Mismatch::new(expected, inputs[0].to_string(), "reshape the input"));
        }
        if self.size == 0 {
            let help = "the size counts the channel itself";
            return Err(Mismatch::new("a size of 1 or more", "0", help).in_field("size"));
        }
        Ok([inputs[0].clone()].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let size = self.size as usize;
        let (before, after) = self.reach(input.dims[1]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let mut at: Vec<Index> = axes.iter().map(|&axis| axis.into()).collect();
        at[1] = (axes[1] + k.inner(0) - before as i64).into();
        let neighbour = k.load_or(input, at, Literal::f32(0.0));
        let square = k.mul(neighbour, neighbour);
        let sum = k.fold(FoldKind::Sum, &[before + 1 + after], square);
        let factor = k.number(self.alpha.0 / size as f64);
        let weighted = k.mul(sum, factor);
        let offset = k.number(self.k.0);
        let base = k.add(weighted, offset);
        let exponent = k.number(self.beta.0);
        let divisor = k.binary(BinaryOp::Pow, base, exponent);
        let x = k.load(input, axes.clone());
        let value = k.div(x, divisor);
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (input, upstream) = (back.input(0), back.upstream());
        let dims = back.dims(input);
        let (beta, factor) = (self.beta.0, self.alpha.0 / f64::from(self.size));
        let square = back.mul(input, input);
        let sum = self.neighbours(back, square, &dims, false);
        let weighted = back.scaled(sum, factor);
        let offset = back.number(self.k.0);
        let base = back.add(weighted, offset);
        let exponent = back.number(-beta);
        let scale = back.map("Pow", &[base, exponent]);
        let direct = back.mul(upstream, scale);
        // By way of the neighbours' sums: each has this channel among its squares.
        let product = back.mul(direct, input);
        let product = back.map("Div", &[product, base]);
        let sum = self.neighbours(back, product, &dims, true);
        let sum = back.mul(sum, input);
        let indirect = back.scaled(sum, 2.0 * factor * beta);
        let gradient = back.sub(direct, indirect);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let (input, size) = (inputs[0], self.size as usize);
        let output = Array::from_fn(&input.dims, |at| {
            let first = at[1].saturating_sub(size / 2);
            let end = (at[1] + (size - 1) / 2 + 1).min(input.dims[1]);
            let mut sum = 0.0;
            for channel in first..end {
                let mut neighbour = at.to_vec();
                neighbour[1] = channel;
                sum += input.at(&neighbour).powi(2);
            }
            input.at(at) / (self.k.0 + self.alpha.0 * sum / size as f64).powf(self.beta.0)
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dim;

    fn infer(size: u32, input: &TensorType) -> Result<Types, Mismatch> {
        LocalResponseNorm { size, alpha: alpha(), beta: beta(), k: k() }.infer(&[input])
    }

    #[test]
    fn shapes_and_refusals() {
        let input = TensorType::f32([Dim::symbol("N"), 6.into(), Dim::symbol("H"), 7.into()]);
        assert_eq!(infer(5, &input).unwrap()[0], input);
        assert_eq!(infer(u32::MAX, &input).unwrap()[0], input);
        assert_eq!(infer(0, &input).unwrap_err().field, Some("size"));
        let error = infer(5, &TensorType::f32([2, 6])).unwrap_err();
        assert_eq!(error.expected, "an input of shape [batch, channels, spatial...]");
    }
}
