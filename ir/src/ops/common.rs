//! What operations share: lists of axes, lengths that may be symbols, checks of element types, reductions.

use super::reshape::axis_of;
use super::*;
use crate::Dim;
use crate::kernel::{Affine, Axis, Index, KernelBuilder};
use crate::tensor::points;

/// All combinations of one of each list, the last changing first.
pub fn combinations<T: Clone>(lists: &[Vec<T>]) -> Vec<Vec<T>> {
    lists.iter().fold(vec![Vec::new()], |all, list| {
        all.iter()
            .flat_map(|some| list.iter().map(|item| [some.as_slice(), std::slice::from_ref(item)].concat()))
            .collect()
    })
}

/// An axis or several; negative numbers count from the end. Where all axes make sense, an empty list stands for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "the number of an axis, or a list of them; -1 is the last")]
pub enum Dims {
    /// One axis.
    One(i32),
    /// Several.
    Many(SmallVec<[i32; 4]>),
}

impl Default for Dims {
    fn default() -> Dims {
        Dims::Many(SmallVec::new())
    }
}

impl Dims {
    /// The numbers as they are written.
    pub fn numbers(&self) -> &[i32] {
        match self {
            Dims::One(n) => std::slice::from_ref(n),
            Dims::Many(list) => list,
        }
    }

    /// The axes among `rank`, in the order they are written.
    ///
    /// # Errors
    /// Where there is no such axis, or one is named twice.
    pub fn axes(&self, rank: usize, field: &'static str) -> Result<SmallVec<[usize; 4]>, Mismatch> {
        let mut axes = SmallVec::new();
        for &number in self.numbers() {
            let axis = axis_of(number, rank, field)?;
            if axes.contains(&axis) {
                let help = "name each axis once";
                return Err(Mismatch::new("different axes", format!("axis {axis} twice"), help).in_field(field));
            }
            axes.push(axis);
        }
        Ok(axes)
    }

    /// For each of `rank` axes, whether it is named; all of them where none is.
    ///
    /// # Errors
    /// Where there is no such axis, or one is named twice.
    pub fn chosen(&self, rank: usize, field: &'static str) -> Result<Vec<bool>, Mismatch> {
        let axes = self.axes(rank, field)?;
        Ok((0..rank).map(|axis| axes.is_empty() || axes.contains(&axis)).collect())
    }
}

impl Dims {
    /// The axes of `dims` that a reduction over these folds, as `infer` checked them, and the lengths with those at 1.
    pub fn folded(&self, dims: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let over = self.chosen(dims.len(), "dim").expect("verified: axes exist");
        let axes = (0..dims.len()).filter(|&axis| over[axis]).collect();
        (axes, dims.iter().zip(&over).map(|(&n, &over)| if over { 1 } else { n }).collect())
    }
}

/// The length of an axis in an attribute: a number (-1 has a meaning of its own in each operation) or a symbol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "a length, a symbol such as N, or -1")]
pub enum Length {
    /// A number.
    Number(i64),
    /// The name of a symbol: `"N"`.
    Symbol(String),
}

impl Length {
    /// Left to the operation.
    pub const OPEN: Length = Length::Number(-1);

    /// The number that stands for the symbol, if this is one that has a value.
    pub fn bind(&self, bindings: &crate::Bindings) -> Length {
        let value = match self {
            Length::Symbol(name) => bindings.get(name).and_then(|&value| i64::try_from(value).ok()),
            Length::Number(_) => None,
        };
        value.map_or_else(|| self.clone(), Length::Number)
    }

    /// The length; `None` for -1.
    ///
    /// # Errors
    /// Where it is less than -1, beyond [`Dim::LIMIT`], or no name of a symbol.
    pub fn dim(&self, field: &'static str) -> Result<Option<Dim>, Mismatch> {
        let wrong = |found: String| {
            let expected = format!("lengths in 0..={}, -1, or names of symbols", Dim::LIMIT);
            Err(Mismatch::new(expected, found, "write the length of each axis").in_field(field))
        };
        match self {
            Length::Number(-1) => Ok(None),
            Length::Number(n) if (0..=Dim::LIMIT).contains(n) => Ok(Some(Dim::Known(*n))),
            Length::Number(n) => wrong(format!("{n}")),
            Length::Symbol(name) => {
                let word = name.chars().all(|c| c.is_alphanumeric() || c == '_');
                match name.chars().next() {
                    Some(first) if word && !first.is_numeric() => Ok(Some(Dim::symbol(name))),
                    _ => wrong(format!("{name:?}")),
                }
            }
        }
    }
}

/// Requires f32 elements.
///
/// # Errors
/// Where they are something else.
pub fn expect_float(ty: &TensorType) -> Result<(), Mismatch> {
    match ty.dtype {
        DType::F32 => Ok(()),
        _ => Err(Mismatch::new("f32 elements", ty.to_string(), "put a Cast layer in front")),
    }
}

/// Requires numbers: anything but truth values.
///
/// # Errors
/// Where they are truth values.
pub fn expect_number(ty: &TensorType) -> Result<(), Mismatch> {
    match ty.dtype {
        DType::Bool => Err(Mismatch::new("numbers", ty.to_string(), "put a Cast layer in front")),
        _ => Ok(()),
    }
}

/// Requires whole numbers, for indices and labels.
///
/// # Errors
/// Where they are something else.
pub fn expect_indices(ty: &TensorType, what: &str) -> Result<(), Mismatch> {
    match ty.dtype.is_integer() {
        true => Ok(()),
        false => Err(Mismatch::new(
            format!("{what} of an integer type"),
            ty.to_string(),
            "declare the input as i64, or put a Cast layer in front",
        )),
    }
}

/// The length that both stand for: equal expressions, or a number beside a symbol that may be bound to it.
pub fn agreed(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (Dim::Known(_), Dim::Symbolic(_)) => Some(a.clone()),
        (Dim::Symbolic(_), Dim::Known(_)) => Some(b.clone()),
        _ => None,
    }
}

/// The shape that both stand for.
///
/// # Errors
/// Where rank or an axis differs.
pub fn agreed_shape(a: &TensorType, b: &TensorType) -> Result<Vec<Dim>, Mismatch> {
    let pairs = a.shape.iter().zip(&b.shape);
    let shape: Option<Vec<Dim>> = pairs.map(|(a, b)| agreed(a, b)).collect();
    match shape {
        Some(shape) if a.rank() == b.rank() => Ok(shape),
        _ => Err(Mismatch::new("operands of one shape", format!("{a} and {b}"), "reshape one of them")),
    }
}

/// The axes of a reduced value: those reduced are dropped, or have the length 1 where they are kept.
pub fn reduced_shape(shape: &[Dim], over: &[bool], keepdim: bool) -> Vec<Dim> {
    let axes = shape.iter().zip(over).filter(|(_, reduced)| keepdim || !**reduced);
    axes.map(|(dim, &reduced)| if reduced { Dim::Known(1) } else { dim.clone() }).collect()
}

/// A nest that folds over some axes of a tensor: its outer axes are the others.
pub struct FoldNest {
    /// The kernel, with nothing in it.
    pub k: KernelBuilder,
    /// The extents of the axes folded over.
    pub inner: Vec<usize>,
    /// Where the tensor is read.
    pub at: Vec<Index>,
    /// Where the result is written.
    pub to: Vec<Index>,
}

impl FoldNest {
    /// The nest over the axes of `dims` where `over` holds.
    pub fn new(dims: &[usize], over: &[bool], keepdim: bool) -> FoldNest {
        let outer: Vec<usize> = dims.iter().zip(over).filter(|(_, over)| !**over).map(|(&n, _)| n).collect();
        let inner: Vec<usize> = dims.iter().zip(over).filter(|(_, over)| **over).map(|(&n, _)| n).collect();
        let k = KernelBuilder::new(&outer);
        let (mut next_outer, mut next_inner) = (0, 0);
        let (mut at, mut to) = (Vec::new(), Vec::new());
        for &reduced in over {
            if reduced {
                at.push(k.inner(next_inner).into());
                next_inner += 1;
                if keepdim {
                    to.push(Index::from(0));
                }
            } else {
                at.push(k.outer(next_outer).into());
                to.push(k.outer(next_outer).into());
                next_outer += 1;
            }
        }
        FoldNest { k, inner, at, to }
    }

    /// The number of elements folded into one.
    pub fn count(&self) -> usize {
        self.inner.iter().product()
    }
}

/// The elements that a reduction folds into each element of its result, both in row-major order.
pub fn groups(input: &Array, over: &[bool]) -> Vec<Vec<f64>> {
    let kept: Vec<usize> = input.dims.iter().zip(over).map(|(&n, &over)| if over { 1 } else { n }).collect();
    let mut groups = vec![Vec::new(); kept.iter().product()];
    for (at, &value) in points(&input.dims).zip(&input.data) {
        let group = at.iter().zip(&kept).fold(0, |flat, (&i, &n)| flat * n + if n == 1 { 0 } else { i });
        groups[group].push(value);
    }
    groups
}

/// The axes as indices.
pub fn indices(axes: &[Axis]) -> Vec<Index> {
    axes.iter().map(|&axis| axis.into()).collect()
}

/// The axes as indices, with `index` in place of the one at `place`.
pub fn indices_with(axes: &[Axis], place: usize, index: impl Into<Affine>) -> Vec<Index> {
    let mut all = indices(axes);
    all[place] = Index::Affine(index.into());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_checked() {
        assert_eq!(Dims::Many([-1, 0].into_iter().collect()).axes(3, "dim").unwrap().as_slice(), [2, 0]);
        assert_eq!(Dims::default().chosen(2, "dim"), Ok(vec![true, true]));
        assert_eq!(Dims::One(3).axes(3, "dim").unwrap_err().field, Some("dim"));
        assert_eq!(Dims::Many([1, -2].into_iter().collect()).axes(3, "dim").unwrap_err().found, "axis 1 twice");
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(Length::Symbol("N".into()).dim("shape"), Ok(Some(Dim::symbol("N"))));
        assert_eq!(Length::OPEN.dim("shape"), Ok(None));
        for wrong in [Length::Number(-2), Length::Number(1 << 40), Length::Symbol(String::new())] {
            assert!(wrong.dim("shape").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn groups_are_in_order() {
        let array = Array { dims: vec![2, 3], data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!(groups(&array, &[true, false]), [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
        assert_eq!(groups(&array, &[true, true]).len(), 1);
    }
}
