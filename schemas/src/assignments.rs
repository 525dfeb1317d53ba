//! `assignments`: each image's nearest and second nearest centre, by Euclidean distance.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{IMAGE_ID, SchemaError, clusters::CLUSTER, meta};

/// `image_id`, `cluster`, `distance`, `second_cluster`, `second_distance` (the last two null when there is one centre).
pub fn schema(k: usize) -> SchemaRef {
    let cluster = |name, null| meta::with(Field::new(name, DataType::Int32, null), meta::CLASSES, k.to_string());
    Arc::new(Schema::new(vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        cluster(CLUSTER, false),
        Field::new("distance", DataType::Float32, false),
        cluster("second_cluster", true),
        Field::new("second_distance", DataType::Float32, true),
    ]))
}

/// The nearest two centres of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// The nearest centre.
    pub cluster: i32,
    /// Its Euclidean distance.
    pub distance: f32,
    /// The next one and its distance, where there is one.
    pub second: Option<(i32, f32)>,
}

/// A batch of [`schema`] for the given ids.
///
/// # Errors
/// The two differ in length.
pub fn batch(schema: &SchemaRef, ids: ArrayRef, nearest: &[Nearest]) -> Result<RecordBatch, SchemaError> {
    let columns: Vec<ArrayRef> = vec![
        ids,
        Arc::new(Int32Array::from_iter_values(nearest.iter().map(|n| n.cluster))),
        Arc::new(Float32Array::from_iter_values(nearest.iter().map(|n| n.distance))),
        Arc::new(nearest.iter().map(|n| n.second.map(|s| s.0)).collect::<Int32Array>()),
        Arc::new(nearest.iter().map(|n| n.second.map(|s| s.1)).collect::<Float32Array>()),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
