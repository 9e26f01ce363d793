//! Elementwise operations: each is one row of a table, and a row is its scalar formula.
//!
//! Operands of different shapes are broadcast as in PyTorch: aligned at the last axis, an axis of length 1 stands for
//! any length.

use super::*;
use crate::Dim;
use crate::jet::Jet;
use crate::kernel::build::Operand;
use crate::kernel::formula::{Formula, IntoTerm, Term};
use crate::kernel::{CompareOp, Index, KernelBuilder, ScalarId, UnaryOp};
use std::f64::consts::{FRAC_2_SQRT_PI, LOG2_E, LOG10_E, PI, SQRT_2};

/// An elementwise function of one, two or three tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The row of [`FUNCTIONS`].
    pub function: &'static Function,
    /// The values of the function's attributes, in the row's order.
    pub attributes: SmallVec<[Real; 2]>,
}

/// One row: a function by its formula.
pub struct Function {
    /// The name in a model file.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Attributes and their defaults, PyTorch's.
    pub attributes: &'static [(&'static str, f64)],
    /// The number of operands.
    pub arity: usize,
    /// The element types it takes and gives.
    pub types: Signature,
    /// The formula: operands, attributes.
    pub formula: for<'f> fn(&[Term<'f>], &[f64]) -> Term<'f>,
    /// The same in f64 with its derivatives, written apart from the formula.
    pub reference: fn(&[Jet], &[f64]) -> Jet,
}

/// The element types that a function takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Floats to floats.
    Float,
    /// Any one numeric type to itself; integers wrap.
    Number,
    /// Any one type to itself.
    Any,
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

impl fmt::Debug for Function {
    /// Its name, which stands for the row: addresses of functions are others in each process.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Map {
    /// The function of this name with its default attributes; `None` where there is none.
    pub fn named(name: &str) -> Option<Map> {
        let function = FUNCTIONS.iter().find(|function| function.name == name)?;
        Some(Map { function, attributes: function.attributes.iter().map(|(_, value)| Real(*value)).collect() })
    }

    pub(super) fn values(&self) -> SmallVec<[f64; 2]> {
        self.attributes.iter().map(|real| real.0).collect()
    }
}

/// Makes `FUNCTIONS` and `LAYERS` of rows
/// `Name(operands; attribute = default) Signature "about" => formula of terms => reference in f64;`. At corners both
/// have PyTorch's derivatives; what is smooth is written so that no corner of a part shows.
macro_rules! functions {
    ($($name:ident($($x:ident),+ $(; $($attribute:ident = $default:expr),+)?) $types:ident $about:literal
        => $formula:expr => $reference:expr;)*) => {
        /// All elementwise functions.
        pub static FUNCTIONS: &[Function] = &[$(Function {
            name: stringify!($name),
            about: $about,
            attributes: &[$($((stringify!($attribute), $default)),+)?],
            arity: [$(stringify!($x)),+].len(),
            types: Signature::$types,
            formula: |operands, attributes| {
                let &[$($x),+] = operands else { unreachable!("as many operands as `arity`") };
                let &[$($($attribute),+)?] = attributes else { unreachable!("as many as `attributes`") };
                $formula
            },
            reference: |operands, attributes| {
                let &[$($x),+] = operands else { unreachable!("as many operands as `arity`") };
                let &[$($($attribute),+)?] = attributes else { unreachable!("as many as `attributes`") };
                $reference
            },
        }),*];

        /// The layers of this file.
        pub const LAYERS: &[LayerKind] = &[$(LayerKind {
            name: stringify!($name),
            about: $about,
            read: |fields| read(stringify!($name), fields),
        }),*];
    };
}

// Formulas never overflow on the way to a finite result: `ln_1p(exp(-|x|))` stands for `ln(1 + exp(x)) - max(x, 0)`.
// Where a comparison with NaN picks a branch, that branch gives NaN.
functions! {
    Identity(x) Any "x" => x => x;

    Relu(x) Number "max(x, 0)" => x.max(0.0) => if x <= 0.0 { 0.0.into() } else { x };
    Relu6(x) Number "x between 0 and 6" => x.max(0.0).min(6.0) => clamp(x, 0.0, 6.0);
    LeakyRelu(x; negative_slope = 0.01) Float "x, times `negative_slope` below 0"
        => x.above(0.0).choose(x, x * negative_slope)
        => if x > 0.0 { x } else { negative_slope * x };
    Elu(x; alpha = 1.0) Float "x, or alpha * (e^x - 1) below 0"
        => x.above(0.0).choose(x, x.exp_m1() * alpha)
        => if x > 0.0 { x } else { alpha * (x.exp() - 1.0) };
    Selu(x) Float "an Elu whose outputs keep mean 0 and variance 1 (Klambauer et al. 2017)"
        => x.above(0.0).choose(x * SELU_SCALE, x.exp_m1() * (SELU_SCALE * SELU_ALPHA))
        => SELU_SCALE * if x > 0.0 { x } else { SELU_ALPHA * (x.exp() - 1.0) };
    Celu(x; alpha = 1.0) Float "x, or alpha * (e^(x / alpha) - 1) below 0"
        => x.above(0.0).choose(x, (x / alpha).exp_m1() * alpha)
        => if x > 0.0 { x } else { alpha * ((x / alpha).exp() - 1.0) };
    Sigmoid(x) Float "1 / (1 + e^-x)" => x.sigmoid() => logistic(x);
    Hardsigmoid(x) Float "(x + 3) / 6 between 0 and 1"
        => (x + 3.0).max(0.0).min(6.0) / 6.0
        => clamp(x / 6.0 + 0.5, 0.0, 1.0);
    Tanh(x) Float "hyperbolic tangent" => x.tanh() => x.tanh();
    Silu(x) Float "x * sigmoid(x)" => x * x.sigmoid() => x * logistic(x);
    Hardswish(x) Float "x * hardsigmoid(x)"
        => x * (x + 3.0).max(0.0).min(6.0) / 6.0
        => x * clamp(x / 6.0 + 0.5, 0.0, 1.0);
    Gelu(x) Float "x * Phi(x), with the error function"
        => x.apply(UnaryOp::Gelu)
        => if x == f64::NEG_INFINITY { (-0.0).into() } else { x * 0.5 * (-x / SQRT_2).erfc() };
    GeluTanh(x) Float "the tanh approximation of Gelu"
        => x * ((x * x * 0.044715 + 1.0) * x * (2.0 * (2.0 / PI).sqrt())).sigmoid()
        => x * logistic(2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3)));
    Mish(x) Float "x * tanh(softplus(x))"
        => {
            // tanh(ln(1 + e)) is e (e + 2) / (e (e + 2) + 2); above 0, over e^2, with u = 1 / e.
            let up = x.above(0.0);
            let u = up.choose(-x, x).exp();
            let (above, below) = (u * 2.0 + 1.0, u * (u + 2.0));
            x * up.choose(above, below) / up.choose(above + u * u * 2.0, below + 2.0)
        }
        => x * (if x > 30.0 { x } else { x.exp().ln_1p() }).tanh();
    Softplus(x; beta = 1.0, threshold = 20.0) Float "ln(1 + e^(beta x)) / beta, and x where beta x is above `threshold`"
        => {
            let z = x * beta;
            let up = z.above(0.0);
            let soft = up.choose(z, 0.0) + up.choose(-z, z).exp().ln_1p();
            z.above(threshold).choose(x, soft / beta)
        }
        => {
            let z = beta * x;
            if z > threshold { x } else if z > 40.0 { z / beta } else { z.exp().ln_1p() / beta }
        };
    Softsign(x) Float "x / (1 + |x|)" => x / (x.abs() + 1.0) => x / (1.0 + x.abs());
    LogSigmoid(x) Float "ln(sigmoid(x))"
        => {
            let up = x.above(0.0);
            up.choose(0.0.beside(x), x) - up.choose(-x, x).exp().ln_1p()
        }
        => if x < -40.0 { x } else { -(-x).exp().ln_1p() };
    Hardtanh(x; min_val = -1.0, max_val = 1.0) Float "x between `min_val` and `max_val`"
        => x.max(min_val).min(max_val)
        => clamp(x, min_val, max_val);
    Clip(x; min = f64::NEG_INFINITY, max = f64::INFINITY) Float "x between `min` and `max`, which count as inside"
        => {
            let raised = x.below(min).choose(min.beside(x), x);
            raised.above(max).choose(max.beside(x), raised)
        }
        => {
            let raised = if x < min { min.into() } else { x };
            if raised > max { max.into() } else { raised }
        };

    Exp(x) Float "e^x" => x.exp() => x.exp();
    Expm1(x) Float "e^x - 1, accurate near 0" => x.exp_m1() => x.exp_m1();
    Log(x) Float "natural logarithm" => x.ln() => x.ln();
    Log1p(x) Float "ln(1 + x), accurate near 0" => x.ln_1p() => x.ln_1p();
    Log2(x) Float "logarithm to base 2" => x.ln() * LOG2_E => x.log2();
    Log10(x) Float "logarithm to base 10" => x.ln() * LOG10_E => x.log10();
    Sqrt(x) Float "square root" => x.sqrt() => x.sqrt();
    Rsqrt(x) Float "1 / square root" => 1.0 / x.sqrt() => x.sqrt().recip();
    Square(x) Number "x^2" => x * x => x * x;
    Reciprocal(x) Float "1 / x" => 1.0 / x => x.recip();
    Abs(x) Number "|x|" => x.abs() => x.abs();
    Neg(x) Number "-x" => -x => -x;
    Sign(x) Number "-1, 0 or 1; NaN of NaN"
        => x.above(0.0).choose(1.0.beside(x), x.below(0.0).choose((-1.0).beside(x), x * 0.0))
        => if x == 0.0 || x.is_nan() { x.value().into() } else { x.signum() };
    Erf(x) Float "the error function" => x.apply(UnaryOp::Erf) => x.erf();

    Sin(x) Float "sine" => x.apply(UnaryOp::Sin) => x.sin();
    Cos(x) Float "cosine" => x.apply(UnaryOp::Cos) => x.cos();
    Tan(x) Float "tangent" => x.apply(UnaryOp::Tan) => x.tan();
    Asin(x) Float "inverse sine" => x.apply(UnaryOp::Asin) => x.asin();
    Acos(x) Float "inverse cosine" => x.apply(UnaryOp::Acos) => x.acos();
    Atan(x) Float "inverse tangent" => x.apply(UnaryOp::Atan) => x.atan();
    Sinh(x) Float "hyperbolic sine" => x.apply(UnaryOp::Sinh) => x.sinh();
    Cosh(x) Float "hyperbolic cosine" => x.apply(UnaryOp::Cosh) => x.cosh();
    Asinh(x) Float "inverse hyperbolic sine" => x.apply(UnaryOp::Asinh) => x.asinh();
    Acosh(x) Float "inverse hyperbolic cosine" => x.apply(UnaryOp::Acosh) => x.acosh();
    Atanh(x) Float "inverse hyperbolic tangent" => x.apply(UnaryOp::Atanh) => x.atanh();

    Floor(x) Float "rounded down" => x.apply(UnaryOp::Floor) => x.floor();
    Ceil(x) Float "rounded up" => x.apply(UnaryOp::Ceil) => x.ceil();
    Round(x) Float "rounded to the nearest integer, ties to even" => x.apply(UnaryOp::Round) => x.round_ties_even();
    Trunc(x) Float "rounded towards 0" => x.apply(UnaryOp::Trunc) => x.trunc();

    Add(a, b) Number "a + b" => a + b => a + b;
    Sub(a, b) Number "a - b" => a - b => a - b;
    Mul(a, b) Number "a * b" => a * b => a * b;
    Div(a, b) Float "a / b" => a / b => a / b;
    Max(a, b) Number "the greater of a and b" => a.max(b) => a.maximum(b);
    Min(a, b) Number "the lesser of a and b" => a.min(b) => -(-a).maximum(-b);
    Pow(a, b) Float "a^b" => a.pow(b) => a.powf(b);
    Atan2(y, x) Float "the angle of the point (x, y): y comes first" => y.atan2(x) => y.atan2(x);
    LogAddExp(a, b) Float "ln(e^a + e^b)"
        => {
            let up = a.above(b);
            let (greater, distance) = (up.choose(a, b), up.choose(b - a, a - b));
            // Equal infinities have a distance of 0, not NaN.
            let infinite = a.equals(b).and(a.abs().equals(f64::INFINITY));
            greater + infinite.choose(0.0.beside(a), distance).exp().ln_1p()
        }
        => {
            let (greater, less) = if a > b { (a, b) } else { (b, a) };
            if a == b && a.abs() == f64::INFINITY { a } else { greater + (less - greater).exp().ln_1p() }
        };

    Equal(a, b) Compare "a = b" => a.is(CompareOp::Eq, b) => truth(a == b);
    NotEqual(a, b) Compare "a differs from b; true of NaN" => a.is(CompareOp::Ne, b) => truth(a != b);
    Less(a, b) Compare "a < b" => a.is(CompareOp::Lt, b) => truth(a < b);
    LessEqual(a, b) Compare "a <= b" => a.is(CompareOp::Le, b) => truth(a <= b);
    Greater(a, b) Compare "a > b" => a.is(CompareOp::Gt, b) => truth(a > b);
    GreaterEqual(a, b) Compare "a >= b" => a.is(CompareOp::Ge, b) => truth(a >= b);

    And(a, b) Logic "both" => a.and(b) => truth(a + b == 2.0);
    Or(a, b) Logic "either or both" => a.or(b) => truth(a + b > 0.0);
    Xor(a, b) Logic "one, not both" => a.xor(b) => truth(a != b);
    Not(a) Logic "the opposite" => a.apply(UnaryOp::Not) => 1.0 - a;
    Where(condition, yes, no) Select "the second where the first holds, else the third"
        => condition.choose(yes, no)
        => if condition != 0.0 { yes } else { no };
    WhereFinite(guard, yes, no) Float "the second where the first is finite, else the third"
        => guard.abs().is(CompareOp::Le, f64::from(f32::MAX)).choose(yes, no)
        // A machine's numbers are infinite beyond those of f32.
        => if guard.value().abs() <= f64::from(f32::MAX) { yes } else { no };
}

/// The constants of Klambauer et al. 2017, to all digits of f64.
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

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

fn truth(holds: bool) -> Jet {
    f64::from(u8::from(holds)).into()
}

/// 1 / (1 + e^-x), without an overflow on the way.
fn logistic(x: Jet) -> Jet {
    if x > 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (x.exp() + 1.0) }
}

/// The greater, NaN if either is.
pub(super) fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// x between two bounds, which it does not leave, or the upper one where they cross; NaN of NaN.
fn clamp(x: Jet, low: f64, high: f64) -> Jet {
    let raised = if x <= low { low.into() } else { x };
    if raised >= high { high.into() } else { raised }
}

/// A whole number as an integer type holds it after arithmetic that wraps; other types are left alone.
fn wrapped(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::I32 => f64::from(value as i64 as i32),
        DType::U32 => f64::from(value as i64 as u32),
        DType::U8 => f64::from(value as i64 as u8),
        DType::F32 | DType::F64 | DType::I64 | DType::Bool => value,
    }
}

/// The error function in f64: its series near 0 (Abramowitz and Stegun 7.1.5), by [`erfc`] beyond.
pub fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 2.5 {
        return 1.0 - erfc(x);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        let next = sum + term / f64::from(2 * n + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum * FRAC_2_SQRT_PI
}

/// The complementary error function in f64: by [`erf`] near 0, the continued fraction of Laplace beyond (Abramowitz and
/// Stegun 7.1.14), to about 1e-15.
pub fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x.is_nan() || x > 27.5 {
        return if x.is_nan() { x } else { 0.0 };
    }
    if x < 2.5 {
        return 1.0 - erf(x);
    }
    let fraction = (1..120).rev().fold(0.0, |below, n| f64::from(n) / 2.0 / (x + below));
    (-x * x).exp() / (x + fraction) * FRAC_2_SQRT_PI / 2.0
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

/// The operands of an elementwise operation at the point `axes` of its result.
pub fn operands_at(k: &mut KernelBuilder, site: &Site, axes: &[crate::kernel::Axis]) -> Vec<ScalarId> {
    site.inputs.iter().map(|input| k.load(input, broadcast_at(input, axes))).collect()
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
        let operands = operands_at(&mut k, site, &axes);
        let value = {
            let formula = Formula::new(&mut k);
            let terms: SmallVec<[Term; 3]> = operands.iter().map(|&id| formula.term(id)).collect();
            (self.function.formula)(&terms, &self.values()).id()
        };
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (mut operands, upstream) = (back.inputs().to_vec(), back.upstream());
        let of = Pointwise::Map(self.clone());
        let wanted: Vec<usize> = (0..operands.len()).filter(|&i| back.wants(i)).collect();
        if self.function.name == "Relu" {
            // Its slope at its result is that at its operand, which then need not be kept beside the result.
            operands = vec![back.output(0)];
        }
        let mut gradients = back.nothing();
        for i in wanted {
            gradients[i] = Derivative::build(back, &of, &[], &operands, i, upstream);
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let attributes = self.values();
        let output = Array::from_fn(&dims, |at| {
            let operands: SmallVec<[Jet; 3]> = inputs
                .iter()
                .map(|input| {
                    let own = &at[dims.len() - input.dims.len()..];
                    let own: SmallVec<[usize; 8]> =
                        own.iter().zip(&input.dims).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
                    input.at(&own).into()
                })
                .collect();
            wrapped((self.function.reference)(&operands, &attributes).value(), outputs[0].dtype)
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::LN_2;

    fn evaluate(name: &str, operands: &[f64]) -> f64 {
        let map = Map::named(name).unwrap();
        let operands: Vec<Jet> = operands.iter().map(|&x| x.into()).collect();
        (map.function.reference)(&operands, &map.values()).value()
    }

    #[test]
    fn names_are_unique() {
        for (i, function) in FUNCTIONS.iter().enumerate() {
            assert!(FUNCTIONS[..i].iter().all(|other| other != function), "two rows are called {}", function.name);
        }
    }

    #[test]
    fn nan_gives_nan() {
        let takes_nan = |types| matches!(types, Signature::Float | Signature::Number | Signature::Any);
        for function in FUNCTIONS.iter().filter(|function| takes_nan(function.types)) {
            let value = evaluate(function.name, &vec![f64::NAN; function.arity]);
            assert!(value.is_nan(), "{} of NaN is {value}", function.name);
        }
    }

    #[test]
    fn tails_neither_overflow_nor_vanish() {
        for (name, operands, expected) in [
            ("Softplus", &[1000.0][..], 1000.0),
            ("LogSigmoid", &[-1000.0], -1000.0),
            ("Mish", &[1000.0], 1000.0),
            ("LogAddExp", &[1000.0, 1000.0], 1000.0 + LN_2),
            ("LogAddExp", &[f64::INFINITY, f64::INFINITY], f64::INFINITY),
            ("LogAddExp", &[f64::NEG_INFINITY, f64::NEG_INFINITY], f64::NEG_INFINITY),
        ] {
            assert_eq!(evaluate(name, operands), expected, "{name} of {operands:?}");
        }
    }

    #[test]
    fn shapes_broadcast_from_the_last_axis() {
        let n = Dim::symbol("N");
        let a = TensorType::f32([n.clone(), 3.into(), 1.into()]);
        let b = TensorType::f32([3usize, 5]);
        assert_eq!(broadcast(&[&a, &b]), Ok(vec![n, 3.into(), 5.into()]));
        let mismatch = broadcast(&[&a, &TensorType::f32([2usize, 5])]).unwrap_err();
        assert_eq!(mismatch.found, "f32[N, 3, 1] and f32[2, 5]");
    }

    #[test]
    fn types_are_checked() {
        let (float, truth) = (TensorType::f32([2usize]), TensorType::new(DType::Bool, [2usize]));
        let infer = |name: &str, inputs: &[&TensorType]| Map::named(name).unwrap().infer(inputs);
        assert_eq!(infer("Less", &[&float, &float]).unwrap()[0], truth);
        assert_eq!(infer("Where", &[&truth, &float, &float]).unwrap()[0], float);
        assert_eq!(infer("Where", &[&float, &float, &float]).unwrap_err().expected, "a bool condition");
        assert_eq!(infer("And", &[&float, &float]).unwrap_err().expected, "bool operands");
        assert_eq!(infer("Exp", &[&truth]).unwrap_err().expected, "f32 operands");
        assert_eq!(infer("Add", &[&float, &truth]).unwrap_err().expected, "operands of one element type");
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
            assert!((erf(x) - (1.0 - expected)).abs() < 1e-15, "erf({x}) = {}", erf(x));
        }
    }
}
