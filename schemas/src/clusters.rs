//! `clusters`: the centres that k-means found, the paper's virtual categories.

use std::sync::Arc;

use arrow::array::{Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{SchemaError, features, meta};

/// The column with a cluster's number.
pub const CLUSTER: &str = "cluster";
/// The column with its centre.
pub const CENTROID: &str = "centroid";

/// `cluster`, `size`, `centroid` of `k` clusters in `dimension` dimensions.
pub fn schema(k: usize, dimension: usize) -> SchemaRef {
    let cluster = Field::new(CLUSTER, DataType::Int32, false);
    Arc::new(Schema::new(vec![
        meta::with(cluster, meta::CLASSES, k.to_string()),
        Field::new("size", DataType::Int64, false),
        features::field(CENTROID, dimension),
    ]))
}

/// The whole table, from sizes (k) and centres (`k x dimension`).
///
/// # Errors
/// The lengths do not fit the schema.
pub fn batch(schema: &SchemaRef, sizes: Vec<i64>, centroids: Vec<f32>) -> Result<RecordBatch, SchemaError> {
    let dimension = features::dimension(schema, CENTROID)?;
    let numbers = Int32Array::from_iter_values(0..sizes.len() as i32);
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(numbers), Arc::new(Int64Array::from(sizes)), features::array(centroids, dimension)];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
