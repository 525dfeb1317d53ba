//! What people say of images by way of their clusters: names, splits, and what a classifier learns of them.

pub mod classify;
pub mod decisions;
pub mod names;
pub mod refine;
