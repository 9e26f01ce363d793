//! A page about a training: how its scores went, what it learned where that can be drawn, and what a step is made of.

use super::curves::{Chart, Line};
use super::{compilation_sections, plan_sections, section};
use crate::commands::compile::details;
use crate::commands::table::{bytes, time};
use fusewright::Trainer;
use std::time::Duration;

/// What the page shows of a training beside its step.
pub struct Story {
    pub title: String,
    pub tiles: Vec<(&'static str, String)>,
    /// Loss and metrics over the epochs.
    pub curves: Vec<Chart>,
    /// The learned curve and the examples, where the network has one number in and one out.
    pub fit: Option<Chart>,
    /// The time of a whole step, and of each of its kernels; none where they could not be measured.
    pub step: Option<(Duration, Vec<Duration>)>,
}

/// The page.
pub fn page(story: &Story, trainer: &Trainer) -> String {
    let compilation = trainer.compilation();
    let plan = &details(compilation).plan;
    let mut tiles = story.tiles.clone();
    tiles.extend([
        ("kernels of a step", plan.steps.len().to_string()),
        ("arena", bytes(plan.arena_bytes)),
        ("lower bound", bytes(plan.lower_bound_bytes)),
        ("parameters and optimiser", bytes(trainer.state().bytes() as u64)),
        ("code", bytes(trainer.executable().code_bytes() as u64)),
    ]);
    tiles.extend(story.step.iter().map(|(whole, _)| ("a step takes", time(*whole))));
    let times = story.step.as_ref().map_or(&[][..], |(_, kernels)| kernels);
    super::page(&story.title, &tiles, |text| {
        section(text, "Scores", "After each epoch. Point at a curve to read its numbers.")?;
        for chart in &story.curves {
            chart.draw(text)?;
        }
        if let Some(fit) = &story.fit {
            section(text, "Fit", "What the network learned, and the examples that it learned from.")?;
            fit.draw(text)?;
        }
        plan_sections(text, plan, times)?;
        compilation_sections(text, compilation, &compilation.stages)
    })
}

/// A curve of scores over epochs.
pub fn over_epochs(name: &str, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.to_string(), points, dots: false }
}
