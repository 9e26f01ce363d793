//! The memory of what is trained: it stays from run to run, and every plan of a network finds it as it lies.

use crate::memory::{ALIGNMENT, AlignedBytes};
use compact_str::CompactString;
use fusewright_ir::plan::{Layout, Outline};
use fusewright_ir::tensor::{DType, Data, Tensor};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Parameters and whatever else runs replace, by name. It never moves: a run writes new values where the old ones are.
#[derive(Debug)]
pub struct State {
    bytes: AlignedBytes,
    /// By name, ascending.
    slots: Vec<Slot>,
    /// One of its own in this process: what sessions have pointed to is known by it.
    number: u64,
}

/// A tensor of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    name: CompactString,
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
    /// The state of a plan, all 0.
    pub fn new(plan: &Outline) -> State {
        State::within(plan, AlignedBytes::zeroed)
    }

    /// The state of a plan in memory that [`State::into_memory`] gave of an equal plan's.
    ///
    /// # Panics
    /// If it is of another length.
    pub fn with_memory(plan: &Outline, memory: AlignedBytes) -> State {
        State::within(plan, |bytes| {
            assert_eq!(memory.bytes().len(), bytes, "the memory of another plan's state");
            memory
        })
    }

    fn within(plan: &Outline, memory: impl FnOnce(usize) -> AlignedBytes) -> State {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let (mut slots, mut offset) = (Vec::with_capacity(plan.states.len()), 0);
        for state in &plan.states {
            let buffer = plan.buffer(state.buffer);
            let (dims, layout) = (buffer.dims.clone(), buffer.layout.clone());
            slots.push(Slot { name: state.name.clone(), offset, dtype: buffer.dtype, dims, layout });
            offset += (buffer.bytes() as usize).next_multiple_of(ALIGNMENT);
        }
        slots.sort_by(|a: &Slot, b| a.name.cmp(&b.name));
        State { bytes: memory(offset), slots, number: NUMBERS.fetch_add(1, Ordering::Relaxed) }
    }

    /// The tensors alone, as they lie.
    pub fn into_memory(self) -> AlignedBytes {
        self.bytes
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.bytes().len()
    }

    /// The names of all tensors, ascending, each with its type.
    pub fn names(&self) -> impl Iterator<Item = (&str, DType, &[usize])> {
        self.slots.iter().map(|slot| (slot.name.as_str(), slot.dtype, slot.dims.as_slice()))
    }

    /// Where a tensor lies: the same for as long as the state lives.
    pub fn address(&self, name: &str) -> Option<*const u8> {
        let slot = find(&self.slots, name)?;
        Some(self.bytes.bytes()[slot.offset..].as_ptr())
    }

    /// A copy of a tensor, in row-major order.
    pub fn get(&self, name: &str) -> Option<Tensor> {
        let slot = find(&self.slots, name)?;
        let mut bytes = vec![0; slot.dtype.bytes() * slot.dims.iter().product::<usize>()];
        let own = &self.bytes.bytes()[slot.offset..];
        slot.copy_elements(|element, place| (place, element), own, &mut bytes);
        Some(Tensor::new(&slot.dims, Data::from_bytes(slot.dtype, &bytes)))
    }

    /// Replaces a tensor.
    ///
    /// # Errors
    /// Where there is none of this name, or it has another type.
    pub fn set(&mut self, name: &str, tensor: &Tensor) -> Result<(), StateError> {
        let wrong = |problem: String| Err(StateError { name: name.to_string(), problem });
        let Some(slot) = find(&self.slots, name) else { return wrong("there is none of this name".to_string()) };
        if (tensor.dtype(), tensor.dims()) != (slot.dtype, slot.dims.as_slice()) {
            let (dtype, dims) = (tensor.dtype(), tensor.dims());
            return wrong(format!("expected {}{:?}, found {dtype}{dims:?}", slot.dtype, slot.dims));
        }
        if slot.layout.is_row_major() {
            self.bytes.write(slot.offset, tensor.data());
            return Ok(());
        }
        let own = &mut self.bytes.bytes_mut()[slot.offset..];
        slot.copy_elements(|element, place| (element, place), tensor.data().bytes(), own);
        Ok(())
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The address of each state of a plan, in order.
    ///
    /// # Errors
    /// Where one is missing, or lies otherwise than the plan expects.
    pub(crate) fn pointers(&mut self, plan: &Outline) -> Result<Vec<*mut u8>, StateError> {
        let pointer = |state: &fusewright_ir::plan::State| {
            let wrong = |problem: &str| StateError { name: state.name.to_string(), problem: problem.to_string() };
            let slot = find(&self.slots, &state.name).ok_or_else(|| wrong("is missing"))?;
            let buffer = plan.buffer(state.buffer);
            if (slot.dtype, &slot.dims, &slot.layout) != (buffer.dtype, &buffer.dims, &buffer.layout) {
                return Err(wrong("belongs to another network"));
            }
            Ok(self.bytes.as_mut_ptr().wrapping_add(slot.offset))
        };
        plan.states.iter().map(pointer).collect()
    }
}

/// The tensor of this name.
fn find<'a>(slots: &'a [Slot], name: &str) -> Option<&'a Slot> {
    let place = slots.binary_search_by(|slot| slot.name.as_str().cmp(name)).ok()?;
    Some(&slots[place])
}

impl Slot {
    /// Copies every element between its number in row-major order and its place; `direction` gives from and to.
    fn copy_elements(&self, direction: impl Fn(usize, usize) -> (usize, usize), from: &[u8], to: &mut [u8]) {
        match self.dtype.bytes() {
            1 => self.copy_sized::<1>(direction, from, to),
            4 => self.copy_sized::<4>(direction, from, to),
            _ => self.copy_sized::<8>(direction, from, to),
        }
    }

    fn copy_sized<const SIZE: usize>(
        &self,
        direction: impl Fn(usize, usize) -> (usize, usize),
        from: &[u8],
        to: &mut [u8],
    ) {
        let ((from, _), (to, _)) = (from.as_chunks::<SIZE>(), to.as_chunks_mut::<SIZE>());
        self.for_each(|element, place| {
            let (source, target) = direction(element, place);
            to[target] = from[source];
        });
    }

    /// Calls `visit` with the number in row-major order and the place of every element: a line of the cache along the axis
    /// that is contiguous in memory at a time, so that each line is visited once.
    fn for_each(&self, mut visit: impl FnMut(usize, usize)) {
        let (places, n_axes) = (self.layout.strides(&self.dims), self.dims.len());
        let Some(along) = (0..n_axes).rev().min_by_key(|&axis| (self.dims[axis] == 1, places[axis])) else {
            return visit(0, self.layout.origin(&self.dims));
        };
        let numbers: Vec<usize> = (0..n_axes).map(|axis| self.dims[axis + 1..].iter().product()).collect();
        let others: usize = (0..n_axes).filter(|&axis| axis != along).map(|axis| self.dims[axis]).product();
        for begin in (0..self.dims[along]).step_by(LINE) {
            let end = (begin + LINE).min(self.dims[along]);
            let mut index = vec![0; n_axes];
            let (mut number, mut place) = (0, self.layout.origin(&self.dims));
            for _ in 0..others {
                for i in begin..end {
                    visit(number + i * numbers[along], place + i * places[along]);
                }
                for axis in (0..n_axes).rev().filter(|&axis| axis != along) {
                    index[axis] += 1;
                    (number, place) = (number + numbers[axis], place + places[axis]);
                    if index[axis] < self.dims[axis] {
                        break;
                    }
                    (number, place) = (number - numbers[axis] * index[axis], place - places[axis] * index[axis]);
                    index[axis] = 0;
                }
            }
        }
    }
}

/// The f32 that a line of the cache holds.
const LINE: usize = 16;
