//! k-means of rows that lie in memory, for operators that cluster a choice of images.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use tessera_schemas::{clusters, features};

use super::config::Config;
use super::run::Run;
use super::{FEATURES, Kmeans};
use crate::operator::{Batches, Context, Dropped, Order, RunError, Sink, Tables, Whole};

/// The sizes and the centroids (`k x dimension`) that a `kmeans` stage would find of these rows: `ids`, and `n x dimension` values. A
/// cluster is empty where fewer rows than `k` differ.
///
/// # Errors
/// There are fewer rows than `k`, a value is not finite, or the run was cancelled.
pub fn of_rows(
    ids: &[String],
    values: &[f32],
    k: usize,
    context: &Context,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Vec<i64>, Vec<f32>), RunError> {
    let dimension = values.len() / ids.len().max(1);
    let schema = features::schema([(features::FEATURE, dimension)]);
    let ids = Arc::new(StringArray::from_iter_values(ids));
    let rows = RecordBatch::try_new(schema, vec![ids, features::array(values.to_vec(), dimension)])?;
    let config = Config::of(k, features::FEATURE.to_owned());
    let operator = Kmeans { config, k, dimension, centroids: Vec::new() };
    let mut found = Found { batches: Vec::new(), cancelled };
    Box::new(Run { operator, context: context.clone() }).run(&Rows(rows), &mut found)?;
    let clusters::Sorted { sizes, centroids, .. } = clusters::sorted(&found.batches)?;
    Ok((sizes.unwrap_or_default(), centroids))
}

/// The one input.
struct Rows(RecordBatch);

impl Tables for Rows {
    fn schema(&self, input: &str) -> Option<SchemaRef> {
        (input == FEATURES).then(|| self.0.schema())
    }

    fn rows(&self, _: &str) -> Result<usize, RunError> {
        Ok(self.0.num_rows())
    }

    fn scan(&self, _: &str, _: Order<'_>) -> Result<Batches, RunError> {
        Ok(Box::new(std::iter::once(Ok(self.0.clone()))))
    }

    fn place(&self, _: &str, _: Order<'_>, _: &str) -> Result<Option<usize>, RunError> {
        Ok(None)
    }
}

/// The table that is made; how it came about is nobody's concern.
struct Found<'a> {
    batches: Vec<RecordBatch>,
    cancelled: &'a dyn Fn() -> bool,
}

impl Sink for Found<'_> {
    fn write(&mut self, batch: RecordBatch) -> Result<(), RunError> {
        self.batches.push(batch);
        Ok(())
    }

    fn metric(&mut self, _: usize, _: usize, _: &str, _: f64) {}

    fn progress(&mut self, _: usize, _: usize, _: &str) {}

    fn leave_out(&mut self, _: Dropped) {}

    fn cancelled(&self) -> bool {
        (self.cancelled)()
    }
}
