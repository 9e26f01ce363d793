//! Memory placement: an offset in one arena for every buffer, so that buffers live at the same time never overlap.
//!
//! This is offline dynamic storage allocation: rectangles whose extent in time is given get a position in memory, and
//! the highest byte used shall be low. Three stages, each only if the one before left something to gain:
//!
//! 1. `problem` drops what takes no storage, squeezes time into sections and splits what is independent;
//! 2. `greedy` places in several orders with first fit and best fit, until one meets the lower bound;
//! 3. `search` decides exactly whether a lower peak exists, `minimise` chooses which peaks to ask for.
//!
//! ```
//! use fusewright_passes::place::{Lifetime, Limits, place, verify};
//!
//! // b lives while a is read, c while b is read: c takes the place of a.
//! let lifetimes = [
//!     Lifetime { lower: 0, upper: 2, bytes: 1000, align: 64 },
//!     Lifetime { lower: 1, upper: 3, bytes: 500, align: 64 },
//!     Lifetime { lower: 2, upper: 4, bytes: 900, align: 64 },
//! ];
//! let placement = place(&lifetimes, &Limits::default())?;
//! assert_eq!(placement.bytes, 1024 + 512);
//! assert!(placement.proven_optimal);
//! verify(&lifetimes, &placement).expect("no overlap");
//! # Ok::<(), fusewright_passes::place::PlaceError>(())
//! ```

mod greedy;
mod minimise;
mod problem;
mod search;
mod tactics;
mod verify;

use problem::Problem;
use std::fmt;
use std::time::Duration;

pub use verify::verify;

/// When a buffer is live, and how much memory it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// First step at which the buffer is live.
    pub lower: u32,
    /// First step at which it is no longer live: the interval is half-open, and `lower == upper` is never live.
    pub upper: u32,
    /// Size in bytes; the storage taken is this rounded up to a multiple of `align`.
    pub bytes: u64,
    /// The offset is a multiple of this; any positive number.
    pub align: u64,
}

/// An offset for every buffer, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Byte offset in the arena of each buffer, in the order of the input; 0 for buffers that take no storage.
    pub offsets: Vec<u64>,
    /// Bytes of the arena: the largest offset plus rounded size.
    pub bytes: u64,
    /// The largest sum of rounded sizes live at one step; no placement is smaller.
    pub lower_bound_bytes: u64,
    /// Whether it is known that no placement is smaller than `bytes`.
    pub proven_optimal: bool,
}

/// How far the exact search may go after the heuristics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of work, some three nanoseconds each; 0 means heuristics only. Without a `deadline` the result depends on
    /// nothing but the input.
    pub search_steps: u64,
    /// Time for the search, counted from the call of [`place`]. The result then depends on the machine.
    pub deadline: Option<Duration>,
    /// A peak in bytes that is good enough: the search stops once it is met.
    pub capacity: Option<u64>,
}

/// Why lifetimes cannot be placed; `index` is the position in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// A lifetime that ends before it begins.
    EndsBeforeItBegins {
        /// The lifetime at fault.
        index: usize,
    },
    /// An alignment of 0.
    ZeroAlignment {
        /// The lifetime at fault.
        index: usize,
    },
    /// The buffers live at one step, with their alignment, do not fit into 64 bits of address.
    TooLarge,
}

/// Places every lifetime in one arena.
///
/// Equal input gives equal output byte for byte unless `limits.deadline` is set. The arena may exceed
/// `limits.capacity`: whether that is a fault is the caller's decision.
///
/// # Errors
/// [`PlaceError`] if a lifetime is malformed or no placement fits into 64 bits of address.
pub fn place(lifetimes: &[Lifetime], limits: &Limits) -> Result<Placement, PlaceError> {
    let problem = Problem::new(lifetimes)?;
    let solution = minimise::minimise(&problem, limits)?;
    let mut offsets = vec![0; lifetimes.len()];
    for (block, offset) in problem.blocks.iter().zip(&solution.offsets) {
        offsets[block.index] = offset * problem.unit;
    }
    Ok(Placement {
        offsets,
        bytes: solution.peak * problem.unit,
        lower_bound_bytes: problem.lower_bound() * problem.unit,
        proven_optimal: solution.proven_optimal,
    })
}

impl Limits {
    /// Heuristics only.
    pub const NO_SEARCH: Limits = Limits { search_steps: 0, deadline: None, capacity: None };

    /// Searches until the time is up, however many steps that takes.
    pub fn within(time: Duration) -> Limits {
        Limits { search_steps: u64::MAX, deadline: Some(time), capacity: None }
    }

    /// Stops the search once the arena takes at most `bytes`.
    pub fn capacity(self, bytes: u64) -> Limits {
        Limits { capacity: Some(bytes), ..self }
    }
}

impl Default for Limits {
    /// Deterministic, and some 50 ms of search at the very most; none at all where the heuristics meet the bound, as
    /// they do on most networks.
    fn default() -> Limits {
        Limits { search_steps: 20_000_000, deadline: None, capacity: None }
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceError::EndsBeforeItBegins { index } => write!(f, "buffer {index} ends before it begins"),
            PlaceError::ZeroAlignment { index } => write!(f, "buffer {index} has an alignment of 0"),
            PlaceError::TooLarge => f.write_str("the buffers live at one step do not fit into 64 bits of address"),
        }
    }
}

impl std::error::Error for PlaceError {}
