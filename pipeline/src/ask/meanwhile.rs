//! What the pipeline file says by now, where a table that is asked was made under another one.
//!
//! Told is what follows from the file and the manifests alone, of the table and of all that it was made from: other keys, seeds and
//! operators, other inputs, and inputs that were made anew since. Whether images changed, `tessera plan` says.

use std::collections::BTreeSet;

use crate::engine::catalog::Catalog;
use crate::store::Manifest;
use crate::store::key::{self, Change, KeyParts, compact};

/// One sentence for each thing that is told of some stages' tables, and one that says what makes them anew.
pub fn notes(catalog: &Catalog, asked: &BTreeSet<usize>) -> Vec<String> {
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
        let to: String = stale.iter().map(|name| format!(" --to {name}")).collect();
        last.push_str(&format!(": `tessera run {}{to}` makes it anew", graph.file.path.display()));
    }
    notes
}

/// The same of all stages, each for itself: what it was made from has sentences of its own.
pub fn of_each(catalog: &Catalog) -> Vec<String> {
    (0..catalog.plan.stages.len()).flat_map(|node| of(catalog, node, node)).collect()
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
    let one = |change: Change| match change {
        Change::Key { key, was, is, .. } => {
            let shown = |value: Option<serde_json::Value>| value.as_ref().map_or_else(|| "unset".to_owned(), compact);
            format!("`{whose}` is of {name}.{key} = {}, and the file says {}", shown(was), shown(is))
        }
        Change::Seed { was, is } => {
            let shown = |seed: Option<u64>| seed.map_or_else(|| "unset".to_owned(), |seed| seed.to_string());
            format!("`{whose}` is of {name}.seed = {}, and the file says {}", shown(was), shown(is))
        }
        other => format!("`{whose}` is of another `{name}`: {other}"),
    };
    let mut told: Vec<String> = now.changes_since(old).into_iter().map(one).collect();
    told.extend(inputs(catalog, at, &manifest).into_iter().map(|input| format!("`{whose}` is of an earlier `{input}`")));
    told
}

/// The stages whose tables are others than those that a snapshot was made of.
fn inputs(catalog: &Catalog, at: usize, manifest: &Manifest) -> Vec<String> {
    let mut changed = Vec::new();
    for edge in &catalog.plan.graph.nodes[at].edges {
        let Some(read) = manifest.parts_of_key.inputs.get(&edge.name) else { continue };
        let Some(input) = catalog.table(edge.from).and_then(|table| table.manifest) else { continue };
        let schema = input.schema.clone().unwrap_or_else(|| catalog.schema(edge.from));
        let Ok(columns) = key::of_snapshot(&schema, &input) else { continue };
        if read.iter().any(|(name, was)| columns.get(name).is_none_or(|is| is != was)) {
            changed.push(catalog.name(edge.from).to_owned());
        }
    }
    changed
}
