//! A page about a compiled network: its fused groups as a graph, its memory plan as a picture, its costs. One file
//! without anything from outside, so that it can be sent and kept.

mod graph;
mod memory;

use super::table::{bytes, grouped};
use fusewright::Planned;
use fusewright::ir::kernel::BufferId;
use fusewright::ir::plan::{Plan, Step};
use std::fmt::{self, Write};
use std::time::Duration;

/// The page.
pub fn page(title: &str, planned: &Planned, stages: &[(&str, Duration)]) -> String {
    let plan = planned.executable.plan();
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_page(&mut text, title, planned, plan, stages);
    text
}

fn write_page(
    text: &mut String,
    title: &str,
    planned: &Planned,
    plan: &Plan,
    stages: &[(&str, Duration)],
) -> fmt::Result {
    let title = escaped(title);
    let style = include_str!("html/style.css");
    writeln!(text, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(text, "<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title} - Fusewright</title>")?;
    writeln!(text, "<style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>")?;
    let total: Duration = stages.iter().map(|(_, time)| *time).sum();
    let operations = super::summary::layers(&planned.compilation.graph).len();
    let tiles = [
        ("operations", operations.to_string()),
        ("kernels", plan.steps.len().to_string()),
        ("arena", bytes(plan.arena_bytes)),
        ("lower bound", bytes(plan.lower_bound_bytes)),
        ("without sharing", bytes(plan.unplanned_bytes)),
        ("constants", bytes(plan.constant_bytes)),
        ("code", bytes(planned.executable.code_bytes() as u64)),
        ("compiled in", format!("{:.2} ms", total.as_secs_f64() * 1e3)),
    ];
    writeln!(text, "<dl>")?;
    for (name, value) in tiles {
        writeln!(text, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    writeln!(text, "</dl>\n</header>")?;

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
        "The arena while the network runs: steps from left to right, bytes from bottom to top. Each block is a buffer from its first write to its last read; the dashed line is the lower bound.",
    )?;
    memory::draw(text, plan, &palette)?;
    section(text, "Costs", "Scalar operations and bytes of each kernel.")?;
    costs(text, plan, &palette)?;
    section(text, "Compile time", "")?;
    compile_time(text, stages, total)?;
    section(text, "Fusion", "Why each edge was fused or not.")?;
    writeln!(text, "<details><summary>{} decisions</summary>\n<table>", planned.compilation.decisions.len())?;
    writeln!(text, "<tr><th>producer</th><th>consumer</th><th></th><th>reason</th></tr>")?;
    for decision in &planned.compilation.decisions {
        let word = if decision.fused { "fused" } else { "apart" };
        let [producer, consumer, reason] =
            [&decision.producer, &decision.consumer, &decision.reason].map(|t| escaped(t));
        writeln!(
            text,
            "<tr class=\"{word}\"><td>{producer}</td><td>{consumer}</td><td>{word}</td><td>{reason}</td></tr>"
        )?;
    }
    writeln!(text, "</table>\n</details>\n</section>\n</body>\n</html>")
}

/// Ends the section before, if there is one, and begins the next.
fn section(text: &mut String, title: &str, about: &str) -> fmt::Result {
    if text.contains("<section>") {
        writeln!(text, "</section>")?;
    }
    writeln!(text, "<section>\n<h2>{title}</h2>")?;
    if about.is_empty() { Ok(()) } else { writeln!(text, "<p>{about}</p>") }
}

fn costs(text: &mut String, plan: &Plan, palette: &Palette) -> fmt::Result {
    let most = plan.steps.iter().map(|step| step.kernel.operations()).max().unwrap_or(0).max(1);
    let all: u64 = plan.steps.iter().map(|step| step.kernel.operations()).sum();
    writeln!(
        text,
        "<table>\n<tr><th></th><th>operations</th><th>nodes</th><th>scalar operations</th><th></th><th>read</th><th>written</th></tr>"
    )?;
    for (i, step) in plan.steps.iter().enumerate() {
        let operations = step.kernel.operations();
        let size = |ids: Vec<BufferId>| bytes(ids.iter().map(|&id| plan.buffer(id).bytes()).sum());
        let width = operations as f64 / most as f64 * 100.0;
        let share = operations as f64 / all.max(1) as f64 * 100.0;
        writeln!(
            text,
            "<tr><td>k{i}</td><td>{}</td><td class=\"nodes\">{}</td><td class=\"n\">{}</td><td class=\"bar\"><i style=\"width:{width:.1}%;background:{}\"></i><b>{share:.1} %</b></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escaped(&step.about),
            escaped(&step.nodes.join(" ")),
            grouped(operations),
            palette.color(step),
            size(step.kernel.reads()),
            size(step.kernel.writes()),
        )?;
    }
    writeln!(text, "</table>")
}

fn compile_time(text: &mut String, stages: &[(&str, Duration)], total: Duration) -> fmt::Result {
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
    let name = |id: BufferId| plan.buffer(id).name.clone();
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
