//! All faults of one file, each once.

use super::de::FieldError;
use crate::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::ops::Mismatch;
use std::collections::HashSet;

/// The most faults that are shown.
const LIMIT: usize = 100;

/// Collects diagnostics. A layer of a block is read once for each use of the block: what is the same fault at the same
/// place is told once.
#[derive(Debug, Default)]
pub(super) struct Faults {
    all: Diagnostics,
    seen: HashSet<(Option<Span>, Option<String>, Option<String>)>,
    places: HashSet<Span>,
    more: bool,
}

impl Faults {
    pub fn push(&mut self, fault: Diagnostic) {
        if !self.seen.insert((fault.span.clone(), fault.expected.clone(), fault.found.clone())) {
            return;
        }
        self.places.extend(fault.span.clone());
        match self.full() {
            true => self.more = true,
            false => self.all.push(fault),
        }
    }

    /// Whether as many faults as are shown have been found.
    pub fn full(&self) -> bool {
        self.all.0.len() >= LIMIT
    }

    /// Whether a fault has been told of this very place.
    pub fn told(&self, place: &Span) -> bool {
        self.places.contains(place)
    }

    /// A fault of a field; `what` is the layer or section it belongs to.
    pub fn field(&mut self, what: &str, error: FieldError) {
        let message = if error.message.is_empty() { "this does not fit" } else { &error.message };
        let mut fault = Diagnostic::new(format!("{what}: {message}")).at(error.span);
        (fault.expected, fault.found, fault.help) = (error.expected, error.found, error.help);
        self.push(fault);
    }

    pub fn mismatch(&mut self, title: String, span: Span, mismatch: Mismatch) {
        let fault = Diagnostic::new(title).at(span);
        self.push(fault.expected(mismatch.expected).found(mismatch.found).help(mismatch.help));
    }

    pub fn len(&self) -> usize {
        self.all.0.len()
    }

    pub fn into_result(mut self) -> Result<(), Diagnostics> {
        if self.more || self.full() {
            self.all.push(Diagnostic::new(format!("there may be more: these are the first {LIMIT} faults")));
        }
        self.all.into_result()
    }
}
