//! Views that keep the elements in row-major order: flatten, reshape, squeeze, unsqueeze.

use super::*;
use crate::kernel::{Affine, Axis, Index, KernelBuilder};

/// Joins the axes `start_dim..=end_dim` into one; negative numbers count from the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {
    /// The first axis joined.
    #[serde(default = "second", skip_serializing_if = "is_second")]
    pub start_dim: i32,
    /// The last axis joined.
    #[serde(default = "last", skip_serializing_if = "is_last")]
    pub end_dim: i32,
}

fn second() -> i32 {
    1
}

fn is_second(n: &i32) -> bool {
    *n == 1
}

fn last() -> i32 {
    -1
}

fn is_last(n: &i32) -> bool {
    *n == -1
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Flatten",
    about: "joins axes, all but the first where nothing else is said",
    read: |fields| crate::text::read(fields).map(Op::Flatten),
}];

/// The axis that a possibly negative number names, among `rank`.
///
/// # Errors
/// Where there is no such axis.
pub fn axis_of(number: i32, rank: usize, field: &'static str) -> Result<usize, Mismatch> {
    let axis = if number < 0 { i64::from(number) + rank as i64 } else { i64::from(number) };
    match usize::try_from(axis) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => Err(Mismatch::new(
            format!("an axis in -{rank}..{rank} (the input has {rank})"),
            format!("{number}"),
            "count axes from 0, or from -1 backwards",
        )
        .in_field(field)),
    }
}

impl OpSpec for Flatten {
    fn name(&self) -> &'static str {
        "Flatten"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let rank = inputs[0].rank();
        if rank == 0 {
            return Ok([TensorType::new(inputs[0].dtype, [1usize])].into_iter().collect());
        }
        let (start, end) = (axis_of(self.start_dim, rank, "start_dim")?, axis_of(self.end_dim, rank, "end_dim")?);
        if start > end {
            let expected = "a first axis that is not behind the last";
            let help = "swap `start_dim` and `end_dim`";
            return Err(Mismatch::new(expected, format!("{start} and {end}"), help).in_field("start_dim"));
        }
        let mut shape = inputs[0].shape.clone();
        let joined = shape.drain(start..=end).fold(crate::Dim::Known(1), |product, dim| product * dim);
        shape.insert(start, joined);
        Ok([TensorType { dtype: inputs[0].dtype, shape }].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        vec![relabel(site)]
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        vec![Array { dims, data: inputs[0].data.clone() }]
    }
}

/// The kernel of every view that keeps row-major order: it runs over the coarsest axes that refine both shapes, so that
/// reads and writes are affine. Where no such axes exist (`[6, 4]` to `[4, 6]`), tables say where they go.
pub fn relabel(site: &Site) -> Kernel {
    let (input, out) = (&site.inputs[0], &site.outputs[0]);
    debug_assert!(input.dtype == out.dtype || input.dtype == DType::F64, "a view keeps the type");
    let pieces = common_pieces(&input.dims, &out.dims);
    let mut k = KernelBuilder::new(&pieces);
    let axes = k.outer_axes();
    let from = regroup(&pieces, &axes, &input.dims);
    let to = regroup(&pieces, &axes, &out.dims);
    let value = k.load(input, from);
    k.store(out, to, value);
    k.finish()
}

/// Extents whose row-major order is that of both shapes, cut at every boundary that both share and, between those, at
/// the boundaries of either that divide.
fn common_pieces(a: &[usize], b: &[usize]) -> Vec<usize> {
    // Walks both shapes from the innermost axis; `left` and `right` are what is yet to be cut of the current axes.
    let (mut a, mut b) = (a.iter().rev(), b.iter().rev());
    let (mut left, mut right) = (1usize, 1usize);
    let mut pieces = Vec::new();
    loop {
        if left == 1 {
            left = match a.next() {
                Some(&n) => n,
                None if right == 1 => match b.next() {
                    Some(&n) => {
                        right = n;
                        1
                    }
                    None => break,
                },
                None => 1,
            };
        }
        if right == 1 {
            right = b.next().copied().unwrap_or(1);
        }
        if left == right || (left == 0 || right == 0) {
            pieces.push(left.min(right));
            (left, right) = (1, 1);
        } else if left % right == 0 && right > 1 {
            pieces.push(right);
            (left, right) = (left / right, 1);
        } else if right % left == 0 && left > 1 {
            pieces.push(left);
            (left, right) = (1, right / left);
        } else if left > 1 && right > 1 {
            // No cut serves both: one axis takes all up to the next boundary that both share.
            let (mut x, mut y) = (left, right);
            while x != y {
                if x < y {
                    x *= a.next().copied().unwrap_or(1);
                } else {
                    y *= b.next().copied().unwrap_or(1);
                }
            }
            pieces.push(x);
            (left, right) = (1, 1);
        }
    }
    pieces.retain(|&n| n != 1);
    pieces.reverse();
    pieces
}

/// One index for each axis of `dims`, from axes of extents `pieces` that run in the same row-major order.
fn regroup(pieces: &[usize], axes: &[Axis], dims: &[usize]) -> Vec<Index> {
    let mut index = Vec::with_capacity(dims.len());
    let mut piece = 0;
    let mut dim = 0;
    while dim < dims.len() {
        if dims[dim] == 1 {
            index.push(Index::from(0));
            dim += 1;
            continue;
        }
        // Pieces that make up this axis, or axes that make up this piece.
        let mut affine = Affine::constant(0);
        let mut product = 1;
        let start = piece;
        while product < dims[dim] && piece < pieces.len() && dims[dim] % (product * pieces[piece]) == 0 {
            affine = affine * pieces[piece] as i64 + axes[piece];
            product *= pieces[piece];
            piece += 1;
        }
        if product == dims[dim] {
            index.push(affine.into());
            dim += 1;
            continue;
        }
        piece = start;
        let size = pieces.get(piece).copied().unwrap_or(0);
        let mut end = dim;
        let mut product = 1;
        while product < size {
            product *= dims[end];
            end += 1;
        }
        let mut below = size;
        for &n in &dims[dim..end.max(dim + 1)] {
            below = below.checked_div(n).unwrap_or(0);
            let table: Vec<i64> = (0..size).map(|i| (i / below.max(1) % n.max(1)) as i64).collect();
            index.push(Index::Table {
                table: table.into(),
                at: axes.get(piece).map_or(Affine::constant(0), |&axis| axis.into()),
            });
        }
        dim = end.max(dim + 1);
        piece += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_refine_both_shapes() {
        assert_eq!(common_pieces(&[2, 16, 5, 5], &[2, 400]), [2, 16, 5, 5]);
        assert_eq!(common_pieces(&[6, 4], &[4, 6]), [24]);
        assert_eq!(common_pieces(&[2, 6, 4], &[2, 4, 6]), [2, 24]);
        assert_eq!(common_pieces(&[1, 1], &[]), [0usize; 0]);
        assert_eq!(common_pieces(&[12], &[3, 4]), [3, 4]);
        assert_eq!(common_pieces(&[2, 1, 3], &[6]), [2, 3]);
    }
}
