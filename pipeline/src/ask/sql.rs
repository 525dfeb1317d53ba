//! SQL over a pipeline's tables.

pub mod agreement;
pub mod canonical;
pub mod cells;
mod groups;
pub mod inside;
pub mod least;
pub mod limits;
pub mod measured;
pub mod output;
pub mod planner;
pub mod provider;
pub mod question;
pub mod shares;
pub mod snapshot;
pub mod spill;
pub mod streamed;
pub mod system;
mod tally;
pub mod unknown;
pub mod width;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::StreamExt as _;

use super::meanwhile;
use crate::engine::catalog::Catalog;
use crate::engine::convert;
use crate::store::DroppedRow;
use limits::{Exceeded, Limits};
use provider::Scans;
use question::Question;

/// A context in which every stage and every system table is a table; `scans` gets to know what its queries leave out.
///
/// # Errors
/// The store is damaged.
pub fn context(catalog: &Arc<Catalog>, scans: &Scans, limits: Limits) -> Result<SessionContext> {
    let runtime = limits.runtime().map_err(convert::unwrap)?;
    let context = provider::context_in(catalog.engine.threads, runtime);
    for node in 0..catalog.plan.stages.len() {
        let table = provider::StageTable::new(catalog.clone(), node, scans.clone());
        // A cell's name may have points, which are no schema's.
        context.register_table(TableReference::bare(catalog.name(node)), Arc::new(table)).map_err(convert::unwrap)?;
    }
    cells::register(catalog, &context, scans).map_err(convert::unwrap)?;
    context.register_udtf(snapshot::FUNCTION, Arc::new(snapshot::Snapshot::new(catalog.clone())));
    for kind in system::TABLES {
        let table = system::SystemTable::new(kind, catalog.clone(), scans.clone())?;
        context.register_table(kind.name, Arc::new(table)).map_err(convert::unwrap)?;
    }
    Ok(context)
}

/// What a query gave.
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// Images that views could not handle, and left out.
    pub dropped: Vec<DroppedRow>,
    /// Notes on the answer, such as which cells are not made yet.
    pub notes: Vec<String>,
}

/// A query that is being answered.
pub struct Asked {
    /// Its columns.
    pub schema: SchemaRef,
    rows: SendableRecordBatchStream,
    catalog: Arc<Catalog>,
    scans: Scans,
    tables: BTreeSet<String>,
    stale: Vec<String>,
    limits: Limits,
}

impl Asked {
    /// The next rows, unless all were read.
    pub async fn next(&mut self) -> Option<Result<RecordBatch>> {
        let batch = self.rows.next().await?;
        Some(batch.map_err(|error| refused(error, self.limits)))
    }

    /// Images that views could not handle, once all rows were read.
    pub fn dropped(&self) -> Vec<DroppedRow> {
        self.scans.dropped()
    }

    /// Notes on the answer: cells that are not made yet, and what the file says meanwhile.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.scans.notes();
        notes.extend(cells::missing(&self.catalog, &self.tables));
        notes.extend(self.stale.iter().cloned());
        notes
    }
}

/// Begins to answer a query.
///
/// # Errors
/// The query is wrong, writes, lacks a value of a parameter, or reads a stage that was never made.
pub async fn ask(catalog: &Arc<Catalog>, question: &Question, limits: Limits) -> Result<Asked> {
    let scans = Scans::default();
    let context = context(catalog, &scans, limits)?;
    let refused = |error| refused(error, limits);
    let frame = provider::read_only(&context, &question.text).await.map_err(refused)?;
    let frame = question.fill(frame).map_err(refused)?;
    let tables = tables(&context, &question.text);
    let stale = stale(catalog, &tables)?;
    let rows = execute(frame, limits).await.map_err(refused)?;
    Ok(Asked { schema: rows.schema(), rows, catalog: catalog.clone(), scans, tables, stale, limits })
}

/// What the file says meanwhile of the tables that a query names.
///
/// # Errors
/// As [`meanwhile::notes`]; a system table tells of all stages.
fn stale(catalog: &Catalog, tables: &BTreeSet<String>) -> Result<Vec<String>> {
    if tables.iter().any(|name| system::TABLES.iter().any(|kind| kind.is_current && kind.name == name)) {
        meanwhile::of_each(catalog)?;
    }
    let graph = &catalog.plan.graph;
    meanwhile::notes(catalog, &tables.iter().flat_map(|name| graph.matching(name)).collect())
}

/// The limit that DataFusion failed at, or else what it failed at.
fn refused(error: DataFusionError, limits: Limits) -> anyhow::Error {
    Exceeded::found_in(&error, limits).map_or_else(|| convert::unwrap(error), Into::into)
}

/// Begins to execute a query, its batches by the width of its rows.
async fn execute(frame: DataFrame, limits: Limits) -> Result<SendableRecordBatchStream, DataFusionError> {
    let (mut state, plan) = frame.into_parts();
    let plan = state.optimize(&plan)?;
    let rows = width::batch_rows(&plan, limits, state.config().target_partitions())?;
    let config = state.config().clone().with_batch_size(rows);
    *state.config_mut() = config;
    let plan = state.query_planner().create_physical_plan(&plan, &state).await?;
    let plan = width::with_sorts_that_spill(plan, limits, state.config().target_partitions())?;
    execute_stream(plan, state.task_ctx())
}

/// Answers a query, its rows in memory.
///
/// # Errors
/// As [`ask`]; or it fails.
pub async fn query(catalog: &Arc<Catalog>, sql: &str) -> Result<Answer> {
    let mut asked = ask(catalog, &sql.into(), Limits::default()).await?;
    let mut batches = Vec::new();
    while let Some(batch) = asked.next().await {
        batches.push(batch?);
    }
    Ok(Answer { schema: asked.schema.clone(), batches, dropped: asked.dropped(), notes: asked.notes() })
}

/// The tables that a query names.
fn tables(context: &SessionContext, sql: &str) -> BTreeSet<String> {
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect);
    let tables = statement.and_then(|statement| state.resolve_table_references(&statement)).unwrap_or_default();
    tables.iter().map(|table| table.table().to_owned()).collect()
}
