//! Neighbouring axes that all kernels go along alike become one.
//!
//! Rows and columns of an image that no window looks across are one long row: vectors along it are full whatever the image's
//! width, loops are one fewer, and a 1x1 convolution may leave its channels apart, as users give and get them, instead of
//! working in copies. That holds of axes only where all kernels that meet through their buffers agree.

use super::draft::{Draft, DraftBuffer};
use super::layout::{Contraction, contractions};
use super::machine::Machine;
use super::schedule::{MANY_PAGES, MOST_POINTS, WORTH_GATHERING};
use fusewright_ir::kernel::{Affine, Axis, BufferId, Index, Kernel, Role, Scalar};
use fusewright_ir::plan::access::{Read, any_depends, with_forms, with_scalars};

/// Vectors along a row below which channels are as good: the last vector is then hardly ever half empty.
const LONG_ROW: u32 = 8;

/// For every buffer and dimension, whether all accesses go along it by one outer axis of their kernel from end to end, and
/// that axis goes along such dimensions alone.
pub fn common_dims(draft: &Draft) -> Vec<Vec<bool>> {
    let may_be = |buffer: &DraftBuffer| (buffer.is_free() && !buffer.is_scratch) || is_port(buffer);
    let mut common: Vec<Vec<bool>> =
        draft.buffers.iter().map(|buffer| vec![may_be(buffer); buffer.info.dims.len()]).collect();
    let kernels: Vec<Users> = draft.kernels.iter().map(|kernel| Users::of(kernel.kernel())).collect();
    loop {
        let mut changed = false;
        for (draft_kernel, users) in draft.kernels.iter().zip(&kernels) {
            let kernel = draft_kernel.kernel();
            let whole = |id: BufferId, dim: usize, axis: Axis| {
                draft.buffer(id).info.dims[dim] == kernel.outer[axis.0 as usize] && common[id.0 as usize][dim]
            };
            let mut alike: Vec<bool> = (0..kernel.outer.len())
                .map(|axis| !draft_kernel.once && (axis > 0 || draft_kernel.band.is_none()) && !users.other[axis])
                .collect();
            for access in &users.accesses {
                for (dim, axis) in access.axes.iter().enumerate() {
                    if let Some(axis) = axis.filter(|&axis| !whole(access.buffer, dim, axis)) {
                        alike[axis.0 as usize] = false;
                    }
                }
            }
            for access in &users.accesses {
                for (dim, axis) in access.axes.iter().enumerate() {
                    let place = &mut common[access.buffer.0 as usize][dim];
                    if *place && !axis.is_some_and(|axis| alike[axis.0 as usize]) {
                        *place = false;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            return common;
        }
    }
}

/// Whether users give or get it.
fn is_port(buffer: &DraftBuffer) -> bool {
    buffer.info.role == Role::Input || buffer.is_output
}

/// How a kernel uses its outer axes.
struct Users {
    accesses: Vec<Access>,
    /// By axis, whether anything moves along it but an index that is this axis and nothing else.
    other: Vec<bool>,
}

/// A load or store: the outer axis that each index is, where it is one.
struct Access {
    buffer: BufferId,
    axes: Vec<Option<Axis>>,
}

impl Users {
    fn of(kernel: &Kernel) -> Users {
        let n_outer = kernel.outer.len();
        let mut users = Users { accesses: Vec::new(), other: vec![false; n_outer] };
        for (_, scalar) in kernel.body.iter() {
            match scalar {
                Scalar::Load { buffer, at, .. } => users.access(*buffer, at, n_outer),
                Scalar::Position(form) => users.mark(form, n_outer),
                _ => {}
            }
        }
        for store in &kernel.stores {
            users.access(store.buffer, &store.at, n_outer);
        }
        users
    }

    fn access(&mut self, buffer: BufferId, at: &[Index], n_outer: usize) {
        let axes = at.iter().map(|index| index.as_axis().filter(|axis| (axis.0 as usize) < n_outer)).collect();
        for index in at.iter().filter(|index| index.as_axis().is_none()) {
            match index {
                Index::Affine(form) | Index::Table { at: form, .. } => self.mark(form, n_outer),
                Index::Computed(_) => {}
            }
        }
        self.accesses.push(Access { buffer, axes });
    }

    fn mark(&mut self, form: &Affine, n_outer: usize) {
        let outer = form.terms.iter().map(|(axis, _)| axis.0 as usize).filter(|&axis| axis < n_outer);
        outer.for_each(|axis| self.other[axis] = true);
    }
}

/// The axis of a contraction that is better than its channels for vectors, where there is one: a long row along which all kernels
/// go.
pub fn long_row(
    draft: &Draft,
    common: &[Vec<bool>],
    kernel: &Kernel,
    contraction: &Contraction,
    machine: &Machine,
) -> Option<Axis> {
    let row = contraction.activation.first()?.at.last()?.as_axis()?;
    let length = *kernel.outer.get(row.0 as usize)?;
    let is_common = |id: BufferId| common[id.0 as usize].last() == Some(&true);
    let are_common =
        kernel.stores.iter().map(|store| store.buffer).chain([contraction.activation[0].buffer]).all(is_common);
    (are_common && is_long_row(draft, kernel, contraction, (row, length), machine)).then_some(row)
}

/// Whether an axis of this length, if it lies innermost in what a contraction reads and writes, is better than its channels for
/// vectors: they are full, share their weights, and are read again and again from a cache, or from where they are gathered.
fn is_long_row(
    draft: &Draft,
    kernel: &Kernel,
    contraction: &Contraction,
    (row, length): (Axis, usize),
    machine: &Machine,
) -> bool {
    let [read] = &contraction.activation[..] else { return false };
    let ends = |at: &[Index]| at.last().and_then(Index::as_axis) == Some(row);
    ends(read.at)
        && kernel.stores.iter().all(|store| ends(&store.at))
        && !contraction.weight.iter().any(|weight| any_depends(weight.at, row))
        && length >= (LONG_ROW * machine.vector_lanes) as usize
        && (draft.buffer(read.buffer).bytes() <= machine.far_bytes() || is_gathered(kernel, contraction))
}

/// Whether so many channels go in and come out that long rows of a large image are gathered.
fn is_gathered(kernel: &Kernel, contraction: &Contraction) -> bool {
    let own = |axis: &u32| {
        let moves = |side: &[Read]| side.iter().any(|read| any_depends(read.at, Axis(*axis)));
        moves(&contraction.weight) && !moves(&contraction.activation)
    };
    let out: usize = (0..kernel.outer.len() as u32).filter(own).map(|axis| kernel.outer[axis as usize]).product();
    let most = kernel.folds.iter().map(|fold| fold.inner.iter().product::<usize>()).max();
    most.is_some_and(|rows| rows as u64 >= MANY_PAGES) && out >= WORTH_GATHERING * MOST_POINTS as usize
}

/// Joins axes wherever that can be done and is of use. Gives the [`common_dims`] of what comes of it.
pub fn join(draft: &mut Draft, machine: &Machine) -> Vec<Vec<bool>> {
    draft.kernels.iter_mut().for_each(|kernel| forget_windows_of_one(&mut kernel.named.kernel));
    let mut common = common_dims(draft);
    let Some(joints) = Joints::of(draft, &common, machine) else { return common };
    for id in draft.buffer_ids() {
        let joined = &joints.dims[id.0 as usize];
        if !joined.contains(&true) {
            continue;
        }
        let mut to_next = joined.iter();
        common[id.0 as usize].retain(|_| !to_next.next().is_some_and(|&joined| joined));
        let buffer = draft.buffer_mut(id);
        let dims = std::mem::take(&mut buffer.info.dims);
        for (dim, &n) in dims.iter().enumerate() {
            match buffer.info.dims.last_mut().filter(|_| dim > 0 && joined[dim - 1]) {
                Some(last) => *last *= n,
                None => buffer.info.dims.push(n),
            }
        }
        buffer.layout = super::layout::innermost(buffer.info.dims.len(), None);
        if is_port(buffer) {
            draft.shapes.insert(id, dims);
        }
    }
    for (kernel, behind) in draft.kernels.iter_mut().zip(&joints.behind) {
        if behind.iter().any(Option::is_some) {
            kernel.named.kernel = joined(kernel.kernel(), behind, &joints.dims);
        }
    }
    common
}

/// Leaves inner axes of one step, the windows of 1x1 convolutions, out of all indices.
fn forget_windows_of_one(kernel: &mut Kernel) {
    let n_outer = kernel.outer.len();
    let inner = || kernel.folds.iter().map(|fold| &fold.inner).chain(kernel.stores.iter().map(|store| &store.inner));
    let most = inner().map(|inner| inner.len()).max().unwrap_or(0);
    let is_one = |i: usize| inner().filter_map(|inner| inner.get(i)).all(|&n| n == 1);
    let ones: Vec<Axis> = (0..most).filter(|&i| is_one(i)).map(|i| Axis((n_outer + i) as u32)).collect();
    if ones.is_empty() {
        return;
    }
    let without =
        |form: &Affine| form.substitute(|axis| if ones.contains(&axis) { Affine::constant(0) } else { axis.into() });
    // Loads that differ by such an axis alone become one.
    *kernel = with_scalars(kernel, |_, scalar| scalar.map(|id| id, without));
    for store in &mut kernel.stores {
        store.at = store.at.iter().map(|index| index.map(without, |id| id)).collect();
    }
}

/// What is joined.
struct Joints {
    /// For every buffer and dimension, whether it and the next become one.
    dims: Vec<Vec<bool>>,
    /// For every kernel and outer axis, the axis behind it that it becomes one with.
    behind: Vec<Vec<Option<Axis>>>,
}

impl Joints {
    /// All that can be; `None` where that is nothing.
    fn of(draft: &Draft, common: &[Vec<bool>], machine: &Machine) -> Option<Joints> {
        let long = |id: BufferId, dim: usize| draft.buffer(id).info.dims[dim] > 1;
        let mut dims: Vec<Vec<bool>> = draft
            .buffer_ids()
            .map(|id| {
                let common = &common[id.0 as usize];
                let pair = |dim| dim + 1 < common.len() && common[dim] && common[dim + 1];
                (0..common.len()).map(|dim| pair(dim) && long(id, dim) && long(id, dim + 1)).collect()
            })
            .collect();
        if !dims.iter().flatten().any(|&joined| joined) {
            return None;
        }
        let users: Vec<Users> = draft.kernels.iter().map(|kernel| Users::of(kernel.kernel())).collect();
        loop {
            let behind: Vec<Vec<Option<Axis>>> =
                users.iter().zip(&draft.kernels).map(|(users, kernel)| users.behind(kernel.kernel(), &dims)).collect();
            let mut changed = false;
            for ((users, behind), kernel) in users.iter().zip(&behind).zip(&draft.kernels) {
                let is_of_use = is_of_use(draft, kernel.kernel(), behind, machine);
                let become_one = |pair: &[Option<Axis>]| {
                    let next = pair[0].and_then(|axis| behind[axis.0 as usize]);
                    is_of_use && next.is_some() && next == pair[1]
                };
                for access in &users.accesses {
                    let joined = &mut dims[access.buffer.0 as usize];
                    for (joined, pair) in joined.iter_mut().zip(access.axes.windows(2)) {
                        if *joined && !become_one(pair) {
                            *joined = false;
                            changed = true;
                        }
                    }
                }
            }
            if !changed {
                return dims.iter().flatten().any(|&joined| joined).then_some(Joints { dims, behind });
            }
        }
    }
}

impl Users {
    /// For each outer axis, the one that follows it in every access to dimensions that are joined, where all agree.
    fn behind(&self, kernel: &Kernel, dims: &[Vec<bool>]) -> Vec<Option<Axis>> {
        let pairs = |access: &Access| {
            let joined = &dims[access.buffer.0 as usize];
            let pair = |dim: usize| Some((access.axes[dim]?, access.axes[dim + 1]?)).filter(|_| joined[dim]);
            (0..access.axes.len().saturating_sub(1)).filter_map(pair).collect::<Vec<_>>()
        };
        let all: Vec<Vec<(Axis, Axis)>> = self.accesses.iter().map(pairs).collect();
        let one = |axis: Axis| {
            let next = all.iter().flatten().find(|(first, _)| *first == axis)?.1;
            // Wherever one of them is, both are, side by side.
            let agrees = self.accesses.iter().zip(&all).all(|(access, pairs)| {
                let times = |axis: Axis| access.axes.iter().filter(|own| **own == Some(axis)).count();
                match (times(axis), times(next)) {
                    (0, 0) => true,
                    (1, 1) => pairs.contains(&(axis, next)),
                    _ => false,
                }
            });
            (agrees && next > axis).then_some(next)
        };
        (0..kernel.outer.len() as u32).map(|axis| one(Axis(axis))).collect()
    }
}

/// Whether a kernel gains by axes that are joined. A contraction does where they become its long row; else its channels are better
/// innermost, and copies between the two orders go on from row to row.
fn is_of_use(draft: &Draft, kernel: &Kernel, behind: &[Option<Axis>], machine: &Machine) -> bool {
    let joints = behind.iter().flatten().count();
    joints == 0
        || contractions(draft, kernel).iter().all(|contraction| {
            let Some(row) = contraction.activation.first().and_then(|read| read.at.last()?.as_axis()) else {
                return false;
            };
            let length = chain(behind, row).filter_map(|axis| kernel.outer.get(axis.0 as usize)).product();
            chain(behind, row).count() == joints + 1 && is_long_row(draft, kernel, contraction, (row, length), machine)
        })
}

/// An axis and all that become one with it, from the last on.
fn chain(behind: &[Option<Axis>], last: Axis) -> impl Iterator<Item = Axis> {
    let before = |axis: &Axis| behind.iter().position(|next| *next == Some(*axis)).map(|before| Axis(before as u32));
    std::iter::successors(Some(last), before)
}

/// The kernel with axes joined to those behind them, and one index where buffers have one dimension now.
fn joined(kernel: &Kernel, behind: &[Option<Axis>], dims: &[Vec<bool>]) -> Kernel {
    let whole = |buffer: BufferId, at: &[Index]| -> Vec<Index> {
        let kept = at.iter().zip(&dims[buffer.0 as usize]).filter(|(_, joined)| !**joined);
        kept.map(|(index, _)| index.clone()).collect()
    };
    let renamed = |axis: Axis| {
        let dropped = behind.iter().take(axis.0 as usize).flatten().count();
        Axis(axis.0 - dropped as u32)
    };
    let mut result = with_scalars(kernel, |_, scalar| match scalar {
        Scalar::Load { buffer, at, outside } => Scalar::Load { buffer, at: whole(buffer, &at), outside },
        other => other,
    });
    for store in &mut result.stores {
        store.at = whole(store.buffer, &store.at);
    }
    result = with_forms(&result, |form| form.substitute(|axis| Affine::from(renamed(axis))));
    let length = |last: Axis| -> usize { chain(behind, last).map(|axis| kernel.outer[axis.0 as usize]).product() };
    let kept = (0..kernel.outer.len()).filter(|&axis| behind[axis].is_none());
    result.outer = kept.map(|axis| length(Axis(axis as u32))).collect();
    result
}

#[cfg(test)]
mod tests {
    use crate::plan::samples::program;
    use crate::plan::{Machine, PlanOptions, Winograd, plan};
    use fusewright_ir::plan::verify;

    /// The outer axes of the kernels of a plan, and what they are called.
    fn kernels(shape: &str, layers: &str) -> Vec<String> {
        let options = PlanOptions { machine: Machine::AVX512, winograd: Winograd::Never, ..PlanOptions::default() };
        let plan = plan(program(shape, layers, true), &options).unwrap();
        assert_eq!(verify(&plan), Ok(()), "{plan}");
        plan.steps.iter().map(|step| format!("{} {:?}", step.about, step.kernel.outer)).collect()
    }

    #[test]
    fn images_without_windows_are_long_rows() {
        let pointwise = r#"Conv2d(out: 64, kernel_size: 1), Relu"#;
        assert_eq!(kernels("[1, 32, 20, 30]", pointwise), ["Conv2d Relu [1, 64, 600]"]);
        let twice = r#"Conv2d(out: 64, kernel_size: 1), Relu, Conv2d(out: 8, kernel_size: 1)"#;
        assert_eq!(kernels("[2, 32, 20, 30]", twice), ["Conv2d Relu [2, 64, 600]", "Conv2d [2, 8, 600]"]);
        assert_eq!(kernels("[5, 7, 20, 30]", "Relu"), ["Relu [21000]"]);
        assert_eq!(kernels("[5, 7, 9]", "Softmax(dim: -1)"), ["Softmax [35]"]);
    }

    #[test]
    fn small_tiles_gather_rows_that_lie_far_apart() {
        let gathers = |machine: Machine, channels: usize, out: usize, side: usize| {
            let options = PlanOptions { machine, ..PlanOptions::default() };
            let layers = format!("Conv2d(out: {out}, kernel_size: 1), Relu");
            let plan = plan(program(&format!("[1, {channels}, {side}, {side}]"), &layers, true), &options).unwrap();
            assert_eq!(verify(&plan), Ok(()), "{plan}");
            (plan.steps[0].schedule.gather, plan.scratch_bytes)
        };
        assert_eq!(gathers(Machine::AVX2, 256, 64, 56), (true, 256 * 24 * 4));
        assert_eq!(gathers(Machine::AVX512, 256, 64, 56), (false, 0), "a step of its tiles takes long");
        assert_eq!(gathers(Machine::AVX2, 16, 64, 56), (false, 0), "few pages");
        assert_eq!(gathers(Machine::AVX2, 256, 8, 56), (false, 0), "read twice");
    }

    #[test]
    fn windows_keep_rows_apart() {
        let window = r#"Conv2d(out: 64, kernel_size: 1), Conv2d(out: 64, kernel_size: 3)"#;
        assert!(kernels("[1, 32, 20, 30]", window).contains(&"Conv2d [1, 64, 20, 30]".to_string()));
        // Short rows are better along channels.
        assert!(
            kernels("[1, 32, 9, 9]", "Conv2d(out: 64, kernel_size: 1)").contains(&"Conv2d [1, 64, 9, 9]".to_string())
        );
    }
}
