//! `SnapshotExec`: writes each partition as one part, and yields one manifest row for it.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};
use futures::TryStreamExt as _;
use tessera_operators::operator::RunError;
use tessera_schemas::{IMAGE_ID, text};

use super::Engine;
use super::convert::wrap;
use super::operator_exec::ScanState;
use crate::store::{DroppedRow, Part, PartWriter, StageStore};

/// What a part is to be.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Its key.
    pub key: String,
    /// The key of the stages that make it, whatever they read.
    pub recipe: String,
    /// The upstream parts that it is made from.
    pub made_from: Vec<String>,
    /// The smallest and largest id of those, where they are known: rows of other parts are refused.
    pub ids: Option<(String, String)>,
    /// Rows of earlier parts that hold, and are copied before those that are computed.
    pub copies: Vec<Copies>,
    /// What was left out of those.
    pub dropped: Vec<DroppedRow>,
}

/// Rows of an earlier part.
#[derive(Debug, Clone)]
pub struct Copies {
    /// The part, of the same stage.
    pub part: Part,
    /// Which rows; one may stand there several times.
    pub rows: Vec<u32>,
    /// As many rows of the columns that are not copied: they are what they are now.
    pub handed: RecordBatch,
}

/// Writes parts.
pub struct SnapshotExec {
    input: Arc<dyn ExecutionPlan>,
    stage: String,
    schema: SchemaRef,
    store: StageStore,
    targets: Arc<Vec<Target>>,
    scan: Arc<ScanState>,
    engine: Arc<Engine>,
    properties: Arc<PlanProperties>,
}

/// One column: a part's manifest entry as JSON.
fn entries_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("part", DataType::Utf8, false)]))
}

impl SnapshotExec {
    /// Puts a writer on top of a plan with one partition a target.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        stage: String,
        schema: SchemaRef,
        store: StageStore,
        targets: Arc<Vec<Target>>,
        scan: Arc<ScanState>,
        engine: Arc<Engine>,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(entries_schema()),
            input.output_partitioning().clone(),
            EmissionType::Final,
            input.boundedness(),
        ));
        Self { input, stage, schema, store, targets, scan, engine, properties }
    }

    /// Reads a manifest row back.
    ///
    /// # Errors
    /// The batch is none of this operator's.
    pub fn parts(batch: &RecordBatch) -> anyhow::Result<Vec<Part>> {
        let rows = text(batch, "part")?;
        (0..rows.len()).map(|row| Ok(serde_json::from_str(rows.value(row))?)).collect()
    }
}

impl fmt::Debug for SnapshotExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotExec({})", self.stage)
    }
}

impl DisplayAs for SnapshotExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotExec: stage={}, parts={}", self.stage, self.targets.len())
    }
}

impl ExecutionPlan for SnapshotExec {
    fn name(&self) -> &'static str {
        "SnapshotExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (input, stage, schema) = (children.swap_remove(0), self.stage.clone(), self.schema.clone());
        let (store, targets) = (self.store.clone(), self.targets.clone());
        Ok(Arc::new(Self::new(input, stage, schema, store, targets, self.scan.clone(), self.engine.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (stage, schema, store) = (self.stage.clone(), self.schema.clone(), self.store.clone());
        let (scan, engine) = (self.scan.clone(), self.engine.clone());
        let target = self.targets.get(partition).cloned();
        let write = async move {
            let fail = |error: anyhow::Error| wrap(&stage, RunError::Engine(format!("{error:#}")));
            let target = target.ok_or_else(|| fail(anyhow::anyhow!("partition {partition} has no part to write")))?;
            let part =
                write(input, schema, &store, target, &scan, &engine, partition).await.map_err(|error| match error {
                    Failure::Stream(error) => error,
                    Failure::Write(error) => fail(error),
                })?;
            let json = serde_json::to_string(&part).map_err(|error| fail(error.into()))?;
            Ok(RecordBatch::try_new(entries_schema(), vec![Arc::new(StringArray::from(vec![json]))])?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(entries_schema(), futures::stream::once(write))))
    }
}

enum Failure {
    Stream(datafusion::error::DataFusionError),
    Write(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Write(error)
    }
}

/// Writes one partition. Encoding and hashing are CPU work: the writer travels to the pool and back with each batch.
async fn write(
    mut input: SendableRecordBatchStream,
    schema: SchemaRef,
    store: &StageStore,
    target: Target,
    scan: &ScanState,
    engine: &Arc<Engine>,
    partition: usize,
) -> std::result::Result<Part, Failure> {
    let mut writer: Option<PartWriter> = None;
    let (key, path_store) = (target.key.clone(), store.clone());
    if !target.copies.is_empty() {
        let (copies, schema, store, key) = (target.copies, schema.clone(), store.clone(), key.clone());
        let job = move || -> anyhow::Result<PartWriter> {
            let mut writer = store.write(&key, schema.clone())?;
            for copies in copies {
                writer.write(&copied(&store, copies, &schema)?)?;
            }
            Ok(writer)
        };
        writer = Some(engine.pool.run(job).await.map_err(anyhow::Error::new)??);
    }
    while let Some(batch) = input.try_next().await.map_err(Failure::Stream)? {
        if let Some(ids) = &target.ids {
            refuse_strangers(&batch, ids)?;
        }
        let (current, schema, store, key) = (writer.take(), schema.clone(), path_store.clone(), key.clone());
        let job = move || -> anyhow::Result<PartWriter> {
            let mut writer = match current {
                Some(writer) => writer,
                None => store.write(&key, schema)?,
            };
            writer.write(&batch)?;
            Ok(writer)
        };
        writer = Some(engine.pool.run(job).await.map_err(anyhow::Error::new)??);
    }
    let (note, mut dropped) = (store.clone(), scan.take_dropped(partition));
    dropped.extend(target.dropped);
    let job = move || -> anyhow::Result<Part> {
        // A part without rows is a part too: its file says what the columns are.
        let writer = match writer {
            Some(writer) => writer,
            None => note.write(&key, schema)?,
        };
        let part = writer.finish()?.entry(&key, &target.recipe, target.made_from, dropped);
        note.note(&part)?;
        Ok(part)
    };
    Ok(engine.pool.run(job).await.map_err(anyhow::Error::new)??)
}

/// Rows of an earlier part with the columns of a table; the part may have columns that the table has no more.
fn copied(store: &StageStore, copies: Copies, schema: &SchemaRef) -> anyhow::Result<RecordBatch> {
    let Copies { part, rows, handed } = copies;
    let (part, rows) = (store.read(&part)?, UInt32Array::from(rows));
    let columns = schema.fields().iter().map(|field| match handed.column_by_name(field.name()) {
        Some(column) => Ok(column.clone()),
        None => Ok(take(part.column(part.schema().index_of(field.name())?), &rows, None)?),
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<anyhow::Result<_>>()?)?)
}

/// Rows made from an image have its id, or one that begins with it.
fn refuse_strangers(batch: &RecordBatch, (low, high): &(String, String)) -> anyhow::Result<()> {
    let Ok(ids) = text(batch, IMAGE_ID) else { return Ok(()) };
    let at_home = |id: &str| id >= low.as_str() && (id <= high.as_str() || id.starts_with(high.as_str()));
    match (0..ids.len()).map(|row| ids.value(row)).find(|id| !at_home(id)) {
        Some(id) => anyhow::bail!("image `{id}` belongs to another part than `{low}`..`{high}`"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_another_part_are_refused() {
        let batch = |id: &str| {
            let ids: arrow::array::ArrayRef = Arc::new(StringArray::from(vec![id]));
            RecordBatch::try_from_iter([(IMAGE_ID, ids)]).unwrap()
        };
        let part = ("b".to_owned(), "d.jpg".to_owned());
        for at_home in ["b", "c", "d.jpg", "d.jpg#00,01"] {
            refuse_strangers(&batch(at_home), &part).unwrap();
        }
        for stranger in ["a", "e"] {
            assert!(refuse_strangers(&batch(stranger), &part).is_err(), "{stranger}");
        }
    }
}
