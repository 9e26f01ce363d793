//! The sections of a model file.

use super::de::FieldError;
use super::expand::{Block, Expander, Slot};
use super::faults::Faults;
use super::value::{Field, Kind, Name, Value, count};
use crate::diagnostic::{Diagnostic, Diagnostics, closest};
use crate::dim::Dim;
use crate::model::{Classes, Gradient, Image, Model};
use crate::ops::{Initializer, Op, Parameter, layer_kind};
use crate::tensor::{DType, Data, Tensor, TensorType};
use crate::verify::size_fault;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;

/// The version of the form that this page reads.
const VERSION: i128 = 1;

/// All sections, in the order in which they are usually written.
const SECTIONS: [&str; 12] = [
    "fusewright",
    "name",
    "inputs",
    "blocks",
    "constants",
    "parameters",
    "layers",
    "outputs",
    "grad",
    "weights",
    "classes",
    "seed",
];

/// A kind of file: what messages call it, and its sections.
pub(super) struct Form {
    /// `model`.
    pub what: &'static str,
    /// `model file`.
    pub file: &'static str,
    /// How one looks.
    pub expected: &'static str,
    /// All sections, in the order in which they are usually written.
    pub sections: &'static [&'static str],
    /// Whether it says its version.
    pub has_version: bool,
}

/// A file that is a model.
const MODEL: Form = Form {
    what: "model",
    file: "model file",
    expected: "a model: `(fusewright: 1, name: \"...\", inputs: [...], layers: [...])`",
    sections: &SECTIONS,
    has_version: true,
};

/// A model within a file of another kind, which says the version.
const INLINE: Form = Form { expected: "a model: `(inputs: [...], layers: [...])`", has_version: false, ..MODEL };

impl Form {
    /// The sections of a file by name; `None` where it is not one of this kind at all.
    pub fn split<'v>(&self, value: &'v Value, faults: &mut Faults) -> Option<HashMap<&'v str, &'v Field>> {
        let Kind::Struct(_, fields) = &value.kind else {
            let start = value.span.start..value.span.start + 1;
            let fault = Diagnostic::new(format!("this is not a {}", self.what)).at(start);
            faults.push(fault.expected(self.expected).found(value.describe()));
            return None;
        };
        let mut sections = HashMap::new();
        for field in fields {
            let (name, span) = (field.name.text.as_str(), field.name.span.clone());
            if !self.sections.contains(&name) {
                let meant = closest(name, self.sections.iter().copied());
                let mut fault = Diagnostic::new(format!("unknown section `{name}`")).at(span);
                fault.expected = Some(format!("one of `{}`", self.sections.join("`, `")));
                fault.help = meant.map(|meant| format!("did you mean `{meant}`?"));
                faults.push(fault);
            } else if sections.insert(name, field).is_some() {
                faults.push(Diagnostic::new(format!("section `{name}` is given twice")).at(span));
            }
        }
        let fault = match sections.get("fusewright").map(|field| &field.value) {
            Some(Value { kind: Kind::Integer(VERSION), .. }) => return Some(sections),
            Some(value) => Diagnostic::new("the version of the file is not known")
                .at(value.span.clone())
                .found(value.describe())
                .help("a newer fusewright may read it"),
            None if !self.has_version => return Some(sections),
            None => Diagnostic::new("`fusewright` is missing: the version of the file's form")
                .at(value.span.start..value.span.start + 1)
                .help(format!("begin with `(fusewright: {VERSION}, ...`")),
        };
        faults.push(fault.expected(format!("`fusewright: {VERSION}`")));
        // What another version means by the rest is not known.
        (!sections.contains_key("fusewright")).then_some(sections)
    }
}

/// Reads a model file; `path` is the name that messages show.
pub(crate) fn read_model(path: &str, text: &str) -> Result<Model, Diagnostics> {
    let value = super::parse(text)?;
    if super::recipe::has_sections(&value) {
        return Err(super::recipe::not_a_model(&value, MODEL.expected).into());
    }
    read_value(path, text, &value, &MODEL)
}

/// Reads a model that is a part of `text`: its faults are told at their places there.
pub(super) fn read_inline(path: &str, text: &str, value: &Value) -> Result<Model, Diagnostics> {
    read_value(path, text, value, &INLINE)
}

fn read_value(path: &str, text: &str, value: &Value, form: &Form) -> Result<Model, Diagnostics> {
    let mut file = Expander::new(text);
    let sections = form.split(value, &mut file.faults);
    let reads = sections.is_some();
    let mut reader = Reader { sections: sections.unwrap_or_default(), file, model: Model::default() };
    if reads {
        reader.read(value);
    }
    let Reader { file, mut model, .. } = reader;
    file.faults.into_result()?;
    model.graph = file.builder.finish();

    model.path = path.to_string();
    model.text = text.to_string();
    crate::verify(&model.graph)?;
    let mut faults = Diagnostics::default();
    for (i, gradient) in model.gradients.iter().enumerate() {
        faults.include(model.check_gradient(gradient, &model.gradients[..i]));
    }
    faults.into_result()?;
    Ok(model)
}

/// Whether the path in a field, relative to the folder of a file, stays in it; where not, that is a fault at `place`.
pub(super) fn check_path(form: &Form, field: &str, path: &str, place: &Value, faults: &mut Faults) -> bool {
    let leaves = path.split('/').any(|part| part.is_empty() || part == "..");
    if !leaves && !path.contains(['\\', ':', '\0']) && !path.chars().any(char::is_control) {
        return true;
    }
    let Form { what, file, .. } = form;
    let fault = Diagnostic::new(format!("`{field}` leaves the folder of the {what}")).at(place.span.clone());
    faults.push(
        fault
            .expected(format!("a path relative to the {file}, with `/` between its parts and no `..`"))
            .found(format!("{path:?}"))
            .help(format!("put the file beside the {what}")),
    );
    false
}

struct Reader<'v> {
    sections: HashMap<&'v str, &'v Field>,
    file: Expander<'v>,
    model: Model,
}

impl<'v> Reader<'v> {
    fn read(&mut self, file: &'v Value) {
        self.model.name = self.plain("name").unwrap_or_default();
        self.model.seed = self.plain("seed").unwrap_or_default();
        let first = self.inputs();
        self.blocks();
        self.constants();
        self.parameters();
        let last = self.layers(file, first);
        self.outputs(last);
        self.gradients();
        if let Some(field) = self.sections.get("weights").copied() {
            self.model.weights = self.path(field);
        }
        if let Some(field) = self.sections.get("classes").copied() {
            self.model.classes = match &field.value.kind {
                Kind::Str(_) => self.path(field).map(Classes::File),
                _ => self.plain("classes").map(Classes::List),
            };
        }
    }

    /// A section that serde reads as it stands.
    fn plain<T: Deserialize<'v>>(&mut self, name: &str) -> Option<T> {
        let field = *self.sections.get(name)?;
        T::deserialize(&field.value).map_err(|error| self.file.faults.field("model", error.or_in(field))).ok()
    }

    /// A path that stays in the folder of the model.
    fn path(&mut self, field: &'v Field) -> Option<String> {
        let path = match String::deserialize(&field.value) {
            Ok(path) => path,
            Err(error) => {
                self.file.faults.field("model", error.or_in(field));
                return None;
            }
        };
        check_path(&MODEL, &field.name.text, &path, &field.value, &mut self.file.faults).then_some(path)
    }

    /// The first input's value, if there is an input.
    fn inputs(&mut self) -> Option<Slot> {
        let items = self.list("inputs", "a list of inputs: `[(name: \"x\", shape: [N, 3])]`");
        let mut first = None;
        for item in items {
            let slot = self.input(item);
            first = first.or(Some(slot));
        }
        first
    }

    fn input(&mut self, item: &'v Value) -> Slot {
        let input: Input = match Input::deserialize(item) {
            Ok(input) => input,
            Err(error) => {
                self.file.faults.field("input", error.or_at(item));
                // Layers may still name it.
                if let Some(name) = item.field("name").and_then(Value::as_str) {
                    self.file.define("input", name, None, item.span.clone());
                }
                return None;
            }
        };
        let what = format!("input `{}`", input.name);
        let name_span = item.field("name").map_or(item.span.clone(), |name| name.span.clone());
        if !is_name(&input.name) {
            let fault = Diagnostic::new("input: this is not a name").at(name_span.clone());
            self.file.faults.push(fault.expected("letters, digits, `_`, `-` and dots"));
        }
        let ty = TensorType::new(input.dtype, input.shape.into_iter().map(|Axis(dim)| dim));
        if let Some(fault) = size_fault(&ty) {
            let place = item.field("shape").map_or(item.span.clone(), |shape| shape.span.clone());
            self.file.faults.mismatch(format!("{what}: the size is not possible"), place, fault);
            self.file.define(&what, &input.name, None, name_span);
            return None;
        }
        if let Some(image) = input.normalize {
            let span = item.field("normalize").map_or(item.span.clone(), |image| image.span.clone());
            if let Some(fault) = image_fault(&image, &ty) {
                self.file.faults.push(fault.at(span));
            }
            self.model.images.push((input.name.clone(), image));
        }
        ty.shape.iter().for_each(|dim| dim.collect_symbols(&mut self.file.symbols));
        self.file.builder.set_span(Some(item.span.clone()));
        let value = self.file.builder.input(&input.name, ty);
        self.file.define(&what, &input.name, Some(value), name_span);
        Some(value)
    }

    fn blocks(&mut self) {
        for (name, value) in self.pairs("blocks") {
            let what = format!("block `{}`", name.text);
            let mut parameters = Vec::new();
            let mut layers: &[Value] = &[];
            let Kind::Struct(None, fields) = &value.kind else {
                let fault = FieldError::at(value, "this does not fit").found_at(value);
                self.file.faults.field(&what, fault.with_expected("`(parameters: [...], layers: [...])`"));
                continue;
            };
            for field in fields {
                match (field.name.text.as_str(), &field.value.kind) {
                    ("layers", Kind::List(items)) if !items.is_empty() => layers = items,
                    ("layers", _) => {
                        let fault = FieldError::at(&field.value, "`layers` does not fit").found_at(&field.value);
                        self.file.faults.field(&what, fault.with_expected("a list of one or more layers"));
                    }
                    ("parameters", Kind::List(items)) => {
                        parameters = items.iter().filter_map(|item| self.block_parameter(&what, item)).collect();
                    }
                    ("parameters", _) => {
                        let fault = FieldError::at(&field.value, "`parameters` does not fit").found_at(&field.value);
                        self.file.faults.field(&what, fault.with_expected("a list of names: `[out, stride(1)]`"));
                    }
                    _ => {
                        let known = vec!["parameters".to_string(), "layers".to_string()];
                        let fault = FieldError::unknown_field(field.name.span.clone(), &field.name.text, known);
                        self.file.faults.field(&what, fault);
                    }
                }
            }
            if value.field("layers").is_none() {
                let title = format!("{what}: `layers` is missing");
                self.file.faults.push(Diagnostic::new(title).at(name.span.clone()).help("add `layers: [...]`"));
            }
            if layer_kind(&name.text).is_some() || self.file.blocks.contains_key(name.text.as_str()) {
                let fault = Diagnostic::new(format!("{what}: the name is taken")).at(name.span.clone());
                self.file.faults.push(fault.expected("a name that no layer and no other block has"));
                continue;
            }
            let mut inputs = 1;
            layers.iter().for_each(|layer| inputs = inputs.max(inputs_named(layer)));
            self.file.blocks.insert(name.text, Rc::new(Block { parameters, layers, inputs }));
        }
    }

    /// `out`, or `stride(1)` with a default.
    fn block_parameter(&mut self, what: &str, item: &'v Value) -> Option<(Name, Option<&'v Value>)> {
        let taken = ["name", "from", "when", "repeat"];
        match &item.kind {
            Kind::Ident(text) if !taken.contains(&text.as_str()) => {
                Some((Name { span: item.span.clone(), text: text.clone() }, None))
            }
            Kind::Tuple(Some(name), items) if items.len() == 1 && !taken.contains(&name.text.as_str()) => {
                Some((name.clone(), Some(&items[0])))
            }
            _ => {
                let fault = FieldError::at(item, "this is not a parameter").found_at(item);
                let expected = "a name that is no field of all layers, or one with a default: `stride(1)`";
                self.file.faults.field(what, fault.with_expected(expected));
                None
            }
        }
    }

    fn constants(&mut self) {
        for (name, value) in self.pairs("constants") {
            let what = format!("constant `{}`", name.text);
            let tensor = self.constant(&what, value);
            self.file.builder.set_span(Some(value.span.clone()));
            let slot = tensor.map(|tensor| self.file.builder.constant(&name.text, tensor));
            self.file.share(&what, &name.text, slot, name.span.clone());
        }
    }

    fn constant(&mut self, what: &str, value: &'v Value) -> Option<Tensor> {
        let constant: Constant = match Constant::deserialize(value) {
            Ok(constant) => constant,
            Err(error) => {
                self.file.faults.field(what, error.or_at(value));
                return None;
            }
        };
        let shape = value.field("shape")?;
        let ty = TensorType::new(constant.dtype, constant.shape);
        if let Some(fault) = size_fault(&ty) {
            self.file.faults.mismatch(format!("{what}: the size is not possible"), shape.span.clone(), fault);
            return None;
        }
        let (dims, values) = (ty.dims()?, value.field("values")?);
        let Kind::List(items) = &values.kind else {
            let fault = FieldError::at(values, "`values` does not fit").found_at(values);
            self.file.faults.field(what, fault.with_expected("a list of numbers"));
            return None;
        };
        let elements: usize = dims.iter().product();
        if items.len() != elements {
            let fault = FieldError::at(shape, "the shape and the values do not fit each other");
            let expected = format!("{} ({ty})", count(elements, "value"));
            let fault = FieldError { found: Some(count(items.len(), "value")), ..fault.with_expected(expected) };
            self.file.faults.field(what, FieldError { span: values.span.clone(), ..fault });
            return None;
        }
        if constant.dtype == DType::I64 {
            // f64 does not hold every i64.
            let exact = |item: &Value| match item.kind {
                Kind::Integer(number) => i64::try_from(number).ok(),
                _ => None,
            };
            if let Some(numbers) = items.iter().map(exact).collect::<Option<Vec<i64>>>() {
                return Some(Tensor::from_vec(&dims, numbers));
            }
        }
        let mut numbers = Vec::with_capacity(items.len());
        for item in items {
            match self.file.element(item, constant.dtype) {
                Ok(number) => numbers.push(number),
                Err(mut fault) => {
                    fault.message = "a value does not fit".to_string();
                    self.file.faults.field(what, fault);
                    return None;
                }
            }
        }
        Some(Tensor::new(&dims, Data::from_f64(constant.dtype, &numbers)))
    }

    fn parameters(&mut self) {
        for (name, value) in self.pairs("parameters") {
            let what = format!("parameter `{}`", name.text);
            let parameter = ParameterText::deserialize(value).map_err(|error| error.or_at(value));
            let slot = match parameter {
                Err(error) => {
                    self.file.faults.field(&what, error);
                    None
                }
                Ok(parameter) => {
                    let ty = TensorType::new(parameter.dtype, parameter.shape.into_iter().map(|Axis(dim)| dim));
                    let mut symbols = Vec::new();
                    ty.shape.iter().for_each(|dim| dim.collect_symbols(&mut symbols));
                    let unknown = symbols.iter().find(|symbol| !self.file.symbols.contains(symbol));
                    match size_fault(&ty) {
                        None if unknown.is_some() => {
                            let title = format!("{what}: no input has the symbol `{}`", symbols[0]);
                            let fault = Diagnostic::new(title).at(value.span.clone());
                            self.file.faults.push(fault.help("symbols come from the shapes of inputs"));
                            None
                        }
                        Some(fault) => {
                            let title = format!("{what}: the size is not possible");
                            self.file.faults.mismatch(title, value.span.clone(), fault);
                            None
                        }
                        None => {
                            let init = parameter.init.unwrap_or_else(|| default_init(&ty));
                            let op =
                                Op::Parameter(Parameter { ty, init, trainable: parameter.trainable, is_state: false });
                            self.file.builder.set_span(Some(value.span.clone()));
                            Some(self.file.builder.node(&name.text, op, &[]))
                        }
                    }
                }
            };
            self.file.share(&what, &name.text, slot, name.span.clone());
        }
    }

    /// The value of the last layer, if there is one.
    fn layers(&mut self, file: &'v Value, first: Option<Slot>) -> Option<Slot> {
        let Some(field) = self.sections.get("layers").copied() else {
            let place = file.span.start..file.span.start + 1;
            self.file.faults.push(Diagnostic::new("`layers` is missing").at(place).help("add `layers: [...]`"));
            return None;
        };
        let span = field.value.span.clone();
        let layers = self.list("layers", "a list of layers: `[Relu, Dense(out: 10)]`");
        if matches!(&field.value.kind, Kind::List(items) if items.is_empty()) && !self.sections.contains_key("outputs")
        {
            let fault = Diagnostic::new("a model without layers gives nothing").at(span.clone());
            self.file.faults.push(fault.help("add layers, or say in `outputs` what the model gives"));
        }
        let mut scope = self.file.file_scope(layers, first);
        self.file.layers(&mut scope, layers);
        scope.last.filter(|_| !layers.is_empty())
    }

    fn outputs(&mut self, last: Option<Slot>) {
        let Some(field) = self.sections.get("outputs").copied() else {
            if let Some(Some(value)) = last {
                let name = self.file.builder.graph().value_name(value);
                self.file.builder.output(&name, value);
            }
            return;
        };
        let wanted: Vec<(Name, &Value)> = match &field.value.kind {
            Kind::List(items) => {
                let name = |item: &Value| Name {
                    span: item.span.clone(),
                    text: item.as_str().unwrap_or_default().to_string(),
                };
                items.iter().map(|item| (name(item), item)).collect()
            }
            Kind::Map(_) | Kind::Struct(..) => self.pairs("outputs"),
            _ => Vec::new(),
        };
        if wanted.is_empty() {
            let fault = FieldError::at(&field.value, "`outputs` does not fit").found_at(&field.value);
            let expected = "one or more names of layers: `[\"f3\"]`, or `{\"logits\": \"f3\"}`";
            self.file.faults.field("model", fault.with_expected(expected));
        }
        let mut names = HashSet::new();
        for (name, value) in wanted {
            let Some(text) = value.as_str() else {
                let fault = FieldError::at(value, "an output does not fit").found_at(value);
                self.file.faults.field("model", fault.with_expected("the name of a layer in quotes"));
                continue;
            };
            if !names.insert(name.text.clone()) {
                let fault = Diagnostic::new(format!("two outputs are called `{}`", name.text)).at(name.span);
                self.file.faults.push(fault.help("give them names: `{\"a\": \"f3\", \"b\": \"f3\"}`"));
                continue;
            }
            let what = format!("output `{}`", name.text);
            if let Some(Some(value)) = self.file.resolve(None, &what, text, &value.span) {
                self.file.builder.output(&name.text, value);
            }
        }
    }

    /// Names are looked up once the graph is whole.
    fn gradients(&mut self) {
        for (name, value) in self.pairs("grad") {
            let text = match GradientText::deserialize(value) {
                Ok(text) => text,
                Err(error) => {
                    self.file.faults.field(&format!("gradient `{}`", name.text), error.or_at(value));
                    continue;
                }
            };
            let GradientText { of, by, upstream } = text;
            let span = Some(name.span.start..value.span.end);
            self.model.gradients.push(Gradient { name: name.text, of, by, upstream, span });
        }
    }

    fn list(&mut self, section: &str, expected: &str) -> &'v [Value] {
        let Some(field) = self.sections.get(section).copied() else { return &[] };
        match &field.value.kind {
            Kind::List(items) => items,
            _ => {
                let fault = FieldError::at(&field.value, format!("`{section}` does not fit")).found_at(&field.value);
                self.file.faults.field("model", fault.with_expected(expected));
                &[]
            }
        }
    }

    /// The entries of a section that is a map from names: `{"a": ...}`, or `(a: ...)`.
    fn pairs(&mut self, section: &str) -> Vec<(Name, &'v Value)> {
        let Some(field) = self.sections.get(section).copied() else { return Vec::new() };
        match &field.value.kind {
            Kind::Struct(None, fields) => fields.iter().map(|field| (field.name.clone(), &field.value)).collect(),
            Kind::Map(pairs) => {
                let mut all = Vec::new();
                for (key, value) in pairs {
                    match &key.kind {
                        Kind::Str(text) | Kind::Ident(text) if is_name(text) => {
                            all.push((Name { span: key.span.clone(), text: text.clone() }, value));
                        }
                        _ => {
                            let fault = FieldError::at(key, "this is not a name").found_at(key);
                            let expected = "a name: letters, digits, `_`, `-` and dots";
                            self.file.faults.field(section, fault.with_expected(expected));
                        }
                    }
                }
                all
            }
            _ => {
                let fault = FieldError::at(&field.value, format!("`{section}` does not fit")).found_at(&field.value);
                self.file.faults.field("model", fault.with_expected("a map from names: `{\"name\": ...}`"));
                Vec::new()
            }
        }
    }
}

/// What a parameter starts as where nothing is said: PyTorch's default for weights, zeros for vectors.
pub(super) fn default_init(ty: &TensorType) -> Initializer {
    if ty.rank() < 2 { Initializer::Zeros } else { Initializer::layer_weight() }
}

pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !":{}\"\\".contains(c);
    !name.is_empty() && name.len() <= 300 && name.chars().all(plain)
}

/// One more than the highest `k` of all `in:k` that a layer names.
fn inputs_named(layer: &Value) -> usize {
    let number = |value: &Value| match value.as_str()?.strip_prefix("in:") {
        Some(port) => port.parse::<u16>().ok().map(|port| usize::from(port) + 1),
        None => None,
    };
    match layer.field("from") {
        Some(Value { kind: Kind::List(items), .. }) => items.iter().filter_map(number).max().unwrap_or(0),
        Some(from) => number(from).unwrap_or(0),
        None => 0,
    }
}

fn image_fault(image: &Image, ty: &TensorType) -> Option<Diagnostic> {
    let numbers = || image.mean.iter().chain(&image.std).chain([&image.scale]);
    if numbers().any(|number| !number.is_finite()) || image.std.contains(&0.0) || image.scale == 0.0 {
        let fault = Diagnostic::new("`normalize` does not fit");
        return Some(fault.expected("finite numbers, a scale and deviations other than 0"));
    }
    let channels = ty.rank().checked_sub(3).and_then(|axis| ty.shape[axis].known());
    for (name, list) in [("mean", &image.mean), ("std", &image.std)] {
        let fits = list.len() <= 1 || channels.is_none_or(|channels| channels == list.len());
        if !fits {
            let fault = Diagnostic::new(format!("`{name}` does not fit the channels of the image"));
            let expected = format!("one number, or {} (the input is {ty})", channels.unwrap_or(1));
            return Some(fault.expected(expected).found(count(list.len(), "number")));
        }
    }
    let lengths = [image.mean.len(), image.std.len()];
    if lengths.iter().all(|&length| length > 1) && lengths[0] != lengths[1] {
        let fault = Diagnostic::new("`mean` and `std` are of different channels");
        return Some(
            fault.expected("as many numbers in both, or one").found(format!("{} and {}", lengths[0], lengths[1])),
        );
    }
    let channels = lengths.into_iter().fold(1, usize::max);
    let is_large = |pixel: f64| (0..channels).any(|channel| (image.apply(pixel, channel) as f32).is_infinite());
    if is_large(0.0) || is_large(255.0) {
        let fault = Diagnostic::new("`normalize` does not fit");
        return Some(fault.expected("what makes numbers of type f32 of pixels from 0 to 255"));
    }
    None
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    shape: Vec<Axis>,
    #[serde(default = "f32")]
    dtype: DType,
    #[serde(default)]
    normalize: Option<Image>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct GradientText {
    of: String,
    by: String,
    #[serde(default)]
    upstream: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterText {
    shape: Vec<Axis>,
    #[serde(default = "f32")]
    dtype: DType,
    #[serde(default)]
    init: Option<Initializer>,
    #[serde(default = "yes")]
    trainable: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Constant {
    shape: Vec<u32>,
    #[allow(dead_code, reason = "read with the places of its elements; here only so that it is required")]
    values: serde::de::IgnoredAny,
    #[serde(default = "f32")]
    dtype: DType,
}

fn f32() -> DType {
    DType::F32
}

fn yes() -> bool {
    true
}

/// The length of an axis of an input: a number or a symbol.
struct Axis(Dim);

impl<'de> Deserialize<'de> for Axis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Axis, D::Error> {
        deserializer.deserialize_any(AxisVisitor)
    }
}

struct AxisVisitor;

impl Visitor<'_> for AxisVisitor {
    type Value = Axis;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a length from 1 to {}, or a symbol such as N", Dim::LIMIT)
    }

    fn visit_u64<E: Error>(self, length: u64) -> Result<Axis, E> {
        match i64::try_from(length) {
            Ok(length @ 1..=Dim::LIMIT) => Ok(Axis(Dim::Known(length))),
            _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(length), &self)),
        }
    }

    fn visit_str<E: Error>(self, symbol: &str) -> Result<Axis, E> {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let plain = symbol.starts_with(|c: char| c.is_ascii_alphabetic()) && symbol.chars().all(letters);
        match plain && symbol.len() <= 32 {
            true => Ok(Axis(Dim::symbol(symbol))),
            false => Err(E::invalid_value(serde::de::Unexpected::Str(symbol), &self)),
        }
    }
}
