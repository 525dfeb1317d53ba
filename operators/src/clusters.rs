//! Operators on how images lie among each other: their neighbours, groups, and places on a map.

mod gathered;
pub mod groups;
pub mod layout;
pub mod neighbours;
pub mod place;
mod search;
