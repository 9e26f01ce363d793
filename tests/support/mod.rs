//! The law's machinery: networks that grow at random, the stages that they go through, and the search for the smallest
//! network that still fails.

pub mod attributes;
pub mod convolve;
pub mod found;
pub mod gradients;
pub mod grow;
pub mod network;
pub mod random;
pub mod schedule;
pub mod shrink;
pub mod stages;
pub mod training;
