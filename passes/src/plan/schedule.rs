//! How each kernel is run: which points share a vector, which a register tile, and the order of the loops.

mod estimate;
mod lanes;
mod rest;
mod windows;

use super::draft::{Draft, DraftKernel};
use super::machine::Machine;
use super::pack::{movable, packable};
use estimate::{Estimate, LATENCY};
use fusewright_ir::kernel::{Axis, FoldKind, Kernel, ScalarId};
use fusewright_ir::plan::access::{Part, Read, any_depends, gathered, plain, reads, shared, stride};
use fusewright_ir::plan::edges::Edges;
use fusewright_ir::plan::{Rest, Schedule, Vector};
use smallvec::SmallVec;
use std::cmp::Reverse;

/// Gives every kernel its schedule, for weights that [`super::pack`] will lay out to fit it.
pub fn all(draft: &mut Draft, machine: &Machine) {
    let schedules: Vec<Schedule> = draft.kernels.iter().map(|kernel| schedule(draft, kernel, machine)).collect();
    for (kernel, schedule) in draft.kernels.iter_mut().zip(schedules) {
        kernel.schedule = schedule;
    }
}

/// The schedule of one kernel. Kernels that run once are not worth vectors, unless these make their code shorter.
pub fn schedule(draft: &Draft, draft_kernel: &DraftKernel, machine: &Machine) -> Schedule {
    let kernel = draft_kernel.kernel();
    let loose = if draft_kernel.once { Vec::new() } else { packable(draft, kernel) };
    let in_band = draft_kernel.band.is_some();
    let mut facts = Facts { draft, kernel, in_band, reads: reads(kernel), loose };
    let mut schedule = Schedule::plain(kernel);
    schedule.fold_orders = (0..kernel.folds.len()).map(|i| facts.fold_order(i)).collect();
    let mut weights = Vec::new();
    let edges = Edges::of(kernel, |id| {
        let buffer = draft.buffer(id);
        (&buffer.layout, &buffer.info.dims)
    });
    let is_inside = edges.as_ref().is_some_and(Edges::is_empty);
    let is_worth = !draft_kernel.once || kernel.stores.len() > MOST_SCALARS;
    if let Some(edges) = edges.filter(|_| is_worth && facts.may_be_vector()) {
        let mut outer = facts.contiguous_axis();
        if outer.is_none() {
            // A matrix that is computed in each call may be worth packing too.
            let fixed = facts.loose.len();
            facts.loose.extend(movable(draft, kernel));
            outer = facts.contiguous_axis();
            if outer.is_none() {
                facts.loose.truncate(fixed);
            }
        }
        // Where tiles along the better axis cannot cross the edges, those along another may.
        let better = facts.vector(outer, &schedule.fold_orders, machine);
        let lanes = machine.vector_lanes;
        let strided = || facts.strided_axis().map(|axis| Vector::Outer { axis, lanes });
        let other = if better == Some(Vector::Inner) { strided() } else { None };
        for vector in [better, other].into_iter().flatten() {
            weights = facts.tiles_along(vector, &mut schedule, &edges, machine);
            if edges.fit(kernel, &schedule) {
                break;
            }
            (schedule.vector, schedule.tile, weights) = (None, SmallVec::new(), Vec::new());
        }
    }
    schedule.order = facts.loop_order(&schedule, &weights, machine);
    if is_inside {
        schedule.rests.extend(facts.last_lanes(&schedule, machine));
    }
    schedule.streaming = facts.is_large_result(&schedule, machine);
    schedule.gather = is_inside && !draft_kernel.once && !in_band && facts.is_better_gathered(&schedule, machine);
    schedule.ahead = facts.is_better_asked_for(&schedule, machine);
    schedule
}

/// Points along the vector axis of one call of a leaf that folds nothing: long enough that the call costs nothing, short
/// enough to leave parts for several threads.
const STRETCH: u32 = 2048;

struct Facts<'a> {
    draft: &'a Draft,
    kernel: &'a Kernel,
    /// Whether its first axis is that of a band.
    in_band: bool,
    reads: Vec<Read<'a>>,
    /// Loads that will be packed to whatever the schedule likes.
    loose: Vec<ScalarId>,
}

struct Tile {
    lanes: u32,
    /// Points along other axes, the one of the innermost loop first.
    points: SmallVec<[(Axis, u32); 2]>,
    /// See [`Schedule::windows`].
    windows: bool,
    /// At the last points of the first of these axes: points along another.
    rest: Option<Rest>,
}

impl Facts<'_> {
    /// Puts vectors along an axis and the tiles that go with them into a schedule; gives the axes of the weights that a tile shares.
    fn tiles_along(&self, vector: Vector, schedule: &mut Schedule, edges: &Edges, machine: &Machine) -> Vec<Axis> {
        schedule.vector = Some(vector);
        let Vector::Outer { axis, .. } = vector else {
            schedule.tile = self.inner_tile(machine);
            if !edges.fit(self.kernel, schedule) {
                schedule.tile = SmallVec::new();
            }
            return Vec::new();
        };
        let tile = self.tile(axis, machine, edges.is_empty());
        // Tiles that cross edges are written out.
        let most = if edges.is_empty() { u32::MAX } else { machine.most_lanes() };
        schedule.vector = Some(Vector::Outer { axis, lanes: tile.lanes.min(most) });
        let weights = self.weight_axes(axis, tile.points.first().map(|(axis, _)| *axis));
        schedule.tile = tile.points.into_iter().filter(|(_, n)| *n > 1).collect();
        schedule.windows = tile.windows;
        schedule.rests.extend(tile.rest);
        weights
    }

    fn is_loose(&self, read: &Read) -> bool {
        self.loose.contains(&read.id)
    }

    /// The outer axes without that of the band, of which a kernel sees one position at a time.
    fn own_axes(&self) -> impl Iterator<Item = Axis> + use<> {
        (u32::from(self.in_band)..self.kernel.outer.len() as u32).map(Axis)
    }

    fn outer_axes(&self) -> impl Iterator<Item = Axis> + use<> {
        (0..self.kernel.outer.len() as u32).map(Axis)
    }

    fn extent(&self, axis: Axis) -> usize {
        self.kernel.outer[axis.0 as usize]
    }

    fn stride(&self, read: &Read, axis: Axis) -> Option<i64> {
        let buffer = self.draft.buffer(read.buffer);
        stride(read.at, axis, &buffer.layout, &buffer.info.dims)
    }

    fn store_stride(&self, store: usize, axis: Axis) -> Option<i64> {
        let store = &self.kernel.stores[store];
        let buffer = self.draft.buffer(store.buffer);
        stride(&store.at, axis, &buffer.layout, &buffer.info.dims)
    }

    /// The inner axes of a fold, those along which its loads move far outermost; as they stand where ties are told
    /// apart by their order.
    fn fold_order(&self, fold: usize) -> SmallVec<[Axis; 6]> {
        let n_outer = self.kernel.outer.len() as u32;
        let mut order: SmallVec<[Axis; 6]> =
            (n_outer..n_outer + self.kernel.folds[fold].inner.len() as u32).map(Axis).collect();
        if matches!(self.kernel.folds[fold].kind, FoldKind::ArgMax | FoldKind::ArgMin) {
            return order;
        }
        let own = || self.reads.iter().filter(|read| read.part == Part::Fold(fold));
        let fixed = own().any(|read| !self.is_loose(read));
        let distance = |axis: Axis| -> u64 {
            let loads = own().filter(|read| !fixed || !self.is_loose(read));
            loads.map(|read| self.stride(read, axis).map_or(u64::MAX >> 16, i64::unsigned_abs)).sum()
        };
        // Axes of length 1 first: they take no loop, and the innermost axis should be one that does.
        let length = |axis: Axis| self.kernel.folds[fold].inner[(axis.0 - n_outer) as usize];
        order.sort_by_key(|&axis| (length(axis) != 1, Reverse(distance(axis))));
        order
    }

    /// Whether the first store writes more than half of the last-level cache, vector behind vector: to read the old bytes
    /// first, and to keep the new ones, would be in vain. Lines that are not written whole at once would be read as well, and
    /// written several times.
    fn is_large_result(&self, schedule: &Schedule, machine: &Machine) -> bool {
        let Some(Vector::Outer { axis, lanes }) = schedule.vector else { return false };
        let Some(store) = self.kernel.stores.first() else { return false };
        let buffer = self.draft.buffer(store.buffer);
        let is_line = |elements: i64| elements % LINE_ELEMENTS == 0;
        let rows_are_lines = || {
            let others = self.outer_axes().filter(|&other| other != axis && self.extent(other) > 1);
            is_line(lanes.into()) && others.into_iter().all(|other| self.store_stride(0, other).is_some_and(is_line))
        };
        buffer.bytes() > machine.l3_bytes / 2
            && store.inner.is_empty()
            && self.store_stride(0, axis) == Some(1)
            && (lanes as usize >= self.extent(axis) || rows_are_lines())
    }

    /// Whether what a fold reads along the vectors is better put side by side by the first tile that reads it. Where its rows lie in
    /// more pages than the processor knows the places of, each of them costs a look at the table of the second level, and a
    /// step of a small tile takes no longer than that; rows that lie a power of two apart even push each other out of a cache. What
    /// is far is asked for as it is gathered.
    fn is_better_gathered(&self, schedule: &Schedule, machine: &Machine) -> bool {
        let (Some(Vector::Outer { axis, lanes }), Some(gathered)) = (schedule.vector, gathered(self.kernel, schedule))
        else {
            return false;
        };
        let read = &gathered.read;
        if self.is_loose(read) || self.stride(read, axis) != Some(1) {
            return false;
        }
        let points: u32 = schedule.tile.iter().map(|(_, points)| points).product();
        let cycles = f64::from(points * lanes.div_ceil(machine.vector_lanes)) / 2.0;
        let tiles = self.extent(gathered.again).div_ceil(schedule.tile_size(gathered.again));
        let rows = gathered.elements / lanes as usize;
        let distances = gathered.rows.iter().filter_map(|&(axis, _)| self.stride(read, axis));
        let distance = 4 * distances.map(i64::unsigned_abs).filter(|&step| step > 0).min().unwrap_or(0);
        let pages = rows as u64 * distance.min(PAGE_BYTES) / PAGE_BYTES;
        let is_far = self.draft.buffer(read.buffer).bytes() > machine.far_bytes();
        (cycles < PAGE_CYCLES || is_far) && tiles >= WORTH_GATHERING && pages >= MANY_PAGES
    }

    /// Whether the tiles of a block of channels ask for the weights of the next. Where all weights are more than the second-level
    /// cache holds, the first tile of a block waits for them, and those of a large block are far more than processors fetch by
    /// themselves; where the cache holds two blocks, other tiles have the time to fetch the next.
    fn is_better_asked_for(&self, schedule: &Schedule, machine: &Machine) -> bool {
        let (Some(Vector::Outer { lanes, .. }), Some(shared)) = (schedule.vector, shared(self.kernel, schedule)) else {
            return false;
        };
        let block = 4 * u64::from(lanes) * shared.elements as u64;
        let tiles: usize =
            shared.loops.iter().map(|&axis| self.extent(axis).div_ceil(schedule.tile_size(axis))).product();
        self.is_loose(&shared.read)
            && tiles >= WORTH_ASKING
            && block > machine.l1_bytes / 2
            && block <= machine.l2_bytes * 5 / 8
            && self.draft.buffer(shared.read.buffer).bytes() > machine.l2_bytes
    }

    /// Where some load of a kernel that folds nothing is not contiguous along `vector`: the axis along which it is. Squares
    /// of both are transposed in registers, but for kernels of many results, whose squares would have no room there.
    fn transposed_axis(&self, vector: Axis) -> Option<Axis> {
        if !self.kernel.folds.is_empty() || self.kernel.stores.len() > MOST_SQUARES {
            return None;
        }
        let scattered = self.reads.iter().find(|read| !matches!(self.stride(read, vector), Some(0 | 1)))?;
        self.own_axes().find(|&axis| axis != vector && self.stride(scattered, axis) == Some(1) && self.extent(axis) > 1)
    }

    /// By how much fewer elements a load of `read` reads at `points` neighbours along `axis` than at as many far apart:
    /// windows that overlap share.
    fn overlap(&self, read: &Read, axis: Axis, points: u32) -> f64 {
        let n_outer = self.kernel.outer.len() as u32;
        let Some(form) = read.at.iter().filter_map(plain).find(|form| form.coefficient(axis) != 0) else { return 1.0 };
        let step = form.coefficient(axis).abs() as f64;
        let inner = form.terms.iter().filter(|(own, _)| own.0 >= n_outer);
        let window: f64 = inner.map(|(own, _)| read.extents[own.0 as usize] as f64).product();
        let far_apart = window * f64::from(points);
        ((f64::from(points) - 1.0) * step + window).min(far_apart) / far_apart
    }

    /// Lanes along `vector`, and points along one or two other axes, by an [`Estimate`] of the time that all tiles take. Two axes,
    /// where `may_be_two`, for a gain that is worth the leaves.
    fn tile(&self, vector: Axis, machine: &Machine, may_be_two: bool) -> Tile {
        let width = machine.vector_lanes;
        let extent = self.extent(vector) as u32;
        if self.kernel.folds.is_empty() {
            if let Some(along) = self.transposed_axis(vector) {
                let points = width.min(self.extent(along) as u32);
                return Tile {
                    lanes: width,
                    points: [(along, points)].into_iter().collect(),
                    windows: false,
                    rest: None,
                };
            }
            // Nothing is kept from point to point: a leaf loops along the whole axis, or a good part of it.
            let lanes = if extent <= 2 * STRETCH { extent } else { STRETCH };
            return Tile { lanes, points: SmallVec::new(), windows: false, rest: None };
        }
        let estimate = Estimate::of(self, machine, vector);
        let shares = |axis: &Axis| {
            let reused = |read: &&Read| {
                any_depends(read.at, vector)
                    && (!any_depends(read.at, *axis)
                        || (estimate.steps <= MOST_WINDOW && self.overlap(read, *axis, 2) < 1.0))
            };
            *axis != vector && self.extent(*axis) > 1 && estimate.reads.iter().any(reused)
        };
        // Of axes that are as good, the one whose points lie nearest to each other in memory.
        let mut axes: Vec<Axis> = self.own_axes().filter(shares).collect();
        axes.sort_by_key(|&axis| self.store_stride(0, axis).map_or(u64::MAX, i64::unsigned_abs));
        // Windows come from far caches, and faster in the order of memory.
        let firsts = if estimate.is_of_windows_apart() { axes.len().min(1) } else { axes.len() };
        let most = |axis: Axis| self.most_points(axis);
        let mut best: Option<(f64, Tile)> = None;
        let mut consider = |lanes: u32, points: &[(Axis, u32)], gain: f64| {
            let fits = estimate.fits(lanes, points);
            if fits {
                let total = estimate.total(lanes, points);
                if best.as_ref().is_none_or(|(least, _)| total * gain < *least) {
                    let windows = estimate.is_of_windows(points);
                    best = Some((total, Tile { lanes, points: points.iter().copied().collect(), windows, rest: None }));
                }
            }
            fits
        };
        let longest = extent.next_multiple_of(width).min(if axes.is_empty() && may_be_two {
            self.most_lanes_alone(vector, machine)
        } else {
            machine.most_lanes()
        });
        let all_lanes = || (width..=longest).rev().step_by(width as usize);
        for &axis in &axes[..firsts] {
            for lanes in all_lanes() {
                let _ = (1..=most(axis)).all(|points| consider(lanes, &[(axis, points)], 1.0));
            }
        }
        all_lanes().for_each(|lanes| _ = consider(lanes, &[], 1.0));
        for (i, &axis) in axes[..firsts].iter().enumerate().filter(|_| may_be_two) {
            for (&other, lanes) in axes[i + 1..].iter().flat_map(|other| all_lanes().map(move |lanes| (other, lanes))) {
                for points in 2..=most(axis).min(estimate.most_points_of_two() / 2) {
                    let rows = 2..=most(other).min(estimate.most_points_of_two() / points);
                    let _ = rows.into_iter().all(|rows| consider(lanes, &[(axis, points), (other, rows)], WORTH_TWO));
                }
            }
        }
        let best = best.expect("one vector and one point are always possible");
        if may_be_two { self.with_end(&estimate, &axes, all_lanes(), best) } else { best.1 }
    }

    /// The most lanes of a tile whose points share nothing. Where rows lie pages apart, long pieces of each are read, as a page takes
    /// long to find, and a processor asks ahead of itself for what follows.
    fn most_lanes_alone(&self, vector: Axis, machine: &Machine) -> u32 {
        let n_outer = self.kernel.outer.len() as u32;
        let is_far = |read: &&Read| {
            let mut steps = (n_outer..read.extents.len() as u32).filter_map(|axis| self.stride(read, Axis(axis)));
            matches!(read.part, Part::Fold(_))
                && !self.is_loose(read)
                && self.stride(read, vector) == Some(1)
                && steps.any(|step| 4 * step.unsigned_abs() >= PAGE_BYTES)
        };
        let pieces = self.extent(vector) as u32 / FEWEST_PIECES / machine.vector_lanes * machine.vector_lanes;
        let most = machine.most_lanes();
        if self.reads.iter().any(|read| is_far(&read)) { pieces.clamp(most, LONG_PIECE * most) } else { most }
    }

    /// The most points of a tile along an axis beside that of the vectors.
    fn most_points(&self, axis: Axis) -> u32 {
        (self.extent(axis) as u32).min(MOST_POINTS)
    }

    /// Points along one or two outer axes that are folded together along an inner lane axis, so that they share what they
    /// read: by the same estimate, for each point. None where there is one point, or nothing to share.
    fn inner_tile(&self, machine: &Machine) -> SmallVec<[(Axis, u32); 2]> {
        let none = SmallVec::new();
        if let Some(axis) = self.axis_of_short_lines(machine) {
            return [(axis, TWO_LINES)].into_iter().collect();
        }
        let sums = self.kernel.folds.iter().all(|fold| fold.kind == FoldKind::Sum);
        if !sums || self.kernel.folds.len() != 1 || self.kernel.stores.iter().any(|store| !store.inner.is_empty()) {
            return none;
        }
        let extent = *self.kernel.folds[0].inner.last().expect("vectors run along it") as u32;
        // As many vectors are in flight for each point, so that additions overlap.
        let chains = (extent / machine.vector_lanes).clamp(1, 4);
        let reads: Vec<&Read> = self.reads.iter().filter(|read| matches!(read.part, Part::Fold(_))).collect();
        let cycles = |tile: &[(Axis, u32)]| {
            let points: u32 = tile.iter().map(|(_, n)| n).product();
            let loads: u32 = reads
                .iter()
                .map(|read| {
                    tile.iter().filter(|(axis, _)| any_depends(read.at, *axis)).map(|(_, n)| n).product::<u32>()
                })
                .sum();
            let (sums, loads) = (f64::from(points * chains), f64::from(loads * chains));
            ((sums / 2.0).max(loads / 2.0).max(LATENCY) + 0.5) / sums
        };
        let shares = |axis: &Axis| self.extent(*axis) > 1 && reads.iter().any(|read| !any_depends(read.at, *axis));
        let axes: Vec<Axis> = self.own_axes().filter(shares).collect();
        let divisors = |axis: Axis| (2..=MOST_POINTS).filter(move |&n| (self.extent(axis) as u32).is_multiple_of(n));
        let mut best: (f64, SmallVec<[(Axis, u32); 2]>) = (cycles(&[]), none);
        let mut consider = |tile: &[(Axis, u32)]| {
            let points: u32 = tile.iter().map(|(_, n)| n).product();
            if points * chains <= machine.accumulators && cycles(tile) < best.0 {
                best = (cycles(tile), tile.into());
            }
        };
        for (i, &first) in axes.iter().enumerate() {
            for n in divisors(first) {
                consider(&[(first, n)]);
                for &second in &axes[i + 1..] {
                    divisors(second).for_each(|m| consider(&[(first, n), (second, m)]));
                }
            }
        }
        best.1
    }

    /// Where several folds of one short line follow each other, each waits for the last lanes of the one before: the axis along which
    /// two lines are folded together.
    fn axis_of_short_lines(&self, machine: &Machine) -> Option<Axis> {
        let length = *self.kernel.folds.first().filter(|_| self.kernel.folds.len() > 1)?.inner.last()?;
        let order = self.loop_order(&Schedule::plain(self.kernel), &[], machine);
        let axis = *order.iter().rfind(|&&axis| self.extent(axis) > 1)?;
        let is_short = length <= SHORT_LINE * machine.vector_lanes as usize;
        (is_short && self.extent(axis).is_multiple_of(TWO_LINES as usize)).then_some(axis)
    }

    /// The outer axes along which the operand moves that a tile shares: weights are read from cache again for every
    /// tile unless these loops are outside those of the tiles.
    fn weight_axes(&self, vector: Axis, second: Option<Axis>) -> Vec<Axis> {
        let Some(second) = second else { return Vec::new() };
        let shared = self.reads.iter().find(|read| {
            matches!(read.part, Part::Fold(_)) && any_depends(read.at, vector) && !any_depends(read.at, second)
        });
        let axes = |read: &Read| self.outer_axes().filter(|axis| any_depends(read.at, *axis)).collect();
        shared.map_or(Vec::new(), axes)
    }

    /// Whether weights that move along these axes are too large to stay in cache.
    fn are_large(&self, weights: &[Axis], machine: &Machine) -> bool {
        let fold_points: usize =
            self.kernel.folds.iter().map(|fold| fold.inner.iter().product::<usize>()).max().unwrap_or(1);
        let bytes = 4 * (fold_points * weights.iter().map(|axis| self.extent(*axis)).product::<usize>()) as u64;
        !weights.is_empty() && (bytes > machine.l2_bytes / 2 || fold_points >= LARGE_FOLD)
    }

    /// Outer axes, outermost first: as the first store lies in memory, but those of weights around the tiles that share
    /// them, and outermost of all where the weights are too large to stay in cache.
    fn loop_order(&self, schedule: &Schedule, weights: &[Axis], machine: &Machine) -> SmallVec<[Axis; 6]> {
        let vector = match schedule.vector {
            Some(Vector::Outer { axis, .. }) => Some(axis),
            _ => None,
        };
        let second = schedule.tile.first().map(|(axis, _)| *axis);
        // Points along this axis are a tile at the end of another.
        let is_at_end = |axis: Axis| schedule.rests.iter().any(|rest| rest.tile.iter().any(|(own, _)| *own == axis));
        let mut order: SmallVec<[Axis; 6]> = self.outer_axes().collect();
        let distance = |axis: Axis| -> i64 {
            self.store_stride(0, axis).map_or(i64::MAX, |step| if step == 0 { i64::MAX } else { step.abs() })
        };
        if !self.kernel.stores.is_empty() {
            order.sort_by_key(|&axis| Reverse(distance(axis)));
        }
        let large = self.are_large(weights, machine);
        let in_all = |axis: Axis| self.reads.iter().all(|read| any_depends(read.at, axis));
        let transposes = vector.is_some_and(|axis| self.transposed_axis(axis).is_some());
        let rank = |axis: Axis| -> u8 {
            let is_weight = weights.contains(&axis);
            match () {
                // Loops of one step are none.
                () if self.extent(axis) == 1 => 2,
                () if is_weight && Some(axis) != vector && in_all(axis) => 0,
                () if is_weight && large => 1,
                () if is_weight => 3,
                // Rows that become columns are read along their length.
                () if Some(axis) == second => {
                    if transposes {
                        7
                    } else {
                        4
                    }
                }
                () if is_at_end(axis) => 5,
                () if Some(axis) == vector => 6,
                () => 2,
            }
        };
        order.sort_by_key(|&axis| rank(axis));
        // The outermost loop is the one that threads share: of those that have several tiles.
        let is_shared = |axis: Axis| self.extent(axis) > schedule.tile_size(axis);
        if let Some(first) = order.iter().position(|&axis| is_shared(axis)) {
            order[..=first].rotate_right(1);
        }
        if self.in_band {
            order.retain(|axis| axis.0 != 0);
            order.insert(0, Axis(0));
        }
        order
    }
}

/// Lines that are folded together, of so many vectors at most.
const TWO_LINES: u32 = 2;
const SHORT_LINE: usize = 16;

/// By how much points along two axes must be better than along one.
const WORTH_TWO: f64 = 1.02;

/// A reduction of so many points reads more weights for one vector of results than fit into a first-level cache beside
/// the rest.
const LARGE_FOLD: usize = 1024;

/// Windows of so many elements are written out, so that neighbours share what they read.
const MOST_WINDOW: usize = 64;

/// The most results of a kernel that runs once, one by one.
const MOST_SCALARS: usize = 8;

/// The most results of a kernel whose loads are transposed in registers.
const MOST_SQUARES: usize = 4;

/// The most points of a tile's second axis: the first-level cache has eight ways, and rows may lie 4 KiB apart.
pub const MOST_POINTS: u32 = 8;

/// Bytes of a small page of memory, and pages that may be more than a processor finds at once: the tables of the first level have
/// 64 entries or some more, and weights and results are in others.
const PAGE_BYTES: u64 = 4096;
pub const MANY_PAGES: u64 = 32;

/// 32-bit elements of a line of a cache.
const LINE_ELEMENTS: i64 = 16;

/// Of rows that lie far apart such pieces are read, in the most lanes that tiles have elsewhere, and so many at least are left for
/// threads to share.
const LONG_PIECE: u32 = 4;
const FEWEST_PIECES: u32 = 16;

/// Cycles that it takes to find a page that is not among those.
const PAGE_CYCLES: f64 = 8.0;

/// Tiles that read the same, from which on it is worth to gather it.
pub const WORTH_GATHERING: usize = 4;

/// Tiles that share a block of weights, from which on they ask for the next: so that no step asks for more than a line.
const WORTH_ASKING: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::{draft, kernel};

    fn schedules(shape: &str, layers: &str, node: &str, machine: &Machine) -> String {
        let mut draft = draft(shape, layers);
        all(&mut draft, machine);
        kernel(&draft, node).schedule.to_string()
    }

    #[test]
    fn convolutions_run_over_channels_and_rows() {
        let layers = r#"Conv2d(out: 64, kernel_size: 1), Conv2d(name: "a", out: 64, kernel_size: 3, padding: 1),
            Flatten, Dense(out: 2)"#;
        let portable = schedules("[1, 3, 56, 56]", layers, "a", &Machine::PORTABLE);
        assert_eq!(portable, "loops 2 0 1 3, fold 5 6 4, vector 1 by 16, tile 3 by 2");
        let wide = schedules("[1, 3, 56, 56]", layers, "a", &Machine::AVX512);
        assert_eq!(wide, "loops 2 0 1 3, fold 5 6 4, vector 1 by 64, tile 3 by 7");
    }

    #[test]
    fn rows_that_leave_points_over_end_in_other_tiles() {
        let at = |side: usize, out: usize, machine: &Machine| {
            let layers = format!(
                r#"Conv2d(out: 128, kernel_size: 1), Conv2d(name: "a", out: {out}, kernel_size: 3, padding: 1), Flatten,
                Dense(out: 2)"#
            );
            schedules(&format!("[1, 3, {side}, {side}]"), &layers, "a", machine)
        };
        assert_eq!(
            at(14, 64, &Machine::AVX2),
            "loops 1 0 3 2, fold 5 6 4, vector 1 by 16, tile 3 by 6, end of 3: 3 by 2 2 by 3"
        );
        assert_eq!(
            at(7, 64, &Machine::AVX2),
            "loops 1 0 3 2, fold 5 6 4, vector 1 by 32, tile 3 by 3, end of 3: 3 by 1 2 by 3"
        );
        assert_eq!(
            at(8, 512, &Machine::AVX2),
            "loops 1 0 2 3, fold 5 6 4, vector 1 by 24, tile 3 by 4, end of 1: 3 by 8, asking ahead"
        );
        // All channels are one tile: threads share the rows.
        assert_eq!(at(14, 64, &Machine::AVX512), "loops 2 1 0 3, fold 5 6 4, vector 1 by 64, tile 3 by 7");
    }

    #[test]
    fn large_weights_are_outermost() {
        let layers = r#"Conv2d(name: "x1", out: 512, kernel_size: 1),
            Conv2d(name: "a", out: 512, kernel_size: 3, padding: 1), Flatten, Dense(out: 2)"#;
        let schedule = schedules("[1, 3, 7, 7]", layers, "a", &Machine::AVX512);
        assert!(schedule.starts_with("loops 1 0 2 3, fold 5 6 4, vector 1 by"), "{schedule}");
    }

    #[test]
    fn the_next_block_of_large_weights_is_asked_for() {
        let asks = |side: usize, channels: usize, machine: &Machine| {
            let layers = format!(
                r#"Conv2d(out: {channels}, kernel_size: 1), Conv2d(name: "a", out: {channels}, kernel_size: 3, padding: 1),
                Flatten, Dense(out: 2)"#
            );
            schedules(&format!("[1, 3, {side}, {side}]"), &layers, "a", machine).ends_with("asking ahead")
        };
        assert!(asks(7, 512, &Machine::AVX2));
        // All weights stay in the second-level cache; no tile reads a block again; two blocks have no room.
        assert!(!asks(7, 96, &Machine::AVX2));
        assert!(!asks(1, 512, &Machine::AVX2));
        assert!(!asks(7, 2048, &Machine::AVX2));
    }

    #[test]
    fn rows_are_reduced_from_within() {
        let norm = schedules("[6, 40]", r#"LayerNorm(name: "a", normalized_shape: 40)"#, "a", &Machine::PORTABLE);
        assert!(norm.contains("vector inside"), "{norm}");
        let softmax = schedules("[6, 40]", r#"Softmax(name: "a", dim: -1)"#, "a", &Machine::PORTABLE);
        assert!(softmax.contains("vector inside"), "{softmax}");
    }

    #[test]
    fn elementwise_kernels_run_over_the_last_axis() {
        let schedule = schedules("[6, 40]", r#"Relu(name: "a")"#, "a", &Machine::PORTABLE);
        assert_eq!(schedule, "loops 0 1, vector 1 by 40");
    }

    #[test]
    fn one_row_leaves_the_outermost_loop_to_the_threads() {
        let schedule = schedules("[1, 40]", r#"Dense(name: "a", out: 64)"#, "a", &Machine::PORTABLE);
        assert_eq!(schedule, "loops 1 0, fold 2, vector 1 by 32");
    }

    #[test]
    fn weights_beyond_the_caches_are_read_as_they_lie() {
        let dense = r#"Dense(name: "a", out: 256)"#;
        let schedule = |shape| schedules(shape, dense, "a", &Machine::PORTABLE);
        assert!(schedule("[1, 10000]").contains("vector inside"), "{}", schedule("[1, 10000]"));
        // Every row of the images reads them again; and these fit.
        assert!(!schedule("[8, 10000]").contains("vector inside"), "{}", schedule("[8, 10000]"));
        assert!(!schedule("[1, 1000]").contains("vector inside"), "{}", schedule("[1, 1000]"));
    }

    #[test]
    fn what_cannot_cross_edges_along_a_window_does_along_a_row() {
        let layers = r#"Conv2d(name: "a", out: 64, groups: 64, kernel_size: 7, stride: 2, padding: 3)"#;
        let schedule = schedules("[1, 64, 56, 56]", layers, "a", &Machine::AVX512);
        assert!(schedule.contains("vector 4 by"), "{schedule}");
    }

    #[test]
    fn windows_of_channels_share_weights_and_elements() {
        let layers = r#"Conv2d(out: 240, kernel_size: 1), Conv2d(name: "a", out: 240, kernel_size: 5, padding: 2, groups: 240),
            Conv2d(out: 64, kernel_size: 1)"#;
        let wide = schedules("[1, 64, 28, 28]", layers, "a", &Machine::AVX512);
        assert!(wide.ends_with("vector 1 by 16, tile 4 by 4, tile 3 by 4"), "{wide}");
        let few = schedules("[1, 64, 28, 28]", layers, "a", &Machine::AVX2);
        assert!(few.ends_with("vector 1 by 8, tile 4 by 5, tile 3 by 2"), "{few}");
    }

    #[test]
    fn lines_are_streamed_whole() {
        let is_streamed = |width: usize, machine: &Machine| {
            let layers = r#"Conv2d(name: "a", out: 16, groups: 16, kernel_size: 3, padding: 1)"#;
            let mut draft = draft(&format!("[8, 16, 200, {width}]"), layers);
            all(&mut draft, machine);
            kernel(&draft, "a").schedule.streaming
        };
        assert!(is_streamed(256, &Machine::AVX2));
        assert!(!is_streamed(252, &Machine::AVX2));
    }

    #[test]
    fn short_lines_are_folded_by_two() {
        let softmax = schedules("[6, 40]", r#"Softmax(name: "a", dim: -1)"#, "a", &Machine::AVX512);
        assert!(softmax.contains("tile 0 by 2"), "{softmax}");
    }

    #[test]
    fn places_of_the_greatest_are_found_by_vectors() {
        let layers = r#"Conv2d(out: 8, kernel_size: 1), ArgMax(name: "a", dim: 1)"#;
        let schedule = schedules("[1, 3, 5, 5]", layers, "a", &Machine::PORTABLE);
        assert!(schedule.contains("vector"), "{schedule}");
    }
}
