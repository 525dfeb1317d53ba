//! What runs on libtorch. Nothing outside this folder sees tch.
//!
//! | file | holds |
//! | --- | --- |
//! | [`network`] | networks as data: layers, their shapes and tensors |
//! | `tensors` | named tensors: their initial values, and to and from weights tables |
//! | `forward`, `response` | a pass through a network's steps, and back |
//! | `normalisation` | how images are normalised: what keys and tables say of it |
//! | `input` | bytes to normalised tensors, and tensors to vectors |
//! | `examples` | a table's batches, cut to the examples of a step |
//! | `optimizer`, `schedule` | steps down a gradient, and their learning rates |
//! | `device`, `precision` | where a tensor lives, and what a pass computes in |
//! | `score` | what predictions are worth |
//! | `linear` | linear classifiers of labelled images |
//! | `by_formula` | tensors of which tests hold golden values |
//! | `threads` | how libtorch's threads wait for each other |
//! | [`train`], [`infer`], [`weights`], [`pca`], [`probe`], [`classifier`] | the operators |
//!
//! Images lie channels last in tables, and stay so: on CPUs, libtorch's convolutions are 1.3 to 1.4 times faster on tensors
//! with those strides than on `N x C x H x W` ones (measured on Zen 5 for both networks here).

#[cfg(test)]
mod by_formula;
pub mod classifier;
mod device;
mod examples;
mod forward;
pub mod infer;
mod input;
mod linear;
pub mod network;
mod normalisation;
mod optimizer;
pub mod pca;
mod precision;
pub mod probe;
mod response;
mod schedule;
mod score;
mod tensors;
mod threads;
pub mod train;
pub mod weights;

use crate::operator::RunError;

impl From<tch::TchError> for RunError {
    /// The first line: libtorch's messages go on with a stack trace.
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
