//! The loss: of an output of the network, against a target that is an input of the graph.

use fusewright_ir::ops::loss::class_axis;
use fusewright_ir::ops::{Mismatch, Op};
use fusewright_ir::recipe::Objective;
use fusewright_ir::tensor::TensorType;
use fusewright_ir::{DType, Diagnostic, Diagnostics, Graph, GraphBuilder, ValueId};

/// A loss with what it is of.
pub(super) struct Scored {
    pub loss: ValueId,
    pub output: ValueId,
    pub target: ValueId,
}

/// Makes the output that the loss is of the only result.
///
/// # Errors
/// Where it is not there, or several could be meant.
pub(super) fn keep_output(build: &mut GraphBuilder, objective: &Objective) -> Result<(), Diagnostics> {
    let output = output(build.graph(), objective)?;
    let name = objective.output.as_deref().unwrap_or("output");
    build.clear_outputs();
    build.output(name, output);
    Ok(())
}

/// The output that the loss is of.
fn output(graph: &Graph, objective: &Objective) -> Result<ValueId, Diagnostics> {
    let outputs: Vec<_> = graph.outputs.iter().filter(|output| !output.is_update).collect();
    let names = outputs.iter().map(|output| format!("`{}`", output.name)).collect::<Vec<_>>().join(", ");
    let (title, expected) = match (&objective.output, outputs.as_slice()) {
        (None, [only]) => return Ok(only.value),
        (None, _) => ("it is not clear what the loss is of".to_string(), "the name of one output".to_string()),
        (Some(name), _) => match outputs.iter().find(|output| output.name == *name) {
            Some(output) => return Ok(output.value),
            None => (format!("the network has no output `{name}`"), "the name of an output".to_string()),
        },
    };
    let fault = Diagnostic::new(title).at(objective.span.clone()).expected(expected);
    Err(fault.found(format!("the outputs {names}")).help("write `output: \"NAME\"`").into())
}

/// Adds the loss layer, and the target where it is no input of the network.
///
/// # Errors
/// Where output and target do not fit the loss, or the loss is not one number.
pub(super) fn score(build: &mut GraphBuilder, objective: &Objective) -> Result<Scored, Diagnostics> {
    let output = output(build.graph(), objective)?;
    let target = target(build, objective, output)?;
    build.set_span(objective.span.clone());
    let added = build.try_node("loss", objective.loss.clone(), &[output, target]);
    build.set_span(None);
    let loss: ValueId = added.map_err(|mismatch| does_not_fit(objective, &mismatch))?.into();
    let ty = build.graph().value_type(loss);
    if *ty != TensorType::f32([0usize; 0]) {
        let fault = Diagnostic::new("the loss is not one number").at(objective.span.clone());
        let fault = fault.expected("f32[], a loss layer with a reduction").found(ty.to_string());
        return Err(fault.help("use the reduction \"mean\"").into());
    }
    Ok(Scored { loss, output, target })
}

/// The input that the output is compared with: the network's, or a new one of the type that the loss takes.
fn target(build: &mut GraphBuilder, objective: &Objective, output: ValueId) -> Result<ValueId, Diagnostics> {
    let name = &objective.target;
    let fault = |title: String| Diagnostic::new(title).at(objective.span.clone());
    if let Some(id) = build.graph().find(name) {
        let node = build.graph().node(id);
        if matches!(node.op, Op::Input(_)) {
            return Ok(id.into());
        }
        let found = format!("a layer `{name}` ({})", node.op.spec().name());
        let fault = fault(format!("`{name}` cannot be the target")).expected("an input, or a name that nothing has");
        return Err(fault.found(found).help("give the target another name").into());
    }
    let of = build.graph().value_type(output).clone();
    let takes = |target: &TensorType| objective.loss.check(&[&of, target]).map(|_| ());
    let mut places = of.shape.clone();
    if !places.is_empty() {
        places.remove(class_axis(of.rank()));
    }
    let labels = TensorType::new(DType::I64, places);
    let alike = TensorType::f32(of.shape.iter().cloned());
    let chosen = match takes(&labels) {
        Ok(()) => labels,
        Err(_) => takes(&alike).map(|()| alike).map_err(|mismatch| does_not_fit(objective, &mismatch))?,
    };
    Ok(build.input(name, chosen))
}

fn does_not_fit(objective: &Objective, mismatch: &Mismatch) -> Diagnostic {
    let kind = objective.loss.spec().name();
    let title = format!("the loss {kind} does not fit the output and the target `{}`", objective.target);
    let fault = Diagnostic::new(title).at(objective.span.clone());
    fault.expected(&mismatch.expected).found(&mismatch.found).help(&mismatch.help)
}
