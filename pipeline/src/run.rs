//! Running a plan: stage by stage, each decided about with its inputs known, and made only as far as it must be.

mod adopt;
mod carry;
pub mod decide;
mod execute;
mod failures;
mod last;
pub mod listing;
pub mod make;
mod query;
pub mod reason;
pub mod recipe;
mod record;
mod shards;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tessera_schemas::{images, printable};

use crate::engine::catalog::Catalog;
use crate::store::{DroppedRow, Manifest};
use crate::watch::events::{Event, Events};
use crate::watch::interrupt::Interrupted;
use crate::watch::progress::{Bar, Reporter, duration};
use decide::{Action, Ask, Decision};
use failures::Failures;
pub use record::record_failure;

/// How long an interrupted kernel may take to clear up.
const CLEAR_UP: Duration = Duration::from_secs(3);
/// How much longer one may take that keeps checkpoints: a step of a large network takes many seconds, and what would be lost are minutes.
const KEEP: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these stages and what they read; empty: all.
    pub to: Vec<String>,
    /// Stages to make anew.
    pub force: Vec<String>,
}

/// What a run did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Stage by stage.
    pub stages: Vec<StageReport>,
    /// In all.
    pub seconds: f64,
}

/// What a run did about one stage.
#[derive(Debug, Serialize)]
pub struct StageReport {
    /// The stage.
    pub stage: String,
    /// What was done.
    pub action: Action,
    /// Parts that were made.
    pub parts_written: usize,
    /// Rows of the table; none for a view.
    pub rows_out: Option<u64>,
    /// Rows that were computed in this run, over all readers.
    pub rows_computed: u64,
    /// Rows of parts that were kept.
    pub rows_reused: u64,
    /// Rows that it could not handle.
    pub rows_dropped: u64,
    /// How long it took.
    pub seconds: f64,
    /// Whether the stage's table has other rows or columns now than before the run. The time at which a file was written is no change.
    pub changed: bool,
    /// The snapshot that it has now; none for a view.
    pub snapshot: Option<String>,
    /// The snapshot that it had before the run.
    pub previous: Option<String>,
}

/// What `plan` says of one stage.
#[derive(Debug, Serialize)]
pub struct PlannedStage {
    /// The stage.
    pub stage: String,
    /// What a run would do.
    pub action: Action,
    /// Why.
    pub reasons: Vec<String>,
    /// Parts of its table, as far as known.
    pub parts: usize,
    /// Parts that a run would make.
    pub stale_parts: usize,
}

/// The stages that a selection names, and those that they read, in order.
fn selection(catalog: &Catalog, to: &[String]) -> Result<BTreeSet<usize>> {
    let graph = &catalog.plan.graph;
    if to.is_empty() {
        return Ok((0..graph.nodes.len()).collect());
    }
    Ok(graph.upstream(&graph.named(to)?))
}

/// What a run would do, and why. Writes nothing but the cache of a source's digests.
///
/// # Errors
/// An option names no stage, a data set cannot be listed, or the store is damaged.
pub fn plan(catalog: &Catalog, options: &Options) -> Result<Vec<PlannedStage>> {
    let force: BTreeSet<usize> = catalog.plan.graph.named(&options.force)?.into_iter().collect();
    let mut pending = BTreeSet::new();
    let mut planned = Vec::new();
    for node in selection(catalog, &options.to)? {
        let ask =
            Ask { pending: &pending, force: force.contains(&node), alone: false, hash_all: false, progress: &|_, _| {} };
        let decision = decide::decide(catalog, node, &ask)?;
        match (&decision.reuse, decision.action) {
            (Some(manifest), _) => catalog.set(node, decide::snapshot(catalog, node, manifest.clone())?),
            (None, Action::View) => {
                if let Ok(table) = decide::view(catalog, node) {
                    catalog.set(node, table);
                }
            }
            (None, _) => {
                pending.insert(node);
            }
        }
        let name = catalog.name(node);
        let reasons = decision.reasons.iter().map(|reason| format!("{name}: {reason}"));
        let damaged = decision.damaged.iter().map(|damaged| format!("{name}: {damaged}"));
        planned.push(PlannedStage {
            stage: name.to_owned(),
            action: decision.action,
            reasons: damaged.chain(reasons).collect(),
            parts: decision.parts,
            stale_parts: decision.stale_parts,
        });
    }
    Ok(planned)
}

/// Runs a plan. The store must be locked.
///
/// # Errors
/// A stage fails; the stages before it are published.
pub async fn run(catalog: &Arc<Catalog>, options: &Options, reporter: Reporter) -> Result<Report> {
    let start = Instant::now();
    let started = record::now();
    let id = catalog.store.new_run()?;
    let reporter = reporter.noting(catalog.store.events(&id).map_or_else(|_| Events::default(), Events::to));
    let force: BTreeSet<usize> = catalog.plan.graph.named(&options.force)?.into_iter().collect();
    let mut stages = Vec::new();
    let mut nodes = Vec::new();
    let mut failures = Failures::default();
    for node in selection(catalog, &options.to)? {
        if failures.reach(catalog, node) {
            continue;
        }
        let made = stage(catalog, node, force.contains(&node), &id, &reporter);
        match unless_interrupted(catalog, node, made, &reporter).await {
            Ok(report) => {
                stages.push(report);
                nodes.push(node);
            }
            Err(error) => {
                let goes_on = !error.is::<Interrupted>() && !catalog.plan.graph.declaration(node).cell.is_empty();
                if goes_on {
                    reporter.warn(&format!("{error:#}; the cells that do not read `{}` go on", catalog.name(node)));
                }
                failures.add(node, error);
                if !goes_on {
                    break;
                }
            }
        }
    }
    let failure = failures.error(catalog);
    let voided = std::mem::take(&mut *catalog.engine.voided.lock().unwrap_or_else(PoisonError::into_inner));
    for (stage, path) in voided {
        listing::void(&catalog.store.stage(&stage), &path)?;
    }
    let dropped: BTreeSet<_> = nodes
        .iter()
        .filter_map(|&node| catalog.table(node)?.manifest)
        .flat_map(|manifest| manifest.dropped().into_iter().cloned().collect::<Vec<_>>())
        .collect();
    for report in &mut stages {
        report.rows_computed = report.rows_computed.max(catalog.engine.computed.get(&report.stage));
        report.rows_dropped = dropped.iter().filter(|row| row.stage == report.stage).count() as u64;
    }
    let report = Report { stages, seconds: start.elapsed().as_secs_f64() };
    let name = &catalog.plan.graph.file.name;
    let recorded =
        record::write(&catalog.store, &id, name, started, &report, failure.as_ref().map(|error| format!("{error:#}")));
    match failure {
        Some(error) => Err(error),
        None => recorded.map(|()| report),
    }
}

/// Waits for a stage to be made, but not longer than somebody wants: its parts in flight are then abandoned. A kernel that reads its
/// tables whole is given a moment to see that it is to stop, so that it clears up, and one that keeps checkpoints the time to keep one.
async fn unless_interrupted(
    catalog: &Catalog,
    node: usize,
    made: impl Future<Output = Result<StageReport>>,
    reporter: &Reporter,
) -> Result<StageReport> {
    let interrupt = &catalog.engine.interrupt;
    let mut made = std::pin::pin!(made);
    tokio::select! {
        made = &mut made => if interrupt.asked() && made.is_err() { Err(Interrupted.into()) } else { made },
        () = interrupt.wait() => {
            if catalog.stream_of(node).is_some() {
                return Err(Interrupted.into());
            }
            let mut cleared = tokio::time::timeout(CLEAR_UP, &mut made).await;
            if cleared.is_err() && catalog.engine.keeps.load(Ordering::Relaxed) {
                let name = catalog.name(node);
                reporter.say(&format!("{name}: its step comes to an end, to keep what it reached; ^C again ends it at once"));
                cleared = tokio::time::timeout(KEEP, made).await;
            }
            match cleared {
                Ok(Ok(made)) => Ok(made),
                _ => Err(Interrupted.into()),
            }
        }
    }
}

/// Says what a source could not list: the first few, and how many more.
fn tell_left_out(decision: &Decision, reporter: &Reporter) {
    const SHOWN: usize = 5;
    for DroppedRow { stage, image_id, reason, .. } in decision.left_out.iter().take(SHOWN) {
        reporter.warn(&format!("stage `{stage}` drops `{}`: {}", printable(image_id), printable(reason)));
    }
    if decision.left_out.len() > SHOWN {
        reporter.warn(&format!("and {} more; the table `dropped` has all of them", decision.left_out.len() - SHOWN));
    }
}

/// Says how many files of a data set's folder are not part of the data set, by their endings, the most frequent first.
fn left_aside(aside: &BTreeMap<Box<str>, u64>) -> Option<String> {
    const SHOWN: usize = 6;
    let mut endings: Vec<(&str, u64)> = aside.iter().map(|(ending, count)| (&**ending, *count)).collect();
    endings.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total: u64 = aside.values().sum();
    let told = endings.iter().take(SHOWN).map(|(ending, count)| match *ending {
        "" => format!("{count} without an ending"),
        ending => format!("{count} .{}", printable(ending)),
    });
    let mut told: Vec<String> = told.collect();
    if endings.len() > SHOWN {
        told.push(format!("{} of other kinds", endings[SHOWN..].iter().map(|(_, count)| count).sum::<u64>()));
    }
    let files = if total == 1 { "file is" } else { "files are" };
    (total > 0).then(|| format!("{total} {files} left aside: {}", told.join(", ")))
}

/// Decides about one stage and makes it.
async fn stage(catalog: &Arc<Catalog>, node: usize, force: bool, run: &str, reporter: &Reporter) -> Result<StageReport> {
    let start = Instant::now();
    let name = catalog.name(node).to_owned();
    let mut report = StageReport {
        stage: name.clone(),
        action: Action::View,
        parts_written: 0,
        rows_out: None,
        rows_computed: 0,
        rows_reused: 0,
        rows_dropped: 0,
        seconds: 0.0,
        changed: false,
        snapshot: None,
        previous: None,
    };
    let bar = reporter.bar(&name);
    let mut decision = decided(catalog, node, force, false, &bar).await?;
    let before = catalog.store.stage(&name).found_current();
    if let (Some(from), Some(found)) = (&decision.lies, &decision.reuse) {
        reporter.say(&format!("{name}: reuse (the snapshot of {} has the same key)", from.place()));
        match adopt::adopt(catalog, node, from, found, run) {
            Ok(manifest) => decision.reuse = Some(Arc::new(manifest)),
            Err(error) => {
                reporter.warn(&format!("stage `{name}`: {error:#}; it is made anew"));
                decision = decided(catalog, node, force, true, &bar).await?;
            }
        }
    }
    report.action = decision.action;
    report.previous = before;
    for damaged in &decision.damaged {
        reporter.warn(&format!("stage `{name}`: {damaged}"));
    }
    tell_left_out(&decision, reporter);
    match decision.action {
        Action::View => catalog.set(node, decide::view(catalog, node)?),
        Action::Reuse => {
            let manifest = decision.reuse.expect("a decision to reuse has its snapshot");
            let is_other = catalog.store.stage(&name).point_to_if_other(&manifest.id)? || decision.lies.is_some();
            report.changed = is_other && differs(catalog, &report, &manifest);
            report.snapshot = Some(manifest.id.clone());
            report.rows_out = Some(manifest.rows());
            report.rows_reused = manifest.rows();
            catalog.set(node, decide::snapshot(catalog, node, manifest)?);
        }
        Action::Run | Action::Update => {
            let reasons: Vec<String> = decision.reasons.iter().map(|reason| format!("{name}: {reason}")).collect();
            let (stage, action) = (name.clone(), decision.action.name().to_owned());
            reporter.add(Event::Begun { stage, action, reasons: reasons.clone() });
            let reasons = if reasons.is_empty() { "damaged".to_owned() } else { reasons.join("; ") };
            reporter.say(&format!("{name}: {} ({reasons})", decision.action.name()));
            if let (true, Some((key, _))) = (force, &decision.key) {
                catalog.store.stage(&name).checkpoint(key).remove()?;
            }
            let aside = left_aside(&decision.aside);
            let made = execute::execute(catalog, node, decision, run, start, &bar).await;
            bar.close();
            let made = made?;
            report.changed = differs(catalog, &report, &made.manifest);
            report.snapshot = Some(made.manifest.id.clone());
            report.parts_written = made.parts_written;
            report.rows_out = Some(made.manifest.rows());
            report.rows_computed = made.rows_computed;
            report.rows_reused = made.rows_reused;
            let (rows, seconds) = (made.manifest.rows(), start.elapsed().as_secs_f64());
            catalog.set(node, decide::snapshot(catalog, node, Arc::new(made.manifest))?);
            reporter.add(Event::Done { stage: name.clone(), rows, seconds });
            reporter.say(&format!("{name}: {rows} rows in {}", duration(seconds)));
            if let Some(aside) = aside {
                reporter.say(&format!("{name}: {aside}"));
            }
        }
    }
    bar.close();
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Whether a stage's table is another one than before the run. Of one that cannot be read any more, nothing is known.
fn differs(catalog: &Catalog, report: &StageReport, now: &Manifest) -> bool {
    let store = catalog.store.stage(&report.stage);
    let was = report.previous.as_ref().and_then(|was| store.manifest(was).ok());
    was.is_none_or(|was| !have_same_rows(&was, now))
}

/// Whether two snapshots have the same columns and rows, and left out the same. The time at which a file was written is no difference.
pub fn have_same_rows(one: &Manifest, other: &Manifest) -> bool {
    let content = |manifest: &Manifest| -> Result<_> {
        let mut digest = manifest.digest()?;
        digest.columns.remove(images::MODIFIED);
        let fields = manifest.schema.as_ref().map(|schema| schema.fields().clone());
        Ok((digest, fields, manifest.dropped().into_iter().cloned().collect::<Vec<_>>()))
    };
    match (content(one), content(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Decides about one stage on a thread of its own: listing and hashing block.
async fn decided(catalog: &Arc<Catalog>, node: usize, force: bool, alone: bool, bar: &Bar) -> Result<Decision> {
    let (catalog, bar) = (catalog.clone(), bar.clone());
    let work = move || {
        let progress = |done, total| bar.at(done, total, "bytes hashed");
        let pending = BTreeSet::new();
        decide::decide(&catalog, node, &Ask { pending: &pending, force, alone, hash_all: true, progress: &progress })
    };
    tokio::task::spawn_blocking(work).await?
}
