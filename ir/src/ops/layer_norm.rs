//! Layer normalisation over the last axes.

use super::common::expect_float;
use super::conv::{is_yes, yes};
use super::norm::{self, Grouped, is_small, small};
use super::window::PerAxis;
use super::*;
use crate::Dim;
use crate::kernel::{Affine, Axis};

/// Input `[..., normalized_shape...]`, weight and bias of `[normalized_shape...]`. Output has the shape of the input:
/// `(x - mean) / sqrt(variance + eps) * weight + bias` with the mean and (biased) variance over the normalised axes (Ba et
/// al. 2016).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// The lengths of the last axes; a number stands for the last axis alone.
    pub normalized_shape: PerAxis,
    /// Added to the variance.
    #[serde(default = "small", skip_serializing_if = "is_small")]
    pub eps: Real,
    /// Whether there is a `weight`.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub elementwise_affine: bool,
    /// Whether there is a `bias` too.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "LayerNorm",
    about: "normalises over the last axes",
    read: |fields| crate::text::read(fields).map(Op::LayerNorm),
}];

impl LayerNorm {
    fn lengths(&self) -> Vec<Dim> {
        match &self.normalized_shape {
            PerAxis::All(n) => vec![(*n).into()],
            PerAxis::Each(list) => list.iter().map(|&n| n.into()).collect(),
        }
    }

    fn check(&self, input: &TensorType) -> Result<(), Mismatch> {
        expect_float(input)?;
        norm::check_eps(self.eps)?;
        let lengths = self.lengths();
        let wanted: Vec<String> = lengths.iter().map(Dim::to_string).collect();
        let fits = !lengths.is_empty()
            && input.rank() >= lengths.len()
            && input.shape[input.rank() - lengths.len()..].iter().zip(&lengths).all(|(a, b)| a.may_equal(b));
        if fits && !lengths.contains(&Dim::Known(0)) {
            return Ok(());
        }
        let expected = match lengths.is_empty() || lengths.contains(&Dim::Known(0)) {
            true => "lengths of one or more axes, each 1 or more".to_string(),
            false => format!("an input of shape [..., {}]", wanted.join(", ")),
        };
        let found = format!("{input} with normalized_shape [{}]", wanted.join(", "));
        let help = "write the lengths of the last axes";
        Err(Mismatch::new(expected, found, help).in_field("normalized_shape"))
    }
}

impl OpSpec for LayerNorm {
    fn name(&self) -> &'static str {
        "LayerNorm"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn parameters(&self, inputs: &[&TensorType]) -> Result<Vec<ParameterSpec>, Mismatch> {
        self.check(inputs[0])?;
        Ok(norm::affine(&self.lengths(), self.elementwise_affine, self.elementwise_affine && self.bias))
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        self.check(inputs[0])?;
        Ok([inputs[0].clone()].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let (outer, inner) = input.dims.split_at(input.dims.len() - self.lengths().len());
        let at: Vec<Affine> = (0..input.dims.len() as u32).map(|axis| Axis(axis).into()).collect();
        let kernel = Grouped {
            outer,
            inner,
            affine_at: at[outer.len()..].to_vec(),
            at,
            eps: self.eps.0,
            weight: site.inputs.get(1),
            bias: site.inputs.get(2),
        };
        vec![kernel.lower(input, out)]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dims = back.dims(back.input(0));
        let first = dims.len() - self.lengths().len();
        let axes: Vec<usize> = (first..dims.len()).collect();
        norm::gradient(back, &dims, &axes, &dims[first..], self.eps.0)
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let input = inputs[0];
        let size: usize = input.dims[input.dims.len() - self.lengths().len()..].iter().product();
        let (weight, bias) = (inputs.get(1), inputs.get(2));
        let n_groups = input.data.len().checked_div(size).unwrap_or(0);
        let row = |at: &[usize]| input.flat(at) / size;
        vec![norm::reference_grouped(input, self.eps.0, weight, bias, n_groups, row, |at| input.flat(at) % size)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(shape: &[u32]) -> LayerNorm {
        let normalized_shape = PerAxis::Each(shape.iter().copied().collect());
        LayerNorm { normalized_shape, eps: small(), elementwise_affine: true, bias: true }
    }

    #[test]
    fn shapes() {
        let input = TensorType::f32([Dim::symbol("N"), Dim::symbol("T"), 64.into()]);
        let one = LayerNorm { normalized_shape: PerAxis::All(64), ..layer(&[]) };
        assert_eq!(one.infer(&[&input]).unwrap()[0], input);
        let parameters = layer(&[5, 64]).parameters(&[&input]).unwrap();
        assert_eq!(parameters.len(), 2);
        assert_eq!(parameters[1].ty, TensorType::f32([5, 64]));
        let scale = LayerNorm { bias: false, ..layer(&[64]) };
        assert_eq!(scale.parameters(&[&input]).unwrap().len(), 1);
        let plain = LayerNorm { elementwise_affine: false, ..layer(&[64]) };
        assert_eq!(plain.parameters(&[&input]).unwrap().len(), 0);
    }

    #[test]
    fn refusals() {
        let wrong = |shape: &[u32]| layer(shape).infer(&[&TensorType::f32([2, 3, 4])]).unwrap_err();
        assert_eq!(wrong(&[3]).expected, "an input of shape [..., 3]");
        assert_eq!(wrong(&[3]).found, "f32[2, 3, 4] with normalized_shape [3]");
        assert_eq!(wrong(&[3]).field, Some("normalized_shape"));
        assert_eq!(wrong(&[1, 2, 3, 4]).expected, "an input of shape [..., 1, 2, 3, 4]");
        assert_eq!(wrong(&[]).expected, "lengths of one or more axes, each 1 or more");
        assert_eq!(wrong(&[0]).expected, "lengths of one or more axes, each 1 or more");
    }
}
