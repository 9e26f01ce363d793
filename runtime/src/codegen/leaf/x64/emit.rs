//! Bytes of a function whose registers are known.

use super::allocate::{self, CALLEE_SAVED};
use super::codes::{self, Op, encoding};
use super::encoding::{Encoding, Masking, Operand};
use super::listing::list;
use super::machine::{Action, Explicit, Function, GENERAL, Inst, MASK};
use super::{Assembled, Form};
use regalloc2::{Allocation, Block, Edit, InstOrEdit, Output, PReg};
use smallvec::SmallVec;

/// rsp and rbp.
const STACK_POINTER: u8 = 4;
const FRAME_POINTER: u8 = 5;

const SCRATCH: Operand = Operand::Register(allocate::SCRATCH);

/// Loops start at multiples of so many bytes: a line of the cache of decoded instructions.
const LOOP_ALIGNMENT: usize = 32;

/// Bytes of a slot that spilled registers are counted in.
const SLOT_BYTES: usize = 8;

/// The function's bytes: prologue, blocks, constants.
pub fn emit(function: &Function, allocation: &Output, form: Form, with_listing: bool) -> Assembled {
    let mut emitter = Emitter {
        function,
        allocation,
        form,
        bytes: Vec::with_capacity(1 << 10),
        starts: vec![0; function.blocks.len()],
        patches: Vec::new(),
        branches: Vec::new(),
        saved: Vec::new(),
    };
    emitter.prologue();
    for block in 0..function.blocks.len() {
        emitter.block(Block::new(block));
    }
    let length = emitter.bytes.len();
    emitter.constants();
    let is_loop = |block: usize| function.blocks[block].is_loop;
    let listing = if with_listing { list(&emitter.bytes[..length], &emitter.starts, is_loop) } else { String::new() };
    Assembled { bytes: emitter.bytes, listing }
}

struct Emitter<'a> {
    function: &'a Function,
    allocation: &'a Output,
    form: Form,
    bytes: Vec<u8>,
    /// Where each block starts.
    starts: Vec<usize>,
    /// Distances to constants, of 32 bits: their place, the end of the instruction, the constant.
    patches: Vec<(usize, usize, usize)>,
    /// Ends of branches, whose last four bytes are the distance to a block.
    branches: Vec<(usize, Block)>,
    /// The caller's registers that are in use.
    saved: Vec<u8>,
}

impl Emitter<'_> {
    fn prologue(&mut self) {
        let used = |register: u8| {
            let register = PReg::new(register.into(), GENERAL);
            let is = |allocation: &Allocation| allocation.as_reg() == Some(register);
            self.allocation.allocs.iter().any(is)
                || self.allocation.edits.iter().any(|(_, Edit::Move { from, to })| is(from) || is(to))
        };
        self.saved = CALLEE_SAVED.into_iter().filter(|&register| used(register)).collect();
        self.push(codes::PUSH, &[Operand::Register(FRAME_POINTER)]);
        self.push(codes::MOV, &[Operand::Register(FRAME_POINTER), Operand::Register(STACK_POINTER)]);
        for register in self.saved.clone() {
            self.push(codes::PUSH, &[Operand::Register(register)]);
        }
        if self.allocation.num_spillslots > 0 {
            // A vector lies within a line of the cache.
            let frame = (self.allocation.num_spillslots * SLOT_BYTES).next_multiple_of(64);
            self.push(codes::SUB_NUMBER, &[Operand::Register(STACK_POINTER), Operand::Immediate(frame as i64)]);
            self.push(codes::AND_NUMBER, &[Operand::Register(STACK_POINTER), Operand::Immediate(-64)]);
        }
    }

    fn epilogue(&mut self) {
        if self.allocation.num_spillslots > 0 {
            let below = self.saved.len() as i32 * 8;
            self.push(codes::LEA, &[Operand::Register(STACK_POINTER), memory(FRAME_POINTER, -below)]);
        }
        for register in self.saved.clone().into_iter().rev() {
            self.push(codes::POP, &[Operand::Register(register)]);
        }
        self.push(codes::POP, &[Operand::Register(FRAME_POINTER)]);
        // Cranelift's code uses the old encodings, which are slow while the upper halves are in use.
        self.push(codes::VZEROUPPER, &[]);
        self.push(codes::RET, &[]);
    }

    fn block(&mut self, block: Block) {
        if self.function.blocks[block.index()].is_loop {
            while !self.bytes.len().is_multiple_of(LOOP_ALIGNMENT) {
                let missing = LOOP_ALIGNMENT - self.bytes.len() % LOOP_ALIGNMENT;
                self.bytes.extend_from_slice(nop(missing.min(9)));
            }
        }
        self.starts[block.index()] = self.bytes.len();
        for item in self.allocation.block_insts_and_edits(self.function, block) {
            match item {
                InstOrEdit::Edit(Edit::Move { from, to }) => self.copy(*from, *to),
                InstOrEdit::Inst(inst) => self.inst(inst, block),
            }
        }
    }

    fn inst(&mut self, number: regalloc2::Inst, block: Block) {
        let inst = &self.function.insts[number.index()];
        let places = self.allocation.inst_allocs(number);
        let of = |i: usize| Operand::Register(register(places[i]));
        match &inst.action {
            Action::Encode { .. } => self.encode(inst, places),
            Action::Parameters => {}
            Action::StackParameter(i) => {
                // Behind the frame pointer and the return address.
                self.push(codes::MOV, &[of(0), memory(FRAME_POINTER, 16 + 8 * *i as i32)]);
            }
            Action::Lanes(lanes) => {
                let bits = (1i64 << lanes.to) - (1 << lanes.from);
                self.push(codes::MOV_NUMBER_32, &[SCRATCH, Operand::Immediate(bits)]);
                self.push(codes::KMOVW_GENERAL, &[of(0), SCRATCH]);
            }
            Action::Number(value) => self.load_number(of(0), *value),
            Action::Advance(by) => match i32::try_from(*by) {
                Ok(offset) => self.push(codes::LEA, &[of(0), memory(register(places[1]), offset)]),
                Err(_) => {
                    self.load_number(SCRATCH, *by);
                    self.push(codes::ADD, &[SCRATCH, of(1)]);
                    self.push(codes::MOV, &[of(0), SCRATCH]);
                }
            },
            Action::Decrement => self.push(codes::DEC, &[of(0)]),
            Action::RepeatUnlessZero => self.repeat(block),
            Action::FallThrough => {}
            // A latch without moves is passed by.
            Action::Jump(_) if !self.has_moves(block) => {}
            Action::Jump(target) => self.branch(codes::JMP, *target),
            Action::Return => self.epilogue(),
        }
    }

    fn encode(&mut self, inst: &Inst, places: &[Allocation]) {
        let Action::Encode { encoding, explicit, mask } = &inst.action else { return };
        let mut constant = None;
        let operands: SmallVec<[Operand; 4]> = explicit
            .iter()
            .map(|operand| match *operand {
                Explicit::Register(i) => Operand::Register(register(places[i])),
                Explicit::Memory { base, offset, broadcast } => {
                    Operand::Memory { base: register(places[base]), offset, broadcast }
                }
                Explicit::Constant { number, broadcast } => {
                    constant = Some(number);
                    // Not there yet: until then, the instruction itself.
                    Operand::Near { target: self.bytes.len(), broadcast }
                }
                Explicit::Immediate(byte) => Operand::Immediate(byte.into()),
            })
            .collect();
        let masking = mask.map(|(i, zeroing)| Masking { mask: register(places[i]), zeroing });
        self.push_masked(*encoding, &operands, masking);
        if let Some(number) = constant {
            let end = self.bytes.len();
            self.patches.push((end - encoding.immediate_bytes() - 4, end, number));
        }
    }

    /// A move that the allocator asks for.
    fn copy(&mut self, from: Allocation, to: Allocation) {
        let moved = from.as_reg().or(to.as_reg()).expect("the allocator uses no memory to memory moves");
        let (between, load, store) = match moved.class() {
            GENERAL => (codes::MOV, codes::MOV, codes::MOV_STORE),
            MASK => (codes::KMOVW, codes::KMOVW, codes::KMOVW_STORE),
            _ => (encoding(Op::Move, self.form), encoding(Op::Load, self.form), encoding(Op::Store, self.form)),
        };
        let operand = |place: Allocation| match place.as_stack() {
            Some(slot) => memory(STACK_POINTER, (slot.index() * SLOT_BYTES) as i32),
            None => Operand::Register(register(place)),
        };
        let encoding = match (from.is_stack(), to.is_stack()) {
            (false, false) => between,
            (true, _) => load,
            (false, true) => store,
        };
        self.push(encoding, &[operand(to), operand(from)]);
    }

    fn load_number(&mut self, to: Operand, value: i64) {
        let encoding = if u32::try_from(value).is_ok() { codes::MOV_NUMBER_32 } else { codes::MOV_NUMBER_64 };
        self.push(encoding, &[to, Operand::Immediate(value)]);
    }

    /// The end of a loop: back to its start, by way of the latch where that has moves to make.
    fn repeat(&mut self, block: Block) {
        let successors = &self.function.blocks[block.index()].successors;
        let (latch, exit) = (successors[0], successors[1]);
        if self.has_moves(latch) {
            self.branch(codes::JE, exit);
        } else {
            let head = self.function.blocks[latch.index()].successors[0];
            self.branch(codes::JNE, head);
        }
    }

    fn has_moves(&self, block: Block) -> bool {
        self.allocation.block_insts_and_edits(self.function, block).any(|item| matches!(item, InstOrEdit::Edit(_)))
    }

    fn branch(&mut self, encoding: Encoding, target: Block) {
        // A block behind has no place yet.
        self.push(encoding, &[Operand::Target(self.starts[target.index()])]);
        self.branches.push((self.bytes.len(), target));
    }

    fn push(&mut self, encoding: Encoding, operands: &[Operand]) {
        self.push_masked(encoding, operands, None);
    }

    fn push_masked(&mut self, encoding: Encoding, operands: &[Operand], masking: Option<Masking>) {
        encoding.encode(operands, masking, &mut self.bytes);
    }

    /// Places the constants, each aligned to its length, and makes the code point to them.
    fn constants(&mut self) {
        let mut places = Vec::new();
        for constant in &self.function.constants.all {
            while !self.bytes.len().is_multiple_of(constant.len()) {
                self.bytes.push(0xcc);
            }
            places.push(self.bytes.len());
            self.bytes.extend_from_slice(constant);
        }
        for &(place, end, constant) in &self.patches {
            let distance = places[constant] as i32 - end as i32;
            self.bytes[place..place + 4].copy_from_slice(&distance.to_le_bytes());
        }
        for &(end, target) in &self.branches {
            let distance = self.starts[target.index()] as i32 - end as i32;
            self.bytes[end - 4..end].copy_from_slice(&distance.to_le_bytes());
        }
    }
}

/// The number of a register.
fn register(place: Allocation) -> u8 {
    place.as_reg().expect("operands are in registers").hw_enc() as u8
}

fn memory(base: u8, offset: i32) -> Operand {
    Operand::Memory { base, offset, broadcast: false }
}

/// Instructions of one to nine bytes that do nothing (Intel 64 manual, volume 2B, NOP).
fn nop(length: usize) -> &'static [u8] {
    const ALL: [&[u8]; 9] = [
        &[0x90],
        &[0x66, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
        &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ];
    ALL[length - 1]
}
