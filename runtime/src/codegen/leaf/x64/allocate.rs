//! Registers for a function, by regalloc2.

use super::Form;
use super::machine::{Function, GENERAL, MASK, VECTOR};
use regalloc2::{Algorithm, Ctx, MachineEnv, Output, PReg, PRegSet, RegallocOptions};

/// The general-purpose registers that carry the first parameters (System V ABI, section 3.2.3): rdi, rsi, rdx, rcx, r8, r9.
pub const PARAMETERS: [u8; 6] = [7, 6, 2, 1, 8, 9];

/// rax: never allocated, free within an instruction.
pub const SCRATCH: u8 = 0;

/// rbx, r12 to r15: the caller's.
pub const CALLEE_SAVED: [u8; 5] = [3, 12, 13, 14, 15];

/// r10 and r11, which the caller does not expect to be kept either.
const OTHER: [u8; 2] = [10, 11];

/// Gives the virtual registers of one function after the other their places, in memory that it keeps.
pub struct Allocator {
    env: MachineEnv,
    options: RegallocOptions,
    context: Ctx,
}

impl Allocator {
    /// For the registers of one form.
    pub fn new(form: Form) -> Allocator {
        let set = |class, registers: &[u8]| {
            registers.iter().fold(PRegSet::empty(), |set, &register| set.with(PReg::new(register.into(), class)))
        };
        let vectors: Vec<u8> = (0..form.registers() as u8).collect();
        let caller: Vec<u8> = PARAMETERS.iter().chain(&OTHER).copied().collect();
        let masks: &[u8] = if form == Form::Zmm { &[1, 2, 3, 4, 5, 6, 7] } else { &[] };
        let env = MachineEnv {
            preferred_regs_by_class: [set(GENERAL, &caller), set(VECTOR, &vectors), set(MASK, masks)],
            non_preferred_regs_by_class: [set(GENERAL, &CALLEE_SAVED), PRegSet::empty(), PRegSet::empty()],
            scratch_by_class: [None; 3],
            fixed_stack_slots: Vec::new(),
        };
        // Ion: the faster algorithm gives code that is two to five times slower.
        let options =
            RegallocOptions { verbose_log: false, validate_ssa: cfg!(debug_assertions), algorithm: Algorithm::Ion };
        Allocator { env, options, context: Ctx::default() }
    }

    /// The places of a function's registers.
    pub fn allocate(&mut self, function: &Function) -> &Output {
        match regalloc2::run_with_ctx(function, &self.env, &self.options, &mut self.context) {
            Ok(output) => output,
            Err(error) => panic!("leaf: registers: {error}"),
        }
    }
}
