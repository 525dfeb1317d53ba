//! The system tables: `stages`, `snapshots`, `parts`, `runs`, `metrics`, `dropped`.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tessera_schemas::metrics;

use crate::catalog::Catalog;
use crate::store::{Damaged, DroppedRow, Manifest};

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn numbers(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

fn times(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<TimestampMillisecondArray>())
}

/// Every system table and its rows, but for `snapshots`, whose rows are read when a query asks for them.
///
/// # Errors
/// The store is damaged.
pub fn tables(catalog: &Catalog) -> Result<Vec<(&'static str, Vec<RecordBatch>)>> {
    let manifests: Vec<Option<Arc<Manifest>>> =
        (0..catalog.plan.stages.len()).map(|node| catalog.table(node).and_then(|table| table.manifest)).collect();
    let made: Vec<&Manifest> = manifests.iter().flatten().map(Arc::as_ref).collect();
    Ok(vec![
        ("stages", vec![stages(catalog, &manifests)?]),
        ("parts", vec![parts(&made)?]),
        ("runs", vec![runs(catalog)?]),
        ("metrics", read_metrics(catalog, &made)?),
        ("dropped", vec![dropped(&made)?]),
    ])
}

/// `stage`, `operator`, `is_view`, `snapshot`, `rows`, `parts`, `bytes`, `seconds`, `made` (UTC), `inputs`.
fn stages(catalog: &Catalog, manifests: &[Option<Arc<Manifest>>]) -> Result<RecordBatch> {
    let nodes = &catalog.plan.graph.nodes;
    let of = |get: fn(&Manifest) -> i64| numbers(manifests.iter().map(|m| m.as_deref().map(get)));
    let inputs =
        nodes.iter().map(|node| Some(node.edges.iter().map(|edge| catalog.name(edge.from)).collect::<Vec<_>>().join(", ")));
    let seconds: Float64Array = manifests.iter().map(|m| m.as_ref().map(|m| m.seconds)).collect();
    let views: BooleanArray = nodes.iter().map(|node| Some(node.view)).collect();
    Ok(RecordBatch::try_from_iter([
        ("stage", texts(nodes.iter().map(|node| Some(&node.name)))),
        ("operator", texts(nodes.iter().map(|node| Some(node.spec.name())))),
        ("is_view", Arc::new(views) as ArrayRef),
        ("snapshot", texts(manifests.iter().map(|m| m.as_ref().map(|m| &m.id)))),
        ("rows", of(|m| m.rows() as i64)),
        ("parts", of(|m| m.parts.len() as i64)),
        ("bytes", of(|m| m.parts.iter().map(|part| part.bytes as i64).sum())),
        ("seconds", Arc::new(seconds)),
        ("made", times(manifests.iter().map(|m| m.as_ref().map(|m| m.created as i64 * 1000)))),
        ("inputs", texts(inputs)),
    ])?)
}

/// `stage`, `snapshot`, `is_current`, `made` (UTC), `run`, `rows`, `parts`, `bytes`, `seconds`, of what depends on them to its last digits
/// `device` and `threads`, and `started_from` (the snapshot whose table it goes on from): a row a snapshot that is still in the store,
/// newest first.
pub fn snapshots(catalog: &Catalog) -> Result<RecordBatch> {
    let mut all: Vec<(bool, Manifest)> = Vec::new();
    for node in catalog.plan.graph.nodes.iter().filter(|node| !node.view) {
        let store = catalog.store.stage(&node.name);
        let current = store.current()?.map(|manifest| manifest.id);
        all.extend(store.snapshots()?.into_iter().map(|manifest| (Some(&manifest.id) == current.as_ref(), manifest)));
    }
    snapshot_rows(&all)
}

/// The rows of [`snapshots`], of the given ones: whether each is current, and its manifest.
pub fn snapshot_rows(all: &[(bool, Manifest)]) -> Result<RecordBatch> {
    let of = |get: fn(&Manifest) -> i64| numbers(all.iter().map(|(_, manifest)| Some(get(manifest))));
    let texts_of = |get: fn(&Manifest) -> &String| texts(all.iter().map(|(_, manifest)| Some(get(manifest))));
    let columns = [
        ("stage", texts_of(|m| &m.stage)),
        ("snapshot", texts_of(|m| &m.id)),
        ("is_current", Arc::new(all.iter().map(|(current, _)| Some(*current)).collect::<BooleanArray>()) as ArrayRef),
        ("made", times(all.iter().map(|(_, m)| Some(m.created as i64 * 1000)))),
        ("run", texts_of(|m| &m.run)),
        ("rows", of(|m| m.rows() as i64)),
        ("parts", of(|m| m.parts.len() as i64)),
        ("bytes", of(|m| m.parts.iter().map(|part| part.bytes as i64).sum())),
        ("seconds", Arc::new(all.iter().map(|(_, m)| Some(m.seconds)).collect::<Float64Array>())),
        ("device", texts(all.iter().map(|(_, m)| m.machine.as_ref().map(|machine| &machine.device)))),
        ("threads", numbers(all.iter().map(|(_, m)| m.machine.as_ref().map(|machine| machine.threads as i64)))),
        ("started_from", texts(all.iter().map(|(_, m)| m.started_from.as_ref()))),
    ];
    // Nullable or not by their names: the rows' schema is that of no rows.
    let nullable = |name: &str| matches!(name, "device" | "threads" | "started_from");
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, nullable(name))))?)
}

/// `stage`, `snapshot`, `part`, `file`, `rows`, `bytes`, `key`, `dropped`.
fn parts(made: &[&Manifest]) -> Result<RecordBatch> {
    let all = || made.iter().flat_map(|m| m.parts.iter().enumerate().map(move |(at, part)| (*m, at, part)));
    Ok(RecordBatch::try_from_iter([
        ("stage", texts(all().map(|(m, _, _)| Some(&m.stage)))),
        ("snapshot", texts(all().map(|(m, _, _)| Some(&m.id)))),
        ("part", numbers(all().map(|(_, at, _)| Some(at as i64)))),
        ("file", texts(all().map(|(_, _, part)| Some(&part.file)))),
        ("rows", numbers(all().map(|(_, _, part)| Some(part.rows as i64)))),
        ("bytes", numbers(all().map(|(_, _, part)| Some(part.bytes as i64)))),
        ("key", texts(all().map(|(_, _, part)| Some(&part.key)))),
        ("dropped", numbers(all().map(|(_, _, part)| Some(part.dropped.len() as i64)))),
    ])?)
}

/// `run`, `started` (UTC), `seconds`, `stage`, `action`, `rows_out`, `rows_computed`, `error`: a row a stage of each run.
fn runs(catalog: &Catalog) -> Result<RecordBatch> {
    type Row = (String, Option<i64>, f64, Option<String>, Option<String>, Option<i64>, Option<i64>, Option<String>);
    let mut rows: Vec<Row> = Vec::new();
    for (run, record) in catalog.store.runs()? {
        let started = record["started"].as_i64();
        let error = record["error"].as_str().map(str::to_owned);
        let row = |stage: &serde_json::Value| {
            let text = |key: &str| stage[key].as_str().map(str::to_owned);
            let seconds = stage["seconds"].as_f64().unwrap_or_default();
            let (out, computed) = (stage["rows_out"].as_i64(), stage["rows_computed"].as_i64());
            (run.clone(), started, seconds, text("stage"), text("action"), out, computed, error.clone())
        };
        rows.extend(record["stages"].as_array().into_iter().flatten().map(row));
    }
    Ok(RecordBatch::try_from_iter([
        ("run", texts(rows.iter().map(|r| Some(&r.0)))),
        ("started", times(rows.iter().map(|r| r.1))),
        ("seconds", Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Float64Array>())),
        ("stage", texts(rows.iter().map(|r| r.3.as_ref()))),
        ("action", texts(rows.iter().map(|r| r.4.as_ref()))),
        ("rows_out", numbers(rows.iter().map(|r| r.5))),
        ("rows_computed", numbers(rows.iter().map(|r| r.6))),
        ("error", texts(rows.iter().map(|r| r.7.as_ref()))),
    ])?)
}

/// The rows of `metrics`, of the given snapshots.
///
/// # Errors
/// A file is damaged.
pub fn read_metrics(catalog: &Catalog, made: &[&Manifest]) -> Result<Vec<RecordBatch>> {
    let mut batches = vec![RecordBatch::new_empty(metrics::schema())];
    for manifest in made {
        let path = catalog.store.stage(&manifest.stage).metrics(&manifest.id);
        let Some(checksum) = &manifest.metrics else { continue };
        let advice =
            || format!("the metrics of stage `{0}` cannot be read; `tessera run --force {0}` makes it anew", manifest.stage);
        let bytes = fs::read(&path).with_context(|| path.display().to_string()).with_context(advice)?;
        let found = blake3::hash(&bytes).to_hex();
        if found.as_str() != checksum {
            let damaged =
                Damaged::new("file of metrics", &path, format!("checksum {checksum}"), format!("checksum {found}"));
            return Err(damaged).with_context(advice);
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()?;
        batches.extend(reader.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(batches)
}

/// `stage`, `image_id`, `path`, `reason`: the distinct union over the current manifests.
fn dropped(made: &[&Manifest]) -> Result<RecordBatch> {
    let rows: BTreeSet<&DroppedRow> = made.iter().flat_map(|manifest| manifest.dropped()).collect();
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("stage", texts(rows.iter().map(|row| Some(&row.stage))), false),
        ("image_id", texts(rows.iter().map(|row| Some(&row.image_id))), false),
        ("path", texts(rows.iter().map(|row| row.path.as_ref())), true),
        ("reason", texts(rows.iter().map(|row| Some(&row.reason))), false),
    ])?)
}
