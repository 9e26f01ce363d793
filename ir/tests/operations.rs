//! Every operation, lowered to kernels and evaluated, against its textbook reference.

#[path = "support/cases.rs"]
mod cases;
mod support;

use cases::{Case, Random, cases};
use fusewright_ir::kernel::{self, BufferId, Program, Scalar};
use fusewright_ir::ops::LAYERS;
use fusewright_ir::tensor::{Array, DType, TensorType};
use fusewright_ir::{GraphBuilder, ValueId};
use support::{program, read};

/// Layers that need no case, each with its reason.
const EXCEPTIONS: &[&str] = &[];

#[test]
fn kernels_agree_with_the_reference() {
    let faults: Vec<String> = cases().iter().filter_map(|case| case.check().err()).collect();
    assert!(faults.is_empty(), "{} cases fail:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn layers_are_read_as_they_are_printed() {
    for case in cases() {
        let printed = case.op.to_string();
        assert_eq!(read(&printed), case.op, "{}, printed as {printed}", case.layer);
    }
}

#[test]
fn every_layer_has_a_case() {
    let cases = cases();
    let tested: Vec<&str> = cases.iter().map(|case| case.op.spec().name()).collect();
    let all = LAYERS.iter().flat_map(|kinds| kinds.iter()).map(|kind| kind.name);
    let missing: Vec<&str> = all.filter(|name| !tested.contains(name) && !EXCEPTIONS.contains(name)).collect();
    assert!(missing.is_empty(), "layers without a case: {missing:?}");
}

#[test]
fn attributes_are_read_as_they_are_printed() {
    for case in cases() {
        let printed = case.op.to_string();
        assert_eq!(read(&printed), case.op, "{} is printed as {printed}", case.layer);
    }
}

/// What `Debug` says of an operation is all of it, and the same in each process: a cache knows networks by it.
#[test]
fn attributes_are_described_without_addresses() {
    for case in cases() {
        let described = format!("{:?}", case.op);
        assert!(!described.contains("0x"), "{described}");
    }
}

/// What an operation does not refuse it has kernels for: of operands of any type.
#[test]
fn other_types_are_computed_or_refused() {
    let mut faults = Vec::new();
    for case in cases() {
        let spec = case.op.spec();
        for place in 0..case.inputs.len() {
            for dtype in [DType::F32, DType::I64, DType::I32, DType::U32, DType::U8, DType::Bool] {
                let mut types = case.inputs.clone();
                types[place].dtype = dtype;
                let Ok(parameters) = spec.parameters(&types.iter().collect::<Vec<_>>()) else { continue };
                types.extend(parameters.into_iter().map(|parameter| parameter.ty));
                let Ok(results) = case.op.check(&types.iter().collect::<Vec<_>>()) else { continue };
                if let Err(found) = kernel::verify(&program(spec, &types, &results)) {
                    faults.push(format!("{} of {}: {}", case.layer, types[place], found.join("; ")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} kernels are not sound:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_layer_is_listed_once() {
    let mut names: Vec<&str> = LAYERS.iter().flat_map(|kinds| kinds.iter()).map(|kind| kind.name).collect();
    names.sort_unstable();
    let twice: Vec<&[&str]> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "layers listed twice: {twice:?}");
}

impl Case {
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
        kernel::verify(&program).map_err(|faults| format!("{}: {}", self.layer, faults.join("; ")))?;
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
                let error = if errors[i].is_finite() { errors[i] } else { 1e-6 * expected.abs() };
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

fn has_inexact_literal(kernel: &kernel::Kernel) -> bool {
    kernel.body.iter().any(|(_, scalar)| match scalar {
        // A literal of more than 16 bits is a rounded one.
        Scalar::Const(kernel::Literal::F32(bits)) => bits & 0xff != 0,
        _ => false,
    })
}
