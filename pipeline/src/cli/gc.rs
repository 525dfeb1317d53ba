//! `tessera gc`.

use std::io::Write;

use anyhow::Result;
use clap::Args;

use super::{InFile, Namespace, Output, session, summary};
use crate::ask::sql::output::Format;
use crate::store::gc;
use crate::watch::progress::tell;

/// What to collect.
#[derive(Debug, Args)]
pub struct Gc {
    #[command(flatten)]
    file: InFile,
    /// Keep also what this many of the last runs made, of those that made anything.
    #[arg(long, default_value_t = 3, value_name = "N")]
    keep_runs: usize,
    /// Delete it.
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

impl Gc {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<()> {
        let (store, stages) = session::store_of(&self.file, self.namespace.limit)?;
        if stages.is_none() {
            tell("note: the file has faults, so that all stages stay, whether it names them or not");
        }
        session::tell_owner(&store, &self.file.path)?;
        let _lock = self.delete.then(|| store.lock(&|line| tell(line))).transpose()?;
        let garbage = gc::find(&store, self.keep_runs, stages.as_ref())?;
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
