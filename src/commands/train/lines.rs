//! One line an epoch: a table that grows, or JSON.

use crate::commands::output::{Failure, Output};
use crate::commands::table::{grouped, time};
use fusewright::{Epoch, Scores, Trainer, Units};
use serde_json::{Map, Value};
use std::io::Write;
use std::time::Duration;

/// Writes the epochs of a training.
pub struct Lines {
    metrics: Vec<String>,
    units: Units,
    has_test: bool,
    examples: usize,
    steps_per_epoch: u64,
    epochs: u64,
    json: bool,
    /// The width of each column; none before the heading is written.
    widths: Vec<usize>,
}

impl Lines {
    pub fn new(trainer: &Trainer, units: Units, has_test: bool, examples: usize, json: bool) -> Lines {
        let length = trainer.length();
        let (metrics, epochs) = (trainer.metrics().to_vec(), length.total_steps / length.steps_per_epoch);
        let steps_per_epoch = length.steps_per_epoch;
        Lines { metrics, units, has_test, examples, steps_per_epoch, epochs, json, widths: Vec::new() }
    }

    pub fn epoch(&mut self, out: &mut Output, epoch: &Epoch) -> Result<(), Failure> {
        match self.json {
            true => self.object(out, epoch)?,
            false => self.row(out, epoch)?,
        }
        // Whoever reads wants to know now.
        Ok(out.flush()?)
    }

    fn rate(&self, time: Duration) -> f64 {
        self.examples as f64 / time.as_secs_f64().max(1e-9)
    }

    fn object(&self, out: &mut Output, epoch: &Epoch) -> Result<(), Failure> {
        let scores = |scores: Scores| -> Value {
            let all = self.named(scores).into_iter().map(|(name, score)| (name.to_string(), score.into()));
            all.collect::<Map<String, Value>>().into()
        };
        let mut object = serde_json::json!({
            "epoch": epoch.number,
            "step": epoch.number * self.steps_per_epoch,
            "train": scores(epoch.train),
            "seconds": epoch.time.as_secs_f64(),
            "samples_per_s": self.rate(epoch.time),
        });
        if let Some(test) = epoch.test {
            object["test"] = scores(test);
        }
        Ok(writeln!(out, "{object}")?)
    }

    fn row(&mut self, out: &mut Output, epoch: &Epoch) -> Result<(), Failure> {
        if self.widths.is_empty() {
            let own: Vec<String> = self.metrics.iter().map(|name| name.replace('_', " ")).collect();
            let of = |set: &str| -> Vec<String> {
                let names = ["loss"].into_iter().chain(own.iter().map(String::as_str));
                names.map(|name| format!("{set}{name}")).collect()
            };
            let test = if self.has_test { of("test ") } else { Vec::new() };
            let names = [vec!["epoch".to_string()], of(""), test, vec!["samples/s".to_string(), "time".to_string()]];
            let names = names.concat();
            self.widths = names.iter().map(|name| name.len().max(9)).collect();
            self.write(out, &names)?;
        }
        let mut cells = vec![format!("{}/{}", epoch.number, self.epochs)];
        for scores in [Some(epoch.train), epoch.test].into_iter().flatten() {
            cells.extend(self.named(scores).into_iter().map(|(_, score)| number(score)));
        }
        cells.push(grouped(self.rate(epoch.time) as u64));
        cells.push(time(epoch.time));
        self.write(out, &cells)
    }

    fn write(&self, out: &mut Output, cells: &[String]) -> Result<(), Failure> {
        let cells: Vec<String> =
            cells.iter().zip(&self.widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        Ok(writeln!(out, "{}", cells.join("  "))?)
    }

    /// Loss and metrics by name, in the units of the targets.
    fn named(&self, scores: Scores) -> Vec<(&str, f64)> {
        let metrics = self.metrics.iter().enumerate();
        let metrics = metrics.map(|(i, name)| (name.as_str(), self.units.metric(scores, i)));
        [("loss", self.units.loss(scores))].into_iter().chain(metrics).collect()
    }
}

/// A score with as many digits as say something.
pub fn number(score: f64) -> String {
    match score.abs() {
        0.0 => "0".to_string(),
        ..1e-3 => format!("{score:.3e}"),
        ..10.0 => format!("{score:.5}"),
        ..1000.0 => format!("{score:.4}"),
        1e7.. => format!("{score:.3e}"),
        _ => format!("{score:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn digits_say_something() {
        let told = [0.0, 1.5e-5, 0.012345678, 0.9765, 2859.6971, 12.0, 3e9, f64::NAN].map(number);
        assert_eq!(told, ["0", "1.500e-5", "0.01235", "0.97650", "2859.697", "12.0000", "3.000e9", "NaN"]);
    }
}
