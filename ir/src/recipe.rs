//! How a network is trained: what a training file says, but for the network itself.
//!
//! Names, defaults and meanings are those of `torch.optim`; a [`Rate`] is a factor of the optimiser's learning rate.
//! [`crate::text`] has the form of the file.

mod check;

use crate::diagnostic::{Diagnostics, Source as Text, Span};
use crate::model::Model;
use crate::ops::{Op, Real};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A network and how it is trained.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The network.
    pub model: Network,
    /// What is made small.
    pub objective: Objective,
    /// How parameters follow their gradients.
    pub optimizer: Optimizer,
    /// How the learning rate changes.
    pub rate: Rate,
    /// How large gradients are made smaller.
    pub clip: Option<Clip>,
    /// What is counted beside the loss.
    pub metrics: Vec<Metric>,
    /// Examples a step.
    pub batch: usize,
    /// How often all examples are seen.
    pub epochs: usize,
    /// Of initial parameters, the order of examples, and dropout.
    pub seed: u64,
    /// Where examples come from; none in a file that is only timed.
    pub data: Option<Data>,
    /// The name of the file, as messages show it.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Recipe {
    /// The recipe of a training file. `path` is the name that messages show.
    ///
    /// ```
    /// use fusewright_ir::recipe::{Optimizer, Recipe};
    ///
    /// let recipe = Recipe::parse("train.ron", r#"(
    ///     fusewright: 1,
    ///     model: "lenet5.ron",
    ///     loss: CrossEntropyLoss,
    ///     optimizer: Sgd(lr: 0.1, momentum: 0.9),
    ///     batch: 64,
    /// )"#)?;
    /// assert!(matches!(recipe.optimizer, Optimizer::Sgd { nesterov: false, .. }));
    /// assert_eq!((recipe.objective.target.as_str(), recipe.batch, recipe.epochs), ("labels", 64, 1));
    /// # Ok::<(), fusewright_ir::Diagnostics>(())
    /// ```
    ///
    /// # Errors
    /// All faults of the text, each at its place; those of a model within it too.
    pub fn parse(path: &str, text: &str) -> Result<Recipe, Diagnostics> {
        crate::text::read_recipe(path, text)
    }

    /// Whether a text is a training file rather than a model: it has a `loss` or an `optimizer`, and no `layers`. What is
    /// not RON is neither.
    pub fn is_recipe(text: &str) -> bool {
        crate::text::is_recipe(text)
    }

    /// The text and its name, for rendering diagnostics.
    pub fn source(&self) -> Text<'_> {
        Text { path: &self.path, text: &self.text }
    }

    /// The place of a value in the text, by the names of the fields that lead to it: `["data", "train", "images"]`. Where
    /// the last are not there, that of those that are; `None` where the first is not.
    pub fn place(&self, fields: &[&str]) -> Option<Span> {
        let value = crate::text::parse(&self.text).ok()?;
        let mut found = value.field(fields.first()?)?;
        for name in &fields[1..] {
            match found.field(name) {
                Some(inner) => found = inner,
                None => break,
            }
        }
        Some(found.span.clone())
    }
}

/// Where the network of a recipe is.
#[derive(Clone, Debug)]
pub enum Network {
    /// A model file: relative to the folder of the recipe, and inside it.
    File(String),
    /// In the recipe.
    Inline(Arc<Model>),
}

/// What training makes small.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// A loss layer with a reduction to one number.
    pub loss: Op,
    /// The output of the network that it is of; `None` for the only one.
    pub output: Option<String>,
    /// The name of what the output should be: an input of the network, or a new input of the step.
    pub target: String,
    /// Where the loss stands in the text.
    pub span: Option<Span>,
}

impl Objective {
    /// The label of places that do not count, where the loss has one.
    pub fn ignored_label(&self) -> Option<i64> {
        match &self.loss {
            Op::CrossEntropyLoss(loss) => Some(loss.ignore_index),
            Op::NllLoss(loss) => Some(loss.ignore_index),
            _ => None,
        }
    }
}

/// How parameters follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent, `torch.optim.SGD`.
    Sgd {
        /// The learning rate.
        lr: Real,
        /// How much of the last step is repeated.
        #[serde(default = "zero")]
        momentum: Real,
        /// How much of the gradient the momentum does not see.
        #[serde(default = "zero")]
        dampening: Real,
        /// The factor of the parameters that is added to their gradients.
        #[serde(default = "zero")]
        weight_decay: Real,
        /// Whether the momentum is looked ahead (Nesterov).
        #[serde(default)]
        nesterov: bool,
    },
    /// Kingma and Ba 2015, `torch.optim.Adam`.
    Adam {
        /// The learning rate.
        #[serde(default = "thousandth")]
        lr: Real,
        /// How slowly the means of gradients and of their squares change.
        #[serde(default = "betas")]
        betas: (Real, Real),
        /// Added to the root of the mean square.
        #[serde(default = "tiny")]
        eps: Real,
        /// The factor of the parameters that is added to their gradients.
        #[serde(default = "zero")]
        weight_decay: Real,
    },
    /// Loshchilov and Hutter 2019, `torch.optim.AdamW`.
    AdamW {
        /// The learning rate.
        #[serde(default = "thousandth")]
        lr: Real,
        /// How slowly the means of gradients and of their squares change.
        #[serde(default = "betas")]
        betas: (Real, Real),
        /// Added to the root of the mean square.
        #[serde(default = "tiny")]
        eps: Real,
        /// The factor, times the learning rate, by which parameters shrink.
        #[serde(default = "hundredth")]
        weight_decay: Real,
    },
    /// Hinton's lecture 6e, `torch.optim.RMSprop`.
    RmsProp {
        /// The learning rate.
        #[serde(default = "hundredth")]
        lr: Real,
        /// How slowly the mean square changes.
        #[serde(default = "most")]
        alpha: Real,
        /// Added to the root of the mean square.
        #[serde(default = "tiny")]
        eps: Real,
        /// The factor of the parameters that is added to their gradients.
        #[serde(default = "zero")]
        weight_decay: Real,
        /// How much of the last step is repeated.
        #[serde(default = "zero")]
        momentum: Real,
        /// Whether the mean is subtracted from the mean square.
        #[serde(default)]
        centered: bool,
    },
    /// Duchi, Hazan and Singer 2011, `torch.optim.Adagrad`.
    Adagrad {
        /// The learning rate.
        #[serde(default = "hundredth")]
        lr: Real,
        /// How the learning rate falls with the number of steps.
        #[serde(default = "zero")]
        lr_decay: Real,
        /// The factor of the parameters that is added to their gradients.
        #[serde(default = "zero")]
        weight_decay: Real,
        /// What sums of squares start as.
        #[serde(default = "zero")]
        initial_accumulator_value: Real,
        /// Added to the root of the sum of squares.
        #[serde(default = "tiniest")]
        eps: Real,
    },
}

fn zero() -> Real {
    Real(0.0)
}

fn thousandth() -> Real {
    Real(1e-3)
}

fn hundredth() -> Real {
    Real(1e-2)
}

fn most() -> Real {
    Real(0.99)
}

fn tiny() -> Real {
    Real(1e-8)
}

fn tiniest() -> Real {
    Real(1e-10)
}

fn betas() -> (Real, Real) {
    (Real(0.9), Real(0.999))
}

/// How the learning rate changes from step to step: a factor of the optimiser's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Steps over which the factor rises from `warmup_from` to 1, in a straight line, times the schedule's.
    pub warmup: Option<(Time, Real)>,
    /// What follows; its time counts from the first step.
    pub schedule: Schedule,
}

/// A time in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Time {
    /// So many steps.
    Steps(u64),
    /// So many passes over all examples.
    Epochs(Real),
}

/// A course of the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Schedule {
    /// Always 1.
    #[default]
    Constant,
    /// Times `gamma` after every `every`: `StepLR`.
    Step {
        /// How long a factor stays.
        every: Time,
        /// What it is multiplied by.
        #[serde(default = "tenth")]
        gamma: Real,
    },
    /// Half a cosine from 1 to `to`, and then `to`: `CosineAnnealingLR`.
    Cosine {
        /// How long; the whole training where nothing is said.
        #[serde(default)]
        over: Option<Time>,
        /// The last factor.
        #[serde(default = "zero")]
        to: Real,
    },
    /// Up from `1 / div_factor` to 1 and down to `1 / (div_factor * final_div_factor)`, each half a cosine: `OneCycleLR`, whose
    /// `max_lr` is the optimiser's learning rate.
    OneCycle {
        /// How long; the whole training where nothing is said.
        #[serde(default)]
        over: Option<Time>,
        /// The part of it that goes up.
        #[serde(default = "third")]
        pct_start: Real,
        /// How much smaller the first rate is.
        #[serde(default = "twenty_five")]
        div_factor: Real,
        /// How much smaller than the first the last rate is.
        #[serde(default = "ten_thousand")]
        final_div_factor: Real,
    },
}

fn tenth() -> Real {
    Real(0.1)
}

fn third() -> Real {
    Real(0.3)
}

fn twenty_five() -> Real {
    Real(25.0)
}

fn ten_thousand() -> Real {
    Real(1e4)
}

/// How large gradients are made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Clip {
    /// All are scaled down together to this Euclidean norm: `clip_grad_norm_`.
    Norm(Real),
    /// Every element to `-value..=value`: `clip_grad_value_`.
    Value(Real),
}

/// What is counted beside the loss, as a mean over examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// Whether the greatest score is that of the label.
    Accuracy,
    /// The mean square error of the output against the target.
    MeanSquaredError,
    /// The mean absolute error of the output against the target.
    MeanAbsoluteError,
}

/// Where examples come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// What is trained on.
    pub train: Source,
    /// What is evaluated after each epoch.
    pub test: Option<Source>,
}

/// Examples in files: each path relative to the folder of the recipe, and inside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Source {
    /// Images and labels as IDX files, gzipped or not (LeCun's format of MNIST).
    Idx {
        /// The pixels, `u8[n, height, width]`.
        images: String,
        /// The labels, `u8[n]`.
        labels: String,
    },
    /// Arrays of NumPy, the first axis the examples.
    Npy {
        /// The network's input.
        inputs: String,
        /// What the output should be.
        targets: String,
    },
    /// A table with a header.
    Csv {
        /// The file.
        file: String,
        /// The columns that are the input; all but the targets where none are named.
        #[serde(default)]
        inputs: Vec<String>,
        /// The columns that are the target.
        targets: Vec<String>,
        /// Whether columns are scaled to mean 0 and standard deviation 1, by the training file; errors are reported in the
        /// target's own units.
        #[serde(default)]
        standardize: bool,
    },
    /// A folder of pictures for each class, the classes in the order of their names.
    Folder {
        /// The folder.
        images: String,
    },
}

impl Source {
    /// The fields that name files or folders, with what they name.
    pub fn paths(&self) -> Vec<(&'static str, &str)> {
        match self {
            Source::Idx { images, labels } => vec![("images", images), ("labels", labels)],
            Source::Npy { inputs, targets } => vec![("inputs", inputs), ("targets", targets)],
            Source::Csv { file, .. } => vec![("file", file)],
            Source::Folder { images } => vec![("images", images)],
        }
    }
}
