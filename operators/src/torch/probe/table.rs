//! The table that a probe yields.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::operator::RunError;
use crate::torch::linear::data::Split;
use crate::torch::score::Score;

/// Its schema.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("layer", DataType::Utf8, false),
        Field::new("c", DataType::Float64, false),
        Field::new("chosen", DataType::Boolean, false),
        Field::new("split", DataType::Utf8, false),
        Field::new("metric", DataType::Utf8, false),
        Field::new("class", DataType::Utf8, true),
        Field::new("value", DataType::Float64, false),
        Field::new("images", DataType::Int64, false),
    ]))
}

/// A number of the table.
pub struct Row {
    /// The column of features.
    pub layer: String,
    /// The regularisation.
    pub c: f64,
    /// Whether it was the best on validation.
    pub chosen: bool,
    /// What it was measured on.
    pub split: Split,
    /// The number.
    pub score: Score,
}

/// Those rows.
///
/// # Errors
/// There is no memory for them.
pub fn batch(rows: &[Row]) -> Result<RecordBatch, RunError> {
    let text = |of: fn(&Row) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(of)));
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            text(|row| &row.layer),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.c))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.chosen)))),
            text(|row| row.split.name()),
            text(|row| row.score.metric),
            Arc::new(StringArray::from_iter(rows.iter().map(|row| row.score.class.as_deref()))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.score.value))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.score.images as i64))),
        ],
    )?)
}
