//! The planner on whole networks: every plan holds what it must and evaluates to what the reference gives, and layouts,
//! halos, packing, vectors and memory come out as they should.

use fusewright_ir::graph::Graph;
use fusewright_ir::ops::Op;
use fusewright_ir::plan::{Place, Plan, Step, Vector, evaluate, verify};
use fusewright_ir::{Array, Data, Model};
use fusewright_passes::fuse::fuse;
use fusewright_passes::lower::lower;
use fusewright_passes::plan::{Machine, PlanOptions, Winograd, plan};
use std::collections::BTreeMap;

/// Values of the sources of a graph by name, and of its outputs.
fn reference(graph: &Graph) -> (BTreeMap<String, Array>, BTreeMap<String, Array>) {
    let mut seed = 1u64;
    let mut random = |bound: f64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((seed >> 40) as f64 / 8388608.0 - 1.0) * bound
    };
    let mut given = BTreeMap::new();
    let mut values: BTreeMap<usize, Vec<Array>> = BTreeMap::new();
    for id in graph.topological() {
        let node = graph.node(id);
        let outputs = if matches!(node.op, Op::Input(_) | Op::Parameter(_)) {
            let dims = node.types[0].dims().unwrap();
            let fan_in: usize = dims.iter().skip(1).product();
            let bound = if matches!(node.op, Op::Input(_)) { 1.0 } else { (3.0 / fan_in as f64).sqrt() };
            // Running variances are positive.
            let shift = if node.name.ends_with("running_var") { 2.0 } else { 0.0 };
            let data = Data::from_f64(node.types[0].dtype, &Array::from_fn(&dims, |_| random(bound) + shift).data);
            let array = Array { dims, data: data.to_f64() };
            given.insert(node.name.clone(), array.clone());
            vec![array]
        } else {
            let inputs: Vec<&Array> = node.inputs.iter().map(|v| &values[&v.node.index()][v.port as usize]).collect();
            node.op.spec().reference(&inputs, &node.types)
        };
        values.insert(id.index(), outputs);
    }
    let output = |value: fusewright_ir::ValueId| values[&value.node.index()][value.port as usize].clone();
    (given, graph.outputs.iter().map(|named| (named.name.clone(), output(named.value))).collect())
}

/// Fused and not, for several machines; the plan of the fused kernels for the portable one, without transforms.
fn check(text: &str) -> Plan {
    let model = Model::parse("case.ron", text).unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut graph = model.graph;
    let (given, wanted) = reference(&graph);
    fusewright_passes::pipeline::run(&mut graph, &mut |_, _, _| {});
    let program = lower(&graph);
    let fused = fuse(program.clone()).0;
    let wide = PlanOptions { machine: Machine::AVX512, ..PlanOptions::default() };
    let direct = PlanOptions { winograd: Winograd::Never, ..PlanOptions::default() };
    let mut last = Plan::default();
    for (program, options) in [(program, PlanOptions::default()), (fused.clone(), wide), (fused, direct)] {
        let plan = plan(program, &options).expect("no limit");
        assert_eq!(verify(&plan), Ok(()), "{plan}");
        let outputs = evaluate(&plan, &given).unwrap_or_else(|fault| panic!("{fault}\n{plan}"));
        for (name, wanted) in &wanted {
            let scale = wanted.data.iter().fold(1.0f64, |most, x| most.max(x.abs()));
            for (i, (got, wanted)) in outputs[name].data.iter().zip(&wanted.data).enumerate() {
                assert!((got - wanted).abs() <= 1e-5 * scale, "{name}: expected {wanted} at {i}, found {got}\n{plan}");
            }
        }
        last = plan;
    }
    println!("{last}");
    last
}

fn step<'p>(plan: &'p Plan, node: &str) -> &'p Step {
    let mut steps = plan.steps.iter().filter(|step| step.about != "layout" && step.about != "halo");
    let is_named = |name: &String| name == node || name.starts_with(&format!("{node}."));
    steps.find(|step| step.nodes.iter().any(is_named)).expect("the step exists")
}

#[test]
fn lenet_is_right() {
    let plan = check(include_str!("../../tests/networks/lenet.ron"));
    assert!(plan.arena_bytes < plan.unplanned_bytes, "memory is used again");
}

#[test]
fn residual_networks_are_channels_last_and_vectors_run_over_channels() {
    let plan = check(include_str!("../../tests/networks/resnet.ron"));
    for name in ["stem", "b1.c2", "b2.c1", "b2.down"] {
        let step = step(&plan, name);
        let output = plan.buffer(step.kernel.writes()[0]);
        assert_eq!(output.layout.order.as_slice(), [0, 2, 3, 1], "{name}: {output:?}");
        let Some(Vector::Outer { axis, .. }) = step.schedule.vector else { panic!("{name}: {:?}", step.schedule) };
        assert_eq!(step.kernel.outer[axis.0 as usize], output.dims[1], "{name}");
    }
    let is_source = |place: &Place| matches!(place, Place::Parameter(_));
    let weights = plan.buffers.iter().filter(|buffer| buffer.name.ends_with("weight") && buffer.dims.len() == 4);
    assert!(weights.clone().count() >= 6 && weights.clone().all(|buffer| is_source(&buffer.place)), "{plan}");
}

#[test]
fn odd_convolutions_are_right() {
    check(include_str!("../../tests/networks/odd_convolutions.ron"));
}

#[test]
fn windows_far_beyond_the_edges_are_right() {
    let plan = check(include_str!("../../tests/networks/atrous.ron"));
    let halos = plan.buffers.iter().filter(|buffer| !buffer.layout.halo.is_empty() && buffer.place != Place::Unused);
    assert_eq!(halos.count(), 0, "most of what they would read there is padding: {plan}");
    assert!(plan.steps.iter().all(|step| step.schedule.vector.is_some()), "{plan}");
}

#[test]
fn branches_with_other_padding_are_right() {
    check(include_str!("../../tests/networks/inception.ron"));
}

#[test]
fn transformers_keep_their_order() {
    let plan = check(include_str!("../../tests/networks/transformer.ron"));
    for buffer in plan.buffers.iter().filter(|buffer| matches!(buffer.place, Place::Arena(_))) {
        let packed = buffer.name.ends_with(".packed");
        assert!(buffer.layout.is_row_major() || packed, "{}: {}", buffer.name, buffer.layout);
    }
    assert!(plan.steps.iter().all(|step| step.schedule.vector.is_some()), "{plan}");
    // Queries meet every key: the keys are packed for vectors along them.
    assert_eq!(plan.steps.iter().filter(|step| step.about == "pack").count(), 1, "{plan}");
}
