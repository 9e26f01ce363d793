//! Bytes of a function whose registers are known.

use super::allocate::{CALLEE_SAVED, SCRATCH};
use super::codes::{Op, code};
use super::machine::{Action, Base, Explicit, Function, GENERAL, Inst, MASK, Memory, Size};
use super::{Assembled, Form};
use iced_x86::{Code, DefaultFastFormatterTraitOptions, Encoder, Instruction, OpKind, Register, SpecializedFormatter};
use regalloc2::{Allocation, Block, Edit, InstOrEdit, Output, PReg};

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
        encoder: Encoder::new(64),
        bytes: Vec::with_capacity(1 << 10),
        starts: vec![0; function.blocks.len()],
        patches: Vec::new(),
        branches: Vec::new(),
        saved: Vec::new(),
        listing: String::new(),
        with_listing,
    };
    emitter.prologue();
    for block in 0..function.blocks.len() {
        emitter.block(Block::new(block));
    }
    emitter.constants();
    Assembled { bytes: emitter.bytes, listing: emitter.listing }
}

struct Emitter<'a> {
    function: &'a Function,
    allocation: &'a Output,
    form: Form,
    encoder: Encoder,
    bytes: Vec<u8>,
    /// Where each block starts.
    starts: Vec<usize>,
    /// Places of 32-bit displacements to constants: the place, the end of the instruction, the constant, the offset.
    patches: Vec<(usize, usize, usize, i32)>,
    /// Ends of branches, whose last four bytes are the distance to a block.
    branches: Vec<(usize, Block)>,
    /// The caller's registers that are in use.
    saved: Vec<usize>,
    listing: String,
    with_listing: bool,
}

impl Emitter<'_> {
    fn prologue(&mut self) {
        let used = |register: usize| {
            let is = |allocation: &Allocation| allocation.as_reg() == Some(PReg::new(register, GENERAL));
            self.allocation.allocs.iter().any(is)
                || self.allocation.edits.iter().any(|(_, Edit::Move { from, to })| is(from) || is(to))
        };
        self.saved = CALLEE_SAVED.into_iter().filter(|&register| used(register)).collect();
        self.register(Code::Push_r64, Register::RBP);
        self.registers(Code::Mov_r64_rm64, Register::RBP, Register::RSP);
        for register in self.saved.clone() {
            self.register(Code::Push_r64, general(register));
        }
        if self.allocation.num_spillslots > 0 {
            // A vector lies within a line of the cache.
            let frame = (self.allocation.num_spillslots * SLOT_BYTES).next_multiple_of(64);
            self.stack_immediate(Code::Sub_rm64_imm32, frame as i32);
            self.stack_immediate(Code::And_rm64_imm8, -64);
        }
    }

    fn epilogue(&mut self) {
        if self.allocation.num_spillslots > 0 {
            let below = self.saved.len() as i32 * 8;
            let memory = Resolved { base: Register::RBP, offset: -below, broadcast: false };
            self.plain(Code::Lea_r64_m, Some(Register::RSP), memory, true);
        }
        for register in self.saved.clone().into_iter().rev() {
            self.register(Code::Pop_r64, general(register));
        }
        self.register(Code::Pop_r64, Register::RBP);
        // Cranelift's code uses the old encodings, which are slow while the upper halves are in use.
        self.push(Instruction::with(Code::VEX_Vzeroupper));
        self.push(Instruction::with(Code::Retnq));
    }

    fn block(&mut self, block: Block) {
        if self.function.blocks[block.index()].is_loop {
            while !self.bytes.len().is_multiple_of(LOOP_ALIGNMENT) {
                let missing = LOOP_ALIGNMENT - self.bytes.len() % LOOP_ALIGNMENT;
                self.bytes.extend_from_slice(nop(missing.min(9)));
            }
        }
        self.starts[block.index()] = self.bytes.len();
        if self.with_listing {
            self.listing.push_str(&format!("block{}:\n", block.index()));
        }
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
        let of = |i: usize| places[i].as_reg().expect("operands are in registers").hw_enc();
        match &inst.action {
            Action::Encode { .. } => self.encode(inst, places),
            Action::Parameters => {}
            Action::StackParameter(i) => {
                // Behind the frame pointer and the return address.
                let memory = Resolved { base: Register::RBP, offset: 16 + 8 * *i as i32, broadcast: false };
                self.plain(Code::Mov_r64_rm64, Some(general(of(0))), memory, true);
            }
            Action::Lanes(lanes) => {
                let bits = (1i64 << lanes.to) - (1 << lanes.from);
                self.number(Code::Mov_r32_imm32, Register::EAX, bits);
                self.registers(Code::VEX_Kmovw_kr_r32, mask(of(0)), Register::EAX);
            }
            Action::Number(value) => self.load_number(general(of(0)), *value),
            Action::Advance(by) => match i32::try_from(*by) {
                Ok(offset) => {
                    let memory = Resolved { base: general(of(1)), offset, broadcast: false };
                    self.plain(Code::Lea_r64_m, Some(general(of(0))), memory, true);
                }
                Err(_) => {
                    self.load_number(general(SCRATCH), *by);
                    self.registers(Code::Add_rm64_r64, general(SCRATCH), general(of(1)));
                    self.registers(Code::Mov_r64_rm64, general(of(0)), general(SCRATCH));
                }
            },
            Action::Decrement => self.register(Code::Dec_rm64, general(of(0))),
            Action::RepeatUnlessZero => self.repeat(block),
            Action::FallThrough => {}
            // A latch without moves is passed by.
            Action::Jump(_) if !self.has_moves(block) => {}
            Action::Jump(target) => self.branch(Code::Jmp_rel32_64, *target),
            Action::Return => self.epilogue(),
        }
    }

    fn encode(&mut self, inst: &Inst, places: &[Allocation]) {
        let Action::Encode { code, explicit, mask: masked } = &inst.action else { return };
        let mut instruction = Instruction::default();
        instruction.set_code(*code);
        let register = |i: usize| places[i].as_reg().expect("operands are in registers").hw_enc();
        let mut constant = None;
        for (place, operand) in explicit.iter().enumerate() {
            let place = place as u32;
            match *operand {
                Explicit::Register(i, size) => {
                    instruction.set_op_kind(place, OpKind::Register);
                    instruction.set_op_register(place, self.named(register(i), size));
                }
                Explicit::Immediate(byte) => {
                    instruction.set_op_kind(place, OpKind::Immediate8);
                    instruction.set_immediate8(byte);
                }
                Explicit::Memory(Memory { base, offset, broadcast }) => {
                    let base = match base {
                        Base::Register(i) => general(register(i)),
                        Base::Constant(number) => {
                            constant = Some((number, offset));
                            Register::RIP
                        }
                    };
                    set_memory(&mut instruction, place, Resolved { base, offset, broadcast });
                }
            }
        }
        if let Some((i, zeroing)) = *masked {
            instruction.set_op_mask(mask(register(i)));
            instruction.set_zeroing_masking(zeroing);
        }
        match constant {
            None => self.push(instruction),
            Some((number, offset)) => {
                let start = self.bytes.len();
                instruction.set_memory_displacement64(start as u64);
                self.push(instruction);
                let place = start + self.encoder.get_constant_offsets().displacement_offset();
                self.patches.push((place, self.bytes.len(), number, offset));
            }
        }
    }

    /// A move that the allocator asks for.
    fn copy(&mut self, from: Allocation, to: Allocation) {
        let register = from.as_reg().or(to.as_reg()).expect("the allocator uses no memory to memory moves");
        let slot = |place: Allocation| place.as_stack().map(|slot| (slot.index() * SLOT_BYTES) as i32);
        let memory = |offset| Resolved { base: Register::RSP, offset, broadcast: false };
        let name = |place: Allocation| place.as_reg().map(|register| self.any(register));
        match (name(from), name(to), slot(from).or(slot(to))) {
            (Some(from), Some(to), _) => {
                let code = match register.class() {
                    GENERAL => Code::Mov_r64_rm64,
                    MASK => Code::VEX_Kmovw_kr_km16,
                    _ => code(Op::Move, self.form),
                };
                self.registers(code, to, from);
            }
            (Some(from), None, Some(offset)) => {
                let code = match register.class() {
                    GENERAL => Code::Mov_rm64_r64,
                    MASK => Code::VEX_Kmovw_m16_kr,
                    _ => code(Op::Store, self.form),
                };
                self.plain(code, Some(from), memory(offset), false);
            }
            (None, Some(to), Some(offset)) => {
                let code = match register.class() {
                    GENERAL => Code::Mov_r64_rm64,
                    MASK => Code::VEX_Kmovw_kr_km16,
                    _ => code(Op::Load, self.form),
                };
                self.plain(code, Some(to), memory(offset), true);
            }
            _ => unreachable!("a move has a register"),
        }
    }

    fn any(&self, register: PReg) -> Register {
        match register.class() {
            GENERAL => general(register.hw_enc()),
            MASK => mask(register.hw_enc()),
            _ => self.named(register.hw_enc(), Size::Full),
        }
    }

    fn named(&self, number: usize, size: Size) -> Register {
        match (size, self.form) {
            (Size::Full, Form::Zmm) => Register::ZMM0 + number as u32,
            (Size::Full, Form::Ymm) => Register::YMM0 + number as u32,
            (Size::Low, _) => Register::XMM0 + number as u32,
            (Size::Mask, _) => mask(number),
            (Size::Double, _) => Register::EAX + number as u32,
        }
    }

    fn register(&mut self, code: Code, register: Register) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        instruction.set_op_kind(0, OpKind::Register);
        instruction.set_op_register(0, register);
        self.push(instruction);
    }

    fn registers(&mut self, code: Code, to: Register, from: Register) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        for (place, register) in [to, from].into_iter().enumerate() {
            instruction.set_op_kind(place as u32, OpKind::Register);
            instruction.set_op_register(place as u32, register);
        }
        self.push(instruction);
    }

    /// An instruction on a register and memory; `first` says which comes first.
    fn plain(&mut self, code: Code, register: Option<Register>, memory: Resolved, first: bool) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let place = u32::from(!first);
        if let Some(register) = register {
            instruction.set_op_kind(place, OpKind::Register);
            instruction.set_op_register(place, register);
        }
        set_memory(&mut instruction, 1 - place, memory);
        self.push(instruction);
    }

    fn stack_immediate(&mut self, code: Code, value: i32) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        instruction.set_op_kind(0, OpKind::Register);
        instruction.set_op_register(0, Register::RSP);
        let kind = if code == Code::And_rm64_imm8 { OpKind::Immediate8to64 } else { OpKind::Immediate32to64 };
        instruction.set_op_kind(1, kind);
        match kind {
            OpKind::Immediate8to64 => instruction.set_immediate8to64(i64::from(value)),
            _ => instruction.set_immediate32to64(i64::from(value)),
        }
        self.push(instruction);
    }

    fn load_number(&mut self, to: Register, value: i64) {
        match u32::try_from(value) {
            Ok(_) => self.number(Code::Mov_r32_imm32, Register::EAX + (to as u32 - Register::RAX as u32), value),
            Err(_) => self.number(Code::Mov_r64_imm64, to, value),
        }
    }

    fn number(&mut self, code: Code, to: Register, value: i64) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        instruction.set_op_kind(0, OpKind::Register);
        instruction.set_op_register(0, to);
        if code == Code::Mov_r32_imm32 {
            instruction.set_op_kind(1, OpKind::Immediate32);
            instruction.set_immediate32(value as u32);
        } else {
            instruction.set_op_kind(1, OpKind::Immediate64);
            instruction.set_immediate64(value as u64);
        }
        self.push(instruction);
    }

    /// The end of a loop: back to its start, by way of the latch where that has moves to make.
    fn repeat(&mut self, block: Block) {
        let successors = &self.function.blocks[block.index()].successors;
        let (latch, exit) = (successors[0], successors[1]);
        if self.has_moves(latch) {
            self.branch(Code::Je_rel32_64, exit);
        } else {
            let head = self.function.blocks[latch.index()].successors[0];
            self.branch(Code::Jne_rel32_64, head);
        }
    }

    fn has_moves(&self, block: Block) -> bool {
        self.allocation.block_insts_and_edits(self.function, block).any(|item| matches!(item, InstOrEdit::Edit(_)))
    }

    fn branch(&mut self, code: Code, target: Block) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        instruction.set_op_kind(0, OpKind::NearBranch64);
        instruction.set_near_branch64(self.starts[target.index()] as u64);
        self.push(instruction);
        self.branches.push((self.bytes.len(), target));
    }

    fn push(&mut self, instruction: Instruction) {
        let rip = self.bytes.len() as u64;
        if let Err(error) = self.encoder.encode(&instruction, rip) {
            panic!("leaf: {:?}: {error}", instruction.code());
        }
        self.bytes.append(&mut self.encoder.take_buffer());
        if self.with_listing {
            let mut line = String::from("    ");
            SpecializedFormatter::<DefaultFastFormatterTraitOptions>::new().format(&instruction, &mut line);
            line.push('\n');
            self.listing.push_str(&line);
        }
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
        for &(place, end, constant, offset) in &self.patches {
            let distance = places[constant] as i32 + offset - end as i32;
            self.bytes[place..place + 4].copy_from_slice(&distance.to_le_bytes());
        }
        for &(end, target) in &self.branches {
            let distance = self.starts[target.index()] as i32 - end as i32;
            self.bytes[end - 4..end].copy_from_slice(&distance.to_le_bytes());
        }
    }
}

/// A memory operand with its register.
#[derive(Clone, Copy)]
struct Resolved {
    base: Register,
    offset: i32,
    broadcast: bool,
}

fn set_memory(instruction: &mut Instruction, place: u32, memory: Resolved) {
    instruction.set_op_kind(place, OpKind::Memory);
    instruction.set_memory_base(memory.base);
    instruction.set_memory_displacement64(i64::from(memory.offset) as u64);
    let size = if memory.base == Register::RIP { 8 } else { u32::from(memory.offset != 0) };
    instruction.set_memory_displ_size(size);
    instruction.set_is_broadcast(memory.broadcast);
}

fn general(number: usize) -> Register {
    Register::RAX + number as u32
}

fn mask(number: usize) -> Register {
    Register::K0 + number as u32
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
