//! Memory aligned for vectors.

use fusewright_ir::tensor::Data;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Every buffer begins at a multiple of this: the width of a cache line and of the widest vector.
pub const ALIGNMENT: usize = 64;

/// Bytes at a multiple of [`ALIGNMENT`], zero at first. Memory that is never touched costs no physical page.
#[derive(Debug)]
pub struct AlignedBytes {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the bytes are owned by this value alone, and shared access only reads.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; writes need `&mut self` or the caller's promise in `as_mut_ptr`.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// So many bytes of 0.
    pub fn zeroed(bytes: usize) -> AlignedBytes {
        let layout =
            Layout::from_size_align(bytes.max(ALIGNMENT), ALIGNMENT).expect("sizes are checked by the planner");
        // SAFETY: the layout has a size of at least ALIGNMENT, so it is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        AlignedBytes { start, layout }
    }

    /// The address of the first byte, for emitted code, which writes only where the plan says.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Copies the elements of `data` to `offset`.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write(&mut self, offset: usize, data: &Data) {
        let bytes = data.len() * data.dtype().bytes();
        assert!(offset <= self.layout.size() && bytes <= self.layout.size() - offset, "the bytes fit");
        // SAFETY: the range was just checked to be inside the allocation, and `&mut self` excludes other users; `data` has
        // so many bytes, initialised and without padding.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.start.as_ptr().add(offset), bytes) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same layout, and freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
