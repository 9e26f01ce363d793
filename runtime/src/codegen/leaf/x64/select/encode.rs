//! Single instructions: their operands for the allocator, and in the order of the encoding.

use super::{Selector, Source};
use crate::codegen::leaf::x64::codes::{Op, encoding};
use crate::codegen::leaf::x64::encoding::Encoding;
use crate::codegen::leaf::x64::machine::{Action, BlockData, Explicit, Inst, MASK, VECTOR};
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
        self.encode_as(encoding(op, self.form), first, last, immediate, None)
    }

    /// The same in a given encoding; with a mask register, and whether lanes outside of it become 0.
    pub(super) fn encode_as(
        &mut self,
        encoding: Encoding,
        first: &[VReg],
        last: Source,
        immediate: Option<u8>,
        mask: Option<(VReg, bool)>,
    ) -> VReg {
        let to = self.register(VECTOR);
        let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to)];
        let mut explicit: SmallVec<[Explicit; 4]> = smallvec![Explicit::Register(0)];
        for &register in first {
            explicit.push(Explicit::Register(operands.len()));
            operands.push(Operand::reg_use(register));
        }
        explicit.push(Self::last(last, &mut operands));
        explicit.extend(immediate.map(Explicit::Immediate));
        let mask = mask.map(|(register, zeroing)| {
            operands.push(Operand::reg_use(register));
            (operands.len() - 1, zeroing)
        });
        self.push(Action::Encode { encoding, explicit, mask }, operands);
        to
    }

    /// An instruction without a mask.
    pub(super) fn push_instruction(
        &mut self,
        encoding: Encoding,
        explicit: SmallVec<[Explicit; 4]>,
        operands: SmallVec<[Operand; 4]>,
    ) {
        self.push(Action::Encode { encoding, explicit, mask: None }, operands);
    }

    /// An operation without a mask.
    pub(super) fn push_op(&mut self, op: Op, explicit: SmallVec<[Explicit; 4]>, operands: SmallVec<[Operand; 4]>) {
        self.push_instruction(encoding(op, self.form), explicit, operands);
    }

    pub(super) fn last(source: Source, operands: &mut SmallVec<[Operand; 4]>) -> Explicit {
        match source {
            Source::Register(register) => {
                operands.push(Operand::reg_use(register));
                Explicit::Register(operands.len() - 1)
            }
            Source::Pointer { pointer, offset, broadcast } => {
                operands.push(Operand::reg_use(pointer));
                Explicit::Memory { base: operands.len() - 1, offset, broadcast }
            }
            Source::Constant { number, broadcast } => Explicit::Constant { number, broadcast },
        }
    }

    /// An instruction that needs no operand: a register xor itself, which is written but not read.
    pub(super) fn zero(&mut self, to: VReg) {
        let explicit = (0..3).map(|_| Explicit::Register(0)).collect();
        self.push_op(Op::Xor, explicit, smallvec![Operand::reg_def(to)]);
    }

    pub(super) fn encode_masks(&mut self, encoding: Encoding, from: &[VReg]) -> VReg {
        let to = self.register(MASK);
        let uses = from.iter().map(|&register| Operand::reg_use(register));
        let operands: SmallVec<[Operand; 4]> = [Operand::reg_def(to)].into_iter().chain(uses).collect();
        let explicit = (0..operands.len()).map(Explicit::Register).collect();
        self.push_instruction(encoding, explicit, operands);
        to
    }
}
