//! `tessera run`, by hand and by cron.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tessera_schemas::printable;

use super::gc::{Collected, Keeping};
use super::wait::Wait;
use super::{Choice, InFile, Output, Session, Usage, check_names, counted, session, summary};
use crate::ask::news::{self, News, StageNews};
use crate::ask::sql::output::Format;
use crate::engine::catalog::Catalog;
use crate::run::{self, Report, StageReport};
use crate::watch::interrupt::Interrupted;
use crate::watch::progress::{Reporter, duration, stamp, tell};

/// What `run --help` says at its end.
pub(super) const HELP: &str = "\
After the table it says what is new since the last run that succeeded: images that came, went or were left out, and the clusters of the new
ones; in JSON, as `news`. When stderr is no terminal, each message begins with the time in UTC, such as 2026-11-28T12:20:39Z.

Exit codes: 0 done, 1 failed, 2 wrong command line or file, 3 done and tables changed since\nthe last run that succeeded (with --exit-code alone), 4 another run holds the
store, 129 SIGHUP, 130 ^C, 143 SIGTERM. For cron, which mails what is printed:
  15 2 * * *  cd /data/photos && tessera run pipeline.toml -q --wait 2h --gc --keep \"30 days\"";

/// The exit code that tells a run that changed tables from one that did not.
const CHANGED: u8 = 3;
/// How long work that was begun may take to clear up when it is interrupted.
const CLEAR_UP: std::time::Duration = std::time::Duration::from_secs(5);
/// How many clusters of new images, and how many images that were left out, are named.
const NAMED: usize = 3;

/// What to run, and how.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    file: InFile,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    output: Output,
    /// Say nothing while it goes on, and print nothing unless tables changed; a document of --format json or csv is printed in any case.
    #[arg(long, short)]
    quiet: bool,
    /// End with exit code 3 if tables changed since the last run that succeeded, and with 0 if none did.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    wait: Wait,
    /// After a run that succeeded, delete what nothing needs any more, as `tessera gc --delete` does.
    #[arg(long, conflicts_with = "limit")]
    gc: bool,
    #[command(flatten)]
    keeping: Keeping,
}

impl Run {
    /// Runs, prints what was done, and returns the exit code.
    pub(super) fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<u8> {
        stamp();
        if self.keeping.is_given() && !self.gc {
            return Err(Usage("--keep and --keep-runs say what --gc keeps: add --gc".to_owned()).into());
        }
        let limit = self.choice.limit;
        let mut session = Session::limited(&self.file, threads, limit)
            .inspect_err(|error| session::record_failure(&self.file, limit, error))?;
        let options = check_names(&session, self.choice)?;
        let (_lock, has_waited) = self.wait.lock(&session.catalog.store, self.quiet)?;
        if has_waited {
            session.bind_again(&self.file).inspect_err(|error| session::record_failure(&self.file, limit, error))?;
        }
        let told = told(&session.catalog)?;
        session.catalog.store.claim(&self.file.path)?;
        session.catalog.engine.interrupt.install()?;
        let report = session.run(&self.file, &options, Reporter::new(self.quiet));
        if report.as_ref().is_err_and(|error| error.is::<Interrupted>()) {
            // Work that was begun may clear up after itself.
            session.runtime.shutdown_timeout(CLEAR_UP);
        }
        let report = report?;
        let changed = changed(&session.catalog, &report, &told);
        let news = news::since(&session.catalog, &changed);
        for (stage, error) in &news.untold {
            tell(format_args!("note: what is new in `{stage}` is not known: {error:#}"));
        }
        let (collected, uncollected) = match self.gc.then(|| collect(self.keeping, &session.catalog, &self.file)).transpose()
        {
            Ok(collected) => (collected, None),
            // What the run made is told all the same.
            Err(error) => (None, Some(error)),
        };
        let is_quiet = self.quiet && self.output.format == Format::Text;
        match self.output.format {
            Format::Json => {
                let mut document = serde_json::to_value(&report)?;
                document["changed"] = json!(!changed.is_empty());
                document["news"] = json!(news);
                if let Some(collected) = &collected {
                    document["collected"] = json!(collected);
                }
                writeln!(out, "{document}")?;
            }
            Format::Csv => summary::run(out, &report, Format::Csv)?,
            Format::Text if is_quiet && changed.is_empty() => {}
            Format::Text => {
                if !is_quiet {
                    summary::run(out, &report, Format::Text)?;
                }
                tell_news(out, &news)?;
                if is_quiet {
                    made(out, &changed, report.seconds)?;
                }
                if let Some(Collected { files, bytes }) = collected.filter(|collected| collected.files > 0) {
                    writeln!(out, "gc: {}, {bytes} bytes deleted", counted(files, "file"))?;
                }
            }
        }
        match uncollected {
            Some(error) => Err(error),
            None => Ok(if self.exit_code && !changed.is_empty() { CHANGED } else { 0 }),
        }
    }
}

/// The snapshots that stages had at the end of the last run that succeeded, as far as that is known: whoever reads what runs print knows of those.
fn told(catalog: &Catalog) -> Result<BTreeMap<String, Option<String>>> {
    let nodes = catalog.plan.graph.nodes.iter().filter(|node| !node.view);
    let told = catalog.store.at_last_success(nodes.map(|node| node.name.as_str()))?;
    Ok(told.into_iter().map(|(stage, snapshot)| (stage.to_owned(), snapshot)).collect())
}

/// A stage that has another table now, and the snapshot that it had.
type Changed<'a> = (&'a str, Option<&'a str>);

/// The stages that have another table now than what was told: what runs changed that failed is news of this one.
fn changed<'a>(catalog: &Catalog, report: &'a Report, told: &'a BTreeMap<String, Option<String>>) -> Vec<Changed<'a>> {
    // The same rows in other files are no change.
    let are_same = |stage: &str, was: &str, is: &str| {
        let store = catalog.store.stage(stage);
        let Ok(is) = store.manifest(is) else { return false };
        match store.manifest(was) {
            Ok(was) => was.original() == is.original() || run::have_same_rows(&was, &is),
            // Of a snapshot and a rewrite of it, `gc` keeps one.
            Err(_) => is.original() == was,
        }
    };
    let is_same = |stage: &StageReport, was: Option<&str>| match (was, stage.snapshot.as_deref()) {
        (Some(was), Some(is)) => was == is || are_same(&stage.stage, was, is),
        _ => false,
    };
    let made = report.stages.iter().filter(|stage| stage.snapshot.is_some());
    let was = made.filter_map(|stage| match told.get(&stage.stage) {
        Some(was) => (!is_same(stage, was.as_deref())).then_some((stage.stage.as_str(), was.as_deref())),
        None => stage.changed.then_some((stage.stage.as_str(), stage.previous.as_deref())),
    });
    was.collect()
}

/// Deletes what nothing needs. Needed is what the run was about, and what the file names by now; all stages, if it cannot be read.
fn collect(keeping: Keeping, catalog: &Catalog, file: &InFile) -> Result<Collected> {
    let run = catalog.plan.graph.nodes.iter().map(|node| node.name.clone());
    let named = session::store_of(file, None).ok().and_then(|(_, named)| named);
    let stages = named.map(|named| named.into_iter().chain(run).collect());
    keeping.collect(&catalog.store, stages.as_ref())
}

/// What is new, a line a stage.
fn tell_news(out: &mut dyn Write, news: &News) -> Result<()> {
    for stage in &news.stages {
        writeln!(out, "{}", of_stage(stage))?;
    }
    for rows in news.dropped.chunk_by(|a, b| a.stage == b.stage) {
        let told: Vec<String> = rows
            .iter()
            .take(NAMED)
            .map(|row| match row.reason.contains(&row.image_id) {
                true => printable(&row.reason).into_owned(),
                false => format!("{} ({})", printable(&row.image_id), printable(&row.reason)),
            })
            .collect();
        let more = if rows.len() > NAMED { format!("; and {} more", rows.len() - NAMED) } else { String::new() };
        writeln!(out, "{}: {} dropped: {}{more}", printable(&rows[0].stage), rows.len(), told.join("; "))?;
    }
    Ok(())
}

/// `assigned: 12 new, most in clusters 7 (5) and 31 (3); 3 gone`.
fn of_stage(news: &StageNews) -> String {
    let mut told = Vec::new();
    if news.new > 0 {
        let few: Vec<String> =
            news.clusters.iter().take(NAMED).map(|one| format!("{} ({})", one.cluster, one.new)).collect();
        let clusters = if few.len() == 1 { "cluster" } else { "clusters" };
        let clusters = match few.split_last() {
            None => String::new(),
            Some((last, before)) => {
                let (all, named) = (news.clusters.len(), news.clusters.iter().take(NAMED).map(|one| one.new).sum::<u64>());
                let where_to = match all > few.len() {
                    false => format!("in {clusters}"),
                    true if named * 2 > news.new => format!("most in {clusters}"),
                    true => format!("in {all} clusters, above all"),
                };
                let before = if before.is_empty() { String::new() } else { format!("{} and ", before.join(", ")) };
                format!(", {where_to} {before}{last}")
            }
        };
        told.push(format!("{} new{clusters}", news.new));
    }
    let counts =
        [(news.gone, "gone"), (news.changed.unwrap_or(0), "changed"), (news.moved.unwrap_or(0), "in another cluster")];
    told.extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    let separator = if news.clusters.is_empty() { ", " } else { "; " };
    let told = if told.is_empty() { "the same rows".to_owned() } else { told.join(separator) };
    format!("{}: {told}", printable(&news.stage))
}

/// Which stages have another table now, and how long that took.
fn made(out: &mut dyn Write, changed: &[Changed<'_>], seconds: f64) -> Result<()> {
    let names: Vec<_> = changed.iter().map(|(stage, _)| printable(stage)).collect();
    writeln!(out, "made: {}", names.join(", "))?;
    writeln!(out, "done in {}", duration(seconds))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::news::Arrivals;

    fn news(counts: [u64; 4], clusters: &[(i32, u64)]) -> String {
        let clusters: Vec<Arrivals> = clusters.iter().map(|&(cluster, new)| Arrivals { cluster, new }).collect();
        let [new, gone, changed, moved] = counts;
        let (changed, moved) = if clusters.is_empty() { (Some(changed), None) } else { (None, Some(moved)) };
        of_stage(&StageNews { stage: "s".into(), new, gone, changed, moved, clusters })
    }

    #[test]
    fn news_are_sentences() {
        assert_eq!(news([12, 3, 1, 0], &[]), "s: 12 new, 3 gone, 1 changed");
        assert_eq!(news([0, 0, 0, 0], &[]), "s: the same rows");
        assert_eq!(news([5, 0, 0, 0], &[(7, 5)]), "s: 5 new, in cluster 7 (5)");
        assert_eq!(
            news([8, 1, 0, 4], &[(7, 5), (31, 3)]),
            "s: 8 new, in clusters 7 (5) and 31 (3); 1 gone; 4 in another cluster"
        );
        let many = [(7, 5), (31, 3), (2, 2), (9, 1)];
        assert_eq!(news([11, 0, 0, 0], &many), "s: 11 new, most in clusters 7 (5), 31 (3) and 2 (2)");
        let spread: Vec<(i32, u64)> = (0..9).map(|cluster| (cluster, 2)).collect();
        assert_eq!(news([18, 0, 0, 0], &spread), "s: 18 new, in 9 clusters, above all 0 (2), 1 (2) and 2 (2)");
    }
}
