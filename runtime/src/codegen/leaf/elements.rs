//! The order in which sums of products are added to, where the factors are elements of windows that overlap.

use super::{Access, Address, Inst, Vector};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Sums over windows whose weights are to stay in registers.
#[derive(Clone, Debug)]
pub struct Windows {
    /// By parameter, whether elements of windows lie there.
    pub is_element: Vec<bool>,
    /// For every sum, in the order in which they are first added to: how far its elements are from those of the first lanes, in
    /// bytes.
    pub lanes: Vec<i64>,
    /// How far they are from those of other points that share no element with them. These take turns: a sum is not added to again
    /// before its last addition is done.
    pub points: Vec<i64>,
    /// Whether lanes have weights of their own. Then the sums of one vector are neighbours; else all that take a weight are.
    pub are_apart: bool,
}

impl Windows {
    /// What an addition is sorted by: the greater order, and that within.
    fn place(&self, element: i64, sum: usize) -> (i64, i64) {
        let of = |all: &[i64]| all.get(sum).copied().unwrap_or(0);
        let (lane, point) = (of(&self.lanes), of(&self.points));
        if self.are_apart { (lane, element - point) } else { (element - lane, lane) }
    }
}

/// What is known of a vector of a run.
#[derive(Clone, Copy)]
enum Known {
    /// A weight.
    Weight,
    /// An element, by place in memory.
    Element(i64),
    /// A sum, by number, and where its last addition is put.
    Sum(usize, (i64, i64)),
}

/// These instructions by element, where that can be and is worth it. `n_vectors` are named so far.
pub fn by_element(run: &[Inst], registers: usize, windows: Option<&Windows>, n_vectors: &mut u32) -> Option<Vec<Inst>> {
    let mut known: FxHashMap<Vector, (usize, Known)> = FxHashMap::default();
    let mut rows: Option<&Address> = None;
    let (mut additions, mut n_sums, mut n_elements) = (Vec::new(), 0, 0);
    for (i, inst) in run.iter().enumerate() {
        let of = |vector: Vector| known.get(&vector).map(|&(_, known)| known);
        let element = |vector: Vector| match of(vector) {
            Some(Known::Element(place)) => Some(place),
            _ => None,
        };
        let is_sum = |vector: Vector| matches!(of(vector), Some(Known::Sum(..)));
        let (to, what) = match inst {
            Inst::Load { to, access: Access::Broadcast, .. } => (to, Known::Weight),
            Inst::Load { to, from, .. } if windows.is_some_and(|windows| !windows.is_element[from.base]) => {
                (to, Known::Weight)
            }
            Inst::Load { to, from, .. } => {
                let first = *rows.get_or_insert(from);
                if (first.base, &first.terms) != (from.base, &from.terms) {
                    return None;
                }
                (to, Known::Element(from.offset))
            }
            Inst::Evens { to, a, b, .. } | Inst::Blend { to, a, b, .. } => {
                let first = element(*a).into_iter().chain(element(*b)).min();
                (to, first.map_or(Known::Weight, Known::Element))
            }
            Inst::Fma { a, b, .. } if is_sum(*a) || is_sum(*b) => return None,
            Inst::Fma { to, a, b, c } => {
                let before = match of(*c) {
                    Some(Known::Sum(sum, place)) => Some((sum, place)),
                    _ => None,
                };
                let sum = before.map_or(n_sums, |(sum, _)| sum);
                n_sums += usize::from(before.is_none());
                let place = match (element(*a), element(*b)) {
                    (Some(_), Some(_)) => return None,
                    (Some(element), None) | (None, Some(element)) => {
                        windows.map_or((element, 0), |windows| windows.place(element, sum))
                    }
                    // A number in the place of an element outside.
                    (None, None) => before.map_or((i64::MIN, 0), |(_, place)| place),
                };
                additions.push((place, i));
                (to, Known::Sum(sum, place))
            }
            _ => return None,
        };
        n_elements += usize::from(matches!(what, Known::Element(_)));
        known.insert(*to, (i, what));
    }
    if n_elements + n_sums < registers {
        return None;
    }
    additions.sort_by_key(|&(place, _)| place);
    let mut order = Order {
        run,
        given: known.into_iter().map(|(vector, (i, _))| (vector, i)).collect(),
        is_placed: vec![false; run.len()],
        placed: Vec::with_capacity(run.len()),
        weights: windows.filter(|windows| !windows.are_apart).map(|_| FxHashMap::default()),
        n_vectors,
    };
    let mut group = None;
    for (place, addition) in additions {
        if group != Some(place.0) {
            group = Some(place.0);
            order.weights.iter_mut().for_each(FxHashMap::clear);
        }
        if !order.place(addition) {
            return None;
        }
    }
    Some(order.placed)
}

/// Instructions of a run, one after the other.
struct Order<'a> {
    run: &'a [Inst],
    given: FxHashMap<Vector, usize>,
    is_placed: Vec<bool>,
    placed: Vec<Inst>,
    /// The weights that neighbouring additions have read for all lanes, where others read them anew.
    weights: Option<FxHashMap<&'a Address, Vector>>,
    n_vectors: &'a mut u32,
}

impl<'a> Order<'a> {
    /// Places an instruction behind those that it needs. Whether it may be: sums that it adds to have their place, as another
    /// order within a sum would be another result.
    fn place(&mut self, i: usize) -> bool {
        let mut needed: SmallVec<[usize; 3]> = SmallVec::new();
        self.run[i]
            .vectors(&mut |vector| needed.extend(self.given.get(&vector).copied().filter(|&i| !self.is_placed[i])));
        for needed in needed {
            if matches!(self.run[needed], Inst::Fma { .. }) || !self.place(needed) {
                return false;
            }
        }
        if !self.is_placed[i] {
            self.is_placed[i] = true;
            let inst = match &self.run[i] {
                Inst::Load { access: Access::Broadcast, .. } if self.weights.is_some() => return true,
                Inst::Fma { to, a, b, c } => Inst::Fma { to: *to, a: self.own(*a), b: self.own(*b), c: *c },
                other => other.clone(),
            };
            self.placed.push(inst);
        }
        true
    }

    /// A factor, or what is read in its place.
    fn own(&mut self, vector: Vector) -> Vector {
        let Some(&i) = self.given.get(&vector) else { return vector };
        let Inst::Load { from, access: Access::Broadcast, .. } = &self.run[i] else { return vector };
        let Some(weights) = &mut self.weights else { return vector };
        *weights.entry(from).or_insert_with(|| {
            let to = Vector(*self.n_vectors);
            *self.n_vectors += 1;
            self.placed.push(Inst::Load { to, from: from.clone(), access: Access::Broadcast });
            to
        })
    }
}
