//! Elementwise operations: each is one row of a table, and a row is its scalar formula.
//!
//! Operands of different shapes are broadcast as in PyTorch: aligned at the last axis, an axis of length 1 stands for
//! any length.

use super::*;
use crate::Dim;
use crate::kernel::build::Operand;
use crate::kernel::{BinaryOp, CompareOp, Index, KernelBuilder, ScalarId, UnaryOp};

/// An elementwise function of one, two or three tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The row of [`FUNCTIONS`].
    pub function: &'static Function,
    /// The values of the function's attributes, in the row's order.
    pub attributes: SmallVec<[Real; 2]>,
}

/// One row: a function by its formula.
#[derive(Debug)]
pub struct Function {
    /// The name in a model file.
    pub name: &'static str,
    /// Attributes and their defaults, PyTorch's.
    pub attributes: &'static [(&'static str, f64)],
    /// The number of operands.
    pub arity: usize,
    /// The element types it takes and gives.
    pub types: Signature,
    /// The formula: operands, attributes.
    pub formula: fn(&mut KernelBuilder, &[ScalarId], &[f64]) -> ScalarId,
    /// The same in f64, written apart from the formula.
    pub reference: fn(&[f64], &[f64]) -> f64,
}

/// The element types that a function takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Floats to floats.
    Float,
    /// Any one numeric type to itself.
    Number,
    /// Any one type to truth values.
    Compare,
    /// Truth values to truth values.
    Logic,
    /// A truth value, and two of one type, to that type.
    Select,
}

impl PartialEq for Function {
    /// Names are unique in the table.
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
    }
}

impl Map {
    /// The function of this name with its default attributes; `None` where there is none.
    pub fn named(name: &str) -> Option<Map> {
        let function = FUNCTIONS.iter().find(|function| function.name == name)?;
        Some(Map { function, attributes: function.attributes.iter().map(|(_, value)| Real(*value)).collect() })
    }

    fn values(&self) -> SmallVec<[f64; 2]> {
        self.attributes.iter().map(|real| real.0).collect()
    }
}

/// A unary function that is a scalar of the kernel IR.
macro_rules! primitive {
    ($name:literal, $op:ident, $types:ident, $reference:expr) => {
        Function {
            name: $name,
            attributes: &[],
            arity: 1,
            types: Signature::$types,
            formula: |k, x, _| k.unary(UnaryOp::$op, x[0]),
            reference: |x, _| ($reference)(x[0]),
        }
    };
}

/// A binary function that is a scalar of the kernel IR.
macro_rules! binary {
    ($name:literal, $op:ident, $types:ident, $reference:expr) => {
        Function {
            name: $name,
            attributes: &[],
            arity: 2,
            types: Signature::$types,
            formula: |k, x, _| k.binary(BinaryOp::$op, x[0], x[1]),
            reference: |x, _| ($reference)(x[0], x[1]),
        }
    };
}

macro_rules! compare {
    ($name:literal, $op:ident, $reference:expr) => {
        Function {
            name: $name,
            attributes: &[],
            arity: 2,
            types: Signature::Compare,
            formula: |k, x, _| k.compare(CompareOp::$op, x[0], x[1]),
            reference: |x, _| f64::from(u8::from(($reference)(&x[0], &x[1]))),
        }
    };
}

/// All elementwise functions.
pub static FUNCTIONS: &[Function] = &[
    Function {
        name: "Identity",
        attributes: &[],
        arity: 1,
        types: Signature::Number,
        formula: |_, x, _| x[0],
        reference: |x, _| x[0],
    },
    Function {
        name: "Relu",
        attributes: &[],
        arity: 1,
        types: Signature::Number,
        formula: |k, x, _| {
            let zero = zero_of(k, x[0]);
            k.max(x[0], zero)
        },
        reference: |x, _| if x[0] < 0.0 { 0.0 } else { x[0] },
    },
    Function {
        name: "Gelu",
        attributes: &[],
        arity: 1,
        types: Signature::Float,
        formula: |k, x, _| {
            let below = k.unary(UnaryOp::NormalCdf, x[0]);
            k.mul(x[0], below)
        },
        reference: |x, _| x[0] * 0.5 * erfc(-x[0] / std::f64::consts::SQRT_2),
    },
    primitive!("Sigmoid", Sigmoid, Float, |x: f64| 1.0 / (1.0 + (-x).exp())),
    primitive!("Tanh", Tanh, Float, f64::tanh),
    primitive!("Exp", Exp, Float, f64::exp),
    primitive!("Log", Log, Float, f64::ln),
    primitive!("Sqrt", Sqrt, Float, f64::sqrt),
    primitive!("Abs", Abs, Number, f64::abs),
    primitive!("Neg", Neg, Number, |x: f64| -x),
    binary!("Add", Add, Number, |a, b| a + b),
    binary!("Sub", Sub, Number, |a, b| a - b),
    binary!("Mul", Mul, Number, |a, b| a * b),
    binary!("Div", Div, Float, |a, b| a / b),
    binary!("Max", Max, Number, maximum),
    binary!("Min", Min, Number, |a: f64, b: f64| -maximum(-a, -b)),
    compare!("Less", Lt, f64::lt),
    Function {
        name: "Where",
        attributes: &[],
        arity: 3,
        types: Signature::Select,
        formula: |k, x, _| k.select(x[0], x[1], x[2]),
        reference: |x, _| if x[0] != 0.0 { x[1] } else { x[2] },
    },
];

/// A layer kind for each row: written once a row because constants cannot loop; a test holds the two lists together.
macro_rules! layers {
    ($($name:literal: $about:literal),* $(,)?) => {
        /// The layers of this file.
        pub const LAYERS: &[LayerKind] =
            &[$(LayerKind { name: $name, about: $about, read: |fields| read($name, fields) }),*];
    };
}

layers! {
    "Identity": "x",
    "Relu": "max(x, 0)",
    "Gelu": "x * Phi(x), with the error function",
    "Sigmoid": "1 / (1 + e^-x)",
    "Tanh": "hyperbolic tangent",
    "Exp": "e^x",
    "Log": "natural logarithm",
    "Sqrt": "square root",
    "Abs": "|x|",
    "Neg": "-x",
    "Add": "a + b",
    "Sub": "a - b",
    "Mul": "a * b",
    "Div": "a / b",
    "Max": "the greater of a and b",
    "Min": "the lesser of a and b",
    "Less": "a < b",
    "Where": "b where a holds, else c",
}

fn read(name: &str, fields: &Value) -> Result<Op, FieldError> {
    let mut map = Map::named(name).expect("every layer of this file has its row");
    let names: Vec<&'static str> = map.function.attributes.iter().map(|(name, _)| *name).collect();
    for (i, value) in crate::text::read_numbers(fields, &names)?.into_iter().enumerate() {
        if let Some(value) = value {
            map.attributes[i] = value;
        }
    }
    Ok(Op::Map(map))
}

fn zero_of(k: &mut KernelBuilder, like: ScalarId) -> ScalarId {
    let dtype = k.dtype(like);
    k.literal(crate::kernel::Literal::of(dtype, 0.0))
}

/// The greater, NaN if either is.
pub(super) fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The complementary error function in f64: the series of erf near 0, and the continued fraction of Laplace beyond
/// (Abramowitz and Stegun 7.1.5 and 7.1.14), to about 1e-15.
pub fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x.is_nan() || x > 27.5 {
        return if x.is_nan() { x } else { 0.0 };
    }
    if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            let next = sum + term / f64::from(2 * n + 1);
            if next == sum {
                break;
            }
            sum = next;
        }
        return 1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..120).rev().fold(0.0, |below, n| f64::from(n) / 2.0 / (x + below));
    (-x * x).exp() / (x + fraction) * std::f64::consts::FRAC_2_SQRT_PI / 2.0
}

/// The shape that operands broadcast to.
///
/// # Errors
/// Where two axes differ and neither is 1.
pub fn broadcast(shapes: &[&TensorType]) -> Result<Vec<Dim>, Mismatch> {
    let rank = shapes.iter().map(|ty| ty.rank()).max().unwrap_or(0);
    let mut dims = vec![Dim::Known(1); rank];
    for ty in shapes {
        for (dim, other) in dims.iter_mut().rev().zip(ty.shape.iter().rev()) {
            if *dim == Dim::Known(1) {
                *dim = other.clone();
            } else if *other != Dim::Known(1) && dim != other {
                if !dim.may_equal(other) || matches!((&*dim, other), (Dim::Symbolic(_), Dim::Symbolic(_))) {
                    let found: Vec<String> = shapes.iter().map(ToString::to_string).collect();
                    return Err(Mismatch::new(
                        "shapes that agree from the last axis backwards (1 stands for any length)",
                        found.join(" and "),
                        "reshape or transpose one of them",
                    ));
                }
                if other.known().is_some() {
                    *dim = other.clone();
                }
            }
        }
    }
    Ok(dims)
}

/// The indices that read `operand` at the point `axes` of a space it broadcasts to.
pub fn broadcast_at(operand: &Operand, axes: &[crate::kernel::Axis]) -> Vec<Index> {
    let skipped = axes.len() - operand.dims.len();
    let along = operand.dims.iter().zip(&axes[skipped..]);
    along.map(|(&n, &axis)| if n == 1 { Index::from(0) } else { axis.into() }).collect()
}

impl OpSpec for Map {
    fn name(&self) -> &'static str {
        self.function.name
    }

    fn fields(&self) -> String {
        let pairs = self.function.attributes.iter().zip(&self.attributes);
        let given: Vec<String> = pairs
            .filter(|((_, default), value)| Real(*default) != **value)
            .map(|((name, _), value)| format!("{name}:{}", crate::text::fields(value)))
            .collect();
        format!("({})", given.join(","))
    }

    fn arity(&self) -> Arity {
        Arity::exactly(self.function.arity)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let shape = broadcast(inputs)?;
        let last = inputs[inputs.len() - 1].dtype;
        let types: Vec<String> = inputs.iter().map(|ty| ty.dtype.to_string()).collect();
        let wrong = |expected: &str| Err(Mismatch::new(expected, types.join(", "), "put a Cast layer in front"));
        let values = if self.function.types == Signature::Select { &inputs[1..] } else { inputs };
        if values.iter().any(|ty| ty.dtype != last) {
            return wrong("operands of one element type");
        }
        let dtype = match self.function.types {
            Signature::Float if last != DType::F32 => return wrong("f32 operands"),
            Signature::Number if last == DType::Bool => return wrong("operands of a numeric type"),
            Signature::Logic if last != DType::Bool => return wrong("bool operands"),
            Signature::Select if inputs[0].dtype != DType::Bool => {
                return wrong("a bool condition");
            }
            Signature::Compare => DType::Bool,
            _ => last,
        };
        Ok([TensorType::new(dtype, shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let out = &site.outputs[0];
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let operands: Vec<ScalarId> =
            site.inputs.iter().map(|input| k.load(input, broadcast_at(input, &axes))).collect();
        let value = (self.function.formula)(&mut k, &operands, &self.values());
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let attributes = self.values();
        let output = Array::from_fn(&dims, |at| {
            let operands: SmallVec<[f64; 3]> = inputs
                .iter()
                .map(|input| {
                    let own = &at[dims.len() - input.dims.len()..];
                    let own: SmallVec<[usize; 8]> =
                        own.iter().zip(&input.dims).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
                    input.at(&own)
                })
                .collect();
            (self.function.reference)(&operands, &attributes)
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_layer() {
        let rows: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
        let layers: Vec<_> = LAYERS.iter().map(|layer| layer.name).collect();
        assert_eq!(rows, layers);
    }

    #[test]
    fn erfc_is_accurate() {
        for (x, expected) in [
            (0.5, 0.4795001221869535),
            (2.0, 0.004677734981047266),
            (3.0, 2.209049699858544e-5),
            (-1.0, 1.8427007929497148),
        ] {
            assert!((erfc(x) / expected - 1.0).abs() < 1e-13, "erfc({x}) = {}", erfc(x));
        }
    }
}
