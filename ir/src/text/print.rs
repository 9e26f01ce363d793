//! A model to RON, layer by layer. Blocks are gone by then: what is printed is the graph.

use super::sections::default_init;
use super::{fields, format};
use crate::graph::{Graph, Node, NodeId, NodeMap, ValueId};
use crate::model::{Classes, Gradient, Model};
use crate::ops::{Initializer, Op, ParameterSpec};
use crate::tensor::{Data, TensorType};
use std::fmt::Write;

/// The model as a file. Reading it gives the same graph, up to the order of nodes that do not depend on each other.
///
/// What the form cannot say comes out as text that `parse` refuses: names with spaces, inputs whose axes are
/// expressions over symbols, and operations that no layer is called by.
pub(crate) fn print(model: &Model) -> String {
    let graph = &model.graph;
    let mut out = String::from("(fusewright: 1,\n");
    if !model.name.is_empty() {
        push(&mut out, format_args!("name: {},", fields(&model.name)));
    }
    let order = graph.topological();
    let layers = Layers::of(graph, &order);
    let section = |out: &mut String, name: &str, (open, close): (char, char), entries: Vec<String>| {
        if !entries.is_empty() || name == "layers" {
            push(out, format_args!("{name}: {open}{}{close},", entries.join(",\n")));
        }
    };
    let all = |entry: &dyn Fn(NodeId, &Node) -> Option<String>| -> Vec<String> {
        order.iter().filter_map(|&id| entry(id, graph.node(id))).collect()
    };
    section(&mut out, "inputs", ('[', ']'), all(&|_, node| input(model, node)));
    section(&mut out, "constants", ('{', '}'), all(&|_, node| constant(node)));
    let free = |id: NodeId, node: &Node| if layers.owned[id] { None } else { parameter(node) };
    section(&mut out, "parameters", ('{', '}'), all(&free));
    section(&mut out, "layers", ('[', ']'), layers.text);
    outputs(&mut out, graph, layers.last);
    section(&mut out, "grad", ('{', '}'), model.gradients.iter().map(gradient).collect());
    if let Some(weights) = &model.weights {
        push(&mut out, format_args!("weights: {},", fields(weights)));
    }
    match &model.classes {
        None => {}
        Some(Classes::File(path)) => push(&mut out, format_args!("classes: {},", fields(path))),
        Some(Classes::List(names)) => push(&mut out, format_args!("classes: {},", fields(names))),
    }
    if model.seed != 0 {
        push(&mut out, format_args!("seed: {},", model.seed));
    }
    out += ")";
    format(&out).unwrap_or(out)
}

fn push(out: &mut String, line: std::fmt::Arguments) {
    writeln!(out, "{line}").expect("a string takes all text");
}

/// `shape: [N, 3], dtype: u8`, the type left out where it is f32.
fn type_fields(ty: &TensorType) -> String {
    let dims: Vec<String> = ty.shape.iter().map(ToString::to_string).collect();
    let dtype = if ty.dtype == crate::DType::F32 { String::new() } else { format!(", dtype: {}", ty.dtype) };
    format!("shape: [{}]{dtype}", dims.join(", "))
}

fn input(model: &Model, node: &Node) -> Option<String> {
    let Op::Input(input) = &node.op else { return None };
    let image = model.images.iter().find(|(name, _)| *name == node.name);
    let normalize = image.map_or(String::new(), |(_, image)| format!(", normalize: {}", fields(image)));
    Some(format!("(name: {}, {}{normalize})", fields(&node.name), type_fields(&input.ty)))
}

fn constant(node: &Node) -> Option<String> {
    let Op::Constant(constant) = &node.op else { return None };
    let tensor = &constant.tensor;
    let values: Vec<String> = match tensor.data() {
        Data::F32(values) => values.iter().map(|x| number(f64::from(*x), format!("{x:?}"))).collect(),
        Data::F64(values) => values.iter().map(|x| number(*x, format!("{x:?}"))).collect(),
        Data::I64(values) => values.iter().map(ToString::to_string).collect(),
        Data::I32(values) => values.iter().map(ToString::to_string).collect(),
        Data::U32(values) => values.iter().map(ToString::to_string).collect(),
        Data::U8(values) => values.iter().map(ToString::to_string).collect(),
        Data::Bool(values) => values.iter().map(|&x| (x != 0).to_string()).collect(),
    };
    let ty = type_fields(&tensor.tensor_type());
    Some(format!("{}: ({ty}, values: [{}])", fields(&node.name), values.join(", ")))
}

/// Whole numbers without a point; minus zero keeps its sign.
fn number(value: f64, exact: String) -> String {
    let whole = value.fract() == 0.0 && value.abs() < 1e15 && !(value == 0.0 && value.is_sign_negative());
    if whole { format!("{value:.0}") } else { exact }
}

fn parameter(node: &Node) -> Option<String> {
    let Op::Parameter(parameter) = &node.op else { return None };
    let mut text = format!("{}: ({}", fields(&node.name), type_fields(&parameter.ty));
    if parameter.init != default_init(&parameter.ty) {
        text += &format!(", init: {}", fields(&parameter.init));
    }
    if !parameter.trainable {
        text += ", trainable: false";
    }
    Some(text + ")")
}

fn gradient(gradient: &Gradient) -> String {
    let upstream = gradient.upstream.as_ref().map_or(String::new(), |name| format!(", upstream: {}", fields(name)));
    let Gradient { name, of, by, .. } = gradient;
    format!("{}: (of: {}, by: {}{upstream})", fields(name), fields(of), fields(by))
}

fn outputs(out: &mut String, graph: &Graph, last: Option<ValueId>) {
    let names: Vec<String> = graph.outputs.iter().map(|output| graph.value_name(output.value)).collect();
    let own = graph.outputs.iter().zip(&names).all(|(output, name)| output.name == *name);
    match graph.outputs.as_slice() {
        [] => {}
        [only] if own && Some(only.value) == last => {}
        _ if own => push(out, format_args!("outputs: {},", fields(&names))),
        all => {
            let pairs =
                all.iter().zip(&names).map(|(output, name)| format!("{}: {}", fields(&output.name), fields(name)));
            push(out, format_args!("outputs: {{{}}},", pairs.collect::<Vec<_>>().join(", ")));
        }
    }
}

/// The layers as text, and the parameters that they say nothing of because reading makes them again.
struct Layers {
    text: Vec<String>,
    owned: NodeMap<bool>,
    last: Option<ValueId>,
}

impl Layers {
    fn of(graph: &Graph, order: &[NodeId]) -> Layers {
        let mut owned = NodeMap::filled(graph, false);
        let mut used = NodeMap::filled(graph, false);
        let mut text = Vec::new();
        // Where the first layer says nothing of its input, it is the first input.
        let is_input = |id: &&NodeId| matches!(graph.node(**id).op, Op::Input(_));
        let mut last: Option<ValueId> = order.iter().find(is_input).map(|&id| id.into());
        for &id in order {
            let node = graph.node(id);
            if matches!(node.op, Op::Input(_) | Op::Parameter(_) | Op::Constant(_)) {
                continue;
            }
            let mut layer = vec![format!("name: {}", fields(&node.name))];
            let arity = node.op.spec().arity();
            let (data, parameters) = node.inputs.split_at(if arity.min == arity.max {
                node.inputs.len().min(arity.max)
            } else {
                node.inputs.len()
            });
            let names: Vec<String> = data.iter().map(|&value| graph.value_name(value)).collect();
            match data {
                _ if data == last.as_slice() => {}
                [] => {}
                [_] => layer.push(format!("from: {}", fields(&names[0]))),
                _ => layer.push(format!("from: {}", fields(&names))),
            }
            data.iter().for_each(|value| used[value.node] = true);
            let attributes = node.op.spec().fields();
            let attributes =
                attributes.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(&attributes);
            if !attributes.is_empty() {
                layer.push(attributes.to_string());
            }
            let types: Vec<&TensorType> = data.iter().map(|&value| graph.value_type(value)).collect();
            let specs = node.op.spec().parameters(&types).unwrap_or_default();
            let mut init = Vec::new();
            for (spec, &value) in specs.iter().zip(parameters) {
                match own_initializer(graph, node, spec, value) {
                    Some(initializer) if !used[value.node] => {
                        owned[value.node] = true;
                        if initializer != spec.init {
                            init.push(format!("{}: {}", spec.field, fields(&initializer)));
                        }
                    }
                    _ => layer.push(format!("{}: {}", spec.field, fields(&graph.value_name(value)))),
                }
                used[value.node] = true;
            }
            if !init.is_empty() {
                layer.push(format!("init: ({})", init.join(", ")));
            }
            text.push(format!("{}({})", node.op.spec().name(), layer.join(", ")));
            last = Some(id.into());
        }
        if text.is_empty() {
            last = None;
        }
        Layers { text, owned, last }
    }
}

/// What a parameter starts as, where it is the one that reading the layer would make.
fn own_initializer(graph: &Graph, layer: &Node, spec: &ParameterSpec, value: ValueId) -> Option<Initializer> {
    let node = graph.node(value.node);
    let Op::Parameter(parameter) = &node.op else { return None };
    let own = parameter.ty == spec.ty
        && parameter.trainable == spec.trainable
        && node.name.strip_prefix(&layer.name).and_then(|rest| rest.strip_prefix('.')) == Some(spec.field);
    own.then_some(parameter.init)
}
