//! Where the greatest or least element is.

use super::common::{FoldNest, expect_number, groups, reduced_shape};
use super::conv::is_default;
use super::reshape::axis_of;
use super::*;
use crate::kernel::{Affine, BinaryOp, CompareOp, FoldKind, KernelBuilder, ScalarId};

/// The place of the greatest or least element along `dim`, or in the flattened tensor, as i64: the first of equals, and
/// the first NaN before all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgReduce {
    /// Whether the least element is meant.
    #[serde(skip)]
    pub least: bool,
    /// The axis searched; all of them, flattened, where it is not given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dim: Option<i32>,
    /// Whether searched axes stay, with length 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keepdim: bool,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind { name: "ArgMax", about: "the place of the greatest element", read: |fields| read(fields, false) },
    LayerKind { name: "ArgMin", about: "the place of the least element", read: |fields| read(fields, true) },
];

fn read(fields: &Value, least: bool) -> Result<Op, FieldError> {
    Ok(Op::ArgReduce(ArgReduce { least, ..crate::text::read(fields)? }))
}

/// Places that f32 holds.
const MOST_PLACES: usize = 1 << 24;

/// The kernel that makes i64 of places that are f32.
fn whole_numbers(from: &Operand, to: &Operand) -> Kernel {
    let mut k = KernelBuilder::new(&to.dims);
    let axes = k.outer_axes();
    let place = k.load(from, axes.clone());
    let place = k.cast(DType::I64, place);
    k.store(to, axes, place);
    k.finish()
}

impl ArgReduce {
    /// Folds `x` to its greatest or least, then the places of all that are equal to that, or NaN, to the first: vectors can do both,
    /// where one fold of pairs is done element by element.
    fn first_place(&self, k: &mut KernelBuilder, inner: &[usize], x: ScalarId, n: usize) {
        let best = k.fold(if self.least { FoldKind::Min } else { FoldKind::Max }, inner, x);
        let (is_best, is_nan) = (k.compare(CompareOp::Eq, x, best), k.compare(CompareOp::Ne, x, x));
        let is_place = k.binary(BinaryOp::Or, is_best, is_nan);
        let place = inner
            .iter()
            .enumerate()
            .fold(Affine::constant(0), |place, (i, &extent)| place * extent as i64 + k.inner(i));
        let place = k.position(place);
        let place = k.cast(DType::F32, place);
        let behind = k.number(n as f64);
        let place = k.select(is_place, place, behind);
        k.fold(FoldKind::Min, inner, place);
    }

    fn over(&self, rank: usize) -> Result<Vec<bool>, Mismatch> {
        let dim = self.dim.map(|dim| axis_of(dim, rank, "dim")).transpose()?;
        Ok((0..rank).map(|axis| dim.is_none_or(|dim| axis == dim)).collect())
    }
}

impl OpSpec for ArgReduce {
    fn name(&self) -> &'static str {
        if self.least { "ArgMin" } else { "ArgMax" }
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_number(inputs[0])?;
        let over = self.over(inputs[0].rank())?;
        let shape = reduced_shape(&inputs[0].shape, &over, self.keepdim);
        Ok([TensorType::new(DType::I64, shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let over = self.over(input.dims.len()).expect("verified: the axis exists");
        let FoldNest { mut k, inner, at, to } = FoldNest::new(&input.dims, &over, self.keepdim);
        let n: usize = inner.iter().product();
        if input.dtype == DType::F32 && (1..=MOST_PLACES).contains(&n) {
            let (from, out) = (input.clone(), out.clone());
            let between = site.temporary(DType::F32, &out.dims);
            let x = k.load(&from, at);
            self.first_place(&mut k, &inner, x, n);
            let place = k.folded(0);
            k.store(&between, to, place);
            return vec![k.finish(), whole_numbers(&between, &out)];
        }
        let x = k.load(input, at);
        k.fold(if self.least { FoldKind::ArgMin } else { FoldKind::ArgMax }, &inner, x);
        let place = k.folded(1);
        k.store(out, to, place);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        // Places are whole numbers.
        back.nothing()
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let over = self.over(inputs[0].dims.len()).expect("verified: the axis exists");
        let sign = if self.least { -1.0 } else { 1.0 };
        let place = |group: Vec<f64>| {
            let first_nan = group.iter().position(|x| x.is_nan());
            let greatest = group.iter().map(|x| x * sign).fold(f64::NEG_INFINITY, f64::max);
            let place = first_nan.or_else(|| group.iter().position(|x| x * sign == greatest));
            place.unwrap_or(0) as f64
        };
        let dims = outputs[0].dims().expect("verified: bound");
        vec![Array { dims, data: groups(inputs[0], &over).into_iter().map(place).collect() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_i64() {
        let ty = TensorType::f32([2usize, 3]);
        let infer =
            |dim, keepdim| ArgReduce { least: false, dim, keepdim }.infer(&[&ty]).map(|mut types| types.remove(0));
        assert_eq!(infer(Some(-1), false), Ok(TensorType::new(DType::I64, [2usize])));
        assert_eq!(infer(None, true), Ok(TensorType::new(DType::I64, [1usize, 1])));
        assert_eq!(infer(Some(2), false).unwrap_err().field, Some("dim"));
    }

    #[test]
    fn the_first_of_equals_and_nan() {
        let op = ArgReduce { least: true, dim: None, keepdim: false };
        let place = |data: &[f64]| {
            let array = Array { dims: vec![data.len()], data: data.to_vec() };
            op.reference(&[&array], &[TensorType::new(DType::I64, [0usize; 0])])[0].data[0]
        };
        assert_eq!(place(&[2.0, 1.0, 1.0]), 1.0);
        assert_eq!(place(&[2.0, 1.0, f64::NAN]), 2.0);
    }
}
