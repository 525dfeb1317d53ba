//! `tessera gc`, and `run --gc`.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::wait::{Wait, span};
use super::{InFile, Namespace, Output, session, summary};
use crate::ask::sql::output::Format;
use crate::store::Store;
use crate::store::gc::{self, Keep};
use crate::watch::progress::tell;

/// The runs whose tables are kept if nothing is said.
const KEPT_RUNS: usize = 3;

/// What to collect.
#[derive(Debug, Args)]
pub struct Gc {
    #[command(flatten)]
    file: InFile,
    #[command(flatten)]
    keeping: Keeping,
    /// Delete it.
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

/// What of the past is kept.
#[derive(Debug, Clone, Copy, Args)]
pub struct Keeping {
    /// Keep also the tables that were current after each of the last N runs; runs that changed nothing do not count [default: 3, or 0 with
    /// --keep].
    #[arg(long, value_name = "N")]
    keep_runs: Option<usize>,
    /// Keep also what was current at some time since then, such as "7 days" or 36h ago, whenever it was made.
    #[arg(long, value_name = "TIME", value_parser = span)]
    keep: Option<Duration>,
}

/// What was deleted.
#[derive(Debug, Serialize)]
pub struct Collected {
    /// How many files.
    pub files: usize,
    /// Their bytes in all.
    pub bytes: u64,
}

impl Keeping {
    /// Whether anything is said.
    pub fn is_given(self) -> bool {
        self.keep_runs.is_some() || self.keep.is_some()
    }

    fn keep(self) -> Keep {
        let since = |span: Duration| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.saturating_sub(span).as_secs()
        };
        let runs = self.keep_runs.unwrap_or(if self.keep.is_some() { 0 } else { KEPT_RUNS });
        Keep { runs, since: self.keep.map(since) }
    }

    /// Deletes what nothing needs. The store must be locked.
    ///
    /// # Errors
    /// The store cannot be read, or a file cannot be deleted.
    pub fn collect(self, store: &Store, stages: Option<&BTreeSet<String>>) -> Result<Collected> {
        let garbage = gc::find(store, self.keep(), stages)?;
        store.delete(&garbage)?;
        Ok(Collected { files: garbage.len(), bytes: garbage.iter().map(|file| file.bytes).sum() })
    }
}

impl Gc {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<()> {
        let (store, stages) = session::store_of(&self.file, self.namespace.limit)?;
        if stages.is_none() {
            tell("note: the file has faults, so that all stages stay, whether it names them or not");
        }
        session::tell_owner(&store, &self.file.path)?;
        let _lock = self.delete.then(|| self.wait.lock(&store, false)).transpose()?;
        // While the lock was waited for, the file may have got stages, and a run may have made them.
        let now = if self.delete { session::store_of(&self.file, self.namespace.limit)?.1 } else { stages.clone() };
        let stages = stages.zip(now).map(|(before, now)| &before | &now);
        let garbage = gc::find(&store, self.keeping.keep(), stages.as_ref())?;
        if self.delete {
            store.delete(&garbage)?;
        }
        match self.output.format {
            Format::Json => writeln!(out, "{}", serde_json::to_string(&garbage)?)?,
            format => summary::garbage(out, &garbage, self.delete, format)?,
        }
        Ok(())
    }
}
