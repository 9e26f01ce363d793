//! Memory aligned for vectors.

use fusewright_ir::tensor::Data;
use memmap2::{MmapMut, MmapRaw};
use std::alloc::{Layout, handle_alloc_error};

/// Every buffer begins at a multiple of this: the width of a cache line and of the widest vector.
pub const ALIGNMENT: usize = 64;

/// More are never asked for: no machine has them.
pub const MOST_BYTES: u64 = 1 << 47;

/// From so many bytes on, memory is asked for in pages of 2 MiB where the system has them: fewer faults when it is first
/// touched, and fewer misses of the address translation for as long as it lives.
const LARGE: usize = 4 << 20;

/// Where in its first page memory begins. What other allocators map begins with a page, almost: a row of a user's tensor and a
/// row of ours at the same place in their pages would look like one to a processor that compares the low bits of addresses
/// first (bias and GELU over rows of 4 KiB was 5 % slower).
const SHIFT: usize = 2048;

/// Bytes at a multiple of [`ALIGNMENT`], zero at first: pages of their own, given back when this is dropped. Memory that is
/// never touched costs no physical page.
#[derive(Debug)]
pub struct AlignedBytes {
    map: MmapRaw,
    bytes: usize,
}

impl AlignedBytes {
    /// So many bytes of 0.
    pub fn zeroed(bytes: usize) -> AlignedBytes {
        let size = bytes.checked_add(SHIFT).expect("sizes are checked by the planner");
        let Ok(map) = MmapMut::map_anon(size) else {
            handle_alloc_error(Layout::from_size_align(size, ALIGNMENT).expect("sizes are checked by the planner"))
        };
        #[cfg(target_os = "linux")]
        if bytes >= LARGE {
            // A wish: without it all is the same but slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        AlignedBytes { map: map.into(), bytes }
    }

    /// The address of the first byte, for emitted code, which writes only where the plan says.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(SHIFT)
    }

    /// All bytes. Emitted code must not be writing them.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is that of the map behind the shift, which the system gave as zeros; code that writes it has
        // been given `&mut` of what owns this.
        unsafe { std::slice::from_raw_parts(self.as_mut_ptr(), self.bytes) }
    }

    /// All bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` excludes other users.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.bytes) }
    }

    /// Copies the elements of `data` to `offset`.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write(&mut self, offset: usize, data: &Data) {
        let bytes = data.bytes();
        self.bytes_mut()[offset..][..bytes.len()].copy_from_slice(bytes);
    }
}

/// Gives memory that was freed, and that the allocator keeps for later, back to the system where the allocator has a
/// function for it: a compilation frees several MiB in small pieces, and a session may live for long.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            /// malloc_trim(3)
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: a function of glibc, which the standard library links; it takes the allocator's own locks and touches
        // nothing that is in use.
        unsafe { malloc_trim(0) };
    }
}
