//! `OperatorExec`: a bound map as a DataFusion operator.
//!
//! It keeps partitions and order. Rows are cut into batches that are bounded in bytes; of each partition a few are in flight at
//! once, on the pool's threads, and leave in the order in which they came. Nothing new starts once the stream is dropped.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, StringArray};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput as _};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tessera_operators::operator::{MapFn, RunError};
use tessera_schemas::{images, masks};

use super::Engine;
use super::convert::wrap;
use super::step::{Piece, Step, Trail};
use crate::store::DroppedRow;

/// Bytes of one batch: input and output rows together, unless a single row is larger.
const BATCH_BYTES: usize = 8 << 20;
/// The most bytes of a batch that has no more rows than a step works on at once.
const BLOCK_BYTES: usize = 64 << 20;
/// Rows of one batch, however small.
const BATCH_ROWS: usize = 512;

/// What the operators of one plan share.
#[derive(Debug, Default)]
pub struct ScanState {
    /// The pass over the data.
    pub epoch: u64,
    /// Rows that a batch should be a multiple of.
    pub block: usize,
    /// Batches of one partition in flight at once.
    pub window: usize,
    /// Rows left out, by partition.
    pub dropped: Vec<Mutex<Vec<DroppedRow>>>,
    /// For a shuffled scan, the ids of each partition in their order; the first id only leads.
    pub trails: Vec<StringArray>,
    /// Rows that the plan's first operator is through with.
    pub done: Arc<AtomicU64>,
}

impl ScanState {
    /// The rows that a partition left out, each once.
    pub fn take_dropped(&self, partition: usize) -> Vec<DroppedRow> {
        let mut rows = match self.dropped.get(partition) {
            Some(rows) => std::mem::take(&mut *rows.lock().unwrap_or_else(PoisonError::into_inner)),
            None => Vec::new(),
        };
        rows.sort();
        rows.dedup();
        rows
    }
}

/// A map over its input's partitions.
pub struct OperatorExec {
    input: Arc<dyn ExecutionPlan>,
    step: Arc<Step>,
    scan: Arc<ScanState>,
    engine: Arc<Engine>,
    /// Whether it is the plan's first operator, which counts the rows done.
    first: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OperatorExec {
    /// Puts a step on top of a plan.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        step: Arc<Step>,
        scan: Arc<ScanState>,
        engine: Arc<Engine>,
        first: bool,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(step.schema.clone()),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            input.boundedness(),
        ));
        Self { input, step, scan, engine, first, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for OperatorExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorExec({})", self.step.stage)
    }
}

impl DisplayAs for OperatorExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorExec: stage={}, epoch={}", self.step.stage, self.scan.epoch)
    }
}

impl ExecutionPlan for OperatorExec {
    fn name(&self) -> &'static str {
        "OperatorExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// Rows keep their order, but columns of the same name may hold other values: no sort may move below.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    /// A repartitioned input would no longer be the part that it was.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Unknown
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
        let input = children.swap_remove(0);
        Ok(Arc::new(Self::new(input, self.step.clone(), self.scan.clone(), self.engine.clone(), self.first)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let worker = Arc::new(Worker {
            step: self.step.clone(),
            scan: self.scan.clone(),
            engine: self.engine.clone(),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            computed: self.engine.computed.of(&self.step.stage),
            partition,
            first: self.first,
        });
        // Each job is a task of its own, which goes on while nobody polls this stream: a job that waited to be polled would keep
        // its place in the pool's queue from those that the poller waits for.
        let (first, others) = (worker.clone(), worker);
        let start = move |job: Result<Job>| {
            let worker = first.clone();
            finished(SpawnedTask::spawn(async move { worker.run(job?).await }))
        };
        let stream = jobs(input, self.step.clone(), self.scan.clone(), partition)
            .map(start)
            .buffered(self.scan.window.max(1))
            .map_ok(move |(rows, rest)| pieces(others.clone(), rows, rest))
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.step.schema.clone(), stream)))
    }
}

/// What a task computed.
async fn finished<T: 'static>(task: SpawnedTask<Result<T>>) -> Result<T> {
    task.join().await.unwrap_or_else(|error| Err(DataFusionError::External(error.into())))
}

/// The rows of one job: its first piece, and the others one by one, each begun when the one before it is taken.
fn pieces(worker: Arc<Worker>, rows: RecordBatch, rest: Option<Rest>) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let next = move |rest: Rest| {
        let worker = worker.clone();
        SpawnedTask::spawn(async move { worker.go_on(rest).await })
    };
    let task = rest.map(&next);
    let later = futures::stream::try_unfold((task, next), |(task, next)| async move {
        let Some(task) = task else { return Ok(None) };
        let (rows, rest) = finished(task).await?;
        let task = rest.map(&next);
        Ok(Some((rows, (task, next))))
    });
    futures::stream::once(async move { Ok(rows) }).chain(later)
}

/// What the jobs of one partition share.
struct Worker {
    step: Arc<Step>,
    scan: Arc<ScanState>,
    engine: Arc<Engine>,
    metrics: BaselineMetrics,
    computed: Arc<AtomicU64>,
    partition: usize,
    first: bool,
}

impl Worker {
    /// Computes one batch, or its first piece: its bytes are read on a thread that may block, the rest is done on the pool.
    async fn run(&self, job: Job) -> Result<(RecordBatch, Option<Rest>)> {
        let rows = job.batch.num_rows() as u64;
        let fail = |error: RunError| wrap(&self.step.stage, error);
        let (batch, unread) =
            if self.step.reads_bytes() { self.fetch(job.batch).await.map_err(fail)? } else { (job.batch, Vec::new()) };
        let epoch = self.scan.epoch;
        let made = self
            .compute(batch, unread, move |step, batch, unread| step.call(batch, epoch, job.lead.as_ref(), unread))
            .await?;
        if self.first {
            self.scan.done.fetch_add(rows, Ordering::Relaxed);
        }
        Ok(made)
    }

    /// Computes the next piece of a batch.
    async fn go_on(&self, rest: Rest) -> Result<(RecordBatch, Option<Rest>)> {
        let (epoch, Rest { worker, batch, unread }) = (self.scan.epoch, rest);
        self.compute(batch, unread, move |step, batch, unread| step.go_on(worker, batch, epoch, unread)).await
    }

    async fn compute(
        &self,
        batch: RecordBatch,
        unread: Vec<(usize, String)>,
        work: impl FnOnce(&Step, &RecordBatch, &[(usize, String)]) -> std::result::Result<Piece, RunError> + Send + 'static,
    ) -> Result<(RecordBatch, Option<Rest>)> {
        let fail = |error: RunError| wrap(&self.step.stage, error);
        let (step, time) = (self.step.clone(), self.metrics.elapsed_compute().clone());
        let work = move || {
            let _timing = time.timer();
            work(&step, &batch, &unread).map(|piece| {
                let rest = piece.rest.map(|worker| Rest { worker, batch, unread });
                (piece.rows, piece.dropped, piece.heard, rest)
            })
        };
        let result = self.engine.pool.run(work).await;
        let (out, dropped, heard, rest) =
            result.map_err(|error| fail(RunError::Engine(error.to_string())))?.map_err(fail)?;
        self.engine.said.add(heard);
        if let (Some(log), false) = (self.scan.dropped.get(self.partition), dropped.is_empty()) {
            log.lock().unwrap_or_else(PoisonError::into_inner).extend(dropped);
        }
        self.computed.fetch_add(out.num_rows() as u64, Ordering::Relaxed);
        Ok((out.record_output(&self.metrics), rest))
    }

    async fn fetch(&self, batch: RecordBatch) -> Result<(RecordBatch, Vec<(usize, String)>), RunError> {
        let (step, engine) = (self.step.clone(), self.engine.clone());
        let read = tokio::task::spawn_blocking(move || step.fetch(&engine, &batch)).await;
        read.unwrap_or_else(|error| Err(RunError::Engine(error.to_string())))
    }
}

/// A batch whose first pieces were computed.
struct Rest {
    worker: Box<dyn MapFn>,
    batch: RecordBatch,
    unread: Vec<(usize, String)>,
}

/// A batch to compute, and the row before it.
struct Job {
    batch: RecordBatch,
    lead: Option<RecordBatch>,
}

/// Cuts a partition's rows into jobs.
fn jobs(
    input: SendableRecordBatchStream,
    step: Arc<Step>,
    scan: Arc<ScanState>,
    partition: usize,
) -> impl Stream<Item = Result<Job>> + Send {
    let trail = step.looks_back.then(|| scan.trails.get(partition).cloned()).flatten().map(Trail::new);
    let row_bytes = step.row_bytes();
    let cut = move |batch: RecordBatch, trail: &mut Option<Trail>, lead: &mut Option<RecordBatch>| -> Result<Vec<Job>> {
        let batch = match trail {
            Some(trail) => trail.previous(&batch).map_err(|error| wrap(&step.stage, error))?,
            None => batch,
        };
        let mut jobs = Vec::new();
        let mut at = 0;
        for rows in cuts(&batch, row_bytes, scan.block) {
            let piece = batch.slice(at, rows);
            at += rows;
            let before = if trail.is_some() { lead.replace(piece.slice(rows - 1, 1)) } else { None };
            jobs.push(Job { batch: piece, lead: before });
        }
        Ok(jobs)
    };
    let mut state = (trail, None);
    input
        .map(move |batch| {
            let (trail, lead) = &mut state;
            batch.and_then(|batch| cut(batch, trail, lead)).map(|jobs| futures::stream::iter(jobs.into_iter().map(Ok)))
        })
        .try_flatten()
}

/// Numbers of rows to cut a batch into: by bytes, in multiples of `block` where those fit.
fn cuts(batch: &RecordBatch, row_bytes: usize, block: usize) -> Vec<usize> {
    let rows = batch.num_rows();
    let own = batch.get_array_memory_size().checked_div(rows).unwrap_or(0);
    let encoded: Vec<usize> = match images::sources(batch) {
        Ok(sources) => sources.map(|source| source.length.unwrap_or(0) as usize).collect(),
        Err(_) => Vec::new(),
    };
    let masks: Vec<usize> = match masks::located(batch) {
        Ok(masks) => masks.map(|mask| mask.map_or(0, |mask| mask.length as usize)).collect(),
        Err(_) => Vec::new(),
    };
    let file_bytes = |row: usize| encoded.get(row).map(|bytes| bytes.saturating_add(masks.get(row).copied().unwrap_or(0)));
    let size = |row: usize| file_bytes(row).unwrap_or(own).saturating_add(row_bytes);
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < rows {
        let mut bytes = size(start);
        let mut end = start + 1;
        while end < rows && end - start < BATCH_ROWS && bytes + size(end) <= BATCH_BYTES {
            bytes += size(end);
            end += 1;
        }
        // A step works on whole blocks: less than one costs as much.
        while end < rows && end - start < block && bytes + size(end) <= BLOCK_BYTES {
            bytes += size(end);
            end += 1;
        }
        let count = end - start;
        let whole = if end < rows && block > 1 && count > block { count - count % block } else { count };
        cuts.push(whole);
        start += whole;
    }
    cuts
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array};

    use super::*;

    #[test]
    fn batches_are_cut_by_bytes_and_have_whole_blocks_of_rows() {
        let cuts = |rows: i32, row_bytes: usize, block: usize| {
            let column: ArrayRef = Arc::new((0..rows).collect::<Int32Array>());
            super::cuts(&RecordBatch::try_from_iter([("n", column)]).unwrap(), row_bytes, block)
        };
        assert_eq!(cuts(100, 200 << 10, 1), [40, 40, 20], "8 MiB");
        assert_eq!(cuts(100, 200 << 10, 32), [32, 32, 36], "the last has what is left");
        // 25 of these rows fill 8 MiB. Cut there, a step would pad both 25 and 7 rows to 32: so 32 stay together.
        assert_eq!(cuts(32, 323 << 10, 32), [32]);
        assert_eq!(cuts(70, 1 << 20, 32), [32, 32, 6]);
        assert_eq!(cuts(5, 100 << 20, 32), [1; 5]);
        assert_eq!(cuts(20, 8 << 20, 32)[0], 7, "64 MiB, but for the rest of the row");
    }
}
