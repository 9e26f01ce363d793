//! The arena as a picture: time across, bytes up.

use super::super::table::bytes;
use super::{Palette, escaped};
use fusewright::ir::TensorType;
use fusewright::ir::kernel::BufferId;
use fusewright::ir::plan::{Place, Plan};
use std::fmt::{self, Write};

const HEIGHT: f64 = 320.0;
const LEFT: f64 = 78.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 34.0;

/// A buffer of the arena: its steps and its bytes.
struct Block {
    id: usize,
    first: usize,
    last: usize,
    offset: u64,
    bytes: u64,
}

pub fn draw(text: &mut String, plan: &Plan, palette: &Palette) -> fmt::Result {
    let blocks = blocks(plan);
    if blocks.is_empty() || plan.arena_bytes == 0 {
        return writeln!(text, "<p>The network needs no arena.</p>");
    }
    let steps = plan.steps.len();
    let column = (1050.0 / steps as f64).clamp(14.0, 90.0);
    let width = LEFT + column * steps as f64 + 20.0;
    let height = TOP + HEIGHT + BOTTOM;
    let most = plan.arena_bytes as f64;
    let y = |at: f64| TOP + HEIGHT * (1.0 - at / most);
    writeln!(
        text,
        "<div class=\"picture\"><svg width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">"
    )?;
    for quarter in 0..=4 {
        let at = most * f64::from(quarter) / 4.0;
        writeln!(
            text,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            width - 20.0,
            y(at),
            y(at)
        )?;
        writeln!(
            text,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{}</text>",
            LEFT - 8.0,
            y(at) + 4.0,
            bytes(at as u64)
        )?;
    }
    for block in &blocks {
        let buffer = &plan.buffers[block.id];
        let color = palette.color(&plan.steps[block.first]);
        let x = LEFT + block.first as f64 * column;
        let wide = (block.last - block.first + 1) as f64 * column;
        let high = HEIGHT * block.bytes as f64 / most;
        let upper = y((block.offset + block.bytes) as f64);
        let ty = TensorType::new(buffer.dtype, buffer.dims.iter().copied());
        let title = format!(
            "{} {ty}\n{} at offset {}\nsteps k{} to k{}",
            buffer.name,
            bytes(block.bytes),
            block.offset,
            block.first,
            block.last
        );
        writeln!(
            text,
            "<rect class=\"block\" x=\"{x:.1}\" y=\"{upper:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" rx=\"3\" fill=\"{color}\"><title>{}</title></rect>",
            escaped(&title)
        )?;
        let fits = (wide / 7.0) as usize;
        if high > 16.0 && buffer.name.chars().count() < fits {
            writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" pointer-events=\"none\" style=\"fill:#fff\">{}</text>",
                x + wide / 2.0,
                upper + high / 2.0 + 4.0,
                escaped(&buffer.name)
            )?;
        }
    }
    let bound = y(plan.lower_bound_bytes as f64);
    writeln!(
        text,
        "<line class=\"bound\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{bound:.1}\" y2=\"{bound:.1}\"><title>lower bound {}</title></line>",
        width - 20.0,
        bytes(plan.lower_bound_bytes)
    )?;
    let every = (34.0 / column).ceil() as usize;
    for i in (0..steps).step_by(every) {
        writeln!(
            text,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\">k{i}</text>",
            LEFT + (i as f64 + 0.5) * column,
            TOP + HEIGHT + 20.0
        )?;
    }
    writeln!(text, "</svg></div>")
}

fn blocks(plan: &Plan) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (id, buffer) in plan.buffers.iter().enumerate() {
        let Place::Arena(offset) = buffer.place else { continue };
        let uses = |step: usize| {
            let kernel = &plan.steps[step].kernel;
            let id = BufferId(id as u32);
            kernel.writes().contains(&id) || kernel.reads().contains(&id)
        };
        let mut used = (0..plan.steps.len()).filter(|&step| uses(step));
        if let Some(first) = used.next() {
            blocks.push(Block { id, first, last: used.next_back().unwrap_or(first), offset, bytes: buffer.bytes() });
        }
    }
    blocks
}
