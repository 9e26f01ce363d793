//! A network with all that its file says about it.

use crate::diagnostic::{Diagnostic, Diagnostics, Source, Span};
use crate::dim::{Bindings, Dim};
use crate::graph::{Graph, NodeId, NodeMap, ValueId};
use crate::ops::{Initializer, Mismatch, Op, Types};
use crate::tensor::TensorType;
use crate::verify::size_fault;
use serde::{Deserialize, Serialize};

/// A graph, and what a model file says beyond it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What people call it; may be empty.
    pub name: String,
    /// The network; axes may be symbols until [`Model::bind`].
    pub graph: Graph,
    /// Gradients that are results too, in their order; their nodes are made when all sizes are known.
    pub gradients: Vec<Gradient>,
    /// How images become inputs, for the inputs that say so.
    pub images: Vec<(String, Image)>,
    /// What the network tells apart.
    pub classes: Option<Classes>,
    /// The safetensors file of the parameters: relative to the model's folder, and inside it.
    pub weights: Option<String>,
    /// Seeds the initialisers.
    pub seed: u64,
    /// The name of the file, as messages show it.
    pub path: String,
    /// The text that the spans of the graph refer to; empty where the model was built in Rust.
    pub text: String,
}

/// A gradient that a model gives beside its outputs: of a value, by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gradient {
    /// The name users fetch it by.
    pub name: String,
    /// The value whose elements are summed: the name of an output, of a layer, or of a gradient before this one.
    pub of: String,
    /// What it is by: the name of an input, a parameter or a layer. The gradient has its shape.
    pub by: String,
    /// An input or a layer of the shape of `of`, by whose elements those of `of` are multiplied before they are summed.
    pub upstream: Option<String>,
    /// Where it stands in the text.
    pub span: Option<Span>,
}

/// How an image becomes an input: `(pixel * scale - mean) / std`, channel by channel, where a pixel is 0 to 255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Multiplies every pixel.
    #[serde(default = "one")]
    pub scale: f64,
    /// Subtracted: one number for all channels, or one each; none for 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f64>,
    /// Divides: one number for all channels, or one each; none for 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f64>,
    /// The length that the shorter side is resized to before the centre is cut out; the input's own where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
}

impl Image {
    /// The number that a pixel of a channel becomes.
    pub fn apply(&self, pixel: f64, channel: usize) -> f64 {
        let of_channel = |numbers: &[f64], default: f64| match numbers {
            [] => default,
            [one] => *one,
            all => all[channel],
        };
        (pixel * self.scale - of_channel(&self.mean, 0.0)) / of_channel(&self.std, 1.0)
    }

    /// Whether [`Image::apply`] is defined for images of so many channels.
    ///
    /// # Errors
    /// Where there are other numbers of means or of deviations than one, or one for each.
    pub fn check_channels(&self, channels: usize) -> Result<(), Diagnostic> {
        for (name, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            if numbers.len() > 1 && numbers.len() != channels {
                let fault = Diagnostic::new(format!("`normalize`: `{name}` does not fit the channels of the images"));
                return Err(fault.expected(format!("1 or {channels} numbers")).found(numbers.len().to_string()));
            }
        }
        Ok(())
    }
}

fn one() -> f64 {
    1.0
}

/// The names of classes, in the order of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Classes {
    /// In the model.
    List(Vec<String>),
    /// One a line in a text file: relative to the model's folder, and inside it.
    File(String),
}

impl Model {
    /// The model that a RON text describes. `path` is the name that messages show.
    ///
    /// # Errors
    /// All faults of the text, each at its place.
    pub fn parse(path: &str, text: &str) -> Result<Model, Diagnostics> {
        crate::text::read_model(path, text)
    }

    /// The model as RON in the canonical form: its graph layer by layer, blocks written out. Reading it again gives the
    /// same graph.
    pub fn to_ron(&self) -> String {
        crate::text::print(self)
    }

    /// Whether the names of a gradient mean something, beside the graph and the gradients `before` it.
    ///
    /// # Errors
    /// Names that are taken or that nothing has.
    pub fn check_gradient(&self, gradient: &Gradient, before: &[Gradient]) -> Result<(), Diagnostics> {
        let mut faults = Diagnostics::default();
        let what =
            |what: &str| Diagnostic::new(format!("gradient `{}`: {what}", gradient.name)).at(gradient.span.clone());
        let mut taken =
            self.graph.outputs.iter().map(|output| &output.name).chain(before.iter().map(|other| &other.name));
        if taken.any(|name| *name == gradient.name) {
            faults.push(what("the name is taken").expected("a name that no output has"));
        }
        for (field, name) in
            [("of", Some(&gradient.of)), ("by", Some(&gradient.by)), ("upstream", gradient.upstream.as_ref())]
        {
            let Some(name) = name else { continue };
            if self.graph.find_value(name).is_some() || field != "by" && before.iter().any(|other| other.name == *name)
            {
                continue;
            }
            let names = self.graph.nodes().map(|(_, node)| node.name.as_str()).take(5000);
            let meant = crate::diagnostic::closest(name, names).map(|meant| format!("did you mean `{meant}`?"));
            let mut fault = what(&format!("there is no `{name}`"));
            fault.expected = Some(format!("`{field}: \"NAME\"` of an input, a parameter or a layer"));
            fault.help = meant;
            faults.push(fault);
        }
        faults.into_result()
    }

    /// The text and its name, for rendering diagnostics.
    pub fn source(&self) -> Source<'_> {
        Source { path: &self.path, text: &self.text }
    }

    /// All symbols in the shapes of the inputs, in the order of their first use.
    pub fn symbols(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (_, node) in self.graph.nodes() {
            if let Op::Input(input) = &node.op {
                input.ty.shape.iter().for_each(|dim| dim.collect_symbols(&mut names));
            }
        }
        names
    }

    /// The number of elements in all learned parameters, as PyTorch counts: without the statistics that batch norm
    /// keeps. `None` while it depends on a symbol.
    pub fn parameter_count(&self) -> Option<u64> {
        let parameters = self.graph.nodes().filter_map(|(_, node)| match &node.op {
            Op::Parameter(parameter) if parameter.trainable => Some(parameter.ty.elements()),
            _ => None,
        });
        parameters.fold(Dim::Known(0), |sum, elements| sum + elements).known().map(|count| count as u64)
    }

    /// The same model with numbers in the place of symbols; every type is inferred again.
    ///
    /// # Errors
    /// Symbols without a value, values for symbols that the model does not have, and layers that do not fit these
    /// sizes.
    pub fn bind(&self, bindings: &Bindings) -> Result<Model, Diagnostics> {
        let mut faults = Diagnostics::default();
        let symbols = self.symbols();
        for name in symbols.iter().filter(|name| !bindings.contains_key(*name)) {
            let input = self.graph.nodes().find(|(_, node)| match &node.op {
                Op::Input(input) => {
                    let mut names = Vec::new();
                    input.ty.shape.iter().for_each(|dim| dim.collect_symbols(&mut names));
                    names.contains(name)
                }
                _ => false,
            });
            let fault = Diagnostic::new(format!("the symbol `{name}` has no value"));
            let span = input.and_then(|(_, node)| self.field_span(node.span.as_ref()?, "shape"));
            faults.push(fault.at(span).help(format!("give it a length: `{name}=1`")));
        }
        for name in bindings.keys().filter(|name| !symbols.contains(*name)) {
            let mut fault = Diagnostic::new(format!("the model has no symbol `{name}`"));
            fault.expected = Some(match symbols.is_empty() {
                true => "no bindings: all sizes are numbers".to_string(),
                false => format!("one of `{}`", symbols.join("`, `")),
            });
            faults.push(fault);
        }
        faults.into_result()?;
        let mut model = self.clone();
        let mut faults = Diagnostics::default();
        let mut faulty = NodeMap::filled(&self.graph, false);
        // A parameter that does not fit is told of only where the inputs of its layer do.
        let mut unfit: NodeMap<Option<Mismatch>> = NodeMap::filled(&self.graph, None);
        for id in self.graph.topological() {
            let node = self.graph.node(id);
            faulty[id] = node.inputs.iter().any(|value| faulty[value.node]);
            if faulty[id] {
                continue;
            }
            if let Some((value, mismatch)) =
                node.inputs.iter().find_map(|value| Some((value, unfit[value.node].take()?)))
            {
                faulty[id] = true;
                faulty[value.node] = true;
                faults.push(self.misfit(&model.graph, value.node, mismatch));
                continue;
            }
            match model.rebind(id, bindings) {
                Ok(types) => model.graph.update(id, |node| node.types = types),
                Err(mismatch) if matches!(node.op, Op::Parameter(_)) => unfit[id] = Some(mismatch),
                Err(mismatch) => {
                    faulty[id] = true;
                    faults.push(self.misfit(&model.graph, id, mismatch));
                }
            }
        }
        faults.into_result()?;
        Ok(model)
    }

    /// Replaces the symbols of one node, whose operands are bound already; gives its types.
    fn rebind(&mut self, id: NodeId, bindings: &Bindings) -> Result<Types, Mismatch> {
        let bound = |ty: &TensorType| ty.bind(bindings).expect("verified: every symbol has a value");
        self.graph.update(id, |node| match &mut node.op {
            Op::Input(input) => input.ty = bound(&input.ty),
            Op::Parameter(parameter) => parameter.ty = bound(&parameter.ty),
            op => {
                if let Some(bound) = op.spec().bind(bindings) {
                    *op = bound;
                }
            }
        });
        let node = self.graph.node(id);
        let operands: Vec<&TensorType> = node.inputs.iter().map(|&value| self.graph.value_type(value)).collect();
        let types = node.op.check(&operands)?;
        if let Some(fault) = types.iter().find_map(size_fault) {
            return Err(fault);
        }
        // The fan in of a bias is known only now.
        let data = operands.len().min(node.op.spec().arity().max);
        let parameters: Vec<ValueId> = node.inputs[data..].to_vec();
        let specs = if parameters.is_empty() { Vec::new() } else { node.op.spec().parameters(&operands[..data])? };
        for (value, spec) in parameters.into_iter().zip(specs) {
            self.graph.update(value.node, |node| match &mut node.op {
                Op::Parameter(parameter) if parameter.init == (Initializer::FanInUniform { fan_in: 0 }) => {
                    parameter.init = spec.init;
                }
                _ => {}
            });
        }
        Ok(types)
    }

    fn misfit(&self, graph: &Graph, id: NodeId, mismatch: Mismatch) -> Diagnostic {
        let node = graph.node(id);
        let field = mismatch.field.and_then(|field| Some((field, self.field_span(node.span.as_ref()?, field)?)));
        let (what, span) = match field {
            Some((field, span)) => (format!("`{field}` does not fit"), Some(span)),
            None => ("it does not fit these sizes".to_string(), node.span.clone()),
        };
        let data = node.inputs.len().min(node.op.spec().arity().max);
        let found = crate::text::with_inputs(graph, &node.inputs[..data], mismatch.found);
        let fault = Diagnostic::new(format!("layer `{}`: {what}", node.name)).at(span);
        fault.expected(mismatch.expected).found(found).help(mismatch.help)
    }

    /// The place of a field of the layer at `layer`; spans of fields are found again, not kept.
    fn field_span(&self, layer: &Span, field: &str) -> Option<Span> {
        let value = crate::text::parse(self.text.get(layer.clone())?).ok()?;
        let span = &value.field(field)?.span;
        Some(layer.start + span.start..layer.start + span.end)
    }
}
