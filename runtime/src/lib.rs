//! Plans to machine code, and running it.
//!
//! Unsafe code is confined to `memory` (aligned allocations), `code` (calling emitted functions) with its two callers
//! `executable` and `session`, `pool` (helpers borrow what the caller works on) and `float_mode` (a control register).

mod code;
pub mod codegen;
mod cut;
mod executable;
mod float_mode;
mod image;
mod isa;
mod memory;
mod pool;
mod session;
mod state;
mod view;

pub use codegen::host;
pub use executable::{CompileError, Executable, Settings};
pub use image::Image;
pub use isa::Isa;
pub use memory::{AlignedBytes, apart, give_back};
pub use session::{RunError, Session, Threads};
pub use state::{State, StateError};
pub use view::{View, ViewMut, view, view_mut};
