//! The kernels as cards, layer by layer from top to bottom.

use super::super::dot::{End, edges};
use super::{Palette, escaped, loop_nest};
use fusewright::ir::TensorType;
use fusewright::ir::plan::{Plan, Step};
use std::fmt::{self, Write};

const ROW: f64 = 78.0;
const CARD_HEIGHT: f64 = 50.0;
const GAP: f64 = 36.0;
const MARGIN: f64 = 28.0;
/// Letters are about so wide.
const LETTER: f64 = 7.0;

/// Where one end of edges is drawn.
struct Spot {
    end: End,
    row: usize,
    width: f64,
    /// The middle.
    x: f64,
}

pub fn draw(text: &mut String, plan: &Plan, palette: &Palette) -> fmt::Result {
    let edges = edges(plan);
    let mut spots = spots(plan);
    let place = |end: End| match end {
        End::Input(i) => i,
        End::Step(i) => plan.inputs.len() + i,
        End::Output(i) => plan.inputs.len() + plan.steps.len() + i,
    };
    // Edges come in the order of their ends, so one sweep gives every row.
    for edge in &edges {
        let above = spots[place(edge.from)].row + 1;
        let row = &mut spots[place(edge.to)].row;
        *row = above.max(*row);
    }
    let rows = spots.iter().map(|spot| spot.row).max().unwrap_or(0) + 1;
    for row in 0..rows {
        let mut members: Vec<usize> = (0..spots.len()).filter(|&i| spots[i].row == row).collect();
        let pull = |i: usize| {
            let above: Vec<f64> =
                edges.iter().filter(|edge| place(edge.to) == i).map(|edge| spots[place(edge.from)].x).collect();
            above.iter().sum::<f64>() / above.len().max(1) as f64
        };
        let pulls: Vec<f64> = (0..spots.len()).map(|i| if spots[i].row == row { pull(i) } else { 0.0 }).collect();
        members.sort_by(|&a, &b| pulls[a].total_cmp(&pulls[b]));
        let width: f64 = members.iter().map(|&i| spots[i].width).sum::<f64>() + GAP * (members.len() - 1) as f64;
        let mut left = -width / 2.0;
        for i in members {
            spots[i].x = left + spots[i].width / 2.0;
            left += spots[i].width + GAP;
        }
    }
    // Long edges swing out to the right of everything in between.
    let reach = spots.iter().map(|spot| spot.x.abs() + spot.width / 2.0).fold(0.0f64, f64::max) + 90.0;
    let (width, height) = (2.0 * reach + 2.0 * MARGIN, rows as f64 * ROW + 2.0 * MARGIN - (ROW - CARD_HEIGHT));
    let left = -reach - MARGIN;
    writeln!(
        text,
        "<div class=\"picture\"><svg width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"{left:.0} 0 {width:.0} {height:.0}\" role=\"img\">"
    )?;
    let top = |spot: &Spot| MARGIN + spot.row as f64 * ROW;
    for edge in &edges {
        let (from, to) = (&spots[place(edge.from)], &spots[place(edge.to)]);
        let (y0, y1) = (top(from) + CARD_HEIGHT, top(to));
        let buffer = plan.buffer(edge.buffer);
        let ty = TensorType::new(buffer.dtype, buffer.dims.iter().copied());
        let path = if to.row <= from.row + 1 {
            let bend = (y1 - y0) / 2.0;
            format!(
                "M{:.1} {y0:.1}C{:.1} {:.1} {:.1} {:.1} {:.1} {y1:.1}",
                from.x,
                from.x,
                y0 + bend,
                to.x,
                y1 - bend,
                to.x
            )
        } else {
            let between = spots.iter().filter(|spot| spot.row >= from.row && spot.row <= to.row);
            let out = between.map(|spot| spot.x + spot.width / 2.0).fold(0.0f64, f64::max) + 26.0;
            let (a, b) = (from.x + from.width / 2.0, to.x + to.width / 2.0);
            let (ya, yb) = (y0 - CARD_HEIGHT / 2.0, y1 + CARD_HEIGHT / 2.0);
            let turn = 40.0;
            format!(
                "M{a:.1} {ya:.1}C{out:.1} {ya:.1} {out:.1} {ya:.1} {out:.1} {:.1}L{out:.1} {:.1}C{out:.1} {yb:.1} {out:.1} {yb:.1} {b:.1} {yb:.1}",
                ya + turn,
                yb - turn
            )
        };
        let title = format!("{} {ty}", buffer.name);
        writeln!(text, "<path class=\"edge\" d=\"{path}\"><title>{}</title></path>", escaped(&title))?;
        if to.row == from.row + 1 {
            let dims: Vec<String> = buffer.dims.iter().map(ToString::to_string).collect();
            let (x, y) = ((from.x + to.x) / 2.0 + 8.0, (y0 + y1) / 2.0 + 4.0);
            writeln!(
                text,
                "<text class=\"soft\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"10\">{}</text>",
                dims.join(" x ")
            )?;
        }
    }
    for spot in &spots {
        match spot.end {
            End::Input(i) => port(text, spot, top(spot), &plan.inputs[i].name)?,
            End::Output(i) => port(text, spot, top(spot), &plan.outputs[i].name)?,
            End::Step(i) => card(text, plan, i, spot, top(spot), palette)?,
        }
    }
    writeln!(text, "</svg></div>")
}

fn spots(plan: &Plan) -> Vec<Spot> {
    let spot = |end: End, width: f64| Spot { end, row: 0, width, x: 0.0 };
    let port = |name: &str| name.chars().count() as f64 * LETTER + 28.0;
    let inputs = plan.inputs.iter().enumerate().map(|(i, port_)| spot(End::Input(i), port(&port_.name)));
    let steps = plan.steps.iter().enumerate().map(|(i, step)| spot(End::Step(i), card_width(step)));
    let outputs = plan.outputs.iter().enumerate().map(|(i, port_)| spot(End::Output(i), port(&port_.name)));
    inputs.chain(steps).chain(outputs).collect()
}

fn pill_width(operation: &str) -> f64 {
    operation.chars().count() as f64 * LETTER + 14.0
}

fn card_width(step: &Step) -> f64 {
    let pills: f64 = step.about.split(' ').map(|operation| pill_width(operation) + 5.0).sum();
    let names = names(step).chars().count() as f64 * 5.6;
    (pills + 46.0).max(names + 46.0).max(96.0)
}

/// The first and the last node of a kernel.
fn names(step: &Step) -> String {
    match step.nodes.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first, .., last] => format!("{first} ... {last}"),
    }
}

fn port(text: &mut String, spot: &Spot, top: f64, name: &str) -> fmt::Result {
    let (x, y) = (spot.x - spot.width / 2.0, top + 10.0);
    writeln!(
        text,
        "<g><rect class=\"card\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"30\" rx=\"15\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></g>",
        spot.width,
        spot.x,
        y + 19.0,
        escaped(name)
    )
}

fn card(text: &mut String, plan: &Plan, i: usize, spot: &Spot, top: f64, palette: &Palette) -> fmt::Result {
    let step = &plan.steps[i];
    let (left, color) = (spot.x - spot.width / 2.0, palette.color(step));
    writeln!(text, "<g><title>{}</title>", escaped(&loop_nest(plan, step)))?;
    writeln!(
        text,
        "<rect class=\"card\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{CARD_HEIGHT}\" rx=\"9\"/>",
        spot.width
    )?;
    writeln!(
        text,
        "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"5\" height=\"{:.1}\" rx=\"2.5\" fill=\"{color}\"/>",
        top + 7.0,
        CARD_HEIGHT - 14.0
    )?;
    writeln!(
        text,
        "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\">k{i}</text>",
        left + 12.0,
        top + 20.0
    )?;
    let mut x = left + 38.0;
    for operation in step.about.split(' ') {
        let width = pill_width(operation);
        writeln!(
            text,
            "<rect class=\"pill\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"20\" rx=\"10\" fill=\"{color}\"/>",
            top + 6.0
        )?;
        writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x + width / 2.0,
            top + 20.0,
            escaped(operation)
        )?;
        x += width + 5.0;
    }
    let names = escaped(&names(step));
    writeln!(
        text,
        "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{names}</text></g>",
        left + 40.0,
        top + 41.0
    )
}
