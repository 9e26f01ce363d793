//! How the processor treats numbers too small for the normal form: within a run they count as zero, because arithmetic
//! on them is many times slower on most machines.

/// Flushes until dropped; then the thread has the mode that it had before.
pub struct Flushing {
    before: Word,
}

impl Flushing {
    /// Numbers below the normal form read and write as zero, rounding is to nearest, and nothing traps.
    pub fn begin() -> Flushing {
        let before = get();
        set(FLUSHING);
        Flushing { before }
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        set(self.before);
    }
}

/// For threads that do nothing else.
pub fn flush_for_good() {
    set(FLUSHING);
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use std::arch::asm;

    pub type Word = u32;

    /// MXCSR with all exceptions masked, flush-to-zero and denormals-are-zero.
    pub const FLUSHING: Word = 0x1f80 | 1 << 15 | 1 << 6;

    pub fn get() -> Word {
        let mut word = 0;
        // SAFETY: stores the 32 bits of MXCSR into `word`, and nothing else.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    pub fn set(word: Word) {
        // SAFETY: loads 32 bits, which are `FLUSHING` or what `get` found: no reserved bit is set. Between `begin` and
        // `drop` emitted code runs and no Rust arithmetic on floats.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use std::arch::asm;

    pub type Word = u64;

    /// FPCR with flush-to-zero, round to nearest, no traps.
    pub const FLUSHING: Word = 1 << 24;

    pub fn get() -> Word {
        let word;
        // SAFETY: reads FPCR, and nothing else.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    pub fn set(word: Word) {
        // SAFETY: writes FPCR with `FLUSHING` or what `get` found. Between `begin` and `drop` emitted code runs and no
        // Rust arithmetic on floats.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod machine {
    //! Machines whose mode is left as it is.

    pub type Word = ();
    pub const FLUSHING: Word = ();

    pub fn get() -> Word {}

    pub fn set(_: Word) {}
}

use machine::{FLUSHING, Word, get, set};

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn the_mode_lasts_until_it_ends() {
        let half = |x: f32| black_box(x) * black_box(0.5);
        assert_ne!(half(f32::MIN_POSITIVE), 0.0);
        let before = get();
        let flushing = Flushing::begin();
        let within = half(f32::MIN_POSITIVE).to_bits();
        drop(flushing);
        assert_eq!(get(), before);
        assert_ne!(half(f32::MIN_POSITIVE), 0.0);
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            assert_eq!(within, 0);
        }
    }
}
