//! The thin slice: LeNet-5 built in Rust, compiled, run, and compared with the reference.

use fusewright::ir::kernel::{Axis, Scalar};
use fusewright::ir::ops::window::{Padding, PerAxis};
use fusewright::ir::ops::{Conv, Dense, Flatten, Map, MaxPool, Op};
use fusewright::ir::plan::Vector;
use fusewright::ir::{Array, GraphBuilder, Tensor, TensorType};
use fusewright::runtime::{Executable, Session, Settings, View, ViewMut};
use std::collections::BTreeMap;
use std::sync::Arc;

fn conv(out: u32, kernel: u32, padding: u32) -> Op {
    Op::Conv(Conv {
        spatial: 2,
        out,
        kernel_size: PerAxis::All(kernel),
        stride: PerAxis::All(1),
        padding: Padding::All(padding),
        dilation: PerAxis::All(1),
        groups: 1,
        bias: true,
        flip_kernel: false,
    })
}

fn pool() -> Op {
    Op::MaxPool(MaxPool {
        spatial: 2,
        kernel_size: PerAxis::All(2),
        stride: None,
        padding: Padding::All(0),
        dilation: PerAxis::All(1),
        ceil_mode: false,
        indices: false,
    })
}

#[test]
fn lenet5_runs() {
    let mut b = GraphBuilder::new();
    let relu = || Op::Map(Map::named("Relu").unwrap());
    let mut x = b.input("image", TensorType::f32([2usize, 1, 28, 28]));
    for (name, op) in [("c1", conv(6, 5, 2)), ("c2", conv(16, 5, 0))] {
        x = b.layer(name, op, &[x]);
        x = b.layer(&format!("{name}.relu"), relu(), &[x]);
        x = b.layer(&format!("{name}.pool"), pool(), &[x]);
    }
    x = b.layer("flatten", Op::Flatten(Flatten { start_dim: 1, end_dim: -1 }), &[x]);
    for (name, out) in [("f1", 120), ("f2", 84), ("f3", 10)] {
        x = b.layer(name, Op::Dense(Dense { out, bias: true }), &[x]);
        if name != "f3" {
            x = b.layer(&format!("{name}.relu"), relu(), &[x]);
        }
    }
    b.output("logits", x);
    let graph = b.finish();

    let mut seed = 1u64;
    let mut random = |n: usize| -> Vec<f32> {
        (0..n)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((seed >> 40) as f32 / 8388608.0 - 1.0) * 0.25
            })
            .collect()
    };
    let mut parameters = BTreeMap::new();
    let mut values: BTreeMap<usize, Vec<Array>> = BTreeMap::new();
    for id in graph.topological() {
        let node = graph.node(id);
        if matches!(node.op, Op::Input(_) | Op::Parameter(_)) {
            let dims = node.types[0].dims().unwrap();
            let tensor = Tensor::from_vec(&dims, random(dims.iter().product()));
            values.insert(id.index(), vec![tensor.to_array()]);
            parameters.insert(node.name.clone(), tensor);
        } else {
            let inputs: Vec<&Array> = node.inputs.iter().map(|v| &values[&v.node.index()][v.port as usize]).collect();
            let outputs = node.op.spec().reference(&inputs, &node.types);
            values.insert(id.index(), outputs);
        }
    }
    let want = &values[&graph.outputs[0].value.node.index()][0];

    let unfused = fusewright::passes::lower::lower(&graph);
    let (fused, decisions) = fusewright::passes::fuse::fuse(unfused.clone());
    assert!(decisions.iter().any(|d| d.fused));
    assert!(fused.kernels.len() < unfused.kernels.len(), "{} kernels", fused.kernels.len());
    for program in [unfused, fused] {
        println!("{:#?}", program.kernels.iter().map(|k| &k.about).collect::<Vec<_>>());
        assert!(program.kernels.iter().all(|k| k.kernel.body.iter().any(|(_, s)| matches!(s, Scalar::Load { .. }))));
        let mut plan = fusewright::passes::plan::plan(program, &Default::default()).unwrap();
        // Vectors along the last outer axis, whatever its strides, in tiles that leave remainders.
        for step in plan.steps.iter_mut().filter(|step| step.kernel.outer.len() >= 2) {
            let n = step.kernel.outer.len() as u32;
            step.schedule.vector = Some(Vector::Outer { axis: Axis(n - 1), lanes: 8 });
            step.schedule.tile = [(Axis(n - 2), 3)].into_iter().collect();
        }
        let settings = Settings { verify: true, ..Settings::default() };
        let executable = Executable::new(plan, settings, |name| parameters.get(name)).unwrap();
        let mut session = Session::new(Arc::new(executable));
        let image = parameters["image"].as_slice::<f32>().unwrap();
        let mut logits = vec![0f32; 20];
        session.run(&[("image", View::F32(image))], &mut [("logits", ViewMut::F32(&mut logits))]).unwrap();
        for (got, want) in logits.iter().zip(&want.data) {
            assert!((f64::from(*got) - want).abs() < 1e-5, "{logits:?} {:?}", want);
        }
    }
}
