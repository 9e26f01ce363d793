//! Kernels and buffers as memory sees them: what is live, what can be made again, and what that costs.

use crate::plan::draft::Draft;
use crate::plan::memory::lie_alike;
use fusewright_ir::kernel::BufferId;
use fusewright_ir::plan::access::is_in_place;
use smallvec::SmallVec;
use std::ops::Range;

/// The kernels of every call, in order, and the buffers of the arena.
pub struct Problem {
    /// Kernels, and bands as one.
    pub units: Vec<Unit>,
    /// The buffers of the arena.
    pub values: Vec<Value>,
}

/// What runs at one time.
pub struct Unit {
    /// The positions in the draft.
    pub kernels: Range<usize>,
    /// The values that are there before and are read.
    pub reads: SmallVec<[usize; 4]>,
    /// The values that are written.
    pub writes: SmallVec<[usize; 2]>,
    /// Scalar operations over all points.
    pub operations: u64,
    /// What repeating it costs: operations, and elements that are moved.
    pub cost: u64,
    /// Whether it may run again, and writes the same bits then.
    pub may_repeat: bool,
    /// The first unit that replaces state which this one reads: it may run again before that, not behind it.
    pub until: usize,
    /// Pairs of values, read and written, of which the second may take the memory of the first where that ends here.
    pub in_place: SmallVec<[(usize, usize); 2]>,
}

/// A buffer of the arena.
pub struct Value {
    /// In the draft.
    pub id: BufferId,
    /// With its layout, rounded up as placement does.
    pub bytes: u64,
    /// The units that write it, ascending.
    pub writers: SmallVec<[usize; 2]>,
    /// The units that write or read it, ascending.
    pub touches: SmallVec<[usize; 4]>,
    /// Whether nothing reads it before it is complete.
    pub is_settled: bool,
}

impl Value {
    /// The first unit that touches it, of those from `position` on.
    pub fn next_use(&self, position: usize) -> Option<usize> {
        self.touches.get(self.touches.partition_point(|&unit| unit < position)).copied()
    }
}

impl Problem {
    /// What there is in a draft whose kernels are in order.
    pub fn new(draft: &Draft) -> Problem {
        let mut units: Vec<Range<usize>> = Vec::new();
        let mut unit_of = vec![usize::MAX; draft.kernels.len()];
        for (k, kernel) in draft.kernels.iter().enumerate().filter(|(_, kernel)| !kernel.once) {
            match units.last_mut().filter(|_| kernel.band.is_some() && kernel.band == draft.kernels[k - 1].band) {
                Some(unit) => unit.end = k + 1,
                None => units.push(k..k + 1),
            }
            unit_of[k] = units.len() - 1;
        }
        let uses = draft.uses();
        let users = |kernels: &[usize]| {
            let mut users: SmallVec<[usize; 4]> = kernels.iter().map(|&k| unit_of[k]).collect();
            users.dedup();
            users
        };
        let mut values = Vec::new();
        let mut place = vec![None; draft.buffers.len()];
        for id in draft.buffer_ids() {
            let buffer = draft.buffer(id);
            let writers = users(&uses.writers[id.0 as usize]);
            let (Some(&last), true) = (writers.last(), buffer.is_free() && !buffer.is_scratch) else { continue };
            let readers = users(&uses.readers[id.0 as usize]);
            let mut touches: SmallVec<[usize; 4]> = writers.iter().chain(&readers).copied().collect();
            touches.sort_unstable();
            touches.dedup();
            place[id.0 as usize] = Some(values.len());
            values.push(Value {
                id,
                bytes: buffer.bytes().next_multiple_of(crate::plan::memory::ALIGNMENT),
                is_settled: readers.iter().all(|&reader| reader > last),
                writers: writers.iter().copied().collect(),
                touches,
            });
        }
        let mut problem = Problem { units: Vec::new(), values };
        for (position, kernels) in units.into_iter().enumerate() {
            // The other buffers that are read must stay as they are.
            let until = |id: BufferId| {
                let next = draft.next_of(id).and_then(|next| uses.writers[next.0 as usize].first());
                next.map_or(usize::MAX, |&writer| unit_of[writer])
            };
            let stays = |id: &BufferId| {
                place[id.0 as usize].is_some()
                    || draft.buffer(*id).once
                    || users(&uses.writers[id.0 as usize]).iter().all(|&writer| writer < position)
            };
            let own = problem.unit(draft, &place, kernels, position, until, stays);
            problem.units.push(own);
        }
        problem
    }

    fn unit(
        &self,
        draft: &Draft,
        place: &[Option<usize>],
        kernels: Range<usize>,
        position: usize,
        until: impl Fn(BufferId) -> usize,
        stays: impl Fn(&BufferId) -> bool,
    ) -> Unit {
        let is_single = draft.kernels[kernels.start].band.is_none();
        let mut unit = Unit {
            kernels: kernels.clone(),
            reads: SmallVec::new(),
            writes: SmallVec::new(),
            operations: 0,
            cost: 0,
            may_repeat: is_single,
            until: usize::MAX,
            in_place: SmallVec::new(),
        };
        for kernel in draft.kernels[kernels].iter() {
            let kernel = kernel.kernel();
            let (reads, writes) = (kernel.reads(), kernel.writes());
            unit.operations += kernel.operations();
            let moved: u64 = reads.iter().chain(&writes).map(|&id| draft.buffer(id).elements()).sum();
            unit.cost += kernel.operations() + moved;
            unit.may_repeat &= reads.iter().all(&stays)
                && writes.iter().all(|id| place[id.0 as usize].is_some() && !reads.contains(id));
            unit.until = reads.iter().map(|&id| until(id)).fold(unit.until, usize::min);
            for &to in &writes {
                let Some(value) = place[to.0 as usize] else { continue };
                let is_alone = is_single && self.values[value].writers.len() == 1 && !reads.contains(&to);
                for &from in reads.iter().filter(|_| is_alone) {
                    let Some(source) = place[from.0 as usize] else { continue };
                    let is_before = self.values[source].writers.iter().all(|&writer| writer < position);
                    if is_before && lie_alike(draft, from, to) && is_in_place(kernel, from, to) {
                        unit.in_place.push((source, value));
                    }
                }
                if !unit.writes.contains(&value) {
                    unit.writes.push(value);
                }
            }
            for value in reads.iter().filter_map(|id| place[id.0 as usize]) {
                if self.values[value].writers[0] != position && !unit.reads.contains(&value) {
                    unit.reads.push(value);
                }
            }
        }
        unit
    }

    /// No budget below this is enough for every unit by itself.
    pub fn least(&self) -> u64 {
        let size = |&value: &usize| self.values[value].bytes;
        let of = |unit: &Unit| {
            let both: u64 = unit.reads.iter().chain(&unit.writes).map(size).sum();
            both.saturating_sub(unit.in_place.iter().map(|(_, to)| size(to)).sum())
        };
        self.units.iter().map(of).max().unwrap_or(0)
    }
}
