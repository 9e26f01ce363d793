//! Program to plan: what runs once and what runs for every call, how every buffer lies in memory, how every kernel is
//! run, in which order, and where every buffer is. One file a stage:
//!
//! 1. `layout` chooses the innermost axis of every buffer;
//! 2. `halo` makes padding a part of buffers;
//! 3. `schedule` chooses vectors, register tiles and loop orders;
//! 4. `pack` puts constants into the order in which kernels read them;
//! 5. `order` chooses a sequence with little memory live at once;
//! 6. `memory` gives every buffer its place.

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
}

impl Default for PlanOptions {
    /// The portable machine, and about a millisecond for the search.
    fn default() -> PlanOptions {
        let placement = Limits { search_steps: 1_000_000, ..Limits::default() };
        PlanOptions { machine: Machine::PORTABLE, placement }
    }
}

/// The plan of a program.
pub fn plan(program: Program, options: &PlanOptions) -> Plan {
    let mut draft = Draft::new(program);
    layout::choose(&mut draft);
    halo::widen(&mut draft);
    schedule::all(&mut draft, &options.machine);
    pack::all(&mut draft);
    order::order(&mut draft);
    halo::fill(&mut draft, &options.machine);
    memory::place(draft, options)
}
