//! How a table is to be read, and the plan that reads it so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_plan::{
    ExecutionPlan, PhysicalExpr, SendableRecordBatchStream, collect_partitioned, execute_stream_partitioned,
};
use futures::TryStreamExt as _;
use tessera_operators::operator::Order;
use tessera_schemas::IMAGE_ID;

use super::catalog::Catalog;
use super::convert;
use super::operator_exec::ScanState;
use super::scan;
use super::shuffle::{self, Cut, Ranks};
use super::sorted::sorted;
use super::step::Step;
use crate::store::DroppedRow;

/// Rows of a shuffled scan that stay in memory: locators for images, all values for anything else.
const SHUFFLE_BYTES: usize = 4 << 30;

/// How a table is to be read.
#[derive(Default)]
pub struct Request {
    /// A map to put on top.
    pub top: Option<Arc<Step>>,
    /// Columns wanted of the table; an engine may read more.
    pub columns: Option<Vec<String>>,
    /// Which rows, and in what order.
    pub rows: Rows,
}

/// Which rows of a table are read, and in what order.
#[derive(Default)]
pub enum Rows {
    /// All, as they are stored; a part of the snapshot at the base is a partition.
    #[default]
    Stored,
    /// All, as they are stored, in a few partitions: what a query opens at once.
    Few {
        /// How many at most.
        partitions: usize,
        /// For a plain snapshot: a condition; the reader needs only the rows that meet it.
        predicate: Option<Arc<dyn PhysicalExpr>>,
        /// For a plain snapshot: a number of rows that is enough.
        limit: Option<usize>,
    },
    /// These instead of that snapshot's, a partition each.
    Given(Vec<RecordBatch>),
    /// All, in one partition, in an [order](sorted()) that follows from the rows.
    Sorted,
    /// All in an epoch's shuffled order.
    Shuffled(Shuffled),
}

/// An epoch's shuffled order.
#[derive(Default)]
pub struct Shuffled {
    /// The epoch.
    pub epoch: u64,
    /// The seed of the order, unless a view on the way looks back; by default the pipeline's.
    pub seed: Option<u64>,
    /// The id of the row to start behind; by default it starts with the first.
    pub after: Option<String>,
    /// The column of classes that are to come equally often; by default each row comes once.
    pub classes: Option<String>,
    /// Rows of a partition; by default all.
    pub chunk: Option<usize>,
    /// The rows at the base, if they are in memory already.
    pub rows: Option<Arc<RecordBatch>>,
}

impl Rows {
    /// The rows of an operator's scan.
    pub fn ordered(order: Order<'_>) -> Self {
        match order {
            Order::Stored => Self::Stored,
            Order::Sorted => Self::Sorted,
            Order::Shuffled { epoch, after, classes } => Self::Shuffled(Shuffled {
                epoch,
                after: after.map(str::to_owned),
                classes: classes.map(str::to_owned),
                ..Shuffled::default()
            }),
        }
    }
}

/// The rows that shuffled scans shuffle.
pub struct Base {
    /// The rows.
    pub rows: Arc<RecordBatch>,
    /// Rows that were left out on the way to them.
    pub dropped: Vec<DroppedRow>,
}

/// A plan that reads a table.
pub struct Scan {
    /// The plan.
    pub plan: Arc<dyn ExecutionPlan>,
    /// What its operators share.
    pub state: Arc<ScanState>,
    /// Rows at its base.
    pub rows: u64,
}

impl Catalog {
    /// All rows of a table, in memory.
    ///
    /// # Errors
    /// A stage of it has no snapshot, or fails.
    pub async fn collect(&self, table: usize, columns: Option<Vec<String>>) -> Result<Vec<RecordBatch>> {
        let scan = self.scan(table, Request { columns, rows: self.few(), top: None }).await?;
        let partitions = collect_partitioned(scan.plan, self.engine.context.task_ctx()).await.map_err(convert::unwrap)?;
        Ok(partitions.into_iter().flatten().collect())
    }

    /// All rows, for who reads all partitions at once.
    fn few(&self) -> Rows {
        Rows::Few { partitions: self.engine.threads, predicate: None, limit: None }
    }

    /// A plan that reads a table.
    ///
    /// # Errors
    /// A stage of it has no snapshot, or an operator lacks something.
    pub async fn scan(&self, table: usize, request: Request) -> Result<Scan> {
        let (base, views) = self.chain(table);
        let mut steps = Vec::new();
        for &view in &views {
            steps.push(self.step(view).await?);
        }
        steps.extend(request.top.clone());
        let looks_back = steps.iter().any(|step| step.looks_back);
        match request.rows {
            Rows::Shuffled(shuffled) => self.shuffled(base, steps, shuffled).await,
            // A step that looks back at earlier rows has an order of its own.
            _ if looks_back => self.shuffled(base, steps, Shuffled::default()).await,
            Rows::Given(batches) => self.given(&batches, &steps),
            rows => self.stored(base, &steps, request.columns, rows),
        }
    }

    fn stored(&self, base: usize, steps: &[Arc<Step>], columns: Option<Vec<String>>, rows: Rows) -> Result<Scan> {
        let manifest = self.manifest(base)?;
        let parts = &manifest.parts;
        let is_sorted = matches!(rows, Rows::Sorted);
        let most = match &rows {
            Rows::Few { partitions, .. } => *partitions,
            Rows::Sorted => self.engine.threads,
            _ => parts.len(),
        };
        let (predicate, limit) = match rows {
            Rows::Few { predicate, limit, .. } if steps.is_empty() => (predicate, limit),
            _ => (None, None),
        };
        let (store, schema) = (self.store.stage(self.name(base)), &self.schema(base));
        self.refuse_lacking(base, schema, steps)?;
        // Rows are sorted below the views, which keep the order of what they read.
        let columns = columns.map(|columns| if is_sorted { with_id(columns) } else { columns });
        let projection = projection(schema, steps.first().map_or(columns.as_deref(), |step| Some(&step.columns)));
        let groups = scan::grouped(parts.iter().map(|part| store.open(part)).collect(), most);
        let leaf = scan::files(schema, &groups, projection, predicate, limit).map_err(convert::unwrap)?;
        let leaf = if is_sorted { sorted(leaf)? } else { leaf };
        let window = if !is_sorted && groups.len() >= self.engine.threads { 2 } else { self.engine.threads + 1 };
        let dropped = groups.iter().map(|_| Mutex::default()).collect();
        let state = Arc::new(ScanState { block: block(steps), window, dropped, ..ScanState::default() });
        let plan = scan::stack(leaf, steps, &state, &self.engine);
        Ok(Scan { plan, state, rows: parts.iter().map(|part| part.rows).sum() })
    }

    /// Says which column a view needs that the snapshot at its base does not have, if the file gives that one other columns by now.
    fn refuse_lacking(&self, base: usize, schema: &SchemaRef, steps: &[Arc<Step>]) -> Result<()> {
        let Some(first) = steps.first() else { return Ok(()) };
        let planned = &self.plan.stages[base].schema;
        let lacks = |name: &&String| planned.column_with_name(name).is_some() && schema.column_with_name(name).is_none();
        if let Some(column) = first.columns.iter().find(lacks) {
            let (view, base, file) = (&first.stage, self.name(base), self.arguments());
            bail!(
                "`{view}` reads `{base}.{column}`, which the table that was made does not have: `tessera run {file}` makes it"
            );
        }
        Ok(())
    }

    fn given(&self, batches: &[RecordBatch], steps: &[Arc<Step>]) -> Result<Scan> {
        let schema = batches.first().map(RecordBatch::schema).context("a scan of given rows has some")?;
        let partitions: Vec<Vec<RecordBatch>> = batches.iter().map(|batch| vec![batch.clone()]).collect();
        let leaf = scan::memory(&schema, &partitions).map_err(convert::unwrap)?;
        let dropped = batches.iter().map(|_| Mutex::default()).collect();
        let state = Arc::new(ScanState { block: block(steps), window: 2, dropped, ..ScanState::default() });
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Ok(Scan { plan: scan::stack(leaf, steps, &state, &self.engine), state, rows })
    }

    /// The steps of a shuffled scan whose output is shuffled, and those behind: what is shuffled are the rows above the last
    /// step that makes new ids.
    fn split(steps: &[Arc<Step>]) -> (&[Arc<Step>], &[Arc<Step>]) {
        let cut = steps.iter().rposition(|step| !step.map.keeps_ids()).map_or(0, |at| at + 1);
        steps.split_at(cut)
    }

    /// The rows that shuffled scans of a table shuffle, to be given to each of them.
    ///
    /// # Errors
    /// A stage has no snapshot or fails, or the rows do not fit into memory.
    pub async fn shuffle_base(&self, table: usize) -> Result<Base> {
        let (base, views) = self.chain(table);
        let mut steps = Vec::new();
        for &view in &views {
            steps.push(self.step(view).await?);
        }
        self.base_rows(base, &steps).await
    }

    /// Where rows come in a shuffled scan of a table, given the rows that it shuffles.
    ///
    /// # Errors
    /// An operator lacks something.
    pub async fn ranks(&self, table: usize, rows: &RecordBatch, shuffled: &Shuffled) -> Result<Ranks> {
        let mut steps = Vec::new();
        for view in self.chain(table).1 {
            steps.push(self.step(view).await?);
        }
        let seed = self.order_seed(Self::split(&steps).1, shuffled.seed);
        Ranks::new(rows, seed, shuffled.epoch, shuffled.classes.as_deref()).map_err(convert::unwrap)
    }

    /// Whether a view on the way to a table makes several rows of one.
    ///
    /// # Errors
    /// An operator lacks something.
    pub async fn multiplies(&self, table: usize) -> Result<bool> {
        for view in self.chain(table).1 {
            if !self.step(view).await?.map.keeps_ids() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn base_rows(&self, base: usize, steps: &[Arc<Step>]) -> Result<Base> {
        let (below, above) = Self::split(steps);
        let columns = above.first().map(|step| step.columns.clone());
        let columns = if below.is_empty() { columns } else { None };
        // The leaf reads the columns of the first step, whether that step lies below or above.
        let scan = self.stored(base, below, columns, self.few())?;
        let schema = scan.plan.schema();
        let parts = execute_stream_partitioned(scan.plan, self.engine.context.task_ctx()).map_err(convert::unwrap)?;
        let held = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = parts.into_iter().map(|part| SpawnedTask::spawn(collect(part, held.clone()))).collect();
        let mut batches = Vec::new();
        for task in tasks {
            let Some(part) = task.join().await?.map_err(convert::unwrap)? else {
                let (name, gib) = (self.name(base), SHUFFLE_BYTES >> 30);
                bail!(
                    "the rows that are made of `{name}` take more than the {gib} GiB that a shuffled scan holds: make fewer or \
                     smaller ones, or let them be read through a view of encoded images (decode without keep)"
                );
            };
            batches.extend(part);
        }
        let dropped = (0..scan.state.dropped.len()).flat_map(|at| scan.state.take_dropped(at)).collect();
        Ok(Base { rows: Arc::new(concat_batches(&schema, &batches)?), dropped })
    }

    /// The seed of a shuffled scan's order. What looks back depends on the order: then it is the same for all readers.
    fn order_seed(&self, above: &[Arc<Step>], asked: Option<u64>) -> u64 {
        let graph = &self.plan.graph;
        let looking = above.iter().rev().find(|step| step.looks_back).and_then(|step| graph.find(&step.stage));
        looking.map(|node| graph.seed(node)).or(asked).unwrap_or(graph.file.seed)
    }

    async fn shuffled(&self, base: usize, steps: Vec<Arc<Step>>, shuffled: Shuffled) -> Result<Scan> {
        let Base { rows, dropped: before } = match shuffled.rows {
            Some(rows) => Base { rows, dropped: Vec::new() },
            None => self.base_rows(base, &steps).await?,
        };
        let (_, above) = Self::split(&steps);
        let leads = above.iter().any(|step| step.looks_back);
        let chunk = shuffled.chunk.unwrap_or(usize::MAX);
        let cut = Cut { chunk, leads, after: shuffled.after.as_deref(), classes: shuffled.classes.as_deref() };
        let (seed, epoch) = (self.order_seed(above, shuffled.seed), shuffled.epoch);
        let shuffled = shuffle::shuffle(&rows, seed, epoch, cut).map_err(convert::unwrap)?;
        let leaf = scan::memory(&rows.schema(), &shuffled.partitions).map_err(convert::unwrap)?;
        let mut dropped: Vec<Mutex<Vec<DroppedRow>>> = shuffled.partitions.iter().map(|_| Mutex::default()).collect();
        if let Some(first) = dropped.first_mut() {
            *first = Mutex::new(before);
        }
        let (window, block) = (self.engine.threads + 1, block(&steps));
        let trails = shuffled.trails;
        let state = Arc::new(ScanState { epoch, block, window, dropped, trails, ..ScanState::default() });
        let plan = scan::stack(leaf, above, &state, &self.engine);
        Ok(Scan { plan, state, rows: rows.num_rows() as u64 })
    }
}

fn with_id(mut columns: Vec<String>) -> Vec<String> {
    columns.push(IMAGE_ID.to_owned());
    columns
}

/// The largest number of rows that a step works on at once.
pub fn block(steps: &[Arc<Step>]) -> usize {
    steps.iter().map(|step| step.map.block()).max().unwrap_or(1)
}

/// Places of columns, in the schema's order; columns that it lacks (made on the way) are left out.
pub fn projection(schema: &SchemaRef, columns: Option<&[String]>) -> Option<Vec<usize>> {
    let columns = columns?;
    let wanted = |name: &str| columns.iter().any(|column| column == name);
    let places: Vec<usize> = (0..schema.fields().len()).filter(|&at| wanted(schema.field(at).name())).collect();
    if places.is_empty() { None } else { Some(places) }
}

/// A partition's rows; none once those of all partitions together are more than a shuffled scan holds. They are counted as they come,
/// for a view that makes many rows of one may make more than there is memory.
async fn collect(
    mut part: SendableRecordBatchStream,
    held: Arc<AtomicUsize>,
) -> datafusion::error::Result<Option<Vec<RecordBatch>>> {
    let mut batches = Vec::new();
    while let Some(batch) = part.try_next().await? {
        let bytes = batch.get_array_memory_size();
        if held.fetch_add(bytes, Ordering::Relaxed) + bytes > SHUFFLE_BYTES {
            return Ok(None);
        }
        batches.push(batch);
    }
    Ok(Some(batches))
}
