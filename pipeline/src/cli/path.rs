//! `tessera path`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{InFile, Namespace, Output, Session, Usage};
use crate::ask::sql::output::Format;

/// Whose files to print.
#[derive(Debug, Args)]
pub struct Path {
    #[command(flatten)]
    file: InFile,
    /// The stage.
    stage: String,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

impl Path {
    pub(super) fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<()> {
        let session = Session::reading(&self.file, threads, self.namespace.limit)?;
        let catalog = &session.catalog;
        let node = session.stage(&self.stage)?;
        let name = catalog.name(node);
        if catalog.plan.graph.nodes[node].view {
            let message = format!("`{name}` is a view and has no files; `tessera export` writes it to one");
            return Err(Usage(message).into());
        }
        let (manifest, store) = (catalog.manifest(node)?, catalog.store.stage(name));
        if let Some(damaged) = store.shelf()?.damage(&manifest) {
            return Err(damaged.into());
        }
        let paths: Vec<String> = manifest.parts.iter().map(|part| store.part(part).to_string_lossy().into_owned()).collect();
        match self.output.format {
            Format::Json => writeln!(out, "{}", json!(paths))?,
            _ => paths.iter().try_for_each(|path| writeln!(out, "{path}"))?,
        }
        Ok(())
    }
}
