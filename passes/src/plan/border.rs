//! Copies between the order that users see and that of the kernels, beside the kernel that they serve.
//!
//! A kernel whose whole input or result is copied goes over memory that no cache near the core holds, twice. Where it goes from
//! one position of an axis to the next and never back, the copies and the kernel become a band: what they hand on at one
//! position (a row of an image, say) stays in the second-level cache.

use super::draft::{Draft, DraftKernel, Uses, without_index};
use super::halo::widths;
use super::layout::innermost;
use crate::merge::is_identity;
use fusewright_ir::kernel::{Affine, Axis, BufferId, Index, Kernel, Role, Scalar, Space};
use fusewright_ir::plan::access::{any_depends, depends, reads, with_forms};
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// Fewer positions are not worth the calls, and leave threads without work.
const FEWEST_POSITIONS: usize = 4;

/// What is near is not made in more pieces than this: each costs calls.
const MOST_CALLS: u64 = 64;

/// Makes bands of kernels and the copies before and behind them, where these hand on more bytes than are near the core.
pub fn bands(draft: &mut Draft, near_bytes: u64) {
    // Positions in the draft change as a band is put together.
    while let Some(band) = next(draft, near_bytes) {
        band.put_together(draft);
    }
}

/// The first band that should be one.
fn next(draft: &Draft, near_bytes: u64) -> Option<Band> {
    let is_copy = |k: &usize| {
        let kernel = &draft.kernels[*k];
        !kernel.once && kernel.band.is_none() && is_copy(draft, kernel.kernel())
    };
    let copies: Vec<usize> = (0..draft.kernels.len()).filter(is_copy).collect();
    if copies.is_empty() {
        return None;
    }
    let uses = draft.uses();
    let served = copies.iter().flat_map(|&copy| {
        let kernel = draft.kernels[copy].kernel();
        let writers = kernel.reads().into_iter().flat_map(|id| uses.writers[id.0 as usize].clone());
        let readers = kernel.writes().into_iter().flat_map(|id| uses.readers[id.0 as usize].clone());
        writers.chain(readers).collect::<Vec<_>>()
    });
    let served: BTreeSet<usize> = served.collect();
    served.into_iter().find_map(|k| Band::around(draft, &uses, &copies, k, near_bytes))
}

/// A kernel and the copies that serve it.
struct Band {
    /// The kernel.
    kernel: usize,
    /// Its outer axis along which all goes.
    axis: Axis,
    before: Vec<Copied>,
    behind: Vec<Copied>,
}

/// A copy, and the buffer between it and the kernel.
#[derive(Clone, Copy)]
struct Copied {
    copy: usize,
    buffer: BufferId,
    /// The dimension of the buffer that the kernel goes along.
    dim: usize,
}

impl Band {
    /// The band of a kernel, if it should be one.
    fn around(draft: &Draft, uses: &Uses, copies: &[usize], k: usize, near_bytes: u64) -> Option<Band> {
        let this = &draft.kernels[k];
        let is_state = |id: &BufferId| draft.buffer(*id).state.is_some();
        let touched = || this.kernel().reads().into_iter().chain(this.kernel().writes());
        if this.once || this.band.is_some() || copies.contains(&k) || touched().any(|id| is_state(&id)) {
            return None;
        }
        let is_between = |id: BufferId| {
            let (writers, readers) = (&uses.writers[id.0 as usize], &uses.readers[id.0 as usize]);
            draft.buffer(id).is_free() && writers.len() == 1 && readers.len() == 1
        };
        let kernel = this.kernel();
        let ends = |ids: Vec<BufferId>, others: &dyn Fn(usize) -> usize| -> Vec<(usize, BufferId)> {
            let between = ids.into_iter().filter(|&id| is_between(id)).map(|id| (others(id.0 as usize), id));
            between.filter(|(copy, _)| copies.contains(copy)).collect()
        };
        let before = ends(kernel.reads(), &|id| uses.writers[id][0]);
        let behind = ends(kernel.writes(), &|id| uses.readers[id][0]);
        let bytes = |copied: &[Copied]| copied.iter().map(|copied| draft.buffer(copied.buffer).bytes()).sum::<u64>();
        let mut best: Option<(u64, Band)> = None;
        for axis in (0..kernel.outer.len() as u32).map(Axis) {
            let positions = kernel.outer[axis.0 as usize];
            let along = |ends: &[(usize, BufferId)]| -> Vec<Copied> {
                let copied = ends.iter().filter_map(|&(copy, buffer)| {
                    let dim = dimension_along(kernel, buffer, axis)?;
                    let between = draft.buffer(buffer);
                    // Vectors run along the innermost dimension. A border would have to be filled at every position.
                    let whole = between.info.dims[dim] == positions && between.wish != Some(dim);
                    (whole && !is_padded(draft, kernel, buffer)).then_some(Copied { copy, buffer, dim })
                });
                copied.collect()
            };
            let (before, behind) = (along(&before), along(&behind));
            let all = bytes(&before) + bytes(&behind);
            // What does not move along the axis is read again at every position.
            let again: u64 =
                kernel.reads().iter().filter(|&&id| !moves(kernel, id, axis)).map(|&id| draft.buffer(id).bytes()).sum();
            let at_once = all / positions.max(1) as u64;
            let fits = (near_bytes / MOST_CALLS..=near_bytes / 2).contains(&at_once);
            if positions < FEWEST_POSITIONS || all <= near_bytes || !fits || again > near_bytes {
                continue;
            }
            if best.as_ref().is_none_or(|(most, _)| at_once > *most) {
                best = Some((at_once, Band { kernel: k, axis, before, behind }));
            }
        }
        best.map(|(_, band)| band)
    }

    /// Puts the kernels of the band side by side, its axis first in each, and what they hand on in scratch.
    fn put_together(self, draft: &mut Draft) {
        let number = draft.kernels.iter().filter_map(|kernel| kernel.band).max().map_or(0, |band| band + 1);
        let Band { kernel: at, axis, before, behind } = self;
        draft.kernels[at].named.kernel = with_axis_first(draft.kernels[at].kernel(), axis);
        for &Copied { copy, buffer, dim } in before.iter().chain(&behind) {
            let copying = with_axis_first(draft.kernels[copy].kernel(), Axis(dim as u32));
            draft.kernels[copy].named.kernel = without_index(&copying, buffer, dim);
            draft.kernels[at].named.kernel = without_index(draft.kernels[at].kernel(), buffer, dim);
            let between = draft.buffer_mut(buffer);
            between.info.dims.remove(dim);
            between.wish = between.wish.filter(|&wish| wish != dim).map(|wish| wish - usize::from(wish > dim));
            between.layout = innermost(between.info.dims.len(), between.wish);
            between.is_scratch = true;
        }
        let members: Vec<usize> = before
            .iter()
            .map(|copied| copied.copy)
            .chain([at])
            .chain(behind.iter().map(|copied| copied.copy))
            .collect();
        for &k in &members {
            draft.kernels[k].band = Some(number);
        }
        // What a copy reads is there early, and what it writes is read by no kernel before those behind the band.
        let mut old: Vec<Option<DraftKernel>> = std::mem::take(&mut draft.kernels).into_iter().map(Some).collect();
        let together: Vec<DraftKernel> = members.iter().filter_map(|&k| old[k].take()).collect();
        let later = old.split_off(at);
        draft.kernels = old.into_iter().flatten().chain(together).chain(later.into_iter().flatten()).collect();
    }
}

/// Whether a kernel only moves all elements from what the user gives, or to what the user gets.
fn is_copy(draft: &Draft, kernel: &Kernel) -> bool {
    let [store] = &kernel.stores[..] else { return false };
    let Scalar::Load { buffer, at, outside: None } = kernel.body.get(store.value) else { return false };
    let (from, to) = (draft.buffer(*buffer), draft.buffer(store.buffer));
    let identity = |at: &[Index], dims: &[usize]| dims == &kernel.outer[..] && is_identity(at, dims);
    let is_port = (from.info.role == Role::Input && to.is_free()) || (from.is_free() && to.is_output);
    is_port
        && kernel.folds.is_empty()
        && store.inner.is_empty()
        && identity(at, &from.info.dims)
        && identity(&store.at, &to.info.dims)
}

/// The dimension of a buffer by which all that a kernel reads or writes of it goes along an axis, and nothing else does.
fn dimension_along(kernel: &Kernel, id: BufferId, axis: Axis) -> Option<usize> {
    let loads = reads(kernel).into_iter().filter(|read| read.buffer == id).map(|read| (read.at, read.extents));
    let stores = kernel.stores.iter().filter(|store| store.buffer == id);
    let stores = stores.map(|store| (&store.at[..], kernel.space(&store.inner)));
    let all: SmallVec<[(&[Index], Space); 2]> = loads.chain(stores).collect();
    // Windows of one element add nothing.
    let goes = |index: &Index, extents: &[usize]| {
        let moving = |form: &Affine| form.terms.iter().filter(|(own, _)| extents[own.0 as usize] > 1).eq(&[(axis, 1)]);
        index.as_affine().is_some_and(|form| form.divisor == 1 && form.offset == 0 && moving(form))
    };
    let (at, extents) = all.first()?;
    let dim = at.iter().position(|index| goes(index, extents))?;
    let alike = |(at, extents): &(&[Index], Space)| {
        at.iter().enumerate().all(|(i, index)| if i == dim { goes(index, extents) } else { !depends(index, axis) })
    };
    all.iter().all(alike).then_some(dim)
}

/// Whether a kernel reads beyond the edges of a buffer.
fn is_padded(draft: &Draft, kernel: &Kernel, id: BufferId) -> bool {
    let dims = &draft.buffer(id).info.dims;
    reads(kernel).iter().any(|read| read.buffer == id && read.outside.is_some() && widths(read, dims).is_some())
}

/// Whether what a kernel reads of a buffer moves along an axis.
fn moves(kernel: &Kernel, id: BufferId, axis: Axis) -> bool {
    reads(kernel).iter().any(|read| read.buffer == id && any_depends(read.at, axis))
}

/// The kernel with an outer axis in front of all others.
fn with_axis_first(kernel: &Kernel, first: Axis) -> Kernel {
    let renamed = |axis: Axis| match axis {
        axis if axis == first => Axis(0),
        axis if axis < first => Axis(axis.0 + 1),
        axis => axis,
    };
    let mut result = with_forms(kernel, |form| form.substitute(|axis| Affine::from(renamed(axis))));
    let extent = result.outer.remove(first.0 as usize);
    result.outer.insert(0, extent);
    result
}

#[cfg(test)]
mod tests {
    use crate::plan::samples::program;
    use crate::plan::{Machine, PlanOptions, Winograd, plan};
    use fusewright_ir::plan::verify;

    #[test]
    fn copies_go_beside_their_kernel_position_by_position() {
        let row = r#"Conv2d(out: 24, kernel_size: 1)"#;
        let signal = r#"Conv1d(out: 64, kernel_size: 1), Relu, Conv1d(out: 40, kernel_size: 3, padding: 1)"#;
        // Images of a batch that get a border are copied before the band, results image by image.
        let padded = r#"Conv2d(out: 64, kernel_size: 3, padding: 1)"#;
        // The first is too large for long rows, and has too few channels to gather them. The second goes in pieces of a few bytes: only where
        // so little is near.
        for (shape, layers, near_bytes, bands) in [
            ("[1, 256, 112, 112]", row, None, 1),
            ("[9, 48, 5001]", signal, None, 0),
            ("[9, 48, 5001]", signal, Some(64 << 10), 2),
            ("[8, 64, 24, 24]", padded, Some(512 << 10), 1),
        ] {
            let winograd = Winograd::Never;
            let options = PlanOptions { machine: Machine::AVX512, near_bytes, winograd, ..PlanOptions::default() };
            let plan = plan(program(shape, layers, true), &options).unwrap();
            assert_eq!((verify(&plan), plan.bands.len()), (Ok(()), bands), "{plan}");
        }
    }
}
