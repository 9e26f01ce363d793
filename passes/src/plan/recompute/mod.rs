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
use super::order;
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
    let mut floor = whole.arena_bytes;
    let mut search = Search { problem: Problem::new(&draft), draft, place, whole_bytes: floor };
    for _ in 0..ORDERS {
        if let Some(plan) = search.descend(limit) {
            return Ok(plan);
        }
        let Some((plan, trace)) = search.least() else { break };
        if plan.arena_bytes <= limit {
            return Ok(plan);
        }
        // Where one kernel takes nearly all by itself, or the last order was no better, others are not either.
        let is_better = plan.arena_bytes < floor;
        floor = floor.min(plan.arena_bytes);
        if !is_better || floor <= search.problem.least() / 64 * 65 {
            break;
        }
        search.reorder(&trace);
    }
    Err(MemoryFloor { limit, floor })
}

struct Search<Place> {
    draft: Draft,
    problem: Problem,
    place: Place,
    /// The arena in which nothing is computed again.
    whole_bytes: u64,
}

/// Orders of the kernels that are tried: the best one without a limit, and those that are better for what runs again.
const ORDERS: usize = 3;

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
            // A run within less may give up other values, of which some can then be kept.
            let lower = [0, budget / 32, budget / 8].map(|less| budget - less);
            let traces = lower.iter().flat_map(|&lower| self.traces(lower, budget));
            let trace = traces.min_by_key(|trace| trace.cost(&self.problem))?;
            let plan = self.plan(&trace);
            if plan.arena_bytes <= limit {
                return Some(plan);
            }
            budget = budget.checked_sub((plan.arena_bytes - limit).max(budget / 256))?;
        }
        None
    }

    /// The plan with the least arena found, whatever it costs; none of a limit that is lower has any part in it.
    fn least(&self) -> Option<(Plan, Trace)> {
        let (mut low, mut high) = (self.problem.least(), self.whole_bytes);
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
        let mut traces: Vec<Trace> = Vec::new();
        for trace in budgets.iter().flat_map(|&budget| self.traces(budget, budget)) {
            if !traces.contains(&trace) {
                traces.push(trace);
            }
        }
        let plans = traces.into_iter().map(|trace| (self.plan(&trace), trace));
        plans.min_by_key(|(plan, _)| (plan.arena_bytes, plan.repeated_operations))
    }

    /// Takes the order of the kernels that is best if some run again as in `trace`.
    fn reorder(&mut self, trace: &Trace) {
        let mut first = Vec::new();
        let once = (0..self.draft.kernels.len()).filter(|&k| self.draft.kernels[k].once);
        first.extend(once.map(Some));
        for item in &trace.items {
            let kernels = self.problem.units[item.unit].kernels.clone();
            first.extend(kernels.map(|k| item.group.is_none().then_some(k)));
        }
        let order = order::sequence(&self.applied(trace)).into_iter().filter_map(|k| first[k]);
        self.draft.kernels = order.map(|k| self.draft.kernels[k].clone()).collect();
        self.problem = Problem::new(&self.draft);
    }

    /// What can be done within a budget, with all kept that fits into another.
    fn traces(&self, budget: u64, enough: u64) -> Vec<Trace> {
        let runs = simulate::TASTES.iter().filter_map(|&taste| simulate::run(&self.problem, budget, taste));
        let pruned = |mut trace: Trace| {
            trace.prune(&self.problem, enough);
            trace
        };
        runs.map(pruned).collect()
    }

    fn plan(&self, trace: &Trace) -> Plan {
        let mut plan = (self.place)(self.applied(trace));
        plan.repeated_operations = trace.operations(&self.problem);
        plan.saved_bytes = self.whole_bytes.saturating_sub(plan.arena_bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlanOptions, plan, samples};
    use fusewright_ir::kernel::build::Operand;
    use fusewright_ir::kernel::{BufferInfo, KernelBuilder, NamedKernel, Program, Role, UnaryOp, Update};
    use fusewright_ir::plan::{evaluate, verify};
    use fusewright_ir::tensor::{Array, DType};
    use std::collections::BTreeMap;

    /// A program over one input `x` and one state `s` of one element: each kernel writes a buffer of its length with sums of
    /// the first elements of others, and as many exponentials behind each other as it is dear.
    fn program(kernels: &[(&str, usize, &[&str], usize)], outputs: &[&str], next: Option<&str>) -> Program {
        let mut program = Program::default();
        let info = |name: &str, n, role| BufferInfo { name: name.into(), dtype: DType::F32, dims: vec![n], role };
        program.add_buffer(info("x", 1, Role::Input));
        program.add_buffer(info("s", 1, Role::State));
        for (name, length, operands, dear) in kernels {
            let to = program.add_buffer(info(name, *length, Role::Computed));
            let mut k = KernelBuilder::new(&[*length]);
            let axis = k.outer(0);
            let mut sum = k.number(0.5);
            for operand in *operands {
                let buffer = find(&program, operand);
                let from = Operand { buffer, dtype: DType::F32, dims: program.buffer(buffer).dims.clone() };
                let value = k.load(&from, [0]);
                sum = k.add(sum, value);
            }
            for _ in 0..*dear {
                sum = k.unary(UnaryOp::Exp, sum);
            }
            k.store(&Operand { buffer: to, dtype: DType::F32, dims: vec![*length] }, [axis], sum);
            let kernel = k.finish();
            program.kernels.push(NamedKernel { nodes: vec![name.to_string()], about: name.to_string(), kernel });
        }
        program.outputs = outputs.iter().map(|name| (name.to_string(), find(&program, name))).collect();
        let update = |name: &str| Update { state: BufferId(1), value: find(&program, name) };
        program.updates = next.map(update).into_iter().collect();
        program
    }

    fn find(program: &Program, name: &str) -> BufferId {
        program.buffer_ids().find(|(_, info)| info.name == name).map(|(id, _)| id).unwrap()
    }

    fn with(program: &Program, memory_limit: Option<u64>) -> Result<Plan, MemoryFloor> {
        plan(program.clone(), &PlanOptions { memory_limit, ..PlanOptions::default() })
    }

    /// The plan keeps to the limit, and gives what it gives without.
    fn limited(program: &Program, limit: u64) -> Plan {
        let (whole, plan) = (with(program, None).unwrap(), with(program, Some(limit)).unwrap());
        assert_eq!(verify(&plan), Ok(()), "{plan}");
        assert!(plan.arena_bytes <= limit && whole.arena_bytes - plan.arena_bytes == plan.saved_bytes, "{plan}");
        let given = |plan: &Plan| -> BTreeMap<String, Array> {
            let ports = plan.inputs.iter().map(|port| (&port.name, port.buffer));
            let all = ports.chain(plan.states.iter().map(|state| (&state.name, state.buffer)));
            let array = |id: BufferId| {
                let dims = plan.buffer(id).dims.clone();
                let n = dims.iter().product::<usize>();
                Array { dims, data: (0..n).map(|i| ((i * 7) % 13) as f64 / 16.0 - 0.25).collect() }
            };
            all.map(|(name, id)| (name.to_string(), array(id))).collect()
        };
        assert_eq!(evaluate(&plan, &given(&plan)), evaluate(&whole, &given(&whole)));
        plan
    }

    fn again(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().filter_map(|step| step.about.strip_suffix(AGAIN)).collect()
    }

    /// Forward `a b c d`, backward `d' c' b' a'`, each of which needs the value of its layer.
    fn chain(dear: [usize; 4]) -> Program {
        let [a, b, c, d] = dear;
        program(
            &[
                ("a", 1600, &["x"], a),
                ("b", 1600, &["a"], b),
                ("c", 1600, &["b"], c),
                ("d", 1600, &["c"], d),
                ("d'", 160, &["d"], 1),
                ("c'", 160, &["c", "d'"], 1),
                ("b'", 160, &["b", "c'"], 1),
                ("a'", 160, &["a", "b'"], 1),
            ],
            &["a'"],
            None,
        )
    }

    const BYTES: u64 = 1600 * 4;

    #[test]
    fn cheap_values_are_made_again() {
        let program = chain([9, 1, 9, 9]);
        assert_eq!(with(&program, None).unwrap().arena_bytes, 4 * BYTES + 640);
        let plan = limited(&program, 3 * BYTES + 2 * 640);
        assert_eq!(again(&plan), ["b"]);
        assert_eq!(plan.repeated_operations, plan.steps[1].kernel.operations(), "{plan}");
        // What is dear alone is not repeated where what is cheap does as well.
        assert_eq!(again(&limited(&chain([1, 9, 9, 9]), 3 * BYTES + 2 * 640)), ["a"]);
    }

    #[test]
    fn values_are_made_again_from_values_made_again() {
        let plan = limited(&chain([1, 1, 1, 1]), 2 * BYTES + 640);
        assert!(again(&plan).starts_with(&["a", "b"]), "{plan}");
        assert!(plan.lower_bound_bytes >= 2 * BYTES, "a step reads one value and writes the next");
    }

    #[test]
    fn the_floor_is_a_limit_that_can_be_met() {
        let program = chain([1, 2, 3, 4]);
        let refused = with(&program, Some(0)).unwrap_err();
        assert_eq!(refused, MemoryFloor { limit: 0, floor: refused.floor });
        assert!((2 * BYTES..3 * BYTES).contains(&refused.floor), "{refused}");
        assert_eq!(with(&program, Some(refused.floor)).unwrap().arena_bytes, refused.floor);
        assert_eq!(with(&program, Some(refused.floor - 1)).unwrap_err().floor, refused.floor);
        let whole = with(&program, None).unwrap();
        assert_eq!(with(&program, Some(whole.arena_bytes)).unwrap(), whole, "nothing is repeated without need");
    }

    #[test]
    fn old_state_is_not_read_behind_its_update() {
        // `a` could be made again from the old state until that is replaced, which `c` waits for.
        let kernels: &[(&str, usize, &[&str], usize)] = &[
            ("a", 1600, &["s"], 1),
            ("b", 1600, &["x"], 1),
            ("t", 1, &["a", "b"], 1),
            ("new", 1, &["s", "t"], 1),
            ("c", 1600, &["new"], 1),
            ("d", 1600, &["c"], 1),
            ("y", 160, &["a", "b", "d"], 1),
        ];
        let program = program(kernels, &["y"], Some("new"));
        let plan = limited(&program, 3 * BYTES);
        assert_eq!(again(&plan), ["b"], "{plan}");
        let refused = with(&program, Some(0)).unwrap_err();
        assert!(refused.floor >= 3 * BYTES, "{refused}");
    }

    #[test]
    fn skips_of_a_network_need_not_be_kept() {
        let layers = r#"Conv2d(name: "a", out: 8, kernel_size: 3, padding: 1), Relu(name: "skip"),
            MaxPool2d(kernel_size: 2), Conv2d(name: "b", out: 32, kernel_size: 3, padding: 1), Relu,
            Conv2d(name: "c", out: 32, kernel_size: 3, padding: 1), Relu, MaxPool2d(kernel_size: 2),
            ConvTranspose2d(name: "d", out: 8, kernel_size: 4, stride: 4), Relu(name: "e"),
            Add(from: ["skip", "e"]), Conv2d(name: "f", out: 4, kernel_size: 3, padding: 1)"#;
        for join in [false, true] {
            let program = samples::program("[1, 3, 16, 16]", layers, join);
            let whole = with(&program, None).unwrap();
            let floor = with(&program, Some(0)).unwrap_err().floor;
            assert!(floor < whole.arena_bytes, "{floor}");
            let plan = limited(&program, floor);
            assert!(!again(&plan).is_empty());
        }
    }
}
