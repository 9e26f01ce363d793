//! `fusewright fmt`: the canonical form of a model or training file.

use super::output::{Failure, Output};
use clap::Args;
use fusewright::data::files;
use fusewright::{Error, ir};
use std::io::Write;
use std::path::PathBuf;

/// Prints a model or training file in its canonical form; comments are kept
#[derive(Args)]
pub struct Fmt {
    /// The file
    model: PathBuf,
    /// Write the file in place of printing it
    #[arg(long)]
    write: bool,
}

impl Fmt {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        let text = files::read_text(&self.model)?;
        let path = self.model.display().to_string();
        let formatted = ir::text::format(&text).map_err(|faults| Error::in_text(&path, &text, faults))?;
        if !self.write {
            return Ok(out.write_all(formatted.as_bytes())?);
        }
        if formatted != text {
            files::write(&self.model, |file| file.write_all(formatted.as_bytes()))?;
        }
        Ok(())
    }
}
