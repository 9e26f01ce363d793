//! Machine code that frees itself. The only place that calls emitted functions.

use cranelift_jit::JITModule;
use cranelift_module::FuncId;
use std::mem::ManuallyDrop;

/// What every nest looks like from outside: the buffers it uses, scratch, and the range of its parallel axis. The
/// result is 0, or names the load whose computed index was out of range, counted from 1.
type Nest = unsafe extern "C" fn(buffers: *const *mut u8, scratch: *mut u8, begin: usize, end: usize) -> u32;

/// An emitted function.
#[derive(Clone, Copy, Debug)]
pub struct Entry(Nest);

/// The code of an executable. Its pages are never writable and executable at once.
pub struct Code {
    module: ManuallyDrop<JITModule>,
}

// SAFETY: after `new` the module is only kept alive and freed; it is not touched through a shared reference.
unsafe impl Sync for Code {}

impl Code {
    /// `module` with all definitions finalized.
    pub fn new(module: JITModule) -> Code {
        Code { module: ManuallyDrop::new(module) }
    }

    /// The function of this id, which was emitted with the signature of `Nest`. It is valid while `self` lives.
    pub fn entry(&self, id: FuncId) -> Entry {
        let address = self.module.get_finalized_function(id);
        // SAFETY: code generation gives every nest this signature and the host's C calling convention; what is read from
        // elsewhere, by an image, is what code generation wrote there, and is known to be a nest.
        Entry(unsafe { std::mem::transmute::<*const u8, Nest>(address) })
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: taken once, here; entries are only called by sessions, which hold the executable that holds `self`.
        unsafe { ManuallyDrop::take(&mut self.module).free_memory() }
    }
}

impl Entry {
    /// Runs the nest over `range` of its parallel axis.
    ///
    /// # Safety
    /// `buffers` must hold the addresses of the buffers the nest was compiled for, in its order, each valid for the
    /// bytes of its planned layout, those it writes not otherwise in use; `scratch` must hold what the nest gathers, if
    /// anything, and be nobody else's meanwhile; the code must be alive.
    pub unsafe fn call(self, buffers: &[*mut u8], scratch: *mut u8, range: std::ops::Range<usize>) -> u32 {
        // SAFETY: forwarded to the caller.
        unsafe { (self.0)(buffers.as_ptr(), scratch, range.start, range.end) }
    }
}
