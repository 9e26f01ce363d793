//! Leaves on x86-64 with AVX-512 or AVX2 and FMA: machine instructions over virtual registers (`select`), registers by
//! regalloc2 (`allocate`), bytes (`emit`).

mod allocate;
mod codes;
mod emit;
mod encoding;
mod listing;
mod machine;
mod select;
#[cfg(test)]
mod tests;

use super::Leaf;

/// The vectors and the encoding of a leaf's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// 512-bit vectors, 32 registers, mask registers.
    Zmm,
    /// 256-bit vectors in 16 registers; masks are vectors.
    Ymm,
}

impl Form {
    /// The 32-bit lanes of a vector.
    pub fn width(self) -> usize {
        match self {
            Form::Zmm => 16,
            Form::Ymm => 8,
        }
    }

    /// Vector registers.
    fn registers(self) -> usize {
        match self {
            Form::Zmm => 32,
            Form::Ymm => 16,
        }
    }
}

/// The machine code of a leaf, a function of the System V calling convention.
#[derive(Debug)]
pub struct Assembled {
    /// The code, then its constants; it may lie at any address.
    pub bytes: Vec<u8>,
    /// The instructions, a line each.
    pub listing: String,
}

/// Makes the code of leaves, one after the other.
pub struct Assembler {
    form: Form,
    allocator: allocate::Allocator,
}

impl Assembler {
    /// For code of one form.
    pub fn new(form: Form) -> Assembler {
        Assembler { form, allocator: allocate::Allocator::new(form) }
    }

    /// The lanes of a vector.
    pub fn width(&self) -> usize {
        self.form.width()
    }

    /// The code of `leaf`, and its listing where asked for.
    pub fn assemble(&mut self, leaf: &Leaf, with_listing: bool) -> Assembled {
        let function = select::select(leaf, self.form);
        let allocation = self.allocator.allocate(&function);
        emit::emit(&function, allocation, self.form, with_listing)
    }
}
