//! The stages of the compiler, each held to the one before.

use super::network::Built;
use super::random::Random;
use super::schedule;
use fusewright::ir::graph::Graph;
use fusewright::ir::kernel::{self, BufferId, Evaluation, Program, Role};
use fusewright::ir::plan::{self, Outline, Plan};
use fusewright::ir::tensor::{Array, DType, Tensor, TensorType};
use fusewright::ir::{Data, evaluate};
use fusewright::machine;
use fusewright::passes::plan::{PlanOptions, Winograd, plan as plan_of, rewrite};
use fusewright::passes::{fuse, lower, pipeline};
use fusewright::runtime::{Executable, Isa, Session, Settings, State, Threads, View, ViewMut};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};
use std::time::Duration;

/// What a network is put through.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Whether the passes over graphs run.
    pub optimised: bool,
    /// Seeds the schedules.
    pub seed: u64,
    /// Whether two sessions run in two threads.
    pub threads: bool,
    /// The threads that a run uses.
    pub shared: usize,
    /// Which convolutions are transformed.
    pub winograd: Winograd,
}

/// The first stage that differs from the one before.
#[derive(Clone, Debug)]
pub struct Failure {
    pub stage: String,
    pub problem: String,
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Elements of results.
    pub elements: usize,
    /// Those whose error bound is small: a wrong value cannot hide in it.
    pub tight: usize,
    /// Kernels before and after fusion.
    pub kernels: usize,
    pub fused_kernels: usize,
    /// Kernels that rewriting convolutions added.
    pub rewritten: usize,
    /// Bands of all plans.
    pub bands: usize,
    /// State that all plans update, and how much of it by copies.
    pub updates: usize,
    pub copies: usize,
    /// Plans of which some steps run again, to take less memory.
    pub limited: usize,
    /// Elements of results of rewritten programs, and those whose bound is small.
    pub rewritten_elements: usize,
    pub rewritten_tight: usize,
}

type Results = Vec<(String, Array)>;
type Check<T> = Result<T, Failure>;

/// Runs all stages.
///
/// # Errors
/// The first stage that differs.
pub fn check(built: &Built, trial: Trial) -> Check<Report> {
    let given = built.arrays();
    let graph = &built.graph;
    let reference = guarded("reference", || Ok(results_of(graph, &given)))?;

    let plain = guarded("lower", || Ok(lower::lower(graph)))?;
    let (values, bounds) = evaluated("lower", &plain, &given)?;
    compare("lower: kernels against the reference", &reference, &values, |i, k, x| {
        2.0 * bounds[i][k] + 1e-7 * x.abs()
    })?;

    let (unfused, values, bounds) = if trial.optimised {
        let (optimised, name) = guarded("passes", || Ok(optimise(graph)))?;
        let again = guarded("passes", || Ok(results_of(&optimised, &given)))?;
        let program = guarded("lower", || Ok(lower::lower(&optimised)))?;
        let (new_values, new_bounds) = evaluated("lower", &program, &given)?;
        compare(&format!("passes: graph after {name}"), &reference, &again, |i, k, x| {
            2.0 * (bounds[i][k] + new_bounds[i][k]) + 1e-7 * x.abs()
        })?;
        compare("lower: kernels of the optimised graph against its reference", &again, &new_values, |i, k, x| {
            2.0 * new_bounds[i][k] + 1e-7 * x.abs()
        })?;
        (program, new_values, new_bounds)
    } else {
        (plain, values, bounds)
    };

    let fused = guarded("fuse", || Ok(fuse::fuse(unfused.clone()).0))?;
    let (fused_values, fused_bounds) = evaluated("fuse", &fused, &given)?;
    compare("fuse: fused kernels against unfused ones", &values, &fused_values, |i, k, x| {
        1e-6 * bounds[i][k].min(fused_bounds[i][k]) + 1e-9 * x.abs()
    })?;

    let mut report = Report { kernels: unfused.kernels.len(), fused_kernels: fused.kernels.len(), ..Report::default() };
    (report.elements, report.tight) = tight(&values, &fused_bounds);

    let mut random = Random::new(trial.seed);
    let programs = [("unfused", unfused, &values, &bounds), ("fused", fused, &fused_values, &fused_bounds)];
    for (name, program, values, bounds) in programs {
        let long_fold = if trial.seed.is_multiple_of(3) { 4 } else { PlanOptions::default().long_fold };
        // The same for all machines, and small enough that sums of small networks are cut, now and then.
        let near_bytes = Some(if trial.seed.is_multiple_of(2) { 256 } else { 1 << 20 });
        let options = PlanOptions { winograd: trial.winograd, long_fold, near_bytes, ..PlanOptions::default() };
        let stage = format!("rewrite ({name})");
        let rewritten = guarded(&stage, || Ok(rewrite(program.clone(), &options)))?;
        let (new_values, new_bounds);
        let (values, bounds) = if rewritten == program {
            (values, bounds)
        } else {
            // Transforms round more often, and elsewhere: their own bounds hold.
            report.rewritten += rewritten.kernels.len() - program.kernels.len();
            (new_values, new_bounds) = evaluated(&stage, &rewritten, &given)?;
            let (elements, held) = tight(&new_values, &new_bounds);
            report.rewritten_elements += elements;
            report.rewritten_tight += held;
            compare(&stage, values, &new_values, |i, k, x| new_bounds[i][k] + 1e-9 * x.abs())?;
            (&new_values, &new_bounds)
        };
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let options = PlanOptions { machine: machine(isa), ..options.clone() };
            let plan = guarded("plan", || Ok(plan_of(program.clone(), &options).expect("no limit")))?;
            report.bands += plan.bands.len();
            report.updates += plan.states.iter().filter(|state| state.next.is_some()).count();
            report.copies += plan.steps.iter().filter(|step| step.about == "copy").count();
            let limited =
                if trial.seed % 3 == 1 { limited(program.clone(), options, &plan, &mut random)? } else { None };
            let mut other = plan.clone();
            schedule::randomise(&mut other, &mut random);
            let stage = format!("plan ({name}, {isa})");
            compare(&stage, values, &planned(&stage, &plan, &given)?, |i, k, _| bounds[i][k])?;
            let mut whole = None;
            for (schedules, plan) in [("", plan), (", random schedules", other)] {
                let stage = format!("run ({name}, {isa}{schedules})");
                let results = guarded(&stage, || run(&stage, plan, isa, &built.given, trial))?;
                compare(&stage, values, &results, |i, k, _| bounds[i][k])?;
                whole.get_or_insert(results);
            }
            if let (Some(plan), Some(whole)) = (limited, whole) {
                report.limited += 1;
                let stage = format!("recompute ({name}, {isa})");
                compare(&stage, values, &planned(&stage, &plan, &given)?, |i, k, _| bounds[i][k])?;
                let results = guarded(&stage, || run(&stage, plan, isa, &built.given, trial))?;
                compare(&stage, &whole, &results, |_, _, _| 0.0)?;
                let bits = |results: &Results| -> Vec<u64> {
                    results.iter().flat_map(|(_, array)| array.data.iter().map(|x| x.to_bits())).collect()
                };
                if bits(&whole) != bits(&results) {
                    return Err(Failure { stage, problem: "other bits than without a limit".to_string() });
                }
            }
        }
    }
    Ok(report)
}

/// The plan with a limit of memory below what `plan` takes; `None` where there is no smaller one.
fn limited(program: Program, options: PlanOptions, plan: &Plan, random: &mut Random) -> Check<Option<Plan>> {
    let with = |limit: u64| plan_of(program.clone(), &PlanOptions { memory_limit: Some(limit), ..options.clone() });
    guarded("recompute", || {
        let floor = with(0).err().map_or(0, |refusal| refusal.floor);
        if floor >= plan.arena_bytes {
            return Ok(None);
        }
        let fail = |problem: String| Failure { stage: "recompute".to_string(), problem };
        let limit = floor + (plan.arena_bytes - floor) / 4 * random.below(4) as u64;
        let found = with(limit).map_err(|refusal| fail(format!("{refusal}, which was said to be enough")))?;
        let fits = found.arena_bytes <= limit && found.saved_bytes > 0 && found.steps.len() > plan.steps.len();
        if fits { Ok(Some(found)) } else { Err(fail(format!("a limit of {limit} bytes is not kept:\n{found}"))) }
    })
}

/// The number of elements, and of those whose bounds are small.
fn tight(values: &Results, bounds: &[Vec<f64>]) -> (usize, usize) {
    let is_tight = |(value, bound): &(&f64, &f64)| **bound <= 1e-3 * (1.0 + value.abs());
    let count =
        |((_, array), bounds): (&(String, Array), &Vec<f64>)| array.data.iter().zip(bounds).filter(is_tight).count();
    (bounds.iter().map(Vec::len).sum(), values.iter().zip(bounds).map(count).sum())
}

/// The results of a graph, and behind them what takes the place of state, by its names.
fn results_of(graph: &Graph, given: &BTreeMap<String, Array>) -> Results {
    let all = graph.outputs.iter().zip(evaluate::evaluate(graph, given));
    let (updates, mut results): (Vec<_>, Vec<_>) = all.partition(|(output, _)| output.is_update);
    results.extend(sorted(updates));
    results.into_iter().map(|(_, result)| result).collect()
}

fn sorted<T>(mut updates: Vec<(T, (String, Array))>) -> Vec<(T, (String, Array))> {
    updates.sort_by(|(_, (a, _)), (_, (b, _))| a.cmp(b));
    updates
}

/// The graph after all passes, and the name of the last pass that changed it.
fn optimise(graph: &Graph) -> (Graph, &'static str) {
    let mut optimised = graph.clone();
    let mut last = "none";
    pipeline::run(&mut optimised, &mut |pass, changed, _| {
        if changed {
            last = pass.name;
        }
    });
    (optimised, last)
}

/// The results of a program, and the bounds of their errors.
fn evaluated(stage: &str, program: &Program, given: &BTreeMap<String, Array>) -> Check<(Results, Vec<Vec<f64>>)> {
    let fail = |problem: String| Failure { stage: stage.to_string(), problem };
    guarded(stage, || {
        kernel::verify(program).map_err(|faults| fail(format!("verify: {}\n{program}", faults.join("\n"))))?;
        let buffers: BTreeMap<BufferId, Array> = program
            .buffer_ids()
            .filter(|(_, info)| matches!(info.role, Role::Input | Role::Parameter | Role::State))
            .map(|(id, info)| (id, given[&info.name].clone()))
            .collect();
        let all: Evaluation =
            kernel::evaluate(program, &buffers).map_err(|fault| fail(format!("evaluate: {fault}\n{program}")))?;
        let mut updates: Vec<(&String, BufferId)> =
            program.updates.iter().map(|update| (&program.buffer(update.state).name, update.value)).collect();
        updates.sort();
        let named: Vec<(&String, BufferId)> =
            program.outputs.iter().map(|(name, id)| (name, *id)).chain(updates).collect();
        let values = named.iter().map(|(name, id)| ((*name).clone(), all.array(*id))).collect();
        let bounds = named.iter().map(|(_, id)| all.errors(*id).to_vec()).collect();
        Ok((values, bounds))
    })
}

/// The results of a plan on its bytes.
fn planned(stage: &str, plan: &Plan, given: &BTreeMap<String, Array>) -> Check<Results> {
    let fail = |problem: String| Failure { stage: stage.to_string(), problem };
    guarded(stage, || {
        plan::verify(plan).map_err(|faults| fail(format!("verify: {}\n{plan}", faults.join("\n"))))?;
        let mut results = plan::evaluate(plan, given).map_err(|fault| fail(format!("evaluate: {fault}\n{plan}")))?;
        let result = |name: String| {
            let value = results.remove(&name).expect("every output has a value");
            (name, value)
        };
        Ok(names(&plan.outline().0).into_iter().map(result).collect())
    })
}

/// The names of the results of a plan, and behind them of the state that it updates.
fn names(plan: &Outline) -> Vec<String> {
    let mut updated: Vec<String> =
        plan.states.iter().filter(|state| state.next.is_some()).map(|state| state.name.to_string()).collect();
    updated.sort();
    plan.outputs.iter().map(|port| port.name.to_string()).chain(updated).collect()
}

fn compare(stage: &str, expected: &Results, found: &Results, allowed: impl Fn(usize, usize, f64) -> f64) -> Check<()> {
    let fail = |problem: String| Err(Failure { stage: stage.to_string(), problem });
    for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
        if (&expected.0, &expected.1.dims) != (&found.0, &found.1.dims) {
            let (a, b) = ((&expected.0, &expected.1.dims), (&found.0, &found.1.dims));
            return fail(format!("expected result {a:?}, found {b:?}"));
        }
        for (k, (&a, &b)) in expected.1.data.iter().zip(&found.1.data).enumerate() {
            let bound = allowed(i, k, a);
            let equal = a == b || (a.is_nan() && b.is_nan()) || bound == f64::INFINITY || (a - b).abs() <= bound;
            if !equal {
                return fail(format!("{}[{k}]: expected {a:e}, found {b:e}, bound {bound:e}", expected.0));
            }
        }
    }
    Ok(())
}

/// Runs a plan: twice in one session, with equal bits, and where asked for in another session on another thread, once more as
/// what is read of the executable's bytes, and in one that shares the smallest of its steps between threads.
fn run(stage: &str, plan: Plan, isa: Isa, given: &BTreeMap<String, Tensor>, trial: Trial) -> Check<Results> {
    let fail = |problem: String| Failure { stage: stage.to_string(), problem };
    let settings = Settings { isa, verify: true, listings: false };
    let source = |name: &str| Ok(given.get(name).map(Cow::Borrowed));
    let (executable, image) = Executable::with_image(plan, settings, source).map_err(|e| fail(e.to_string()))?;
    let executable = Arc::new(executable);
    let other = trial.threads.then(|| {
        let (executable, given) = (executable.clone(), given.clone());
        std::thread::spawn(move || outputs_of(&mut Session::new(executable), &given))
    });
    let mut session = Session::new(executable);
    let first = outputs_of(&mut session, given).map_err(fail)?;
    let second = outputs_of(&mut session, given).map_err(fail)?;
    let bits = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.data().bytes().to_vec()).collect::<Vec<_>>();
    if bits(&first) != bits(&second) {
        return Err(fail("a second run gives other bits".to_string()));
    }
    if let Some(other) = other {
        let third = other.join().map_err(|_| fail("a thread panics".to_string()))?.map_err(fail)?;
        if bits(&first) != bits(&third) {
            return Err(fail("another session on another thread gives other bits".to_string()));
        }
        let mut written = Vec::new();
        let read = image.write(session.executable(), &mut written);
        let read = read.and_then(|()| Executable::read(&mut &written[..], written.len() as u64));
        let mut again = Session::new(Arc::new(read.map_err(|error| fail(format!("as bytes: {error}")))?));
        if again.executable().plan() != session.executable().plan() {
            return Err(fail("as bytes: another plan".to_string()));
        }
        if bits(&first) != bits(&outputs_of(&mut again, given).map_err(fail)?) {
            return Err(fail("as bytes: it gives other bits".to_string()));
        }
    }
    if trial.shared > 1 {
        let threads = Threads { worthwhile: Duration::ZERO, ..Threads::new(trial.shared) };
        let mut session = Session::with_threads(session.executable().clone(), threads);
        for _ in 0..2 {
            if bits(&first) != bits(&outputs_of(&mut session, given).map_err(fail)?) {
                return Err(fail(format!("{} threads give other bits", trial.shared)));
            }
        }
    }
    let names = names(session.executable().plan());
    Ok(names.into_iter().zip(first).map(|(name, tensor)| (name, tensor.to_array())).collect())
}

fn outputs_of(session: &mut Session, given: &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, String> {
    let executable = session.executable().clone();
    let plan = executable.plan();
    let inputs: Vec<(&str, View)> =
        plan.inputs.iter().map(|port| (port.name.as_str(), view(&given[port.name.as_str()]))).collect();
    let mut results: Vec<(&str, Vec<usize>, Data)> = plan
        .outputs
        .iter()
        .map(|port| {
            let buffer = plan.buffer(port.buffer);
            (port.name.as_str(), port.dims.clone(), poison(buffer.dtype, buffer.dims.iter().product()))
        })
        .collect();
    let mut outputs: Vec<(&str, ViewMut)> = results.iter_mut().map(|(name, _, data)| (*name, view_mut(data))).collect();
    let mut state = State::new(plan);
    for kept in &plan.states {
        state.set(&kept.name, &given[kept.name.as_str()]).map_err(|error| error.to_string())?;
    }
    session.run_on(&mut state, &inputs, &mut outputs, &mut []).map_err(|error| error.to_string())?;
    let updated = names(plan).split_off(plan.outputs.len());
    let results = results.into_iter().map(|(_, dims, data)| Tensor::new(&dims, data));
    Ok(results.chain(updated.iter().filter_map(|name| state.get(name))).collect())
}

/// Memory as a careless user gives it.
fn poison(dtype: DType, elements: usize) -> Data {
    let number = if dtype == DType::Bool { 1.0 } else { 77.0 };
    Data::from_f64(dtype, &vec![number; elements])
}

fn view(tensor: &Tensor) -> View<'_> {
    match tensor.data() {
        Data::F32(s) => View::F32(s),
        Data::I64(s) => View::I64(s),
        Data::I32(s) => View::I32(s),
        Data::U32(s) => View::U32(s),
        Data::U8(s) => View::U8(s),
        Data::Bool(s) => View::Bool(s),
        Data::F64(_) => unreachable!("no kernel computes in f64"),
    }
}

fn view_mut(data: &mut Data) -> ViewMut<'_> {
    match data {
        Data::F32(s) => ViewMut::F32(s),
        Data::I64(s) => ViewMut::I64(s),
        Data::I32(s) => ViewMut::I32(s),
        Data::U32(s) => ViewMut::U32(s),
        Data::U8(s) => ViewMut::U8(s),
        Data::Bool(s) => ViewMut::Bool(s),
        Data::F64(_) => unreachable!("no kernel computes in f64"),
    }
}

thread_local! {
    /// Whether panics of this thread are expected and told by the caller.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A panic is a failure of its stage.
pub fn guarded<T>(stage: &str, action: impl FnOnce() -> Check<T>) -> Check<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(action));
    QUIET.set(before);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        Err(Failure { stage: format!("{stage}: panic"), problem: text })
    })
}

/// Element type and shape of a tensor in the networks here.
pub fn dims_of(ty: &TensorType) -> Vec<usize> {
    ty.dims().expect("networks are concrete")
}
