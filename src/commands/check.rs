//! `fusewright check`: all faults of a model or training file.

use super::arguments::{ModelArguments, batch};
use super::gradients::compare;
use super::output::{Failure, Output};
use super::summary::layers;
use super::table::{Table, grouped};
use clap::Args;
use fusewright::passes::train::StepOptions;
use fusewright::{Error, Model, Recipe};
use std::io::Write;

/// Reads a model, its weights and its classes, or a training file and its data, and says what is wrong with them
#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    model: ModelArguments,
    /// Compare gradients with finite differences, by every input and parameter; sizes that are not given are 1
    #[arg(long)]
    gradients: bool,
    /// How many elements of each are compared
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = batch, requires = "gradients")]
    samples: usize,
}

impl Check {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        if self.model.is_training()? {
            return self.training(out);
        }
        let model = self.model.load()?;
        self.whole(&model)?;
        if self.gradients {
            return self.compare(&model, out);
        }
        Ok(writeln!(out, "{}: sound ({})", self.model.model.display(), told(&model))?)
    }

    fn training(&self, out: &mut Output) -> Result<(), Failure> {
        let recipe = Recipe::load(&self.model.model)?;
        self.whole(recipe.model())?;
        let data = recipe.data()?;
        let train = data.as_ref().map(|(train, _)| train);
        let mut sizes = recipe.largest_sizes(train)?;
        sizes.extend(self.model.bindings(None)?);
        recipe.step(&sizes, &StepOptions { steps_per_epoch: 1, total_steps: 1 })?;
        if let Some(train) = train {
            recipe.check_last_step(train, &self.model.bindings(None)?)?;
        }
        if self.gradients {
            return self.compare(recipe.model(), out);
        }
        let examples = match &data {
            None => "no data".to_string(),
            Some((train, None)) => format!("{} examples", grouped(train.len() as u64)),
            Some((train, Some(test))) => {
                format!("{} examples, {} to evaluate with", grouped(train.len() as u64), grouped(test.len() as u64))
            }
        };
        Ok(writeln!(out, "{}: sound ({}; {examples})", self.model.model.display(), told(recipe.model()))?)
    }

    /// The files of a model, and the sizes that are given.
    fn whole(&self, model: &Model) -> Result<(), Failure> {
        model.own_weights()?;
        model.classes()?;
        if !self.model.bind.is_empty() {
            model.bind(&self.model.bindings(None)?)?;
        }
        Ok(())
    }

    fn compare(&self, model: &Model, out: &mut Output) -> Result<(), Failure> {
        let rows = compare(model, self.model.bindings(None)?, self.samples)?;
        let mut table = Table::new(&["by", "type", ">compared", ">greatest", ">distance", ""]);
        for row in &rows {
            let verdict = if row.agrees() { "agrees" } else { "DIFFERS" };
            let numbers = [row.compared.to_string(), format!("{:.3e}", row.greatest), format!("{:.1e}", row.distance)];
            let [compared, greatest, distance] = numbers;
            table.row([row.name.clone(), row.ty.to_string(), compared, greatest, distance, verdict.to_string()]);
        }
        write!(out, "{table}")?;
        match rows.iter().filter(|row| !row.agrees()).count() {
            0 => Ok(writeln!(out, "{} gradients agree with finite differences", rows.len())?),
            n => Err(Error::Internal(format!("{n} gradients differ from finite differences")).into()),
        }
    }
}

/// What a model has.
fn told(model: &Model) -> String {
    let parameters = model.parameter_count().map_or("a number of".to_string(), grouped);
    format!("{} layers, {parameters} parameters", layers(model.graph()).len())
}
