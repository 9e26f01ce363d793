//! The leaky ReLU whose slope is learned.

use super::common::expect_float;
use super::conv::{is_one, one};
use super::*;
use crate::Dim;
use crate::kernel::formula::Formula;
use crate::kernel::{Index, KernelBuilder};

/// x, times its slope below 0. Weight `[num_parameters]`: one slope for all elements, or one for each channel (axis 1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PRelu {
    /// 1, or the number of channels.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub num_parameters: u32,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "PRelu",
    about: "x, times a learned slope below 0",
    read: |fields| crate::text::read(fields).map(Op::PRelu),
}];

impl OpSpec for PRelu {
    fn name(&self) -> &'static str {
        "PRelu"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn parameters(&self, inputs: &[&TensorType]) -> Result<Vec<ParameterSpec>, Mismatch> {
        let channels = inputs[0].shape.get(1).cloned().unwrap_or(Dim::Known(1));
        let slopes = Dim::from(self.num_parameters);
        if self.num_parameters != 1 && !channels.may_equal(&slopes) {
            let expected = format!("1, or {channels} (the channels of {})", inputs[0]);
            let help = "give `num_parameters` the number of channels";
            return Err(Mismatch::new(expected, slopes.to_string(), help).in_field("num_parameters"));
        }
        Ok(vec![ParameterSpec::trainable("weight", [slopes], Initializer::Constant(Real(0.25)))])
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        Ok([inputs[0].clone()].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, weight, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let channel = if self.num_parameters == 1 { Index::from(0) } else { axes[1].into() };
        let x = k.load(input, axes.clone());
        let slope = k.load(weight, [channel]);
        let value = {
            let formula = Formula::new(&mut k);
            let (x, slope) = (formula.term(x), formula.term(slope));
            x.above(0.0).choose(x, x * slope).id()
        };
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (input, weight, upstream) = (back.input(0), back.input(1), back.upstream());
        let dims = back.dims(input);
        let along = match self.num_parameters {
            1 => vec![1; dims.len()],
            _ => norm::along_channels(&dims, 1),
        };
        let zero = back.number(0.0);
        let above = back.map("Greater", &[input, zero]);
        let mut gradients = back.nothing();
        if back.wants(0) {
            let slope = back.reshaped(weight, &along);
            let sloped = back.mul(upstream, slope);
            gradients[0] = Some(back.map("Where", &[above, upstream, sloped]));
        }
        if back.wants(1) {
            let product = back.mul(upstream, input);
            let below = back.map("Where", &[above, zero, product]);
            let sum = back.sum_to(below, &along);
            gradients[1] = Some(back.reshaped(sum, &[self.num_parameters as usize]));
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let output = Array::from_fn(&inputs[0].dims, |at| {
            let x = inputs[0].at(at);
            let channel = if self.num_parameters == 1 { 0 } else { at[1] };
            if x > 0.0 { x } else { inputs[1].data[channel] * x }
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slope_or_one_a_channel() {
        let ty = TensorType::f32([2usize, 3, 4]);
        let parameters = |num_parameters| PRelu { num_parameters }.parameters(&[&ty]);
        assert_eq!(parameters(3).unwrap()[0].ty, TensorType::f32([3usize]));
        assert_eq!(parameters(1).unwrap()[0].ty, TensorType::f32([1usize]));
        assert_eq!(parameters(4).unwrap_err().field, Some("num_parameters"));
        let vector = TensorType::f32([5usize]);
        assert!(PRelu { num_parameters: 5 }.parameters(&[&vector]).is_err(), "a vector has no channels");
    }
}
