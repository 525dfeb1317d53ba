//! Making a stage's snapshot, each shape of kernel in its way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};
use futures::{StreamExt as _, TryStreamExt as _};
use parquet::arrow::ArrowWriter;
use tessera_operators::operator::{Kernel, PortKind, RunError, Whole};
use tessera_schemas::IMAGE_ID;
use tessera_schemas::metrics::{self, Metric};
use tokio::sync::mpsc;

use super::decide::Decision;
use super::writer::TableWriter;
use crate::catalog::{Catalog, Request};
use crate::engine::convert;
use crate::engine::pool;
use crate::engine::snapshot_exec::{SnapshotExec, Target};
use crate::engine::tables::{KernelSink, KernelTables};
use crate::keys;
use crate::listing;
use crate::report::Bar;
use crate::sql::provider::{self, StageTable};
use crate::store::{FORMAT, Manifest, Part, write_atomically};

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
    decision: Decision,
    run: &str,
    start: Instant,
    bar: &Bar,
) -> Result<Made> {
    let name = catalog.name(node).to_owned();
    let store = catalog.store.stage(&name);
    let graph = &catalog.plan.graph;
    let (key, parts_of_key) = decision.key.context("a stage runs when its inputs are known")?;
    let writer = TableWriter::new(store.clone(), catalog.plan.stages[node].schema.clone(), &key, graph.file.part_rows);
    let mut numbers: Vec<Metric> = Vec::new();
    let mut kept = Vec::new();
    let source = graph.nodes[node].spec.inputs().is_empty();
    let parts = if source {
        let parts = read_source(catalog, node, writer, decision.prints.clone()).await?;
        listing::save(&store.listing(), &decision.prints)?;
        parts
    } else if catalog.stream_of(node).is_some() {
        let (parts, reused) = run_map(catalog, node, &key, decision.targets, bar).await?;
        kept = reused;
        parts
    } else {
        match catalog.kernel(node)? {
            Kernel::Whole(kernel) => {
                let (parts, emitted) = run_whole(catalog, node, kernel, writer, bar).await?;
                numbers = emitted;
                parts
            }
            Kernel::Query(sql) => run_query(catalog, node, &sql, writer).await?,
            Kernel::Source(_) | Kernel::Map(_) => return Err(anyhow!("stage `{name}`: the operator changed its shape")),
        }
    };
    let written: Vec<&Part> = parts.iter().filter(|part| !kept.contains(&part.file)).collect();
    let (parts_written, rows_computed) = (written.len(), written.iter().map(|part| part.rows).sum());
    let rows_reused = parts.iter().filter(|part| kept.contains(&part.file)).map(|part| part.rows).sum();
    let id = store.new_snapshot(&key);
    if !numbers.is_empty() {
        save_metrics(&store.metrics(&id), &name, &id, &numbers)?;
    }
    let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seconds = start.elapsed().as_secs_f64();
    let manifest =
        Manifest { format: FORMAT, id, stage: name, key, parts_of_key, parts, created, run: run.to_owned(), seconds };
    store.publish(&manifest)?;
    Ok(Made { manifest, parts_written, rows_computed, rows_reused })
}

fn save_metrics(path: &std::path::Path, stage: &str, id: &str, numbers: &[Metric]) -> Result<()> {
    let batch = metrics::batch(stage, id, numbers);
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    if let Some(dir) = path.parent() {
        crate::store::make_dir(dir)?;
    }
    write_atomically(path, &writer.into_inner()?)
}

async fn read_source(
    catalog: &Arc<Catalog>,
    node: usize,
    mut writer: TableWriter,
    prints: Vec<tessera_datasets::Fingerprint>,
) -> Result<Vec<Part>> {
    let catalog = catalog.clone();
    let read = move || {
        let source = catalog.source(node)?;
        let mut emit = |batch| writer.write(&batch).map_err(|error| RunError::Engine(format!("{error:#}")));
        let done = source.read(catalog.engine.files.as_ref(), &prints, &mut emit);
        done.map_err(|error| catalog.failed(node, error))?;
        writer.finish(Vec::new())
    };
    tokio::task::spawn_blocking(read).await?
}

/// Runs a map over its stream's parts, at most as many at once as there are threads. Returns all parts in the order of the
/// stream's, and the files of those that were there before.
async fn run_map(
    catalog: &Arc<Catalog>,
    node: usize,
    key: &str,
    targets: Vec<(Target, Option<Part>)>,
    bar: &Bar,
) -> Result<(Vec<Part>, Vec<String>)> {
    let stream = catalog.stream_of(node).context("a map has a stream")?;
    let step = catalog.step(node).await?;
    let stale: Vec<usize> = (0..targets.len()).filter(|&at| targets[at].1.is_none()).collect();
    let by_part = !targets.is_empty();
    let request = Request {
        top: Some(step.clone()),
        parts: by_part.then(|| stale.clone()),
        chunk: Some(catalog.plan.graph.file.part_rows),
        ..Request::default()
    };
    let mut done: Vec<Option<Part>> = targets.iter().map(|(_, part)| part.clone()).collect();
    let kept: Vec<String> = done.iter().flatten().map(|part| part.file.clone()).collect();
    if by_part && stale.is_empty() {
        return Ok((done.into_iter().flatten().collect(), kept));
    }
    let scan = catalog.scan(stream, request).await?;
    let partitions = scan.plan.output_partitioning().partition_count();
    let wanted: Vec<Target> = if by_part {
        stale.iter().map(|&at| targets[at].0.clone()).collect()
    } else {
        let numbered = |at: usize| keys::hash([key, &at.to_string()]);
        (0..partitions).map(|at| Target { key: numbered(at), made_from: Vec::new(), ids: None }).collect()
    };
    let engine = catalog.engine.clone();
    let store = catalog.store.stage(catalog.name(node));
    let schema = step.schema.clone();
    let plan: Arc<dyn ExecutionPlan> = Arc::new(SnapshotExec::new(
        scan.plan,
        step.stage.clone(),
        schema,
        store,
        Arc::new(wanted),
        scan.state.clone(),
        engine.clone(),
    ));
    let one = |partition: usize| {
        let (plan, task) = (plan.clone(), engine.context.task_ctx());
        async move {
            let work = async move { plan.execute(partition, task)?.try_collect::<Vec<_>>().await };
            let rows = tokio::spawn(work).await.map_err(|error| anyhow!("a partition's task failed: {error}"))?;
            let rows = rows.map_err(convert::unwrap)?;
            let parts = rows.iter().map(SnapshotExec::parts).collect::<Result<Vec<_>>>()?;
            let part = parts.into_iter().flatten().next().context("a partition yields one part")?;
            Ok::<_, anyhow::Error>((partition, part))
        }
    };
    let mut running = futures::stream::iter(0..partitions).map(one).buffered(engine.threads);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut made: Vec<Part> = Vec::new();
    loop {
        tokio::select! {
            next = running.next() => match next {
                Some(result) => made.push(result?.1),
                None => break,
            },
            _ = ticks.tick() => bar.at(scan.state.done.load(Ordering::Relaxed), scan.rows, ""),
        }
    }
    if !by_part {
        return Ok((made, kept));
    }
    for (at, part) in stale.into_iter().zip(made) {
        done[at] = Some(part);
    }
    Ok((done.into_iter().flatten().collect(), kept))
}

async fn run_whole(
    catalog: &Arc<Catalog>,
    node: usize,
    kernel: Box<dyn Whole>,
    writer: TableWriter,
    bar: &Bar,
) -> Result<(Vec<Part>, Vec<Metric>)> {
    let stage = &catalog.plan.stages[node];
    let edges = &catalog.plan.graph.nodes[node].edges;
    let columns = |input: &str| stage.reads.get(input).cloned().unwrap_or_default();
    let tables = KernelTables {
        inputs: edges.iter().map(|edge| (edge.name.clone(), (edge.from, columns(&edge.name)))).collect(),
        catalog: catalog.clone(),
        runtime: tokio::runtime::Handle::current(),
        shuffled: Mutex::new(BTreeMap::new()),
        scans: Mutex::default(),
        dropped: Mutex::default(),
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (bar, name) = (bar.clone(), catalog.name(node).to_owned());
    let work = move || {
        let mut sink = KernelSink { writer, metrics: Vec::new(), bar };
        let run = std::panic::AssertUnwindSafe(|| kernel.run(&tables, &mut sink));
        let result = std::panic::catch_unwind(run)
            .unwrap_or_else(|panic| Err(RunError::Engine(format!("panicked: {}", pool::message(panic.as_ref())))));
        let _ = sender.send(result.map(|()| (sink, tables.dropped())));
    };
    std::thread::Builder::new().name(format!("tessera-{name}")).spawn(work).context("cannot start a thread")?;
    let result = receiver.await.context("the kernel's thread is gone")?;
    let (sink, dropped) = result.map_err(|error| catalog.failed(node, error))?;
    Ok((sink.writer.finish(dropped)?, sink.metrics))
}

async fn run_query(catalog: &Arc<Catalog>, node: usize, sql: &str, mut writer: TableWriter) -> Result<Vec<Part>> {
    let name = catalog.name(node).to_owned();
    let fail = |error| convert::unwrap(error).context(format!("stage `{name}`"));
    let context = provider::context(catalog.engine.threads);
    let scans = provider::Scans::default();
    for edge in catalog.plan.graph.nodes[node].edges.iter().filter(|edge| edge.port.kind == PortKind::Named) {
        let table = StageTable::new(catalog.clone(), edge.from, scans.clone());
        context.register_table(edge.name.as_str(), Arc::new(table)).map_err(fail)?;
    }
    let mut frame = provider::read_only(&context, sql).await.map_err(fail)?;
    if frame.schema().has_column_with_unqualified_name(IMAGE_ID) {
        frame = frame.sort_by(vec![datafusion::prelude::ident(IMAGE_ID)]).map_err(fail)?;
    }
    let mut stream = frame.execute_stream().await.map_err(fail)?;
    let (sender, mut batches) = mpsc::channel::<arrow::array::RecordBatch>(2);
    let write = tokio::task::spawn_blocking(move || {
        while let Some(batch) = batches.blocking_recv() {
            writer.write(&batch)?;
        }
        anyhow::Ok(writer)
    });
    while let Some(batch) = stream.try_next().await.map_err(fail)? {
        if sender.send(batch).await.is_err() {
            break;
        }
    }
    drop(sender);
    let writer = write.await??;
    writer.finish(scans.dropped())
}
