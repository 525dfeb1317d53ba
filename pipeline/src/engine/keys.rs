//! Keys: the fingerprints that decide whether a snapshot or a part can be reused, and why not.
//!
//! A stage's key covers its operator and version, its config after defaults less what cannot change the result, the columns
//! that it reads of each input (and, of a map that keeps its table, those that it hands on), and the seed if it draws random numbers.
//! A column of a snapshot is known by its digest; a column of a view by the key of the view (its recipe), or, where the view hands it
//! on, by the input's column. To a query, a column without a digest is known by the snapshot that stores it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tessera_operators::operator::PortKind;
use tessera_schemas::BYTES;

use super::catalog::Catalog;
use crate::declare::graph::{Edge, Node};
use crate::declare::plan::BoundStage;
use crate::store::key::{self, Columns, KeyParts};

/// The parts of a stage's key; `columns` are those of the stages that it reads.
///
/// # Errors
/// The columns of one are not known, or a file that the config names cannot be read.
pub fn of_stage(catalog: &Catalog, node: usize, columns: impl Fn(usize) -> Option<Columns>) -> Result<KeyParts> {
    let (graph, stage) = (&catalog.plan.graph, &catalog.plan.stages[node]);
    let mut inputs = BTreeMap::new();
    for edge in &graph.nodes[node].edges {
        let found = columns(edge.from);
        let found = found.with_context(|| format!("the table of stage `{}` is not known", catalog.name(edge.from)))?;
        inputs.insert(edge.name.clone(), found);
    }
    let mut files = Vec::new();
    for path in &stage.files {
        let bytes = catalog.engine.files.read(path).map_err(|error| catalog.failed(node, error.into()))?;
        files.push(key::short(&blake3::hash(&bytes)));
    }
    files.extend(stage.content().map_err(|error| catalog.failed(node, error))?);
    Ok(parts(&graph.nodes[node], stage, graph.seed(node), files, &inputs))
}

/// The columns of a view; `columns` are those of the stages that it reads.
///
/// # Errors
/// As [`of_stage`].
pub fn of_view(catalog: &Catalog, node: usize, columns: impl Fn(usize) -> Option<Columns>) -> Result<Columns> {
    let stream = catalog.stream_of(node).and_then(&columns).unwrap_or_default();
    let recipe = of_stage(catalog, node, columns)?.key();
    Ok(recipe_columns(&recipe, &catalog.plan.stages[node], &stream))
}

/// The parts of a stage's key, given its inputs' columns.
fn parts(node: &Node, stage: &BoundStage, seed: u64, files: Vec<String>, inputs: &BTreeMap<String, Columns>) -> KeyParts {
    let read = |(input, columns): (&String, &Columns)| {
        let names = stage.reads.get(input).into_iter().flatten();
        let streamed = |edge: &Edge| edge.name == *input && edge.port.kind == PortKind::Stream;
        // A snapshot also holds copies of the columns that it hands on, so they are in its key; a view's columns have keys of their own.
        let copied = (!node.view && node.edges.iter().any(streamed)).then_some(&stage.passes);
        // The bytes of an image are known by the digest that its listing has.
        let source = |name: &String| if name == BYTES { "digest".to_owned() } else { name.clone() };
        let mut names: Vec<String> = names.chain(copied.into_iter().flatten()).map(source).collect();
        let asked = |edge: &Edge| edge.name == *input && matches!(edge.port.kind, PortKind::Named | PortKind::Table);
        if node.edges.iter().any(asked) {
            let stored: Vec<String> = names.iter().map(|name| key::stored(name)).collect();
            names.extend(stored);
        }
        let read = names.into_iter().filter_map(|name| Some((name.clone(), columns.get(&name)?.clone()))).collect();
        (input.clone(), read)
    };
    KeyParts {
        operator: node.spec.name().to_owned(),
        version: node.spec.version(),
        config: key::sorted(&stage.config),
        seed: node.spec.seeded().then_some(seed),
        files,
        inputs: inputs.iter().map(read).collect(),
        listing: None,
    }
}

/// The columns of a view: its recipe, or what it hands on.
fn recipe_columns(recipe: &str, stage: &BoundStage, stream: &Columns) -> Columns {
    let mut columns = Columns::new();
    for field in stage.schema.fields() {
        let name = field.name();
        let passed = |name: &str, under: &str| {
            let column = stage.passes.contains(name).then(|| stream.get(under)).flatten();
            column.map(|column| key::hash(["passed", recipe, column]))
        };
        let known = passed(name, name).unwrap_or_else(|| key::hash(["computed", recipe, name, &key::kind(field)]));
        columns.insert(name.clone(), known);
        let stored = key::stored(name);
        if let Some(known) = passed(name, &stored) {
            columns.insert(stored, known);
        }
    }
    columns
}
