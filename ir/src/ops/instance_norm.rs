//! Instance normalisation: each channel of each image by itself.

use super::batch_norm::{is_tenth, tenth};
use super::common::expect_float;
use super::conv::is_default;
use super::norm::{self, Grouped, is_small, small};
use super::window::image;
use super::*;
use crate::Dim;
use crate::graph::ValueId;
use crate::kernel::{Affine, Axis};

/// Input `[batch, channels, spatial...]` (or without the batch), weight and bias of `[channels]` where `affine`. Output
/// has the shape of the input: `(x - mean) / sqrt(variance + eps) * weight + bias` with the mean and (biased) variance of
/// each channel of each image (Ulyanov et al. 2016). With `track_running_stats`, inference takes `running_mean` and
/// `running_var` instead, into which training mixes the means of those of all images.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNorm {
    /// The number of spatial axes: 1, 2 or 3.
    #[serde(skip)]
    pub spatial: usize,
    /// Added to the variance.
    #[serde(default = "small", skip_serializing_if = "is_small")]
    pub eps: Real,
    /// The weight of a batch when training updates the statistics.
    #[serde(default = "tenth", skip_serializing_if = "is_tenth")]
    pub momentum: Real,
    /// Whether there are `weight` and `bias`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub affine: bool,
    /// Whether statistics are kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub track_running_stats: bool,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind { name: "InstanceNorm1d", about: "normalises each channel of a signal", read: |fields| read(fields, 1) },
    LayerKind { name: "InstanceNorm2d", about: "normalises each channel of an image", read: |fields| read(fields, 2) },
    LayerKind { name: "InstanceNorm3d", about: "normalises each channel of a volume", read: |fields| read(fields, 3) },
];

fn read(fields: &Value, spatial: usize) -> Result<Op, FieldError> {
    Ok(Op::InstanceNorm(InstanceNorm { spatial, ..crate::text::read(fields)? }))
}

impl InstanceNorm {
    fn channels<'a>(&self, input: &'a TensorType) -> Result<&'a Dim, Mismatch> {
        expect_float(input)?;
        norm::check_eps(self.eps)?;
        let (_, channels, lengths) = image(input, self.spatial)?;
        let elements = lengths.iter().fold(Dim::Known(1), |product, dim| product * dim.clone());
        if !self.track_running_stats && elements.surely_below(2) {
            let expected = "more than one element a channel, of which there can be a variance";
            return Err(Mismatch::new(expected, input.to_string(), "use a larger image, or leave the layer out"));
        }
        Ok(channels)
    }
}

impl OpSpec for InstanceNorm {
    fn name(&self) -> &'static str {
        ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"][self.spatial - 1]
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn parameters(&self, inputs: &[&TensorType]) -> Result<Vec<ParameterSpec>, Mismatch> {
        let channels = self.channels(inputs[0])?;
        let mut all = norm::affine(std::slice::from_ref(channels), self.affine, self.affine);
        if self.track_running_stats {
            all.extend(norm::statistics(channels));
        }
        Ok(all)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        self.channels(inputs[0])?;
        Ok([inputs[0].clone()].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let plain = input.dims.len() - self.spatial;
        if self.track_running_stats {
            return vec![norm::with_statistics(site, plain - 1, self.affine, self.eps.0)];
        }
        let at: Vec<Affine> = (0..input.dims.len() as u32).map(|axis| Axis(axis).into()).collect();
        let kernel = Grouped {
            outer: &input.dims[..plain],
            inner: &input.dims[plain..],
            affine_at: vec![at[plain - 1].clone()],
            at,
            eps: self.eps.0,
            weight: site.inputs.get(1),
            bias: site.inputs.get(2),
        };
        vec![kernel.lower(input, out)]
    }

    fn training(&self, site: &mut Training) -> Result<Option<ValueId>, Mismatch> {
        if !self.track_running_stats {
            return Ok(None);
        }
        let n_affine = if self.affine { 2 } else { 0 };
        let inputs: Vec<ValueId> = site.inputs()[..=n_affine].to_vec();
        let rank = site.dims(inputs[0]).len();
        let axes: Vec<usize> = (rank - self.spatial..rank).collect();
        norm::keep_statistics(site, n_affine + 1, &axes, self.momentum.0)?;
        Ok(Some(site.node(InstanceNorm { track_running_stats: false, ..self.clone() }, &inputs)))
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dims = back.dims(back.input(0));
        let plain = dims.len() - self.spatial;
        let along = norm::along_channels(&dims, plain - 1);
        if self.track_running_stats {
            return norm::gradient_with_statistics(back, &along, self.affine, self.eps.0);
        }
        norm::gradient(back, &dims, &(plain..dims.len()).collect::<Vec<_>>(), &along, self.eps.0)
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let (input, weight, bias) = (inputs[0], inputs.get(1), inputs.get(2));
        let plain = input.dims.len() - self.spatial;
        if self.track_running_stats {
            return vec![norm::reference_with_statistics(inputs, plain - 1, self.affine, self.eps.0)];
        }
        let n_groups: usize = input.dims[..plain].iter().product();
        let group = |at: &[usize]| if plain == 1 { at[0] } else { at[0] * input.dims[1] + at[1] };
        vec![norm::reference_grouped(input, self.eps.0, weight, bias, n_groups, group, |at| at[plain - 1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> InstanceNorm {
        InstanceNorm { spatial: 2, eps: small(), momentum: tenth(), affine: false, track_running_stats: false }
    }

    #[test]
    fn shapes() {
        let input = TensorType::f32([Dim::symbol("N"), 6.into(), Dim::symbol("H"), 7.into()]);
        assert_eq!(layer().infer(&[&input]).unwrap()[0], input);
        assert!(layer().parameters(&[&input]).unwrap().is_empty());
        let all = InstanceNorm { affine: true, track_running_stats: true, ..layer() };
        let names: Vec<_> = all.parameters(&[&input]).unwrap().iter().map(|spec| spec.field).collect();
        assert_eq!(names, ["weight", "bias", "running_mean", "running_var"]);
        assert!(layer().infer(&[&TensorType::f32([6, 2, 1])]).is_ok());
    }

    #[test]
    fn refusals() {
        let error = layer().infer(&[&TensorType::f32([2, 6, 1, 1])]).unwrap_err();
        assert_eq!(error.expected, "more than one element a channel, of which there can be a variance");
        let error = layer().infer(&[&TensorType::f32([2, 6])]).unwrap_err();
        assert_eq!(error.found, "f32[2, 6]");
        let error = InstanceNorm { eps: Real(f64::INFINITY), ..layer() }.infer(&[&TensorType::f32([2, 6, 2])]);
        assert_eq!(error.unwrap_err().field, Some("eps"));
    }
}
