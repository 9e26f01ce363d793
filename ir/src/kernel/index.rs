//! Where a kernel reads and writes: one [`Index`] for each axis of the buffer.

use super::scalar::ScalarId;
use smallvec::SmallVec;
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;

/// A loop of a kernel: its outer axes come first, then the inner axes of the fold or store at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Axis(pub u32);

/// `(sum of coefficient * axis + offset) / divisor`; inside the buffer only where the division is exact.
///
/// In canonical form: terms sorted by axis, no zero coefficients, a divisor of at least 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Affine {
    /// Coefficients by axis.
    pub terms: SmallVec<[(Axis, i64); 2]>,
    /// The constant term.
    pub offset: i64,
    /// 1 for a plain affine form. The gradient of a strided window divides by the stride.
    pub divisor: i64,
}

/// Where along one axis of a buffer a point reads or writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Index {
    /// An affine form of the loop axes.
    Affine(Affine),
    /// An entry of a constant table: reflection, resizing, adaptive pooling. An entry of -1 is outside.
    Table {
        /// The entries.
        table: Arc<[i64]>,
        /// Which entry; proven to be within the table, with a divisor of 1.
        at: Affine,
    },
    /// An integer that is computed as the kernel runs, checked against the buffer's extent then.
    Computed(ScalarId),
}

impl Affine {
    /// A number.
    pub fn constant(offset: i64) -> Affine {
        Affine { terms: SmallVec::new(), offset, divisor: 1 }
    }

    /// A plain affine form of unsorted terms.
    pub fn new(terms: impl IntoIterator<Item = (Axis, i64)>, offset: i64) -> Affine {
        terms.into_iter().fold(Affine::constant(offset), |sum, (axis, k)| sum + Affine::from(axis) * k)
    }

    /// The form over `divisor`; inside only where the division is exact.
    pub fn exact_div(mut self, divisor: i64) -> Affine {
        self.divisor *= divisor;
        self
    }

    /// The coefficient of `axis`.
    pub fn coefficient(&self, axis: Axis) -> i64 {
        self.terms.iter().find(|(other, _)| *other == axis).map_or(0, |(_, k)| *k)
    }

    /// The axis, where the form is one axis and nothing else.
    pub fn as_axis(&self) -> Option<Axis> {
        match (self.terms.as_slice(), self.offset, self.divisor) {
            (&[(axis, 1)], 0, 1) => Some(axis),
            _ => None,
        }
    }

    /// The value where all axes are numbers; `None` where the division is not exact.
    pub fn at(&self, point: &[usize]) -> Option<i64> {
        let terms = self.terms.iter().map(|&(axis, k)| point[axis.0 as usize] as i64 * k);
        let sum = terms.sum::<i64>() + self.offset;
        (sum % self.divisor == 0).then(|| sum / self.divisor)
    }

    /// The least and greatest value of the dividend (the form without its divisor) over a space of `extents`.
    pub fn dividend_range(&self, extents: &[usize]) -> (i64, i64) {
        self.terms.iter().fold((self.offset, self.offset), |(low, high), &(axis, k)| {
            let far = (extents[axis.0 as usize] as i64 - 1).max(0) * k;
            (low + far.min(0), high + far.max(0))
        })
    }

    /// Whether every value over `extents` is a whole number in `0..length`.
    pub fn within(&self, extents: &[usize], length: usize) -> bool {
        let (low, high) = self.dividend_range(extents);
        let exact = self.offset % self.divisor == 0 && self.terms.iter().all(|(_, k)| k % self.divisor == 0);
        exact && low >= 0 && high / self.divisor < length as i64
    }

    /// Each axis replaced by a form: `forms(axis)`; all must be plain (divisor 1).
    pub fn substitute(&self, mut forms: impl FnMut(Axis) -> Affine) -> Affine {
        let start = Affine::constant(self.offset);
        let mut sum = self.terms.iter().fold(start, |sum, &(axis, k)| sum + forms(axis) * k);
        sum.divisor = self.divisor;
        sum
    }
}

impl Index {
    /// The axis, where the index is one axis and nothing else.
    pub fn as_axis(&self) -> Option<Axis> {
        self.as_affine()?.as_axis()
    }

    /// The affine form, where it is one.
    pub fn as_affine(&self) -> Option<&Affine> {
        match self {
            Index::Affine(affine) => Some(affine),
            _ => None,
        }
    }

    /// Whether it is in range for every point of `extents`, without a check as the kernel runs.
    pub fn within(&self, extents: &[usize], length: usize) -> bool {
        match self {
            Index::Affine(affine) => affine.within(extents, length),
            Index::Table { table, at } => {
                at.within(extents, table.len()) && table.iter().all(|&i| 0 <= i && i < length as i64)
            }
            Index::Computed(_) => false,
        }
    }

    /// The affine parts rewritten by `change`, scalars renamed by `rename`.
    pub fn map(&self, change: impl Fn(&Affine) -> Affine, rename: impl Fn(ScalarId) -> ScalarId) -> Index {
        match self {
            Index::Affine(affine) => Index::Affine(change(affine)),
            Index::Table { table, at } => Index::Table { table: table.clone(), at: change(at) },
            Index::Computed(value) => Index::Computed(rename(*value)),
        }
    }
}

impl From<Axis> for Affine {
    fn from(axis: Axis) -> Affine {
        Affine { terms: [(axis, 1)].into_iter().collect(), offset: 0, divisor: 1 }
    }
}

impl From<Axis> for Index {
    fn from(axis: Axis) -> Index {
        Index::Affine(axis.into())
    }
}

impl From<Affine> for Index {
    fn from(affine: Affine) -> Index {
        Index::Affine(affine)
    }
}

impl From<i64> for Index {
    fn from(offset: i64) -> Index {
        Index::Affine(Affine::constant(offset))
    }
}

impl<T: Into<Affine>> Add<T> for Affine {
    type Output = Affine;
    fn add(mut self, other: T) -> Affine {
        let other = other.into();
        debug_assert!(self.divisor == 1 && other.divisor == 1, "only plain forms are added");
        for (axis, k) in other.terms {
            match self.terms.binary_search_by_key(&axis, |(axis, _)| *axis) {
                Ok(i) => {
                    self.terms[i].1 += k;
                    if self.terms[i].1 == 0 {
                        self.terms.remove(i);
                    }
                }
                Err(i) => self.terms.insert(i, (axis, k)),
            }
        }
        self.offset += other.offset;
        self
    }
}

impl<T: Into<Affine>> Sub<T> for Affine {
    type Output = Affine;
    fn sub(self, other: T) -> Affine {
        self + -other.into()
    }
}

impl Neg for Affine {
    type Output = Affine;
    fn neg(self) -> Affine {
        self * -1
    }
}

impl Mul<i64> for Affine {
    type Output = Affine;
    fn mul(mut self, k: i64) -> Affine {
        debug_assert_eq!(self.divisor, 1, "only plain forms are scaled");
        if k == 0 {
            return Affine::constant(0);
        }
        for term in &mut self.terms {
            term.1 *= k;
        }
        self.offset *= k;
        self
    }
}

impl Mul<i64> for Axis {
    type Output = Affine;
    fn mul(self, k: i64) -> Affine {
        Affine::from(self) * k
    }
}

impl<T: Into<Affine>> Add<T> for Axis {
    type Output = Affine;
    fn add(self, other: T) -> Affine {
        Affine::from(self) + other.into()
    }
}

impl From<i64> for Affine {
    fn from(offset: i64) -> Affine {
        Affine::constant(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::points;
    use proptest::prelude::*;

    fn affine() -> impl Strategy<Value = Affine> {
        (prop::collection::vec((0u32..3, -4i64..5), 0..5), -9i64..10)
            .prop_map(|(terms, offset)| Affine::new(terms.into_iter().map(|(axis, k)| (Axis(axis), k)), offset))
    }

    fn space() -> impl Strategy<Value = [usize; 3]> {
        [1usize..5, 1usize..5, 1usize..5]
    }

    fn is_canonical(affine: &Affine) -> bool {
        affine.terms.windows(2).all(|pair| pair[0].0 < pair[1].0) && affine.terms.iter().all(|(_, k)| *k != 0)
    }

    proptest! {
        #[test]
        fn arithmetic_is_point_by_point(a in affine(), b in affine(), k in -3i64..4, space in space()) {
            let (sum, difference, scaled) = (a.clone() + b.clone(), a.clone() - b.clone(), a.clone() * k);
            prop_assert!([&sum, &difference, &scaled].into_iter().all(is_canonical));
            for point in points(&space) {
                let (x, y) = (a.at(&point).unwrap(), b.at(&point).unwrap());
                prop_assert_eq!(sum.at(&point), Some(x + y));
                prop_assert_eq!(difference.at(&point), Some(x - y));
                prop_assert_eq!(scaled.at(&point), Some(x * k));
            }
        }

        #[test]
        fn ranges_are_tight(a in affine(), space in space(), length in 1usize..20) {
            let values: Vec<i64> = points(&space).filter_map(|point| a.at(&point)).collect();
            let range = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            prop_assert_eq!(a.dividend_range(&space), range);
            let inside = values.iter().all(|&value| 0 <= value && value < length as i64);
            prop_assert_eq!(a.within(&space, length), inside);
        }

        #[test]
        fn division_is_exact_or_outside(a in affine(), divisor in 1i64..5, space in space(), length in 1usize..20) {
            let quotient = a.clone().exact_div(divisor);
            for point in points(&space) {
                let (dividend, value) = (a.at(&point).unwrap(), quotient.at(&point));
                prop_assert_eq!(value.map(|value| value * divisor), (dividend % divisor == 0).then_some(dividend));
                let inside = value.is_some_and(|value| 0 <= value && value < length as i64);
                prop_assert!(inside || !quotient.within(&space, length), "{:?} at {:?}", quotient, point);
            }
        }

        #[test]
        fn substitution_composes(a in affine(), forms in prop::array::uniform3(affine()), space in space()) {
            let composed = a.substitute(|axis| forms[axis.0 as usize].clone());
            prop_assert!(is_canonical(&composed));
            for point in points(&space) {
                let inner: Vec<i64> = forms.iter().map(|form| form.at(&point).unwrap()).collect();
                let terms: i64 = a.terms.iter().map(|(axis, k)| inner[axis.0 as usize] * k).sum();
                prop_assert_eq!(composed.at(&point), Some(terms + a.offset));
            }
        }
    }
}
