//! The text form: RON to model with spans, model to RON, and the canonical form of a file. The only module that names
//! ron.
//!
//! ```
//! let model = fusewright_ir::Model::parse("net.ron", r#"(
//!     fusewright: 1,
//!     inputs: [(name: "x", shape: [N, 16])],
//!     blocks: {
//!         "step": (parameters: [out, residual(false)], layers: [
//!             Dense(name: "linear", out: out),
//!             Relu(name: "act"),
//!             Add(from: ["act", "in"], when: residual),
//!         ]),
//!     },
//!     layers: [
//!         step(name: "first", out: 32),
//!         step(name: "step{}", repeat: 1..=3, out: 32, residual: true),
//!         Dense(name: "scores", out: 10, init: (weight: Normal(std: 0.01))),
//!     ],
//! )"#)?;
//! assert_eq!(model.parameter_count(), Some(17 * 32 + 3 * 33 * 32 + 33 * 10));
//! assert!(model.graph.find("step2.linear.weight").is_some());
//! # Ok::<(), fusewright_ir::Diagnostics>(())
//! ```
//!
//! # The sections of a file
//!
//! | section | what it holds |
//! |---|---|
//! | `fusewright` | the version of the form: 1 |
//! | `name` | what people call the model |
//! | `inputs` | `(name, shape, dtype, normalize)` each; an axis is a number or a symbol; the type is f32 unless given; `normalize: (scale, mean, std, resize)` says how images become the input |
//! | `blocks` | layers with parameters: `"name": (parameters: [out, stride(1)], layers: [...])`, where `stride(1)` has a default |
//! | `constants` | `"name": (shape, values, dtype)` |
//! | `parameters` | `"name": (shape, dtype, init, trainable)`, for those that no layer makes or that several share |
//! | `layers` | layers in order, each earlier than its users |
//! | `outputs` | names of layers, or `{"name": "layer"}`; the last layer where nothing is said |
//! | `grad` | gradients beside the outputs: `{"dx": (of: "loss", by: "x")}` is that of the sum of all elements of `loss` by the input, parameter or layer `x`; `upstream: "u"` weighs the elements |
//! | `weights` | a safetensors file in the folder of the model |
//! | `classes` | names, or a text file with one a line in the folder of the model |
//! | `seed` | of the initialisers |
//!
//! # The fields of a layer
//!
//! Beside the attributes of its operation a layer may have:
//!
//! | field | what it says |
//! |---|---|
//! | `name` | its name, and the prefix of its parameters'; else its kind and a number: `relu1` |
//! | `from` | its input or inputs, by name; `"split:1"` is a second output; else the layer before, or the first input |
//! | `init` | what its parameters start as: `(weight: Zeros)` |
//! | `weight` and so on | the name of a constant, parameter or layer in the place of a parameter of its own |
//! | `value` | a number as the last operand: `Mul(value: 2)` |
//! | `when` | `false` skips the layer: its name then stands for its first input |
//! | `repeat` | how often: `3`, or the numbers that take the place of `{}` in its name: `1..=3` |
//!
//! A block is used like a layer, by its name and its parameters. In it, `from: "in"` is what the block was given
//! (`"in:1"` is the second input), other names are those of its own layers, of constants and of parameters, and its
//! value is that of its last layer. The names in it begin with its own name and a dot; an empty name adds nothing.
//! Parameters stand for any value, or for a whole layer.
//!
//! # Training files
//!
//! A file with a `loss` and an `optimizer` says how a network is trained; [`crate::recipe::Recipe::parse`] reads it.
//!
//! ```
//! let recipe = fusewright_ir::recipe::Recipe::parse("train.ron", r#"(
//!     fusewright: 1,
//!     model: "lenet5.ron",
//!     loss: CrossEntropyLoss(label_smoothing: 0.1),
//!     optimizer: Sgd(lr: 0.1, momentum: 0.9),
//!     rate: (warmup: (Steps(100), 0.1), schedule: Cosine),
//!     clip: Norm(1),
//!     metrics: [Accuracy],
//!     batch: 64,
//!     epochs: 10,
//!     data: (
//!         train: Idx(images: "data/train-images.gz", labels: "data/train-labels.gz"),
//!         test: Idx(images: "data/test-images.gz", labels: "data/test-labels.gz"),
//!     ),
//! )"#)?;
//! assert_eq!(recipe.objective.target, "labels");
//! # Ok::<(), fusewright_ir::Diagnostics>(())
//! ```
//!
//! | section | what it holds | where nothing is said |
//! |---|---|---|
//! | `fusewright` | the version of the form: 1 | |
//! | `model` | a model file in the folder of this one, or a model: `(inputs: [...], layers: [...])`; its parameters start as its initialisers say, whatever `weights` it names | |
//! | `loss` | a loss layer with its attributes, its reduction not `"none"` | |
//! | `output` | the output of the network that the loss is of | the only output |
//! | `target` | what the output should be: an input of the network, or the name of a new one | `"labels"` for losses of classes (`CrossEntropyLoss`, `NLLLoss`), else `"targets"` |
//! | `optimizer` | `Sgd`, `Adam`, `AdamW`, `RmsProp`, `Adagrad` with the parameters and defaults of `torch.optim` | |
//! | `rate` | a schedule: `Constant`, `Step(every, gamma)`, `Cosine(over, to)`, `OneCycle(over, pct_start, div_factor, final_div_factor)`; or `(warmup: (TIME, FACTOR), schedule: ...)`, which rises from the factor to 1 | `Constant` |
//! | `clip` | `Norm(limit)` of all gradients together, or `Value(limit)` of each element | none |
//! | `metrics` | `Accuracy` for losses of classes, else `MeanSquaredError`, `MeanAbsoluteError` | none |
//! | `batch` | examples a step; the last step of an epoch has what is left | |
//! | `epochs` | how often all examples are seen | 1 in a file without `data` |
//! | `seed` | of initial parameters, the order of examples, and dropout | 0 |
//! | `data` | `(train: SOURCE, test: SOURCE)`, the test optional | the file is only timed, with numbers made up |
//!
//! A time is `Steps(100)` or `Epochs(0.5)`; schedules count from the first step, are factors of the optimiser's `lr`, and last
//! for the whole training unless `over` says otherwise. The paths of a source are relative to the training file, and inside
//! its folder:
//!
//! | source | what it holds |
//! |---|---|
//! | `Idx(images, labels)` | pixels `[n, height, width]` and labels `[n]`, plain or gzipped; the input's `normalize` applies |
//! | `Npy(inputs, targets)` | arrays of NumPy, the first axis the examples; the input's `normalize` applies to whole numbers, which are pixels, and not to floats |
//! | `Csv(file, inputs, targets, standardize)` | columns by name, `inputs` all but the targets unless given; `standardize: true` scales them to mean 0 and deviation 1, by the training file |
//! | `Folder(images)` | a folder of pictures for each class, in the order of their names; cut to the input's size |
//!
//! # The files of this module
//!
//! | file | what it does |
//! |---|---|
//! | `value` | RON text to a tree that knows its places |
//! | `de` | serde types from the tree, with the place of every fault |
//! | `sections` | the sections of a model file |
//! | `recipe` | the sections of a training file |
//! | `expand` | layers, blocks and repetitions to nodes of the graph |
//! | `faults` | all faults of a file, each once |
//! | `print` | a model to RON |
//! | `format`, `comments` | the canonical form of a file, its comments kept |

mod comments;
mod de;
mod expand;
mod faults;
mod format;
mod print;
mod recipe;
mod sections;
mod value;

pub use de::FieldError;
pub use format::format;
pub use value::{Field, Kind, Name, Value, parse};

pub(crate) use expand::with_inputs;
pub(crate) use print::print;
pub(crate) use recipe::{is_recipe, read_recipe};
pub(crate) use sections::read_model;

use crate::ops::Real;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};

/// An attribute struct from the fields of a layer.
///
/// # Errors
/// Where a field is unknown, missing, or of the wrong kind.
pub fn read<T: DeserializeOwned>(fields: &Value) -> Result<T, FieldError> {
    T::deserialize(fields).map_err(|error| error.or_at(fields))
}

/// Optional numbers by name, in the order of `names`.
///
/// # Errors
/// Where a field is not one of `names`, or is not a number.
pub fn read_numbers(fields: &Value, names: &[&'static str]) -> Result<Vec<Option<Real>>, FieldError> {
    let mut numbers = vec![None; names.len()];
    let Kind::Struct(_, given) = &fields.kind else {
        return Err(FieldError::custom("expected a struct `(...)` with named fields").or_at(fields));
    };
    for field in given {
        let Some(place) = names.iter().position(|name| *name == field.name.text) else {
            let known = names.iter().map(ToString::to_string).collect();
            return Err(FieldError::unknown_field(field.name.span.clone(), &field.name.text, known));
        };
        let number = Real::deserialize(&field.value).map_err(|error| error.or_in(field))?;
        if numbers[place].replace(number).is_some() {
            return Err(FieldError {
                span: field.name.span.clone(),
                message: format!("`{}` is given twice", field.name.text),
                ..FieldError::default()
            });
        }
    }
    Ok(numbers)
}

/// The attributes of an operation in RON: `(out:6,kernel_size:5)`.
pub fn fields<T: Serialize>(attributes: &T) -> String {
    let options = ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
    options.to_string(attributes).expect("attributes are numbers, names and lists")
}
