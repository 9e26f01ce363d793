//! The learning rate of each step, as a number that is computed from the count of finished steps. Values are those of
//! `torch.optim.lr_scheduler`, one `scheduler.step()` a step.
//!
//! Half a cosine is written as the square of a sine that is small where the rate is small: its error there is small, too.

use super::{Step, StepOptions};
use fusewright_ir::ValueId;
use fusewright_ir::ops::Compose;
use fusewright_ir::recipe::{Rate, Schedule, Time};
use std::f64::consts::FRAC_PI_2;

/// The factor of the optimiser's learning rate, an f32; none where it is always 1.
pub(super) fn factor(step: &mut Step, rate: &Rate, options: &StepOptions) -> Option<ValueId> {
    step.of_all("rate");
    let warmup = rate.warmup.map(|(time, from)| warmup(step, steps(time, options), from.0));
    let schedule = scheduled(step, &rate.schedule, options);
    match (warmup, schedule) {
        (Some(warmup), Some(schedule)) => Some(step.mul(warmup, schedule)),
        (warmup, schedule) => warmup.or(schedule),
    }
}

/// A time in steps.
fn steps(time: Time, options: &StepOptions) -> f64 {
    match time {
        Time::Steps(steps) => steps as f64,
        Time::Epochs(epochs) => (epochs.0 * options.steps_per_epoch as f64).round().max(1.0),
    }
}

/// `LinearLR` up to 1.
fn warmup(step: &mut Step, over: f64, from: f64) -> ValueId {
    let part = part(step, 0.0, over);
    rising(step, part, from)
}

/// `from + (1 - from) * part`.
fn rising(step: &mut Step, part: ValueId, from: f64) -> ValueId {
    let (rise, from) = (step.scaled(part, 1.0 - from), step.number(from));
    step.add(rise, from)
}

/// How far the count of finished steps is on its way from `start` to `end`, in 0..=1.
fn part(step: &mut Step, start: f64, end: f64) -> ValueId {
    let finished = step.finished();
    let (start, length, one) = (step.number(start), step.number(end - start), step.number(1.0));
    let done = step.sub(finished, start);
    let part = step.div(done, length);
    let part = step.map("Relu", &[part]);
    step.map("Min", &[part, one])
}

/// How much of the way is left, computed so that little is exact.
fn left(step: &mut Step, start: f64, end: f64) -> ValueId {
    let finished = step.finished();
    let (end, length, one) = (step.number(end), step.number(end - start), step.number(1.0));
    let left = step.sub(end, finished);
    let part = step.div(left, length);
    let part = step.map("Relu", &[part]);
    step.map("Min", &[part, one])
}

/// Half a cosine from 0 to 1, as a function of the part of the way.
fn half_cosine(step: &mut Step, part: ValueId) -> ValueId {
    let angle = step.scaled(part, FRAC_PI_2);
    let sine = step.map("Sin", &[angle]);
    step.map("Square", &[sine])
}

fn scheduled(step: &mut Step, schedule: &Schedule, options: &StepOptions) -> Option<ValueId> {
    let whole = options.total_steps as f64;
    Some(match *schedule {
        Schedule::Constant => return None,
        Schedule::Step { every, gamma } => {
            // Half a step more keeps the quotient away from whole numbers, whatever its rounding.
            let (finished, half) = (step.finished(), step.number(0.5));
            let middle = step.add(finished, half);
            let every = step.number(steps(every, options));
            let times = step.div(middle, every);
            let times = step.map("Floor", &[times]);
            let gamma = step.number(gamma.0);
            step.map("Pow", &[gamma, times])
        }
        Schedule::Cosine { over, to } => {
            let over = over.map_or(whole, |over| steps(over, options));
            let left = left(step, 0.0, over);
            let above = half_cosine(step, left);
            rising(step, above, to.0)
        }
        Schedule::OneCycle { over, pct_start, div_factor, final_div_factor } => {
            let over = over.map_or(whole, |over| steps(over, options));
            // PyTorch's turning points: the last steps of the two phases.
            let (turn, end) = (pct_start.0 * over - 1.0, over - 1.0);
            let low = 1.0 / div_factor.0;
            let up = (turn > 0.0).then(|| {
                let done = part(step, 0.0, turn);
                let above = half_cosine(step, done);
                rising(step, above, low)
            });
            let down = (end > turn).then(|| {
                let left = left(step, turn, end);
                let above = half_cosine(step, left);
                rising(step, above, low / final_div_factor.0)
            });
            // Each is 1 while the other one moves.
            match (up, down) {
                (Some(up), Some(down)) => step.mul(up, down),
                (up, down) => return up.or(down),
            }
        }
    })
}
