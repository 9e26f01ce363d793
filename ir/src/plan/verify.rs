//! What must hold of every plan. A fault here is a bug of the planner, told to those who mend it.

use super::access::{Read, gathered, is_in_place, is_proven, is_within, plain, reads, told_apart};
use super::*;
use crate::kernel::Index;

/// Every buffer begins at a multiple of so many bytes.
pub(super) const ALIGNMENT: u64 = 64;

/// Checks places, lifetimes, indices, halos and schedules.
///
/// # Errors
/// All faults, one line each, with the step or buffer at fault.
pub fn verify(plan: &Plan) -> Result<(), Vec<String>> {
    let mut check = Check { plan, place: String::new(), faults: Vec::new() };
    check.buffers();
    check.steps();
    check.bands();
    // Lives are only known where every step names buffers that exist.
    if check.faults.is_empty() {
        let lives = lives(plan);
        check.lives(&lives);
        check.overlaps(&lives);
        check.states(&lives);
        check.halos(&lives);
    }
    if check.faults.is_empty() { Ok(()) } else { Err(check.faults) }
}

struct Check<'a> {
    plan: &'a Plan,
    /// What is being checked, for messages.
    place: String,
    faults: Vec<String>,
}

/// When a buffer is touched, in positions of setup and steps behind each other.
#[derive(Clone, Default)]
struct Life {
    writes: Vec<usize>,
    reads: Vec<usize>,
}

impl Life {
    fn first_write(&self) -> Option<usize> {
        self.writes.first().copied()
    }

    fn last(&self) -> Option<usize> {
        self.writes.last().max(self.reads.last()).copied()
    }
}

fn all_steps(plan: &Plan) -> impl Iterator<Item = (usize, &Step)> {
    plan.setup.iter().chain(&plan.steps).enumerate()
}

/// The steps of a band run again at every position: all writes begin with its first, all reads last to its end.
fn lives(plan: &Plan) -> Vec<Life> {
    let mut lives = vec![Life::default(); plan.buffers.len()];
    for (position, step) in all_steps(plan) {
        let own = position.checked_sub(plan.setup.len());
        let band = plan.bands.iter().find(|band| own.is_some_and(|step| band.steps.contains(&step)));
        let (first, last) = match band {
            Some(band) => (plan.setup.len() + band.steps.start, plan.setup.len() + band.steps.end - 1),
            None => (position, position),
        };
        step.kernel.reads().iter().for_each(|id| lives[id.0 as usize].reads.push(last));
        step.kernel.writes().iter().for_each(|id| lives[id.0 as usize].writes.push(first));
    }
    lives
}

impl Check<'_> {
    fn require(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(format!("{}: {}", self.place, fault()));
        }
    }

    fn buffers(&mut self) {
        let plan = self.plan;
        let mut constants = Vec::new();
        for (number, buffer) in plan.buffers.iter().enumerate() {
            self.place = format!("buffer b{number} `{}`", buffer.name);
            let mut axes: Vec<u8> = buffer.layout.order.to_vec();
            axes.sort_unstable();
            self.require(axes.iter().map(|&axis| axis as usize).eq(0..buffer.dims.len()), || {
                format!("its layout orders the axes {:?} of {:?}", buffer.layout.order, buffer.dims)
            });
            let (ports, region) = match buffer.place {
                Place::Input(i) => (Some((&plan.inputs, i)), None),
                Place::Output(i) => (Some((&plan.outputs, i)), None),
                Place::Parameter(i) => (Some((&plan.parameters, i)), None),
                Place::State(i) => {
                    let id = Some(BufferId(number as u32));
                    let named = plan.states.get(i).is_some_and(|state| [Some(state.buffer), state.next].contains(&id));
                    self.require(named, || "its place is the state of another buffer".to_string());
                    (None, None)
                }
                Place::Constant(offset) | Place::Literal(offset, _) => (None, Some((offset, plan.constant_bytes))),
                Place::Arena(offset) => (None, Some((offset, plan.arena_bytes))),
                Place::Scratch(offset) => (None, Some((offset, plan.scratch_bytes))),
                Place::Unused => (None, None),
            };
            if let Some((ports, i)) = ports {
                let named = ports.get(i).is_some_and(|port| std::ptr::eq(plan.buffer(port.buffer), buffer));
                self.require(named, || "its place is a port of another buffer".to_string());
                self.require(buffer.layout.is_row_major(), || "the user's memory is in row-major order".to_string());
            }
            if let Some((offset, end)) = region {
                self.require(offset % ALIGNMENT == 0, || format!("it begins at byte {offset}"));
                self.require(offset + buffer.bytes() <= end, || {
                    format!("{} bytes at {offset} leave the region of {end}", buffer.bytes())
                });
            }
            match &buffer.place {
                Place::Literal(offset, tensor) => {
                    let fits = tensor.dtype() == buffer.dtype && tensor.dims() == buffer.dims;
                    self.require(fits && buffer.layout.is_row_major(), || "its literal has another type".to_string());
                    constants.push((*offset, offset + buffer.bytes(), number));
                }
                Place::Constant(offset) => constants.push((*offset, offset + buffer.bytes(), number)),
                _ => {}
            }
        }
        self.place = "constants".to_string();
        constants.sort_unstable();
        for pair in constants.windows(2) {
            self.require(pair[0].1 <= pair[1].0, || format!("b{} and b{} overlap", pair[0].2, pair[1].2));
        }
        self.place = "ports".to_string();
        for port in plan.inputs.iter().chain(&plan.outputs).chain(&plan.parameters) {
            let buffer = plan.buffers.get(port.buffer.0 as usize);
            self.require(buffer.is_some(), || format!("`{}` is no buffer", port.name));
            let elements = |dims: &[usize]| dims.iter().product::<usize>();
            self.require(buffer.is_none_or(|buffer| elements(&buffer.dims) == elements(&port.dims)), || {
                format!("`{}` has other elements than its buffer", port.name)
            });
        }
    }

    fn steps(&mut self) {
        let n_setup = self.plan.setup.len();
        for (position, step) in all_steps(self.plan) {
            let (title, number) = if position < n_setup { ("setup", position) } else { ("step", position - n_setup) };
            self.place = format!("{title} {number} ({})", step.nodes.join(" "));
            let ids = step.kernel.reads().into_iter().chain(step.kernel.writes());
            if ids.into_iter().any(|id| id.0 as usize >= self.plan.buffers.len()) {
                self.require(false, || "it names a buffer that is none".to_string());
                continue;
            }
            self.regions(step, position < n_setup);
            self.indices(step);
            self.schedule(step);
            let own = position.checked_sub(n_setup);
            let is_alone = own.is_some_and(|own| !self.plan.bands.iter().any(|band| band.steps.contains(&own)));
            let has_room = || {
                let gathered = gathered(&step.kernel, &step.schedule);
                gathered.is_some_and(|gathered| gathered.bytes() <= self.plan.scratch_bytes)
            };
            let may_gather = !step.schedule.gather || (is_alone && has_room());
            self.require(may_gather, || "it gathers what it can not, or where it has no scratch".to_string());
        }
    }

    /// Setup works on parameters and constants; steps read constants and write the rest.
    fn regions(&mut self, step: &Step, setup: bool) {
        for id in step.kernel.reads() {
            let place = &self.plan.buffer(id).place;
            let fits = match place {
                Place::Constant(_) | Place::Literal(..) => true,
                Place::Parameter(_) => setup,
                Place::Input(_) | Place::Output(_) | Place::Arena(_) | Place::Scratch(_) | Place::State(_) => !setup,
                Place::Unused => false,
            };
            self.require(fits, || format!("it reads b{} ({place})", id.0));
        }
        for id in step.kernel.writes() {
            let place = &self.plan.buffer(id).place;
            let fits = match place {
                Place::Constant(_) => setup,
                Place::Output(_) | Place::Arena(_) | Place::Scratch(_) | Place::State(_) => !setup,
                _ => false,
            };
            self.require(fits, || format!("it writes b{} ({place})", id.0));
        }
    }

    /// Loads are proven, checked or in the halo; stores are proven to be in the buffer or its halo, or computed.
    fn indices(&mut self, step: &Step) {
        for read in reads(&step.kernel) {
            let buffer = self.plan.buffer(read.buffer);
            let rank = read.at.len() == buffer.dims.len();
            self.require(rank, || format!("a load of b{} has {} indices", read.buffer.0, read.at.len()));
            let inside = |(index, &length): (&Index, &usize)| {
                matches!(index, Index::Computed(_)) || index.within(&read.extents, length)
            };
            let checked = read.outside.is_some() || read.at.iter().zip(&buffer.dims).all(inside);
            self.require(checked, || format!("a load of b{} may be outside: {:?}", read.buffer.0, read.at));
        }
        for store in &step.kernel.stores {
            let buffer = self.plan.buffer(store.buffer);
            let extents = step.kernel.space(&store.inner);
            let rank = store.at.len() == buffer.dims.len();
            self.require(rank, || format!("a store to b{} has {} indices", store.buffer.0, store.at.len()));
            let inside = store.at.iter().zip(&buffer.dims).enumerate().all(|(axis, (index, &length))| match index {
                Index::Computed(_) => true,
                _ => index.within(&extents, length) || is_within(index, &extents, length, buffer.layout.halo_of(axis)),
            });
            self.require(inside, || format!("a store to b{} may be outside: {:?}", store.buffer.0, store.at));
        }
    }

    fn schedule(&mut self, step: &Step) {
        let Step { kernel, schedule, .. } = step;
        let n_outer = kernel.outer.len() as u32;
        let permutes = |order: &[Axis], range: Range<u32>| {
            let mut sorted: Vec<u32> = order.iter().map(|axis| axis.0).collect();
            sorted.sort_unstable();
            sorted.into_iter().eq(range)
        };
        self.require(permutes(&schedule.order, 0..n_outer), || format!("loops {:?} of {n_outer}", schedule.order));
        let folds = schedule.fold_orders.len() == kernel.folds.len()
            && schedule
                .fold_orders
                .iter()
                .zip(&kernel.folds)
                .all(|(order, fold)| permutes(order, n_outer..n_outer + fold.inner.len() as u32));
        self.require(folds, || format!("folds are run as {:?}", schedule.fold_orders));
        let lanes = match schedule.vector {
            Some(Vector::Outer { axis, lanes }) => Some((axis, lanes)),
            _ => None,
        };
        let is_tile = |tile: &[(Axis, u32)]| {
            let all: SmallVec<[(Axis, u32); 3]> = tile.iter().copied().chain(lanes).collect();
            let known = |i: usize, axis: Axis| all[..i].iter().any(|(own, _)| *own == axis);
            all.iter().enumerate().all(|(i, &(axis, size))| axis.0 < n_outer && size > 0 && !known(i, axis))
        };
        self.require(
            is_tile(&schedule.tile) && schedule.rests.iter().all(|rest| rest.axis.0 < n_outer && is_tile(&rest.tile)),
            || format!("{schedule} of {n_outer} outer axes"),
        );
    }

    /// The positions of a band are independent: what its steps hand on is in scratch, written before it is read.
    fn bands(&mut self) {
        let plan = self.plan;
        let mut next = 0;
        let mut owner: Vec<Option<usize>> = vec![None; plan.buffers.len()];
        for (number, band) in plan.bands.iter().enumerate() {
            self.place = format!("band {number}");
            let listed =
                next <= band.steps.start && band.steps.start < band.steps.end && band.steps.end <= plan.steps.len();
            self.require(listed && band.positions > 0, || format!("{:?} of {} steps", band.steps, plan.steps.len()));
            if !listed {
                return;
            }
            next = band.steps.end;
            let written: Vec<BufferId> =
                plan.steps[band.steps.clone()].iter().flat_map(|step| step.kernel.writes()).collect();
            let mut known: Vec<BufferId> = Vec::new();
            for (i, step) in plan.steps[band.steps.clone()].iter().enumerate() {
                let (kernel, schedule) = (&step.kernel, &step.schedule);
                let first = schedule.order.first() == Some(&Axis(0)) && schedule.tile_size(Axis(0)) == 1;
                self.require(first && kernel.outer.first() == Some(&band.positions), || {
                    format!("step {i} runs {schedule} over {:?}, not {} positions", kernel.outer, band.positions)
                });
                let is_scratch = |id: BufferId| matches!(plan.buffer(id).place, Place::Scratch(_));
                for id in kernel.reads() {
                    let fits = if is_scratch(id) { known.contains(&id) } else { !written.contains(&id) };
                    self.require(fits, || format!("step {i} reads b{} of another position", id.0));
                }
                for store in &kernel.stores {
                    let apart = || told_apart(store.at.iter(), &kernel.space(&store.inner)).first() == Some(&true);
                    let fits = is_scratch(store.buffer) || (store.combine == crate::kernel::Combine::Set && apart());
                    self.require(fits, || format!("step {i} writes b{} at several positions", store.buffer.0));
                    if is_scratch(store.buffer) {
                        let own = *owner[store.buffer.0 as usize].get_or_insert(number) == number;
                        self.require(own, || format!("b{} is the scratch of two bands", store.buffer.0));
                        known.push(store.buffer);
                    }
                }
            }
        }
        for (i, step) in plan.steps.iter().enumerate() {
            let band = plan.bands.iter().position(|band| band.steps.contains(&i));
            for id in step.kernel.reads().into_iter().chain(step.kernel.writes()) {
                let scratch = matches!(plan.buffer(id).place, Place::Scratch(_));
                self.place = format!("step {i}");
                self.require(!scratch || (band.is_some() && owner[id.0 as usize] == band), || {
                    format!("b{} is the scratch of another band", id.0)
                });
            }
        }
        // Within a band all scratch is kept apart.
        for (number, band) in plan.bands.iter().enumerate() {
            let own = (0..plan.buffers.len()).filter(|&i| owner[i] == Some(number));
            let mut places: Vec<(u64, u64)> = own
                .filter_map(|i| match plan.buffers[i].place {
                    Place::Scratch(offset) => Some((offset, offset + plan.buffers[i].bytes())),
                    _ => None,
                })
                .collect();
            places.sort_unstable();
            self.place = format!("band of steps {:?}", band.steps);
            let apart = places.windows(2).all(|pair| pair[0].1 <= pair[1].0);
            self.require(apart, || format!("its scratch overlaps: {places:?}"));
        }
    }

    /// Whatever is read was written before, or given.
    fn lives(&mut self, lives: &[Life]) {
        for (buffer, life) in self.plan.buffers.iter().zip(lives) {
            self.place = format!("buffer `{}`", buffer.name);
            let given = match buffer.place {
                Place::Input(_) | Place::Parameter(_) | Place::Literal(..) => true,
                Place::Constant(_) => self.plan.parameters.iter().any(|port| self.is_at(port, buffer)),
                Place::State(i) => std::ptr::eq(self.plan.buffer(self.plan.states[i].buffer), buffer),
                _ => false,
            };
            if given {
                self.require(life.writes.is_empty(), || "it is given and written".to_string());
            } else if let Some(first) = life.reads.first() {
                let before = life.first_write().is_some_and(|write| write <= *first);
                self.require(before, || format!("position {first} reads it before it is written"));
            }
            if matches!(buffer.place, Place::Output(_)) || (matches!(buffer.place, Place::State(_)) && !given) {
                self.require(!life.writes.is_empty(), || "nothing writes the result".to_string());
            }
        }
    }

    fn is_at(&self, port: &Port, buffer: &PlannedBuffer) -> bool {
        std::ptr::eq(self.plan.buffer(port.buffer), buffer)
    }

    /// No two buffers of the arena are live at once in the same bytes, but where the later takes the place of the
    /// earlier element by element.
    fn overlaps(&mut self, lives: &[Life]) {
        let mut placed = Vec::new();
        for (i, buffer) in self.plan.buffers.iter().enumerate() {
            if let (Place::Arena(offset), Some(first), Some(last)) =
                (&buffer.place, lives[i].first_write(), lives[i].last())
            {
                placed.push((*offset, offset + buffer.bytes(), first, last, i));
            }
        }
        placed.sort_unstable();
        for (n, &(_, end, first, last, i)) in placed.iter().enumerate() {
            for &(offset, _, other_first, other_last, other) in &placed[n + 1..] {
                if offset >= end {
                    break;
                }
                if first <= other_last && other_first <= last {
                    let (old, new) = if first <= other_first { (i, other) } else { (other, i) };
                    self.place = format!("buffers b{old} and b{new}");
                    let shared = self.shares(lives, old, new);
                    self.require(shared, || "they are live in the same bytes".to_string());
                }
            }
        }
    }

    /// State has one layout for its old and its new value, and the old one is not read any more when the new one is
    /// written, but element by element.
    fn states(&mut self, lives: &[Life]) {
        for (i, state) in self.plan.states.iter().enumerate() {
            self.place = format!("state {i} `{}`", state.name);
            let old = self.plan.buffer(state.buffer);
            self.require(old.place == Place::State(i), || format!("b{} is elsewhere: {}", state.buffer.0, old.place));
            let Some(next) = state.next else { continue };
            let new = self.plan.buffer(next);
            let alike =
                (old.dtype, &old.dims, &old.layout, &old.place) == (new.dtype, &new.dims, &new.layout, &new.place);
            self.require(alike, || format!("b{} and b{} lie differently", state.buffer.0, next.0));
            let (old, new) = (state.buffer.0 as usize, next.0 as usize);
            let is_over = match (lives[old].last(), lives[new].first_write()) {
                (Some(last), Some(first)) => last < first || self.shares(lives, old, new),
                _ => true,
            };
            self.require(is_over, || format!("the old value is read after b{} is written", next.0));
        }
    }

    /// Whether `new` takes the place of `old` at the last use of that.
    fn shares(&self, lives: &[Life], old: usize, new: usize) -> bool {
        let (a, b) = (&self.plan.buffers[old], &self.plan.buffers[new]);
        let alike = a.place == b.place
            && a.dims == b.dims
            && a.dtype.bytes() == b.dtype.bytes()
            && (&a.layout.order, &a.layout.halo, &a.layout.block) == (&b.layout.order, &b.layout.halo, &b.layout.block);
        let (Some(last), Some(first)) = (lives[old].last(), lives[new].first_write()) else { return false };
        let step_at = |position: usize| match position.checked_sub(self.plan.setup.len()) {
            Some(step) => &self.plan.steps[step],
            None => &self.plan.setup[position],
        };
        let (from, to) = (BufferId(old as u32), BufferId(new as u32));
        // Before the step that has to do with both, only the halo of the new one may be written, and the old one must
        // not be used any more.
        let only_halo = |position: &usize| {
            let stores = step_at(*position).kernel.stores.iter().filter(|store| store.buffer == to);
            stores.clone().next().is_some()
                && stores
                    .clone()
                    .all(|store| halo_box(b, &store.at, &step_at(*position).kernel.space(&store.inner)).is_some())
        };
        alike
            && lives[old].writes.iter().all(|&write| write < first)
            && lives[old].reads.iter().all(|&read| read < first || read == last)
            && lives[new].writes.iter().all(|write| *write >= last || only_halo(write))
            && lives[new].writes.contains(&last)
            && lives[new].reads.iter().all(|&read| read > last)
            && is_in_place(&step_at(last).kernel, from, to)
    }

    /// What loads find in halos was written there before.
    fn halos(&mut self, lives: &[Life]) {
        let n_setup = self.plan.setup.len();
        let mut needed: Vec<Option<usize>> = vec![None; self.plan.buffers.len()];
        for (position, step) in all_steps(self.plan) {
            for read in reads(&step.kernel).iter().filter(|read| self.uses_halo(read)) {
                needed[read.buffer.0 as usize].get_or_insert(position);
            }
        }
        for (i, position) in needed.into_iter().enumerate() {
            let Some(position) = position else { continue };
            let buffer = &self.plan.buffers[i];
            self.place = format!("buffer b{i} `{}`", buffer.name);
            let mut filled = Vec::new();
            for &write in lives[i].writes.iter().filter(|&&write| write < position) {
                let step = if write < n_setup { &self.plan.setup[write] } else { &self.plan.steps[write - n_setup] };
                let value = buffer.layout.halo_value.map(crate::kernel::Scalar::Const);
                for store in step.kernel.stores.iter().filter(|store| store.buffer.0 as usize == i) {
                    let region = halo_box(buffer, &store.at, &step.kernel.space(&store.inner));
                    let right = Some(step.kernel.body.get(store.value)) == value.as_ref();
                    filled.extend(region.filter(|_| right));
                }
            }
            let interior: usize = buffer.dims.iter().product();
            let whole: usize = (0..buffer.dims.len())
                .map(|axis| {
                    let (before, behind) = buffer.layout.halo_of(axis);
                    buffer.dims[axis] + before + behind
                })
                .product();
            let apart = (0..filled.len()).all(|a| (0..a).all(|b| are_apart(&filled[a], &filled[b])));
            let volume: usize = filled.iter().map(|sides| sides.iter().map(|(_, n)| n).product::<usize>()).sum();
            self.require(apart && volume == whole - interior, || {
                format!("position {position} reads its halo, of which {volume} of {} are filled", whole - interior)
            });
        }
    }

    /// Whether emitted code leaves out a check because of the halo.
    fn uses_halo(&self, read: &Read) -> bool {
        let buffer = self.plan.buffer(read.buffer);
        let (layout, dims) = (&buffer.layout, &buffer.dims);
        let covered = read.outside.is_some() && read.outside == layout.halo_value;
        covered
            && !is_proven(read.at, &read.extents, layout, dims, false)
            && read.at.iter().enumerate().any(|(axis, index)| {
                !index.within(&read.extents, dims[axis])
                    && is_within(index, &read.extents, dims[axis], layout.halo_of(axis))
            })
    }
}

/// Start and length along each axis.
type Sides = Vec<(i64, usize)>;

/// The region that a store writes, where that is a box beside the elements of the buffer.
fn halo_box(buffer: &PlannedBuffer, at: &[Index], extents: &[usize]) -> Option<Sides> {
    let mut sides = Vec::new();
    for index in at {
        let form = plain(index)?;
        sides.push(match form.terms.as_slice() {
            [] => (form.offset, 1),
            [(axis, 1)] => (form.offset, extents[axis.0 as usize]),
            _ => return None,
        });
    }
    let interior: Sides = buffer.dims.iter().map(|&length| (0, length)).collect();
    are_apart(&sides, &interior).then_some(sides)
}

fn are_apart(a: &Sides, b: &Sides) -> bool {
    a.iter().zip(b).any(|(a, b)| a.0 + a.1 as i64 <= b.0 || b.0 + b.1 as i64 <= a.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::build::Operand;
    use crate::kernel::{Kernel, KernelBuilder, Literal};
    use crate::plan::evaluate;
    use crate::tensor::Array;
    use std::collections::BTreeMap;

    fn buffer(name: &str, n: usize, place: Place) -> PlannedBuffer {
        let layout = Layout::row_major(1);
        PlannedBuffer { name: name.into(), dtype: DType::F32, dims: vec![n], layout, place }
    }

    fn operand(id: u32, n: usize) -> Operand {
        Operand { buffer: BufferId(id), dtype: DType::F32, dims: vec![n] }
    }

    /// Writes the sum of neighbours at distances `from..=to`, 0 beyond the edges, times the number of operands.
    fn window(from: u32, to: u32, n: usize, distances: std::ops::RangeInclusive<i64>) -> Kernel {
        let mut k = KernelBuilder::new(&[n]);
        let i = k.outer(0);
        let mut sum = k.number(1.0);
        for distance in distances {
            let value = k.load_or(&operand(from, n), [i + distance], Literal::f32(0.0));
            sum = k.add(sum, value);
        }
        k.store(&operand(to, n), [i], sum);
        k.finish()
    }

    fn step(kernel: Kernel) -> Step {
        let schedule = Schedule::plain(&kernel);
        Step { nodes: vec!["n".to_string()], about: String::new(), kernel, schedule }
    }

    /// x -> a -> b -> y, with `a` and `b` at these places.
    fn chain(a: u64, b: u64, second: Kernel) -> Plan {
        Plan {
            buffers: vec![
                buffer("x", 20, Place::Input(0)),
                buffer("a", 20, Place::Arena(a)),
                buffer("b", 20, Place::Arena(b)),
                buffer("y", 20, Place::Output(0)),
            ],
            steps: vec![step(window(0, 1, 20, 0..=0)), step(second), step(window(2, 3, 20, -1..=1))],
            inputs: vec![Port { name: "x".into(), buffer: BufferId(0), dims: vec![20] }],
            outputs: vec![Port { name: "y".into(), buffer: BufferId(3), dims: vec![20] }],
            arena_bytes: 256,
            ..Plan::default()
        }
    }

    fn faults(plan: &Plan) -> String {
        verify(plan).err().unwrap_or_default().join("\n")
    }

    fn run(plan: &Plan) -> Result<Vec<f64>, crate::kernel::Fault> {
        let x = Array { dims: vec![20], data: (0..20).map(f64::from).collect() };
        let given = BTreeMap::from([("x".to_string(), x)]);
        evaluate(plan, &given).map(|outputs| outputs["y"].data.clone())
    }

    #[test]
    fn live_buffers_are_apart_or_in_place() {
        let apart = chain(0, 128, window(1, 2, 20, 0..=0));
        assert_eq!(faults(&apart), "");
        let in_place = chain(0, 0, window(1, 2, 20, 0..=0));
        assert_eq!(faults(&in_place), "");
        assert_eq!(run(&in_place), run(&apart));
        assert_eq!(run(&apart).unwrap()[..2], [6.0, 10.0]);
        // A window reads what an earlier point has overwritten.
        let torn = chain(0, 0, window(1, 2, 20, -1..=0));
        assert_eq!(faults(&torn), "buffers b1 and b2: they are live in the same bytes");
        assert_ne!(run(&torn), run(&chain(0, 128, window(1, 2, 20, -1..=0))));
        let shifted = chain(0, 64, window(1, 2, 20, 0..=0));
        assert_eq!(faults(&shifted), "buffers b1 and b2: they are live in the same bytes");
    }

    #[test]
    fn halos_are_filled_before_they_are_read() {
        let mut plan = chain(0, 128, window(1, 2, 20, 0..=0));
        let layout = &mut plan.buffers[2].layout;
        layout.halo = [(1, 1)].into_iter().collect();
        layout.halo_value = Some(Literal::f32(0.0));
        assert!(faults(&plan).ends_with("position 2 reads its halo, of which 0 of 2 are filled"), "{}", faults(&plan));
        assert!(matches!(run(&plan), Err(crate::kernel::Fault::Unwritten { kernel: 2, .. })), "{:?}", run(&plan));
        let mut k = KernelBuilder::new(&[]);
        let zero = k.number(0.0);
        k.store(&operand(2, 20), [-1], zero);
        k.store(&operand(2, 20), [20], zero);
        plan.steps.insert(0, step(k.finish()));
        assert_eq!(faults(&plan), "");
        assert_eq!(run(&plan), run(&chain(0, 128, window(1, 2, 20, 0..=0))));
    }

    #[test]
    fn each_fault_is_told() {
        let good = || chain(0, 128, window(1, 2, 20, 0..=0));
        let told = |change: fn(&mut Plan)| {
            let mut plan = good();
            change(&mut plan);
            faults(&plan)
        };
        assert_eq!(told(|_| {}), "");
        assert_eq!(told(|plan| plan.steps[0].schedule.order.clear()), "step 0 (n): loops [] of 1");
        assert_eq!(told(|plan| plan.steps.swap(0, 1)), "buffer `a`: position 0 reads it before it is written");
        let small = told(|plan| plan.arena_bytes = 200);
        assert_eq!(small, "buffer b2 `b`: 80 bytes at 128 leave the region of 200");
        let constant = told(|plan| {
            plan.buffers[1].place = Place::Constant(0);
            plan.constant_bytes = 128;
        });
        assert_eq!(constant, "step 0 (n): it writes b1 (constants + 0)");
        let vector = told(|plan| plan.steps[0].schedule.vector = Some(Vector::Outer { axis: Axis(1), lanes: 4 }));
        assert_eq!(vector, "step 0 (n): loops 0, vector 1 by 4 of 1 outer axes");
        let rest = told(|plan| {
            let tile = SmallVec::from_elem((Axis(0), 0), 1);
            plan.steps[0].schedule.rests.push(Rest { axis: Axis(0), tile });
        });
        assert_eq!(rest, "step 0 (n): loops 0, end of 0: 0 by 0 of 1 outer axes");
        let outside = told(|plan| plan.buffers[2].dims = vec![19]);
        assert!(outside.starts_with("step 1 (n): a store to b2 may be outside"), "{outside}");
    }
}
