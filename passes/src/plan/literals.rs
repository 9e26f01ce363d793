//! What is computed of numbers alone becomes a number, where a machine has no choice in it: functions that IEEE 754
//! rounds to the nearest. Code need not compute it again at every point.

use crate::merge::compacted;
use fusewright_ir::kernel::{BinaryOp, Kernel, Literal, Program, Scalar, ScalarDag, ScalarId, UnaryOp};
use std::collections::HashMap;

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
    let mut body = ScalarDag::default();
    let mut renamed: HashMap<ScalarId, ScalarId> = HashMap::new();
    let mut changed = false;
    for id in kernel.live() {
        let scalar = kernel.body.get(id).map(|id| renamed[&id], Clone::clone);
        let literal = literal(&body, &scalar);
        changed |= literal.is_some();
        renamed.insert(id, body.intern(literal.unwrap_or(scalar), kernel.body.dtype(id)));
    }
    changed.then(|| {
        let mut result = Kernel { body, ..kernel.clone() };
        for fold in &mut result.folds {
            fold.value = renamed[&fold.value];
        }
        for store in &mut result.stores {
            store.value = renamed[&store.value];
            store.at = store.at.iter().map(|index| index.map(Clone::clone, |id| renamed[&id])).collect();
        }
        compacted(&result)
    })
}

/// The number that a scalar is.
fn literal(body: &ScalarDag, scalar: &Scalar) -> Option<Scalar> {
    // Whether small numbers are flushed to zero is the machine's affair.
    let is_plain = |value: &f32| value.is_normal() || *value == 0.0;
    let number = |id: ScalarId| match body.get(id) {
        Scalar::Const(Literal::F32(bits)) => Some(f32::from_bits(*bits)).filter(is_plain),
        _ => None,
    };
    let value = match *scalar {
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
    };
    is_plain(&value).then(|| Scalar::Const(Literal::f32(value)))
}
