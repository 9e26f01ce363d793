//! Schedules at random: the code generator must be right for any.

use super::random::Random;
use fusewright::ir::kernel::{Axis, FoldKind};
use fusewright::ir::plan::access::gathered;
use fusewright::ir::plan::{Plan, Rest, Schedule, Step, Vector};
use smallvec::SmallVec;

/// Gives every step of a plan a schedule at random.
pub fn randomise(plan: &mut Plan, random: &mut Random) {
    let bands: Vec<_> = plan.bands.iter().map(|band| band.steps.clone()).collect();
    let in_band = |step: usize| bands.iter().any(|band| band.contains(&step));
    let setup = plan.setup.iter_mut().map(|step| (step, false, false));
    let steps = plan.steps.iter_mut().enumerate().map(|(i, step)| (step, in_band(i), !in_band(i)));
    for (step, in_band, may_gather) in setup.chain(steps) {
        if random.chance(90) {
            step.schedule = schedule(step, random);
            if in_band {
                // The axis of a band is its kernels' outermost loop, by itself.
                let first = Axis(0);
                step.schedule.order.retain(|axis| *axis != first);
                step.schedule.order.insert(0, first);
                step.schedule.tile.retain(|(axis, _)| *axis != first);
                if matches!(step.schedule.vector, Some(Vector::Outer { axis, .. }) if axis == first) {
                    step.schedule.vector = None;
                }
            }
            let gathered = gathered(&step.kernel, &step.schedule).filter(|_| may_gather);
            if let Some(gathered) = gathered.filter(|_| random.chance(70)) {
                step.schedule.gather = true;
                let bytes = gathered.bytes().next_multiple_of(64);
                plan.scratch_bytes = plan.scratch_bytes.max(bytes);
            }
        }
    }
}

fn schedule(step: &Step, random: &mut Random) -> Schedule {
    let kernel = &step.kernel;
    let mut schedule = Schedule::plain(kernel);
    random.shuffle(&mut schedule.order);
    schedule.windows = random.chance(30);
    schedule.ahead = random.chance(30);
    for (order, fold) in schedule.fold_orders.iter_mut().zip(&kernel.folds) {
        // The first of equal elements is meant.
        if !matches!(fold.kind, FoldKind::ArgMax | FoldKind::ArgMin) {
            random.shuffle(order);
        }
    }
    let n_outer = kernel.outer.len();
    let axes: Vec<Axis> = (0..n_outer as u32).map(Axis).collect();
    schedule.vector = match random.below(10) {
        0 | 1 => None,
        2..=4 => Some(Vector::Inner),
        _ if axes.is_empty() => None,
        _ => Some(Vector::Outer { axis: random.pick(&axes), lanes: random.pick(&[4, 8, 8, 12, 16, 24, 33, 64]) }),
    };
    let lanes = match schedule.vector {
        Some(Vector::Outer { axis, .. }) => Some(axis),
        _ => None,
    };
    let mut free: Vec<Axis> = axes.into_iter().filter(|axis| Some(*axis) != lanes).collect();
    let mut tile = |n: usize, random: &mut Random| -> SmallVec<[(Axis, u32); 2]> {
        random.shuffle(&mut free);
        free.iter().take(n).map(|&axis| (axis, random.between(1, 4) as u32)).collect()
    };
    schedule.tile = tile(random.below(3), random);
    schedule.rests = (0..random.below(3))
        .filter(|_| n_outer > 0)
        .map(|_| Rest { axis: Axis(random.below(n_outer) as u32), tile: tile(random.below(3), random) })
        .collect();
    schedule.streaming = random.chance(20);
    schedule
}
