//! Whether an outline that was read from somewhere can be used: every number in it names something that is there. What
//! [`verify`](super::verify()) knows beyond that, it knows from the loops, which an outline has not.

use super::verify::ALIGNMENT;
use super::{Outline, Place, PlannedBuffer, Port};
use crate::kernel::BufferId;

/// The most bytes of a region: sums of places and sizes stay far from overflowing.
const LIMIT: u64 = 1 << 48;

/// Holds ports, states, bands, layouts and places to each other and to the bytes of their regions.
///
/// # Errors
/// The first thing that is wrong.
pub fn sound(plan: &Outline) -> Result<(), String> {
    for bytes in [plan.constant_bytes, plan.arena_bytes, plan.scratch_bytes] {
        require(bytes <= LIMIT, || format!("a region of {bytes} bytes"))?;
    }
    let known = |id: BufferId| (id.0 as usize) < plan.buffers.len();
    let ports = plan.inputs.iter().chain(&plan.parameters).chain(&plan.outputs);
    for port in ports {
        require(known(port.buffer), || format!("`{}` is no buffer", port.name))?;
    }
    for state in &plan.states {
        require(known(state.buffer) && state.next.is_none_or(known), || format!("`{}` is no buffer", state.name))?;
    }
    for (number, buffer) in plan.buffers.iter().enumerate() {
        let bytes = bytes(buffer).ok_or_else(|| format!("b{number} lies in no order of its axes"))?;
        require(is_placed(plan, BufferId(number as u32), buffer, bytes), || {
            format!("b{number} of {bytes} bytes has no such place: {}", buffer.place)
        })?;
    }
    for port in plan.inputs.iter().chain(&plan.parameters).chain(&plan.outputs) {
        // That of a buffer does not overflow, as its bytes do not.
        let elements = port.dims.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let held = plan.buffer(port.buffer).dims.iter().product();
        require(elements == Some(held), || {
            format!("`{}` is a buffer of other elements than {:?}", port.name, port.dims)
        })?;
    }
    let mut end = 0;
    for band in &plan.bands {
        let fits = end <= band.steps.start && band.steps.start < band.steps.end && band.steps.end <= plan.steps.len();
        require(fits, || format!("no band over the steps {:?}", band.steps))?;
        end = band.steps.end;
    }
    Ok(())
}

/// The bytes of a buffer whose layout fits its axes; `None` where it does not, or they are too many.
fn bytes(buffer: &PlannedBuffer) -> Option<u64> {
    let (layout, rank) = (&buffer.layout, buffer.dims.len());
    let mut order = layout.order.to_vec();
    order.sort_unstable();
    let is_order = order.iter().map(|&axis| axis as usize).eq(0..rank);
    let has_halo = layout.halo.is_empty() || layout.halo.len() == rank;
    let is_block = layout.block.is_none_or(|block| (block.axis as usize) < rank && block.lanes > 0);
    // Each length is at most the product of those that are not 0: none of them overflows.
    let product = (0..rank).try_fold(buffer.dtype.bytes() as u64, |product, axis| {
        let (before, behind) = layout.halo.get(axis).copied().unwrap_or_default();
        let length = (buffer.dims[axis] as u64).checked_add(u64::from(before))?.checked_add(u64::from(behind))?;
        product.checked_mul(length.max(1)).filter(|&product| product <= LIMIT)
    });
    let lanes = layout.block.map_or(1, |block| u64::from(block.lanes));
    let may_be_computed = product?.checked_mul(lanes)? <= LIMIT;
    (is_order && has_halo && is_block && may_be_computed).then(|| buffer.bytes())
}

/// Whether a buffer lies within its region, or is the port or state that its place says.
fn is_placed(plan: &Outline, id: BufferId, buffer: &PlannedBuffer, bytes: u64) -> bool {
    let within = |offset: u64, end: u64| {
        offset.is_multiple_of(ALIGNMENT) && offset.checked_add(bytes).is_some_and(|behind| behind <= end)
    };
    let is_port =
        |ports: &[Port], i: usize| ports.get(i).is_some_and(|port| port.buffer == id) && buffer.layout.is_row_major();
    match buffer.place {
        Place::Input(i) => is_port(&plan.inputs, i),
        Place::Output(i) => is_port(&plan.outputs, i),
        Place::Parameter(i) => is_port(&plan.parameters, i),
        Place::State(i) => plan.states.get(i).is_some_and(|state| state.buffer == id || state.next == Some(id)),
        Place::Constant(offset) | Place::Literal(offset, _) => within(offset, plan.constant_bytes),
        Place::Arena(offset) => within(offset, plan.arena_bytes),
        Place::Scratch(offset) => within(offset, plan.scratch_bytes),
        Place::Unused => true,
    }
}

fn require(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Band, Block, Label, Layout, State};
    use crate::tensor::DType;

    fn buffer(name: &str, dims: &[usize], place: Place) -> PlannedBuffer {
        let (dims, layout) = (dims.to_vec(), Layout::row_major(dims.len()));
        PlannedBuffer { name: name.into(), dtype: DType::F32, dims, layout, place }
    }

    fn outline() -> Outline {
        let port = |name: &str, buffer: u32, dims: &[usize]| Port {
            name: name.into(),
            buffer: BufferId(buffer),
            dims: dims.to_vec(),
        };
        Outline {
            buffers: vec![
                buffer("x", &[2, 3], Place::Input(0)),
                buffer("w", &[3, 16], Place::Constant(64)),
                buffer("h", &[2, 16], Place::Arena(128)),
                buffer("s", &[16], Place::State(0)),
                buffer("t", &[8], Place::Scratch(0)),
                buffer("y", &[2], Place::Output(0)),
            ],
            steps: vec![Label::default(); 3],
            bands: vec![Band { steps: 0..2, positions: 4 }],
            inputs: vec![port("x", 0, &[6, 1])],
            outputs: vec![port("y", 5, &[2])],
            states: vec![State { name: "s".into(), buffer: BufferId(3), next: None }],
            constant_bytes: 256,
            arena_bytes: 256,
            scratch_bytes: 32,
            ..Outline::default()
        }
    }

    type Spoil = fn(&mut Outline);

    #[test]
    fn what_names_nothing_is_refused() {
        assert_eq!(sound(&outline()), Ok(()));
        let cases: &[(&str, Spoil)] = &[
            ("`x` is no buffer", |plan| plan.inputs[0].buffer = BufferId(6)),
            ("`x` is a buffer of other elements", |plan| plan.inputs[0].dims[0] = 5),
            ("`y` is a buffer of other elements", |plan| plan.outputs[0].dims = vec![usize::MAX, 3]),
            ("`s` is no buffer", |plan| plan.states[0].next = Some(BufferId(99))),
            ("b0 of 24 bytes has no such place", |plan| plan.buffers[0].place = Place::Input(1)),
            ("b0 of 24 bytes has no such place", |plan| plan.inputs[0].buffer = BufferId(5)),
            ("b1 of 192 bytes has no such place", |plan| plan.constant_bytes = 255),
            ("b2 of 128 bytes has no such place", |plan| plan.buffers[2].place = Place::Arena(u64::MAX - 63)),
            ("b2 of 128 bytes has no such place", |plan| plan.buffers[2].place = Place::Arena(32)),
            ("b3 of 64 bytes has no such place", |plan| plan.buffers[3].place = Place::State(1)),
            ("b4 of 36 bytes has no such place", |plan| plan.buffers[4].dims[0] = 9),
            ("b4 lies in no order", |plan| plan.buffers[4].dims = vec![usize::MAX]),
            ("b2 lies in no order", |plan| plan.buffers[2].layout.order[0] = 1),
            ("b2 lies in no order", |plan| plan.buffers[2].layout.halo.push((0, 0))),
            ("b2 lies in no order", |plan| plan.buffers[2].layout.block = Some(Block { axis: 2, lanes: 8 })),
            ("b2 lies in no order", |plan| plan.buffers[2].layout.block = Some(Block { axis: 0, lanes: 0 })),
            ("no band over the steps 0..4", |plan| plan.bands[0].steps.end = 4),
            ("no band over the steps 1..3", |plan| plan.bands.push(Band { steps: 1..3, positions: 1 })),
            ("a region of", |plan| plan.arena_bytes = u64::MAX),
        ];
        for (fault, spoil) in cases {
            let mut plan = outline();
            spoil(&mut plan);
            let found = sound(&plan).unwrap_err();
            assert!(found.starts_with(fault), "expected {fault}, found {found}");
        }
    }
}
