//! A table's rows in an order that follows from the rows alone, however they lie in parts: by `image_id`, or else by all columns that
//! are read, so that rows which come in any order are equal. What does not fit into memory is sorted in files beside the store.

use std::sync::Arc;

use anyhow::Result;
use arrow::row::{RowConverter, SortField};
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::prelude::SessionContext;
use tessera_operators::memory::Memory;
use tessera_schemas::IMAGE_ID;

use super::catalog::{Catalog, row_bytes};
use super::spill::Files;
use super::{config, convert};

/// Bytes of a batch that is sorted or merged.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes of all files that a scan spills to.
const SPILLED: u64 = 1 << 40;
/// What a row is taken for whose size its types do not tell.
const ROW_BYTES: usize = 16 << 10;
/// Rows of a batch at most: DataFusion's own number.
const MOST_ROWS: usize = 8192;

/// A plan that gives the rows of another in one partition, sorted.
///
/// # Errors
/// There is no `image_id`, and a column has a type that has no order.
pub fn sorted(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let names: Vec<&str> = match schema.column_with_name(IMAGE_ID) {
        Some(_) => vec![IMAGE_ID],
        None => schema.fields().iter().map(|field| field.name().as_str()).collect(),
    };
    for name in &names {
        let field = schema.field_with_name(name)?;
        if !RowConverter::supports_fields(&[SortField::new(field.data_type().clone())]) {
            anyhow::bail!(
                "rows without {IMAGE_ID} are sorted by all their columns, and `{name}` ({}) has no order",
                field.data_type()
            );
        }
    }
    let by = |name: &&str| col(name, &schema).map(PhysicalSortExpr::new_default);
    let by = names.iter().map(by).collect::<datafusion::error::Result<Vec<_>>>().map_err(convert::unwrap)?;
    let Some(by) = LexOrdering::new(by) else { return Ok(plan) };
    let parts = SortExec::new(by.clone(), plan).with_preserve_partitioning(true);
    Ok(Arc::new(SortPreservingMergeExec::new(by, Arc::new(parts))))
}

impl Catalog {
    /// What a sorted scan of a table runs in: half of the memory that is free, and files in the store's own folder for more.
    ///
    /// # Errors
    /// DataFusion refuses the settings (never).
    pub fn sorting(&self, table: usize) -> Result<Arc<TaskContext>> {
        let (base, _) = self.chain(table);
        let width = row_bytes(&self.schema(base)).unwrap_or(ROW_BYTES).max(1);
        let config = config(self.engine.threads).with_batch_size((BATCH_BYTES / width).clamp(1, MOST_ROWS));
        // Memory's own number is three quarters of what is free.
        let memory = usize::try_from(Memory::free().0 / 3 * 2).unwrap_or(usize::MAX);
        let files = DiskManagerBuilder::default()
            .with_temp_file_factory(Arc::new(Files::new(self.store.scratch().to_owned(), SPILLED)));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory)))
            .with_disk_manager_builder(files)
            .build_arc()
            .map_err(convert::unwrap)?;
        Ok(SessionContext::new_with_config_rt(config, runtime).task_ctx())
    }
}
