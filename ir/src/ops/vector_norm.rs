//! Vector norms over some axes or all.

use super::common::{Dims, FoldNest, expect_float, groups, reduced_shape};
use super::conv::is_default;
use super::map::maximum;
use super::*;
use crate::kernel::formula::{Formula, IntoTerm};
use crate::kernel::{CompareOp, FoldKind};

/// `(sum of |x|^p)^(1/p)`: the sum of magnitudes for p = 1, the Euclidean length for 2, the greatest magnitude for
/// `inf`, the least for `-inf`, and for 0 the number of elements that are not 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    /// The order.
    #[serde(default = "euclidean", skip_serializing_if = "is_euclidean")]
    pub p: Real,
    /// The axes reduced; all where none is named.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dim: Dims,
    /// Whether reduced axes stay, with length 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keepdim: bool,
}

fn euclidean() -> Real {
    Real(2.0)
}

fn is_euclidean(p: &Real) -> bool {
    *p == euclidean()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Norm",
    about: "the length of vectors along some axes",
    read: |fields| crate::text::read(fields).map(Op::Norm),
}];

impl OpSpec for Norm {
    fn name(&self) -> &'static str {
        "Norm"
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
        let k = &mut nest.k;
        let x = k.load(input, nest.at);
        let p = self.p.0;
        let (kind, element) = {
            let formula = Formula::new(k);
            let x = formula.term(x);
            let (kind, element) = match p {
                0.0 => (FoldKind::Sum, x.is(CompareOp::Ne, 0.0).choose(1.0.beside(x), 0.0)),
                1.0 => (FoldKind::Sum, x.abs()),
                2.0 => (FoldKind::Sum, x * x),
                f64::INFINITY => (FoldKind::Max, x.abs()),
                f64::NEG_INFINITY => (FoldKind::Min, x.abs()),
                p => (FoldKind::Sum, x.abs().pow(p)),
            };
            (kind, element.id())
        };
        let folded = k.fold(kind, &nest.inner, element);
        let value = {
            let formula = Formula::new(k);
            let folded = formula.term(folded);
            match p {
                2.0 => folded.sqrt().id(),
                p if p == 0.0 || p == 1.0 || p.is_infinite() => folded.id(),
                p => folded.pow(1.0 / p).id(),
            }
        };
        k.store(out, nest.to, value);
        vec![nest.k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (input, upstream) = (back.input(0), back.upstream());
        let p = self.p.0;
        if p == 0.0 {
            // A number of elements moves in steps.
            return back.nothing();
        }
        let dims = back.dims(input);
        let (axes, kept) = self.dim.folded(&dims);
        let result = back.output(0);
        let (upstream, norm) = (back.reshaped(upstream, &kept), back.reshaped(result, &kept));
        let slope = if p == 1.0 {
            back.map("Sign", &[input])
        } else if p.is_infinite() {
            // Equals share the gradient.
            let (size, sign) = (back.map("Abs", &[input]), back.map("Sign", &[input]));
            let equal = back.map("Equal", &[size, norm]);
            let equal = back.node(Cast { to: DType::F32 }, &[equal]);
            let number = back.summed(equal, &axes);
            let share = back.map("Div", &[equal, number]);
            back.mul(share, sign)
        } else {
            // sign(x) (|x| / norm)^(p - 1); 0 where all elements are 0.
            let zero = back.number(0.0);
            let nothing = back.map("Equal", &[norm, zero]);
            let part = back.map("Div", &[input, norm]);
            let power = if p == 2.0 {
                part
            } else {
                let (size, sign, exponent) =
                    (back.map("Abs", &[part]), back.map("Sign", &[part]), back.number(p - 1.0));
                let power = back.map("Pow", &[size, exponent]);
                back.mul(power, sign)
            };
            back.map("Where", &[nothing, zero, power])
        };
        let gradient = back.mul(upstream, slope);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let over = self.dim.chosen(inputs[0].dims.len(), "dim").expect("verified: axes exist");
        let p = self.p.0;
        let norm = |group: Vec<f64>| {
            let sizes = group.iter().map(|x| x.abs());
            if p == f64::INFINITY {
                sizes.fold(f64::NEG_INFINITY, maximum)
            } else if p == f64::NEG_INFINITY {
                -sizes.map(|x| -x).fold(f64::NEG_INFINITY, maximum)
            } else if p == 0.0 {
                group.iter().filter(|x| **x != 0.0).count() as f64
            } else {
                sizes.map(|x| x.powf(p)).sum::<f64>().powf(1.0 / p)
            }
        };
        let dims = outputs[0].dims().expect("verified: bound");
        vec![Array { dims, data: groups(inputs[0], &over).into_iter().map(norm).collect() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        let array = Array { dims: vec![3], data: vec![3.0, 0.0, -4.0] };
        let scalar = TensorType::f32([0usize; 0]);
        let orders = [(0.0, 2.0), (1.0, 7.0), (2.0, 5.0), (f64::INFINITY, 4.0), (f64::NEG_INFINITY, 0.0)];
        for (p, expected) in orders {
            let op = Norm { p: Real(p), dim: Dims::default(), keepdim: false };
            assert_eq!(op.infer(&[&TensorType::f32([3usize])]).unwrap()[0], scalar);
            assert_eq!(op.reference(&[&array], std::slice::from_ref(&scalar))[0].data, [expected], "p = {p}");
        }
    }
}
