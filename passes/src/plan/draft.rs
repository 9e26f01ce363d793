//! A program on its way to a plan: buffers have layouts, kernels know whether they run once.

use fusewright_ir::kernel::build::Operand;
use fusewright_ir::kernel::{
    Axis, BufferId, BufferInfo, Index, Kernel, KernelBuilder, NamedKernel, Program, Role, Scalar,
};
use fusewright_ir::plan::access::{reads, with_scalars};
use fusewright_ir::plan::{Layout, Port, Schedule};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Range;

/// What the stages of the planner work on.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// All buffers, by [`BufferId`].
    pub buffers: Vec<DraftBuffer>,
    /// In an order in which they can run.
    pub kernels: Vec<DraftKernel>,
    /// The results: name and buffer. Each buffer is computed for every call and named once.
    pub outputs: Vec<(String, BufferId)>,
    /// The axes of inputs and results as users see them, where the draft has joined some.
    pub shapes: BTreeMap<BufferId, Vec<usize>>,
    /// State, and what a run puts in its place: in the same memory, behind all other reads of it.
    pub states: Vec<(BufferId, Option<BufferId>)>,
}

/// A buffer with a layout.
#[derive(Clone, Debug)]
pub struct DraftBuffer {
    /// Name, type, axes and role.
    pub info: BufferInfo,
    /// How it lies in memory.
    pub layout: Layout,
    /// Whether kernels that run once write it, and no others.
    pub once: bool,
    /// Whether it is a result.
    pub is_output: bool,
    /// The axis that its readers and writers would have innermost; the layout follows where it may.
    pub wish: Option<usize>,
    /// Whether it is what the kernels of a band hand on at one position: it lives in scratch.
    pub is_scratch: bool,
    /// Whether it is state, or kernels compute it of state and constants alone.
    pub of_weights: bool,
    /// Which of the draft's states it is, before a run or after it.
    pub state: Option<usize>,
}

/// A kernel with a schedule.
#[derive(Clone, Debug)]
pub struct DraftKernel {
    /// The loop nest, and what it computes.
    pub named: NamedKernel,
    /// Whether it runs once, when parameters are given.
    pub once: bool,
    /// How it is run.
    pub schedule: Schedule,
    /// The band that it is of: a stretch of kernels that run together at each position of their first axis.
    pub band: Option<usize>,
}

impl DraftKernel {
    /// The loop nest.
    pub fn kernel(&self) -> &Kernel {
        &self.named.kernel
    }
}

/// Which kernels write and read each buffer, by position, ascending.
pub struct Uses {
    /// By [`BufferId`].
    pub writers: Vec<SmallVec<[usize; 2]>>,
    /// By [`BufferId`].
    pub readers: Vec<SmallVec<[usize; 4]>>,
}

impl Uses {
    /// Who writes and reads what.
    pub fn of<'k>(n_buffers: usize, kernels: impl Iterator<Item = &'k Kernel>) -> Uses {
        let mut uses = Uses { writers: vec![SmallVec::new(); n_buffers], readers: vec![SmallVec::new(); n_buffers] };
        for (k, kernel) in kernels.enumerate() {
            kernel.reads().iter().for_each(|buffer| uses.readers[buffer.0 as usize].push(k));
            kernel.writes().iter().for_each(|buffer| uses.writers[buffer.0 as usize].push(k));
        }
        uses
    }
}

impl DraftBuffer {
    /// A computed buffer in row-major order.
    pub fn computed(info: BufferInfo) -> DraftBuffer {
        let layout = Layout::row_major(info.dims.len());
        DraftBuffer {
            info: BufferInfo { role: Role::Computed, ..info },
            layout,
            once: false,
            is_output: false,
            wish: None,
            is_scratch: false,
            of_weights: false,
            state: None,
        }
    }

    /// Whether its values are known once parameters are.
    pub fn is_constant(&self) -> bool {
        self.once || matches!(self.info.role, Role::Parameter | Role::Constant(_))
    }

    /// Whether it belongs to the network, or is computed of what does, and not of what the network is given.
    pub fn is_weight(&self) -> bool {
        self.is_constant() || self.of_weights
    }

    /// Whether the planner may choose its layout: it lives in the arena, or in scratch.
    pub fn is_free(&self) -> bool {
        self.info.role == Role::Computed && !self.once && !self.is_output && self.state.is_none()
    }

    /// The number of elements that users see.
    pub fn elements(&self) -> u64 {
        self.info.dims.iter().map(|&n| n as u64).product()
    }

    /// The bytes that it takes with its layout.
    pub fn bytes(&self) -> u64 {
        (self.layout.elements(&self.info.dims) * self.info.dtype.bytes()) as u64
    }
}

impl Draft {
    /// The program with row-major layouts and plain schedules. Every result gets a buffer of its own that a kernel of
    /// every call writes: users may ask for an input, a parameter, or the same value twice.
    pub fn new(program: Program) -> Draft {
        let kernels: Vec<&Kernel> = program.kernels.iter().map(|named| &named.kernel).collect();
        let uses = Uses::of(program.buffers.len(), kernels.iter().copied());
        let Known { kernels: once, buffers: constants } = known(&program, &uses, false);
        let weights = known(&program, &uses, true).buffers;
        let mut draft = Draft::default();
        for info in program.buffers {
            let id = draft.buffers.len();
            let mut buffer = DraftBuffer::computed(info.clone());
            buffer.once = info.role == Role::Computed && constants[id];
            buffer.of_weights = weights[id];
            buffer.info.role = info.role;
            draft.buffers.push(buffer);
        }
        for (named, once) in program.kernels.into_iter().zip(once) {
            let schedule = Schedule::plain(&named.kernel);
            draft.kernels.push(DraftKernel { named, once, schedule, band: None });
        }
        for (name, mut id) in program.outputs {
            if !draft.buffer(id).is_free() {
                let copy = draft.add_like(id);
                let kernel = draft.copy_kernel(id, copy, name.clone(), "copy");
                draft.kernels.push(kernel);
                id = copy;
            }
            draft.buffers[id.0 as usize].is_output = true;
            draft.outputs.push((name, id));
        }
        draft
    }

    /// Makes bands of stretches of kernels. What the kernels of a band hand on, indexed by their common first axis, is kept
    /// for one position.
    pub fn make_bands(&mut self, bands: &[Range<usize>]) {
        let uses = self.uses();
        for (band, stretch) in bands.iter().enumerate() {
            for k in stretch.clone() {
                self.kernels[k].band = Some(band);
            }
            for id in self.buffer_ids() {
                let (writers, readers) = (&uses.writers[id.0 as usize], &uses.readers[id.0 as usize]);
                let inside = writers.iter().chain(readers).all(|k| stretch.contains(k));
                let by_position = |k: &usize| is_indexed_by_position(self.kernels[*k].kernel(), id);
                if writers.is_empty() || readers.is_empty() || !inside || !self.buffer(id).is_free() {
                    continue;
                }
                if !writers.iter().chain(readers).all(by_position) {
                    continue;
                }
                let buffer = self.buffer_mut(id);
                buffer.info.dims.remove(0);
                buffer.layout = Layout::row_major(buffer.info.dims.len());
                buffer.is_scratch = true;
                for k in stretch.clone() {
                    self.kernels[k].named.kernel = without_index(self.kernels[k].kernel(), id, 0);
                }
            }
        }
    }

    /// The buffer.
    pub fn buffer(&self, id: BufferId) -> &DraftBuffer {
        &self.buffers[id.0 as usize]
    }

    /// The buffer, to be changed.
    pub fn buffer_mut(&mut self, id: BufferId) -> &mut DraftBuffer {
        &mut self.buffers[id.0 as usize]
    }

    /// A port as users see it.
    pub fn port(&self, name: String, buffer: BufferId) -> Port {
        let dims = self.shapes.get(&buffer).unwrap_or(&self.buffer(buffer).info.dims).clone();
        Port { name: name.into(), buffer, dims }
    }

    /// What takes the place of a buffer that is state as a run finds it.
    pub fn next_of(&self, id: BufferId) -> Option<BufferId> {
        let (state, next) = self.states[self.buffer(id).state?];
        next.filter(|_| state == id)
    }

    /// All ids.
    pub fn buffer_ids(&self) -> impl Iterator<Item = BufferId> + use<> {
        (0..self.buffers.len() as u32).map(BufferId)
    }

    /// Who writes and reads what, as things stand.
    pub fn uses(&self) -> Uses {
        Uses::of(self.buffers.len(), self.kernels.iter().map(DraftKernel::kernel))
    }

    /// Adds a buffer.
    pub fn add(&mut self, buffer: DraftBuffer) -> BufferId {
        self.buffers.push(buffer);
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// Adds a computed buffer of the same name, type and axes, in row-major order.
    pub fn add_like(&mut self, id: BufferId) -> BufferId {
        let info = self.buffer(id).info.clone();
        self.add(DraftBuffer::computed(info))
    }

    /// The buffer as kernels are built with it.
    pub fn operand(&self, id: BufferId) -> Operand {
        let info = &self.buffer(id).info;
        Operand { buffer: id, dtype: info.dtype, dims: info.dims.clone() }
    }

    /// A kernel that copies all elements between buffers of the same axes.
    pub fn copy_kernel(&self, from: BufferId, to: BufferId, node: String, about: &str) -> DraftKernel {
        DraftKernel::new(copied(&self.operand(from), &self.operand(to)), vec![node], about)
    }

    /// Puts kernels in front of those at the given positions, which name old positions; in order for equal positions.
    pub fn insert(&mut self, mut added: Vec<(usize, DraftKernel)>) {
        if added.is_empty() {
            return;
        }
        // Bands stay whole.
        let same_band = |a: usize, b: usize| {
            let band = |k: usize| self.kernels.get(k).and_then(|kernel| kernel.band);
            band(a).is_some() && band(a) == band(b)
        };
        for (position, _) in &mut added {
            while *position > 0 && same_band(*position - 1, *position) {
                *position -= 1;
            }
        }
        added.sort_by_key(|(position, _)| *position);
        let mut added = added.into_iter().peekable();
        let old = std::mem::take(&mut self.kernels);
        for (k, kernel) in old.into_iter().enumerate() {
            while let Some((_, new)) = added.next_if(|(position, _)| *position <= k) {
                self.kernels.push(new);
            }
            self.kernels.push(kernel);
        }
        self.kernels.extend(added.map(|(_, new)| new));
    }
}

impl DraftKernel {
    /// A kernel of every call, with a plain schedule.
    pub fn new(kernel: Kernel, nodes: Vec<String>, about: &str) -> DraftKernel {
        let schedule = Schedule::plain(&kernel);
        DraftKernel {
            named: NamedKernel { nodes, about: about.to_string(), kernel },
            once: false,
            schedule,
            band: None,
        }
    }
}

/// The loop nest that copies all elements between buffers of the same axes.
pub fn copied(from: &Operand, to: &Operand) -> Kernel {
    let mut k = KernelBuilder::new(&from.dims);
    let axes = k.outer_axes();
    let value = k.load(from, axes.clone());
    k.store(to, axes, value);
    k.finish()
}

/// Whether every access to a buffer has the first axis as its first index.
fn is_indexed_by_position(kernel: &Kernel, id: BufferId) -> bool {
    let first = |at: &[Index]| at.first().and_then(Index::as_axis) == Some(Axis(0));
    kernel.stores.iter().filter(|store| store.buffer == id).all(|store| first(&store.at))
        && reads(kernel).iter().filter(|read| read.buffer == id).all(|read| first(read.at))
}

/// The kernel with one index left out of every access to a buffer.
pub fn without_index(kernel: &Kernel, id: BufferId, dim: usize) -> Kernel {
    let mut result = with_scalars(kernel, |_, scalar| match scalar {
        Scalar::Load { buffer, mut at, outside } if buffer == id => {
            at.remove(dim);
            Scalar::Load { buffer, at, outside }
        }
        other => other,
    });
    for store in result.stores.iter_mut().filter(|store| store.buffer == id) {
        store.at.remove(dim);
    }
    result
}

/// What of a program does not depend on what it is given for each run.
pub struct Known {
    /// By kernel.
    pub kernels: Vec<bool>,
    /// By [`BufferId`].
    pub buffers: Vec<bool>,
}

/// Which kernels depend on nothing but parameters, constants and, where `states` is set, state. All writers of a buffer are of
/// one kind: where a kernel of every call writes a part, or adds, the others have to write their parts anew before it.
pub fn known(program: &Program, uses: &Uses, states: bool) -> Known {
    let reads: Vec<Vec<BufferId>> = program.kernels.iter().map(|named| named.kernel.reads()).collect();
    let writes: Vec<Vec<BufferId>> = program.kernels.iter().map(|named| named.kernel.writes()).collect();
    let written = |kernels: &[bool], buffer: BufferId| uses.writers[buffer.0 as usize].iter().all(|&k| kernels[k]);
    let is_known = |kernels: &[bool], buffer: BufferId| match program.buffer(buffer).role {
        Role::Input => false,
        Role::State => states,
        Role::Parameter | Role::Constant(_) => true,
        Role::Computed => written(kernels, buffer),
    };
    let mut kernels = vec![true; program.kernels.len()];
    loop {
        let mut changed = false;
        for k in 0..kernels.len() {
            let holds =
                reads[k].iter().all(|&id| is_known(&kernels, id)) && writes[k].iter().all(|&id| written(&kernels, id));
            if kernels[k] && !holds {
                kernels[k] = false;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let is_made = |id: BufferId| program.buffer(id).role != Role::Computed || !uses.writers[id.0 as usize].is_empty();
    let buffers = program.buffer_ids().map(|(id, _)| is_made(id) && is_known(&kernels, id)).collect();
    Known { kernels, buffers }
}
