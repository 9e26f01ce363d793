//! A page about a compiled network.

use super::{compilation_sections, plan_sections};
use crate::commands::compile::details;
use crate::commands::summary::layers;
use crate::commands::table::bytes;
use fusewright::Planned;
use fusewright::ir::Graph;
use std::time::Duration;

/// The page; `stages` are those of compiling, reading the model included.
pub fn page(title: &str, graph: &Graph, planned: &Planned, stages: &[(&str, Duration)]) -> String {
    let plan = &details(&planned.compilation).plan;
    let total: Duration = stages.iter().map(|(_, time)| *time).sum();
    let tiles = [
        ("operations", layers(graph).len().to_string()),
        ("kernels", plan.steps.len().to_string()),
        ("arena", bytes(plan.arena_bytes)),
        ("lower bound", bytes(plan.lower_bound_bytes)),
        ("without sharing", bytes(plan.unplanned_bytes)),
        ("constants", bytes(plan.constant_bytes)),
        ("code", bytes(planned.executable.code_bytes() as u64)),
        ("compiled in", format!("{:.2} ms", total.as_secs_f64() * 1e3)),
    ];
    super::page(title, &tiles, |text| {
        plan_sections(text, plan, &[])?;
        compilation_sections(text, &planned.compilation, stages)
    })
}
