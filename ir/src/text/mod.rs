//! The text form: RON to graph with spans, graph to RON. The only module that names ron.

use crate::diagnostic::Span;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A RON value that remembers where it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its place.
    pub span: Span,
    /// The text.
    pub text: String,
}

/// A field that does not fit its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The place.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// How to mend it.
    pub help: Option<String>,
}

/// An attribute struct from the fields of a layer.
///
/// # Errors
/// Where a field is unknown, missing, or of the wrong kind.
pub fn read<T: DeserializeOwned>(fields: &Value) -> Result<T, FieldError> {
    ron::from_str(&fields.text).map_err(|error| FieldError {
        span: fields.span.clone(),
        message: error.to_string(),
        expected: None,
        help: None,
    })
}

/// Optional numbers by name, in the order of `names`.
///
/// # Errors
/// Where a field is not one of `names`, or is not a number.
pub fn read_numbers(fields: &Value, names: &[&'static str]) -> Result<Vec<Option<crate::ops::Real>>, FieldError> {
    let map: std::collections::BTreeMap<String, crate::ops::Real> = read(fields)?;
    Ok(names.iter().map(|name| map.get(*name).copied()).collect())
}

/// The attributes of an operation in RON: `(out:6,kernel_size:5)`.
pub fn fields<T: Serialize>(attributes: &T) -> String {
    ron::to_string(attributes).expect("attributes are numbers, names and lists")
}
