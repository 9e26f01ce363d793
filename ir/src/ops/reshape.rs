//! Views that keep the elements in row-major order: flatten, reshape, squeeze, unsqueeze, unflatten.

use super::common::{Dims, Length};
use super::*;
use crate::Dim;
use crate::kernel::{Affine, Axis, Index, KernelBuilder};
use crate::tensor::Shape;

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

/// The same elements in row-major order under another shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// The new lengths; one of them may be -1 and takes what the others leave.
    pub shape: SmallVec<[Length; 4]>,
}

/// Drops axes of length 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Squeeze {
    /// The axes dropped if their length is 1; all where none is named.
    #[serde(default, skip_serializing_if = "super::conv::is_default")]
    pub dim: Dims,
}

/// Inserts an axis of length 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsqueeze {
    /// The place of the new axis in the output.
    pub dim: i32,
}

/// Takes an axis apart into several.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unflatten {
    /// The axis taken apart.
    pub dim: i32,
    /// The new lengths; one of them may be -1 and takes what the others leave.
    pub sizes: SmallVec<[Length; 4]>,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "Flatten",
        about: "joins axes, all but the first where nothing else is said",
        read: |fields| crate::text::read(fields).map(Op::Flatten),
    },
    LayerKind {
        name: "Reshape",
        about: "the same elements under another shape",
        read: |fields| crate::text::read(fields).map(Op::Reshape),
    },
    LayerKind {
        name: "Squeeze",
        about: "drops axes of length 1",
        read: |fields| crate::text::read(fields).map(Op::Squeeze),
    },
    LayerKind {
        name: "Unflatten",
        about: "takes an axis apart into several",
        read: |fields| crate::text::read(fields).map(Op::Unflatten),
    },
    LayerKind {
        name: "Unsqueeze",
        about: "inserts an axis of length 1",
        read: |fields| crate::text::read(fields).map(Op::Unsqueeze),
    },
];

/// The lengths that hold `elements` elements, -1 replaced by what the others leave.
///
/// # Errors
/// Where -1 stands twice, or the numbers of elements differ.
fn filled(lengths: &[Length], elements: &Dim, field: &'static str) -> Result<Shape, Mismatch> {
    let mut shape = Shape::new();
    let mut open = None;
    let mut product = Dim::Known(1);
    for (axis, length) in lengths.iter().enumerate() {
        match length.dim(field)? {
            Some(dim) => {
                product = product * dim.clone();
                shape.push(dim);
            }
            None if open.is_some() => {
                let help = "write the other lengths as numbers or symbols";
                return Err(Mismatch::new("-1 at most once", "twice", help).in_field(field));
            }
            None => {
                open = Some(axis);
                shape.push(Dim::Known(0));
            }
        }
    }
    let fits = match open {
        Some(axis) => {
            let rest = elements.floor_div(&product);
            let exact = rest.clone() * product.clone() == *elements && product != Dim::Known(0);
            shape[axis] = rest;
            exact || (matches!(elements, Dim::Symbolic(_)) != matches!(product, Dim::Symbolic(_)))
        }
        None => product.may_equal(elements) && (product == *elements || !both_symbolic(&product, elements)),
    };
    if fits {
        return Ok(shape);
    }
    let expected = match open {
        Some(_) => format!("lengths whose product divides {elements}, the number of elements"),
        None => format!("lengths whose product is {elements}, the number of elements"),
    };
    Err(Mismatch::new(expected, product.to_string(), "write -1 for one of them to take what is left").in_field(field))
}

fn both_symbolic(a: &Dim, b: &Dim) -> bool {
    matches!((a, b), (Dim::Symbolic(_), Dim::Symbolic(_)))
}

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

/// An operation that only changes the shape; `with` names the attribute whose lengths may be symbols.
macro_rules! view {
    ($name:ident $(with $lengths:ident)?, $infer:expr) => {
        impl OpSpec for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn fields(&self) -> String {
                crate::text::fields(self)
            }

            fn arity(&self) -> Arity {
                Arity::exactly(1)
            }

            $(fn bind(&self, bindings: &crate::Bindings) -> Option<Op> {
                let mut bound = self.clone();
                bound.$lengths.iter_mut().for_each(|length| *length = length.bind(bindings));
                Some(Op::$name(bound))
            })?

            fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
                let infer: fn(&$name, &TensorType) -> Result<Shape, Mismatch> = $infer;
                Ok([TensorType { dtype: inputs[0].dtype, shape: infer(self, inputs[0])? }].into_iter().collect())
            }

            fn lower(&self, site: &mut Site) -> Vec<Kernel> {
                vec![relabel(site)]
            }

            fn gradient(&self, back: &mut Backward) -> Gradients {
                let (dims, upstream) = (back.dims(back.input(0)), back.upstream());
                let gradient = back.reshaped(upstream, &dims);
                back.only(gradient)
            }

            fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
                let dims = outputs[0].dims().expect("verified: bound");
                vec![Array { dims, data: inputs[0].data.clone() }]
            }
        }
    };
}

view!(Flatten, |op, input| {
    let rank = input.rank().max(1);
    let (start, end) = (axis_of(op.start_dim, rank, "start_dim")?, axis_of(op.end_dim, rank, "end_dim")?);
    if start > end {
        let expected = "a first axis that is not behind the last";
        let help = "swap `start_dim` and `end_dim`";
        return Err(Mismatch::new(expected, format!("{start} and {end}"), help).in_field("start_dim"));
    }
    let mut shape = input.shape.clone();
    let joined = shape.drain(start..(end + 1).min(input.rank())).fold(Dim::Known(1), |product, dim| product * dim);
    shape.insert(start, joined);
    Ok(shape)
});

view!(Reshape with shape, |op, input| filled(&op.shape, &input.elements(), "shape"));

view!(Squeeze, |op, input| {
    let chosen = op.dim.chosen(input.rank(), "dim")?;
    let unknown = |axis: usize| chosen[axis] && matches!(input.shape[axis], Dim::Symbolic(_));
    if let Some(axis) = (0..input.rank()).find(|&axis| unknown(axis)) {
        let found = format!("{} at axis {axis} of {input}", input.shape[axis]);
        let help = "name the axes of length 1 in `dim`";
        return Err(Mismatch::new("axes whose length is a number", found, help).in_field("dim"));
    }
    let kept = (0..input.rank()).filter(|&axis| !(chosen[axis] && input.shape[axis] == Dim::Known(1)));
    Ok(kept.map(|axis| input.shape[axis].clone()).collect())
});

view!(Unsqueeze, |op, input| {
    let mut shape = input.shape.clone();
    shape.insert(axis_of(op.dim, input.rank() + 1, "dim")?, Dim::Known(1));
    Ok(shape)
});

view!(Unflatten with sizes, |op, input| {
    let dim = axis_of(op.dim, input.rank(), "dim")?;
    let mut shape = input.shape.clone();
    let parts = filled(&op.sizes, &shape.remove(dim), "sizes")?;
    shape.insert_many(dim, parts);
    Ok(shape)
});

/// The kernel of every view that keeps row-major order: it runs over the coarsest axes that refine both shapes, so that
/// reads and writes are affine. Where no such axes exist (`[6, 4]` to `[4, 6]`), tables say where they go.
pub fn relabel(site: &Site) -> Kernel {
    let (input, out) = (&site.inputs[0], &site.outputs[0]);
    debug_assert!(input.dtype == out.dtype, "a view keeps the type");
    let pieces = common_pieces(&input.dims, &out.dims);
    let mut k = KernelBuilder::new(&pieces);
    let axes = k.outer_axes();
    let from = regroup(&pieces, &axes, &input.dims);
    let to = regroup(&pieces, &axes, &out.dims);
    let value = k.load(input, from);
    k.store(out, to, value);
    k.finish()
}

/// Extents whose row-major order is that of both shapes: cut at every boundary that both share and, between those, at
/// the boundaries of either, where each divides the next.
fn common_pieces(a: &[usize], b: &[usize]) -> Vec<usize> {
    if a.contains(&0) || b.contains(&0) {
        return vec![0];
    }
    let (a, b) = (boundaries(a), boundaries(b));
    let (mut pieces, mut start) = (Vec::new(), 1);
    for &end in a.iter().filter(|end| b.contains(end)) {
        let mut cuts: Vec<usize> = a.iter().chain(&b).copied().filter(|&cut| start < cut && cut <= end).collect();
        cuts.sort_unstable();
        cuts.dedup();
        if !cuts.is_sorted_by(|below, above| above.is_multiple_of(*below)) {
            cuts = vec![end];
        }
        for cut in cuts {
            pieces.push(cut / start);
            start = cut;
        }
    }
    pieces.reverse();
    pieces
}

/// The number of elements within each axis, from the innermost on; axes of length 1 have no boundary of their own.
fn boundaries(dims: &[usize]) -> Vec<usize> {
    let products = dims.iter().rev().filter(|&&n| n != 1).scan(1, |product, &n| {
        *product *= n;
        Some(*product)
    });
    products.collect()
}

/// One index for each axis of `dims`, from axes of extents `pieces`, which run in the same row-major order. Each axis
/// is made up of pieces, or lies within one.
fn regroup(pieces: &[usize], axes: &[Axis], dims: &[usize]) -> Vec<Index> {
    let steps =
        |extents: &[usize]| -> Vec<usize> { (0..extents.len()).map(|i| extents[i + 1..].iter().product()).collect() };
    let piece_steps = steps(pieces);
    let index = |(&n, step): (&usize, usize)| {
        let end = n * step;
        let touched: Vec<usize> =
            (0..pieces.len()).filter(|&p| piece_steps[p] < end && piece_steps[p] * pieces[p] > step).collect();
        match touched.as_slice() {
            &[piece] if piece_steps[piece] * pieces[piece] > end || piece_steps[piece] < step => {
                let within = step / piece_steps[piece];
                let table: Vec<i64> = (0..pieces[piece]).map(|i| (i / within % n) as i64).collect();
                Index::Table { table: table.into(), at: axes[piece].into() }
            }
            _ => {
                let terms = touched.iter().map(|&p| (axes[p], (piece_steps[p] / step) as i64));
                Index::Affine(Affine::new(terms, 0))
            }
        }
    };
    if dims.contains(&0) {
        return vec![Index::from(0); dims.len()];
    }
    dims.iter().zip(steps(dims)).map(index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(op: &dyn OpSpec, input: &TensorType) -> Result<String, Mismatch> {
        op.infer(&[input]).map(|types| types[0].to_string())
    }

    fn reshape(lengths: &[i64]) -> Reshape {
        Reshape { shape: lengths.iter().map(|&n| Length::Number(n)).collect() }
    }

    #[test]
    fn the_batch_passes_through() {
        let ty = TensorType::f32([Dim::symbol("N"), 16.into(), 5.into(), 5.into()]);
        assert_eq!(shape(&reshape(&[-1, 400]), &ty).as_deref(), Ok("f32[N, 400]"));
        let named = Reshape { shape: [Length::Symbol("N".into()), Length::OPEN].into_iter().collect() };
        assert_eq!(shape(&named, &ty).as_deref(), Ok("f32[N, 400]"));
        let parts = Unflatten { dim: 1, sizes: [Length::Number(4), Length::OPEN].into_iter().collect() };
        assert_eq!(shape(&parts, &ty).as_deref(), Ok("f32[N, 4, 4, 5, 5]"));
        assert_eq!(shape(&Flatten { start_dim: 1, end_dim: -1 }, &ty).as_deref(), Ok("f32[N, 400]"));
        assert_eq!(shape(&Squeeze::default(), &ty).unwrap_err().field, Some("dim"));
    }

    #[test]
    fn elements_must_agree() {
        let ty = TensorType::f32([2usize, 6]);
        assert_eq!(shape(&reshape(&[4, -1]), &ty).as_deref(), Ok("f32[4, 3]"));
        assert_eq!(shape(&reshape(&[5, -1]), &ty).unwrap_err().found, "5");
        assert_eq!(shape(&reshape(&[-1, -1]), &ty).unwrap_err().found, "twice");
        assert_eq!(shape(&reshape(&[0, -1]), &ty).unwrap_err().found, "0");
        assert_eq!(shape(&reshape(&[13]), &ty).unwrap_err().found, "13");
        assert_eq!(shape(&reshape(&[i64::MAX, i64::MAX]), &ty).unwrap_err().field, Some("shape"));
    }

    #[test]
    fn axes_of_one_come_and_go() {
        let ty = TensorType::f32([1usize, 3, 1]);
        assert_eq!(shape(&Squeeze::default(), &ty).as_deref(), Ok("f32[3]"));
        assert_eq!(shape(&Squeeze { dim: Dims::One(-1) }, &ty).as_deref(), Ok("f32[1, 3]"));
        assert_eq!(shape(&Squeeze { dim: Dims::One(1) }, &ty).as_deref(), Ok("f32[1, 3, 1]"));
        assert_eq!(shape(&Unsqueeze { dim: -1 }, &ty).as_deref(), Ok("f32[1, 3, 1, 1]"));
        assert_eq!(shape(&Unsqueeze { dim: 4 }, &ty).unwrap_err().field, Some("dim"));
        let scalar = TensorType::f32([0usize; 0]);
        assert_eq!(shape(&Flatten { start_dim: 0, end_dim: -1 }, &scalar).as_deref(), Ok("f32[1]"));
    }

    /// The place in row-major order that indices name at a point.
    fn place(indices: &[Index], dims: &[usize], point: &[usize]) -> i64 {
        let along = |index: &Index| match index {
            Index::Affine(affine) => affine.at(point).unwrap(),
            Index::Table { table, at } => table[at.at(point).unwrap() as usize],
            Index::Computed(_) => unreachable!("views compute no indices"),
        };
        indices.iter().zip(dims).fold(0, |flat, (index, &n)| {
            assert!((0..n as i64).contains(&along(index)), "{index:?} of {n}");
            flat * n as i64 + along(index)
        })
    }

    #[test]
    fn every_element_keeps_its_place() {
        let shapes: [&[usize]; 12] = [
            &[24],
            &[2, 3, 4],
            &[4, 6],
            &[6, 4],
            &[3, 8],
            &[2, 12],
            &[12, 2],
            &[2, 1, 2, 6],
            &[1, 24, 1],
            &[3, 2, 2, 2],
            &[2, 2, 2, 3],
            &[4, 3, 2],
        ];
        for (a, b) in shapes.iter().flat_map(|a| shapes.iter().map(move |b| (*a, *b))) {
            let pieces = common_pieces(a, b);
            let axes: Vec<Axis> = (0..pieces.len() as u32).map(Axis).collect();
            let (from, to) = (regroup(&pieces, &axes, a), regroup(&pieces, &axes, b));
            for (i, point) in crate::tensor::points(&pieces).enumerate() {
                assert_eq!(place(&from, a, &point), i as i64, "{a:?} read by {pieces:?} for {b:?}");
                assert_eq!(place(&to, b, &point), i as i64, "{b:?} written by {pieces:?} from {a:?}");
            }
        }
    }

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
