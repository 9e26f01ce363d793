//! Memory aligned for vectors.

use fusewright_ir::tensor::Data;
use memmap2::{MmapMut, MmapRaw};
use std::alloc::{Layout, handle_alloc_error};
use std::io;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::mem::MaybeUninit;
use std::panic::resume_unwind;
use std::thread;

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

/// Bytes at a multiple of 64, zero at first: pages of their own, given back when this is dropped. Memory that is
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

    /// Whether the system would give so many bytes now.
    pub fn are_available(bytes: usize) -> bool {
        bytes.checked_add(SHIFT).is_some_and(|size| MmapMut::map_anon(size).is_ok())
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
    // SAFETY: it takes the allocator's own locks and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The stack of threads that come and go beside a compilation. Only what is touched of it is memory; one that is larger than all that
/// glibc keeps of the stacks of threads that have ended, 40 MiB, is given back whole.
pub const STACK: usize = 64 << 20;

/// What `make` gives on a thread of its own, settled in memory of this one by `settle`, which also says what is left. Nothing else that
/// it took stays: what the allocator keeps for a thread, pieces between what lives, and a deep stack are as much memory as the training
/// of a small network.
///
/// # Errors
/// Where the system has no thread.
pub fn apart<T: Send, E: Send, U, L: Send>(
    make: impl FnOnce() -> Result<T, E> + Send,
    settle: impl FnOnce(T) -> (U, L),
) -> io::Result<Result<U, E>> {
    // By reference: what is handed to a thread or back lies on the heap until then.
    let mut made = None;
    elsewhere(|| made = Some(make()))?;
    let settled = made.expect("the thread has ended").map(|made| {
        let (settled, left) = settle(made);
        // Dropped here, it would be kept for this thread. Without another all is the same with more memory.
        let mut left = Some(left);
        let _ = elsewhere(|| left = None);
        settled
    });
    give_back_all();
    Ok(settled)
}

/// Does something on a thread of its own, which has ended then.
fn elsewhere(work: impl FnOnce() + Send) -> io::Result<()> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(())
    })
}

/// As [`give_back`], and what threads that have ended have left with the allocator: also what is free behind all that it holds, which
/// `malloc_trim` leaves, 128 KiB or more. That is done by a further thread, to which the allocator hands it.
pub fn give_back_all() {
    // What is free becomes whole: a thread takes small pieces of several pages for itself as it begins.
    give_back();
    // Without a thread all is the same with more memory.
    let _ = elsewhere(give_back_ends);
}

fn give_back_ends() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Of so many that were never touched the last is behind all that was.
        const UNTOUCHED: usize = 32;
        /// 240 MiB.
        const MOST: usize = 2048;
        // Nothing small, which would stay with this thread when all else is given back.
        let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(MOST);
        let mut untouched = 0;
        while untouched < UNTOUCHED && blocks.len() < MOST {
            let mut block = Vec::new();
            // A process with little space is none that keeps much.
            if block.try_reserve_exact(BLOCK).is_err() {
                break;
            }
            untouched = if is_touched(block.spare_capacity_mut()) { 0 } else { untouched + 1 };
            blocks.push(block);
        }
        let _last = blocks.pop();
        // What is free is now before something.
        drop(blocks);
        give_back();
    }
}

/// Less than what glibc asks the system for by itself, so that it comes from behind the last block, in the end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const BLOCK: usize = 120 << 10;

/// Whether some whole page of a block is in memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn is_touched(block: &[MaybeUninit<u8>]) -> bool {
    const PAGE: usize = 4096;
    let shift = block.as_ptr().align_offset(PAGE);
    let mut pages = [0u8; BLOCK / PAGE];
    let n_pages = (block.len().saturating_sub(shift) / PAGE).min(pages.len());
    let begin = block.as_ptr().wrapping_add(shift).cast_mut().cast();
    // SAFETY: it writes a byte for each page, and fewer where pages are larger.
    let status = unsafe { libc::mincore(begin, n_pages * PAGE, pages.as_mut_ptr()) };
    status == 0 && pages.iter().any(|page| page & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_not_available() {
        assert!(AlignedBytes::are_available(0) && AlignedBytes::are_available(1 << 20));
        assert!(!AlignedBytes::are_available(1 << 60) && !AlignedBytes::are_available(usize::MAX));
    }
}
