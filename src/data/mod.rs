//! Files that hold numbers: arrays, parameters, digits, tables and pictures; and examples to train on, made of them. No header is believed before the bytes behind it
//! are known to be there.

pub mod dataset;
mod examples;
pub mod files;
mod folder;
pub mod idx;
mod labels;
pub mod npy;
mod order;
pub mod picture;
mod resample;
pub mod safetensors;
mod table;

pub use dataset::{Dataset, Labels, Scale, Scaling, Wanted};
pub use order::Order;
