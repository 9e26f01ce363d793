//! What the planner knows about the machine.

/// A processor as schedules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// 32-bit lanes of a vector register.
    pub vector_lanes: u32,
    /// Vector registers.
    pub registers: u32,
    /// Vector registers that a fold may keep its partial results in; the rest hold operands.
    pub accumulators: u32,
    /// Bytes of the first-level data cache of a core.
    pub l1_bytes: u64,
    /// Bytes of the second-level cache of a core.
    pub l2_bytes: u64,
    /// Bytes of the last-level cache.
    pub l3_bytes: u64,
}

impl Machine {
    /// 128-bit vectors and 16 registers: what every x86-64 and aarch64 has, and what Cranelift emits. More than eight
    /// accumulators spill, because its multiply-add overwrites an operand and needs a move.
    pub const PORTABLE: Machine = Machine {
        vector_lanes: 4,
        registers: 16,
        accumulators: 8,
        l1_bytes: 32 << 10,
        l2_bytes: 512 << 10,
        l3_bytes: 8 << 20,
    };

    /// 256-bit vectors and 16 registers.
    pub const AVX2: Machine = Machine { vector_lanes: 8, accumulators: 12, l3_bytes: 16 << 20, ..Machine::PORTABLE };

    /// 512-bit vectors and 32 registers.
    pub const AVX512: Machine = Machine {
        vector_lanes: 16,
        registers: 32,
        accumulators: 28,
        l2_bytes: 1 << 20,
        l3_bytes: 32 << 20,
        ..Machine::PORTABLE
    };

    /// Bytes that no kernel should read again and again, or here and there, without asking for them before.
    pub fn far_bytes(&self) -> u64 {
        self.l3_bytes / 4
    }

    /// The most lanes a tile may have along its vector axis.
    pub fn most_lanes(&self) -> u32 {
        (4 * self.vector_lanes).max(32)
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::PORTABLE
    }
}
