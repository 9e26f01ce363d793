//! Elementary functions of the kernel IR: `math` has the formulas, this file what they are written with, one point at a
//! time in CLIF or a vector at a time in a leaf.

use super::leaf::lanes::Writer;
use super::leaf::{Binary, Compare, Logic, Mask, Shift, Unary, Vector};
use super::math::{self, Lanes, Lookup};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;
use fusewright_ir::kernel::{BinaryOp, UnaryOp};
use std::cell::RefCell;

/// A function of one f32 that is no instruction.
pub fn unary<L: Lanes>(lanes: &L, op: UnaryOp, x: L::Value) -> L::Value {
    match op {
        UnaryOp::Exp => math::exp(lanes, x),
        UnaryOp::Expm1 => math::expm1(lanes, x),
        UnaryOp::Log => math::log(lanes, x),
        UnaryOp::Log1p => math::log1p(lanes, x),
        UnaryOp::Sin => math::sin_large(lanes, x),
        UnaryOp::Cos => math::cos_large(lanes, x),
        UnaryOp::Tan => math::tan_large(lanes, x),
        UnaryOp::Asin => math::asin(lanes, x),
        UnaryOp::Acos => math::acos(lanes, x),
        UnaryOp::Atan => math::atan(lanes, x),
        UnaryOp::Sinh => math::sinh(lanes, x),
        UnaryOp::Cosh => math::cosh(lanes, x),
        UnaryOp::Tanh => math::tanh(lanes, x),
        UnaryOp::Asinh => math::asinh(lanes, x),
        UnaryOp::Acosh => math::acosh(lanes, x),
        UnaryOp::Atanh => math::atanh(lanes, x),
        UnaryOp::Sigmoid => math::sigmoid(lanes, x),
        UnaryOp::Erf => math::erf(lanes, x),
        UnaryOp::Erfc => math::erfc(lanes, x),
        UnaryOp::NormalCdf => math::normal_cdf(lanes, x),
        UnaryOp::Gelu => math::gelu(lanes, x),
        UnaryOp::Neg
        | UnaryOp::Abs
        | UnaryOp::Not
        | UnaryOp::Sqrt
        | UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::Trunc => unreachable!("{op:?} is an instruction"),
    }
}

/// A function of two f32 that is no instruction.
pub fn binary<L: Lanes>(lanes: &L, op: BinaryOp, x: L::Value, y: L::Value) -> L::Value {
    match op {
        BinaryOp::Pow => math::pow(lanes, x, y),
        BinaryOp::Atan2 => math::atan2(lanes, x, y),
        _ => unreachable!("{op:?} is an instruction"),
    }
}

/// One f32 in CLIF; integer operations see its bits.
pub struct OnePoint<'a, 'f>(pub RefCell<&'a mut FunctionBuilder<'f>>);

impl OnePoint<'_, '_> {
    fn int(&self, a: Value) -> Value {
        self.0.borrow_mut().ins().bitcast(types::I32, MemFlagsData::new(), a)
    }

    fn float(&self, a: Value) -> Value {
        self.0.borrow_mut().ins().bitcast(types::F32, MemFlagsData::new(), a)
    }
}

/// Methods that are one instruction on f32.
macro_rules! float_instructions {
    ($($name:ident = $instruction:ident($($operand:ident),*);)*) => {
        $(fn $name(&self, $($operand: Value),*) -> Value {
            self.0.borrow_mut().ins().$instruction($($operand),*)
        })*
    };
}

/// Methods that are one instruction on the bits.
macro_rules! int_instructions {
    ($($name:ident = $instruction:ident;)*) => {
        $(fn $name(&self, a: Value, b: Value) -> Value {
            let (a, b) = (self.int(a), self.int(b));
            let result = self.0.borrow_mut().ins().$instruction(a, b);
            self.float(result)
        })*
    };
}

impl Lanes for OnePoint<'_, '_> {
    type Value = Value;
    type Mask = Value;

    float_instructions! {
        add = fadd(a, b);
        sub = fsub(a, b);
        mul = fmul(a, b);
        div = fdiv(a, b);
        fma = fma(a, b, c);
        sqrt = sqrt(a);
        abs = fabs(a);
        neg = fneg(a);
        copysign = fcopysign(magnitude, sign);
        floor = floor(a);
        round = nearest(a);
        select = select(mask, a, b);
        mask_and = band(a, b);
        mask_or = bor(a, b);
    }

    int_instructions! {
        iadd = iadd;
        isub = isub;
        imul = imul;
        umulhi = umulhi;
        and = band;
        or = bor;
        xor = bxor;
    }

    fn constant(&self, value: f32) -> Value {
        self.0.borrow_mut().ins().f32const(value)
    }

    fn min(&self, a: Value, b: Value) -> Value {
        self.select(self.lt(a, b), a, b)
    }

    fn max(&self, a: Value, b: Value) -> Value {
        self.select(self.lt(b, a), a, b)
    }

    fn lt(&self, a: Value, b: Value) -> Value {
        self.0.borrow_mut().ins().fcmp(FloatCC::LessThan, a, b)
    }

    fn le(&self, a: Value, b: Value) -> Value {
        self.0.borrow_mut().ins().fcmp(FloatCC::LessThanOrEqual, a, b)
    }

    fn eq(&self, a: Value, b: Value) -> Value {
        self.0.borrow_mut().ins().fcmp(FloatCC::Equal, a, b)
    }

    fn is_nan(&self, a: Value) -> Value {
        self.0.borrow_mut().ins().fcmp(FloatCC::Unordered, a, a)
    }

    fn mask_not(&self, a: Value) -> Value {
        self.0.borrow_mut().ins().bxor_imm_u(a, 1)
    }

    fn int_constant(&self, value: i32) -> Value {
        self.constant(f32::from_bits(value as u32))
    }

    fn shl(&self, a: Value, bits: u32) -> Value {
        let a = self.int(a);
        let result = self.0.borrow_mut().ins().ishl_imm_u(a, i64::from(bits));
        self.float(result)
    }

    fn shr_logical(&self, a: Value, bits: u32) -> Value {
        let a = self.int(a);
        let result = self.0.borrow_mut().ins().ushr_imm_u(a, i64::from(bits));
        self.float(result)
    }

    fn shr_arithmetic(&self, a: Value, bits: u32) -> Value {
        let a = self.int(a);
        let result = self.0.borrow_mut().ins().sshr_imm_u(a, i64::from(bits));
        self.float(result)
    }

    fn ieq(&self, a: Value, b: Value) -> Value {
        let (a, b) = (self.int(a), self.int(b));
        self.0.borrow_mut().ins().icmp(IntCC::Equal, a, b)
    }

    fn ilt(&self, a: Value, b: Value) -> Value {
        let (a, b) = (self.int(a), self.int(b));
        self.0.borrow_mut().ins().icmp(IntCC::SignedLessThan, a, b)
    }

    fn to_int(&self, a: Value) -> Value {
        let moved = self.add(a, self.constant(SHIFTER));
        self.isub(moved, self.constant(SHIFTER))
    }

    fn to_float(&self, a: Value) -> Value {
        let a = self.int(a);
        self.0.borrow_mut().ins().fcvt_from_sint(types::F32, a)
    }
}

/// 1.5 * 2^23: adding it leaves an integer of at most 2^22 in the low bits.
const SHIFTER: f32 = 12_582_912.0;

/// A vector in a leaf.
pub struct InLeaf<'a>(pub RefCell<&'a mut Writer>);

/// Methods that are one instruction of the vector IR.
macro_rules! leaf_instructions {
    ($($name:ident = $method:ident $op:expr, ($($operand:ident: $ty:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($operand: $ty),*) -> $result {
            self.0.borrow_mut().$method($op, $($operand),*)
        })*
    };
}

impl Lanes for InLeaf<'_> {
    type Value = Vector;
    type Mask = Mask;

    leaf_instructions! {
        add = binary Binary::Add, (a: Vector, b: Vector) -> Vector;
        sub = binary Binary::Sub, (a: Vector, b: Vector) -> Vector;
        mul = binary Binary::Mul, (a: Vector, b: Vector) -> Vector;
        div = binary Binary::Div, (a: Vector, b: Vector) -> Vector;
        min = binary Binary::Lesser, (a: Vector, b: Vector) -> Vector;
        max = binary Binary::Greater, (a: Vector, b: Vector) -> Vector;
        sqrt = unary Unary::Sqrt, (a: Vector) -> Vector;
        abs = unary Unary::Abs, (a: Vector) -> Vector;
        neg = unary Unary::Neg, (a: Vector) -> Vector;
        floor = unary Unary::Floor, (a: Vector) -> Vector;
        round = unary Unary::Round, (a: Vector) -> Vector;
        to_float = unary Unary::ToFloat, (a: Vector) -> Vector;
        iadd = binary Binary::IAdd, (a: Vector, b: Vector) -> Vector;
        isub = binary Binary::ISub, (a: Vector, b: Vector) -> Vector;
        imul = binary Binary::IMul, (a: Vector, b: Vector) -> Vector;
        umulhi = binary Binary::UMulHigh, (a: Vector, b: Vector) -> Vector;
        and = binary Binary::And, (a: Vector, b: Vector) -> Vector;
        or = binary Binary::Or, (a: Vector, b: Vector) -> Vector;
        xor = binary Binary::Xor, (a: Vector, b: Vector) -> Vector;
        shl = shift Shift::Left, (a: Vector, bits: u32) -> Vector;
        shr_logical = shift Shift::LogicalRight, (a: Vector, bits: u32) -> Vector;
        shr_arithmetic = shift Shift::ArithmeticRight, (a: Vector, bits: u32) -> Vector;
        lt = compare Compare::Lt, (a: Vector, b: Vector) -> Mask;
        le = compare Compare::Le, (a: Vector, b: Vector) -> Mask;
        eq = compare Compare::Eq, (a: Vector, b: Vector) -> Mask;
        ieq = compare Compare::IEq, (a: Vector, b: Vector) -> Mask;
        ilt = compare Compare::ILt, (a: Vector, b: Vector) -> Mask;
        mask_and = logic Logic::And, (a: Mask, b: Mask) -> Mask;
        mask_or = logic Logic::Or, (a: Mask, b: Mask) -> Mask;
    }

    fn constant(&self, value: f32) -> Vector {
        self.0.borrow_mut().number(value)
    }

    fn int_constant(&self, value: i32) -> Vector {
        self.0.borrow_mut().bits(value as u32)
    }

    fn fma(&self, a: Vector, b: Vector, c: Vector) -> Vector {
        self.0.borrow_mut().fused(a, b, c)
    }

    fn copysign(&self, magnitude: Vector, sign: Vector) -> Vector {
        let sign = self.and(sign, self.int_constant(i32::MIN));
        self.or(self.and(magnitude, self.int_constant(i32::MAX)), sign)
    }

    fn select(&self, mask: Mask, a: Vector, b: Vector) -> Vector {
        self.0.borrow_mut().pick(mask, a, b)
    }

    fn is_nan(&self, a: Vector) -> Mask {
        self.0.borrow_mut().compare(Compare::Unordered, a, a)
    }

    fn mask_not(&self, a: Mask) -> Mask {
        self.0.borrow_mut().not(a)
    }

    fn lookup(&self) -> Option<Lookup<Self>> {
        self.0.borrow().has_tables().then_some(|lanes, table, index| lanes.0.borrow_mut().lookup(table, index))
    }

    fn to_int(&self, a: Vector) -> Vector {
        let moved = self.add(a, self.constant(SHIFTER));
        self.isub(moved, self.constant(SHIFTER))
    }
}
