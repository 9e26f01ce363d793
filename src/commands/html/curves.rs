//! Curves and points as a picture.

use super::{COLORS, escaped};
use std::fmt::{self, Write};

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;

/// A picture of lines over one axis.
pub struct Chart {
    pub title: String,
    pub x: String,
    pub lines: Vec<Line>,
}

/// Points in a row, joined or not.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Dots rather than a line.
    pub dots: bool,
}

impl Chart {
    pub fn draw(&self, text: &mut String) -> fmt::Result {
        let all = || self.lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let (Some(across), Some(up)) =
            (Axis::of(all().map(|(x, _)| *x), false), Axis::of(all().map(|(_, y)| *y), true))
        else {
            return writeln!(text, "<p>{}: there are no numbers to draw.</p>", escaped(&self.title));
        };
        let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * across.part(at);
        let y = |at: f64| TOP + HEIGHT * (1.0 - up.part(at));
        let height = TOP + HEIGHT + BOTTOM;
        writeln!(
            text,
            "<div class=\"picture\"><svg width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">"
        )?;
        let title = if up.is_log { format!("{} (logarithmic)", self.title) } else { self.title.clone() };
        writeln!(text, "<text x=\"{LEFT}\" y=\"20\" font-size=\"13\">{}</text>", escaped(&title))?;
        for at in up.ticks() {
            let (y, right) = (y(at), WIDTH - RIGHT);
            writeln!(text, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")?;
            label(text, LEFT - 8.0, y + 4.0, "end", &told(at))?;
        }
        for at in across.ticks() {
            label(text, x(at), TOP + HEIGHT + 18.0, "middle", &told(at))?;
        }
        label(text, (LEFT + WIDTH - RIGHT) / 2.0, TOP + HEIGHT + 34.0, "middle", &self.x)?;
        for (i, line) in self.lines.iter().enumerate() {
            let color = COLORS[i % COLORS.len()];
            let place = WIDTH - RIGHT - 130.0 * (self.lines.len() - i) as f64;
            writeln!(text, "<circle cx=\"{place}\" cy=\"16\" r=\"4\" fill=\"{color}\"/>")?;
            writeln!(text, "<text x=\"{}\" y=\"20\">{}</text>", place + 10.0, escaped(&line.name))?;
            let points = line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
            if line.dots {
                for (a, b) in points {
                    let (x, y) = (x(*a), y(*b));
                    writeln!(
                        text,
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\" fill=\"{color}\" fill-opacity=\"0.55\"/>"
                    )?;
                }
                continue;
            }
            let path: Vec<String> = points.clone().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
            writeln!(
                text,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                path.join(" ")
            )?;
            // Targets for the pointer, no more than the eye tells apart.
            let every = line.points.len().div_ceil(200).max(1);
            for (a, b) in points.step_by(every) {
                let (x, y, said) = (x(*a), y(*b), format!("{} {}: {}", self.x, told(*a), told(*b)));
                writeln!(
                    text,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\" fill-opacity=\"0\"><title>{}</title></circle>",
                    escaped(&said)
                )?;
            }
        }
        writeln!(text, "</svg></div>")
    }
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, said: &str) -> fmt::Result {
    let said = escaped(said);
    writeln!(
        text,
        "<text class=\"soft\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"11\">{said}</text>"
    )
}

/// A number beside an axis.
fn told(at: f64) -> String {
    match at.abs() {
        0.0 => "0".to_string(),
        1e-3..1e6 => format!("{}", (at * 1e5).round() / 1e5),
        _ => format!("{at:.1e}"),
    }
}

/// The numbers that an axis spans.
struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Axis {
    /// The axis of these numbers, logarithmic where it may be and they span two powers of ten; `None` without numbers.
    fn of(numbers: impl Iterator<Item = f64>, may_be_log: bool) -> Option<Axis> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for number in numbers {
            (low, high) = (low.min(number), high.max(number));
        }
        if low > high {
            return None;
        }
        if may_be_log && low > 0.0 && high / low > 100.0 {
            return Some(Axis { low: low.log10().floor(), high: high.log10().ceil(), is_log: true });
        }
        // One number alone gets room.
        let room = if high > low { 0.0 } else { low.abs().max(1.0) / 2.0 };
        Some(Axis { low: low - room, high: high + room, is_log: false })
    }

    /// Where a number lies between the ends, from 0 to 1.
    fn part(&self, at: f64) -> f64 {
        let at = if self.is_log { at.log10() } else { at };
        (at - self.low) / (self.high - self.low)
    }

    /// Some round numbers between the ends.
    fn ticks(&self) -> Vec<f64> {
        let span = self.high - self.low;
        let rough = span / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|&step| step >= rough).unwrap_or(rough);
        let step = if self.is_log { step.max(1.0) } else { step };
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        let at = |n: i64| if self.is_log { 10f64.powf(n as f64 * step) } else { n as f64 * step };
        (first..=last).map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        let axis = Axis::of([0.0, 1.0].into_iter(), true).unwrap();
        let ticks: Vec<String> = axis.ticks().into_iter().map(told).collect();
        assert_eq!(ticks, ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        let axis = Axis::of([2.5, 0.0011].into_iter(), true).unwrap();
        assert_eq!((axis.is_log, axis.part(1.0)), (true, 0.75));
        assert_eq!(axis.ticks().into_iter().map(told).collect::<Vec<_>>(), ["0.001", "0.01", "0.1", "1", "10"]);
        assert!(Axis::of([5.0].into_iter(), true).is_some_and(|axis| axis.part(5.0) == 0.5));
        assert!(Axis::of([].into_iter(), true).is_none());
    }

    #[test]
    fn charts_of_nothing_say_so() {
        let mut text = String::new();
        Chart { title: "loss".to_string(), x: "epoch".to_string(), lines: Vec::new() }.draw(&mut text).unwrap();
        assert!(text.contains("no numbers"));
    }
}
