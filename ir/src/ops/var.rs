//! The variance over some axes or all.

use super::common::{Dims, FoldNest, expect_float, groups, reduced_shape};
use super::conv::is_default;
use super::*;
use crate::kernel::FoldKind;

/// The sum of squared differences from the mean, divided by `max(0, n - correction)`, of n elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Var {
    /// The axes reduced; all where none is named.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dim: Dims,
    /// 1 for an unbiased estimate, 0 for the variance of the elements themselves.
    #[serde(default = "unbiased", skip_serializing_if = "is_unbiased")]
    pub correction: Real,
    /// Whether reduced axes stay, with length 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keepdim: bool,
}

fn unbiased() -> Real {
    Real(1.0)
}

fn is_unbiased(correction: &Real) -> bool {
    *correction == unbiased()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Var",
    about: "the variance over some axes",
    read: |fields| crate::text::read(fields).map(Op::Var),
}];

impl OpSpec for Var {
    fn name(&self) -> &'static str {
        "Var"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        let over = self.dim.chosen(inputs[0].rank(), "dim")?;
        let shape = reduced_shape(&inputs[0].shape, &over, self.keepdim);
        Ok([TensorType::new(inputs[0].dtype, shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let over = self.dim.chosen(input.dims.len(), "dim").expect("verified: axes exist");
        let mut nest = FoldNest::new(&input.dims, &over, self.keepdim);
        let divisor = (nest.count() as f64 - self.correction.0).max(0.0);
        let k = &mut nest.k;
        let x = k.load(input, nest.at);
        k.fold(FoldKind::Moments, &nest.inner, x);
        let squares = k.folded(1);
        let divisor = k.number(divisor);
        let variance = k.div(squares, divisor);
        k.store(out, nest.to, variance);
        vec![nest.k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (input, upstream) = (back.input(0), back.upstream());
        let dims = back.dims(input);
        let (axes, kept) = self.dim.folded(&dims);
        let count: usize = axes.iter().map(|&axis| dims[axis]).product();
        let mean = back.reduced(Reduction::Mean, input, &axes);
        let centred = back.sub(input, mean);
        let upstream = back.reshaped(upstream, &kept);
        let share = back.scaled(upstream, 2.0 / (count as f64 - self.correction.0).max(0.0));
        let gradient = back.mul(centred, share);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let over = self.dim.chosen(inputs[0].dims.len(), "dim").expect("verified: axes exist");
        let variance = |group: Vec<f64>| {
            let n = group.len() as f64;
            let mean = group.iter().sum::<f64>() / n;
            group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - self.correction.0).max(0.0)
        };
        let dims = outputs[0].dims().expect("verified: bound");
        vec![Array { dims, data: groups(inputs[0], &over).into_iter().map(variance).collect() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_dropped_or_kept() {
        let ty = TensorType::f32([2usize, 3]);
        let var = |dim: i32, keepdim| Var { dim: Dims::One(dim), correction: unbiased(), keepdim }.infer(&[&ty]);
        assert_eq!(var(0, false).unwrap()[0], TensorType::f32([3usize]));
        assert_eq!(var(-1, true).unwrap()[0], TensorType::f32([2usize, 1]));
        assert_eq!(var(2, true).unwrap_err().field, Some("dim"));
    }
}
