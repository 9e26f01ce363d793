//! Networks with random parameters, run through the reference and through emitted code.

use fusewright::ir::graph::Graph;
use fusewright::ir::kernel::Program;
use fusewright::ir::ops::Op;
use fusewright::ir::plan::{Plan, verify};
use fusewright::ir::{Array, Model, Tensor};
use fusewright::passes::plan::{PlanOptions, plan};
use fusewright::runtime::{Executable, Session, Settings, View, ViewMut};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Random values for the sources of a graph, and what the reference makes of them.
pub struct Case {
    graph: Graph,
    given: BTreeMap<String, Tensor>,
    /// What the reference makes of them, output by output.
    pub wanted: Vec<Array>,
}

impl Case {
    /// The network of a model in RON, after the passes over graphs.
    pub fn parse(text: &str) -> Case {
        let model = Model::parse("case.ron", text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
        let mut graph = model.graph;
        fusewright::passes::pipeline::run(&mut graph, &mut |_, _, _| {});
        Case::new(graph)
    }

    /// Runs the reference.
    pub fn new(graph: Graph) -> Case {
        let mut seed = 1u64;
        let mut random = |n: usize, bound: f64| -> Vec<f32> {
            let mut next = || {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 40) as f64 / 8388608.0 - 1.0
            };
            (0..n).map(|_| (next() * bound) as f32).collect()
        };
        let mut given = BTreeMap::new();
        let mut values: BTreeMap<usize, Vec<Array>> = BTreeMap::new();
        for id in graph.topological() {
            let node = graph.node(id);
            if matches!(node.op, Op::Input(_) | Op::Parameter(_)) {
                let dims = node.types[0].dims().unwrap();
                let fan_in: usize = dims.iter().skip(1).product();
                let bound = if matches!(node.op, Op::Input(_)) { 1.0 } else { (3.0 / fan_in as f64).sqrt() };
                let mut elements = random(dims.iter().product(), bound);
                // A variance is positive.
                if node.name.ends_with("running_var") {
                    elements.iter_mut().for_each(|x| *x = x.abs() + 0.5);
                }
                let tensor = Tensor::from_vec(&dims, elements);
                values.insert(id.index(), vec![tensor.to_array()]);
                given.insert(node.name.clone(), tensor);
            } else {
                let inputs: Vec<&Array> =
                    node.inputs.iter().map(|v| &values[&v.node.index()][v.port as usize]).collect();
                values.insert(id.index(), node.op.spec().reference(&inputs, &node.types));
            }
        }
        let output = |value: fusewright::ir::ValueId| values[&value.node.index()][value.port as usize].clone();
        let wanted = graph.outputs.iter().map(|named| output(named.value)).collect();
        Case { graph, given, wanted }
    }

    /// The kernels, fused or not.
    pub fn program(&self, fused: bool) -> Program {
        let program = fusewright::passes::lower::lower(&self.graph);
        if fused { fusewright::passes::fuse::fuse(program).0 } else { program }
    }

    /// Plans, compiles and runs twice, and compares all outputs of both runs with the reference.
    pub fn check(&self, fused: bool, options: &PlanOptions) -> Plan {
        let plan = plan(self.program(fused), options).unwrap();
        assert_eq!(verify(&plan), Ok(()), "{plan}");
        for (run, outputs) in self.run(&plan).iter().enumerate() {
            for ((port, got), wanted) in plan.outputs.iter().zip(outputs).zip(&self.wanted) {
                let got: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
                compare(&format!("run {} of {}", run + 1, port.name), &got, &wanted.data);
            }
        }
        plan
    }

    /// The outputs of two runs of a plan.
    pub fn run(&self, plan: &Plan) -> [Vec<Vec<f32>>; 2] {
        let settings = Settings { verify: true, ..Settings::default() };
        let executable = Executable::new(plan.clone(), settings, |name| self.given.get(name)).unwrap();
        let mut session = Session::new(Arc::new(executable));
        let inputs: Vec<(&str, View)> = plan
            .inputs
            .iter()
            .map(|port| (port.name.as_str(), View::F32(self.given[port.name.as_str()].as_slice().unwrap())))
            .collect();
        [(); 2].map(|()| {
            let mut got: Vec<Vec<f32>> = self.wanted.iter().map(|array| vec![f32::NAN; array.data.len()]).collect();
            let mut outputs: Vec<(&str, ViewMut)> = plan
                .outputs
                .iter()
                .zip(&mut got)
                .map(|(port, data)| (port.name.as_str(), ViewMut::F32(data)))
                .collect();
            session.run(&inputs, &mut outputs).unwrap();
            got
        })
    }
}

fn compare(what: &str, got: &[f64], wanted: &[f64]) {
    let scale = wanted.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    for (i, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
        assert!((got - wanted).abs() <= 1e-5 * scale, "{what}: expected {wanted} at {i}, found {got}");
    }
}
