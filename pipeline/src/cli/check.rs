//! `tessera check`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, StringArray};
use clap::Args;
use serde_json::json;
use tessera_datasets::as_url;
use tessera_datasets::layout::Role;
use tessera_schemas::printable;

use super::summary::{print_columns, texts};
use super::{InFile, Output, Session, counted};
use crate::ask::export::images::lists_images;
use crate::ask::sql::output::Format;
use crate::declare::faults::{Fault, Faults};
use crate::declare::graph::place;
use crate::declare::sweep;
use crate::engine::catalog::Catalog;

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
        let faults = too_few(catalog);
        if !faults.is_empty() {
            let file = &plan.graph.file;
            return Err(Faults::new(&file.path, &file.text, sweep::fold(&file.stages, faults)).into());
        }
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
            source.lists_images().then(|| absolute(source.root())).transpose()
        };
        let roots = (0..nodes.len()).map(root).collect::<Result<Vec<_>>>()?;
        let store = absolute(&catalog.store.place())?;
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

/// Stages that need more rows than the images that there are can give. Files are counted, and none is read.
fn too_few(catalog: &Catalog) -> Vec<Fault> {
    let graph = &catalog.plan.graph;
    let mut counts: Vec<Option<u64>> = Vec::new();
    let mut faults = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let count = match catalog.stream_of(at) {
            _ if node.spec.inputs().is_empty() => images(catalog, at),
            Some(from) if !node.spec.multiplies() => counts[from],
            _ => None,
        };
        counts.push(count);
        for edge in &node.edges {
            let Some(rows) = counts[edge.from] else { continue };
            if let Err(error) = catalog.plan.stages[at].enough(&edge.name, rows) {
                faults.push(place(graph.declaration(at), &graph.file.stages, error));
            }
        }
    }
    faults
}

/// How many images a data set on a disk of this machine has; nothing of one whose files hold several, or that cannot be listed, which a
/// run tells.
fn images(catalog: &Catalog, node: usize) -> Option<u64> {
    if !lists_images(catalog, node) {
        return None;
    }
    let source = catalog.source(node).ok().filter(|source| source.lists_images() && as_url(source.root()).is_none())?;
    let listed = source.list(catalog.engine.files.as_ref()).ok()?;
    let roles: Vec<Role> = listed.files.iter().map(|file| source.role(&file.path)).collect();
    let count = roles.iter().filter(|role| **role == Role::Image).count();
    (count > 0 && !roles.contains(&Role::Shard)).then_some(count as u64)
}

/// A folder by its absolute path, or a URL, as text.
fn absolute(path: &Path) -> Result<String> {
    match as_url(path) {
        Some(url) => Ok(url.trim_end_matches('/').to_owned()),
        None => Ok(std::path::absolute(path)?.components().collect::<PathBuf>().to_string_lossy().into_owned()),
    }
}
