//! Elements added at places that a tensor names: the gradient of every gather.

use super::common::{expect_float, expect_indices, indices};
use super::gather::picked;
use super::*;
use crate::kernel::{Index, KernelBuilder};
use crate::tensor::points;

/// Values and an index: to zeros of `dims`, each value is added at its own place but along `dim`, where its place is the
/// index. The index has the values' shape, or one axis: then it names the place of each slice along `dim`. An index out
/// of range is an error of the run. Where several values meet, they are added in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScatterAdd {
    /// The axis that the index is for.
    pub dim: usize,
    /// The lengths of the output.
    pub dims: SmallVec<[usize; 4]>,
}

impl ScatterAdd {
    /// Whether the index names slices.
    fn of_slices(values: usize, index: usize) -> bool {
        index == 1 && values > 1
    }
}

impl OpSpec for ScatterAdd {
    fn name(&self) -> &'static str {
        "ScatterAdd"
    }

    fn fields(&self) -> String {
        format!("(dim:{},dims:{:?})", self.dim, self.dims.as_slice())
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let (values, index) = (inputs[0], inputs[1]);
        expect_float(values)?;
        expect_indices(index, "an index")?;
        let fits = values.rank() == self.dims.len()
            && match ScatterAdd::of_slices(values.rank(), index.rank()) {
                true => index.shape[0] == values.shape[self.dim],
                false => index.shape == values.shape,
            };
        if !fits {
            let expected = format!("an index of the shape of {values}, or one place for each slice along {}", self.dim);
            return Err(Mismatch::new(expected, index.to_string(), "give the index of the gather"));
        }
        Ok([TensorType::f32(self.dims.iter().copied())].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (values, index, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let mut clear = KernelBuilder::new(&out.dims);
        let zero = clear.number(0.0);
        clear.store(out, clear.outer_axes(), zero);
        let mut k = KernelBuilder::new(&values.dims);
        let axes = k.outer_axes();
        let named: Vec<Index> = match ScatterAdd::of_slices(values.dims.len(), index.dims.len()) {
            true => vec![axes[self.dim].into()],
            false => indices(&axes),
        };
        let mut to = indices(&axes);
        to[self.dim] = picked(&mut k, index, named);
        let value = k.load(values, axes);
        k.store_more(out, to, value);
        vec![clear.finish(), k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (values, index, upstream) = (back.input(0), back.input(1), back.upstream());
        let dim = self.dim as i32;
        let op: Op = match ScatterAdd::of_slices(back.ty(values).rank(), back.ty(index).rank()) {
            true => IndexSelect { dim }.into(),
            false => Gather { dim }.into(),
        };
        [Some(back.node(op, &[upstream, index])), None].into_iter().collect()
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let (values, index) = (inputs[0], inputs[1]);
        let mut output = Array { dims: self.dims.to_vec(), data: vec![0.0; self.dims.iter().product()] };
        for (at, &value) in points(&values.dims).zip(&values.data) {
            let place = match ScatterAdd::of_slices(values.dims.len(), index.dims.len()) {
                true => index.data[at[self.dim]],
                false => index.at(&at),
            };
            let mut to = at.clone();
            to[self.dim] = place as usize;
            if (0.0..self.dims[self.dim] as f64).contains(&place) {
                let flat = output.flat(&to);
                output.data[flat] += value;
            }
        }
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_elements_or_slices() {
        let op = ScatterAdd { dim: 1, dims: [2, 9].into_iter().collect() };
        let values = TensorType::f32([2usize, 4]);
        let infer = |dims: &[usize]| op.infer(&[&values, &TensorType::new(DType::I64, dims.iter().copied())]);
        assert_eq!(infer(&[2, 4]).unwrap()[0], TensorType::f32([2usize, 9]));
        assert!(infer(&[4]).is_ok());
        assert!(infer(&[2]).is_err());
        assert!(op.infer(&[&values, &values]).is_err());
    }
}
