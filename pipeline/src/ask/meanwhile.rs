//! What the pipeline file says by now, where a table that is asked was made under another one.
//!
//! Told is what follows from the file and the manifests alone, of the table and of all that it was made from: other keys, seeds and
//! operators, other inputs, views of other keys, and inputs that were made anew since. What a table was made from are the snapshots whose columns
//! it read, current or not: if clusters were made anew with another `k`, assignments of the earlier ones are still of the earlier `k`. Whether
//! images changed, `tessera plan` says. To whom the command line gives keys, nothing is answered from a table that was made without them:
//! that is an error.

use std::collections::BTreeSet;
use std::sync::Arc;

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
    let (mut notes, mut stale) = (Vec::new(), Vec::new());
    for &node in asked {
        let mut told = Told { catalog, whose: catalog.name(node), sentences: Vec::new(), seen: BTreeSet::new() };
        // A view is of the snapshots that a reader has now.
        for at in behind(catalog, node) {
            if let Some(manifest) = current(catalog, at) {
                told.all(at, &manifest);
            }
        }
        if !told.sentences.is_empty() {
            stale.push(catalog.name(node));
            notes.extend(told.sentences.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
        }
    }
    if let (Some(last), Some(_)) = (notes.last_mut(), stale.first()) {
        let to: String = stale.iter().map(|name| format!(" --to {name}")).collect();
        // Anew, or by taking a table that the store has of those keys.
        last.push_str(&format!(": `tessera run {}{to}` makes it so", catalog.arguments()));
    }
    notes
}

/// The same of all stages, each for itself: what it was made from has sentences of its own.
///
/// # Errors
/// As [`notes`].
pub fn of_each(catalog: &Catalog) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for node in 0..catalog.plan.stages.len() {
        let mut told = Told { catalog, whose: catalog.name(node), sentences: Vec::new(), seen: BTreeSet::new() };
        if let Some(manifest) = current(catalog, node) {
            told.keys(node, &manifest);
            told.inputs(node, &manifest);
        }
        notes.extend(told.sentences);
    }
    refuse_set(catalog, notes)
}

/// Makes an error of notes where `--set` says what tables are to be of.
fn refuse_set(catalog: &Catalog, notes: Vec<String>) -> Result<Vec<String>> {
    if !notes.is_empty() && catalog.plan.graph.file.overrides.iter().any(Override::is_of_tables) {
        bail!("{}", notes.join("; "));
    }
    Ok(notes)
}

/// What is told of one table.
struct Told<'a> {
    catalog: &'a Catalog,
    /// Whose table it is.
    whose: &'a str,
    sentences: Vec<String>,
    /// The snapshots that were looked at, by stage and name.
    seen: BTreeSet<(usize, String)>,
}

/// What a table was made from, in place of one of its inputs as it is now.
enum Read {
    /// The input as it is now.
    Same,
    /// An earlier snapshot of that stage, which is the input or stands behind it.
    Earlier(usize, Arc<Manifest>),
    /// Something else: what the table is of.
    Other(String),
}

impl Told<'_> {
    /// Adds what is to be told of a snapshot of a stage and of all that it was made from.
    fn all(&mut self, at: usize, manifest: &Arc<Manifest>) {
        if self.catalog.plan.stages[at].recorded || !self.seen.insert((at, manifest.id.clone())) {
            return;
        }
        self.keys(at, manifest);
        for from in self.inputs(at, manifest) {
            if let Some(manifest) = current(self.catalog, from) {
                self.all(from, &manifest);
            }
        }
    }

    /// Adds the keys of a snapshot that are others by now.
    fn keys(&mut self, at: usize, manifest: &Manifest) {
        let (catalog, whose, name) = (self.catalog, self.whose, self.catalog.name(at));
        let (graph, stage) = (&catalog.plan.graph, &catalog.plan.stages[at]);
        if stage.recorded {
            return;
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
        self.sentences.extend(now.changes_since(old).into_iter().map(one));
    }

    /// Adds the inputs of a snapshot that are others by now; returns the stages that it read as they are.
    fn inputs(&mut self, at: usize, manifest: &Manifest) -> Vec<usize> {
        let catalog = self.catalog;
        if catalog.plan.stages[at].recorded {
            return Vec::new();
        }
        let mut same = Vec::new();
        for edge in &catalog.plan.graph.nodes[at].edges {
            match read(catalog, at, edge, manifest) {
                Read::Same => same.extend(behind(catalog, edge.from)),
                Read::Other(what) => self.sentences.push(format!("`{}` is of {what}", self.whose)),
                Read::Earlier(from, earlier) => {
                    let before = self.sentences.len();
                    self.all(from, &earlier);
                    if self.sentences.len() == before && !is_of_the_file(catalog, from, &earlier) {
                        self.sentences.push(format!("`{}` is of an earlier `{}`", self.whose, catalog.name(from)));
                    }
                }
            }
        }
        same
    }
}

fn current(catalog: &Catalog, node: usize) -> Option<Arc<Manifest>> {
    catalog.table(node)?.manifest
}

/// The stages with snapshots that a stage's table is of: itself, or what stands behind a view.
fn behind(catalog: &Catalog, node: usize) -> Vec<usize> {
    let node_of = &catalog.plan.graph.nodes[node];
    if !node_of.view || catalog.plan.stages[node].recorded {
        return vec![node];
    }
    let mut found: Vec<usize> = node_of.edges.iter().flat_map(|edge| behind(catalog, edge.from)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether a run would take this earlier snapshot, of which is known that its keys are the file's, and that so are those of what it was
/// made from: then the current one was made with other keys.
fn is_of_the_file(catalog: &Catalog, node: usize, earlier: &Manifest) -> bool {
    let Some(current) = current(catalog, node) else { return false };
    let (now, then) = (&current.parts_of_key, &earlier.parts_of_key);
    let is_source = catalog.plan.graph.nodes[node].edges.is_empty();
    // Of files that the keys name it is not known which bytes they have by now.
    let is_newest =
        || catalog.store.stage(catalog.name(node)).find(&earlier.key).first().is_some_and(|newest| newest.id == earlier.id);
    !is_source && current.key != earlier.key && (&now.files, &now.listing) == (&then.files, &then.listing) && is_newest()
}

/// What a snapshot was made of in place of an input as it is now.
fn read(catalog: &Catalog, at: usize, edge: &Edge, manifest: &Manifest) -> Read {
    let (graph, from) = (&catalog.plan.graph, catalog.name(edge.from));
    let Some(read) = manifest.parts_of_key.inputs.get(&edge.name) else {
        return Read::Other(format!("no `{from}` as its input `{}`", edge.name));
    };
    let now = graph.inputs(at).remove(&edge.name);
    let then = manifest.inputs.get(&edge.name).filter(|then| now.as_ref() != Some(then));
    let other = then.map(|then| format!("`{}`, and not of `{from}`", then.join("`, `")));
    let is_read = |columns: &Columns| read.iter().all(|(name, was)| columns.get(name) == Some(was));
    // Of a stage that is not made yet it is known alone that it is another one.
    let Some(now) = columns(catalog, edge.from, None) else { return other.map_or(Read::Same, Read::Other) };
    if is_read(&now) {
        return Read::Same;
    }
    if let Some(other) = other {
        return Read::Other(other);
    }
    let set = &graph.declaration(edge.from).set;
    if graph.nodes[edge.from].view && !set.is_empty() {
        let keys: Vec<String> = set.iter().map(|key| format!("{from}.{key}")).collect();
        return Read::Other(format!("`{from}` without --set {}", keys.join(", ")));
    }
    for stage in behind(catalog, edge.from) {
        for earlier in catalog.store.stage(catalog.name(stage)).newest_first().into_iter().flatten() {
            if columns(catalog, edge.from, Some((stage, &earlier))).is_some_and(|columns| is_read(&columns)) {
                return Read::Earlier(stage, Arc::new(earlier));
            }
        }
    }
    Read::Other(format!("an earlier `{from}`"))
}

/// The columns of a stage's table as it is now, or with another snapshot of one stage: of a view, as the file makes it of what there is.
/// Nothing where one is not known.
fn columns(catalog: &Catalog, node: usize, instead: Option<(usize, &Manifest)>) -> Option<Columns> {
    if catalog.plan.stages[node].recorded {
        return None;
    }
    if catalog.plan.graph.nodes[node].view {
        return keys::of_view(catalog, node, |from| columns(catalog, from, instead)).ok();
    }
    let current = current(catalog, node)?;
    let manifest = instead.filter(|(stage, _)| *stage == node).map_or(&*current, |(_, manifest)| manifest);
    let schema = manifest.schema.clone().unwrap_or_else(|| catalog.schema(node));
    key::of_snapshot(&schema, manifest).ok()
}
