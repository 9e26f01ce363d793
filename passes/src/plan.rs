//! Program to plan: what runs once and what runs for every call, and where every buffer lies.

use crate::fuse::setup_only;
use fusewright_ir::kernel::{BufferId, KernelBuilder, NamedKernel, Program, Role, build::Operand};
use fusewright_ir::plan::{Layout, Place, Plan, PlannedBuffer, Port, Schedule, Step};

/// A plan with every buffer in row-major order and every loop as it stands.
pub fn plan(mut program: Program) -> Plan {
    separate_outputs(&mut program);
    let mut plan = Plan::default();
    for info in &program.buffers {
        plan.buffers.push(PlannedBuffer {
            name: info.name.clone(),
            dtype: info.dtype,
            dims: info.dims.clone(),
            layout: Layout::row_major(info.dims.len()),
            place: Place::Unused,
        });
    }
    for (k, named) in program.kernels.iter().enumerate() {
        let step = Step {
            nodes: named.nodes.clone(),
            about: named.about.clone(),
            kernel: named.kernel.clone(),
            schedule: Schedule::plain(&named.kernel),
        };
        if setup_only(&program, k) { plan.setup.push(step) } else { plan.steps.push(step) }
    }
    place(&program, &mut plan);
    plan
}

/// Gives every result a buffer of its own that a kernel writes: users may ask for an input, a parameter, or the same
/// value twice.
fn separate_outputs(program: &mut Program) {
    for i in 0..program.outputs.len() {
        let (name, buffer) = program.outputs[i].clone();
        let again = program.outputs[..i].iter().any(|(_, other)| *other == buffer);
        let in_setup = program
            .kernels
            .iter()
            .enumerate()
            .any(|(k, named)| named.kernel.writes().contains(&buffer) && setup_only(program, k));
        if program.buffer(buffer).role == Role::Computed && !again && !in_setup {
            continue;
        }
        let mut info = program.buffer(buffer).clone();
        info.role = Role::Computed;
        let (dtype, dims) = (info.dtype, info.dims.clone());
        let copy = program.add_buffer(info);
        let mut k = KernelBuilder::new(&dims);
        let axes = k.outer_axes();
        let value = k.load(&Operand { buffer, dtype, dims: dims.clone() }, axes.clone());
        k.store(&Operand { buffer: copy, dtype, dims }, axes, value);
        let kernel = k.finish();
        program.kernels.push(NamedKernel { nodes: vec![name], about: "copy".to_string(), kernel });
        program.outputs[i].1 = copy;
    }
}

fn place(program: &Program, plan: &mut Plan) {
    let used_by_steps = |id: BufferId| plan.steps.iter().any(|step| step.kernel.reads().contains(&id));
    let mut constant = 0u64;
    let mut arena = 0u64;
    let mut places = Vec::new();
    for (id, info) in program.buffer_ids() {
        let bytes = plan.buffer(id).bytes().next_multiple_of(64);
        let mut take = |end: &mut u64| {
            let offset = *end;
            *end += bytes;
            offset
        };
        let output = program.outputs.iter().position(|(_, output)| *output == id);
        let written = |steps: &[Step]| steps.iter().any(|step| step.kernel.writes().contains(&id));
        let place = match &info.role {
            Role::Input => {
                plan.inputs.push(Port { name: info.name.clone(), buffer: id });
                Place::Input(plan.inputs.len() - 1)
            }
            Role::Parameter => {
                plan.parameters.push(Port { name: info.name.clone(), buffer: id });
                match used_by_steps(id) {
                    true => Place::Constant(take(&mut constant)),
                    false => Place::Parameter(plan.parameters.len() - 1),
                }
            }
            Role::Constant(tensor) => Place::Literal(take(&mut constant), tensor.clone()),
            Role::Computed => match output {
                Some(i) => Place::Output(i),
                None if written(&plan.setup) => Place::Constant(take(&mut constant)),
                None if written(&plan.steps) => Place::Arena(take(&mut arena)),
                None => Place::Unused,
            },
        };
        places.push(place);
    }
    for (buffer, place) in plan.buffers.iter_mut().zip(places) {
        buffer.place = place;
    }
    plan.outputs = program.outputs.iter().map(|(name, id)| Port { name: name.clone(), buffer: *id }).collect();
    plan.constant_bytes = constant;
    plan.arena_bytes = arena;
    plan.unplanned_bytes = arena;
}
