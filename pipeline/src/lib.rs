//! TOML to graph to plan to run; the store, the engine, SQL and the command line.
//!
//! The phases are types, each made from the one before:
//! [`PipelineFile`](file::PipelineFile) -> [`Graph`](graph::Graph) -> [`Plan`](plan::Plan) -> [`Report`](run::Report).

pub mod catalog;
pub mod cli;
pub mod diff;
pub mod engine;
pub mod export;
pub mod faults;
pub mod file;
pub mod graph;
pub mod interrupt;
pub mod keys;
pub mod listing;
pub mod means;
pub mod plan;
pub mod report;
pub mod run;
pub mod show;
pub mod sql;
pub mod store;
pub mod sweep;
