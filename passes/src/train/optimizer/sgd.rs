//! Stochastic gradient descent: `torch.optim.SGD`.

use super::super::Step;
use super::{decayed, descend};
use fusewright_ir::ValueId;
use fusewright_ir::ops::{Compose, Initializer};

/// The buffer b of each parameter is the first gradient g and then `momentum * b + (1 - dampening) * g`; parameters follow
/// it, or with Nesterov's momentum `g + momentum * b`.
pub(super) struct Sgd {
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
}

impl Sgd {
    pub(super) fn apply(&self, step: &mut Step, rate: ValueId, gradients: &[(ValueId, ValueId)]) {
        let share = (self.momentum != 0.0 && self.dampening != 0.0).then(|| self.share(step));
        for &(parameter, gradient) in gradients {
            step.at(parameter);
            let gradient = decayed(step, parameter, gradient, self.weight_decay);
            if self.momentum == 0.0 {
                descend(step, parameter, rate, gradient);
                continue;
            }
            let buffer = step.state(parameter, "momentum_buffer", Initializer::Zeros);
            let repeated = step.scaled(buffer, self.momentum);
            let own = share.map_or(gradient, |share| step.mul(gradient, share));
            let new = step.add(repeated, own);
            step.replace(buffer, new);
            let direction = match self.nesterov {
                true => {
                    let ahead = step.scaled(new, self.momentum);
                    step.add(gradient, ahead)
                }
                false => new,
            };
            descend(step, parameter, rate, direction);
        }
    }

    /// How much of the gradient goes into the buffer, which is zero at first: all of it in the first step.
    fn share(&self, step: &mut Step) -> ValueId {
        step.of_all("share");
        let finished = step.finished();
        let (zero, all, rest) = (step.number(0.0), step.number(1.0), step.number(1.0 - self.dampening));
        let is_first = step.map("Equal", &[finished, zero]);
        step.map("Where", &[is_first, all, rest])
    }
}
