//! Runs graphs of training steps in the evaluator.

use fusewright_ir::Graph;
use fusewright_ir::evaluate::evaluate;
use fusewright_ir::ops::{Initializer, Op, layer_kind};
use fusewright_ir::tensor::Array;
use fusewright_ir::text::parse;
use std::collections::BTreeMap;

/// A graph with the values of its inputs and its state.
pub struct Trainer {
    graph: Graph,
    given: BTreeMap<String, Array>,
}

impl Trainer {
    /// Inputs and state are zero, but for state that starts as a constant.
    pub fn new(graph: Graph) -> Trainer {
        let mut given = BTreeMap::new();
        for (_, node) in graph.nodes() {
            if let Op::Input(_) | Op::Parameter(_) = &node.op {
                let start = match &node.op {
                    Op::Parameter(parameter) => constant(parameter.init),
                    _ => 0.0,
                };
                let dims = node.types[0].dims().unwrap();
                given.insert(node.name.clone(), Array::from_fn(&dims, |_| start));
            }
        }
        Trainer { graph, given }
    }

    /// Gives an input or a state its elements.
    pub fn set(&mut self, name: &str, data: Vec<f64>) {
        let array = self.given.get_mut(name).unwrap_or_else(|| panic!("the graph has `{name}`"));
        assert_eq!(array.data.len(), data.len(), "`{name}` is of this size");
        array.data = data;
    }

    /// The elements of an input or a state.
    pub fn value(&self, name: &str) -> Array {
        self.given.get(name).unwrap_or_else(|| panic!("the graph has `{name}`")).clone()
    }

    /// Takes all that another graph has, too.
    pub fn take(&mut self, other: &Trainer) {
        for (name, value) in &mut self.given {
            *value = other.value(name);
        }
    }

    /// All that a run may update.
    pub fn state(&self) -> BTreeMap<String, Array> {
        let updates = self.graph.outputs.iter().filter(|output| output.is_update);
        updates.map(|output| (output.name.clone(), self.value(&output.name))).collect()
    }

    /// Runs the graph once: gives its results, and takes its updates.
    pub fn step(&mut self) -> BTreeMap<String, Array> {
        let mut results = BTreeMap::new();
        let values = evaluate(&self.graph, &self.given);
        for (output, (name, value)) in self.graph.outputs.iter().zip(values) {
            let into = if output.is_update { &mut self.given } else { &mut results };
            into.insert(name, value);
        }
        results
    }
}

fn constant(init: Initializer) -> f64 {
    match init {
        Initializer::Ones => 1.0,
        Initializer::Constant(value) => value.0,
        _ => 0.0,
    }
}

/// A layer as a model file writes it.
pub fn layer(text: &str) -> Op {
    let (name, fields) = text.split_at(text.find('(').unwrap_or(text.len()));
    let fields = parse(if fields.is_empty() { "()" } else { fields }).unwrap();
    (layer_kind(name).unwrap().read)(&fields).unwrap()
}

/// `n` numbers: sin(a i + b).
pub fn wave(n: usize, a: f64, b: f64) -> Vec<f64> {
    (0..n).map(|i| (a * i as f64 + b).sin()).collect()
}

/// Holds numbers to those of PyTorch, within a part of their size, or of those of sums that cancel within `absolute`.
pub fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64, absolute: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (x, y)) in found.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= tolerance * y.abs() + absolute, "{what}: element {i} is {x}, PyTorch has {y}");
    }
}
