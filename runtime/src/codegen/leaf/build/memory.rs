//! What a leaf reads and writes, and where.

use super::forms::Linear;
use super::values::bits_of;
use super::{Base, Builder, Gather, Parameter, Point, Position, Value};
use crate::codegen::leaf::{Access, Address, Lanes, LoopId, Vector};
use fusewright_ir::kernel::{Affine, Axis, BufferId, Index, Literal, ScalarId};
use fusewright_ir::plan;
use fusewright_ir::plan::edges;
use smallvec::SmallVec;

/// Rows that are gathered are asked for so many steps before: about the time that it takes to read one from the last-level cache.
const ROWS_AHEAD: i64 = 16;

impl Builder<'_> {
    /// The elements at a point, those of `lanes` alone; `at` is their index and `form` its linear form.
    pub(super) fn load(
        &mut self,
        form: &Linear,
        (buffer, at): (BufferId, &[Index]),
        point: &Point,
        lanes: Lanes,
    ) -> Vector {
        let address = self.address(form, buffer, point);
        let access = match form.lane_step {
            0 => Access::Broadcast,
            1 => Access::Vector { lanes },
            2 if lanes.count() > 1 || self.mixes => return self.load_pairs(&address, (buffer, at), point, lanes),
            4 if lanes.count() > 1 => return self.load_fourths(&address, lanes),
            step => Access::Strided { lanes, bytes: step * 4 },
        };
        self.writer.load(address, access)
    }

    /// Every other element: of two vectors of neighbours, which are the same for those between, wherever these are inside too.
    fn load_pairs(&mut self, from: &Address, at: (BufferId, &[Index]), point: &Point, lanes: Lanes) -> Vector {
        let odd = (from.offset / 4).rem_euclid(2) == 1;
        let own = usize::from(odd);
        let begin = Address { offset: from.offset - 4 * own as i64, ..from.clone() };
        // Of each pair the element that is not wanted is read only where it is one.
        let first = 2 * lanes.from + if self.has_neighbour(at, point, lanes.from, -1) { 0 } else { own };
        let last = 2 * (lanes.to - 1);
        let behind = last + if self.has_neighbour(at, point, lanes.to - 1, 1) { 2 } else { 1 + own };
        let [low, high] = [0, 1].map(|i| self.load_part(&begin, i, first, behind));
        self.writer.evens(low, high, odd, self.mixes)
    }

    /// Whether an axis along whose elements lanes go has a further one beside that of a lane.
    fn has_neighbour(&self, (buffer, at): (BufferId, &[Index]), point: &Point, lane: usize, by: i64) -> bool {
        let slot = &self.recipe.slots[buffer.0 as usize];
        let strides = slot.layout.strides(&slot.dims);
        let moving = |form: &Affine| form.coefficient(self.lane);
        let mut along =
            (0..at.len()).filter_map(|dim| Some((dim, at[dim].as_affine().filter(|form| moving(form) != 0)?)));
        let (Some((dim, form)), None) = (along.next(), along.next()) else { return false };
        let Some((low, high)) = self.range(form, point) else { return false };
        let (before, behind) = slot.layout.halo_of(dim);
        let moved = moving(form) * lane as i64 + by;
        strides[dim] == 1 && low + moved >= -(before as i64) && high + moved < (slot.dims[dim] + behind) as i64
    }

    /// The `i`-th vector of neighbours from `begin` on, of whose elements those from `first` to `behind` are read.
    fn load_part(&mut self, begin: &Address, i: usize, first: usize, behind: usize) -> Vector {
        let width = self.writer.width();
        let within = |place: usize| place.saturating_sub(i * width).min(width);
        let lanes = Lanes { from: within(first), to: within(behind) };
        if lanes.from >= lanes.to {
            return self.writer.bits(0);
        }
        let part = Address { offset: begin.offset + 4 * (i * width) as i64, ..begin.clone() };
        self.writer.load(part, Access::Vector { lanes })
    }

    /// Every fourth element: vectors of neighbours, from the first that is wanted to the last, every other element of two of which
    /// makes one until one is left.
    fn load_fourths(&mut self, from: &Address, lanes: Lanes) -> Vector {
        let (first, behind) = (4 * lanes.from, 4 * (lanes.to - 1) + 1);
        let mut vectors: Vec<Vector> = (0..4).map(|i| self.load_part(from, i, first, behind)).collect();
        while vectors.len() > 1 {
            vectors = vectors.chunks(2).map(|pair| self.writer.evens(pair[0], pair[1], false, false)).collect();
        }
        vectors[0]
    }

    /// The tile axis along which elements are neighbours, where they are not along the lane axis: rows along the one become
    /// vectors along the other.
    pub(super) fn transposed_axis(&self, form: &Linear) -> Option<Axis> {
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
    pub(super) fn square(&self, point: &Point, along: Axis) -> Vec<Point> {
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
    pub(super) fn load_transposed(
        &mut self,
        id: ScalarId,
        form: &Linear,
        buffer: BufferId,
        point: &Point,
        along: Axis,
    ) -> Vector {
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
    pub(super) fn write_transposed(&mut self, form: &Linear, buffer: BufferId, values: &[Vector], square: &[Point]) {
        let start = self.address(form, buffer, &square[0]);
        let mut columns = values.to_vec();
        columns.resize(self.writer.width(), values[0]);
        let rows = self.writer.transpose(&columns);
        for (lane, &row) in rows.iter().enumerate().take(self.used_lanes(&square[0])) {
            let to = Address { offset: start.offset + 4 * lane as i64 * form.lane_step, ..start.clone() };
            self.writer.store(row, to, Access::Vector { lanes: Lanes::first(square.len()) }, false);
        }
    }

    pub(super) fn write(&mut self, number: usize, form: &Linear, buffer: BufferId, value: Vector, point: &Point) {
        let address = self.address(form, buffer, point);
        let access = match (self.lane_is_inner() && form.lane_step == 0, form.lane_step) {
            (true, _) => Access::Vector { lanes: Lanes::first(1) },
            // Every lane has its own address, or a tile along an axis that the store does not have: one of equal values.
            (false, 0) => Access::Vector { lanes: Lanes::first(1) },
            (false, 1) => Access::Vector { lanes: Lanes::first(self.used_lanes(point)) },
            (false, step) => Access::Strided { lanes: Lanes::first(self.used_lanes(point)), bytes: step * 4 },
        };
        let streaming = self.streaming && number == 0;
        self.writer.store(value, address, access, streaming);
    }

    /// Stores two vectors whose lanes are every other element each.
    pub(super) fn write_pair(&mut self, form: &Linear, buffer: BufferId, values: [Vector; 2], point: &Point) {
        let address = self.address(form, buffer, point);
        let (width, elements) = (self.writer.width(), 2 * self.used_lanes(point));
        let rows = self.writer.interleave(values[0], values[1]);
        for (i, row) in rows.into_iter().enumerate().filter(|(i, _)| i * width < elements) {
            let to = Address { offset: address.offset + 4 * (i * width) as i64, ..address.clone() };
            let lanes = Lanes::first((elements - i * width).min(width));
            self.writer.store(row, to, Access::Vector { lanes }, false);
        }
    }

    /// `outside` in the lanes that are not in `lanes`; they are 0 in `inside`.
    pub(super) fn surrounded(&mut self, inside: Vector, lanes: Lanes, outside: Literal) -> Vector {
        let bits = bits_of(outside);
        if bits == 0 {
            return inside;
        }
        let outside = self.writer.bits(bits);
        let below = self.writer.blend(lanes.to, inside, outside);
        if lanes.from == 0 { below } else { self.writer.blend(lanes.from, outside, below) }
    }

    /// Of the first `used` lanes those for which every index is within the buffer or its halo.
    pub(super) fn lanes_inside(
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

    /// Whether blocks of the lane axis are whole vectors.
    pub(super) fn has_whole_blocks(&self) -> bool {
        match self.recipe.schedule.vector {
            Some(plan::Vector::Outer { lanes, .. }) => (lanes as usize).is_multiple_of(self.writer.width()),
            _ => false,
        }
    }

    /// Lanes of the vector at `point` that are points of the tile.
    pub(super) fn used_lanes(&self, point: &Point) -> usize {
        if self.lane_is_inner() {
            return self.lanes;
        }
        let axis = self.lane.0 as usize;
        (self.tile[axis] - point[axis] as usize).min(self.writer.width())
    }

    /// The address of an access at a point: outer axes in a parameter, inner axes in loop terms, the rest in the offset.
    pub(super) fn address(&mut self, form: &Linear, buffer: BufferId, point: &Point) -> Address {
        let n_outer = self.n_outer();
        let mut offset = 4 * form.offset;
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
                offset += 4 * i64::from(point[axis.0 as usize]) * step;
                continue;
            }
            offset += self.step_along(axis, 4 * elements, &mut terms);
        }
        outer.sort();
        terms.sort();
        let base = self.parameter(Parameter { base: Base::Slot(buffer.0 as usize), terms: outer });
        Address { base, terms, offset }
    }

    /// What is gathered of a load at a point: read where it lies and kept, or read where it was kept.
    pub(super) fn load_gathered(&mut self, gather: Gather, form: &Linear, buffer: BufferId, point: &Point) -> Vector {
        let access = Access::Vector { lanes: Lanes::first(self.used_lanes(point)) };
        let kept = self.kept(point);
        let lane = self.lane.0 as usize;
        let is_followed = self.tile[lane] == self.recipe.schedule.tile_size(self.lane);
        if gather == Gather::Ahead && point[lane] == 0 && is_followed {
            self.ask_ahead(form, buffer, point);
        }
        if gather != Gather::Keep {
            return self.writer.load(kept, access);
        }
        let from = self.address(form, buffer, point);
        // The innermost loop is the last; no processor sees by itself what rows far apart come next.
        if let Some(&(_, bytes)) = from.terms.last() {
            self.writer.prefetch(Address { offset: from.offset + ROWS_AHEAD * bytes, ..from.clone() });
        }
        let vector = self.writer.load(from, access);
        self.writer.store(vector, kept, access, false);
        vector
    }

    /// Where in scratch the lanes at a point are kept.
    fn kept(&mut self, point: &Point) -> Address {
        let base = self.parameter(Parameter { base: Base::Scratch, terms: Vec::new() });
        let (_, gathered) = self.gather.as_ref().expect("something is gathered");
        let mut offset = 4 * i64::from(point[self.lane.0 as usize]);
        let mut terms: SmallVec<[(LoopId, i64); 4]> = SmallVec::new();
        for &(axis, elements) in &gathered.rows {
            offset += self.step_along(axis, 4 * elements as i64, &mut terms);
        }
        terms.sort();
        Address { base, terms, offset }
    }

    /// What steps of `k` come to where an inner axis stands: a term of its loop, if it is one, and the rest.
    pub(super) fn step_along(&self, axis: Axis, k: i64, terms: &mut SmallVec<[(LoopId, i64); 4]>) -> i64 {
        match self.positions[axis.0 as usize] {
            Position::At(i) => i * k,
            Position::Loop { id, stride, offset } => {
                terms.push((id, k * stride));
                offset * k
            }
        }
    }

    pub(super) fn position(&mut self, affine: &Affine, point: &Point) -> Vector {
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
            offset += self.step_along(axis, k, &mut terms);
        }
        let parameter = self.parameter(Parameter { base: Base::Zero, terms: outer });
        self.writer.position(parameter, terms, offset, lane_step)
    }

    pub(super) fn parameter(&mut self, parameter: Parameter) -> usize {
        match self.parameters.iter().position(|known| *known == parameter) {
            Some(known) => known,
            None => {
                self.parameters.push(parameter);
                self.writer.parameter()
            }
        }
    }
}
