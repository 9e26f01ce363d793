//! Batch norm with kept statistics becomes a scale and a shift of each channel: `scale = weight / sqrt(variance + eps)`
//! and `shift = bias - mean * scale`, computed once in the setup. Behind a convolution or dense layer that nothing else
//! reads, the scale goes into its weights and the shift into its bias.

use fusewright_ir::ops::common::Length;
use fusewright_ir::ops::{Map, Op, Reshape};
use fusewright_ir::tensor::Tensor;
use fusewright_ir::{Graph, GraphBuilder, NodeId, ValueId};

/// The pass.
pub fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    for id in graph.topological() {
        let Op::BatchNorm(norm) = &graph.node(id).op else { continue };
        if !norm.track_running_stats || graph.value_type(graph.node(id).inputs[0]).dims().is_none() {
            continue;
        }
        let (affine, eps) = (norm.affine, norm.eps.0);
        let (name, inputs) = (graph.node(id).name.clone(), graph.node(id).inputs.clone());
        let (rank, span) = (graph.value_type(inputs[0]).rank(), graph.node(id).span.clone());
        let layer = scaled_layer(graph, inputs[0]);

        let mut build = GraphBuilder::on(std::mem::take(graph));
        build.set_span(span);
        let (mean, variance) = (inputs[inputs.len() - 2], inputs[inputs.len() - 1]);
        let (scale, shift) =
            scale_and_shift(&mut build, &name, affine.then(|| (inputs[1], inputs[2])), mean, variance, eps);
        let new = match layer {
            Some(layer) => into_layer(&mut build, &name, layer, scale, shift),
            None => {
                let along_channels = |build: &mut GraphBuilder, value, what: &str| {
                    let mut shape = vec![-1];
                    shape.extend(std::iter::repeat_n(1, rank - 2));
                    reshaped(build, &format!("{name}.{what}.view"), value, &shape)
                };
                let (scale, shift) =
                    (along_channels(&mut build, scale, "scale"), along_channels(&mut build, shift, "shift"));
                let scaled = map(&mut build, &format!("{name}.scaled"), "Mul", &[inputs[0], scale]);
                map(&mut build, &name, "Add", &[scaled, shift])
            }
        };
        *graph = build.finish();
        graph.replace_uses(id.into(), new);
        graph.remove(id);
        changed = true;
    }
    changed
}

/// The convolution or dense layer that computes `value`, where nothing else reads it and its output channels are rows
/// of its weights.
fn scaled_layer(graph: &Graph, value: ValueId) -> Option<NodeId> {
    let layer = graph.node(value.node);
    let fits = match &layer.op {
        // Without a batch axis the batch norm takes axis 1 for the channels, the convolution axis 0.
        Op::Conv(conv) => layer.types[0].rank() == conv.spatial + 2,
        // Channels are axis 1: for a dense layer its features, if there is one batch axis.
        Op::Dense(_) => layer.types[0].rank() == 2,
        _ => false,
    };
    (fits && !graph.is_output(value.node) && graph.users(value.node).len() == 1).then_some(value.node)
}

fn map(build: &mut GraphBuilder, name: &str, function: &str, inputs: &[ValueId]) -> ValueId {
    build.node(name, Op::Map(Map::named(function).expect("a row of the table")), inputs)
}

fn reshaped(build: &mut GraphBuilder, name: &str, value: ValueId, shape: &[i64]) -> ValueId {
    build.node(name, Op::Reshape(Reshape { shape: shape.iter().map(|&n| Length::Number(n)).collect() }), &[value])
}

fn scale_and_shift(
    build: &mut GraphBuilder,
    name: &str,
    affine: Option<(ValueId, ValueId)>,
    mean: ValueId,
    variance: ValueId,
    eps: f64,
) -> (ValueId, ValueId) {
    let eps = build.constant(&format!("{name}.eps"), Tensor::from_vec(&[], vec![eps as f32]));
    let guarded = map(build, &format!("{name}.guarded"), "Add", &[variance, eps]);
    let deviation = map(build, &format!("{name}.deviation"), "Sqrt", &[guarded]);
    let (scale, bias) = match affine {
        Some((weight, bias)) => (map(build, &format!("{name}.scale"), "Div", &[weight, deviation]), Some(bias)),
        None => (map(build, &format!("{name}.scale"), "Reciprocal", &[deviation]), None),
    };
    let moved = map(build, &format!("{name}.moved"), "Mul", &[mean, scale]);
    let shift = match bias {
        Some(bias) => map(build, &format!("{name}.shift"), "Sub", &[bias, moved]),
        None => map(build, &format!("{name}.shift"), "Neg", &[moved]),
    };
    (scale, shift)
}

/// The layer with scaled weights, and the shift for its bias.
fn into_layer(build: &mut GraphBuilder, name: &str, layer: NodeId, scale: ValueId, shift: ValueId) -> ValueId {
    let node = build.graph().node(layer).clone();
    let weight = node.inputs[1];
    let mut rows = vec![-1];
    rows.extend(std::iter::repeat_n(1, build.graph().value_type(weight).rank() - 1));
    let rows = reshaped(build, &format!("{name}.rows"), scale, &rows);
    let weight = map(build, &format!("{name}.weights"), "Mul", &[weight, rows]);
    let bias = match node.inputs.get(2) {
        Some(&bias) => {
            let scaled = map(build, &format!("{name}.bias.scaled"), "Mul", &[bias, scale]);
            map(build, &format!("{name}.bias.folded"), "Add", &[scaled, shift])
        }
        None => shift,
    };
    let op = match node.op {
        Op::Conv(mut conv) => {
            conv.bias = true;
            Op::Conv(conv)
        }
        Op::Dense(mut dense) => {
            dense.bias = true;
            Op::Dense(dense)
        }
        other => other,
    };
    build.node(&node.name, op, &[node.inputs[0], weight, bias])
}
