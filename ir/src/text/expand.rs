//! Layers, blocks and repetitions to nodes of the graph.

use super::de::FieldError;
use super::faults::Faults;
use super::value::{Field, Kind, Name, Value};
use crate::build::GraphBuilder;
use crate::diagnostic::{Diagnostic, Span, closest};
use crate::graph::{Graph, ValueId};
use crate::ops::{Initializer, LAYERS, LayerKind, Mismatch, Op, Parameter, layer_kind};
use crate::tensor::{DType, Data, Tensor, TensorType};
use crate::verify::{NODE_LIMIT, size_fault};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// A value, or nothing where the layer that should give it is faulty: its users are then passed over in silence.
pub(super) type Slot = Option<ValueId>;

/// The longest name of a node.
const NAME_LIMIT: usize = 300;

/// How deep blocks may lie in blocks.
const DEPTH_LIMIT: usize = 32;

/// The fields that every layer may have.
const COMMON: [&str; 5] = ["name", "from", "when", "repeat", "init"];

/// A block as the file writes it.
#[derive(Debug)]
pub(super) struct Block<'v> {
    /// What each use gives, and the default.
    pub parameters: Vec<(Name, Option<&'v Value>)>,
    pub layers: &'v [Value],
    /// How many inputs its layers speak of.
    pub inputs: usize,
}

/// Builds the graph of one file.
#[derive(Default)]
pub(super) struct Expander<'v> {
    /// The file.
    text: &'v str,
    pub builder: GraphBuilder,
    pub faults: Faults,
    pub blocks: HashMap<String, Rc<Block<'v>>>,
    /// Every name in the graph, with its value and its place.
    names: HashMap<String, (Slot, Span)>,
    /// The symbols of the inputs' shapes.
    pub symbols: Vec<String>,
    /// Constants and parameters of the file's own sections, which blocks may use too.
    shared: HashSet<String>,
    expanded: usize,
}

/// The layers that are being read: those of the file, or of one use of a block.
pub(super) struct Scope {
    /// Goes before every name.
    prefix: String,
    /// What a block was given; `None` for the layers of the file.
    inputs: Option<Vec<Slot>>,
    /// The value of the layer before, if there is one.
    pub last: Option<Slot>,
    /// Names that layers of this scope are given in the text.
    given: HashSet<String>,
    /// How many layers of each kind got a name by number.
    numbered: HashMap<String, usize>,
    /// The blocks that this one lies in, itself last.
    within: Vec<String>,
}

/// The parts of a layer's text.
struct Layer<'a> {
    value: &'a Value,
    kind: &'a str,
    kind_span: Span,
    name: Option<&'a Field>,
    from: Option<&'a Value>,
    when: Option<&'a Value>,
    repeat: Option<&'a Field>,
    init: Option<&'a Field>,
    rest: Vec<Field>,
}

impl<'v> Expander<'v> {
    /// Nothing yet of the file `text`.
    pub fn new(text: &'v str) -> Expander<'v> {
        Expander { text, ..Expander::default() }
    }

    /// Gives a name to a value; a name that is taken is a fault.
    pub fn define(&mut self, what: &str, name: &str, value: Slot, span: Span) -> bool {
        if let Some((_, first)) = self.names.get(name) {
            let line = self.text[..first.start.min(self.text.len())].matches('\n').count() + 1;
            let fault = Diagnostic::new(format!("{what}: the name `{name}` is taken")).at(span);
            let fault = fault.expected("a name that nothing else in the model has");
            self.faults.push(fault.found(format!("the same name on line {line}")).help("choose another name"));
            return false;
        }
        self.names.insert(name.to_string(), (value, span));
        true
    }

    /// Gives a name to a value that blocks may use too.
    pub fn share(&mut self, what: &str, name: &str, value: Slot, span: Span) {
        self.shared.insert(name.to_string());
        self.define(what, name, value, span);
    }

    /// The scope of the file's layers.
    pub fn file_scope(&self, layers: &[Value], first: Option<Slot>) -> Scope {
        Scope {
            prefix: String::new(),
            inputs: None,
            last: first,
            given: given_names(layers),
            numbered: HashMap::new(),
            within: Vec::new(),
        }
    }

    /// Reads layers in order; the scope's `last` is then the value of the last.
    pub fn layers(&mut self, scope: &mut Scope, layers: &[Value]) {
        for value in layers {
            if self.stopped() {
                return;
            }
            self.layer(scope, value);
        }
    }

    /// Whether there is too much of the model, or of its faults.
    fn stopped(&self) -> bool {
        self.expanded > NODE_LIMIT || self.faults.full()
    }

    fn layer(&mut self, scope: &mut Scope, value: &Value) {
        let Some(layer) = self.parts(value) else {
            scope.last = Some(None);
            return;
        };
        let Some(repeat) = layer.repeat else { return self.once(scope, &layer, None) };
        let (start, end) = match repeat.value.kind {
            Kind::Integer(end) => (0, end),
            Kind::Range(start, end) => (start, end),
            _ => (0, -1),
        };
        let fault = if start > end {
            FieldError::at(&repeat.value, format!("`{}` does not fit", repeat.name.text))
                .with_expected("a number of times, or the numbers that take the place of `{}`: `1..=6`")
        } else if end - start > NODE_LIMIT as i128 {
            FieldError::at(&repeat.value, "the layer is repeated too often")
                .with_expected(format!("at most {NODE_LIMIT} times"))
        } else {
            match layer.name {
                Some(name) if !name.value.as_str().is_some_and(|name| name.contains("{}")) => {
                    FieldError::at(&name.value, "a repeated layer needs a name for each time")
                        .with_expected("a name with `{}`, which becomes the number: `\"layer{}\"`")
                }
                _ => {
                    for number in start..end {
                        if self.stopped() {
                            return;
                        }
                        self.once(scope, &layer, Some(number));
                    }
                    return;
                }
            }
        };
        self.faults.field(&format!("layer `{}`", layer.kind), fault.found_at(&repeat.value));
        scope.last = Some(None);
    }

    /// Takes a layer's text apart.
    fn parts<'a>(&mut self, value: &'a Value) -> Option<Layer<'a>> {
        let none: &[Field] = &[];
        let (kind, kind_span, fields) = match &value.kind {
            Kind::Ident(kind) => (kind, value.span.clone(), none),
            Kind::Struct(Some(name), fields) => (&name.text, name.span.clone(), fields.as_slice()),
            Kind::Tuple(Some(name), _) => {
                let fault = Diagnostic::new(format!("layer `{}`: its fields have no names", name.text));
                self.faults.push(fault.at(value.span.clone()).expected(format!("`{}(name: value, ...)`", name.text)));
                return None;
            }
            _ => {
                let fault = Diagnostic::new("a layer begins with its kind").at(value.span.clone());
                self.faults.push(
                    fault.expected("`Kind` or `Kind(name: \"...\", ...)`, such as `Relu`").found(value.describe()),
                );
                return None;
            }
        };
        let (name, from, when, repeat, init, rest) = (None, None, None, None, None, Vec::new());
        let mut layer = Layer { value, kind, kind_span, name, from, when, repeat, init, rest };
        let mut seen = HashSet::new();
        for field in fields {
            if !seen.insert(&field.name.text) {
                let title = format!("layer `{kind}`: `{}` is given twice", field.name.text);
                self.faults.push(Diagnostic::new(title).at(field.name.span.clone()));
                return None;
            }
            match field.name.text.as_str() {
                "name" => layer.name = Some(field),
                "from" => layer.from = Some(&field.value),
                "when" => layer.when = Some(&field.value),
                "repeat" => layer.repeat = Some(field),
                "init" => layer.init = Some(field),
                _ => layer.rest.push(field.clone()),
            }
        }
        Some(layer)
    }

    /// Reads a layer; `number` takes the place of `{}` where it is repeated.
    fn once(&mut self, scope: &mut Scope, layer: &Layer, number: Option<i128>) {
        self.expanded += 1;
        if self.expanded > NODE_LIMIT {
            let fault = Diagnostic::new("the model is too large").at(layer.kind_span.clone());
            self.faults.push(fault.expected(format!("at most {NODE_LIMIT} layers, each use of a block counted")));
            return;
        }
        let block = self.blocks.get(layer.kind).cloned();
        let Some(name) = self.name(scope, layer, number, block.is_some()) else {
            scope.last = Some(None);
            return;
        };
        let what = format!("{} `{name}`", if block.is_some() { "block" } else { "layer" });
        let place = layer.name.map_or(&layer.kind_span, |field| &field.value.span);
        let named = name != scope.prefix;
        if named && self.names.contains_key(&name) {
            self.define(&what, &name, None, place.clone());
            scope.last = Some(None);
            return;
        }
        let inputs = self.inputs(scope, layer, number, &what);
        let runs = match layer.when.map(|value| (value, &value.kind)) {
            None | Some((_, Kind::Bool(true))) => true,
            Some((_, Kind::Bool(false))) => false,
            Some((value, _)) => {
                let fault = FieldError::at(value, "`when` does not fit").found_at(value);
                self.faults.field(&what, fault.with_expected("`true` or `false`, or a parameter of the block"));
                true
            }
        };
        let result = match (runs, block, layer_kind(layer.kind)) {
            (false, ..) => inputs.and_then(|inputs| inputs.first().copied().flatten()),
            (true, Some(block), _) => self.block(scope, layer, &name, &what, &block, inputs),
            (true, None, Some(kind)) => self.operation(scope, layer, kind, &name, &what, inputs),
            (true, None, None) => {
                self.unknown_kind(layer);
                None
            }
        };
        if named {
            self.define(&what, &name, result, place.clone());
        }
        scope.last = Some(result);
    }

    fn unknown_kind(&mut self, layer: &Layer) {
        let kinds = LAYERS.iter().flat_map(|kinds| kinds.iter()).map(|kind| kind.name);
        let meant = closest(layer.kind, kinds.chain(self.blocks.keys().map(String::as_str)));
        let mut fault = Diagnostic::new(format!("unknown layer `{}`", layer.kind)).at(layer.kind_span.clone());
        fault.expected = Some("the kind of a layer, or a block of this file".to_string());
        fault.help = meant.map(|meant| format!("did you mean `{meant}`?"));
        self.faults.push(fault);
    }

    /// The full name of a layer.
    fn name(&mut self, scope: &mut Scope, layer: &Layer, number: Option<i128>, block: bool) -> Option<String> {
        let Some(field) = layer.name else {
            let kind = layer.kind.to_lowercase();
            let separator = if kind.contains(|c: char| c.is_ascii_digit()) { "_" } else { "" };
            loop {
                let number = scope.numbered.entry(kind.clone()).or_insert(0);
                *number += 1;
                let name = format!("{kind}{separator}{number}");
                let full = format!("{}{name}", scope.prefix);
                if !scope.given.contains(&name) && !self.names.contains_key(&full) {
                    return Some(full);
                }
            }
        };
        let expected =
            "a name in quotes: letters, digits, `_`, `-` and dots, at most 300 with those of the blocks around";
        if let Kind::Str(text) = &field.value.kind {
            let name = number.map_or(text.clone(), |number| text.replace("{}", &number.to_string()));
            let full = format!("{}{name}", scope.prefix);
            let plain = name.chars().all(|c| !c.is_control() && !c.is_whitespace() && !":{}\"\\".contains(c));
            if plain && (block || !name.is_empty()) && full.len() <= NAME_LIMIT {
                // A block without a name adds nothing to the names within.
                return Some(if name.is_empty() { scope.prefix.clone() } else { full });
            }
        }
        let fault = FieldError::at(&field.value, "this is not a name").found_at(&field.value);
        self.faults.field(&format!("layer `{}`", layer.kind), fault.with_expected(expected));
        None
    }

    /// The inputs of a layer: those that `from` names, else the layer before; `None` where a name stands for nothing.
    fn inputs(&mut self, scope: &Scope, layer: &Layer, number: Option<i128>, what: &str) -> Option<Vec<Slot>> {
        let Some(from) = layer.from else { return Some(scope.last.into_iter().collect()) };
        let names = match &from.kind {
            Kind::List(names) => names.as_slice(),
            _ => std::slice::from_ref(from),
        };
        let mut inputs = Vec::with_capacity(names.len());
        for value in names {
            let Kind::Str(name) = &value.kind else {
                let fault = FieldError::at(value, "`from` does not fit").found_at(value);
                self.faults.field(what, fault.with_expected("the name of a layer in quotes, or a list of names"));
                return None;
            };
            let name = number.map_or(name.clone(), |number| name.replace("{}", &number.to_string()));
            inputs.push(self.resolve(Some(scope), what, &name, &value.span)?);
        }
        Some(inputs)
    }

    /// The value that a name stands for; a name of nothing is a fault.
    pub fn resolve(&mut self, scope: Option<&Scope>, what: &str, text: &str, span: &Span) -> Option<Slot> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if port.parse::<u32>().is_ok() => (name, port.parse().unwrap_or(0)),
            _ => (text, 0),
        };
        let prefix = scope.map_or("", |scope| scope.prefix.as_str());
        let given = scope.and_then(|scope| scope.inputs.as_ref());
        if let (Some(inputs), "in") = (given, name) {
            if let Some(slot) = inputs.get(port as usize) {
                return Some(*slot);
            }
            let fault = Diagnostic::new(format!("{what}: the block has no input `{text}`")).at(span.clone());
            self.faults
                .push(fault.found(super::value::count(inputs.len(), "input")).help("name more inputs in `from`"));
            return None;
        }
        let global = given.is_none() || self.shared.contains(name);
        let found = self.names.get(&format!("{prefix}{name}")).or_else(|| self.names.get(name).filter(|_| global));
        if let Some((slot, _)) = found {
            let Some(value) = *slot else { return Some(None) };
            let ports = self.builder.graph().node(value.node).types.len();
            if port == 0 || (value.port == 0 && (port as usize) < ports) {
                return Some(Some(if port == 0 { value } else { ValueId { port, ..value } }));
            }
            let fault = Diagnostic::new(format!("{what}: `{name}` has no output {port}")).at(span.clone());
            self.faults.push(fault.found(super::value::count(ports, "output")).help("outputs are counted from 0"));
            return None;
        }
        if self.faults.told(span) {
            return None;
        }
        let mut fault = Diagnostic::new(format!("{what}: there is no `{name}`")).at(span.clone());
        if scope.is_some_and(|scope| scope.given.contains(name)) {
            let itself = what.ends_with(&format!("`{prefix}{name}`"));
            fault.expected = Some("an earlier layer".to_string());
            if itself {
                fault.title = format!("{what}: it uses itself");
            } else {
                fault.title = format!("{what}: `{name}` is not defined yet");
                fault.help = Some(format!("move `{name}` in front of this layer; layers on a cycle have no order"));
            }
        } else if given.is_some() && self.names.contains_key(name) {
            fault.help = Some(format!("a block sees its own layers only; give it `{name}` in `from` and use `in:1`"));
        } else {
            // Among very many names, the nearest would be a matter of chance and of time.
            let local = self.names.keys().filter(|_| self.names.len() < 5000);
            let local = local.filter_map(|name| name.strip_prefix(prefix));
            let shared = self.shared.iter().map(String::as_str).chain(given.is_some().then_some("in"));
            let meant = closest(name, local.chain(shared));
            fault.help = meant.map(|meant| format!("did you mean `{meant}`?"));
        }
        self.faults.push(fault);
        None
    }

    /// Reads one use of a block; its value is that of its last layer.
    fn block(
        &mut self,
        scope: &Scope,
        layer: &Layer,
        name: &str,
        what: &str,
        block: &Block<'v>,
        inputs: Option<Vec<Slot>>,
    ) -> Slot {
        let mut arguments: HashMap<&str, &Value> = HashMap::new();
        let before = self.faults.len();
        for field in layer.rest.iter().chain(layer.init) {
            match block.parameters.iter().find(|(parameter, _)| parameter.text == field.name.text) {
                Some((parameter, _)) => drop(arguments.insert(&parameter.text, &field.value)),
                None => {
                    let names = block.parameters.iter().map(|(parameter, _)| &parameter.text);
                    let known = names.cloned().chain(COMMON[..4].iter().map(ToString::to_string)).collect();
                    let fault = FieldError::unknown_field(field.name.span.clone(), &field.name.text, known);
                    self.faults.field(what, fault);
                }
            }
        }
        for (parameter, default) in &block.parameters {
            match (arguments.contains_key(parameter.text.as_str()), default) {
                (true, _) => {}
                (false, Some(default)) => drop(arguments.insert(&parameter.text, default)),
                (false, None) => {
                    let title = format!("{what}: `{}` is missing", parameter.text);
                    let help = format!("add `{}: ...`", parameter.text);
                    self.faults.push(Diagnostic::new(title).at(layer.kind_span.clone()).help(help));
                }
            }
        }
        if scope.within.iter().any(|outer| outer == layer.kind) || scope.within.len() >= DEPTH_LIMIT {
            let title = format!("block `{}` contains itself", layer.kind);
            let deep = format!("blocks lie in blocks more than {DEPTH_LIMIT} deep");
            let cycle = scope.within.iter().any(|outer| outer == layer.kind);
            self.faults.push(Diagnostic::new(if cycle { title } else { deep }).at(layer.kind_span.clone()));
        }
        let inputs = inputs?;
        if inputs.len() != block.inputs {
            let found = super::value::count(inputs.len(), "input");
            let place = layer.from.map_or(layer.kind_span.clone(), |from| from.span.clone());
            self.faults.push(
                Diagnostic::new(format!("{what}: wrong number of inputs"))
                    .at(place)
                    .expected(super::value::count(block.inputs, "input"))
                    .found(found)
                    .help("a block has as many inputs as its layers name: `in`, `in:1`, and so on"),
            );
        }
        if self.faults.len() > before {
            return None;
        }
        let substituted: Vec<Value> = block.layers.iter().map(|layer| substitute(layer, &arguments)).collect();
        let mut inner = Scope {
            prefix: if name == scope.prefix { name.to_string() } else { format!("{name}.") },
            last: inputs.first().copied(),
            inputs: Some(inputs),
            given: given_names(&substituted),
            numbered: HashMap::new(),
            within: scope.within.iter().cloned().chain([layer.kind.to_string()]).collect(),
        };
        self.layers(&mut inner, &substituted);
        inner.last.flatten()
    }

    /// Reads a layer that is one operation.
    fn operation(
        &mut self,
        scope: &Scope,
        layer: &Layer,
        kind: &LayerKind,
        name: &str,
        what: &str,
        inputs: Option<Vec<Slot>>,
    ) -> Slot {
        let (op, references, operand) = self.attributes(layer, kind, what)?;
        let inputs: Vec<ValueId> = inputs?.into_iter().collect::<Option<_>>()?;
        let arity = op.spec().arity();
        // A source does not read the layer before.
        let mut inputs = if arity.max == 0 && layer.from.is_none() { Vec::new() } else { inputs };
        self.builder.set_span(Some(layer.value.span.clone()));
        if let Some(field) = operand {
            let dtype = inputs.first().map_or(DType::F32, |&input| self.builder.graph().value_type(input).dtype);
            let number = match self.element(&field.value, dtype) {
                Ok(number) => Tensor::new(&[], Data::from_f64(dtype, &[number])),
                Err(fault) => {
                    self.faults.field(what, fault.or_in(&field));
                    return None;
                }
            };
            let name = format!("{name}.value");
            let constant = self.builder.constant(&name, number);
            self.define(what, &name, Some(constant), field.name.span.clone());
            inputs.push(constant);
        }
        let types: Vec<TensorType> =
            inputs.iter().map(|&input| self.builder.graph().value_type(input).clone()).collect();
        let operands: Vec<&TensorType> = types.iter().collect();
        if let Err(mismatch) = op.check_arity(operands.len()) {
            let place = layer.from.map_or(layer.kind_span.clone(), |from| from.span.clone());
            self.faults.mismatch(format!("{what}: wrong number of inputs"), place, mismatch);
            return None;
        }
        let specs = match op.spec().parameters(&operands) {
            Ok(specs) => specs,
            Err(mismatch) => return self.misfit(layer, what, &inputs, mismatch),
        };
        let mut init = self.initializers(layer, what, specs.iter().map(|spec| spec.field))?;
        let mut faulty = false;
        for (_, fault) in references.iter().filter(|(field, _)| !specs.iter().any(|spec| spec.field == field.name.text))
        {
            self.faults.field(what, fault.clone());
            faulty = true;
        }
        if faulty {
            return None;
        }
        let data = inputs.len();
        if specs.iter().any(|spec| size_fault(&spec.ty).is_some()) {
            // The operation may know which of its attributes is at fault.
            let all: Vec<&TensorType> = operands.iter().copied().chain(specs.iter().map(|spec| &spec.ty)).collect();
            if let Err(mismatch @ Mismatch { field: Some(_), .. }) = op.spec().infer(&all) {
                return self.misfit(layer, what, &inputs, mismatch);
            }
        }
        for spec in specs {
            if let Some((field, _)) = references.iter().find(|(field, _)| field.name.text == spec.field) {
                let text = field.value.as_str().unwrap_or_default();
                inputs.push(self.resolve(Some(scope), what, text, &field.value.span)??);
                continue;
            }
            let parameter = format!("{name}.{}", spec.field);
            if let Some(fault) = size_fault(&spec.ty) {
                let title = format!("{what}: the size of `{}` is not possible", spec.field);
                self.faults.mismatch(title, layer.value.span.clone(), fault);
                return None;
            }
            let init = init.remove(spec.field).unwrap_or(spec.init);
            let op = Op::Parameter(Parameter { ty: spec.ty, init, trainable: spec.trainable, is_state: false });
            let node = self.builder.node(&parameter, op, &[]);
            if !self.define(what, &parameter, Some(node), layer.kind_span.clone()) {
                return None;
            }
            inputs.push(node);
        }
        match self.builder.try_node(name, op, &inputs) {
            Err(mismatch) => self.misfit(layer, what, &inputs[..data], mismatch),
            Ok(node) => match self.builder.graph().node(node).types.iter().find_map(size_fault) {
                None => self.known_symbols(layer, what, node.into()),
                Some(fault) => {
                    let title = format!("{what}: the size of its output is not possible");
                    self.faults.mismatch(title, layer.value.span.clone(), fault);
                    None
                }
            },
        }
    }

    /// The value, unless its type has symbols that no input has.
    fn known_symbols(&mut self, layer: &Layer, what: &str, value: ValueId) -> Slot {
        let mut symbols = Vec::new();
        let types = &self.builder.graph().node(value.node).types;
        types.iter().flat_map(|ty| &ty.shape).for_each(|dim| dim.collect_symbols(&mut symbols));
        let Some(unknown) = symbols.iter().find(|symbol| !self.symbols.contains(symbol)) else { return Some(value) };
        let mut fault = Diagnostic::new(format!("{what}: no input has the symbol `{unknown}`"));
        fault.expected = Some(match self.symbols.is_empty() {
            true => "numbers: the inputs' shapes have no symbols".to_string(),
            false => format!("one of `{}`", self.symbols.join("`, `")),
        });
        self.faults.push(fault.at(layer.value.span.clone()).help("symbols come from the shapes of inputs"));
        None
    }

    /// Tells of operands that do not fit, at the field at fault where one is.
    fn misfit(&mut self, layer: &Layer, what: &str, inputs: &[ValueId], mismatch: Mismatch) -> Slot {
        let field = mismatch.field.and_then(|name| layer.value.field(name).map(|value| (name, value.span.clone())));
        let (title, place) = match field {
            Some((field, span)) => (format!("{what}: `{field}` does not fit"), span),
            None if inputs.len() == 1 => (format!("{what}: the input does not fit"), layer.value.span.clone()),
            None => (format!("{what}: the inputs do not fit"), layer.value.span.clone()),
        };
        let found = with_inputs(self.builder.graph(), inputs, mismatch.found);
        self.faults.mismatch(title, place, Mismatch { found, ..mismatch });
        None
    }

    /// The operation from the fields of a layer. Fields that are not its attributes may be references to values that
    /// take the place of parameters (`weight: "w"`), or the number that is the last operand (`value: 2`); which of them
    /// are parameters is known only when the inputs are.
    #[allow(clippy::type_complexity)]
    fn attributes(
        &mut self,
        layer: &Layer,
        kind: &LayerKind,
        what: &str,
    ) -> Option<(Op, Vec<(Field, FieldError)>, Option<Field>)> {
        let mut fields = Value { span: layer.value.span.clone(), kind: Kind::Struct(None, layer.rest.clone()) };
        let mut aside: Vec<(Field, FieldError)> = Vec::new();
        let mut incomplete = None;
        let op = loop {
            let error = match (kind.read)(&fields) {
                Ok(op) => break Some(op),
                Err(error) => error,
            };
            let Kind::Struct(_, rest) = &mut fields.kind else { break None };
            let within = |span: &Span| span.start <= error.span.start && error.span.end <= span.end;
            match rest.iter().position(|field| within(&field.name.span) || within(&field.value.span)) {
                Some(place) if aside.len() < 20 => aside.push((rest.remove(place), error)),
                Some(_) => break None,
                None => {
                    incomplete = Some(error);
                    break None;
                }
            }
        };
        let (values, others): (Vec<_>, Vec<_>) = aside.into_iter().partition(|(field, error)| {
            let known = error.unknown.as_ref().is_none_or(|unknown| unknown.1.contains(&field.name.text));
            let number = matches!(field.value.kind, Kind::Integer(_) | Kind::Float(_));
            (field.value.as_str().is_some() && !(known && op.is_none())) || (field.name.text == "value" && number)
        });
        let missing_only = incomplete.filter(|error| {
            let missed = error.message.split('`').nth(1).unwrap_or_default();
            let meant =
                |error: &FieldError| error.help.as_ref().is_some_and(|help| help.contains(&format!("`{missed}`")));
            !others.iter().any(|(field, error)| field.name.text == missed || meant(error))
        });
        let faulty = !others.is_empty() || missing_only.is_some();
        for (_, error) in others {
            self.faults.field(what, with_common(error));
        }
        if let Some(mut error) = missing_only {
            // The layer's kind stands for the layer, which may be long.
            error.span = layer.kind_span.clone();
            self.faults.field(what, error);
        }
        let op = op.filter(|_| !faulty)?;
        let mut references = Vec::new();
        let mut operand = None;
        let takes_two = op.spec().arity().max > 1;
        for (field, error) in values {
            match field.value.as_str().is_some() {
                true => references.push((field, with_common(error))),
                false if takes_two => operand = Some(field),
                false => {
                    self.faults.field(what, with_common(error));
                    return None;
                }
            }
        }
        Some((op, references, operand))
    }

    /// The initialisers that a layer gives for its parameters.
    fn initializers<'a>(
        &mut self,
        layer: &Layer,
        what: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Option<HashMap<String, Initializer>> {
        let known: Vec<&str> = known.collect();
        let mut all = HashMap::new();
        let Some(field) = layer.init else { return Some(all) };
        let pairs: Vec<(&str, &Span, &Value)> = match &field.value.kind {
            Kind::Struct(None, fields) => {
                fields.iter().map(|field| (field.name.text.as_str(), &field.name.span, &field.value)).collect()
            }
            Kind::Map(pairs) => {
                pairs.iter().map(|(key, value)| (key.as_str().unwrap_or_default(), &key.span, value)).collect()
            }
            _ => {
                let fault = FieldError::at(&field.value, "`init` does not fit").found_at(&field.value);
                self.faults
                    .field(what, fault.with_expected("an initialiser a parameter: `(weight: Normal(std: 0.01))`"));
                return None;
            }
        };
        let before = self.faults.len();
        for (name, span, value) in pairs {
            if !known.contains(&name) {
                let known = known.iter().map(ToString::to_string).collect();
                let mut fault = FieldError::unknown_field(span.clone(), name, known);
                fault.message = format!("there is no parameter `{name}`");
                self.faults.field(what, fault);
                continue;
            }
            match Initializer::deserialize(value) {
                Ok(init) => drop(all.insert(name.to_string(), init)),
                Err(error) => {
                    let mut error = error.or_at(value);
                    if error.message.is_empty() {
                        error.message = format!("the initialiser of `{name}` does not fit");
                    }
                    self.faults.field(what, error);
                }
            }
        }
        if self.faults.len() > before {
            return None;
        }
        Some(all)
    }

    /// A number as an element of `dtype`.
    pub fn element(&self, value: &Value, dtype: DType) -> Result<f64, FieldError> {
        let (low, high) = match dtype {
            DType::F32 | DType::F64 => (f64::NEG_INFINITY, f64::INFINITY),
            DType::I64 => (i64::MIN as f64, i64::MAX as f64),
            DType::I32 => (i32::MIN.into(), i32::MAX.into()),
            DType::U32 => (0.0, u32::MAX.into()),
            DType::U8 => (0.0, u8::MAX.into()),
            DType::Bool => (0.0, 1.0),
        };
        let number = match value.kind {
            Kind::Integer(number) => number as f64,
            Kind::Float(number) if dtype.is_float() => number,
            Kind::Bool(truth) if dtype == DType::Bool => f64::from(u8::from(truth)),
            _ => f64::NAN,
        };
        let nan = matches!(value.kind, Kind::Float(number) if number.is_nan() && dtype.is_float());
        if nan || (low..=high).contains(&number) {
            return Ok(number);
        }
        let expected = match dtype {
            DType::Bool => "`true` or `false`".to_string(),
            _ if dtype.is_float() => "a number".to_string(),
            DType::I64 => format!("a whole number from {} to {}", i64::MIN, i64::MAX),
            _ => format!("a whole number from {low} to {high}"),
        };
        Err(FieldError::at(value, "").with_expected(format!("{expected} (the type is {dtype})")).found_at(value))
    }
}

/// What was found, and the inputs that it was found with, unless it tells of them already.
pub(crate) fn with_inputs(graph: &Graph, inputs: &[ValueId], found: String) -> String {
    let mut all = found;
    for &value in inputs {
        let (name, ty) = (graph.value_name(value), graph.value_type(value).to_string());
        if !all.contains(&ty) {
            all += &format!("; `{name}` is {ty}");
        }
    }
    all
}

/// An unknown field of a layer may be meant as one that all layers have.
fn with_common(error: FieldError) -> FieldError {
    match error.unknown {
        None => error,
        Some(unknown) => {
            let (name, known) = *unknown;
            let known = known.into_iter().chain(COMMON.iter().map(ToString::to_string)).collect();
            FieldError::unknown_field(error.span, &name, known)
        }
    }
}

/// The names that layers are given in the text, as far as they are plain.
fn given_names(layers: &[Value]) -> HashSet<String> {
    layers.iter().filter_map(|layer| layer.field("name")?.as_str()).map(str::to_string).collect()
}

/// A part of a block with its parameters replaced by what a use gives. Places stay those of the block.
fn substitute(value: &Value, arguments: &HashMap<&str, &Value>) -> Value {
    let field = |field: &Field| Field { name: field.name.clone(), value: substitute(&field.value, arguments) };
    let all = |items: &[Value]| items.iter().map(|item| substitute(item, arguments)).collect();
    let kind = match &value.kind {
        Kind::Ident(name) => arguments.get(name.as_str()).map_or(&value.kind, |argument| &argument.kind).clone(),
        Kind::List(items) => Kind::List(all(items)),
        Kind::Tuple(name, items) => Kind::Tuple(name.clone(), all(items)),
        Kind::Struct(name, fields) => Kind::Struct(name.clone(), fields.iter().map(field).collect()),
        Kind::Map(pairs) => {
            Kind::Map(pairs.iter().map(|(key, value)| (key.clone(), substitute(value, arguments))).collect())
        }
        other => other.clone(),
    };
    Value { span: value.span.clone(), kind }
}
