//! The graph, kernels and plan of Fusewright: what passes between the stages of the compiler, the text form, and the
//! slow, obvious evaluators that say what each form means.

#![forbid(unsafe_code)]

pub mod build;
pub mod diagnostic;
pub mod dim;
pub mod evaluate;
pub mod graph;
pub mod jet;
pub mod kernel;
pub mod model;
pub mod ops;
pub mod plan;
pub mod recipe;
pub mod tensor;
pub mod text;
pub mod verify;

pub use build::GraphBuilder;
pub use diagnostic::{Diagnostic, Diagnostics, Source, Span};
pub use dim::{Bindings, Dim};
pub use graph::{Graph, Node, NodeId, NodeMap, Output, ValueId};
pub use model::Model;
pub use tensor::{Array, DType, Data, Tensor, TensorType};
pub use verify::verify;
