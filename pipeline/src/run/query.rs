//! Running a query's kernel: what it checks, counts and leaves out, and its table.
//!
//! The table comes last, so that what is wrong is told before it is made. A view is computed by whoever reads it: what asks for a view's
//! rows beside the table comes behind it, and reads what was [noted] of them.

mod noted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{AsArray as _, Float64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionContext, ident};
use futures::TryStreamExt as _;
use tessera_operators::operator::{Inputs, Query, RunError};
use tessera_schemas::IMAGE_ID;
use tessera_schemas::metrics::Metric;
use tokio::sync::mpsc;

use crate::ask::sql::planner;
use crate::ask::sql::provider::{self, Scans, StageTable};
use crate::ask::sql::settled::settled;
use crate::engine::catalog::Catalog;
use crate::engine::convert;
use crate::store::writer::TableWriter;
use crate::store::{DroppedRow, Part};
use noted::Noted;

/// Runs a query stage. Returns its parts and what it counted.
pub(super) async fn run(
    catalog: &Arc<Catalog>,
    node: usize,
    query: &Query,
    writer: TableWriter,
) -> Result<(Vec<Part>, Vec<Metric>)> {
    let name = catalog.name(node).to_owned();
    let fail = |error| convert::unwrap(error).context(format!("stage `{name}`"));
    let context = provider::context(catalog.engine.threads);
    let scans = Scans::default();
    let edges = &catalog.plan.graph.nodes[node].edges;
    let table = |from: usize| StageTable::new(catalog.clone(), from, scans.clone());
    let mut schemas = Inputs::default();
    for edge in edges {
        schemas.0.insert(edge.name.clone(), table(edge.from).schema());
        context.register_table(TableReference::bare(edge.name.as_str()), Arc::new(table(edge.from))).map_err(fail)?;
    }
    let is_view = |input: &str| edges.iter().any(|edge| edge.name == input && catalog.plan.graph.nodes[edge.from].view);
    // What is asked of views beside the table.
    let mut of_views: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut later = Vec::new();
    for ask in asks(query) {
        let reads = reads(&context, ask.sql(), &schemas).await.map_err(fail)?;
        let views: Vec<_> = reads.into_iter().filter(|(input, _)| is_view(input)).collect();
        later.push(!views.is_empty());
        views.into_iter().for_each(|(input, columns)| of_views.entry(input).or_default().extend(columns));
    }
    let mut noted = Vec::new();
    for edge in edges {
        if let Some(columns) = of_views.remove(&edge.name) {
            let columns = columns.into_iter().collect();
            noted.push((edge, Arc::new(Noted::new(table(edge.from), columns))));
        }
    }
    let mut found = Found::default();
    for (ask, _) in asks(query).into_iter().zip(&later).filter(|(_, later)| !**later) {
        found.ask(catalog, node, &context, ask).await?;
    }
    replace(&context, noted.iter().map(|(edge, noted)| (edge.name.as_str(), noted.clone() as _))).map_err(fail)?;
    let writer = write(&context, &query.sql, writer).await.map_err(|error| error.context(format!("stage `{name}`")))?;
    for (edge, noted) in noted {
        let rows: Arc<dyn TableProvider> = match noted.table().map_err(fail)? {
            Some(rows) => Arc::new(rows),
            None => Arc::new(table(edge.from)),
        };
        replace(&context, [(edge.name.as_str(), rows)]).map_err(fail)?;
    }
    for (ask, _) in asks(query).into_iter().zip(&later).filter(|(_, later)| **later) {
        found.ask(catalog, node, &context, ask).await?;
    }
    let Found { mut left_out, numbers } = found;
    left_out.extend(scans.dropped());
    left_out.sort();
    Ok((writer.finish(left_out)?, numbers))
}

/// What a kernel asks beside its table.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Check(&'a str),
    Counts(&'a str),
    LeftOut(&'a str),
}

impl<'a> Ask<'a> {
    fn sql(self) -> &'a str {
        match self {
            Self::Check(sql) | Self::Counts(sql) | Self::LeftOut(sql) => sql,
        }
    }
}

/// All that a kernel asks beside its table, in order.
fn asks(query: &Query) -> Vec<Ask<'_>> {
    let checks = query.checks.iter().map(|sql| Ask::Check(sql));
    let counts = query.counts.iter().map(|sql| Ask::Counts(sql));
    checks.chain(counts).chain(query.dropped.iter().map(|sql| Ask::LeftOut(sql))).collect()
}

/// What was answered.
#[derive(Default)]
struct Found {
    left_out: Vec<DroppedRow>,
    numbers: Vec<Metric>,
}

impl Found {
    async fn ask(&mut self, catalog: &Catalog, node: usize, context: &SessionContext, ask: Ask<'_>) -> Result<()> {
        let stage = catalog.name(node);
        let fail = |error| convert::unwrap(error).context(format!("stage `{stage}`"));
        match ask {
            Ask::Check(sql) => {
                let wrong = texts::<1>(context, sql).await.map_err(fail)?;
                if let Some([message]) = wrong.into_iter().next() {
                    return Err(catalog.failed(node, RunError::Input(message)));
                }
            }
            Ask::Counts(sql) => self.numbers = numbers(context, sql).await.map_err(fail)?,
            Ask::LeftOut(sql) => {
                let rows = texts::<2>(context, sql).await.map_err(fail)?.into_iter();
                let row =
                    |[image_id, reason]: [String; 2]| DroppedRow { stage: stage.to_owned(), image_id, path: None, reason };
                self.left_out = rows.map(row).collect();
            }
        }
        Ok(())
    }
}

/// The columns of each input that a query reads.
async fn reads(
    context: &SessionContext,
    sql: &str,
    inputs: &Inputs<SchemaRef>,
) -> Result<BTreeMap<String, Vec<String>>, DataFusionError> {
    let plan = provider::read_only(context, sql).await?.into_optimized_plan()?;
    planner::reads(&plan, inputs)
}

/// Puts tables in the place of those of their names.
fn replace<'a>(
    context: &SessionContext,
    tables: impl IntoIterator<Item = (&'a str, Arc<dyn TableProvider>)>,
) -> Result<(), DataFusionError> {
    for (name, table) in tables {
        context.deregister_table(TableReference::bare(name))?;
        context.register_table(TableReference::bare(name), table)?;
    }
    Ok(())
}

/// Writes a query's rows, sorted by `image_id` where there is one.
async fn write(context: &SessionContext, sql: &str, mut writer: TableWriter) -> Result<TableWriter> {
    let (state, plan) = provider::read_only(context, sql).await.map_err(convert::unwrap)?.into_parts();
    let mut frame = DataFrame::new(state, settled(plan).map_err(convert::unwrap)?);
    if frame.schema().has_column_with_unqualified_name(IMAGE_ID) {
        frame = frame.sort_by(vec![ident(IMAGE_ID)]).map_err(convert::unwrap)?;
    }
    let mut stream = frame.execute_stream().await.map_err(convert::unwrap)?;
    let (sender, mut batches) = mpsc::channel::<RecordBatch>(2);
    let write = tokio::task::spawn_blocking(move || {
        while let Some(batch) = batches.blocking_recv() {
            writer.write(&batch)?;
        }
        anyhow::Ok(writer)
    });
    while let Some(batch) = stream.try_next().await.map_err(convert::unwrap)? {
        if sender.send(batch).await.is_err() {
            break;
        }
    }
    drop(sender);
    write.await?
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
