//! Answers: what the tables are asked for, and how it is shown.

pub mod diff;
pub mod export;
pub mod means;
pub mod meanwhile;
pub mod news;
pub mod page;
pub mod show;
pub mod sql;
