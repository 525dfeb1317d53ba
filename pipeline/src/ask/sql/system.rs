//! The system tables: `stages`, `snapshots`, `parts`, `runs`, `metrics`, `dropped`.
//!
//! Their rows are made when a query asks for them: a query that does not never fails for what another would.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use serde_json::Value;
use tessera_schemas::metrics;

use super::measured;
use super::provider::Scans;
use crate::engine::catalog::Catalog;
use crate::store::{DroppedRow, Manifest};

/// All system tables.
pub const TABLES: [Kind; 6] = [
    Kind { name: "stages", is_current: true, of_none: |_| stages(&[]), rows: |catalog, _| stages(&stages_of(catalog)) },
    Kind {
        name: "snapshots",
        is_current: false,
        of_none: |_| snapshots(&[]),
        rows: |catalog, _| snapshots(&all_snapshots(catalog)?),
    },
    Kind { name: "parts", is_current: true, of_none: |_| parts(&[]), rows: |catalog, _| parts(&made(catalog)) },
    Kind {
        name: "runs",
        is_current: false,
        of_none: |_| runs(&[]),
        rows: |catalog, scans| runs(&all_runs(catalog, scans)?),
    },
    Kind {
        name: "metrics",
        is_current: true,
        of_none: |catalog| measured::with_axes(catalog, &RecordBatch::new_empty(metrics::schema())),
        rows: |catalog, _| measured::all(catalog, &made(catalog)),
    },
    Kind { name: "dropped", is_current: true, of_none: |_| dropped(&[]), rows: |catalog, _| dropped(&made(catalog)) },
];

/// A kind of system table.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Whether it tells of the current snapshots, and not of earlier ones.
    pub is_current: bool,
    /// The table of an empty store: its columns.
    of_none: fn(&Catalog) -> Result<RecordBatch>,
    /// Its rows.
    rows: fn(&Catalog, &Scans) -> Result<RecordBatch>,
}

/// A system table over a catalog's store.
pub struct SystemTable {
    kind: Kind,
    catalog: Arc<Catalog>,
    scans: Scans,
    schema: SchemaRef,
}

impl SystemTable {
    /// The table of that kind; `scans` gets to know what is to be said of its rows.
    ///
    /// # Errors
    /// Arrow refuses its columns (never).
    pub fn new(kind: Kind, catalog: Arc<Catalog>, scans: Scans) -> Result<Self> {
        let schema = (kind.of_none)(&catalog)?.schema();
        Ok(Self { kind, catalog, scans, schema })
    }
}

impl std::fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.name)
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let rows = (self.kind.rows)(&self.catalog, &self.scans);
        let rows = rows.map_err(|error| DataFusionError::External(error.into()))?;
        MemTable::try_new(self.schema(), vec![vec![rows]])?.scan(state, projection, filters, limit).await
    }
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn numbers(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

fn seconds(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Float64Array>())
}

fn flags(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<BooleanArray>())
}

fn times(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<TimestampMillisecondArray>())
}

/// Columns that may have nulls, whether these have any or not: a table has one schema, whatever its rows.
fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?)
}

/// The snapshots that readers see.
fn made(catalog: &Catalog) -> Vec<Arc<Manifest>> {
    (0..catalog.plan.stages.len()).filter_map(|node| catalog.table(node)?.manifest).collect()
}

/// A row of `stages`.
struct Stage {
    name: String,
    operator: String,
    is_view: bool,
    manifest: Option<Arc<Manifest>>,
    inputs: String,
}

fn stages_of(catalog: &Catalog) -> Vec<Stage> {
    let one = |(at, node): (usize, &crate::declare::graph::Node)| Stage {
        name: node.name.clone(),
        operator: node.spec.name().to_owned(),
        is_view: node.view,
        manifest: catalog.table(at).and_then(|table| table.manifest),
        inputs: node.edges.iter().map(|edge| catalog.name(edge.from)).collect::<Vec<_>>().join(", "),
    };
    catalog.plan.graph.nodes.iter().enumerate().map(one).collect()
}

/// `stage`, `operator`, `is_view`, `snapshot`, `rows`, `parts`, `bytes`, `seconds`, `made` (UTC), `inputs`.
fn stages(rows: &[Stage]) -> Result<RecordBatch> {
    let of = |get: fn(&Manifest) -> i64| numbers(rows.iter().map(|stage| stage.manifest.as_deref().map(get)));
    batch([
        ("stage", texts(rows.iter().map(|stage| Some(&stage.name)))),
        ("operator", texts(rows.iter().map(|stage| Some(&stage.operator)))),
        ("is_view", flags(rows.iter().map(|stage| stage.is_view))),
        ("snapshot", texts(rows.iter().map(|stage| stage.manifest.as_ref().map(|m| &m.id)))),
        ("rows", of(|m| m.rows() as i64)),
        ("parts", of(|m| m.parts.len() as i64)),
        ("bytes", of(|m| m.parts.iter().map(|part| part.bytes as i64).sum())),
        ("seconds", seconds(rows.iter().map(|stage| stage.manifest.as_ref().map(|m| m.seconds)))),
        ("made", times(rows.iter().map(|stage| stage.manifest.as_ref().map(|m| m.created as i64 * 1000)))),
        ("inputs", texts(rows.iter().map(|stage| Some(&stage.inputs)))),
    ])
}

/// Whether each is current, and its manifest; newest first.
fn all_snapshots(catalog: &Catalog) -> Result<Vec<(bool, Manifest)>> {
    let mut all = Vec::new();
    for (at, node) in catalog.plan.graph.nodes.iter().enumerate().filter(|(_, node)| !node.view) {
        let current = catalog.table(at).and_then(|table| table.manifest);
        let is_current = |manifest: &Manifest| current.as_ref().is_some_and(|current| current.id == manifest.id);
        let snapshots = catalog.store.stage(&node.name).snapshots()?;
        all.extend(snapshots.into_iter().map(|manifest| (is_current(&manifest), manifest)));
    }
    Ok(all)
}

/// `stage`, `snapshot`, `is_current`, `made` (UTC), `run`, `rows`, `parts`, `bytes`, `seconds`, of what depends on them to its last digits
/// `device` and `threads`, `started_from` (the snapshot whose table it goes on from), and `rewrite_of` (the one whose rows it has in other
/// files): a row a snapshot that is still in the store.
fn snapshots(all: &[(bool, Manifest)]) -> Result<RecordBatch> {
    let of = |get: fn(&Manifest) -> i64| numbers(all.iter().map(|(_, manifest)| Some(get(manifest))));
    let texts_of = |get: fn(&Manifest) -> &String| texts(all.iter().map(|(_, manifest)| Some(get(manifest))));
    batch([
        ("stage", texts_of(|m| &m.stage)),
        ("snapshot", texts_of(|m| &m.id)),
        ("is_current", flags(all.iter().map(|(current, _)| *current))),
        ("made", times(all.iter().map(|(_, m)| Some(m.created as i64 * 1000)))),
        ("run", texts_of(|m| &m.run)),
        ("rows", of(|m| m.rows() as i64)),
        ("parts", of(|m| m.parts.len() as i64)),
        ("bytes", of(|m| m.parts.iter().map(|part| part.bytes as i64).sum())),
        ("seconds", seconds(all.iter().map(|(_, m)| Some(m.seconds)))),
        ("device", texts(all.iter().map(|(_, m)| m.machine.as_ref().map(|machine| &machine.device)))),
        ("threads", numbers(all.iter().map(|(_, m)| m.machine.as_ref().map(|machine| machine.threads as i64)))),
        ("started_from", texts(all.iter().map(|(_, m)| m.started_from.as_ref()))),
        ("rewrite_of", texts(all.iter().map(|(_, m)| m.rewrite_of.as_ref()))),
    ])
}

/// `stage`, `snapshot`, `part`, `file`, `rows`, `bytes`, `key`, `dropped`, `gone` (rows that are in the file and no longer in the table).
fn parts(made: &[Arc<Manifest>]) -> Result<RecordBatch> {
    let all = || made.iter().flat_map(|m| m.parts.iter().enumerate().map(move |(at, part)| (m, at, part)));
    batch([
        ("stage", texts(all().map(|(m, _, _)| Some(&m.stage)))),
        ("snapshot", texts(all().map(|(m, _, _)| Some(&m.id)))),
        ("part", numbers(all().map(|(_, at, _)| Some(at as i64)))),
        ("file", texts(all().map(|(_, _, part)| Some(&part.file)))),
        ("rows", numbers(all().map(|(_, _, part)| Some(part.rows as i64)))),
        ("bytes", numbers(all().map(|(_, _, part)| Some(part.bytes as i64)))),
        ("key", texts(all().map(|(_, _, part)| Some(&part.key)))),
        ("dropped", numbers(all().map(|(_, _, part)| Some(part.dropped.len() as i64)))),
        ("gone", numbers(all().map(|(_, _, part)| Some(part.gone.len() as i64)))),
    ])
}

/// A row of `runs`: a run's name, its record, and what the record says of one stage.
type Run = (String, Arc<Value>, Value);

/// A record that is damaged is told, and left out.
fn all_runs(catalog: &Catalog, scans: &Scans) -> Result<Vec<Run>> {
    let mut rows = Vec::new();
    for (run, record) in catalog.store.runs()? {
        match record {
            Ok(record) => {
                let record = Arc::new(record);
                let mut stages = record["stages"].as_array().cloned().unwrap_or_default();
                if stages.is_empty() {
                    stages.push(Value::Null);
                }
                rows.extend(stages.into_iter().map(|stage| (run.clone(), record.clone(), stage)));
            }
            Err(damaged) => scans.note(format!("{} is damaged, and `runs` leaves it out", damaged.path.display())),
        }
    }
    Ok(rows)
}

/// `run`, `started` (UTC), `seconds`, `stage`, `action`, `rows_out`, `rows_computed`, `error`, `changed` (whether the stage had another snapshot
/// afterwards; null in records of earlier versions): a row a stage of each run; one without a stage of a run that failed before its first one.
fn runs(rows: &[Run]) -> Result<RecordBatch> {
    let text = |key: &'static str| texts(rows.iter().map(move |(.., stage)| stage[key].as_str()));
    let number = |key: &'static str| numbers(rows.iter().map(move |(.., stage)| stage[key].as_i64()));
    batch([
        ("run", texts(rows.iter().map(|(run, ..)| Some(run)))),
        ("started", times(rows.iter().map(|(_, record, _)| record["started"].as_i64()))),
        ("seconds", seconds(rows.iter().map(|(.., stage)| Some(stage["seconds"].as_f64().unwrap_or_default())))),
        ("stage", text("stage")),
        ("action", text("action")),
        ("rows_out", number("rows_out")),
        ("rows_computed", number("rows_computed")),
        ("error", texts(rows.iter().map(|(_, record, _)| record["error"].as_str()))),
        ("changed", Arc::new(rows.iter().map(|(.., stage)| stage["changed"].as_bool()).collect::<BooleanArray>())),
    ])
}

/// `stage`, `image_id`, `path`, `reason`: the distinct union over the current manifests.
fn dropped(made: &[Arc<Manifest>]) -> Result<RecordBatch> {
    let rows: BTreeSet<&DroppedRow> = made.iter().flat_map(|manifest| manifest.dropped()).collect();
    batch([
        ("stage", texts(rows.iter().map(|row| Some(&row.stage)))),
        ("image_id", texts(rows.iter().map(|row| Some(&row.image_id)))),
        ("path", texts(rows.iter().map(|row| row.path.as_ref()))),
        ("reason", texts(rows.iter().map(|row| Some(&row.reason)))),
    ])
}
