//! Parameters from their gradients, as `torch.optim` has it: one file a method.

mod adagrad;
mod adam;
mod rms_prop;
mod sgd;

use super::Step;
use adagrad::Adagrad;
use adam::Adam;
use fusewright_ir::ValueId;
use fusewright_ir::ops::Compose;
use fusewright_ir::recipe::Optimizer;
use rms_prop::RmsProp;
use sgd::Sgd;

/// Updates parameters, each with its gradient. `factor` is that of the learning rate, a number; none for 1.
pub(super) fn apply(step: &mut Step, optimizer: &Optimizer, factor: Option<ValueId>, gradients: &[(ValueId, ValueId)]) {
    step.of_all("rate");
    let mut rate = |lr: f64| match factor {
        Some(factor) => step.scaled(factor, lr),
        None => step.number(lr),
    };
    match *optimizer {
        Optimizer::Sgd { lr, momentum, dampening, weight_decay, nesterov } => {
            let rate = rate(lr.0);
            let (momentum, dampening, weight_decay) = (momentum.0, dampening.0, weight_decay.0);
            Sgd { momentum, dampening, weight_decay, nesterov }.apply(step, rate, gradients);
        }
        Optimizer::Adam { lr, betas, eps, weight_decay } => {
            let rate = rate(lr.0);
            let (betas, eps, weight_decay) = ((betas.0.0, betas.1.0), eps.0, weight_decay.0);
            Adam { betas, eps, weight_decay, decoupled: false }.apply(step, rate, gradients);
        }
        Optimizer::AdamW { lr, betas, eps, weight_decay } => {
            let rate = rate(lr.0);
            let (betas, eps, weight_decay) = ((betas.0.0, betas.1.0), eps.0, weight_decay.0);
            Adam { betas, eps, weight_decay, decoupled: true }.apply(step, rate, gradients);
        }
        Optimizer::RmsProp { lr, alpha, eps, weight_decay, momentum, centered } => {
            let rate = rate(lr.0);
            let (alpha, eps, weight_decay, momentum) = (alpha.0, eps.0, weight_decay.0, momentum.0);
            RmsProp { alpha, eps, weight_decay, momentum, centered }.apply(step, rate, gradients);
        }
        Optimizer::Adagrad { lr, lr_decay, weight_decay, initial_accumulator_value, eps } => {
            let rate = rate(lr.0);
            let (lr_decay, weight_decay) = (lr_decay.0, weight_decay.0);
            Adagrad { lr_decay, weight_decay, initial: initial_accumulator_value.0, eps: eps.0 }
                .apply(step, rate, gradients);
        }
    }
}

/// A gradient with that of half the sum of the parameters' squares, times `decay`, added.
fn decayed(step: &mut Step, parameter: ValueId, gradient: ValueId, decay: f64) -> ValueId {
    if decay == 0.0 {
        return gradient;
    }
    let pull = step.scaled(parameter, decay);
    step.add(gradient, pull)
}

/// Makes `parameter - rate * direction` the parameter's update.
fn descend(step: &mut Step, parameter: ValueId, rate: ValueId, direction: ValueId) {
    let change = step.mul(rate, direction);
    let new = step.sub(parameter, change);
    step.replace(parameter, new);
}
