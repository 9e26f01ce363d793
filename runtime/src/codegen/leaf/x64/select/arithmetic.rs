//! What is computed in registers.

use super::{Selector, Source};
use crate::codegen::leaf::x64::Form;
use crate::codegen::leaf::x64::codes::{self, Op, encoding};
use crate::codegen::leaf::x64::machine::{Explicit, MASK, VECTOR};
use crate::codegen::leaf::{Binary, Compare, Logic, Reduction, Table, Unary, Vector};
use regalloc2::{Operand, VReg};
use smallvec::{SmallVec, smallvec};

impl Selector {
    pub(super) fn broadcast_integer(&mut self, from: VReg) -> VReg {
        let low = self.register(VECTOR);
        let explicit = smallvec![Explicit::Register(0), Explicit::Register(1)];
        self.push_op(Op::FromInteger, explicit, smallvec![Operand::reg_def(low), Operand::reg_use(from)]);
        self.widen(low, Op::BroadcastLane)
    }

    /// An operation from the low 128 bits of a register to a whole one.
    pub(super) fn widen(&mut self, low: VReg, op: Op) -> VReg {
        let to = self.register(VECTOR);
        let explicit = smallvec![Explicit::Register(0), Explicit::Register(1)];
        self.push_op(op, explicit, smallvec![Operand::reg_def(to), Operand::reg_use(low)]);
        to
    }

    /// Every other lane of both, from the first or the second on; `mixed` as they come.
    pub(super) fn evens(&mut self, a: VReg, b: VReg, odd: bool, mixed: bool) -> VReg {
        let within = if odd { 0xdd } else { 0x88 };
        match self.form {
            Form::Zmm if mixed => self.encode_as(codes::VSHUFPS_512, &[a], Source::Register(b), Some(within), None),
            Form::Zmm => {
                let numbers = self.pattern(|lane| 2 * lane as u32 + u32::from(odd));
                let numbers = self.load_whole(numbers);
                self.pick_lanes(numbers, a, Source::Register(b))
            }
            Form::Ymm => {
                let both = self.encode_as(codes::VSHUFPS, &[a], Source::Register(b), Some(within), None);
                if mixed { both } else { self.unmix(both) }
            }
        }
    }

    /// Within each 128 bits there are two lanes of one vector and two of another: those of each side by side.
    pub(super) fn unmix(&mut self, both: VReg) -> VReg {
        match self.form {
            Form::Zmm => {
                let numbers = self.pattern(|lane| (lane % 8 / 2 * 4 + lane % 2 + lane / 8 * 2) as u32);
                let numbers = self.load_whole(numbers);
                self.pick_lanes(numbers, both, Source::Register(both))
            }
            Form::Ymm => {
                let to = self.register(VECTOR);
                let explicit = smallvec![Explicit::Register(0), Explicit::Register(1), Explicit::Immediate(0xd8)];
                let operands = smallvec![Operand::reg_def(to), Operand::reg_use(both)];
                self.push_instruction(codes::VPERMPD, explicit, operands);
                to
            }
        }
    }

    /// The lanes of two registers that the low five bits of `numbers` say: first those of `low`, from 16 on those of `high`.
    fn pick_lanes(&mut self, numbers: VReg, low: VReg, high: Source) -> VReg {
        let to = self.register(VECTOR);
        let mut operands = smallvec![Operand::reg_reuse_def(to, 1), Operand::reg_use(numbers), Operand::reg_use(low)];
        let high = Self::last(high, &mut operands);
        let explicit = smallvec![Explicit::Register(0), Explicit::Register(2), high];
        self.push_instruction(codes::VPERMI2PS, explicit, operands);
        to
    }

    pub(super) fn lookup(&mut self, table: &Table, index: VReg) -> VReg {
        debug_assert_eq!(self.form, Form::Zmm, "the writer offers tables for these vectors alone");
        let [low, high] = [0, 16].map(|from| self.pattern(|lane| table[from + lane]));
        let Source::Constant { number, .. } = low else { unreachable!("patterns are constants") };
        let register = match self.table {
            Some((known, register)) if known == number => register,
            _ => self.load_whole(low),
        };
        self.table = Some((number, register));
        self.pick_lanes(index, register, high)
    }

    pub(super) fn unary(&mut self, op: Unary, a: Vector) -> VReg {
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
    pub(super) fn unsigned_to_float(&mut self, a: VReg) -> VReg {
        let upper = self.encode(Op::ShiftRight, &[], Source::Register(a), Some(16));
        let upper = self.encode(Op::ToFloat, &[], Source::Register(upper), None);
        let low_bits = self.constant(0xffff);
        let lower = self.encode(Op::And, &[a], low_bits, None);
        let lower = self.encode(Op::ToFloat, &[], Source::Register(lower), None);
        let scale = self.constant(65536f32.to_bits());
        self.multiply_add(Op::Fma132, upper, lower, scale)
    }

    pub(super) fn binary(&mut self, op: Binary, mut a: Vector, mut b: Vector) -> VReg {
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
    pub(super) fn high_product(&mut self, a: Vector, b: Vector) -> VReg {
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
    pub(super) fn multiply_add(&mut self, op: Op, own: VReg, second: VReg, last: Source) -> VReg {
        let to = self.register(VECTOR);
        let mut operands: SmallVec<[Operand; 4]> =
            smallvec![Operand::reg_reuse_def(to, 1), Operand::reg_use(own), Operand::reg_use(second)];
        let last = Self::last(last, &mut operands);
        let explicit = smallvec![Explicit::Register(0), Explicit::Register(2), last];
        self.push_op(op, explicit, operands);
        to
    }

    pub(super) fn fma(&mut self, a: Vector, b: Vector, c: Vector) -> VReg {
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

    pub(super) fn compare(&mut self, op: Compare, a: VReg, b: Source) -> VReg {
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
            let (encoding, immediate) = match (op, predicate) {
                (_, Some(predicate)) => (encoding(Op::Compare, self.form), predicate),
                (Compare::IEq, _) => (codes::VPCMPD, 0),
                (Compare::ILt, _) => (codes::VPCMPD, 1),
                _ => (codes::VPCMPUD, 1),
            };
            let to = self.register(MASK);
            let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to), Operand::reg_use(a)];
            let b = Self::last(b, &mut operands);
            let explicit = smallvec![Explicit::Register(0), Explicit::Register(1), b, Explicit::Immediate(immediate)];
            self.push_instruction(encoding, explicit, operands);
            return to;
        }
        match (op, predicate) {
            (_, Some(predicate)) => self.encode(Op::Compare, &[a], b, Some(predicate)),
            (Compare::IEq, _) => self.encode_as(codes::VPCMPEQD, &[a], b, None, None),
            // There is only "greater".
            (Compare::ILt, _) => {
                let b = self.load_whole(b);
                self.encode_as(codes::VPCMPGTD, &[b], Source::Register(a), None, None)
            }
            // Unsigned numbers compare as signed ones with the upper bit flipped.
            _ => {
                let b = self.load_whole(b);
                let flip = self.constant(1 << 31);
                let a = self.encode(Op::Xor, &[a], flip, None);
                let b = self.encode(Op::Xor, &[b], flip, None);
                self.encode_as(codes::VPCMPGTD, &[b], Source::Register(a), None, None)
            }
        }
    }

    pub(super) fn logic(&mut self, op: Logic, a: VReg, b: VReg) -> VReg {
        match self.form {
            Form::Zmm => {
                let encoding = match op {
                    Logic::And => codes::KANDW,
                    Logic::Or => codes::KORW,
                    Logic::Xor => codes::KXORW,
                };
                self.encode_masks(encoding, &[a, b])
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

    pub(super) fn select(&mut self, condition: VReg, yes: Source, no: VReg) -> VReg {
        if self.form == Form::Zmm {
            return self.encode_as(codes::VBLENDMPS, &[no], yes, None, Some((condition, false)));
        }
        let to = self.register(VECTOR);
        let mut operands: SmallVec<[Operand; 4]> = smallvec![Operand::reg_def(to), Operand::reg_use(no)];
        let mut explicit: SmallVec<[Explicit; 4]> = smallvec![Explicit::Register(0), Explicit::Register(1)];
        explicit.push(Self::last(yes, &mut operands));
        explicit.push(Explicit::Register(operands.len()));
        operands.push(Operand::reg_use(condition));
        self.push_instruction(codes::VBLENDVPS, explicit, operands);
        to
    }

    /// The lanes of both in turns. Unpacking does so within 128 bits.
    pub(super) fn interleave(&mut self, a: VReg, b: VReg) -> [VReg; 2] {
        let [low, high] = [Op::UnpackLow, Op::UnpackHigh].map(|op| self.encode(op, &[a], Source::Register(b), None));
        let form = self.form;
        let mut parts = |a: VReg, b: VReg, which| self.encode(Op::Parts, &[a], Source::Register(b), Some(which));
        match form {
            Form::Zmm => [0x44, 0xee].map(|halves| {
                let quarters = parts(low, high, halves);
                parts(quarters, quarters, 0xd8)
            }),
            Form::Ymm => [0x20, 0x31].map(|halves| parts(low, high, halves)),
        }
    }

    /// Rows to columns, each with its number: lanes of two rows in turn, pairs of lanes of four rows, then whole groups of
    /// 128 bits of all rows.
    pub(super) fn transpose(&mut self, rows: Vec<VReg>) -> Vec<(usize, VReg)> {
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
    pub(super) fn reduce(&mut self, op: Reduction, a: Vector) -> VReg {
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
}
