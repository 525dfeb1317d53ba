//! Plans that read a table: files or shuffled rows at the leaf, the views' maps on top.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::Engine;
use super::operator_exec::{OperatorExec, ScanState};
use super::sound::SoundFiles;
use super::step::Step;
use crate::store::PartReader;

/// Deals parts out to at most so many partitions, in their order, about as many rows to each.
pub fn grouped(parts: Vec<PartReader>, most: usize) -> Vec<Vec<PartReader>> {
    let share = parts.iter().map(|part| part.part().rows).sum::<u64>().div_ceil(most.max(1) as u64).max(1);
    let one_each = parts.len() <= most;
    let mut groups: Vec<Vec<PartReader>> = Vec::new();
    let (mut before, mut group) = (0, 0);
    for part in parts {
        let rows = part.part().rows;
        let place = (before + rows / 2) / share;
        match groups.last_mut() {
            Some(last) if !one_each && place <= group => last.push(part),
            _ => {
                group = place;
                groups.push(vec![part]);
            }
        }
        before += rows;
    }
    groups
}

/// Reads groups of parts, each group as one partition, rows in their order. A part that is damaged fails before its first row.
pub fn files(
    schema: &SchemaRef,
    parts: &[Vec<PartReader>],
    projection: Option<Vec<usize>>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut source = ParquetSource::new(schema.clone()).with_parquet_file_reader_factory(Arc::new(SoundFiles));
    if let Some(predicate) = predicate {
        source = source.with_predicate(predicate);
    }
    // The name is the plan's alone: the reader knows where the part lies.
    let file = |part: &PartReader| {
        let file = PartitionedFile::new(part.part().file.clone(), part.part().bytes).with_extension(part.clone());
        match part.part().selection() {
            Some(selection) => file.with_extension(ParquetRowSelection::new(selection)),
            None => file,
        }
    };
    let groups = parts.iter().map(|parts| FileGroup::new(parts.iter().map(file).collect())).collect();
    let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
        .with_file_groups(groups)
        .with_projection_indices(projection)?
        .with_limit(limit)
        .with_preserve_order(true)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// Reads batches in memory.
pub fn memory(schema: &SchemaRef, partitions: &[Vec<RecordBatch>]) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(MemorySourceConfig::try_new_exec(partitions, schema.clone(), None)?)
}

/// Puts steps on top of a plan.
pub fn stack(
    mut plan: Arc<dyn ExecutionPlan>,
    steps: &[Arc<Step>],
    state: &Arc<ScanState>,
    engine: &Arc<Engine>,
) -> Arc<dyn ExecutionPlan> {
    for (at, step) in steps.iter().enumerate() {
        plan = Arc::new(OperatorExec::new(plan, step.clone(), state.clone(), engine.clone(), at == 0));
    }
    plan
}
