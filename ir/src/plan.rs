//! The plan: kernels in order, each with a schedule, every buffer with a layout and a place. It is all that the passes
//! tell the runtime.

pub mod access;
pub mod edges;
pub mod evaluate;
pub mod print;
pub mod sound;
pub mod verify;

pub use evaluate::evaluate;
pub use sound::sound;
pub use verify::verify;

use crate::kernel::{Axis, BufferId, Kernel, Literal};
use crate::tensor::{DType, Tensor, TensorType};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// A network ready to be turned into machine code; with [`Label`]s for steps, what is left to know when it is code.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan<S = Step> {
    /// All buffers, by [`BufferId`].
    pub buffers: Vec<PlannedBuffer>,
    /// Run once, when parameters are given: packing and whatever else depends on nothing but parameters.
    pub setup: Vec<S>,
    /// Run for every call, in order, but for those of bands.
    pub steps: Vec<S>,
    /// Stretches of steps that are run together position by position, ascending and apart.
    pub bands: Vec<Band>,
    /// What the user gives for each call.
    pub inputs: Vec<Port>,
    /// What the user gives once. A parameter whose buffer has a place among the constants is copied there.
    pub parameters: Vec<Port>,
    /// What the user gets.
    pub outputs: Vec<Port>,
    /// What belongs to the session and stays from run to run.
    pub states: Vec<State>,
    /// Bytes of packed parameters and constants, shared by all sessions.
    pub constant_bytes: u64,
    /// Bytes of the activation arena, one a session.
    pub arena_bytes: u64,
    /// Bytes of scratch for each thread: what the steps of a band hand on, or what a step gathers.
    pub scratch_bytes: u64,
    /// The largest sum of bytes that are live at once: no arena can be smaller in this order of steps.
    pub lower_bound_bytes: u64,
    /// Bytes that the arena would take with a place of its own for every buffer.
    pub unplanned_bytes: u64,
    /// Bytes that the arena would take more if no step ran again.
    pub saved_bytes: u64,
    /// Scalar operations of the steps that run again, so that their results need not be kept.
    pub repeated_operations: u64,
}

/// A plan without its loops: where everything lies, and what the steps are called. It takes a twentieth of the memory.
pub type Outline = Plan<Label>;

/// A named buffer that the user gives or gets, in row-major order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The name.
    pub name: CompactString,
    /// The buffer. It may have one axis where users see several neighbours.
    pub buffer: BufferId,
    /// The axes as users see them.
    pub dims: Vec<usize>,
}

/// A named buffer that a session keeps. Its layout is fixed by the network alone, not by batch or schedule: plans for
/// training and for evaluation share it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The name of the parameter.
    pub name: CompactString,
    /// What kernels read: the value that it has before the run.
    pub buffer: BufferId,
    /// What takes its place in the same memory, where the plan updates it. It is written after all reads of the old value, or
    /// element by element where that is read.
    pub next: Option<BufferId>,
}

/// One kernel at its place in the order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// The graph nodes it computes.
    pub nodes: Vec<String>,
    /// Their operations, for people: `Conv2d Relu`.
    pub about: String,
    /// The loop nest.
    pub kernel: Kernel,
    /// How it is run.
    pub schedule: Schedule,
}

/// A step, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The graph nodes it computes.
    pub nodes: SmallVec<[CompactString; 1]>,
    /// Their operations: `Conv2d Relu`.
    pub about: CompactString,
    /// The scalar operations of a run: [`Kernel::operations`].
    pub operations: u64,
}

/// Steps that are run one behind the other at each position of an axis that all have as their first: what they hand on
/// stays in a near cache. Positions do not depend on each other; threads take different ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Band {
    /// Which of the plan's steps.
    pub steps: Range<usize>,
    /// The length of the axis, `Axis(0)` of every kernel of the band and its outermost loop.
    pub positions: usize,
}

/// A buffer with layout and place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedBuffer {
    /// The name of the value, for people.
    pub name: CompactString,
    /// The type of the elements.
    pub dtype: DType,
    /// The logical axes.
    pub dims: Vec<usize>,
    /// How they lie in memory.
    pub layout: Layout,
    /// Where.
    pub place: Place,
}

impl PlannedBuffer {
    /// The bytes it takes, halo and block padding included.
    pub fn bytes(&self) -> u64 {
        (self.layout.elements(&self.dims) * self.dtype.bytes()) as u64
    }
}

/// Where a buffer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Place {
    /// The user's memory, given for each call.
    Input(usize),
    /// The user's memory, written by each call.
    Output(usize),
    /// The user's memory, read by `setup` only.
    Parameter(usize),
    /// The session's memory for one of [`Plan::states`].
    State(usize),
    /// At an offset among the constants; `setup` or a copy of a parameter fills it.
    Constant(u64),
    /// At an offset of the arena.
    Arena(u64),
    /// At an offset of the scratch of the thread that runs a band: what the band's steps hand on at one position.
    Scratch(u64),
    /// Nowhere: fused away.
    Unused,
    /// At an offset among the constants, filled with these values when the executable is made. In an outline it is a constant
    /// like any other. It is not written, and last: serde counts the variants that it reads without those that it skips.
    #[serde(skip)]
    Literal(u64, Arc<Tensor>),
}

/// How the logical axes of a buffer lie in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// The logical axes, outermost first.
    pub order: SmallVec<[u8; 6]>,
    /// Elements kept before and behind each logical axis, all of `halo_value`; empty for none.
    pub halo: Vec<(u32, u32)>,
    /// What loads beyond the edges find in the halo.
    pub halo_value: Option<Literal>,
    /// One axis cut into blocks whose lanes lie innermost; its length is padded up to whole blocks.
    pub block: Option<Block>,
}

/// An axis cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Block {
    /// The logical axis.
    pub axis: u8,
    /// Elements a block.
    pub lanes: u32,
}

impl Layout {
    /// The order that users see.
    pub fn row_major(rank: usize) -> Layout {
        Layout { order: (0..rank as u8).collect(), halo: Vec::new(), halo_value: None, block: None }
    }

    /// Whether it is the plain order that users see.
    pub fn is_row_major(&self) -> bool {
        self.halo.is_empty()
            && self.block.is_none()
            && self.order.iter().enumerate().all(|(i, &axis)| i == axis as usize)
    }

    /// Elements before and behind a logical axis.
    pub fn halo_of(&self, axis: usize) -> (usize, usize) {
        self.halo.get(axis).map_or((0, 0), |&(before, behind)| (before as usize, behind as usize))
    }

    /// The length that an axis takes in memory: halo included, in whole blocks.
    fn stored(&self, axis: usize, dims: &[usize]) -> usize {
        let (before, behind) = self.halo_of(axis);
        let length = dims[axis] + before + behind;
        match self.block {
            Some(block) if block.axis as usize == axis => length.div_ceil(block.lanes as usize),
            _ => length,
        }
    }

    /// The elements it takes.
    pub fn elements(&self, dims: &[usize]) -> usize {
        let lanes = self.block.map_or(1, |block| block.lanes as usize);
        (0..dims.len()).map(|axis| self.stored(axis, dims)).product::<usize>() * lanes
    }

    /// The distance, in elements, between neighbours along each logical axis (for a blocked axis: between blocks).
    pub fn strides(&self, dims: &[usize]) -> SmallVec<[usize; 6]> {
        let mut strides = SmallVec::from_elem(0, dims.len());
        let mut step = self.block.map_or(1, |block| block.lanes as usize);
        for &axis in self.order.iter().rev() {
            strides[axis as usize] = step;
            step *= self.stored(axis as usize, dims);
        }
        strides
    }

    /// The element at which the logical origin lies.
    pub fn origin(&self, dims: &[usize]) -> usize {
        let strides = self.strides(dims);
        (0..dims.len()).map(|axis| self.halo_of(axis).0 * strides[axis]).sum()
    }

    /// The element at which a logical index lies; coordinates within the halo are allowed (a blocked axis has none).
    pub fn element(&self, dims: &[usize], index: &[i64]) -> usize {
        let strides = self.strides(dims);
        let mut element = self.origin(dims) as i64;
        for (axis, (&i, &stride)) in index.iter().zip(&strides).enumerate() {
            element += match self.block {
                Some(block) if block.axis as usize == axis => {
                    i / i64::from(block.lanes) * stride as i64 + i % i64::from(block.lanes)
                }
                _ => i * stride as i64,
            };
        }
        element as usize
    }
}

/// How a kernel is run. The default runs every loop in order, one point at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// The outer axes from the outermost loop inwards; all of them, each once.
    pub order: SmallVec<[Axis; 6]>,
    /// For each fold, its inner axes from the outermost loop inwards (`Axis(outer.len())` and on).
    pub fold_orders: SmallVec<[SmallVec<[Axis; 6]>; 1]>,
    /// The axis whose neighbours share a vector register; none where points are computed one at a time.
    pub vector: Option<Vector>,
    /// Outer axes of which several points are computed at once in registers, with the number of points.
    pub tile: SmallVec<[(Axis, u32); 2]>,
    /// Tiles of other shapes at the ends of axes, for loops within theirs.
    pub rests: SmallVec<[Rest; 1]>,
    /// Whether the first store passes by the caches: what it writes is larger than they are.
    pub streaming: bool,
    /// Whether the first tile along the innermost loop puts what a fold reads along the vectors side by side in the thread's
    /// scratch, where the other tiles read it: see [`access::gathered`].
    pub gather: bool,
    /// Whether the tiles of a block of lanes ask the caches for what those of the next block share, a part each: see
    /// [`access::shared`].
    pub ahead: bool,
    /// Whether the loops of folds are written out further than elsewhere: where all sums of a tile take the same numbers times
    /// elements of windows that overlap, and other tiles others, as those of a depthwise convolution along rows do. Every
    /// element then goes to many sums, and is read for no others.
    pub windows: bool,
}

/// The tile where an axis of lanes or of a tile has fewer points left than elsewhere, which leaves registers for more along
/// others. No load crosses an edge then, or there are none such.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rest {
    /// The axis.
    pub axis: Axis,
    /// Its last points' tile along the axes whose loops are within its own, in the place of [`Schedule::tile`].
    pub tile: SmallVec<[(Axis, u32); 2]>,
}

/// Which points share a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vector {
    /// Neighbours along an outer axis, `lanes` of them in each tile (any number of vectors wide).
    Outer {
        /// The axis.
        axis: Axis,
        /// Points of the tile along it.
        lanes: u32,
    },
    /// Neighbours along the last inner axis, which all folds and stores over inner axes share, and which is innermost in
    /// every fold order.
    Inner,
}

impl Schedule {
    /// The loops of a fold are written out where its steps times the vectors of a tile are no more than this: overlapping
    /// windows then read an element once.
    pub fn most_unrolled(windows: bool) -> usize {
        if windows { 800 } else { 160 }
    }

    /// Whether the weights of a window of so many taps are so few that 16 registers hold them beside sums, or nearly. Others are
    /// read for each row of vectors.
    pub fn weights_stay(taps: usize) -> bool {
        taps <= 9
    }

    /// Every loop in order, one point at a time.
    pub fn plain(kernel: &Kernel) -> Schedule {
        let outer = kernel.outer.len() as u32;
        let inner = |n: usize| (outer..outer + n as u32).map(Axis).collect();
        Schedule {
            order: (0..outer).map(Axis).collect(),
            fold_orders: kernel.folds.iter().map(|fold| inner(fold.inner.len())).collect(),
            vector: None,
            tile: SmallVec::new(),
            rests: SmallVec::new(),
            streaming: false,
            gather: false,
            ahead: false,
            windows: false,
        }
    }
}

impl Schedule {
    /// The points that a whole tile has along an outer axis.
    pub fn tile_size(&self, axis: Axis) -> usize {
        match self.vector {
            Some(Vector::Outer { axis: own, lanes }) if own == axis => lanes as usize,
            _ => points(&self.tile, axis),
        }
    }

    /// The points that a tile has along an outer axis where the axes of which `is_short` is true are at their last points, which
    /// are fewer than elsewhere.
    pub fn tile_size_where(&self, is_short: impl Fn(Axis) -> bool, axis: Axis) -> usize {
        let holds = |rest: &&Rest| self.is_within(axis, rest.axis) && is_short(rest.axis);
        let place = |rest: &&Rest| self.order.iter().position(|own| *own == rest.axis);
        match (self.vector, self.rests.iter().filter(holds).max_by_key(place)) {
            (Some(Vector::Outer { axis: lanes, .. }), _) if lanes == axis => self.tile_size(axis),
            (_, None) => self.tile_size(axis),
            (_, Some(rest)) => points(&rest.tile, axis),
        }
    }

    /// Whether the loop over an outer axis is within that over another.
    pub fn is_within(&self, axis: Axis, other: Axis) -> bool {
        let place = |axis: Axis| self.order.iter().position(|own| *own == axis);
        place(other) < place(axis)
    }
}

/// The points of a tile along an axis.
fn points(tile: &[(Axis, u32)], axis: Axis) -> usize {
    tile.iter().find(|(own, _)| *own == axis).map_or(1, |(_, points)| *points as usize)
}

impl Plan {
    /// What is left to know when the plan is code, and the numbers that buffers have there: those that were fused away, half of
    /// them in a training, are left out.
    pub fn outline(&self) -> (Outline, BTreeMap<BufferId, BufferId>) {
        let ports = [&self.inputs, &self.parameters, &self.outputs].into_iter().flatten().map(|port| port.buffer);
        let states = self.states.iter().flat_map(|state| [Some(state.buffer), state.next]).flatten();
        let named: BTreeSet<BufferId> = ports.chain(states).collect();
        let ids = (0..).map(BufferId).zip(&self.buffers);
        let kept = ids.filter(|(id, buffer)| buffer.place != Place::Unused || named.contains(id));
        let (kept, buffers): (Vec<BufferId>, Vec<&PlannedBuffer>) = kept.unzip();
        let numbers: BTreeMap<BufferId, BufferId> = kept.into_iter().zip((0..).map(BufferId)).collect();
        let port = |port: &Port| Port { buffer: numbers[&port.buffer], ..port.clone() };
        let ports = |all: &[Port]| all.iter().map(port).collect();
        let state = |state: &State| {
            let (buffer, next) = (numbers[&state.buffer], state.next.map(|next| numbers[&next]));
            State { name: state.name.clone(), buffer, next }
        };
        let label = |step: &Step| Label {
            nodes: step.nodes.iter().map(CompactString::from).collect(),
            about: step.about.as_str().into(),
            operations: step.kernel.operations(),
        };
        let placed = |buffer: &PlannedBuffer| match buffer.place {
            Place::Literal(offset, _) => PlannedBuffer { place: Place::Constant(offset), ..buffer.clone() },
            _ => buffer.clone(),
        };
        let outline = Plan {
            buffers: buffers.into_iter().map(placed).collect(),
            setup: self.setup.iter().map(label).collect(),
            steps: self.steps.iter().map(label).collect(),
            bands: self.bands.clone(),
            inputs: ports(&self.inputs),
            parameters: ports(&self.parameters),
            outputs: ports(&self.outputs),
            states: self.states.iter().map(state).collect(),
            constant_bytes: self.constant_bytes,
            arena_bytes: self.arena_bytes,
            scratch_bytes: self.scratch_bytes,
            lower_bound_bytes: self.lower_bound_bytes,
            unplanned_bytes: self.unplanned_bytes,
            saved_bytes: self.saved_bytes,
            repeated_operations: self.repeated_operations,
        };
        (outline, numbers)
    }
}

impl<S> Plan<S> {
    /// The type of a port as users see it.
    pub fn port_type(&self, port: &Port) -> TensorType {
        TensorType::new(self.buffer(port.buffer).dtype, port.dims.iter().copied())
    }

    /// The buffer.
    pub fn buffer(&self, id: BufferId) -> &PlannedBuffer {
        &self.buffers[id.0 as usize]
    }

    /// The steps in the order in which they run: single ones, and bands with their number of positions.
    pub fn units(&self) -> Vec<(Range<usize>, Option<usize>)> {
        let mut units = Vec::new();
        let mut next = 0;
        for band in &self.bands {
            units.extend((next..band.steps.start).map(|step| (step..step + 1, None)));
            units.push((band.steps.clone(), Some(band.positions)));
            next = band.steps.end;
        }
        units.extend((next..self.steps.len()).map(|step| (step..step + 1, None)));
        units
    }
}
