//! Field metadata: what a column's Arrow type does not say.
//!
//! It travels with the field through projections and Parquet files. Values are text, numbers joined by commas.

use std::collections::HashMap;
use std::str::FromStr;

use arrow::datatypes::Field;

use crate::SchemaError;

/// `H,W,3` of an image, `G·G,T,T,3` of a puzzle's tiles (row-major, channels last), `C,H,W` of a feature map.
pub const SHAPE: &str = "tessera.shape";
/// How many different values a class column can take: the number of permutations, clusters or labels.
pub const CLASSES: &str = "tessera.classes";
/// `true` on a column that says for one class whether an image shows it: see [`presence`](crate::presence).
pub const PRESENCE: &str = "tessera.presence";
/// The stage whose data set a `source` column's paths are relative to.
pub const STAGE: &str = "tessera.stage";
/// `true` on a column whose values say where something lies, not what it is: it has no part in any digest.
pub const UNDIGESTED: &str = "tessera.undigested";
/// `true` on a column that describes an image's file: what is made of the image does not hand it on.
pub const OF_FILE: &str = "tessera.of_file";
/// The network that a weights table belongs to.
pub const NETWORK: &str = "tessera.network";
/// Per-channel mean that the network's input is normalised with, of values in 0..1. Without the entry, it is not known.
pub const MEAN: &str = "tessera.mean";
/// Per-channel standard deviation of the same.
pub const DEVIATION: &str = "tessera.deviation";
/// How tiles are normalised before the network sees them: `tile`, `tile-channel` or `none`.
pub const NORMALISATION: &str = "tessera.normalisation";

/// Adds one entry to a field's metadata.
pub fn with(field: Field, key: &str, value: impl Into<String>) -> Field {
    let mut metadata: HashMap<String, String> = field.metadata().clone();
    metadata.insert(key.to_owned(), value.into());
    field.with_metadata(metadata)
}

/// Joins numbers as metadata holds them.
pub fn join<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// Reads a list of numbers from a field's metadata.
///
/// # Errors
/// The entry is missing, or is no list of numbers.
pub fn list<T: FromStr>(field: &Field, key: &'static str) -> Result<Vec<T>, SchemaError> {
    let bad = || SchemaError::Metadata { column: field.name().clone(), key };
    let text = field.metadata().get(key).ok_or_else(bad)?;
    text.split(',').map(|part| part.parse().map_err(|_| bad())).collect()
}

/// Reads a fixed number of numbers, as [`list`] does.
///
/// # Errors
/// As [`list`], and when there are not exactly `N`.
pub fn array<T: FromStr, const N: usize>(field: &Field, key: &'static str) -> Result<[T; N], SchemaError> {
    list(field, key)?.try_into().map_err(|_| SchemaError::Metadata { column: field.name().clone(), key })
}

/// Reads one number.
///
/// # Errors
/// As [`list`].
pub fn number<T: FromStr>(field: &Field, key: &'static str) -> Result<T, SchemaError> {
    let [value] = array(field, key)?;
    Ok(value)
}
