//! A training as commands see it that do not train: what is compiled for a step.

use super::arguments::ModelArguments;
use super::output::Failure;
use fusewright::data::Dataset;
use fusewright::ir::Bindings;
use fusewright::{Error, Options, Recipe, Trainer};

/// A recipe with the sizes of its data.
pub struct Training {
    pub recipe: Recipe,
    /// The examples to train with, where there are so many as a batch has.
    pub data: Option<Dataset>,
    bindings: Bindings,
}

impl Training {
    /// The training of a recipe with another batch, where one is given; `data` says whether its examples are read.
    pub fn new(
        mut recipe: Recipe,
        model: &ModelArguments,
        batch: Option<usize>,
        data: bool,
    ) -> Result<Training, Failure> {
        if let Some(batch) = batch {
            recipe = recipe.with_batch(batch);
        }
        let data = if data { recipe.data()?.map(|(train, _)| train) } else { None };
        let mut bindings = model.bindings(None)?;
        let batch = recipe.definition().batch;
        // No step of a set smaller than the batch has so many examples: numbers are made up, of the sizes of the set.
        let data = match data {
            Some(small) if small.len() < batch => {
                for (name, n) in recipe.sizes(batch, Some(&small))? {
                    bindings.entry(name).or_insert(n);
                }
                None
            }
            data => data,
        };
        Ok(Training { recipe, data, bindings })
    }

    /// Its trainer.
    pub fn trainer(&self, options: Options) -> Result<Trainer, Error> {
        let options = Options { bindings: self.bindings.clone(), ..options };
        Trainer::new(self.recipe.clone(), self.data.as_ref(), options)
    }
}
