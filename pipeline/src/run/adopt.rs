//! A snapshot that another stage has of the same key, made this stage's own.

use anyhow::{Context as _, Result};
use arrow::array::AsArray as _;
use arrow::datatypes::{Float64Type, Int64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tessera_schemas::metrics::Metric;
use tessera_schemas::text;

use super::execute::save_metrics;
use crate::store::{Damaged, Manifest, StageStore};

/// Publishes a snapshot that lies elsewhere as the stage's own, in the name of this run. `found` names the stage already.
///
/// # Errors
/// Something of it is damaged, or the disk says no; readers then still see the old snapshot.
pub fn adopt(store: &StageStore, from: &StageStore, found: &Manifest, run: &str) -> Result<Manifest> {
    let work = || -> Result<Manifest> {
        store.take_over(from, &found.parts)?;
        let id = store.new_snapshot(&found.key);
        let metrics = match &found.metrics {
            Some(checksum) => {
                let numbers = metrics(from, &found.id, checksum)?;
                Some(save_metrics(&store.metrics(&id), &found.stage, &id, &numbers)?)
            }
            None => None,
        };
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let manifest = Manifest { id, metrics, created, run: run.to_owned(), ..found.clone() };
        store.publish(&manifest)?;
        Ok(manifest)
    };
    work().with_context(|| format!("cannot take over the snapshot {} of {}", found.id, from.place()))
}

/// The metrics of a snapshot.
fn metrics(store: &StageStore, id: &str, checksum: &str) -> Result<Vec<Metric>> {
    let path = store.metrics(id);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let found = blake3::hash(&bytes).to_hex();
    if found.as_str() != checksum {
        return Err(
            Damaged::new("file of metrics", &path, format!("checksum {checksum}"), format!("checksum {found}")).into()
        );
    }
    let mut metrics = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()? {
        let batch = batch?;
        let number = |name: &str| batch.column_by_name(name).with_context(|| format!("no column `{name}`"));
        let (epochs, steps) = (number("epoch")?.as_primitive::<Int64Type>(), number("step")?.as_primitive::<Int64Type>());
        let (names, values) = (text(&batch, "name")?, number("value")?.as_primitive::<Float64Type>());
        metrics.extend((0..batch.num_rows()).map(|row| Metric {
            epoch: epochs.value(row),
            step: steps.value(row),
            name: names.value(row).to_owned(),
            value: values.value(row),
        }));
    }
    Ok(metrics)
}
