//! The instructions of a leaf as machine instructions over virtual registers.
//!
//! A load or constant that one instruction needs becomes its memory operand. A multiply-add overwrites the operand that
//! is needed no more. Loops count down; addresses that move with a loop are registers that advance at its end.

mod arithmetic;
mod encode;
mod memory;

use super::Form;
use super::allocate::PARAMETERS;
use super::codes::{self, Op};
use super::machine::{Action, BlockData, Constants, Function, GENERAL, Inst, VECTOR};
use crate::codegen::leaf::{Access, Address, Inst as LeafInst, Lanes, Leaf, Loop, LoopId, Shift, Vector};
use regalloc2::{Block, Operand, PReg, VReg};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::{SmallVec, smallvec};

/// The function of a leaf.
pub fn select(leaf: &Leaf, form: Form) -> Function {
    debug_assert_eq!(leaf.width, form.width(), "the leaf is made for these vectors");
    let mut selector = Selector {
        form,
        values: vec![None; leaf.counts.vectors as usize],
        masks: vec![None; leaf.counts.masks as usize],
        uses: count_uses(leaf),
        folded: FxHashSet::default(),
        pointers: FxHashMap::default(),
        lane_masks: FxHashMap::default(),
        hoisted: FxHashMap::default(),
        local: FxHashMap::default(),
        table: None,
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

/// Instructions for each sum of a loop, from which on the sums are renamed behind it.
const LONG_BEHIND: usize = 8;

struct Selector {
    form: Form,
    values: Vec<Option<Value>>,
    masks: Vec<Option<VReg>>,
    /// How often each vector is used.
    uses: Vec<u32>,
    /// Loads that become operands.
    folded: FxHashSet<Vector>,
    pointers: FxHashMap<PointerKey, VReg>,
    /// Masks of lanes.
    lane_masks: FxHashMap<Lanes, VReg>,
    /// Constants in registers, made at the start.
    hoisted: FxHashMap<u32, VReg>,
    /// Constants in registers, made in the block at hand.
    local: FxHashMap<u32, VReg>,
    /// The lower half of the table that was read last in the block at hand, which the next vector is likely to read, too: the
    /// number of the constant, and its register.
    table: Option<(usize, VReg)>,
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
            inst.vectors(&mut |vector| uses[vector.0 as usize] += 1);
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

impl Selector {
    fn parameters(&mut self, n: usize) {
        let registers: Vec<VReg> = (0..n).map(|_| self.register(GENERAL)).collect();
        let fixed = registers.iter().zip(PARAMETERS);
        let operands = fixed.map(|(&to, fixed)| Operand::reg_fixed_def(to, PReg::new(fixed.into(), GENERAL))).collect();
        self.prologue.push(Inst { action: Action::Parameters, operands });
        for (i, &to) in registers.iter().enumerate() {
            if let Some(place) = i.checked_sub(PARAMETERS.len()) {
                let operands = smallvec![Operand::reg_def(to)];
                self.prologue.push(Inst { action: Action::StackParameter(place), operands });
            }
            self.pointers.insert((i, SmallVec::new()), to);
        }
    }

    fn body(&mut self, body: &[LeafInst], sums: usize) {
        self.mark_folded(body, sums);
        for (i, inst) in body.iter().enumerate() {
            self.inst(inst);
            if let LeafInst::Loop(inner) = inst
                && body.len() - i > LONG_BEHIND * inner.carried.len()
            {
                self.rename(inner);
            }
        }
    }

    /// Gives the results of a loop other registers behind it. Where much follows, some wait on the stack: under their own names they
    /// would do so within the loop, and be stored in each step.
    fn rename(&mut self, inner: &Loop) {
        for carried in &inner.carried {
            let sum = self.get(carried.after);
            let own = self.encode(Op::Move, &[], Source::Register(sum), None);
            self.set(carried.after, own);
        }
    }

    /// Finds the loads of a body that become operands: those that one instruction of the same body needs, with no store
    /// between. Where sums and vectors leave no register for elements that are shared by several instructions, these
    /// are read again by each.
    fn mark_folded(&mut self, body: &[LeafInst], sums: usize) {
        let mut loads: FxHashMap<Vector, (usize, Access)> = FxHashMap::default();
        let mut stores = 0;
        let mut shared_vectors = 0;
        let mut used_here: FxHashMap<Vector, u32> = FxHashMap::default();
        let mut broken: FxHashSet<Vector> = FxHashSet::default();
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
            inst.vectors(&mut |vector| {
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
            LeafInst::Store { value, to, access, streaming } => self.store(*value, to, *access, *streaming),
            LeafInst::Prefetch { from } => self.prefetch(from),
            LeafInst::Evens { to, a, b, odd, mixed } => {
                let (a, b) = (self.get(*a), self.get(*b));
                let value = self.evens(a, b, *odd, *mixed);
                self.set(*to, value);
            }
            LeafInst::Unmix { to, a } => {
                let a = self.get(*a);
                let value = self.unmix(a);
                self.set(*to, value);
            }
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
                    Form::Zmm => self.encode_masks(codes::KNOTW, &[a]),
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
            LeafInst::Interleave { to, a, b } => {
                let (a, b) = (self.get(*a), self.get(*b));
                for (to, register) in to.iter().zip(self.interleave(a, b)) {
                    self.set(*to, register);
                }
            }
            LeafInst::Lookup { to, table, index } => {
                let index = self.get(*index);
                let value = self.lookup(table, index);
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
        self.forget();
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
        self.forget();
        for (carried, &register) in inner.carried.iter().zip(&next) {
            self.set(carried.after, register);
        }
    }

    /// Forgets what the block before had in registers.
    fn forget(&mut self) {
        self.local.clear();
        self.table = None;
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
            LeafInst::Load { from, .. } | LeafInst::Prefetch { from } => add(from.base, &from.terms),
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
