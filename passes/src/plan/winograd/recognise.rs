//! Which kernels are convolutions that Winograd's transforms serve: read off the loops and accesses alone.

use crate::plan::padding::part_inside;
use fusewright_ir::DType;
use fusewright_ir::kernel::{
    Affine, Axis, BinaryOp, BufferId, Combine, FoldKind, Index, Kernel, Literal, Program, Scalar, ScalarId,
};
use fusewright_ir::plan::access::with_scalars;
use smallvec::SmallVec;

/// A sum of products over input channels and the taps of one or two windows without dilation, with weights that belong to
/// the network.
#[derive(Clone, Debug)]
pub struct Convolution<'k> {
    /// The kernel: its stores are the epilogue.
    pub kernel: &'k Kernel,
    /// What windows slide over.
    pub image: Load<'k>,
    /// What each tap is multiplied with.
    pub weight: Load<'k>,
    /// The inner axis of the input channels, and their number.
    pub channels: (Axis, usize),
    /// The outer axis of the output channels, and their number.
    pub out: (Axis, usize),
    /// The axes that windows slide along, one or two.
    pub windows: SmallVec<[Window; 2]>,
    /// The other outer axes: the batch.
    pub batch: SmallVec<[(Axis, usize); 2]>,
}

/// A load of one operand.
#[derive(Clone, Copy, Debug)]
pub struct Load<'k> {
    /// What is read.
    pub buffer: BufferId,
    /// Where.
    pub at: &'k [Index],
    /// What it gives beyond the edges.
    pub outside: Option<Literal>,
}

/// A window along one axis of the image.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The outer axis of its places, and their number.
    pub place: (Axis, usize),
    /// The inner axis of its taps, and their number.
    pub tap: (Axis, usize),
    /// By how many elements it moves from place to place.
    pub step: usize,
    /// The part of all its taps at all its places that meet the image, and not what is beyond its edges.
    pub inside: f64,
}

impl Window {
    /// The taps that meet each phase of the image, its elements `step` apart: over all phases the window moves by 1.
    pub fn taps(&self) -> usize {
        self.tap.1.div_ceil(self.step)
    }
}

/// The kernel with windows that run along the image, where some run against it: the gradient of a convolution by its input
/// does. `None` where none does.
pub fn ascending(kernel: &Kernel) -> Option<Kernel> {
    let [fold] = kernel.folds.as_slice() else { return None };
    if kernel.stores.iter().any(|store| !store.inner.is_empty()) {
        return None;
    }
    let n_outer = kernel.outer.len();
    let ids = kernel.body.reachable([fold.value]);
    let indices = ids.iter().filter_map(|&id| match kernel.body.get(id) {
        Scalar::Load { at, .. } => Some(at.iter().filter_map(Index::as_affine)),
        _ => None,
    });
    let forms: Vec<&Affine> = indices.flatten().collect();
    let runs_back = |axis: Axis| {
        let along_a_place = |form: &&Affine| {
            form.coefficient(axis) == -1 && form.terms.iter().any(|&(other, k)| (other.0 as usize) < n_outer && k >= 1)
        };
        forms.iter().any(along_a_place)
    };
    let reversed: Vec<Axis> =
        (0..fold.inner.len()).map(|i| Axis((n_outer + i) as u32)).filter(|&axis| runs_back(axis)).collect();
    let form = |axis: Axis| match reversed.contains(&axis) {
        true => Affine::constant(fold.inner[axis.0 as usize - n_outer] as i64 - 1) + Affine::from(axis) * -1,
        false => axis.into(),
    };
    let changed = || with_scalars(kernel, |_, scalar| scalar.map(|id| id, |affine| affine.substitute(form)));
    (!reversed.is_empty()).then(changed)
}

impl<'k> Convolution<'k> {
    /// The convolution that a kernel of a program is; `weights` says which buffers belong to the network.
    pub fn of(program: &Program, kernel: &'k Kernel, weights: &[bool]) -> Option<Convolution<'k>> {
        let [fold] = kernel.folds.as_slice() else { return None };
        let &Scalar::Binary(BinaryOp::Mul, a, b) = kernel.body.get(fold.value) else { return None };
        let pointwise = kernel.stores.iter().all(|store| {
            store.inner.is_empty()
                && store.combine == Combine::Set
                && !store.at.iter().any(|index| matches!(index, Index::Computed(_)))
        });
        let epilogue = kernel.body.reachable(kernel.stores.iter().map(|store| store.value));
        let folded = epilogue.iter().any(|&id| matches!(kernel.body.get(id), Scalar::Folded { .. }));
        if fold.kind != FoldKind::Sum || kernel.body.dtype(fold.value) != DType::F32 || !pointwise || !folded {
            return None;
        }
        let (a, b) = (load(kernel, a)?, load(kernel, b)?);
        let (image, weight) = match (weights[a.buffer.0 as usize], weights[b.buffer.0 as usize]) {
            (false, true) => (a, b),
            (true, false) => (b, a),
            _ => return None,
        };
        let mut found = Convolution {
            kernel,
            image,
            weight,
            channels: (Axis(0), 0),
            out: (Axis(0), 0),
            windows: SmallVec::new(),
            batch: SmallVec::new(),
        };
        found.inner_axes(&program.buffer(image.buffer).dims)?;
        found.outer_axes()?;
        let dims = &program.buffer(weight.buffer).dims;
        let told = |window: &Window| window.step == 1 || found.tells_taps(window, dims);
        found.windows.iter().all(told).then_some(found)
    }

    /// Input channels of all phases of the image.
    pub fn depth(&self) -> usize {
        self.channels.1 * self.windows.iter().map(|window| window.step).product::<usize>()
    }

    /// Whether the window is a dimension of the weights from end to end: taps beyond the last are outside.
    fn tells_taps(&self, window: &Window, dims: &[usize]) -> bool {
        let (tap, n) = window.tap;
        let mut moving = self.weight.at.iter().zip(dims).filter_map(|(index, &length)| {
            index.as_affine().filter(|form| form.coefficient(tap) != 0).map(|form| (form, length))
        });
        let (Some((form, length)), None) = (moving.next(), moving.next()) else { return false };
        let alone = form.terms.iter().all(|&(axis, k)| if axis == tap { k.abs() == 1 } else { self.extent(axis) == 1 });
        let first = if form.coefficient(tap) == 1 { 0 } else { n as i64 - 1 };
        alone && length == n && form.offset == first
    }

    /// Finds windows and channels among the axes of the fold; `dims` are those of the image.
    fn inner_axes(&mut self, dims: &[usize]) -> Option<()> {
        let n_outer = self.kernel.outer.len();
        let extents = self.kernel.space(&self.kernel.folds[0].inner);
        let mut channels = None;
        for (i, &extent) in self.kernel.folds[0].inner.iter().enumerate().filter(|(_, extent)| **extent != 1) {
            let axis = Axis((n_outer + i) as u32);
            let forms =
                self.image.at.iter().zip(dims).filter_map(|(index, &length)| Some((index.as_affine()?, length)));
            let mut forms = forms.filter(|(form, _)| form.coefficient(axis) != 0);
            let (Some((form, length)), None) = (forms.next(), forms.next()) else { return None };
            let others: SmallVec<[(Axis, i64); 2]> =
                form.terms.iter().copied().filter(|&(other, _)| other != axis && self.extent(other) != 1).collect();
            let place = form.terms.iter().find(|(other, _)| (other.0 as usize) < n_outer).map(|(other, _)| *other);
            match place {
                // Where the image has one place for the window, its axis has no step; it is a window all the same.
                Some(place)
                    if form.coefficient(axis) == 1
                        && form.coefficient(place) >= 1
                        && others.iter().all(|(other, _)| *other == place) =>
                {
                    let place = (place, self.kernel.outer[place.0 as usize]);
                    let step = form.coefficient(place.0) as usize;
                    let inside = part_inside(form, &extents, length);
                    self.windows.push(Window { place, tap: (axis, extent), step, inside });
                }
                None if others.is_empty() && channels.is_none() => channels = Some((axis, extent)),
                _ => return None,
            }
        }
        self.channels = channels?;
        matches!(self.windows.len(), 1 | 2).then_some(())
    }

    /// Finds the output channels, and that nothing else moves with the windows.
    fn outer_axes(&mut self) -> Option<()> {
        let moves = |load: &Load, axis: Axis| {
            load.at.iter().filter_map(Index::as_affine).filter(|form| form.coefficient(axis) != 0).count()
        };
        let mut out = None;
        for (i, &extent) in self.kernel.outer.iter().enumerate() {
            let axis = Axis(i as u32);
            let is_place = self.windows.iter().any(|window| window.place.0 == axis);
            match (moves(&self.image, axis), moves(&self.weight, axis)) {
                (1, 0) if is_place => {}
                (0, 1..) if out.is_none() => out = Some((axis, extent)),
                (1.., 0) if !is_place => self.batch.push((axis, extent)),
                _ if extent == 1 && !is_place => self.batch.push((axis, extent)),
                _ => return None,
            }
        }
        self.out = out?;
        let distinct = self.windows.iter().enumerate().all(|(i, window)| {
            self.windows[..i].iter().all(|other| other.place.0 != window.place.0 && other.tap.0 != window.tap.0)
        });
        distinct.then_some(())
    }

    fn extent(&self, axis: Axis) -> usize {
        let n_outer = self.kernel.outer.len();
        let space = &self.kernel.outer;
        space.get(axis.0 as usize).copied().unwrap_or_else(|| self.kernel.folds[0].inner[axis.0 as usize - n_outer])
    }
}

/// A load of f32 by plain affine forms.
fn load(kernel: &Kernel, id: ScalarId) -> Option<Load<'_>> {
    let Scalar::Load { buffer, at, outside } = kernel.body.get(id) else { return None };
    let plain = at.iter().all(|index| index.as_affine().is_some_and(|form: &Affine| form.divisor == 1));
    plain.then_some(Load { buffer: *buffer, at, outside: *outside })
}
