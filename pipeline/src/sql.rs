//! SQL over a pipeline's tables.

pub mod agreement;
pub mod cells;
pub mod output;
pub mod provider;
pub mod snapshot;
pub mod system;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use crate::catalog::Catalog;
use crate::engine::convert;
use crate::store::DroppedRow;
use provider::Scans;

/// A context in which every stage and every system table is a table; `scans` gets to know what its queries leave out.
///
/// # Errors
/// The store is damaged.
pub fn context(catalog: &Arc<Catalog>, scans: &Scans) -> Result<SessionContext> {
    let context = provider::context(catalog.engine.threads);
    for node in 0..catalog.plan.stages.len() {
        let table = provider::StageTable::new(catalog.clone(), node, scans.clone());
        // A cell's name may have points, which are no schema's.
        context.register_table(TableReference::bare(catalog.name(node)), Arc::new(table)).map_err(convert::unwrap)?;
    }
    cells::register(catalog, &context, scans).map_err(convert::unwrap)?;
    context.register_udtf(snapshot::FUNCTION, Arc::new(snapshot::Snapshot::new(catalog.clone())));
    let snapshots = snapshot::Snapshots::new(catalog.clone())?;
    context.register_table(snapshot::TABLE, Arc::new(snapshots)).map_err(convert::unwrap)?;
    for (name, batches) in system::tables(catalog)? {
        let schema =
            batches.first().map(RecordBatch::schema).with_context(|| format!("the table `{name}` has no schema"))?;
        let table = MemTable::try_new(schema, vec![batches]).map_err(convert::unwrap)?;
        context.register_table(name, Arc::new(table)).map_err(convert::unwrap)?;
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
    /// What else is to be known of it: cells that are not made yet.
    pub notes: Vec<String>,
}

/// Answers a query.
///
/// # Errors
/// The query is wrong, writes, reads a stage that was never made, or fails.
pub async fn query(catalog: &Arc<Catalog>, sql: &str) -> Result<Answer> {
    let scans = Scans::default();
    let context = context(catalog, &scans)?;
    let frame = provider::read_only(&context, sql).await.map_err(convert::unwrap)?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(convert::unwrap)?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    Ok(Answer { schema, batches, dropped: scans.dropped(), notes: cells::missing(catalog, &context, sql) })
}
