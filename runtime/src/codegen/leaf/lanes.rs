//! Writing a leaf, instruction by instruction.

use super::elements::{Windows, by_element};
use super::{
    Access, Address, Binary, Carried, Compare, Counts, Inst, Leaf, Logic, Loop, LoopId, Mask, Name, Reduction, Shift,
    Table, Unary, Vector,
};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Machines with vectors of so many lanes have 32 registers, the others 16. There an element that was read for all lanes is not
/// kept from one step of a window to the next, [`RECENT`] instructions later, in the place of a sum: to read it again is free
/// beside the multiplications.
const MANY_REGISTERS: usize = 16;
const RECENT: usize = 8;

/// Vectors of so many lanes, and of more, pick every other element faster out of order.
const MIXED: usize = 8;

/// Instructions of a run that is worth weaving: shorter ones overlap by themselves.
const LONG_RUN: usize = 16;

/// Registers that a run takes, about, beside those that take turns with it.
const RUN_REGISTERS: usize = 8;

/// Collects the instructions of a leaf.
#[derive(Debug, Default)]
pub struct Writer {
    parameters: usize,
    width: usize,
    counts: Counts,
    /// The bodies that are open, the outermost first.
    open: Vec<Vec<Inst>>,
    /// What the innermost body has read since it last wrote, and how long it was then: windows that overlap read an element
    /// once.
    read: FxHashMap<(Address, Access), (Vector, usize)>,
    constants: FxHashMap<u32, Vector>,
}

impl Writer {
    /// A leaf on vectors of `width` lanes.
    pub fn new(width: usize) -> Writer {
        Writer { width, open: vec![Vec::new()], ..Writer::default() }
    }

    /// The lanes of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether the machine has 32 registers.
    pub fn has_many_registers(&self) -> bool {
        self.width >= MANY_REGISTERS
    }

    /// Vector registers of a machine whose vectors are so wide.
    fn registers(&self) -> usize {
        if self.has_many_registers() { 32 } else { 16 }
    }

    /// The finished leaf.
    pub fn finish(mut self) -> Leaf {
        let body = self.open.pop().expect("the outermost body is open");
        Leaf { parameters: self.parameters, width: self.width, body, counts: self.counts }
    }

    /// A further parameter.
    pub fn parameter(&mut self) -> usize {
        self.parameters += 1;
        self.parameters - 1
    }

    fn push(&mut self, inst: Inst) {
        self.open.last_mut().expect("a body is open").push(inst);
    }

    fn vector(&mut self) -> Vector {
        self.counts.vectors += 1;
        Vector(self.counts.vectors - 1)
    }

    fn mask(&mut self) -> Mask {
        self.counts.masks += 1;
        Mask(self.counts.masks - 1)
    }

    /// The same bits in every lane. Constants are made at the start of the leaf, each once.
    pub fn bits(&mut self, bits: u32) -> Vector {
        if let Some(&known) = self.constants.get(&bits) {
            return known;
        }
        let to = self.vector();
        self.open[0].insert(0, Inst::Constant { to, bits });
        self.constants.insert(bits, to);
        to
    }

    /// The same number in every lane.
    pub fn number(&mut self, value: f32) -> Vector {
        self.bits(value.to_bits())
    }

    /// Whether a vector is a constant other than NaN.
    pub fn is_number(&self, vector: Vector) -> bool {
        self.constants.iter().any(|(&bits, &known)| known == vector && !f32::from_bits(bits).is_nan())
    }

    /// Positions as i32: see [`Inst::Position`].
    pub fn position(
        &mut self,
        parameter: usize,
        terms: SmallVec<[(LoopId, i64); 4]>,
        offset: i64,
        lane_step: i64,
    ) -> Vector {
        let to = self.vector();
        self.push(Inst::Position { to, parameter, terms, offset, lane_step });
        to
    }

    /// Reads memory.
    pub fn load(&mut self, from: Address, access: Access) -> Vector {
        let key = (from, access);
        let now = self.open.last().map_or(0, Vec::len);
        let is_kept = |then: usize| access != Access::Broadcast || self.width >= MANY_REGISTERS || now < then + RECENT;
        if let Some(&(known, _)) = self.read.get(&key).filter(|(_, then)| is_kept(*then)) {
            return known;
        }
        let to = self.vector();
        self.push(Inst::Load { to, from: key.0.clone(), access });
        self.read.insert(key, (to, now));
        to
    }

    /// Writes memory.
    pub fn store(&mut self, value: Vector, to: Address, access: Access, streaming: bool) {
        self.read.clear();
        self.push(Inst::Store { value, to, access, streaming });
    }

    /// Asks for memory that is read soon.
    pub fn prefetch(&mut self, from: Address) {
        self.push(Inst::Prefetch { from });
    }

    /// A function of one vector.
    pub fn unary(&mut self, op: Unary, a: Vector) -> Vector {
        let to = self.vector();
        self.push(Inst::Unary { to, op, a });
        to
    }

    /// A function of two vectors.
    pub fn binary(&mut self, op: Binary, a: Vector, b: Vector) -> Vector {
        let to = self.vector();
        self.push(Inst::Binary { to, op, a, b });
        to
    }

    /// Shifted by a constant.
    pub fn shift(&mut self, op: Shift, a: Vector, by: u32) -> Vector {
        let to = self.vector();
        self.push(Inst::Shift { to, op, a, by });
        to
    }

    /// `a * b + c` with one rounding.
    pub fn fused(&mut self, a: Vector, b: Vector, c: Vector) -> Vector {
        let to = self.vector();
        self.push(Inst::Fma { to, a, b, c });
        to
    }

    /// A comparison.
    pub fn compare(&mut self, op: Compare, a: Vector, b: Vector) -> Mask {
        let to = self.mask();
        self.push(Inst::Compare { to, op, a, b });
        to
    }

    /// A function of two masks.
    pub fn logic(&mut self, op: Logic, a: Mask, b: Mask) -> Mask {
        let to = self.mask();
        self.push(Inst::Logic { to, op, a, b });
        to
    }

    /// The opposite mask.
    pub fn not(&mut self, a: Mask) -> Mask {
        let to = self.mask();
        self.push(Inst::Not { to, a });
        to
    }

    /// `yes` where the condition holds, else `no`.
    pub fn pick(&mut self, condition: Mask, yes: Vector, no: Vector) -> Vector {
        let to = self.vector();
        self.push(Inst::Select { to, condition, yes, no });
        to
    }

    /// The first lanes of one, the others of another.
    pub fn blend(&mut self, lanes: usize, a: Vector, b: Vector) -> Vector {
        if lanes >= self.width {
            return a;
        }
        let to = self.vector();
        self.push(Inst::Blend { to, lanes, a, b });
        to
    }

    /// Every other lane of two vectors, from the first on or from the second; `mixed` where all sums of them are put in order
    /// by [`Writer::unmix`].
    pub fn evens(&mut self, a: Vector, b: Vector, odd: bool, mixed: bool) -> Vector {
        let to = self.vector();
        self.push(Inst::Evens { to, a, b, odd, mixed });
        to
    }

    /// Whether it is worth to put sums in order rather than elements.
    pub fn mixes(&self) -> bool {
        self.width >= MIXED
    }

    /// The order of lanes that mixed vectors should have.
    pub fn unmix(&mut self, a: Vector) -> Vector {
        let to = self.vector();
        self.push(Inst::Unmix { to, a });
        to
    }

    /// The lanes of both in turns: first those of the lower halves.
    pub fn interleave(&mut self, a: Vector, b: Vector) -> [Vector; 2] {
        let to = [self.vector(), self.vector()];
        self.push(Inst::Interleave { to, a, b });
        to
    }

    /// Whether [`Writer::lookup`] may be asked for.
    pub fn has_tables(&self) -> bool {
        self.width >= MANY_REGISTERS
    }

    /// Entries of a table by number.
    pub fn lookup(&mut self, table: &'static Table, index: Vector) -> Vector {
        let to = self.vector();
        self.push(Inst::Lookup { to, table, index });
        to
    }

    /// Where the next instruction goes in the body at hand, for [`Writer::weave`].
    pub fn place(&self) -> usize {
        self.open.last().map_or(0, Vec::len) - self.constants_in_front()
    }

    /// Constants come in front of all else, at any time.
    fn constants_in_front(&self) -> usize {
        if self.open.len() == 1 { self.constants.len() } else { 0 }
    }

    /// Runs of instructions that start at these places, the last of which ends here, take turns, a few at a time: the processor
    /// looks ahead less far than a long function is, and would wait for the results of one alone. No run may read what another
    /// has stored.
    pub fn weave(&mut self, starts: &[usize]) {
        let (front, at_once) = (self.constants_in_front(), self.registers() / RUN_REGISTERS);
        let Some(body) = self.open.last_mut() else { return };
        let mut runs: Vec<VecDeque<Inst>> =
            starts.iter().rev().map(|&start| body.split_off(start + front).into()).collect();
        runs.reverse();
        let is_long =
            |run: &VecDeque<Inst>| run.len() >= LONG_RUN && !run.iter().any(|inst| matches!(inst, Inst::Loop(_)));
        if !runs.iter().all(is_long) {
            return body.extend(runs.into_iter().flatten());
        }
        for runs in runs.chunks_mut(at_once) {
            let mut missing: FxHashSet<Name> = runs.iter().flatten().flat_map(Inst::gives).collect();
            while runs.iter().any(|run| !run.is_empty()) {
                for run in &mut *runs {
                    let is_ready = |inst: &Inst| {
                        let mut ready = inst.masks().into_iter().all(|mask| !missing.contains(&Name::Mask(mask)));
                        inst.vectors(&mut |vector| ready &= !missing.contains(&Name::Vector(vector)));
                        ready
                    };
                    if let Some(inst) = run.pop_front_if(|inst| is_ready(inst)) {
                        inst.gives().iter().for_each(|name| {
                            missing.remove(name);
                        });
                        body.push(inst);
                    }
                }
            }
        }
    }

    /// Sums of products since `start`, such as those of a window over rows: where their elements are more than registers hold,
    /// each is read once and added to all sums that need it, in the order of memory, or in that of `windows`. The order within
    /// every sum stays.
    pub fn add_by_element(&mut self, start: usize, windows: Option<&Windows>) {
        let (front, registers) = (self.constants_in_front(), self.registers());
        let Some(body) = self.open.last_mut() else { return };
        let run = body.split_off(start + front);
        match by_element(&run, registers, windows, &mut self.counts.vectors) {
            Some(ordered) => body.extend(ordered),
            None => body.extend(run),
        }
    }

    /// Rows to columns: as many vectors as one has lanes.
    pub fn transpose(&mut self, from: &[Vector]) -> Vec<Vector> {
        debug_assert_eq!(from.len(), self.width, "a square");
        let to: Vec<Vector> = from.iter().map(|_| self.vector()).collect();
        self.push(Inst::Transpose { to: to.clone(), from: from.to_vec() });
        to
    }

    /// All lanes combined, in every lane.
    pub fn reduce(&mut self, op: Reduction, a: Vector) -> Vector {
        let to = self.vector();
        self.push(Inst::Reduce { to, op, a });
        to
    }

    /// The greater or lesser of two, NaN if either is.
    pub fn extreme(&mut self, greatest: bool, a: Vector, b: Vector) -> Vector {
        let op = if greatest { Binary::Greater } else { Binary::Lesser };
        // The instruction gives the second where either is NaN: a first operand that is a number needs no more.
        if self.is_number(b) {
            return self.binary(op, b, a);
        }
        let raw = self.binary(op, a, b);
        if self.is_number(a) {
            return raw;
        }
        let first_is_nan = self.compare(Compare::Unordered, a, a);
        self.pick(first_is_nan, a, raw)
    }

    /// Opens a loop: what is written until [`Writer::end_loop`] is its body. Gives its name and the values within a
    /// step.
    pub fn begin_loop(&mut self, starts: &[Vector]) -> (LoopId, Vec<Vector>) {
        let id = LoopId(self.counts.loops);
        self.counts.loops += 1;
        let inside = starts.iter().map(|_| self.vector()).collect();
        self.open.push(Vec::new());
        self.read.clear();
        (id, inside)
    }

    /// Closes the loop opened last; gives the values after it.
    pub fn end_loop(
        &mut self,
        id: LoopId,
        count: u64,
        starts: &[Vector],
        inside: &[Vector],
        next: &[Vector],
    ) -> Vec<Vector> {
        let body = self.open.pop().expect("the loop was opened");
        self.read.clear();
        let after: Vec<Vector> = starts.iter().map(|_| self.vector()).collect();
        let carried = (0..starts.len())
            .map(|i| Carried { inside: inside[i], start: starts[i], next: next[i], after: after[i] })
            .collect();
        self.push(Inst::Loop(Loop { id, count, carried, body }));
        after
    }
}
