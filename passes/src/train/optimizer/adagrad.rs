//! Gradients over the root of the sum of their squares: `torch.optim.Adagrad`.

use super::super::Step;
use super::{decayed, descend};
use fusewright_ir::ValueId;
use fusewright_ir::ops::{Compose, Initializer, Real};

/// With the sum s of squares, parameters follow `g / (sqrt(s) + eps)`; after t finished steps the learning rate is divided
/// by `1 + t * lr_decay`.
pub(super) struct Adagrad {
    pub lr_decay: f64,
    pub weight_decay: f64,
    pub initial: f64,
    pub eps: f64,
}

impl Adagrad {
    pub(super) fn apply(&self, step: &mut Step, rate: ValueId, gradients: &[(ValueId, ValueId)]) {
        let rate = self.falling(step, rate);
        for &(parameter, gradient) in gradients {
            step.at(parameter);
            let gradient = decayed(step, parameter, gradient, self.weight_decay);
            let sums = step.state(parameter, "sum", Initializer::Constant(Real(self.initial)));
            let square = step.map("Square", &[gradient]);
            let sum = step.add(sums, square);
            step.replace(sums, sum);
            let (deviation, eps) = (step.map("Sqrt", &[sum]), step.number(self.eps));
            let deviation = step.add(deviation, eps);
            let direction = step.div(gradient, deviation);
            descend(step, parameter, rate, direction);
        }
    }

    fn falling(&self, step: &mut Step, rate: ValueId) -> ValueId {
        if self.lr_decay == 0.0 {
            return rate;
        }
        step.of_all("rate");
        let finished = step.finished();
        let (more, one) = (step.scaled(finished, self.lr_decay), step.number(1.0));
        let divisor = step.add(more, one);
        step.div(rate, divisor)
    }
}
