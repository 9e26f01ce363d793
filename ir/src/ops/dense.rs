//! A fully connected layer.

use super::common::expect_float;
use super::conv::{is_yes, yes};
use super::*;
use crate::Dim;
use crate::kernel::{FoldKind, Index, KernelBuilder};

/// Input `[..., in]`, weight `[out, in]`, bias `[out]`. Output is `[..., out]`: `x * transpose(weight) + bias`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// The number of output features.
    pub out: u32,
    /// Whether a bias is added.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Dense",
    about: "fully connected layer over the last axis",
    read: |fields| crate::text::read(fields).map(Op::Dense),
}];

impl OpSpec for Dense {
    fn name(&self) -> &'static str {
        "Dense"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn parameters(&self, inputs: &[&TensorType]) -> Result<Vec<ParameterSpec>, Mismatch> {
        let Some(features) = inputs[0].shape.last() else {
            return Err(Mismatch::new("an input with at least one axis", "a scalar", "reshape it to [1]"));
        };
        let shape = [Dim::from(self.out), features.clone()];
        let mut all = vec![ParameterSpec::trainable("weight", shape, Initializer::layer_weight())];
        if self.bias {
            let init = Initializer::layer_bias(features);
            all.push(ParameterSpec::trainable("bias", [Dim::from(self.out)], init));
        }
        Ok(all)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        let mut shape = inputs[0].shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = self.out.into();
        }
        Ok([TensorType::f32(shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, weight, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let (rows, feature) = axes.split_at(axes.len() - 1);
        let at: Vec<Index> = rows.iter().map(|&axis| axis.into()).chain([k.inner(0).into()]).collect();
        let x = k.load(input, at);
        let w = k.load(weight, [feature[0], k.inner(0)]);
        let product = k.mul(x, w);
        let mut value = k.fold(FoldKind::Sum, &[weight.dims[1]], product);
        if let Some(bias) = site.inputs.get(2) {
            let bias = k.load(bias, [feature[0]]);
            value = k.add(value, bias);
        }
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (input, weight, upstream) = (back.input(0), back.input(1), back.upstream());
        let (n_out, n_in) = (self.out as usize, back.dims(weight)[1]);
        let rows: usize = back.dims(input).iter().rev().skip(1).product();
        let mut gradients = back.nothing();
        if back.wants(0) {
            gradients[0] = Some(back.node(MatMul {}, &[upstream, weight]));
        }
        let flat = back.reshaped(upstream, &[rows, n_out]);
        if back.wants(1) {
            let input = back.reshaped(input, &[rows, n_in]);
            let columns = back.transposed(flat);
            gradients[1] = Some(back.node(MatMul {}, &[columns, input]));
        }
        if back.wants(2) {
            gradients[2] = Some(back.sum_to(flat, &[n_out]));
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (input, weight, bias) = (inputs[0], inputs[1], inputs.get(2));
        let dims = outputs[0].dims().expect("verified: bound");
        let n_in = weight.dims[1];
        let mut data = Vec::with_capacity(dims.iter().product());
        let rows = input.data.len().checked_div(n_in).unwrap_or(0);
        for row in 0..rows {
            for o in 0..weight.dims[0] {
                let (x, w) = (&input.data[row * n_in..(row + 1) * n_in], &weight.data[o * n_in..(o + 1) * n_in]);
                let sum: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                data.push(sum + bias.map_or(0.0, |bias| bias.data[o]));
            }
        }
        vec![Array { dims, data }]
    }
}
