//! What the pipeline file says by now, where a table that is asked was made under another one.
//!
//! Told is what follows from the file and the manifests alone, of the table and of all that it was made from: other keys, seeds and
//! operators, other inputs, views of other keys, and inputs that were made anew since. Whether images changed, `tessera plan` says. To whom the command
//! line gives keys, nothing is answered from a table that was made without them: that is an error.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::declare::file::Override;
use crate::declare::graph::Edge;
use crate::engine::catalog::Catalog;
use crate::engine::keys;
use crate::store::Manifest;
use crate::store::key::{self, Change, Columns, KeyParts, compact};

/// One sentence for each thing that is to be told of some stages' tables, and one that says what makes them anew.
///
/// # Errors
/// There is something to tell, and the command line has `--set`: then what was asked is no table that there is.
pub fn notes(catalog: &Catalog, asked: &BTreeSet<usize>) -> Result<Vec<String>> {
    refuse_set(catalog, told(catalog, asked))
}

/// The sentences of [`notes`], whatever the command line gives.
fn told(catalog: &Catalog, asked: &BTreeSet<usize>) -> Vec<String> {
    let graph = &catalog.plan.graph;
    let (mut notes, mut stale) = (Vec::new(), Vec::new());
    for &node in asked {
        let told: Vec<String> = graph.upstream(&[node]).into_iter().flat_map(|at| of(catalog, node, at)).collect();
        if !told.is_empty() {
            stale.push(catalog.name(node));
            notes.extend(told.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
        }
    }
    if let (Some(last), Some(_)) = (notes.last_mut(), stale.first()) {
        let set: String = graph.file.overrides.iter().map(|set| format!(" --set {}", set.quoted())).collect();
        let to: String = stale.iter().map(|name| format!(" --to {name}")).collect();
        last.push_str(&format!(": `tessera run {}{set}{to}` makes it anew", graph.file.path.display()));
    }
    notes
}

/// The same of all stages, each for itself: what it was made from has sentences of its own.
///
/// # Errors
/// As [`notes`].
pub fn of_each(catalog: &Catalog) -> Result<Vec<String>> {
    refuse_set(catalog, (0..catalog.plan.stages.len()).flat_map(|node| of(catalog, node, node)).collect())
}

/// Makes an error of notes where `--set` says what tables are to be of.
fn refuse_set(catalog: &Catalog, notes: Vec<String>) -> Result<Vec<String>> {
    if !notes.is_empty() && catalog.plan.graph.file.overrides.iter().any(Override::is_of_tables) {
        bail!("{}", notes.join("; "));
    }
    Ok(notes)
}

/// What is told of a stage's table because of a stage that it depends on, or of itself.
fn of(catalog: &Catalog, asked: usize, at: usize) -> Vec<String> {
    let (graph, stage) = (&catalog.plan.graph, &catalog.plan.stages[at]);
    let (whose, name) = (catalog.name(asked), catalog.name(at));
    let Some(manifest) = catalog.table(at).and_then(|table| table.manifest) else { return Vec::new() };
    if stage.recorded {
        return Vec::new();
    }
    let (node, old) = (&graph.nodes[at], &manifest.parts_of_key);
    let now = KeyParts {
        operator: node.spec.name().to_owned(),
        version: node.spec.version(),
        config: key::sorted(&stage.config),
        seed: node.spec.seeded().then(|| graph.seed(at)),
        ..old.clone()
    };
    let set = &graph.declaration(at).set;
    let who = |key: &str| if set.contains(key) { "--set" } else { "the file" };
    let one = |change: Change| match change {
        Change::Key { key, was, is, .. } => {
            let shown = |value: Option<Value>| value.as_ref().map_or_else(|| "unset".to_owned(), compact);
            format!("`{whose}` is of {name}.{key} = {}, and {} says {}", shown(was), who(&key), shown(is))
        }
        Change::Seed { was, is } => {
            let shown = |seed: Option<u64>| seed.map_or_else(|| "unset".to_owned(), |seed| seed.to_string());
            format!("`{whose}` is of {name}.seed = {}, and {} says {}", shown(was), who("seed"), shown(is))
        }
        other => format!("`{whose}` is of another `{name}`: {other}"),
    };
    let mut told: Vec<String> = now.changes_since(old).into_iter().map(one).collect();
    told.extend(inputs(catalog, at, &manifest).into_iter().map(|input| format!("`{whose}` is of {input}")));
    told
}

/// The inputs that are others than those that a snapshot was made of.
fn inputs(catalog: &Catalog, at: usize, manifest: &Manifest) -> Vec<String> {
    let edges = &catalog.plan.graph.nodes[at].edges;
    edges.iter().filter_map(|edge| changed(catalog, at, edge, manifest)).collect()
}

/// What a snapshot was made of in place of an input as it is now; nothing if it is the same.
fn changed(catalog: &Catalog, at: usize, edge: &Edge, manifest: &Manifest) -> Option<String> {
    let (graph, from) = (&catalog.plan.graph, catalog.name(edge.from));
    let Some(read) = manifest.parts_of_key.inputs.get(&edge.name) else {
        return Some(format!("no `{from}` as its input `{}`", edge.name));
    };
    let now = graph.inputs(at).remove(&edge.name);
    let then = manifest.inputs.get(&edge.name).filter(|then| now.as_ref() != Some(then));
    let other = then.map(|then| format!("`{}`, and not of `{from}`", then.join("`, `")));
    // Of a stage that is not made yet it is known alone that it is another one.
    let Some(columns) = columns(catalog, edge.from) else { return other };
    if read.iter().all(|(name, was)| columns.get(name) == Some(was)) {
        return None;
    }
    if other.is_some() {
        return other;
    }
    let set = &graph.declaration(edge.from).set;
    if graph.nodes[edge.from].view && !set.is_empty() {
        let keys: Vec<String> = set.iter().map(|key| format!("{from}.{key}")).collect();
        return Some(format!("`{from}` without --set {}", keys.join(", ")));
    }
    Some(format!("an earlier `{from}`"))
}

/// The columns of a stage's table as it is now: of a view, as the file makes it of what there is. Nothing where one is not known.
fn columns(catalog: &Catalog, node: usize) -> Option<Columns> {
    if catalog.plan.stages[node].recorded {
        return None;
    }
    if catalog.plan.graph.nodes[node].view {
        return keys::of_view(catalog, node, |from| columns(catalog, from)).ok();
    }
    let manifest = catalog.table(node)?.manifest?;
    let schema = manifest.schema.clone().unwrap_or_else(|| catalog.schema(node));
    key::of_snapshot(&schema, &manifest).ok()
}
