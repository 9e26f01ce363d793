//! Which kernels can run on vectors: every scalar has a vector form, and every access is linear.

use crate::codegen::Recipe;
use fusewright_ir::kernel::{
    Affine, Axis, BinaryOp, BufferId, Combine, CompareOp, FoldKind, Index, Literal, Scalar, Space, UnaryOp,
};
use fusewright_ir::plan;
use fusewright_ir::plan::access::gathered;
use fusewright_ir::plan::edges::Edges;
use fusewright_ir::tensor::DType;

/// How elements of a slot are addressed by the axes.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// Elements a step of each axis.
    pub terms: Vec<(Axis, i64)>,
    pub offset: i64,
    /// Elements from lane to lane.
    pub lane_step: i64,
    /// Whether lanes beyond the tile may be read: the slot is padded to whole blocks.
    pub padded: bool,
}

/// The axis whose neighbours share a vector, and the edges that loads cross then; none where the schedule or the kernel's
/// forms rule vectors out.
pub fn lane_axis(recipe: &Recipe) -> Option<(Axis, Edges)> {
    let kernel = &recipe.kernel;
    let axis = match recipe.schedule.vector? {
        plan::Vector::Outer { axis, .. } => axis,
        plan::Vector::Inner => {
            let inner = kernel.folds.iter().map(|fold| &fold.inner);
            let inner: Vec<&Space> = inner.chain(kernel.stores.iter().map(|store| &store.inner)).collect();
            let longest = inner.iter().map(|space| space.len()).max().filter(|&n| n > 0)?;
            if kernel.folds.iter().any(|fold| fold.inner.len() != longest)
                || kernel.stores.iter().any(|store| !store.inner.is_empty() && store.inner.len() != longest)
            {
                return None;
            }
            Axis((kernel.outer.len() + longest - 1) as u32)
        }
    };
    if !supported(recipe, axis) {
        return None;
    }
    let edges = recipe.edges().filter(|edges| edges.fit(kernel, &recipe.schedule))?;
    Some((axis, edges))
}

/// The loop whose first tile gathers, where the schedule says so and vectors are read one element behind the other.
pub fn may_gather(recipe: &Recipe, lane: Axis, edges: &Edges) -> Option<Axis> {
    if !recipe.schedule.gather || !edges.is_empty() {
        return None;
    }
    let gathered = gathered(&recipe.kernel, &recipe.schedule)?;
    let form = linear(recipe, lane, gathered.read.buffer, gathered.read.at)?;
    (form.lane_step == 1 && !form.padded).then_some(gathered.again)
}

/// Whether every scalar and access of the kernel has a vector form, edges apart.
fn supported(recipe: &Recipe, lane: Axis) -> bool {
    let (kernel, body) = (&recipe.kernel, &recipe.kernel.body);
    let narrow = |affine: &Affine| {
        let spaces = kernel.folds.iter().map(|fold| kernel.space(&fold.inner));
        let mut spaces = spaces.chain(kernel.stores.iter().map(|store| kernel.space(&store.inner)));
        spaces.all(|extents| {
            let known = affine.terms.iter().all(|(axis, _)| (axis.0 as usize) < extents.len());
            let (low, high) = if known { affine.dividend_range(&extents) } else { (0, 0) };
            low > i64::from(i32::MIN) && high < i64::from(i32::MAX)
        })
    };
    let scalars = kernel.live().into_iter().all(|id| match body.get(id) {
        Scalar::Const(Literal::I64(n)) => i32::try_from(*n).is_ok(),
        Scalar::Const(literal) => literal.dtype() != DType::U8,
        Scalar::Folded { fold, .. } => {
            !matches!(kernel.folds[*fold as usize].kind, FoldKind::ArgMax | FoldKind::ArgMin)
        }
        Scalar::Position(affine) => narrow(affine),
        Scalar::Load { buffer, at, .. } => {
            recipe.slots[buffer.0 as usize].dtype.is_lane() && linear(recipe, lane, *buffer, at).is_some()
        }
        Scalar::Unary(op, a) => match body.dtype(*a) {
            DType::F32 => true,
            DType::Bool => *op == UnaryOp::Not,
            _ => false,
        },
        Scalar::Binary(op, a, _) => match body.dtype(*a) {
            DType::F32 => true,
            DType::Bool => matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor),
            DType::I32 | DType::U32 => matches!(
                op,
                BinaryOp::Add
                    | BinaryOp::Sub
                    | BinaryOp::Mul
                    | BinaryOp::Xor
                    | BinaryOp::And
                    | BinaryOp::Or
                    | BinaryOp::MulHigh
            ),
            _ => false,
        },
        Scalar::Compare(op, a, _) => match body.dtype(*a) {
            DType::F32 | DType::I32 | DType::I64 => true,
            DType::U32 => matches!(op, CompareOp::Eq | CompareOp::Ne | CompareOp::Lt | CompareOp::Gt),
            _ => false,
        },
        Scalar::Select(_, a, _) => body.dtype(*a).is_lane() || body.dtype(*a) == DType::Bool,
        Scalar::Fma(..) => true,
        Scalar::Cast(to, a) => match (body.dtype(*a), to) {
            (DType::Bool, to) => to.is_lane(),
            (DType::I32 | DType::U32 | DType::I64, DType::I32 | DType::U32 | DType::F32) => true,
            (from, to) => from == *to,
        },
    });
    let folds = kernel.folds.iter().all(|fold| body.dtype(fold.value) == DType::F32);
    let stores = kernel.stores.iter().all(|store| {
        store.combine == Combine::Set
            && recipe.slots[store.buffer.0 as usize].dtype.is_lane()
            && linear(recipe, lane, store.buffer, &store.at).is_some()
    });
    scalars && folds && stores
}

/// The linear form of an access, where it has one.
pub(super) fn linear(recipe: &Recipe, lane: Axis, buffer: BufferId, at: &[Index]) -> Option<Linear> {
    let slot = &recipe.slots[buffer.0 as usize];
    let strides = slot.layout.strides(&slot.dims);
    let mut form =
        Linear { terms: Vec::new(), offset: slot.layout.origin(&slot.dims) as i64, lane_step: 0, padded: false };
    let mut add = |axis: Axis, elements: i64| match form.terms.iter_mut().find(|(other, _)| *other == axis) {
        Some(term) => term.1 += elements,
        None => form.terms.push((axis, elements)),
    };
    for (dim, index) in at.iter().enumerate() {
        let affine = index.as_affine().filter(|affine| affine.divisor == 1)?;
        let stride = strides[dim] as i64;
        match slot.layout.block.filter(|block| block.axis as usize == dim) {
            None => {
                for &(axis, k) in &affine.terms {
                    add(axis, k * stride);
                }
                form.offset += affine.offset * stride;
            }
            // A blocked axis is walked in whole blocks: its lanes are the lanes of the tile.
            Some(block) => match (recipe.schedule.vector, affine.as_axis()) {
                (Some(plan::Vector::Outer { axis, lanes }), Some(own)) if own == axis && lanes == block.lanes => {
                    add(axis, stride / i64::from(lanes));
                    form.padded = true;
                }
                _ => return None,
            },
        }
    }
    form.lane_step = match form.padded {
        true => 1,
        false => form.terms.iter().find(|(axis, _)| *axis == lane).map_or(0, |(_, elements)| *elements),
    };
    Some(form)
}
