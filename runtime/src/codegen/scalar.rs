//! The scalars of a kernel, one point at a time: addresses, guards, arithmetic.

use super::elementary::{self, OnePoint};
use super::nest::Emitter;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_module::Module;
use fusewright_ir::kernel::{
    Affine, BinaryOp, BufferId, CompareOp, FoldKind, Index, Literal, Scalar, ScalarId, UnaryOp,
};
use fusewright_ir::tensor::DType;
use std::cell::RefCell;

/// The register type of an element.
pub fn clif_type(dtype: DType) -> Type {
    match dtype {
        DType::F32 => types::F32,
        DType::F64 => types::F64,
        DType::I64 => types::I64,
        DType::I32 | DType::U32 => types::I32,
        DType::U8 | DType::Bool => types::I8,
    }
}

impl Emitter<'_, '_> {
    /// The value of a scalar at the point at hand.
    pub(super) fn scalar(&mut self, id: ScalarId) -> Value {
        if let Some(&value) = self.known.get(&id) {
            return value;
        }
        let recipe = self.recipe;
        let dtype = recipe.kernel.body.dtype(id);
        let value = match recipe.kernel.body.get(id) {
            Scalar::Const(literal) => self.literal(*literal),
            Scalar::Folded { fold, part } => self.folded[*fold as usize][*part as usize],
            Scalar::Position(affine) => self.dividend(affine),
            Scalar::Load { buffer, at, outside } => self.load(*buffer, at, *outside),
            Scalar::Unary(op, a) => {
                let a = self.scalar(*a);
                self.unary(*op, dtype, a)
            }
            Scalar::Binary(op, a, b) => {
                let (a, b) = (self.scalar(*a), self.scalar(*b));
                self.binary(*op, dtype, a, b)
            }
            Scalar::Compare(op, a, b) => {
                let operands = recipe.kernel.body.dtype(*a);
                let (a, b) = (self.scalar(*a), self.scalar(*b));
                self.compare(*op, operands, a, b)
            }
            Scalar::Select(condition, yes, no) => {
                let (condition, yes, no) = (self.scalar(*condition), self.scalar(*yes), self.scalar(*no));
                self.b.ins().select(condition, yes, no)
            }
            Scalar::Fma(a, b, c) => {
                let (a, b, c) = (self.scalar(*a), self.scalar(*b), self.scalar(*c));
                self.b.ins().fma(a, b, c)
            }
            Scalar::Cast(to, a) => {
                let from = recipe.kernel.body.dtype(*a);
                let a = self.scalar(*a);
                self.cast(from, *to, a)
            }
        };
        self.known.insert(id, value);
        value
    }

    pub(super) fn literal(&mut self, literal: Literal) -> Value {
        match literal {
            Literal::F32(bits) => self.b.ins().f32const(f32::from_bits(bits)),
            Literal::I64(n) => self.b.ins().iconst(types::I64, n),
            Literal::I32(n) => self.b.ins().iconst(types::I32, i64::from(n as u32)),
            Literal::U32(n) => self.b.ins().iconst(types::I32, i64::from(n)),
            Literal::U8(n) => self.b.ins().iconst(types::I8, i64::from(n)),
            Literal::Bool(b) => self.b.ins().iconst(types::I8, i64::from(b)),
        }
    }

    /// The value of an affine form before its division.
    fn dividend(&mut self, affine: &Affine) -> Value {
        let mut sum = self.b.ins().iconst(types::I64, affine.offset);
        for &(axis, k) in &affine.terms {
            let position = self.axes[axis.0 as usize].expect("verified: the loop is open");
            let term = if k == 1 { position } else { self.b.ins().imul_imm_s(position, k) };
            sum = self.b.ins().iadd(sum, term);
        }
        sum
    }

    /// The value of an index along an axis of `length`, and what must hold for it to be inside (`None`: it always is).
    fn index(&mut self, index: &Index, length: usize) -> (Value, Option<Value>) {
        let certain = index.within(&self.extents, length);
        match index {
            Index::Affine(affine) => {
                let mut value = self.dividend(affine);
                let mut inside = None;
                if affine.divisor != 1 {
                    let rest = self.b.ins().srem_imm_s(value, affine.divisor);
                    if !certain {
                        inside = Some(self.b.ins().icmp_imm_s(IntCC::Equal, rest, 0));
                    }
                    value = self.b.ins().sdiv_imm_s(value, affine.divisor);
                }
                if !certain {
                    let bounded = self.b.ins().icmp_imm_s(IntCC::UnsignedLessThan, value, length as i64);
                    inside = Some(inside.map_or(bounded, |exact| self.b.ins().band(exact, bounded)));
                }
                (value, inside)
            }
            Index::Table { table, at } => {
                let place = self.dividend(at);
                let base = self.table(table);
                let offset = self.b.ins().imul_imm_s(place, 8);
                let address = self.b.ins().iadd(base, offset);
                let value = self.b.ins().load(types::I64, MemFlagsData::trusted().with_readonly(), address, 0);
                let inside = (!certain).then(|| self.b.ins().icmp_imm_s(IntCC::UnsignedLessThan, value, length as i64));
                (value, inside)
            }
            Index::Computed(id) => {
                let dtype = self.recipe.kernel.body.dtype(*id);
                let value = self.scalar(*id);
                let value = self.cast(dtype, DType::I64, value);
                (value, Some(self.b.ins().icmp_imm_s(IntCC::UnsignedLessThan, value, length as i64)))
            }
        }
    }

    /// The address of a constant table.
    fn table(&mut self, table: &[i64]) -> Value {
        let bytes = table.iter().flat_map(|entry| entry.to_ne_bytes()).collect();
        let id = self.module.table(bytes).expect("anonymous data has no name to collide");
        let global = self.module.jit.declare_data_in_func(id, self.b.func);
        self.b.ins().symbol_value(types::I64, global)
    }

    fn load(&mut self, buffer: BufferId, at: &[Index], outside: Option<Literal>) -> Value {
        let slot = &self.recipe.slots[buffer.0 as usize];
        let ty = clif_type(slot.dtype);
        let dims = slot.dims.clone();
        // What the halo holds needs no check.
        let covered = outside.is_some() && slot.layout.halo_value == outside;
        let mut inside: Option<Value> = None;
        let mut values = Vec::with_capacity(at.len());
        for (axis, (index, &length)) in at.iter().zip(&dims).enumerate() {
            let (value, condition) = self.index(index, length);
            values.push(value);
            let condition = match index {
                Index::Computed(_) if outside.is_none() => {
                    self.checked_loads += 1;
                    let condition = condition.expect("computed indices are checked");
                    let bad = self.b.ins().bxor_imm_u(condition, 1);
                    self.leave_if(bad, self.checked_loads);
                    None
                }
                Index::Affine(affine) if covered && self.in_halo(affine, buffer, axis) => None,
                _ => condition,
            };
            if let Some(condition) = condition {
                inside = Some(inside.map_or(condition, |both| self.b.ins().band(both, condition)));
            }
        }
        let flags = MemFlagsData::trusted();
        match (inside, outside) {
            (Some(inside), Some(outside)) => {
                let read = |e: &mut Self| {
                    let address = e.element(buffer, &values);
                    e.b.ins().load(ty, flags, address, 0)
                };
                // What the branch computes is not known behind it.
                self.choose(inside, ty, read, |e| e.literal(outside))
            }
            _ => {
                let address = self.element(buffer, &values);
                self.b.ins().load(ty, flags, address, 0)
            }
        }
    }

    /// Whether every value of a form along an axis is inside the buffer or its halo.
    fn in_halo(&self, affine: &Affine, buffer: BufferId, axis: usize) -> bool {
        let slot = &self.recipe.slots[buffer.0 as usize];
        let (before, behind) = slot.layout.halo_of(axis);
        let (low, high) = affine.dividend_range(&self.extents);
        affine.divisor == 1 && -low <= before as i64 && high < (slot.dims[axis] + behind) as i64
    }

    /// The address of the element that a store writes.
    pub(super) fn address(&mut self, buffer: BufferId, at: &[Index]) -> (Value, i32) {
        let dims = self.recipe.slots[buffer.0 as usize].dims.clone();
        let values: Vec<Value> = at
            .iter()
            .zip(&dims)
            .map(|(index, &length)| {
                let (value, condition) = self.index(index, length);
                if let (Index::Computed(_), Some(condition)) = (index, condition) {
                    self.checked_loads += 1;
                    let bad = self.b.ins().bxor_imm_u(condition, 1);
                    self.leave_if(bad, self.checked_loads);
                }
                value
            })
            .collect();
        (self.element(buffer, &values), 0)
    }

    fn element(&mut self, buffer: BufferId, values: &[Value]) -> Value {
        let slot = &self.recipe.slots[buffer.0 as usize];
        let size = slot.dtype.bytes() as i64;
        let strides = slot.layout.strides(&slot.dims);
        let origin = slot.layout.origin(&slot.dims) as i64;
        let block = slot.layout.block;
        let mut address = self.b.ins().iadd_imm_s(self.bases[buffer.0 as usize], origin * size);
        for (axis, (&value, &stride)) in values.iter().zip(&strides).enumerate() {
            let mut bytes = stride as i64 * size;
            let mut value = value;
            if let Some(block) = block.filter(|block| block.axis as usize == axis) {
                let lanes = i64::from(block.lanes);
                let lane = self.b.ins().urem_imm_s(value, lanes);
                let lane = self.b.ins().imul_imm_s(lane, size);
                address = self.b.ins().iadd(address, lane);
                value = self.b.ins().udiv_imm_s(value, lanes);
            }
            if bytes != 1 {
                value = self.b.ins().imul_imm_s(value, std::mem::replace(&mut bytes, 1));
            }
            address = self.b.ins().iadd(address, value);
        }
        address
    }

    fn unary(&mut self, op: UnaryOp, dtype: DType, a: Value) -> Value {
        if dtype == DType::Bool {
            return self.b.ins().bxor_imm_u(a, 1);
        }
        if dtype.is_integer() {
            return match (op, dtype) {
                (UnaryOp::Neg, _) => self.b.ins().ineg(a),
                (UnaryOp::Abs, DType::I64 | DType::I32) => self.b.ins().iabs(a),
                _ => a,
            };
        }
        match op {
            UnaryOp::Neg => self.b.ins().fneg(a),
            UnaryOp::Abs => self.b.ins().fabs(a),
            UnaryOp::Sqrt => self.b.ins().sqrt(a),
            UnaryOp::Floor => self.b.ins().floor(a),
            UnaryOp::Ceil => self.b.ins().ceil(a),
            UnaryOp::Round => self.b.ins().nearest(a),
            UnaryOp::Trunc => self.b.ins().trunc(a),
            _ => elementary::unary(&OnePoint(RefCell::new(&mut self.b)), op, a),
        }
    }

    fn binary(&mut self, op: BinaryOp, dtype: DType, a: Value, b: Value) -> Value {
        let unsigned = matches!(dtype, DType::U32 | DType::U8 | DType::Bool);
        match (op, dtype.is_float()) {
            (BinaryOp::Add, true) => self.b.ins().fadd(a, b),
            (BinaryOp::Sub, true) => self.b.ins().fsub(a, b),
            (BinaryOp::Mul, true) => self.b.ins().fmul(a, b),
            (BinaryOp::Div, true) => self.b.ins().fdiv(a, b),
            (BinaryOp::Max | BinaryOp::Min, true) => {
                let wins = self.is_better(op == BinaryOp::Max, dtype, a, b);
                self.b.ins().select(wins, a, b)
            }
            (BinaryOp::Pow | BinaryOp::Atan2, _) => elementary::binary(&OnePoint(RefCell::new(&mut self.b)), op, a, b),
            (BinaryOp::Add, false) => self.b.ins().iadd(a, b),
            (BinaryOp::Sub, false) => self.b.ins().isub(a, b),
            (BinaryOp::Mul, false) => self.b.ins().imul(a, b),
            (BinaryOp::Max, false) if unsigned => self.b.ins().umax(a, b),
            (BinaryOp::Max, false) => self.b.ins().smax(a, b),
            (BinaryOp::Min, false) if unsigned => self.b.ins().umin(a, b),
            (BinaryOp::Min, false) => self.b.ins().smin(a, b),
            (BinaryOp::Div, false) => self.integer_quotient(dtype, a, b),
            (BinaryOp::And, _) => self.b.ins().band(a, b),
            (BinaryOp::Or, _) => self.b.ins().bor(a, b),
            (BinaryOp::Xor, _) => self.b.ins().bxor(a, b),
            (BinaryOp::MulHigh, _) => self.b.ins().umulhi(a, b),
        }
    }

    /// The quotient rounded towards zero; 0 where the divisor is 0, and the dividend wrapped where it would overflow.
    fn integer_quotient(&mut self, dtype: DType, a: Value, b: Value) -> Value {
        let ty = clif_type(dtype);
        let (zero, one) = (self.b.ins().iconst(ty, 0), self.b.ins().iconst(ty, 1));
        let by_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        let divisor = self.b.ins().select(by_zero, one, b);
        let quotient = if matches!(dtype, DType::U32 | DType::U8 | DType::Bool) {
            self.b.ins().udiv(a, divisor)
        } else {
            let negated = self.b.ins().ineg(a);
            let minus = self.b.ins().icmp_imm_s(IntCC::Equal, divisor, -1);
            let safe = self.b.ins().select(minus, one, divisor);
            let quotient = self.b.ins().sdiv(a, safe);
            self.b.ins().select(minus, negated, quotient)
        };
        self.b.ins().select(by_zero, zero, quotient)
    }

    fn compare(&mut self, op: CompareOp, dtype: DType, a: Value, b: Value) -> Value {
        if dtype.is_float() {
            let condition = match op {
                CompareOp::Eq => FloatCC::Equal,
                CompareOp::Ne => FloatCC::NotEqual,
                CompareOp::Lt => FloatCC::LessThan,
                CompareOp::Le => FloatCC::LessThanOrEqual,
                CompareOp::Gt => FloatCC::GreaterThan,
                CompareOp::Ge => FloatCC::GreaterThanOrEqual,
            };
            return self.b.ins().fcmp(condition, a, b);
        }
        let signed = matches!(dtype, DType::I64 | DType::I32);
        let condition = match op {
            CompareOp::Eq => IntCC::Equal,
            CompareOp::Ne => IntCC::NotEqual,
            CompareOp::Lt => {
                if signed {
                    IntCC::SignedLessThan
                } else {
                    IntCC::UnsignedLessThan
                }
            }
            CompareOp::Le => {
                if signed {
                    IntCC::SignedLessThanOrEqual
                } else {
                    IntCC::UnsignedLessThanOrEqual
                }
            }
            CompareOp::Gt => {
                if signed {
                    IntCC::SignedGreaterThan
                } else {
                    IntCC::UnsignedGreaterThan
                }
            }
            CompareOp::Ge => {
                if signed {
                    IntCC::SignedGreaterThanOrEqual
                } else {
                    IntCC::UnsignedGreaterThanOrEqual
                }
            }
        };
        self.b.ins().icmp(condition, a, b)
    }

    /// Whether `new` takes the place of `old` in a search for the greatest (or least): NaN beats all, the first wins.
    pub(super) fn is_better(&mut self, greatest: bool, dtype: DType, new: Value, old: Value) -> Value {
        let op = if greatest { CompareOp::Gt } else { CompareOp::Lt };
        let beyond = self.compare(op, dtype, new, old);
        if !dtype.is_float() {
            return beyond;
        }
        let new_is_nan = self.b.ins().fcmp(FloatCC::Unordered, new, new);
        let old_is_number = self.b.ins().fcmp(FloatCC::Ordered, old, old);
        let turns_nan = self.b.ins().band(new_is_nan, old_is_number);
        self.b.ins().bor(beyond, turns_nan)
    }

    pub(super) fn combine(&mut self, kind: FoldKind, dtype: DType, folded: Value, value: Value) -> Value {
        match (kind, dtype.is_float()) {
            (FoldKind::Sum, true) => self.b.ins().fadd(folded, value),
            (FoldKind::Sum, false) => self.b.ins().iadd(folded, value),
            (FoldKind::Product, true) => self.b.ins().fmul(folded, value),
            (FoldKind::Product, false) => self.b.ins().imul(folded, value),
            _ => {
                let better = self.is_better(matches!(kind, FoldKind::Max), dtype, value, folded);
                self.b.ins().select(better, value, folded)
            }
        }
    }

    fn cast(&mut self, from: DType, to: DType, a: Value) -> Value {
        let (source, target) = (clif_type(from), clif_type(to));
        let unsigned = |dtype| matches!(dtype, DType::U32 | DType::U8 | DType::Bool);
        match (from.is_float(), to) {
            _ if from == to => a,
            (true, DType::Bool) => {
                let zero = self.b.ins().f32const(0.0);
                self.b.ins().fcmp(FloatCC::NotEqual, a, zero)
            }
            (false, DType::Bool) => self.b.ins().icmp_imm_s(IntCC::NotEqual, a, 0),
            (true, DType::U8) => {
                let wide = self.b.ins().fcvt_to_uint_sat(types::I32, a);
                let most = self.b.ins().iconst(types::I32, 255);
                let bounded = self.b.ins().umin(wide, most);
                self.b.ins().ireduce(types::I8, bounded)
            }
            (true, _) if unsigned(to) => self.b.ins().fcvt_to_uint_sat(target, a),
            (true, _) => self.b.ins().fcvt_to_sint_sat(target, a),
            (false, DType::F32 | DType::F64) => {
                let wide = if source.bytes() < 4 { self.b.ins().uextend(types::I32, a) } else { a };
                match unsigned(from) {
                    true => self.b.ins().fcvt_from_uint(target, wide),
                    false => self.b.ins().fcvt_from_sint(target, wide),
                }
            }
            (false, _) if source.bytes() > target.bytes() => self.b.ins().ireduce(target, a),
            (false, _) if source.bytes() == target.bytes() => a,
            (false, _) if unsigned(from) => self.b.ins().uextend(target, a),
            (false, _) => self.b.ins().sextend(target, a),
        }
    }
}
