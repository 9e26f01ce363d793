//! Losses of an output against a target of the same shape, element by element.

use super::common::{agreed_shape, expect_float};
use super::conv::is_default;
use super::loss::LossReduction;
use super::*;
use crate::jet::Jet;
use crate::kernel::formula::{Formula, IntoTerm, Term};
use crate::kernel::{Axis, FoldKind, Index, KernelBuilder};

/// Output x and target t of one shape; the loss is that of each pair of elements, or their mean or sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PointwiseLoss {
    /// The loss of a pair.
    pub function: PairLoss,
    /// How the losses of pairs become the output.
    pub reduction: LossReduction,
}

/// The loss of an element x against its target t.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairLoss {
    /// (x - t)^2.
    Mse,
    /// |x - t|.
    L1,
    /// (x - t)^2 / (2 beta) where |x - t| < beta, else |x - t| - beta / 2.
    SmoothL1 {
        /// Where the square ends; 0 or more.
        beta: Real,
    },
    /// (x - t)^2 / 2 where |x - t| <= delta, else delta (|x - t| - delta / 2).
    Huber {
        /// Where the square ends; more than 0.
        delta: Real,
    },
    /// -t ln x - (1 - t) ln(1 - x) of probabilities, logarithms at least -100.
    Bce,
    /// The same of x = sigmoid(logit).
    BceWithLogits,
    /// t (ln t - x) of log-probabilities x.
    KlDiv {
        /// Whether the target is given as its logarithm.
        log_target: bool,
    },
}

/// The attributes of losses that have no others.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(default, skip_serializing_if = "is_default")]
    reduction: LossReduction,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SmoothL1 {
    #[serde(default, skip_serializing_if = "is_default")]
    reduction: LossReduction,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    beta: Real,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Huber {
    #[serde(default, skip_serializing_if = "is_default")]
    reduction: LossReduction,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    delta: Real,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KlDiv {
    #[serde(default, skip_serializing_if = "is_default")]
    reduction: LossReduction,
    #[serde(default, skip_serializing_if = "is_default")]
    log_target: bool,
}

fn one() -> Real {
    Real(1.0)
}

fn is_one(real: &Real) -> bool {
    *real == one()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "BCELoss",
        about: "binary cross-entropy of probabilities",
        read: |fields| plain(fields, PairLoss::Bce),
    },
    LayerKind {
        name: "BCEWithLogitsLoss",
        about: "binary cross-entropy of logits",
        read: |fields| plain(fields, PairLoss::BceWithLogits),
    },
    LayerKind {
        name: "HuberLoss",
        about: "squared error near 0, absolute error beyond `delta`",
        read: |fields| {
            let Huber { reduction, delta } = crate::text::read(fields)?;
            Ok(Op::PointwiseLoss(PointwiseLoss { function: PairLoss::Huber { delta }, reduction }))
        },
    },
    LayerKind {
        name: "KLDivLoss",
        about: "Kullback-Leibler divergence of log-probabilities from a target",
        read: |fields| {
            let KlDiv { reduction, log_target } = crate::text::read(fields)?;
            Ok(Op::PointwiseLoss(PointwiseLoss { function: PairLoss::KlDiv { log_target }, reduction }))
        },
    },
    LayerKind { name: "L1Loss", about: "absolute error", read: |fields| plain(fields, PairLoss::L1) },
    LayerKind { name: "MSELoss", about: "squared error", read: |fields| plain(fields, PairLoss::Mse) },
    LayerKind {
        name: "SmoothL1Loss",
        about: "absolute error, rounded off below `beta`",
        read: |fields| {
            let SmoothL1 { reduction, beta } = crate::text::read(fields)?;
            Ok(Op::PointwiseLoss(PointwiseLoss { function: PairLoss::SmoothL1 { beta }, reduction }))
        },
    },
];

fn plain(fields: &Value, function: PairLoss) -> Result<Op, FieldError> {
    let Plain { reduction } = crate::text::read(fields)?;
    Ok(Op::PointwiseLoss(PointwiseLoss { function, reduction }))
}

impl PairLoss {
    pub(super) fn formula<'f>(self, x: Term<'f>, t: Term<'f>) -> Term<'f> {
        let distance = (x - t).abs();
        match self {
            PairLoss::Mse => (x - t) * (x - t),
            PairLoss::L1 => distance,
            PairLoss::SmoothL1 { beta: Real(beta) } => {
                let square = distance * distance / (2.0 * beta);
                distance.below(beta).choose(square, distance - 0.5 * beta)
            }
            PairLoss::Huber { delta: Real(delta) } => {
                let line = (distance - 0.5 * delta) * delta;
                distance.above(delta).choose(line, distance * distance * 0.5)
            }
            PairLoss::Bce => (t - 1.0) * (-x).ln_1p().max(-100.0) - t * x.ln().max(-100.0),
            PairLoss::BceWithLogits => {
                let up = x.above(0.0);
                up.choose(x, 0.0) - x * t + up.choose(-x, x).exp().ln_1p()
            }
            PairLoss::KlDiv { log_target: true } => t.exp() * (t - x),
            PairLoss::KlDiv { log_target: false } => t.equals(0.0).choose(0.0.beside(t), t * t.ln()) - t * x,
        }
    }

    /// The same in f64 with its derivatives, by the textbook.
    pub(super) fn reference(self, x: Jet, t: Jet) -> Jet {
        let log = |p: Jet| if p.ln() <= -100.0 { Jet::from(-100.0) } else { p.ln() };
        match self {
            PairLoss::Mse => (x - t).powi(2),
            PairLoss::L1 => (x - t).abs(),
            PairLoss::SmoothL1 { beta: Real(beta) } if (x - t).abs() < beta => 0.5 * (x - t).powi(2) / beta,
            PairLoss::SmoothL1 { beta } => (x - t).abs() - beta.0 / 2.0,
            PairLoss::Huber { delta: Real(delta) } if (x - t).abs() > delta => delta * ((x - t).abs() - delta / 2.0),
            PairLoss::Huber { .. } => 0.5 * (x - t).powi(2),
            PairLoss::Bce => -(t * log(x) + (1.0 - t) * log(1.0 - x)),
            PairLoss::BceWithLogits => {
                // ln(1 + e^-x) and ln(1 + e^x), each where it does not overflow.
                let (below, above) = if x > 0.0 {
                    ((-x).exp().ln_1p(), x + (-x).exp().ln_1p())
                } else {
                    (-x + x.exp().ln_1p(), x.exp().ln_1p())
                };
                t * below + (1.0 - t) * above
            }
            PairLoss::KlDiv { log_target: true } => t.exp() * t - t.exp() * x,
            PairLoss::KlDiv { log_target: false } if t == 0.0 => -t * x,
            PairLoss::KlDiv { log_target: false } => t * (t.ln() - x),
        }
    }
}

impl OpSpec for PointwiseLoss {
    fn name(&self) -> &'static str {
        match self.function {
            PairLoss::Mse => "MSELoss",
            PairLoss::L1 => "L1Loss",
            PairLoss::SmoothL1 { .. } => "SmoothL1Loss",
            PairLoss::Huber { .. } => "HuberLoss",
            PairLoss::Bce => "BCELoss",
            PairLoss::BceWithLogits => "BCEWithLogitsLoss",
            PairLoss::KlDiv { .. } => "KLDivLoss",
        }
    }

    fn fields(&self) -> String {
        let reduction = self.reduction;
        match self.function {
            PairLoss::SmoothL1 { beta } => crate::text::fields(&SmoothL1 { reduction, beta }),
            PairLoss::Huber { delta } => crate::text::fields(&Huber { reduction, delta }),
            PairLoss::KlDiv { log_target } => crate::text::fields(&KlDiv { reduction, log_target }),
            _ => crate::text::fields(&Plain { reduction }),
        }
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        expect_float(inputs[1])?;
        let wrong = |expected: &str, found: f64, field| {
            let help = "it is the distance at which the loss becomes linear";
            Err(Mismatch::new(expected, found.to_string(), help).in_field(field))
        };
        match self.function {
            PairLoss::KlDiv { .. } if self.reduction == LossReduction::BatchMean && inputs[0].rank() == 0 => {
                let help = "use \"sum\"";
                return Err(Mismatch::new("a batch axis", inputs[0].to_string(), help).in_field("reduction"));
            }
            PairLoss::KlDiv { .. } => {}
            PairLoss::SmoothL1 { beta: Real(beta) } if beta < 0.0 => return wrong("0 or more", beta, "beta"),
            PairLoss::Huber { delta: Real(delta) } if delta <= 0.0 => return wrong("more than 0", delta, "delta"),
            _ => self.reduction.expect_plain()?,
        }
        Ok(self.reduction.output(agreed_shape(inputs[0], inputs[1])?))
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (output, target, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let each = self.reduction == LossReduction::None;
        let mut k = KernelBuilder::new(if each { &output.dims } else { &[] });
        let axes: Vec<Axis> = (0..output.dims.len()).map(|i| if each { k.outer(i) } else { k.inner(i) }).collect();
        let x = k.load(output, axes.iter().copied());
        let t = k.load(target, axes.iter().copied());
        let loss = {
            let formula = Formula::new(&mut k);
            self.function.formula(formula.term(x), formula.term(t)).id()
        };
        if each {
            k.store(out, axes, loss);
            return vec![k.finish()];
        }
        let mut value = k.fold(FoldKind::Sum, &output.dims, loss);
        let divisor = match self.reduction {
            LossReduction::Mean => Some(output.dims.iter().product::<usize>()),
            LossReduction::BatchMean => Some(output.dims[0]),
            LossReduction::Sum | LossReduction::None => None,
        };
        if let Some(divisor) = divisor {
            let divisor = k.number(divisor as f64);
            value = k.div(value, divisor);
        }
        k.store(out, [] as [Index; 0], value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let operands = back.inputs().to_vec();
        let dims = back.dims(operands[0]);
        let divisor = match self.reduction {
            LossReduction::Mean => dims.iter().product(),
            LossReduction::BatchMean => dims[0],
            LossReduction::Sum | LossReduction::None => 1,
        };
        let upstream = back.upstream();
        let share = back.scaled(upstream, 1.0 / divisor as f64);
        let mut gradients = back.nothing();
        for i in 0..2 {
            if back.wants(i) {
                let of = Pointwise::Loss(self.function);
                let gradient = Derivative::build(back, &of, &[], &operands, i, share);
                gradients[i] = gradient.map(|gradient| back.expanded(gradient, &dims));
            }
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let pairs = inputs[0].data.iter().zip(&inputs[1].data);
        let losses: Vec<f64> = pairs.map(|(&x, &t)| self.function.reference(x.into(), t.into()).value()).collect();
        let sum: f64 = losses.iter().sum();
        let data = match self.reduction {
            LossReduction::None => losses,
            LossReduction::Sum => vec![sum],
            LossReduction::Mean => vec![sum / losses.len() as f64],
            LossReduction::BatchMean => vec![sum / inputs[0].dims[0] as f64],
        };
        vec![Array { dims, data }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(function: PairLoss, reduction: LossReduction, target: &[usize]) -> Result<String, Mismatch> {
        let (x, t) = (TensorType::f32([2usize, 3]), TensorType::f32(target.iter().copied()));
        PointwiseLoss { function, reduction }.infer(&[&x, &t]).map(|types| types[0].to_string())
    }

    #[test]
    fn shapes_are_equal() {
        assert_eq!(infer(PairLoss::Mse, LossReduction::Mean, &[2, 3]).as_deref(), Ok("f32[]"));
        assert_eq!(infer(PairLoss::L1, LossReduction::None, &[2, 3]).as_deref(), Ok("f32[2, 3]"));
        let mismatch = infer(PairLoss::Mse, LossReduction::Mean, &[2, 1]).unwrap_err();
        assert_eq!(mismatch.found, "f32[2, 3] and f32[2, 1]");
        assert!(infer(PairLoss::Mse, LossReduction::Mean, &[3]).is_err());
    }

    #[test]
    fn attributes_are_checked() {
        let kl = PairLoss::KlDiv { log_target: false };
        assert!(infer(kl, LossReduction::BatchMean, &[2, 3]).is_ok());
        let field = |function, reduction| infer(function, reduction, &[2, 3]).unwrap_err().field;
        assert_eq!(field(PairLoss::Mse, LossReduction::BatchMean), Some("reduction"));
        assert_eq!(field(PairLoss::Huber { delta: Real(0.0) }, LossReduction::Mean), Some("delta"));
        assert_eq!(field(PairLoss::SmoothL1 { beta: Real(-1.0) }, LossReduction::Mean), Some("beta"));
    }
}
