//! A plan's tables as they stand: which snapshots there are, and the steps of its views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context as _, Result, anyhow, bail};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::future::BoxFuture;
use tessera_operators::operator::{ColumnKind, Context, Inputs, Kernel, PortKind, RunError, Source};
use tessera_schemas::{BYTES, IMAGE_ID, meta};

use crate::declare::plan::Plan;
use crate::engine::fetch::Place;
use crate::engine::step::Step;
use crate::engine::{Engine, StageError};
use crate::store::generation::Generation;
use crate::store::key::Columns;
use crate::store::{Damaged, Machine, Manifest, Store};

/// Rows of a part of wide rows, and the most of narrow ones.
const PART_ROWS: usize = 1 << 10;
const MOST_PART_ROWS: usize = 1 << 16;
/// Bytes of a part of narrow rows, before they are compressed.
const PART_BYTES: usize = 2 << 20;

/// A stage's table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its snapshot; `None` for a view.
    pub manifest: Option<Arc<Manifest>>,
    /// Its columns' fingerprints.
    pub columns: Columns,
}

/// A plan, a store and an engine.
pub struct Catalog {
    /// The stages.
    pub plan: Plan,
    /// Where their snapshots are.
    pub store: Store,
    /// What runs them.
    pub engine: Arc<Engine>,
    /// How many files of a data set are looked at, where each file makes a row; `None` for all.
    pub limit: Option<usize>,
    tables: RwLock<Vec<Option<Table>>>,
    /// Stages whose snapshot cannot be read.
    broken: RwLock<BTreeMap<usize, Damaged>>,
    steps: Vec<tokio::sync::OnceCell<Arc<Step>>>,
    sources: Mutex<BTreeMap<usize, Arc<dyn Source>>>,
}

impl Catalog {
    /// A catalog in which no table is known yet.
    pub fn new(plan: Plan, store: Store, engine: Arc<Engine>, limit: Option<usize>) -> Self {
        let count = plan.stages.len();
        Self {
            plan,
            store,
            engine,
            limit,
            tables: RwLock::new(vec![None; count]),
            broken: RwLock::default(),
            steps: (0..count).map(|_| tokio::sync::OnceCell::new()).collect(),
            sources: Mutex::default(),
        }
    }

    /// A stage's name.
    pub fn name(&self, node: usize) -> &str {
        &self.plan.graph.nodes[node].name
    }

    /// A stage's table, if it is known.
    pub fn table(&self, node: usize) -> Option<Table> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)[node].clone()
    }

    /// Makes a stage's table known.
    pub fn set(&self, node: usize, table: Table) {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)[node] = Some(table);
    }

    /// Makes the snapshots of a generation known, whatever the pipeline file says by now. One that is damaged fails who asks for it.
    pub fn load(&self, generation: &Generation) {
        for (index, node) in self.plan.graph.nodes.iter().enumerate().filter(|(_, node)| !node.view) {
            match generation.stage(&node.name) {
                Ok(Some(manifest)) => {
                    self.set(index, Table { manifest: Some(manifest.clone()), columns: Columns::new() });
                }
                Ok(None) => {}
                Err(damaged) => {
                    let mut broken = self.broken.write().unwrap_or_else(PoisonError::into_inner);
                    broken.insert(index, damaged.clone());
                }
            }
        }
    }

    /// The columns of a stage's table as it stands: of a snapshot, those that its manifest says.
    pub fn schema(&self, node: usize) -> SchemaRef {
        let planned = &self.plan.stages[node].schema;
        let made = self.table(node).and_then(|table| table.manifest).and_then(|manifest| manifest.schema.clone());
        made.map_or_else(|| planned.clone(), |made| renamed(&made, planned))
    }

    /// Rows of a part of a stage's table: as many as the file says; else [`PART_ROWS`], or more of narrow rows. Images stay few, since whatever
    /// reads their files works long on each.
    pub fn part_rows(&self, node: usize) -> usize {
        let schema = &self.plan.stages[node].schema;
        let rows = || match row_bytes(schema) {
            Some(bytes) if schema.column_with_name("source").is_none() => {
                (PART_BYTES / bytes.max(1)).clamp(PART_ROWS, MOST_PART_ROWS)
            }
            _ => PART_ROWS,
        };
        self.plan.graph.file.part_rows.unwrap_or_else(rows)
    }

    /// Pointers and manifests that are damaged, and parts of the known tables that are gone or damaged, as far as that is seen without
    /// reading them; one a stage.
    ///
    /// # Errors
    /// A folder of parts cannot be read.
    pub fn damaged(&self) -> Result<Vec<Damaged>> {
        let mut found: Vec<Damaged> = self.broken.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for manifest in (0..self.plan.stages.len()).filter_map(|node| self.table(node)?.manifest) {
            found.extend(self.store.stage(&manifest.stage).shelf()?.damage(&manifest));
        }
        Ok(found)
    }

    /// A stage's snapshot.
    ///
    /// # Errors
    /// It was never made, or is damaged.
    pub fn manifest(&self, node: usize) -> Result<Arc<Manifest>> {
        if let Some(damaged) = self.broken.read().unwrap_or_else(PoisonError::into_inner).get(&node) {
            return Err(damaged.clone().into());
        }
        self.table(node).and_then(|table| table.manifest).ok_or_else(|| {
            let (name, file) = (self.name(node), self.arguments());
            anyhow!("stage `{name}` has no snapshot yet; make it by `tessera run {file} --to {name}`")
        })
    }

    /// The pipeline as a command names it: the file, what the command line gives, and the sample.
    pub fn arguments(&self) -> String {
        let limit = self.limit.map_or_else(String::new, |limit| format!(" --limit {limit}"));
        self.plan.graph.file.arguments() + &limit
    }

    /// Makes a stage's kernel. Works once a stage.
    ///
    /// # Errors
    /// The operator lacks something, or the kernel was made before.
    pub fn kernel(&self, node: usize) -> Result<Kernel> {
        self.kernel_maker(node)?().map_err(|error| self.failed(node, error))
    }

    /// Makes a kernel on a thread of its own. An operator may take long for it (`jigsaw` for its permutations), and whoever stops
    /// waiting, as ^C does, should not be held up.
    async fn kernel_aside(&self, node: usize) -> Result<Kernel> {
        let make = self.kernel_maker(node)?;
        aside(self.name(node), make).await?.map_err(|error| self.failed(node, error))
    }

    /// What makes a stage's kernel.
    fn kernel_maker(&self, node: usize) -> Result<impl FnOnce() -> Result<Kernel, RunError> + Send + 'static> {
        let taken = self.plan.stages[node].operator.lock().unwrap_or_else(PoisonError::into_inner).take();
        let operator = taken.with_context(|| format!("the kernel of stage `{}` was made before", self.name(node)))?;
        let file = &self.plan.graph.file;
        let context = Context {
            seed: self.plan.graph.seed(node),
            threads: self.engine.threads,
            base: file.base.clone(),
            scratch: self.store.scratch().to_owned(),
        };
        Ok(move || operator.kernel(&context))
    }

    /// Where a stage would be made now, if its values depend on that to their last digits; none once its kernel was made.
    pub fn machine(&self, node: usize) -> Option<Machine> {
        let operator = self.plan.stages[node].operator.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Machine { device: operator.as_ref()?.device()?, threads: self.engine.threads })
    }

    /// An operator's failure with its stage's name.
    pub fn failed(&self, node: usize, error: RunError) -> anyhow::Error {
        StageError { stage: self.name(node).to_owned(), error }.into()
    }

    /// A source stage's source.
    ///
    /// # Errors The stage is not a source, or its operator lacks something.
    pub fn source(&self, node: usize) -> Result<Arc<dyn Source>> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(&node) {
            return Ok(source.clone());
        }
        let Kernel::Source(source) = self.kernel(node)? else { bail!("stage `{}` is no source", self.name(node)) };
        let source: Arc<dyn Source> = source.into();
        sources.insert(node, source.clone());
        Ok(source)
    }

    /// The stage that a map reads row by row; `None` for a stage that is not a map.
    pub fn stream_of(&self, node: usize) -> Option<usize> {
        let edges = &self.plan.graph.nodes[node].edges;
        edges.iter().find(|edge| edge.port.kind == PortKind::Stream).map(|edge| edge.from)
    }

    /// The snapshot at a table's base, and the views from there up to the table.
    pub fn chain(&self, table: usize) -> (usize, Vec<usize>) {
        let mut views = Vec::new();
        let mut at = table;
        while self.plan.graph.nodes[at].view {
            views.push(at);
            match self.stream_of(at) {
                Some(from) => at = from,
                None => break,
            }
        }
        views.reverse();
        (at, views)
    }

    /// The columns of a chain's base that a reader depends on, and those that must be read for it: `steps` from the base up,
    /// `wanted` of the topmost's output.
    pub fn base_columns(&self, steps: &[usize], wanted: &BTreeSet<String>) -> BTreeSet<String> {
        let mut needed = wanted.clone();
        for &node in steps.iter().rev() {
            let stage = &self.plan.stages[node];
            let mut below: BTreeSet<String> = stage.passes.intersection(&needed).cloned().collect();
            let streams = self.plan.graph.nodes[node].edges.iter().filter(|edge| edge.port.kind == PortKind::Stream);
            for edge in streams {
                below.extend(stage.reads.get(&edge.name).into_iter().flatten().cloned());
            }
            needed = below;
        }
        needed.insert(IMAGE_ID.to_owned());
        needed
    }

    /// A map stage's step, its sides read.
    ///
    /// # Errors
    /// A side has no snapshot, or the operator lacks something.
    pub fn step(&self, node: usize) -> BoxFuture<'_, Result<Arc<Step>>> {
        Box::pin(async move {
            let make = async {
                let (stage, graph) = (&self.plan.stages[node], &self.plan.graph);
                let mut sides = Inputs::default();
                for edge in graph.nodes[node].edges.iter().filter(|edge| edge.port.kind == PortKind::Side) {
                    let reads = stage.reads.get(&edge.name).cloned().unwrap_or_default();
                    sides.0.insert(edge.name.clone(), self.collect(edge.from, Some(reads)).await?);
                }
                let (columns, roots) = self.stream_reads(node)?;
                let Kernel::Map(map) = self.kernel_aside(node).await? else {
                    bail!("stage `{}` is no map", self.name(node))
                };
                let looks_back = graph.nodes[node].spec.looks_back();
                let step =
                    Step::new(self.name(node).to_owned(), stage.schema.clone(), columns, roots, looks_back, map, sides);
                Ok(Arc::new(step))
            };
            self.steps[node].get_or_try_init(|| make).await.cloned()
        })
    }

    /// What a map needs of its stream or hands on: columns, and the folders of the data sets whose files it reads.
    ///
    /// # Errors
    /// A source's operator lacks something.
    pub fn stream_reads(&self, node: usize) -> Result<(Vec<String>, BTreeMap<String, Place>)> {
        let stage = &self.plan.stages[node];
        let (mut columns, mut roots) = (stage.passes.clone(), BTreeMap::new());
        for edge in self.plan.graph.nodes[node].edges.iter().filter(|edge| edge.port.kind != PortKind::Side) {
            if edge.port.columns.iter().any(|column| column.kind == ColumnKind::Bytes) {
                roots = self.roots(edge.from)?;
                // The digest says whether the bytes are still those that were listed.
                columns.extend(["source".to_owned(), "digest".to_owned()]);
            }
            let reads = stage.reads.get(&edge.name).into_iter().flatten();
            columns.extend(reads.filter(|name| *name != BYTES).cloned());
        }
        columns.insert(IMAGE_ID.to_owned());
        Ok((columns.into_iter().collect(), roots))
    }

    /// Where all data sets lie that a table comes from, by the stages that list them.
    ///
    /// # Errors
    /// A source's operator lacks something.
    pub fn roots(&self, table: usize) -> Result<BTreeMap<String, Place>> {
        let mut roots = BTreeMap::new();
        for node in self.plan.graph.upstream(&[table]) {
            if self.plan.graph.nodes[node].spec.inputs().is_empty() {
                let source = self.source(node)?;
                let place = Place { root: source.root().to_owned(), access: source.access() };
                roots.insert(self.name(node).to_owned(), place);
            }
        }
        Ok(roots)
    }
}

/// Bytes of a table's rows as far as their types tell; none where a value may be of any length. Texts are taken for names.
pub fn row_bytes(schema: &Schema) -> Option<usize> {
    fn bytes(field: &Field) -> Option<usize> {
        match field.data_type() {
            DataType::FixedSizeList(item, length) => Some(bytes(item)? * *length as usize),
            DataType::Struct(fields) => fields.iter().map(|field| bytes(field)).sum(),
            DataType::Utf8 | DataType::Boolean | DataType::Null => Some(16),
            other => other.primitive_width(),
        }
    }
    schema.fields().iter().map(|field| bytes(field)).sum()
}

/// Waits for what a stage's operator does on a thread of its own.
///
/// # Errors
/// It panicked, or the system gives no thread.
pub async fn aside<T: Send + 'static>(stage: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // No task of the runtime: its end would wait for it.
    let work = move || drop(sender.send(work()));
    std::thread::Builder::new().name(format!("tessera-{stage}")).spawn(work).context("cannot start a thread")?;
    receiver.await.with_context(|| format!("stage `{stage}`: its operator panicked"))
}

/// A table's columns as they were made; what their data set is called may have changed since.
fn renamed(made: &SchemaRef, planned: &SchemaRef) -> SchemaRef {
    let set = |field: &Arc<Field>| {
        let now = planned.field_with_name(field.name()).ok().and_then(|field| field.metadata().get(meta::STAGE));
        match now {
            Some(now) if field.metadata().get(meta::STAGE) != Some(now) => {
                Arc::new(meta::with(field.as_ref().clone(), meta::STAGE, now))
            }
            _ => field.clone(),
        }
    };
    Arc::new(Schema::new_with_metadata(made.fields().iter().map(set).collect::<Vec<_>>(), made.metadata().clone()))
}

/// Whether two tables have the same columns, whatever more is noted of them.
pub fn has_columns(one: &SchemaRef, other: &SchemaRef) -> bool {
    let same = |(a, b): (&Arc<Field>, &Arc<Field>)| a.name() == b.name() && a.data_type() == b.data_type();
    one.fields().len() == other.fields().len() && one.fields().iter().zip(other.fields()).all(same)
}
