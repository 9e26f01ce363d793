//! Accuracy against f64, special values, ranges and cost. `cargo test -- --nocapture` prints the
//! largest error of every function and where it is; `-- --ignored` tries all 2^32 arguments.

mod accuracy;
mod cost;
mod scalar;
mod special;
