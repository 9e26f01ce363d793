//! Fusewright compiles neural networks. A network is written as a RON file (or built in Rust), becomes a static graph, is
//! optimised, fused and given a planned memory arena, and runs as native loops that Cranelift emits in milliseconds: pure
//! Rust, no LLVM, no C compiler, no native library.
//!
//! ```
//! use fusewright::{Model, Options, Tensor, bindings};
//!
//! fn main() -> Result<(), fusewright::Error> {
//!     let model = Model::load("models/lenet5.ron")?;
//!     assert_eq!(model.parameter_count(), Some(61_706));
//!
//!     let executable = model.compile(Options::default())?;
//!     // Sessions are cheap and have an arena each; the executable is shared between threads.
//!     let mut session = executable.session(&bindings([("N", 1)]))?;
//!     let image = Tensor::from_vec(&[1, 1, 28, 28], vec![0f32; 784]);
//!     let outputs = session.run_tensors(&[("image", &image)])?;
//!     println!("{:?}", outputs[0].1.as_slice::<f32>());
//!     Ok(())
//! }
//! ```
//!
//! | stage | function | in -> out |
//! |---|---|---|
//! | read | [`Model::load`], [`Model::parse`] | RON to a graph, all faults at their places |
//! | optimise, lower, fuse, plan | [`Model::compile`], [`Executable::session`] | graph to kernels to a plan |
//! | generate | the same | plan to machine code |
//! | run | [`Session::run`] | slices to slices, without allocating |
//!
//! The parts are re-exported: [`ir`] has the graph, kernels and plan, [`passes`] what rewrites them, [`runtime`] the code
//! generator. [`data`] reads and writes arrays, parameters and pictures.

#![forbid(unsafe_code)]

mod cache;
mod compile;
pub mod data;
mod error;
mod executable;
mod initialize;
mod model;
mod recipe;
mod trainer;
mod tune;
mod units;
mod weights;

pub use compile::{Compilation, Details, Options, machine, pass_names, plan_of};
pub use error::{Error, Faults};
pub use executable::{Executable, Planned, Session, reference};
pub use initialize::initialize;
pub use model::Model;
pub use recipe::Recipe;
pub use trainer::{Epoch, Event, Scores, Trainer};
pub use units::Units;
pub use weights::Weights;

pub use fusewright_ir as ir;
pub use fusewright_passes as passes;
pub use fusewright_runtime as runtime;
pub use ir::{Bindings, Data, Tensor};
pub use runtime::Isa;

/// Values for the symbols of a model: `bindings([("N", 1)])`.
pub fn bindings<'a>(values: impl IntoIterator<Item = (&'a str, usize)>) -> Bindings {
    values.into_iter().map(|(name, n)| (name.to_string(), n)).collect()
}
