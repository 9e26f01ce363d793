//! Machine code that frees itself. The only place that calls emitted functions.

use cranelift_jit::{ArenaMemoryProvider, BranchProtection, JITMemoryKind, JITMemoryProvider, JITModule};
use cranelift_module::{FuncId, ModuleResult};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What every nest looks like from outside: the buffers it uses, scratch, and the range of its parallel axis. The
/// result is 0, or names the load whose computed index was out of range, counted from 1.
type Nest = unsafe extern "C" fn(buffers: *const *mut u8, scratch: *mut u8, begin: usize, end: usize) -> u32;

/// An emitted function.
#[derive(Clone, Copy, Debug)]
pub struct Entry(Nest);

/// Memory that a module puts functions and tables in, and that stays when the module is gone: what the module knows of each of
/// them takes more than a small network's outline.
#[derive(Clone)]
pub struct CodeMemory(Arc<Mutex<ArenaMemoryProvider>>);

impl CodeMemory {
    /// So many bytes of address space; pages are taken as they are used.
    ///
    /// # Errors
    /// Where the system has no such space.
    pub fn reserve(bytes: usize) -> Result<CodeMemory, String> {
        let memory = ArenaMemoryProvider::new_with_size(bytes).map_err(|error| error.to_string())?;
        Ok(CodeMemory(Arc::new(Mutex::new(memory))))
    }

    fn lock(&self) -> MutexGuard<'_, ArenaMemoryProvider> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JITMemoryProvider for CodeMemory {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        self.lock().allocate(size, align, kind)
    }

    unsafe fn free_memory(&mut self) {
        // SAFETY: forwarded to the caller.
        unsafe { JITMemoryProvider::free_memory(&mut *self.lock()) }
    }

    fn finalize(&mut self, branch_protection: BranchProtection) -> ModuleResult<()> {
        JITMemoryProvider::finalize(&mut *self.lock(), branch_protection)
    }
}

/// The code of an executable. Its pages are never writable and executable at once.
pub struct Code(Mutex<ArenaMemoryProvider>);

impl Code {
    /// The code of a module that has all definitions finalized, in its memory, and the functions of these ids, which were emitted
    /// with the signature of `Nest`. They are valid while the code lives.
    pub fn new(module: JITModule, memory: CodeMemory, nests: impl Iterator<Item = FuncId>) -> (Code, Vec<Entry>) {
        let entry = |id| {
            let address = module.get_finalized_function(id);
            // SAFETY: code generation gives every nest this signature and the host's C calling convention; what is read from
            // elsewhere, by an image, is what code generation wrote there, and is known to be a nest.
            Entry(unsafe { std::mem::transmute::<*const u8, Nest>(address) })
        };
        let entries = nests.map(entry).collect();
        // It holds the memory, too.
        drop(module);
        let memory = Arc::into_inner(memory.0).expect("the module is gone");
        (Code(memory), entries)
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        let memory = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the module is gone; entries are only called by sessions, which hold the executable that holds `self`.
        unsafe { JITMemoryProvider::free_memory(memory) }
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
