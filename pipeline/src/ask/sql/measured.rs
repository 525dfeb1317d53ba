//! The rows of the table `metrics`: what stages measured, and, of a sweep, where their cells stand on its axes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use serde_json::Value;
use tessera_schemas::metrics::{self, Metric};
use tessera_schemas::text;

use super::cells;
use crate::engine::catalog::Catalog;
use crate::store::Manifest;
use crate::watch::events::{self, Event, Stamped};

/// What is in the given snapshots, and what a run under way has measured so far.
///
/// # Errors
/// A file is damaged.
pub fn all(catalog: &Catalog, made: &[Arc<Manifest>]) -> Result<RecordBatch> {
    let mut batches = read_metrics(catalog, made)?;
    batches.extend(under_way(catalog)?);
    with_axes(catalog, &concat_batches(&metrics::schema(), &batches)?)
}

/// The same rows with a column for each axis of the sweep, null where a stage does not depend on it. An axis has its name, or its path
/// where `metrics` has a column of that name.
///
/// # Errors
/// Arrow refuses the columns (never).
pub fn with_axes(catalog: &Catalog, rows: &RecordBatch) -> Result<RecordBatch> {
    let file = &catalog.plan.graph.file;
    let of_stage: HashMap<&str, &Vec<_>> = file.stages.iter().map(|stage| (stage.name.text.as_str(), &stage.cell)).collect();
    let stages = text(rows, "stage")?;
    let (mut fields, mut columns) = (rows.schema().fields().to_vec(), rows.columns().to_vec());
    for (at, axis) in file.axes.iter().enumerate() {
        let value =
            |stage: &str| of_stage.get(stage)?.iter().find(|coordinate| coordinate.axis == at).map(|found| &found.value);
        let own: Vec<Option<&Value>> = stages.iter().map(|stage| value(stage.unwrap_or_default())).collect();
        // The column has one type, whichever of the values are among these rows.
        let known = file.stages.iter().flat_map(|stage| &stage.cell).filter(|coordinate| coordinate.axis == at);
        let known: Vec<Option<&Value>> = known.map(|coordinate| Some(&coordinate.value)).collect();
        let column: ArrayRef = cells::array(&[&known[..], &own[..]].concat()).slice(known.len(), own.len());
        let is_taken = rows.schema().field_with_name(&axis.name).is_ok();
        let name = if is_taken { &axis.path } else { &axis.name };
        fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The rows of `metrics`, of the given snapshots.
///
/// # Errors
/// A file is damaged.
pub fn read_metrics(catalog: &Catalog, made: &[Arc<Manifest>]) -> Result<Vec<RecordBatch>> {
    let mut batches = vec![RecordBatch::new_empty(metrics::schema())];
    for manifest in made {
        let stage = &manifest.stage;
        let advice =
            || format!("the metrics of stage `{stage}` cannot be read; `tessera run --force {stage}` makes it anew");
        batches.extend(catalog.store.stage(stage).metrics(manifest).with_context(advice)?);
    }
    Ok(batches)
}

/// The rows of `metrics` that a run under way has measured so far, under the run's name for a snapshot's.
fn under_way(catalog: &Catalog) -> Result<Vec<RecordBatch>> {
    let Some((run, events)) = catalog.store.underway()? else { return Ok(Vec::new()) };
    let mut stages: BTreeMap<String, Vec<Metric>> = BTreeMap::new();
    for Stamped { event, .. } in events::parse(&events) {
        match event {
            Event::Metric { stage, epoch, step, name, value } => {
                let value = value.unwrap_or(f64::NAN);
                stages.entry(stage).or_default().push(Metric { epoch, step, name, value });
            }
            // It has a snapshot by now.
            Event::Done { stage, .. } => drop(stages.remove(&stage)),
            _ => {}
        }
    }
    Ok(stages.iter().map(|(stage, numbers)| metrics::batch(stage, &run, numbers)).collect())
}
