//! How far a training is, on a terminal only.

use super::lines::number;
use crate::commands::output;
use crate::commands::table::grouped;
use fusewright::{Scores, Trainer, Units};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A bar over all steps.
pub struct Bar {
    bar: ProgressBar,
    units: Units,
    /// When the text was made last, and the examples since then.
    told: Cell<(Instant, usize)>,
}

/// The text changes this often.
const INTERVAL: Duration = Duration::from_millis(200);

impl Bar {
    pub fn new(trainer: &Trainer, units: Units) -> Bar {
        let bar = output::progress(trainer.length().total_steps, "");
        let style = "{bar:30} {pos}/{len}  {msg}  {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a known template"));
        bar.set_position(trainer.steps());
        bar.reset_eta();
        Bar { bar, units, told: Cell::new((Instant::now(), 0)) }
    }

    pub fn step(&self, trainer: &Trainer, step: u64, scores: Scores, examples: usize) {
        if self.bar.is_hidden() {
            return;
        }
        let (last, seen) = self.told.get();
        let (time, seen) = (last.elapsed(), seen + examples);
        if time < INTERVAL {
            return self.told.set((last, seen));
        }
        self.told.set((Instant::now(), 0));
        let mut text = format!("loss {}", number(self.units.loss(scores)));
        for (i, name) in trainer.metrics().iter().enumerate() {
            text += &format!("  {} {}", name.replace('_', " "), number(self.units.metric(scores, i)));
        }
        text += &format!("  {} samples/s", grouped((seen as f64 / time.as_secs_f64()) as u64));
        self.bar.set_message(text);
        self.bar.set_position(step);
    }

    /// Does something that may print, with the bar out of the way.
    pub fn aside<T>(&self, action: impl FnOnce() -> T) -> T {
        self.bar.suspend(action)
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
