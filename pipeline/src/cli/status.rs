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

/// Says how the last run ended, when that was, and which run changed a table last.
fn last_run(out: &mut dyn Write, store: &Store) -> Result<()> {
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
