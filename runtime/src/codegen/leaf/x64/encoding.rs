//! Instructions as bytes (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: chapter 2 for the format,
//! chapters 3 to 6 for the encodings).

/// How an instruction is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    prefix: Prefix,
    /// L'L: 0 for 128 bits, 1 for 256, 2 for 512.
    length: u8,
    /// pp: what stands for an old prefix.
    old_prefix: u8,
    /// The table of opcodes: 0F, 0F 38 and 0F 3A are 1 to 3.
    map: u8,
    wide: bool,
    opcode: u8,
    /// What the field `reg` holds where that is no register.
    digit: u8,
    order: Order,
    immediate_bytes: u8,
    tuple: Tuple,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    /// REX, where one is needed.
    Rex,
    Vex,
    Evex,
}

/// Where an operand is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Opcode,
    Reg,
    Vvvv,
    /// With memory operands, the base.
    Rm,
    Immediate,
}

/// The fields of the operands in their order, as the manual's column "Op/En" names them; an immediate may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    clippy::upper_case_acronyms,
    reason = "named as in the manual: R for reg, V for vvvv, M for r/m, O for the opcode, ZO for none"
)]
pub enum Order {
    RM,
    RVM,
    MR,
    VM,
    M,
    O,
    ZO,
}

/// What the memory operand of an EVEX encoding is, which decides what a displacement of one byte counts (section 2.7.5,
/// "Compressed displacement support in EVEX").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "named as in the manual")]
pub enum Tuple {
    /// A vector, or one element for all lanes, of 64 bits where W is 1.
    Full,
    /// A vector.
    FullMem,
    /// An element of 32 bits.
    Tuple1Scalar,
    /// Four of them.
    Tuple4,
    /// None, in other encodings: bytes.
    None,
}

/// An operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register, of the kind that the encoding tells.
    Register(u8),
    /// Memory.
    Memory {
        /// The general-purpose register that holds the address.
        base: u8,
        /// Bytes behind it.
        offset: i32,
        /// Whether one element is read for all lanes.
        broadcast: bool,
    },
    /// Memory at a place within the same bytes, by its distance from the end of the instruction: four bytes in front of an
    /// immediate.
    Near {
        /// The place.
        target: usize,
        /// Whether one element is read for all lanes.
        broadcast: bool,
    },
    /// Where to jump to within the same bytes, by its distance from the end of the instruction, which is its last four
    /// bytes.
    Target(usize),
    /// A number.
    Immediate(i64),
}

/// The registers of an instruction by field; that of the opcode stands in `rm`.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    reg: u8,
    vvvv: u8,
    rm: u8,
}

/// The lanes that an instruction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masking {
    /// The mask register.
    pub mask: u8,
    /// Whether the others become 0; they are left as they are otherwise.
    pub zeroing: bool,
}

impl Order {
    fn fields(self) -> &'static [Field] {
        match self {
            Order::RM => &[Field::Reg, Field::Rm, Field::Immediate],
            // Some have a fourth register, in the upper half of the immediate.
            Order::RVM => &[Field::Reg, Field::Vvvv, Field::Rm, Field::Immediate],
            Order::MR => &[Field::Rm, Field::Reg, Field::Immediate],
            Order::VM => &[Field::Vvvv, Field::Rm, Field::Immediate],
            Order::M => &[Field::Rm, Field::Immediate],
            Order::O => &[Field::Opcode, Field::Immediate],
            Order::ZO => &[Field::Immediate],
        }
    }
}

impl Encoding {
    /// From the manual's notation, such as `VEX.256.66.0F.WIG 72 /6 ib`.
    ///
    /// # Panics
    /// If it is not: in a constant, that is an error when it is compiled.
    pub const fn new(notation: &str, order: Order) -> Encoding {
        let mut encoding = Encoding {
            prefix: Prefix::Rex,
            length: 0,
            old_prefix: 0,
            map: 0,
            wide: false,
            opcode: 0,
            digit: 0,
            order,
            immediate_bytes: 0,
            tuple: Tuple::None,
        };
        let mut rest = notation.as_bytes();
        while !rest.is_empty() {
            let (word, behind) = rest.split_at(word_length(rest));
            match word {
                b"VEX." => encoding.prefix = Prefix::Vex,
                b"EVEX." => encoding.prefix = Prefix::Evex,
                b"REX." => {}
                b"128." | b"L0." | b"LIG." | b"LLIG." => encoding.length = 0,
                b"256." | b"L1." => encoding.length = 1,
                b"512." => encoding.length = 2,
                b"66." => encoding.old_prefix = 1,
                b"F3." => encoding.old_prefix = 2,
                b"0F." | b"0F " => encoding.map = 1,
                b"0F38." => encoding.map = 2,
                b"0F3A." => encoding.map = 3,
                b"W0 " | b"WIG " => encoding.wide = false,
                b"W1 " | b"W " => encoding.wide = true,
                b"/r" | b"/r " => {}
                [b'/', digit @ b'0'..=b'7', ..] => encoding.digit = *digit - b'0',
                b"ib" | b"/is4" => encoding.immediate_bytes = 1,
                b"id" | b"cd" => encoding.immediate_bytes = 4,
                b"io" => encoding.immediate_bytes = 8,
                [high, low] | [high, low, b' '] | [high, low, b'+', b'r', b'd', ..] => {
                    encoding.opcode = digit(*high) << 4 | digit(*low);
                }
                _ => panic!("this is not the notation of the manual"),
            }
            rest = behind;
        }
        encoding
    }

    /// The same for EVEX.
    ///
    /// # Panics
    /// As [`Encoding::new`].
    pub const fn evex(notation: &str, order: Order, tuple: Tuple) -> Encoding {
        let encoding = Encoding::new(notation, order);
        assert!(matches!(encoding.prefix, Prefix::Evex), "the notation says EVEX");
        Encoding { tuple, ..encoding }
    }

    /// Appends an instruction.
    pub fn encode(self, operands: &[Operand], masking: Option<Masking>, bytes: &mut Vec<u8>) {
        let mut numbers = Numbers { reg: self.digit, vvvv: 0, rm: 0 };
        // What the encoding has beside registers: ModRM with this operand, an immediate, the target of a jump.
        let (mut rm, mut immediate, mut jump) = (None, 0, None);
        debug_assert!(operands.len() <= self.order.fields().len(), "each operand has a field");
        for (&operand, field) in operands.iter().zip(self.order.fields()) {
            match (field, operand) {
                (Field::Reg, Operand::Register(number)) => numbers.reg = number,
                (Field::Vvvv, Operand::Register(number)) => numbers.vvvv = number,
                (Field::Opcode, Operand::Register(number)) => numbers.rm = number,
                (Field::Rm, Operand::Register(number) | Operand::Memory { base: number, .. }) => {
                    numbers.rm = number;
                    rm = Some(operand);
                }
                (Field::Rm, Operand::Near { .. }) => rm = Some(operand),
                (Field::Immediate, Operand::Register(number)) => immediate = i64::from(number) << 4,
                (Field::Immediate, Operand::Immediate(number)) => immediate = number,
                (Field::Immediate, Operand::Target(target)) => jump = Some(target),
                _ => unreachable!("{operand:?} does not go in {field:?}"),
            }
        }
        let broadcast =
            matches!(rm, Some(Operand::Memory { broadcast: true, .. } | Operand::Near { broadcast: true, .. }));
        debug_assert!(!broadcast || self.tuple == Tuple::Full, "one element for all lanes of {self:?}");
        self.prefix(numbers, broadcast, masking, bytes);
        bytes.push(self.opcode | if rm.is_none() { numbers.rm & 7 } else { 0 });
        let reg = (numbers.reg & 7) << 3;
        match rm {
            Some(Operand::Register(number)) => bytes.push(0xc0 | reg | number & 7),
            Some(Operand::Memory { base, offset, .. }) => self.memory(base, offset, broadcast, reg, bytes),
            Some(Operand::Near { target, .. }) => {
                bytes.push(reg | 5);
                let end = bytes.len() + 4 + self.immediate_bytes();
                bytes.extend((target as i32 - end as i32).to_le_bytes());
            }
            _ => {}
        }
        if let Some(target) = jump {
            immediate = target as i64 - (bytes.len() + 4) as i64;
        }
        bytes.extend_from_slice(&immediate.to_le_bytes()[..self.immediate_bytes()]);
    }

    /// What comes before the opcode. It lengthens the numbers of registers, of which the bytes behind have three bits.
    fn prefix(
        self,
        Numbers { reg, vvvv, rm }: Numbers,
        broadcast: bool,
        masking: Option<Masking>,
        bytes: &mut Vec<u8>,
    ) {
        let is_evex = self.prefix == Prefix::Evex;
        debug_assert!(is_evex || reg | vvvv | rm < 16, "there are 16 registers");
        debug_assert!(is_evex || masking.is_none(), "only EVEX has masks");
        let bit = |number: u8, bit: u32| number >> bit & 1;
        // R, X and B; the bits of an index, which is never there, are used for registers in r/m.
        let extension = bit(reg, 3) << 2 | bit(rm, 4) << 1 | bit(rm, 3);
        let wide = u8::from(self.wide);
        match self.prefix {
            Prefix::Rex => {
                let rex = wide << 3 | extension;
                if rex != 0 {
                    bytes.push(0x40 | rex);
                }
                if self.map != 0 {
                    bytes.push(0x0f);
                }
            }
            Prefix::Vex => {
                let last = (!vvvv & 15) << 3 | self.length << 2 | self.old_prefix;
                if self.map == 1 && !self.wide && extension & 3 == 0 {
                    bytes.extend([0xc5, (!extension & 4) << 5 | last]);
                } else {
                    bytes.extend([0xc4, (!extension & 7) << 5 | self.map, wide << 7 | last]);
                }
            }
            Prefix::Evex => {
                let first = (!extension & 7) << 5 | bit(!reg, 4) << 4 | self.map;
                let second = wide << 7 | (!vvvv & 15) << 3 | 4 | self.old_prefix;
                let (mask, zeroing) = masking.map_or((0, 0), |Masking { mask, zeroing }| (mask, u8::from(zeroing)));
                let third = zeroing << 7 | self.length << 5 | u8::from(broadcast) << 4 | bit(!vvvv, 4) << 3 | mask;
                bytes.extend([0x62, first, second, third]);
            }
        }
    }

    /// ModRM for memory, and what follows it.
    fn memory(self, base: u8, offset: i32, broadcast: bool, reg: u8, bytes: &mut Vec<u8>) {
        let n = self.displacement_unit(broadcast);
        let short = if offset % n == 0 { i8::try_from(offset / n).ok() } else { None };
        let mode = match short {
            // Without a displacement, rbp and r13 would mean something else.
            Some(0) if base & 7 != 5 => 0,
            Some(_) => 1,
            None => 2,
        };
        bytes.push(mode << 6 | reg | base & 7);
        // rsp and r12 mean that another byte follows, here: no index.
        if base & 7 == 4 {
            bytes.push(0x24);
        }
        match (mode, short) {
            (1, Some(short)) => bytes.push(short as u8),
            (2, _) => bytes.extend(offset.to_le_bytes()),
            _ => {}
        }
    }

    /// The bytes that a displacement of one byte counts.
    fn displacement_unit(self, broadcast: bool) -> i32 {
        match self.tuple {
            Tuple::Full if broadcast => 4 << u8::from(self.wide),
            Tuple::Full | Tuple::FullMem => 16 << self.length,
            Tuple::Tuple1Scalar => 4,
            Tuple::Tuple4 => 16,
            Tuple::None => 1,
        }
    }

    /// The bytes of an immediate, which are the last of an instruction.
    pub fn immediate_bytes(self) -> usize {
        self.immediate_bytes.into()
    }
}

/// Up to the first `.` or space, that included.
const fn word_length(text: &[u8]) -> usize {
    let mut length = 0;
    while length < text.len() {
        length += 1;
        if text[length - 1] == b'.' || text[length - 1] == b' ' {
            break;
        }
    }
    length
}

const fn digit(hexadecimal: u8) -> u8 {
    match hexadecimal {
        b'0'..=b'9' => hexadecimal - b'0',
        b'A'..=b'F' => hexadecimal - b'A' + 10,
        _ => panic!("this is no hexadecimal digit"),
    }
}
