//! Adaptive moments: `torch.optim.Adam` and `torch.optim.AdamW`.

use super::super::Step;
use super::{decayed, descend};
use fusewright_ir::ValueId;
use fusewright_ir::ops::{Compose, Initializer};

/// Means m of gradients and v of their squares that forget, divided by what they lack after t steps, `1 - beta^t`:
/// parameters follow `m / (sqrt(v) + eps)` (Kingma and Ba 2015).
pub(super) struct Adam {
    pub betas: (f64, f64),
    pub eps: f64,
    pub weight_decay: f64,
    /// Whether parameters shrink by themselves, apart from the means (Loshchilov and Hutter 2019).
    pub decoupled: bool,
}

impl Adam {
    pub(super) fn apply(&self, step: &mut Step, rate: ValueId, gradients: &[(ValueId, ValueId)]) {
        step.of_all("rate");
        let kept = (self.decoupled && self.weight_decay != 0.0).then(|| {
            let (one, shrunk) = (step.number(1.0), step.scaled(rate, self.weight_decay));
            step.sub(one, shrunk)
        });
        let rate = correction(step, self.betas.0).map_or(rate, |correction| step.div(rate, correction));
        let root = correction(step, self.betas.1).map(|correction| step.map("Rsqrt", &[correction]));
        for &(parameter, gradient) in gradients {
            step.at(parameter);
            let decay = if self.decoupled { 0.0 } else { self.weight_decay };
            let gradient = decayed(step, parameter, gradient, decay);
            let means = step.state(parameter, "exp_avg", Initializer::Zeros);
            let squares = step.state(parameter, "exp_avg_sq", Initializer::Zeros);
            let mean = step.mixed(means, gradient, self.betas.0);
            let square = step.map("Square", &[gradient]);
            let square = step.mixed(squares, square, self.betas.1);
            step.replace(means, mean);
            step.replace(squares, square);

            let deviation = step.map("Sqrt", &[square]);
            let deviation = root.map_or(deviation, |root| step.mul(deviation, root));
            let eps = step.number(self.eps);
            let deviation = step.add(deviation, eps);
            let direction = step.div(mean, deviation);
            match kept {
                None => descend(step, parameter, rate, direction),
                Some(kept) => {
                    let (rest, change) = (step.mul(parameter, kept), step.mul(rate, direction));
                    let new = step.sub(rest, change);
                    step.replace(parameter, new);
                }
            }
        }
    }
}

/// `1 - beta^t` in step t, the first being 1, as `-expm1(t ln beta)`: near 1, beta would lose it by rounding. None where it
/// is 1.
fn correction(step: &mut Step, beta: f64) -> Option<ValueId> {
    (beta != 0.0).then(|| {
        let (finished, one) = (step.finished(), step.number(1.0));
        let t = step.add(finished, one);
        let exponent = step.scaled(t, beta.ln());
        let lacking = step.map("Expm1", &[exponent]);
        step.map("Neg", &[lacking])
    })
}
