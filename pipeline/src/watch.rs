//! What people see and say while work goes on: events, progress, and ^C.

pub mod events;
pub mod interrupt;
pub mod progress;
pub mod screen;
pub mod terminal;
