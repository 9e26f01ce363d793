//! Layers as they are in training: normalised by the batch, with dropout.

use super::needed;
use fusewright_ir::ops::{Chance, Training};
use fusewright_ir::{Diagnostic, Diagnostics, GraphBuilder, ValueId};

/// Puts what an operation is in training in its place, for all layers that the results need: the others are not run.
/// `counter` is the number of finished steps, an i32. Gives what takes the place of statistics when the step is over: the
/// parameter and its new value.
///
/// # Errors
/// Where a layer cannot be trained with.
pub fn train(build: &mut GraphBuilder, counter: ValueId, seed: u64) -> Result<Vec<(ValueId, ValueId)>, Diagnostics> {
    let results: Vec<ValueId> = build.graph().outputs.iter().map(|output| output.value).collect();
    let needed = needed(build.graph(), &results);
    let mut chance = Chance { seed, step: counter, drawn: 0 };
    let mut statistics = Vec::new();
    let mut faults = Diagnostics::default();
    for id in build.graph().topological().into_iter().filter(|&id| needed[id]) {
        let node = build.graph().node(id);
        let (op, name, span) = (node.op.clone(), node.name.clone(), node.span.clone());
        let mut site = Training::new(build, id, &mut chance);
        match op.spec().training(&mut site) {
            Ok(value) => {
                statistics.extend(site.finish());
                if let Some(value) = value {
                    build.replace_node(id, value.node);
                }
            }
            Err(mismatch) => {
                let fault = Diagnostic::new(format!("layer `{name}` cannot be trained with")).at(span);
                faults.push(fault.expected(mismatch.expected).found(mismatch.found).help(mismatch.help));
            }
        }
    }
    build.set_span(None);
    faults.into_result().map(|()| statistics)
}
