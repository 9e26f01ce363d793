//! A smaller arena, by computing again what would otherwise be kept.
//!
//! Where the arena is larger than it may be, values are given up between two uses and made again before the second one: by
//! the very same kernels with the same schedules, into buffers of the same layout, so that the results are the same
//! bits. All layouts, schedules and packings are known by now, and the order; halos are filled later, buffer by buffer.
//!
//! * `problem`: which kernels may run again (not those of bands, nor those that write results or state, nor those that
//!   read state behind its update), what each costs, and what is live;
//! * `simulate`: a run in order with so many bytes and no more, which gives up what costs least;
//! * `trace`: what came of it; what it gave up without need is kept after all.
//!
//! Placement may need more than what is live at once. So budgets go down until the arena fits, and where it never does,
//! there is a floor: the least arena that was found, whatever the limit.

mod problem;
mod simulate;
mod trace;

use super::draft::Draft;
use fusewright_ir::kernel::{BufferId, Kernel, Scalar};
use fusewright_ir::plan::Plan;
use fusewright_ir::plan::access::with_scalars;
use problem::Problem;
use std::fmt;
use trace::Trace;

/// An arena can not be as small as it was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFloor {
    /// The limit, in bytes.
    pub limit: u64,
    /// The least arena that was found, in bytes: a limit of so many can be met.
    pub floor: u64,
}

impl fmt::Display for MemoryFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the arena takes {} bytes or more, and may take {}", self.floor, self.limit)
    }
}

impl std::error::Error for MemoryFloor {}

/// The plan of a draft whose kernels are in order, with an arena of at most `limit` bytes. `place` makes a plan as it is.
///
/// # Errors
/// Where no such arena was found.
pub fn within(draft: Draft, limit: u64, place: impl Fn(Draft) -> Plan) -> Result<Plan, MemoryFloor> {
    let whole = place(draft.clone());
    if whole.arena_bytes <= limit {
        return Ok(whole);
    }
    let problem = Problem::new(&draft);
    let search = Search { draft, problem, place, whole };
    if let Some(plan) = search.descend(limit) {
        return Ok(plan);
    }
    let least = search.least();
    if least.arena_bytes <= limit { Ok(least) } else { Err(MemoryFloor { limit, floor: least.arena_bytes }) }
}

struct Search<Place> {
    draft: Draft,
    problem: Problem,
    place: Place,
    /// The plan in which nothing is computed again.
    whole: Plan,
}

/// Budgets that are tried for a limit.
const MOST_TRIES: usize = 8;

/// Steps to the least budget, and the shares of it that are tried beyond it: placement may do better with a little more.
const HALVINGS: usize = 14;
const SHARES: [u64; 5] = [0, 128, 64, 32, 16];

impl<Place: Fn(Draft) -> Plan> Search<Place> {
    /// The cheapest plan found with an arena within the limit.
    fn descend(&self, limit: u64) -> Option<Plan> {
        let mut budget = limit;
        for _ in 0..MOST_TRIES {
            let trace = self.traces(budget).into_iter().min_by_key(|trace| trace.cost(&self.problem))?;
            let plan = self.plan(&trace);
            if plan.arena_bytes <= limit {
                return Some(plan);
            }
            budget = budget.checked_sub((plan.arena_bytes - limit).max(budget / 256))?;
        }
        None
    }

    /// The plan with the least arena found, whatever it costs.
    fn least(&self) -> Plan {
        let (mut low, mut high) = (self.problem.least(), self.whole.arena_bytes);
        for _ in 0..HALVINGS {
            let middle = low.midpoint(high);
            let fits = simulate::TASTES.iter().any(|&taste| simulate::run(&self.problem, middle, taste).is_some());
            if fits {
                high = middle;
            } else {
                low = middle;
            }
        }
        let budgets = SHARES.map(|share| high + high.checked_div(share).unwrap_or(0));
        let traces = budgets.iter().flat_map(|&budget| self.traces(budget));
        let plans = traces.map(|trace| self.plan(&trace));
        let least = plans.min_by_key(|plan| (plan.arena_bytes, plan.repeated_operations));
        least.filter(|plan| plan.arena_bytes < self.whole.arena_bytes).unwrap_or_else(|| self.whole.clone())
    }

    /// What can be done within a budget.
    fn traces(&self, budget: u64) -> Vec<Trace> {
        let runs = simulate::TASTES.iter().filter_map(|&taste| simulate::run(&self.problem, budget, taste));
        let pruned = |mut trace: Trace| {
            trace.prune(&self.problem, budget);
            trace
        };
        runs.map(pruned).collect()
    }

    fn plan(&self, trace: &Trace) -> Plan {
        let mut plan = (self.place)(self.applied(trace));
        plan.repeated_operations = trace.operations(&self.problem);
        plan.saved_bytes = self.whole.arena_bytes.saturating_sub(plan.arena_bytes);
        plan
    }

    /// The draft in which kernels run as a trace says.
    fn applied(&self, trace: &Trace) -> Draft {
        let mut draft = self.draft.clone();
        let kernels = std::mem::take(&mut draft.kernels);
        let n = self.problem.values.len();
        let mut ids: Vec<BufferId> = self.problem.values.iter().map(|value| value.id).collect();
        for &value in &trace.versions[n..] {
            let again = draft.buffer(ids[value]).clone();
            ids.push(draft.add(again));
        }
        draft.kernels.extend(kernels.iter().filter(|kernel| kernel.once).cloned());
        for item in &trace.items {
            let unit = &self.problem.units[item.unit];
            let values = unit.reads.iter().chain(&unit.writes);
            let versions = item.reads.iter().chain(&item.writes);
            let new = |id: BufferId| {
                let mut pairs = values.clone().zip(versions.clone());
                pairs.find(|(value, _)| ids[**value] == id).map_or(id, |(_, &version)| ids[version])
            };
            for kernel in &kernels[unit.kernels.clone()] {
                let mut kernel = kernel.clone();
                kernel.named.kernel = renamed(kernel.kernel(), new);
                if item.group.is_some() {
                    kernel.named.about += AGAIN;
                }
                draft.kernels.push(kernel);
            }
        }
        draft
    }
}

/// What stands behind the operations of a kernel that runs again.
const AGAIN: &str = " (again)";

/// The kernel on other buffers.
fn renamed(kernel: &Kernel, new: impl Fn(BufferId) -> BufferId) -> Kernel {
    let mut result = with_scalars(kernel, |_, scalar| match scalar {
        Scalar::Load { buffer, at, outside } => Scalar::Load { buffer: new(buffer), at, outside },
        other => other,
    });
    result.stores.iter_mut().for_each(|store| store.buffer = new(store.buffer));
    result
}
