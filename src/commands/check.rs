//! `fusewright check`: all faults of a model file.

use super::arguments::ModelArguments;
use super::output::{Failure, Output};
use super::summary::layers;
use super::table::grouped;
use clap::Args;
use std::io::Write;

/// Reads the model, its weights and its classes, and says what is wrong with them
#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    model: ModelArguments,
}

impl Check {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        let model = self.model.load()?;
        model.own_weights()?;
        model.classes()?;
        if !self.model.bind.is_empty() {
            model.bind(&self.model.bindings(None)?)?;
        }
        let parameters = model.parameter_count().map_or("a number of".to_string(), grouped);
        let path = self.model.model.display();
        Ok(writeln!(out, "{path}: sound ({} layers, {parameters} parameters)", layers(model.graph()).len())?)
    }
}
