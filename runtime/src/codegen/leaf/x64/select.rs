//! The instructions of a leaf as machine instructions over virtual registers.
//!
//! A load or constant that one instruction needs becomes its memory operand. A multiply-add overwrites the operand that
//! is needed no more. Loops count down; addresses that move with a loop are registers that advance at its end.

use super::Form;
use super::allocate::PARAMETERS;
use super::codes::{Op, code};
use super::machine::{
    Action, Base, BlockData, Constants, Explicit, Function, GENERAL, Inst, MASK, Memory, Size, VECTOR,
};
use crate::codegen::leaf::{
    Access, Address, Binary, Compare, Inst as LeafInst, Lanes, Leaf, Logic, Loop, LoopId, Mask, Reduction, Shift,
    Unary, Vector,
};
use iced_x86::Code;
use regalloc2::{Block, Operand, PReg, RegClass, VReg};
use smallvec::{SmallVec, smallvec};
use std::collections::{HashMap, HashSet};

/// The function of a leaf.
pub fn select(leaf: &Leaf, form: Form) -> Function {
    debug_assert_eq!(leaf.width, form.width(), "the leaf is made for these vectors");
    let mut selector = Selector {
        form,
        values: vec![None; leaf.counts.vectors as usize],
        masks: vec![None; leaf.counts.masks as usize],
        uses: count_uses(leaf),
        folded: HashSet::new(),
        pointers: HashMap::new(),
        lane_masks: HashMap::new(),
        hoisted: HashMap::new(),
        local: HashMap::new(),
        hoists: !has_carried_loop(&leaf.body),
        blocks: vec![BlockData::default()],
        prologue: Vec::new(),
        n_registers: 0,
        constants: Constants::default(),
    };
    selector.parameters(leaf.parameters);
    selector.body(&leaf.body, 0);
    selector.push(Action::Return, smallvec![]);
    let mut blocks = selector.blocks;
    let rest = std::mem::replace(&mut blocks[0].insts, selector.prologue);
    blocks[0].insts.extend(rest);
    Function::new(blocks, selector.n_registers, selector.constants, form.width() / 2)
}

/// A base and the loop terms that have been added to it.
type PointerKey = (usize, SmallVec<[(LoopId, i64); 4]>);

/// What a vector of the leaf is.
#[derive(Clone, Debug)]
enum Value {
    Register(VReg),
    Constant(u32),
    /// A load that the instruction that uses it does.
    Memory(Address, Access),
}

/// The last operand of an instruction.
#[derive(Clone, Copy)]
enum Source {
    Register(VReg),
    Pointer { pointer: VReg, offset: i32, broadcast: bool },
    Constant { number: usize, broadcast: bool },
}

struct Selector {
    form: Form,
    values: Vec<Option<Value>>,
    masks: Vec<Option<VReg>>,
    /// How often each vector is used.
    uses: Vec<u32>,
    /// Loads that become operands.
    folded: HashSet<Vector>,
    pointers: HashMap<PointerKey, VReg>,
    /// Masks of lanes.
    lane_masks: HashMap<Lanes, VReg>,
    /// Constants in registers, made at the start.
    hoisted: HashMap<u32, VReg>,
    /// Constants in registers, made in the block at hand.
    local: HashMap<u32, VReg>,
    /// Whether constants are made at the start: where no sums need the registers.
    hoists: bool,
    blocks: Vec<BlockData>,
    /// What comes before all else.
    prologue: Vec<Inst>,
    n_registers: usize,
    constants: Constants,
}

/// How often each vector is used as an operand; a value that passes through a loop counts once for each step of the way.
fn count_uses(leaf: &Leaf) -> Vec<u32> {
    fn count(body: &[LeafInst], uses: &mut Vec<u32>) {
        for inst in body {
            operands(inst, &mut |vector| uses[vector.0 as usize] += 1);
            if let LeafInst::Loop(inner) = inst {
                count(&inner.body, uses);
                for carried in &inner.carried {
                    uses[carried.start.0 as usize] += 1;
                    uses[carried.next.0 as usize] += 1;
                }
            }
        }
    }
    let mut uses = vec![0; leaf.counts.vectors as usize];
    count(&leaf.body, &mut uses);
    uses
}

fn has_carried_loop(body: &[LeafInst]) -> bool {
    body.iter().any(|inst| match inst {
        LeafInst::Loop(inner) => !inner.carried.is_empty() || has_carried_loop(&inner.body),
        _ => false,
    })
}

/// The vectors that an instruction other than a loop reads.
fn operands(inst: &LeafInst, with: &mut dyn FnMut(Vector)) {
    match inst {
        LeafInst::Constant { .. } | LeafInst::Position { .. } | LeafInst::Load { .. } | LeafInst::Loop(_) => {}
        LeafInst::Logic { .. } | LeafInst::Not { .. } => {}
        LeafInst::Store { value, .. } => with(*value),
        LeafInst::Transpose { from, .. } => from.iter().for_each(|&row| with(row)),
        LeafInst::Unary { a, .. } | LeafInst::Shift { a, .. } | LeafInst::Reduce { a, .. } => with(*a),
        LeafInst::Binary { a, b, .. } | LeafInst::Compare { a, b, .. } | LeafInst::Blend { a, b, .. } => {
            with(*a);
            with(*b);
        }
        LeafInst::Fma { a, b, c, .. } => [a, b, c].into_iter().for_each(|&vector| with(vector)),
        LeafInst::Select { yes, no, .. } => {
            with(*yes);
            with(*no);
        }
    }
}

impl Selector {
    fn register(&mut self, class: RegClass) -> VReg {
        self.n_registers += 1;
        VReg::new(self.n_registers - 1, class)
    }

    fn block(&mut self) -> &mut BlockData {
        self.blocks.last_mut().expect("the entry exists")
    }

    fn push(&mut self, action: Action, operands: SmallVec<[Operand; 4]>) {
        self.block().insts.push(Inst { action, operands });
    }

    fn parameters(&mut self, n: usize) {
        let registers: Vec<VReg> = (0..n).map(|_| self.register(GENERAL)).collect();
        let fixed = registers.iter().zip(PARAMETERS);
        let operands = fixed.map(|(&to, fixed)| Operand::reg_fixed_def(to, PReg::new(fixed, GENERAL))).collect();
        self.prologue.push(Inst { action: Action::Parameters, operands });
        for (i, &to) in registers.iter().enumerate() {
            if let Some(place) = i.checked_sub(PARAMETERS.len()) {
                let operands = smallvec![Operand::reg_def(to)];
                self.prologue.push(Inst { action: Action::StackParameter(place), operands });
            }
            self.pointers.insert((i, SmallVec::new()), to);
        }
    }

    // ---- encoding ----

    /// `to = op(first.., last)`, an immediate behind.
    fn encode(&mut self, op: Op, first: &[VReg], last: Source, immediate: Option<u8>) -> VReg {
        let to = self.register(VECTOR);
        self.encode_to(op, Operand::reg_def(to), first, last, immediate, None);
        to
    }

    fn encode_to(
        &mut self,
        op: Op,
        to: Operand,
        first: &[VReg],
        last: Source,
        immediate: Option<u8>,
        mask: Option<(VReg, bool)>,
    ) {
        let mut operands: SmallVec<[Operand; 4]> = smallvec![to];
        let mut explicit: SmallVec<[Explicit; 4]> = smallvec![Explicit::Register(0, Size::Full)];
        for &register in first {
            explicit.push(Explicit::Register(operands.len(), Size::Full));
            operands.push(Operand::reg_use(register));
        }
        explicit.push(Self::last(last, &mut operands, Size::Full));
        explicit.extend(immediate.map(Explicit::Immediate));
        let mask = mask.map(|(register, zeroing)| {
            operands.push(Operand::reg_use(register));
            (operands.len() - 1, zeroing)
        });
        self.push(Action::Encode { code: code(op, self.form), explicit, mask }, operands);
    }

    fn last(source: Source, operands: &mut SmallVec<[Operand; 4]>, size: Size) -> Explicit {
        let memory = |base, offset, broadcast| Explicit::Memory(Memory { base, offset, broadcast });
        match source {
            Source::Register(register) => {
                operands.push(Operand::reg_use(register));
                Explicit::Register(operands.len() - 1, size)
            }
            Source::Pointer { pointer, offset, broadcast } => {
                operands.push(Operand::reg_use(pointer));
                memory(Base::Register(operands.len() - 1), offset, broadcast)
            }
            Source::Constant { number, broadcast } => memory(Base::Constant(number), 0, broadcast),
        }
    }

    // ---- operands ----

    /// A constant in memory: one element for all lanes where the form can, else a whole vector.
    fn constant(&mut self, bits: u32) -> Source {
        let (copies, broadcast) = match self.form {
            Form::Zmm => (1, true),
            Form::Ymm => (self.form.width(), false),
        };
        let number = self.constants.number(bits.to_le_bytes().repeat(copies));
        Source::Constant { number, broadcast }
    }

    /// Different constants in the lanes.
    fn pattern(&mut self, lane: impl Fn(usize) -> u32) -> Source {
        let bytes = (0..self.form.width()).flat_map(|i| lane(i).to_le_bytes()).collect();
        Source::Constant { number: self.constants.number(bytes), broadcast: false }
    }

    fn source(&mut self, vector: Vector) -> Source {
        match self.values[vector.0 as usize].clone().expect("defined before use") {
            Value::Register(register) => Source::Register(register),
            Value::Constant(bits) => self.constant(bits),
            Value::Memory(address, access) => {
                let (pointer, offset) = self.pointer(&address);
                Source::Pointer { pointer, offset, broadcast: access == Access::Broadcast }
            }
        }
    }

    fn is_register(&self, vector: Vector) -> bool {
        matches!(self.values[vector.0 as usize], Some(Value::Register(_)))
    }

    fn get(&mut self, vector: Vector) -> VReg {
        match self.values[vector.0 as usize].clone().expect("defined before use") {
            Value::Register(register) => register,
            Value::Constant(bits) => self.constant_register(bits),
            Value::Memory(..) => {
                let source = self.source(vector);
                self.load_whole(source)
            }
        }
    }

    fn constant_register(&mut self, bits: u32) -> VReg {
        if let Some(&known) = self.hoisted.get(&bits).or(self.local.get(&bits)) {
            return known;
        }
        let behind = self.hoists.then(|| std::mem::take(&mut self.block().insts));
        let register = if bits == 0 {
            let zero = self.register(VECTOR);
            self.zero(zero);
            zero
        } else {
            let number = self.constants.number(bits.to_le_bytes().to_vec());
            self.encode(Op::Broadcast, &[], Source::Constant { number, broadcast: false }, None)
        };
        match behind {
            Some(insts) => {
                let made = std::mem::replace(&mut self.block().insts, insts);
                self.prologue.extend(made);
                self.hoisted.insert(bits, register);
            }
            None => {
                self.local.insert(bits, register);
            }
        }
        register
    }

    /// An instruction that needs no operand: a register xor itself, which is written but not read.
    fn zero(&mut self, to: VReg) {
        let explicit = (0..3).map(|_| Explicit::Register(0, Size::Full)).collect();
        let action = Action::Encode { code: code(Op::Xor, self.form), explicit, mask: None };
        self.push(action, smallvec![Operand::reg_def(to)]);
    }

    fn set(&mut self, vector: Vector, register: VReg) {
        self.values[vector.0 as usize] = Some(Value::Register(register));
    }

    fn get_mask(&self, mask: Mask) -> VReg {
        self.masks[mask.0 as usize].expect("defined before use")
    }

    /// The mask of some lanes: a mask register, or a vector of ones and zeros.
    fn lane_mask(&mut self, lanes: Lanes) -> VReg {
        if let Some(&known) = self.lane_masks.get(&lanes) {
            return known;
        }
        match self.form {
            Form::Zmm => {
                let to = self.register(MASK);
                let action = Action::Lanes(lanes);
                self.prologue.push(Inst { action, operands: smallvec![Operand::reg_def(to)] });
                self.lane_masks.insert(lanes, to);
                to
            }
            Form::Ymm => {
                let source = self.pattern(|lane| if (lanes.from..lanes.to).contains(&lane) { u32::MAX } else { 0 });
                self.load_whole(source)
            }
        }
    }

    fn load_whole(&mut self, source: Source) -> VReg {
        match source {
            Source::Register(register) => register,
            Source::Pointer { pointer, offset, broadcast: true } => {
                self.encode(Op::Broadcast, &[], Source::Pointer { pointer, offset, broadcast: false }, None)
            }
            Source::Constant { number, broadcast: true } => {
                self.encode(Op::Broadcast, &[], Source::Constant { number, broadcast: false }, None)
            }
            whole => self.encode(Op::Load, &[], whole, None),
        }
    }

    /// The register that holds the address but for a small offset.
    fn pointer(&mut self, address: &Address) -> (VReg, i32) {
        let pointer = self.pointers[&(address.base, address.terms.clone())];
        match i32::try_from(address.offset) {
            Ok(offset) => (pointer, offset),
            Err(_) => (self.advance(pointer, address.offset), 0),
        }
    }

    fn advance(&mut self, from: VReg, by: i64) -> VReg {
        let to = self.register(GENERAL);
        self.push(Action::Advance(by), smallvec![Operand::reg_def(to), Operand::reg_use(from)]);
        to
    }

    // ---- instructions ----

    fn body(&mut self, body: &[LeafInst], sums: usize) {
        self.mark_folded(body, sums);
        for inst in body {
            self.inst(inst);
        }
    }

    /// Finds the loads of a body that become operands: those that one instruction of the same body needs, with no store
    /// between. Where sums and vectors leave no register for elements that are shared by several instructions, these
    /// are read again by each.
    fn mark_folded(&mut self, body: &[LeafInst], sums: usize) {
        let mut loads: HashMap<Vector, (usize, Access)> = HashMap::new();
        let mut stores = 0;
        let mut shared_vectors = 0;
        let mut used_here: HashMap<Vector, u32> = HashMap::new();
        let mut broken: HashSet<Vector> = HashSet::new();
        for inst in body {
            match inst {
                LeafInst::Load { to, access, .. } => {
                    let whole = *access == Access::Vector { lanes: Lanes::first(self.form.width()) };
                    let element = *access == Access::Broadcast && self.form == Form::Zmm;
                    if whole && self.uses[to.0 as usize] > 1 {
                        shared_vectors += 1;
                    } else if whole || element {
                        loads.insert(*to, (stores, *access));
                    }
                }
                LeafInst::Store { .. } | LeafInst::Loop(_) => stores += 1,
                _ => {}
            }
            let folds = matches!(inst, LeafInst::Binary { .. } | LeafInst::Fma { .. });
            let mut seen: SmallVec<[Vector; 3]> = SmallVec::new();
            operands(inst, &mut |vector| {
                if let Some(&(at, _)) = loads.get(&vector) {
                    *used_here.entry(vector).or_default() += 1;
                    if !folds || at != stores || seen.contains(&vector) {
                        broken.insert(vector);
                    }
                    seen.push(vector);
                }
            });
            // Two operands cannot both be in memory.
            if let [first, rest @ ..] = &seen[..] {
                let keep = rest.iter().copied().find(|vector| loads[vector].1 != Access::Broadcast).unwrap_or(*first);
                broken.extend(seen.iter().copied().filter(|vector| *vector != keep));
            }
        }
        let is_tight = sums + shared_vectors + 1 >= self.form.registers();
        for (vector, _) in loads {
            let (all, here) = (self.uses[vector.0 as usize], used_here.get(&vector).copied().unwrap_or(0));
            if !broken.contains(&vector) && all == here && here > 0 && (here == 1 || is_tight) {
                self.folded.insert(vector);
            }
        }
    }

    fn inst(&mut self, inst: &LeafInst) {
        match inst {
            LeafInst::Constant { to, bits } => self.values[to.0 as usize] = Some(Value::Constant(*bits)),
            LeafInst::Position { to, parameter, terms, offset, lane_step } => {
                let key = (*parameter, terms.clone());
                let start = self.pointers[&key];
                let position = self.advance(start, *offset);
                let all = self.broadcast_integer(position);
                let value = if *lane_step == 0 {
                    all
                } else {
                    let steps = self.pattern(|lane| (lane as i64 * lane_step) as u32);
                    self.encode(Op::IAdd, &[all], steps, None)
                };
                self.set(*to, value);
            }
            LeafInst::Load { to, from, access } => {
                if self.folded.contains(to) {
                    self.values[to.0 as usize] = Some(Value::Memory(from.clone(), *access));
                } else {
                    let value = self.load(from, *access);
                    self.set(*to, value);
                }
            }
            LeafInst::Store { value, to, access } => self.store(*value, to, *access),
            LeafInst::Unary { to, op, a } => {
                let value = self.unary(*op, *a);
                self.set(*to, value);
            }
            LeafInst::Binary { to, op, a, b } => {
                let value = self.binary(*op, *a, *b);
                self.set(*to, value);
            }
            LeafInst::Shift { to, op, a, by } => {
                let a = self.get(*a);
                let op = match op {
                    Shift::Left => Op::ShiftLeft,
                    Shift::LogicalRight => Op::ShiftRight,
                    Shift::ArithmeticRight => Op::ShiftRightSigned,
                };
                let value = self.encode(op, &[], Source::Register(a), Some(*by as u8));
                self.set(*to, value);
            }
            LeafInst::Fma { to, a, b, c } => {
                let value = self.fma(*a, *b, *c);
                self.set(*to, value);
            }
            LeafInst::Compare { to, op, a, b } => {
                let (a, b) = (self.get(*a), self.source(*b));
                let value = self.compare(*op, a, b);
                self.masks[to.0 as usize] = Some(value);
            }
            LeafInst::Logic { to, op, a, b } => {
                let (a, b) = (self.get_mask(*a), self.get_mask(*b));
                let value = self.logic(*op, a, b);
                self.masks[to.0 as usize] = Some(value);
            }
            LeafInst::Not { to, a } => {
                let a = self.get_mask(*a);
                let value = match self.form {
                    Form::Zmm => self.encode_masks(Code::VEX_Knotw_kr_kr, &[a]),
                    Form::Ymm => {
                        let ones = self.constant(u32::MAX);
                        self.encode(Op::Xor, &[a], ones, None)
                    }
                };
                self.masks[to.0 as usize] = Some(value);
            }
            LeafInst::Select { to, condition, yes, no } => {
                let condition = self.get_mask(*condition);
                let (yes, no) = (self.source(*yes), self.get(*no));
                let value = self.select(condition, yes, no);
                self.set(*to, value);
            }
            LeafInst::Blend { to, lanes, a, b } => {
                let condition = self.lane_mask(Lanes::first(*lanes));
                let (a, b) = (self.source(*a), self.get(*b));
                let value = self.select(condition, a, b);
                self.set(*to, value);
            }
            LeafInst::Transpose { to, from } => {
                let rows: Vec<VReg> = from.iter().map(|&row| self.get(row)).collect();
                for (column, register) in self.transpose(rows) {
                    self.set(to[column], register);
                }
            }
            LeafInst::Reduce { to, op, a } => {
                let value = self.reduce(*op, *a);
                self.set(*to, value);
            }
            LeafInst::Loop(inner) => self.counted(inner),
        }
    }

    fn broadcast_integer(&mut self, from: VReg) -> VReg {
        let low = self.register(VECTOR);
        let explicit = smallvec![Explicit::Register(0, Size::Low), Explicit::Register(1, Size::Double)];
        let action = Action::Encode { code: code(Op::FromInteger, self.form), explicit, mask: None };
        self.push(action, smallvec![Operand::reg_def(low), Operand::reg_use(from)]);
        self.widen(low, Op::BroadcastLane)
    }

    /// An operation from the low 128 bits of a register to a whole one.
    fn widen(&mut self, low: VReg, op: Op) -> VReg {
        let to = self.register(VECTOR);
        let explicit = smallvec![Explicit::Register(0, Size::Full), Explicit::Register(1, Size::Low)];
        let action = Action::Encode { code: code(op, self.form), explicit, mask: None };
        self.push(action, smallvec![Operand::reg_def(to), Operand::reg_use(low)]);
        to
    }

    fn load(&mut self, from: &Address, access: Access) -> VReg {
        let (pointer, offset) = self.pointer(from);
        let source = Source::Pointer { pointer, offset, broadcast: false };
        match access {
            Access::Broadcast => self.encode(Op::Broadcast, &[], source, None),
            Access::Vector { lanes } if lanes.count() == self.form.width() => self.encode(Op::Load, &[], source, None),
            Access::Vector { lanes } => {
                let mask = self.lane_mask(lanes);
                let to = self.register(VECTOR);
                match self.form {
                    Form::Zmm => {
                        self.encode_to(Op::Load, Operand::reg_def(to), &[], source, None, Some((mask, true)));
                    }
                    Form::Ymm => {
                        let mut operands: SmallVec<[Operand; 4]> =
                            smallvec![Operand::reg_def(to), Operand::reg_use(mask)];
                        let memory = Self::last(source, &mut operands, Size::Full);
                        let explicit =
                            smallvec![Explicit::Register(0, Size::Full), Explicit::Register(1, Size::Full), memory];
                        let code = Code::VEX_Vmaskmovps_ymm_ymm_m256;
                        self.push(Action::Encode { code, explicit, mask: None }, operands);
                    }
                }
                to
            }
            Access::Strided { lanes, bytes } => self.load_strided(from, lanes, bytes),
        }
    }

    /// Lane by lane: four are put together in the low part of a register, which becomes a part of the result.
    fn load_strided(&mut self, from: &Address, lanes: Lanes, bytes: i64) -> VReg {
        let mut parts: Vec<(usize, VReg)> = Vec::new();
        for first in (0..self.form.width()).step_by(4) {
            let mut part = None;
            for lane in first.max(lanes.from)..(first + 4).min(lanes.to) {
                let address = Address { offset: from.offset + lane as i64 * bytes, ..from.clone() };
                let (pointer, offset) = self.pointer(&address);
                let source = Source::Pointer { pointer, offset, broadcast: false };
                let to = self.register(VECTOR);
                let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to)];
                let mut explicit: SmallVec<[Explicit; 4]> = smallvec![Explicit::Register(0, Size::Low)];
                let op = match part {
                    None if lane == first => Op::LoadLane,
                    before => {
                        let before = match before {
                            Some(before) => before,
                            None => self.constant_register(0),
                        };
                        operands.push(Operand::reg_use(before));
                        explicit.push(Explicit::Register(1, Size::Low));
                        Op::InsertLane
                    }
                };
                explicit.push(Self::last(source, &mut operands, Size::Low));
                if op == Op::InsertLane {
                    explicit.push(Explicit::Immediate(((lane - first) << 4) as u8));
                }
                self.push(Action::Encode { code: code(op, self.form), explicit, mask: None }, operands);
                part = Some(to);
            }
            parts.extend(part.map(|part| (first / 4, part)));
        }
        // What writes the low part clears the lanes above.
        let mut whole = match parts[0] {
            (0, part) => {
                parts.remove(0);
                part
            }
            _ => self.constant_register(0),
        };
        for (i, part) in parts {
            let to = self.register(VECTOR);
            let explicit = smallvec![
                Explicit::Register(0, Size::Full),
                Explicit::Register(1, Size::Full),
                Explicit::Register(2, Size::Low),
                Explicit::Immediate(i as u8),
            ];
            let action = Action::Encode { code: code(Op::Insert128, self.form), explicit, mask: None };
            self.push(action, smallvec![Operand::reg_def(to), Operand::reg_use(whole), Operand::reg_use(part)]);
            whole = to;
        }
        whole
    }

    fn store(&mut self, value: Vector, to: &Address, access: Access) {
        let value = self.get(value);
        let (lanes, bytes) = match access {
            Access::Broadcast => (Lanes::first(1), 4),
            Access::Vector { lanes } => (lanes, 4),
            Access::Strided { lanes, bytes } => (lanes, bytes),
        };
        if let (Access::Vector { .. }, true) = (access, lanes.count() > 1) {
            let mask = (lanes.count() < self.form.width()).then(|| self.lane_mask(lanes));
            let (pointer, offset) = self.pointer(to);
            let base = |at| Explicit::Memory(Memory { base: Base::Register(at), offset, broadcast: false });
            let (pointer, value) = (Operand::reg_use(pointer), Operand::reg_use(value));
            let whole = code(Op::Store, self.form);
            let (operands, code, explicit, mask) = match (mask, self.form) {
                (None, _) => {
                    (smallvec![pointer, value], whole, smallvec![base(0), Explicit::Register(1, Size::Full)], None)
                }
                (Some(mask), Form::Zmm) => (
                    smallvec![pointer, value, Operand::reg_use(mask)],
                    whole,
                    smallvec![base(0), Explicit::Register(1, Size::Full)],
                    Some((2, false)),
                ),
                (Some(mask), Form::Ymm) => (
                    smallvec![pointer, value, Operand::reg_use(mask)],
                    Code::VEX_Vmaskmovps_m256_ymm_ymm,
                    smallvec![base(0), Explicit::Register(2, Size::Full), Explicit::Register(1, Size::Full)],
                    None,
                ),
            };
            return self.push(Action::Encode { code, explicit, mask }, operands);
        }
        for first in (lanes.from / 4 * 4..lanes.to).step_by(4) {
            let part = if first == 0 { value } else { self.part(value, first / 4) };
            for lane in first.max(lanes.from)..(first + 4).min(lanes.to) {
                let address = Address { offset: to.offset + lane as i64 * bytes, ..to.clone() };
                let (pointer, offset) = self.pointer(&address);
                let memory = Explicit::Memory(Memory { base: Base::Register(0), offset, broadcast: false });
                let operands = smallvec![Operand::reg_use(pointer), Operand::reg_use(part)];
                let mut explicit: SmallVec<[Explicit; 4]> = smallvec![memory, Explicit::Register(1, Size::Low)];
                let op = if lane == first {
                    Op::StoreFirstLane
                } else {
                    explicit.push(Explicit::Immediate((lane - first) as u8));
                    Op::StoreLane
                };
                self.push(Action::Encode { code: code(op, self.form), explicit, mask: None }, operands);
            }
        }
    }

    /// The `i`-th 128 bits of a vector, in the low part of a register.
    fn part(&mut self, value: VReg, i: usize) -> VReg {
        let to = self.register(VECTOR);
        let explicit = smallvec![
            Explicit::Register(0, Size::Low),
            Explicit::Register(1, Size::Full),
            Explicit::Immediate(i as u8)
        ];
        let action = Action::Encode { code: code(Op::Extract128, self.form), explicit, mask: None };
        self.push(action, smallvec![Operand::reg_def(to), Operand::reg_use(value)]);
        to
    }

    fn unary(&mut self, op: Unary, a: Vector) -> VReg {
        let rounding = |mode: u8| Some(mode | 8);
        let (op, immediate) = match op {
            Unary::Neg => {
                let (a, sign) = (self.get(a), self.constant(1 << 31));
                return self.encode(Op::Xor, &[a], sign, None);
            }
            Unary::Abs => {
                let (a, rest) = (self.get(a), self.constant(u32::MAX >> 1));
                return self.encode(Op::And, &[a], rest, None);
            }
            Unary::UnsignedToFloat => {
                let a = self.get(a);
                return self.unsigned_to_float(a);
            }
            Unary::Sqrt => (Op::Sqrt, None),
            Unary::ToFloat => (Op::ToFloat, None),
            Unary::Round => (Op::RoundTo, rounding(0)),
            Unary::Floor => (Op::RoundTo, rounding(1)),
            Unary::Ceil => (Op::RoundTo, rounding(2)),
            Unary::Trunc => (Op::RoundTo, rounding(3)),
        };
        let a = self.get(a);
        self.encode(op, &[], Source::Register(a), immediate)
    }

    /// The upper 16 bits times 65,536 plus the lower ones, with one rounding.
    fn unsigned_to_float(&mut self, a: VReg) -> VReg {
        let upper = self.encode(Op::ShiftRight, &[], Source::Register(a), Some(16));
        let upper = self.encode(Op::ToFloat, &[], Source::Register(upper), None);
        let low_bits = self.constant(0xffff);
        let lower = self.encode(Op::And, &[a], low_bits, None);
        let lower = self.encode(Op::ToFloat, &[], Source::Register(lower), None);
        let scale = self.constant(65536f32.to_bits());
        self.multiply_add(Op::Fma132, upper, lower, scale)
    }

    fn binary(&mut self, op: Binary, mut a: Vector, mut b: Vector) -> VReg {
        let commutes = matches!(
            op,
            Binary::Add | Binary::Mul | Binary::IAdd | Binary::IMul | Binary::And | Binary::Or | Binary::Xor
        );
        if commutes && !self.is_register(a) && self.is_register(b) {
            (a, b) = (b, a);
        }
        let op = match op {
            Binary::Add => Op::Add,
            Binary::Sub => Op::Sub,
            Binary::Mul => Op::Mul,
            Binary::Div => Op::Div,
            Binary::Greater => Op::Max,
            Binary::Lesser => Op::Min,
            Binary::IAdd => Op::IAdd,
            Binary::ISub => Op::ISub,
            Binary::IMul => Op::IMul,
            Binary::And => Op::And,
            Binary::Or => Op::Or,
            Binary::Xor => Op::Xor,
            Binary::UMulHigh => return self.high_product(a, b),
        };
        let (a, b) = (self.get(a), self.source(b));
        self.encode(op, &[a], b, None)
    }

    /// The upper halves of the products of even lanes and of odd lanes, put together.
    fn high_product(&mut self, a: Vector, b: Vector) -> VReg {
        let (a, b) = (self.get(a), self.get(b));
        let even = self.encode(Op::MulEven, &[a], Source::Register(b), None);
        let even = self.encode(Op::ShiftRight64, &[], Source::Register(even), Some(32));
        let a = self.encode(Op::ShiftRight64, &[], Source::Register(a), Some(32));
        let b = self.encode(Op::ShiftRight64, &[], Source::Register(b), Some(32));
        let odd = self.encode(Op::MulEven, &[a], Source::Register(b), None);
        let odd = self.encode(Op::ShiftRight64, &[], Source::Register(odd), Some(32));
        let odd = self.encode(Op::ShiftLeft64, &[], Source::Register(odd), Some(32));
        self.encode(Op::Or, &[even], Source::Register(odd), None)
    }

    /// A multiply-add that overwrites `own`.
    fn multiply_add(&mut self, op: Op, own: VReg, second: VReg, last: Source) -> VReg {
        let to = self.register(VECTOR);
        let mut operands: SmallVec<[Operand; 4]> =
            smallvec![Operand::reg_reuse_def(to, 1), Operand::reg_use(own), Operand::reg_use(second)];
        let last = Self::last(last, &mut operands, Size::Full);
        let explicit = smallvec![Explicit::Register(0, Size::Full), Explicit::Register(2, Size::Full), last];
        self.push(Action::Encode { code: code(op, self.form), explicit, mask: None }, operands);
        to
    }

    fn fma(&mut self, a: Vector, b: Vector, c: Vector) -> VReg {
        let dies =
            |selector: &Self, vector: Vector| selector.is_register(vector) && selector.uses[vector.0 as usize] == 1;
        let memory = |selector: &Self, vector: Vector| !selector.is_register(vector);
        if memory(self, c) {
            // d = d * second + memory.
            let (own, second) = if dies(self, b) && !dies(self, a) { (b, a) } else { (a, b) };
            let (own, second) = if memory(self, own) { (second, own) } else { (own, second) };
            let (own, second) = (self.get(own), self.get(second));
            let last = self.source(c);
            return self.multiply_add(Op::Fma213, own, second, last);
        }
        let (first, last) = if memory(self, a) && !memory(self, b) { (b, a) } else { (a, b) };
        if dies(self, c) || !dies(self, first) {
            let (own, second, last) = (self.get(c), self.get(first), self.source(last));
            return self.multiply_add(Op::Fma231, own, second, last);
        }
        // d = d * last + second.
        let (own, second, last) = (self.get(first), self.get(c), self.source(last));
        self.multiply_add(Op::Fma132, own, second, last)
    }

    fn compare(&mut self, op: Compare, a: VReg, b: Source) -> VReg {
        let predicate = match op {
            Compare::Eq => Some(0),
            Compare::Lt => Some(1),
            Compare::Le => Some(2),
            Compare::Unordered => Some(3),
            // Ordered, false on NaN.
            Compare::Ge => Some(13),
            Compare::Gt => Some(14),
            Compare::IEq | Compare::ILt | Compare::ULt => None,
        };
        if self.form == Form::Zmm {
            let (code, immediate) = match (op, predicate) {
                (_, Some(predicate)) => (Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, predicate),
                (Compare::IEq, _) => (Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8, 0),
                (Compare::ILt, _) => (Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8, 1),
                _ => (Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8, 1),
            };
            let to = self.register(MASK);
            let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to), Operand::reg_use(a)];
            let b = Self::last(b, &mut operands, Size::Full);
            let explicit = smallvec![
                Explicit::Register(0, Size::Mask),
                Explicit::Register(1, Size::Full),
                b,
                Explicit::Immediate(immediate)
            ];
            self.push(Action::Encode { code, explicit, mask: None }, operands);
            return to;
        }
        match (op, predicate) {
            (_, Some(predicate)) => self.encode_code(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, a, b, Some(predicate)),
            (Compare::IEq, _) => self.encode_code(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, a, b, None),
            // There is only "greater".
            (Compare::ILt, _) => {
                let b = self.load_whole(b);
                self.encode_code(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, b, Source::Register(a), None)
            }
            // Unsigned numbers compare as signed ones with the upper bit flipped.
            _ => {
                let b = self.load_whole(b);
                let flip = self.constant(1 << 31);
                let a = self.encode(Op::Xor, &[a], flip, None);
                let b = self.encode(Op::Xor, &[b], flip, None);
                self.encode_code(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, b, Source::Register(a), None)
            }
        }
    }

    fn encode_code(&mut self, code: Code, a: VReg, b: Source, immediate: Option<u8>) -> VReg {
        let to = self.register(VECTOR);
        let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to), Operand::reg_use(a)];
        let mut explicit: SmallVec<[Explicit; 4]> =
            smallvec![Explicit::Register(0, Size::Full), Explicit::Register(1, Size::Full)];
        explicit.push(Self::last(b, &mut operands, Size::Full));
        explicit.extend(immediate.map(Explicit::Immediate));
        self.push(Action::Encode { code, explicit, mask: None }, operands);
        to
    }

    fn encode_masks(&mut self, code: Code, from: &[VReg]) -> VReg {
        let to = self.register(MASK);
        let uses = from.iter().map(|&register| Operand::reg_use(register));
        let operands: SmallVec<[Operand; 4]> = [Operand::reg_def(to)].into_iter().chain(uses).collect();
        let explicit = (0..operands.len()).map(|i| Explicit::Register(i, Size::Mask)).collect();
        self.push(Action::Encode { code, explicit, mask: None }, operands);
        to
    }

    fn logic(&mut self, op: Logic, a: VReg, b: VReg) -> VReg {
        match self.form {
            Form::Zmm => {
                let code = match op {
                    Logic::And => Code::VEX_Kandw_kr_kr_kr,
                    Logic::Or => Code::VEX_Korw_kr_kr_kr,
                    Logic::Xor => Code::VEX_Kxorw_kr_kr_kr,
                };
                self.encode_masks(code, &[a, b])
            }
            Form::Ymm => {
                let op = match op {
                    Logic::And => Op::And,
                    Logic::Or => Op::Or,
                    Logic::Xor => Op::Xor,
                };
                self.encode(op, &[a], Source::Register(b), None)
            }
        }
    }

    fn select(&mut self, condition: VReg, yes: Source, no: VReg) -> VReg {
        let to = self.register(VECTOR);
        let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to), Operand::reg_use(no)];
        let mut explicit: SmallVec<[Explicit; 4]> =
            smallvec![Explicit::Register(0, Size::Full), Explicit::Register(1, Size::Full)];
        explicit.push(Self::last(yes, &mut operands, Size::Full));
        operands.push(Operand::reg_use(condition));
        let place = operands.len() - 1;
        let (code, mask) = match self.form {
            Form::Zmm => (Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32, Some((place, false))),
            Form::Ymm => {
                explicit.push(Explicit::Register(place, Size::Full));
                (Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, None)
            }
        };
        self.push(Action::Encode { code, explicit, mask }, operands);
        to
    }

    /// Rows to columns, each with its number: lanes of two rows in turn, pairs of lanes of four rows, then whole groups of
    /// 128 bits of all rows.
    fn transpose(&mut self, rows: Vec<VReg>) -> Vec<(usize, VReg)> {
        let two = |selector: &mut Self, op, a: VReg, b: VReg, immediate| {
            selector.encode(op, &[a], Source::Register(b), immediate)
        };
        // By four rows: for each place within 128 bits the lanes there.
        let mut fours: Vec<[VReg; 4]> = Vec::new();
        for rows in rows.chunks(4) {
            let [a, b] =
                [0, 2].map(|i| [Op::UnpackLow, Op::UnpackHigh].map(|op| two(self, op, rows[i], rows[i + 1], None)));
            let pairs =
                [(0, Op::UnpackLowPairs), (0, Op::UnpackHighPairs), (1, Op::UnpackLowPairs), (1, Op::UnpackHighPairs)];
            fours.push(pairs.map(|(half, op)| two(self, op, a[half], b[half], None)));
        }
        let mut columns = Vec::new();
        for place in 0..4 {
            let groups: Vec<VReg> = fours.iter().map(|four| four[place]).collect();
            match groups[..] {
                [a, b] => {
                    for (group, immediate) in [0x20, 0x31].into_iter().enumerate() {
                        columns.push((4 * group + place, two(self, Op::Parts, a, b, Some(immediate))));
                    }
                }
                [a, b, c, d] => {
                    for (odd, immediate) in [0x88, 0xdd].into_iter().enumerate() {
                        let first = two(self, Op::Parts, a, b, Some(immediate));
                        let second = two(self, Op::Parts, c, d, Some(immediate));
                        for (upper, immediate) in [0x88, 0xdd].into_iter().enumerate() {
                            let column = 4 * (2 * upper + odd) + place;
                            columns.push((column, two(self, Op::Parts, first, second, Some(immediate))));
                        }
                    }
                }
                _ => unreachable!("vectors have eight or sixteen lanes"),
            }
        }
        columns
    }

    /// Halves, then quarters, then neighbours; every lane ends with the result.
    fn reduce(&mut self, op: Reduction, a: Vector) -> VReg {
        let mut all = self.get(a);
        let steps: &[(Op, u8)] = match self.form {
            Form::Zmm => &[(Op::Parts, 0x4e), (Op::Parts, 0xb1), (Op::Permute, 0x4e), (Op::Permute, 0xb1)],
            Form::Ymm => &[(Op::Parts, 0x01), (Op::Permute, 0x4e), (Op::Permute, 0xb1)],
        };
        for &(step, immediate) in steps {
            let own = [all];
            let first: &[VReg] = if step == Op::Parts { &own } else { &[] };
            let other = self.encode(step, first, Source::Register(all), Some(immediate));
            all = match op {
                Reduction::Sum => self.encode(Op::Add, &[all], Source::Register(other), None),
                Reduction::Product => self.encode(Op::Mul, &[all], Source::Register(other), None),
                Reduction::Max | Reduction::Min => {
                    let op = if op == Reduction::Max { Op::Max } else { Op::Min };
                    // The instruction gives the second where either is NaN.
                    let raw = self.encode(op, &[all], Source::Register(other), None);
                    let nan = self.compare(Compare::Unordered, all, Source::Register(all));
                    self.select(nan, Source::Register(all), raw)
                }
            };
        }
        all
    }

    // ---- loops ----

    fn counted(&mut self, inner: &Loop) {
        let mut advancing: Vec<(PointerKey, i64)> = Vec::new();
        collect_advancing(&inner.body, inner.id, &mut advancing);
        let starts: Vec<VReg> = inner.carried.iter().map(|carried| self.get(carried.start)).collect();
        let count = self.register(GENERAL);
        self.push(Action::Number(inner.count as i64), smallvec![Operand::reg_def(count)]);
        let mut arguments = vec![count];
        arguments.extend(advancing.iter().map(|(key, _)| self.pointers[key]));
        arguments.extend(starts);
        let head = Block::new(self.blocks.len());
        self.leave(Action::FallThrough, arguments, smallvec![head]);

        let counter = self.register(GENERAL);
        let moving: Vec<VReg> = advancing.iter().map(|_| self.register(GENERAL)).collect();
        let inside: Vec<VReg> = inner.carried.iter().map(|_| self.register(VECTOR)).collect();
        let parameters = [counter].iter().chain(&moving).chain(&inside).copied().collect();
        self.blocks.push(BlockData { parameters, is_loop: true, ..BlockData::default() });
        self.local.clear();
        for (carried, &register) in inner.carried.iter().zip(&inside) {
            self.set(carried.inside, register);
        }
        for ((key, stride), &register) in advancing.iter().zip(&moving) {
            let mut key = key.clone();
            key.1.push((inner.id, *stride));
            self.pointers.insert(key, register);
        }
        self.body(&inner.body, inner.carried.len());

        let next: Vec<VReg> = inner.carried.iter().map(|carried| self.get(carried.next)).collect();
        let advancing = advancing.iter().zip(&moving);
        let moved: Vec<VReg> = advancing.map(|((_, stride), &from)| self.advance(from, *stride)).collect();
        let less = self.register(GENERAL);
        self.push(Action::Decrement, smallvec![Operand::reg_reuse_def(less, 1), Operand::reg_use(counter)]);
        let latch = Block::new(self.blocks.len());
        let exit = Block::new(self.blocks.len() + 1);
        self.leave(Action::RepeatUnlessZero, Vec::new(), smallvec![latch, exit]);
        self.blocks.push(BlockData::default());
        let arguments = [less].into_iter().chain(moved).chain(next.iter().copied()).collect();
        self.leave(Action::Jump(head), arguments, smallvec![head]);
        self.blocks.push(BlockData::default());
        self.local.clear();
        for (carried, &register) in inner.carried.iter().zip(&next) {
            self.set(carried.after, register);
        }
    }

    fn leave(&mut self, action: Action, arguments: Vec<VReg>, successors: SmallVec<[Block; 2]>) {
        self.push(action, smallvec![]);
        let block = self.block();
        block.arguments = arguments;
        block.successors = successors;
    }
}

/// The addresses and positions that move with a loop: what they are before it, and their step.
fn collect_advancing(body: &[LeafInst], id: LoopId, advancing: &mut Vec<(PointerKey, i64)>) {
    let mut add = |base: usize, terms: &[(LoopId, i64)]| {
        let Some(at) = terms.iter().position(|(other, _)| *other == id) else { return };
        let entry = ((base, terms[..at].iter().copied().collect()), terms[at].1);
        if !advancing.contains(&entry) {
            advancing.push(entry);
        }
    };
    for inst in body {
        match inst {
            LeafInst::Load { from, .. } => add(from.base, &from.terms),
            LeafInst::Store { to, .. } => add(to.base, &to.terms),
            LeafInst::Position { parameter, terms, .. } => add(*parameter, terms),
            _ => {}
        }
    }
    for inst in body {
        if let LeafInst::Loop(inner) = inst {
            collect_advancing(&inner.body, id, advancing);
        }
    }
}
