//! Program to plan: what runs once and what runs for every call, how every buffer lies in memory, how every kernel is
//! run, in which order, and where every buffer is. One file a stage:
//!
//! 1. `split` cuts long folds of few results into chunks;
//! 2. `layout` chooses the innermost axis of every buffer;
//! 3. `halo` makes padding a part of buffers;
//! 4. `schedule` chooses vectors, register tiles and loop orders;
//! 5. `pack` puts constants into the order in which kernels read them;
//! 6. `order` chooses a sequence with little memory live at once;
//! 7. `memory` gives every buffer its place.

mod draft;
mod halo;
mod layout;
mod machine;
mod memory;
mod order;
mod pack;
#[cfg(test)]
mod samples;
mod schedule;
mod split;

pub use crate::place::Limits;
pub use machine::Machine;

use draft::Draft;
use fusewright_ir::kernel::Program;
use fusewright_ir::plan::Plan;

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// The machine.
    pub machine: Machine,
    /// How far the search for a small arena goes.
    pub placement: Limits,
    /// Folds over at least so many points are cut into chunks where a kernel has few results.
    pub long_fold: usize,
}

impl Default for PlanOptions {
    /// The portable machine, and about a millisecond for the search.
    fn default() -> PlanOptions {
        let placement = Limits { search_steps: 1_000_000, ..Limits::default() };
        PlanOptions { machine: Machine::PORTABLE, placement, long_fold: 1 << 14 }
    }
}

/// The plan of a program.
pub fn plan(mut program: Program, options: &PlanOptions) -> Plan {
    split::all(&mut program, options.long_fold);
    let mut draft = Draft::new(program);
    layout::choose(&mut draft);
    halo::widen(&mut draft);
    schedule::all(&mut draft, &options.machine);
    pack::all(&mut draft);
    order::order(&mut draft);
    halo::fill(&mut draft, &options.machine);
    memory::place(draft, options)
}
