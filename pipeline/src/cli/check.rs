//! `tessera check`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, StringArray};
use clap::Args;
use serde_json::json;
use tessera_datasets::as_url;
use tessera_schemas::printable;

use super::summary::{print_columns, texts};
use super::{InFile, Output, Session, counted};
use crate::ask::export::images::lists_images;
use crate::ask::sql::output::Format;

/// Which file to check, and how to say what it is.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    file: InFile,
    #[command(flatten)]
    output: Output,
}

impl Check {
    pub(super) fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<()> {
        let session = Session::open(&self.file, threads)?;
        let (catalog, plan) = (&session.catalog, &session.catalog.plan);
        let notes = plan.notes()?;
        let file = self.file.path.to_string_lossy();
        if self.output.format == Format::Text {
            for (node, note) in notes {
                writeln!(out, "{}: {}", plan.graph.nodes[node].name, printable(&note))?;
            }
            writeln!(out, "{}: {}, nothing wrong", printable(&file), counted(plan.stages.len(), "stage"))?;
            return Ok(());
        }
        let nodes = &plan.graph.nodes;
        let root = |node: usize| -> Result<Option<String>> {
            if !lists_images(catalog, node) {
                return Ok(None);
            }
            let source = catalog.source(node)?;
            source.lists_images().then(|| place(source.root())).transpose()
        };
        let roots = (0..nodes.len()).map(root).collect::<Result<Vec<_>>>()?;
        let store = place(&catalog.store.place())?;
        if self.output.format == Format::Json {
            let stages = nodes.iter().zip(&roots).enumerate().map(|(at, (node, root))| {
                let notes: Vec<&String> = notes.iter().filter(|(of, _)| *of == at).map(|(_, note)| note).collect();
                json!({ "stage": node.name, "operator": node.spec.name(), "is_view": node.view, "path": root, "notes": notes })
            });
            let stages: Vec<_> = stages.collect();
            writeln!(out, "{}", json!({ "file": file, "name": plan.graph.file.name, "store": store, "stages": stages }))?;
            return Ok(());
        }
        let views: ArrayRef = Arc::new(nodes.iter().map(|node| Some(node.view)).collect::<BooleanArray>());
        let paths: ArrayRef = Arc::new(roots.iter().map(Option::as_deref).collect::<StringArray>());
        let columns = vec![
            ("stage", texts(nodes.iter().map(|node| &node.name))),
            ("operator", texts(nodes.iter().map(|node| node.spec.name()))),
            ("is_view", views),
            ("path", paths),
            ("store", texts(nodes.iter().map(|_| &store))),
        ];
        print_columns(out, columns, self.output.format)
    }
}

/// A folder by its absolute path, or a URL, as text.
fn place(path: &Path) -> Result<String> {
    match as_url(path) {
        Some(url) => Ok(url.trim_end_matches('/').to_owned()),
        None => Ok(std::path::absolute(path)?.components().collect::<PathBuf>().to_string_lossy().into_owned()),
    }
}
