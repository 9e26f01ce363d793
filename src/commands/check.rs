//! `fusewright check`: all faults of a model file.

use super::arguments::{ModelArguments, batch};
use super::gradients::compare;
use super::output::{Failure, Output};
use super::summary::layers;
use super::table::{Table, grouped};
use clap::Args;
use fusewright::{Error, Model};
use std::io::Write;

/// Reads the model, its weights and its classes, and says what is wrong with them
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
        let model = self.model.load()?;
        model.own_weights()?;
        model.classes()?;
        if !self.model.bind.is_empty() {
            model.bind(&self.model.bindings(None)?)?;
        }
        if self.gradients {
            return self.compare(&model, out);
        }
        let parameters = model.parameter_count().map_or("a number of".to_string(), grouped);
        let path = self.model.model.display();
        Ok(writeln!(out, "{path}: sound ({} layers, {parameters} parameters)", layers(model.graph()).len())?)
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
