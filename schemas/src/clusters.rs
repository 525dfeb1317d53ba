//! `clusters`: the centres that k-means found, the paper's virtual categories.

use std::sync::Arc;

use arrow::array::{Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{SchemaError, column, features, int32, int64, meta, vector};

/// The column with a cluster's number.
pub const CLUSTER: &str = "cluster";
/// The column with how many rows it has.
pub const SIZE: &str = "size";
/// The column with its centre.
pub const CENTROID: &str = "centroid";

/// `cluster`, `size`, `centroid` of `k` clusters in `dimension` dimensions.
pub fn schema(k: usize, dimension: usize) -> SchemaRef {
    let cluster = Field::new(CLUSTER, DataType::Int32, false);
    Arc::new(Schema::new(vec![
        meta::with(cluster, meta::CLASSES, k.to_string()),
        Field::new(SIZE, DataType::Int64, false),
        features::field(CENTROID, dimension),
    ]))
}

/// The whole table, from sizes (k) and centres (`k x dimension`).
///
/// # Errors
/// The lengths do not fit the schema.
pub fn batch(schema: &SchemaRef, sizes: Vec<i64>, centroids: Vec<f32>) -> Result<RecordBatch, SchemaError> {
    numbered(schema, (0..sizes.len() as i32).collect(), sizes, centroids)
}

/// The whole table, of clusters with the given numbers.
///
/// # Errors
/// The lengths do not fit the schema.
pub fn numbered(
    schema: &SchemaRef,
    numbers: Vec<i32>,
    sizes: Vec<i64>,
    centroids: Vec<f32>,
) -> Result<RecordBatch, SchemaError> {
    let dimension = features::dimension(schema, CENTROID)?;
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int32Array::from(numbers)), Arc::new(Int64Array::from(sizes)), features::array(centroids, dimension)];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// Clusters in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sorted {
    /// `k`, rising.
    pub numbers: Vec<i32>,
    /// `k`; none where the table does not say.
    pub sizes: Option<Vec<i64>>,
    /// `k x dimension`.
    pub centroids: Vec<f32>,
    /// The length of a centroid.
    pub dimension: usize,
}

/// A table of clusters, in whatever batches and order; where it has no `cluster` column, its rows are numbered as they come.
///
/// # Errors
/// A column has another type or a null, or two batches differ in dimension.
pub fn sorted(batches: &[RecordBatch]) -> Result<Sorted, SchemaError> {
    let (mut numbers, mut sizes, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut dimension = None;
    for batch in batches {
        let (centroids, length) = vector(batch, CENTROID)?;
        if *dimension.get_or_insert(length) != length {
            return Err(SchemaError::Build(format!("column `{CENTROID}` has vectors of {length} values and of others")));
        }
        match batch.column_by_name(CLUSTER) {
            Some(_) => numbers.extend_from_slice(column::without_nulls(int32(batch, CLUSTER)?, CLUSTER)?.values()),
            None => numbers.extend((numbers.len() as i32..).take(batch.num_rows())),
        }
        if batch.column_by_name(SIZE).is_some() {
            sizes.extend_from_slice(column::without_nulls(int64(batch, SIZE)?, SIZE)?.values());
        }
        values.extend_from_slice(&centroids);
    }
    let dimension = dimension.unwrap_or_default();
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by_key(|&row| numbers[row]);
    let centroids = order.iter().flat_map(|&row| &values[row * dimension..][..dimension]).copied().collect();
    let known = !sizes.is_empty() && sizes.len() == numbers.len();
    let sizes = known.then(|| order.iter().map(|&row| sizes[row]).collect());
    Ok(Sorted { numbers: order.iter().map(|&row| numbers[row]).collect(), sizes, centroids, dimension })
}

impl Sorted {
    /// What decisions about clusters are kept by: a fingerprint of the numbers and the centroids. Clusters found anew from the same images
    /// have the same; sizes have no part in it, since they follow from the images.
    pub fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let counts = [self.numbers.len() as u64, self.dimension as u64];
        let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        hasher.update(&bytes);
        let bytes: Vec<u8> = self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        hasher.update(&bytes);
        for some in self.centroids.chunks(4096) {
            let bytes: Vec<u8> = some.iter().flat_map(|value| value.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
        format!("b3:{}", &hasher.finalize().to_hex()[..32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_come_back_in_order() {
        let whole = batch(&schema(3, 2), vec![4, 5, 6], vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5]).unwrap();
        let (numbers, centroids) = (vec![0, 1, 2], vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
        let mut expected = Sorted { numbers, sizes: Some(vec![4, 5, 6]), centroids, dimension: 2 };
        assert_eq!(sorted(&[whole.slice(1, 2), whole.slice(0, 1)]).unwrap(), expected);
        expected.sizes = None;
        let unnumbered = whole.project(&[2]).unwrap();
        assert_eq!(sorted(&[unnumbered.slice(0, 1), unnumbered.slice(1, 2)]).unwrap(), expected);
        assert_eq!(sorted(&[]).unwrap(), Sorted::default());
    }

    #[test]
    fn a_key_is_of_numbers_and_centroids() {
        let of = |sizes, centroids| sorted(&[batch(&schema(2, 2), sizes, centroids).unwrap()]).unwrap();
        let one = of(vec![1, 2], vec![0.0, 0.5, 1.0, 1.5]);
        // The key of what people decided must outlive versions of this program.
        assert_eq!(one.key(), "b3:3e49712a072d0b852ea0bc44991c1cfc");
        assert_eq!(of(vec![2, 1], vec![0.0, 0.5, 1.0, 1.5]).key(), one.key());
        assert_ne!(of(vec![1, 2], vec![0.0, 0.5, 1.0, 1.25]).key(), one.key());
        assert_ne!(Sorted { numbers: vec![0, 2], ..one.clone() }.key(), one.key());
        assert_ne!(Sorted { numbers: vec![0, 1, 2, 3], dimension: 1, ..one.clone() }.key(), one.key());
    }
}
