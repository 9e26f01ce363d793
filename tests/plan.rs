//! The planner on whole networks: emitted code gives what the reference gives, for every plan.

mod common;

use common::Case;
use fusewright::passes::plan::{Machine, PlanOptions, Winograd, plan};

/// Fused and not, for vectors of several widths.
fn check(text: &str) {
    let case = Case::parse(text);
    for machine in [Machine::PORTABLE, Machine::AVX512] {
        let options = PlanOptions { machine, ..PlanOptions::default() };
        case.check(false, &options);
        case.check(true, &options);
    }
}

#[test]
fn lenet() {
    check(include_str!("networks/lenet.ron"));
}

#[test]
fn residual_network() {
    check(include_str!("networks/resnet.ron"));
}

#[test]
fn groups_dilation_and_backward_kernels() {
    check(include_str!("networks/odd_convolutions.ron"));
}

#[test]
fn windows_far_beyond_the_edges() {
    check(include_str!("networks/atrous.ron"));
}

#[test]
fn branches_with_other_padding() {
    check(include_str!("networks/inception.ron"));
}

#[test]
fn transformer() {
    check(include_str!("networks/transformer.ron"));
}

/// The largest error and the root of the mean square, against the reference in f64.
fn errors(case: &Case, winograd: Winograd) -> (f64, f64) {
    let options = PlanOptions { winograd, ..PlanOptions::default() };
    let [_, outputs] = case.run(&plan(case.program(true), &options).unwrap());
    let differences: Vec<f64> =
        outputs[0].iter().zip(&case.wanted[0].data).map(|(&got, wanted)| (f64::from(got) - wanted).abs()).collect();
    let largest = differences.iter().copied().fold(0.0, f64::max);
    let squares: f64 = differences.iter().map(|x| x * x).sum();
    (largest, (squares / differences.len() as f64).sqrt())
}

#[test]
fn transforms_are_about_as_accurate_as_sums() {
    for (channels, out, size, taps, stride) in [
        (16, 16, 24, 3, 1),
        (64, 64, 20, 3, 1),
        (256, 256, 8, 3, 1),
        (32, 32, 20, 5, 1),
        (3, 64, 40, 7, 2),
        (64, 32, 24, 5, 2),
    ] {
        let case = Case::parse(&format!(
            "(fusewright: 1, inputs: [(name: \"x\", shape: [1, {channels}, {size}, {size}])],
              layers: [Conv2d(out: {out}, kernel_size: {taps}, stride: {stride}, padding: {})])",
            taps / 2
        ));
        let direct = errors(&case, Winograd::Never);
        let choices: &[usize] = if taps == 3 { &[4, 6] } else { &[6] };
        for &points in choices {
            let transformed = errors(&case, Winograd::Always { points: [points; 2], rows: Some(2) });
            println!(
                "{channels} channels, {taps}x{taps} by {stride}, {points} points: largest {:.2e} (sums {:.2e}), mean square {:.2e} \
                 (sums {:.2e})",
                transformed.0, direct.0, transformed.1, direct.1
            );
            assert!(transformed.1 <= 4.0 * direct.1, "{channels} channels, {points} points: {transformed:?}");
        }
    }
}
