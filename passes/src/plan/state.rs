//! State: what a session keeps between runs, and what a run puts in its place.
//!
//! The new value is written where the old one was. That needs no memory, but every kernel that reads the old value has to
//! run first; where what they compute is needed to compute the new value, it is computed elsewhere and copied at the end.

use super::draft::Draft;
use super::layout::innermost;
use fusewright_ir::kernel::{Axis, BufferId, Program, Role, Store, Update};
use fusewright_ir::plan::Layout;
use fusewright_ir::plan::access::{Part, Read, is_in_place, plain, reads};

/// The layout of every buffer that is state. It follows from the network alone, so that its plans for other batches, and for
/// evaluation, find state as this one leaves it.
pub fn layouts(program: &Program) -> Vec<Option<Layout>> {
    let of = |(id, info): (BufferId, &fusewright_ir::kernel::BufferInfo)| {
        (info.role == Role::State).then(|| innermost(info.dims.len(), output_channel(program, id)))
    };
    program.buffer_ids().map(of).collect()
}

/// The axis of a weight along which the results of the first sum that reads it lie, itself or what is made of it element by
/// element (evaluation scales weights by the statistics of a batch norm): vectors run along it, forward and in the weight's
/// gradient.
fn output_channel(program: &Program, id: BufferId) -> Option<usize> {
    program.kernels.iter().find_map(|named| {
        let kernel = &named.kernel;
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
        output_channel(program, store.buffer)
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
    for &Update { state, value } in updates {
        let mut value = value;
        if !may_be_written_there(draft, state, value) {
            // What is itself state may be replaced before it is copied.
            let hops = if draft.buffer(value).info.role == Role::State { 2 } else { 1 };
            for _ in 0..hops {
                let copy = draft.add_like(value);
                let name = draft.buffer(state).info.name.clone();
                let kernel = draft.copy_kernel(value, copy, name, "copy");
                draft.kernels.push(kernel);
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

/// Whether the kernels that compute `value` may write it over `state`: all others that read that can run before them.
fn may_be_written_there(draft: &Draft, state: BufferId, value: BufferId) -> bool {
    let uses = draft.uses();
    let (readers, writers) = (&uses.readers[state.0 as usize], &uses.writers[value.0 as usize]);
    let element_by_element = |k: &&usize| {
        readers.contains(k) && (writers.len() > 1 || !is_in_place(draft.kernels[**k].kernel(), state, value))
    };
    let in_band = || readers.iter().chain(writers).any(|&k| draft.kernels[k].band.is_some());
    draft.buffer(value).is_free()
        && !writers.is_empty()
        && !writers.iter().any(|k| element_by_element(&k))
        && !in_band()
        && !readers.iter().any(|reader| !writers.contains(reader) && follows(draft, *reader, writers))
}

/// Whether a kernel runs behind any of `before`, for what it reads or for state that it must not find changed.
fn follows(draft: &Draft, kernel: usize, before: &[usize]) -> bool {
    let uses = draft.uses();
    let mut reached = vec![false; draft.kernels.len()];
    let mut waiting: Vec<usize> = before.to_vec();
    while let Some(k) = waiting.pop() {
        if std::mem::replace(&mut reached[k], true) {
            continue;
        }
        let own = draft.kernels[k].kernel();
        let mut after: Vec<usize> = Vec::new();
        for id in own.writes() {
            after.extend(&uses.readers[id.0 as usize]);
            after.extend(uses.writers[id.0 as usize].iter().filter(|&&other| other > k));
        }
        for id in own.reads() {
            if let Some(next) = draft.next_of(id) {
                after.extend(&uses.writers[next.0 as usize]);
            }
        }
        waiting.extend(after.into_iter().filter(|&other| other != k));
    }
    reached[kernel]
}
