//! The planner on whole networks: emitted code gives what the reference gives, for every plan.

mod common;

use common::Case;
use fusewright::passes::plan::{Machine, PlanOptions};

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
fn branches_with_other_padding() {
    check(include_str!("networks/inception.ron"));
}

#[test]
fn transformer() {
    check(include_str!("networks/transformer.ron"));
}
