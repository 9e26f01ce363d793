//! Kernel, schedule and tile to a leaf.
//!
//! Each load is a vector, a broadcast or a strided access along the lane axis, and is shared by all points of the tile
//! that it does not depend on. A matrix-multiplication micro-kernel is what falls out when a sum runs over a product of
//! two loads.

mod ahead;
mod forms;
mod kept;
mod memory;
mod values;

pub use forms::{lane_axis, may_gather};

use super::lanes::Writer;
use super::{Binary, Leaf, LoopId, Mask, Reduction, Starts, Vector};
use crate::codegen::Recipe;
use forms::{Linear, linear};
use fusewright_ir::kernel::{Affine, Axis, BinaryOp, BufferId, FoldKind, Index, Scalar, ScalarId, Space};
use fusewright_ir::plan::Schedule;
use fusewright_ir::plan::access::{Gathered, Shared, alternating, gathered, shared};
use fusewright_ir::plan::edges::Edges;
use kept::kept;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

/// A leaf and what its parameters are.
#[derive(Clone, Debug)]
pub struct Built {
    /// The code.
    pub leaf: Leaf,
    /// One form a parameter, over the outer axes at the tile's first point.
    pub parameters: Vec<Parameter>,
}

/// A linear form of outer axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What is added to it.
    pub base: Base,
    /// Coefficients: bytes where there is an address.
    pub terms: Vec<(Axis, i64)>,
}

/// What a parameter begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing: it is a position.
    Zero,
    /// The address of a slot.
    Slot(usize),
    /// The address of the thread's scratch.
    Scratch,
}

/// What a leaf does with the load that its nest gathers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Reads it where it lies, and keeps it.
    Keep,
    /// Reads what was kept.
    Again,
    /// Reads what was kept, and asks for what the nest gathers next, at the lanes behind these.
    Ahead,
}

/// The tiles that share in that: the last along their loop.
pub const TILES_AHEAD: usize = 4;

/// The points of a tile along each outer axis; 1 along most.
pub type Tile = SmallVec<[usize; 6]>;

/// A point of a tile: offsets along the outer axes, and the vector along an inner lane axis.
type Point = SmallVec<[u32; 8]>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Vector(Vector),
    Mask(Mask),
}

/// Where the loop over an inner axis stands.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// `loop step * stride + offset`.
    Loop { id: LoopId, stride: i64, offset: i64 },
    /// A number.
    At(i64),
}

/// How a leaf differs from others of its tile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variant {
    /// Whether the first store passes by the caches.
    pub streaming: bool,
    /// What is gathered, where something is.
    pub gather: Option<Gather>,
}

/// Writes the leaf of a tile that starts within `starts` along each outer axis; `lane` and `edges` are those of
/// [`lane_axis`].
pub fn build(
    recipe: &Recipe,
    (lane, edges): (Axis, &Edges),
    tile: &Tile,
    starts: &[Starts],
    width: usize,
    Variant { streaming, gather }: Variant,
) -> Built {
    let n_outer = recipe.kernel.outer.len();
    let mut builder = Builder {
        recipe,
        writer: Writer::new(width),
        lane,
        tile,
        starts,
        streaming,
        gather: gather.and_then(|gather| Some((gather, gathered(&recipe.kernel, &recipe.schedule)?))),
        shared: recipe.schedule.ahead.then(|| shared(&recipe.kernel, &recipe.schedule)).flatten(),
        edges,
        parameters: Vec::new(),
        positions: vec![Position::At(0); n_outer + MOST_INNER],
        scopes: vec![FxHashMap::default()],
        folded: FxHashMap::default(),
        depends: dependencies(recipe),
        lanes: width,
        pairs: pairs(recipe, lane),
        kept: kept(recipe, lane),
        stretch: Stretch { begin: 0, length: tile.get(lane.0 as usize).copied().unwrap_or(1), step: None },
    };
    for fold in 0..recipe.kernel.folds.len() {
        builder.fold(fold);
    }
    builder.stores();
    Built { leaf: builder.writer.finish(), parameters: builder.parameters }
}

/// The points of a tile along an outer lane axis that are computed together.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    begin: usize,
    length: usize,
    /// The loop that repeats it, and the points from one step to the next.
    step: Option<(LoopId, i64)>,
}

/// More inner axes than any kernel has.
const MOST_INNER: usize = 16;

/// Handles one vector along an inner lane axis: its chain, and the carried values, which it gives anew.
type ChainBody<'b, B> = dyn FnMut(&mut B, usize, &[Vector]) -> Vec<Vector> + 'b;

/// Vectors in flight along an inner lane axis, so that additions overlap.
const CHAINS: usize = 4;

/// The stores of a kernel by pairs, where they alternate along an outer lane axis.
fn pairs(recipe: &Recipe, lane: Axis) -> Vec<(usize, usize)> {
    let kernel = &recipe.kernel;
    let layout = |id: BufferId| {
        let slot = &recipe.slots[id.0 as usize];
        (&slot.layout, slot.dims.as_slice())
    };
    let may_be = (lane.0 as usize) < kernel.outer.len() && kernel.stores.iter().all(|store| store.inner.is_empty());
    alternating(kernel, lane, layout).filter(|_| may_be).unwrap_or_default()
}

/// For each scalar the axes it depends on, a bit each.
fn dependencies(recipe: &Recipe) -> Vec<u64> {
    let kernel = &recipe.kernel;
    let outer_mask = (1u64 << kernel.outer.len()) - 1;
    let mut depends: Vec<u64> = vec![0; kernel.body.len()];
    let bits = |affine: &Affine| affine.terms.iter().fold(0u64, |bits, (axis, _)| bits | 1 << axis.0);
    for (id, scalar) in kernel.body.iter() {
        let own = match scalar {
            Scalar::Position(affine) => bits(affine),
            Scalar::Load { at, .. } => at.iter().filter_map(Index::as_affine).fold(0, |all, affine| all | bits(affine)),
            Scalar::Folded { fold, .. } => match kernel.folds.get(*fold as usize) {
                Some(fold) => depends[fold.value.0 as usize] & outer_mask,
                None => 0,
            },
            _ => 0,
        };
        let operands = scalar.operands();
        depends[id.0 as usize] = operands.iter().fold(own, |all, operand| all | depends[operand.0 as usize]);
    }
    depends
}

struct Builder<'a> {
    recipe: &'a Recipe,
    writer: Writer,
    lane: Axis,
    tile: &'a Tile,
    /// Where the tile starts along each outer axis.
    starts: &'a [Starts],
    streaming: bool,
    gather: Option<(Gather, Gathered<'a>)>,
    /// What of the next block of lanes is asked for.
    shared: Option<Shared<'a>>,
    edges: &'a Edges,
    /// Stores that fill rows together.
    pairs: Vec<(usize, usize)>,
    /// What the last fold keeps for a store.
    kept: Option<ScalarId>,
    parameters: Vec<Parameter>,
    /// By axis; those of outer axes stay 0: they are in the parameters.
    positions: Vec<Position>,
    /// Values known in each open loop, the outermost first.
    scopes: Vec<FxHashMap<(ScalarId, Point), Value>>,
    folded: FxHashMap<(u32, u32, Point), Vector>,
    depends: Vec<u64>,
    /// Lanes in use of the vector at hand, along an inner lane axis.
    lanes: usize,
    stretch: Stretch,
}

impl Builder<'_> {
    fn n_outer(&self) -> usize {
        self.recipe.kernel.outer.len()
    }

    fn lane_is_inner(&self) -> bool {
        self.lane.0 as usize >= self.n_outer()
    }

    /// All points of the tile: one for each vector.
    fn points(&self) -> Vec<Point> {
        let mut points = vec![Point::from_elem(0, self.n_outer() + 1)];
        // Vectors of one row are neighbours: what is the same along them is needed for a short time only.
        let lane = self.lane.0 as usize;
        let others = (0..self.tile.len()).filter(|&axis| axis != lane);
        for axis in others.chain((lane < self.tile.len()).then_some(lane)) {
            let size = self.tile[axis];
            let (range, step) = match axis == self.lane.0 as usize {
                true => (self.stretch.begin..self.stretch.begin + self.stretch.length, self.writer.width()),
                false => (0..size, 1),
            };
            points = points
                .iter()
                .flat_map(|point| {
                    range.clone().step_by(step).map(move |i| {
                        let mut next = point.clone();
                        next[axis] = i as u32;
                        next
                    })
                })
                .collect();
        }
        points
    }

    /// The point as far as a scalar depends on it.
    fn projected(&self, id: ScalarId, point: &Point) -> Point {
        let depends = self.depends[id.0 as usize];
        let mut projected = point.clone();
        for axis in 0..self.n_outer() {
            if depends >> axis & 1 == 0 {
                projected[axis] = 0;
            }
        }
        if !self.lane_is_inner() || depends >> self.lane.0 & 1 == 0 {
            projected[self.n_outer()] = 0;
        }
        projected
    }

    fn fold(&mut self, number: usize) {
        let recipe = self.recipe;
        let fold = &recipe.kernel.folds[number];
        let results: Vec<SmallVec<[Vector; 2]>> = match fold.kind {
            FoldKind::Moments => {
                let count = fold.inner.iter().product::<usize>().max(1);
                let sums = self.sweep(number, FoldKind::Sum, None);
                let count = self.writer.number(count as f32);
                let means: Vec<Vector> = sums.iter().map(|&sum| self.writer.binary(Binary::Div, sum, count)).collect();
                let squares = self.sweep(number, FoldKind::Sum, Some(&means));
                means.into_iter().zip(squares).map(|(mean, square)| [mean, square].into_iter().collect()).collect()
            }
            kind => {
                let parts = self.sweep(number, kind, None);
                parts.into_iter().map(|part| [part].into_iter().collect()).collect()
            }
        };
        // A fold that does not depend on a tile axis gives the same at all its points.
        for (point, parts) in self.points().into_iter().zip(results) {
            let point = self.fold_point(number as u32, &point);
            for (part, vector) in parts.into_iter().enumerate() {
                self.folded.insert((number as u32, part as u32, point.clone()), vector);
            }
        }
    }

    fn fold_point(&self, number: u32, point: &Point) -> Point {
        let mut point = self.projected(self.recipe.kernel.folds[number as usize].value, point);
        point[self.n_outer()] = 0;
        point
    }

    /// Folds the values of fold `number` for every point of the tile; with `means`, the squares of the distances from them.
    fn sweep(&mut self, number: usize, kind: FoldKind, means: Option<&[Vector]>) -> Vec<Vector> {
        let recipe = self.recipe;
        let (inner, order) = (&recipe.kernel.folds[number].inner, &recipe.schedule.fold_orders[number]);
        let value = recipe.kernel.folds[number].value;
        let keeps = number + 1 == recipe.kernel.folds.len() && means.is_none();
        let points = self.points();
        let identity = self.writer.number(match kind {
            FoldKind::Max => f32::NEG_INFINITY,
            FoldKind::Min => f32::INFINITY,
            FoldKind::Product => 1.0,
            _ => 0.0,
        });
        if inner.contains(&0) {
            return vec![identity; points.len()];
        }
        if !self.lane_is_inner() {
            let starts = vec![identity; points.len()];
            let begin = self.writer.place();
            let turns = self.turns(value, &points);
            let sums = self.loops(inner, order, &[value], &starts, &mut |builder, carried| {
                let mut sums = carried.to_vec();
                for &i in &turns {
                    sums[i] = builder.accumulate(kind, sums[i], value, &points[i], means.map(|means| means[i]));
                }
                sums
            });
            self.writer.add_by_element(begin);
            return sums;
        }
        // Along an inner lane axis: several chains of vectors, combined at the end.
        let extent = inner[inner.len() - 1];
        let width = self.writer.width();
        let chains = (extent / width).clamp(1, CHAINS);
        let others: SmallVec<[Axis; 6]> = order.iter().copied().filter(|&axis| axis != self.lane).collect();
        let starts = vec![identity; points.len() * chains];
        let kept = self.kept.filter(|_| keeps);
        let results = self.loops(inner, &others, &[value], &starts, &mut |builder, carried| {
            builder.along_lanes(extent, chains, &[value], carried, &mut |builder, chain, carried| {
                let mut next = carried.to_vec();
                for (i, point) in points.iter().enumerate() {
                    let mut point = point.clone();
                    point[builder.n_outer()] = chain as u32;
                    let slot = i * chains + chain;
                    let mean = means.map(|means| means[i]);
                    let full = builder.accumulate(kind, carried[slot], value, &point, mean);
                    next[slot] = builder.writer.blend(builder.lanes, full, carried[slot]);
                    if let Some(kept) = kept {
                        builder.keep(kept, &point);
                    }
                }
                next
            })
        });
        let reduction = match kind {
            FoldKind::Product => Reduction::Product,
            FoldKind::Max => Reduction::Max,
            FoldKind::Min => Reduction::Min,
            _ => Reduction::Sum,
        };
        results
            .chunks(chains)
            .map(|chunk| {
                let all = chunk[1..].iter().fold(chunk[0], |all, &part| self.combine(kind, all, part));
                self.writer.reduce(reduction, all)
            })
            .collect()
    }

    /// In which order sums are added to, vectors along an outer lane axis. What more than one of them needs stays in registers: the
    /// vectors of a row, or, where rows are fewer than these, the element that all lanes of a row take.
    fn turns(&self, value: ScalarId, points: &[Point]) -> Vec<usize> {
        let (lane, body) = (self.lane.0 as usize, &self.recipe.kernel.body);
        let vectors = self.tile[lane].div_ceil(self.writer.width());
        let rows = (0..self.tile.len())
            .filter(|&axis| axis != lane && self.tile[axis] > 1)
            .fold(0, |bits, axis| bits | 1 << axis);
        let is_of_a_row = |id: &ScalarId| {
            let depends = self.depends[id.0 as usize];
            matches!(body.get(*id), Scalar::Load { .. }) && depends >> lane & 1 == 0 && depends & rows != 0
        };
        let mut turns: Vec<usize> = (0..points.len()).collect();
        if points.len() < vectors * vectors && body.reachable([value]).iter().any(is_of_a_row) {
            turns.sort_by_key(|&i| points[i][lane]);
        }
        turns
    }

    fn accumulate(
        &mut self,
        kind: FoldKind,
        sum: Vector,
        value: ScalarId,
        point: &Point,
        mean: Option<Vector>,
    ) -> Vector {
        if let Some(mean) = mean {
            let value = self.vector(value, point);
            let distance = self.writer.binary(Binary::Sub, value, mean);
            return self.writer.fused(distance, distance, sum);
        }
        if let (FoldKind::Sum, Scalar::Binary(BinaryOp::Mul, a, b)) = (kind, self.recipe.kernel.body.get(value)) {
            let (a, b) = (self.vector(*a, point), self.vector(*b, point));
            return self.writer.fused(a, b, sum);
        }
        let value = self.vector(value, point);
        self.combine(kind, sum, value)
    }

    fn combine(&mut self, kind: FoldKind, a: Vector, b: Vector) -> Vector {
        match kind {
            FoldKind::Product => self.writer.binary(Binary::Mul, a, b),
            FoldKind::Max | FoldKind::Min => self.writer.extreme(kind == FoldKind::Max, a, b),
            _ => self.writer.binary(Binary::Add, a, b),
        }
    }

    /// All stores. Where nothing is folded, a long tile along an outer lane axis is a loop over a few vectors.
    fn stores(&mut self) {
        let kernel = &self.recipe.kernel;
        // Many results of one vector leave no registers for a second.
        let many = kernel.folds.is_empty()
            && self.pairs.is_empty()
            && kernel.stores.len() > CHAINS
            && kernel.stores.iter().all(|store| store.inner.is_empty());
        let (length, chunk) = (self.stretch.length, if many { 1 } else { CHAINS } * self.writer.width());
        let all = |builder: &mut Self| match many {
            true => builder.stores_in_order(),
            false => (0..kernel.stores.len()).for_each(|number| builder.store(number)),
        };
        if self.lane_is_inner() || !kernel.folds.is_empty() || length <= chunk || !self.edges.is_empty() {
            return all(self);
        }
        let roots: Vec<ScalarId> = kernel.stores.iter().map(|store| store.value).collect();
        self.stretch = Stretch { begin: 0, length: chunk, step: None };
        if kernel.stores.iter().all(|store| store.inner.is_empty()) {
            let lane = [self.lane];
            self.hoist(&roots, &lane);
        }
        let part = |builder: &mut Self, stretch: Stretch| {
            builder.stretch = stretch;
            builder.scopes.push(FxHashMap::default());
            all(builder);
            builder.scopes.pop();
        };
        let steps = length / chunk;
        if steps == 1 {
            part(self, self.stretch);
        } else {
            let (id, _) = self.writer.begin_loop(&[]);
            part(self, Stretch { step: Some((id, chunk as i64)), ..self.stretch });
            self.writer.end_loop(id, steps as u64, &[], &[], &[]);
        }
        if !length.is_multiple_of(chunk) {
            part(self, Stretch { begin: steps * chunk, length: length % chunk, step: None });
        }
    }

    /// Scalars in the order in which the kernel lists them, each stored as soon as it is known: whoever wrote the kernel
    /// put them so that few are needed at a time.
    fn stores_in_order(&mut self) {
        let kernel = &self.recipe.kernel;
        let mut stored: FxHashMap<ScalarId, Vec<(usize, Linear)>> = FxHashMap::default();
        for (number, store) in kernel.stores.iter().enumerate() {
            let form = linear(self.recipe, self.lane, store.buffer, &store.at).expect("checked by supported");
            stored.entry(store.value).or_default().push((number, form));
        }
        let values = kernel.body.reachable(kernel.stores.iter().map(|store| store.value));
        for point in self.points() {
            for &id in values.iter().filter(|id| !matches!(kernel.body.get(**id), Scalar::Const(_))) {
                self.value(id, &point);
                for (number, form) in stored.get(&id).into_iter().flatten() {
                    let value = self.vector(id, &point);
                    self.write(*number, form, kernel.stores[*number].buffer, value, &point);
                }
            }
        }
        for (number, store) in kernel.stores.iter().enumerate() {
            if matches!(kernel.body.get(store.value), Scalar::Const(_)) {
                self.store(number);
            }
        }
    }

    fn store(&mut self, number: usize) {
        let store = &self.recipe.kernel.stores[number];
        if store.inner.contains(&0) {
            return;
        }
        let n_outer = self.n_outer() as u32;
        let mut order: Vec<Axis> = (n_outer..n_outer + store.inner.len() as u32).map(Axis).collect();
        let form = linear(self.recipe, self.lane, store.buffer, &store.at).expect("checked by supported");
        let points = self.points();
        if let Some(&(first, second)) = self.pairs.iter().find(|(first, second)| [*first, *second].contains(&number)) {
            // The first of a pair stores both.
            if number == first {
                self.store_pair(&form, [first, second], &points);
            }
            return;
        }
        if !self.lane_is_inner() || store.inner.is_empty() {
            let along = self.transposed_axis(&form).filter(|_| store.inner.is_empty());
            // Where something is summed, the sums have the registers.
            let is_woven = along.is_none() && store.inner.is_empty() && self.recipe.kernel.folds.is_empty();
            self.loops(&store.inner, &order, &[store.value], &[], &mut |builder, _| {
                let mut runs = Vec::new();
                for point in &points {
                    runs.push(builder.writer.place());
                    if let Some(along) = along {
                        let square = builder.square(point, along);
                        // The last point of a square stores all of it.
                        if square.last() == Some(point) {
                            let values: Vec<Vector> =
                                square.iter().map(|point| builder.vector(store.value, point)).collect();
                            builder.write_transposed(&form, store.buffer, &values, &square);
                        }
                        continue;
                    }
                    let value = builder.vector(store.value, point);
                    builder.write(number, &form, store.buffer, value, point);
                }
                if is_woven {
                    builder.writer.weave(&runs);
                }
                Vec::new()
            });
            return;
        }
        order.retain(|&axis| axis != self.lane);
        let extent = store.inner[store.inner.len() - 1];
        let chains = (extent / self.writer.width()).clamp(1, CHAINS);
        self.loops(&store.inner, &order, &[store.value], &[], &mut |builder, _| {
            builder.along_lanes(extent, chains, &[store.value], &[], &mut |builder, chain, _| {
                for point in &points {
                    let mut point = point.clone();
                    point[builder.n_outer()] = chain as u32;
                    if let Some(kept) = builder.kept {
                        builder.find_kept(kept, &point);
                    }
                    let value = builder.vector(store.value, &point);
                    builder.write(number, &form, store.buffer, value, &point);
                }
                Vec::new()
            })
        });
    }

    /// A store, whose form is given, and the one that writes the elements between its own: together they fill a row.
    fn store_pair(&mut self, form: &Linear, pair: [usize; 2], points: &[Point]) {
        let stores = &self.recipe.kernel.stores;
        for point in points {
            let values = pair.map(|number| self.vector(stores[number].value, point));
            self.write_pair(form, stores[pair[0]].buffer, values, point);
        }
    }

    /// Loops over the axes of `order` with values carried through all of them; short loops are written out. What `roots`
    /// need that does not depend on a loop is computed before it.
    fn loops(
        &mut self,
        inner: &Space,
        order: &[Axis],
        roots: &[ScalarId],
        starts: &[Vector],
        body: &mut dyn FnMut(&mut Self, &[Vector]) -> Vec<Vector>,
    ) -> Vec<Vector> {
        let Some((&axis, rest)) = order.split_first() else { return body(self, starts) };
        let extent_of = |axis: Axis| inner[axis.0 as usize - self.n_outer()];
        let extent = extent_of(axis);
        let steps: usize = order.iter().map(|&axis| extent_of(axis)).product();
        let written_out = self.edges.must_unroll(axis);
        // Steps that read nothing share nothing.
        let scalar = |root: &ScalarId| self.recipe.kernel.body.get(*root);
        let most = match roots.iter().all(|root| matches!(scalar(root), Scalar::Const(_))) {
            true => CHAINS,
            false => Schedule::most_unrolled(self.recipe.schedule.windows),
        };
        if extent == 1 || written_out || steps * self.points().len() <= most {
            let mut carried = starts.to_vec();
            for i in 0..extent {
                self.positions[axis.0 as usize] = Position::At(i as i64);
                self.scopes.push(FxHashMap::default());
                carried = self.loops(inner, rest, roots, &carried, body);
                self.scopes.pop();
            }
            return carried;
        }
        self.hoist(roots, order);
        let (id, inside) = self.writer.begin_loop(starts);
        self.positions[axis.0 as usize] = Position::Loop { id, stride: 1, offset: 0 };
        self.scopes.push(FxHashMap::default());
        let next = self.loops(inner, rest, roots, &inside, body);
        self.scopes.pop();
        self.writer.end_loop(id, extent as u64, starts, &inside, &next)
    }

    /// Runs over an inner lane axis of `extent`: `chains` vectors a step, then the rest. `body` handles one vector.
    fn along_lanes(
        &mut self,
        extent: usize,
        chains: usize,
        roots: &[ScalarId],
        starts: &[Vector],
        body: &mut ChainBody<'_, Self>,
    ) -> Vec<Vector> {
        let (width, lane) = (self.writer.width(), self.lane.0 as usize);
        let step = width * chains;
        let mut carried = starts.to_vec();
        let lane_axis = [self.lane];
        self.hoist(roots, &lane_axis);
        self.lanes = width;
        let steps = (extent / step) as u64;
        if steps == 1 {
            carried = self.chains(chains, Position::At, &carried, body);
        } else if steps > 1 {
            let (id, inside) = self.writer.begin_loop(&carried);
            let place = |offset| Position::Loop { id, stride: step as i64, offset };
            let next = self.chains(chains, place, &inside, body);
            carried = self.writer.end_loop(id, steps, &carried, &inside, &next);
        }
        let mut done = extent / step * step;
        let mut chain = 0;
        while done < extent {
            self.lanes = (extent - done).min(width);
            self.positions[lane] = Position::At(done as i64);
            self.scopes.push(FxHashMap::default());
            carried = body(self, chain, &carried);
            self.scopes.pop();
            done += width;
            chain += 1;
        }
        self.lanes = width;
        carried
    }

    /// Neighbouring vectors along an inner lane axis, each at the place of its first lane.
    fn chains(
        &mut self,
        chains: usize,
        place: impl Fn(i64) -> Position,
        starts: &[Vector],
        body: &mut ChainBody<'_, Self>,
    ) -> Vec<Vector> {
        let (width, lane) = (self.writer.width(), self.lane.0 as usize);
        self.scopes.push(FxHashMap::default());
        let mut carried = starts.to_vec();
        let mut runs = Vec::new();
        for chain in 0..chains {
            self.positions[lane] = place((chain * width) as i64);
            runs.push(self.writer.place());
            carried = body(self, chain, &carried);
        }
        self.writer.weave(&runs);
        self.scopes.pop();
        carried
    }

    /// Computes at every point of the tile what `roots` need that does not depend on the axes of `order`.
    fn hoist(&mut self, roots: &[ScalarId], order: &[Axis]) {
        // An inner lane axis is walked within all others.
        let lane = if self.lane_is_inner() { 1 << self.lane.0 } else { 0 };
        let inside = order.iter().fold(lane, |bits, axis| bits | 1 << axis.0);
        let (mut seen, mut stack) = (FxHashSet::default(), roots.to_vec());
        while let Some(id) = stack.pop() {
            if !seen.insert(id) || matches!(self.recipe.kernel.body.get(id), Scalar::Const(_)) {
                continue;
            }
            if self.depends[id.0 as usize] & inside != 0 {
                stack.extend(self.recipe.kernel.body.get(id).operands());
            } else {
                for point in self.points() {
                    self.value(id, &point);
                }
            }
        }
    }
}
