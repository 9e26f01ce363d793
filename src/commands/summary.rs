//! `fusewright summary`: what a network is made of. Nothing is allocated for it, however large it is.

use super::arguments::{ModelArguments, PlanArguments, default_batch};
use super::compile::repeated;
use super::output::{Failure, Output};
use super::table::{Table, amount, bytes};
use clap::Args;
use fusewright::ir::ops::Op;
use fusewright::ir::plan::Plan;
use fusewright::ir::{Dim, Graph, NodeId};
use fusewright::{Model, Options, plan_of};
use serde::Serialize;
use std::collections::HashSet;
use std::io::Write;

/// Lists every layer with its output shape, parameters and multiply-adds
#[derive(Args)]
pub struct Summary {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    planning: PlanArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One layer, for people and for JSON.
pub struct Layer {
    pub name: String,
    pub operation: &'static str,
    /// The types of its outputs.
    pub outputs: Vec<String>,
    /// Elements of the parameters that no layer before it has.
    pub parameters: Dim,
    /// Multiplications with addition for one run.
    pub multiply_adds: Dim,
}

#[derive(Serialize)]
struct Json {
    name: String,
    parameters: Option<u64>,
    multiply_adds: Amount,
    /// Of weights as a plan keeps them.
    constant_bytes: Option<u64>,
    /// Of the arena for one batch size, what computing again saves of it, and what that costs.
    arena_bytes: Option<u64>,
    saved_bytes: Option<u64>,
    repeated_operations: Option<u64>,
    layers: Vec<JsonLayer>,
}

#[derive(Serialize)]
struct JsonLayer {
    name: String,
    operation: &'static str,
    outputs: Vec<String>,
    parameters: Amount,
    multiply_adds: Amount,
}

/// A number, or a text while it depends on a symbol.
#[derive(Serialize)]
#[serde(untagged)]
enum Amount {
    Number(usize),
    Expression(String),
}

impl From<&Dim> for Amount {
    fn from(dim: &Dim) -> Amount {
        dim.known().map_or_else(|| Amount::Expression(dim.to_string()), Amount::Number)
    }
}

impl Summary {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        let mut model = self.model.load()?;
        let bindings = self.model.bindings(None)?;
        if !bindings.is_empty() {
            model = model.bind(&bindings)?;
        }
        let layers = layers(model.graph());
        let sum = |of: fn(&Layer) -> &Dim| layers.iter().fold(Dim::Known(0), |sum, layer| sum + of(layer).clone());
        let (parameters, multiply_adds) = (sum(|layer| &layer.parameters), sum(|layer| &layer.multiply_adds));
        let plan = self.plan(&model)?;
        let name = &model.definition().name;
        if self.json {
            let layers = layers
                .iter()
                .map(|layer| JsonLayer {
                    name: layer.name.clone(),
                    operation: layer.operation,
                    outputs: layer.outputs.clone(),
                    parameters: (&layer.parameters).into(),
                    multiply_adds: (&layer.multiply_adds).into(),
                })
                .collect();
            return out.json(&Json {
                name: name.clone(),
                parameters: model.parameter_count(),
                multiply_adds: (&multiply_adds).into(),
                constant_bytes: plan.as_ref().map(|plan| plan.constant_bytes),
                arena_bytes: plan.as_ref().map(|plan| plan.arena_bytes),
                saved_bytes: plan.as_ref().map(|plan| plan.saved_bytes),
                repeated_operations: plan.as_ref().map(|plan| plan.repeated_operations),
                layers,
            });
        }
        let mut table = Table::new(&["layer", "operation", "output", ">parameters", ">multiply-adds"]);
        let or_none = |dim: &Dim| if *dim == Dim::Known(0) { "-".to_string() } else { amount(dim) };
        for layer in &layers {
            table.row([
                layer.name.clone(),
                layer.operation.to_string(),
                layer.outputs.join(", "),
                or_none(&layer.parameters),
                or_none(&layer.multiply_adds),
            ]);
        }
        if !name.is_empty() {
            writeln!(out, "{name}\n")?;
        }
        writeln!(out, "{table}")?;
        writeln!(out, "parameters     {}", amount(&parameters))?;
        writeln!(out, "multiply-adds  {}", amount(&multiply_adds))?;
        if let Some(plan) = plan {
            let constants = bytes(plan.constant_bytes);
            writeln!(out, "constants      {constants} as packed and transformed for one batch size")?;
            writeln!(out, "arena          {} for it", bytes(plan.arena_bytes))?;
            if let Some(text) = repeated(&plan.outline().0) {
                writeln!(out, "repeated       {text}")?;
            }
        }
        Ok(())
    }

    /// The plan for one image, or for the sizes that are bound. A network of which there is none at once, because symbols are
    /// open or it is beyond any memory, has none.
    fn plan(&self, model: &Model) -> Result<Option<Plan>, Failure> {
        let mut bindings = self.model.bindings(None)?;
        default_batch(model, &mut bindings);
        let symbols = model.definition().symbols();
        bindings.retain(|name, _| symbols.contains(name));
        if symbols.iter().any(|name| !bindings.contains_key(name)) {
            return Ok(None);
        }
        let bound = model.bind(&bindings)?;
        let elements = |types: &[fusewright::ir::TensorType]| -> f64 {
            let of = |ty: &fusewright::ir::TensorType| {
                ty.dims().unwrap_or_default().iter().map(|&n| n as f64).product::<f64>()
            };
            types.iter().map(of).sum()
        };
        let all: f64 = bound.graph().nodes().map(|(_, node)| elements(&node.types)).sum();
        Ok(if all < MOST_ELEMENTS { plan_of(&bound, &self.planning.put(Options::default()))? } else { None })
    }
}

/// Elements of all values together up to which a plan is made.
const MOST_ELEMENTS: f64 = 1e11;

/// The layers of a graph in order, inputs included, constants and parameters not.
pub fn layers(graph: &Graph) -> Vec<Layer> {
    let mut counted = HashSet::new();
    let mut layers = Vec::new();
    for id in graph.topological() {
        let node = graph.node(id);
        if matches!(node.op, Op::Parameter(_) | Op::Constant(_)) {
            continue;
        }
        let own = node.inputs.iter().filter(|value| matches!(graph.node(value.node).op, Op::Parameter(_)));
        let new: Vec<_> = own.filter(|value| counted.insert(value.node)).collect();
        layers.push(Layer {
            name: node.name.clone(),
            operation: node.op.spec().name(),
            outputs: node.types.iter().map(ToString::to_string).collect(),
            parameters: new.iter().fold(Dim::Known(0), |sum, value| sum + graph.value_type(**value).elements()),
            multiply_adds: multiply_adds(graph, id),
        });
    }
    layers
}

/// Multiplications with addition: of convolutions, dense layers and matrix products. Others are few beside them.
fn multiply_adds(graph: &Graph, id: NodeId) -> Dim {
    let node = graph.node(id);
    let operand = |i: usize| node.inputs.get(i).map(|&value| graph.value_type(value));
    let Some(first) = operand(0) else { return Dim::Known(0) };
    let results = node.types[0].elements();
    // A weight is `[out, in / groups, k...]`; transposed, `[in, out / groups, k...]`.
    let each = |weight: &fusewright::ir::TensorType| {
        weight.shape.iter().skip(1).fold(Dim::Known(1), |product, dim| product * dim.clone())
    };
    match (&node.op, operand(1)) {
        (Op::Conv(_) | Op::Dense(_), Some(weight)) => results * each(weight),
        (Op::ConvTranspose(_), Some(weight)) => first.elements() * each(weight),
        (Op::MatMul(_), Some(_)) => first.shape.last().map_or(Dim::Known(0), |inner| results * inner.clone()),
        _ => Dim::Known(0),
    }
}
