//! Elements picked by an index that is a tensor itself. An index out of range is an error of the run, not a value.

use super::common::{expect_indices, indices};
use super::reshape::axis_of;
use super::*;
use crate::Dim;
use crate::kernel::{Index, KernelBuilder};

/// Data and index of one rank: the output has the index's shape, and at each of its points the element of the data
/// whose place along `dim` is the index there. Along other axes the index is at most as long as the data.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The axis that the index is for.
    pub dim: i32,
}

/// Data and an index `[n]`: the slices of the data along `dim` that it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexSelect {
    /// The axis that the index is for.
    pub dim: i32,
}

/// Index `[...]`, weight `[num_embeddings, embedding_dim]`: each index becomes its row. Output is
/// `[..., embedding_dim]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// The number of rows.
    pub num_embeddings: u32,
    /// The length of a row.
    pub embedding_dim: u32,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "Embedding",
        about: "a learned row for each index",
        read: |fields| crate::text::read(fields).map(Op::Embedding),
    },
    LayerKind {
        name: "Gather",
        about: "elements picked along an axis, by an index of one rank with the data",
        read: |fields| crate::text::read(fields).map(Op::Gather),
    },
    LayerKind {
        name: "IndexSelect",
        about: "slices picked along an axis",
        read: |fields| crate::text::read(fields).map(Op::IndexSelect),
    },
];

/// The index as a place in a buffer, read at `at`.
pub(super) fn picked(k: &mut KernelBuilder, index: &Operand, at: Vec<Index>) -> Index {
    let value = k.load(index, at);
    Index::Computed(k.cast(DType::I64, value))
}

/// The gradient of elements picked along `dim` by operand 1: each goes back to its place.
fn picked_gradient(back: &mut Backward, dim: usize) -> Gradients {
    let (data, index, upstream) = (back.input(0), back.input(1), back.upstream());
    let dims = back.dims(data).into_iter().collect();
    [Some(back.node(ScatterAdd { dim, dims }, &[upstream, index])), None].into_iter().collect()
}

/// The element at a place that may be out of range: NaN there, which no run that succeeds has.
pub(super) fn element(data: &Array, at: &[usize], dim: usize, place: f64) -> f64 {
    if !(0.0..data.dims[dim] as f64).contains(&place) {
        return f64::NAN;
    }
    let mut at = at.to_vec();
    at[dim] = place as usize;
    data.at(&at)
}

impl OpSpec for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let (data, index) = (inputs[0], inputs[1]);
        expect_indices(index, "an index")?;
        let dim = axis_of(self.dim, data.rank(), "dim")?;
        let longer = |axis: usize| match (&index.shape[axis], &data.shape[axis]) {
            (Dim::Known(a), Dim::Known(b)) => a > b,
            (a, b) => matches!((a, b), (Dim::Symbolic(_), Dim::Symbolic(_))) && a != b,
        };
        if index.rank() != data.rank() || (0..data.rank()).any(|axis| axis != dim && longer(axis)) {
            return Err(Mismatch::new(
                format!("an index of rank {}, at most as long as {data} along all axes but {dim}", data.rank()),
                index.to_string(),
                "reshape or expand the index, or use IndexSelect",
            ));
        }
        Ok([TensorType { dtype: data.dtype, shape: index.shape.clone() }].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (data, index, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let dim = axis_of(self.dim, data.dims.len(), "dim").expect("verified: the axis exists");
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let mut at = indices(&axes);
        at[dim] = picked(&mut k, index, indices(&axes));
        let value = k.load(data, at);
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dim = axis_of(self.dim, back.ty(back.input(0)).rank(), "dim").expect("verified: the axis exists");
        picked_gradient(back, dim)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        vec![Array::from_fn(&dims, |at| element(inputs[0], at, dim, inputs[1].at(at)))]
    }
}

impl OpSpec for IndexSelect {
    fn name(&self) -> &'static str {
        "IndexSelect"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let (data, index) = (inputs[0], inputs[1]);
        expect_indices(index, "an index")?;
        let dim = axis_of(self.dim, data.rank(), "dim")?;
        if index.rank() != 1 {
            let help = "flatten the index, or use Gather";
            return Err(Mismatch::new("an index with one axis", index.to_string(), help));
        }
        let mut ty = data.clone();
        ty.shape[dim] = index.shape[0].clone();
        Ok([ty].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (data, index, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let dim = axis_of(self.dim, data.dims.len(), "dim").expect("verified: the axis exists");
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let mut at = indices(&axes);
        at[dim] = picked(&mut k, index, vec![axes[dim].into()]);
        let value = k.load(data, at);
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dim = axis_of(self.dim, back.ty(back.input(0)).rank(), "dim").expect("verified: the axis exists");
        picked_gradient(back, dim)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        vec![Array::from_fn(&dims, |at| element(inputs[0], at, dim, inputs[1].data[at[dim]]))]
    }
}

impl OpSpec for Embedding {
    fn name(&self) -> &'static str {
        "Embedding"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn parameters(&self, _: &[&TensorType]) -> Result<Vec<ParameterSpec>, Mismatch> {
        let shape = [Dim::from(self.num_embeddings), Dim::from(self.embedding_dim)];
        let init = Initializer::Normal { mean: Real(0.0), std: Real(1.0) };
        Ok(vec![ParameterSpec::trainable("weight", shape, init)])
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_indices(inputs[0], "an index")?;
        let shape = inputs[0].shape.iter().cloned().chain([Dim::from(self.embedding_dim)]);
        Ok([TensorType::f32(shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (index, weight, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let (place, column) = axes.split_at(axes.len() - 1);
        let row = picked(&mut k, index, indices(place));
        let value = k.load(weight, [row, column[0].into()]);
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (index, weight, upstream) = (back.input(0), back.input(1), back.upstream());
        let n: usize = back.dims(index).iter().product();
        let (index, rows) = (back.reshaped(index, &[n]), back.reshaped(upstream, &[n, self.embedding_dim as usize]));
        let dims = back.dims(weight).into_iter().collect();
        [None, Some(back.node(ScatterAdd { dim: 0, dims }, &[rows, index]))].into_iter().collect()
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let (index, weight) = (inputs[0], inputs[1]);
        let output = Array::from_fn(&dims, |at| {
            let (place, column) = at.split_at(at.len() - 1);
            element(weight, &[0, column[0]], 0, index.at(place))
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(shape: &[usize]) -> TensorType {
        TensorType::new(DType::I64, shape.iter().copied())
    }

    #[test]
    fn gather_has_the_shape_of_the_index() {
        let data = TensorType::f32([2usize, 3]);
        let infer = |index: &TensorType| Gather { dim: 1 }.infer(&[&data, index]);
        assert_eq!(infer(&ints(&[2, 7])).unwrap()[0], TensorType::f32([2usize, 7]));
        assert!(infer(&ints(&[3, 7])).is_err(), "longer than the data along another axis");
        assert!(infer(&ints(&[2])).is_err(), "another rank");
        assert!(infer(&data).is_err(), "not integers");
    }

    #[test]
    fn rows_are_picked() {
        let n = Dim::symbol("N");
        let tokens = TensorType::new(DType::I32, [n.clone(), 16.into()]);
        let op = Op::Embedding(Embedding { num_embeddings: 100, embedding_dim: 8 });
        let weight = op.spec().parameters(&[&tokens]).unwrap().remove(0).ty;
        assert_eq!(op.check(&[&tokens, &weight]).unwrap()[0], TensorType::f32([n, 16.into(), 8.into()]));
        assert!(op.check(&[&TensorType::f32([2usize]), &weight]).is_err());
        let data = TensorType::f32([4usize, 5]);
        assert_eq!(IndexSelect { dim: 1 }.infer(&[&data, &ints(&[2])]).unwrap()[0], TensorType::f32([4usize, 2]));
        assert!(IndexSelect { dim: 1 }.infer(&[&data, &ints(&[2, 2])]).is_err());
    }
}
