//! The loop nest of a kernel, one point at a time: outer loops, folds, stores.

use super::leaf::Starts;
use super::leaf::build::{self, Base, Gather, Tile, Variant};
use super::module::CodeModule;
use super::{Leaves, Recipe};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Function, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::Module;
use fusewright_ir::kernel::{Axis, Combine, FoldKind, ScalarId, Space};
use fusewright_ir::plan::edges::Edges;
use fusewright_ir::tensor::DType;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::ops::Range;

/// The state of emitting one nest.
pub struct Emitter<'a, 'f> {
    pub(super) recipe: &'a Recipe,
    pub(super) module: &'a mut CodeModule,
    pub(super) b: FunctionBuilder<'f>,
    /// The address of the first element of each slot, halo included.
    pub(super) bases: Vec<Value>,
    /// The positions of the loops that are open, by axis.
    pub(super) axes: Vec<Option<Value>>,
    /// The results of the folds done so far.
    pub(super) folded: Vec<SmallVec<[Value; 2]>>,
    /// Scalars computed at the point at hand.
    pub(super) known: FxHashMap<ScalarId, Value>,
    /// The extents of the axes of the fold or store at hand.
    pub(super) extents: Space,
    /// The axis whose neighbours share a vector; none where points are computed one at a time.
    pub(super) lane: Option<Axis>,
    /// The edges that loads cross, where points share vectors.
    pub(super) edges: Edges,
    /// The points of the tile at hand along each outer axis.
    pub(super) tile: Tile,
    /// Where that tile starts.
    pub(super) starts: Vec<Starts>,
    pub(super) leaves: &'a mut Leaves,
    /// The thread's scratch.
    scratch: Value,
    /// The loop whose first tile gathers what the others read, where the nest gathers.
    again: Option<Axis>,
    /// What the leaf at hand does with it.
    gather: Option<Gather>,
    /// Whether the result is aligned, where its vectors pass by the caches if it is.
    pub(super) streams: Option<Value>,
    /// Loads with a computed index met so far: their numbers are the nest's results.
    pub(super) checked_loads: u32,
}

/// The tiles of an outer axis.
struct Partition {
    extent: usize,
    /// Points of a whole tile.
    step: usize,
    /// Points in whole tiles.
    whole: usize,
    /// Those of whole tiles that are run alike, in order.
    kinds: SmallVec<[Range<usize>; 8]>,
}

/// Emits the function of a recipe into `func`, whose signature is set.
///
/// # Errors
/// Where the module refuses a table of constants.
pub fn emit(
    recipe: &Recipe,
    module: &mut CodeModule,
    leaves: &mut Leaves,
    func: &mut Function,
    frontend: &mut FunctionBuilderContext,
) -> Result<(), String> {
    let target = module.jit.target_config();
    let mut b = FunctionBuilder::new(func, frontend);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let parameters = b.block_params(entry).to_vec();
    let load = |b: &mut FunctionBuilder, i: usize| {
        b.ins().load(types::I64, MemFlagsData::trusted().with_readonly().with_can_move(), parameters[0], 8 * i as i32)
    };
    let bases = (0..recipe.slots.len()).map(|i| load(&mut b, i)).collect();
    let n_inner = recipe.kernel.folds.iter().map(|fold| fold.inner.len());
    let n_inner = n_inner.chain(recipe.kernel.stores.iter().map(|store| store.inner.len())).max().unwrap_or(0);
    let (lane, edges) = build::lane_axis(recipe).unzip();
    let edges = edges.unwrap_or_default();
    let mut emitter = Emitter {
        recipe,
        module,
        b,
        bases,
        axes: vec![None; recipe.kernel.outer.len() + n_inner],
        folded: Vec::new(),
        known: FxHashMap::default(),
        extents: Space::new(),
        again: lane.and_then(|lane| build::may_gather(recipe, lane, &edges)),
        lane,
        edges,
        tile: Tile::from_elem(1, recipe.kernel.outer.len()),
        starts: vec![Starts::at(0); recipe.kernel.outer.len()],
        leaves,
        scratch: parameters[1],
        gather: None,
        streams: None,
        checked_loads: 0,
    };
    emitter.streams = emitter.alignment();
    let order = recipe.schedule.order.clone();
    match order.split_first() {
        // A kernel without outer axes has one point: position 0 of a parallel axis of length 1.
        None => {
            emitter.fold_range((parameters[2], parameters[3], 1), &[], |e, _, _| {
                e.point();
                Vec::new()
            });
        }
        Some((&first, rest)) => emitter.parallel(first, rest, parameters[2], parameters[3]),
    }
    if emitter.streams.is_some() {
        // What passed by the caches is seen by other threads from here on.
        emitter.b.ins().fence();
    }
    let fine = emitter.b.ins().iconst(types::I32, 0);
    emitter.b.ins().return_(&[fine]);
    emitter.b.seal_all_blocks();
    emitter.b.finalize(target);
    Ok(())
}

impl Emitter<'_, '_> {
    /// The loop over the parallel axis: a part of its range, which begins at a multiple of the tile and ends at one, or
    /// at the end of the axis.
    fn parallel(&mut self, axis: Axis, rest: &[Axis], begin: Value, end: Value) {
        let part = self.partition(axis);
        for points in &part.kinds {
            if points.len() == part.step {
                self.when_between(begin, end, points.start, |e| e.tile_at(axis, rest, points.start, part.step));
                continue;
            }
            let bounds = [points.start, points.end].map(|n| self.b.ins().iconst(types::I64, n as i64));
            let from = self.b.ins().smax(begin, bounds[0]);
            let until = self.b.ins().smin(end, bounds[1]);
            self.tiles_between(axis, rest, (from, until), points, part.step);
        }
        if part.whole < part.extent {
            let reaches_end = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, end, part.whole as i64);
            self.when(reaches_end, |e| e.tile_at(axis, rest, part.whole, part.extent - part.whole));
        }
    }

    fn outer(&mut self, order: &[Axis]) {
        let Some((&axis, rest)) = order.split_first() else { return self.tile_or_point() };
        let part = self.partition(axis);
        for points in &part.kinds {
            if points.len() == part.step {
                self.tile_at(axis, rest, points.start, part.step);
                continue;
            }
            let bounds = [points.start, points.end].map(|n| self.b.ins().iconst(types::I64, n as i64));
            self.tiles_between(axis, rest, (bounds[0], bounds[1]), points, part.step);
        }
        if part.whole < part.extent {
            self.tile_at(axis, rest, part.whole, part.extent - part.whole);
        }
    }

    /// The tiles of an axis, those apart that find other elements inside of what they load.
    fn partition(&self, axis: Axis) -> Partition {
        let extent = self.recipe.kernel.outer[axis.0 as usize];
        let step = self.step(axis);
        let tiles = extent / step;
        let mut kinds = self.edges.kinds(axis, extent, step).expect("the schedule fits the edges");
        if self.again == Some(axis) && tiles > 1 {
            let last = tiles - build::TILES_AHEAD.min(tiles - 1);
            let middle = (last > 1).then_some(1..last);
            kinds = std::iter::once(0..1).chain(middle).chain((last..tiles).map(|tile| tile..tile + 1)).collect();
        }
        kinds.iter_mut().for_each(|tiles| *tiles = tiles.start * step..tiles.end * step);
        Partition { extent, step, whole: tiles * step, kinds }
    }

    /// A loop over tiles of `step` points that are all alike.
    fn tiles_between(
        &mut self,
        axis: Axis,
        rest: &[Axis],
        (from, until): (Value, Value),
        points: &Range<usize>,
        step: usize,
    ) {
        self.tile[axis.0 as usize] = step;
        self.starts[axis.0 as usize] = Starts { low: points.start as i64, high: (points.end - step) as i64 };
        if self.again == Some(axis) {
            self.gather = Some(Gather::Again);
        }
        self.fold_range((from, until, step as i64), &[], |e, position, _| {
            e.axes[axis.0 as usize] = Some(position);
            e.outer(rest);
            Vec::new()
        });
    }

    /// One tile of `points` points.
    fn tile_at(&mut self, axis: Axis, rest: &[Axis], start: usize, points: usize) {
        self.axes[axis.0 as usize] = Some(self.b.ins().iconst(types::I64, start as i64));
        self.tile[axis.0 as usize] = points;
        self.starts[axis.0 as usize] = Starts::at(start);
        if self.again == Some(axis) {
            let extent = self.recipe.kernel.outer[axis.0 as usize];
            let is_ahead = start + (build::TILES_AHEAD + 1) * points > extent;
            self.gather = Some(match start {
                0 => Gather::Keep,
                _ if is_ahead => Gather::Ahead,
                _ => Gather::Again,
            });
        }
        self.outer(rest);
    }

    fn when_between(&mut self, begin: Value, end: Value, place: usize, body: impl FnOnce(&mut Self)) {
        let begun = self.b.ins().icmp_imm_s(IntCC::SignedLessThanOrEqual, begin, place as i64);
        let open = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, end, place as i64);
        let both = self.b.ins().band(begun, open);
        self.when(both, body);
    }

    /// The points of a whole tile along an axis.
    fn step(&self, axis: Axis) -> usize {
        if self.lane.is_none() {
            return 1;
        }
        let schedule = &self.recipe.schedule;
        let is_short = |outer: Axis| self.edges.is_empty() && self.tile[outer.0 as usize] < schedule.tile_size(outer);
        schedule.tile_size_where(is_short, axis)
    }

    fn tile_or_point(&mut self) {
        let Some(lane) = self.lane else { return self.point() };
        let Some(aligned) = self.streams else { return self.leaf(lane, false) };
        // Vectors of one kind each: the leaf that streams needs an aligned result.
        self.when(aligned, |e| e.leaf(lane, true));
        let other = self.b.ins().bxor_imm_u(aligned, 1);
        self.when(other, |e| e.leaf(lane, false));
    }

    /// Whether the result lies such that its vectors may stream: a multiple of 16 bytes, and the same at every tile.
    fn alignment(&mut self) -> Option<Value> {
        let recipe = self.recipe;
        let lane = self.lane.filter(|_| recipe.schedule.streaming && self.leaves.streams())?;
        let store = recipe.kernel.stores.first()?;
        let slot = &recipe.slots[store.buffer.0 as usize];
        let whole = |elements: usize| elements.is_multiple_of(4);
        let strides = slot.layout.strides(&slot.dims);
        let lanes_are_whole = whole(recipe.schedule.tile_size(lane));
        let rows_are_whole = store.at.iter().zip(&strides).all(|(index, &stride)| {
            index.as_affine().is_some_and(|form| {
                form.terms.iter().all(|&(axis, k)| axis == lane || whole(stride * k.unsigned_abs() as usize))
                    && whole(stride * form.offset.unsigned_abs() as usize)
            })
        });
        if !(lanes_are_whole && rows_are_whole && whole(slot.layout.origin(&slot.dims))) {
            return None;
        }
        let base = self.bases[store.buffer.0 as usize];
        let low = self.b.ins().band_imm_u(base, 15);
        Some(self.b.ins().icmp_imm_s(IntCC::Equal, low, 0))
    }

    fn leaf(&mut self, lane: Axis, streaming: bool) {
        let variant = Variant { streaming, gather: self.gather };
        let built =
            build::build(self.recipe, (lane, &self.edges), &self.tile, &self.starts, self.leaves.width(), variant);
        let id = self.leaves.function(self.module, built.leaf);
        let function = self.module.jit.declare_func_in_func(id, self.b.func);
        let arguments: Vec<Value> = built
            .parameters
            .iter()
            .map(|parameter| {
                let mut value = match parameter.base {
                    Base::Zero => self.b.ins().iconst(types::I64, 0),
                    Base::Slot(slot) => self.bases[slot],
                    Base::Scratch => self.scratch,
                };
                for &(axis, k) in &parameter.terms {
                    let position = self.axes[axis.0 as usize].expect("the loop is open");
                    let term = self.b.ins().imul_imm_s(position, k);
                    value = self.b.ins().iadd(value, term);
                }
                value
            })
            .collect();
        self.b.ins().call(function, &arguments);
    }

    /// Folds and stores at one point of the outer space.
    fn point(&mut self) {
        let recipe = self.recipe;
        let n_outer = recipe.kernel.outer.len() as u32;
        for (i, fold) in recipe.kernel.folds.iter().enumerate() {
            self.extents = recipe.kernel.space(&fold.inner);
            let order = recipe.schedule.fold_orders[i].clone();
            let results = self.fold(&order, fold.kind, fold.value, &fold.inner);
            self.folded.push(results);
            self.known.clear();
        }
        for store in &recipe.kernel.stores {
            self.extents = recipe.kernel.space(&store.inner);
            let order: Vec<Axis> = (n_outer..n_outer + store.inner.len() as u32).map(Axis).collect();
            self.inner(&order, &[], &mut |e, _| {
                e.known.clear();
                let value = e.scalar(store.value);
                let (address, offset) = e.address(store.buffer, &store.at);
                let value = match (store.combine, e.recipe.slots[store.buffer.0 as usize].dtype) {
                    (Combine::Set, _) => value,
                    (Combine::Add, dtype) => {
                        let ty = super::scalar::clif_type(dtype);
                        let old = e.b.ins().load(ty, MemFlagsData::trusted(), address, offset);
                        if dtype.is_float() { e.b.ins().fadd(old, value) } else { e.b.ins().iadd(old, value) }
                    }
                };
                e.b.ins().store(MemFlagsData::trusted(), value, address, offset);
                Vec::new()
            });
        }
        self.known.clear();
        self.folded.clear();
    }

    /// Loops over `order`, carrying values.
    fn inner(
        &mut self,
        order: &[Axis],
        carried: &[Value],
        body: &mut dyn FnMut(&mut Self, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let Some((&axis, rest)) = order.split_first() else { return body(self, carried) };
        let extent = self.extents[axis.0 as usize];
        self.fold_extent(extent, carried, |e, position, carried| {
            e.axes[axis.0 as usize] = Some(position);
            e.inner(rest, carried, body)
        })
    }

    fn fold(&mut self, order: &[Axis], kind: FoldKind, value: ScalarId, inner: &Space) -> SmallVec<[Value; 2]> {
        let dtype = self.recipe.kernel.body.dtype(value);
        match kind {
            FoldKind::Sum | FoldKind::Product | FoldKind::Max | FoldKind::Min => {
                let start = self.start_of(kind, dtype);
                let result = self.inner(order, &[start], &mut |e, carried| {
                    e.known.clear();
                    let value = e.scalar(value);
                    vec![e.combine(kind, dtype, carried[0], value)]
                });
                result.into_iter().collect()
            }
            FoldKind::ArgMax | FoldKind::ArgMin => {
                let start = self.start_of(if kind == FoldKind::ArgMax { FoldKind::Max } else { FoldKind::Min }, dtype);
                let zero = self.b.ins().iconst(types::I64, 0);
                let result = self.inner(order, &[start, zero], &mut |e, carried| {
                    e.known.clear();
                    let value = e.scalar(value);
                    let better = e.is_better(kind == FoldKind::ArgMax, dtype, value, carried[0]);
                    let place = e.flat_position(inner);
                    let best = e.b.ins().select(better, value, carried[0]);
                    vec![best, e.b.ins().select(better, place, carried[1])]
                });
                result.into_iter().collect()
            }
            // Two passes: the mean, then the squares of the distances from it.
            FoldKind::Moments => {
                let zero = self.b.ins().f32const(0.0);
                let sum = self.inner(order, &[zero], &mut |e, carried| {
                    e.known.clear();
                    let value = e.scalar(value);
                    vec![e.b.ins().fadd(carried[0], value)]
                });
                let count = inner.iter().product::<usize>().max(1);
                let count = self.b.ins().f32const(count as f32);
                let mean = self.b.ins().fdiv(sum[0], count);
                let squares = self.inner(order, &[zero], &mut |e, carried| {
                    e.known.clear();
                    let value = e.scalar(value);
                    let distance = e.b.ins().fsub(value, mean);
                    let square = e.b.ins().fmul(distance, distance);
                    vec![e.b.ins().fadd(carried[0], square)]
                });
                [mean, squares[0]].into_iter().collect()
            }
        }
    }

    /// The place of the point at hand in the flattened inner space.
    fn flat_position(&mut self, inner: &Space) -> Value {
        let n_outer = self.recipe.kernel.outer.len();
        let mut place = self.b.ins().iconst(types::I64, 0);
        for (i, &extent) in inner.iter().enumerate() {
            let position = self.axes[n_outer + i].expect("the loop is open");
            let scaled = self.b.ins().imul_imm_s(place, extent as i64);
            place = self.b.ins().iadd(scaled, position);
        }
        place
    }

    fn start_of(&mut self, kind: FoldKind, dtype: DType) -> Value {
        let (low, high) = match dtype {
            DType::F32 | DType::F64 => (f64::NEG_INFINITY, f64::INFINITY),
            DType::I64 => return self.integer_start(kind, i64::MIN, i64::MAX),
            DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            DType::U32 => (0.0, f64::from(u32::MAX)),
            DType::U8 => (0.0, 255.0),
            DType::Bool => (0.0, 1.0),
        };
        let start = match kind {
            FoldKind::Max | FoldKind::ArgMax => low,
            FoldKind::Min | FoldKind::ArgMin => high,
            FoldKind::Product => 1.0,
            FoldKind::Sum | FoldKind::Moments => 0.0,
        };
        self.literal(fusewright_ir::kernel::Literal::of(dtype, start))
    }

    fn integer_start(&mut self, kind: FoldKind, low: i64, high: i64) -> Value {
        let start = match kind {
            FoldKind::Max | FoldKind::ArgMax => low,
            FoldKind::Min | FoldKind::ArgMin => high,
            FoldKind::Product => 1,
            FoldKind::Sum | FoldKind::Moments => 0,
        };
        self.b.ins().iconst(types::I64, start)
    }
}
