//! A dataflow-graph compiler for neural networks.

#![forbid(unsafe_code)]

mod compile;
pub mod data;
mod error;
mod executable;
mod initialize;
mod model;
mod weights;

pub use compile::{Compilation, Options, pass_names};
pub use error::{Error, Faults};
pub use executable::{Executable, Planned, Session, reference};
pub use initialize::initialize;
pub use model::Model;
pub use weights::Weights;

pub use fusewright_ir as ir;
pub use fusewright_passes as passes;
pub use fusewright_runtime as runtime;
pub use ir::{Bindings, Data, Tensor};

/// Values for the symbols of a model: `bindings([("N", 1)])`.
pub fn bindings<'a>(values: impl IntoIterator<Item = (&'a str, usize)>) -> Bindings {
    values.into_iter().map(|(name, n)| (name.to_string(), n)).collect()
}
