//! Every operation, lowered to kernels and evaluated, against its textbook reference: one line a case.

use fusewright_ir::kernel::build::Operand;
use fusewright_ir::kernel::{self, BufferId, BufferInfo, NamedKernel, Program, Role, Scalar};
use fusewright_ir::ops::{LAYERS, Map, Op, OpSpec, Site, layer_kind};
use fusewright_ir::tensor::{Array, DType, TensorType};
use fusewright_ir::text::parse;
use fusewright_ir::{GraphBuilder, ValueId};
use std::collections::BTreeMap;
use std::ops::Range;

/// All cases. A layer is written as in a model file; `values` gives an operand (inputs first, then parameters) a range
/// other than its type's usual one.
fn cases() -> Vec<Case> {
    vec![
        case("Abs", f32(&[17])),
        case("Add", [f32(&[2, 3, 5]), f32(&[3, 1])]),
        case("Add", [i64(&[7]), i64(&[7])]),
        case("Conv1d(out: 3, kernel_size: 3, stride: 2)", f32(&[2, 2, 11])),
        case("Conv2d(out: 4, kernel_size: 3, padding: 1)", f32(&[2, 3, 7, 8])),
        case("Conv2d(out: 4, kernel_size: 3, groups: 2, dilation: 2, bias: false)", f32(&[2, 4, 9, 6])),
        case("Conv2d(out: 2, kernel_size: [2, 3], padding: [(1, 0), (0, 2)], flip_kernel: true)", f32(&[3, 6, 5])),
        case("Conv3d(out: 2, kernel_size: 2, padding: \"same\")", f32(&[1, 2, 3, 4, 5])),
        case("Dense(out: 5)", f32(&[3, 17])),
        case("Dense(out: 5, bias: false)", f32(&[4])),
        case("Div", [f32(&[33]), f32(&[33])]),
        case("Exp", f32(&[17])),
        case("Flatten", f32(&[2, 3, 4, 5])),
        case("Flatten(start_dim: 0, end_dim: 1)", i64(&[2, 3, 4])),
        case("Gelu", f32(&[33])),
        case("Identity", u8(&[9])),
        case("Less", [f32(&[4, 65]), f32(&[65])]),
        case("Log", f32(&[17])).values(0, 0.1..9.0),
        case("Max", [f32(&[33]), f32(&[33])]),
        case("MaxPool1d(kernel_size: 3)", f32(&[2, 10])),
        case("MaxPool2d(kernel_size: 3, stride: 2, padding: 1, ceil_mode: true)", f32(&[2, 3, 8, 9])),
        case("MaxPool3d(kernel_size: 2, dilation: 2)", f32(&[1, 2, 4, 5, 6])),
        case("Min", [f32(&[33]), f32(&[1])]),
        case("Mul", [f32(&[33]), f32(&[33])]),
        case("Neg", f32(&[8])),
        case("Relu", f32(&[2, 33])),
        case("Sigmoid", f32(&[33])),
        case("Sqrt", f32(&[17])).values(0, 0.0..9.0),
        case("Sub", [f32(&[4, 1]), f32(&[5])]),
        case("Tanh", f32(&[33])),
        case("Where", [boolean(&[4, 9]), f32(&[9]), f32(&[4, 1])]),
    ]
}

/// Layers that need no case, each with its reason.
const EXCEPTIONS: &[&str] = &[];

#[test]
fn kernels_agree_with_the_reference() {
    let faults: Vec<String> = cases().iter().filter_map(|case| case.check().err()).collect();
    assert!(faults.is_empty(), "{} cases fail:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_layer_has_a_case() {
    let cases = cases();
    let tested: Vec<&str> = cases.iter().map(|case| case.op.spec().name()).collect();
    let all = LAYERS.iter().flat_map(|kinds| kinds.iter()).map(|kind| kind.name);
    let missing: Vec<&str> = all.filter(|name| !tested.contains(name) && !EXCEPTIONS.contains(name)).collect();
    assert!(missing.is_empty(), "layers without a case: {missing:?}");
}

/// One operation on inputs of given types.
struct Case {
    layer: &'static str,
    op: Op,
    inputs: Vec<TensorType>,
    ranges: BTreeMap<usize, Range<f64>>,
}

/// A layer as a model file writes it, without `name` and `from`, and the types of its inputs.
fn case(layer: &'static str, inputs: impl Into<Inputs>) -> Case {
    Case { layer, op: read(layer), inputs: inputs.into().0, ranges: BTreeMap::new() }
}

/// One type, or a list.
struct Inputs(Vec<TensorType>);

impl From<TensorType> for Inputs {
    fn from(ty: TensorType) -> Inputs {
        Inputs(vec![ty])
    }
}

impl<const N: usize> From<[TensorType; N]> for Inputs {
    fn from(types: [TensorType; N]) -> Inputs {
        Inputs(types.into())
    }
}

fn f32(dims: &[usize]) -> TensorType {
    TensorType::f32(dims.iter().copied())
}

fn i64(dims: &[usize]) -> TensorType {
    TensorType::new(DType::I64, dims.iter().copied())
}

fn u8(dims: &[usize]) -> TensorType {
    TensorType::new(DType::U8, dims.iter().copied())
}

fn boolean(dims: &[usize]) -> TensorType {
    TensorType::new(DType::Bool, dims.iter().copied())
}

fn read(layer: &str) -> Op {
    let (name, fields) = layer.split_at(layer.find('(').unwrap_or(layer.len()));
    if let (Some(map), "") = (Map::named(name), fields) {
        return Op::Map(map);
    }
    let kind = layer_kind(name).unwrap_or_else(|| panic!("no layer is called {name}"));
    let text = if fields.is_empty() { "()" } else { fields };
    let value = parse(text).unwrap_or_else(|error| panic!("{layer}: {}", error.title));
    (kind.read)(&value).unwrap_or_else(|error| panic!("{layer}: {}", error.message))
}

impl Case {
    /// Values of operand `operand` are drawn from `range`.
    fn values(mut self, operand: usize, range: Range<f64>) -> Case {
        self.ranges.insert(operand, range);
        self
    }

    /// # Errors
    /// What differs, in one line.
    fn check(&self) -> Result<(), String> {
        let mut build = GraphBuilder::new();
        let inputs: Vec<ValueId> =
            self.inputs.iter().enumerate().map(|(i, ty)| build.input(&format!("x{i}"), ty.clone())).collect();
        let value = build.layer("layer", self.op.clone(), &inputs);
        let graph = build.finish();
        let node = graph.node(value.node);
        let operand_types: Vec<TensorType> = node.inputs.iter().map(|&value| graph.value_type(value).clone()).collect();

        let program = program(node.op.spec(), &operand_types, &node.types);
        for (seed, short) in [(1, true), (2, false)] {
            let mut random = Random(seed);
            let operands: Vec<Array> =
                operand_types.iter().enumerate().map(|(i, ty)| random.array(ty, self.ranges.get(&i), short)).collect();
            self.compare(&program, &operands, &node.types).map_err(|fault| format!("{}: {fault}", self.layer))?;
        }
        Ok(())
    }

    fn compare(&self, program: &Program, operands: &[Array], types: &[TensorType]) -> Result<(), String> {
        let expected = self.op.spec().reference(&operands.iter().collect::<Vec<_>>(), types);
        let given = operands.iter().enumerate().map(|(i, array)| (BufferId(i as u32), array.clone()));
        let result = kernel::evaluate(program, &given.collect()).map_err(|fault| fault.to_string())?;
        let inexact = program.kernels.iter().any(|named| has_inexact_literal(&named.kernel));
        for (port, (expected, ty)) in expected.iter().zip(types).enumerate() {
            let buffer = BufferId((operands.len() + port) as u32);
            let (found, errors) = (result.array(buffer), result.errors(buffer));
            if found.dims != expected.dims || Some(&found.dims) != ty.dims().as_ref() {
                return Err(format!("axes {:?}, expected {:?}", found.dims, expected.dims));
            }
            for (i, (&found, &expected)) in found.data.iter().zip(&expected.data).enumerate() {
                // The bound of the f32 error measures the numbers that cancelled on the way.
                let error = if errors[i].is_finite() { errors[i] } else { 1.0 };
                let mut allowed = 1e-9 * expected.abs() + 1e-6 * error;
                if inexact {
                    // Attributes such as 0.1 are rounded to f32 in kernels alone.
                    allowed += 2.0 * error + 1e-7 * expected.abs();
                }
                if !(found == expected || found.is_nan() && expected.is_nan() || (found - expected).abs() <= allowed) {
                    let place = format!("output {port}, element {i} of {ty}");
                    return Err(format!("{place}: found {found:e}, expected {expected:e}"));
                }
            }
        }
        Ok(())
    }
}

/// The kernels of one operation: operands are the first buffers, then results, then temporaries.
fn program(spec: &dyn OpSpec, operands: &[TensorType], results: &[TensorType]) -> Program {
    let mut program = Program::default();
    let mut buffer = |ty: &TensorType, role: Role| {
        let dims = ty.dims().expect("cases are concrete");
        let name = format!("b{}", program.buffers.len());
        let buffer = program.add_buffer(BufferInfo { name, dtype: ty.dtype, dims: dims.clone(), role });
        Operand { buffer, dtype: ty.dtype, dims }
    };
    let inputs = operands.iter().map(|ty| buffer(ty, Role::Input)).collect();
    let outputs: Vec<Operand> = results.iter().map(|ty| buffer(ty, Role::Computed)).collect();
    program.outputs = outputs.iter().enumerate().map(|(i, output)| (format!("y{i}"), output.buffer)).collect();
    let mut site = Site::new(inputs, outputs, BufferId(program.buffers.len() as u32));
    let kernels = spec.lower(&mut site);
    for Operand { dtype, dims, .. } in site.temporaries {
        program.add_buffer(BufferInfo { name: "temporary".into(), dtype, dims, role: Role::Computed });
    }
    for kernel in kernels {
        program.kernels.push(NamedKernel { nodes: vec!["layer".into()], about: spec.name().into(), kernel });
    }
    program
}

fn has_inexact_literal(kernel: &kernel::Kernel) -> bool {
    kernel.body.iter().any(|(_, scalar)| match scalar {
        // A literal of more than 16 bits is a rounded one.
        Scalar::Const(kernel::Literal::F32(bits)) => bits & 0xff != 0,
        _ => false,
    })
}

/// Numbers that are the same in every run (SplitMix64; Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Multiples of 1/64, with many ties, or any f32.
    fn array(&mut self, ty: &TensorType, range: Option<&Range<f64>>, short: bool) -> Array {
        let usual = match ty.dtype {
            DType::Bool => 0.0..2.0,
            DType::U8 | DType::U32 => 0.0..256.0,
            DType::I64 | DType::I32 => -9.0..10.0,
            DType::F32 | DType::F64 => -2.0..2.0,
        };
        let Range { start, end } = range.cloned().unwrap_or(usual);
        let step = match ty.dtype {
            DType::F32 | DType::F64 if short => 1.0 / 64.0,
            DType::F32 | DType::F64 => 1e-9,
            _ => 1.0,
        };
        let steps = ((end - start) / step).ceil() as u64;
        let first = (start / step).ceil() * step;
        Array::from_fn(&ty.dims().expect("cases are concrete"), |_| {
            let number = first + self.below(steps) as f64 * step;
            if ty.dtype.is_float() { f64::from(number as f32) } else { number }
        })
    }
}
