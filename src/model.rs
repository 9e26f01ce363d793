//! Networks as users hold them: loaded from a file, parsed from a text, or built in Rust.

use crate::compile::Options;
use crate::data::files;
use crate::error::Error;
use crate::executable::Executable;
use crate::ir::model::{Classes, Gradient};
use crate::ir::{self, Bindings, Diagnostic, Diagnostics, Graph};
use crate::passes::differentiate;
use crate::weights::Weights;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A network: its graph, and what its file says beyond it.
#[derive(Clone, Debug)]
pub struct Model {
    /// Shared: a training file has it, too.
    definition: Arc<ir::Model>,
    /// The folder that `weights` and `classes` are relative to.
    folder: Option<PathBuf>,
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// Where the file cannot be read, and all faults of its text, each at its place.
    pub fn load(path: impl AsRef<Path>) -> Result<Model, Error> {
        let path = path.as_ref();
        let text = files::read_text(path)?;
        let name = path.display().to_string();
        let definition = ir::Model::parse(&name, &text).map_err(|faults| Error::in_text(&name, &text, faults))?;
        Model { definition: Arc::new(definition), folder: Some(path.parent().unwrap_or(Path::new("")).to_path_buf()) }
            .checked()
    }

    /// The model that a text in RON describes. Files that it names are not found.
    ///
    /// # Errors
    /// All faults of the text, each at its place.
    pub fn parse(text: &str) -> Result<Model, Error> {
        let name = "model";
        let definition = ir::Model::parse(name, text).map_err(|faults| Error::in_text(name, text, faults))?;
        Model { definition: Arc::new(definition), folder: None }.checked()
    }

    /// The model of a definition that was read already; `folder` is what its paths are relative to.
    pub(crate) fn of(definition: Arc<ir::Model>, folder: Option<PathBuf>) -> Result<Model, Error> {
        Model { definition, folder }.checked()
    }

    /// The same with a definition of its own.
    pub(crate) fn copied(&self) -> Model {
        Model { definition: Arc::new(self.definition().clone()), folder: self.folder.clone() }
    }

    /// The definition, for a recipe that has it, too.
    pub(crate) fn shared(&self) -> Arc<ir::Model> {
        self.definition.clone()
    }

    /// Holds the gradients that the text asks for to what is known of the graph.
    fn checked(self) -> Result<Model, Error> {
        let Model { definition, .. } = &self;
        let result = differentiate::check_requested(&definition.graph, &definition.gradients);
        result.map_err(|faults| self.fault(faults))?;
        Ok(self)
    }

    /// The model of a graph that was built in Rust, with [`ir::GraphBuilder`].
    ///
    /// # Errors
    /// All faults of the graph.
    pub fn from_graph(graph: Graph) -> Result<Model, Error> {
        ir::verify(&graph)?;
        Ok(Model { definition: Arc::new(ir::Model { graph, ..ir::Model::default() }), folder: None })
    }

    /// Writes the model as RON, in a file that appears whole or not at all.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let text = self.definition.to_ron();
        Ok(files::write(path.as_ref(), |out| out.write_all(text.as_bytes()))?)
    }

    /// The graph and everything else that the file says.
    pub fn definition(&self) -> &ir::Model {
        &self.definition
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.definition.graph
    }

    /// The same model with more results: the gradients of `of`, an output or a layer, by inputs, parameters or layers, each
    /// called `OF.grad.BY`. Of a value of many elements it is the gradient of their sum. A gradient may be differentiated
    /// in its turn.
    ///
    /// ```
    /// use fusewright::{Model, Options, Tensor, bindings};
    ///
    /// let model = Model::parse(
    ///     r#"(
    ///         fusewright: 1,
    ///         inputs: [(name: "x", shape: [N])],
    ///         layers: [Square, Sum(name: "energy")],
    ///     )"#,
    /// )?;
    /// let slope = model.gradient("energy", &["x"])?;
    /// let mut session = slope.compile(Options::default())?.session(&bindings([("N", 2)]))?;
    /// let x = Tensor::from_vec(&[2], vec![3f32, -4.0]);
    /// let results = session.run_tensors(&[("x", &x)])?;
    /// assert_eq!(results[0].1.as_slice::<f32>(), Some(&[25.0][..]));
    /// assert_eq!((results[1].0.as_str(), results[1].1.as_slice::<f32>()), ("energy.grad.x", Some(&[6.0, -8.0][..])));
    /// # Ok::<(), fusewright::Error>(())
    /// ```
    ///
    /// # Errors
    /// Names that nothing has, and values that `of` does not depend on by way of layers that have gradients.
    pub fn gradient(&self, of: &str, by: &[&str]) -> Result<Model, Error> {
        let mut model = self.clone();
        for by in by {
            let (name, of, by) = (format!("{of}.grad.{by}"), of.to_string(), by.to_string());
            let gradient = Gradient { name, of, by, upstream: None, span: None };
            model
                .definition
                .check_gradient(&gradient, &model.definition.gradients)
                .map_err(|faults| self.fault(faults))?;
            Arc::make_mut(&mut model.definition).gradients.push(gradient);
        }
        model.checked()
    }

    /// The number of elements in all learned parameters, without the statistics that batch norm keeps; `None` while it
    /// depends on a symbol.
    pub fn parameter_count(&self) -> Option<u64> {
        self.definition.parameter_count()
    }

    /// The same model with numbers in the place of symbols.
    ///
    /// # Errors
    /// Symbols without a value, values for symbols that the model does not have, and layers that do not fit.
    pub fn bind(&self, bindings: &Bindings) -> Result<Model, Error> {
        let definition = self.definition.bind(bindings).map_err(|faults| self.fault(faults))?;
        Ok(Model { definition: Arc::new(definition), folder: self.folder.clone() })
    }

    /// The parameters of the file that the model names, checked against the model; `None` where it names none.
    ///
    /// # Errors
    /// Where the file is outside the model's folder, cannot be read, is damaged, or does not fit.
    pub fn own_weights(&self) -> Result<Option<Weights>, Error> {
        let Some(relative) = &self.definition.weights else { return Ok(None) };
        let weights = Weights::load(self.beside(relative)?)?;
        Ok(Some(weights.fit(self.graph())?))
    }

    /// The parameters of the file that the model names, or what its initialisers and seed give where it names none.
    ///
    /// # Errors
    /// As [`Model::own_weights`].
    pub fn weights(&self) -> Result<Weights, Error> {
        Ok(match self.own_weights()? {
            Some(weights) => weights,
            None => Weights::initialized(self.graph(), self.definition.seed),
        })
    }

    /// The names of the classes, in the order of the outputs; `None` where the model names none.
    ///
    /// # Errors
    /// Where they are in a file that is outside the model's folder or cannot be read.
    pub fn classes(&self) -> Result<Option<Vec<String>>, Error> {
        Ok(match &self.definition.classes {
            None => None,
            Some(Classes::List(names)) => Some(names.clone()),
            Some(Classes::File(relative)) => {
                let text = files::read_text(&self.beside(relative)?)?;
                Some(text.lines().map(str::to_string).collect())
            }
        })
    }

    /// The file that the names of the classes are in, where they are in one.
    pub(crate) fn classes_file(&self) -> Option<PathBuf> {
        match (&self.definition.classes, &self.folder) {
            (Some(Classes::File(relative)), Some(folder)) => Some(folder.join(relative)),
            _ => None,
        }
    }

    /// Machine code for the network; see [`Options`].
    ///
    /// # Errors
    /// Faults of the options and weights; machines that are not supported.
    pub fn compile(&self, options: Options) -> Result<Executable, Error> {
        Executable::new(self.clone(), options)
    }

    /// Faults of this model's text.
    pub(crate) fn fault(&self, faults: Diagnostics) -> Error {
        Error::in_model(&self.definition, faults)
    }

    fn beside(&self, relative: &str) -> Result<PathBuf, Error> {
        match &self.folder {
            Some(folder) => Ok(files::inside(folder, relative)?),
            None => Err(Diagnostic::new(format!("`{relative}` cannot be found"))
                .expected("a model that was loaded from a file")
                .found("a model that was parsed from a text")
                .help("give the weights as an option")
                .into()),
        }
    }
}
