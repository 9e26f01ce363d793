//! Parts of a tensor along one axis: a range, or one element.

use super::common::{indices, indices_with};
use super::conv::is_default;
use super::reshape::axis_of;
use super::*;
use crate::Dim;
use crate::graph::ValueId;
use crate::kernel::{Index, KernelBuilder};

/// Elements `start, start + step, ...` before `end` along `dim`, as Python's `x[start:end:step]`: negative bounds count
/// from the end, and bounds beyond the edges mean the edges.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The axis.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dim: i32,
    /// The first element.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: i64,
    /// The element behind the last; the end of the axis where it is not given.
    #[serde(default = "open", skip_serializing_if = "is_open")]
    pub end: i64,
    /// Steps between elements, 1 or more.
    #[serde(default = "single", skip_serializing_if = "is_single")]
    pub step: i64,
}

/// One element along `dim`, which is not in the output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// The axis.
    pub dim: i32,
    /// The element; negative numbers count from the end.
    pub index: i64,
}

fn open() -> i64 {
    i64::MAX
}

fn is_open(n: &i64) -> bool {
    *n == open()
}

fn single() -> i64 {
    1
}

fn is_single(n: &i64) -> bool {
    *n == 1
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "Select",
        about: "one element along an axis",
        read: |fields| crate::text::read(fields).map(Op::Select),
    },
    LayerKind {
        name: "Slice",
        about: "a range of elements along an axis",
        read: |fields| crate::text::read(fields).map(Op::Slice),
    },
];

impl Slice {
    /// The first element and the number of elements along an axis of `length`.
    fn range(&self, length: &Dim) -> Result<(Dim, Dim), Mismatch> {
        if self.step < 1 {
            let mismatch = Mismatch::new("a step of 1 or more", format!("{}", self.step), "leave `step` out");
            return Err(mismatch.in_field("step"));
        }
        let (start, rest) = match length {
            Dim::Known(n) => {
                let bound = |at: i64| if at < 0 { at.saturating_add(*n).max(0) } else { at.min(*n) };
                let (start, end) = (bound(self.start), bound(self.end));
                (Dim::Known(start), Dim::Known((end - start).max(0)))
            }
            // The edges are not known: only bounds that cannot lie beyond them have a meaning yet. What a bound from
            // the end leaves may be negative, which `verify` refuses once the symbol is bound.
            Dim::Symbolic(_) => {
                let wrong = |field: &'static str, found: i64| {
                    let expected = format!("a bound from the other end, for the length {length} is not a number yet");
                    Err(Mismatch::new(expected, format!("{found}"), "bind the symbol first").in_field(field))
                };
                let start = match self.start {
                    -1 => length.clone() - 1,
                    start if start < 0 => return wrong("start", start),
                    start => Dim::Known(start),
                };
                let end = match self.end {
                    i64::MAX => length.clone(),
                    end if end >= 0 => return wrong("end", end),
                    end => length.clone() + end,
                };
                (start.clone(), end - start)
            }
        };
        let elements = match rest {
            Dim::Known(n) => Dim::Known(n / self.step + i64::from(n % self.step != 0)),
            Dim::Symbolic(_) => rest.ceil_div(&Dim::Known(self.step)),
        };
        Ok((start, elements))
    }
}

/// The kernel that copies every `step`-th element along `dim`, from `start` on, to the whole output.
pub(super) fn copy(input: &Operand, out: &Operand, dim: usize, start: i64, step: i64) -> Kernel {
    let mut k = KernelBuilder::new(&out.dims);
    let axes = k.outer_axes();
    let value = k.load(input, indices_with(&axes, dim, axes[dim] * step + start));
    k.store(out, axes, value);
    k.finish()
}

/// The value between zeros, so that `dim` is `length` long: it begins at `start`.
fn put(back: &mut Backward, value: ValueId, dim: usize, start: usize, length: usize) -> ValueId {
    let dims = back.dims(value);
    let mut padding = vec![(0, 0); dims.len() - dim];
    padding[0] = (start as i32, (length - start - dims[dim]) as i32);
    let pad = Pad { padding: padding.into_iter().collect(), mode: PadMode::Constant, value: Real(0.0) };
    back.node(pad, &[value])
}

impl OpSpec for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let dim = axis_of(self.dim, inputs[0].rank(), "dim")?;
        let mut ty = inputs[0].clone();
        ty.shape[dim] = self.range(&ty.shape[dim])?.1;
        Ok([ty].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let dim = axis_of(self.dim, out.dims.len(), "dim").expect("verified: the axis exists");
        let (start, _) = self.range(&Dim::from(input.dims[dim])).expect("verified: the step is positive");
        let start = start.known().expect("the length is a number") as i64;
        vec![copy(input, out, dim, start, self.step)]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (dims, upstream) = (back.dims(back.input(0)), back.upstream());
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        let (start, _) = self.range(&Dim::from(dims[dim])).expect("verified: the step is positive");
        let start = start.known().expect("the length is a number");
        let n = back.dims(upstream)[dim];
        let gradient = match self.step {
            1 => put(back, upstream, dim, start, dims[dim]),
            step => {
                let rows: Vec<Terms> = (0..n).map(|i| vec![(start + i * step as usize, 1.0)]).collect();
                Resample::transposed(back, upstream, dim, &rows, dims[dim])
            }
        };
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        let length = inputs[0].dims[dim] as i64;
        let first = if self.start < 0 { (self.start + length).max(0) } else { self.start } as usize;
        let output = Array::from_fn(&dims, |at| {
            let mut at = at.to_vec();
            at[dim] = first + at[dim] * self.step as usize;
            inputs[0].at(&at)
        });
        vec![output]
    }
}

impl Select {
    /// The element counted from the front.
    fn place(&self, length: &Dim) -> Result<Dim, Mismatch> {
        let place = if self.index < 0 { length.clone() + self.index } else { Dim::Known(self.index) };
        match (&place, length) {
            (Dim::Known(place), Dim::Known(n)) if !(0..*n).contains(place) => {
                let found = format!("{}", self.index);
                let help = "count from 0, or from -1 backwards";
                Err(Mismatch::new(format!("an element in -{n}..{n}"), found, help).in_field("index"))
            }
            // Every axis has a first and a last element.
            (_, Dim::Symbolic(_)) if !matches!(self.index, -1 | 0) => Err(Mismatch::new(
                format!("0 or -1, for the length {length} is not a number yet"),
                format!("{}", self.index),
                "bind the symbol first",
            )
            .in_field("index")),
            _ => Ok(place),
        }
    }
}

impl OpSpec for Select {
    fn name(&self) -> &'static str {
        "Select"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let dim = axis_of(self.dim, inputs[0].rank(), "dim")?;
        let mut ty = inputs[0].clone();
        self.place(&ty.shape.remove(dim))?;
        Ok([ty].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let dim = axis_of(self.dim, input.dims.len(), "dim").expect("verified: the axis exists");
        let place = self.place(&Dim::from(input.dims[dim])).expect("verified: the element exists");
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let mut at = indices(&axes);
        at.insert(dim, Index::from(place.known().expect("the length is a number") as i64));
        let value = k.load(input, at);
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (dims, upstream) = (back.dims(back.input(0)), back.upstream());
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        let place = self.place(&Dim::from(dims[dim])).expect("verified: the element exists");
        let mut single = dims.clone();
        single[dim] = 1;
        let upstream = back.reshaped(upstream, &single);
        let gradient = put(back, upstream, dim, place.known().expect("the length is a number"), dims[dim]);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let dim = axis_of(self.dim, inputs[0].dims.len(), "dim").expect("verified: the axis exists");
        let output = Array::from_fn(&dims, |at| {
            let mut at = at.to_vec();
            at.insert(dim, self.index.rem_euclid(inputs[0].dims[dim] as i64) as usize);
            inputs[0].at(&at)
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(length: impl Into<Dim>, start: i64, end: i64, step: i64) -> Result<String, Mismatch> {
        let ty = TensorType::f32([length.into(), 2.into()]);
        Slice { dim: 0, start, end, step }.infer(&[&ty]).map(|types| types[0].to_string())
    }

    #[test]
    fn bounds_are_those_of_python() {
        let len = |start, end, step| slice(10, start, end, step);
        assert_eq!(len(2, 7, 1).as_deref(), Ok("f32[5, 2]"));
        assert_eq!(len(-3, i64::MAX, 2).as_deref(), Ok("f32[2, 2]"));
        assert_eq!(len(-99, -8, 1).as_deref(), Ok("f32[2, 2]"));
        assert_eq!(len(7, 3, 1).as_deref(), Ok("f32[0, 2]"));
        assert_eq!(len(i64::MIN, i64::MAX, i64::MAX).as_deref(), Ok("f32[1, 2]"));
        assert_eq!(len(0, 5, 0).unwrap_err().field, Some("step"));
    }

    #[test]
    fn symbols_take_bounds_that_cannot_miss() {
        let n = Dim::symbol("N");
        assert_eq!(slice(n.clone(), 1, i64::MAX, 1).as_deref(), Ok("f32[N - 1, 2]"));
        assert_eq!(slice(n.clone(), 0, -1, 1).as_deref(), Ok("f32[N - 1, 2]"));
        assert_eq!(slice(n.clone(), -1, i64::MAX, 1).as_deref(), Ok("f32[1, 2]"));
        assert_eq!(slice(n.clone(), 0, 5, 1).unwrap_err().field, Some("end"));
        assert_eq!(slice(n, -2, i64::MAX, 1).unwrap_err().field, Some("start"));
    }

    #[test]
    fn one_element_is_selected() {
        let ty = TensorType::f32([Dim::symbol("N"), 3.into()]);
        let select = |dim, index| Select { dim, index }.infer(&[&ty]).map(|types| types[0].to_string());
        assert_eq!(select(0, -1).as_deref(), Ok("f32[3]"));
        assert_eq!(select(1, 2).as_deref(), Ok("f32[N]"));
        assert_eq!(select(1, 3).unwrap_err().expected, "an element in -3..3");
        assert_eq!(select(0, 4).unwrap_err().field, Some("index"));
    }
}
