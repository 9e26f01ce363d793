//! Networks that grow layer by layer, each layer evaluated as it is added, so that the next one gets values that it is
//! defined for.

use super::attributes;
use super::network::{Network, SourceKind, Statement, Value, Values, What, read_layer};
use super::random::Random;
use super::stages::{dims_of, guarded};
use fusewright::ir::Array;
use fusewright::ir::kernel::BufferId;
use fusewright::ir::kernel::build::Operand;
use fusewright::ir::ops::{LAYERS, Op, Site, Types};
use fusewright::ir::tensor::{DType, TensorType};
use std::ops::RangeInclusive;

/// What a network may be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether infinities and NaN are among the inputs.
    pub special: bool,
    /// Whether the results are the gradients of the network's results by its inputs and parameters.
    pub gradients: bool,
    /// Whether it is a whole training step.
    pub training: bool,
}

/// The names of all layers.
pub fn kinds() -> Vec<&'static str> {
    LAYERS.iter().flat_map(|kinds| kinds.iter()).map(|kind| kind.name).collect()
}

/// Layers that networks are mostly made of: they come so many times as often as others.
const COMMON: &[(&str, usize)] = &[
    ("Add", 10),
    ("AvgPool2d", 2),
    ("BatchNorm2d", 5),
    ("BatchNorm1d", 2),
    ("Concat", 5),
    ("Conv1d", 5),
    ("Conv2d", 16),
    ("Conv3d", 3),
    ("ConvTranspose2d", 3),
    ("Dense", 12),
    ("Flatten", 6),
    ("Gelu", 3),
    ("LayerNorm", 4),
    ("LogSoftmax", 2),
    ("MatMul", 8),
    ("MaxPool2d", 5),
    ("Mean", 3),
    ("Mul", 6),
    ("Pad", 2),
    ("Permute", 4),
    ("Relu", 10),
    ("Reshape", 5),
    ("Sigmoid", 3),
    ("Silu", 3),
    ("Slice", 3),
    ("Softmax", 4),
    ("Split", 3),
    ("Sub", 3),
    ("Sum", 3),
    ("Transpose", 4),
    ("Where", 2),
];

/// The network of a seed.
pub fn network(seed: u64, style: Style) -> Network {
    let kinds = kinds();
    let mut weighted = kinds.clone();
    for (name, times) in COMMON {
        weighted.extend(std::iter::repeat_n(*name, *times));
    }
    let mut random = Random::named(seed, "network");
    let n_layers = 1 + random.below(8);
    // Every kind has its turn.
    let (forced, turn) = (kinds[seed as usize % kinds.len()], random.below(n_layers));
    let fine = random.chance(60);
    let network = Network { seed, statements: Vec::new(), outputs: Vec::new() };
    let mut grower = Grower { random, network, known: Vec::new(), style, fine, operations: 0, broken: false };
    for layer in 0..n_layers {
        for attempt in 0..40 {
            let name = if layer == turn && attempt < 20 { forced } else { grower.random.pick(&weighted) };
            if grower.broken || grower.add(name).is_some() {
                break;
            }
        }
    }
    grower.finish()
}

/// A value that a layer may take.
#[derive(Clone, Debug)]
pub struct Known {
    pub value: Value,
    pub dtype: DType,
    pub dims: Vec<usize>,
    array: Array,
    least: f64,
    greatest: f64,
    /// Whether machine arithmetic most likely gives the very same numbers: they are short.
    exact: bool,
    /// Whether it may be outside every domain.
    special: bool,
}

/// What a layer needs of a value.
#[derive(Clone, Debug)]
pub struct Want {
    pub dtype: DType,
    pub rank: RangeInclusive<usize>,
    pub low: f64,
    pub high: f64,
    /// For functions that jump.
    pub exact: bool,
    /// For divisors.
    pub off_zero: f64,
}

impl Want {
    /// Any f32 of moderate size.
    pub fn f32(rank: RangeInclusive<usize>) -> Want {
        Want { dtype: DType::F32, rank, low: -100.0, high: 100.0, exact: false, off_zero: 0.0 }
    }

    /// Another element type.
    pub fn of(self, dtype: DType) -> Want {
        if dtype.is_float() { self } else { Want { dtype, low: -1e4, high: 1e4, ..self } }
    }

    /// Values in a range.
    pub fn within(self, low: f64, high: f64) -> Want {
        Want { low, high, ..self }
    }

    /// Values that arithmetic does not round.
    pub fn exact(self) -> Want {
        Want { exact: true, ..self }
    }

    /// Whether a value is what is wanted, whatever its axes.
    pub fn fits_value(&self, known: &Known) -> bool {
        let bounded = known.least >= self.low && known.greatest <= self.high;
        let off_zero = self.off_zero == 0.0 || known.array.data.iter().all(|x| x.abs() >= self.off_zero);
        known.dtype == self.dtype && (known.exact || !self.exact) && (known.special || bounded && off_zero)
    }

    fn fits(&self, known: &Known) -> bool {
        self.fits_value(known) && self.rank.contains(&known.dims.len())
    }
}

/// A network under construction.
pub struct Grower {
    pub random: Random,
    network: Network,
    pub known: Vec<Known>,
    style: Style,
    /// Whether sources have values of all 24 bits.
    fine: bool,
    operations: u64,
    /// Whether a reference has panicked: what there is, is to be looked at.
    broken: bool,
}

/// Elements of one value at most.
const MOST_ELEMENTS: usize = 2500;
/// Scalar operations of a network at most: evaluators are slow.
const MOST_OPERATIONS: u64 = 60_000;
/// Lengths on either side of vectors and tiles.
const EDGES: &[usize] = &[7, 8, 9, 15, 16, 17, 33, 65];

impl Grower {
    /// Adds a layer of this kind on values at random.
    pub fn add(&mut self, name: &str) -> Option<Value> {
        let before = (self.network.statements.len(), self.known.len());
        let added = attributes::layer(self, name).and_then(|(text, from)| self.layer(&text, &from));
        if added.is_none() && !self.broken {
            // Sources made for it have no other use.
            self.network.statements.truncate(before.0);
            self.known.truncate(before.1);
        }
        added
    }

    /// Adds a layer by its text; `None` where it does not take these inputs, or its values are of no use.
    pub fn layer(&mut self, text: &str, from: &[Value]) -> Option<Value> {
        let op = read_layer(text)?;
        let operands: Vec<&Known> = from.iter().map(|value| self.look_up(*value)).collect();
        let mut types: Vec<TensorType> =
            operands.iter().map(|known| TensorType::new(known.dtype, known.dims.iter().copied())).collect();
        let mut arrays: Vec<Array> = operands.iter().map(|known| known.array.clone()).collect();
        op.check_arity(from.len()).ok()?;
        let parameters = op.spec().parameters(&types.iter().collect::<Vec<_>>()).ok()?;
        let name = format!("{}{}", op.spec().name().to_lowercase(), self.network.statements.len());
        for parameter in parameters {
            let values = Values::of_parameter(parameter.field, self.fine);
            let tensor = values.tensor(&parameter.ty, self.network.seed, &format!("{name}.{}", parameter.field));
            arrays.push(tensor.to_array());
            types.push(parameter.ty);
        }
        let results = op.check(&types.iter().collect::<Vec<_>>()).ok()?;
        let elements: usize = results.iter().map(|ty| dims_of(ty).iter().product::<usize>()).max()?;
        if elements == 0 || elements > MOST_ELEMENTS || results.len() > 6 {
            return None;
        }
        let operations = cost(&op, &types, &results);
        if self.operations + operations > MOST_OPERATIONS {
            return None;
        }
        let outputs = guarded("reference", || Ok(op.spec().reference(&arrays.iter().collect::<Vec<_>>(), &results)));
        let moderate = |array: &Array| array.data.iter().all(|x| x.abs() <= 1e4);
        match &outputs {
            Ok(outputs) if !self.style.special && !outputs.iter().all(moderate) => return None,
            Ok(_) => {}
            Err(_) => self.broken = true,
        }
        self.operations += operations;
        self.network
            .statements
            .push(Statement { name, what: What::Layer { op, from: from.to_vec(), fine: self.fine } });
        let statement = self.network.statements.len() - 1;
        for (port, (array, ty)) in outputs.unwrap_or_default().into_iter().zip(&results).enumerate() {
            self.know(Value { statement, port }, ty.dtype, array);
        }
        Some(Value { statement, port: 0 })
    }

    fn know(&mut self, value: Value, dtype: DType, array: Array) {
        let (least, greatest) =
            array.data.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
        let short = |x: &f64| x.abs() < 1024.0 && (x * 4096.0).fract() == 0.0;
        let exact = !dtype.is_float() || self.style.special || array.data.iter().all(short);
        let special = self.style.special && dtype.is_float();
        self.known.push(Known { value, dtype, dims: array.dims.clone(), array, least, greatest, exact, special });
    }

    /// What is known of a value.
    pub fn look_up(&self, value: Value) -> &Known {
        self.known.iter().find(|known| known.value == value).expect("every value is known")
    }

    /// The lengths of a value's axes.
    pub fn dims(&self, value: Value) -> Vec<usize> {
        self.look_up(value).dims.clone()
    }

    /// A value for a layer: mostly one that is there, a late one rather than an early one; else a new source.
    pub fn operand(&mut self, want: &Want) -> Value {
        if self.random.chance(92)
            && let Some(value) = self.find(|known| want.fits(known))
        {
            return value;
        }
        if self.random.chance(50)
            && let Some(value) = self.find(|known| want.fits_value(known))
            && let Some(value) = self.reshaped(value, *want.rank.end())
        {
            return value;
        }
        let rank = self.random.between(*want.rank.start() as i64, *want.rank.end() as i64) as usize;
        let dims = self.some_dims(rank);
        self.source_for(want, dims)
    }

    /// A new source of values that a layer can take.
    pub fn source_for(&mut self, want: &Want, dims: Vec<usize>) -> Value {
        let mut values = Values::of(want.dtype, self.fine && !want.exact);
        let positive = want.off_zero > 0.0;
        let (low, high) = (if positive { want.off_zero } else { want.low }, want.high);
        if values.low < low || values.high > high || positive {
            let low = values.low.max(low);
            let high = values.high.min(high).max(low + values.step);
            values = match values.step {
                step if step >= 1.0 / 64.0 => Values::new((low / step).ceil() * step, high, step),
                _ => Values::fine(low, high),
            };
        }
        values.special = self.style.special && want.dtype.is_float();
        self.source(want.dtype, dims, values)
    }

    /// A new source.
    pub fn source(&mut self, dtype: DType, dims: Vec<usize>, values: Values) -> Value {
        let kind = match self.random.below(10) {
            0..=5 => SourceKind::Input,
            6 | 7 => SourceKind::Parameter,
            _ => SourceKind::Constant,
        };
        let name = format!("x{}", self.network.statements.len());
        let ty = TensorType::new(dtype, dims);
        let array = values.tensor(&ty, self.network.seed, &name).to_array();
        self.network.statements.push(Statement { name, what: What::Source { kind, ty, values } });
        let value = Value { statement: self.network.statements.len() - 1, port: 0 };
        self.know(value, dtype, array);
        value
    }

    /// One of the values that fit.
    pub fn find(&mut self, fits: impl Fn(&Known) -> bool) -> Option<Value> {
        let all: Vec<Value> = self.known.iter().filter(|known| fits(known)).map(|known| known.value).collect();
        if all.is_empty() {
            return None;
        }
        let late = if self.random.chance(65) { all.len().saturating_sub(2) } else { 0 };
        Some(self.random.pick(&all[late..]))
    }

    /// The elements of a value under a shape of this rank.
    fn reshaped(&mut self, value: Value, rank: usize) -> Option<Value> {
        let mut left: usize = self.dims(value).iter().product();
        let mut shape = Vec::new();
        for _ in 1..rank.max(1) {
            let divisors: Vec<usize> = (1..=left.min(20)).filter(|n| left.is_multiple_of(*n)).collect();
            let length = self.random.pick(&divisors);
            shape.push(length.to_string());
            left /= length;
        }
        shape.push(left.to_string());
        self.random.shuffle(&mut shape);
        if rank == 0 { None } else { self.layer(&format!("Reshape(shape: [{}])", shape.join(", ")), &[value]) }
    }

    /// Lengths of axes, one of them at the edge of a vector or tile.
    pub fn some_dims(&mut self, rank: usize) -> Vec<usize> {
        loop {
            let mut dims: Vec<usize> = (0..rank).map(|_| self.random.pick(&[1, 1, 2, 2, 3, 4, 5, 6])).collect();
            if rank > 0 && self.random.chance(80) {
                let axis = self.random.below(rank);
                dims[axis] = self.random.pick(EDGES);
            }
            if rank > 2 && self.random.chance(30) {
                dims[1] = self.random.pick(EDGES);
            }
            if dims.iter().product::<usize>() <= 1200 {
                return dims;
            }
        }
    }

    /// The network: what nothing uses is a result, and a few other values, even inputs and the same twice.
    fn finish(mut self) -> Network {
        let mut used = vec![false; self.network.statements.len()];
        for statement in &self.network.statements {
            if let What::Layer { from, .. } = &statement.what {
                from.iter().for_each(|value| used[value.statement] = true);
            }
        }
        let is_layer = |i: usize| matches!(self.network.statements[i].what, What::Layer { .. });
        let mut outputs: Vec<Value> = Vec::new();
        for statement in (0..used.len()).filter(|&i| !used[i] && is_layer(i)) {
            let ports: Vec<Value> =
                self.known.iter().map(|known| known.value).filter(|value| value.statement == statement).collect();
            match ports.as_slice() {
                [] => outputs.push(Value { statement, port: 0 }),
                _ => outputs.extend(ports.iter().filter(|_| ports.len() == 1 || self.random.chance(70))),
            }
        }
        while outputs.is_empty() || self.random.chance(20) {
            if self.known.is_empty() {
                let want = Want::f32(0..=3);
                self.operand(&want);
            }
            outputs.push(self.random.pick(&self.known).value);
        }
        self.random.shuffle(&mut outputs);
        self.network.outputs = outputs;
        self.network
    }
}

/// Scalar operations of the layer's kernels.
fn cost(op: &Op, operands: &[TensorType], results: &Types) -> u64 {
    let mut next = 0;
    let mut buffer = |ty: &TensorType| {
        next += 1;
        Operand { buffer: BufferId(next - 1), dtype: ty.dtype, dims: dims_of(ty) }
    };
    let (inputs, outputs) = (operands.iter().map(&mut buffer).collect(), results.iter().map(&mut buffer).collect());
    let mut site = Site::new(inputs, outputs, BufferId(next));
    // What panics here is found by the stage.
    let kernels = guarded("lower", || Ok(op.spec().lower(&mut site))).unwrap_or_default();
    let loads = results.iter().map(|ty| dims_of(ty).iter().product::<usize>() as u64).sum::<u64>();
    loads + kernels.iter().map(|kernel| kernel.operations()).sum::<u64>()
}
