//! A network as a list of statements: easy to grow, to shrink and to print.

use super::random::Random;
use fusewright::ir::graph::Graph;
use fusewright::ir::ops::{Initializer, Op, layer_kind};
use fusewright::ir::tensor::{DType, Tensor, TensorType};
use fusewright::ir::text::parse;
use fusewright::ir::{Array, Data, GraphBuilder, Model, ValueId};
use std::collections::BTreeMap;

/// One output of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    pub statement: usize,
    pub port: usize,
}

/// Statements in an order in which they can be computed, and what the network gives.
#[derive(Clone, Debug)]
pub struct Network {
    /// The seed of all values.
    pub seed: u64,
    pub statements: Vec<Statement>,
    pub outputs: Vec<Value>,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub name: String,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Source { kind: SourceKind, ty: TensorType, values: Values },
    Layer { op: Op, from: Vec<Value>, fine: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    Input,
    Parameter,
    Constant,
}

/// Which values a source may have: `low`, `low + step` and so on, below `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    pub low: f64,
    pub high: f64,
    pub step: f64,
    /// Whether infinities, NaN, -0 and denormal numbers are among them.
    pub special: bool,
}

impl Values {
    /// Multiples of `step` from `low` to below `high`.
    pub fn new(low: f64, high: f64, step: f64) -> Values {
        Values { low, high, step, special: false }
    }

    /// Any f32 in a range.
    pub fn fine(low: f64, high: f64) -> Values {
        Values::new(low, high, (high - low) / f64::from(1 << 24))
    }

    /// The usual ones of an element type.
    pub fn of(dtype: DType, fine: bool) -> Values {
        match dtype {
            DType::Bool => Values::new(0.0, 2.0, 1.0),
            DType::U8 => Values::new(0.0, 256.0, 1.0),
            DType::U32 => Values::new(0.0, 100.0, 1.0),
            DType::I64 | DType::I32 => Values::new(-9.0, 10.0, 1.0),
            DType::F32 | DType::F64 if fine => Values::fine(-2.0, 2.0),
            DType::F32 | DType::F64 => Values::new(-2.0, 2.0, 1.0 / 64.0),
        }
    }

    /// Those of a parameter that a layer owns.
    pub fn of_parameter(field: &str, fine: bool) -> Values {
        let (low, high) = if field.contains("var") { (0.25, 2.0) } else { (-1.0, 1.0) };
        if fine { Values::fine(low, high) } else { Values::new(low, high, 1.0 / 16.0) }
    }

    /// A tensor of such values, the same for every call with the same seed and name.
    pub fn tensor(&self, ty: &TensorType, seed: u64, name: &str) -> Tensor {
        let mut random = Random::named(seed, name);
        let steps = (((self.high - self.low) / self.step).ceil() as usize).max(1);
        let mut number = || {
            if self.special && random.chance(12) {
                return random.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e-40, -1e30, 3e38]);
            }
            self.low + random.below(steps) as f64 * self.step
        };
        let dims = ty.dims().expect("networks are concrete");
        let numbers: Vec<f64> = (0..dims.iter().product()).map(|_| number()).collect();
        Tensor::new(&dims, Data::from_f64(ty.dtype, &numbers))
    }
}

/// What a network is when it is built.
#[derive(Clone, Debug)]
pub struct Built {
    pub graph: Graph,
    /// Inputs and parameters by name.
    pub given: BTreeMap<String, Tensor>,
}

impl Built {
    /// What the reference evaluators take.
    pub fn arrays(&self) -> BTreeMap<String, Array> {
        self.given.iter().map(|(name, tensor)| (name.clone(), tensor.to_array())).collect()
    }

    /// The graph as a model file.
    pub fn ron(&self) -> String {
        Model { graph: self.graph.clone(), ..Model::default() }.to_ron()
    }
}

/// A layer from its text: `Conv2d(out: 3, kernel_size: 3)`; `None` where the attributes are not allowed.
pub fn read_layer(text: &str) -> Option<Op> {
    let (name, fields) = text.split_at(text.find('(').unwrap_or(text.len()));
    let kind = layer_kind(name).unwrap_or_else(|| panic!("no layer is called {name}"));
    let value = parse(if fields.is_empty() { "()" } else { fields }).unwrap_or_else(|e| panic!("{text}: {}", e.title));
    (kind.read)(&value).ok()
}

impl Network {
    /// The graph with the values of its sources; `None` where some layer does not take its inputs.
    pub fn build(&self) -> Option<Built> {
        let mut build = GraphBuilder::new();
        let mut given = BTreeMap::new();
        let mut nodes: Vec<Option<ValueId>> = Vec::new();
        for Statement { name, what } in &self.statements {
            let node = match what {
                What::Source { kind, ty, values } => {
                    let tensor = values.tensor(ty, self.seed, name);
                    let value = match kind {
                        SourceKind::Input => build.input(name, ty.clone()),
                        SourceKind::Parameter => build.parameter(name, ty.clone(), Initializer::Zeros),
                        SourceKind::Constant => build.constant(name, tensor.clone()),
                    };
                    if *kind != SourceKind::Constant {
                        given.insert(name.clone(), tensor);
                    }
                    value
                }
                What::Layer { op, from, fine } => {
                    let inputs: Option<Vec<ValueId>> = from
                        .iter()
                        .map(|value| Some(ValueId { port: value.port as u32, ..nodes[value.statement]? }))
                        .collect();
                    let inputs = inputs?;
                    if inputs.iter().any(|value| value.port as usize >= build.graph().node(value.node).types.len()) {
                        return None;
                    }
                    let id = build.try_layer(name, op.clone(), &inputs).ok()?;
                    let node = build.graph().node(id);
                    for &operand in &node.inputs[inputs.len()..] {
                        let parameter = build.graph().node(operand.node);
                        let field = parameter.name.rsplit('.').next().unwrap_or_default();
                        let values = Values::of_parameter(field, *fine);
                        given.insert(
                            parameter.name.clone(),
                            values.tensor(&parameter.types[0], self.seed, &parameter.name),
                        );
                    }
                    id.into()
                }
            };
            nodes.push(Some(node));
        }
        for (i, output) in self.outputs.iter().enumerate() {
            let node = nodes[output.statement]?;
            if output.port >= build.graph().node(node.node).types.len() {
                return None;
            }
            build.output(&format!("y{i}"), ValueId { port: output.port as u32, ..node });
        }
        Some(Built { graph: build.finish(), given })
    }

    /// The same without what no output needs.
    pub fn pruned(&self) -> Network {
        let mut needed = vec![false; self.statements.len()];
        self.outputs.iter().for_each(|output| needed[output.statement] = true);
        for (i, statement) in self.statements.iter().enumerate().rev() {
            if let (true, What::Layer { from, .. }) = (needed[i], &statement.what) {
                from.iter().for_each(|value| needed[value.statement] = true);
            }
        }
        let mut places = vec![0; self.statements.len()];
        let mut statements = Vec::new();
        for (i, statement) in self.statements.iter().enumerate().filter(|(i, _)| needed[*i]) {
            places[i] = statements.len();
            let mut statement = statement.clone();
            if let What::Layer { from, .. } = &mut statement.what {
                from.iter_mut().for_each(|value| value.statement = places[value.statement]);
            }
            statements.push(statement);
        }
        let outputs = self.outputs.iter().map(|value| Value { statement: places[value.statement], ..*value }).collect();
        Network { seed: self.seed, statements, outputs }
    }
}
