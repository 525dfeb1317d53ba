//! `tessera status`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use tessera_schemas::printable;

use super::{InFile, Namespace, Output, Session, counted, tell_notes};
use crate::ask::meanwhile;
use crate::ask::sql::limits::Limits;
use crate::ask::sql::output::{Format, print_all};
use crate::store::Store;
use crate::store::snapshots::utc;
use crate::watch::events::{self, Event, Stamped};
use crate::watch::interrupt::Interrupt;
use crate::watch::progress::{duration, tell};

/// Whose status.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    file: InFile,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

impl Status {
    /// Prints it, and returns the exit code: 1 if a table is damaged.
    pub(super) fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<u8> {
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let query = "SELECT stage, operator, is_view, rows, parts, bytes, seconds, made FROM stages";
        let notes = meanwhile::of_each(&session.catalog)?;
        let mut rows = session.ask(query, Limits::default(), &Interrupt::default())?;
        print_all(out, &rows.schema.clone(), &mut rows, self.output.format)?;
        if self.output.format == Format::Text {
            last_run(out, &session.catalog.store)?;
        }
        tell_notes(&notes);
        let damaged = session.catalog.damaged()?;
        out.flush()?;
        damaged.iter().for_each(|damaged| tell(format_args!("error: {damaged}")));
        Ok(u8::from(!damaged.is_empty()))
    }
}

/// Says what the run does that is under way, or how far one came that was ended from outside.
fn underway(out: &mut dyn Write, store: &Store) -> Result<()> {
    let Some((run, events)) = store.underway()? else { return Ok(()) };
    let began = run.split('-').next().and_then(|millis| millis.parse::<u64>().ok()).unwrap_or_default();
    let began = utc(began / 1000);
    let mut open: Vec<(String, String)> = Vec::new();
    for Stamped { event, .. } in events::parse(&events) {
        match event {
            Event::Begun { stage, .. } => open.push((stage, String::new())),
            Event::Progress { stage, done, total, .. } if total > 0 => {
                let reached = format!(" ({}%)", done.min(total) * 100 / total);
                open.iter_mut().filter(|(name, _)| *name == stage).for_each(|(_, was)| was.clone_from(&reached));
            }
            Event::Done { stage, .. } | Event::Ended { stage } => open.retain(|(name, _)| *name != stage),
            _ => {}
        }
    }
    let open: Vec<String> = open.iter().map(|(stage, reached)| format!("{}{reached}", printable(stage))).collect();
    match store.holder()? {
        Some(holder) => {
            let at = if open.is_empty() { String::new() } else { format!("; it makes {}", open.join(", ")) };
            writeln!(out, "under way: a run since {began}, by {}{at}", printable(&holder))?;
        }
        None => {
            let at = if open.is_empty() { String::new() } else { format!(" while it made {}", open.join(", ")) };
            writeln!(
                out,
                "ended from outside: the run of {began} was killed{at}; the next run goes on with what it finished"
            )?;
        }
    }
    Ok(())
}

/// Says how the last run ended, when that was, and which run changed a table last.
fn last_run(out: &mut dyn Write, store: &Store) -> Result<()> {
    underway(out, store)?;
    let mut runs = store.newest_runs()?;
    let Some(last) = runs.next() else { return Ok(()) };
    let changed = changed(&last);
    let ended = match (last["error"].as_str(), changed.is_empty()) {
        (Some(error), _) => format!("it failed: {}", printable(error)),
        (None, true) => "nothing had changed".to_owned(),
        (None, false) => format!("it made {}", changed.join(", ")),
    };
    let seconds = duration(last["seconds"].as_f64().unwrap_or_default());
    writeln!(out, "last run: {}, {seconds}; {ended}", started(&last))?;
    if changed.is_empty()
        && let Some((earlier, run)) =
            runs.enumerate().map(|(at, run)| (at + 1, run)).find(|(_, run)| !self::changed(run).is_empty())
    {
        let made = self::changed(&run).join(", ");
        writeln!(out, "last change: {}, {} before; it made {made}", started(&run), counted(earlier, "run"))?;
    }
    Ok(())
}

/// When a run began.
fn started(run: &Value) -> String {
    utc(run["started"].as_u64().unwrap_or_default() / 1000)
}

/// The stages that a run gave another table. Records of earlier versions say what was made.
fn changed(run: &Value) -> Vec<String> {
    let has = |stage: &&Value| match stage["changed"].as_bool() {
        Some(changed) => changed,
        None => matches!(stage["action"].as_str(), Some("run" | "update")),
    };
    let stages = run["stages"].as_array().into_iter().flatten().filter(has);
    stages.filter_map(|stage| stage["stage"].as_str()).map(|name| printable(name).into_owned()).collect()
}
