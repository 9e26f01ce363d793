//! In which units scores are told: a network that learns from a standardised table works with numbers around 0, and its
//! user wants the errors of a forecast in the units of the table.

use crate::data::Dataset;
use crate::ir::ops::{Op, PairLoss};
use crate::ir::recipe::Metric;
use crate::recipe::Recipe;
use crate::trainer::Scores;

/// What scores are multiplied by to be in the units of the targets: 1 where they have none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Units {
    loss: f64,
    metrics: [f64; Scores::MOST],
}

impl Units {
    /// The units of a training on these examples. Errors are told in those of the targets where these were standardised and
    /// have one deviation: squared for square errors. Of columns with several deviations, and of losses that are not of one
    /// power, they stay as the network has them.
    ///
    /// ```
    /// use fusewright::{Options, Recipe, Trainer, Units};
    ///
    /// let recipe = Recipe::load("models/train_linear_regression.ron")?;
    /// let (train, _) = recipe.data()?.expect("it names its data");
    /// let units = Units::new(&recipe, &train);
    /// let mut trainer = Trainer::new(recipe, Some(&train), Options::default())?;
    /// // Without a fit, near the mean of the square of a standardised target, which is 1, times its variance.
    /// assert!(units.loss(trainer.evaluate(&train)?) > 3000.0);
    /// # Ok::<(), fusewright::Error>(())
    /// ```
    pub fn new(recipe: &Recipe, data: &Dataset) -> Units {
        let definition = recipe.definition();
        let deviation = match data.scaling().map(|scaling| scaling.targets.as_slice()) {
            Some([first, rest @ ..]) if rest.iter().all(|other| other.std == first.std) => first.std,
            _ => 1.0,
        };
        let loss = match &definition.objective.loss {
            Op::PointwiseLoss(loss) if loss.function == PairLoss::Mse => deviation * deviation,
            Op::PointwiseLoss(loss) if loss.function == PairLoss::L1 => deviation,
            _ => 1.0,
        };
        let mut metrics = [1.0; Scores::MOST];
        for (factor, metric) in metrics.iter_mut().zip(&definition.metrics) {
            *factor = match metric {
                Metric::Accuracy => 1.0,
                Metric::MeanSquaredError => deviation * deviation,
                Metric::MeanAbsoluteError => deviation,
            };
        }
        Units { loss, metrics }
    }

    /// The loss.
    pub fn loss(&self, scores: Scores) -> f64 {
        f64::from(scores.loss) * self.loss
    }

    /// The metric of this number in the order of the recipe.
    ///
    /// # Panics
    /// If there is none.
    pub fn metric(&self, scores: Scores, number: usize) -> f64 {
        f64::from(scores.metrics[number]) * self.metrics[number]
    }
}
