//! Where every buffer is: constants beside each other, the arena by lifetimes.
//!
//! A step that reads each element of a dying buffer only where it writes the same element of a new one may write in
//! place; the two are then placed as one.

use super::PlanOptions;
use super::access::{Part, plain, reads};
use super::draft::{Draft, Uses};
use super::halo;
use crate::place::{Lifetime, place as place_lifetimes};
use fusewright_ir::kernel::{Axis, BufferId, Combine, Index, Kernel, Role};
use fusewright_ir::plan::{Place, Plan, PlannedBuffer, Port, Step};

/// Every buffer begins at a multiple of so many bytes: the width of a cache line and of the widest vector.
const ALIGNMENT: u64 = 64;

/// The plan with every buffer in its place.
pub fn place(draft: Draft, options: &PlanOptions) -> Plan {
    let mut plan = Plan::default();
    let uses = draft.uses();
    let arena = arena(&draft, &uses, options, &mut plan);
    for (id, offset) in draft.buffer_ids().zip(arena) {
        let place = place_of(&draft, &uses, id, offset, &mut plan);
        let buffer = draft.buffer(id);
        plan.buffers.push(PlannedBuffer {
            name: buffer.info.name.clone(),
            dtype: buffer.info.dtype,
            dims: buffer.info.dims.clone(),
            layout: buffer.layout.clone(),
            place,
        });
    }
    for kernel in draft.kernels {
        let (named, schedule) = (kernel.named, kernel.schedule);
        let step = Step { nodes: named.nodes, about: named.about, kernel: named.kernel, schedule };
        if kernel.once { plan.setup.push(step) } else { plan.steps.push(step) }
    }
    plan.outputs = draft.outputs.into_iter().map(|(name, buffer)| Port { name, buffer }).collect();
    plan
}

fn place_of(draft: &Draft, uses: &Uses, id: BufferId, arena: Option<u64>, plan: &mut Plan) -> Place {
    let buffer = draft.buffer(id);
    let (readers, writers) = (&uses.readers[id.0 as usize], &uses.writers[id.0 as usize]);
    let port = || Port { name: buffer.info.name.clone(), buffer: id };
    let constant = |end: &mut u64| {
        let offset = *end;
        *end += buffer.bytes().next_multiple_of(ALIGNMENT);
        offset
    };
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
        Role::Constant(_) if readers.is_empty() => Place::Unused,
        Role::Constant(tensor) => Place::Literal(constant(&mut plan.constant_bytes), tensor.clone()),
        Role::Computed if buffer.is_output => {
            let position = draft.outputs.iter().position(|(_, output)| *output == id);
            Place::Output(position.expect("outputs are listed"))
        }
        Role::Computed if writers.is_empty() => Place::Unused,
        Role::Computed if buffer.once => Place::Constant(constant(&mut plan.constant_bytes)),
        Role::Computed => arena.map_or(Place::Unused, Place::Arena),
    }
}

/// The offset of every buffer that lives in the arena.
fn arena(draft: &Draft, uses: &Uses, options: &PlanOptions, plan: &mut Plan) -> Vec<Option<u64>> {
    // Buffers placed as one have the same root; the life of a root is that of all.
    let mut roots: Vec<usize> = (0..draft.buffers.len()).collect();
    let mut lives: Vec<Option<(usize, usize)>> = Vec::with_capacity(draft.buffers.len());
    for id in draft.buffer_ids() {
        let (writers, readers) = (&uses.writers[id.0 as usize], &uses.readers[id.0 as usize]);
        let first = writers.first().filter(|_| draft.buffer(id).is_free());
        let last = readers.last().max(writers.last());
        lives.push(first.zip(last).map(|(&first, &last)| (first, last + 1)));
        if first.is_some() {
            plan.unplanned_bytes += draft.buffer(id).bytes().next_multiple_of(ALIGNMENT);
        }
    }
    for (k, kernel) in draft.kernels.iter().enumerate().filter(|(_, kernel)| !kernel.once) {
        let kernel = kernel.kernel();
        for to in kernel.writes() {
            let dying = kernel.reads().into_iter().find(|&from| {
                roots[to.0 as usize] == to.0 as usize
                    && may_share(draft, uses, from, to, k)
                    && lives[roots[from.0 as usize]].is_some_and(|(_, end)| end == k + 1)
                    && is_in_place(kernel, from, to)
            });
            if let Some(from) = dying {
                let root = roots[from.0 as usize];
                roots[to.0 as usize] = root;
                let end = lives[to.0 as usize].take().map_or(k + 1, |(_, end)| end);
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
    let (a, b) = (draft.buffer(from), draft.buffer(to));
    let alike = a.is_free()
        && b.is_free()
        && a.info.dims == b.info.dims
        && a.info.dtype.bytes() == b.info.dtype.bytes()
        && (&a.layout.order, &a.layout.halo, &a.layout.block) == (&b.layout.order, &b.layout.halo, &b.layout.block);
    let writers = &uses.writers[to.0 as usize];
    let begins = writers[0];
    alike
        && writers.iter().all(|&w| w == k || (w < k && draft.kernels[w].named.about == halo::FILL))
        && !uses.readers[to.0 as usize].contains(&k)
        && uses.readers[from.0 as usize].iter().all(|&r| r == k || r < begins)
        && uses.writers[from.0 as usize].iter().all(|&w| w < begins)
}

/// Whether `kernel` reads every element of `from` before it writes the element of `to` at the same index, and nowhere
/// else.
fn is_in_place(kernel: &Kernel, from: BufferId, to: BufferId) -> bool {
    let mut stores = kernel.stores.iter().enumerate().filter(|(_, store)| store.buffer == to);
    let (Some((s, store)), None) = (stores.next(), stores.next()) else { return false };
    if store.combine != Combine::Set {
        return false;
    }
    let extents = kernel.space(&store.inner);
    let n_outer = kernel.outer.len();
    let is_outer =
        |index: &Index| plain(index).is_some_and(|f| f.terms.iter().all(|(axis, _)| (axis.0 as usize) < n_outer));
    // Points of different outer positions never meet: they differ along a dimension that both index alike.
    let outer_dims: Vec<usize> = (0..store.at.len()).filter(|&dim| is_outer(&store.at[dim])).collect();
    reads(kernel).iter().filter(|read| read.buffer == from).all(|read| {
        let alike = outer_dims.iter().copied().filter(|&dim| read.at[dim] == store.at[dim]);
        let apart = tells_apart(alike.map(|dim| &store.at[dim]), &extents, n_outer);
        let in_time = match read.part {
            Part::Fold(_) => true,
            Part::Store(i) if i < s => true,
            Part::Store(i) => {
                i == s && read.at == store.at.as_slice() && tells_apart(store.at.iter(), &extents, extents.len())
            }
        };
        apart && in_time
    })
}

/// Whether these indices differ for any two points that differ along one of the first `n` axes.
fn tells_apart<'i>(at: impl Iterator<Item = &'i Index>, extents: &[usize], n: usize) -> bool {
    let mut told = vec![false; extents.len()];
    for form in at.filter_map(plain) {
        let mut terms: Vec<(Axis, u64)> = form.terms.iter().map(|&(axis, k)| (axis, k.unsigned_abs())).collect();
        terms.retain(|(axis, _)| extents[axis.0 as usize] > 1);
        terms.sort_by_key(|(_, k)| *k);
        let mut reach = 0;
        let distinct = terms.iter().all(|(axis, k)| {
            let beyond = *k > reach;
            reach += k * (extents[axis.0 as usize] as u64 - 1);
            beyond
        });
        if distinct {
            terms.iter().for_each(|(axis, _)| told[axis.0 as usize] = true);
        }
    }
    (0..n).all(|axis| told[axis] || extents[axis] <= 1)
}
