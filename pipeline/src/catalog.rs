//! A plan's tables as they stand: which snapshots there are, and how each table is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context as _, Result, anyhow, bail};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_plan::{
    ExecutionPlan, PhysicalExpr, SendableRecordBatchStream, collect_partitioned, execute_stream_partitioned,
};
use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use tessera_operators::operator::{ColumnKind, Context, Inputs, Kernel, Order, PortKind, RunError, Source};
use tessera_schemas::{BYTES, IMAGE_ID};

use crate::engine::operator_exec::ScanState;
use crate::engine::scan::PartFile;
use crate::engine::shuffle::{self, Cut, Ranks};
use crate::engine::step::Step;
use crate::engine::{Engine, StageError, convert, scan};
use crate::keys::Columns;
use crate::plan::Plan;
use crate::store::{Damaged, DroppedRow, Machine, Manifest, Part, Store};

/// Rows of a shuffled scan that stay in memory: locators for images, all values for anything else.
const SHUFFLE_BYTES: usize = 4 << 30;

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

/// A stage's table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its snapshot; none for a view.
    pub manifest: Option<Arc<Manifest>>,
    /// Its columns' fingerprints.
    pub columns: Columns,
}

/// A plan, a store and an engine.
pub struct Catalog {
    /// The stages.
    pub plan: Plan,
    /// Where their snapshots are.
    pub store: Store,
    /// What runs them.
    pub engine: Arc<Engine>,
    /// How many files of a data set are looked at, where each makes a row; none: all.
    pub limit: Option<usize>,
    tables: RwLock<Vec<Option<Table>>>,
    steps: Vec<tokio::sync::OnceCell<Arc<Step>>>,
    sources: Mutex<BTreeMap<usize, Arc<dyn Source>>>,
}

/// How a table is to be read.
#[derive(Default)]
pub struct Request {
    /// A map to put on top.
    pub top: Option<Arc<Step>>,
    /// The epoch's shuffled order, instead of the stored one.
    pub shuffled: Option<u64>,
    /// Of a shuffled scan: the seed of its order, unless a view on the way looks back; by default the pipeline's.
    pub seed: Option<u64>,
    /// Of a shuffled scan: the id of the row to start behind; by default it starts with the first.
    pub after: Option<String>,
    /// Of a shuffled scan: the column of classes that are to come equally often; by default each row comes once.
    pub classes: Option<String>,
    /// Rows of a partition of a shuffled scan; by default all.
    pub chunk: Option<usize>,
    /// Of a stored scan: only these parts of the snapshot at its base.
    pub parts: Option<Vec<usize>>,
    /// Of a stored scan: rows to read instead of the snapshot's at its base, by partition.
    pub given: Option<Vec<RecordBatch>>,
    /// Columns wanted of the table; an engine may read more.
    pub columns: Option<Vec<String>>,
    /// Of a plain snapshot: rows that the reader will not look at.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Of a plain snapshot: rows that are enough.
    pub limit: Option<usize>,
    /// Rows at the base of a shuffled scan, if they are in memory already.
    pub rows: Option<Arc<RecordBatch>>,
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
    /// A catalog in which no table is known yet.
    pub fn new(plan: Plan, store: Store, engine: Arc<Engine>, limit: Option<usize>) -> Self {
        let count = plan.stages.len();
        Self {
            plan,
            store,
            engine,
            limit,
            tables: RwLock::new(vec![None; count]),
            steps: (0..count).map(|_| tokio::sync::OnceCell::new()).collect(),
            sources: Mutex::default(),
        }
    }

    /// A stage's name.
    pub fn name(&self, node: usize) -> &str {
        &self.plan.graph.nodes[node].name
    }

    /// A stage's table, if it is known.
    pub fn table(&self, node: usize) -> Option<Table> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)[node].clone()
    }

    /// Makes a stage's table known.
    pub fn set(&self, node: usize, table: Table) {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)[node] = Some(table);
    }

    /// Makes the current snapshots of the store known, whatever the pipeline file says by now.
    ///
    /// # Errors
    /// A pointer or manifest is damaged.
    pub fn load_current(&self) -> Result<()> {
        for (index, node) in self.plan.graph.nodes.iter().enumerate().filter(|(_, node)| !node.view) {
            if let Some(manifest) = self.store.stage(&node.name).current()? {
                self.set(index, Table { manifest: Some(Arc::new(manifest)), columns: Columns::new() });
            }
        }
        Ok(())
    }

    /// Parts of the known tables that are gone or damaged, as far as that is seen without reading them; one a stage.
    pub fn damaged(&self) -> Vec<Damaged> {
        let manifests = (0..self.plan.stages.len()).filter_map(|node| self.table(node)?.manifest);
        manifests.filter_map(|manifest| self.store.stage(&manifest.stage).damage(&manifest)).collect()
    }

    /// A stage's snapshot.
    ///
    /// # Errors
    /// It was never made.
    pub fn manifest(&self, node: usize) -> Result<Arc<Manifest>> {
        self.table(node).and_then(|table| table.manifest).ok_or_else(|| {
            let (name, file) = (self.name(node), self.plan.graph.file.path.display());
            anyhow!("stage `{name}` has no snapshot yet; make it by `tessera run {file} --to {name}`")
        })
    }

    /// Makes a stage's kernel. Works once a stage.
    ///
    /// # Errors
    /// The operator lacks something, or the kernel was made before.
    pub fn kernel(&self, node: usize) -> Result<Kernel> {
        self.kernel_maker(node)?().map_err(|error| self.failed(node, error))
    }

    /// The same on a thread of its own, for an operator may think long about it (`jigsaw` about its permutations) and nobody who stops
    /// waiting, as ^C does, should be held up.
    async fn kernel_aside(&self, node: usize) -> Result<Kernel> {
        let make = self.kernel_maker(node)?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // No task of the runtime: its end would wait for it.
        let name = self.name(node);
        let work = move || drop(sender.send(make()));
        std::thread::Builder::new().name(format!("tessera-{name}")).spawn(work).context("cannot start a thread")?;
        let made = receiver.await.with_context(|| format!("stage `{name}`: its operator panicked"))?;
        made.map_err(|error| self.failed(node, error))
    }

    /// What makes a stage's kernel.
    fn kernel_maker(&self, node: usize) -> Result<impl FnOnce() -> Result<Kernel, RunError> + Send + 'static> {
        let taken = self.plan.stages[node].operator.lock().unwrap_or_else(PoisonError::into_inner).take();
        let operator = taken.with_context(|| format!("the kernel of stage `{}` was made before", self.name(node)))?;
        let file = &self.plan.graph.file;
        let context = Context {
            seed: self.plan.graph.seed(node),
            threads: self.engine.threads,
            base: file.base.clone(),
            scratch: self.store.root().to_owned(),
        };
        Ok(move || operator.kernel(&context))
    }

    /// Where a stage would be made now, if its values depend on that to their last digits; none once its kernel was made.
    pub fn machine(&self, node: usize) -> Option<Machine> {
        let operator = self.plan.stages[node].operator.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Machine { device: operator.as_ref()?.device()?, threads: self.engine.threads })
    }

    /// An operator's failure with its stage's name.
    pub fn failed(&self, node: usize, error: RunError) -> anyhow::Error {
        StageError { stage: self.name(node).to_owned(), error }.into()
    }

    /// A source stage's source.
    ///
    /// # Errors
    /// The stage is none, or its operator lacks something.
    pub fn source(&self, node: usize) -> Result<Arc<dyn Source>> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(&node) {
            return Ok(source.clone());
        }
        let Kernel::Source(source) = self.kernel(node)? else { bail!("stage `{}` is no source", self.name(node)) };
        let source: Arc<dyn Source> = source.into();
        sources.insert(node, source.clone());
        Ok(source)
    }

    /// The stage that a map reads row by row; none for what is no map.
    pub fn stream_of(&self, node: usize) -> Option<usize> {
        let edges = &self.plan.graph.nodes[node].edges;
        edges.iter().find(|edge| edge.port.kind == PortKind::Stream).map(|edge| edge.from)
    }

    /// The snapshot at a table's base, and the views from there up to the table.
    pub fn chain(&self, table: usize) -> (usize, Vec<usize>) {
        let mut views = Vec::new();
        let mut at = table;
        while self.plan.graph.nodes[at].view {
            views.push(at);
            match self.stream_of(at) {
                Some(from) => at = from,
                None => break,
            }
        }
        views.reverse();
        (at, views)
    }

    /// The columns of a chain's base that a reader depends on, and those that must be read for it: `steps` from the base up,
    /// `wanted` of the topmost's output.
    pub fn base_columns(&self, steps: &[usize], wanted: &BTreeSet<String>) -> BTreeSet<String> {
        let mut needed = wanted.clone();
        for &node in steps.iter().rev() {
            let stage = &self.plan.stages[node];
            let mut below: BTreeSet<String> = stage.passes.intersection(&needed).cloned().collect();
            let streams = self.plan.graph.nodes[node].edges.iter().filter(|edge| edge.port.kind == PortKind::Stream);
            for edge in streams {
                below.extend(stage.reads.get(&edge.name).into_iter().flatten().cloned());
            }
            needed = below;
        }
        needed.insert(IMAGE_ID.to_owned());
        needed
    }

    /// A map stage's step, its sides read.
    ///
    /// # Errors
    /// A side has no snapshot, or the operator lacks something.
    pub fn step(&self, node: usize) -> BoxFuture<'_, Result<Arc<Step>>> {
        Box::pin(async move {
            let make = async {
                let (stage, graph) = (&self.plan.stages[node], &self.plan.graph);
                let mut sides = Inputs::default();
                let mut columns: BTreeSet<String> = stage.passes.clone();
                let mut roots = BTreeMap::new();
                for edge in &graph.nodes[node].edges {
                    let reads = stage.reads.get(&edge.name).cloned().unwrap_or_default();
                    if edge.port.kind == PortKind::Side {
                        sides.0.insert(edge.name.clone(), self.collect(edge.from, Some(reads)).await?);
                        continue;
                    }
                    if edge.port.columns.iter().any(|column| column.kind == ColumnKind::Bytes) {
                        roots = self.roots(edge.from)?;
                        // The digest says whether the bytes are still those that were listed.
                        columns.extend(["source".to_owned(), "digest".to_owned()]);
                    }
                    columns.extend(reads.into_iter().filter(|name| name != BYTES));
                }
                columns.insert(IMAGE_ID.to_owned());
                let Kernel::Map(map) = self.kernel_aside(node).await? else { bail!("stage `{}` is no map", self.name(node)) };
                let columns = columns.into_iter().collect();
                let looks_back = graph.nodes[node].spec.looks_back();
                let step =
                    Step::new(self.name(node).to_owned(), stage.schema.clone(), columns, roots, looks_back, map, sides);
                Ok(Arc::new(step))
            };
            self.steps[node].get_or_try_init(|| make).await.cloned()
        })
    }

    /// The folders of all data sets that a table comes from.
    fn roots(&self, table: usize) -> Result<BTreeMap<String, PathBuf>> {
        let mut roots = BTreeMap::new();
        for node in self.plan.graph.upstream(&[table]) {
            if self.plan.graph.nodes[node].spec.inputs().is_empty() {
                roots.insert(self.name(node).to_owned(), self.source(node)?.root().to_owned());
            }
        }
        Ok(roots)
    }

    /// All rows of a table, in memory.
    ///
    /// # Errors
    /// A stage of it has no snapshot, or fails.
    pub async fn collect(&self, table: usize, columns: Option<Vec<String>>) -> Result<Vec<RecordBatch>> {
        let scan = self.scan(table, Request { columns, ..Request::default() }).await?;
        let partitions = collect_partitioned(scan.plan, self.engine.context.task_ctx()).await.map_err(convert::unwrap)?;
        Ok(partitions.into_iter().flatten().collect())
    }

    /// The files of a snapshot's parts.
    pub fn part_files(&self, node: usize, parts: &[Part]) -> Vec<PartFile> {
        let store = self.store.stage(self.name(node));
        parts.iter().map(|part| PartFile::of(&store, part)).collect()
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
        let block = steps.iter().map(|step| step.map.block()).max().unwrap_or(1);
        match (request.shuffled, looks_back) {
            (Some(epoch), _) => self.shuffled(base, steps, request, epoch, block).await,
            (None, true) => self.shuffled(base, steps, request, 0, block).await,
            (None, false) => self.stored(base, steps, request, block),
        }
    }

    fn stored(&self, base: usize, steps: Vec<Arc<Step>>, request: Request, block: usize) -> Result<Scan> {
        if let Some(given) = request.given {
            return self.given(&given, &steps, block);
        }
        let manifest = self.manifest(base)?;
        let parts: Vec<Part> = match &request.parts {
            Some(chosen) => chosen.iter().map(|&at| manifest.parts[at].clone()).collect(),
            None => manifest.parts.clone(),
        };
        let schema = &self.plan.stages[base].schema;
        let projection = projection(schema, steps.first().map_or(request.columns.as_deref(), |step| Some(&step.columns)))?;
        let files = self.part_files(base, &parts);
        let (predicate, limit) = if steps.is_empty() { (request.predicate, request.limit) } else { (None, None) };
        let leaf = scan::files(schema, &files, projection, predicate, limit).map_err(convert::unwrap)?;
        let window = if parts.len() >= self.engine.threads { 2 } else { self.engine.threads + 1 };
        let dropped = parts.iter().map(|_| Mutex::default()).collect();
        let state = Arc::new(ScanState { block, window, dropped, ..ScanState::default() });
        let plan = scan::stack(leaf, &steps, &state, &self.engine);
        Ok(Scan { plan, state, rows: parts.iter().map(|part| part.rows).sum() })
    }

    fn given(&self, batches: &[RecordBatch], steps: &[Arc<Step>], block: usize) -> Result<Scan> {
        let schema = batches.first().map(RecordBatch::schema).context("a scan of given rows has some")?;
        let partitions: Vec<Vec<RecordBatch>> = batches.iter().map(|batch| vec![batch.clone()]).collect();
        let leaf = scan::memory(&schema, &partitions).map_err(convert::unwrap)?;
        let dropped = batches.iter().map(|_| Mutex::default()).collect();
        let state = Arc::new(ScanState { block, window: 2, dropped, ..ScanState::default() });
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
    /// The request is not for a shuffled scan, or an operator lacks something.
    pub async fn ranks(&self, table: usize, request: &Request) -> Result<Ranks> {
        let mut steps = Vec::new();
        for view in self.chain(table).1 {
            steps.push(self.step(view).await?);
        }
        let (rows, epoch) = request.rows.as_ref().zip(request.shuffled).context("a shuffled scan has rows and an epoch")?;
        let seed = self.order_seed(Self::split(&steps).1, request.seed);
        Ranks::new(rows, seed, epoch, request.classes.as_deref()).map_err(convert::unwrap)
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
        let request = Request { columns: if below.is_empty() { columns } else { None }, ..Request::default() };
        let block = below.iter().map(|step| step.map.block()).max().unwrap_or(1);
        // The leaf's columns are the first step's, also if that is one of those above.
        let scan = self.stored(base, below.to_vec(), request, block)?;
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

    async fn shuffled(
        &self,
        base: usize,
        steps: Vec<Arc<Step>>,
        request: Request,
        epoch: u64,
        block: usize,
    ) -> Result<Scan> {
        let Base { rows, dropped: before } = match request.rows {
            Some(rows) => Base { rows, dropped: Vec::new() },
            None => self.base_rows(base, &steps).await?,
        };
        let (_, above) = Self::split(&steps);
        let leads = above.iter().any(|step| step.looks_back);
        let chunk = request.chunk.unwrap_or(usize::MAX);
        let cut = Cut { chunk, leads, after: request.after.as_deref(), classes: request.classes.as_deref() };
        let seed = self.order_seed(above, request.seed);
        let shuffled = shuffle::shuffle(&rows, seed, epoch, cut).map_err(convert::unwrap)?;
        let leaf = scan::memory(&rows.schema(), &shuffled.partitions).map_err(convert::unwrap)?;
        let mut dropped: Vec<Mutex<Vec<DroppedRow>>> = shuffled.partitions.iter().map(|_| Mutex::default()).collect();
        if let Some(first) = dropped.first_mut() {
            *first = Mutex::new(before);
        }
        let window = self.engine.threads + 1;
        let trails = shuffled.trails;
        let state = Arc::new(ScanState { epoch, block, window, dropped, trails, ..ScanState::default() });
        let plan = scan::stack(leaf, above, &state, &self.engine);
        Ok(Scan { plan, state, rows: rows.num_rows() as u64 })
    }
}

impl Request {
    /// A scan in that order.
    pub fn ordered(order: Order<'_>) -> Self {
        match order {
            Order::Stored => Self::default(),
            Order::Shuffled { epoch, after, classes } => Self {
                shuffled: Some(epoch),
                after: after.map(str::to_owned),
                classes: classes.map(str::to_owned),
                ..Self::default()
            },
        }
    }
}

/// Places of columns, in the schema's order; columns that it lacks (made on the way) are left out.
fn projection(schema: &SchemaRef, columns: Option<&[String]>) -> Result<Option<Vec<usize>>> {
    let Some(columns) = columns else { return Ok(None) };
    let wanted = |name: &str| columns.iter().any(|column| column == name);
    let places: Vec<usize> = (0..schema.fields().len()).filter(|&at| wanted(schema.field(at).name())).collect();
    if places.is_empty() { Ok(None) } else { Ok(Some(places)) }
}
