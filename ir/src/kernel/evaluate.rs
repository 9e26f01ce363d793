//! What a program of kernels means: a slow, obvious interpreter in f64 that also bounds the error of an f32 execution.

use super::accumulate::Accumulator;
use super::bounded::{Bounded, Number, binary, cast, compare, fma, select, unary};
use super::*;
use crate::tensor::Array;
use std::collections::BTreeMap;
use std::fmt;

/// Runs the kernels of `program` in order. `given` holds the inputs and parameters; a buffer that is given is not
/// expected from a kernel.
///
/// # Errors
/// Where a buffer is not given or has other axes, a computed index is out of range, or an element is read that nothing
/// has written.
pub fn evaluate(program: &Program, given: &BTreeMap<BufferId, Array>) -> Result<Evaluation, Fault> {
    let mut values = Vec::with_capacity(program.buffers.len());
    for (id, info) in program.buffer_ids() {
        let array = match (&info.role, given.get(&id)) {
            (Role::Constant(tensor), _) => Some(BoundedArray::given(&tensor.to_array(), info.dtype)),
            (_, Some(array)) if array.dims == info.dims => Some(BoundedArray::given(array, info.dtype)),
            (_, Some(array)) => return Err(Fault::WrongAxes { buffer: id, found: array.dims.clone() }),
            (Role::Input | Role::Parameter | Role::State, None) => return Err(Fault::NotGiven { buffer: id }),
            (Role::Computed, None) => None,
        };
        values.push(array);
    }
    let mut memory = Arrays { program, evaluation: Evaluation { values } };
    for (number, named) in program.kernels.iter().enumerate() {
        run(number, &named.kernel, &mut memory)?;
    }
    Ok(memory.evaluation)
}

/// The values of all buffers after a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// By [`BufferId`]; `None` where nothing was given or written.
    pub values: Vec<Option<BoundedArray>>,
}

impl Evaluation {
    /// The values of a buffer.
    ///
    /// # Panics
    /// If nothing was given or written.
    pub fn array(&self, buffer: BufferId) -> Array {
        let array = self.bounded(buffer);
        Array { dims: array.dims.clone(), data: array.values.clone() }
    }

    /// How far an f32 execution may be from each value of a buffer; infinite where it may have anything.
    ///
    /// # Panics
    /// If nothing was given or written.
    pub fn errors(&self, buffer: BufferId) -> &[f64] {
        &self.bounded(buffer).errors
    }

    fn bounded(&self, buffer: BufferId) -> &BoundedArray {
        self.values[buffer.0 as usize].as_ref().expect("verified: the buffer is written")
    }
}

/// The values of a buffer in f64, each with the bound of its error.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundedArray {
    /// The lengths of the axes.
    pub dims: Vec<usize>,
    /// The values in row-major order.
    pub values: Vec<f64>,
    /// How far an f32 execution may be from each value.
    pub errors: Vec<f64>,
    /// Which elements were given or written.
    pub written: Vec<bool>,
    /// The values of 64-bit integers, which f64 cannot hold; empty for other types.
    wide: Vec<i64>,
}

impl BoundedArray {
    fn unwritten(info: &BufferInfo) -> BoundedArray {
        let size = info.dims.iter().product();
        let wide = if info.dtype == DType::I64 { size } else { 0 };
        BoundedArray {
            dims: info.dims.clone(),
            values: vec![0.0; size],
            errors: vec![0.0; size],
            written: vec![false; size],
            wide: vec![0; wide],
        }
    }

    fn given(array: &Array, dtype: DType) -> BoundedArray {
        let info = BufferInfo { name: String::new(), dtype, dims: array.dims.clone(), role: Role::Computed };
        let mut result = BoundedArray::unwritten(&info);
        for (place, &value) in array.data.iter().enumerate() {
            result.put(place, Number::given(value, dtype));
        }
        result
    }

    fn get(&self, place: usize) -> Number {
        let real = Bounded { value: self.values[place], error: self.errors[place] };
        Number { real, integer: self.wide.get(place).copied().unwrap_or(real.value as i64) }
    }

    fn put(&mut self, place: usize, number: Number) {
        self.values[place] = number.real.value;
        self.errors[place] = number.real.error;
        self.written[place] = true;
        if let Some(wide) = self.wide.get_mut(place) {
            *wide = number.integer;
        }
    }
}

/// Why a program cannot be run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An input or parameter is missing.
    NotGiven {
        /// Which.
        buffer: BufferId,
    },
    /// A given array has not the axes of its buffer.
    WrongAxes {
        /// Which.
        buffer: BufferId,
        /// The axes it has.
        found: Vec<usize>,
    },
    /// An index is outside its axis, and no value stands for what is there.
    OutOfRange {
        /// The kernel by its place in the program.
        kernel: usize,
        /// What is indexed.
        buffer: BufferId,
        /// The axis.
        axis: usize,
        /// The index; `None` where an exact division has a remainder.
        index: Option<i64>,
    },
    /// An element is read that was neither given nor written.
    Unwritten {
        /// The kernel by its place in the program.
        kernel: usize,
        /// What is read.
        buffer: BufferId,
        /// The element's place in row-major order.
        place: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotGiven { buffer } => write!(f, "buffer {} is not given", buffer.0),
            Fault::WrongAxes { buffer, found } => write!(f, "buffer {} is given with the axes {found:?}", buffer.0),
            Fault::OutOfRange { kernel, buffer, axis, index: Some(index) } => {
                write!(f, "kernel {kernel}: index {index} is outside axis {axis} of buffer {}", buffer.0)
            }
            Fault::OutOfRange { kernel, buffer, axis, index: None } => {
                write!(f, "kernel {kernel}: no element of buffer {} on axis {axis}: a remainder", buffer.0)
            }
            Fault::Unwritten { kernel, buffer, place } => {
                write!(f, "kernel {kernel}: element {place} of buffer {} is read before it is written", buffer.0)
            }
        }
    }
}

impl std::error::Error for Fault {}

/// What kernels load from and store to.
pub(crate) trait Memory {
    /// The type of the elements of a buffer.
    fn dtype(&self, buffer: BufferId) -> DType;

    /// Called before a kernel that writes the buffer.
    fn prepare(&mut self, buffer: BufferId);

    /// The element at a spot; `outside` where an index is outside and may be. A computed index must be inside.
    fn load(&mut self, spot: &Spot, outside: Option<Literal>) -> Result<Number, Fault>;

    /// Replaces the element at a spot, by the sum of old and new where `add` is given.
    fn store(&mut self, spot: &Spot, value: Number, add: Option<Sum>) -> Result<(), Fault>;
}

/// How the old and the new value are added.
pub(crate) type Sum<'a> = &'a dyn Fn(Number, Number) -> Number;

/// A place that a kernel names at one point.
pub(crate) struct Spot<'a> {
    /// The kernel by its place in the program.
    pub kernel: usize,
    /// What is indexed.
    pub buffer: BufferId,
    /// By which forms.
    pub at: &'a [Index],
    /// Over which space.
    pub extents: &'a [usize],
    /// The indices at the point; `None` where an exact division has a remainder, or a table ends.
    pub index: SmallVec<[Option<i64>; 4]>,
    /// Whether an execution finds the same.
    pub certain: bool,
}

impl Spot<'_> {
    /// The fault of an index along `axis`.
    pub fn out_of_range(&self, axis: usize) -> Fault {
        Fault::OutOfRange { kernel: self.kernel, buffer: self.buffer, axis, index: self.index[axis] }
    }

    /// The place in row-major order; `None` where an index is outside and may be. A computed index must be inside.
    fn place(&self, dims: &[usize], may_be_outside: bool) -> Result<Option<usize>, Fault> {
        let (mut place, mut inside) = (0, true);
        for (axis, (index, &length)) in self.index.iter().zip(dims).enumerate() {
            let must_be_inside = !may_be_outside || matches!(self.at[axis], Index::Computed(_));
            match *index {
                Some(i) if 0 <= i && i < length as i64 => place = place * length + i as usize,
                _ if must_be_inside => return Err(self.out_of_range(axis)),
                _ => inside = false,
            }
        }
        Ok(inside.then_some(place))
    }
}

/// Every buffer by itself, in row-major order.
struct Arrays<'a> {
    program: &'a Program,
    evaluation: Evaluation,
}

impl Memory for Arrays<'_> {
    fn dtype(&self, buffer: BufferId) -> DType {
        self.program.buffer(buffer).dtype
    }

    fn prepare(&mut self, buffer: BufferId) {
        let info = self.program.buffer(buffer);
        self.evaluation.values[buffer.0 as usize].get_or_insert_with(|| BoundedArray::unwritten(info));
    }

    fn load(&mut self, spot: &Spot, outside: Option<Literal>) -> Result<Number, Fault> {
        let Some(place) = spot.place(&self.program.buffer(spot.buffer).dims, outside.is_some())? else {
            return Ok(Number::literal(outside.expect("a place is missing only where outside is allowed")));
        };
        match &self.evaluation.values[spot.buffer.0 as usize] {
            Some(array) if array.written[place] => {
                let mut number = array.get(place);
                if !spot.certain {
                    number.real.error = f64::INFINITY;
                }
                Ok(number)
            }
            _ => Err(Fault::Unwritten { kernel: spot.kernel, buffer: spot.buffer, place }),
        }
    }

    fn store(&mut self, spot: &Spot, value: Number, add: Option<Sum>) -> Result<(), Fault> {
        let Some(place) = spot.place(&self.program.buffer(spot.buffer).dims, false)? else {
            unreachable!("a place is missing only where outside is allowed");
        };
        let array = self.evaluation.values[spot.buffer.0 as usize].as_mut().expect("made before the kernel ran");
        match add {
            Some(_) if !array.written[place] => {
                return Err(Fault::Unwritten { kernel: spot.kernel, buffer: spot.buffer, place });
            }
            Some(add) => array.put(place, add(array.get(place), value)),
            None => array.put(place, value),
        }
        if !spot.certain {
            // The execution may write to any element instead.
            array.errors.fill(f64::INFINITY);
        }
        Ok(())
    }
}

/// A fold or a store: the scalars it needs, those that are the same at all of its points apart.
struct Part {
    space: Space,
    fixed: Vec<ScalarId>,
    varying: Vec<ScalarId>,
}

impl Part {
    fn new(kernel: &Kernel, inner: &Space, roots: impl IntoIterator<Item = ScalarId>) -> Part {
        let outer = kernel.outer.len();
        let mut varies = vec![false; kernel.body.len()];
        let (mut fixed, mut varying) = (Vec::new(), Vec::new());
        for id in kernel.body.reachable(roots) {
            let scalar = kernel.body.get(id);
            let of_axes = |affine: &Affine| affine.terms.iter().any(|(axis, _)| axis.0 as usize >= outer);
            let own = match scalar {
                Scalar::Position(affine) => of_axes(affine),
                Scalar::Load { at, .. } => at.iter().any(|index| match index {
                    Index::Affine(at) | Index::Table { at, .. } => of_axes(at),
                    Index::Computed(_) => false,
                }),
                _ => false,
            };
            varies[id.0 as usize] = own || scalar.operands().iter().any(|operand| varies[operand.0 as usize]);
            if varies[id.0 as usize] { varying.push(id) } else { fixed.push(id) }
        }
        Part { space: kernel.space(inner), fixed, varying }
    }
}

/// Runs one kernel; faults name it by `number`.
pub(crate) fn run(number: usize, kernel: &Kernel, memory: &mut dyn Memory) -> Result<(), Fault> {
    run_at(number, kernel, None, memory)
}

/// Runs one kernel, at one position of its first axis only where one is given.
pub(crate) fn run_at(
    number: usize,
    kernel: &Kernel,
    position: Option<usize>,
    memory: &mut dyn Memory,
) -> Result<(), Fault> {
    kernel.writes().into_iter().for_each(|buffer| memory.prepare(buffer));
    let folds: Vec<Part> = kernel.folds.iter().map(|fold| Part::new(kernel, &fold.inner, [fold.value])).collect();
    let stores: Vec<Part> = kernel
        .stores
        .iter()
        .map(|store| {
            let computed = store.at.iter().filter_map(|index| match index {
                Index::Computed(value) => Some(*value),
                _ => None,
            });
            Part::new(kernel, &store.inner, computed.chain([store.value]))
        })
        .collect();
    let zero = Number::integer(0, 0.0);
    let mut machine = Machine {
        number,
        kernel,
        registers: vec![zero; kernel.body.len()],
        folded: vec![[zero; 2]; kernel.folds.len()],
    };
    let outer = kernel.outer.len();
    let longest = folds.iter().chain(&stores).map(|part| part.space.len()).max().unwrap_or(outer);
    let mut point = vec![0; longest];
    let fixed = usize::from(position.is_some());
    if let Some(position) = position {
        point[0] = position;
    }
    let mut more = kernel.outer.iter().all(|&n| n > 0);
    while more {
        for (i, (fold, part)) in kernel.folds.iter().zip(&folds).enumerate() {
            let mut accumulator = Accumulator::new(fold.kind, kernel.body.dtype(fold.value));
            machine.over(part, &mut point, memory, |machine, _, _| {
                accumulator.push(machine.registers[fold.value.0 as usize]);
                Ok(())
            })?;
            machine.folded[i] = accumulator.finish();
        }
        for (store, part) in kernel.stores.iter().zip(&stores) {
            machine
                .over(part, &mut point, memory, |machine, point, memory| machine.store(store, part, point, memory))?;
        }
        more = advance(&mut point[fixed..outer], &kernel.outer[fixed..]);
    }
    Ok(())
}

/// Goes to the next point of a space; false after the last, when `point` is the first again.
fn advance(point: &mut [usize], space: &[usize]) -> bool {
    for axis in (0..space.len()).rev() {
        point[axis] += 1;
        if point[axis] < space[axis] {
            return true;
        }
        point[axis] = 0;
    }
    false
}

/// Computes the scalars of one kernel.
struct Machine<'a> {
    number: usize,
    kernel: &'a Kernel,
    registers: Vec<Number>,
    folded: Vec<[Number; 2]>,
}

impl Machine<'_> {
    /// Computes the scalars of a part at each of its points, then does `action`.
    fn over(
        &mut self,
        part: &Part,
        point: &mut [usize],
        memory: &mut dyn Memory,
        mut action: impl FnMut(&mut Self, &[usize], &mut dyn Memory) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let outer = self.kernel.outer.len();
        if part.space[outer..].contains(&0) {
            return Ok(());
        }
        for &id in &part.fixed {
            self.registers[id.0 as usize] = self.scalar(id, &part.space, point, memory)?;
        }
        loop {
            for &id in &part.varying {
                self.registers[id.0 as usize] = self.scalar(id, &part.space, point, memory)?;
            }
            action(self, point, memory)?;
            if !advance(&mut point[outer..part.space.len()], &part.space[outer..]) {
                return Ok(());
            }
        }
    }

    fn scalar(&self, id: ScalarId, space: &[usize], point: &[usize], memory: &mut dyn Memory) -> Result<Number, Fault> {
        let body = &self.kernel.body;
        let number = |id: ScalarId| self.registers[id.0 as usize];
        Ok(match body.get(id) {
            Scalar::Const(literal) => Number::literal(*literal),
            Scalar::Load { buffer, at, outside } => {
                return memory.load(&self.spot(*buffer, at, space, point), *outside);
            }
            Scalar::Folded { fold, part } => self.folded[*fold as usize][*part as usize],
            Scalar::Position(affine) => Number::integer(value_at(affine, point).unwrap_or(0), 0.0),
            Scalar::Unary(op, a) => unary(*op, number(*a), body.dtype(*a)),
            Scalar::Binary(op, a, b) => binary(*op, number(*a), number(*b), body.dtype(*a)),
            Scalar::Compare(op, a, b) => compare(*op, number(*a), number(*b), body.dtype(*a)),
            Scalar::Select(condition, yes, no) => select(number(*condition), number(*yes), number(*no)),
            Scalar::Fma(a, b, c) => Number::float(fma(number(*a).real, number(*b).real, number(*c).real)),
            Scalar::Cast(dtype, a) => cast(number(*a), body.dtype(*a), *dtype),
        })
    }

    fn store(&self, store: &Store, part: &Part, point: &[usize], memory: &mut dyn Memory) -> Result<(), Fault> {
        let spot = self.spot(store.buffer, &store.at, &part.space, point);
        let value = self.registers[store.value.0 as usize];
        let dtype = memory.dtype(store.buffer);
        let sum = |old, new| binary(BinaryOp::Add, old, new, dtype);
        match store.combine {
            Combine::Set => memory.store(&spot, value, None),
            Combine::Add => memory.store(&spot, value, Some(&sum)),
        }
    }

    fn spot<'s>(&self, buffer: BufferId, at: &'s [Index], space: &'s [usize], point: &[usize]) -> Spot<'s> {
        let mut certain = true;
        let index = at.iter().map(|index| match index {
            Index::Affine(affine) => value_at(affine, point),
            Index::Table { table, at } => {
                let entry = value_at(at, point).and_then(|i| usize::try_from(i).ok());
                entry.and_then(|i| table.get(i)).copied()
            }
            Index::Computed(id) => {
                let number = self.registers[id.0 as usize];
                certain &= number.real.error == 0.0;
                Some(number.integer)
            }
        });
        let index = index.collect();
        Spot { kernel: self.number, buffer, at, extents: space, index, certain }
    }
}

/// The value of an affine form; the division, which is slow, only where there is one.
fn value_at(affine: &Affine, point: &[usize]) -> Option<i64> {
    if affine.divisor != 1 {
        return affine.at(point);
    }
    let terms = affine.terms.iter().map(|&(axis, k)| point[axis.0 as usize] as i64 * k);
    Some(terms.sum::<i64>() + affine.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::build::Operand;

    fn operand(buffer: u32, dtype: DType, dims: &[usize]) -> Operand {
        Operand { buffer: BufferId(buffer), dtype, dims: dims.to_vec() }
    }

    /// A program of one kernel over these buffers; the last is computed, the others are inputs.
    fn program(buffers: &[&Operand], kernel: Kernel) -> Program {
        let mut program = Program::default();
        for (i, operand) in buffers.iter().enumerate() {
            let role = if i + 1 == buffers.len() { Role::Computed } else { Role::Input };
            let (dtype, dims) = (operand.dtype, operand.dims.clone());
            program.add_buffer(BufferInfo { name: format!("b{i}"), dtype, dims, role });
        }
        program.kernels.push(NamedKernel { nodes: vec![], about: String::new(), kernel });
        program
    }

    fn run_one(buffers: &[&Operand], kernel: Kernel, inputs: &[&[f64]]) -> Result<(Vec<f64>, Vec<f64>), Fault> {
        let given = inputs
            .iter()
            .zip(buffers)
            .map(|(data, operand)| (operand.buffer, Array { dims: operand.dims.clone(), data: data.to_vec() }));
        let result = evaluate(&program(buffers, kernel), &given.collect())?;
        let last = buffers[buffers.len() - 1].buffer;
        Ok((result.array(last).data, result.errors(last).to_vec()))
    }

    #[test]
    fn padding_is_a_load_that_falls_outside() {
        let (x, y) = (operand(0, DType::F32, &[3]), operand(1, DType::F32, &[5]));
        let mut k = KernelBuilder::new(&[5]);
        let i = k.outer(0);
        let value = k.load_or(&x, [Index::from(i + -1)], Literal::f32(9.0));
        k.store(&y, [i], value);
        let (values, errors) = run_one(&[&x, &y], k.finish(), &[&[1.0, 2.0, 3.0]]).unwrap();
        assert_eq!(values, [9.0, 1.0, 2.0, 3.0, 9.0]);
        assert_eq!(errors, [0.0; 5]);
    }

    #[test]
    fn sums_of_short_numbers_are_exact_and_others_are_bounded() {
        let (x, y) = (operand(0, DType::F32, &[4]), operand(1, DType::F32, &[]));
        let kernel = || {
            let mut k = KernelBuilder::new(&[]);
            let value = k.load(&x, [k.inner(0)]);
            let sum = k.fold(FoldKind::Sum, &[4], value);
            k.store(&y, [] as [Index; 0], sum);
            k.finish()
        };
        let (values, errors) = run_one(&[&x, &y], kernel(), &[&[1.0, -2.5, 0.25, 4.0]]).unwrap();
        assert_eq!((values[0], errors[0]), (2.75, 0.0));
        let third = f64::from(1.0f32 / 3.0);
        let (values, errors) = run_one(&[&x, &y], kernel(), &[&[third, 1e6, 0.0, -1e6]]).unwrap();
        let f32_sum = f64::from(third as f32 + 1e6f32 - 1e6f32);
        assert!(errors[0] >= (f32_sum - values[0]).abs() && errors[0] < 1.0, "{errors:?}");
    }

    #[test]
    fn computed_indices_are_checked() {
        let (x, i, y) = (operand(0, DType::F32, &[3]), operand(1, DType::I64, &[2]), operand(2, DType::F32, &[2]));
        let kernel = || {
            let mut k = KernelBuilder::new(&[2]);
            let axis = k.outer(0);
            let at = k.load(&i, [axis]);
            let value = k.load(&x, [Index::Computed(at)]);
            k.store(&y, [axis], value);
            k.finish()
        };
        let run = |indices: &[f64]| run_one(&[&x, &i, &y], kernel(), &[&[5.0, 6.0, 7.0], indices]);
        assert_eq!(run(&[2.0, 0.0]).unwrap().0, [7.0, 5.0]);
        let fault = Fault::OutOfRange { kernel: 0, buffer: BufferId(0), axis: 0, index: Some(3) };
        assert_eq!(run(&[2.0, 3.0]).unwrap_err(), fault);
    }

    #[test]
    fn reading_what_nobody_wrote_is_a_fault() {
        let y = operand(0, DType::F32, &[2]);
        let mut k = KernelBuilder::new(&[2]);
        let i = k.outer(0);
        let other = k.load(&y, [i * -1 + 1]);
        k.store(&y, [i], other);
        let fault = Fault::Unwritten { kernel: 0, buffer: BufferId(0), place: 1 };
        assert_eq!(run_one(&[&y], k.finish(), &[]).unwrap_err(), fault);
    }
}
