//! Which numbers of a recipe make sense: what `torch.optim` accepts, and nothing that makes NaN.

use super::{Clip, Optimizer, Rate, Schedule, Time};
use crate::ops::{Mismatch, Real};

impl Optimizer {
    /// Whether the numbers of the method make sense.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn check(&self) -> Result<(), Mismatch> {
        match *self {
            Optimizer::Sgd { lr, momentum, dampening, weight_decay, nesterov } => {
                not_negative("lr", lr)?;
                not_negative("momentum", momentum)?;
                finite("dampening", dampening)?;
                not_negative("weight_decay", weight_decay)?;
                if nesterov && (momentum.0 == 0.0 || dampening.0 != 0.0) {
                    let found = format!("momentum {} and dampening {}", momentum.0, dampening.0);
                    let help = "Nesterov's method looks ahead along the momentum";
                    let expected = "a momentum above 0 and no dampening with `nesterov`";
                    return Err(Mismatch::new(expected, found, help).in_field("nesterov"));
                }
                Ok(())
            }
            Optimizer::Adam { lr, betas, eps, weight_decay } | Optimizer::AdamW { lr, betas, eps, weight_decay } => {
                not_negative("lr", lr)?;
                for beta in [betas.0, betas.1] {
                    if !(0.0..1.0).contains(&beta.0) {
                        let help = "the part of the old mean that stays: PyTorch's defaults are (0.9, 0.999)";
                        let mismatch = Mismatch::new("two numbers in 0..1, 1 excluded", beta.0.to_string(), help);
                        return Err(mismatch.in_field("betas"));
                    }
                }
                not_negative("eps", eps)?;
                not_negative("weight_decay", weight_decay)
            }
            Optimizer::RmsProp { lr, alpha, eps, weight_decay, momentum, centered: _ } => {
                not_negative("lr", lr)?;
                not_negative("eps", eps)?;
                not_negative("momentum", momentum)?;
                not_negative("weight_decay", weight_decay)?;
                part("alpha", alpha)
            }
            Optimizer::Adagrad { lr, lr_decay, weight_decay, initial_accumulator_value, eps } => {
                not_negative("lr", lr)?;
                not_negative("lr_decay", lr_decay)?;
                not_negative("weight_decay", weight_decay)?;
                not_negative("initial_accumulator_value", initial_accumulator_value)?;
                not_negative("eps", eps)
            }
        }
    }
}

impl Rate {
    /// Whether the numbers of the schedule make sense.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn check(&self) -> Result<(), Mismatch> {
        if let Some((time, from)) = self.warmup {
            lasting("warmup", time)?;
            not_negative("warmup_from", from)?;
        }
        match self.schedule {
            Schedule::Constant => Ok(()),
            Schedule::Step { every, gamma } => {
                lasting("every", every)?;
                not_negative("gamma", gamma)
            }
            Schedule::Cosine { over, to } => {
                over.map_or(Ok(()), |over| lasting("over", over))?;
                not_negative("to", to)
            }
            Schedule::OneCycle { over, pct_start, div_factor, final_div_factor } => {
                over.map_or(Ok(()), |over| lasting("over", over))?;
                part("pct_start", pct_start)?;
                positive("div_factor", div_factor)?;
                positive("final_div_factor", final_div_factor)
            }
        }
    }
}

impl Clip {
    /// Whether the limit makes sense.
    ///
    /// # Errors
    /// Where it does not.
    pub fn check(&self) -> Result<(), Mismatch> {
        let (Clip::Norm(limit) | Clip::Value(limit)) = *self;
        positive("clip", limit)
    }
}

fn finite(field: &'static str, number: Real) -> Result<(), Mismatch> {
    expect(number.0.is_finite(), field, "a finite number", number)
}

fn not_negative(field: &'static str, number: Real) -> Result<(), Mismatch> {
    expect(number.0.is_finite() && number.0 >= 0.0, field, "a number, 0 or more", number)
}

fn positive(field: &'static str, number: Real) -> Result<(), Mismatch> {
    expect(number.0.is_finite() && number.0 > 0.0, field, "a number above 0", number)
}

fn part(field: &'static str, number: Real) -> Result<(), Mismatch> {
    expect((0.0..=1.0).contains(&number.0), field, "a part in 0..=1", number)
}

fn lasting(field: &'static str, time: Time) -> Result<(), Mismatch> {
    match time {
        Time::Steps(0) => Err(Mismatch::new("1 step or more", "0 steps", "write `Steps(1)` or more").in_field(field)),
        Time::Steps(_) => Ok(()),
        Time::Epochs(epochs) => positive(field, epochs),
    }
}

fn expect(holds: bool, field: &'static str, expected: &str, found: Real) -> Result<(), Mismatch> {
    match holds {
        true => Ok(()),
        false => {
            let help = format!("give `{field}` another value");
            Err(Mismatch::new(expected, found.0.to_string(), help).in_field(field))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{betas, tiny, zero};

    fn sgd(lr: f64, momentum: f64, dampening: f64, nesterov: bool) -> Optimizer {
        let (momentum, dampening) = (Real(momentum), Real(dampening));
        Optimizer::Sgd { lr: Real(lr), momentum, dampening, weight_decay: zero(), nesterov }
    }

    #[test]
    fn optimizers_refuse_what_torch_refuses() {
        let field = |optimizer: Optimizer| optimizer.check().err().and_then(|mismatch| mismatch.field);
        assert_eq!(field(sgd(0.1, 0.9, 0.5, false)), None);
        assert_eq!(field(sgd(0.1, 0.9, 0.0, true)), None);
        assert_eq!(field(sgd(-0.1, 0.9, 0.0, false)), Some("lr"));
        assert_eq!(field(sgd(f64::INFINITY, 0.9, 0.0, false)), Some("lr"));
        assert_eq!(field(sgd(0.1, -0.9, 0.0, false)), Some("momentum"));
        assert_eq!(field(sgd(0.1, 0.0, 0.0, true)), Some("nesterov"));
        assert_eq!(field(sgd(0.1, 0.9, 0.1, true)), Some("nesterov"));
        let adam = |betas| Optimizer::Adam { lr: Real(0.1), betas, eps: tiny(), weight_decay: zero() };
        assert_eq!(field(adam(betas())), None);
        assert_eq!(field(adam((Real(0.9), Real(1.0)))), Some("betas"));
        assert_eq!(field(adam((Real(-0.1), Real(0.9)))), Some("betas"));
    }

    #[test]
    fn schedules_last() {
        let field = |rate: Rate| rate.check().err().and_then(|mismatch| mismatch.field);
        let step = |every, gamma| Rate { warmup: None, schedule: Schedule::Step { every, gamma: Real(gamma) } };
        assert_eq!(field(Rate::default()), None);
        assert_eq!(field(step(Time::Steps(3), 0.1)), None);
        assert_eq!(field(step(Time::Steps(0), 0.1)), Some("every"));
        assert_eq!(field(step(Time::Epochs(Real(-1.0)), 0.1)), Some("every"));
        assert_eq!(field(step(Time::Steps(3), -0.1)), Some("gamma"));
        let warmup = Rate { warmup: Some((Time::Steps(0), zero())), ..Rate::default() };
        assert_eq!(field(warmup), Some("warmup"));
        assert_eq!(Clip::Norm(zero()).check().unwrap_err().field, Some("clip"));
    }
}
