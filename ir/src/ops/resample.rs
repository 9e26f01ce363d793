//! Elements along one axis as weighted sums of elements: the gradient of resizing, of padding that repeats elements, of
//! steps, and of windows of uneven length.

use super::common::{expect_float, indices};
use super::*;
use crate::Dim;
use crate::graph::ValueId;
use crate::kernel::{FoldKind, Index, KernelBuilder, Literal};
use std::sync::Arc;

/// Input `[...]` and, where a second operand is given, weights `[length, taps]`: element `i` of the output along `axis`
/// is the sum over `taps` places j of the input's element `places[i * taps + j]`, times its weight; -1 is no element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resample {
    /// The axis.
    pub axis: usize,
    /// The elements of each sum.
    pub taps: usize,
    /// Places along the axis, `taps` for each element of the output.
    pub places: Arc<[i64]>,
}

/// The elements of a sum by their places, with their weights.
pub type Terms = Vec<(usize, f64)>;

impl Resample {
    /// The gradient of a map along `axis` from `length` elements: `rows` has the terms of each of its outputs.
    pub fn transposed(back: &mut Backward, upstream: ValueId, axis: usize, rows: &[Terms], length: usize) -> ValueId {
        let mut columns: Vec<Terms> = vec![Vec::new(); length];
        for (i, row) in rows.iter().enumerate() {
            for &(place, weight) in row.iter().filter(|(_, weight)| *weight != 0.0) {
                columns[place].push((i, weight));
            }
        }
        Resample::node(back, upstream, axis, &columns)
    }

    /// The map along `axis` that these terms describe.
    fn node(back: &mut Backward, value: ValueId, axis: usize, rows: &[Terms]) -> ValueId {
        let taps = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let padded = |row: &Terms| -> Vec<(i64, f64)> {
            let terms = row.iter().map(|&(place, weight)| (place as i64, weight));
            terms.chain(std::iter::repeat((-1, 0.0))).take(taps).collect()
        };
        let all: Vec<(i64, f64)> = rows.iter().flat_map(padded).collect();
        let places = all.iter().map(|(place, _)| *place).collect();
        let plain = rows.iter().flatten().all(|(_, weight)| *weight == 1.0);
        let mut inputs = vec![value];
        if !plain {
            let weights: Vec<f64> = all.iter().map(|(_, weight)| *weight).collect();
            inputs.push(back.numbers(&[rows.len(), taps], &weights));
        }
        back.node(Resample { axis, taps, places }, &inputs)
    }
}

impl OpSpec for Resample {
    fn name(&self) -> &'static str {
        "Resample"
    }

    fn fields(&self) -> String {
        let places: Vec<String> = self.places.iter().map(ToString::to_string).collect();
        format!("(axis:{},taps:{},places:[{}])", self.axis, self.taps, places.join(","))
    }

    fn arity(&self) -> Arity {
        Arity { min: 1, max: 2 }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        let length = self.places.len() / self.taps;
        let mut ty = inputs[0].clone();
        let beyond = |length: &Dim| self.places.iter().any(|&place| length.surely_below(place + 1));
        if self.axis >= ty.rank() || beyond(&ty.shape[self.axis]) {
            let help = "give the value that the places are of";
            return Err(Mismatch::new("an axis that has all places", inputs[0].to_string(), help));
        }
        if let Some(weights) = inputs.get(1)
            && **weights != TensorType::f32([length, self.taps])
        {
            let help = "give each place one weight";
            return Err(Mismatch::new(format!("weights f32[{length}, {}]", self.taps), weights.to_string(), help));
        }
        ty.shape[self.axis] = length.into();
        Ok([ty].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, weights, out) = (&site.inputs[0], site.inputs.get(1), &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let tap = k.inner(0);
        let single = self.taps == 1;
        let entry = if single { axes[self.axis].into() } else { axes[self.axis] * self.taps as i64 + tap };
        let mut at = indices(&axes);
        at[self.axis] = Index::Table { table: self.places.clone(), at: entry };
        let mut value = match self.places.contains(&-1) {
            true => k.load_or(input, at, Literal::f32(0.0)),
            false => k.load(input, at),
        };
        if let Some(weights) = weights {
            let weight = k.load(weights, [axes[self.axis].into(), if single { Index::from(0) } else { tap.into() }]);
            value = k.mul(value, weight);
        }
        if !single {
            value = k.fold(FoldKind::Sum, &[self.taps], value);
        }
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (input, upstream) = (back.input(0), back.upstream());
        let mut gradients = back.nothing();
        let weights = match back.inputs().get(1).copied() {
            None => None,
            Some(value) => match back.constant_of(value) {
                Some(weights) if !back.wants(1) => Some(weights),
                _ => return back.refuse("its weights are not fixed numbers"),
            },
        };
        let weight = |entry: usize| weights.as_ref().map_or(1.0, |weights| weights.data[entry]);
        let rows: Vec<Terms> = self
            .places
            .chunks(self.taps)
            .enumerate()
            .map(|(i, places)| {
                let entries = places.iter().enumerate().filter(|(_, place)| **place >= 0);
                entries.map(|(j, &place)| (place as usize, weight(i * self.taps + j))).collect()
            })
            .collect();
        let length = back.dims(input)[self.axis];
        gradients[0] = Some(Resample::transposed(back, upstream, self.axis, &rows, length));
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let output = Array::from_fn(&dims, |at| {
            let mut from = at.to_vec();
            let mut sum = 0.0;
            for j in 0..self.taps {
                let entry = at[self.axis] * self.taps + j;
                if let Ok(place) = usize::try_from(self.places[entry]) {
                    from[self.axis] = place;
                    sum += inputs[0].at(&from) * inputs.get(1).map_or(1.0, |weights| weights.data[entry]);
                }
            }
            sum
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_inside() {
        let op = Resample { axis: 1, taps: 2, places: [0, 1, 2, -1].into() };
        let infer = |length: usize| op.infer(&[&TensorType::f32([2, length])]).map(|types| types[0].to_string());
        assert_eq!(infer(3).as_deref(), Ok("f32[2, 2]"));
        assert!(infer(2).is_err(), "there is no element 2");
        let weights = TensorType::f32([2usize, 3]);
        assert!(op.infer(&[&TensorType::f32([2usize, 3]), &weights]).is_err(), "two weights a row");
    }
}
