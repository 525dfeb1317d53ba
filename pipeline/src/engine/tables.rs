//! What a whole kernel sees: tables to scan as often as it likes, and a sink.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tessera_operators::operator::{Batches, Dropped, Order, RunError, Sink, Tables};
use tessera_schemas::metrics::Metric;
use tokio::runtime::Handle;

use super::in_order::in_order;
use super::operator_exec::ScanState;
use super::shuffle::Ranks;
use crate::engine::catalog::Catalog;
use crate::engine::request::{Request, Rows, Shuffled};
use crate::store::checkpoint::{Checkpoint, CheckpointFile};
use crate::store::writer::TableWriter;
use crate::store::{DroppedRow, Manifest};
use crate::watch::interrupt::Interrupt;
use crate::watch::progress::Bar;

/// An order that rows are looked up in: its input, epoch, and column of classes.
pub type Asked = (String, u64, Option<String>);

/// The inputs of one kernel.
pub struct KernelTables {
    /// Input names, and the stages behind them with the columns that are read.
    pub inputs: BTreeMap<String, (usize, Vec<String>)>,
    /// The tables.
    pub catalog: Arc<Catalog>,
    /// Drives the scans.
    pub runtime: Handle,
    /// The stage's seed: what shuffled inputs are shuffled by.
    pub seed: u64,
    /// Rows of shuffled inputs, read once.
    pub shuffled: Mutex<BTreeMap<String, Arc<RecordBatch>>>,
    /// Where rows come in the order that was last asked for.
    pub ranks: Mutex<Option<(Asked, Arc<Ranks>)>>,
    /// What the scans share, for the rows that they left out.
    pub scans: Mutex<Vec<Arc<ScanState>>>,
    /// The stage's snapshot to go on from.
    pub last: Option<Manifest>,
    /// Rows that were left out, as far as they were asked of the scans, and those left out before anything was shuffled.
    pub dropped: Mutex<Vec<DroppedRow>>,
}

impl KernelTables {
    /// Rows that any of the scans left out so far.
    pub fn dropped(&self) -> Vec<DroppedRow> {
        let scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        rows.extend(scans.iter().flat_map(|scan| (0..scan.dropped.len()).flat_map(|at| scan.take_dropped(at))));
        rows.sort();
        rows.dedup();
        rows.clone()
    }

    fn input(&self, input: &str) -> Result<&(usize, Vec<String>), RunError> {
        self.inputs.get(input).ok_or_else(|| RunError::Input(format!("the stage has no input `{input}`")))
    }

    fn request(&self, input: &str, order: Order<'_>) -> Result<Request, RunError> {
        let (_, columns) = self.input(input)?;
        let mut rows = Rows::ordered(order);
        if let Rows::Shuffled(shuffled) = &mut rows {
            shuffled.seed = Some(self.seed);
            shuffled.rows = Some(self.shuffle_base(input)?);
        }
        Ok(Request { top: None, columns: Some(columns.clone()), rows })
    }

    /// The rows that an input's shuffled scans shuffle, read once.
    fn shuffle_base(&self, input: &str) -> Result<Arc<RecordBatch>, RunError> {
        let (table, _) = self.input(input)?;
        let mut cache = self.shuffled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = cache.get(input) {
            return Ok(rows.clone());
        }
        let base = self.runtime.block_on(self.catalog.shuffle_base(*table)).map_err(engine)?;
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).extend(base.dropped);
        cache.insert(input.to_owned(), base.rows.clone());
        Ok(base.rows)
    }
}

fn engine(error: anyhow::Error) -> RunError {
    RunError::Engine(format!("{error:#}"))
}

impl Tables for KernelTables {
    fn schema(&self, input: &str) -> Option<SchemaRef> {
        let (table, _) = self.inputs.get(input)?;
        Some(self.catalog.plan.stages[*table].schema.clone())
    }

    fn rows(&self, input: &str) -> Result<usize, RunError> {
        let (table, _) = self.input(input)?;
        if self.runtime.block_on(self.catalog.multiplies(*table)).map_err(engine)? {
            return Ok(self.shuffle_base(input)?.num_rows());
        }
        let (base, _) = self.catalog.chain(*table);
        Ok(self.catalog.manifest(base).map_err(engine)?.rows() as usize)
    }

    fn scan(&self, input: &str, order: Order<'_>) -> Result<Batches, RunError> {
        let request = self.request(input, order)?;
        let (table, _) = self.input(input)?;
        let task = match order {
            Order::Sorted => self.catalog.sorting(*table).map_err(engine)?,
            _ => self.catalog.engine.context.task_ctx(),
        };
        let scan = self.runtime.block_on(self.catalog.scan(*table, request)).map_err(engine)?;
        // A scan that is over is forgotten once its dropped rows are kept: its order is a list of all ids, and takes memory.
        self.dropped();
        let mut scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        scans.retain(|scan| Arc::strong_count(scan) > 1);
        scans.push(scan.state.clone());
        drop(scans);
        Ok(in_order(scan.plan, task, self.catalog.engine.threads, &self.runtime))
    }

    fn place(&self, input: &str, order: Order<'_>, image_id: &str) -> Result<Option<usize>, RunError> {
        let Order::Shuffled { epoch, classes, .. } = order else {
            return Err(RunError::Engine("rows have places in a shuffled order alone".to_owned()));
        };
        let asked: Asked = (input.to_owned(), epoch, classes.map(str::to_owned));
        let mut known = self.ranks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, ranks)) = &*known
            && *of == asked
        {
            return Ok(ranks.of(image_id));
        }
        let (table, rows) = (self.input(input)?.0, self.shuffle_base(input)?);
        let shuffled = Shuffled { epoch, seed: Some(self.seed), classes: asked.2.clone(), ..Shuffled::default() };
        let ranks = Arc::new(self.runtime.block_on(self.catalog.ranks(table, &rows, &shuffled)).map_err(engine)?);
        let place = ranks.of(image_id);
        *known = Some((asked, ranks));
        Ok(place)
    }

    fn last(&self) -> Result<Option<Vec<RecordBatch>>, RunError> {
        let Some(last) = &self.last else { return Ok(None) };
        let store = self.catalog.store.stage(&last.stage);
        let read = last.parts.iter().map(|part| store.read(part)).collect::<anyhow::Result<Vec<_>>>();
        read.map(Some).map_err(engine)
    }
}

/// Where a kernel's rows and numbers go.
pub struct KernelSink<'a> {
    /// What it reads.
    pub tables: &'a KernelTables,
    /// Where what it has reached is kept.
    pub checkpoint: CheckpointFile,
    /// The stage's name.
    pub stage: String,
    /// Writes the rows.
    pub writer: TableWriter,
    /// The numbers so far.
    pub metrics: Vec<Metric>,
    /// Whether what is shown next was done before this run.
    pub resumed: bool,
    /// Rows that the scans of the run before, whose checkpoint this one goes on from, had left out.
    pub dropped_before: Vec<DroppedRow>,
    /// Whether the new table goes on from the last one.
    pub went_on: bool,
    /// Shows how far it is.
    pub bar: Bar,
    /// Whether somebody wants it to stop.
    pub interrupt: Interrupt,
}

impl KernelSink<'_> {
    /// Rows that were left out so far, by this run's scans or those that it goes on from.
    pub fn dropped(&self) -> Vec<DroppedRow> {
        let mut rows = self.tables.dropped();
        rows.extend(self.dropped_before.iter().cloned());
        rows.sort();
        rows.dedup();
        rows
    }
}

impl Sink for KernelSink<'_> {
    fn write(&mut self, batch: RecordBatch) -> Result<(), RunError> {
        self.writer.write(&batch).map_err(engine)
    }

    fn metric(&mut self, epoch: usize, step: usize, name: &str, value: f64) {
        let metric = Metric { epoch: epoch as i64, step: step as i64, name: name.to_owned(), value };
        self.bar.metric(&metric);
        self.metrics.push(metric);
    }

    fn progress(&mut self, done: usize, total: usize, note: &str) {
        if std::mem::take(&mut self.resumed) {
            self.bar.begin(done as u64);
        }
        self.bar.at(done as u64, total as u64, note);
    }

    fn say(&mut self, line: &str) {
        self.bar.say(line);
    }

    fn leave_out(&mut self, row: Dropped) {
        let Dropped { image_id, reason } = row;
        let row = DroppedRow { stage: self.stage.clone(), image_id, path: None, reason };
        self.tables.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }

    fn warn(&mut self, line: &str) {
        self.bar.warn(line);
    }

    fn resume(&mut self) -> Option<Vec<u8>> {
        self.tables.catalog.engine.keeps.store(true, Ordering::Relaxed);
        match self.checkpoint.read() {
            Ok(found) => found.map(|Checkpoint { state, metrics, dropped }| {
                self.metrics = metrics;
                self.resumed = true;
                self.dropped_before = dropped;
                state
            }),
            Err(error) => {
                self.bar.say(&format!("{error:#}; starting over"));
                None
            }
        }
    }

    fn forget(&mut self, line: &str) {
        self.bar.say(line);
        self.metrics.clear();
        self.dropped_before.clear();
        self.resumed = false;
        // A checkpoint that cannot be removed does no harm: the next one replaces it, or it is found useless once more.
        if let Err(error) = self.checkpoint.remove() {
            self.bar.say(&format!("{error:#}"));
        }
    }

    fn checkpoint(&mut self, state: Vec<u8>) -> Result<(), RunError> {
        let checkpoint = Checkpoint { state, metrics: self.metrics.clone(), dropped: self.dropped() };
        self.checkpoint.write(checkpoint).map_err(engine)
    }

    fn goes_on(&mut self) {
        self.went_on = true;
    }

    fn cancelled(&self) -> bool {
        self.interrupt.asked()
    }
}
