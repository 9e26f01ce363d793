//! Which axis of every buffer lies innermost.
//!
//! Contractions vote: the reduction axis innermost in the operand that changes from call to call, the axis along which
//! the weights differ innermost in the result. Buffers without votes follow their neighbours. So convolutional networks
//! come out with channels last and transformers stay as they are, though no rule names an operation.

use super::draft::{Draft, Uses};
use super::machine::Machine;
use super::rows;
use fusewright_ir::kernel::{Axis, BinaryOp, BufferId, FoldKind, Index, Kernel, Role, Scalar, ScalarId};
use fusewright_ir::plan::Layout;
use fusewright_ir::plan::access::{Part, Read, depends, plain, reads, with_buffers};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

/// A copy to another layout pays where the kernels that want it do so many operations for every element.
const PAYS: u64 = 32;

/// Gives every buffer of the arena its layout, and every buffer its wish. Results and inputs keep the order that users
/// see: where another pays, kernels work in a copy. `common` are the [`rows::common_dims`].
pub fn choose(draft: &mut Draft, common: &[Vec<bool>], machine: &Machine) {
    let votes = count_votes(draft, common, machine);
    let known = draft.buffers.iter().map(|buffer| buffer.wish);
    let mut inner: Vec<Option<usize>> = known.zip(&votes).map(|(known, votes)| known.or(winner(votes))).collect();
    copy_ports(draft, &votes, &mut inner);
    inherit(draft, &mut inner);
    copy_windows(draft, &mut inner);
    for (buffer, inner) in draft.buffers.iter_mut().zip(&inner) {
        buffer.wish = *inner;
        if buffer.is_free() {
            buffer.layout = innermost(buffer.info.dims.len(), *inner);
        }
    }
}

/// The layout with this axis innermost and the others in the order users see.
pub fn innermost(rank: usize, inner: Option<usize>) -> Layout {
    let mut layout = Layout::row_major(rank);
    if let Some(inner) = inner {
        layout.order.retain(|axis| *axis as usize != inner);
        layout.order.push(inner as u8);
    }
    layout
}

/// A sum of products, one operand of which is alike for all points along some axis.
pub struct Contraction<'k> {
    /// The loads of the operand that is read again for every output channel.
    pub activation: Vec<Read<'k>>,
    /// The loads of the other.
    pub weight: Vec<Read<'k>>,
}

/// The contractions among the folds of a kernel. The weight is the operand that is constant or state; where neither or both
/// are, the one whose own axes come last in the result.
pub fn contractions<'k>(draft: &Draft, kernel: &'k Kernel) -> Vec<Contraction<'k>> {
    let mut found = Vec::new();
    for (i, fold) in kernel.folds.iter().enumerate().filter(|(_, fold)| fold.kind == FoldKind::Sum) {
        let &Scalar::Binary(BinaryOp::Mul, a, b) = kernel.body.get(fold.value) else { continue };
        let all: Vec<Read<'k>> = reads(kernel).into_iter().filter(|read| read.part == Part::Fold(i)).collect();
        let side = |root: ScalarId| -> Vec<Read<'k>> {
            let ids = kernel.body.reachable([root]);
            all.iter().filter(|read| ids.contains(&read.id)).cloned().collect()
        };
        let (a, b) = (side(a), side(b));
        if a.is_empty() || b.is_empty() {
            continue;
        }
        let is_weight = |side: &[Read]| side.iter().all(|read| draft.buffer(read.buffer).is_weight());
        let b_is_weight = match (is_weight(&a), is_weight(&b)) {
            (false, true) => true,
            (true, false) => false,
            _ => last_own_axis(kernel, &b, &a) >= last_own_axis(kernel, &a, &b),
        };
        let (activation, weight) = if b_is_weight { (a, b) } else { (b, a) };
        found.push(Contraction { activation, weight });
    }
    found
}

/// The last outer axis that `own` moves along and `other` does not.
fn last_own_axis(kernel: &Kernel, own: &[Read], other: &[Read]) -> Option<usize> {
    let moves = |side: &[Read], axis| side.iter().any(|read| read.at.iter().any(|index| depends(index, axis)));
    (0..kernel.outer.len()).rev().find(|&axis| {
        let axis = Axis(axis as u32);
        kernel.outer[axis.0 as usize] > 1 && moves(own, axis) && !moves(other, axis)
    })
}

fn count_votes(draft: &Draft, common: &[Vec<bool>], machine: &Machine) -> Vec<Vec<u64>> {
    let mut votes: Vec<Vec<u64>> = draft.buffers.iter().map(|buffer| vec![0; buffer.info.dims.len()]).collect();
    let uses = draft.uses();
    for kernel in draft.kernels.iter().filter(|kernel| !kernel.once).map(|kernel| kernel.kernel()) {
        let cost = kernel.operations();
        let of_state = lane_of_state(draft, &uses, kernel);
        for contraction in contractions(draft, kernel) {
            if let Some(axis) = of_state {
                // Vectors run along it in one operand; what is multiplied with them is read element by element.
                for read in contraction.activation.iter().chain(&contraction.weight) {
                    if let Some(dim) = read.at.iter().position(|index| index.as_axis() == Some(axis)) {
                        votes[read.buffer.0 as usize][dim] += cost;
                    }
                }
            }
            let own = |axis: &Axis| {
                let moves = |side: &[Read]| side.iter().any(|read| read.at.iter().any(|index| depends(index, *axis)));
                kernel.outer[axis.0 as usize] > 1 && moves(&contraction.weight) && !moves(&contraction.activation)
            };
            let mut axes: Vec<Axis> = (0..kernel.outer.len() as u32).map(Axis).filter(own).collect();
            let row = rows::long_row(draft, common, kernel, &contraction, machine).filter(|_| of_state.is_none());
            let row = row.or_else(|| better_row(draft, kernel, &contraction, &axes, machine));
            for read in contraction.activation.iter().filter(|_| of_state.is_none() && row.is_none()) {
                let dims = reduction_dims(kernel, read, &contraction.weight);
                // Elements for all lanes are read from anywhere; few of them are no vector.
                if let &[dim] = &dims[..]
                    && draft.buffer(read.buffer).info.dims[dim] >= FEW_CHANNELS
                {
                    votes[read.buffer.0 as usize][dim] += cost;
                }
            }
            if let Some(row) = row {
                axes = vec![row];
            }
            for store in &kernel.stores {
                // What is stored at the same points (squares, for a norm of all gradients) lies alike.
                let beside = kernel.stores.iter().filter(|other| other.at == store.at);
                let wished = beside.filter_map(|other| wished_by_state(draft, &uses, other.buffer)).next();
                if let Some(dim) = wished {
                    votes[store.buffer.0 as usize][dim] += cost;
                    continue;
                }
                let mut dims = store.at.iter().enumerate().filter(|(_, index)| {
                    plain(index).is_some_and(|form| axes.iter().any(|&axis| form.coefficient(axis) == 1))
                });
                if let Some((dim, _)) = dims.next_back() {
                    votes[store.buffer.0 as usize][dim] += cost;
                }
            }
        }
    }
    pass_on(draft, &mut votes);
    votes
}

/// The axis of a kernel along which the innermost elements lie of state that it computes, or of parts of it.
fn lane_of_state(draft: &Draft, uses: &Uses, kernel: &Kernel) -> Option<Axis> {
    kernel.stores.iter().find_map(|store| {
        let buffer = draft.buffer(store.buffer);
        let dim = match buffer.state {
            Some(_) => usize::from(*buffer.layout.order.last()?),
            None => wished_by_state(draft, uses, store.buffer)?,
        };
        store.at[dim].as_axis().filter(|axis| kernel.outer.get(axis.0 as usize).is_some_and(|&n| n >= FEW_CHANNELS))
    })
}

/// The dimension of a buffer along which the innermost elements of state lie that is computed of it: of the parts of a
/// weight's gradient, the dimension that the weight has innermost.
fn wished_by_state(draft: &Draft, uses: &Uses, id: BufferId) -> Option<usize> {
    uses.readers[id.0 as usize].iter().find_map(|&reader| {
        let kernel = draft.kernels[reader].kernel();
        let store = kernel.stores.iter().find(|store| draft.buffer(store.buffer).state.is_some())?;
        let inner = *draft.buffer(store.buffer).layout.order.last()?;
        let axis = store.at[inner as usize].as_axis()?;
        let all = reads(kernel);
        let read = all.iter().find(|read| read.buffer == id)?;
        read.at.iter().position(|index| index.as_axis() == Some(axis))
    })
}

/// Fewer channels than this are not worth a layout of their own.
pub const FEW_CHANNELS: usize = 8;

/// The axis of an image's rows, where few channels go in and vectors along it are much fuller than along the channels that
/// come out, or hardly any come out.
fn better_row(
    draft: &Draft,
    kernel: &Kernel,
    contraction: &Contraction,
    channels: &[Axis],
    machine: &Machine,
) -> Option<Axis> {
    let extent = |axis: Axis| kernel.outer[axis.0 as usize];
    let [read] = &contraction.activation[..] else { return None };
    let few = reduction_dims(kernel, read, &contraction.weight)
        .iter()
        .all(|&dim| draft.buffer(read.buffer).info.dims[dim] < FEW_CHANNELS);
    let last = plain(read.at.last()?)?;
    let mut rows = last.terms.iter().filter(|(axis, k)| *k == 1 && (axis.0 as usize) < kernel.outer.len());
    let row = rows.next().map(|(axis, _)| *axis)?;
    let out = channels
        .iter()
        .map(|&axis| extent(axis))
        .max_by(|&a, &b| fullness(a, machine).total_cmp(&fullness(b, machine)))?;
    is_row_better(few, out, extent(row), machine).then_some(row)
}

/// Whether vectors of a convolution are better along rows of the image than along the channels that come out: where `few`
/// channels go in, or hardly any come out, and they are much fuller so.
pub fn is_row_better(few: bool, out: usize, row: usize, machine: &Machine) -> bool {
    let (row, out) = (fullness(row, machine), fullness(out, machine));
    (few || out <= HARDLY_FULL) && row > FULLER * out
}

/// The part of all lanes that vectors along an axis fill.
fn fullness(extent: usize, machine: &Machine) -> f64 {
    extent as f64 / extent.next_multiple_of(machine.vector_lanes as usize) as f64
}

/// How much fuller vectors must be for another layout.
const FULLER: f64 = 1.5;

/// Vectors that are no fuller than this are worth another layout even where many channels go in.
const HARDLY_FULL: f64 = 0.4;

/// Loads of one buffer by which a kernel without folds transforms pieces of it (tiles of an image) at once.
const PIECES: usize = 5;

/// What is voted on one side of a transform holds for the other: the pieces are read and written along the same axis.
fn pass_on(draft: &Draft, votes: &mut [Vec<u64>]) {
    let known = votes.to_vec();
    for kernel in draft.kernels.iter().filter(|kernel| !kernel.once).map(|kernel| kernel.kernel()) {
        let reads = reads(kernel);
        let Some(read) = reads.first().filter(|_| kernel.folds.is_empty()) else { continue };
        if reads.iter().filter(|other| other.buffer == read.buffer).count() < PIECES {
            continue;
        }
        let mut stored: Vec<BufferId> = Vec::new();
        for store in &kernel.stores {
            if stored.contains(&store.buffer) {
                continue;
            }
            stored.push(store.buffer);
            for (from, to) in (0..read.at.len()).flat_map(|from| (0..store.at.len()).map(move |to| (from, to))) {
                let axis = read.at[from].as_axis();
                if axis.is_some() && axis == store.at[to].as_axis() {
                    votes[store.buffer.0 as usize][to] += known[read.buffer.0 as usize][from];
                    votes[read.buffer.0 as usize][from] += known[store.buffer.0 as usize][to];
                }
            }
        }
    }
}

/// The dimensions of a load in which a fold axis appears without a window: alone, or beside outer axes that the weight
/// moves along as well (groups, batches of matrices).
fn reduction_dims(kernel: &Kernel, read: &Read, weight: &[Read]) -> Vec<usize> {
    let n_outer = kernel.outer.len() as u32;
    let in_weight = |axis: Axis| weight.iter().any(|read| read.at.iter().any(|index| depends(index, axis)));
    let dims = read.at.iter().enumerate().filter(|(_, index)| {
        let Some(form) = plain(index) else { return false };
        let (outer, inner): (Vec<_>, Vec<_>) = form.terms.iter().partition(|(axis, _)| axis.0 < n_outer);
        matches!(inner[..], [(axis, 1)] if read.extents[axis.0 as usize] > 1)
            && outer.iter().all(|(axis, _)| read.extents[axis.0 as usize] == 1 || in_weight(*axis))
    });
    dims.map(|(dim, _)| dim).collect()
}

/// The dimension with most votes, if any has some and no other has as many.
fn winner(votes: &[u64]) -> Option<usize> {
    let most = votes.iter().copied().max().filter(|&most| most > 0)?;
    let mut best = votes.iter().enumerate().filter(|(_, n)| **n == most);
    match (best.next(), best.next()) {
        (Some((dim, _)), None) => Some(dim),
        _ => None,
    }
}

/// Puts a buffer of the arena between results and the kernels that compute them in another layout, and between inputs
/// and the kernels that read them much, where that pays.
fn copy_ports(draft: &mut Draft, votes: &[Vec<u64>], inner: &mut Vec<Option<usize>>) {
    let uses = draft.uses();
    let mut added = Vec::new();
    for id in draft.buffer_ids() {
        let at = id.0 as usize;
        let buffer = draft.buffer(id);
        let Some(dim) = inner[at] else { continue };
        let moved = buffer.info.dims[dim + 1..].iter().any(|&n| n > 1) && buffer.info.dims[dim] > 1;
        let pays = votes[at][dim] >= PAYS * buffer.elements();
        if !(moved && pays) {
            continue;
        }
        let name = buffer.info.name.clone();
        if buffer.is_output {
            let own = draft.add_like(id);
            let wish = inner[at].take();
            inner.push(wish);
            for &k in uses.writers[at].iter().chain(&uses.readers[at]) {
                rename(draft, k, id, own);
            }
            added.push((uses.writers[at].last().map_or(0, |k| k + 1), draft.copy_kernel(own, id, name, "layout")));
        } else if buffer.info.role == Role::Input && buffer.info.dims[dim] >= 8 {
            let own = draft.add_like(id);
            inner.push(inner[at]);
            for &k in &uses.readers[at] {
                rename(draft, k, id, own);
            }
            let first = uses.readers[at].first().copied().unwrap_or(0);
            added.push((first, draft.copy_kernel(id, own, name, "layout")));
        }
    }
    draft.insert(added);
}

/// So many reads of an element, each one lane of a vector, are worth a copy in which lanes are neighbours.
const OFTEN: u64 = 4;

/// Puts a copy between an image and the kernels that read it in windows, for vectors along another axis than its innermost: a
/// depthwise convolution of an input whose results lie channel by channel, or one of few channels along the rows of an image that
/// others read channel by channel.
fn copy_windows(draft: &mut Draft, inner: &mut Vec<Option<usize>>) {
    let mut added = Vec::new();
    for k in 0..draft.kernels.len() {
        let kernel = draft.kernels[k].kernel();
        let Some(store) = kernel.stores.first().filter(|_| !draft.kernels[k].once) else { continue };
        let Some(along) = inner[store.buffer.0 as usize].map(|dim| &store.at[dim]) else { continue };
        let Some(lane) = finest(along, &kernel.outer, kernel.outer.len()) else { continue };
        // The other matrix of a product, which is packed.
        let is_weight =
            |id: ScalarId| contractions(draft, kernel).iter().flat_map(|found| &found.weight).any(|read| read.id == id);
        let dim_of = |read: &Read| -> Option<usize> {
            let buffer = draft.buffer(read.buffer);
            let dim =
                read.at.iter().position(|index| finest(index, &read.extents, kernel.outer.len()) == Some(lane))?;
            let is_innermost = match inner[read.buffer.0 as usize] {
                Some(innermost) if buffer.is_free() => innermost == dim,
                _ => buffer.info.dims[dim + 1..].iter().all(|&n| n == 1),
            };
            let is_long = buffer.info.dims[dim] >= FEW_CHANNELS;
            let often = matches!(read.part, Part::Fold(_)) && read.points() >= OFTEN * buffer.elements();
            let may_move = || buffer.info.role == Role::Input || (buffer.is_free() && !is_weight(read.id));
            (!is_innermost && is_long && often && may_move()).then_some(dim)
        };
        let wanted = reads(kernel).iter().find_map(|read| Some((read.buffer, dim_of(read)?)));
        if let Some((id, dim)) = wanted {
            let name = draft.buffer(id).info.name.clone();
            let own = draft.add_like(id);
            inner.push(Some(dim));
            rename(draft, k, id, own);
            added.push((k, draft.copy_kernel(id, own, name, "layout")));
        }
    }
    draft.insert(added);
}

fn rename(draft: &mut Draft, kernel: usize, old: BufferId, new: BufferId) {
    let kernel = &mut draft.kernels[kernel].named.kernel;
    *kernel = with_buffers(kernel, |id| if id == old { new } else { id });
}

/// Buffers without a winner take the axis that belongs to a neighbour's innermost one, forward and backward, until
/// nothing changes.
fn inherit(draft: &Draft, inner: &mut [Option<usize>]) {
    // (a read buffer and axis, a written buffer and axis) that run together, and whether each is along that axis alone: a
    // view may be along a part of an axis.
    type Pair = ((BufferId, usize), (BufferId, usize));
    let mut pairs: Vec<(Pair, bool)> = Vec::new();
    for kernel in draft.kernels.iter().filter(|kernel| !kernel.once).map(|kernel| kernel.kernel()) {
        let n_outer = kernel.outer.len();
        // Transforms load and store many pieces of one buffer alike: what runs along their dimensions is told once.
        type Along = SmallVec<[Option<Axis>; 6]>;
        let along = |at: &[Index], extents: &[usize], limit: usize| -> Along {
            at.iter().map(|index| finest(index, extents, limit)).collect()
        };
        let mut known: FxHashSet<(BufferId, Along, BufferId, Along)> = FxHashSet::default();
        let reads = reads(kernel);
        for (i, store) in kernel.stores.iter().enumerate() {
            let extents = kernel.space(&store.inner);
            let stored = [usize::MAX, n_outer].map(|limit| along(&store.at, &extents, limit));
            for read in reads.iter().filter(|read| draft.buffer(read.buffer).is_free()) {
                let (own, limit) = match read.part == Part::Store(i) {
                    true => (&stored[0], usize::MAX),
                    false => (&stored[1], n_outer),
                };
                let loaded = along(read.at, &read.extents, limit);
                if !known.insert((read.buffer, loaded.clone(), store.buffer, own.clone())) {
                    continue;
                }
                for (to, axis) in own.iter().enumerate().filter(|(_, axis)| axis.is_some()) {
                    if let Some(from) = loaded.iter().position(|other| other == axis) {
                        let whole = is_along_one(&read.at[from]) && is_along_one(&store.at[to]);
                        pairs.push((((read.buffer, from), (store.buffer, to)), whole));
                    }
                }
            }
        }
    }
    let is_free = |id: BufferId| draft.buffer(id).is_free();
    // Views last: where they meet something else, they follow.
    let mut pass_all = |views: bool| loop {
        let mut changed = false;
        let mut pass = |from: (BufferId, usize), to: (BufferId, usize)| {
            if is_free(from.0) && inner[from.0.0 as usize] == Some(from.1) && inner[to.0.0 as usize].is_none() {
                inner[to.0.0 as usize] = Some(to.1);
                changed = true;
            }
        };
        let pairs = || pairs.iter().filter(|(_, whole)| *whole || views).map(|(pair, _)| *pair);
        pairs().for_each(|(read, written)| pass(read, written));
        pairs().rev().for_each(|(read, written)| pass(written, read));
        if !changed {
            return;
        }
    };
    pass_all(false);
    pass_all(true);
}

/// Whether an index moves along one axis alone.
fn is_along_one(index: &Index) -> bool {
    plain(index).is_some_and(|form| form.terms.len() == 1)
}

/// The axis below `limit` along which an index moves in the smallest steps.
fn finest(index: &Index, extents: &[usize], limit: usize) -> Option<Axis> {
    let terms =
        plain(index)?.terms.iter().filter(|(axis, _)| (axis.0 as usize) < limit && extents[axis.0 as usize] > 1);
    terms.min_by_key(|(_, k)| k.abs()).map(|(axis, _)| *axis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::{abouts, draft, draft_on, kernel, layout_behind};

    #[test]
    fn images_between_convolutions_are_channels_last() {
        let layers = r#"Conv2d(name: "a", out: 8, kernel_size: 3), MaxPool2d(name: "b", kernel_size: 2),
            Conv2d(name: "c", out: 8, kernel_size: 1), AvgPool2d(name: "d", kernel_size: 2), Flatten,
            Dense(name: "e", out: 4)"#;
        let draft = draft("[1, 3, 20, 20]", layers);
        for node in ["a", "b", "c", "d"] {
            assert_eq!(layout_behind(&draft, node), "0 2 3 1", "{node}");
        }
        assert_eq!(layout_behind(&draft, "e"), "0 1");
        assert!(!abouts(&draft).contains(&"layout"), "an image of three channels is read as it is");
    }

    #[test]
    fn depthwise_and_pointwise_kernels_follow_their_neighbours() {
        let layers = r#"Conv2d(name: "a", out: 8, kernel_size: 1), Conv2d(name: "b", out: 8, kernel_size: 3, groups: 8),
            Conv2d(name: "c", out: 16, kernel_size: 1), Flatten, Dense(out: 2)"#;
        assert_eq!(layout_behind(&draft("[1, 4, 9, 9]", layers), "b"), "0 2 3 1");
    }

    #[test]
    fn windows_over_an_input_read_a_copy() {
        let layers = r#"Conv2d(name: "a", out: 32, kernel_size: 5, groups: 32, padding: 2), Conv2d(out: 16, kernel_size: 1),
            Flatten, Dense(out: 2)"#;
        let draft = draft("[1, 32, 20, 20]", layers);
        assert_eq!(layout_behind(&draft, "a"), "0 2 3 1");
        assert_eq!(abouts(&draft)[..2], ["layout", "Conv2d"]);
    }

    #[test]
    fn few_channels_come_from_a_copy_by_rows() {
        let layers = r#"Conv2d(name: "a", out: 16, kernel_size: 1), Conv2d(name: "b", out: 16, kernel_size: 3),
            Conv2d(name: "c", out: 6, kernel_size: 3, from: "a"), MaxPool2d(name: "d", kernel_size: 14, from: "b"),
            MaxPool2d(name: "e", kernel_size: 14, from: "c"), Concat(dim: 1, from: ["d", "e"]), Flatten, Dense(out: 2)"#;
        let draft = draft_on(&Machine::AVX512, "[1, 3, 16, 16]", layers);
        assert_eq!(layout_behind(&draft, "a"), "0 2 3 1");
        let copies: Vec<_> = draft.kernels.iter().filter(|kernel| kernel.named.about == "layout").collect();
        let [copy] = copies[..] else { panic!("one copy: {:?}", abouts(&draft)) };
        assert!(draft.buffer(copy.kernel().writes()[0]).layout.is_row_major());
        assert!(kernel(&draft, "c").kernel().reads().contains(&copy.kernel().writes()[0]));
    }

    #[test]
    fn vectors_along_rows_are_much_fuller() {
        let better = |few, out, row| is_row_better(few, out, row, &Machine::AVX512);
        // Six of sixteen lanes against fourteen; ten are enough, and rows of eight are no better than six channels.
        assert!(better(false, 6, 14));
        assert!(!better(false, 10, 14));
        assert!(!better(false, 6, 8));
        assert!(better(true, 10, 32) && !better(true, 16, 32));
    }

    #[test]
    fn rows_of_features_stay_as_they_are() {
        let draft = draft("[2, 7, 12]", r#"Dense(name: "a", out: 24), Gelu, Dense(name: "b", out: 12)"#);
        assert_eq!(layout_behind(&draft, "a"), "0 1 2");
        assert_eq!(abouts(&draft), ["Dense Gelu", "Dense"]);
    }

    #[test]
    fn images_that_users_get_are_copied_where_that_pays() {
        let much = draft("[1, 16, 9, 9]", r#"Conv2d(name: "a", out: 8, kernel_size: 3)"#);
        assert_eq!(abouts(&much), ["layout", "Conv2d", "layout"]);
        assert_eq!(layout_behind(&much, "a"), "0 2 3 1");
        let little = draft("[1, 2, 9, 9]", r#"Conv2d(name: "a", out: 8, kernel_size: 1)"#);
        assert_eq!(abouts(&little), ["Conv2d"]);
    }
}
