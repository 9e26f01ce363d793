//! Gradients of every operation: against finite differences of the reference evaluator, by the identity
//! `<J v, u> = <v, J' u>`, once more of the gradients themselves, and as kernels.

#[path = "../../ir/tests/support/cases.rs"]
mod cases;
#[allow(dead_code, reason = "shared with the tests of operations")]
#[path = "../../ir/tests/support/mod.rs"]
mod support;

use cases::{Case, Random, cases};
use fusewright_ir::evaluate::evaluate;
use fusewright_ir::kernel::{self, Role};
use fusewright_ir::ops::{LAYERS, Map, Reduce, Reduction};
use fusewright_ir::tensor::{Array, TensorType};
use fusewright_ir::{Graph, GraphBuilder, ValueId};
use fusewright_passes::differentiate::differentiate;
use fusewright_passes::lower::lower;
use std::collections::BTreeMap;

/// Layers whose values are whole numbers or truth values, or are made of them alone.
const WITHOUT: &[&str] = &[
    "And",
    "ArgMax",
    "ArgMin",
    "Equal",
    "Greater",
    "GreaterEqual",
    "Less",
    "LessEqual",
    "Not",
    "NotEqual",
    "Or",
    "Xor",
];

/// Layers whose gradient is 0 wherever there is one.
const FLAT: &[&str] = &["Ceil", "Floor", "Round", "Sign", "Trunc"];

/// A function of floats: what it is differentiated by, and its results.
struct Function {
    graph: Graph,
    /// Names of float inputs and parameters.
    by: Vec<String>,
    given: BTreeMap<String, Array>,
}

/// The sum of all float outputs of a case, each element times that of an input; `None` where there are no floats.
fn weighted(case: &Case, random: &mut Random) -> Option<Function> {
    let mut build = GraphBuilder::new();
    let inputs: Vec<ValueId> =
        case.inputs.iter().enumerate().map(|(i, ty)| build.input(&format!("x{i}"), ty.clone())).collect();
    let layer = build.layer("layer", case.op.clone(), &inputs).node;
    let node = build.graph().node(layer).clone();
    let mut given = BTreeMap::new();
    let mut by = Vec::new();
    for (i, operand) in node.inputs.iter().enumerate() {
        let (name, ty) = (build.graph().value_name(*operand), build.graph().value_type(*operand).clone());
        given.insert(name.clone(), random.array(&ty, case.ranges.get(&i), false));
        // Weights of classes have no gradient.
        let class_weights = i == 2 && ["CrossEntropyLoss", "NLLLoss"].contains(&case.op.spec().name());
        if ty.dtype.is_float() && !class_weights {
            by.push(name);
        }
    }
    let floats: Vec<u32> =
        (0..node.types.len() as u32).filter(|&port| node.types[port as usize].dtype.is_float()).collect();
    if by.is_empty() || floats.is_empty() {
        return None;
    }
    let mut total = None;
    for port in floats {
        let ty = node.types[port as usize].clone();
        let weight = build.input(&format!("u{port}"), ty.clone());
        given.insert(format!("u{port}"), random.array(&ty, None, false));
        let product = build.node("product", map("Mul"), &[ValueId { node: layer, port }, weight]);
        let sum = build.node("sum", Reduce::over(Reduction::Sum, [], false).into(), &[product]);
        total = Some(match total {
            None => sum,
            Some(total) => build.node("total", map("Add"), &[total, sum]),
        });
    }
    build.output("loss", total?);
    Some(Function { graph: build.finish(), by, given })
}

fn map(name: &str) -> fusewright_ir::ops::Op {
    Map::named(name).unwrap().into()
}

impl Function {
    fn value(&self, given: &BTreeMap<String, Array>) -> f64 {
        evaluate(&self.graph, given).iter().find(|(name, _)| name == "loss").unwrap().1.data[0]
    }

    /// The same with the gradients of the loss as outputs `d name`.
    fn differentiated(&self) -> Function {
        let graph = self.graph.clone();
        let by: Vec<ValueId> = self.by.iter().map(|name| graph.find(name).unwrap().into()).collect();
        let loss = graph.outputs[0].value;
        let (mut graph, gradients) = differentiate(graph, loss, None, &by).unwrap_or_else(|e| panic!("{e:?}"));
        fusewright_ir::verify(&graph).unwrap_or_else(|e| panic!("{e:?}"));
        for (name, value) in self.by.iter().zip(gradients) {
            graph.outputs.push(fusewright_ir::Output { name: format!("d {name}"), value, is_update: false });
        }
        Function { graph, by: self.by.clone(), given: self.given.clone() }
    }

    /// The scalar that the gradients make, each element times a number; differentiable once more.
    fn of_gradients(&self, random: &mut Random) -> Function {
        let differentiated = self.differentiated();
        let outputs = differentiated.graph.outputs.clone();
        let mut given = self.given.clone();
        let mut by = self.by.clone();
        by.extend(self.given.keys().filter(|name| name.starts_with('u')).cloned());
        let mut build = GraphBuilder::on(differentiated.graph);
        let mut total: Option<ValueId> = None;
        for output in outputs.iter().filter(|output| output.name.starts_with("d ")) {
            let ty = build.graph().value_type(output.value).clone();
            let name = format!("w {}", output.name);
            let weight = build.input(&name, ty.clone());
            given.insert(name, random.array(&ty, None, false));
            let product = build.node("product", map("Mul"), &[output.value, weight]);
            let sum = build.node("sum", Reduce::over(Reduction::Sum, [], false).into(), &[product]);
            total = Some(match total {
                None => sum,
                Some(total) => build.node("total", map("Add"), &[total, sum]),
            });
        }
        let mut graph = build.finish();
        graph.outputs.clear();
        graph.outputs.push(fusewright_ir::Output { name: "loss".into(), value: total.unwrap(), is_update: false });
        // What the second gradient cannot be by, since it does not depend on it.
        by.retain(|name| {
            differentiate(graph.clone(), total.unwrap(), None, &[graph.find(name).unwrap().into()]).is_ok()
        });
        Function { graph, by, given }
    }

    /// # Errors
    /// The first element that differs from what differences say.
    fn check(&self, random: &mut Random) -> Result<(), String> {
        let differentiated = self.differentiated();
        let results: BTreeMap<String, Array> = evaluate(&differentiated.graph, &self.given).into_iter().collect();
        let step = 1e-6;
        let moved = |by: f64, direction: &BTreeMap<String, Array>| {
            let mut given = self.given.clone();
            for (name, direction) in direction {
                let array = given.get_mut(name).unwrap();
                array.data.iter_mut().zip(&direction.data).for_each(|(x, v)| *x += by * v);
            }
            self.value(&given)
        };
        let difference = |direction: &BTreeMap<String, Array>| {
            let (above, below) = (moved(step, direction), moved(-step, direction));
            ((above - below) / (2.0 * step), above.abs().max(below.abs()))
        };
        let mut along = BTreeMap::new();
        for name in &self.by {
            let (array, gradient) = (&self.given[name], &results[&format!("d {name}")]);
            if array.dims != gradient.dims {
                return Err(format!("the gradient by {name} has axes {:?}", gradient.dims));
            }
            let n = array.data.len() as u64;
            for k in 0..n.min(6) {
                let i = if n <= 6 { k } else { random.below(n) } as usize;
                let mut unit = Array { dims: array.dims.clone(), data: vec![0.0; array.data.len()] };
                unit.data[i] = 1.0;
                let (expected, size) = difference(&BTreeMap::from([(name.clone(), unit)]));
                let found = gradient.data[i];
                let allowed = 2e-6 * (1.0 + found.abs() + 1e-3 * size);
                if (found - expected).abs() > allowed {
                    return Err(format!("by {name}[{i}]: {found:e}, the difference is {expected:e}"));
                }
            }
            along.insert(name.clone(), random.array(&TensorType::f32(array.dims.iter().copied()), None, false));
        }
        let (expected, size) = difference(&along);
        let products = self.by.iter().map(|name| {
            let pairs = along[name].data.iter().zip(&results[&format!("d {name}")].data);
            pairs.map(|(v, gradient)| v * gradient)
        });
        let parts: Vec<f64> = products.flatten().collect();
        let (found, magnitude) = (parts.iter().sum::<f64>(), parts.iter().map(|part| part.abs()).sum::<f64>());
        if (found - expected).abs() > 2e-6 * (1.0 + magnitude + 1e-3 * size) {
            return Err(format!("<J v, u> is {expected:e}, <v, J' u> is {found:e}"));
        }
        Ok(())
    }

    /// # Errors
    /// The first element of a gradient that its kernels compute differently.
    fn check_kernels(&self) -> Result<(), String> {
        let graph = self.differentiated().graph;
        let program = lower(&graph);
        kernel::verify(&program).map_err(|faults| faults.join("; "))?;
        let given = program
            .buffer_ids()
            .filter(|(_, info)| matches!(info.role, Role::Input | Role::Parameter))
            .map(|(id, info)| (id, self.given[&info.name].clone()))
            .collect();
        let found = kernel::evaluate(&program, &given).map_err(|fault| fault.to_string())?;
        for ((name, expected), (_, buffer)) in evaluate(&graph, &self.given).iter().zip(&program.outputs) {
            let (values, bounds) = (found.array(*buffer), found.errors(*buffer).to_vec());
            for (i, (&a, &b)) in expected.data.iter().zip(&values.data).enumerate() {
                let close = (a - b).abs() <= 2.0 * bounds[i] + 1e-7 * a.abs();
                if !(close || a == b || a.is_nan() && b.is_nan() || bounds[i] == f64::INFINITY) {
                    return Err(format!("{name}[{i}]: kernels say {b:e}, the reference {a:e}, bound {:e}", bounds[i]));
                }
            }
        }
        Ok(())
    }
}

/// Runs a check on every case that has a gradient, and gives the layers that were checked.
fn over_cases(check: impl Fn(&Case, Function, &mut Random) -> Result<(), String>) -> Vec<&'static str> {
    let (mut faults, mut checked) = (Vec::new(), Vec::new());
    let only = std::env::var("CASE").unwrap_or_default();
    for (number, case) in cases().iter().enumerate().filter(|(_, case)| case.layer.contains(&only)) {
        let mut random = Random(number as u64 + 1);
        if let Some(function) = weighted(case, &mut random) {
            let name = case.op.spec().name();
            checked.extend((!checked.contains(&name)).then_some(name));
            if let Err(fault) = check(case, function, &mut random) {
                faults.push(format!("{}: {fault}", case.layer));
            }
        }
    }
    assert!(faults.is_empty(), "{} cases fail:\n{}", faults.len(), faults.join("\n"));
    checked
}

#[test]
fn gradients_are_limits_of_differences() {
    // The reference of a cast rounds to f32: differences of small steps say nothing.
    let checked = over_cases(|case, function, random| match case.op.spec().name() {
        "Cast" => function.check_kernels(),
        _ => function.check(random),
    });
    let all = LAYERS.iter().flat_map(|kinds| kinds.iter()).map(|kind| kind.name);
    let missing: Vec<&str> = all.filter(|name| !checked.contains(name) && !WITHOUT.contains(name)).collect();
    assert!(missing.is_empty() || std::env::var("CASE").is_ok(), "layers without a gradient case: {missing:?}");
}

#[test]
fn gradients_of_gradients_are_limits_of_differences() {
    let moved = std::cell::Cell::new(0);
    over_cases(|_, function, random| {
        let twice = function.of_gradients(random);
        moved.set(moved.get() + usize::from(!twice.by.is_empty()));
        if twice.by.is_empty() { Ok(()) } else { twice.check(random) }
    });
    assert!(moved.get() > 150 || std::env::var("CASE").is_ok(), "only {} cases differentiate twice", moved.get());
}

#[test]
fn kernels_agree_with_the_reference() {
    over_cases(|_, function, _| function.check_kernels());
}

#[test]
fn flat_layers_have_no_slope() {
    for name in FLAT {
        let case = Case {
            op: support::read(name),
            layer: name,
            inputs: vec![TensorType::f32([9usize])],
            ranges: BTreeMap::new(),
        };
        let function = weighted(&case, &mut Random(1)).unwrap().differentiated();
        let results = evaluate(&function.graph, &function.given);
        assert_eq!(results[1].1.data, [0.0; 9], "{name}");
    }
}
