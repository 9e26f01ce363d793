//! Group normalisation over groups of channels.

use super::common::expect_float;
use super::conv::{is_yes, yes};
use super::norm::{self, Grouped, is_small, small};
use super::*;
use crate::Dim;
use crate::kernel::{Affine, Axis};

/// Input `[batch, channels, spatial...]`, weight and bias of `[channels]`. Output has the shape of the input:
/// `(x - mean) / sqrt(variance + eps) * weight + bias` with the mean and (biased) variance over `channels / num_groups`
/// neighbouring channels and all spatial axes (Wu and He 2018).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// The number of groups; divides the channels.
    pub num_groups: u32,
    /// Added to the variance.
    #[serde(default = "small", skip_serializing_if = "is_small")]
    pub eps: Real,
    /// Whether there are `weight` and `bias`.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub affine: bool,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "GroupNorm",
    about: "normalises over groups of channels",
    read: |fields| crate::text::read(fields).map(Op::GroupNorm),
}];

impl GroupNorm {
    fn channels<'a>(&self, input: &'a TensorType) -> Result<&'a Dim, Mismatch> {
        expect_float(input)?;
        norm::check_eps(self.eps)?;
        let Some(channels) = input.shape.get(1) else {
            let expected = "an input of shape [batch, channels, spatial...]";
            return Err(Mismatch::new(expected, input.to_string(), "reshape the input"));
        };
        let groups = i64::from(self.num_groups);
        if groups == 0 || matches!(channels, Dim::Known(n) if n % groups != 0) {
            return Err(Mismatch::new(
                format!("a number of groups that divides the {channels} channels"),
                format!("{groups}"),
                "change `num_groups`, or the channels of the layer before",
            )
            .in_field("num_groups"));
        }
        Ok(channels)
    }
}

impl OpSpec for GroupNorm {
    fn name(&self) -> &'static str {
        "GroupNorm"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn parameters(&self, inputs: &[&TensorType]) -> Result<Vec<ParameterSpec>, Mismatch> {
        let channels = self.channels(inputs[0])?;
        Ok(norm::affine(std::slice::from_ref(channels), self.affine, self.affine))
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        self.channels(inputs[0])?;
        Ok([inputs[0].clone()].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let (batch, group, member) = (Axis(0), Axis(1), Axis(2));
        let groups = self.num_groups as usize;
        let members = input.dims[1] / groups;
        let inner: Vec<usize> = [members].iter().chain(&input.dims[2..]).copied().collect();
        let channel = group * members as i64 + member;
        let mut at: Vec<Affine> = vec![batch.into(), channel.clone()];
        at.extend((0..input.dims.len() - 2).map(|i| Affine::from(Axis(3 + i as u32))));
        let kernel = Grouped {
            outer: &[input.dims[0], groups],
            inner: &inner,
            at,
            affine_at: vec![channel],
            eps: self.eps.0,
            weight: site.inputs.get(1),
            bias: site.inputs.get(2),
        };
        vec![kernel.lower(input, out)]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dims = back.dims(back.input(0));
        let groups = self.num_groups as usize;
        let members = dims[1..].iter().product::<usize>() / groups;
        norm::gradient(back, &[dims[0], groups, members], &[2], &norm::along_channels(&dims, 1), self.eps.0)
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let (input, weight, bias) = (inputs[0], inputs.get(1), inputs.get(2));
        let groups = self.num_groups as usize;
        let members = (input.dims[1] / groups).max(1);
        let group = |at: &[usize]| at[0] * groups + at[1] / members;
        vec![norm::reference_grouped(input, self.eps.0, weight, bias, input.dims[0] * groups, group, |at| at[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(num_groups: u32) -> GroupNorm {
        GroupNorm { num_groups, eps: small(), affine: true }
    }

    #[test]
    fn shapes() {
        let input = TensorType::f32([Dim::symbol("N"), 6.into(), Dim::symbol("H"), 7.into()]);
        assert_eq!(layer(3).infer(&[&input]).unwrap()[0], input);
        let parameters = layer(3).parameters(&[&input]).unwrap();
        assert!(parameters.len() == 2 && parameters.iter().all(|spec| spec.ty == TensorType::f32([6])));
        assert!(GroupNorm { affine: false, ..layer(3) }.parameters(&[&input]).unwrap().is_empty());
    }

    #[test]
    fn refusals() {
        let wrong = |groups, input: TensorType| layer(groups).infer(&[&input]).unwrap_err();
        let error = wrong(4, TensorType::f32([2, 6, 5]));
        assert_eq!(error.expected, "a number of groups that divides the 6 channels");
        assert_eq!((error.found.as_str(), error.field), ("4", Some("num_groups")));
        assert_eq!(wrong(0, TensorType::f32([2, 6])).field, Some("num_groups"));
        assert_eq!(wrong(u32::MAX, TensorType::f32([2, 6])).field, Some("num_groups"));
        assert_eq!(wrong(1, TensorType::f32([6])).found, "f32[6]");
    }
}
