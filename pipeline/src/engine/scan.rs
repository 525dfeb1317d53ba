//! Plans that read a table: files or shuffled rows at the leaf, the views' maps on top.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::Engine;
use super::operator_exec::{OperatorExec, ScanState};
use super::sound::SoundFiles;
use super::step::Step;
use crate::store::{Health, Part, StageStore};

/// A part to read, and what is known of its bytes.
#[derive(Debug, Clone)]
pub struct PartFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What the manifest says of it.
    pub part: Part,
    /// Whether it was looked at.
    pub health: Arc<Health>,
}

impl PartFile {
    /// A part of a stage's store.
    pub fn of(store: &StageStore, part: &Part) -> Self {
        Self { path: store.part(part), part: part.clone(), health: store.health().clone() }
    }
}

/// Reads parts, each as one partition, rows in their order. A part that is damaged fails before its first row.
pub fn files(
    schema: &SchemaRef,
    parts: &[PartFile],
    projection: Option<Vec<usize>>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut source = ParquetSource::new(schema.clone()).with_parquet_file_reader_factory(Arc::new(SoundFiles::new()));
    if let Some(predicate) = predicate {
        source = source.with_predicate(predicate);
    }
    let groups = parts
        .iter()
        .map(|part| {
            let path = std::path::absolute(&part.path)?;
            let location =
                object_store::path::Path::from_absolute_path(&path).map_err(|e| DataFusionError::External(e.into()))?;
            let mut file = PartitionedFile::new(String::new(), part.part.bytes).with_extension(part.clone());
            file.object_meta.location = location;
            Ok(FileGroup::new(vec![file]))
        })
        .collect::<Result<Vec<_>>>()?;
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
