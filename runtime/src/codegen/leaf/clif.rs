//! Leaves on any machine that Cranelift supports: 128-bit vectors in plain CLIF.

use super::{
    Access, Address, Binary, Compare, Inst, Lanes, Leaf, Logic, Loop, LoopId, Mask, Reduction, Shift, Unary, Vector,
};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::immediates::V128Imm;
use cranelift_codegen::ir::{
    BlockArg, ConstantData, Endianness, InstBuilder, MemFlagsData, StackSlot, StackSlotData, StackSlotKind, Type,
    Value, types,
};
use cranelift_frontend::FunctionBuilder;
use rustc_hash::FxHashMap;

/// The lanes of a vector.
pub const WIDTH: usize = 4;

/// Writes the code of `leaf` at the place of `b`; `parameters` are its parameters.
pub fn lower(leaf: &Leaf, b: &mut FunctionBuilder, parameters: &[Value]) {
    let vectors = vec![None; leaf.counts.vectors as usize];
    let masks = vec![None; leaf.counts.masks as usize];
    let pointers = parameters.iter().enumerate().map(|(i, &value)| ((i, Vec::new()), value)).collect();
    let (positions, constants) = (FxHashMap::default(), FxHashMap::default());
    let stashed = FxHashMap::default();
    let mut lowering = Lowering { b, parameters, vectors, constants, stashed, masks, pointers, positions };
    for (i, inst) in leaf.body.iter().enumerate() {
        lowering.inst(inst);
        if let Inst::Loop(inner) = inst
            && leaf.body.len() - i > STASHING * inner.carried.len()
        {
            lowering.stash(inner);
        }
    }
}

/// Instructions for each sum of a loop, from which on the sums are put on the stack behind it.
const STASHING: usize = 8;

/// A base and the loop terms that have been added to it.
type PointerKey = (usize, Vec<(LoopId, i64)>);

struct Lowering<'a, 'f> {
    b: &'a mut FunctionBuilder<'f>,
    parameters: &'a [Value],
    vectors: Vec<Option<Value>>,
    constants: FxHashMap<Vector, u32>,
    /// Sums that wait on the stack.
    stashed: FxHashMap<Vector, StackSlot>,
    /// As I32X4: all ones or zeros.
    masks: Vec<Option<Value>>,
    /// Addresses that advance with the open loops.
    pointers: FxHashMap<PointerKey, Value>,
    /// Loop positions as I64.
    positions: FxHashMap<LoopId, Value>,
}

fn bits_flags() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

impl Lowering<'_, '_> {
    fn body(&mut self, body: &[Inst]) {
        for inst in body {
            self.inst(inst);
        }
    }

    fn get(&mut self, vector: Vector) -> Value {
        if let Some(&bits) = self.constants.get(&vector) {
            return self.constant([bits; WIDTH], types::F32X4);
        }
        match self.stashed.get(&vector) {
            Some(&slot) => self.b.ins().stack_load(types::I64, types::F32X4, slot, 0),
            None => self.vectors[vector.0 as usize].expect("defined before use"),
        }
    }

    /// Puts the results of a loop on the stack. Where much follows, the register allocator would otherwise let the sums
    /// live in memory within the loop already.
    fn stash(&mut self, inner: &Loop) {
        for carried in &inner.carried {
            let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 16, 4);
            let slot = self.b.create_sized_stack_slot(data);
            let value = self.get(carried.after);
            self.b.ins().stack_store(types::I64, value, slot, 0);
            self.stashed.insert(carried.after, slot);
        }
    }

    fn set(&mut self, vector: Vector, value: Value) {
        self.vectors[vector.0 as usize] = Some(value);
    }

    fn get_mask(&self, mask: Mask) -> Value {
        self.masks[mask.0 as usize].expect("defined before use")
    }

    fn as_int(&mut self, vector: Vector) -> Value {
        let value = self.get(vector);
        self.b.ins().bitcast(types::I32X4, bits_flags(), value)
    }

    fn set_int(&mut self, vector: Vector, value: Value) {
        let value = self.b.ins().bitcast(types::F32X4, bits_flags(), value);
        self.set(vector, value);
    }

    fn inst(&mut self, inst: &Inst) {
        match inst {
            // Made where it is used: a constant kept in a register through a loop would take one from the sums.
            Inst::Constant { to, bits } => {
                self.constants.insert(*to, *bits);
            }
            Inst::Position { to, parameter, terms, offset, lane_step } => {
                let mut sum = self.b.ins().iadd_imm_s(self.parameters[*parameter], *offset);
                for (id, k) in terms {
                    let term = self.b.ins().imul_imm_s(self.positions[id], *k);
                    sum = self.b.ins().iadd(sum, term);
                }
                let sum = self.b.ins().ireduce(types::I32, sum);
                let all = self.b.ins().splat(types::I32X4, sum);
                let steps = [0, 1, 2, 3].map(|lane| (lane * *lane_step) as i32 as u32);
                let steps = self.constant(steps, types::I32X4);
                let value = self.b.ins().iadd(all, steps);
                self.set_int(*to, value);
            }
            Inst::Load { to, from, access } => {
                let (pointer, offset) = self.pointer(from);
                let value = self.load(pointer, offset, *access);
                self.set(*to, value);
            }
            Inst::Store { value, to, access, .. } => {
                let (pointer, offset) = self.pointer(to);
                let value = self.get(*value);
                self.store(value, pointer, offset, *access);
            }
            // Cranelift has no instruction for it.
            Inst::Prefetch { .. } => {}
            Inst::Unary { to, op, a } => self.unary(*to, *op, *a),
            Inst::Binary { to, op, a, b } => self.binary(*to, *op, *a, *b),
            Inst::Shift { to, op, a, by } => {
                let a = self.as_int(*a);
                let by = i64::from(*by);
                let value = match op {
                    Shift::Left => self.b.ins().ishl_imm_u(a, by),
                    Shift::LogicalRight => self.b.ins().ushr_imm_u(a, by),
                    Shift::ArithmeticRight => self.b.ins().sshr_imm_u(a, by),
                };
                self.set_int(*to, value);
            }
            Inst::Fma { to, a, b, c } => {
                let (a, b, c) = (self.get(*a), self.get(*b), self.get(*c));
                let value = self.b.ins().fma(a, b, c);
                self.set(*to, value);
            }
            Inst::Compare { to, op, a, b } => self.compare(*to, *op, *a, *b),
            Inst::Logic { to, op, a, b } => {
                let (a, b) = (self.get_mask(*a), self.get_mask(*b));
                let value = match op {
                    Logic::And => self.b.ins().band(a, b),
                    Logic::Or => self.b.ins().bor(a, b),
                    Logic::Xor => self.b.ins().bxor(a, b),
                };
                self.masks[to.0 as usize] = Some(value);
            }
            Inst::Not { to, a } => {
                let a = self.get_mask(*a);
                self.masks[to.0 as usize] = Some(self.b.ins().bnot(a));
            }
            Inst::Select { to, condition, yes, no } => {
                let (condition, yes, no) = (self.get_mask(*condition), self.get(*yes), self.get(*no));
                let condition = self.b.ins().bitcast(types::F32X4, bits_flags(), condition);
                let value = self.b.ins().bitselect(condition, yes, no);
                self.set(*to, value);
            }
            Inst::Blend { to, lanes, a, b } => {
                let mask = [0, 1, 2, 3].map(|lane| if lane < *lanes { u32::MAX } else { 0 });
                let mask = self.constant(mask, types::F32X4);
                let (a, b) = (self.get(*a), self.get(*b));
                let value = self.b.ins().bitselect(mask, a, b);
                self.set(*to, value);
            }
            Inst::Evens { to, a, b, odd, .. } => {
                let (a, b) = (self.get(*a), self.get(*b));
                let value = self.shuffle(a, b, [0, 2, 4, 6].map(|lane| lane + u8::from(*odd)));
                self.set(*to, value);
            }
            Inst::Unmix { .. } => unreachable!("four lanes are not mixed"),
            Inst::Interleave { to, a, b } => {
                let (a, b) = (self.get(*a), self.get(*b));
                for (to, lanes) in to.iter().zip([[0, 4, 1, 5], [2, 6, 3, 7]]) {
                    let value = self.shuffle(a, b, lanes);
                    self.set(*to, value);
                }
            }
            Inst::Lookup { .. } => unreachable!("four lanes look up nothing"),
            Inst::Transpose { to, from } => self.transpose(to, from),
            Inst::Reduce { to, op, a } => {
                let a = self.get(*a);
                let swapped = self.shuffle(a, a, [2, 3, 0, 1]);
                let half = self.reduce_step(*op, a, swapped);
                let swapped = self.shuffle(half, half, [1, 0, 3, 2]);
                let all = self.reduce_step(*op, half, swapped);
                self.set(*to, all);
            }
            Inst::Loop(inner) => self.counted(inner),
        }
    }

    fn constant(&mut self, lanes: [u32; WIDTH], ty: Type) -> Value {
        let data: Vec<u8> = lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect();
        let handle = self.b.func.dfg.constants.insert(ConstantData::from(data.as_slice()));
        self.b.ins().vconst(ty, handle)
    }

    /// Lanes of two vectors: those of the second are numbered from `WIDTH` on.
    fn shuffle(&mut self, a: Value, b: Value, lanes: [u8; WIDTH]) -> Value {
        let bytes: [u8; 16] = std::array::from_fn(|i| lanes[i / 4] * 4 + (i % 4) as u8);
        let immediate = self.b.func.dfg.immediates.push(V128Imm(bytes).to_vec().as_slice().into());
        let [a, b] = [a, b].map(|value| self.b.ins().bitcast(types::I8X16, bits_flags(), value));
        let value = self.b.ins().shuffle(a, b, immediate);
        self.b.ins().bitcast(types::F32X4, bits_flags(), value)
    }

    fn transpose(&mut self, to: &[Vector], from: &[Vector]) {
        let rows: Vec<Value> = from.iter().map(|&row| self.get(row)).collect();
        // Neighbours of two rows side by side, then halves of two pairs.
        let pairs = [(0, 1), (2, 3)].map(|(a, b)| {
            let low = self.shuffle(rows[a], rows[b], [0, 4, 1, 5]);
            let high = self.shuffle(rows[a], rows[b], [2, 6, 3, 7]);
            [low, high]
        });
        for (i, &column) in to.iter().enumerate() {
            let lanes = if i % 2 == 0 { [0, 1, 4, 5] } else { [2, 3, 6, 7] };
            let value = self.shuffle(pairs[0][i / 2], pairs[1][i / 2], lanes);
            self.set(column, value);
        }
    }

    fn reduce_step(&mut self, op: Reduction, a: Value, b: Value) -> Value {
        match op {
            Reduction::Sum => self.b.ins().fadd(a, b),
            Reduction::Product => self.b.ins().fmul(a, b),
            Reduction::Max | Reduction::Min => {
                let condition = if op == Reduction::Max { FloatCC::GreaterThan } else { FloatCC::LessThan };
                let beyond = self.b.ins().fcmp(condition, a, b);
                let nan = self.b.ins().fcmp(FloatCC::Unordered, a, a);
                let first = self.b.ins().bor(beyond, nan);
                let first = self.b.ins().bitcast(types::F32X4, bits_flags(), first);
                self.b.ins().bitselect(first, a, b)
            }
        }
    }

    fn unary(&mut self, to: Vector, op: Unary, a: Vector) {
        let value = match op {
            Unary::ToFloat | Unary::UnsignedToFloat => {
                let a = self.as_int(a);
                match op {
                    Unary::ToFloat => self.b.ins().fcvt_from_sint(types::F32X4, a),
                    _ => self.b.ins().fcvt_from_uint(types::F32X4, a),
                }
            }
            _ => {
                let a = self.get(a);
                match op {
                    Unary::Neg => self.b.ins().fneg(a),
                    Unary::Abs => self.b.ins().fabs(a),
                    Unary::Sqrt => self.b.ins().sqrt(a),
                    Unary::Floor => self.b.ins().floor(a),
                    Unary::Ceil => self.b.ins().ceil(a),
                    Unary::Round => self.b.ins().nearest(a),
                    _ => self.b.ins().trunc(a),
                }
            }
        };
        self.set(to, value);
    }

    fn binary(&mut self, to: Vector, op: Binary, a: Vector, b: Vector) {
        let value = match op {
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Greater | Binary::Lesser => {
                let (a, b) = (self.get(a), self.get(b));
                match op {
                    Binary::Add => self.b.ins().fadd(a, b),
                    Binary::Sub => self.b.ins().fsub(a, b),
                    Binary::Mul => self.b.ins().fmul(a, b),
                    Binary::Div => self.b.ins().fdiv(a, b),
                    // The patterns that x86-64 has single instructions for.
                    Binary::Greater => {
                        let wins = self.b.ins().fcmp(FloatCC::LessThan, b, a);
                        let wins = self.b.ins().bitcast(types::F32X4, bits_flags(), wins);
                        self.b.ins().bitselect(wins, a, b)
                    }
                    _ => {
                        let wins = self.b.ins().fcmp(FloatCC::LessThan, a, b);
                        let wins = self.b.ins().bitcast(types::F32X4, bits_flags(), wins);
                        self.b.ins().bitselect(wins, a, b)
                    }
                }
            }
            _ => {
                let (a, b) = (self.as_int(a), self.as_int(b));
                let value = match op {
                    Binary::IAdd => self.b.ins().iadd(a, b),
                    Binary::ISub => self.b.ins().isub(a, b),
                    Binary::IMul => self.b.ins().imul(a, b),
                    Binary::And => self.b.ins().band(a, b),
                    Binary::Or => self.b.ins().bor(a, b),
                    Binary::Xor => self.b.ins().bxor(a, b),
                    _ => self.high_product(a, b),
                };
                return self.set_int(to, value);
            }
        };
        self.set(to, value);
    }

    /// The upper halves of four products of unsigned numbers.
    fn high_product(&mut self, a: Value, b: Value) -> Value {
        let mut high = self.constant([0; WIDTH], types::I32X4);
        for lane in 0..WIDTH as u8 {
            let x = self.b.ins().extractlane(a, lane);
            let y = self.b.ins().extractlane(b, lane);
            let product = self.b.ins().umulhi(x, y);
            high = self.b.ins().insertlane(high, product, lane);
        }
        high
    }

    fn compare(&mut self, to: Mask, op: Compare, a: Vector, b: Vector) {
        let float = match op {
            Compare::Lt => Some(FloatCC::LessThan),
            Compare::Le => Some(FloatCC::LessThanOrEqual),
            Compare::Eq => Some(FloatCC::Equal),
            Compare::Gt => Some(FloatCC::GreaterThan),
            Compare::Ge => Some(FloatCC::GreaterThanOrEqual),
            Compare::Unordered => Some(FloatCC::Unordered),
            Compare::IEq | Compare::ILt | Compare::ULt => None,
        };
        let value = match float {
            Some(condition) => {
                let (a, b) = (self.get(a), self.get(b));
                self.b.ins().fcmp(condition, a, b)
            }
            None => {
                let (a, b) = (self.as_int(a), self.as_int(b));
                let condition = match op {
                    Compare::IEq => IntCC::Equal,
                    Compare::ILt => IntCC::SignedLessThan,
                    _ => IntCC::UnsignedLessThan,
                };
                self.b.ins().icmp(condition, a, b)
            }
        };
        self.masks[to.0 as usize] = Some(value);
    }

    fn pointer(&mut self, address: &Address) -> (Value, i64) {
        let key = (address.base, address.terms.to_vec());
        let pointer = self.pointers[&key];
        if i32::try_from(address.offset).is_ok() {
            return (pointer, address.offset);
        }
        (self.b.ins().iadd_imm_s(pointer, address.offset), 0)
    }

    fn load(&mut self, pointer: Value, offset: i64, access: Access) -> Value {
        let flags = MemFlagsData::trusted();
        let (lanes, step) = match access {
            Access::Broadcast => {
                let one = self.b.ins().load(types::F32, flags, pointer, offset as i32);
                return self.b.ins().splat(types::F32X4, one);
            }
            Access::Vector { lanes } if lanes.count() == WIDTH => {
                // Neighbours in memory, but a vector at any address.
                return self.b.ins().load(types::F32X4, MemFlagsData::new().with_notrap(), pointer, offset as i32);
            }
            Access::Vector { lanes } => (lanes, 4),
            Access::Strided { lanes, bytes } => (lanes, bytes),
        };
        let mut value = self.constant([0; WIDTH], types::F32X4);
        for lane in lanes.from..lanes.to {
            let at = offset + lane as i64 * step;
            let (pointer, at) = match i32::try_from(at) {
                Ok(at) => (pointer, at),
                Err(_) => (self.b.ins().iadd_imm_s(pointer, at), 0),
            };
            let element = self.b.ins().load(types::F32, flags, pointer, at);
            value = self.b.ins().insertlane(value, element, lane as u8);
        }
        value
    }

    fn store(&mut self, value: Value, pointer: Value, offset: i64, access: Access) {
        let flags = MemFlagsData::trusted();
        let (lanes, step) = match access {
            Access::Vector { lanes } if lanes.count() == WIDTH => {
                let flags = MemFlagsData::new().with_notrap();
                self.b.ins().store(flags, value, pointer, offset as i32);
                return;
            }
            Access::Broadcast => (Lanes::first(1), 4),
            Access::Vector { lanes } => (lanes, 4),
            Access::Strided { lanes, bytes } => (lanes, bytes),
        };
        for lane in lanes.from..lanes.to {
            let at = offset + lane as i64 * step;
            let (pointer, at) = match i32::try_from(at) {
                Ok(at) => (pointer, at),
                Err(_) => (self.b.ins().iadd_imm_s(pointer, at), 0),
            };
            let element = self.b.ins().extractlane(value, lane as u8);
            self.b.ins().store(flags, element, pointer, at);
        }
    }

    /// A loop whose addresses advance by addition.
    fn counted(&mut self, inner: &Loop) {
        // Every pointer used within, with the stride by which this loop advances it.
        let mut advancing: Vec<(PointerKey, i64)> = Vec::new();
        for address in addresses(&inner.body) {
            let Some(at) = address.terms.iter().position(|(id, _)| *id == inner.id) else { continue };
            let key = (address.base, address.terms[..at].to_vec());
            let stride = address.terms[at].1;
            if !advancing.contains(&(key.clone(), stride)) {
                advancing.push((key, stride));
            }
        }
        let (head, done) = (self.b.create_block(), self.b.create_block());
        let position = self.b.append_block_param(head, types::I64);
        let zero = self.b.ins().iconst(types::I64, 0);
        let mut starts = vec![BlockArg::Value(zero)];
        let mut params = Vec::new();
        for (key, _) in &advancing {
            starts.push(BlockArg::Value(self.pointers[key]));
            params.push(self.b.append_block_param(head, types::I64));
        }
        for carried in &inner.carried {
            let start = self.get(carried.start);
            starts.push(BlockArg::Value(start));
            let inside = self.b.append_block_param(head, types::F32X4);
            self.set(carried.inside, inside);
        }
        let after: Vec<Value> = inner.carried.iter().map(|_| self.b.append_block_param(done, types::F32X4)).collect();
        self.b.ins().jump(head, &starts);
        self.b.switch_to_block(head);
        self.positions.insert(inner.id, position);
        for ((key, stride), &param) in advancing.iter().zip(&params) {
            let mut key = key.clone();
            key.1.push((inner.id, *stride));
            self.pointers.insert(key, param);
        }
        self.body(&inner.body);

        let next_position = self.b.ins().iadd_imm_s(position, 1);
        let mut next = vec![BlockArg::Value(next_position)];
        for ((_, stride), &param) in advancing.iter().zip(&params) {
            next.push(BlockArg::Value(self.b.ins().iadd_imm_s(param, *stride)));
        }
        let mut leaving = Vec::new();
        for carried in &inner.carried {
            let value = self.get(carried.next);
            next.push(BlockArg::Value(value));
            leaving.push(BlockArg::Value(value));
        }
        let more = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, next_position, inner.count as i64);
        self.b.ins().brif(more, head, &next, done, &leaving);
        self.b.seal_block(head);
        self.b.switch_to_block(done);
        self.b.seal_block(done);
        for (carried, value) in inner.carried.iter().zip(after) {
            self.set(carried.after, value);
        }
    }
}

/// All addresses in a body, those of inner loops included.
fn addresses(body: &[Inst]) -> Vec<&Address> {
    let mut all = Vec::new();
    for inst in body {
        match inst {
            Inst::Load { from, .. } => all.push(from),
            Inst::Store { to, .. } => all.push(to),
            Inst::Loop(inner) => all.extend(addresses(&inner.body)),
            _ => {}
        }
    }
    all
}
