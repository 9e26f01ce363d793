//! Dropout, which is the identity outside training.

use super::*;
use crate::graph::ValueId;
use crate::kernel::KernelBuilder;

/// In training, elements are zeroed with probability `p` and the others scaled by `1 / (1 - p)`; here nothing happens: [`TrainingDropout`] takes
/// its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability, in 0..=1.
    #[serde(default = "half", skip_serializing_if = "is_half")]
    pub p: Real,
}

fn half() -> Real {
    Real(0.5)
}

fn is_half(p: &Real) -> bool {
    *p == half()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Dropout",
    about: "zeroes elements at random in training, does nothing else",
    read: |fields| crate::text::read(fields).map(Op::Dropout),
}];

/// Refuses what is no probability.
///
/// # Errors
/// The field `p`.
pub(super) fn check_p(p: Real) -> Result<(), Mismatch> {
    match (0.0..=1.0).contains(&p.0) {
        true => Ok(()),
        false => Err(Mismatch::new("a probability in 0..=1", p.0.to_string(), "write `p: 0.5`").in_field("p")),
    }
}

impl OpSpec for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        check_p(self.p)?;
        Ok([inputs[0].clone()].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let value = k.load(input, axes.clone());
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn training(&self, site: &mut Training) -> Result<Option<ValueId>, Mismatch> {
        let Chance { seed, step, drawn: number } = site.draw();
        let input = site.inputs()[0];
        Ok(Some(site.node(TrainingDropout { p: self.p, seed, number }, &[input, step])))
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let upstream = back.upstream();
        back.only(upstream)
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        vec![inputs[0].clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_is_a_probability() {
        let ty = TensorType::f32([2usize]);
        assert_eq!(Dropout { p: half() }.infer(&[&ty]).unwrap()[0], ty);
        assert_eq!(Dropout { p: Real(1.5) }.infer(&[&ty]).unwrap_err().field, Some("p"));
    }
}
