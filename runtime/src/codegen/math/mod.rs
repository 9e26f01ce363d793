//! The elementary functions of the code generator.
//!
//! Every function is written once, as an expansion over [`Lanes`], the few operations that all
//! targets have: scalar code, 128-bit vectors and wider ones make the same bits, because every
//! operation of the trait is exact or correctly rounded. So what the tests show for scalar code
//! (all 2^32 arguments, if asked) holds for every lowering.
//!
//! What every function promises, for every argument:
//!
//! * within 4 units in the last place of the true value wherever that is a normal number; a result
//!   below 2^-126 may be zero or any value as small of the right sign;
//! * never outside the mathematical range: `sigmoid` in `[0, 1]`, `tanh`, `erf`, `sin` in `[-1,
//!   1]`, `exp >= 0`;
//! * NaN in gives NaN out (but `pow` as C has it), infinities give limits, poles give infinities,
//!   and arguments outside the domain give NaN;
//! * the same under flush-to-zero and denormals-are-zero, where subnormal arguments may count as
//!   zeros (`log`, `log2` and `pow` read them as integers and stay exact). A sum may lose a
//!   subnormal term there: `gelu` near 2^-126 has an absolute error of up to that;
//! * zeros of the right sign, but for `tanh`, which gives +0.
//!
//! There are no branches and no f64, and tables only in `gelu`, whose form depends on whether the target looks them up by an
//! instruction; both forms are tested. [`sin`], [`cos`] and [`tan`] take the usual arguments,
//! `|x| <= `[`LARGE`]; their `_large` forms take every argument at seven times the price, and a
//! caller chooses with [`is_large`].
//!
//! All coefficients are minimax fits of our own (Remez exchange for polynomials, differential
//! correction for ratios), in 50 digits, rounded to f32 one at a time with the others fitted again
//! after each rounding.

#![expect(clippy::approx_constant, reason = "a coefficient near a constant is not that constant")]

mod exponential;
mod gaussian;
mod gelu;
mod hyperbolic;
mod inverse_hyperbolic;
mod inverse_trigonometric;
mod lanes;
mod logarithm;
mod logistic;
mod power;
mod trigonometric;
mod turns;

#[cfg(test)]
mod tests;

pub use exponential::{exp, exp2, expm1};
pub use gaussian::{erf, erfc, gelu, normal_cdf};
pub use hyperbolic::{cosh, sinh, tanh};
pub use inverse_hyperbolic::{acosh, asinh, atanh};
pub use inverse_trigonometric::{acos, asin, atan, atan2};
pub use lanes::{Lanes, Lookup};
pub use logarithm::{log, log1p, log2};
pub use logistic::{sigmoid, softplus};
pub use power::pow;
pub use trigonometric::{LARGE, cos, cos_large, is_large, sin, sin_large, tan, tan_large};
