//! Where every buffer is.

use super::draft::Draft;
use fusewright_ir::kernel::{BufferId, Role};
use fusewright_ir::plan::{Place, Plan, PlannedBuffer, Port, Step};

/// Every buffer begins at a multiple of so many bytes: the width of a cache line and of the widest vector.
const ALIGNMENT: u64 = 64;

/// The plan with every buffer in its place.
pub fn place(draft: Draft) -> Plan {
    let mut plan = Plan::default();
    let uses = draft.uses();
    let once: Vec<bool> = draft.kernels.iter().map(|kernel| kernel.once).collect();
    for (i, buffer) in draft.buffers.iter().enumerate() {
        let bytes = buffer.bytes().next_multiple_of(ALIGNMENT);
        let take = |end: &mut u64| {
            let offset = *end;
            *end += bytes;
            offset
        };
        let id = BufferId(i as u32);
        let name = || Port { name: buffer.info.name.clone(), buffer: id };
        let (readers, writers) = (&uses.readers[i], &uses.writers[i]);
        let place = match &buffer.info.role {
            Role::Input => {
                plan.inputs.push(name());
                Place::Input(plan.inputs.len() - 1)
            }
            Role::Parameter => {
                plan.parameters.push(name());
                match readers.iter().any(|&k| !once[k]) {
                    true => Place::Constant(take(&mut plan.constant_bytes)),
                    false => Place::Parameter(plan.parameters.len() - 1),
                }
            }
            Role::Constant(_) if readers.is_empty() => Place::Unused,
            Role::Constant(tensor) => Place::Literal(take(&mut plan.constant_bytes), tensor.clone()),
            Role::Computed if buffer.is_output => {
                let position = draft.outputs.iter().position(|(_, output)| *output == id);
                Place::Output(position.expect("outputs are listed"))
            }
            Role::Computed if writers.is_empty() => Place::Unused,
            Role::Computed if buffer.once => Place::Constant(take(&mut plan.constant_bytes)),
            Role::Computed => Place::Arena(take(&mut plan.arena_bytes)),
        };
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
    plan.unplanned_bytes = plan.arena_bytes;
    plan.lower_bound_bytes = plan.arena_bytes;
    plan
}
