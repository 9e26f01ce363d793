//! Values in registers, constants and memory: where an operand comes from, loads and stores.

use super::{Selector, Source, Value};
use crate::codegen::leaf::x64::Form;
use crate::codegen::leaf::x64::codes::{self, Op, encoding};
use crate::codegen::leaf::x64::encoding::Encoding;
use crate::codegen::leaf::x64::machine::{Action, Explicit, GENERAL, Inst, MASK, VECTOR};
use crate::codegen::leaf::{Access, Address, Lanes, Mask, Vector};
use regalloc2::{Operand, VReg};
use smallvec::{SmallVec, smallvec};

impl Selector {
    /// A constant in memory: one element for all lanes where the form can, else a whole vector.
    pub(super) fn constant(&mut self, bits: u32) -> Source {
        let (copies, broadcast) = match self.form {
            Form::Zmm => (1, true),
            Form::Ymm => (self.form.width(), false),
        };
        let number = self.constants.number(bits.to_le_bytes().repeat(copies));
        Source::Constant { number, broadcast }
    }

    /// Different constants in the lanes.
    pub(super) fn pattern(&mut self, lane: impl Fn(usize) -> u32) -> Source {
        let bytes = (0..self.form.width()).flat_map(|i| lane(i).to_le_bytes()).collect();
        Source::Constant { number: self.constants.number(bytes), broadcast: false }
    }

    pub(super) fn source(&mut self, vector: Vector) -> Source {
        match self.values[vector.0 as usize].clone().expect("defined before use") {
            Value::Register(register) => Source::Register(register),
            Value::Constant(bits) => self.constant(bits),
            Value::Memory(address, access) => {
                let (pointer, offset) = self.pointer(&address);
                Source::Pointer { pointer, offset, broadcast: access == Access::Broadcast }
            }
        }
    }

    pub(super) fn is_register(&self, vector: Vector) -> bool {
        matches!(self.values[vector.0 as usize], Some(Value::Register(_)))
    }

    pub(super) fn get(&mut self, vector: Vector) -> VReg {
        match self.values[vector.0 as usize].clone().expect("defined before use") {
            Value::Register(register) => register,
            Value::Constant(bits) => self.constant_register(bits),
            Value::Memory(..) => {
                let source = self.source(vector);
                self.load_whole(source)
            }
        }
    }

    pub(super) fn constant_register(&mut self, bits: u32) -> VReg {
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

    pub(super) fn set(&mut self, vector: Vector, register: VReg) {
        self.values[vector.0 as usize] = Some(Value::Register(register));
    }

    pub(super) fn get_mask(&self, mask: Mask) -> VReg {
        self.masks[mask.0 as usize].expect("defined before use")
    }

    /// The mask of some lanes: a mask register, or a vector of ones and zeros.
    pub(super) fn lane_mask(&mut self, lanes: Lanes) -> VReg {
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

    pub(super) fn load_whole(&mut self, source: Source) -> VReg {
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
    pub(super) fn pointer(&mut self, address: &Address) -> (VReg, i32) {
        let pointer = self.pointers[&(address.base, address.terms.clone())];
        match i32::try_from(address.offset) {
            Ok(offset) => (pointer, offset),
            Err(_) => (self.advance(pointer, address.offset), 0),
        }
    }

    pub(super) fn advance(&mut self, from: VReg, by: i64) -> VReg {
        let to = self.register(GENERAL);
        self.push(Action::Advance(by), smallvec![Operand::reg_def(to), Operand::reg_use(from)]);
        to
    }

    pub(super) fn load(&mut self, from: &Address, access: Access) -> VReg {
        let (pointer, offset) = self.pointer(from);
        let source = Source::Pointer { pointer, offset, broadcast: false };
        match access {
            Access::Broadcast => self.encode(Op::Broadcast, &[], source, None),
            Access::Vector { lanes } if lanes.count() == self.form.width() => self.encode(Op::Load, &[], source, None),
            Access::Vector { lanes } => {
                let mask = self.lane_mask(lanes);
                match self.form {
                    Form::Zmm => self.encode_as(encoding(Op::Load, self.form), &[], source, None, Some((mask, true))),
                    Form::Ymm => self.encode_as(codes::VMASKMOVPS, &[mask], source, None, None),
                }
            }
            Access::Strided { lanes, bytes } => self.load_strided(from, lanes, bytes),
        }
    }

    /// Lane by lane: four are put together in the low part of a register, which becomes a part of the result.
    pub(super) fn load_strided(&mut self, from: &Address, lanes: Lanes, bytes: i64) -> VReg {
        let mut parts: Vec<(usize, VReg)> = Vec::new();
        for first in (0..self.form.width()).step_by(4) {
            let mut part = None;
            for lane in first.max(lanes.from)..(first + 4).min(lanes.to) {
                let address = Address { offset: from.offset + lane as i64 * bytes, ..from.clone() };
                let (pointer, offset) = self.pointer(&address);
                let source = Source::Pointer { pointer, offset, broadcast: false };
                let to = self.register(VECTOR);
                let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to)];
                let mut explicit: SmallVec<[Explicit; 4]> = smallvec![Explicit::Register(0)];
                let op = match part {
                    None if lane == first => Op::LoadLane,
                    before => {
                        let before = match before {
                            Some(before) => before,
                            None => self.constant_register(0),
                        };
                        operands.push(Operand::reg_use(before));
                        explicit.push(Explicit::Register(1));
                        Op::InsertLane
                    }
                };
                explicit.push(Self::last(source, &mut operands));
                if op == Op::InsertLane {
                    explicit.push(Explicit::Immediate(((lane - first) << 4) as u8));
                }
                self.push_op(op, explicit, operands);
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
                Explicit::Register(0),
                Explicit::Register(1),
                Explicit::Register(2),
                Explicit::Immediate(i as u8),
            ];
            self.push_op(
                Op::Insert128,
                explicit,
                smallvec![Operand::reg_def(to), Operand::reg_use(whole), Operand::reg_use(part)],
            );
            whole = to;
        }
        whole
    }

    /// Into the caches.
    pub(super) fn prefetch(&mut self, from: &Address) {
        let (pointer, offset) = self.pointer(from);
        let memory = Explicit::Memory { base: 0, offset, broadcast: false };
        self.push_instruction(codes::PREFETCHT0, smallvec![memory], smallvec![Operand::reg_use(pointer)]);
    }

    /// Past the caches, 16 bytes at a time.
    pub(super) fn stream(&mut self, value: VReg, to: &Address) {
        for i in 0..self.form.width() / 4 {
            let part = if i == 0 { value } else { self.part(value, i) };
            let address = Address { offset: to.offset + 16 * i as i64, ..to.clone() };
            let (pointer, offset) = self.pointer(&address);
            let memory = Explicit::Memory { base: 0, offset, broadcast: false };
            let explicit = smallvec![memory, Explicit::Register(1)];
            self.push_op(Op::StreamLow, explicit, smallvec![Operand::reg_use(pointer), Operand::reg_use(part)]);
        }
    }

    pub(super) fn store(&mut self, value: Vector, to: &Address, access: Access, streaming: bool) {
        let value = self.get(value);
        if streaming && access == (Access::Vector { lanes: Lanes::first(self.form.width()) }) {
            return self.stream(value, to);
        }
        let (lanes, bytes) = match access {
            Access::Broadcast => (Lanes::first(1), 4),
            Access::Vector { lanes } => (lanes, 4),
            Access::Strided { lanes, bytes } => (lanes, bytes),
        };
        let is_whole = lanes.count() == self.form.width();
        match (access, self.form) {
            (Access::Vector { .. }, _) if is_whole => self.store_row(value, to, None),
            (Access::Vector { .. }, Form::Zmm) if lanes.count() > 1 => {
                let mask = self.lane_mask(lanes);
                self.store_row(value, to, Some(mask));
            }
            (Access::Vector { .. }, Form::Ymm) => self.store_pieces(value, to, lanes),
            _ => self.store_lanes(value, to, lanes, bytes),
        }
    }

    /// A vector, or the lanes of a mask register.
    fn store_row(&mut self, value: VReg, to: &Address, mask: Option<VReg>) {
        let (pointer, offset) = self.pointer(to);
        let explicit = smallvec![Explicit::Memory { base: 0, offset, broadcast: false }, Explicit::Register(1)];
        let mut operands = smallvec![Operand::reg_use(pointer), Operand::reg_use(value)];
        operands.extend(mask.map(Operand::reg_use));
        let encoding = encoding(Op::Store, self.form);
        self.push(Action::Encode { encoding, explicit, mask: mask.map(|_| (2, false)) }, operands);
    }

    /// Neighbours in pieces of four, two and one: a store that takes a vector as its mask is a dozen steps of microcode on some
    /// processors.
    fn store_pieces(&mut self, value: VReg, to: &Address, lanes: Lanes) {
        for first in (lanes.from / 4 * 4..lanes.to).step_by(4) {
            let part = if first == 0 { value } else { self.part(value, first / 4) };
            let has = |lane: usize| (lanes.from..lanes.to).contains(&(first + lane));
            let at = |lane: usize| Address { offset: to.offset + 4 * (first + lane) as i64, ..to.clone() };
            let whole = (0..4).all(has);
            if whole {
                self.store_piece(codes::VMOVUPS_STORE, part, &at(0));
            }
            for (lane, pair) in [(0, codes::VMOVLPS_STORE), (2, codes::VMOVHPS_STORE)].into_iter().filter(|_| !whole) {
                match (has(lane), has(lane + 1)) {
                    (true, true) => self.store_piece(pair, part, &at(lane)),
                    (true, false) => self.store_lane(part, lane, &at(lane)),
                    (false, true) => self.store_lane(part, lane + 1, &at(lane + 1)),
                    (false, false) => {}
                }
            }
        }
    }

    fn store_piece(&mut self, encoding: Encoding, part: VReg, to: &Address) {
        let (pointer, offset) = self.pointer(to);
        let explicit = smallvec![Explicit::Memory { base: 0, offset, broadcast: false }, Explicit::Register(1)];
        self.push_instruction(encoding, explicit, smallvec![Operand::reg_use(pointer), Operand::reg_use(part)]);
    }

    /// One of the four lanes in the low part of a register.
    fn store_lane(&mut self, part: VReg, lane: usize, to: &Address) {
        let (pointer, offset) = self.pointer(to);
        let memory = Explicit::Memory { base: 0, offset, broadcast: false };
        let mut explicit: SmallVec<[Explicit; 4]> = smallvec![memory, Explicit::Register(1)];
        let op = if lane == 0 {
            Op::StoreFirstLane
        } else {
            explicit.push(Explicit::Immediate(lane as u8));
            Op::StoreLane
        };
        self.push_op(op, explicit, smallvec![Operand::reg_use(pointer), Operand::reg_use(part)]);
    }

    fn store_lanes(&mut self, value: VReg, to: &Address, lanes: Lanes, bytes: i64) {
        for first in (lanes.from / 4 * 4..lanes.to).step_by(4) {
            let part = if first == 0 { value } else { self.part(value, first / 4) };
            for lane in first.max(lanes.from)..(first + 4).min(lanes.to) {
                let address = Address { offset: to.offset + lane as i64 * bytes, ..to.clone() };
                self.store_lane(part, lane - first, &address);
            }
        }
    }

    /// The `i`-th 128 bits of a vector, in the low part of a register.
    pub(super) fn part(&mut self, value: VReg, i: usize) -> VReg {
        let to = self.register(VECTOR);
        let explicit = smallvec![Explicit::Register(0), Explicit::Register(1), Explicit::Immediate(i as u8)];
        self.push_op(Op::Extract128, explicit, smallvec![Operand::reg_def(to), Operand::reg_use(value)]);
        to
    }
}
