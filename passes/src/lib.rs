//! The passes of Fusewright: from a graph to a plan.
//!
//! | stage | function | in -> out |
//! |---|---|---|
//! | differentiate | [`differentiate::differentiate`] | graph -> graph with the nodes of gradients |
//! | train | [`train::step`] | graph -> graph of a whole training step |
//! | optimise | [`pipeline::run`] | graph -> graph, pass by pass |
//! | lower | [`lower::lower`] | graph -> one kernel a node |
//! | fuse | [`fuse::fuse`] | kernels -> fewer kernels, with the reason for every edge |
//! | plan | [`plan::plan`] | kernels -> plan: layouts, schedules, order, memory |

#![forbid(unsafe_code)]

pub mod absorb_padding;
pub mod differentiate;
pub mod fold_batch_norm;
pub mod fold_constants;
pub mod fuse;
pub mod lower;
pub mod merge;
pub mod merge_duplicates;
pub mod pipeline;
pub mod place;
pub mod plan;
pub mod remove_dead;
pub mod simplify;
pub mod train;
