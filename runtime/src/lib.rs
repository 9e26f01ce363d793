//! Plans to machine code, and running it.
//!
//! Unsafe code is confined to `memory` (aligned allocations), `code` (calling emitted functions) and nothing else.

mod code;
pub mod codegen;
mod executable;
mod isa;
mod memory;
mod session;
mod view;

pub use executable::{CompileError, Executable, Settings};
pub use isa::Isa;
pub use session::{RunError, Session};
pub use view::{View, ViewMut, view, view_mut};
