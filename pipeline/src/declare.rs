//! What is wanted: the pipeline file, its sweeps, the graph of its stages, the plan that binds them, and what is wrong with any of it.

pub mod faults;
pub mod file;
pub mod graph;
pub mod plan;
pub mod sweep;
