//! TOML to graph to plan to run; the store, the engine, SQL and the command line.

pub mod sql;
