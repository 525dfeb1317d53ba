//! `neighbours`: for each image the others that are nearest to it, by Euclidean distance.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{IMAGE_ID, SchemaError};

/// The column with a neighbour's place among an image's neighbours: 1 for the nearest.
pub const RANK: &str = "rank";
/// The column with the neighbour's `image_id`.
pub const NEIGHBOUR: &str = "neighbour";
/// The column with its Euclidean distance.
pub const DISTANCE: &str = "distance";

/// `image_id`, `rank`, `neighbour`, `distance`: a row for each neighbour of an image.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        Field::new(RANK, DataType::Int32, false),
        Field::new(NEIGHBOUR, DataType::Utf8, false),
        Field::new(DISTANCE, DataType::Float32, false),
    ]))
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour<'a> {
    /// Whose neighbour it is.
    pub image_id: &'a str,
    /// 1 for the nearest.
    pub rank: i32,
    /// Its `image_id`.
    pub neighbour: &'a str,
    /// Its Euclidean distance.
    pub distance: f32,
}

/// A batch of [`schema`].
///
/// # Errors
/// The texts are longer altogether than a column can be.
pub fn batch(rows: &[Neighbour<'_>]) -> Result<RecordBatch, SchemaError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.image_id))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.rank))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.neighbour))),
        Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.distance))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
