//! What is timed, and what is found of it.

use fusewright::ir::Tensor;
use fusewright::ir::plan::{Label, Outline};
use fusewright::{Compilation, Error};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Fewer runs than this say nothing.
const LEAST_RUNS: usize = 5;
const MOST_RUNS: usize = 200_000;

/// Something of one plan that can be done again and again.
pub trait Subject {
    /// What its results are called.
    const RESULTS: &'static str;
    /// Does it once; `times` gets the time of each step of the plan, as far as it is long.
    fn run(&mut self, times: &mut [Duration]) -> Result<(), Error>;
    /// What both forms must agree on.
    fn results(&self) -> &[(String, Tensor)];
    /// The losses of the first steps of a training.
    fn losses(&self) -> &[f32];
    /// Bytes that stay from run to run.
    fn state_bytes(&self) -> Option<u64>;
    fn plan(&self) -> &Outline;
    fn code_bytes(&self) -> usize;
    fn compilation(&self) -> &Compilation;
}

/// What was found of one form.
#[derive(Serialize)]
pub struct Figures {
    runs: usize,
    median_us: f64,
    min_us: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    losses: Vec<f32>,
    compile_ms: f64,
    arena_bytes: u64,
    /// What computing again saves of the arena, and what it costs.
    saved_bytes: u64,
    repeated_operations: u64,
    scratch_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_bytes: Option<u64>,
    constant_bytes: u64,
    code_bytes: usize,
    kernels: Vec<Kernel>,
}

/// One step of the plan, measured.
#[derive(Serialize)]
pub struct Kernel {
    pub operations: String,
    pub nodes: Vec<String>,
    pub median_us: f64,
    pub scalar_operations: u64,
}

/// A subject, and what was measured of it.
pub struct Runner<S> {
    pub subject: S,
    runs: Vec<Duration>,
    /// For every step of the plan, its times.
    steps: Vec<Vec<Duration>>,
}

impl<S: Subject> Runner<S> {
    pub fn new(subject: S) -> Runner<S> {
        let steps = vec![Vec::new(); subject.plan().steps.len()];
        Runner { subject, runs: Vec::new(), steps }
    }

    /// Runs for a tenth of the time unmeasured, then measured whole, then step by step: clocks take time themselves.
    pub fn measure(&mut self, budget: Duration) -> Result<(), Error> {
        let Runner { subject, runs, steps } = self;
        repeat(budget / 10, || subject.run(&mut []))?;
        repeat(budget, || {
            let start = Instant::now();
            subject.run(&mut [])?;
            runs.push(start.elapsed());
            Ok(())
        })?;
        let mut times = vec![Duration::ZERO; steps.len()];
        repeat(budget / 4, || {
            subject.run(&mut times)?;
            steps.iter_mut().zip(&times).for_each(|(all, &time)| all.push(time));
            Ok(())
        })
    }

    pub fn figures(&self) -> Figures {
        let plan = self.subject.plan();
        let compiled: Duration = self.subject.compilation().stages.iter().map(|(_, time)| *time).sum();
        Figures {
            runs: self.runs.len(),
            median_us: microseconds(self.median()),
            min_us: microseconds(self.fastest()),
            losses: self.subject.losses().to_vec(),
            compile_ms: compiled.as_secs_f64() * 1e3,
            arena_bytes: plan.arena_bytes,
            saved_bytes: plan.saved_bytes,
            repeated_operations: plan.repeated_operations,
            scratch_bytes: plan.scratch_bytes,
            state_bytes: self.subject.state_bytes(),
            constant_bytes: plan.constant_bytes,
            code_bytes: self.subject.code_bytes(),
            kernels: self.kernels(),
        }
    }

    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    pub fn median(&self) -> Duration {
        median(&self.runs)
    }

    pub fn fastest(&self) -> Duration {
        self.runs.iter().copied().min().unwrap_or_default()
    }

    pub fn kernels(&self) -> Vec<Kernel> {
        let measured = self.subject.plan().steps.iter().zip(&self.steps);
        let kernel = |(step, times): (&Label, &Vec<Duration>)| Kernel {
            operations: step.about.to_string(),
            nodes: step.nodes.iter().map(ToString::to_string).collect(),
            median_us: microseconds(median(times)),
            scalar_operations: step.operations,
        };
        measured.map(kernel).collect()
    }

    /// One run of median steps as complete events of the Chrome trace format.
    pub fn trace(&self) -> String {
        let mut begin = 0.0;
        let events: Vec<serde_json::Value> = self
            .kernels()
            .into_iter()
            .map(|kernel| {
                let event = serde_json::json!({
                    "name": kernel.operations,
                    "cat": "kernel",
                    "ph": "X",
                    "pid": 1,
                    "tid": 1,
                    "ts": begin,
                    "dur": kernel.median_us,
                    "args": { "nodes": kernel.nodes, "scalar_operations": kernel.scalar_operations },
                });
                begin += kernel.median_us;
                event
            })
            .collect();
        serde_json::json!({ "traceEvents": events, "displayTimeUnit": "ns" }).to_string()
    }
}

/// Does it until the time is over, [`LEAST_RUNS`] times or more.
fn repeat(budget: Duration, mut run: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    let start = Instant::now();
    for i in 0..MOST_RUNS {
        if i >= LEAST_RUNS && start.elapsed() > budget {
            break;
        }
        run()?;
    }
    Ok(())
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Both forms compute the same; only the order of sums may differ.
pub fn compare(fused: &[(String, Tensor)], unfused: &[(String, Tensor)]) -> Result<(), Error> {
    for ((name, a), (_, b)) in fused.iter().zip(unfused) {
        let (a, b) = (a.data().to_f64(), b.data().to_f64());
        let scale = b.iter().filter(|x| x.is_finite()).fold(1.0f64, |scale, x| scale.max(x.abs()));
        let differs = |(a, b): (&f64, &f64)| !(a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-4 * scale);
        if let Some(i) = a.iter().zip(&b).position(differs) {
            let text = format!("`{name}`: element {i} is {} fused and {} unfused", a[i], b[i]);
            return Err(Error::Internal(text));
        }
    }
    Ok(())
}
