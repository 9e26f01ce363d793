//! Whether products with padding are left out of a sum: of what a window reads at the edges of a small image much is 0, and tiles that
//! are told apart by where they lie multiply only with what is there.

use super::draft::{Draft, DraftKernel};
use super::machine::Machine;
use super::schedule::schedule;
use fusewright_ir::kernel::{Affine, Axis, BinaryOp, FoldKind, Literal, Scalar};
use fusewright_ir::plan::Vector;
use fusewright_ir::plan::access::{Part, Read, plain};

/// From this part of all products on, leaving them out is worth the code of the tiles at the edges, which take points along one axis.
const WORTH_TELLING: f64 = 0.2;

/// Whether it is worth to leave the others out where this part of all products is with what an image holds.
pub fn is_worth_leaving_out(inside: f64) -> bool {
    inside <= 1.0 - WORTH_TELLING
}

/// More places than this are not counted: windows that go far beyond the edges are few and small.
const MOST_PLACES: usize = 1 << 16;

/// The part of all points over `extents` at which an index, without a divisor, is within `0..length`.
pub fn part_inside(form: &Affine, extents: &[usize], length: usize) -> f64 {
    let moves = || form.terms.iter().filter(|(axis, _)| extents[axis.0 as usize] > 1);
    let points: usize = moves().fold(1, |n, (axis, _)| n.saturating_mul(extents[axis.0 as usize]));
    if points > MOST_PLACES || points == 0 {
        return 1.0;
    }
    let mut places = vec![form.offset];
    for &(axis, step) in moves() {
        let steps = 0..extents[axis.0 as usize] as i64;
        places = places.iter().flat_map(|&place| steps.clone().map(move |i| place + i * step)).collect();
    }
    let inside = places.iter().filter(|&place| (0..length as i64).contains(place)).count();
    inside as f64 / points as f64
}

/// Whether a load of a kernel is better done without a halo around its buffer: it is a factor of a sum of products, and tiles that lie
/// at the edges are told apart in the kernel's schedule.
pub fn is_left_out(draft: &Draft, kernel: &DraftKernel, read: &Read, machine: &Machine) -> bool {
    let (Part::Fold(fold), Some(Literal::F32(0))) = (read.part, read.outside) else { return false };
    let fold = &kernel.kernel().folds[fold];
    let Scalar::Binary(BinaryOp::Mul, a, b) = *kernel.kernel().body.get(fold.value) else { return false };
    let is_sum = fold.kind == FoldKind::Sum && [a, b].contains(&read.id);
    // All lanes of a vector are multiplied.
    let inside = |lane: Option<Axis>| -> f64 {
        let dims = read.at.iter().zip(&draft.buffer(read.buffer).info.dims);
        let told = |form: &&Affine| lane.is_none_or(|lane| form.coefficient(lane) == 0);
        let parts = dims.filter_map(|(index, &length)| {
            plain(index).filter(told).map(|form| part_inside(form, &read.extents, length))
        });
        parts.product()
    };
    let lane = || match schedule(draft, kernel, machine).vector {
        Some(Vector::Outer { axis, .. }) => Some(axis),
        _ => None,
    };
    is_sum && is_worth_leaving_out(inside(None)) && lane().is_some_and(|lane| is_worth_leaving_out(inside(Some(lane))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_within_an_image_are_counted() {
        // Five taps around each of ten places, two of padding: 1 + 2 are outside at either end.
        let form = Affine::from(Axis(0)) + Affine::from(Axis(1)) + -2;
        assert_eq!(part_inside(&form, &[10, 5], 10), 44.0 / 50.0);
        // Against the image, for each place of what it was made of.
        let form = Affine::from(Axis(0)) + Affine::from(Axis(1)) * -1;
        assert_eq!(part_inside(&form, &[14, 5], 10), 50.0 / 70.0);
        assert_eq!(part_inside(&form, &[1 << 20, 5], 1 << 20), 1.0, "not counted");
    }
}
