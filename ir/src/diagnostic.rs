//! The one way to say no: what was expected, what was found, where, and how to mend it.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// Byte positions in the source text.
pub type Span = Range<usize>;

/// One fault of the user's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one line, naming the layer or file.
    pub title: String,
    /// Where, if the fault has a place in the model's text.
    pub span: Option<Span>,
    /// What would have been right.
    pub expected: Option<String>,
    /// What is there instead.
    pub found: Option<String>,
    /// How to mend it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A diagnostic with a title only.
    pub fn new(title: impl Into<String>) -> Diagnostic {
        Diagnostic { title: title.into(), span: None, expected: None, found: None, help: None }
    }

    /// Sets the place.
    pub fn at(mut self, span: impl Into<Option<Span>>) -> Diagnostic {
        self.span = span.into();
        self
    }

    /// Sets what would have been right.
    pub fn expected(mut self, text: impl Into<String>) -> Diagnostic {
        self.expected = Some(text.into());
        self
    }

    /// Sets what is there instead.
    pub fn found(mut self, text: impl Into<String>) -> Diagnostic {
        self.found = Some(text.into());
        self
    }

    /// Sets how to mend it.
    pub fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help = Some(text.into());
        self
    }

    /// The diagnostic as text, with the line of the source underlined.
    pub fn render(&self, source: Option<Source<'_>>, color: bool) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(self.title.as_str()));
        if let (Some(span), Some(source)) = (&self.span, source) {
            let end = span.end.min(source.text.len());
            let annotation = AnnotationKind::Primary.span(span.start.min(end)..end);
            group = group.element(Snippet::source(source.text).path(source.path).annotation(annotation));
        } else if let Some(source) = source {
            group = group.element(annotate_snippets::Origin::path(source.path));
        }
        for (name, text) in [("expected", &self.expected), ("found", &self.found), ("help", &self.help)] {
            if let Some(text) = text {
                group = group.element(Level::NOTE.with_name(name).message(text.as_str()));
            }
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group]).to_string()
    }
}

/// A text and the name of its file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file's name, as messages show it.
    pub path: &'a str,
    /// The whole text.
    pub text: &'a str,
}

/// All faults that were found, never only the first.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// `Ok` where there are none.
    ///
    /// # Errors
    /// The diagnostics themselves.
    pub fn into_result(self) -> Result<(), Diagnostics> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds all that a check has found.
    pub fn include(&mut self, result: Result<(), Diagnostics>) {
        self.0.extend(result.err().into_iter().flat_map(|found| found.0));
    }

    /// All of them as text, in the order of their places.
    pub fn render(&self, source: Option<Source<'_>>, color: bool) -> String {
        let mut sorted: Vec<&Diagnostic> = self.0.iter().collect();
        sorted.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(usize::MAX, |span| span.start));
        let all: Vec<String> = sorted.iter().map(|diagnostic| diagnostic.render(source, color)).collect();
        all.join("\n\n")
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Diagnostics {
        Diagnostics(vec![diagnostic])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(None, false))
    }
}

impl std::error::Error for Diagnostics {}

/// The name among `candidates` that was probably meant, for "did you mean".
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance is at least the difference of the lengths, and takes time and space that grow with both.
    let limit = 1 + name.len() / 3;
    let near = |other: &&str| name.len() <= 100 && name.len().abs_diff(other.len()) <= limit;
    let scored = candidates
        .into_iter()
        .filter(near)
        .map(|other| (strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase()), other));
    let (distance, best) = scored.min()?;
    (distance <= limit).then_some(best)
}
