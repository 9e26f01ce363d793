//! Pages about what was compiled and what was learned: fused groups as a graph, memory plans as pictures, costs, curves. Each
//! is one file without anything from outside, so that it can be sent and kept.

pub mod curves;
mod graph;
mod memory;
pub mod network;
pub mod training;

use super::compile::details;
use super::table::{bytes, grouped};
use fusewright::Compilation;
use fusewright::ir::kernel::BufferId;
use fusewright::ir::plan::{Plan, Step};
use std::fmt::{self, Write};
use std::time::Duration;

/// A page with the sections that `body` writes, under a title and tiles of a name and a value.
fn page(title: &str, tiles: &[(&str, String)], body: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_page(&mut text, title, tiles, body);
    text
}

fn write_page(
    text: &mut String,
    title: &str,
    tiles: &[(&str, String)],
    body: impl FnOnce(&mut String) -> fmt::Result,
) -> fmt::Result {
    let title = escaped(title);
    let style = include_str!("html/style.css");
    writeln!(text, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(text, "<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title} - Fusewright</title>")?;
    writeln!(text, "<style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<dl>")?;
    for (name, value) in tiles {
        writeln!(text, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value))?;
    }
    writeln!(text, "</dl>\n</header>")?;
    body(text)?;
    writeln!(text, "</section>\n</body>\n</html>")
}

/// The sections about a plan: its kernels, memory and costs, with the time of each kernel where it was measured.
fn plan_sections(text: &mut String, plan: &Plan, times: &[Duration]) -> fmt::Result {
    let palette = Palette::new(plan);
    section(
        text,
        "Kernels",
        "One card a kernel, with the operations that were fused into it. Point at a card to read its loop nest.",
    )?;
    palette.legend(text)?;
    graph::draw(text, plan, &palette)?;
    section(
        text,
        "Memory",
        "The arena during a run: steps from left to right, bytes from bottom to top. Each block is a buffer from its first write to its last read; the dashed line is the lower bound.",
    )?;
    memory::draw(text, plan, &palette)?;
    let about = match times.is_empty() {
        true => "Scalar operations and bytes of each kernel.",
        false => "Time, scalar operations and bytes of each kernel.",
    };
    section(text, "Costs", about)?;
    costs(text, plan, &palette, times)
}

/// The sections about how the plan came to be.
fn compilation_sections(text: &mut String, compilation: &Compilation, stages: &[(&str, Duration)]) -> fmt::Result {
    section(text, "Compile time", "")?;
    compile_time(text, stages)?;
    section(text, "Fusion", "Why each edge was fused or not.")?;
    let decisions = &details(compilation).decisions;
    writeln!(text, "<details><summary>{} decisions</summary>\n<table>", decisions.len())?;
    writeln!(text, "<tr><th>producer</th><th>consumer</th><th></th><th>reason</th></tr>")?;
    for decision in decisions {
        let word = if decision.fused { "fused" } else { "apart" };
        let [producer, consumer, reason] =
            [&decision.producer, &decision.consumer, &decision.reason].map(|t| escaped(t));
        writeln!(
            text,
            "<tr class=\"{word}\"><td>{producer}</td><td>{consumer}</td><td>{word}</td><td>{reason}</td></tr>"
        )?;
    }
    writeln!(text, "</table>\n</details>")
}

/// Ends the section before, if there is one, and begins the next.
fn section(text: &mut String, title: &str, about: &str) -> fmt::Result {
    if text.contains("<section>") {
        writeln!(text, "</section>")?;
    }
    writeln!(text, "<section>\n<h2>{title}</h2>")?;
    if about.is_empty() { Ok(()) } else { writeln!(text, "<p>{about}</p>") }
}

/// A row a kernel; bars are shares of the measured time, or of scalar operations where there is none.
fn costs(text: &mut String, plan: &Plan, palette: &Palette, times: &[Duration]) -> fmt::Result {
    let weight = |i: usize, step: &Step| match times.get(i) {
        Some(time) => time.as_secs_f64() * 1e6,
        None => step.kernel.operations() as f64,
    };
    let weights: Vec<f64> = plan.steps.iter().enumerate().map(|(i, step)| weight(i, step)).collect();
    let (most, all) = (weights.iter().fold(1e-9f64, |most, &x| most.max(x)), weights.iter().sum::<f64>().max(1e-9));
    let time = if times.is_empty() { "" } else { "<th>median</th>" };
    writeln!(
        text,
        "<table>\n<tr><th></th><th>operations</th><th>nodes</th>{time}<th>scalar operations</th><th></th><th>read</th><th>written</th></tr>"
    )?;
    for (i, step) in plan.steps.iter().enumerate() {
        let size = |ids: Vec<BufferId>| bytes(ids.iter().map(|&id| plan.buffer(id).bytes()).sum());
        let (width, share) = (weights[i] / most * 100.0, weights[i] / all * 100.0);
        let time =
            times.get(i).map_or(String::new(), |&time| format!("<td class=\"n\">{}</td>", super::table::time(time)));
        writeln!(
            text,
            "<tr><td>k{i}</td><td>{}</td><td class=\"nodes\">{}</td>{time}<td class=\"n\">{}</td><td class=\"bar\"><i style=\"width:{width:.1}%;background:{}\"></i><b>{share:.1} %</b></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escaped(&step.about),
            escaped(&step.nodes.join(" ")),
            grouped(step.kernel.operations()),
            palette.color(step),
            size(step.kernel.reads()),
            size(step.kernel.writes()),
        )?;
    }
    writeln!(text, "</table>")
}

fn compile_time(text: &mut String, stages: &[(&str, Duration)]) -> fmt::Result {
    let total: Duration = stages.iter().map(|(_, time)| *time).sum();
    writeln!(text, "<div class=\"stack\">")?;
    for (i, (name, time)) in stages.iter().enumerate() {
        let share = time.as_secs_f64() / total.as_secs_f64().max(1e-9) * 100.0;
        let ms = time.as_secs_f64() * 1e3;
        writeln!(
            text,
            "<span style=\"flex:{share:.2};background:{}\" title=\"{name}: {ms:.2} ms\">{name}</span>",
            COLORS[i % COLORS.len()]
        )?;
    }
    writeln!(text, "</div>\n<p>")?;
    let each: Vec<String> =
        stages.iter().map(|(name, time)| format!("{name} {:.2} ms", time.as_secs_f64() * 1e3)).collect();
    writeln!(text, "{}</p>", each.join(" &middot; "))
}

/// Colours that can be told apart by most people, on light and dark ground.
const COLORS: [&str; 10] =
    ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#d4a72c", "#9d755d", "#7f8fd6", "#8a8f98"];

/// A colour for each kind of leading operation, in the order in which they appear.
struct Palette {
    kinds: Vec<String>,
}

impl Palette {
    fn new(plan: &Plan) -> Palette {
        let mut kinds: Vec<String> = Vec::new();
        for step in &plan.steps {
            let kind = kind(step);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Palette { kinds }
    }

    fn color(&self, step: &Step) -> &'static str {
        let kind = kind(step);
        let place = self.kinds.iter().position(|known| *known == kind).unwrap_or(COLORS.len() - 1);
        COLORS[place.min(COLORS.len() - 1)]
    }

    fn legend(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "<ul class=\"legend\">")?;
        for (i, kind) in self.kinds.iter().enumerate() {
            let color = COLORS[i.min(COLORS.len() - 1)];
            writeln!(text, "<li><i style=\"background:{color}\"></i>{}</li>", escaped(kind))?;
        }
        writeln!(text, "</ul>")
    }
}

/// The operation that a kernel is named after: the one that costs most is a window or a product, where there is one.
fn kind(step: &Step) -> String {
    let operations: Vec<&str> = step.about.split(' ').collect();
    let heavy =
        |name: &&&str| ["Conv", "Dense", "MatMul", "Pool", "Norm", "Softmax"].iter().any(|part| name.contains(part));
    operations.iter().find(heavy).or(operations.first()).copied().unwrap_or_default().to_string()
}

/// The kernel as text, for pointing at.
fn loop_nest(plan: &Plan, step: &Step) -> String {
    let name = |id: BufferId| plan.buffer(id).name.to_string();
    let extents: Vec<String> = step.kernel.outer.iter().map(ToString::to_string).collect();
    let lines = fusewright::ir::kernel::print::statements(&step.kernel, &name);
    format!("{}\nover {}\n{}", step.nodes.join(" "), extents.join(" x "), lines.join("\n"))
}

/// `text` within HTML, quotes included.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}
