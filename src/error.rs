//! What can go wrong: faults of the user's input, with the text they are in, and faults of the compiler itself.

use crate::ir::{Diagnostic, Diagnostics, Model, Source};
use crate::runtime::{CompileError, RunError};
use std::fmt;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The user's input has faults.
    Input(Box<Faults>),
    /// The machine or the compiler failed; never the user's fault.
    Internal(String),
}

/// Faults of the user's input, and the text that their spans refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// All that were found.
    pub diagnostics: Diagnostics,
    /// The name and the text of the model file, where the faults are in one.
    pub source: Option<(String, String)>,
}

impl Error {
    /// Faults within a model's text.
    pub fn in_model(model: &Model, diagnostics: Diagnostics) -> Error {
        Error::in_text(&model.path, &model.text, diagnostics)
    }

    /// Faults within a text.
    pub fn in_text(path: &str, text: &str, diagnostics: Diagnostics) -> Error {
        let source = (!text.is_empty()).then(|| (path.to_string(), text.to_string()));
        Error::Input(Box::new(Faults { diagnostics, source }))
    }

    /// The faults, where they are the user's.
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        match self {
            Error::Input(faults) => Some(&faults.diagnostics),
            Error::Internal(_) => None,
        }
    }

    /// As text, with the lines of the source underlined.
    pub fn render(&self, color: bool) -> String {
        match self {
            Error::Input(faults) => {
                let source = faults.source.as_ref().map(|(path, text)| Source { path, text });
                faults.diagnostics.render(source, color)
            }
            Error::Internal(problem) => format!("internal error: {problem}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Error {}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Error {
        Diagnostics::from(diagnostic).into()
    }
}

impl From<Diagnostics> for Error {
    /// Faults outside of any model's text.
    fn from(diagnostics: Diagnostics) -> Error {
        Error::Input(Box::new(Faults { diagnostics, source: None }))
    }
}

impl From<CompileError> for Error {
    fn from(error: CompileError) -> Error {
        match error {
            CompileError::Code(problem) => Error::Internal(problem),
            CompileError::Parameter { .. } | CompileError::Memory(_) => Diagnostic::new(error.to_string()).into(),
            CompileError::Source(fault) => (*fault).into(),
        }
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Error {
        Diagnostic::new(error.to_string()).into()
    }
}
