//! `fusewright bench`: how long a network, or a step of its training, takes, fused against unfused, kernel by kernel.

mod network;
pub mod runner;
mod training;

use super::arguments::{
    CacheArgument, ModelArguments, NamedFile, PlanArguments, RunArguments, batch, named_file, weights,
};
use super::compile::{repeated, shortened};
use super::output::{Failure, Output, progress, usage};
use super::table::{Table, bytes, time};
use clap::Args;
use fusewright::data::files;
use fusewright::{Error, Options};
use runner::{Figures, Runner, Subject};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Measures runs of a network, or steps of a training, fused and unfused, and compares the results of both forms
#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    planning: PlanArguments,
    #[command(flatten)]
    cache: CacheArgument,
    /// The batch: the value of the symbol N, 1 where nothing is said; of a training its own where nothing is said
    #[arg(long, value_name = "N", value_parser = batch)]
    batch: Option<usize>,
    #[command(flatten)]
    how: RunArguments,
    /// An input as npy; others are random, or the first batch of a training's data
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = named_file)]
    input: Vec<NamedFile>,
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

#[derive(Serialize)]
struct Json {
    threads: u16,
    #[serde(flatten)]
    fused: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfused: Option<Figures>,
}

impl Bench {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        let seconds = self.seconds.unwrap_or(if self.json { 0.4 } else { 1.0 });
        if !(seconds > 0.0 && seconds <= 3600.0) {
            return Err(usage("`--seconds` is out of range").expected("more than 0, at most 3600").into());
        }
        let read = self.input.iter().map(|file| &file.path).chain(&self.weights).chain([&self.model.model]);
        files::check_apart(&self.trace, read)?;
        match self.model.is_training()? {
            true => {
                let prepared = training::Prepared::new(&self)?;
                self.measure(out, seconds, |options| prepared.step(options))
            }
            false => {
                let prepared = network::Prepared::new(&self)?;
                self.measure(out, seconds, |options| prepared.session(options))
            }
        }
    }

    /// Measures both forms of a subject.
    fn measure<S: Subject>(
        &self,
        out: &mut Output,
        seconds: f64,
        make: impl Fn(Options) -> Result<S, Error>,
    ) -> Result<(), Failure> {
        let weights = weights(self.weights.as_ref())?;
        let form = |fuse: bool| -> Result<Runner<S>, Error> {
            let mut options = self.cache.put(self.planning.put(Options { fuse, ..self.how.options(weights.clone()) }));
            // Without fusion there is more to keep.
            options.memory_limit = options.memory_limit.filter(|_| fuse);
            Ok(Runner::new(make(options)?))
        };
        let mut fused = form(true)?;
        let mut unfused = if self.unfused || !self.json { Some(form(false)?) } else { None };
        if let Some(unfused) = &unfused {
            runner::compare(fused.subject.results(), unfused.subject.results())?;
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

    fn show<S: Subject>(
        &self,
        out: &mut Output,
        shown: &Runner<S>,
        fused: &Runner<S>,
        unfused: &Runner<S>,
    ) -> Result<(), Failure> {
        let all: f64 = shown.kernels().iter().map(|kernel| kernel.median_us).sum();
        let mut table = Table::new(&["kernel", "operations", "nodes", ">median", ">share", ">G operations/s"]);
        for (i, kernel) in shown.kernels().into_iter().enumerate() {
            table.row([
                format!("k{i}"),
                kernel.operations,
                shortened(&kernel.nodes),
                time(Duration::from_secs_f64(kernel.median_us / 1e6)),
                format!("{:.1} %", kernel.median_us / all.max(1e-9) * 100.0),
                format!("{:.2}", kernel.scalar_operations as f64 / kernel.median_us.max(1e-3) / 1e3),
            ]);
        }
        writeln!(out, "{table}")?;
        writeln!(out, "threads  {}", self.how.threads)?;
        for (name, form) in [("fused", fused), ("unfused", unfused)] {
            let (kernels, runs) = (form.subject.plan().steps.len(), form.runs());
            let (median, fastest) = (time(form.median()), time(form.fastest()));
            let arena = bytes(form.subject.plan().arena_bytes);
            writeln!(
                out,
                "{name:8} median {median}, min {fastest} ({kernels} kernels, {runs} runs, {arena} of arena)"
            )?;
        }
        if let Some(text) = repeated(fused.subject.plan()) {
            writeln!(out, "repeated {text}")?;
        }
        let ratio = unfused.median().as_secs_f64() / fused.median().as_secs_f64().max(1e-12);
        if !fused.subject.losses().is_empty() {
            let losses: Vec<String> = fused.subject.losses().iter().map(|loss| format!("{loss:.6}")).collect();
            writeln!(out, "losses   {}", losses.join(" "))?;
        }
        Ok(writeln!(out, "fused is {ratio:.2} times as fast; the {} agree", S::RESULTS)?)
    }
}
