//! Elementary functions as sequences of instructions.

use cranelift_codegen::ir::Value;
use cranelift_frontend::FunctionBuilder;
use fusewright_ir::kernel::{BinaryOp, UnaryOp};

/// A function of one f32.
pub fn unary(_b: &mut FunctionBuilder, op: UnaryOp, _a: Value) -> Value {
    unimplemented!("{op:?}")
}

/// A function of two f32.
pub fn binary(_b: &mut FunctionBuilder, op: BinaryOp, _a: Value, _c: Value) -> Value {
    unimplemented!("{op:?}")
}
