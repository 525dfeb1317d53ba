//! What a Tessera stage does: one module an operator, behind one trait.
//!
//! Adding an operator is a new file and two lines here: its module, and its line in [`OPERATORS`].

pub mod config;
pub mod operator;
pub mod parallel;
pub mod random;
pub mod reference;
pub mod spec;
pub mod tensor_file;

mod assign;
mod augment;
mod bag_of_words;
mod clusters;
mod command;
mod decode;
mod hog;
mod images;
mod jigsaw;
mod kmeans;
mod label_join;
mod labels;
mod luma;
pub mod memory;
mod names;
mod nearest;
mod normalize;
mod numbers;
mod picture;
mod products;
mod project;
mod shared;
mod sorted;
mod sql;
mod table;
mod tile;
mod torch;
#[cfg(test)]
mod trial;
mod vectors;
mod wide;

use spec::{Of, Spec};

/// All operators, by name. The only list of them.
pub static OPERATORS: &[&dyn Spec] = &[
    &Of::<assign::Assign>::new(),
    &Of::<augment::Augment>::new(),
    &Of::<bag_of_words::BagOfWords>::new(),
    &Of::<command::Command>::new(),
    &Of::<decode::Decode>::new(),
    &Of::<clusters::groups::Groups>::new(),
    &Of::<hog::Hog>::new(),
    &Of::<images::Images>::new(),
    &Of::<labels::classify::Classify>::new(),
    &Of::<labels::names::NamesOf>::new(),
    &Of::<labels::refine::Refine>::new(),
    &Of::<torch::classifier::Classifier>::new(),
    &Of::<torch::infer::Infer>::new(),
    &Of::<jigsaw::Jigsaw>::new(),
    &Of::<kmeans::Kmeans>::new(),
    &Of::<label_join::LabelJoin>::new(),
    &Of::<clusters::layout::Plane>::new(),
    &Of::<clusters::neighbours::Neighbours>::new(),
    &Of::<normalize::Normalize>::new(),
    &Of::<torch::pca::Pca>::new(),
    &Of::<clusters::place::Place>::new(),
    &Of::<torch::probe::Probe>::new(),
    &Of::<project::Project>::new(),
    &Of::<sql::Sql>::new(),
    &Of::<table::Table>::new(),
    &Of::<tile::Tile>::new(),
    &Of::<torch::train::Train>::new(),
    &Of::<torch::weights::Weights>::new(),
];

/// Ends what operators have started beside this process. Whoever ends the process without waiting for its threads calls it before; a signal
/// handler may.
pub fn leave() {
    command::end_programs();
}

/// The operator of that name.
pub fn find(name: &str) -> Option<&'static dyn Spec> {
    OPERATORS.iter().copied().find(|operator| operator.name() == name)
}
