//! Inputs or targets of all examples, as a network reads them.

use super::dataset::Wanted;
use super::labels::{Faults, Labels};
use crate::ir::model::Image;
use crate::ir::{DType, Data, Diagnostic, Diagnostics, Dim, Tensor, TensorType};

/// One part of all examples.
#[derive(Clone, Debug)]
pub(super) struct Examples {
    /// The shape of one.
    pub dims: Vec<usize>,
    /// The elements of one.
    each: usize,
    stored: Stored,
}

#[derive(Clone, Debug)]
enum Stored {
    /// Bytes, and the number that each becomes, channel by channel.
    Pixels { bytes: Vec<u8>, tables: Vec<[f32; 256]> },
    /// Elements as the network reads them.
    Numbers(Data),
}

impl Examples {
    /// Inputs from an array whose first axis is the examples. What the network says of images is done to its elements where
    /// they are such.
    pub fn inputs(array: Tensor, wanted: &Wanted, is_image: bool) -> Result<Examples, Diagnostic> {
        let unfit = Diagnostic::new("the examples do not fit the network's input")
            .expected(format!("{}, the first axis the examples", wanted.input))
            .found(array.tensor_type().to_string());
        let Some(dims) = fitted(&wanted.input, &array.dims()[1..]) else { return Err(unfit) };
        let each = dims.iter().product();
        let dtype = kept(wanted.input.dtype);
        let ruled = wanted.image.as_ref().filter(|_| is_image && dtype == DType::F32);
        let is_bytes = array.dtype() == DType::U8 && dtype == DType::F32;
        if !is_bytes && ruled.is_none() {
            let stored = Stored::Numbers(converted(array, dtype, &unfit)?);
            return Ok(Examples { dims, each, stored });
        }
        let channels = if dims.len() >= 3 { dims[dims.len() - 3] } else { 1 };
        let plain = Image { scale: 1.0, mean: Vec::new(), std: Vec::new(), resize: None };
        let rule = ruled.unwrap_or(&plain);
        rule.check_channels(channels)?;
        if !is_bytes {
            let plane = (each / channels.max(1)).max(1);
            let pixels = array.data().to_f64().into_iter().enumerate();
            let numbers = pixels.map(|(i, pixel)| rule.apply(pixel, i / plane % channels)).collect();
            let stored = Stored::Numbers(converted(Tensor::new(array.dims(), Data::F64(numbers)), dtype, &unfit)?);
            return Ok(Examples { dims, each, stored });
        }
        let table = |channel| std::array::from_fn(|pixel| rule.apply(pixel as f64, channel) as f32);
        let tables = (0..channels).map(table).collect();
        let Data::U8(bytes) = array.into_data() else { unreachable!("checked: the elements are bytes") };
        Ok(Examples { dims, each, stored: Stored::Pixels { bytes, tables } })
    }

    /// Targets from an array whose first axis is the examples.
    pub fn targets(array: Tensor, ty: &TensorType, wanted: &Wanted) -> Result<Examples, Diagnostics> {
        let what = if wanted.labels.is_some() { "whole numbers: class labels" } else { "numbers" };
        let unfit = Diagnostic::new("the targets do not fit the network's output")
            .expected(format!("{ty}, the first axis the examples ({what})"))
            .found(array.tensor_type().to_string());
        let unfit = match wanted.labels {
            Some(_) => {
                unfit.help("in NumPy: `astype(\"int64\")` of whole numbers, `argmax(1)` of a number for each class")
            }
            None => unfit,
        };
        let Some(dims) = fitted(ty, &array.dims()[1..]) else { return Err(unfit.into()) };
        let each = dims.iter().product();
        let data = converted(array, kept(ty.dtype), &unfit)?;
        if let Some(labels) = &wanted.labels {
            check_labels(&data, each, labels)?;
        }
        if wanted.are_probabilities {
            check_probabilities(&data, each)?;
        }
        Ok(Examples { dims, each, stored: Stored::Numbers(data) })
    }

    /// The type of so many.
    pub fn ty(&self, n: usize) -> TensorType {
        let dtype = match &self.stored {
            Stored::Pixels { .. } => DType::F32,
            Stored::Numbers(data) => data.dtype(),
        };
        TensorType::new(dtype, [n].into_iter().chain(self.dims.iter().copied()))
    }

    /// Puts these one behind the other.
    pub fn fill(&self, examples: &[usize], into: &mut Tensor) {
        let fits = into.dims().split_first() == Some((&examples.len(), &self.dims[..]));
        assert!(fits, "a tensor of {} examples of shape {:?}, not {:?}", examples.len(), self.dims, into.dims());
        for (place, &example) in examples.iter().enumerate() {
            let (from, to) = (example * self.each, place * self.each);
            match (&self.stored, into.data_mut()) {
                (Stored::Pixels { bytes, tables }, Data::F32(numbers)) => {
                    let bytes = &bytes[from..from + self.each];
                    let numbers = &mut numbers[to..to + self.each];
                    let plane = (self.each / tables.len().max(1)).max(1);
                    for ((numbers, bytes), table) in numbers.chunks_mut(plane).zip(bytes.chunks(plane)).zip(tables) {
                        numbers.iter_mut().zip(bytes).for_each(|(number, &byte)| *number = table[usize::from(byte)]);
                    }
                }
                (Stored::Pixels { .. }, other) => panic!("pixels become f32, not {}", other.dtype()),
                (Stored::Numbers(data), into) => into.copy_from(to, data, from..from + self.each),
            }
        }
    }
}

/// The type that a plan has in the place of `dtype`: none has f64.
fn kept(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F32 } else { dtype }
}

/// The shape of one example of type `ty`, from that which the array has: the same; or with axes of length 1 more or less,
/// such as the channel of gray images; or flat. `None` where it does not fit.
fn fitted(ty: &TensorType, found: &[usize]) -> Option<Vec<usize>> {
    let wanted = ty.shape.get(1..)?;
    let agrees = |wanted: &[Dim], found: &[usize]| {
        wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, n)| wanted.may_equal(&Dim::from(*n)))
    };
    if agrees(wanted, found) {
        return Some(found.to_vec());
    }
    // Gray images of any size have no axis for channels.
    if let [channels, rest @ ..] = wanted
        && channels.known() == Some(1)
        && agrees(rest, found)
    {
        return Some([1].into_iter().chain(found.iter().copied()).collect());
    }
    let elements = found.iter().product();
    if agrees(wanted, &[elements]) {
        return Some(vec![elements]);
    }
    let known: Vec<usize> = wanted.iter().map(Dim::known).collect::<Option<_>>()?;
    let long = |dims: &[usize]| dims.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
    (long(&known) == long(found)).then_some(known)
}

/// The elements of an array as `dtype`.
///
/// # Errors
/// Where fractions would become whole, and where an element is not finite or `dtype` has no such number; floats round.
fn converted(array: Tensor, dtype: DType, unfit: &Diagnostic) -> Result<Data, Diagnostic> {
    if array.dtype().is_float() && !dtype.is_float() {
        return Err(unfit.clone());
    }
    let each = array.dims()[1..].iter().product::<usize>().max(1);
    let data = array.into_data();
    let refuse = |place: usize, expected: String| {
        let found = data.slice(place..place + 1).to_f64()[0];
        let fault = Diagnostic::new(format!("example {}: an element does not fit", place / each)).expected(expected);
        fault.found(format!("{found}")).help("examples are counted from 0")
    };
    if let Some(place) = infinite(&data) {
        return Err(refuse(place, "a finite number".to_string()));
    }
    if data.dtype() == dtype {
        return Ok(data);
    }
    let numbers = data.to_f64();
    let converted = Data::from_f64(dtype, &numbers);
    let lost = match dtype.is_float() {
        true => infinite(&converted),
        false => converted.to_f64().iter().zip(&numbers).position(|(converted, number)| converted != number),
    };
    match lost {
        Some(place) => Err(refuse(place, format!("a number of type {dtype}"))),
        None => Ok(converted),
    }
}

/// The place of a number that is not finite.
fn infinite(data: &Data) -> Option<usize> {
    match data {
        Data::F32(numbers) => numbers.iter().position(|number| !number.is_finite()),
        Data::F64(numbers) => numbers.iter().position(|number| !number.is_finite()),
        _ => None,
    }
}

fn check_labels(data: &Data, each: usize, labels: &Labels) -> Result<(), Diagnostics> {
    let mut faults = Faults::default();
    let classes = 0.0..labels.classes as f64;
    for (place, label) in data.to_f64().into_iter().enumerate() {
        if !classes.contains(&label) && label != labels.ignore_index as f64 {
            let fault = Diagnostic::new(format!("example {}: the label is out of range", place / each.max(1)));
            let last = labels.classes.saturating_sub(1);
            let fault = fault.expected(format!("0 to {last}: the network tells {} classes apart", labels.classes));
            faults.push(fault.found(format!("{label}")).help("labels and examples are counted from 0"));
        }
    }
    faults.into_result()
}

fn check_probabilities(data: &Data, each: usize) -> Result<(), Diagnostics> {
    let mut faults = Faults::default();
    for (place, number) in data.to_f64().into_iter().enumerate().filter(|(_, number)| !(0.0..=1.0).contains(number)) {
        let fault = Diagnostic::new(format!("example {}: the target is no probability", place / each.max(1)));
        let fault = fault.expected("a number from 0 to 1, for a binary cross-entropy").found(format!("{number}"));
        faults.push(fault.help("examples are counted from 0"));
    }
    faults.into_result()
}
