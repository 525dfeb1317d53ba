//! Making a stage's snapshot, each shape of kernel in its way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_plan::ExecutionPlanProperties as _;
use futures::{Stream, StreamExt as _};
use tessera_operators::operator::{Kernel, RunError, Whole};
use tessera_schemas::metrics::{self, Metric};

use super::carry;
use super::decide::Decision;
use super::make::{Maker, Pace};
use super::recipe::{Recipe, WorkRow};
use super::{query, source};
use crate::engine::Said;
use crate::engine::catalog::Catalog;
use crate::engine::convert;
use crate::engine::part::Writing;
use crate::engine::pool;
use crate::engine::request::{Request, Rows, Shuffled};
use crate::engine::tables::{KernelSink, KernelTables};
use crate::store::checkpoint::CheckpointFile;
use crate::store::key::hash;
use crate::store::thin::format_of;
use crate::store::writer::TableWriter;
use crate::store::{Manifest, Part};
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
    let writer = TableWriter::new(store.clone(), catalog.plan.stages[node].schema.clone(), &key, catalog.part_rows(node));
    let mut numbers: Vec<Metric> = Vec::new();
    let mut read = None;
    let mut started_from = None;
    let maps = catalog.stream_of(node).is_some();
    // Asked before the kernel is made, because that takes the operator.
    let machine = catalog.machine(node);
    let before: BTreeSet<String> = {
        let kept = decision.targets.iter().filter_map(|(_, part)| part.as_ref());
        kept.chain(decision.previous.iter().flat_map(|previous| &previous.parts)).map(|part| part.file.clone()).collect()
    };
    let parts = if graph.nodes[node].spec.inputs().is_empty() {
        let prints = decision.listing.prints;
        let (parts, rows) = source::read(catalog, node, writer, prints, decision.left_out, decision.previous, bar).await?;
        read = Some(rows);
        parts
    } else if maps {
        let parts = run_map(catalog, node, &key, decision, bar).await?;
        catalog.plan.stages[node].unchanged().map_err(|error| catalog.failed(node, error))?;
        parts
    } else {
        catalog.plan.stages[node].unchanged().map_err(|error| catalog.failed(node, error))?;
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
    // Written parts may hold copied rows too, so their rows are not summed: a source counts what it reads, and a map what it computes.
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
        format: format_of(&parts),
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
        rewrite_of: None,
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
    if decision.targets.is_empty() {
        return run_in_order(catalog, node, stream, key, bar).await;
    }
    let mut done: Vec<Option<Part>> = decision.targets.iter().map(|(_, part)| part.clone()).collect();
    let stale = decision.targets.into_iter().enumerate().filter(|(_, (_, part))| part.is_none());
    let stale: Vec<(usize, WorkRow)> = stale.map(|(at, (row, _))| (at, row)).collect();
    let recipe = Arc::new(Recipe::of(catalog, node, &decision.reads)?);
    let maker = Arc::new(Maker::new(catalog.engine.clone(), catalog.store.clone()));
    let rows = if decision.forced || stale.is_empty() || maker.multiplies(&recipe).await? {
        stale
    } else {
        let (catalog, kept) = (catalog.clone(), done.iter().flatten().map(|part| part.file.clone()).collect());
        let (current, reads, bar) = (decision.previous, decision.reads, bar.clone());
        let work = move || carry::carry(&catalog, node, stale, current.as_deref(), &kept, &reads, &|text| bar.warn(text));
        tokio::task::spawn_blocking(work).await??
    };
    let engine = &catalog.engine;
    let window = if rows.len() >= engine.threads { 2 } else { engine.threads + 1 };
    let pace = Pace { window, done: Arc::default() };
    let total = rows.iter().map(|(_, row)| row.computed()).sum();
    let one = |(at, row): (usize, WorkRow)| {
        let (maker, recipe, pace) = (maker.clone(), recipe.clone(), pace.clone());
        let made = SpawnedTask::spawn(async move { maker.make(&recipe, row, &pace).await });
        async move {
            let made = made.join().await.map_err(|error| anyhow!("a part's task failed: {error}"))?;
            made.map(|part| (at, part))
        }
    };
    let running = futures::stream::iter(rows).map(one).buffered(engine.threads);
    for (at, part) in watched(running, (&pace.done, &engine.said), total, bar, |(_, part)| part).await? {
        done[at] = Some(part);
    }
    Ok(done.into_iter().flatten().collect())
}

/// Runs a map that looks back, in its order: its parts are cut there.
async fn run_in_order(catalog: &Arc<Catalog>, node: usize, stream: usize, key: &str, bar: &Bar) -> Result<Vec<Part>> {
    let step = catalog.step(node).await?;
    let chunk = Some(catalog.part_rows(node));
    let rows = Rows::Shuffled(Shuffled { chunk, ..Shuffled::default() });
    let scan = catalog.scan(stream, Request { top: Some(step.clone()), columns: None, rows }).await?;
    let (engine, store) = (&catalog.engine, catalog.store.stage(&step.stage));
    let one = |partition: usize| {
        let (plan, state, step, store) = (scan.plan.clone(), scan.state.clone(), step.clone(), store.clone());
        let (engine, key) = (engine.clone(), hash([key, &partition.to_string()]));
        let work = async move {
            let rows = plan.execute(partition, engine.context.task_ctx()).map_err(convert::unwrap)?;
            let mut part = Writing::new(&engine, &store, &step.schema, &key);
            part.add_all(rows, None).await?;
            Ok(part.finish().await?.entry(&key, "", Vec::new(), state.take_dropped(partition)))
        };
        let made = SpawnedTask::spawn(work);
        async move { made.join().await.map_err(|error| anyhow!("a partition's task failed: {error}"))? }
    };
    let partitions = scan.plan.output_partitioning().partition_count();
    let running = futures::stream::iter(0..partitions).map(one).buffered(engine.threads);
    let made: Vec<Part> = watched(running, (&scan.state.done, &engine.said), scan.rows, bar, |part| part).await?;
    made.iter().for_each(|part| store.wrote(part));
    Ok(made)
}

/// Waits for all parts, in their order, and tells how far they are.
async fn watched<T>(
    running: impl Stream<Item = Result<T>>,
    (done, said): (&AtomicU64, &Said),
    rows: u64,
    bar: &Bar,
    part: impl Fn(&T) -> &Part,
) -> Result<Vec<T>> {
    let mut running = std::pin::pin!(running);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut made = Vec::new();
    loop {
        tokio::select! {
            next = running.next() => match next {
                Some(one) => {
                    let one = one?;
                    bar.part(part(&one).rows);
                    made.push(one);
                }
                None => {
                    said.take().iter().for_each(|line| bar.say(line));
                    return Ok(made);
                }
            },
            _ = ticks.tick() => {
                said.take().iter().for_each(|line| bar.say(line));
                bar.at(done.load(Ordering::Relaxed), rows, "");
            }
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
