//! The encodings of each operation, one for each form.

use super::Form;
use iced_x86::Code;

macro_rules! operations {
    ($($name:ident: $zmm:ident, $ymm:ident;)*) => {
        /// An operation on vectors that both forms have. The last operand may be in memory.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op { $($name,)* }

        /// The encoding of an operation.
        pub fn code(op: Op, form: Form) -> Code {
            match (op, form) {
                $((Op::$name, Form::Zmm) => Code::$zmm, (Op::$name, Form::Ymm) => Code::$ymm,)*
            }
        }
    };
}

operations! {
    Add: EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vaddps_ymm_ymm_ymmm256;
    Sub: EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vsubps_ymm_ymm_ymmm256;
    Mul: EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vmulps_ymm_ymm_ymmm256;
    Div: EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vdivps_ymm_ymm_ymmm256;
    Max: EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, VEX_Vmaxps_ymm_ymm_ymmm256;
    Min: EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, VEX_Vminps_ymm_ymm_ymmm256;
    Sqrt: EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, VEX_Vsqrtps_ymm_ymmm256;
    RoundTo: EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae, VEX_Vroundps_ymm_ymmm256_imm8;
    // d = d * a + b, d = a * b + d, d = d * b + a.
    Fma213: EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vfmadd213ps_ymm_ymm_ymmm256;
    Fma231: EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vfmadd231ps_ymm_ymm_ymmm256;
    Fma132: EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vfmadd132ps_ymm_ymm_ymmm256;
    IAdd: EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, VEX_Vpaddd_ymm_ymm_ymmm256;
    ISub: EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, VEX_Vpsubd_ymm_ymm_ymmm256;
    IMul: EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, VEX_Vpmulld_ymm_ymm_ymmm256;
    MulEven: EVEX_Vpmuludq_zmm_k1z_zmm_zmmm512b64, VEX_Vpmuludq_ymm_ymm_ymmm256;
    And: EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32, VEX_Vpand_ymm_ymm_ymmm256;
    Or: EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, VEX_Vpor_ymm_ymm_ymmm256;
    Xor: EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, VEX_Vpxor_ymm_ymm_ymmm256;
    ShiftLeft: EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, VEX_Vpslld_ymm_ymm_imm8;
    ShiftRight: EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8, VEX_Vpsrld_ymm_ymm_imm8;
    ShiftRightSigned: EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, VEX_Vpsrad_ymm_ymm_imm8;
    ShiftRight64: EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8, VEX_Vpsrlq_ymm_ymm_imm8;
    ShiftLeft64: EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8, VEX_Vpsllq_ymm_ymm_imm8;
    ToFloat: EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, VEX_Vcvtdq2ps_ymm_ymmm256;
    Load: EVEX_Vmovups_zmm_k1z_zmmm512, VEX_Vmovups_ymm_ymmm256;
    Store: EVEX_Vmovups_zmmm512_k1z_zmm, VEX_Vmovups_ymmm256_ymm;
    Move: EVEX_Vmovaps_zmm_k1z_zmmm512, VEX_Vmovaps_ymm_ymmm256;
    Broadcast: EVEX_Vbroadcastss_zmm_k1z_xmmm32, VEX_Vbroadcastss_ymm_m32;
    BroadcastLane: EVEX_Vpbroadcastd_zmm_k1z_xmmm32, VEX_Vpbroadcastd_ymm_xmmm32;
    // Of two registers: 128 bits each of the first and of the second, by an immediate.
    Parts: EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, VEX_Vperm2f128_ymm_ymm_ymmm256_imm8;
    // Within each 128 bits: lanes of two registers in turn, or pairs of lanes.
    UnpackLow: EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32, VEX_Vunpcklps_ymm_ymm_ymmm256;
    UnpackHigh: EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32, VEX_Vunpckhps_ymm_ymm_ymmm256;
    UnpackLowPairs: EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64, VEX_Vunpcklpd_ymm_ymm_ymmm256;
    UnpackHighPairs: EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64, VEX_Vunpckhpd_ymm_ymm_ymmm256;
    // Within each 128 bits, by an immediate.
    Permute: EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8, VEX_Vpermilps_ymm_ymmm256_imm8;
    // 128 bits of a vector to a register, and into one.
    Extract128: EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8, VEX_Vextractf128_xmmm128_ymm_imm8;
    Insert128: EVEX_Vinsertf32x4_zmm_k1z_zmm_xmmm128_imm8, VEX_Vinsertf128_ymm_ymm_xmmm128_imm8;
    // One lane in the low 128 bits.
    LoadLane: EVEX_Vmovss_xmm_k1z_m32, VEX_Vmovss_xmm_m32;
    InsertLane: EVEX_Vinsertps_xmm_xmm_xmmm32_imm8, VEX_Vinsertps_xmm_xmm_xmmm32_imm8;
    StoreFirstLane: EVEX_Vmovss_m32_k1_xmm, VEX_Vmovss_m32_xmm;
    StoreLane: EVEX_Vextractps_rm32_xmm_imm8, VEX_Vextractps_rm32_xmm_imm8;
    FromInteger: EVEX_Vmovd_xmm_rm32, VEX_Vmovd_xmm_rm32;
}
