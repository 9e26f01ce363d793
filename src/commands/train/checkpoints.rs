//! When checkpoints are written, and which is the last good one.

use crate::commands::output::{self, Failure};
use fusewright::{Error, Event, Trainer};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How often checkpoints are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    Epochs(u64),
    Steps(u64),
}

impl Default for Every {
    fn default() -> Every {
        Every::Epochs(1)
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Every, String> {
        let wanted = "expected a number of epochs, such as 1, or of steps, such as 500steps";
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok().filter(|&number| number > 0).ok_or(wanted)?;
        match unit.trim() {
            "" | "epoch" | "epochs" => Ok(Every::Epochs(number)),
            "step" | "steps" => Ok(Every::Steps(number)),
            _ => Err(wanted.to_string()),
        }
    }
}

/// The checkpoints of a training.
pub struct Checkpoints {
    path: Option<PathBuf>,
    every: Every,
    /// The last one that was written or read: its file and its steps.
    last: Option<(PathBuf, u64)>,
}

impl Checkpoints {
    pub fn new(path: Option<PathBuf>, every: Every) -> Checkpoints {
        Checkpoints { path, every, last: None }
    }

    /// The training goes on from this one.
    pub fn resumed(&mut self, path: &Path, trainer: &Trainer) {
        self.last = Some((path.to_path_buf(), trainer.steps()));
    }

    /// Writes a checkpoint where it is time to. One that cannot be written, on a full disk, does not end the training: it is
    /// told, and the next one may find room.
    pub fn follow(&mut self, trainer: &Trainer, event: &Event) -> Result<(), Failure> {
        let is_time = match (event, self.every) {
            (Event::Step { step, .. }, Every::Steps(n)) => step.is_multiple_of(n),
            (Event::Epoch(epoch), Every::Epochs(n)) => epoch.number.is_multiple_of(n),
            _ => false,
        };
        if !is_time || self.path.is_none() {
            return Ok(());
        }
        trainer.check_finite().map_err(|error| self.named_in(error))?;
        if let Err(error) = self.keep(trainer) {
            output::warn(&error);
        }
        Ok(())
    }

    /// Writes a checkpoint of the training as it is, if one is wanted.
    pub fn keep(&mut self, trainer: &Trainer) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        trainer.save(path).map_err(|error| self.named_in(error))?;
        self.last = Some((path.clone(), trainer.steps()));
        Ok(())
    }

    /// What an interrupted training left.
    pub fn told(&self, trainer: &Trainer) -> String {
        match &self.path {
            Some(path) => format!("stopped after step {}; `--resume {}` goes on", trainer.steps(), path.display()),
            None => format!("stopped after step {}; nothing is saved without `--checkpoint FILE`", trainer.steps()),
        }
    }

    /// The fault, with the last good checkpoint named in its help.
    pub fn named_in(&self, mut error: Error) -> Error {
        let last = match &self.last {
            Some((path, step)) => format!("the last good checkpoint is `{}`, after step {step}", path.display()),
            None if self.path.as_ref().is_some_and(|path| path.exists()) => {
                "this training has no checkpoint yet; the file of that name is as it was".to_string()
            }
            None => "there is no checkpoint yet".to_string(),
        };
        if let Error::Input(faults) = &mut error
            && let Some(fault) = faults.diagnostics.0.first_mut()
        {
            fault.help = Some(match fault.help.take() {
                Some(help) => format!("{help}; {last}"),
                None => last,
            });
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_epochs_or_steps() {
        for (text, every) in [
            ("1", Every::Epochs(1)),
            ("3epochs", Every::Epochs(3)),
            ("500steps", Every::Steps(500)),
            ("1 step", Every::Steps(1)),
        ] {
            assert_eq!(text.parse(), Ok(every));
        }
        for text in ["", "0", "steps", "-1", "1.5", "3 weeks", "99999999999999999999"] {
            assert!(text.parse::<Every>().is_err(), "{text}");
        }
    }
}
