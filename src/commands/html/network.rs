//! A page about a compiled network, or the step of a training.

use super::{compilation_sections, plan_sections};
use crate::commands::compile::{Compiled, details};
use crate::commands::table::bytes;
use std::time::Duration;

/// The page.
pub fn page(compiled: &Compiled) -> String {
    let Compiled { compilation, stages, .. } = compiled;
    let plan = &details(compilation).plan;
    let total: Duration = stages.iter().map(|(_, time)| *time).sum();
    let tiles = [
        ("operations", compiled.operations.to_string()),
        ("kernels", plan.steps.len().to_string()),
        ("arena", bytes(plan.arena_bytes)),
        ("lower bound", bytes(plan.lower_bound_bytes)),
        ("without sharing", bytes(plan.unplanned_bytes)),
        ("constants", bytes(plan.constant_bytes)),
        ("code", bytes(compiled.executable.code_bytes() as u64)),
        ("compiled in", format!("{:.2} ms", total.as_secs_f64() * 1e3)),
    ];
    super::page(&compiled.title, &tiles, |text| {
        plan_sections(text, plan, &[])?;
        compilation_sections(text, compilation, stages)
    })
}
