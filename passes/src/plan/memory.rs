//! Where every buffer is: constants beside each other, the arena by lifetimes.
//!
//! A step that reads each element of a dying buffer only where it writes the same element of a new one may write in
//! place; the two are then placed as one.

use super::PlanOptions;
use super::draft::{Draft, Uses};
use super::halo;
use crate::place::{Lifetime, place as place_lifetimes};
use fusewright_ir::kernel::{BufferId, Role};
use fusewright_ir::plan::access::{gathered, is_in_place};
use fusewright_ir::plan::{Band, Place, Plan, PlannedBuffer, State, Step};

/// Every buffer begins at a multiple of so many bytes: the width of a cache line and of the widest vector.
pub const ALIGNMENT: u64 = 64;

/// The plan with every buffer in its place.
pub fn place(draft: Draft, options: &PlanOptions) -> Plan {
    let mut plan = Plan::default();
    let uses = draft.uses();
    let arena = arena(&draft, &uses, options, &mut plan);
    let mut scratch: Vec<u64> = Vec::new();
    for (id, offset) in draft.buffer_ids().zip(arena) {
        let place = place_of(&draft, &uses, id, offset, &mut scratch, &mut plan);
        let buffer = draft.buffer(id);
        plan.buffers.push(PlannedBuffer {
            name: buffer.info.name.as_str().into(),
            dtype: buffer.info.dtype,
            dims: buffer.info.dims.clone(),
            layout: buffer.layout.clone(),
            place,
        });
    }
    plan.outputs = draft.outputs.iter().map(|(name, buffer)| draft.port(name.clone(), *buffer)).collect();
    let mut last = None;
    for kernel in draft.kernels {
        let (named, schedule, step) = (kernel.named, kernel.schedule, plan.steps.len());
        if kernel.band.is_some() {
            match plan.bands.last_mut().filter(|_| last == kernel.band) {
                Some(band) => band.steps.end = step + 1,
                None => plan.bands.push(Band { steps: step..step + 1, positions: named.kernel.outer[0] }),
            }
        }
        last = kernel.band;
        if schedule.gather
            && let Some(gathered) = gathered(&named.kernel, &schedule)
        {
            plan.scratch_bytes = plan.scratch_bytes.max(gathered.bytes().next_multiple_of(ALIGNMENT));
        }
        let step = Step { nodes: named.nodes, about: named.about, kernel: named.kernel, schedule };
        if kernel.once { plan.setup.push(step) } else { plan.steps.push(step) }
    }
    let name = |buffer: BufferId| plan.buffer(buffer).name.clone();
    plan.states = draft.states.iter().map(|&(buffer, next)| State { name: name(buffer), buffer, next }).collect();
    plan
}

fn place_of(
    draft: &Draft,
    uses: &Uses,
    id: BufferId,
    arena: Option<u64>,
    scratch: &mut Vec<u64>,
    plan: &mut Plan,
) -> Place {
    let buffer = draft.buffer(id);
    let (readers, writers) = (&uses.readers[id.0 as usize], &uses.writers[id.0 as usize]);
    let port = || draft.port(buffer.info.name.clone(), id);
    let constant = |end: &mut u64| {
        let offset = *end;
        *end += buffer.bytes().next_multiple_of(ALIGNMENT);
        offset
    };
    if let Some(number) = buffer.state {
        return Place::State(number);
    }
    match &buffer.info.role {
        Role::Input => {
            plan.inputs.push(port());
            Place::Input(plan.inputs.len() - 1)
        }
        Role::Parameter => {
            plan.parameters.push(port());
            match readers.iter().all(|&k| draft.kernels[k].once) {
                true => Place::Parameter(plan.parameters.len() - 1),
                false => Place::Constant(constant(&mut plan.constant_bytes)),
            }
        }
        Role::State => unreachable!("every state has a number"),
        Role::Constant(_) if readers.is_empty() => Place::Unused,
        Role::Constant(tensor) => Place::Literal(constant(&mut plan.constant_bytes), tensor.clone()),
        Role::Computed if buffer.is_output => {
            let position = draft.outputs.iter().position(|(_, output)| *output == id);
            Place::Output(position.expect("outputs are listed"))
        }
        Role::Computed if writers.is_empty() => Place::Unused,
        Role::Computed if buffer.is_scratch => {
            // All scratch of one band side by side; bands are not run at the same time by one thread.
            let band = draft.kernels[writers[0]].band.expect("scratch belongs to a band");
            scratch.resize(scratch.len().max(band + 1), 0);
            let offset = constant(&mut scratch[band]);
            plan.scratch_bytes = plan.scratch_bytes.max(scratch[band]);
            Place::Scratch(offset)
        }
        Role::Computed if buffer.once => Place::Constant(constant(&mut plan.constant_bytes)),
        Role::Computed => arena.map_or(Place::Unused, Place::Arena),
    }
}

/// The offset of every buffer that lives in the arena.
fn arena(draft: &Draft, uses: &Uses, options: &PlanOptions, plan: &mut Plan) -> Vec<Option<u64>> {
    // The kernels of a band run at one time.
    let mut time: Vec<usize> = Vec::with_capacity(draft.kernels.len());
    for (k, kernel) in draft.kernels.iter().enumerate() {
        let next = time.last().map_or(0, |last| last + 1);
        let again = k > 0 && kernel.band.is_some() && kernel.band == draft.kernels[k - 1].band;
        time.push(if again { next - 1 } else { next });
    }
    // Buffers placed as one have the same root; the life of a root is that of all.
    let mut roots: Vec<usize> = (0..draft.buffers.len()).collect();
    let mut lives: Vec<Option<(usize, usize)>> = Vec::with_capacity(draft.buffers.len());
    for id in draft.buffer_ids() {
        let (writers, readers) = (&uses.writers[id.0 as usize], &uses.readers[id.0 as usize]);
        let first = writers.first().filter(|_| draft.buffer(id).is_free() && !draft.buffer(id).is_scratch);
        let last = readers.last().max(writers.last());
        lives.push(first.zip(last).map(|(&first, &last)| (time[first], time[last] + 1)));
        if first.is_some() {
            plan.unplanned_bytes += draft.buffer(id).bytes().next_multiple_of(ALIGNMENT);
        }
    }
    for (k, kernel) in draft.kernels.iter().enumerate().filter(|(_, kernel)| !kernel.once && kernel.band.is_none()) {
        let kernel = kernel.kernel();
        for to in kernel.writes() {
            let dying = kernel.reads().into_iter().find(|&from| {
                roots[to.0 as usize] == to.0 as usize
                    && may_share(draft, uses, from, to, k)
                    && lives[roots[from.0 as usize]].is_some_and(|(_, end)| end == time[k] + 1)
                    && is_in_place(kernel, from, to)
            });
            if let Some(from) = dying {
                let root = roots[from.0 as usize];
                roots[to.0 as usize] = root;
                let end = lives[to.0 as usize].take().map_or(time[k] + 1, |(_, end)| end);
                lives[root] = lives[root].map(|(first, _)| (first, end));
            }
        }
    }
    let ids: Vec<usize> = (0..lives.len()).filter(|&i| lives[i].is_some()).collect();
    let lifetimes: Vec<Lifetime> = ids
        .iter()
        .map(|&i| {
            let (first, end) = lives[i].unwrap_or_default();
            Lifetime { lower: first as u32, upper: end as u32, bytes: draft.buffers[i].bytes(), align: ALIGNMENT }
        })
        .collect();
    let placement = place_lifetimes(&lifetimes, &options.placement).expect("verified: sizes fit into memory");
    plan.arena_bytes = placement.bytes;
    plan.lower_bound_bytes = placement.lower_bound_bytes;
    let mut offsets: Vec<Option<u64>> = vec![None; lives.len()];
    for (&i, &offset) in ids.iter().zip(&placement.offsets) {
        offsets[i] = Some(offset);
    }
    (0..offsets.len()).map(|i| offsets[roots[i]]).collect()
}

/// Whether two buffers have the same elements at the same places, and nothing but step `k` (and the filling of a halo
/// that nobody reads any more) has to do with both.
fn may_share(draft: &Draft, uses: &Uses, from: BufferId, to: BufferId, k: usize) -> bool {
    let writers = &uses.writers[to.0 as usize];
    let begins = writers[0];
    lie_alike(draft, from, to)
        && writers.iter().all(|&w| w == k || (w < k && draft.kernels[w].named.about == halo::FILL))
        && !uses.readers[to.0 as usize].contains(&k)
        && uses.readers[from.0 as usize].iter().all(|&r| r == k || r < begins)
        && uses.writers[from.0 as usize].iter().all(|&w| w < begins)
}

/// Whether two buffers of the arena have the same elements at the same places.
pub fn lie_alike(draft: &Draft, from: BufferId, to: BufferId) -> bool {
    let (a, b) = (draft.buffer(from), draft.buffer(to));
    a.is_free()
        && b.is_free()
        && a.info.dims == b.info.dims
        && a.info.dtype.bytes() == b.info.dtype.bytes()
        && (&a.layout.order, &a.layout.halo, &a.layout.block) == (&b.layout.order, &b.layout.halo, &b.layout.block)
}

#[cfg(test)]
mod tests {
    use crate::plan::samples::program;
    use crate::plan::{PlanOptions, plan};
    use fusewright_ir::plan::{Place, Plan, verify};

    fn offsets(plan: &Plan) -> Vec<(&str, u64)> {
        let arena = plan.buffers.iter().filter_map(|buffer| match buffer.place {
            Place::Arena(offset) => Some((buffer.name.as_str(), offset)),
            _ => None,
        });
        arena.collect()
    }

    #[test]
    fn elementwise_steps_write_in_place() {
        let layers = r#"Exp(name: "a"), Sin(name: "b"), Add(name: "c", from: ["a", "b"]), Tanh(name: "d")"#;
        let plan = plan(program("[100]", layers, false), &PlanOptions::default()).unwrap();
        assert_eq!(verify(&plan), Ok(()));
        // `a` is still needed beside `b`; `c` takes the place of one of them, `d` is the user's.
        assert_eq!((plan.arena_bytes, plan.lower_bound_bytes, plan.unplanned_bytes), (2 * 448, 2 * 448, 3 * 448));
        let places = offsets(&plan);
        assert_ne!(places[0].1, places[1].1);
        assert!(places[..2].iter().any(|(_, offset)| *offset == places[2].1), "{places:?}");
    }

    #[test]
    fn windows_do_not_write_in_place() {
        let layers = r#"Exp(name: "a"), MaxPool2d(name: "b", kernel_size: 3, stride: 1, padding: 1), Sin(name: "c")"#;
        let plan = plan(program("[1, 1, 10, 10]", layers, false), &PlanOptions::default()).unwrap();
        assert_eq!(verify(&plan), Ok(()));
        let places = offsets(&plan);
        assert_eq!(places.iter().filter(|(name, _)| *name == "a" || *name == "b").count(), 2);
        assert_ne!(places[0].1, places[1].1, "{places:?}");
    }

    #[test]
    fn softmax_rows_are_written_where_they_were_read() {
        let layers = r#"Exp(name: "a"), Softmax(name: "b", dim: -1), Sin(name: "c")"#;
        let plan = plan(program("[5, 32]", layers, false), &PlanOptions::default()).unwrap();
        assert_eq!(verify(&plan), Ok(()));
        assert_eq!(plan.arena_bytes, 5 * 32 * 4, "{plan}");
    }
}
