//! How a step is cut between threads: at multiples of its tile along its parallel axis, so that what each point computes
//! depends on nothing but the plan, and every number of threads gives the same bits.

use fusewright_ir::kernel::{Axis, BinaryOp, Combine, Kernel, Scalar, ScalarDag, ScalarId, Space, Store, UnaryOp};
use fusewright_ir::plan::access::{parts, reads, told_apart};
use fusewright_ir::plan::{Plan, Step};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The parallel axis of a step, and what running it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The length of the axis.
    extent: usize,
    /// Parts begin at multiples of this.
    unit: usize,
    /// An estimate of the time of the whole step on one thread, on the short side.
    cost: Duration,
    /// Whether parts are independent of each other.
    is_divisible: bool,
}

impl Cut {
    /// How a step of a plan can be cut.
    pub fn new(plan: &Plan, step: &Step) -> Cut {
        let kernel = &step.kernel;
        let Some(&axis) = step.schedule.order.first() else {
            return Cut { extent: 1, unit: 1, cost: cost(plan, step), is_divisible: false };
        };
        let (extent, unit) = (kernel.outer[axis.0 as usize], step.schedule.tile_size(axis));
        Cut { extent, unit, cost: cost(plan, step), is_divisible: is_divisible(kernel, axis) }
    }

    /// How a band can be cut, whose steps together take this long on one thread.
    pub fn of_band(positions: usize, cost: Duration) -> Cut {
        Cut { extent: positions, unit: 1, cost, is_divisible: true }
    }

    /// Whether one that was read can be used: there are units, and no sum of costs or places overflows.
    pub fn is_sound(&self) -> bool {
        self.unit > 0 && self.unit <= u32::MAX as usize && self.extent <= 1 << 48 && self.cost <= LONGEST
    }

    /// The whole axis.
    pub fn whole(&self) -> Range<usize> {
        0..self.extent
    }

    /// The points of some units.
    pub fn points(&self, units: Range<u32>) -> Range<usize> {
        units.start as usize * self.unit..(units.end as usize * self.unit).min(self.extent)
    }

    /// The number of units, where there are several and they are worth sharing: the step takes at least `worthwhile`.
    pub fn units(&self, worthwhile: Duration) -> Option<u32> {
        let units = u32::try_from(self.extent.div_ceil(self.unit)).ok()?;
        (self.is_divisible && units > 1 && self.cost >= worthwhile).then_some(units)
    }

    /// The fewest units that are worth taking at once.
    pub fn grain(&self, units: u32) -> u32 {
        let each = self.cost.as_nanos() as u64 / u64::from(units);
        (GRAIN_NS / each.max(1)).clamp(1, u64::from(units)) as u32
    }

    /// The estimate of the time on one thread.
    pub fn cost(&self) -> Duration {
        self.cost
    }
}

/// Taking a part costs about a twentieth of this.
const GRAIN_NS: u64 = 1000;

/// Whether points with different positions along `axis` write different elements. Stores that replace never meet: no
/// kernel writes an element twice. Those that add may, so only one may have the buffer.
fn is_divisible(kernel: &Kernel, axis: Axis) -> bool {
    let adds = |store: &&Store| store.combine == Combine::Add;
    kernel.stores.iter().all(|store| {
        let alone = kernel.stores.iter().filter(adds).filter(|other| other.buffer == store.buffer).count() <= 1;
        alone && told_apart(store.at.iter(), &kernel.space(&store.inner))[axis.0 as usize]
    })
}

/// An estimate of the time of a step on one thread, on the short side.
fn cost(plan: &Plan, step: &Step) -> Duration {
    let kernel = &step.kernel;
    let points = |inner: &Space| kernel.space(inner).iter().map(|&n| n as f64).product::<f64>();
    let mut operations = 0.0;
    for (_, inner, roots) in parts(kernel) {
        let each: f64 = kernel.body.reachable(roots).into_iter().map(|id| weight(&kernel.body, id)).sum();
        operations += points(inner) * (1.0 + each);
    }
    let read = |read: fusewright_ir::plan::access::Read| {
        let buffer = plan.buffer(read.buffer);
        (buffer.bytes() as f64).min(read.points() as f64 * buffer.dtype.bytes() as f64)
    };
    let written = |store: &Store| points(&store.inner) * plan.buffer(store.buffer).dtype.bytes() as f64;
    let bytes = reads(kernel).into_iter().map(read).sum::<f64>() + kernel.stores.iter().map(written).sum::<f64>();
    let rate = if step.schedule.vector.is_some() { VECTOR_OPERATIONS_PER_NS } else { SCALAR_OPERATIONS_PER_NS };
    Duration::from_nanos((operations / rate).max(bytes / BYTES_PER_NS) as u64).min(LONGEST)
}

/// The longest estimate: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A core's pace where all goes well: sums of products in wide vectors, one point at a time, bytes of a near cache.
const VECTOR_OPERATIONS_PER_NS: f64 = 100.0;
const SCALAR_OPERATIONS_PER_NS: f64 = 3.0;
const BYTES_PER_NS: f64 = 50.0;

/// The cost of a scalar, in multiplications.
fn weight(body: &ScalarDag, id: ScalarId) -> f64 {
    match body.get(id) {
        Scalar::Const(_) | Scalar::Load { .. } | Scalar::Folded { .. } | Scalar::Position(_) => 0.0,
        Scalar::Unary(UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not, _) => 1.0,
        Scalar::Unary(UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc, _) => 2.0,
        Scalar::Unary(UnaryOp::Sqrt, _) | Scalar::Binary(BinaryOp::Div, ..) => 8.0,
        Scalar::Unary(..) | Scalar::Binary(BinaryOp::Pow | BinaryOp::Atan2, ..) => 20.0,
        _ => 1.0,
    }
}

/// Who does which units of a step. Each thread has a stretch of its own, the same in every run, so that what one step
/// left in a core's cache the next finds there; who is done takes from the others' ends.
#[derive(Debug)]
pub struct Shares {
    stretches: Vec<Stretch>,
}

/// The units left of one thread: the first in the upper half, the end in the lower.
#[derive(Debug)]
#[repr(align(128))]
struct Stretch(AtomicU64);

impl Shares {
    /// For so many threads at most.
    pub fn new(threads: usize) -> Shares {
        Shares { stretches: (0..threads).map(|_| Stretch(AtomicU64::new(0))).collect() }
    }

    /// The most threads.
    pub fn threads(&self) -> usize {
        self.stretches.len()
    }

    /// Deals units to all threads: as many to each, but for one. Nobody may be taking.
    pub fn deal(&self, units: u32) {
        let n = self.stretches.len() as u64;
        for (i, stretch) in (0..n).zip(&self.stretches) {
            let at = |i: u64| u64::from(units) * i / n;
            stretch.0.store(at(i) << 32 | at(i + 1), Ordering::Relaxed);
        }
    }

    /// The next units for a thread, at least `grain` where there are so many; `None` where all are taken.
    pub fn next(&self, thread: usize, grain: u32) -> Option<Range<u32>> {
        let n = self.stretches.len();
        let own = thread % n;
        let own_part = self.stretches[own].take(|first, end| {
            let middle = first + (end - first).div_ceil(2).max(grain).min(end - first);
            (first..middle, middle..end)
        });
        own_part.or_else(|| {
            (1..n).map(|distance| &self.stretches[(own + distance) % n]).find_map(|other| {
                other.take(|first, end| {
                    let middle = end - (end - first).div_ceil(2).max(grain).min(end - first);
                    (middle..end, first..middle)
                })
            })
        })
    }
}

impl Stretch {
    /// Takes the first part that `split` makes of what is left, and leaves the second.
    fn take(&self, split: impl Fn(u32, u32) -> (Range<u32>, Range<u32>)) -> Option<Range<u32>> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (first, end) = ((word >> 32) as u32, word as u32);
            if first == end {
                return None;
            }
            let (taken, left) = split(first, end);
            let new = u64::from(left.start) << 32 | u64::from(left.end);
            match self.0.compare_exchange_weak(word, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(found) => word = found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_taken_once() {
        for (threads, units, grain) in [(1, 1, 1), (2, 7, 1), (3, 100, 4), (4, 3, 1), (4, 1000, 7)] {
            let shares = Shares::new(threads);
            for _ in 0..20 {
                shares.deal(units);
                let taken: Vec<Range<u32>> = std::thread::scope(|scope| {
                    let take = |thread| std::iter::from_fn(|| shares.next(thread, grain)).collect::<Vec<_>>();
                    let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || take(thread))).collect();
                    all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
                });
                let mut all: Vec<u32> = taken.into_iter().flatten().collect();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..units));
            }
        }
    }

    #[test]
    fn one_thread_does_what_others_leave() {
        let shares = Shares::new(4);
        shares.deal(10);
        let all: Vec<Range<u32>> = std::iter::from_fn(|| shares.next(1, 1)).collect();
        assert_eq!(all[..2], [2..4, 4..5], "first its own");
        assert_eq!(all.into_iter().flatten().count(), 10);
    }
}
