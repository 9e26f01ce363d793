//! Kernel, schedule and tile to a leaf.
//!
//! Each load is a vector, a broadcast or a strided access along the lane axis, and is shared by all points of the tile
//! that it does not depend on. A matrix-multiplication micro-kernel is what falls out when a sum runs over a product of
//! two loads.

use super::lanes::Writer;
use super::{Access, Address, Binary, Compare, Lanes, Leaf, Logic, LoopId, Mask, Reduction, Starts, Unary, Vector};
use crate::codegen::Recipe;
use crate::codegen::elementary::{self, InLeaf};
use fusewright_ir::kernel::{
    Affine, Axis, BinaryOp, BufferId, Combine, CompareOp, FoldKind, Index, Literal, Scalar, ScalarId, Space, UnaryOp,
};
use fusewright_ir::plan;
use fusewright_ir::plan::edges::{self, Edges};
use fusewright_ir::tensor::DType;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

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
    /// The slot whose address is added; none for a position.
    pub slot: Option<usize>,
    /// Coefficients: bytes where there is a slot.
    pub terms: Vec<(Axis, i64)>,
}

/// The points of a tile along each outer axis; 1 along most.
pub type Tile = SmallVec<[usize; 6]>;

/// A point of a tile: offsets along the outer axes, and the vector along an inner lane axis.
type Point = SmallVec<[u32; 8]>;

/// How elements of a slot are addressed by the axes.
#[derive(Clone, Debug)]
struct Linear {
    /// Elements a step of each axis.
    terms: Vec<(Axis, i64)>,
    offset: i64,
    /// Elements from lane to lane.
    lane_step: i64,
    /// Whether lanes beyond the tile may be read: the slot is padded to whole blocks.
    padded: bool,
}

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

/// The axis whose neighbours share a vector; none where the schedule or the kernel's forms rule vectors out.
pub fn lane_axis(recipe: &Recipe) -> Option<Axis> {
    let kernel = &recipe.kernel;
    let axis = match recipe.schedule.vector? {
        plan::Vector::Outer { axis, .. } => axis,
        plan::Vector::Inner => {
            let inner = kernel.folds.iter().map(|fold| &fold.inner);
            let inner: Vec<&Space> = inner.chain(kernel.stores.iter().map(|store| &store.inner)).collect();
            let longest = inner.iter().map(|space| space.len()).max().filter(|&n| n > 0)?;
            if kernel.folds.iter().any(|fold| fold.inner.len() != longest)
                || kernel.stores.iter().any(|store| !store.inner.is_empty() && store.inner.len() != longest)
            {
                return None;
            }
            Axis((kernel.outer.len() + longest - 1) as u32)
        }
    };
    supported(recipe, axis).then_some(axis)
}

fn bits_of(literal: Literal) -> u32 {
    match literal {
        Literal::F32(bits) | Literal::U32(bits) => bits,
        Literal::I32(n) => n as u32,
        Literal::I64(n) => n as i32 as u32,
        Literal::U8(n) => u32::from(n),
        Literal::Bool(truth) => u32::from(truth),
    }
}

fn is_32_bits(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32)
}

/// Whether every scalar and access of the kernel has a vector form.
fn supported(recipe: &Recipe, lane: Axis) -> bool {
    let (kernel, body) = (&recipe.kernel, &recipe.kernel.body);
    let narrow = |affine: &Affine| {
        let spaces = kernel.folds.iter().map(|fold| kernel.space(&fold.inner));
        let mut spaces = spaces.chain(kernel.stores.iter().map(|store| kernel.space(&store.inner)));
        spaces.all(|extents| {
            let known = affine.terms.iter().all(|(axis, _)| (axis.0 as usize) < extents.len());
            let (low, high) = if known { affine.dividend_range(&extents) } else { (0, 0) };
            low > i64::from(i32::MIN) && high < i64::from(i32::MAX)
        })
    };
    let scalars = kernel.live().into_iter().all(|id| match body.get(id) {
        Scalar::Const(Literal::I64(n)) => i32::try_from(*n).is_ok(),
        Scalar::Const(literal) => literal.dtype() != DType::U8,
        Scalar::Folded { fold, .. } => {
            !matches!(kernel.folds[*fold as usize].kind, FoldKind::ArgMax | FoldKind::ArgMin)
        }
        Scalar::Position(affine) => narrow(affine),
        Scalar::Load { buffer, at, .. } => {
            is_32_bits(recipe.slots[buffer.0 as usize].dtype) && linear(recipe, lane, *buffer, at).is_some()
        }
        Scalar::Unary(op, a) => match body.dtype(*a) {
            DType::F32 => true,
            DType::Bool => *op == UnaryOp::Not,
            _ => false,
        },
        Scalar::Binary(op, a, _) => match body.dtype(*a) {
            DType::F32 => true,
            DType::Bool => matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor),
            DType::I32 | DType::U32 => matches!(
                op,
                BinaryOp::Add
                    | BinaryOp::Sub
                    | BinaryOp::Mul
                    | BinaryOp::Xor
                    | BinaryOp::And
                    | BinaryOp::Or
                    | BinaryOp::MulHigh
            ),
            _ => false,
        },
        Scalar::Compare(op, a, _) => match body.dtype(*a) {
            DType::F32 | DType::I32 | DType::I64 => true,
            DType::U32 => matches!(op, CompareOp::Eq | CompareOp::Ne | CompareOp::Lt | CompareOp::Gt),
            _ => false,
        },
        Scalar::Select(_, a, _) => is_32_bits(body.dtype(*a)) || body.dtype(*a) == DType::Bool,
        Scalar::Fma(..) => true,
        Scalar::Cast(to, a) => match (body.dtype(*a), to) {
            (DType::Bool, to) => is_32_bits(*to),
            (DType::I32 | DType::U32 | DType::I64, DType::I32 | DType::U32 | DType::F32) => true,
            (from, to) => from == *to,
        },
    });
    let folds = kernel.folds.iter().all(|fold| body.dtype(fold.value) == DType::F32);
    let stores = kernel.stores.iter().all(|store| {
        store.combine == Combine::Set
            && is_32_bits(recipe.slots[store.buffer.0 as usize].dtype)
            && linear(recipe, lane, store.buffer, &store.at).is_some()
    });
    scalars && folds && stores && recipe.edges().is_some_and(|edges| edges.fit(kernel, &recipe.schedule))
}

/// The linear form of an access, where it has one.
fn linear(recipe: &Recipe, lane: Axis, buffer: BufferId, at: &[Index]) -> Option<Linear> {
    let slot = &recipe.slots[buffer.0 as usize];
    let strides = slot.layout.strides(&slot.dims);
    let mut form =
        Linear { terms: Vec::new(), offset: slot.layout.origin(&slot.dims) as i64, lane_step: 0, padded: false };
    let mut add = |axis: Axis, elements: i64| match form.terms.iter_mut().find(|(other, _)| *other == axis) {
        Some(term) => term.1 += elements,
        None => form.terms.push((axis, elements)),
    };
    for (dim, index) in at.iter().enumerate() {
        let affine = index.as_affine().filter(|affine| affine.divisor == 1)?;
        let stride = strides[dim] as i64;
        match slot.layout.block.filter(|block| block.axis as usize == dim) {
            None => {
                for &(axis, k) in &affine.terms {
                    add(axis, k * stride);
                }
                form.offset += affine.offset * stride;
            }
            // A blocked axis is walked in whole blocks: its lanes are the lanes of the tile.
            Some(block) => match (recipe.schedule.vector, affine.as_axis()) {
                (Some(plan::Vector::Outer { axis, lanes }), Some(own)) if own == axis && lanes == block.lanes => {
                    add(axis, stride / i64::from(lanes));
                    form.padded = true;
                }
                _ => return None,
            },
        }
    }
    form.lane_step = match form.padded {
        true => 1,
        false => form.terms.iter().find(|(axis, _)| *axis == lane).map_or(0, |(_, elements)| *elements),
    };
    Some(form)
}

/// Writes the leaf of a tile that starts within `starts` along each outer axis.
pub fn build(recipe: &Recipe, lane: Axis, tile: &Tile, starts: &[Starts], width: usize) -> Built {
    let n_outer = recipe.kernel.outer.len();
    let mut builder = Builder {
        recipe,
        writer: Writer::new(width),
        lane,
        tile,
        starts,
        edges: recipe.edges().expect("checked by supported"),
        parameters: Vec::new(),
        positions: vec![Position::At(0); n_outer + MOST_INNER],
        scopes: vec![HashMap::new()],
        folded: HashMap::new(),
        depends: dependencies(recipe),
        lanes: width,
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
    edges: Edges,
    parameters: Vec<Parameter>,
    /// By axis; those of outer axes stay 0: they are in the parameters.
    positions: Vec<Position>,
    /// Values known in each open loop, the outermost first.
    scopes: Vec<HashMap<(ScalarId, Point), Value>>,
    folded: HashMap<(u32, u32, Point), Vector>,
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
        let order = recipe.schedule.fold_orders[number].clone();
        let results: Vec<SmallVec<[Vector; 2]>> = match fold.kind {
            FoldKind::Moments => {
                let count = fold.inner.iter().product::<usize>().max(1);
                let sums = self.sweep(&fold.inner, &order, fold.value, FoldKind::Sum, None);
                let count = self.writer.number(count as f32);
                let means: Vec<Vector> = sums.iter().map(|&sum| self.writer.binary(Binary::Div, sum, count)).collect();
                let squares = self.sweep(&fold.inner, &order, fold.value, FoldKind::Sum, Some(&means));
                means.into_iter().zip(squares).map(|(mean, square)| [mean, square].into_iter().collect()).collect()
            }
            kind => {
                let parts = self.sweep(&fold.inner, &order, fold.value, kind, None);
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

    /// Folds `value` over `inner` for every point of the tile; with `means`, the squares of the distances from them.
    fn sweep(
        &mut self,
        inner: &Space,
        order: &[Axis],
        value: ScalarId,
        kind: FoldKind,
        means: Option<&[Vector]>,
    ) -> Vec<Vector> {
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
            return self.loops(inner, order, &[value], &starts, &mut |builder, carried| {
                points
                    .iter()
                    .enumerate()
                    .map(|(i, point)| builder.accumulate(kind, carried[i], value, point, means.map(|means| means[i])))
                    .collect()
            });
        }
        // Along an inner lane axis: several chains of vectors, combined at the end.
        let extent = inner[inner.len() - 1];
        let width = self.writer.width();
        let chains = (extent / width).clamp(1, CHAINS);
        let others: SmallVec<[Axis; 6]> = order.iter().copied().filter(|&axis| axis != self.lane).collect();
        let starts = vec![identity; points.len() * chains];
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
        let (id, _) = self.writer.begin_loop(&[]);
        self.stretch.step = Some((id, chunk as i64));
        self.scopes.push(HashMap::new());
        all(self);
        self.scopes.pop();
        self.writer.end_loop(id, (length / chunk) as u64, &[], &[], &[]);
        self.stretch = Stretch { begin: length / chunk * chunk, length: length % chunk, step: None };
        if self.stretch.length > 0 {
            self.scopes.push(HashMap::new());
            all(self);
            self.scopes.pop();
        }
    }

    /// Scalars in the order in which the kernel lists them, each stored as soon as it is known: whoever wrote the kernel
    /// put them so that few are needed at a time.
    fn stores_in_order(&mut self) {
        let kernel = &self.recipe.kernel;
        let values = kernel.body.reachable(kernel.stores.iter().map(|store| store.value));
        for point in self.points() {
            for &id in values.iter().filter(|id| !matches!(kernel.body.get(**id), Scalar::Const(_))) {
                self.value(id, &point);
                for store in kernel.stores.iter().filter(|store| store.value == id) {
                    let form = linear(self.recipe, self.lane, store.buffer, &store.at).expect("checked by supported");
                    let value = self.vector(id, &point);
                    self.write(&form, store.buffer, value, &point);
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
        if !self.lane_is_inner() || store.inner.is_empty() {
            let along = self.transposed_axis(&form).filter(|_| store.inner.is_empty());
            self.loops(&store.inner, &order, &[store.value], &[], &mut |builder, _| {
                for point in &points {
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
                    builder.write(&form, store.buffer, value, point);
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
                    let value = builder.vector(store.value, &point);
                    builder.write(&form, store.buffer, value, &point);
                }
                Vec::new()
            })
        });
    }

    fn write(&mut self, form: &Linear, buffer: BufferId, value: Vector, point: &Point) {
        let address = self.address(form, buffer, point);
        let access = match (self.lane_is_inner() && form.lane_step == 0, form.lane_step) {
            (true, _) => Access::Vector { lanes: Lanes::first(1) },
            // Every lane has its own address, or a tile along an axis that the store does not have: one of equal values.
            (false, 0) => Access::Vector { lanes: Lanes::first(1) },
            (false, 1) => Access::Vector { lanes: Lanes::first(self.used_lanes(point)) },
            (false, step) => Access::Strided { lanes: Lanes::first(self.used_lanes(point)), bytes: step * 4 },
        };
        self.writer.store(value, address, access);
    }

    /// Whether blocks of the lane axis are whole vectors.
    fn has_whole_blocks(&self) -> bool {
        match self.recipe.schedule.vector {
            Some(plan::Vector::Outer { lanes, .. }) => (lanes as usize).is_multiple_of(self.writer.width()),
            _ => false,
        }
    }

    /// Lanes of the vector at `point` that are points of the tile.
    fn used_lanes(&self, point: &Point) -> usize {
        if self.lane_is_inner() {
            return self.lanes;
        }
        let axis = self.lane.0 as usize;
        (self.tile[axis] - point[axis] as usize).min(self.writer.width())
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
        if extent == 1 || written_out || steps * self.points().len() <= plan::UNROLLED_POINTS {
            let mut carried = starts.to_vec();
            for i in 0..extent {
                self.positions[axis.0 as usize] = Position::At(i as i64);
                self.scopes.push(HashMap::new());
                carried = self.loops(inner, rest, roots, &carried, body);
                self.scopes.pop();
            }
            return carried;
        }
        self.hoist(roots, order);
        let (id, inside) = self.writer.begin_loop(starts);
        self.positions[axis.0 as usize] = Position::Loop { id, stride: 1, offset: 0 };
        self.scopes.push(HashMap::new());
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
        if extent >= step {
            let (id, inside) = self.writer.begin_loop(&carried);
            self.scopes.push(HashMap::new());
            let mut next = inside.clone();
            for chain in 0..chains {
                let offset = (chain * width) as i64;
                self.positions[lane] = Position::Loop { id, stride: step as i64, offset };
                next = body(self, chain, &next);
            }
            self.scopes.pop();
            carried = self.writer.end_loop(id, (extent / step) as u64, &carried, &inside, &next);
        }
        let mut done = extent / step * step;
        let mut chain = 0;
        while done < extent {
            self.lanes = (extent - done).min(width);
            self.positions[lane] = Position::At(done as i64);
            self.scopes.push(HashMap::new());
            carried = body(self, chain, &carried);
            self.scopes.pop();
            done += width;
            chain += 1;
        }
        self.lanes = width;
        carried
    }

    /// Computes at every point of the tile what `roots` need that does not depend on the axes of `order`.
    fn hoist(&mut self, roots: &[ScalarId], order: &[Axis]) {
        // An inner lane axis is walked within all others.
        let lane = if self.lane_is_inner() { 1 << self.lane.0 } else { 0 };
        let inside = order.iter().fold(lane, |bits, axis| bits | 1 << axis.0);
        let (mut seen, mut stack) = (HashSet::new(), roots.to_vec());
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

    fn vector(&mut self, id: ScalarId, point: &Point) -> Vector {
        match self.value(id, point) {
            Value::Vector(vector) => vector,
            Value::Mask(_) => unreachable!("verified: truth values are not arithmetic"),
        }
    }

    fn mask(&mut self, id: ScalarId, point: &Point) -> Mask {
        match self.value(id, point) {
            Value::Mask(mask) => mask,
            Value::Vector(_) => unreachable!("verified: numbers are not truth values"),
        }
    }

    fn value(&mut self, id: ScalarId, point: &Point) -> Value {
        let key = (id, self.projected(id, point));
        if let Some(&known) = self.scopes.iter().rev().find_map(|scope| scope.get(&key)) {
            return known;
        }
        let value = self.compute(id, &key.1);
        self.scopes.last_mut().expect("a scope is open").insert(key, value);
        value
    }

    fn compute(&mut self, id: ScalarId, point: &Point) -> Value {
        let recipe = self.recipe;
        let body = &recipe.kernel.body;
        let dtype = body.dtype(id);
        let vector = match body.get(id) {
            Scalar::Const(Literal::Bool(truth)) => {
                let zero = self.writer.bits(0);
                let never = self.writer.compare(Compare::ILt, zero, zero);
                return Value::Mask(if *truth { self.writer.not(never) } else { never });
            }
            Scalar::Const(literal) => self.writer.bits(bits_of(*literal)),
            Scalar::Folded { fold, part } => {
                let point = self.fold_point(*fold, point);
                self.folded[&(*fold, *part, point)]
            }
            Scalar::Position(affine) => self.position(affine, point),
            Scalar::Load { buffer, at, outside } => {
                let form = linear(recipe, self.lane, *buffer, at).expect("checked by supported");
                let whole_blocks = form.padded && self.has_whole_blocks();
                let used = if whole_blocks { self.writer.width() } else { self.used_lanes(point) };
                let lanes = if outside.is_some() && !self.edges.is_empty() {
                    self.lanes_inside(*buffer, at, *outside, point, used)
                } else {
                    Lanes::first(used)
                };
                if let Some(along) = self.transposed_axis(&form).filter(|_| lanes == Lanes::first(used)) {
                    return Value::Vector(self.load_transposed(id, &form, *buffer, point, along));
                }
                match *outside {
                    Some(outside) if lanes.count() == 0 => self.writer.bits(bits_of(outside)),
                    Some(outside) if lanes.count() < used && form.lane_step != 0 => {
                        let inside = self.load(&form, *buffer, point, lanes);
                        self.surrounded(inside, lanes, outside)
                    }
                    _ => self.load(&form, *buffer, point, lanes),
                }
            }
            Scalar::Unary(op, a) => match dtype {
                DType::Bool => {
                    let a = self.mask(*a, point);
                    return Value::Mask(self.writer.not(a));
                }
                _ => {
                    let a = self.vector(*a, point);
                    self.unary(*op, a)
                }
            },
            Scalar::Binary(op, a, b) => match dtype {
                DType::Bool => {
                    let (a, b) = (self.mask(*a, point), self.mask(*b, point));
                    let op = match op {
                        BinaryOp::And => Logic::And,
                        BinaryOp::Or => Logic::Or,
                        _ => Logic::Xor,
                    };
                    return Value::Mask(self.writer.logic(op, a, b));
                }
                _ => {
                    let (a, b) = (self.vector(*a, point), self.vector(*b, point));
                    self.binary(*op, dtype, a, b)
                }
            },
            Scalar::Compare(op, a, b) => {
                let operands = body.dtype(*a);
                let (a, b) = (self.vector(*a, point), self.vector(*b, point));
                return Value::Mask(self.compare(*op, operands, a, b));
            }
            Scalar::Select(condition, yes, no) => {
                let condition = self.mask(*condition, point);
                if dtype == DType::Bool {
                    let (yes, no) = (self.mask(*yes, point), self.mask(*no, point));
                    let (first, opposite) = (self.writer.logic(Logic::And, condition, yes), self.writer.not(condition));
                    let second = self.writer.logic(Logic::And, opposite, no);
                    return Value::Mask(self.writer.logic(Logic::Or, first, second));
                }
                let (yes, no) = (self.vector(*yes, point), self.vector(*no, point));
                self.writer.pick(condition, yes, no)
            }
            Scalar::Fma(a, b, c) => {
                let (a, b, c) = (self.vector(*a, point), self.vector(*b, point), self.vector(*c, point));
                self.writer.fused(a, b, c)
            }
            Scalar::Cast(to, a) => match (body.dtype(*a), to) {
                (DType::Bool, DType::Bool) => return self.value(*a, point),
                (DType::Bool, to) => {
                    let condition = self.mask(*a, point);
                    let one = self.writer.bits(if *to == DType::F32 { 1f32.to_bits() } else { 1 });
                    let zero = self.writer.bits(0);
                    self.writer.pick(condition, one, zero)
                }
                (from, DType::F32) if from != DType::F32 => {
                    let a = self.vector(*a, point);
                    self.writer.unary(if from == DType::U32 { Unary::UnsignedToFloat } else { Unary::ToFloat }, a)
                }
                _ => self.vector(*a, point),
            },
        };
        Value::Vector(vector)
    }

    fn load(&mut self, form: &Linear, buffer: BufferId, point: &Point, lanes: Lanes) -> Vector {
        let address = self.address(form, buffer, point);
        let access = match form.lane_step {
            0 => Access::Broadcast,
            1 => Access::Vector { lanes },
            step => Access::Strided { lanes, bytes: step * 4 },
        };
        self.writer.load(address, access)
    }

    /// The tile axis along which elements are neighbours, where they are not along the lane axis: rows along the one become
    /// vectors along the other.
    fn transposed_axis(&self, form: &Linear) -> Option<Axis> {
        let crosses = !self.edges.is_empty() || self.lane_is_inner() || self.stretch.step.is_some();
        if matches!(form.lane_step, 0 | 1) || crosses {
            return None;
        }
        let (axis, _) = form.terms.iter().find(|(axis, elements)| {
            *axis != self.lane && *elements == 1 && self.tile.get(axis.0 as usize).is_some_and(|&points| points > 1)
        })?;
        Some(*axis)
    }

    /// The points of one square: up to `width` along `along`, from a multiple of `width` on, at the vector of `point`.
    fn square(&self, point: &Point, along: Axis) -> Vec<Point> {
        let (width, axis) = (self.writer.width(), along.0 as usize);
        let first = point[axis] as usize / width * width;
        let places = first..(first + width).min(self.tile[axis]);
        let at = |place: usize| {
            let mut point = point.clone();
            point[axis] = place as u32;
            point
        };
        places.map(at).collect()
    }

    /// Loads rows along `along`, one for each lane, and gives the vector at `point`; those of its square are known then.
    fn load_transposed(&mut self, id: ScalarId, form: &Linear, buffer: BufferId, point: &Point, along: Axis) -> Vector {
        let square = self.square(point, along);
        let used = self.used_lanes(point);
        let start = self.address(form, buffer, &square[0]);
        let mut rows: Vec<Vector> = (0..used as i64)
            .map(|lane| {
                let row = Address { offset: start.offset + 4 * lane * form.lane_step, ..start.clone() };
                self.writer.load(row, Access::Vector { lanes: Lanes::first(square.len()) })
            })
            .collect();
        rows.resize(self.writer.width(), rows[0]);
        let columns = self.writer.transpose(&rows);
        for (other, &column) in square.iter().zip(&columns) {
            let key = (id, self.projected(id, other));
            self.scopes.last_mut().expect("a scope is open").insert(key, Value::Vector(column));
        }
        let place = square.iter().position(|other| other == point).expect("the square holds the point");
        columns[place]
    }

    /// Stores at the points of one square, whose vectors are columns: a row for each lane.
    fn write_transposed(&mut self, form: &Linear, buffer: BufferId, values: &[Vector], square: &[Point]) {
        let start = self.address(form, buffer, &square[0]);
        let mut columns = values.to_vec();
        columns.resize(self.writer.width(), values[0]);
        let rows = self.writer.transpose(&columns);
        for (lane, &row) in rows.iter().enumerate().take(self.used_lanes(&square[0])) {
            let to = Address { offset: start.offset + 4 * lane as i64 * form.lane_step, ..start.clone() };
            self.writer.store(row, to, Access::Vector { lanes: Lanes::first(square.len()) });
        }
    }

    /// `outside` in the lanes that are not in `lanes`; they are 0 in `inside`.
    fn surrounded(&mut self, inside: Vector, lanes: Lanes, outside: Literal) -> Vector {
        let bits = bits_of(outside);
        if bits == 0 {
            return inside;
        }
        let outside = self.writer.bits(bits);
        let below = self.writer.blend(lanes.to, inside, outside);
        if lanes.from == 0 { below } else { self.writer.blend(lanes.from, outside, below) }
    }

    /// Of the first `used` lanes those for which every index is within the buffer or its halo.
    fn lanes_inside(
        &self,
        buffer: BufferId,
        at: &[Index],
        outside: Option<Literal>,
        point: &Point,
        used: usize,
    ) -> Lanes {
        let slot = &self.recipe.slots[buffer.0 as usize];
        let (mut from, mut to) = (0, used);
        for (dim, index) in at.iter().enumerate() {
            let form = index.as_affine().expect("checked by supported");
            // Edges are crossed along axes whose positions are known.
            let Some((low, high)) = self.range(form, point) else { continue };
            let (first, behind) = edges::bounds(&slot.layout, &slot.dims, dim, outside);
            let step = form.coefficient(self.lane);
            let is_inside = |lane: &usize| {
                let moved = step * *lane as i64;
                low + moved >= first && high + moved < behind
            };
            debug_assert!(
                low == high || (0..used).all(|lane| is_inside(&lane)) || !(0..used).any(|lane| is_inside(&lane)),
                "tiles that cross an edge start at one place"
            );
            let inside: Vec<usize> = (from..to).filter(is_inside).collect();
            (from, to) = inside.first().map_or((0, 0), |&first| (first, inside[inside.len() - 1] + 1));
        }
        Lanes { from, to }
    }

    /// The least and greatest value of a form at lane 0 of a point; `None` where it moves with a loop of the leaf.
    fn range(&self, form: &Affine, point: &Point) -> Option<(i64, i64)> {
        let (mut low, mut high) = (form.offset, form.offset);
        for &(axis, k) in &form.terms {
            let i = axis.0 as usize;
            let (a, b) = match self.positions[i] {
                _ if i < self.n_outer() => {
                    let (starts, offset) = (self.starts[i], i64::from(point[i]));
                    (k * (starts.low + offset), k * (starts.high + offset))
                }
                Position::At(place) => (k * place, k * place),
                Position::Loop { .. } => return None,
            };
            (low, high) = (low + a.min(b), high + a.max(b));
        }
        Some((low, high))
    }

    fn unary(&mut self, op: UnaryOp, a: Vector) -> Vector {
        let op = match op {
            UnaryOp::Neg => Unary::Neg,
            UnaryOp::Abs => Unary::Abs,
            UnaryOp::Sqrt => Unary::Sqrt,
            UnaryOp::Floor => Unary::Floor,
            UnaryOp::Ceil => Unary::Ceil,
            UnaryOp::Round => Unary::Round,
            UnaryOp::Trunc => Unary::Trunc,
            elementary_op => return elementary::unary(&InLeaf(RefCell::new(&mut self.writer)), elementary_op, a),
        };
        self.writer.unary(op, a)
    }

    fn binary(&mut self, op: BinaryOp, dtype: DType, a: Vector, b: Vector) -> Vector {
        let op = match (op, dtype == DType::F32) {
            (BinaryOp::Add, true) => Binary::Add,
            (BinaryOp::Sub, true) => Binary::Sub,
            (BinaryOp::Mul, true) => Binary::Mul,
            (BinaryOp::Div, true) => Binary::Div,
            (BinaryOp::Max, _) => return self.writer.extreme(true, a, b),
            (BinaryOp::Min, _) => return self.writer.extreme(false, a, b),
            (BinaryOp::Add, false) => Binary::IAdd,
            (BinaryOp::Sub, false) => Binary::ISub,
            (BinaryOp::Mul, false) => Binary::IMul,
            (BinaryOp::MulHigh, _) => Binary::UMulHigh,
            (BinaryOp::And, _) => Binary::And,
            (BinaryOp::Or, _) => Binary::Or,
            (BinaryOp::Xor, _) => Binary::Xor,
            (BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::Div, _) => {
                return elementary::binary(&InLeaf(RefCell::new(&mut self.writer)), op, a, b);
            }
        };
        self.writer.binary(op, a, b)
    }

    fn compare(&mut self, op: CompareOp, dtype: DType, a: Vector, b: Vector) -> Mask {
        if dtype == DType::F32 {
            let op = match op {
                CompareOp::Eq => Compare::Eq,
                CompareOp::Ne => {
                    let equal = self.writer.compare(Compare::Eq, a, b);
                    return self.writer.not(equal);
                }
                CompareOp::Lt => Compare::Lt,
                CompareOp::Le => Compare::Le,
                CompareOp::Gt => Compare::Gt,
                CompareOp::Ge => Compare::Ge,
            };
            return self.writer.compare(op, a, b);
        }
        let less = if dtype == DType::U32 { Compare::ULt } else { Compare::ILt };
        let (op, a, b, opposite) = match op {
            CompareOp::Eq => (Compare::IEq, a, b, false),
            CompareOp::Ne => (Compare::IEq, a, b, true),
            CompareOp::Lt => (less, a, b, false),
            CompareOp::Ge => (less, a, b, true),
            CompareOp::Gt => (less, b, a, false),
            CompareOp::Le => (less, b, a, true),
        };
        let mask = self.writer.compare(op, a, b);
        if opposite { self.writer.not(mask) } else { mask }
    }

    /// The address of an access at a point: outer axes in a parameter, inner axes in loop terms, the rest in the offset.
    fn address(&mut self, form: &Linear, buffer: BufferId, point: &Point) -> Address {
        let n_outer = self.n_outer();
        let mut offset = form.offset;
        let mut outer = Vec::new();
        let mut terms: SmallVec<[(LoopId, i64); 4]> = SmallVec::new();
        for &(axis, elements) in &form.terms {
            if (axis.0 as usize) < n_outer {
                outer.push((axis, elements * 4));
                // Along a blocked lane axis a vector further is a vector further in memory.
                let step = if form.padded && axis == self.lane { 1 } else { elements };
                if let (Some((id, points)), true) = (self.stretch.step, axis == self.lane) {
                    terms.push((id, step * points * 4));
                }
                offset += i64::from(point[axis.0 as usize]) * step;
                continue;
            }
            match self.positions[axis.0 as usize] {
                Position::At(i) => offset += i * elements,
                Position::Loop { id, stride, offset: ahead } => {
                    terms.push((id, elements * stride * 4));
                    offset += ahead * elements;
                }
            }
        }
        outer.sort();
        terms.sort();
        let base = self.parameter(Parameter { slot: Some(buffer.0 as usize), terms: outer });
        Address { base, terms, offset: offset * 4 }
    }

    fn position(&mut self, affine: &Affine, point: &Point) -> Vector {
        let n_outer = self.n_outer();
        let (mut outer, mut offset, mut lane_step) = (Vec::new(), affine.offset, 0);
        let mut terms: SmallVec<[(LoopId, i64); 4]> = SmallVec::new();
        for &(axis, k) in &affine.terms {
            if axis == self.lane {
                lane_step = k;
            }
            if (axis.0 as usize) < n_outer {
                outer.push((axis, k));
                if let (Some((id, points)), true) = (self.stretch.step, axis == self.lane) {
                    terms.push((id, k * points));
                }
                offset += i64::from(point[axis.0 as usize]) * k;
                continue;
            }
            match self.positions[axis.0 as usize] {
                Position::At(i) => offset += i * k,
                Position::Loop { id, stride, offset: ahead } => {
                    terms.push((id, k * stride));
                    offset += ahead * k;
                }
            }
        }
        let parameter = self.parameter(Parameter { slot: None, terms: outer });
        self.writer.position(parameter, terms, offset, lane_step)
    }

    fn parameter(&mut self, parameter: Parameter) -> usize {
        match self.parameters.iter().position(|known| *known == parameter) {
            Some(known) => known,
            None => {
                self.parameters.push(parameter);
                self.writer.parameter()
            }
        }
    }
}
