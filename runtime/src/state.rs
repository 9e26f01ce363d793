//! The memory of what is trained: it stays from run to run, and every plan of a network finds it as it lies.

use crate::memory::{ALIGNMENT, AlignedBytes};
use fusewright_ir::plan::{Layout, Plan};
use fusewright_ir::tensor::{DType, Data, Tensor};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Parameters and whatever else runs replace, by name. It never moves: a run writes new values where the old ones are.
#[derive(Debug)]
pub struct State {
    bytes: AlignedBytes,
    slots: BTreeMap<String, Slot>,
    /// One of its own in this process: what sessions have pointed to is known by it.
    number: u64,
}

/// A tensor of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    offset: usize,
    dtype: DType,
    dims: Vec<usize>,
    layout: Layout,
}

/// Why a state and a plan, or a tensor, do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateError {
    /// The name of the tensor.
    pub name: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state `{}`: {}", self.name, self.problem)
    }
}

impl std::error::Error for StateError {}

impl State {
    /// Memory for the state of a plan, all 0.
    pub fn new(plan: &Plan) -> State {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let (mut slots, mut offset) = (BTreeMap::new(), 0);
        for state in &plan.states {
            let buffer = plan.buffer(state.buffer);
            let (dims, layout) = (buffer.dims.clone(), buffer.layout.clone());
            slots.insert(state.name.clone(), Slot { offset, dtype: buffer.dtype, dims, layout });
            offset += (buffer.bytes() as usize).next_multiple_of(ALIGNMENT);
        }
        State { bytes: AlignedBytes::zeroed(offset), slots, number: NUMBERS.fetch_add(1, Ordering::Relaxed) }
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.bytes().len()
    }

    /// The names of all tensors, ascending, each with its type.
    pub fn names(&self) -> impl Iterator<Item = (&str, DType, &[usize])> {
        self.slots.iter().map(|(name, slot)| (name.as_str(), slot.dtype, slot.dims.as_slice()))
    }

    /// Where a tensor lies: the same for as long as the state lives.
    pub fn address(&self, name: &str) -> Option<*const u8> {
        let slot = self.slots.get(name)?;
        Some(self.bytes.bytes()[slot.offset..].as_ptr())
    }

    /// A copy of a tensor, in row-major order.
    pub fn get(&self, name: &str) -> Option<Tensor> {
        let slot = self.slots.get(name)?;
        let size = slot.dtype.bytes();
        let own = &self.bytes.bytes()[slot.offset..];
        let mut bytes = Vec::with_capacity(size * slot.dims.iter().product::<usize>());
        slot.for_each_place(|place| bytes.extend_from_slice(&own[place * size..(place + 1) * size]));
        Some(Tensor::new(&slot.dims, Data::from_bytes(slot.dtype, &bytes)))
    }

    /// Replaces a tensor.
    ///
    /// # Errors
    /// Where there is none of this name, or it has another type.
    pub fn set(&mut self, name: &str, tensor: &Tensor) -> Result<(), StateError> {
        let wrong = |problem: String| Err(StateError { name: name.to_string(), problem });
        let Some(slot) = self.slots.get(name) else { return wrong("there is none of this name".to_string()) };
        if (tensor.dtype(), tensor.dims()) != (slot.dtype, slot.dims.as_slice()) {
            let (dtype, dims) = (tensor.dtype(), tensor.dims());
            return wrong(format!("expected {}{:?}, found {dtype}{dims:?}", slot.dtype, slot.dims));
        }
        if slot.layout.is_row_major() {
            self.bytes.write(slot.offset, tensor.data());
            return Ok(());
        }
        let (size, bytes) = (slot.dtype.bytes(), tensor.data().to_bytes());
        let own = &mut self.bytes.bytes_mut()[slot.offset..];
        let mut elements = bytes.chunks_exact(size);
        slot.for_each_place(|place| {
            if let Some(element) = elements.next() {
                own[place * size..(place + 1) * size].copy_from_slice(element);
            }
        });
        Ok(())
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The address of each state of a plan, in order.
    ///
    /// # Errors
    /// Where one is missing, or lies otherwise than the plan expects.
    pub(crate) fn pointers(&mut self, plan: &Plan) -> Result<Vec<*mut u8>, StateError> {
        let pointer = |state: &fusewright_ir::plan::State| {
            let wrong = |problem: &str| StateError { name: state.name.clone(), problem: problem.to_string() };
            let slot = self.slots.get(&state.name).ok_or_else(|| wrong("is missing"))?;
            let buffer = plan.buffer(state.buffer);
            if (slot.dtype, &slot.dims, &slot.layout) != (buffer.dtype, &buffer.dims, &buffer.layout) {
                return Err(wrong("belongs to another network"));
            }
            Ok(self.bytes.as_mut_ptr().wrapping_add(slot.offset))
        };
        plan.states.iter().map(pointer).collect()
    }
}

impl Slot {
    /// Calls `visit` with the place of every element, in row-major order of the elements.
    fn for_each_place(&self, mut visit: impl FnMut(usize)) {
        let strides = self.layout.strides(&self.dims);
        let count: usize = self.dims.iter().product();
        let (mut index, mut place) = (vec![0; self.dims.len()], self.layout.origin(&self.dims));
        for _ in 0..count {
            visit(place);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                place += strides[axis];
                if index[axis] < self.dims[axis] {
                    break;
                }
                place -= strides[axis] * index[axis];
                index[axis] = 0;
            }
        }
    }
}
