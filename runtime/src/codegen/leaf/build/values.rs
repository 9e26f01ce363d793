//! Scalars at a point of the tile as vectors and masks.

use super::forms::linear;
use super::{Builder, Point, Value};
use crate::codegen::elementary::{self, InLeaf};
use crate::codegen::leaf::{Binary, Compare, Lanes, Logic, Mask, Unary, Vector};
use fusewright_ir::kernel::{BinaryOp, CompareOp, Literal, Scalar, ScalarId, UnaryOp};
use fusewright_ir::tensor::DType;
use std::cell::RefCell;

impl Builder<'_> {
    pub(super) fn vector(&mut self, id: ScalarId, point: &Point) -> Vector {
        match self.value(id, point) {
            Value::Vector(vector) => vector,
            Value::Mask(_) => unreachable!("verified: truth values are not arithmetic"),
        }
    }

    fn mask(&mut self, id: ScalarId, point: &Point) -> Mask {
        match self.value(id, point) {
            Value::Mask(mask) => mask,
            Value::Vector(_) => unreachable!("verified: numbers are not truth values"),
        }
    }

    pub(super) fn value(&mut self, id: ScalarId, point: &Point) -> Value {
        let key = (id, self.projected(id, point));
        if let Some(&known) = self.scopes.iter().rev().find_map(|scope| scope.get(&key)) {
            return known;
        }
        let value = self.compute(id, &key.1);
        self.scopes.last_mut().expect("a scope is open").insert(key, value);
        value
    }

    fn compute(&mut self, id: ScalarId, point: &Point) -> Value {
        let recipe = self.recipe;
        let body = &recipe.kernel.body;
        let dtype = body.dtype(id);
        let vector = match body.get(id) {
            Scalar::Const(Literal::Bool(truth)) => {
                let zero = self.writer.bits(0);
                let never = self.writer.compare(Compare::ILt, zero, zero);
                return Value::Mask(if *truth { self.writer.not(never) } else { never });
            }
            Scalar::Const(literal) => self.writer.bits(bits_of(*literal)),
            Scalar::Folded { fold, part } => {
                let point = self.fold_point(*fold, point);
                self.folded[&(*fold, *part, point)]
            }
            Scalar::Position(affine) => self.position(affine, point),
            Scalar::Load { buffer, at, outside } => {
                let form = linear(recipe, self.lane, *buffer, at).expect("checked by supported");
                let gather = self.gather.as_ref().filter(|(_, gathered)| gathered.read.id == id);
                if let Some(&(gather, _)) = gather {
                    return Value::Vector(self.load_gathered(gather, &form, *buffer, point));
                }
                if self.shared.as_ref().is_some_and(|shared| shared.read.id == id) {
                    self.ask_for_next(&form, *buffer, point);
                }
                let whole_blocks = form.padded && self.has_whole_blocks();
                let used = if whole_blocks { self.writer.width() } else { self.used_lanes(point) };
                let lanes = if outside.is_some() && !self.edges.is_empty() {
                    self.lanes_inside(*buffer, at, *outside, point, used)
                } else {
                    Lanes::first(used)
                };
                if let Some(along) = self.transposed_axis(&form).filter(|_| lanes == Lanes::first(used)) {
                    return Value::Vector(self.load_transposed(id, &form, *buffer, point, along));
                }
                match *outside {
                    Some(outside) if lanes.count() == 0 => self.writer.bits(bits_of(outside)),
                    Some(outside) if lanes.count() < used && form.lane_step != 0 => {
                        let inside = self.load(&form, *buffer, point, lanes);
                        self.surrounded(inside, lanes, outside)
                    }
                    _ => self.load(&form, *buffer, point, lanes),
                }
            }
            Scalar::Unary(op, a) => match dtype {
                DType::Bool => {
                    let a = self.mask(*a, point);
                    return Value::Mask(self.writer.not(a));
                }
                _ => {
                    let a = self.vector(*a, point);
                    self.unary(*op, a)
                }
            },
            Scalar::Binary(op, a, b) => match dtype {
                DType::Bool => {
                    let (a, b) = (self.mask(*a, point), self.mask(*b, point));
                    let op = match op {
                        BinaryOp::And => Logic::And,
                        BinaryOp::Or => Logic::Or,
                        _ => Logic::Xor,
                    };
                    return Value::Mask(self.writer.logic(op, a, b));
                }
                _ => {
                    let (a, b) = (self.vector(*a, point), self.vector(*b, point));
                    self.binary(*op, dtype, a, b)
                }
            },
            Scalar::Compare(op, a, b) => {
                let operands = body.dtype(*a);
                let (a, b) = (self.vector(*a, point), self.vector(*b, point));
                return Value::Mask(self.compare(*op, operands, a, b));
            }
            Scalar::Select(condition, yes, no) => {
                let condition = self.mask(*condition, point);
                if dtype == DType::Bool {
                    let (yes, no) = (self.mask(*yes, point), self.mask(*no, point));
                    let (first, opposite) = (self.writer.logic(Logic::And, condition, yes), self.writer.not(condition));
                    let second = self.writer.logic(Logic::And, opposite, no);
                    return Value::Mask(self.writer.logic(Logic::Or, first, second));
                }
                let (yes, no) = (self.vector(*yes, point), self.vector(*no, point));
                self.writer.pick(condition, yes, no)
            }
            Scalar::Fma(a, b, c) => {
                let (a, b, c) = (self.vector(*a, point), self.vector(*b, point), self.vector(*c, point));
                self.writer.fused(a, b, c)
            }
            Scalar::Cast(to, a) => match (body.dtype(*a), to) {
                (DType::Bool, DType::Bool) => return self.value(*a, point),
                (DType::Bool, to) => {
                    let condition = self.mask(*a, point);
                    let one = self.writer.bits(if *to == DType::F32 { 1f32.to_bits() } else { 1 });
                    let zero = self.writer.bits(0);
                    self.writer.pick(condition, one, zero)
                }
                (from, DType::F32) if from != DType::F32 => {
                    let a = self.vector(*a, point);
                    self.writer.unary(if from == DType::U32 { Unary::UnsignedToFloat } else { Unary::ToFloat }, a)
                }
                _ => self.vector(*a, point),
            },
        };
        Value::Vector(vector)
    }

    fn unary(&mut self, op: UnaryOp, a: Vector) -> Vector {
        let op = match op {
            UnaryOp::Neg => Unary::Neg,
            UnaryOp::Abs => Unary::Abs,
            UnaryOp::Sqrt => Unary::Sqrt,
            UnaryOp::Floor => Unary::Floor,
            UnaryOp::Ceil => Unary::Ceil,
            UnaryOp::Round => Unary::Round,
            UnaryOp::Trunc => Unary::Trunc,
            elementary_op => return elementary::unary(&InLeaf(RefCell::new(&mut self.writer)), elementary_op, a),
        };
        self.writer.unary(op, a)
    }

    fn binary(&mut self, op: BinaryOp, dtype: DType, a: Vector, b: Vector) -> Vector {
        let op = match (op, dtype == DType::F32) {
            (BinaryOp::Add, true) => Binary::Add,
            (BinaryOp::Sub, true) => Binary::Sub,
            (BinaryOp::Mul, true) => Binary::Mul,
            (BinaryOp::Div, true) => Binary::Div,
            (BinaryOp::Max, _) => return self.writer.extreme(true, a, b),
            (BinaryOp::Min, _) => return self.writer.extreme(false, a, b),
            (BinaryOp::Add, false) => Binary::IAdd,
            (BinaryOp::Sub, false) => Binary::ISub,
            (BinaryOp::Mul, false) => Binary::IMul,
            (BinaryOp::MulHigh, _) => Binary::UMulHigh,
            (BinaryOp::And, _) => Binary::And,
            (BinaryOp::Or, _) => Binary::Or,
            (BinaryOp::Xor, _) => Binary::Xor,
            (BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::Div, _) => {
                return elementary::binary(&InLeaf(RefCell::new(&mut self.writer)), op, a, b);
            }
        };
        self.writer.binary(op, a, b)
    }

    fn compare(&mut self, op: CompareOp, dtype: DType, a: Vector, b: Vector) -> Mask {
        if dtype == DType::F32 {
            let op = match op {
                CompareOp::Eq => Compare::Eq,
                CompareOp::Ne => {
                    let equal = self.writer.compare(Compare::Eq, a, b);
                    return self.writer.not(equal);
                }
                CompareOp::Lt => Compare::Lt,
                CompareOp::Le => Compare::Le,
                CompareOp::Gt => Compare::Gt,
                CompareOp::Ge => Compare::Ge,
            };
            return self.writer.compare(op, a, b);
        }
        let less = if dtype == DType::U32 { Compare::ULt } else { Compare::ILt };
        let (op, a, b, opposite) = match op {
            CompareOp::Eq => (Compare::IEq, a, b, false),
            CompareOp::Ne => (Compare::IEq, a, b, true),
            CompareOp::Lt => (less, a, b, false),
            CompareOp::Ge => (less, a, b, true),
            CompareOp::Gt => (less, b, a, false),
            CompareOp::Le => (less, b, a, true),
        };
        let mask = self.writer.compare(op, a, b);
        if opposite { self.writer.not(mask) } else { mask }
    }
}

/// A constant of 32 bits or less, as a lane holds it.
pub(super) fn bits_of(literal: Literal) -> u32 {
    match literal {
        Literal::F32(bits) | Literal::U32(bits) => bits,
        Literal::I32(n) => n as u32,
        Literal::I64(n) => n as i32 as u32,
        Literal::U8(n) => u32::from(n),
        Literal::Bool(truth) => u32::from(truth),
    }
}
