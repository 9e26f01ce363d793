//! Memory aligned for vectors.

use fusewright_ir::tensor::Data;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Every buffer begins at a multiple of this: the width of a cache line and of the widest vector.
pub const ALIGNMENT: usize = 64;

/// What every allocator gives without being asked.
const ORDINARY: usize = 16;

/// Bytes at a multiple of [`ALIGNMENT`], zero at first. Memory that is never touched costs no physical page.
#[derive(Debug)]
pub struct AlignedBytes {
    /// Where the allocation begins.
    base: NonNull<u8>,
    layout: Layout,
    /// The first multiple of [`ALIGNMENT`] in it.
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the bytes are owned by this value alone, and shared access only reads.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; writes need `&mut self` or the caller's promise in `as_mut_ptr`.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// So many bytes of 0.
    pub fn zeroed(bytes: usize) -> AlignedBytes {
        // Allocators give zeroed pages untouched for ordinary alignments only; for greater ones they write zeros.
        let size = bytes.checked_add(ALIGNMENT).expect("sizes are checked by the planner");
        let layout = Layout::from_size_align(size, ORDINARY).expect("sizes are checked by the planner");
        // SAFETY: the layout has a size of at least ALIGNMENT, so it is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        let missing = base.as_ptr().align_offset(ALIGNMENT);
        // SAFETY: fewer bytes than ALIGNMENT are missing, by which the allocation is larger than `bytes`.
        let start = unsafe { base.add(missing) };
        AlignedBytes { base, layout, start, bytes }
    }

    /// The address of the first byte, for emitted code, which writes only where the plan says.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// All bytes. Emitted code must not be writing them.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is that of the allocation, initialised when it was made; code that writes it has been given
        // `&mut` of what owns this.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// All bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` excludes other users.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Copies the elements of `data` to `offset`.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write(&mut self, offset: usize, data: &Data) {
        let bytes = data.len() * data.dtype().bytes();
        assert!(offset <= self.bytes && bytes <= self.bytes - offset, "the bytes fit");
        // SAFETY: the range was just checked to be inside the allocation, and `&mut self` excludes other users; `data` has
        // so many bytes, initialised and without padding.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.start.as_ptr().add(offset), bytes) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same layout, and freed once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}
