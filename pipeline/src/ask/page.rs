//! Pages: what a pipeline made, as figures in HTML, each with the queries that give its numbers.

pub mod answer;
pub mod draw;
pub mod figures;
pub mod gallery;
pub mod report;
pub mod sprites;
pub mod subjects;
