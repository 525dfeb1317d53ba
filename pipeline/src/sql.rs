//! SQL over the tables of a pipeline.

pub mod agreement;
