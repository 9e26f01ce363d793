//! Files that hold numbers: arrays, parameters, digits and pictures. No header is believed before the bytes behind it
//! are known to be there.

pub mod files;
pub mod idx;
pub mod npy;
pub mod picture;
pub mod safetensors;
