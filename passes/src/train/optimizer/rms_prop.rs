//! Gradients over the root of their mean square: `torch.optim.RMSprop`.

use super::super::Step;
use super::{decayed, descend};
use fusewright_ir::ValueId;
use fusewright_ir::ops::{Compose, Initializer};

/// With the mean v of squares that forgets, parameters follow `g / (sqrt(v) + eps)`, or a momentum of it. Centered, the
/// square of the mean of gradients is taken off v.
pub(super) struct RmsProp {
    pub alpha: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub momentum: f64,
    pub centered: bool,
}

impl RmsProp {
    pub(super) fn apply(&self, step: &mut Step, rate: ValueId, gradients: &[(ValueId, ValueId)]) {
        for &(parameter, gradient) in gradients {
            step.at(parameter);
            let gradient = decayed(step, parameter, gradient, self.weight_decay);
            let squares = step.state(parameter, "square_avg", Initializer::Zeros);
            let square = step.map("Square", &[gradient]);
            let mut square = step.mixed(squares, square, self.alpha);
            step.replace(squares, square);
            if self.centered {
                let means = step.state(parameter, "grad_avg", Initializer::Zeros);
                let mean = step.mixed(means, gradient, self.alpha);
                step.replace(means, mean);
                let level = step.map("Square", &[mean]);
                let rest = step.sub(square, level);
                // Of gradients that stay the same, rounding may leave less than nothing.
                square = step.map("Relu", &[rest]);
            }
            let (deviation, eps) = (step.map("Sqrt", &[square]), step.number(self.eps));
            let deviation = step.add(deviation, eps);
            let mut direction = step.div(gradient, deviation);
            if self.momentum != 0.0 {
                let buffer = step.state(parameter, "momentum_buffer", Initializer::Zeros);
                let repeated = step.scaled(buffer, self.momentum);
                direction = step.add(repeated, direction);
                step.replace(buffer, direction);
            }
            descend(step, parameter, rate, direction);
        }
    }
}
