//! What stages measured, summed up: of each metric's last value, mean and deviation over the seeds of a sweep. A query's table of one row
//! is taken for metrics as well, one a column of numbers.
//!
//! Input are the metrics of the current snapshots. Cells that differ in nothing but their seeds make one row; a stage that is not
//! swept makes one. The deviation is the sample's (n - 1).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use serde_json::Value;
use tessera_operators::operator::PortKind;
use tessera_schemas::text;

use crate::ask::sql::measured;
use crate::engine::catalog::Catalog;

/// A stage's rows.
#[derive(Debug)]
pub struct Summary {
    /// The stage, as the file names it.
    pub stage: String,
    /// Names of its axes but those of seeds, in the order of the file.
    pub axes: Vec<String>,
    /// Names of its metrics, in the order in which they were first told.
    pub metrics: Vec<String>,
    /// A row for each combination of the axes' values.
    pub rows: Vec<Row>,
}

/// Cells that differ in nothing but their seeds.
#[derive(Debug)]
pub struct Row {
    /// Their values on the axes.
    pub values: Vec<Value>,
    /// How many there are that were made.
    pub seeds: usize,
    /// Their metrics, by name.
    pub metrics: BTreeMap<String, Spread>,
}

/// Mean and deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample deviation; `None` for a single value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// The spread of some values; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        (!values.is_empty()).then_some(Self { mean, deviation })
    }
}

/// Sums a stage up: cells of one stage, or one that is not swept.
///
/// # Errors
/// A file of metrics or a table of one row is damaged.
pub async fn summary(catalog: &Arc<Catalog>, stage: &str, cells: &[usize]) -> Result<Summary> {
    let mut summary = Summary { stage: stage.to_owned(), axes: Vec::new(), metrics: Vec::new(), rows: Vec::new() };
    let mut found: Vec<BTreeMap<String, Vec<f64>>> = Vec::new();
    for &cell in cells {
        let axes = catalog.plan.graph.declaration(cell).cell.iter().filter(|coordinate| !coordinate.is_seed);
        let (names, values): (Vec<String>, Vec<Value>) =
            axes.map(|coordinate| (coordinate.name.clone(), coordinate.value.clone())).unzip();
        summary.axes = names;
        let at = summary.rows.iter().position(|row| row.values == values).unwrap_or_else(|| {
            summary.rows.push(Row { values, seeds: 0, metrics: BTreeMap::new() });
            found.push(BTreeMap::new());
            found.len() - 1
        });
        let Some(manifest) = catalog.table(cell).and_then(|table| table.manifest) else { continue };
        summary.rows[at].seeds += 1;
        let mut values = last(&measured::read_metrics(catalog, std::slice::from_ref(&manifest))?)?;
        if manifest.rows() == 1 && is_query(catalog, cell) {
            values.extend(of_row(&catalog.collect(cell, None).await?)?);
        }
        for (name, value) in values {
            if !summary.metrics.contains(&name) {
                summary.metrics.push(name.clone());
            }
            found[at].entry(name).or_default().push(value);
        }
    }
    for (row, found) in summary.rows.iter_mut().zip(found) {
        row.metrics = found.into_iter().filter_map(|(name, values)| Some((name, Spread::of(&values)?))).collect();
    }
    Ok(summary)
}

/// Whether a stage's table answers a query.
fn is_query(catalog: &Catalog, node: usize) -> bool {
    catalog.plan.graph.nodes[node].spec.inputs().iter().any(|port| port.kind == PortKind::Named)
}

/// The numbers of a table's only row, by their columns.
fn of_row(batches: &[RecordBatch]) -> Result<Vec<(String, f64)>> {
    let mut found = Vec::new();
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if !field.data_type().is_numeric() || column.is_null(0) {
                continue;
            }
            let numbers = cast(column, &DataType::Float64)?;
            found.push((field.name().clone(), numbers.as_primitive::<Float64Type>().value(0)));
        }
    }
    Ok(found)
}

/// The last value of each metric, in the order in which they first come.
fn last(batches: &[RecordBatch]) -> Result<Vec<(String, f64)>> {
    let mut last: Vec<(String, (i64, i64), f64)> = Vec::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name).with_context(|| format!("metrics have no column `{name}`"));
        let (epochs, steps) = (column("epoch")?.as_primitive::<Int64Type>(), column("step")?.as_primitive::<Int64Type>());
        let (names, values) = (text(batch, "name")?, column("value")?.as_primitive::<Float64Type>());
        for row in 0..batch.num_rows() {
            let (name, at, value) = (names.value(row), (epochs.value(row), steps.value(row)), values.value(row));
            match last.iter_mut().find(|(known, ..)| known == name) {
                Some(known) if at >= known.1 => (known.1, known.2) = (at, value),
                Some(_) => {}
                None => last.push((name.to_owned(), at, value)),
            }
        }
    }
    Ok(last.into_iter().map(|(name, _, value)| (name, value)).collect())
}

#[cfg(test)]
mod tests {
    use tessera_schemas::metrics::{self, Metric};

    use super::*;

    #[test]
    fn the_deviation_is_the_samples() {
        assert_eq!(Spread::of(&[2.0, 4.0, 6.0]), Some(Spread { mean: 4.0, deviation: Some(2.0) }));
        assert_eq!(Spread::of(&[3.0]), Some(Spread { mean: 3.0, deviation: None }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_last_value_is_that_of_the_last_step() {
        let metric = |epoch, step, name: &str, value| Metric { epoch, step, name: name.into(), value };
        let told = [
            metric(0, 1, "loss", 3.0),
            metric(1, 4, "loss", 1.0),
            metric(1, 2, "loss", 2.0),
            metric(0, 0, "k", 5.0),
            metric(0, 0, "k", 6.0),
        ];
        let found = last(&[metrics::batch("s", "x", &told)]).unwrap();
        assert_eq!(found, [("loss".to_owned(), 1.0), ("k".to_owned(), 6.0)]);
    }
}
