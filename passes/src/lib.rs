//! The passes of Fusewright.

#![forbid(unsafe_code)]

pub mod fuse;
pub mod lower;
pub mod merge;
pub mod plan;
