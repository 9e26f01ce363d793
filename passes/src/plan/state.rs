//! State: what a session keeps between runs, and what a run puts in its place.
//!
//! The new value is written where the old one was. That needs no memory, but every kernel that reads the old value has to
//! run first; where what they compute is needed to compute the new value, it is computed elsewhere and copied at the end.

use super::draft::{Draft, Uses};
use super::layout::innermost;
use fusewright_ir::kernel::{Axis, BufferId, BufferInfo, Kernel, Program, Role, Store, Update};
use fusewright_ir::plan::access::{Part, Read, is_in_place, plain, reads};
use fusewright_ir::plan::{Layout, Outline};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// The layout of every buffer that is state: as in another plan that works on it, which may be for another batch or for
/// evaluation, or as the network's sums like it.
pub fn layouts(program: &Program, other: Option<&Outline>) -> Vec<Option<Layout>> {
    let known: BTreeMap<&str, &Layout> = other.map_or_else(BTreeMap::new, |plan| {
        plan.states.iter().map(|state| (state.name.as_str(), &plan.buffer(state.buffer).layout)).collect()
    });
    let uses = Uses::of(program.buffers.len(), program.kernels.iter().map(|named| &named.kernel));
    let states: BTreeMap<&str, BufferId> = program
        .buffer_ids()
        .filter(|(_, info)| info.role == Role::State)
        .map(|(id, info)| (info.name.as_str(), id))
        .collect();
    // What an optimiser keeps beside a parameter (`c1.weight.exp_avg`) runs with it, and lies as it does.
    let parameter_of = |id: BufferId| {
        let info = program.buffer(id);
        let parameter = info.name.rsplit_once('.').and_then(|(parameter, _)| states.get(parameter));
        parameter.copied().filter(|parameter| program.buffer(*parameter).dims == info.dims).unwrap_or(id)
    };
    let of = |(id, info): (BufferId, &BufferInfo)| {
        (info.role == Role::State).then(|| match known.get(info.name.as_str()) {
            Some(&layout) => layout.clone(),
            None => innermost(info.dims.len(), output_channel(program, &uses, parameter_of(id))),
        })
    };
    program.buffer_ids().map(of).collect()
}

/// The axis of a weight along which the results of the first sum that reads it lie, itself or what is made of it element by
/// element (evaluation scales weights by the statistics of a batch norm): vectors run along it, forward and in the weight's
/// gradient.
fn output_channel(program: &Program, uses: &Uses, id: BufferId) -> Option<usize> {
    uses.readers[id.0 as usize].iter().find_map(|&k| {
        let kernel = &program.kernels[k].kernel;
        let n_outer = kernel.outer.len() as u32;
        let all = reads(kernel);
        let own = || all.iter().filter(|read| read.buffer == id);
        if let Some(read) = own().find(|read| matches!(read.part, Part::Fold(_))) {
            let is_outer = |axis: Option<Axis>| axis.is_some_and(|axis| axis.0 < n_outer);
            let folded = |index| plain(index).is_some_and(|form| form.terms.iter().any(|(axis, _)| axis.0 >= n_outer));
            let channel = read.at.iter().position(|index| is_outer(index.as_axis()));
            return channel.filter(|_| read.at.iter().any(folded));
        }
        let dims = &program.buffer(id).dims;
        let alike = |read: &Read, store: &Store| {
            program.buffer(store.buffer).dims == *dims
                && (0..dims.len()).all(|dim| dims[dim] == 1 || read.at[dim] == store.at[dim])
        };
        let made = |store: &Store| own().any(|read| alike(read, store)) && store.buffer > id;
        let store = kernel.stores.iter().find(|store| made(store))?;
        output_channel(program, uses, store.buffer)
    })
}

/// Gives state its memory, and every new value that of the old one, or a copy there.
pub fn place(draft: &mut Draft, updates: &[Update], layouts: Vec<Option<Layout>>) {
    for (id, layout) in layouts.into_iter().enumerate() {
        let Some(layout) = layout else { continue };
        draft.buffers[id].layout = layout;
        draft.buffers[id].state = Some(draft.states.len());
        draft.states.push((BufferId(id as u32), None));
    }
    let mut flow = Flow::of(draft);
    for &Update { state, value } in updates {
        let mut value = value;
        if !flow.may_be_written_there(draft, state, value) {
            // What is itself state may be replaced before it is copied.
            let hops = if draft.buffer(value).info.role == Role::State { 2 } else { 1 };
            for _ in 0..hops {
                let copy = draft.add_like(value);
                let name = draft.buffer(state).info.name.clone();
                let kernel = draft.copy_kernel(value, copy, name, "copy");
                draft.kernels.push(kernel);
                flow.push(draft);
                value = copy;
            }
        }
        let (layout, number) = (draft.buffer(state).layout.clone(), draft.buffer(state).state);
        let next = draft.buffer_mut(value);
        (next.layout, next.state) = (layout, number);
        if let Some(number) = number {
            draft.states[number].1 = Some(value);
        }
    }
}

/// Who reads and writes what.
struct Flow {
    uses: Uses,
    /// By kernel.
    reads: Vec<Vec<BufferId>>,
    /// By kernel.
    writes: Vec<Vec<BufferId>>,
}

impl Flow {
    fn of(draft: &Draft) -> Flow {
        let kernels = || draft.kernels.iter().map(|kernel| kernel.kernel());
        let (reads, writes) = (kernels().map(Kernel::reads).collect(), kernels().map(Kernel::writes).collect());
        Flow { uses: draft.uses(), reads, writes }
    }

    /// Takes in the last kernel of the draft, and the last buffer, which it writes.
    fn push(&mut self, draft: &Draft) {
        let (k, kernel) = (self.reads.len(), draft.kernels[self.reads.len()].kernel());
        let (reads, writes) = (kernel.reads(), kernel.writes());
        self.uses.readers.resize(draft.buffers.len(), SmallVec::new());
        self.uses.writers.resize(draft.buffers.len(), SmallVec::new());
        reads.iter().for_each(|id| self.uses.readers[id.0 as usize].push(k));
        writes.iter().for_each(|id| self.uses.writers[id.0 as usize].push(k));
        self.reads.push(reads);
        self.writes.push(writes);
    }

    /// Whether the kernels that compute `value` may write it over `state`: all others that read that can run before them.
    fn may_be_written_there(&self, draft: &Draft, state: BufferId, value: BufferId) -> bool {
        let (readers, writers) = (&self.uses.readers[state.0 as usize], &self.uses.writers[value.0 as usize]);
        let is_torn = |k: &usize| {
            readers.contains(k) && (writers.len() > 1 || !is_in_place(draft.kernels[*k].kernel(), state, value))
        };
        let in_band = || readers.iter().chain(writers).any(|&k| draft.kernels[k].band.is_some());
        let others: Vec<usize> = readers.iter().copied().filter(|reader| !writers.contains(reader)).collect();
        draft.buffer(value).is_free()
            && !writers.is_empty()
            && !writers.iter().any(is_torn)
            && !in_band()
            && !self.any_follows(draft, &others, writers)
    }

    /// Whether one of `kernels` runs behind any of `before`, for what it reads or for state that it must not find changed.
    fn any_follows(&self, draft: &Draft, kernels: &[usize], before: &[usize]) -> bool {
        let mut reached = vec![false; draft.kernels.len()];
        let mut waiting: Vec<usize> = before.to_vec();
        while let Some(k) = waiting.pop() {
            if std::mem::replace(&mut reached[k], true) {
                continue;
            }
            for id in &self.writes[k] {
                waiting.extend(&self.uses.readers[id.0 as usize]);
                waiting.extend(self.uses.writers[id.0 as usize].iter().filter(|&&other| other > k));
            }
            for next in self.reads[k].iter().filter_map(|&id| draft.next_of(id)) {
                waiting.extend(self.uses.writers[next.0 as usize].iter().filter(|&&other| other != k));
            }
        }
        kernels.iter().any(|&k| reached[k])
    }
}
