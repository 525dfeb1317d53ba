//! `points`: images in the plane, as a map shows them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{IMAGE_ID, SchemaError, features};

/// The column with the place from left to right.
pub const X: &str = "x";
/// The column with the place from bottom to top.
pub const Y: &str = "y";

fn fields() -> Vec<Field> {
    let place = |name| Field::new(name, DataType::Float32, false);
    vec![Field::new(IMAGE_ID, DataType::Utf8, false), place(X), place(Y)]
}

/// `image_id`, `x`, `y`.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(fields()))
}

/// The same with the features of each image, of that length, in a column of that name.
pub fn with_features(column: &str, dimension: usize) -> SchemaRef {
    Arc::new(Schema::new([fields(), vec![features::field(column, dimension)]].concat()))
}

/// A batch of [`schema`], or of [`with_features`] if there are features, from `n x 2` places.
///
/// # Errors
/// The lengths do not fit the schema.
pub fn batch(
    schema: &SchemaRef,
    ids: ArrayRef,
    places: &[[f32; 2]],
    features: Option<ArrayRef>,
) -> Result<RecordBatch, SchemaError> {
    let place = |axis: usize| Arc::new(Float32Array::from_iter_values(places.iter().map(|place| place[axis]))) as ArrayRef;
    let columns = [ids, place(0), place(1)].into_iter().chain(features).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
