//! The encodings of each operation, as the manual lists them.

use super::Form;
use super::encoding::Encoding;
use super::encoding::Order::{M, MR, O, RM, RVM, VM, ZO};
use super::encoding::Tuple::{Full, FullMem, Tuple1Scalar, Tuple4};

macro_rules! operations {
    ($($name:ident: $order:ident $tuple:ident, $zmm:literal, $ymm:literal;)*) => {
        /// An operation on vectors that both forms have. The last operand may be in memory.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op { $($name,)* }

        #[cfg(test)]
        impl Op {
            /// All of them.
            pub const ALL: &[Op] = &[$(Op::$name,)*];
        }

        /// The encoding of an operation.
        pub fn encoding(op: Op, form: Form) -> Encoding {
            match (op, form) {
                $(
                    (Op::$name, Form::Zmm) => const { Encoding::evex($zmm, $order, $tuple) },
                    (Op::$name, Form::Ymm) => const { Encoding::new($ymm, $order) },
                )*
            }
        }
    };
}

operations! {
    Add: RVM Full, "EVEX.512.0F.W0 58 /r", "VEX.256.0F.WIG 58 /r";
    Sub: RVM Full, "EVEX.512.0F.W0 5C /r", "VEX.256.0F.WIG 5C /r";
    Mul: RVM Full, "EVEX.512.0F.W0 59 /r", "VEX.256.0F.WIG 59 /r";
    Div: RVM Full, "EVEX.512.0F.W0 5E /r", "VEX.256.0F.WIG 5E /r";
    Max: RVM Full, "EVEX.512.0F.W0 5F /r", "VEX.256.0F.WIG 5F /r";
    Min: RVM Full, "EVEX.512.0F.W0 5D /r", "VEX.256.0F.WIG 5D /r";
    Sqrt: RM Full, "EVEX.512.0F.W0 51 /r", "VEX.256.0F.WIG 51 /r";
    RoundTo: RM Full, "EVEX.512.66.0F3A.W0 08 /r ib", "VEX.256.66.0F3A.WIG 08 /r ib";
    // d = d * a + b, d = a * b + d, d = d * b + a.
    Fma213: RVM Full, "EVEX.512.66.0F38.W0 A8 /r", "VEX.256.66.0F38.W0 A8 /r";
    Fma231: RVM Full, "EVEX.512.66.0F38.W0 B8 /r", "VEX.256.66.0F38.W0 B8 /r";
    Fma132: RVM Full, "EVEX.512.66.0F38.W0 98 /r", "VEX.256.66.0F38.W0 98 /r";
    IAdd: RVM Full, "EVEX.512.66.0F.W0 FE /r", "VEX.256.66.0F.WIG FE /r";
    ISub: RVM Full, "EVEX.512.66.0F.W0 FA /r", "VEX.256.66.0F.WIG FA /r";
    IMul: RVM Full, "EVEX.512.66.0F38.W0 40 /r", "VEX.256.66.0F38.WIG 40 /r";
    MulEven: RVM Full, "EVEX.512.66.0F.W1 F4 /r", "VEX.256.66.0F.WIG F4 /r";
    And: RVM Full, "EVEX.512.66.0F.W0 DB /r", "VEX.256.66.0F.WIG DB /r";
    Or: RVM Full, "EVEX.512.66.0F.W0 EB /r", "VEX.256.66.0F.WIG EB /r";
    Xor: RVM Full, "EVEX.512.66.0F.W0 EF /r", "VEX.256.66.0F.WIG EF /r";
    ShiftLeft: VM Full, "EVEX.512.66.0F.W0 72 /6 ib", "VEX.256.66.0F.WIG 72 /6 ib";
    ShiftRight: VM Full, "EVEX.512.66.0F.W0 72 /2 ib", "VEX.256.66.0F.WIG 72 /2 ib";
    ShiftRightSigned: VM Full, "EVEX.512.66.0F.W0 72 /4 ib", "VEX.256.66.0F.WIG 72 /4 ib";
    ShiftRight64: VM Full, "EVEX.512.66.0F.W1 73 /2 ib", "VEX.256.66.0F.WIG 73 /2 ib";
    ShiftLeft64: VM Full, "EVEX.512.66.0F.W1 73 /6 ib", "VEX.256.66.0F.WIG 73 /6 ib";
    ToFloat: RM Full, "EVEX.512.0F.W0 5B /r", "VEX.256.0F.WIG 5B /r";
    // Into a mask register, or a vector of ones and zeros.
    Compare: RVM Full, "EVEX.512.0F.W0 C2 /r ib", "VEX.256.0F.WIG C2 /r ib";
    Load: RM FullMem, "EVEX.512.0F.W0 10 /r", "VEX.256.0F.WIG 10 /r";
    Store: MR FullMem, "EVEX.512.0F.W0 11 /r", "VEX.256.0F.WIG 11 /r";
    Move: RM FullMem, "EVEX.512.0F.W0 28 /r", "VEX.256.0F.WIG 28 /r";
    Broadcast: RM Tuple1Scalar, "EVEX.512.66.0F38.W0 18 /r", "VEX.256.66.0F38.W0 18 /r";
    BroadcastLane: RM Tuple1Scalar, "EVEX.512.66.0F38.W0 58 /r", "VEX.256.66.0F38.W0 58 /r";
    // Of two registers: 128 bits each of the first and of the second, by an immediate.
    Parts: RVM Full, "EVEX.512.66.0F3A.W0 23 /r ib", "VEX.256.66.0F3A.W0 06 /r ib";
    // Within each 128 bits: lanes of two registers in turn, or pairs of lanes.
    UnpackLow: RVM Full, "EVEX.512.0F.W0 14 /r", "VEX.256.0F.WIG 14 /r";
    UnpackHigh: RVM Full, "EVEX.512.0F.W0 15 /r", "VEX.256.0F.WIG 15 /r";
    UnpackLowPairs: RVM Full, "EVEX.512.66.0F.W1 14 /r", "VEX.256.66.0F.WIG 14 /r";
    UnpackHighPairs: RVM Full, "EVEX.512.66.0F.W1 15 /r", "VEX.256.66.0F.WIG 15 /r";
    // Within each 128 bits, by an immediate.
    Permute: RM Full, "EVEX.512.66.0F3A.W0 04 /r ib", "VEX.256.66.0F3A.W0 04 /r ib";
    // 128 bits of a vector to a register, and into one.
    Extract128: MR Tuple4, "EVEX.512.66.0F3A.W0 19 /r ib", "VEX.256.66.0F3A.W0 19 /r ib";
    Insert128: RVM Tuple4, "EVEX.512.66.0F3A.W0 18 /r ib", "VEX.256.66.0F3A.W0 18 /r ib";
    // The low 128 bits, past the caches.
    StreamLow: MR FullMem, "EVEX.128.0F.W0 2B /r", "VEX.128.0F.WIG 2B /r";
    // One lane in the low 128 bits.
    LoadLane: RM Tuple1Scalar, "EVEX.LLIG.F3.0F.W0 10 /r", "VEX.LIG.F3.0F.WIG 10 /r";
    InsertLane: RVM Tuple1Scalar, "EVEX.128.66.0F3A.W0 21 /r ib", "VEX.128.66.0F3A.WIG 21 /r ib";
    StoreFirstLane: MR Tuple1Scalar, "EVEX.LLIG.F3.0F.W0 11 /r", "VEX.LIG.F3.0F.WIG 11 /r";
    StoreLane: MR Tuple1Scalar, "EVEX.128.66.0F3A.WIG 17 /r ib", "VEX.128.66.0F3A.WIG 17 /r ib";
    FromInteger: RM Tuple1Scalar, "EVEX.128.66.0F.W0 6E /r", "VEX.128.66.0F.W0 6E /r";
}

macro_rules! instructions {
    ($($(#[$doc:meta])* $name:ident: $encoding:expr;)*) => {
        $($(#[$doc])* pub const $name: Encoding = $encoding;)*

        /// All of them.
        #[cfg(test)]
        pub const INSTRUCTIONS: &[(&str, Encoding)] = &[$((stringify!($name), $name),)*];
    };
}

// Instructions that one form has, or that are not of vectors, by the manual's names.
instructions! {
    /// Lanes of two registers, by the numbers that are overwritten.
    VPERMI2PS: Encoding::evex("EVEX.512.66.0F38.W0 77 /r", RVM, Full);
    /// Comparison of signed integers, into a mask register.
    VPCMPD: Encoding::evex("EVEX.512.66.0F3A.W0 1F /r ib", RVM, Full);
    /// The same of unsigned ones.
    VPCMPUD: Encoding::evex("EVEX.512.66.0F3A.W0 1E /r ib", RVM, Full);
    /// The second operand where the mask says so, else the first.
    VBLENDMPS: Encoding::evex("EVEX.512.66.0F38.W0 65 /r", RVM, Full);
    VSHUFPS_512: Encoding::evex("EVEX.512.0F.W0 C6 /r ib", RVM, Full);
    VSHUFPS: Encoding::new("VEX.256.0F.WIG C6 /r ib", RVM);
    VPERMPD: Encoding::new("VEX.256.66.0F3A.W1 01 /r ib", RM);
    VPCMPEQD: Encoding::new("VEX.256.66.0F.WIG 76 /r", RVM);
    VPCMPGTD: Encoding::new("VEX.256.66.0F.WIG 66 /r", RVM);
    /// The third operand where the fourth says so, else the second.
    VBLENDVPS: Encoding::new("VEX.256.66.0F3A.W0 4A /r /is4", RVM);
    /// The lanes of memory that a vector says.
    VMASKMOVPS: Encoding::new("VEX.256.66.0F38.W0 2C /r", RVM);
    /// The low 128 bits, and the first and second pair of their lanes.
    VMOVUPS_STORE: Encoding::new("VEX.128.0F.WIG 11 /r", MR);
    VMOVLPS_STORE: Encoding::new("VEX.128.0F.WIG 13 /r", MR);
    VMOVHPS_STORE: Encoding::new("VEX.128.0F.WIG 17 /r", MR);
    VZEROUPPER: Encoding::new("VEX.128.0F.WIG 77", ZO);

    KNOTW: Encoding::new("VEX.L0.0F.W0 44 /r", RM);
    KANDW: Encoding::new("VEX.L1.0F.W0 41 /r", RVM);
    KORW: Encoding::new("VEX.L1.0F.W0 45 /r", RVM);
    KXORW: Encoding::new("VEX.L1.0F.W0 47 /r", RVM);
    KMOVW: Encoding::new("VEX.L0.0F.W0 90 /r", RM);
    KMOVW_STORE: Encoding::new("VEX.L0.0F.W0 91 /r", MR);
    /// From the low bits of a general-purpose register.
    KMOVW_GENERAL: Encoding::new("VEX.L0.0F.W0 92 /r", RM);

    /// A line of memory into all caches.
    PREFETCHT0: Encoding::new("0F 18 /1", M);

    MOV: Encoding::new("REX.W 8B /r", RM);
    MOV_STORE: Encoding::new("REX.W 89 /r", MR);
    /// A number of 32 bits; the upper half of the register becomes 0.
    MOV_NUMBER_32: Encoding::new("B8+rd id", O);
    MOV_NUMBER_64: Encoding::new("REX.W B8+rd io", O);
    LEA: Encoding::new("REX.W 8D /r", RM);
    ADD: Encoding::new("REX.W 01 /r", MR);
    DEC: Encoding::new("REX.W FF /1", M);
    SUB_NUMBER: Encoding::new("REX.W 81 /5 id", M);
    AND_NUMBER: Encoding::new("REX.W 83 /4 ib", M);
    PUSH: Encoding::new("50+rd", O);
    POP: Encoding::new("58+rd", O);
    JMP: Encoding::new("E9 cd", ZO);
    JE: Encoding::new("0F 84 cd", ZO);
    JNE: Encoding::new("0F 85 cd", ZO);
    RET: Encoding::new("C3", ZO);
}
