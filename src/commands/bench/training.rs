//! A step of a training as it is timed: [`Trainer::step`] on one batch, again and again.

use super::Bench;
use super::network::random;
use super::runner::Subject;
use crate::commands::arguments::{NamedFile, named, narrowed};
use crate::commands::output::Failure;
use crate::commands::training::Training;
use fusewright::data::npy;
use fusewright::ir::plan::Outline;
use fusewright::ir::{Diagnostic, Tensor, TensorType};
use fusewright::{Compilation, Error, Options, Recipe, Trainer};
use std::time::Duration;

/// Losses of so many steps are told, and compared.
const FIRST_STEPS: usize = 5;

/// What both forms have in common.
pub struct Prepared {
    training: Training,
    files: Vec<NamedFile>,
}

impl Prepared {
    pub fn new(bench: &Bench) -> Result<Prepared, Failure> {
        let recipe = Recipe::load(&bench.model.model)?;
        // Where all inputs are given, data are not wanted.
        let training = Training::new(recipe, &bench.model, bench.batch, bench.input.is_empty())?;
        Ok(Prepared { training, files: bench.input.clone() })
    }

    pub fn step(&self, options: Options) -> Result<Step, Error> {
        let trainer = self.training.trainer(options)?;
        let names: Vec<&str> = trainer.inputs().iter().map(|(name, _)| name.as_str()).collect();
        let files = named(&self.files, &names, "input")?;
        let mut inputs = match &self.training.data {
            Some(data) => {
                let examples: Vec<usize> = (0..self.training.recipe.definition().batch).collect();
                trainer.examples(data, &examples)
            }
            None => trainer.inputs().iter().map(|(name, ty)| (name.clone(), self.random(name, ty))).collect(),
        };
        for ((name, tensor), (_, ty)) in inputs.iter_mut().zip(trainer.inputs()) {
            if let Some((_, path)) = files.iter().find(|(given, _)| given == name) {
                *tensor = narrowed(npy::read(path)?, ty);
                if tensor.tensor_type() != *ty {
                    let fault = Diagnostic::new(format!("the input `{name}` does not fit")).expected(ty.to_string());
                    let help = "`--batch` says how many examples a step has";
                    return Err(fault.found(tensor.tensor_type().to_string()).help(help).into());
                }
            }
        }
        let mut step = Step { trainer, inputs, losses: Vec::new(), results: Vec::new() };
        for _ in 0..FIRST_STEPS {
            step.run(&mut [])?;
        }
        step.results = vec![("loss".to_string(), Tensor::from_vec(&[FIRST_STEPS], step.losses.clone()))];
        Ok(step)
    }

    /// Numbers from 0 to 1, and all labels in turn.
    fn random(&self, name: &str, ty: &TensorType) -> Tensor {
        let classes = self.training.recipe.wanted().ok().and_then(|wanted| wanted.labels).map(|labels| labels.classes);
        let dims = ty.dims().expect("steps have sizes");
        match classes.filter(|_| !ty.dtype.is_float() && name == self.training.recipe.definition().objective.target) {
            Some(classes) => {
                let labels: Vec<f64> = (0..dims.iter().product()).map(|i: usize| (i % classes.max(1)) as f64).collect();
                Tensor::new(&dims, fusewright::Data::from_f64(ty.dtype, &labels))
            }
            None => random(name, ty),
        }
    }
}

/// A trainer with a batch.
pub struct Step {
    trainer: Trainer,
    inputs: Vec<(String, Tensor)>,
    losses: Vec<f32>,
    results: Vec<(String, Tensor)>,
}

impl Subject for Step {
    const RESULTS: &'static str = "losses";

    fn run(&mut self, times: &mut [Duration]) -> Result<(), Error> {
        let inputs: Vec<(&str, &Tensor)> = self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let scores = self.trainer.step_profiled(&inputs, times)?;
        if self.losses.len() < FIRST_STEPS {
            self.losses.push(scores.loss);
        }
        Ok(())
    }

    fn results(&self) -> &[(String, Tensor)] {
        &self.results
    }

    fn losses(&self) -> &[f32] {
        &self.losses
    }

    fn state_bytes(&self) -> Option<u64> {
        Some(self.trainer.state().bytes() as u64)
    }

    fn plan(&self) -> &Outline {
        self.trainer.plan()
    }

    fn code_bytes(&self) -> usize {
        self.trainer.executable().code_bytes()
    }

    fn compilation(&self) -> &Compilation {
        self.trainer.compilation()
    }
}
