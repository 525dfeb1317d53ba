//! Running a query's kernel: what it checks, counts and leaves out first, then its table.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{AsArray as _, Float64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionContext, ident};
use futures::TryStreamExt as _;
use tessera_operators::operator::{Query, RunError};
use tessera_schemas::IMAGE_ID;
use tessera_schemas::metrics::Metric;
use tokio::sync::mpsc;

use crate::ask::sql::provider::{self, Scans, StageTable};
use crate::engine::catalog::Catalog;
use crate::engine::convert;
use crate::store::writer::TableWriter;
use crate::store::{DroppedRow, Part};

/// Runs a query stage. Returns its parts and what it counted.
pub(super) async fn run(
    catalog: &Arc<Catalog>,
    node: usize,
    query: &Query,
    mut writer: TableWriter,
) -> Result<(Vec<Part>, Vec<Metric>)> {
    let name = catalog.name(node).to_owned();
    let fail = |error| convert::unwrap(error).context(format!("stage `{name}`"));
    let context = provider::context(catalog.engine.threads);
    let scans = Scans::default();
    for edge in &catalog.plan.graph.nodes[node].edges {
        let table = StageTable::new(catalog.clone(), edge.from, scans.clone());
        context.register_table(TableReference::bare(edge.name.as_str()), Arc::new(table)).map_err(fail)?;
    }
    for check in &query.checks {
        let found = texts::<1>(&context, check).await.map_err(fail)?;
        if let Some([message]) = found.into_iter().next() {
            return Err(catalog.failed(node, RunError::Input(message)));
        }
    }
    let numbers = match &query.counts {
        Some(counts) => numbers(&context, counts).await.map_err(fail)?,
        None => Vec::new(),
    };
    let mut left_out = Vec::new();
    if let Some(dropped) = &query.dropped {
        let rows = texts::<2>(&context, dropped).await.map_err(fail)?.into_iter();
        left_out = rows.map(|[image_id, reason]| DroppedRow { stage: name.clone(), image_id, path: None, reason }).collect();
    }
    let mut frame = provider::read_only(&context, &query.sql).await.map_err(fail)?;
    if frame.schema().has_column_with_unqualified_name(IMAGE_ID) {
        frame = frame.sort_by(vec![ident(IMAGE_ID)]).map_err(fail)?;
    }
    let mut stream = frame.execute_stream().await.map_err(fail)?;
    let (sender, mut batches) = mpsc::channel::<RecordBatch>(2);
    let write = tokio::task::spawn_blocking(move || {
        while let Some(batch) = batches.blocking_recv() {
            writer.write(&batch)?;
        }
        anyhow::Ok(writer)
    });
    while let Some(batch) = stream.try_next().await.map_err(fail)? {
        if sender.send(batch).await.is_err() {
            break;
        }
    }
    drop(sender);
    let writer = write.await??;
    left_out.extend(scans.dropped());
    left_out.sort();
    Ok((writer.finish(left_out)?, numbers))
}

/// A query's rows, of `N` texts each.
async fn texts<const N: usize>(context: &SessionContext, sql: &str) -> Result<Vec<[String; N]>, DataFusionError> {
    let mut rows = Vec::new();
    for batch in provider::read_only(context, sql).await?.collect().await? {
        let columns = batch.columns().iter().map(|column| cast(column, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<&StringArray> = columns.iter().map(|column| column.as_string::<i32>()).collect();
        rows.extend((0..batch.num_rows()).map(|row| std::array::from_fn(|at| columns[at].value(row).to_owned())));
    }
    Ok(rows)
}

/// A query's only row, of numbers.
async fn numbers(context: &SessionContext, sql: &str) -> Result<Vec<Metric>, DataFusionError> {
    let mut numbers = Vec::new();
    for batch in provider::read_only(context, sql).await?.collect().await? {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let values = cast(column, &DataType::Float64)?;
            let values: &Float64Array = values.as_primitive::<Float64Type>();
            let metric = |value: f64| Metric { epoch: 0, step: 0, name: field.name().clone(), value };
            numbers.extend(values.iter().flatten().map(metric));
        }
    }
    Ok(numbers)
}
