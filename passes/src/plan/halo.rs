//! Padding as memory: a buffer that is read beyond its edges keeps a border of the value that stands there, so that
//! loads need no checks.
//!
//! Where much of what is read is padding, the loads keep their checks, and no products are made with it (`padding`). Else
//! a buffer of the arena gets its own halo; where the buffer is the user's, or its halo holds another value, a copy
//! with a halo takes its place, if that costs less than the checks. Whatever writes the buffer leaves the halo alone: a
//! step of its own fills it before.

use super::draft::{Draft, DraftKernel, Uses};
use super::layout::innermost;
use super::machine::Machine;
use super::padding;
use super::schedule::schedule;
use fusewright_ir::kernel::build::Operand;
use fusewright_ir::kernel::{
    Affine, Axis, BinaryOp, BufferId, FoldKind, Index, Kernel, KernelBuilder, Literal, Role, Scalar, ScalarId,
};
use fusewright_ir::plan::Layout;
use fusewright_ir::plan::access::{Read, any_depends, plain, reads, with_scalars};
use smallvec::SmallVec;

/// Loads of one buffer that find one value beyond its edges.
struct Need {
    value: Literal,
    widths: SmallVec<[(u32, u32); 6]>,
    /// How often an element is read so, over all points.
    points: u64,
    /// Which kernels read so, and by which scalars.
    loads: Vec<(usize, ScalarId)>,
}

/// A buffer may grow by this factor for its halo, or by anything up to `SMALL_BYTES`.
const GROWTH: u64 = 4;
const SMALL_BYTES: u64 = 256 << 10;

/// A copy with a halo pays where each element is read so often: loads that cross an edge need no check either, but more
/// code (`fusewright_ir::plan::edges`).
const COPY_PAYS: u64 = 16;

/// Copies pay less of more bytes than caches hold, and for sums of one window each, as those of depthwise convolutions: they
/// read every element once for many sums.
const LARGE_BYTES: u64 = 8 << 20;
const SELDOM_PAYS: u64 = 64;

/// Gives buffers the halos that their readers want.
pub fn widen(draft: &mut Draft, machine: &Machine) {
    let needs = find_needs(draft);
    let uses = draft.uses();
    let mut added = Vec::new();
    for (id, mut needs) in draft.buffer_ids().zip(needs) {
        needs.retain(|need| may_grow(draft, id, &need.widths) && !is_left_out(draft, need, machine));
        // The value that most loads want goes around the buffer itself.
        needs.sort_by_key(|need| std::cmp::Reverse(need.points));
        let mut needs = needs.into_iter().peekable();
        if draft.buffer(id).is_free()
            && let Some(need) = needs.next()
        {
            surround(draft, id, &need);
        }
        for need in needs.filter(|need| copy_pays(draft, id, need)).collect::<Vec<_>>() {
            added.push(surrounded_copy(draft, &uses, id, &need));
        }
    }
    draft.insert(added);
}

/// The loads beyond the edges of each buffer, those that want one value together.
fn find_needs(draft: &Draft) -> Vec<Vec<Need>> {
    let mut needs: Vec<Vec<Need>> = draft.buffers.iter().map(|_| Vec::new()).collect();
    for (k, kernel) in draft.kernels.iter().enumerate().filter(|(_, kernel)| !kernel.once) {
        for read in reads(kernel.kernel()) {
            let dims = &draft.buffer(read.buffer).info.dims;
            let (Some(value), Some(widths)) = (read.outside, widths(&read, dims)) else { continue };
            let known = &mut needs[read.buffer.0 as usize];
            let place = known.iter().position(|need| need.value == value).unwrap_or_else(|| {
                let widths = SmallVec::from_elem((0, 0), dims.len());
                known.push(Need { value, widths, points: 0, loads: Vec::new() });
                known.len() - 1
            });
            let need = &mut known[place];
            for (most, own) in need.widths.iter_mut().zip(widths) {
                *most = (most.0.max(own.0), most.1.max(own.1));
            }
            need.points += read.points();
            need.loads.push((k, read.id));
        }
    }
    needs
}

/// How far a load goes beyond each edge; `None` where it stays inside or does not go in plain steps.
pub fn widths(read: &Read, dims: &[usize]) -> Option<SmallVec<[(u32, u32); 6]>> {
    let mut widths = SmallVec::new();
    for (index, &length) in read.at.iter().zip(dims) {
        let (low, high) = plain(index)?.dividend_range(&read.extents);
        let behind = (high + 1 - length as i64).max(0);
        widths.push((u32::try_from((-low).max(0)).ok()?, u32::try_from(behind).ok()?));
    }
    widths.iter().any(|&width| width != (0, 0)).then_some(widths)
}

fn may_grow(draft: &Draft, id: BufferId, widths: &[(u32, u32)]) -> bool {
    let buffer = draft.buffer(id);
    let mut grown = buffer.info.dtype.bytes() as u64;
    for (&(before, behind), &length) in widths.iter().zip(&buffer.info.dims) {
        grown = grown.saturating_mul(u64::from(before) + u64::from(behind) + length as u64);
    }
    grown <= SMALL_BYTES || grown <= buffer.bytes().saturating_mul(GROWTH)
}

/// Whether all loads are better done without a halo.
fn is_left_out(draft: &Draft, need: &Need, machine: &Machine) -> bool {
    need.loads.iter().all(|&(k, load)| {
        let kernel = &draft.kernels[k];
        let mut loads = reads(kernel.kernel()).into_iter().filter(|read| read.id == load);
        loads.all(|read| padding::is_left_out(draft, kernel, &read, machine))
    })
}

fn copy_pays(draft: &Draft, id: BufferId, need: &Need) -> bool {
    let buffer = draft.buffer(id);
    let seldom =
        buffer.bytes() > LARGE_BYTES || need.loads.iter().all(|&(k, _)| sums_windows(draft.kernels[k].kernel()));
    let pays = if seldom { SELDOM_PAYS } else { COPY_PAYS };
    let changes = !buffer.is_constant() && buffer.layout.block.is_none();
    changes && need.points >= pays.saturating_mul(buffer.elements())
}

/// Whether a kernel adds products, and no two of its results read the same window.
fn sums_windows(kernel: &Kernel) -> bool {
    let [fold] = &kernel.folds[..] else { return false };
    let is_product = matches!(kernel.body.get(fold.value), Scalar::Binary(BinaryOp::Mul, ..));
    let is_own = |read: &Read| {
        let outer = kernel.outer.iter().enumerate();
        outer.filter(|(_, extent)| **extent > 1).all(|(axis, _)| any_depends(read.at, Axis(axis as u32)))
    };
    fold.kind == FoldKind::Sum && is_product && reads(kernel).iter().filter(|read| read.outside.is_some()).all(is_own)
}

fn surround(draft: &mut Draft, id: BufferId, need: &Need) {
    let layout = &mut draft.buffer_mut(id).layout;
    layout.halo = need.widths.to_vec();
    layout.halo_value = Some(need.value);
}

/// Makes a buffer with a halo for the loads of `need`, in the layout that they wish, and gives the kernel that copies
/// with its position.
fn surrounded_copy(draft: &mut Draft, uses: &Uses, id: BufferId, need: &Need) -> (usize, DraftKernel) {
    let own = draft.add_like(id);
    let (wish, from) = (draft.buffer(id).wish, draft.buffer(id).layout.clone());
    let rank = from.order.len();
    let buffer = draft.buffer_mut(own);
    buffer.wish = wish;
    buffer.layout = if from.is_row_major() { innermost(rank, wish) } else { from };
    surround(draft, own, need);
    for &(k, load) in &need.loads {
        let kernel = draft.kernels[k].kernel();
        draft.kernels[k].named.kernel = with_scalars(kernel, |id, scalar| match scalar {
            Scalar::Load { at, outside, .. } if id == load => Scalar::Load { buffer: own, at, outside },
            other => other,
        });
    }
    let name = draft.buffer(id).info.name.clone();
    let after = uses.writers[id.0 as usize].last().map_or(0, |k| k + 1);
    let before = need.loads.iter().map(|(k, _)| *k).min().unwrap_or(after);
    (before.max(after), draft.copy_kernel(id, own, name, "layout"))
}

/// What kernels that fill halos are called.
pub const FILL: &str = "halo";

/// Puts a step before the first writer of every buffer with a halo that fills it.
pub fn fill(draft: &mut Draft, machine: &Machine) {
    let uses = draft.uses();
    let mut added = Vec::new();
    for id in draft.buffer_ids() {
        let buffer = draft.buffer(id);
        let Some(value) = buffer.layout.halo_value else { continue };
        debug_assert!(buffer.info.role == Role::Computed, "only computed buffers have halos");
        if let Some(&first) = uses.writers[id.0 as usize].first() {
            let kernel = fill_kernel(&draft.operand(id), &buffer.layout, value);
            let mut kernel = DraftKernel::new(kernel, vec![buffer.info.name.clone()], FILL);
            kernel.schedule = schedule(draft, &kernel, machine);
            added.push((first, kernel));
        }
    }
    draft.insert(added);
}

/// Writes `value` to all of the halo, each element once. The loops follow the layout.
fn fill_kernel(to: &Operand, layout: &Layout, value: Literal) -> Kernel {
    let order: Vec<usize> = layout.order.iter().map(|&axis| axis as usize).collect();
    let width = |axis: usize| layout.halo_of(axis);
    // Axes without a halo before the first with one are common to all regions.
    let common = order.iter().take_while(|&&axis| width(axis) == (0, 0)).count();
    let outer: Vec<usize> = order[..common].iter().map(|&axis| to.dims[axis]).collect();
    let mut k = KernelBuilder::new(&outer);
    let value = k.literal(value);
    for (place, &axis) in order.iter().enumerate() {
        let (before, behind) = width(axis);
        for (start, length) in [(-(before as i64), before), (to.dims[axis] as i64, behind)] {
            if length == 0 {
                continue;
            }
            // Axes further out run over the interior, those further in over the halo as well.
            let mut at = vec![Index::from(0); order.len()];
            let mut inner = Vec::new();
            for (i, &other) in order.iter().enumerate() {
                let (before, behind) = width(other);
                let (start, length) = match i.cmp(&place) {
                    std::cmp::Ordering::Less => (0, to.dims[other]),
                    std::cmp::Ordering::Equal => (start, length),
                    std::cmp::Ordering::Greater => (-(before as i64), to.dims[other] + before + behind),
                };
                let axis = Affine::from(Axis(i as u32));
                at[other] = (axis + start).into();
                if i >= common {
                    inner.push(length);
                }
            }
            k.store_over(&inner, to, at, value);
        }
    }
    k.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::{abouts, draft, kernel, layout_behind};
    use fusewright_ir::plan::Vector;
    use fusewright_ir::plan::access::is_proven;

    /// Whether a load needs no check.
    fn is_covered(draft: &Draft, read: &Read) -> bool {
        let buffer = draft.buffer(read.buffer);
        let halo = read.outside.is_some() && read.outside == buffer.layout.halo_value;
        is_proven(read.at, &read.extents, &buffer.layout, &buffer.info.dims, halo)
    }

    #[test]
    fn padded_images_have_a_border() {
        let layers = r#"Conv2d(name: "a", out: 4, kernel_size: 1),
            Conv2d(name: "b", out: 4, kernel_size: 3, padding: [(1, 2), (0, 1)]), Flatten, Dense(out: 2)"#;
        let mut draft = draft("[1, 3, 8, 8]", layers);
        assert_eq!(layout_behind(&draft, "a"), "0 2[1+2] 3[0+1] 1 halo 0");
        assert!(reads(kernel(&draft, "b").kernel()).iter().all(|read| is_covered(&draft, read)));
        fill(&mut draft, &Machine::PORTABLE);
        let first = &draft.kernels[0];
        assert_eq!(first.named.about, FILL);
        let points =
            first.kernel().stores.iter().map(|store| first.kernel().space(&store.inner).iter().product::<usize>());
        assert_eq!(points.sum::<usize>(), 4 * ((8 + 3) * (8 + 1) - 8 * 8), "each element of the border once");
    }

    #[test]
    fn borders_are_filled_by_vectors() {
        let layers = r#"MaxPool2d(name: "a", kernel_size: 1),
            Conv2d(name: "b", out: 16, groups: 16, kernel_size: 3, padding: 1), MaxPool2d(kernel_size: 1)"#;
        let mut draft = draft("[1, 16, 20, 24]", layers);
        assert_eq!(layout_behind(&draft, "a"), "0 1 2[1+1] 3[1+1] halo 0");
        fill(&mut draft, &Machine::AVX512);
        let first = &draft.kernels[0];
        assert_eq!((first.named.about.as_str(), first.schedule.vector), (FILL, Some(Vector::Inner)));
        // Rows of 26 above and below, single elements left and right.
        let mut lengths: Vec<usize> =
            first.kernel().stores.iter().filter_map(|store| store.inner.last().copied()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [1, 1, 26, 26]);
    }

    #[test]
    fn padding_of_small_images_is_left_out() {
        let layout = |side: usize, padding: usize| {
            let layers = format!(
                r#"Conv2d(name: "a", out: 16, kernel_size: 1),
                Conv2d(name: "b", out: 16, kernel_size: 5, padding: {padding}), Flatten, Dense(out: 2)"#
            );
            layout_behind(&draft(&format!("[4, 3, {side}, {side}]"), &layers), "a")
        };
        assert_eq!(layout(6, 2), "0 2 3 1", "a third of all products");
        assert_eq!(layout(28, 2), "0 2[2+2] 3[2+2] 1 halo 0", "a twelfth");
    }

    #[test]
    fn other_borders_of_one_image_are_copies() {
        let layers = r#"Conv2d(name: "a", out: 4, kernel_size: 1),
            Conv2d(name: "b", out: 4, kernel_size: 3, padding: 1),
            MaxPool2d(name: "c", kernel_size: 4, stride: 1, padding: [(2, 1), (2, 1)], from: "a"), Add(from: ["b", "c"]),
            Flatten, Dense(out: 2)"#;
        let draft = draft("[1, 3, 8, 8]", layers);
        assert_eq!(layout_behind(&draft, "a"), "0 2[1+1] 3[1+1] 1 halo 0");
        let copies: Vec<_> = draft.kernels.iter().filter(|kernel| kernel.named.about == "layout").collect();
        assert_eq!(copies.len(), 1);
        let copy = draft.buffer(copies[0].kernel().writes()[0]);
        assert_eq!(copy.layout.to_string(), "0 2[2+1] 3[2+1] 1 halo -inf");
        for node in ["b", "c"] {
            assert!(reads(kernel(&draft, node).kernel()).iter().all(|read| is_covered(&draft, read)), "{node}");
        }
    }

    #[test]
    fn copies_that_cost_more_than_checks_are_not_made() {
        let once = draft("[1, 1, 4032, 3024]", r#"Conv2d(out: 1, kernel_size: 3, padding: 1)"#);
        assert_eq!(abouts(&once), ["Conv2d"]);
        let pad = draft("[1, 3, 8, 8]", r#"Pad(padding: [(1, 1), (1, 1)], mode: "constant"), Relu"#);
        assert_eq!(abouts(&pad).len(), 1);
        // A border many times as large as the image.
        let far = r#"Conv2d(name: "a", out: 64, kernel_size: 1),
            Conv2d(out: 8, kernel_size: 3, padding: 36, dilation: 36), Flatten, Dense(out: 2)"#;
        assert_eq!(layout_behind(&draft("[1, 3, 14, 14]", far), "a"), "0 2 3 1");
    }
}
