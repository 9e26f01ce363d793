//! `fusewright train`: a network learns from examples.

mod bar;
mod checkpoints;
mod interrupt;
mod lines;
mod report;

use super::arguments::{CacheArgument, PlanArguments, RunArguments, batch, weights};
use super::output::{self, Failure, Output, usage};
use bar::Bar;
use checkpoints::{Checkpoints, Every};
use clap::Args;
use fusewright::data::files;
use fusewright::ir::Diagnostic;
use fusewright::{Event, Recipe, Trainer, Units};
use lines::Lines;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Trains a network: one line an epoch, checkpoints to go on from, and a page about it
#[derive(Args)]
pub struct Train {
    /// The training file
    training: PathBuf,
    /// How often all examples are seen; as the training file says where nothing is said
    #[arg(long, value_name = "N", value_parser = batch)]
    epochs: Option<usize>,
    /// Seeds initial parameters, the order of examples and dropout; the training file's where none is given
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    how: RunArguments,
    #[command(flatten)]
    planning: PlanArguments,
    #[command(flatten)]
    cache: CacheArgument,
    /// Begin with the parameters of this safetensors file
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    weights: Option<PathBuf>,
    /// Write checkpoints to this file, one in the place of the other; the file of `--resume` where only that is given
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// How often: 2 for every other epoch, 500steps for every 500 steps; after each epoch where nothing is said
    #[arg(long, value_name = "EPOCHS")]
    every: Option<Every>,
    /// Go on from this checkpoint, with the same bits as without the pause
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Write the learned parameters to this safetensors file, for `run`, `eval` and `bench`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Write a page with curves, the memory plan and the times of kernels
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Print JSON, one object an epoch
    #[arg(long)]
    json: bool,
}

/// Why a training ended before its last epoch.
enum Stop {
    Interrupted,
    Failed(Failure),
}

impl Train {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        let recipe = self.recipe()?;
        let Some((train, test)) = recipe.data()? else {
            let fault = Diagnostic::new(format!("`{}` names no examples to train on", self.training.display()));
            let fault = fault.expected("a section `data: (train: ..., test: ...)`");
            return Err(fault.help("`fusewright bench` times a step without examples").into());
        };
        let target = self.checkpoint.as_ref().or(self.resume.as_ref());
        if self.every.is_some() && target.is_none() {
            let fault = usage("`--every` says how often checkpoints are written, and there are none");
            return Err(fault.help("name their file with `--checkpoint FILE`").into());
        }
        self.check_outputs(&recipe, target)?;
        let units = Units::new(&recipe, &train);
        let mut options = self.cache.put(self.planning.put(self.how.options(weights(self.weights.as_ref())?)));
        options.details = self.report.is_some();
        let mut trainer = Trainer::new(recipe, Some(&train), options)?;
        let mut checkpoints = Checkpoints::new(target.cloned(), self.every.unwrap_or_default());
        if let Some(path) = &self.resume {
            trainer.resume(path)?;
            checkpoints.resumed(path, &trainer);
        }

        let title = self.training.file_stem().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        let interrupted = interrupt::watch();
        let mut lines = Lines::new(&trainer, units, test.is_some(), train.len(), self.json);
        let bar = Bar::new(&trainer, units);
        let mut stop = None;
        let done = trainer.fit(&train, test.as_ref(), |trainer, event| {
            let followed = match event {
                Event::Step { step, scores, examples } => {
                    bar.step(trainer, step, scores, examples);
                    Ok(())
                }
                Event::Evaluation { .. } => Ok(()),
                Event::Epoch(epoch) => bar.aside(|| lines.epoch(out, &epoch)),
            };
            let kept = followed.and_then(|()| bar.aside(|| checkpoints.follow(trainer, &event)));
            stop = match kept {
                Err(failure) => Some(Stop::Failed(failure)),
                Ok(()) if interrupted() => Some(Stop::Interrupted),
                Ok(()) => return ControlFlow::Continue(()),
            };
            ControlFlow::Break(())
        });
        bar.finish();
        done.map_err(|error| checkpoints.named_in(error))?;
        match stop {
            None => self.finish(out, &mut trainer, &mut checkpoints, |trainer| {
                report::page(&title, trainer, units, &train, self.how.threads)
            }),
            Some(Stop::Interrupted) => {
                checkpoints.keep(&trainer)?;
                Err(Failure::Interrupted(checkpoints.told(&trainer)))
            }
            Some(Stop::Failed(failure @ Failure::Output(_))) => {
                // Whoever read the lines has left: what was learned is not lost.
                checkpoints.keep(&trainer)?;
                Err(failure)
            }
            Some(Stop::Failed(failure)) => Err(failure),
        }
    }

    /// The training, with what the command line says otherwise.
    fn recipe(&self) -> Result<Recipe, Failure> {
        let mut recipe = Recipe::load(&self.training)?;
        if let Some(epochs) = self.epochs {
            recipe = recipe.with_epochs(epochs);
        }
        if let Some(seed) = self.seed {
            recipe = recipe.with_seed(seed);
        }
        Ok(recipe)
    }

    /// Whether the files to write can be written, each without another being lost. New parameters may take the place of those
    /// that the training began with, and a checkpoint that of the one it goes on from.
    fn check_outputs(&self, recipe: &Recipe, checkpoint: Option<&PathBuf>) -> Result<(), Failure> {
        let [save, report] = [self.save.as_ref(), self.report.as_ref()];
        let written = || [checkpoint, save, report].into_iter().flatten();
        let read = recipe.files();
        files::check_apart(written(), read.iter().chain([&self.training]))?;
        files::check_apart([checkpoint, report].into_iter().flatten(), &self.weights)?;
        files::check_apart([save, report].into_iter().flatten(), &self.resume)?;
        for path in written() {
            files::check_writable(path)?;
        }
        Ok(())
    }

    /// Writes all that was asked for; what cannot be written keeps nothing else from it. The page comes last: to time kernels,
    /// the trainer goes on.
    fn finish(
        &self,
        out: &mut Output,
        trainer: &mut Trainer,
        checkpoints: &mut Checkpoints,
        page: impl FnOnce(&mut Trainer) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        trainer.check_finite().map_err(|error| checkpoints.named_in(error))?;
        let kept = checkpoints.keep(trainer).map_err(Failure::from);
        let saved = self.save.as_ref().map_or(Ok(()), |path| Ok(trainer.weights().save(path)?));
        let reported = self.report.as_ref().map_or(Ok(()), |path| {
            let text = page(trainer)?;
            Ok(files::write(path, |file| file.write_all(text.as_bytes()))?)
        });
        let mut failures = [kept, saved, reported].into_iter().filter_map(Result::err);
        let first = failures.next();
        for failure in failures {
            if let Failure::Error(error) = failure {
                output::warn(&error);
            }
        }
        match first {
            Some(failure) => Err(failure),
            None => Ok(out.flush()?),
        }
    }
}
