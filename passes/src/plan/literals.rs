//! What is computed of numbers alone becomes a number, where a machine has no choice in it: functions that IEEE 754
//! rounds to the nearest. Code need not compute it again at every point.

use crate::merge::compacted;
use fusewright_ir::kernel::{BinaryOp, Kernel, Literal, Program, Scalar, ScalarId, UnaryOp};
use fusewright_ir::plan::access::with_scalars;
use rustc_hash::FxHashMap;

/// The program with such scalars as literals.
pub fn compute(mut program: Program) -> Program {
    for named in &mut program.kernels {
        if let Some(kernel) = computed(&named.kernel) {
            named.kernel = kernel;
        }
    }
    program
}

/// The kernel with literals, where anything changes.
fn computed(kernel: &Kernel) -> Option<Kernel> {
    let mut numbers: FxHashMap<ScalarId, f32> = FxHashMap::default();
    let mut changed = false;
    for id in kernel.live() {
        let scalar = kernel.body.get(id);
        let value = value(scalar, |id| numbers.get(&id).copied());
        // Whether small numbers are flushed to zero is the machine's affair.
        if let Some(value) = value.filter(|value| value.is_normal() || *value == 0.0) {
            changed |= !matches!(scalar, Scalar::Const(_));
            numbers.insert(id, value);
        }
    }
    changed.then(|| {
        compacted(&with_scalars(kernel, |id, scalar| match numbers.get(&id) {
            Some(&number) => Scalar::Const(Literal::f32(number)),
            None => scalar,
        }))
    })
}

/// The number that a scalar is, by those that its operands are.
fn value(scalar: &Scalar, number: impl Fn(ScalarId) -> Option<f32>) -> Option<f32> {
    Some(match *scalar {
        Scalar::Const(Literal::F32(bits)) => f32::from_bits(bits),
        Scalar::Unary(UnaryOp::Neg, a) => -number(a)?,
        Scalar::Unary(UnaryOp::Sqrt, a) => number(a)?.sqrt(),
        Scalar::Binary(op, a, b) => {
            let (a, b) = (number(a)?, number(b)?);
            match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div => a / b,
                _ => return None,
            }
        }
        _ => return None,
    })
}
