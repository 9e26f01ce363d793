//! Every encoding against that of iced-x86: the same bytes for all kinds of operands.

use super::Form;
use super::codes::{INSTRUCTIONS, Op, encoding};
use super::encoding::{Encoding, Masking, Operand};
use iced_x86::{Code, Encoder, Instruction, OpCodeOperandKind, OpKind, Register};

/// Register numbers with each bit set and clear.
const NUMBERS: [u8; 5] = [0, 5, 10, 20, 31];

/// Offsets around the ends of each kind of displacement.
const OFFSETS: [i32; 24] = [
    0,
    1,
    4,
    8,
    16,
    64,
    -1,
    -4,
    -64,
    127,
    128,
    -128,
    -129,
    127 * 4,
    128 * 4,
    -129 * 4,
    127 * 16,
    128 * 16,
    127 * 64,
    128 * 64,
    -128 * 64,
    -129 * 64,
    i32::MAX,
    i32::MIN,
];

/// Where instructions lie.
const START: usize = 3;

/// The same operation in iced-x86, of either form.
fn operation(op: Op) -> [Code; 2] {
    match op {
        Op::Add => [Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vaddps_ymm_ymm_ymmm256],
        Op::Sub => [Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vsubps_ymm_ymm_ymmm256],
        Op::Mul => [Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vmulps_ymm_ymm_ymmm256],
        Op::Div => [Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vdivps_ymm_ymm_ymmm256],
        Op::Max => [Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vmaxps_ymm_ymm_ymmm256],
        Op::Min => [Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vminps_ymm_ymm_ymmm256],
        Op::Sqrt => [Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, Code::VEX_Vsqrtps_ymm_ymmm256],
        Op::RoundTo => [Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae, Code::VEX_Vroundps_ymm_ymmm256_imm8],
        Op::Fma213 => [Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256],
        Op::Fma231 => [Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256],
        Op::Fma132 => [Code::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256],
        Op::IAdd => [Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpaddd_ymm_ymm_ymmm256],
        Op::ISub => [Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsubd_ymm_ymm_ymmm256],
        Op::IMul => [Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmulld_ymm_ymm_ymmm256],
        Op::MulEven => [Code::EVEX_Vpmuludq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpmuludq_ymm_ymm_ymmm256],
        Op::And => [Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpand_ymm_ymm_ymmm256],
        Op::Or => [Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpor_ymm_ymm_ymmm256],
        Op::Xor => [Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpxor_ymm_ymm_ymmm256],
        Op::ShiftLeft => [Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpslld_ymm_ymm_imm8],
        Op::ShiftRight => [Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrld_ymm_ymm_imm8],
        Op::ShiftRightSigned => [Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrad_ymm_ymm_imm8],
        Op::ShiftRight64 => [Code::EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8, Code::VEX_Vpsrlq_ymm_ymm_imm8],
        Op::ShiftLeft64 => [Code::EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8, Code::VEX_Vpsllq_ymm_ymm_imm8],
        Op::ToFloat => [Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, Code::VEX_Vcvtdq2ps_ymm_ymmm256],
        Op::Compare => [Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8],
        Op::Load => [Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256],
        Op::Store => [Code::EVEX_Vmovups_zmmm512_k1z_zmm, Code::VEX_Vmovups_ymmm256_ymm],
        Op::Move => [Code::EVEX_Vmovaps_zmm_k1z_zmmm512, Code::VEX_Vmovaps_ymm_ymmm256],
        Op::Broadcast => [Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_m32],
        Op::BroadcastLane => [Code::EVEX_Vpbroadcastd_zmm_k1z_xmmm32, Code::VEX_Vpbroadcastd_ymm_xmmm32],
        Op::Parts => [Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8],
        Op::UnpackLow => [Code::EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vunpcklps_ymm_ymm_ymmm256],
        Op::UnpackHigh => [Code::EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vunpckhps_ymm_ymm_ymmm256],
        Op::UnpackLowPairs => [Code::EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vunpcklpd_ymm_ymm_ymmm256],
        Op::UnpackHighPairs => [Code::EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vunpckhpd_ymm_ymm_ymmm256],
        Op::Permute => [Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpermilps_ymm_ymmm256_imm8],
        Op::Extract128 => [Code::EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8, Code::VEX_Vextractf128_xmmm128_ymm_imm8],
        Op::Insert128 => [Code::EVEX_Vinsertf32x4_zmm_k1z_zmm_xmmm128_imm8, Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8],
        Op::StreamLow => [Code::EVEX_Vmovntps_m128_xmm, Code::VEX_Vmovntps_m128_xmm],
        Op::LoadLane => [Code::EVEX_Vmovss_xmm_k1z_m32, Code::VEX_Vmovss_xmm_m32],
        Op::InsertLane => [Code::EVEX_Vinsertps_xmm_xmm_xmmm32_imm8, Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8],
        Op::StoreFirstLane => [Code::EVEX_Vmovss_m32_k1_xmm, Code::VEX_Vmovss_m32_xmm],
        Op::StoreLane => [Code::EVEX_Vextractps_rm32_xmm_imm8, Code::VEX_Vextractps_rm32_xmm_imm8],
        Op::FromInteger => [Code::EVEX_Vmovd_xmm_rm32, Code::VEX_Vmovd_xmm_rm32],
    }
}

/// The same for the instructions of one form.
fn instruction(name: &str) -> Code {
    match name {
        "VPERMI2PS" => Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32,
        "VPCMPD" => Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8,
        "VPCMPUD" => Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8,
        "VBLENDMPS" => Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32,
        "VSHUFPS_512" => Code::EVEX_Vshufps_zmm_k1z_zmm_zmmm512b32_imm8,
        "VSHUFPS" => Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8,
        "VPERMPD" => Code::VEX_Vpermpd_ymm_ymmm256_imm8,
        "VPCMPEQD" => Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256,
        "VPCMPGTD" => Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256,
        "VBLENDVPS" => Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm,
        "VMASKMOVPS" => Code::VEX_Vmaskmovps_ymm_ymm_m256,
        "VMOVUPS_STORE" => Code::VEX_Vmovups_xmmm128_xmm,
        "VMOVLPS_STORE" => Code::VEX_Vmovlps_m64_xmm,
        "VMOVHPS_STORE" => Code::VEX_Vmovhps_m64_xmm,
        "VZEROUPPER" => Code::VEX_Vzeroupper,
        "KNOTW" => Code::VEX_Knotw_kr_kr,
        "KANDW" => Code::VEX_Kandw_kr_kr_kr,
        "KORW" => Code::VEX_Korw_kr_kr_kr,
        "KXORW" => Code::VEX_Kxorw_kr_kr_kr,
        "KMOVW" => Code::VEX_Kmovw_kr_km16,
        "KMOVW_STORE" => Code::VEX_Kmovw_m16_kr,
        "KMOVW_GENERAL" => Code::VEX_Kmovw_kr_r32,
        "PREFETCHT0" => Code::Prefetcht0_m8,
        "MOV" => Code::Mov_r64_rm64,
        "MOV_STORE" => Code::Mov_rm64_r64,
        "MOV_NUMBER_32" => Code::Mov_r32_imm32,
        "MOV_NUMBER_64" => Code::Mov_r64_imm64,
        "LEA" => Code::Lea_r64_m,
        "ADD" => Code::Add_rm64_r64,
        "DEC" => Code::Dec_rm64,
        "SUB_NUMBER" => Code::Sub_rm64_imm32,
        "AND_NUMBER" => Code::And_rm64_imm8,
        "PUSH" => Code::Push_r64,
        "POP" => Code::Pop_r64,
        "JMP" => Code::Jmp_rel32_64,
        "JE" => Code::Je_rel32_64,
        "JNE" => Code::Jne_rel32_64,
        "RET" => Code::Retnq,
        _ => panic!("{name} has no counterpart"),
    }
}

/// What an operand may be: the first of its registers, whether memory, which kind of immediate.
fn kind(kind: OpCodeOperandKind) -> (Option<Register>, bool, Option<OpKind>) {
    use OpCodeOperandKind as Kind;
    match kind {
        Kind::mem => (None, true, None),
        Kind::r32_or_mem => (Some(Register::EAX), true, None),
        Kind::r64_or_mem => (Some(Register::RAX), true, None),
        Kind::xmm_or_mem => (Some(Register::XMM0), true, None),
        Kind::ymm_or_mem => (Some(Register::YMM0), true, None),
        Kind::zmm_or_mem => (Some(Register::ZMM0), true, None),
        Kind::k_or_mem => (Some(Register::K0), true, None),
        Kind::r32_rm | Kind::r32_opcode => (Some(Register::EAX), false, None),
        Kind::r64_reg | Kind::r64_opcode => (Some(Register::RAX), false, None),
        Kind::k_reg | Kind::k_rm | Kind::k_vvvv => (Some(Register::K0), false, None),
        Kind::xmm_reg | Kind::xmm_vvvv => (Some(Register::XMM0), false, None),
        Kind::ymm_reg | Kind::ymm_rm | Kind::ymm_vvvv | Kind::ymm_is4 => (Some(Register::YMM0), false, None),
        Kind::zmm_reg | Kind::zmm_vvvv => (Some(Register::ZMM0), false, None),
        Kind::imm8 => (None, false, Some(OpKind::Immediate8)),
        Kind::imm8sex64 => (None, false, Some(OpKind::Immediate8to64)),
        Kind::imm32 => (None, false, Some(OpKind::Immediate32)),
        Kind::imm32sex64 => (None, false, Some(OpKind::Immediate32to64)),
        Kind::imm64 => (None, false, Some(OpKind::Immediate64)),
        Kind::br64_4 => (None, false, Some(OpKind::NearBranch64)),
        other => panic!("{other:?} is new here"),
    }
}

/// An operand, and how it is set in iced-x86.
type Choice = (Operand, Box<dyn Fn(&mut Instruction)>);

/// All that an operand is tried with.
fn choices(code: Code, place: u32) -> Vec<Choice> {
    let info = code.op_code();
    let (first, memory, immediate) = kind(info.op_kind(place));
    let mut all: Vec<Choice> = Vec::new();
    if let Some(first) = first {
        let n_registers = match first {
            Register::K0 => 8,
            Register::EAX | Register::RAX => 16,
            _ if format!("{code:?}").starts_with("EVEX") => 32,
            _ => 16,
        };
        for number in NUMBERS.into_iter().chain([1, 7, 12, 15]).filter(|&number| number < n_registers) {
            let set = move |instruction: &mut Instruction| {
                instruction.set_op_kind(place, OpKind::Register);
                instruction.set_op_register(place, first + u32::from(number));
            };
            all.push((Operand::Register(number), Box::new(set)));
        }
    }
    let broadcasts: &[bool] = if info.can_broadcast() { &[false, true] } else { &[false] };
    for &broadcast in if memory { broadcasts } else { &[] } {
        let set = move |instruction: &mut Instruction, base: Register, displacement: i64, size: u32| {
            instruction.set_op_kind(place, OpKind::Memory);
            instruction.set_memory_base(base);
            instruction.set_memory_displacement64(displacement as u64);
            instruction.set_memory_displ_size(size);
            instruction.set_is_broadcast(broadcast);
        };
        for base in 0..16 {
            for offset in OFFSETS {
                let size = u32::from(offset != 0);
                let register = Register::RAX + u32::from(base);
                let set = move |instruction: &mut Instruction| set(instruction, register, offset.into(), size);
                all.push((Operand::Memory { base, offset, broadcast }, Box::new(set)));
            }
        }
        for target in [0, START, 1000] {
            let set = move |instruction: &mut Instruction| set(instruction, Register::RIP, target as i64, 8);
            all.push((Operand::Near { target, broadcast }, Box::new(set)));
        }
    }
    if let Some(kind) = immediate {
        for number in [0, 1, 0x7f, -0x80, 0x1234_5678, -0x1234_5678, 0x1234_5678_9abc_def0] {
            let number = match kind {
                OpKind::Immediate8 => i64::from(number as u8),
                OpKind::Immediate8to64 => i64::from(number as i8),
                OpKind::Immediate32 => i64::from(number as u32),
                OpKind::Immediate32to64 | OpKind::NearBranch64 => i64::from(number as i32),
                _ => number,
            };
            let set = move |instruction: &mut Instruction| {
                instruction.set_op_kind(place, kind);
                match kind {
                    OpKind::Immediate8 => instruction.set_immediate8(number as u8),
                    OpKind::Immediate8to64 => instruction.set_immediate8to64(number),
                    OpKind::Immediate32 => instruction.set_immediate32(number as u32),
                    OpKind::Immediate32to64 => instruction.set_immediate32to64(number),
                    OpKind::NearBranch64 => instruction.set_near_branch64(number.unsigned_abs()),
                    _ => instruction.set_immediate64(number as u64),
                }
            };
            let operand = match kind {
                OpKind::NearBranch64 => Operand::Target(number.unsigned_abs() as usize),
                _ => Operand::Immediate(number),
            };
            all.push((operand, Box::new(set)));
        }
    }
    all
}

/// No mask, and some, as far as the instruction has any.
fn maskings(code: Code) -> Vec<Option<Masking>> {
    let info = code.op_code();
    let mut all = vec![None];
    if info.can_use_op_mask_register() {
        all.extend([1, 6].map(|mask| Some(Masking { mask, zeroing: false })));
    }
    if info.can_use_zeroing_masking() {
        all.extend([1, 6].map(|mask| Some(Masking { mask, zeroing: true })));
    }
    all
}

struct Judge {
    encoder: Encoder,
    bytes: Vec<u8>,
    n_cases: usize,
}

impl Judge {
    /// Operands from `place` on are tried in all ways, those before are set.
    fn operands(&mut self, name: &str, encoding: Encoding, operands: &mut Vec<Operand>, instruction: Instruction) {
        let code = instruction.code();
        let place = operands.len() as u32;
        if place == code.op_code().op_count() {
            for masking in maskings(code) {
                self.case(name, encoding, operands, masking, instruction);
            }
            return;
        }
        for (operand, set) in choices(code, place) {
            let mut instruction = instruction;
            set(&mut instruction);
            operands.push(operand);
            self.operands(name, encoding, operands, instruction);
            operands.pop();
        }
    }

    fn case(
        &mut self,
        name: &str,
        encoding: Encoding,
        operands: &[Operand],
        masking: Option<Masking>,
        mut instruction: Instruction,
    ) {
        let writes_memory = instruction.op0_kind() == OpKind::Memory;
        if let Some(Masking { mask, zeroing }) = masking {
            // Nothing in memory becomes 0.
            if zeroing && writes_memory {
                return;
            }
            instruction.set_op_mask(Register::K0 + u32::from(mask));
            instruction.set_zeroing_masking(zeroing);
        }
        self.bytes.resize(START, 0);
        encoding.encode(operands, masking, &mut self.bytes);
        let describe = || format!("{name} {operands:?} {masking:?}: {instruction:?}");
        if let Err(error) = self.encoder.encode(&instruction, START as u64) {
            panic!("{}: {error}", describe());
        }
        let mut expected = self.encoder.take_buffer();
        assert_eq!(self.bytes[START..], expected, "{}", describe());
        expected.clear();
        self.encoder.set_buffer(expected);
        self.n_cases += 1;
    }
}

#[test]
fn all_encodings_are_those_of_the_manual() {
    let forms = [Form::Zmm, Form::Ymm];
    let operations = Op::ALL.iter().flat_map(|&op| {
        let codes = forms.into_iter().zip(operation(op));
        codes.map(move |(form, code)| (format!("{op:?} {form:?}"), encoding(op, form), code))
    });
    let instructions = INSTRUCTIONS.iter().map(|&(name, encoding)| (name.to_string(), encoding, instruction(name)));
    let mut judge = Judge { encoder: Encoder::new(64), bytes: Vec::new(), n_cases: 0 };
    for (name, encoding, code) in operations.chain(instructions) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        judge.operands(&name, encoding, &mut Vec::new(), instruction);
    }
    assert!(judge.n_cases > 1 << 20, "{} cases", judge.n_cases);
}
