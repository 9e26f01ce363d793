//! Which layer made a loss that is not finite: the step is done again by the evaluator, layer by layer.

use super::Trainer;
use crate::error::Error;
use crate::ir::evaluate::evaluate_with;
use crate::ir::ops::Op;
use crate::ir::{Array, Diagnostic, Tensor};
use std::collections::BTreeMap;

impl Trainer {
    /// The fault of a step on these inputs whose loss is not finite. The state is as it was before the step.
    pub(super) fn blame(&self, inputs: &[(&str, &Tensor)], loss: f32) -> Error {
        let title = format!("step {}: the loss is {loss}", self.steps() + 1);
        let fault = Diagnostic::new(title).expected("a finite loss");
        let help = "try a lower learning rate, or `clip: Norm(1.0)`; parameters are as they were before the step";
        let mut fault = fault.help(help);
        let objective = &self.recipe.definition().objective;
        let target = inputs.iter().find(|(name, _)| *name == objective.target).map(|(_, tensor)| tensor.to_array());
        if let (Some(ignored), Some(labels)) = (objective.ignored_label(), target)
            && labels.data.iter().all(|&label| label == ignored as f64)
        {
            let found = format!("no label but {ignored}, which the loss ignores: a mean of nothing");
            return self.recipe.step_fault(
                fault
                    .found(found)
                    .help("leave such examples out, or take a larger batch")
                    .at(objective.span.clone())
                    .into(),
            );
        }
        // It was made before, of the same recipe and sizes, and is not kept for this.
        let Ok(graph) = self.recipe.step(&self.sizes_of(inputs), &self.length) else { return fault.into() };
        let mut given: BTreeMap<String, Array> =
            inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.to_array())).collect();
        for (_, node) in graph.nodes().filter(|(_, node)| matches!(node.op, Op::Parameter(_))) {
            if let Some(tensor) = self.state.get(&node.name) {
                given.insert(node.name.clone(), tensor.to_array());
            }
        }
        let is_finite = |x: &f64| x.abs() <= f64::from(f32::MAX);
        let mut first = None;
        evaluate_with(&graph, &given, |id, values| {
            if first.is_none() && !values.iter().all(|value| value.data.iter().all(is_finite)) {
                first = Some(id);
            }
        });
        let Some(first) = first else {
            return fault.found("no layer of which f64 makes a number that is not finite: f32 rounds to it").into();
        };
        let node = graph.node(first);
        let what = match &node.op {
            Op::Input(_) => {
                fault =
                    fault.help("give it numbers that are finite in f32; parameters are as they were before the step");
                "input"
            }
            Op::Parameter(_) => "parameter",
            _ => "layer",
        };
        fault = fault.found(format!(
            "the first number that is not finite is of {what} `{}` ({})",
            node.name,
            node.op.spec().name()
        ));
        self.recipe.step_fault(fault.at(node.span.clone()).into())
    }
}
