//! Operators on how images lie among each other: their neighbours, and their places on a map.

mod gathered;
pub mod layout;
pub mod neighbours;
pub mod place;
mod search;
