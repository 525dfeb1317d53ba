//! SQL over a pipeline's tables.

pub mod agreement;
pub mod output;
pub mod provider;
pub mod system;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use crate::catalog::Catalog;
use crate::engine::convert;

/// A context in which every stage and every system table is a table.
///
/// # Errors
/// The store is damaged.
pub fn context(catalog: &Arc<Catalog>) -> Result<SessionContext> {
    let context = provider::context(catalog.engine.threads);
    for node in 0..catalog.plan.stages.len() {
        let table = provider::StageTable::new(catalog.clone(), node, provider::Scans::default());
        context.register_table(catalog.name(node), Arc::new(table)).map_err(convert::unwrap)?;
    }
    for (name, batches) in system::tables(catalog)? {
        let schema =
            batches.first().map(RecordBatch::schema).with_context(|| format!("the table `{name}` has no schema"))?;
        let table = MemTable::try_new(schema, vec![batches]).map_err(convert::unwrap)?;
        context.register_table(name, Arc::new(table)).map_err(convert::unwrap)?;
    }
    Ok(context)
}

/// A query's rows.
///
/// # Errors
/// The query is wrong, writes, reads a stage that was never made, or fails.
pub async fn query(catalog: &Arc<Catalog>, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let context = context(catalog)?;
    let frame = provider::read_only(&context, sql).await.map_err(convert::unwrap)?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(convert::unwrap)?;
    Ok((batches.first().map_or(schema, RecordBatch::schema), batches))
}
