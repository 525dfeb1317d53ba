//! A snapshot that another stage has of the same key, made this stage's own.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use tessera_schemas::metrics;

use crate::engine::catalog::Catalog;
use crate::store::{Manifest, StageStore};

/// Publishes a snapshot that lies elsewhere as the stage's own, in the name of this run. `found` names the stage already.
///
/// # Errors
/// Something of it is damaged, or the disk says no; readers then still see the old snapshot.
pub fn adopt(catalog: &Catalog, node: usize, from: &StageStore, found: &Manifest, run: &str) -> Result<Manifest> {
    let store = catalog.store.stage(catalog.name(node));
    let work = || -> Result<Manifest> {
        store.take_over(from, &found.parts)?;
        let id = store.new_snapshot(&found.key);
        let numbers = from.metrics(found)?;
        let renamed = numbers.iter().map(|rows| renamed(rows, &found.stage, &id)).collect::<Result<Vec<_>>>()?;
        let metrics = if found.metrics.is_some() {
            Some(store.write_metrics(&id, &concat_batches(&metrics::schema(), &renamed)?)?)
        } else {
            None
        };
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let (schema, inputs) = (Some(catalog.plan.stages[node].schema.clone()), catalog.plan.graph.inputs(node));
        let manifest = Manifest { id, metrics, created, run: run.to_owned(), schema, inputs, ..found.clone() };
        store.publish(&manifest)?;
        Ok(manifest)
    };
    work().with_context(|| format!("cannot take over the snapshot {} of {}", found.id, from.place()))
}

/// Rows of `metrics` under another stage's and snapshot's names.
fn renamed(rows: &RecordBatch, stage: &str, id: &str) -> Result<RecordBatch> {
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(|_| text))) };
    let mut columns = rows.columns().to_vec();
    for (name, text) in [("stage", stage), ("snapshot", id)] {
        columns[rows.schema().index_of(name)?] = same(text);
    }
    Ok(RecordBatch::try_new(metrics::schema(), columns)?)
}
