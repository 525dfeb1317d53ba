//! Linear classifiers of labelled images: what `probe` measures and `classifier` keeps.
//!
//! Features and labels are brought together ([`read`]), and a layer's features are standardised (`layer`); the weights are found by
//! L-BFGS ([`fit`]).

pub mod data;
pub mod fit;
mod labels;
mod layer;
mod lbfgs;
pub mod read;

/// The input of features.
pub const FEATURES: &str = "features";
/// The input of labels.
pub const LABELS: &str = "labels";

/// How the labels say what an image shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A column has the image's class, one of several.
    One(String),
    /// Each column says of one class whether the image shows it.
    Each(Vec<String>),
}

/// What images are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Splits {
    /// A column of the labels says it.
    Column(String),
    /// A fifth, drawn by seed and `image_id`, is for the test.
    Drawn,
    /// All are learnt from.
    All,
}

/// What is read of features and labels.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The columns of vectors.
    pub columns: &'a [String],
    /// What images show.
    pub target: &'a Target,
    /// What they are for.
    pub splits: &'a Splits,
}
