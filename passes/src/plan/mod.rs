//! Program to plan: what runs once and what runs for every call, how every buffer lies in memory, how every kernel is
//! run, in which order, and where every buffer is. One file a stage:
//!
//! Before all, `state` fixes how state lies, which every plan of a network shares; `winograd` rewrites convolutions that need
//! fewer multiplications so, `split` cuts long folds of few results into chunks, and `literals` computes what depends on
//! numbers alone.
//!
//! 1. `rows` makes one axis of neighbours that all kernels go along alike;
//!    `layout` chooses the innermost axis of every buffer, and `border` runs the copies that this takes beside the kernels
//!    that they serve;
//! 2. `halo` makes padding a part of buffers, where sums do not leave it out (`padding`);
//!    `apart` keeps planes that are written together from meeting in one set of a cache;
//! 3. `schedule` chooses vectors, register tiles and loop orders;
//! 4. `pack` puts constants into the order in which kernels read them;
//! 5. `order` chooses a sequence with little memory live at once;
//! 6. `recompute` makes the arena smaller where it is to be, by running kernels again;
//! 7. `memory` gives every buffer its place.

mod apart;
mod border;
mod draft;
mod halo;
mod layout;
mod literals;
mod machine;
mod memory;
mod order;
mod pack;
mod padding;
mod recompute;
mod rows;
#[cfg(test)]
mod samples;
mod schedule;
mod split;
mod state;
mod winograd;

pub use crate::place::Limits;
pub use machine::Machine;
pub use recompute::MemoryFloor;
use winograd::Rewritten;
pub use winograd::{Question, Ways, questions};

use draft::Draft;
use fusewright_ir::kernel::Program;
use fusewright_ir::plan::{Outline, Plan};

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// The machine.
    pub machine: Machine,
    /// How far the search for a small arena goes.
    pub placement: Limits,
    /// Folds over at least so many points are cut into chunks where a kernel has few results.
    pub long_fold: usize,
    /// Bytes that kernels may go over again and again as if they were near: sums whose operands take more, and that many
    /// results need, are cut into chunks, and what copies at the border hand on is made position by position. Half of the
    /// machine's second-level cache where nothing is said.
    pub near_bytes: Option<u64>,
    /// Which convolutions are computed by transforms.
    pub winograd: Winograd,
    /// What was measured of convolutions: [`Winograd::Auto`] takes it in the place of its estimates.
    pub ways: Ways,
    /// Bytes of parameters and constants, as they are kept, that faster ways to compute may take in all.
    pub constant_limit: Option<u64>,
    /// Bytes of the arena: what does not fit is computed again where it is needed.
    pub memory_limit: Option<u64>,
}

/// Which convolutions are computed with fewer multiplications by transforms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Winograd {
    /// Those that are estimated to be faster so on the machine.
    #[default]
    Auto,
    /// None: sums are computed as they are written.
    Never,
    /// All that can be, with this number of points (4 or 6) along the first and second window: for tests.
    Always {
        /// Points.
        points: [usize; 2],
        /// Rows of tiles that are computed together, where not all of them are.
        rows: Option<usize>,
    },
}

impl Default for PlanOptions {
    /// The portable machine, and about a millisecond for the search.
    fn default() -> PlanOptions {
        let placement = Limits { search_steps: 1_000_000, ..Limits::default() };
        PlanOptions {
            machine: Machine::PORTABLE,
            placement,
            long_fold: 1 << 14,
            near_bytes: None,
            winograd: Winograd::Auto,
            ways: Ways::new(),
            constant_limit: None,
            memory_limit: None,
        }
    }
}

/// The program with the kernels rewritten for which other loops are faster; results may differ by roundings.
pub fn rewrite(program: Program, options: &PlanOptions) -> Program {
    rewritten(program, options).program
}

/// The same, and what is to be known of it.
fn rewritten(mut program: Program, options: &PlanOptions) -> Rewritten {
    split::all(&mut program, split::Limits { long: options.long_fold, near_bytes: near_bytes(options) });
    winograd::rewritten(program, options)
}

/// Bytes that kernels may go over again and again as if they were near.
fn near_bytes(options: &PlanOptions) -> u64 {
    options.near_bytes.unwrap_or(options.machine.l2_bytes / 2)
}

/// The plan of a program.
///
/// # Errors
/// Where the arena does not fit into [`PlanOptions::memory_limit`], whatever is computed again.
pub fn plan(program: Program, options: &PlanOptions) -> Result<Plan, MemoryFloor> {
    plan_beside(program, options, None)
}

/// The plan of a program whose state lies as in another plan, which works on it, too.
///
/// # Errors
/// As [`plan`].
pub fn plan_beside(program: Program, options: &PlanOptions, other: Option<&Outline>) -> Result<Plan, MemoryFloor> {
    let state_layouts = state::layouts(&program, other);
    let Rewritten { program, bands, rows } = rewritten(program, options);
    let updates = program.updates.clone();
    let mut draft = Draft::new(literals::compute(program));
    draft.make_bands(&bands);
    for (buffer, dim) in rows {
        draft.buffer_mut(buffer).wish = Some(dim);
    }
    state::place(&mut draft, &updates, state_layouts);
    let common = rows::join(&mut draft, &options.machine);
    layout::choose(&mut draft, &common, &options.machine);
    border::bands(&mut draft, near_bytes(options));
    halo::widen(&mut draft, &options.machine);
    apart::all(&mut draft);
    schedule::all(&mut draft, &options.machine);
    pack::all(&mut draft);
    order::order(&mut draft);
    let place = |mut draft: Draft| {
        halo::fill(&mut draft, &options.machine);
        memory::place(draft, options)
    };
    match options.memory_limit {
        Some(limit) => recompute::within(draft, limit, place),
        None => Ok(place(draft)),
    }
}
