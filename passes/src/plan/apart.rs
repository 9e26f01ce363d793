//! Planes of a buffer that are written, or read, together lie in different sets of a cache.
//!
//! A transform stores an element of every point at once, each in a plane of its own. A first-level cache has 64 sets of lines,
//! found by the address modulo 4 KiB: were the planes a multiple of that apart, all stores would meet in one set and drive each
//! other out of it. Rows that nobody uses, or a few elements behind each, keep them apart.

use super::draft::Draft;
use fusewright_ir::kernel::BufferId;
use fusewright_ir::plan::Layout;
use std::collections::BTreeMap;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Sets of a first-level cache, a power of two.
const SETS: usize = 64;

/// As many planes as this in one set are too many.
const WAYS: usize = 8;

/// Widens the layouts of buffers whose planes would meet.
pub fn all(draft: &mut Draft) {
    for (id, (dim, planes)) in planes(draft) {
        let buffer = draft.buffer(id);
        let (dims, layout) = (&buffer.info.dims, &buffer.layout);
        let element = buffer.info.dtype.bytes();
        if !buffer.is_free() || !layout.halo.is_empty() || layout.block.is_some() || layout.order.len() < 2 {
            continue;
        }
        let meeting = |layout: &Layout| {
            let lines = (layout.strides(dims)[dim] * element / LINE).max(1);
            // Planes fall into as many sets as the distance leaves.
            planes.div_ceil(SETS / gcd(lines, SETS))
        };
        if meeting(layout) <= WAYS {
            continue;
        }
        let (inner, row) = (layout.order[layout.order.len() - 1], layout.order[layout.order.len() - 2]);
        let widened = [(1, 0), (0, LINE / element), (1, LINE / element)].map(|(rows, elements)| {
            let mut halo = vec![(0, 0); dims.len()];
            halo[usize::from(row)].1 = rows;
            halo[usize::from(inner)].1 = elements as u32;
            Layout { halo, ..layout.clone() }
        });
        let best =
            widened.into_iter().min_by_key(|layout| meeting(layout)).filter(|best| meeting(best) < meeting(layout));
        if let Some(best) = best.filter(|_| usize::from(row) != dim && usize::from(inner) != dim) {
            draft.buffer_mut(id).layout = best;
        }
    }
}

/// For each buffer that some kernel without folds stores in many pieces: the dimension along which they are apart, and their
/// number.
fn planes(draft: &Draft) -> BTreeMap<BufferId, (usize, usize)> {
    let mut found = BTreeMap::new();
    for kernel in draft.kernels.iter().filter(|kernel| !kernel.once).map(|kernel| kernel.kernel()) {
        if !kernel.folds.is_empty() {
            continue;
        }
        for id in kernel.writes() {
            let stores: Vec<_> = kernel.stores.iter().filter(|store| store.buffer == id).collect();
            let differs = |dim: &usize| stores[1..].iter().all(|store| store.at[*dim] != stores[0].at[*dim]);
            if stores.len() > WAYS
                && let Some(dim) = (0..stores[0].at.len()).find(differs)
            {
                found.insert(id, (dim, stores.len()));
            }
        }
    }
    found
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use crate::plan::samples::program;
    use crate::plan::{Machine, PlanOptions, Winograd, plan};
    use fusewright_ir::plan::verify;

    #[test]
    fn planes_of_transforms_do_not_meet_in_a_cache() {
        let winograd = Winograd::Always { points: [6, 6], rows: None };
        let options = PlanOptions { machine: Machine::AVX512, winograd, ..PlanOptions::default() };
        for (shape, out) in [("[1, 256, 14, 14]", 256), ("[1, 512, 7, 7]", 512), ("[1, 64, 16, 16]", 64)] {
            let layer = format!("Conv2d(out: {out}, kernel_size: 3, padding: 1)");
            let plan = plan(program(shape, &layer, true), &options).unwrap();
            assert_eq!(verify(&plan), Ok(()));
            let inputs = plan.buffers.iter().find(|buffer| buffer.name.ends_with(".inputs")).unwrap();
            let points = inputs.dims.iter().position(|&n| n == 36).unwrap();
            let lines = inputs.layout.strides(&inputs.dims)[points] * 4 / 64;
            assert!(!lines.is_multiple_of(8), "{shape}: planes are {lines} lines apart");
        }
    }
}
