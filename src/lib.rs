//! A dataflow-graph compiler for neural networks.

#![forbid(unsafe_code)]

pub mod data;

pub use fusewright_ir as ir;
pub use fusewright_passes as passes;
pub use fusewright_runtime as runtime;
