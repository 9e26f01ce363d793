//! Symbolic gradients against finite differences, for `fusewright check --gradients`.

use super::arguments::default_batch;
use super::output::Failure;
use fusewright::ir::evaluate::{evaluate, evaluate_with};
use fusewright::ir::ops::{Initializer, Map, Op, Parameter, Real, Reduce, Reduction};
use fusewright::ir::{Array, Bindings, Diagnostic, Graph, GraphBuilder, Output, TensorType, ValueId};
use fusewright::passes::differentiate::{differentiate, sources};
use fusewright::{Model, Tensor, initialize};
use std::collections::BTreeMap;

/// What was found of one input or parameter.
pub struct Row {
    pub name: String,
    pub ty: TensorType,
    /// The number of elements compared.
    pub compared: usize,
    /// The greatest size of an element of the gradient.
    pub greatest: f64,
    /// The greatest distance of an element compared from its difference.
    pub distance: f64,
}

impl Row {
    /// Whether the distance is that of two ways to compute the same: constants of gradients are f32, differences lose
    /// half of the digits.
    pub fn agrees(&self) -> bool {
        self.distance <= 1e-5 * self.greatest + 1e-7
    }
}

/// The step of differences: values are of the size of 1.
const STEP: f64 = 1e-6;

/// The gradients, by every input and parameter, of the sum of all outputs' elements, each times a number; compared with
/// differences of the reference evaluator at `samples` elements of each. Inputs are drawn from the seed of the model:
/// floats are normal, whole numbers 0 or 1.
pub fn compare(model: &Model, mut bindings: Bindings, samples: usize) -> Result<Vec<Row>, Failure> {
    default_batch(model, &mut bindings);
    let bound = model.bind(&bindings)?;
    let seed = bound.definition().seed;
    let weights = model.weights()?;
    let mut given = BTreeMap::new();
    for (_, node) in bound.graph().nodes() {
        let tensor = match &node.op {
            Op::Input(_) => drawn(&node.types[0], &node.name, seed),
            Op::Parameter(parameter) => match weights.get(&node.name)? {
                Some(tensor) => tensor.into_owned(),
                None => initialize(parameter, &node.types[0].dims().unwrap_or_default(), &node.name, seed),
            },
            _ => continue,
        };
        given.insert(node.name.clone(), tensor.to_array());
    }
    let Some((graph, total)) = weighted(bound.graph().clone(), &mut given, seed) else { return Ok(Vec::new()) };
    check_defined(&bound, &graph, &given)?;
    let by = sources(&graph, total).into_iter().filter(|source| bound.graph().find(&name(&graph, *source)).is_some());
    let by: Vec<ValueId> = by.collect();
    let plain = graph.clone();
    let (mut graph, gradients) =
        differentiate(graph, total, None, &by).map_err(|faults| model_fault(&bound, faults))?;
    graph.outputs = gradients
        .iter()
        .enumerate()
        .map(|(i, &value)| Output { name: i.to_string(), value, is_update: false })
        .collect();
    let results = evaluate(&graph, &given);
    let row = |(source, (_, gradient)): (&ValueId, (String, Array))| {
        let (name, ty) = (name(&plain, *source), plain.value_type(*source).clone());
        let greatest = gradient.data.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let n = gradient.data.len();
        let compared = samples.min(n);
        // Evenly spread, the first and the last among them.
        let places = (0..compared).map(|i| if compared == 1 { 0 } else { i * (n - 1) / (compared - 1) });
        let distances: Vec<f64> =
            places.map(|place| (gradient.data[place] - difference(&plain, &mut given, &name, place)).abs()).collect();
        let distance = distances.into_iter().fold(0.0, |most: f64, x| if x.is_nan() { x } else { most.max(x) });
        Row { name, ty, compared, greatest, distance }
    };
    Ok(by.iter().zip(results).map(row).collect())
}

/// Where the numbers that were drawn are outside of what a layer is defined for, such as below 0 under a square root, there is
/// no difference to compare with.
fn check_defined(model: &Model, graph: &Graph, given: &BTreeMap<String, Array>) -> Result<(), Failure> {
    let is_finite = |array: &Array| array.data.iter().all(|x| x.is_finite());
    let mut first = None;
    let results = evaluate_with(graph, given, |id, values| {
        if first.is_none() && !values.iter().all(|array| is_finite(array)) {
            first = Some(id);
        }
    });
    let Some(first) = first.filter(|_| !results.iter().all(|(_, array)| is_finite(array))) else { return Ok(()) };
    let node = graph.node(first);
    let fault = Diagnostic::new(format!("`{}` is not defined for the numbers that were drawn", node.name));
    let fault = fault.at(node.span.clone()).expected("finite numbers, to compare gradients by their differences");
    Err(model_fault(model, fault.help("put a layer before it that keeps them in its range").into()))
}

fn name(graph: &Graph, value: ValueId) -> String {
    graph.value_name(value)
}

fn model_fault(model: &Model, faults: fusewright::ir::Diagnostics) -> Failure {
    fusewright::Error::in_model(model.definition(), faults).into()
}

/// The sum of all float outputs' elements, each times a number that is given, as the graph's only result; `None` where
/// there are none.
fn weighted(graph: Graph, given: &mut BTreeMap<String, Array>, seed: u64) -> Option<(Graph, ValueId)> {
    let outputs = graph.outputs.clone();
    let mut build = GraphBuilder::on(graph);
    let map = |name: &str| Op::Map(Map::named(name).expect("a row of the table"));
    let mut total: Option<ValueId> = None;
    for output in outputs {
        let ty = build.graph().value_type(output.value).clone();
        if ty.dtype.is_float() {
            let name = build.unique_name(&format!("{}.weight", output.name));
            let weight = build.input(&name, ty.clone());
            given.insert(name.clone(), drawn(&ty, &name, seed).to_array());
            let product = build.node("product", map("Mul"), &[output.value, weight]);
            let sum = build.node("sum", Reduce::over(Reduction::Sum, [], false).into(), &[product]);
            total = Some(total.map_or(sum, |total| build.node("total", map("Add"), &[total, sum])));
        }
    }
    let mut graph = build.finish();
    graph.outputs = vec![Output { name: "total".to_string(), value: total?, is_update: false }];
    Some((graph, total?))
}

/// How much the graph's result moves with one element.
fn difference(graph: &Graph, given: &mut BTreeMap<String, Array>, name: &str, place: usize) -> f64 {
    let mut moved = |by: f64| {
        let array = given.get_mut(name).expect("every source has values");
        let value = array.data[place];
        array.data[place] = value + by;
        let result = evaluate(graph, given)[0].1.data[0];
        given.get_mut(name).expect("every source has values").data[place] = value;
        result
    };
    (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
}

/// Values for an input.
fn drawn(ty: &TensorType, name: &str, seed: u64) -> Tensor {
    let init = match ty.dtype.is_float() {
        true => Initializer::Normal { mean: Real(0.0), std: Real(1.0) },
        false => Initializer::Uniform { low: Real(0.0), high: Real(2.0) },
    };
    let parameter = Parameter { ty: ty.clone(), init, trainable: false, is_state: false };
    initialize(&parameter, &ty.dims().expect("verified: all symbols are bound"), name, seed)
}
