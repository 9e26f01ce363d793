//! Reductions over some axes or all: sum, mean, greatest, least, product, logarithm of a sum of exponentials.

use super::common::{Dims, FoldNest, expect_float, expect_number, groups, reduced_shape};
use super::conv::is_default;
use super::map::maximum;
use super::*;
use crate::kernel::formula::{Formula, IntoTerm};
use crate::kernel::{CompareOp, FoldKind};

/// Reduces the axes `dim` to one element each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    /// What is computed.
    #[serde(skip)]
    pub function: Reduction,
    /// The axes reduced; all where none is named.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dim: Dims,
    /// Whether reduced axes stay, with length 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keepdim: bool,
}

/// What a reduction computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// The sum; i64 of integers and truth values.
    #[default]
    Sum,
    /// The mean, of floats.
    Mean,
    /// The greatest; NaN if any is.
    Amax,
    /// The least; NaN if any is.
    Amin,
    /// The product; i64 of integers and truth values.
    Prod,
    /// ln(sum of e^x), of floats, scaled by the greatest so that nothing overflows.
    LogSumExp,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind { name: "Amax", about: "the greatest element over some axes", read: |f| read(f, Reduction::Amax) },
    LayerKind { name: "Amin", about: "the least element over some axes", read: |f| read(f, Reduction::Amin) },
    LayerKind { name: "LogSumExp", about: "ln(sum of e^x) over some axes", read: |f| read(f, Reduction::LogSumExp) },
    LayerKind { name: "Mean", about: "the mean over some axes", read: |f| read(f, Reduction::Mean) },
    LayerKind { name: "Prod", about: "the product over some axes", read: |f| read(f, Reduction::Prod) },
    LayerKind { name: "Sum", about: "the sum over some axes", read: |f| read(f, Reduction::Sum) },
];

fn read(fields: &Value, function: Reduction) -> Result<Op, FieldError> {
    Ok(Op::Reduce(Reduce { function, ..crate::text::read(fields)? }))
}

impl Reduce {
    /// Over the axes `dim`, or all where there are none.
    pub fn over(function: Reduction, dim: impl IntoIterator<Item = i32>, keepdim: bool) -> Reduce {
        Reduce { function, dim: Dims::Many(dim.into_iter().collect()), keepdim }
    }
}

impl OpSpec for Reduce {
    fn name(&self) -> &'static str {
        match self.function {
            Reduction::Sum => "Sum",
            Reduction::Mean => "Mean",
            Reduction::Amax => "Amax",
            Reduction::Amin => "Amin",
            Reduction::Prod => "Prod",
            Reduction::LogSumExp => "LogSumExp",
        }
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let input = inputs[0];
        let over = self.dim.chosen(input.rank(), "dim")?;
        let dtype = match self.function {
            Reduction::Sum | Reduction::Prod if input.dtype.is_float() => input.dtype,
            Reduction::Sum | Reduction::Prod => DType::I64,
            Reduction::Amax | Reduction::Amin => {
                expect_number(input)?;
                input.dtype
            }
            Reduction::Mean | Reduction::LogSumExp => {
                expect_float(input)?;
                input.dtype
            }
        };
        let shape = reduced_shape(&input.shape, &over, self.keepdim);
        Ok([TensorType::new(dtype, shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let over = self.dim.chosen(input.dims.len(), "dim").expect("verified: axes exist");
        let mut nest = FoldNest::new(&input.dims, &over, self.keepdim);
        let count = nest.count() as f64;
        let FoldNest { k, inner, at, .. } = &mut nest;
        let x = k.load(input, at.clone());
        let x = k.cast(out.dtype, x);
        let value = match self.function {
            Reduction::Sum => k.fold(FoldKind::Sum, inner, x),
            Reduction::Prod => k.fold(FoldKind::Product, inner, x),
            Reduction::Amax => k.fold(FoldKind::Max, inner, x),
            Reduction::Amin => k.fold(FoldKind::Min, inner, x),
            Reduction::Mean => {
                let sum = k.fold(FoldKind::Sum, inner, x);
                let count = k.number(count);
                k.div(sum, count)
            }
            Reduction::LogSumExp => {
                let greatest = k.fold(FoldKind::Max, inner, x);
                let formula = Formula::new(k);
                let greatest = formula.term(greatest);
                // Where the greatest is infinite, the distance from it would be NaN.
                let infinite = greatest.abs().is(CompareOp::Eq, f64::INFINITY);
                let shift = infinite.choose(0.0.beside(greatest), greatest);
                let (raised, shift) = ((formula.term(x) - shift).exp().id(), shift.id());
                let sum = k.fold(FoldKind::Sum, inner, raised);
                let formula = Formula::new(k);
                (formula.term(sum).ln() + formula.term(shift)).id()
            }
        };
        nest.k.store(out, nest.to, value);
        vec![nest.k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (input, upstream) = (back.input(0), back.upstream());
        let dims = back.dims(input);
        let (axes, kept) = self.dim.folded(&dims);
        let upstream = back.reshaped(upstream, &kept);
        let count: usize = axes.iter().map(|&axis| dims[axis]).product();
        let gradient = match self.function {
            Reduction::Sum => back.expanded(upstream, &dims),
            Reduction::Mean => {
                let share = back.scaled(upstream, 1.0 / count as f64);
                back.expanded(share, &dims)
            }
            Reduction::Amax | Reduction::Amin => {
                // Equals share the gradient.
                let result = back.output(0);
                let result = back.reshaped(result, &kept);
                let equal = back.map("Equal", &[input, result]);
                let equal = back.node(Cast { to: DType::F32 }, &[equal]);
                let number = back.summed(equal, &axes);
                let share = back.map("Div", &[upstream, number]);
                back.mul(equal, share)
            }
            Reduction::Prod => {
                // The product of the others: of all but a single 0, that of what is not 0.
                let zero = back.number(0.0);
                let is_zero = back.map("Equal", &[input, zero]);
                let one = back.number(1.0);
                let filled = back.map("Where", &[is_zero, one, input]);
                let product = back.reduced(Reduction::Prod, filled, &axes);
                let zeros = back.node(Cast { to: DType::F32 }, &[is_zero]);
                let zeros = back.summed(zeros, &axes);
                let others = back.map("Div", &[product, filled]);
                let (none, single) = (back.map("Equal", &[zeros, zero]), back.map("Equal", &[zeros, one]));
                let single = back.map("And", &[single, is_zero]);
                let counts = back.map("Or", &[none, single]);
                let others = back.map("Where", &[counts, others, zero]);
                back.mul(upstream, others)
            }
            Reduction::LogSumExp => {
                let result = back.output(0);
                let result = back.reshaped(result, &kept);
                let below = back.sub(input, result);
                let share = back.map("Exp", &[below]);
                back.mul(upstream, share)
            }
        };
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let over = self.dim.chosen(inputs[0].dims.len(), "dim").expect("verified: axes exist");
        let greatest = |group: &[f64]| group.iter().copied().fold(f64::NEG_INFINITY, maximum);
        let reduce = |group: Vec<f64>| match self.function {
            Reduction::Sum => group.iter().sum(),
            Reduction::Mean => group.iter().sum::<f64>() / group.len() as f64,
            Reduction::Prod => group.iter().product(),
            Reduction::Amax => greatest(&group),
            Reduction::Amin => -greatest(&group.iter().map(|x| -x).collect::<Vec<f64>>()),
            Reduction::LogSumExp => match greatest(&group) {
                most if most.is_infinite() => most,
                most => group.iter().map(|x| (x - most).exp()).sum::<f64>().ln() + most,
            },
        };
        vec![Array { dims, data: groups(inputs[0], &over).into_iter().map(reduce).collect() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dim;

    #[test]
    fn axes_are_dropped_or_kept() {
        let ty = TensorType::f32([Dim::symbol("N"), 3.into(), 4.into()]);
        let infer = |op: Reduce| op.infer(&[&ty]).map(|types| types[0].to_string());
        assert_eq!(infer(Reduce::over(Reduction::Mean, [-1, 1], false)).as_deref(), Ok("f32[N]"));
        assert_eq!(infer(Reduce::over(Reduction::Amax, [2], true)).as_deref(), Ok("f32[N, 3, 1]"));
        assert_eq!(infer(Reduce::over(Reduction::Sum, [], false)).as_deref(), Ok("f32[]"));
        assert_eq!(infer(Reduce::over(Reduction::Sum, [3], false)).unwrap_err().field, Some("dim"));
    }

    #[test]
    fn integers_are_summed_in_i64() {
        let ty = TensorType::new(DType::I32, [3usize]);
        let infer = |function| Reduce::over(function, [], false).infer(&[&ty]);
        assert_eq!(infer(Reduction::Sum).unwrap()[0].dtype, DType::I64);
        assert_eq!(infer(Reduction::Amax).unwrap()[0].dtype, DType::I32);
        assert_eq!(infer(Reduction::Mean).unwrap_err().expected, "f32 elements");
    }

    #[test]
    fn logsumexp_of_infinities() {
        let op = Reduce::over(Reduction::LogSumExp, [], false);
        let infinite = Array { dims: vec![2], data: vec![f64::NEG_INFINITY; 2] };
        assert_eq!(op.reference(&[&infinite], &[TensorType::f32([0usize; 0])])[0].data, [f64::NEG_INFINITY]);
    }
}
