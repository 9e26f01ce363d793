//! What is counted beside the loss: means over the batch.

use super::objective::Scored;
use fusewright_ir::ops::loss::class_axis;
use fusewright_ir::ops::{ArgReduce, Cast, Compose, LossReduction, Op, PairLoss, PointwiseLoss, Reduce, Reduction};
use fusewright_ir::recipe::{Metric, Objective};
use fusewright_ir::tensor::{Data, Tensor, TensorType};
use fusewright_ir::{DType, Diagnostic, Diagnostics, Graph, GraphBuilder, ValueId};

/// The metrics with their names, in their order.
///
/// # Errors
/// Where one does not fit the output and the target.
pub(super) fn all(
    build: &mut GraphBuilder,
    scored: &Scored,
    objective: &Objective,
    metrics: &[Metric],
) -> Result<Vec<(&'static str, ValueId)>, Diagnostics> {
    let mut faults = Diagnostics::default();
    let mut values = Vec::new();
    for (i, &metric) in metrics.iter().enumerate() {
        let name = name(metric);
        let found = [scored.output, scored.target].map(|value| build.graph().value_type(value).to_string());
        let refused = |title: String| Diagnostic::new(title).at(objective.span.clone());
        if metrics[..i].contains(&metric) {
            faults.push(refused(format!("the metric `{name}` is named twice")));
            continue;
        }
        match value(&mut Counted { build, name }, metric, scored, objective.ignored_label()) {
            Ok(value) => values.push((name, value)),
            Err(expected) => {
                let fault = refused(format!("the metric `{name}` does not fit")).expected(expected);
                faults.push(fault.found(format!("an output {} and a target {}", found[0], found[1])));
            }
        }
    }
    faults.into_result().map(|()| values)
}

fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Accuracy => "accuracy",
        Metric::MeanSquaredError => "mean_squared_error",
        Metric::MeanAbsoluteError => "mean_absolute_error",
    }
}

/// Where the nodes of a metric are added.
struct Counted<'b> {
    build: &'b mut GraphBuilder,
    name: &'static str,
}

impl Compose for Counted<'_> {
    fn graph(&self) -> &Graph {
        self.build.graph()
    }

    fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.build.node(self.name, op.into(), inputs)
    }
}

/// One metric, an f32.
///
/// # Errors
/// What output and target would have to be.
fn value(at: &mut Counted, metric: Metric, scored: &Scored, ignored: Option<i64>) -> Result<ValueId, String> {
    let Scored { output, target, .. } = *scored;
    match metric {
        Metric::Accuracy => accuracy(at, output, target, ignored),
        Metric::MeanSquaredError => error(at, PairLoss::Mse, output, target),
        Metric::MeanAbsoluteError => error(at, PairLoss::L1, output, target),
    }
}

/// How many of the places have the greatest score, the first of equals, at the class of their label: of those whose label is not
/// `ignored`, and 0 where all are.
fn accuracy(at: &mut Counted, scores: ValueId, target: ValueId, ignored: Option<i64>) -> Result<ValueId, String> {
    let (of, given) = (at.ty(scores).clone(), at.ty(target).clone());
    let expected = || "scores with an axis of classes, and labels without it or a score for each class".to_string();
    if of.rank() == 0 {
        return Err(expected());
    }
    let axis = class_axis(of.rank());
    let mut places = of.shape.clone();
    let classes = places.remove(axis);
    let is_label = given == TensorType::new(given.dtype, places) && given.dtype.is_integer();
    if !is_label && (given != of || classes.known() == Some(1)) {
        return Err(expected());
    }
    let greatest =
        |at: &mut Counted, value| at.node(ArgReduce { least: false, dim: Some(axis as i32), keepdim: false }, &[value]);
    let found = greatest(at, scores);
    let label = match is_label {
        true if given.dtype == DType::I64 => target,
        true => at.node(Cast { to: DType::I64 }, &[target]),
        false => greatest(at, target),
    };
    let right = at.map("Equal", &[found, label]);
    let Some(ignored) = ignored.filter(|_| is_label) else {
        return Ok(folded(at, Reduction::Mean, right));
    };
    let ignored = at.constant(Tensor::new(&[], Data::I64(vec![ignored])));
    let counts = at.map("NotEqual", &[label, ignored]);
    let right = at.map("And", &[right, counts]);
    let [right, counts] = [right, counts].map(|truths| folded(at, Reduction::Sum, truths));
    let one = at.number(1.0);
    let counts = at.map("Max", &[counts, one]);
    Ok(at.div(right, counts))
}

/// A sum or a mean of truth values, 1 each.
fn folded(at: &mut Counted, function: Reduction, truths: ValueId) -> ValueId {
    let ones = at.node(Cast { to: DType::F32 }, &[truths]);
    at.node(Reduce::over(function, [], false), &[ones])
}

/// The mean of a distance between output and target.
fn error(at: &mut Counted, function: PairLoss, output: ValueId, target: ValueId) -> Result<ValueId, String> {
    let wanted = at.ty(output).clone();
    match *at.ty(target) == wanted {
        true => Ok(at.node(PointwiseLoss { function, reduction: LossReduction::Mean }, &[output, target])),
        false => Err(format!("a target of type {wanted}")),
    }
}
