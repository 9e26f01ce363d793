//! One file a command; what they share is in `arguments`, `output` and `table`.

mod arguments;
pub mod bench;
pub mod check;
pub mod compile;
mod digits;
mod dot;
pub mod eval;
pub mod fmt;
mod gradients;
mod html;
pub mod init;
pub mod output;
pub mod run;
pub mod summary;
mod table;
pub mod train;
mod training;
