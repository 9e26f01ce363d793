//! What kernels read and write, index by index: the facts that layouts, halos and schedules are chosen by.

use fusewright_ir::kernel::{Affine, Axis, BufferId, Index, Kernel, Literal, Scalar, ScalarDag, ScalarId, Space};
use fusewright_ir::plan::Layout;

/// A part of a kernel with a space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `kernel.folds[i]`.
    Fold(usize),
    /// `kernel.stores[i]`.
    Store(usize),
}

/// A load, as one part of a kernel does it.
#[derive(Clone, Debug)]
pub struct Read<'k> {
    /// The scalar.
    pub id: ScalarId,
    /// What is read.
    pub buffer: BufferId,
    /// Where.
    pub at: &'k [Index],
    /// What it gives beyond the edges.
    pub outside: Option<Literal>,
    /// The part that needs it.
    pub part: Part,
    /// The extents of all axes of that part.
    pub extents: Space,
}

impl Read<'_> {
    /// The number of points at which the element is read.
    pub fn points(&self) -> u64 {
        self.extents.iter().map(|&n| n as u64).product()
    }
}

/// The parts of a kernel: which, its inner space, and the scalars it needs.
pub fn parts(kernel: &Kernel) -> impl Iterator<Item = (Part, &Space, Vec<ScalarId>)> {
    let folds = kernel.folds.iter().enumerate().map(|(i, fold)| (Part::Fold(i), &fold.inner, vec![fold.value]));
    let stores = kernel.stores.iter().enumerate().map(|(i, store)| {
        let computed = store.at.iter().filter_map(|index| match index {
            Index::Computed(value) => Some(*value),
            _ => None,
        });
        (Part::Store(i), &store.inner, computed.chain([store.value]).collect())
    });
    folds.chain(stores)
}

/// All loads, each once for every part that needs it.
pub fn reads(kernel: &Kernel) -> Vec<Read<'_>> {
    let mut reads = Vec::new();
    for (part, inner, roots) in parts(kernel) {
        for id in kernel.body.reachable(roots) {
            if let Scalar::Load { buffer, at, outside } = kernel.body.get(id) {
                let extents = kernel.space(inner);
                reads.push(Read { id, buffer: *buffer, at, outside: *outside, part, extents });
            }
        }
    }
    reads
}

/// Whether the index moves with `axis`. A computed index may move with any.
pub fn depends(index: &Index, axis: Axis) -> bool {
    match index {
        Index::Affine(at) | Index::Table { at, .. } => at.coefficient(axis) != 0,
        Index::Computed(_) => true,
    }
}

/// Whether any index moves with `axis`.
pub fn any_depends(at: &[Index], axis: Axis) -> bool {
    at.iter().any(|index| depends(index, axis))
}

/// By how many elements a step along `axis` moves; `None` where steps differ. Along the blocked axis of a layout it is
/// the step within a block.
pub fn stride(at: &[Index], axis: Axis, layout: &Layout, dims: &[usize]) -> Option<i64> {
    let strides = layout.strides(dims);
    let mut sum = 0;
    for (dim, index) in at.iter().enumerate().filter(|(_, index)| depends(index, axis)) {
        let affine = plain(index)?;
        let step = match layout.block {
            Some(block) if block.axis as usize == dim => affine.as_axis().map(|_| 1)?,
            _ => strides[dim] as i64,
        };
        sum += affine.coefficient(axis) * step;
    }
    Some(sum)
}

/// The affine form of an index without a divisor.
pub fn plain(index: &Index) -> Option<&Affine> {
    index.as_affine().filter(|affine| affine.divisor == 1)
}

/// Whether every index is affine and needs no check: within the buffer, or within the halo where that holds the value
/// that the load has beyond the edges (stores may always go there).
pub fn is_proven(at: &[Index], extents: &[usize], layout: &Layout, dims: &[usize], halo: bool) -> bool {
    at.iter().enumerate().all(|(dim, index)| match plain(index) {
        Some(affine) if halo => {
            let (low, high) = affine.dividend_range(extents);
            let (before, behind) = layout.halo_of(dim);
            -low <= before as i64 && high < (dims[dim] + behind) as i64
        }
        Some(affine) => affine.within(extents, dims[dim]),
        None => false,
    })
}

/// The same kernel with each scalar replaced by what `change` makes of it, its operands renamed already. Scalars that
/// nothing needs are left out.
pub fn with_scalars(kernel: &Kernel, change: impl Fn(ScalarId, Scalar) -> Scalar) -> Kernel {
    let mut result = Kernel { body: ScalarDag::default(), ..kernel.clone() };
    let mut renamed = vec![ScalarId(u32::MAX); kernel.body.len()];
    for id in kernel.live() {
        let scalar = kernel.body.get(id).map(|id| renamed[id.0 as usize], Affine::clone);
        renamed[id.0 as usize] = result.body.intern(change(id, scalar), kernel.body.dtype(id));
    }
    for fold in &mut result.folds {
        fold.value = renamed[fold.value.0 as usize];
    }
    for store in &mut result.stores {
        store.value = renamed[store.value.0 as usize];
        store.at = store.at.iter().map(|index| index.map(Affine::clone, |id| renamed[id.0 as usize])).collect();
    }
    result
}

/// The same kernel with every load of `old` from `new`.
pub fn with_reads_renamed(kernel: &Kernel, old: BufferId, new: BufferId) -> Kernel {
    with_scalars(kernel, |_, scalar| match scalar {
        Scalar::Load { buffer, at, outside } if buffer == old => Scalar::Load { buffer: new, at, outside },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusewright_ir::kernel::build::Operand;
    use fusewright_ir::kernel::{FoldKind, KernelBuilder};
    use fusewright_ir::tensor::DType;

    #[test]
    fn strides_follow_the_layout() {
        let channels_last = Layout { order: [0, 2, 3, 1].into_iter().collect(), ..Layout::row_major(4) };
        let dims = [2, 5, 7, 8];
        let at: Vec<Index> =
            vec![Axis(0).into(), Axis(1).into(), (Axis(2) * 2 + Axis(4)).into(), (Axis(3) * -1 + 7).into()];
        let steps: Vec<_> = (0..6).map(|i| stride(&at, Axis(i), &channels_last, &dims)).collect();
        assert_eq!(steps, [Some(280), Some(1), Some(80), Some(-5), Some(40), Some(0)]);
        let halves: Vec<Index> = vec![Affine::from(Axis(0)).exact_div(2).into()];
        assert_eq!(stride(&halves, Axis(0), &Layout::row_major(1), &[4]), None);
    }

    #[test]
    fn halos_prove_what_lies_beyond_the_edges() {
        let at: Vec<Index> = vec![(Axis(0) + Axis(1) + -1).into()];
        let mut layout = Layout::row_major(1);
        assert!(!is_proven(&at, &[8, 3], &layout, &[8], true));
        layout.halo = [(1, 1)].into_iter().collect();
        assert!(is_proven(&at, &[8, 3], &layout, &[8], true));
        assert!(!is_proven(&at, &[8, 3], &layout, &[8], false));
        assert!(!is_proven(&at, &[8, 4], &layout, &[8], true));
    }

    #[test]
    fn a_load_counts_once_for_each_part_that_needs_it() {
        let x = Operand { buffer: BufferId(0), dtype: DType::F32, dims: vec![3] };
        let y = Operand { buffer: BufferId(1), dtype: DType::F32, dims: vec![3] };
        let mut k = KernelBuilder::new(&[3]);
        let i = k.outer(0);
        let value = k.load(&x, [i]);
        let sum = k.fold(FoldKind::Sum, &[2], value);
        let both = k.add(sum, value);
        k.store(&y, [i], both);
        let kernel = k.finish();
        let found: Vec<_> = reads(&kernel).iter().map(|read| (read.part, read.points())).collect();
        assert_eq!(found, [(Part::Fold(0), 6), (Part::Store(0), 3)]);
    }
}
