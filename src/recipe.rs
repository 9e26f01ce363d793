//! Training files as users hold them: how a network is trained, with the network.

use crate::data::dataset::Refusal;
use crate::data::{Dataset, Labels, Wanted, files};
use crate::error::Error;
use crate::ir::model::Image;
use crate::ir::ops::loss::class_axis;
use crate::ir::ops::{Op, PairLoss};
use crate::ir::recipe::{Network, Source};
use crate::ir::{self, Bindings, DType, Diagnostic, Diagnostics, Dim, Graph, TensorType};
use crate::model::Model;
use crate::passes::train::{self, StepOptions, Training};
use crate::runtime;
use std::path::{Path, PathBuf};

/// How a network is trained, and the network.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// It is long, and goes from hand to hand.
    definition: Box<ir::recipe::Recipe>,
    model: Model,
    /// The folder that the paths of the file are relative to.
    folder: Option<PathBuf>,
}

impl Recipe {
    /// Reads a training file, and the model file that it names.
    ///
    /// ```
    /// let recipe = fusewright::Recipe::load("models/train_lenet5.ron")?;
    /// assert_eq!(recipe.model().parameter_count(), Some(61_706));
    /// let (train, test) = recipe.data()?.expect("it names files");
    /// assert_eq!((train.len(), test.map(|test| test.len())), (8_000, Some(2_000)));
    /// # Ok::<(), fusewright::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where a file cannot be read, and all faults of its text, each at its place.
    pub fn load(path: impl AsRef<Path>) -> Result<Recipe, Error> {
        let path = path.as_ref();
        Recipe::apart(|| {
            let text = files::read_text(path)?;
            let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
            Recipe::read(&path.display().to_string(), &text, Some(folder))
        })
    }

    /// The training that a text in RON describes. Files that it names are not found.
    ///
    /// # Errors
    /// All faults of the text, each at its place.
    pub fn parse(text: &str) -> Result<Recipe, Error> {
        Recipe::apart(|| Recipe::read("training", text, None))
    }

    /// A recipe that is read on a thread of its own: what that takes beside is as much memory as a small network's training.
    fn apart(read: impl FnOnce() -> Result<Recipe, Error> + Send) -> Result<Recipe, Error> {
        let read = runtime::apart(read, |recipe| (recipe.copied(), recipe));
        read.map_err(|error| Error::Internal(format!("no thread to read on: {error}")))?
    }

    /// The same in memory of this thread, but for lengths with symbols and for constants.
    fn copied(&self) -> Recipe {
        let Recipe { mut definition, model, folder } = self.clone();
        let model = model.copied();
        if let Network::Inline(own) = &mut definition.model {
            *own = model.shared();
        }
        Recipe { definition, model, folder }
    }

    fn read(name: &str, text: &str, folder: Option<PathBuf>) -> Result<Recipe, Error> {
        let fault = |faults| Error::in_text(name, text, faults);
        let definition = Box::new(ir::recipe::Recipe::parse(name, text).map_err(fault)?);
        let model = match &definition.model {
            Network::Inline(model) => Model::of(model.clone(), folder.clone())?,
            Network::File(file) => {
                let path = beside(folder.as_deref(), file)
                    .map_err(|refused| fault(refused.at(definition.place(&["model"])).into()))?;
                Model::load(path)?
            }
        };
        Ok(Recipe { definition, model, folder })
    }

    /// All that the file says.
    pub fn definition(&self) -> &ir::recipe::Recipe {
        &self.definition
    }

    /// The network.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The files and folders that a training reads: of the network, of its classes, and of the examples.
    pub fn files(&self) -> Vec<PathBuf> {
        let Recipe { definition, model, folder: Some(folder) } = self else { return Vec::new() };
        let network = match &definition.model {
            Network::File(file) => Some(file.as_str()),
            Network::Inline(_) => None,
        };
        let sources = definition.data.iter().flat_map(|data| [Some(&data.train), data.test.as_ref()]).flatten();
        let examples = sources.flat_map(|source| source.paths().into_iter().map(|(_, path)| path));
        let own = network.into_iter().chain(examples).map(|path| folder.join(path));
        own.chain(model.classes_file()).collect()
    }

    /// The same training with so many examples a step.
    pub fn with_batch(mut self, batch: usize) -> Recipe {
        self.definition.batch = batch;
        self
    }

    /// The same training, so many times over all examples.
    pub fn with_epochs(mut self, epochs: usize) -> Recipe {
        self.definition.epochs = epochs;
        self
    }

    /// The same training from another seed: of initial parameters, the order of examples, and dropout.
    pub fn with_seed(mut self, seed: u64) -> Recipe {
        self.definition.seed = seed;
        self
    }

    /// Faults of the training file's text.
    pub(crate) fn fault(&self, faults: impl Into<Diagnostics>) -> Error {
        Error::in_text(&self.definition.path, &self.definition.text, faults.into())
    }

    /// The examples to train on and those to evaluate with, read from the files that the training names; `None` where it
    /// names none.
    ///
    /// # Errors
    /// Where files cannot be read, hold no examples, do not fit each other or the network.
    pub fn data(&self) -> Result<Option<(Dataset, Option<Dataset>)>, Error> {
        let Some(data) = &self.definition.data else { return Ok(None) };
        let wanted = self.wanted()?;
        let train = self.examples("train", &data.train, &wanted, None)?;
        let test = match &data.test {
            Some(source) => Some(self.examples("test", source, &wanted, Some(&train))?),
            None => None,
        };
        Ok(Some((train, test)))
    }

    fn examples(
        &self,
        set: &'static str,
        source: &Source,
        wanted: &Wanted,
        like: Option<&Dataset>,
    ) -> Result<Dataset, Error> {
        let Some(folder) = &self.folder else {
            return Err(self.fault(unknown_folder("the examples").at(self.definition.place(&["data"]))));
        };
        Dataset::load(folder, source, wanted, like).map_err(|Refusal { field, mut faults }| {
            let place = self.definition.place(&["data", set, field]);
            faults.0.iter_mut().for_each(|fault| fault.span = place.clone());
            self.fault(faults)
        })
    }

    /// What the network wants of examples.
    ///
    /// # Errors
    /// Where it has not one input beside the target, or the training does not say which output the loss is of.
    pub fn wanted(&self) -> Result<Wanted, Error> {
        let objective = &self.definition.objective;
        let graph = self.model.graph();
        let inputs: Vec<(&str, &TensorType)> = graph
            .nodes()
            .filter_map(|(_, node)| match &node.op {
                Op::Input(input) => Some((node.name.as_str(), &input.ty)),
                _ => None,
            })
            .collect();
        let given = inputs.iter().find(|(name, _)| *name == objective.target);
        let others: Vec<_> = inputs.iter().filter(|(name, _)| *name != objective.target).collect();
        let (name, input) = match (others.as_slice(), given) {
            ([only], _) => **only,
            ([], Some(given)) => *given,
            _ => {
                let names: Vec<String> = others.iter().map(|(name, _)| format!("`{name}`")).collect();
                let fault = Diagnostic::new("examples are for networks of one input beside the target");
                let fault = fault.at(self.definition.place(&["model"])).expected("one input");
                return Err(self.fault(fault.found(format!("{}: {}", names.len(), names.join(", ")))));
            }
        };
        let output = self.output()?;
        let ignore_index = match &objective.loss {
            Op::CrossEntropyLoss(loss) => Some(loss.ignore_index),
            Op::NllLoss(loss) => Some(loss.ignore_index),
            _ => None,
        };
        let target = match (given, ignore_index) {
            (Some(_), _) if others.is_empty() => None,
            (Some((_, ty)), _) => Some((*ty).clone()),
            (None, Some(_)) if output.rank() > 0 => {
                let mut places = output.shape.clone();
                places.remove(class_axis(output.rank()));
                Some(TensorType { dtype: DType::I64, shape: places })
            }
            (None, _) => Some(output.clone()),
        };
        let labels = match (ignore_index, output.shape.get(class_axis(output.rank())).and_then(Dim::known)) {
            (Some(ignore_index), Some(classes)) => Some(Labels { classes, ignore_index, names: self.model.classes()? }),
            _ => None,
        };
        let images = &self.model.definition().images;
        let image: Option<Image> = images.iter().find(|(input, _)| input == name).map(|(_, image)| image.clone());
        let are_probabilities = match &objective.loss {
            Op::PointwiseLoss(loss) => matches!(loss.function, PairLoss::Bce | PairLoss::BceWithLogits),
            _ => false,
        };
        Ok(Wanted { input: input.clone(), image, target, labels, are_probabilities })
    }

    /// The lengths of the symbols of the network's input for steps of `batch` examples: of the first axis, and of the
    /// others as the examples have them.
    ///
    /// # Errors
    /// Where the network is of another batch, and as [`Recipe::wanted`].
    pub fn sizes(&self, batch: usize, data: Option<&Dataset>) -> Result<Bindings, Error> {
        let input = self.wanted()?.input;
        if let Some(fixed) = input.shape.first().and_then(Dim::known).filter(|fixed| *fixed != batch) {
            let fault = Diagnostic::new("the network is of another batch").at(self.definition.place(&["batch"]));
            let fault = fault.expected(format!("{fixed} examples a step (the input is {input})"));
            let help = "give the first axis of the input a symbol: `shape: [N, ...]`";
            return Err(self.fault(fault.found(format!("{batch}")).help(help)));
        }
        let lengths = match data {
            Some(data) => data.input_type(batch).dims().unwrap_or_default(),
            None => vec![batch],
        };
        let named = |(dim, length): (&Dim, usize)| dim.as_symbol().map(|name| (name, length));
        Ok(input.shape.iter().zip(lengths).filter_map(named).collect())
    }

    /// The same for the largest step: of a whole batch, or of all examples where they are fewer.
    ///
    /// # Errors
    /// As [`Recipe::sizes`].
    pub fn largest_sizes(&self, data: Option<&Dataset>) -> Result<Bindings, Error> {
        let batch = self.definition.batch;
        self.sizes(data.map_or(batch, |data| batch.min(data.len())), data)
    }

    /// The graph of one step: forward, loss, backward, updates.
    ///
    /// # Errors
    /// Symbols without a value; where the loss does not fit the network, or a layer cannot be trained.
    pub fn step(&self, sizes: &Bindings, options: &StepOptions) -> Result<Graph, Error> {
        let model = self.model.bind(sizes)?;
        let step = train::step(model.graph().clone(), &Training::from(&*self.definition), options);
        step.map_err(|faults| self.step_fault(faults))
    }

    /// Whether the last step of an epoch can be made, which has what the others leave of the examples: told of before the first
    /// one. `bindings` are values of symbols beside those that the examples give.
    ///
    /// # Errors
    /// As [`Recipe::sizes`] and [`Recipe::step`].
    pub fn check_last_step(&self, data: &Dataset, bindings: &Bindings) -> Result<(), Error> {
        let rest = data.len() % self.definition.batch;
        if rest == 0 {
            return Ok(());
        }
        let mut sizes = bindings.clone();
        sizes.extend(self.sizes(rest, Some(data))?);
        let made = self.step(&sizes, &StepOptions { steps_per_epoch: 1, total_steps: 1 });
        made.map(drop).map_err(|mut error| {
            if let Error::Input(faults) = &mut error
                && let Some(fault) = faults.diagnostics.0.first_mut()
            {
                let told = format!("the last batch of an epoch has {rest} of {} examples", data.len());
                fault.help = Some(fault.help.take().map_or(told.clone(), |help| format!("{help}; {told}")));
            }
            error
        })
    }

    /// The graph of the loss and the metrics, without updates.
    ///
    /// # Errors
    /// As [`Recipe::step`].
    pub fn evaluation(&self, sizes: &Bindings) -> Result<Graph, Error> {
        let model = self.model.bind(sizes)?;
        let Training { objective, metrics, .. } = Training::from(&*self.definition);
        train::evaluation(model.graph().clone(), objective, metrics).map_err(|faults| self.step_fault(faults))
    }

    /// Faults of a graph that was made of the network and the training: their places are in the text of either.
    pub(crate) fn step_fault(&self, faults: Diagnostics) -> Error {
        let loss = &self.definition.objective.span;
        match faults.0.iter().any(|fault| fault.span.is_none() || fault.span == *loss) {
            true => {
                let own = faults.0.into_iter().filter(|fault| fault.span.is_none() || fault.span == *loss);
                self.fault(Diagnostics(own.collect()))
            }
            false => self.model.fault(faults),
        }
    }

    /// The type of the output that the loss is of.
    fn output(&self) -> Result<&TensorType, Error> {
        let graph = self.model.graph();
        let outputs: Vec<&ir::Output> = graph.outputs.iter().filter(|output| !output.is_update).collect();
        let named = self.definition.objective.output.as_ref();
        let found = match (named, outputs.as_slice()) {
            (None, [only]) => Some(*only),
            (None, _) => None,
            (Some(name), all) => all.iter().find(|output| output.name == *name).copied(),
        };
        let names: Vec<String> = outputs.iter().map(|output| format!("`{}`", output.name)).collect();
        let title = named.map_or("it is not clear which output the loss is of".to_string(), |name| {
            format!("the network has no output `{name}`")
        });
        let fault = || {
            let place = self.definition.place(&["output"]).or(self.definition.objective.span.clone());
            let fault = Diagnostic::new(title).at(place).found(format!("the outputs {}", names.join(", ")));
            self.fault(fault.expected("the name of an output").help("write `output: \"NAME\"`"))
        };
        found.map(|output| graph.value_type(output.value)).ok_or_else(fault)
    }
}

fn beside(folder: Option<&Path>, relative: &str) -> Result<PathBuf, Diagnostic> {
    match folder {
        Some(folder) => files::inside(folder, relative),
        None => Err(unknown_folder(&format!("`{relative}`"))),
    }
}

fn unknown_folder(what: &str) -> Diagnostic {
    Diagnostic::new(format!("{what} cannot be found"))
        .expected("a training file in a folder")
        .found("a training that was parsed from a text")
}
