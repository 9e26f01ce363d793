//! The text form: RON to model with spans, model to RON, and the canonical form of a file. The only module that names
//! ron.
//!
//! | file | what it does |
//! |---|---|
//! | `value` | RON text to a tree that knows its places |
//! | `de` | serde types from the tree, with the place of every fault |
//! | `sections` | the sections of a model file |
//! | `expand` | layers, blocks and repetitions to nodes of the graph |
//! | `print` | a model to RON |
//! | `format`, `comments` | the canonical form of a file, its comments kept |

mod comments;
mod de;
mod expand;
mod faults;
mod format;
mod print;
mod sections;
mod value;

pub use de::FieldError;
pub use format::format;
pub use value::{Field, Kind, Name, Value, parse};

pub(crate) use expand::with_inputs;
pub(crate) use print::print;
pub(crate) use sections::read_model;

use crate::ops::Real;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};

/// An attribute struct from the fields of a layer.
///
/// # Errors
/// Where a field is unknown, missing, or of the wrong kind.
pub fn read<T: DeserializeOwned>(fields: &Value) -> Result<T, FieldError> {
    T::deserialize(fields).map_err(|error| error.or_at(fields))
}

/// Optional numbers by name, in the order of `names`.
///
/// # Errors
/// Where a field is not one of `names`, or is not a number.
pub fn read_numbers(fields: &Value, names: &[&'static str]) -> Result<Vec<Option<Real>>, FieldError> {
    let mut numbers = vec![None; names.len()];
    let Kind::Struct(_, given) = &fields.kind else {
        return Err(FieldError::custom("expected a struct `(...)` with named fields").or_at(fields));
    };
    for field in given {
        let Some(place) = names.iter().position(|name| *name == field.name.text) else {
            let known = names.iter().map(ToString::to_string).collect();
            return Err(FieldError::unknown_field(field.name.span.clone(), &field.name.text, known));
        };
        let number = Real::deserialize(&field.value).map_err(|error| error.or_in(field))?;
        if numbers[place].replace(number).is_some() {
            return Err(FieldError {
                span: field.name.span.clone(),
                message: format!("`{}` is given twice", field.name.text),
                ..FieldError::default()
            });
        }
    }
    Ok(numbers)
}

/// The attributes of an operation in RON: `(out:6,kernel_size:5)`.
pub fn fields<T: Serialize>(attributes: &T) -> String {
    let options = ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
    options.to_string(attributes).expect("attributes are numbers, names and lists")
}
