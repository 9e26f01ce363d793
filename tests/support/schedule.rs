//! Schedules at random: the code generator must be right for any.

use super::random::Random;
use fusewright::ir::kernel::{Axis, FoldKind};
use fusewright::ir::plan::{Plan, Schedule, Step, Vector};

/// Gives every step of a plan a schedule at random.
pub fn randomise(plan: &mut Plan, random: &mut Random) {
    for step in plan.setup.iter_mut().chain(&mut plan.steps) {
        if random.chance(90) {
            step.schedule = schedule(step, random);
        }
    }
}

fn schedule(step: &Step, random: &mut Random) -> Schedule {
    let kernel = &step.kernel;
    let mut schedule = Schedule::plain(kernel);
    random.shuffle(&mut schedule.order);
    for (order, fold) in schedule.fold_orders.iter_mut().zip(&kernel.folds) {
        // The first of equal elements is meant.
        if !matches!(fold.kind, FoldKind::ArgMax | FoldKind::ArgMin) {
            random.shuffle(order);
        }
    }
    let axes: Vec<Axis> = (0..kernel.outer.len() as u32).map(Axis).collect();
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
    random.shuffle(&mut free);
    let n_tiles = random.below(3);
    schedule.tile = free.into_iter().take(n_tiles).map(|axis| (axis, random.between(1, 4) as u32)).collect();
    schedule.streaming = random.chance(20);
    schedule
}
