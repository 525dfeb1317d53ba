//! How the parts of a map's table are made: plain data, of which any process with the same build makes the same parts.
//!
//! A [`Recipe`] is what all parts of a table have in common: the operators from the snapshot at the base up, bound to schemas, with
//! their seeds and sides. A [`WorkRow`] is what one part is to be: the parts that it is made from, and the rows of earlier parts
//! that hold. Tables are addressed by stage and snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tessera_operators::operator::PortKind;

use super::decide::Reads;
use crate::engine::catalog::Catalog;
use crate::engine::fetch::Place;
use crate::store::schema::TextSchema;
use crate::store::{DroppedRow, Part};

/// What all parts of a map's table have in common.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recipe {
    /// The stage whose snapshot is at the base.
    pub base: String,
    /// That snapshot's columns.
    pub columns: TextSchema,
    /// The maps, from the base up; the last is the stage's own.
    pub steps: Vec<StepRecipe>,
    /// Columns of the base that come out untouched.
    pub handed: BTreeSet<String>,
    /// The folder that relative paths in configs start from.
    pub folder: PathBuf,
}

/// One map.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepRecipe {
    /// The stage's name.
    pub stage: String,
    /// The operator's name.
    pub operator: String,
    /// The operator's version.
    pub version: u32,
    /// The stage's keys, as the file has them.
    pub config: Map<String, Value>,
    /// What it uses beside its config and its inputs, by digests: what the stage's key has of that.
    pub content: Vec<String>,
    /// The columns of its inputs.
    pub inputs: BTreeMap<String, TextSchema>,
    /// Tables that it reads whole.
    pub sides: BTreeMap<String, Side>,
    /// Columns of its stream that it needs or hands on.
    pub reads: Vec<String>,
    /// Where the data sets are whose files it reads, by the stages that listed them.
    pub roots: BTreeMap<String, Place>,
    /// Of what it draws at random.
    pub seed: u64,
    /// The columns that it yields.
    pub yields: TextSchema,
}

/// A table that is read whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Side {
    /// The stage whose snapshot is at its base.
    pub base: String,
    /// That snapshot's name.
    pub snapshot: String,
    /// That snapshot's columns.
    pub columns: TextSchema,
    /// The views above it.
    pub steps: Vec<StepRecipe>,
    /// The columns that are wanted of it.
    pub wanted: Vec<String>,
}

/// What a part is to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WorkRow {
    /// Its key.
    pub key: String,
    /// The key of the stages that make it, whatever they read.
    pub recipe: String,
    /// The parts of the base that it is made from, in their order.
    pub sources: Vec<Part>,
    /// Which of their rows are computed, counted through all parts; `None` for all rows.
    pub compute: Option<Vec<u32>>,
    /// Rows of earlier parts that hold, and are copied before those that are computed.
    pub copies: Vec<Copies>,
    /// What was left out of those.
    pub dropped: Vec<DroppedRow>,
    /// Whether it is made anew in place of one that an interrupted run finished.
    pub anew: bool,
}

/// Rows of an earlier part of the same stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Copies {
    /// The part.
    pub part: Part,
    /// Which of its rows; one may stand there several times.
    pub rows: Vec<u32>,
    /// For which rows of the sources: columns that are handed on untouched are those rows' own.
    pub onto: Vec<u32>,
}

impl WorkRow {
    /// The contents of the parts that it is made from.
    pub fn made_from(&self) -> Vec<String> {
        self.sources.iter().map(Part::content).collect()
    }

    /// How many rows are computed for it.
    pub fn computed(&self) -> u64 {
        let all = || self.sources.iter().map(|part| part.rows).sum();
        self.compute.as_ref().map_or_else(all, |rows| rows.len() as u64)
    }

    /// The smallest and largest `image_id` of its sources, where they are known.
    pub fn ids(&self) -> Option<(&str, &str)> {
        let ids: Vec<(&str, &str)> =
            self.sources.iter().map(|part| part.ids.as_ref().map(|(low, high)| (&**low, &**high))).collect::<Option<_>>()?;
        Some((ids.iter().map(|ids| ids.0).min()?, ids.iter().map(|ids| ids.1).max()?))
    }
}

impl Recipe {
    /// How a map's parts are made.
    ///
    /// # Errors
    /// A table that it reads has no snapshot.
    pub fn of(catalog: &Catalog, node: usize, reads: &Reads) -> Result<Self> {
        let (base, views) = catalog.chain(catalog.stream_of(node).context("a map has a stream")?);
        let steps = views.into_iter().chain([node]).map(|step| StepRecipe::of(catalog, step)).collect::<Result<_>>()?;
        Ok(Self {
            base: catalog.name(base).to_owned(),
            columns: TextSchema(catalog.schema(base)),
            steps,
            handed: reads.handed.clone(),
            folder: catalog.plan.graph.file.base.clone(),
        })
    }

    /// The stage whose parts they are.
    pub fn stage(&self) -> &str {
        self.steps.last().map_or("", |step| &step.stage)
    }
}

impl StepRecipe {
    fn of(catalog: &Catalog, node: usize) -> Result<Self> {
        let (stage, graph) = (&catalog.plan.stages[node], &catalog.plan.graph);
        let this = &graph.nodes[node];
        let (mut inputs, mut sides) = (BTreeMap::new(), BTreeMap::new());
        for edge in &this.edges {
            inputs.insert(edge.name.clone(), TextSchema(catalog.plan.stages[edge.from].schema.clone()));
            if edge.port.kind == PortKind::Side {
                let reads = stage.reads.get(&edge.name).cloned().unwrap_or_default();
                sides.insert(edge.name.clone(), Side::of(catalog, edge.from, reads)?);
            }
        }
        let (reads, roots) = catalog.stream_reads(node)?;
        Ok(Self {
            stage: this.name.clone(),
            operator: this.spec.name().to_owned(),
            version: this.spec.version(),
            config: graph.file.stages[this.declared].config.clone(),
            content: stage.content()?,
            inputs,
            sides,
            reads,
            roots,
            seed: graph.seed(node),
            yields: TextSchema(stage.schema.clone()),
        })
    }
}

impl Side {
    fn of(catalog: &Catalog, table: usize, wanted: Vec<String>) -> Result<Self> {
        let (base, views) = catalog.chain(table);
        let steps = views.into_iter().map(|step| StepRecipe::of(catalog, step)).collect::<Result<_>>()?;
        let manifest = catalog.manifest(base)?;
        Ok(Self {
            base: catalog.name(base).to_owned(),
            snapshot: manifest.id.clone(),
            columns: TextSchema(catalog.schema(base)),
            steps,
            wanted,
        })
    }
}
