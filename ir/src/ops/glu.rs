//! The gated linear unit.

use super::common::{expect_float, indices, indices_with};
use super::reshape::axis_of;
use super::*;
use crate::Dim;
use crate::kernel::{KernelBuilder, UnaryOp};

/// The first half along `dim` times the sigmoid of the second (Dauphin et al. 2017).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Glu {
    /// The axis that is halved.
    #[serde(default = "last", skip_serializing_if = "is_last")]
    pub dim: i32,
}

fn last() -> i32 {
    -1
}

fn is_last(n: &i32) -> bool {
    *n == -1
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Glu",
    about: "one half times the sigmoid of the other",
    read: |fields| crate::text::read(fields).map(Op::Glu),
}];

impl OpSpec for Glu {
    fn name(&self) -> &'static str {
        "Glu"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        let mut ty = inputs[0].clone();
        let dim = axis_of(self.dim, ty.rank(), "dim")?;
        let half = ty.shape[dim].floor_div(&Dim::Known(2));
        if matches!(ty.shape[dim], Dim::Known(_)) && half.clone() * 2 != ty.shape[dim] {
            let found = format!("{} ({ty})", ty.shape[dim]);
            return Err(Mismatch::new("an even length to halve", found, "halve another axis").in_field("dim"));
        }
        ty.shape[dim] = half;
        Ok([ty].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let dim = axis_of(self.dim, out.dims.len(), "dim").expect("verified: the axis exists");
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let value = k.load(input, indices(&axes));
        let gate = k.load(input, indices_with(&axes, dim, axes[dim] + out.dims[dim] as i64));
        let gate = k.unary(UnaryOp::Sigmoid, gate);
        let product = k.mul(value, gate);
        k.store(out, axes, product);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (input, upstream) = (back.input(0), back.upstream());
        let dims = back.dims(upstream);
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        let value = back.range(input, dim, 0, dims[dim]);
        let gate = back.range(input, dim, dims[dim], dims[dim]);
        let open = back.map("Sigmoid", &[gate]);
        let by_value = back.mul(upstream, open);
        let (one, product) = (back.number(1.0), back.mul(by_value, value));
        let closed = back.sub(one, open);
        let by_gate = back.mul(product, closed);
        let gradient = back.node(Concat { dim: dim as i32 }, &[by_value, by_gate]);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        let output = Array::from_fn(&dims, |at| {
            let mut gate = at.to_vec();
            gate[dim] += dims[dim];
            inputs[0].at(at) / (1.0 + (-inputs[0].at(&gate)).exp())
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_halved() {
        let ty = TensorType::f32([Dim::symbol("N"), 6.into(), 5.into()]);
        assert_eq!(Glu { dim: 1 }.infer(&[&ty]).unwrap()[0], TensorType::f32([Dim::symbol("N"), 3.into(), 5.into()]));
        assert_eq!(Glu { dim: -1 }.infer(&[&ty]).unwrap_err().found, "5 (f32[N, 6, 5])");
    }
}
