//! Fused groups as a Graphviz graph.

use fusewright::ir::kernel::BufferId;
use fusewright::ir::plan::{Place, Plan};
use std::fmt::Write;

/// One box a kernel, with its operations; one edge for each buffer between two.
pub fn graph(plan: &Plan) -> String {
    let mut text = String::from("digraph network {\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    for (i, port) in plan.inputs.iter().enumerate() {
        let _ = writeln!(text, "  in{i} [label={:?}, shape=plaintext];", port.name);
    }
    for (i, port) in plan.outputs.iter().enumerate() {
        let _ = writeln!(text, "  out{i} [label={:?}, shape=plaintext];", port.name);
    }
    for (i, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "  k{i} [label={:?}];", format!("k{i}: {}\n{}", step.about, step.nodes.join("\n")));
    }
    for edge in edges(plan) {
        let buffer = plan.buffer(edge.buffer);
        let _ = writeln!(text, "  {} -> {} [label={:?}];", edge.from, edge.to, format!("{:?}", buffer.dims));
    }
    text + "}\n"
}

/// The end of an edge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Input(usize),
    Step(usize),
    Output(usize),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Input(i) => write!(f, "in{i}"),
            End::Step(i) => write!(f, "k{i}"),
            End::Output(i) => write!(f, "out{i}"),
        }
    }
}

/// A buffer on its way.
pub struct Edge {
    pub from: End,
    pub to: End,
    pub buffer: BufferId,
}

/// All edges between inputs, steps and outputs; constants are left out.
pub fn edges(plan: &Plan) -> Vec<Edge> {
    // A buffer may be written in parts: its halo and its inside, or the pieces of a concat.
    let mut writers: Vec<Vec<End>> = vec![Vec::new(); plan.buffers.len()];
    for (i, buffer) in plan.buffers.iter().enumerate() {
        if let Place::Input(input) = buffer.place {
            writers[i].push(End::Input(input));
        }
    }
    let mut edges = Vec::new();
    for (i, step) in plan.steps.iter().enumerate() {
        for buffer in step.kernel.reads() {
            edges.extend(writers[buffer.0 as usize].iter().map(|&from| Edge { from, to: End::Step(i), buffer }));
        }
        for buffer in step.kernel.writes() {
            writers[buffer.0 as usize].push(End::Step(i));
        }
    }
    for (i, port) in plan.outputs.iter().enumerate() {
        let buffer = port.buffer;
        edges.extend(writers[buffer.0 as usize].iter().map(|&from| Edge { from, to: End::Output(i), buffer }));
    }
    edges
}
