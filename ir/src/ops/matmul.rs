//! The product of matrices, as `torch.matmul` defines it.

use super::common::{agreed, expect_float, indices};
use super::map::{broadcast, broadcast_at};
use super::*;
use crate::Dim;
use crate::kernel::{Axis, FoldKind, Index, KernelBuilder};

/// `[batch..., m, k]` times `[batch..., k, n]` gives `[batch..., m, n]`; batch axes broadcast. A vector `[k]` on the left
/// stands for a row, on the right for a column, and its axis of length 1 is not in the output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMul {}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "MatMul",
    about: "the product of two matrices, or of two stacks of them",
    read: |fields| crate::text::read(fields).map(Op::MatMul),
}];

/// The number of axes before the matrix or vector.
fn batch_rank(rank: usize) -> usize {
    rank.saturating_sub(2)
}

/// The places of the left operand's folded axis and of the right's.
fn folded_axes(a_rank: usize, b_rank: usize) -> (usize, usize) {
    (a_rank - 1, b_rank.max(2) - 2)
}

impl OpSpec for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let (a, b) = (inputs[0], inputs[1]);
        expect_float(a)?;
        expect_float(b)?;
        if a.rank() == 0 || b.rank() == 0 {
            let help = "use Mul to scale by a number";
            return Err(Mismatch::new("matrices or vectors", format!("{a} and {b}"), help));
        }
        let (a_axis, b_axis) = folded_axes(a.rank(), b.rank());
        let (a_length, b_length) = (&a.shape[a_axis], &b.shape[b_axis]);
        if agreed(a_length, b_length).is_none() {
            return Err(Mismatch::new(
                format!("a right operand with {a_length} rows (the columns of {a})"),
                format!("{b_length} rows ({b})"),
                "transpose one of them, or change the layer before",
            ));
        }
        let batch_of = |ty: &TensorType| TensorType::f32(ty.shape[..batch_rank(ty.rank())].iter().cloned());
        let mut shape: Vec<Dim> = broadcast(&[&batch_of(a), &batch_of(b)])?;
        if a.rank() > 1 {
            shape.push(a.shape[a.rank() - 2].clone());
        }
        if b.rank() > 1 {
            shape.push(b.shape[b.rank() - 1].clone());
        }
        Ok([TensorType::f32(shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (a, b, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let n_batch = out.dims.len() - usize::from(a.dims.len() > 1) - usize::from(b.dims.len() > 1);
        let (batch, matrix) = axes.split_at(n_batch);
        let batch_at = |operand: &Operand| {
            let dims = operand.dims[..batch_rank(operand.dims.len())].to_vec();
            broadcast_at(&Operand { dims, ..operand.clone() }, batch)
        };
        let folded: Index = k.inner(0).into();
        let mut a_at = batch_at(a);
        let mut b_at = batch_at(b);
        let row: &[Axis] = if a.dims.len() > 1 { &matrix[..1] } else { &[] };
        let column: &[Axis] = if b.dims.len() > 1 { &matrix[row.len()..] } else { &[] };
        a_at.extend(indices(row));
        a_at.push(folded.clone());
        b_at.push(folded);
        b_at.extend(indices(column));
        let x = k.load(a, a_at);
        let y = k.load(b, b_at);
        let product = k.mul(x, y);
        let sum = k.fold(FoldKind::Sum, &[a.dims[a.dims.len() - 1]], product);
        k.store(out, axes, sum);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (a, b, upstream) = (back.input(0), back.input(1), back.upstream());
        let (a_dims, b_dims) = (back.dims(a), back.dims(b));
        // Vectors stand for matrices of one row or one column.
        let a_matrix = if a_dims.len() == 1 { vec![1, a_dims[0]] } else { a_dims.clone() };
        let b_matrix = if b_dims.len() == 1 { vec![b_dims[0], 1] } else { b_dims.clone() };
        let (rows, columns) = (a_matrix[a_matrix.len() - 2], b_matrix[b_matrix.len() - 1]);
        let out = back.dims(upstream);
        let n_batch = out.len() - usize::from(a_dims.len() > 1) - usize::from(b_dims.len() > 1);
        let whole: Vec<usize> = out[..n_batch].iter().copied().chain([rows, columns]).collect();
        let (left, right) = (back.reshaped(a, &a_matrix), back.reshaped(b, &b_matrix));
        let upstream = back.reshaped(upstream, &whole);
        let mut gradients = back.nothing();
        if back.wants(0) {
            let right = back.transposed(right);
            let product = back.node(MatMul {}, &[upstream, right]);
            let sum = back.sum_to(product, &a_matrix);
            gradients[0] = Some(back.reshaped(sum, &a_dims));
        }
        if back.wants(1) {
            let product = if b_matrix.len() == 2 && a_matrix.len() == whole.len() {
                // One product instead of one a batch, all summed.
                let n: usize = whole[..whole.len() - 1].iter().product();
                let flat = back.reshaped(left, &[n, a_matrix[a_matrix.len() - 1]]);
                let (flat, upstream) = (back.transposed(flat), back.reshaped(upstream, &[n, columns]));
                back.node(MatMul {}, &[flat, upstream])
            } else {
                let left = back.transposed(left);
                back.node(MatMul {}, &[left, upstream])
            };
            let sum = back.sum_to(product, &b_matrix);
            gradients[1] = Some(back.reshaped(sum, &b_dims));
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (a, b) = (inputs[0], inputs[1]);
        let dims = outputs[0].dims().expect("verified: bound");
        let (a_axis, b_axis) = folded_axes(a.dims.len(), b.dims.len());
        let n_batch = dims.len() - usize::from(a.dims.len() > 1) - usize::from(b.dims.len() > 1);
        let own_batch = |array: &Array, at: &[usize]| -> Vec<usize> {
            let own = batch_rank(array.dims.len());
            let place = &at[n_batch - own..n_batch];
            place.iter().zip(&array.dims).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect()
        };
        let output = Array::from_fn(&dims, |at| {
            let (mut left, mut right) = (own_batch(a, at), own_batch(b, at));
            if a.dims.len() > 1 {
                left.push(at[n_batch]);
            }
            left.push(0);
            right.push(0);
            if b.dims.len() > 1 {
                right.push(at[at.len() - 1]);
            }
            let terms = (0..a.dims[a_axis]).map(|i| {
                (left[a_axis], right[b_axis]) = (i, i);
                a.at(&left) * b.at(&right)
            });
            terms.sum()
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(a: &[usize], b: &[usize]) -> Result<String, Mismatch> {
        let (a, b) = (TensorType::f32(a.iter().copied()), TensorType::f32(b.iter().copied()));
        MatMul {}.infer(&[&a, &b]).map(|types| types[0].to_string())
    }

    #[test]
    fn shapes_are_those_of_pytorch() {
        for (a, b, out) in [
            (&[2, 3][..], &[3, 4][..], "f32[2, 4]"),
            (&[3], &[3], "f32[]"),
            (&[3], &[5, 3, 4], "f32[5, 4]"),
            (&[5, 2, 3], &[3], "f32[5, 2]"),
            (&[7, 1, 2, 3], &[5, 3, 4], "f32[7, 5, 2, 4]"),
        ] {
            assert_eq!(infer(a, b).as_deref(), Ok(out), "{a:?} x {b:?}");
        }
    }

    #[test]
    fn lengths_must_agree() {
        let mismatch = infer(&[2, 3], &[4, 3]).unwrap_err();
        assert_eq!(mismatch.expected, "a right operand with 3 rows (the columns of f32[2, 3])");
        assert_eq!(mismatch.found, "4 rows (f32[4, 3])");
        assert!(infer(&[2, 2, 3], &[3, 3, 4]).is_err(), "batch axes broadcast or agree");
        assert!(infer(&[], &[3]).is_err());
    }
}
