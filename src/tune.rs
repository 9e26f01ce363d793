//! Convolutions computed in the way that is fastest where they run, by measuring; what was found is kept in a file, for each
//! machine, so that nothing is measured twice.

use crate::compile::{Options, plan_options};
use crate::data::files;
use crate::error::Error;
use crate::initialize::initialize;
use crate::ir::kernel::{BufferId, Program};
use crate::ir::ops::{Initializer, Parameter, Real};
use crate::ir::plan::{Plan, Port};
use crate::ir::{Diagnostic, Tensor, TensorType};
use crate::passes::plan::{PlanOptions, Question, Ways, plan, questions};
use crate::runtime::{self, Executable, RunError, Session, Settings, State, Threads, View, ViewMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The version of the file's format.
const FORMAT: u32 = 1;

/// Every way is run for so long in all, in turns with the others, and [`FEWEST`] times at least.
const PATIENCE: Duration = Duration::from_millis(30);
const FEWEST: usize = 3;

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    fusewright_tuning: u32,
    /// By machine: processor, vectors, threads, version of this library.
    machines: BTreeMap<String, Ways>,
}

/// The ways for the convolutions of `program` that `file` knows for this machine; those that it lacks are measured now, and
/// written to it.
///
/// # Errors
/// Where the file is there but is none of ours, or cannot be written.
pub(crate) fn ways(file: &Path, program: &Program, options: &Options) -> Result<Ways, Error> {
    let machine = machine(options);
    let mut known = read(file)?.machines.remove(&machine).unwrap_or_default();
    let questions = questions(program);
    // Another version may have known other ways.
    let is_open = |question: &&Question| known.get(&question.key).is_none_or(|way| !question.ways.contains(way));
    let open: Vec<&Question> = questions.iter().filter(is_open).collect();
    if open.is_empty() {
        return Ok(known);
    }
    // Before time is spent on it.
    files::check_writable(file)?;
    for question in open {
        known.insert(question.key.clone(), fastest(question, options)?);
    }
    // Others may have written meanwhile.
    let mut kept = read(file)?;
    kept.machines.entry(machine).or_default().extend(known.clone());
    files::write(file, |out| {
        serde_json::to_writer_pretty(&mut *out, &kept)?;
        out.write_all(b"\n")
    })?;
    Ok(known)
}

/// The ways that the file of `options` knows for this machine.
///
/// # Errors
/// Where the file is there but is none of ours.
pub(crate) fn known(options: &Options) -> Result<Ways, Diagnostic> {
    match asked(options) {
        Some(file) => Ok(read(file)?.machines.remove(&machine(options)).unwrap_or_default()),
        None => Ok(Ways::new()),
    }
}

/// The file of measured convolutions, where the options leave a choice.
pub(crate) fn asked(options: &Options) -> Option<&Path> {
    options.tuning.as_deref().filter(|_| !options.exact)
}

fn read(file: &Path) -> Result<Kept, Diagnostic> {
    if !file.exists() {
        return Ok(Kept { fusewright_tuning: FORMAT, machines: BTreeMap::new() });
    }
    let wrong = |found: String| {
        let fault = Diagnostic::new(format!("`{}` is not a file of measured convolutions", file.display()));
        let fault = fault.expected(format!("JSON with `fusewright_tuning: {FORMAT}` and `machines`")).found(found);
        fault.help("name a file that does not exist yet: it is made")
    };
    let kept: Kept = serde_json::from_str(&files::read_text(file)?).map_err(|error| wrong(error.to_string()))?;
    match kept.fusewright_tuning {
        FORMAT => Ok(kept),
        other => Err(wrong(format!("version {other}"))),
    }
}

/// What times depend on beside the convolution.
fn machine(options: &Options) -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let processor = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let Options { isa, threads, .. } = options;
    format!("{processor}, {isa}, threads {threads}, fusewright {}", env!("CARGO_PKG_VERSION"))
}

/// The way with the least median time.
fn fastest(question: &Question, options: &Options) -> Result<Vec<usize>, Error> {
    let subjects = question.ways.iter().map(|way| Subject::new(question, way, options));
    let mut subjects: Vec<Subject> = subjects.collect::<Result<_, Error>>()?;
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); subjects.len()];
    let begun = Instant::now();
    while times[0].len() < FEWEST || begun.elapsed() < PATIENCE * subjects.len() as u32 {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            subject.run()?;
            times.push(begun.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let medians: Vec<Duration> = times.iter_mut().map(median).collect();
    let best = (0..medians.len()).min_by_key(|&i| medians[i]).expect("the sum as it stands is a way");
    Ok(question.ways[best].clone())
}

/// A convolution, computed in one way, on random numbers.
struct Subject {
    session: Session,
    state: State,
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
}

impl Subject {
    fn new(question: &Question, way: &[usize], options: &Options) -> Result<Subject, Error> {
        let ways = Ways::from([(question.key.clone(), way.to_vec())]);
        let planning =
            PlanOptions { ways, constant_limit: None, memory_limit: None, ..plan_options(options, Ways::new()) };
        let plan = plan(question.program.clone(), &planning).expect("there is no memory limit");
        let all = |ports: &[Port]| -> Vec<(String, Tensor)> {
            ports.iter().map(|port| (port.name.to_string(), random(&plan, &port.name, port.buffer))).collect()
        };
        let (parameters, inputs, outputs) = (all(&plan.parameters), all(&plan.inputs), all(&plan.outputs));
        let settings = Settings { isa: options.isa, verify: options.verify, listings: false };
        let given = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor);
        let executable = Arc::new(Executable::new(plan, settings, given)?);
        let plan = executable.plan();
        let mut state = State::new(plan);
        for kept in &plan.states {
            let tensor = random(plan, &kept.name, kept.buffer);
            state.set(&kept.name, &tensor).map_err(|error| Diagnostic::new(error.to_string()))?;
        }
        let session = Session::with_threads(executable, Threads::new(options.threads));
        Ok(Subject { session, state, inputs, outputs })
    }

    fn run(&mut self) -> Result<(), RunError> {
        let inputs: Vec<(&str, View)> =
            self.inputs.iter().filter_map(|(name, tensor)| Some((name.as_str(), runtime::view(tensor)?))).collect();
        let mut outputs: Vec<(&str, ViewMut)> = self
            .outputs
            .iter_mut()
            .filter_map(|(name, tensor)| Some((name.as_str(), runtime::view_mut(tensor)?)))
            .collect();
        self.session.run_on(&mut self.state, &inputs, &mut outputs, &mut [])
    }
}

/// Numbers between -1 and 1; whole ones are 0.
fn random<S>(plan: &Plan<S>, name: &str, buffer: BufferId) -> Tensor {
    let buffer = plan.buffer(buffer);
    let ty = TensorType::new(buffer.dtype, buffer.dims.iter().copied());
    let init = Initializer::Uniform { low: Real(-1.0), high: Real(1.0) };
    initialize(&Parameter { ty, init, trainable: false, is_state: false }, &buffer.dims, name, 0)
}
