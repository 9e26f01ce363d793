//! Softmax and its logarithm along one axis: one kernel each.

use super::common::{FoldNest, expect_float};
use super::map::maximum;
use super::reshape::axis_of;
use super::*;
use crate::graph::ValueId;
use crate::kernel::FoldKind;
use crate::kernel::formula::Formula;

/// e^x divided by the sum of e^x along `dim`, both scaled by the greatest element so that nothing overflows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// The axis along which outputs sum to 1.
    pub dim: i32,
}

/// The logarithm of the softmax, without its rounding: `x - max - ln(sum of e^(x - max))`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSoftmax {
    /// The axis along which the outputs' exponentials sum to 1.
    pub dim: i32,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "LogSoftmax",
        about: "logarithms of probabilities along one axis",
        read: |fields| crate::text::read(fields).map(Op::LogSoftmax),
    },
    LayerKind {
        name: "Softmax",
        about: "probabilities along one axis",
        read: |fields| crate::text::read(fields).map(Op::Softmax),
    },
];

fn infer(dim: i32, input: &TensorType) -> Result<Types, Mismatch> {
    expect_float(input)?;
    axis_of(dim, input.rank(), "dim")?;
    Ok([input.clone()].into_iter().collect())
}

/// The nest: the greatest, the sum of exponentials, then all elements again.
fn lower(dim: i32, site: &Site, logarithm: bool) -> Vec<Kernel> {
    let (input, out) = (&site.inputs[0], &site.outputs[0]);
    let dim = axis_of(dim, input.dims.len(), "dim").expect("verified: the axis exists");
    let over: Vec<bool> = (0..input.dims.len()).map(|axis| axis == dim).collect();
    let FoldNest { mut k, inner, at, .. } = FoldNest::new(&input.dims, &over, false);
    let x = k.load(input, at.clone());
    let greatest = k.fold(FoldKind::Max, &inner, x);
    let formula = Formula::new(&mut k);
    let below = formula.term(x) - formula.term(greatest);
    let (below, raised) = (below.id(), below.exp().id());
    let sum = k.fold(FoldKind::Sum, &inner, raised);
    let value = match logarithm {
        true => {
            let formula = Formula::new(&mut k);
            (formula.term(below) - formula.term(sum).ln()).id()
        }
        // One division a line: it takes as long as the exponential of a vector.
        false => {
            let one = k.number(1.0);
            let share = k.div(one, sum);
            k.mul(raised, share)
        }
    };
    k.store_over(&inner, out, at, value);
    vec![k.finish()]
}

/// Of y = softmax(x): y * (u - sum of u * y); of its logarithm: u - e^y * sum of u.
fn gradient(back: &mut Backward, result: ValueId, upstream: ValueId, axes: &[usize], logarithm: bool) -> ValueId {
    if logarithm {
        let (sum, raised) = (back.summed(upstream, axes), back.map("Exp", &[result]));
        let expected = back.mul(raised, sum);
        return back.sub(upstream, expected);
    }
    let product = back.mul(upstream, result);
    let sum = back.summed(product, axes);
    let distance = back.sub(upstream, sum);
    back.mul(result, distance)
}

/// The elements of each line along the axis, together, become those of the output.
fn reference(dim: i32, input: &Array, element: impl Fn(f64, &[f64]) -> f64) -> Vec<Array> {
    let dim = axis_of(dim, input.dims.len(), "dim").expect("verified: the axis exists");
    let output = Array::from_fn(&input.dims, |at| {
        let mut other = at.to_vec();
        let line = (0..input.dims[dim]).map(|i| {
            other[dim] = i;
            input.at(&other)
        });
        element(input.at(at), &line.collect::<Vec<f64>>())
    });
    vec![output]
}

/// ln(sum of e^x) of a line; plus infinity has no place in one.
pub(super) fn log_sum_exp(line: &[f64]) -> f64 {
    let greatest = line.iter().copied().fold(f64::NEG_INFINITY, maximum);
    greatest + line.iter().map(|x| (x - greatest).exp()).sum::<f64>().ln()
}

macro_rules! softmax {
    ($name:ident, $logarithm:literal, $element:expr) => {
        impl OpSpec for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn fields(&self) -> String {
                crate::text::fields(self)
            }

            fn arity(&self) -> Arity {
                Arity::exactly(1)
            }

            fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
                infer(self.dim, inputs[0])
            }

            fn lower(&self, site: &mut Site) -> Vec<Kernel> {
                lower(self.dim, site, $logarithm)
            }

            fn gradient(&self, back: &mut Backward) -> Gradients {
                let (result, upstream) = (back.output(0), back.upstream());
                let axes = [axis_of(self.dim, back.ty(result).rank(), "dim").expect("verified: the axis exists")];
                let gradient = gradient(back, result, upstream, &axes, $logarithm);
                back.only(gradient)
            }

            fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
                reference(self.dim, inputs[0], $element)
            }
        }
    };
}
softmax!(Softmax, false, |x, line| (x - log_sum_exp(line)).exp());
softmax!(LogSoftmax, true, |x, line| x - log_sum_exp(line));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_must_exist() {
        let ty = TensorType::f32([2usize, 3]);
        assert_eq!(Softmax { dim: -1 }.infer(&[&ty]).unwrap()[0], ty);
        assert_eq!(LogSoftmax { dim: 2 }.infer(&[&ty]).unwrap_err().field, Some("dim"));
        let labels = TensorType::new(DType::I64, [2usize]);
        assert_eq!(Softmax { dim: 0 }.infer(&[&labels]).unwrap_err().expected, "f32 elements");
    }

    #[test]
    fn it_is_one_kernel() {
        let operand = |id| Operand { buffer: BufferId(id), dtype: DType::F32, dims: vec![2, 3, 4] };
        let mut site = Site::new(vec![operand(0)], vec![operand(1)], BufferId(2));
        let kernels = Softmax { dim: 1 }.lower(&mut site);
        assert_eq!(kernels.len(), 1);
        assert_eq!((kernels[0].outer.as_slice(), kernels[0].folds.len()), (&[2, 4][..], 2));
        assert!(site.temporaries.is_empty());
    }
}
