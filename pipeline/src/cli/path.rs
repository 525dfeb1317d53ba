//! `tessera path`.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{InFile, Namespace, Output, Session, Usage, tell_notes};
use crate::ask::meanwhile;
use crate::ask::sql::output::Format;
use crate::watch::progress::tell;

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
        tell_notes(&meanwhile::notes(catalog, &BTreeSet::from([node]))?);
        let (mut manifest, store) = (catalog.manifest(node)?, catalog.store.stage(name));
        let with_gone = manifest.parts.iter().filter(|part| !part.gone.is_empty()).count();
        if with_gone > 0 {
            // Who reads files sees all that is in them.
            tell(format_args!(
                "note: {with_gone} of the files of `{name}` hold rows that are gone: they are written without them"
            ));
            let _lock = catalog.store.lock(&|line| tell(line))?;
            manifest = Arc::new(store.compact()?);
        }
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
