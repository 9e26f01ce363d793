//! `fusewright bench`: how long a network takes, fused against unfused, kernel by kernel.
//!
//! What is timed is [`Session::run`] on slices that were there before: outputs are written where they were written last.

use super::arguments::{ModelArguments, PlanArguments, RunArguments, batch, default_batch, weights};
use super::compile::{repeated, shortened};
use super::output::{Failure, Output, progress, usage};
use super::table::{Table, time};
use clap::Args;
use fusewright::data::files;
use fusewright::ir::ops::{Initializer, Parameter, Real};
use fusewright::ir::{Tensor, TensorType};
use fusewright::runtime::{View, ViewMut, view, view_mut};
use fusewright::{Error, Options, Session, initialize};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Measures runs of the network on random inputs, fused and unfused, and compares the outputs of both forms
#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    planning: PlanArguments,
    /// The batch: the value of the symbol N, 1 where nothing is said
    #[arg(long, value_name = "N", value_parser = batch)]
    batch: Option<usize>,
    #[command(flatten)]
    how: RunArguments,
    /// Show the kernels of the unfused form in the table and the trace; with `--json`, measure it too
    #[arg(long)]
    unfused: bool,
    /// Take the parameters from this safetensors file
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Seconds to measure each form for: 1, or 0.4 with `--json`
    #[arg(long)]
    seconds: Option<f64>,
    /// Write one run as a Chrome trace, for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print JSON, of the fused form alone unless `--unfused` is given
    #[arg(long)]
    json: bool,
}

/// Fewer runs than this say nothing.
const LEAST_RUNS: usize = 5;
const MOST_RUNS: usize = 200_000;

#[derive(Serialize)]
struct Json {
    threads: u16,
    #[serde(flatten)]
    fused: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfused: Option<Figures>,
}

/// What was found of one form.
#[derive(Serialize)]
struct Figures {
    runs: usize,
    median_us: f64,
    min_us: f64,
    arena_bytes: u64,
    saved_bytes: u64,
    repeated_operations: u64,
    constant_bytes: u64,
    code_bytes: usize,
    kernels: Vec<Kernel>,
}

/// One step of the plan, measured.
#[derive(Serialize)]
struct Kernel {
    operations: String,
    nodes: Vec<String>,
    median_us: f64,
    scalar_operations: u64,
}

impl Bench {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        let seconds = self.seconds.unwrap_or(if self.json { 0.4 } else { 1.0 });
        if !(seconds > 0.0 && seconds <= 3600.0) {
            return Err(usage("`--seconds` is out of range").expected("more than 0, at most 3600").into());
        }
        let model = self.model.load()?;
        let mut bindings = self.model.bindings(self.batch)?;
        default_batch(&model, &mut bindings);
        let weights = weights(self.weights.as_ref())?;
        let form = |fuse: bool| -> Result<Runner, Error> {
            let options = self.planning.put(Options { fuse, ..self.how.options(weights.clone()) });
            Runner::new(model.compile(options)?.session(&bindings)?)
        };
        let mut fused = form(true)?;
        let mut unfused = if self.unfused || !self.json { Some(form(false)?) } else { None };
        if let Some(unfused) = &unfused {
            compare(&fused.outputs, &unfused.outputs)?;
        }

        let budget = Duration::from_secs_f64(seconds);
        let bar = progress(2, "measuring");
        fused.measure(budget)?;
        bar.inc(1);
        if let Some(unfused) = &mut unfused {
            unfused.measure(budget)?;
        }
        bar.finish_and_clear();

        let shown = unfused.as_ref().filter(|_| self.unfused).unwrap_or(&fused);
        if let Some(path) = &self.trace {
            let text = shown.trace();
            files::write(path, |file| file.write_all(text.as_bytes()))?;
        }
        if let (Some(unfused), false) = (&unfused, self.json) {
            return self.show(out, shown, &fused, unfused);
        }
        out.json(&Json {
            threads: self.how.threads,
            fused: fused.figures(),
            unfused: unfused.as_ref().map(Runner::figures),
        })
    }

    fn show(&self, out: &mut Output, shown: &Runner, fused: &Runner, unfused: &Runner) -> Result<(), Failure> {
        let all: Duration = shown.steps.iter().map(|times| median(times)).sum();
        let mut table = Table::new(&["kernel", "operations", "nodes", ">median", ">share", ">G operations/s"]);
        for (i, kernel) in shown.kernels().into_iter().enumerate() {
            table.row([
                format!("k{i}"),
                kernel.operations,
                shortened(&kernel.nodes),
                time(Duration::from_secs_f64(kernel.median_us / 1e6)),
                format!("{:.1} %", kernel.median_us / microseconds(all).max(1e-9) * 100.0),
                format!("{:.2}", kernel.scalar_operations as f64 / kernel.median_us.max(1e-3) / 1e3),
            ]);
        }
        writeln!(out, "{table}")?;
        writeln!(out, "threads  {}", self.how.threads)?;
        for (name, form) in [("fused", fused), ("unfused", unfused)] {
            let (kernels, runs) = (form.steps.len(), form.runs.len());
            let (median, fastest) = (time(form.median()), time(form.fastest()));
            writeln!(out, "{name:8} median {median}, min {fastest} ({kernels} kernels, {runs} runs)")?;
        }
        if let Some(text) = repeated(shown.session.planned().executable.plan()) {
            writeln!(out, "repeated {text}")?;
        }
        let ratio = unfused.median().as_secs_f64() / fused.median().as_secs_f64().max(1e-12);
        Ok(writeln!(out, "fused is {ratio:.2} times as fast; the outputs agree")?)
    }
}

/// A session with inputs, and what was measured of it.
struct Runner {
    session: Session,
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
    runs: Vec<Duration>,
    /// For every step of the plan, its times.
    steps: Vec<Vec<Duration>>,
}

impl Runner {
    fn new(mut session: Session) -> Result<Runner, Error> {
        let inputs: Vec<(String, Tensor)> =
            session.inputs().into_iter().map(|(name, ty)| (name.clone(), random(&name, &ty))).collect();
        let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let outputs = session.run_tensors(&given)?;
        let steps = vec![Vec::new(); session.planned().executable.plan().steps.len()];
        Ok(Runner { session, inputs, outputs, runs: Vec::new(), steps })
    }

    /// Runs for a tenth of the time unmeasured, then measured whole, then step by step: clocks take time themselves.
    fn measure(&mut self, budget: Duration) -> Result<(), Error> {
        let Runner { session, inputs, outputs, runs, steps } = self;
        let inputs: Vec<(&str, View)> =
            inputs.iter().filter_map(|(name, tensor)| Some((name.as_str(), view(tensor)?))).collect();
        let mut outputs: Vec<(&str, ViewMut)> =
            outputs.iter_mut().filter_map(|(name, tensor)| Some((name.as_str(), view_mut(tensor)?))).collect();

        repeat(budget / 10, || Ok(session.run(&inputs, &mut outputs)?))?;
        repeat(budget, || {
            let start = Instant::now();
            session.run(&inputs, &mut outputs)?;
            runs.push(start.elapsed());
            Ok(())
        })?;
        let mut times = vec![Duration::ZERO; steps.len()];
        repeat(budget / 4, || {
            session.run_profiled(&inputs, &mut outputs, &mut times)?;
            steps.iter_mut().zip(&times).for_each(|(all, &time)| all.push(time));
            Ok(())
        })
    }

    fn figures(&self) -> Figures {
        let executable = &self.session.planned().executable;
        Figures {
            runs: self.runs.len(),
            median_us: microseconds(self.median()),
            min_us: microseconds(self.fastest()),
            arena_bytes: executable.plan().arena_bytes,
            saved_bytes: executable.plan().saved_bytes,
            repeated_operations: executable.plan().repeated_operations,
            constant_bytes: executable.plan().constant_bytes,
            code_bytes: executable.code_bytes(),
            kernels: self.kernels(),
        }
    }

    fn median(&self) -> Duration {
        median(&self.runs)
    }

    fn fastest(&self) -> Duration {
        self.runs.iter().copied().min().unwrap_or_default()
    }

    fn kernels(&self) -> Vec<Kernel> {
        let steps = &self.session.planned().executable.plan().steps;
        steps
            .iter()
            .zip(&self.steps)
            .map(|(step, times)| Kernel {
                operations: step.about.clone(),
                nodes: step.nodes.clone(),
                median_us: microseconds(median(times)),
                scalar_operations: step.kernel.operations(),
            })
            .collect()
    }

    /// One run of median steps as complete events of the Chrome trace format.
    fn trace(&self) -> String {
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

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Numbers from 0 to 1, which are 0 for integers: an index that every table has.
fn random(name: &str, ty: &TensorType) -> Tensor {
    let init = Initializer::Uniform { low: Real(0.0), high: Real(1.0) };
    let dims = ty.dims().expect("plans have no symbols");
    initialize(&Parameter { ty: ty.clone(), init, trainable: false, is_state: false }, &dims, name, 0)
}

/// Both forms compute the same; only the order of sums may differ.
fn compare(fused: &[(String, Tensor)], unfused: &[(String, Tensor)]) -> Result<(), Error> {
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
