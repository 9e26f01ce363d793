//! What a plan means: its steps run by the scalar semantics of [`crate::kernel::evaluate()`] on the bytes that the plan
//! assigns, with a mark for every byte that was written. A buffer placed over one that is still needed, a halo that
//! nobody filled or a step too early cannot hide.

use super::access::{is_within, plain};
use super::*;
use crate::kernel::Index;
use crate::kernel::bounded::{Bounded, Number};
use crate::kernel::evaluate::{Fault, Memory, Spot, Sum, run, run_at};
use crate::tensor::{Array, Data};
use std::collections::BTreeMap;

/// The outputs by name, and the new values of updated state by the names of that. `given` holds inputs, parameters and
/// state by name.
///
/// # Errors
/// Where an input or parameter is not given or has other axes, a computed index is out of range, or bytes are read that
/// nothing has written. Setup steps are numbered first.
pub fn evaluate(plan: &Plan, given: &BTreeMap<String, Array>) -> Result<BTreeMap<String, Array>, Fault> {
    let mut memory = Bytes {
        plan,
        constants: Region::of(plan.constant_bytes),
        arena: Region::of(plan.arena_bytes),
        scratch: Region::of(plan.scratch_bytes),
        own: plan.buffers.iter().map(|_| None).collect(),
        states: plan.states.iter().map(|state| Region::of(plan.buffer(state.buffer).bytes())).collect(),
    };
    let ports = plan.inputs.iter().chain(&plan.parameters).map(|port| (&port.name, port.buffer, &port.dims));
    let states = plan.states.iter().map(|state| (&state.name, state.buffer, &plan.buffer(state.buffer).dims));
    for (name, id, dims) in ports.chain(states) {
        let buffer = plan.buffer(id);
        let array = given.get(name.as_str()).ok_or(Fault::NotGiven { buffer: id })?;
        if array.dims != *dims {
            return Err(Fault::WrongAxes { buffer: id, found: array.dims.clone() });
        }
        memory.give(id, &Data::from_f64(buffer.dtype, &array.data));
    }
    for (i, buffer) in plan.buffers.iter().enumerate() {
        if let Place::Literal(_, tensor) = &buffer.place {
            memory.give(BufferId(i as u32), tensor.data());
        }
    }
    for (number, step) in plan.setup.iter().enumerate() {
        run(number, &step.kernel, &mut memory)?;
    }
    for (steps, positions) in plan.units() {
        for position in (0..positions.unwrap_or(1)).map(|position| positions.map(|_| position)) {
            // Nothing is handed on from one position to another.
            memory.scratch.written.fill(false);
            for step in steps.clone() {
                run_at(plan.setup.len() + step, &plan.steps[step].kernel, position, &mut memory)?;
            }
        }
    }
    let all = plan.setup.len() + plan.steps.len();
    let outputs = plan.outputs.iter().map(|port| (&port.name, port.buffer, &port.dims));
    let updates = plan.states.iter().filter_map(|state| {
        let next = state.next?;
        Some((&state.name, next, &plan.buffer(next).dims))
    });
    let array = |(name, id, dims): (&CompactString, BufferId, &Vec<usize>)| {
        Ok((name.to_string(), Array { dims: dims.clone(), ..memory.array(id, all)? }))
    };
    outputs.chain(updates).map(array).collect()
}

/// Bytes, and which of them were written.
struct Region {
    bytes: Vec<u8>,
    written: Vec<bool>,
}

impl Region {
    fn of(bytes: u64) -> Region {
        Region { bytes: vec![0; bytes as usize], written: vec![false; bytes as usize] }
    }
}

struct Bytes<'a> {
    plan: &'a Plan,
    constants: Region,
    arena: Region,
    scratch: Region,
    /// The users' memory, by buffer.
    own: Vec<Option<Region>>,
    /// The session's memory, by state.
    states: Vec<Region>,
}

impl Bytes<'_> {
    /// The region of a buffer and the byte where it begins.
    fn region(&mut self, id: BufferId) -> (&mut Region, usize) {
        let buffer = self.plan.buffer(id);
        match buffer.place {
            Place::Constant(offset) | Place::Literal(offset, _) => (&mut self.constants, offset as usize),
            Place::Arena(offset) => (&mut self.arena, offset as usize),
            Place::Scratch(offset) => (&mut self.scratch, offset as usize),
            Place::State(i) => (&mut self.states[i], 0),
            _ => (self.own[id.0 as usize].get_or_insert_with(|| Region::of(buffer.bytes())), 0),
        }
    }

    /// Puts the elements of a buffer, which are in row-major order, where its layout wants them.
    fn give(&mut self, id: BufferId, data: &Data) {
        let bytes = data.bytes();
        let buffer = self.plan.buffer(id);
        let size = buffer.dtype.bytes();
        let places = row_major(&buffer.dims).map(|index| buffer.layout.element(&buffer.dims, &index));
        let (region, start) = self.region(id);
        for (element, place) in bytes.chunks(size).zip(places) {
            let place = start + place * size;
            region.bytes[place..place + size].copy_from_slice(element);
            region.written[place..place + size].fill(true);
        }
    }

    fn get(&mut self, id: BufferId, element: usize, step: usize) -> Result<Number, Fault> {
        let dtype = self.plan.buffer(id).dtype;
        let (region, start) = self.region(id);
        let place = start + element * dtype.bytes();
        let (Some(bytes), Some(written)) =
            (region.bytes.get(place..place + dtype.bytes()), region.written.get(place..place + dtype.bytes()))
        else {
            return Err(Fault::Unwritten { kernel: step, buffer: id, place: element });
        };
        if !written.iter().all(|&written| written) {
            return Err(Fault::Unwritten { kernel: step, buffer: id, place: element });
        }
        Ok(number(dtype, bytes))
    }

    fn array(&mut self, id: BufferId, step: usize) -> Result<Array, Fault> {
        let buffer = self.plan.buffer(id);
        let value = |index: SmallVec<[i64; 6]>| {
            let element = buffer.layout.element(&buffer.dims, &index);
            self.get(id, element, step).map(|number| number.real.value)
        };
        let data = row_major(&buffer.dims).map(value).collect::<Result<_, _>>()?;
        Ok(Array { dims: buffer.dims.clone(), data })
    }
}

impl Memory for Bytes<'_> {
    fn dtype(&self, buffer: BufferId) -> DType {
        self.plan.buffer(buffer).dtype
    }

    fn prepare(&mut self, _: BufferId) {}

    fn load(&mut self, spot: &Spot, outside: Option<Literal>) -> Result<Number, Fault> {
        let buffer = self.plan.buffer(spot.buffer);
        let covered = outside.is_some() && buffer.layout.halo_value == outside;
        let mut index: SmallVec<[i64; 6]> = SmallVec::new();
        for (axis, (found, &length)) in spot.index.iter().zip(&buffer.dims).enumerate() {
            // Emitted code checks no index that its form shows to be within the halo.
            let in_halo = covered && is_within(&spot.at[axis], spot.extents, length, buffer.layout.halo_of(axis));
            match *found {
                Some(i) if in_halo || (0 <= i && i < length as i64) => index.push(i),
                _ if outside.is_none() || matches!(spot.at[axis], Index::Computed(_)) => {
                    return Err(spot.out_of_range(axis));
                }
                _ => return Ok(Number::literal(outside.expect("checked above"))),
            }
        }
        let element = buffer.layout.element(&buffer.dims, &index);
        self.get(spot.buffer, element, spot.kernel)
    }

    fn store(&mut self, spot: &Spot, value: Number, add: Option<Sum>) -> Result<(), Fault> {
        let buffer = self.plan.buffer(spot.buffer);
        let mut index: SmallVec<[i64; 6]> = SmallVec::new();
        for (axis, (found, &length)) in spot.index.iter().zip(&buffer.dims).enumerate() {
            // Forms may reach into the halo, to fill it.
            let (before, behind) = match plain(&spot.at[axis]) {
                Some(_) => buffer.layout.halo_of(axis),
                None => (0, 0),
            };
            match *found {
                Some(i) if -(before as i64) <= i && i < (length + behind) as i64 => index.push(i),
                _ => return Err(spot.out_of_range(axis)),
            }
        }
        let element = buffer.layout.element(&buffer.dims, &index);
        let value = match add {
            Some(add) => add(self.get(spot.buffer, element, spot.kernel)?, value),
            None => value,
        };
        let bytes = to_bytes(value, buffer.dtype);
        let (region, start) = self.region(spot.buffer);
        let place = start + element * bytes.len();
        if place + bytes.len() > region.bytes.len() {
            return Err(spot.out_of_range(0));
        }
        region.bytes[place..place + bytes.len()].copy_from_slice(&bytes);
        region.written[place..place + bytes.len()].fill(true);
        Ok(())
    }
}

/// All indices, the last axis fastest.
fn row_major(dims: &[usize]) -> impl Iterator<Item = SmallVec<[i64; 6]>> + use<> {
    let dims: SmallVec<[usize; 6]> = dims.into();
    (0..dims.iter().product::<usize>()).map(move |mut place| {
        let mut index = SmallVec::from_elem(0, dims.len());
        for (axis, &length) in dims.iter().enumerate().rev() {
            index[axis] = (place % length) as i64;
            place /= length;
        }
        index
    })
}

fn number(dtype: DType, bytes: &[u8]) -> Number {
    match (dtype, bytes) {
        (DType::F32, &[a, b, c, d]) => Number::literal(Literal::F32(u32::from_ne_bytes([a, b, c, d]))),
        (DType::I32, &[a, b, c, d]) => Number::literal(Literal::I32(i32::from_ne_bytes([a, b, c, d]))),
        (DType::U32, &[a, b, c, d]) => Number::literal(Literal::U32(u32::from_ne_bytes([a, b, c, d]))),
        (DType::U8, &[byte]) => Number::literal(Literal::U8(byte)),
        (DType::Bool, &[byte]) => Number::literal(Literal::Bool(byte != 0)),
        (DType::I64, bytes) => Number::integer(i64::from_ne_bytes(eight(bytes)), 0.0),
        (_, bytes) => Number::float(Bounded::exact(f64::from_ne_bytes(eight(bytes)))),
    }
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    bytes.try_into().expect("as many bytes as the type has")
}

fn to_bytes(number: Number, dtype: DType) -> SmallVec<[u8; 8]> {
    match dtype {
        DType::F32 => SmallVec::from_slice(&(number.real.value as f32).to_ne_bytes()),
        DType::F64 => SmallVec::from_slice(&number.real.value.to_ne_bytes()),
        DType::I64 => SmallVec::from_slice(&number.integer.to_ne_bytes()),
        DType::I32 => SmallVec::from_slice(&(number.integer as i32).to_ne_bytes()),
        DType::U32 => SmallVec::from_slice(&(number.integer as u32).to_ne_bytes()),
        DType::U8 | DType::Bool => SmallVec::from_slice(&[number.integer as u8]),
    }
}
