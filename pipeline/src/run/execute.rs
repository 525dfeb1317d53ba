//! Making a stage's snapshot, each shape of kernel in its way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use arrow::array::RecordBatch;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};
use futures::{StreamExt as _, TryStreamExt as _};
use tessera_operators::operator::{Kernel, RunError, Whole};
use tessera_schemas::metrics::{self, Metric};

use super::carry;
use super::decide::Decision;
use super::{query, source};
use crate::engine::catalog::Catalog;
use crate::engine::convert;
use crate::engine::pool;
use crate::engine::request::{Request, Rows, Scan, Shuffled};
use crate::engine::snapshot_exec::{SnapshotExec, Target};
use crate::engine::step::Step;
use crate::engine::tables::{KernelSink, KernelTables};
use crate::store::checkpoint::CheckpointFile;
use crate::store::key::hash;
use crate::store::writer::TableWriter;
use crate::store::{FORMAT, Manifest, Part};
use crate::watch::progress::Bar;

/// A new snapshot, published.
pub(super) struct Made {
    pub manifest: Manifest,
    pub parts_written: usize,
    pub rows_computed: u64,
    pub rows_reused: u64,
}

/// Makes and publishes a stage's snapshot.
pub(super) async fn execute(
    catalog: &Arc<Catalog>,
    node: usize,
    mut decision: Decision,
    run: &str,
    start: Instant,
    bar: &Bar,
) -> Result<Made> {
    let name = catalog.name(node).to_owned();
    let store = catalog.store.stage(&name);
    let graph = &catalog.plan.graph;
    let (key, parts_of_key) = decision.key.take().context("a stage runs when its inputs are known")?;
    let writer = TableWriter::new(store.clone(), catalog.plan.stages[node].schema.clone(), &key, graph.file.part_rows);
    let mut numbers: Vec<Metric> = Vec::new();
    let mut read = None;
    let mut started_from = None;
    let maps = catalog.stream_of(node).is_some();
    // Before the kernel is made, which takes the operator.
    let machine = catalog.machine(node);
    let before: BTreeSet<String> = {
        let kept = decision.targets.iter().filter_map(|(_, part)| part.as_ref());
        kept.chain(decision.previous.iter().flat_map(|previous| &previous.parts)).map(|part| part.file.clone()).collect()
    };
    let parts = if graph.nodes[node].spec.inputs().is_empty() {
        let prints = decision.listing.prints;
        let (parts, rows) = source::read(catalog, node, writer, prints, decision.left_out, decision.previous).await?;
        read = Some(rows);
        parts
    } else if maps {
        run_map(catalog, node, &key, decision, bar).await?
    } else {
        match catalog.kernel(node)? {
            Kernel::Whole(kernel) => {
                let last = decision.last.take();
                let id = last.as_ref().map(|last| last.id.clone());
                let made = run_whole(catalog, node, kernel, last, writer, store.checkpoint(&key), bar).await?;
                numbers = made.metrics;
                started_from = id.filter(|_| made.went_on);
                made.parts
            }
            Kernel::Query(query) => {
                let (parts, counted) = query::run(catalog, node, &query, writer).await?;
                numbers = counted;
                parts
            }
            Kernel::Source(_) | Kernel::Map(_) => return Err(anyhow!("stage `{name}`: the operator changed its shape")),
        }
    };
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    let parts_written = parts.iter().filter(|part| !before.contains(&part.file)).count();
    // Written parts may hold copied rows as well: what a source read and a map computed was counted.
    let rows_computed = match read {
        Some(rows) => rows,
        None if maps => catalog.engine.computed.get(&name),
        None => rows,
    };
    let rows_reused = rows.saturating_sub(rows_computed);
    let id = store.new_snapshot(&key);
    let metrics =
        if numbers.is_empty() { None } else { Some(store.write_metrics(&id, &metrics::batch(&name, &id, &numbers))?) };
    let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seconds = start.elapsed().as_secs_f64();
    let manifest = Manifest {
        format: FORMAT,
        id,
        stage: name,
        key,
        parts_of_key,
        parts,
        created,
        run: run.to_owned(),
        seconds,
        metrics,
        machine,
        started_from,
        schema: Some(catalog.plan.stages[node].schema.clone()),
        inputs: graph.inputs(node),
    };
    store.publish(&manifest)?;
    store.checkpoint(&manifest.key).remove()?;
    Ok(Made { manifest, parts_written, rows_computed, rows_reused })
}

/// Runs a map over its stream's parts. Returns all parts in the order of the stream's.
async fn run_map(catalog: &Arc<Catalog>, node: usize, key: &str, decision: Decision, bar: &Bar) -> Result<Vec<Part>> {
    let stream = catalog.stream_of(node).context("a map has a stream")?;
    let step = catalog.step(node).await?;
    let request = |rows: Rows| Request { top: Some(step.clone()), columns: None, rows };
    if decision.targets.is_empty() {
        // It looks back: parts are cut in its order.
        let chunk = Some(catalog.plan.graph.file.part_rows);
        let scan = catalog.scan(stream, request(Rows::Shuffled(Shuffled { chunk, ..Shuffled::default() }))).await?;
        let numbered = |at: usize| Target { key: hash([key, &at.to_string()]), ..Target::default() };
        let targets = (0..scan.plan.output_partitioning().partition_count()).map(numbered).collect();
        return write_parts(catalog, &step, scan, targets, bar).await;
    }
    let mut done: Vec<Option<Part>> = decision.targets.iter().map(|(_, part)| part.clone()).collect();
    let stale = decision.targets.into_iter().enumerate().filter(|(_, (_, part))| part.is_none());
    let stale: Vec<(usize, Target)> = stale.map(|(at, (target, _))| (at, target)).collect();
    let multiplies = catalog.multiplies(stream).await? || !step.map.keeps_ids();
    let (whole, partial) = if decision.forced || multiplies || stale.is_empty() {
        (stale, Vec::new())
    } else {
        let (catalog, kept) = (catalog.clone(), done.iter().flatten().map(|part| part.file.clone()).collect());
        let (current, reads, bar) = (decision.previous, decision.reads, bar.clone());
        let work = move || carry::carry(&catalog, node, stale, current.as_deref(), &kept, &reads, &|text| bar.warn(text));
        tokio::task::spawn_blocking(work).await??
    };
    if !whole.is_empty() {
        let (places, targets): (Vec<usize>, Vec<Target>) = whole.into_iter().unzip();
        let scan = catalog.scan(stream, request(Rows::Parts(places.clone()))).await?;
        let made = write_parts(catalog, &step, scan, targets, bar).await?;
        places.into_iter().zip(made).for_each(|(at, part)| done[at] = Some(part));
    }
    if !partial.is_empty() {
        let (places, rest): (Vec<usize>, Vec<(Target, RecordBatch)>) =
            partial.into_iter().map(|(at, t, b)| (at, (t, b))).unzip();
        let (targets, rows): (Vec<Target>, Vec<RecordBatch>) = rest.into_iter().unzip();
        let scan = catalog.scan(stream, request(Rows::Given(rows))).await?;
        let made = write_parts(catalog, &step, scan, targets, bar).await?;
        places.into_iter().zip(made).for_each(|(at, part)| done[at] = Some(part));
    }
    Ok(done.into_iter().flatten().collect())
}

/// Writes each partition of a scan as its target, at most as many at once as there are threads; the parts come in order.
async fn write_parts(
    catalog: &Arc<Catalog>,
    step: &Arc<Step>,
    scan: Scan,
    targets: Vec<Target>,
    bar: &Bar,
) -> Result<Vec<Part>> {
    let partitions = scan.plan.output_partitioning().partition_count();
    let (engine, store) = (catalog.engine.clone(), catalog.store.stage(&step.stage));
    let (name, schema, state) = (step.stage.clone(), step.schema.clone(), scan.state.clone());
    let writer = SnapshotExec::new(scan.plan, name, schema, store, Arc::new(targets), state, engine.clone());
    let plan: Arc<dyn ExecutionPlan> = Arc::new(writer);
    let one = |partition: usize| {
        let (plan, task) = (plan.clone(), engine.context.task_ctx());
        async move {
            let work = async move { plan.execute(partition, task)?.try_collect::<Vec<_>>().await };
            let rows = tokio::spawn(work).await.map_err(|error| anyhow!("a partition's task failed: {error}"))?;
            let rows = rows.map_err(convert::unwrap)?;
            let parts = rows.iter().map(SnapshotExec::parts).collect::<Result<Vec<_>>>()?;
            parts.into_iter().flatten().next().context("a partition yields one part")
        }
    };
    let mut running = futures::stream::iter(0..partitions).map(one).buffered(engine.threads);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut made: Vec<Part> = Vec::new();
    loop {
        tokio::select! {
            next = running.next() => match next {
                Some(part) => {
                    let part = part?;
                    bar.part(part.rows);
                    made.push(part);
                }
                None => return Ok(made),
            },
            _ = ticks.tick() => bar.at(scan.state.done.load(Ordering::Relaxed), scan.rows, ""),
        }
    }
}

/// What a whole kernel made.
struct Emitted {
    parts: Vec<Part>,
    metrics: Vec<Metric>,
    /// Whether it went on from the last table.
    went_on: bool,
}

async fn run_whole(
    catalog: &Arc<Catalog>,
    node: usize,
    kernel: Box<dyn Whole>,
    last: Option<Manifest>,
    writer: TableWriter,
    checkpoint: CheckpointFile,
    bar: &Bar,
) -> Result<Emitted> {
    let stage = &catalog.plan.stages[node];
    let edges = &catalog.plan.graph.nodes[node].edges;
    let columns = |input: &str| stage.reads.get(input).cloned().unwrap_or_default();
    let tables = KernelTables {
        inputs: edges.iter().map(|edge| (edge.name.clone(), (edge.from, columns(&edge.name)))).collect(),
        catalog: catalog.clone(),
        runtime: tokio::runtime::Handle::current(),
        seed: catalog.plan.graph.seed(node),
        shuffled: Mutex::default(),
        ranks: Mutex::default(),
        scans: Mutex::default(),
        last,
        dropped: Mutex::default(),
    };
    catalog.engine.keeps.store(false, Ordering::Relaxed);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (bar, name, interrupt) = (bar.clone(), catalog.name(node).to_owned(), catalog.engine.interrupt.clone());
    let stage = name.clone();
    let work = move || {
        let mut sink = KernelSink {
            tables: &tables,
            checkpoint,
            stage,
            writer,
            metrics: Vec::new(),
            resumed: false,
            dropped_before: Vec::new(),
            went_on: false,
            bar,
            interrupt,
        };
        let run = std::panic::AssertUnwindSafe(|| kernel.run(&tables, &mut sink));
        let result = std::panic::catch_unwind(run)
            .unwrap_or_else(|panic| Err(RunError::Engine(format!("panicked: {}", pool::message(panic.as_ref())))));
        let made = result.map(|()| {
            let dropped = sink.dropped();
            (sink.writer, sink.metrics, sink.went_on, dropped)
        });
        let _ = sender.send(made);
    };
    std::thread::Builder::new().name(format!("tessera-{name}")).spawn(work).context("cannot start a thread")?;
    let result = receiver.await.context("the kernel's thread is gone")?;
    let (writer, metrics, went_on, dropped) = result.map_err(|error| catalog.failed(node, error))?;
    Ok(Emitted { parts: writer.finish(dropped)?, metrics, went_on })
}
