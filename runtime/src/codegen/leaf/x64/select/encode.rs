//! Single instructions: their operands for the allocator, and in the order of the encoding.

use super::{Selector, Source};
use crate::codegen::leaf::x64::codes::{Op, code};
use crate::codegen::leaf::x64::machine::{Action, Base, BlockData, Explicit, Inst, MASK, Memory, Size, VECTOR};
use iced_x86::Code;
use regalloc2::{Operand, RegClass, VReg};
use smallvec::{SmallVec, smallvec};

impl Selector {
    pub(super) fn register(&mut self, class: RegClass) -> VReg {
        self.n_registers += 1;
        VReg::new(self.n_registers - 1, class)
    }

    pub(super) fn block(&mut self) -> &mut BlockData {
        self.blocks.last_mut().expect("the entry exists")
    }

    pub(super) fn push(&mut self, action: Action, operands: SmallVec<[Operand; 4]>) {
        self.block().insts.push(Inst { action, operands });
    }

    /// `op(first.., last)`, an immediate behind.
    pub(super) fn encode(&mut self, op: Op, first: &[VReg], last: Source, immediate: Option<u8>) -> VReg {
        self.encode_as(code(op, self.form), first, last, immediate, None)
    }

    /// The same in a given encoding; with a mask register, and whether lanes outside of it become 0.
    pub(super) fn encode_as(
        &mut self,
        code: Code,
        first: &[VReg],
        last: Source,
        immediate: Option<u8>,
        mask: Option<(VReg, bool)>,
    ) -> VReg {
        let to = self.register(VECTOR);
        let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to)];
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
        self.push(Action::Encode { code, explicit, mask }, operands);
        to
    }

    /// An instruction without a mask.
    pub(super) fn push_code(
        &mut self,
        code: Code,
        explicit: SmallVec<[Explicit; 4]>,
        operands: SmallVec<[Operand; 4]>,
    ) {
        self.push(Action::Encode { code, explicit, mask: None }, operands);
    }

    /// An operation without a mask.
    pub(super) fn push_op(&mut self, op: Op, explicit: SmallVec<[Explicit; 4]>, operands: SmallVec<[Operand; 4]>) {
        self.push_code(code(op, self.form), explicit, operands);
    }

    pub(super) fn last(source: Source, operands: &mut SmallVec<[Operand; 4]>, size: Size) -> Explicit {
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

    /// An instruction that needs no operand: a register xor itself, which is written but not read.
    pub(super) fn zero(&mut self, to: VReg) {
        let explicit = (0..3).map(|_| Explicit::Register(0, Size::Full)).collect();
        self.push_op(Op::Xor, explicit, smallvec![Operand::reg_def(to)]);
    }

    pub(super) fn encode_masks(&mut self, code: Code, from: &[VReg]) -> VReg {
        let to = self.register(MASK);
        let uses = from.iter().map(|&register| Operand::reg_use(register));
        let operands: SmallVec<[Operand; 4]> = [Operand::reg_def(to)].into_iter().chain(uses).collect();
        let explicit = (0..operands.len()).map(|i| Explicit::Register(i, Size::Mask)).collect();
        self.push_code(code, explicit, operands);
        to
    }
}
