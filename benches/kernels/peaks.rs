//! What one core of this machine can do, measured.

use crate::ready::Ready;
use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Rates in units of 10^9 a second: the best of many tries.
pub struct Peaks {
    /// Additions and multiplications of f32, by a product of small matrices that our own compiler makes: sums stay in
    /// registers, a few rows in the L1 cache, and the 64 KiB of weights in the L2. On a Zen 4, which adds and multiplies 16
    /// numbers each in a cycle, it came to 117.1 GFLOP/s where 3.7 GHz allow 118.4.
    pub operations: f64,
    /// Bytes from memory, by a sum of u64 in plain Rust. Its pages are as the system gives them; weights ask for large ones,
    /// and so may come to more.
    pub reads: f64,
    /// Bytes from memory and to it, counted both, by `copy_from_slice`. Kernels whose stores pass the caches by need not
    /// read what they write, and so may come to more.
    pub copies: f64,
}

/// u64 in a buffer: 256 MiB, beyond any cache of the machines that this was written on.
const BUFFER: usize = 32 << 20;
/// u64 at a time: 4 MiB, few enough that some are taken without an interruption where others use the machine.
const PIECE: usize = 512 << 10;
const BUDGET: Duration = Duration::from_secs(1);

impl Peaks {
    pub fn measure() -> Peaks {
        let from: Vec<u64> = (0..BUFFER as u64).collect();
        let mut to = from.clone();
        let bytes = (PIECE * size_of::<u64>()) as f64;
        // In turn, so that none is in a cache when it is wanted again.
        let mut pieces = from.chunks_exact(PIECE).cycle();
        let read = fastest(|| pieces.next().map(sum));
        let mut at = 0;
        let copy = fastest(|| {
            to[at..][..PIECE].copy_from_slice(&from[at..][..PIECE]);
            at = (at + PIECE) % BUFFER;
        });
        black_box(to);
        Peaks { operations: operations(), reads: bytes / read, copies: 2.0 * bytes / copy }
    }
}

impl fmt::Display for Peaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peaks { operations, reads, copies } = self;
        write!(
            f,
            "peaks of one core: {operations:.1} GFLOP/s, {reads:.1} GB/s read, {copies:.1} GB/s copied (both ways)"
        )
    }
}

/// Many runs a measurement, since one takes a tenth of a millisecond.
fn operations() -> f64 {
    const RUNS: usize = 5;
    const ROWS: usize = 224;
    const INNER: usize = 256;
    const COLUMNS: usize = 64;
    let (shape, rest) = (format!("[{ROWS}, {INNER}]"), format!("layers: [Dense(out: {COLUMNS})]"));
    let mut ready = Ready::checked("the product for the peak", &shape, &rest, true);
    let ns = fastest(|| (0..RUNS).for_each(|_| black_box(&mut ready).run()));
    (2 * ROWS * INNER * COLUMNS * RUNS) as f64 / ns
}

/// In lanes, so that it needs no more time than loads do.
fn sum(buffer: &[u64]) -> u64 {
    let mut lanes = [0u64; 16];
    for chunk in buffer.chunks_exact(lanes.len()) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane = lane.wrapping_add(*x));
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

/// The shortest time in ns.
fn fastest<T>(mut run: impl FnMut() -> T) -> f64 {
    let begin = Instant::now();
    let mut least = Duration::MAX;
    while begin.elapsed() < BUDGET {
        let start = Instant::now();
        black_box(run());
        least = least.min(start.elapsed());
    }
    least.as_nanos() as f64
}
