//! Batch normalisation: in inference with the statistics that training kept, in training with those of the batch.

use super::common::expect_float;
use super::conv::{is_yes, yes};
use super::norm::{self, Grouped, is_small, small};
use super::*;
use crate::Dim;
use crate::graph::ValueId;
use crate::kernel::Affine;

/// Input `[batch, channels, spatial...]`, parameters `weight`, `bias`, `running_mean`, `running_var` of `[channels]`.
/// Output has the shape of the input: `(x - running_mean) / sqrt(running_var + eps) * weight + bias` (Ioffe and Szegedy
/// 2015). Without running statistics, the mean and variance are those of the batch; so they are in training, which mixes
/// them, the variance as its unbiased estimate, into the running ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// The number of spatial axes: 1 (or none), 2 or 3.
    #[serde(skip)]
    pub spatial: usize,
    /// Added to the variance.
    #[serde(default = "small", skip_serializing_if = "is_small")]
    pub eps: Real,
    /// The weight of a batch when training updates the statistics.
    #[serde(default = "tenth", skip_serializing_if = "is_tenth")]
    pub momentum: Real,
    /// Whether there are `weight` and `bias`.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub affine: bool,
    /// Whether statistics are kept.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub track_running_stats: bool,
}

pub(super) fn tenth() -> Real {
    Real(0.1)
}

pub(super) fn is_tenth(momentum: &Real) -> bool {
    *momentum == tenth()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind { name: "BatchNorm1d", about: "batch norm of features or signals", read: |fields| read(fields, 1) },
    LayerKind { name: "BatchNorm2d", about: "batch norm of images", read: |fields| read(fields, 2) },
    LayerKind { name: "BatchNorm3d", about: "batch norm of volumes", read: |fields| read(fields, 3) },
];

fn read(fields: &Value, spatial: usize) -> Result<Op, FieldError> {
    Ok(Op::BatchNorm(BatchNorm { spatial, ..crate::text::read(fields)? }))
}

impl BatchNorm {
    fn channels<'a>(&self, input: &'a TensorType) -> Result<&'a Dim, Mismatch> {
        expect_float(input)?;
        norm::check_eps(self.eps)?;
        let rank = input.rank();
        if rank == self.spatial + 2 || (self.spatial == 1 && rank == 2) {
            return Ok(&input.shape[1]);
        }
        let shapes = [
            "[batch, channels] or [batch, channels, length]",
            "[batch, channels, height, width]",
            "[batch, channels, depth, height, width]",
        ];
        Err(Mismatch::new(
            format!("an input of shape {}", shapes[self.spatial - 1]),
            input.to_string(),
            "reshape the input, or use the layer for its number of axes",
        ))
    }
}

/// The axes that a channel extends over.
fn batch_axes(rank: usize) -> Vec<usize> {
    (0..rank).filter(|&axis| axis != 1).collect()
}

impl OpSpec for BatchNorm {
    fn name(&self) -> &'static str {
        ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"][self.spatial - 1]
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
        if self.track_running_stats {
            return vec![norm::with_statistics(site, 1, self.affine, self.eps.0)];
        }
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let inner: Vec<usize> = input.dims[..1].iter().chain(&input.dims[2..]).copied().collect();
        // Axis 0 is the channel, then come the batch and the spatial axes.
        let channel = Affine::from(crate::kernel::Axis(0));
        let mut at: Vec<Affine> = (1..=inner.len() as u32).map(|axis| crate::kernel::Axis(axis).into()).collect();
        at.insert(1, channel.clone());
        let kernel = Grouped {
            outer: &input.dims[1..2],
            inner: &inner,
            at,
            affine_at: vec![channel],
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
        let axes = batch_axes(site.dims(inputs[0]).len());
        norm::keep_statistics(site, n_affine + 1, &axes, self.momentum.0)?;
        Ok(Some(site.node(BatchNorm { track_running_stats: false, ..self.clone() }, &inputs)))
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dims = back.dims(back.input(0));
        let along = norm::along_channels(&dims, 1);
        if self.track_running_stats {
            return norm::gradient_with_statistics(back, &along, self.affine, self.eps.0);
        }
        norm::gradient(back, &dims, &batch_axes(dims.len()), &along, self.eps.0)
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        if self.track_running_stats {
            return vec![norm::reference_with_statistics(inputs, 1, self.affine, self.eps.0)];
        }
        let (input, weight, bias) = (inputs[0], inputs.get(1), inputs.get(2));
        let channel = |at: &[usize]| at[1];
        vec![norm::reference_grouped(input, self.eps.0, weight, bias, input.dims[1], channel, channel)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> BatchNorm {
        BatchNorm { spatial: 2, eps: small(), momentum: tenth(), affine: true, track_running_stats: true }
    }

    #[test]
    fn parameters_are_torchvisions() {
        let input = TensorType::f32([Dim::symbol("N"), 64.into(), Dim::symbol("H"), 7.into()]);
        let names = |layer: &BatchNorm| {
            let all = layer.parameters(&[&input]).unwrap();
            assert!(all.iter().all(|spec| spec.ty == TensorType::f32([64])));
            assert!(all.iter().all(|spec| spec.trainable != spec.field.starts_with("running")));
            all.iter().map(|spec| spec.field).collect::<Vec<_>>()
        };
        assert_eq!(names(&layer()), ["weight", "bias", "running_mean", "running_var"]);
        assert_eq!(names(&BatchNorm { affine: false, ..layer() }), ["running_mean", "running_var"]);
        assert_eq!(names(&BatchNorm { track_running_stats: false, ..layer() }), ["weight", "bias"]);
        assert_eq!(layer().infer(&[&input]).unwrap()[0], input);
    }

    #[test]
    fn refusals() {
        let flat = TensorType::f32([2, 3]);
        let error = layer().parameters(&[&flat]).unwrap_err();
        assert_eq!(error.expected, "an input of shape [batch, channels, height, width]");
        assert_eq!(error.found, "f32[2, 3]");
        assert!(BatchNorm { spatial: 1, ..layer() }.parameters(&[&flat]).is_ok());
        let error = BatchNorm { eps: Real(-1.0), ..layer() }.parameters(&[&TensorType::f32([1, 1, 1, 1])]).unwrap_err();
        assert_eq!(error.field, Some("eps"));
    }
}
