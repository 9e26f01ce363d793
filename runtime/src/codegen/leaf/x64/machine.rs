//! Machine instructions over virtual registers, in blocks: what regalloc2 sees, and what is encoded.

use super::encoding::Encoding;
use crate::codegen::leaf::Lanes;
use regalloc2::{Block, InstRange, Operand, PRegSet, RegClass, VReg};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// The class of general-purpose registers.
pub const GENERAL: RegClass = RegClass::Int;
/// The class of vector registers.
pub const VECTOR: RegClass = RegClass::Float;
/// The class of mask registers.
pub const MASK: RegClass = RegClass::Vector;

/// An operand of an encoded instruction, in the order of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explicit {
    /// The operand of regalloc2 at this position.
    Register(usize),
    /// Memory.
    Memory {
        /// The operand of regalloc2 that is the address, by position.
        base: usize,
        /// Bytes behind it.
        offset: i32,
        /// Whether one element is read for all lanes.
        broadcast: bool,
    },
    /// A constant of the function.
    Constant {
        /// Which.
        number: usize,
        /// Whether one element is read for all lanes.
        broadcast: bool,
    },
    /// A byte.
    Immediate(u8),
}

/// What an instruction is.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// One machine instruction.
    Encode {
        encoding: Encoding,
        explicit: SmallVec<[Explicit; 4]>,
        /// The operand that is its mask, and whether lanes without become 0.
        mask: Option<(usize, bool)>,
    },
    /// Defines the parameters that come in registers.
    Parameters,
    /// Loads a parameter from the caller's stack, counted from the first that is there.
    StackParameter(usize),
    /// A mask of some lanes.
    Lanes(Lanes),
    /// A number in a general-purpose register.
    Number(i64),
    /// An address plus bytes.
    Advance(i64),
    /// A counter less 1, with the flags set.
    Decrement,
    /// Back to the start of a block while the counter is not 0.
    RepeatUnlessZero,
    /// On to the block behind.
    FallThrough,
    /// Back to a block.
    Jump(Block),
    /// The end.
    Return,
}

/// An instruction.
#[derive(Clone, Debug)]
pub struct Inst {
    /// What it is.
    pub action: Action,
    /// Its registers.
    pub operands: SmallVec<[Operand; 4]>,
}

impl Inst {
    fn is_branch(&self) -> bool {
        matches!(self.action, Action::RepeatUnlessZero | Action::FallThrough | Action::Jump(_))
    }
}

/// A basic block.
#[derive(Clone, Debug, Default)]
pub struct BlockData {
    /// Its instructions, the last of which leaves it.
    pub insts: Vec<Inst>,
    /// Values it gets from the blocks before it.
    pub parameters: Vec<VReg>,
    /// What it gives to the parameters of its only successor that has some.
    pub arguments: Vec<VReg>,
    /// Blocks that follow.
    pub successors: SmallVec<[Block; 2]>,
    /// Blocks before it.
    pub predecessors: SmallVec<[Block; 2]>,
    /// Whether it is the start of a loop.
    pub is_loop: bool,
}

/// A function for regalloc2.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// All instructions, block by block.
    pub insts: Vec<Inst>,
    /// The blocks, without their instructions.
    pub blocks: Vec<BlockData>,
    /// The range of each block.
    ranges: Vec<InstRange>,
    n_registers: usize,
    /// Constants, each aligned to its length, with their places once all are known.
    pub constants: Constants,
    /// Slots of eight bytes that a vector takes on the stack.
    vector_slots: usize,
}

/// The constants behind the code.
#[derive(Clone, Debug, Default)]
pub struct Constants {
    /// Each once.
    pub all: Vec<Vec<u8>>,
    known: FxHashMap<Vec<u8>, usize>,
}

impl Constants {
    /// The number of a constant.
    pub fn number(&mut self, bytes: Vec<u8>) -> usize {
        if let Some(&known) = self.known.get(&bytes) {
            return known;
        }
        self.all.push(bytes.clone());
        self.known.insert(bytes, self.all.len() - 1);
        self.all.len() - 1
    }
}

impl Function {
    /// The blocks in order, which is the order of the code.
    pub fn new(mut blocks: Vec<BlockData>, n_registers: usize, constants: Constants, vector_slots: usize) -> Function {
        let (mut insts, mut ranges) = (Vec::new(), Vec::new());
        for block in &mut blocks {
            let start = regalloc2::Inst::new(insts.len());
            insts.append(&mut block.insts);
            ranges.push(InstRange::new(start, regalloc2::Inst::new(insts.len())));
        }
        for b in 0..blocks.len() {
            for successor in blocks[b].successors.clone() {
                blocks[successor.index()].predecessors.push(Block::new(b));
            }
        }
        Function { insts, blocks, ranges, n_registers, constants, vector_slots }
    }
}

impl regalloc2::Function for Function {
    fn num_insts(&self) -> usize {
        self.insts.len()
    }

    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn entry_block(&self) -> Block {
        Block::new(0)
    }

    fn block_insns(&self, block: Block) -> InstRange {
        self.ranges[block.index()]
    }

    fn block_succs(&self, block: Block) -> &[Block] {
        &self.blocks[block.index()].successors
    }

    fn block_preds(&self, block: Block) -> &[Block] {
        &self.blocks[block.index()].predecessors
    }

    fn block_params(&self, block: Block) -> &[VReg] {
        &self.blocks[block.index()].parameters
    }

    fn is_ret(&self, inst: regalloc2::Inst) -> bool {
        self.insts[inst.index()].action == Action::Return
    }

    fn is_branch(&self, inst: regalloc2::Inst) -> bool {
        self.insts[inst.index()].is_branch()
    }

    fn branch_blockparams(&self, block: Block, _: regalloc2::Inst, successor: usize) -> &[VReg] {
        let block = &self.blocks[block.index()];
        let target = &self.blocks[block.successors[successor].index()];
        if target.parameters.is_empty() { &[] } else { &block.arguments }
    }

    fn inst_operands(&self, inst: regalloc2::Inst) -> &[Operand] {
        &self.insts[inst.index()].operands
    }

    fn inst_clobbers(&self, _: regalloc2::Inst) -> PRegSet {
        PRegSet::empty()
    }

    fn num_vregs(&self) -> usize {
        self.n_registers
    }

    fn spillslot_size(&self, class: RegClass) -> usize {
        if class == VECTOR { self.vector_slots } else { 1 }
    }
}
