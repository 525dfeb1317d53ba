//! TOML to graph to plan to run; the store, the engine, SQL and the command line.
//!
//! The phases are types, each made from the one before:
//! [`PipelineFile`](declare::file::PipelineFile) -> [`Graph`](declare::graph::Graph) -> [`Plan`](declare::plan::Plan) ->
//! [`Report`](run::Report).
//!
//! Each module here is a room of the house, and imports go down: [`cli`] -> [`serve`] -> [`run`] -> [`ask`] -> [`engine`] -> the ground, which is
//! [`declare`] (what is wanted), [`store`] (what there is) and [`watch`] (what people see meanwhile), of which none knows another.

pub mod ask;
pub mod cli;
pub mod declare;
pub mod engine;
pub mod run;
pub mod serve;
pub mod store;
pub mod watch;
