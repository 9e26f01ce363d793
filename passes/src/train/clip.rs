//! Large gradients made smaller: `clip_grad_norm_` and `clip_grad_value_`.

use super::Step;
use fusewright_ir::ValueId;
use fusewright_ir::ops::{Compose, Map, Real, Reduce, Reduction};
use fusewright_ir::recipe::Clip;

/// Puts clipped gradients in the place of the second of each pair.
pub(super) fn apply(step: &mut Step, clip: &Clip, gradients: &mut [(ValueId, ValueId)]) {
    match clip {
        Clip::Norm(limit) => {
            let factor = factor(step, limit.0, gradients);
            for (parameter, gradient) in gradients {
                step.at(*parameter);
                *gradient = step.mul(*gradient, factor);
            }
        }
        Clip::Value(limit) => {
            let mut between = Map::named("Clip").expect("a row of the table");
            between.attributes = [Real(-limit.0), *limit].into_iter().collect();
            for (parameter, gradient) in gradients {
                step.at(*parameter);
                *gradient = step.node(between.clone(), &[*gradient]);
            }
        }
    }
}

/// What brings the Euclidean norm of all gradients together down to `limit`, 1 at most.
fn factor(step: &mut Step, limit: f64, gradients: &[(ValueId, ValueId)]) -> ValueId {
    let mut total = None;
    for &(parameter, gradient) in gradients {
        step.at(parameter);
        let squares = step.map("Square", &[gradient]);
        let sum = step.node(Reduce::over(Reduction::Sum, [], false), &[squares]);
        total = Some(total.map_or(sum, |total| step.add(total, sum)));
    }
    step.of_all("clip");
    let total = total.expect("checked: something is learned");
    let norm = step.map("Sqrt", &[total]);
    // PyTorch's guard against division by 0.
    let guard = step.number(1e-6);
    let norm = step.add(norm, guard);
    let (limit, one) = (step.number(limit), step.number(1.0));
    let factor = step.map("Div", &[limit, norm]);
    step.map("Min", &[factor, one])
}
