//! The planner on whole networks: the results stay right, and layouts, packing and vectors come out as they should.

mod common;

use common::Case;
use fusewright::ir::ops::window::{Padding, PerAxis};
use fusewright::ir::ops::{Conv, Dense, Flatten, Map, MaxPool, Op};
use fusewright::ir::plan::{Plan, Step, Vector};
use fusewright::ir::{GraphBuilder, TensorType, ValueId};

fn conv(out: u32, kernel: u32, stride: u32, padding: u32, groups: u32) -> Op {
    Op::Conv(Conv {
        spatial: 2,
        out,
        kernel_size: PerAxis::All(kernel),
        stride: PerAxis::All(stride),
        padding: Padding::All(padding),
        dilation: PerAxis::All(1),
        groups,
        bias: true,
        flip_kernel: false,
    })
}

fn pool(kernel: u32, stride: u32, padding: u32) -> Op {
    Op::MaxPool(MaxPool {
        spatial: 2,
        kernel_size: PerAxis::All(kernel),
        stride: Some(PerAxis::All(stride)),
        padding: Padding::All(padding),
        dilation: PerAxis::All(1),
        ceil_mode: false,
    })
}

fn map(name: &str) -> Op {
    Op::Map(Map::named(name).unwrap())
}

fn dense(out: u32) -> Op {
    Op::Dense(Dense { out, bias: true })
}

fn flatten() -> Op {
    Op::Flatten(Flatten { start_dim: 1, end_dim: -1 })
}

fn lenet() -> Case {
    let mut b = GraphBuilder::new();
    let mut x = b.input("image", TensorType::f32([2usize, 1, 28, 28]));
    for (name, op) in [("c1", conv(6, 5, 1, 2, 1)), ("c2", conv(16, 5, 1, 0, 1))] {
        x = b.layer(name, op, &[x]);
        x = b.layer("relu", map("Relu"), &[x]);
        x = b.layer("pool", pool(2, 2, 0), &[x]);
    }
    x = b.layer("flatten", flatten(), &[x]);
    for (name, out) in [("f1", 120), ("f2", 84), ("f3", 10)] {
        x = b.layer(name, dense(out), &[x]);
        if name != "f3" {
            x = b.layer("relu", map("Relu"), &[x]);
        }
    }
    b.output("logits", x);
    Case::new(b.finish())
}

/// A residual block; the first convolution has its weights scaled, as behind batch normalisation.
fn block(b: &mut GraphBuilder, name: &str, x: ValueId, channels: u32, stride: u32) -> ValueId {
    let y = b.layer(&format!("{name}.c1"), conv(channels, 3, stride, 1, 1), &[x]);
    let y = b.layer(&format!("{name}.r1"), map("Relu"), &[y]);
    let y = b.layer(&format!("{name}.c2"), conv(channels, 3, 1, 1, 1), &[y]);
    let x = if stride == 1 { x } else { b.layer(&format!("{name}.down"), conv(channels, 1, stride, 0, 1), &[x]) };
    let y = b.layer(&format!("{name}.add"), map("Add"), &[y, x]);
    b.layer(&format!("{name}.r2"), map("Relu"), &[y])
}

fn resnet() -> Case {
    let mut b = GraphBuilder::new();
    let x = b.input("image", TensorType::f32([2usize, 3, 33, 31]));
    let x = b.layer("stem", conv(16, 7, 2, 3, 1), &[x]);
    let x = b.layer("relu", map("Relu"), &[x]);
    let x = b.layer("pool", pool(3, 2, 1), &[x]);
    let x = block(&mut b, "b1", x, 16, 1);
    let x = block(&mut b, "b2", x, 24, 2);
    let x = b.layer("flatten", flatten(), &[x]);
    let x = b.layer("head", dense(10), &[x]);
    b.output("logits", x);
    Case::new(b.finish())
}

/// Groups, depthwise windows, dilation and backward kernels; the result is an image, and so is another one beside it.
fn odd_convolutions() -> Case {
    let mut b = GraphBuilder::new();
    let x = b.input("image", TensorType::f32([1usize, 8, 11, 13]));
    let grouped = b.layer("grouped", conv(12, 3, 1, 1, 4), &[x]);
    let depthwise = b.layer("depthwise", conv(12, 3, 1, 1, 12), &[grouped]);
    let Op::Conv(plain) = conv(9, 3, 1, 2, 1) else { unreachable!() };
    let wide = Conv { dilation: PerAxis::All(2), flip_kernel: true, ..plain };
    let wide = b.layer("wide", Op::Conv(wide), &[depthwise]);
    let last = b.layer("last", map("Relu"), &[wide]);
    b.output("image", last);
    b.output("depthwise", depthwise);
    Case::new(b.finish())
}

fn check(case: &Case) -> Plan {
    case.check(false, &Default::default());
    case.check(true, &Default::default())
}

fn step<'p>(plan: &'p Plan, node: &str) -> &'p Step {
    plan.steps.iter().find(|step| step.nodes.iter().any(|name| name == node)).expect("the step exists")
}

#[test]
fn lenet_is_right() {
    let plan = check(&lenet());
    assert!(plan.steps.iter().any(|step| matches!(step.schedule.vector, Some(Vector::Outer { .. }))));
}

#[test]
fn residual_networks_are_channels_last_and_vectors_run_over_channels() {
    let plan = check(&resnet());
    for name in ["stem", "b1.c2", "b2.c1", "b2.down"] {
        let step = step(&plan, name);
        let output = plan.buffer(step.kernel.writes()[0]);
        assert_eq!(output.layout.order.as_slice(), [0, 2, 3, 1], "{name}: {output:?}");
        let Some(Vector::Outer { axis, .. }) = step.schedule.vector else { panic!("{name}: {:?}", step.schedule) };
        assert_eq!(step.kernel.outer[axis.0 as usize], output.dims[1], "{name}");
    }
}

#[test]
fn odd_convolutions_are_right() {
    check(&odd_convolutions());
}
