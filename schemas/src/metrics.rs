//! `metrics`: numbers that operators emit while they work; one table for all stages.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Pass over the data, or iteration.
    pub epoch: i64,
    /// Step since the start.
    pub step: i64,
    /// What it measures.
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// `stage`, `snapshot`, `epoch`, `step`, `name`, `value`.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("stage", DataType::Utf8, false),
        Field::new("snapshot", DataType::Utf8, false),
        Field::new("epoch", DataType::Int64, false),
        Field::new("step", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
    ]))
}

/// Batches of [`schema`] as one, under another stage's and snapshot's names.
///
/// # Errors
/// They are of another schema.
pub fn renamed(batches: &[RecordBatch], stage: &str, snapshot: &str) -> Result<RecordBatch, ArrowError> {
    let all = concat_batches(&schema(), batches)?;
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..all.num_rows()).map(|_| text))) };
    let mut columns = all.columns().to_vec();
    (columns[0], columns[1]) = (same(stage), same(snapshot));
    RecordBatch::try_new(schema(), columns)
}

/// The metrics of one snapshot as a batch of [`schema`].
pub fn batch(stage: &str, snapshot: &str, metrics: &[Metric]) -> RecordBatch {
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(metrics.iter().map(|_| text))) };
    let columns: Vec<ArrayRef> = vec![
        same(stage),
        same(snapshot),
        Arc::new(Int64Array::from_iter_values(metrics.iter().map(|m| m.epoch))),
        Arc::new(Int64Array::from_iter_values(metrics.iter().map(|m| m.step))),
        Arc::new(StringArray::from_iter_values(metrics.iter().map(|m| m.name.as_str()))),
        Arc::new(Float64Array::from_iter_values(metrics.iter().map(|m| m.value))),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns of equal length and the schema's types")
}
