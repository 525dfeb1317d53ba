//! Making one part: from a [`Recipe`] and a [`WorkRow`], both plain data, by whoever has them.
//!
//! A part is written under a name of its own attempt and then noted under its key. The first note wins: whoever comes second compares
//! what it made with that, gives up its own file, and goes on with the other's.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, ensure};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::{ExecutionPlan, collect};
use futures::future::BoxFuture;
use tessera_operators::operator::{Binding, Context, Inputs, Kernel, QueryPlanner, RunError};
use tessera_operators::spec::same_content;
use tokio::sync::OnceCell;

use super::recipe::{Copies, Recipe, Side, StepRecipe, WorkRow};
use crate::engine::catalog::{aside, has_columns};
use crate::engine::operator_exec::ScanState;
use crate::engine::part::Writing;
use crate::engine::request::{block, projection};
use crate::engine::step::Step;
use crate::engine::{Engine, StageError, convert, scan};
use crate::store::thin::few_gone;
use crate::store::{Damaged, Part, StageStore, Store};

/// The steps of a recipe, once they are made.
type Steps = OnceCell<Vec<Arc<Step>>>;

/// Makes parts of a store's tables.
pub struct Maker {
    engine: Arc<Engine>,
    store: Store,
    /// The steps of recipes, by their texts.
    prepared: Mutex<HashMap<String, Arc<Steps>>>,
}

/// How a part is made, as far as the rows do not depend on it.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Batches in flight at once.
    pub window: usize,
    /// Counts rows of the base that are done.
    pub done: Arc<AtomicU64>,
}

impl Maker {
    /// Makes parts with an engine.
    pub fn new(engine: Arc<Engine>, store: Store) -> Self {
        Self { engine, store, prepared: Mutex::default() }
    }

    /// Makes a part and notes it; returns the part that is noted.
    ///
    /// # Errors
    /// An operator fails, a part that is read is damaged, the store says no, or another one made the same part of other rows.
    pub async fn make(&self, recipe: &Recipe, row: WorkRow, pace: &Pace) -> Result<Part> {
        let steps = self.steps(recipe).await?;
        let (stage, top) = (recipe.stage(), steps.last().context("a recipe has a step")?);
        let made = self.written(recipe, &steps, row, pace, &top.schema).await;
        made.map_err(|error| {
            if error.is::<StageError>() || error.is::<Damaged>() {
                return error;
            }
            StageError { stage: stage.to_owned(), error: RunError::Engine(format!("{error:#}")) }.into()
        })
    }

    /// Whether a step of a recipe makes several rows of one.
    ///
    /// # Errors
    /// An operator lacks something.
    pub async fn multiplies(&self, recipe: &Recipe) -> Result<bool> {
        Ok(self.steps(recipe).await?.iter().any(|step| !step.map.keeps_ids()))
    }

    async fn written(
        &self,
        recipe: &Recipe,
        steps: &[Arc<Step>],
        mut row: WorkRow,
        pace: &Pace,
        schema: &SchemaRef,
    ) -> Result<Part> {
        let (store, below) = (self.store.stage(recipe.stage()), self.store.stage(&recipe.base));
        let state = Arc::new(ScanState {
            block: block(steps),
            window: pace.window,
            dropped: vec![Mutex::default()],
            done: pace.done.clone(),
            ..ScanState::default()
        });
        if let Some(part) = self.thinned(recipe, &row, schema).await? {
            return Ok(part);
        }
        let mut part = Writing::new(&self.engine, &store, schema, &row.key);
        if !row.copies.is_empty() {
            let columns: Vec<String> = recipe.handed.iter().cloned().collect();
            let (sources, base, kept) = (row.sources.clone(), recipe.columns.0.clone(), below.clone());
            let read = move || sources_of(&kept, &sources, Some(&columns), &base);
            let handed = Arc::new(self.engine.pool.run(read).await??);
            for copies in std::mem::take(&mut row.copies) {
                let (store, schema, handed) = (store.clone(), schema.clone(), handed.clone());
                part.add(move || copied(&store, &copies, &handed, &schema)).await?;
            }
        }
        if row.compute.as_ref().is_none_or(|rows| !rows.is_empty()) {
            let leaf = self.leaf(recipe, steps, &row, &below).await?;
            let plan = scan::stack(leaf, steps, &state, &self.engine);
            let rows = plan.execute(0, self.engine.context.task_ctx()).map_err(convert::unwrap)?;
            part.add_all(rows, row.ids()).await?;
        }
        let written = part.finish().await?;
        let made_from = row.made_from();
        let mut dropped = state.take_dropped(0);
        dropped.extend(row.dropped);
        let part = written.entry(&row.key, &row.recipe, made_from, dropped);
        tokio::task::spawn_blocking(move || store.note(part, row.anew)).await?
    }

    /// The earlier part that all rows are copied from, less the rows that are no longer wanted, if those are few and the part's other rows
    /// stand in its file as they are wanted: then nothing is written.
    async fn thinned(&self, recipe: &Recipe, row: &WorkRow, schema: &SchemaRef) -> Result<Option<Part>> {
        let ([copies], Some([]), false) = (&row.copies[..], row.compute.as_deref(), row.anew) else { return Ok(None) };
        let mut stay = copies.rows.clone();
        stay.sort_unstable();
        if stay.windows(2).any(|two| two[0] == two[1]) || !few_gone(copies.part.file_rows(), stay.len() as u64) {
            return Ok(None);
        }
        let (store, below) = (self.store.stage(recipe.stage()), self.store.stage(&recipe.base));
        let (row, copies, schema, base) = (row.clone(), copies.clone(), schema.clone(), recipe.columns.0.clone());
        let handed: Vec<String> = recipe.handed.iter().filter(|name| schema.index_of(name).is_ok()).cloned().collect();
        let work = move || -> Result<Option<Part>> {
            if !has_columns(&store.schema_in(&copies.part)?, &schema) {
                return Ok(None);
            }
            // Columns that are handed on may have other values by now.
            let names: Vec<&str> = handed.iter().map(String::as_str).collect();
            let (there, now) =
                (store.read_columns(&copies.part, &names)?, sources_of(&below, &row.sources, Some(&handed), &base)?);
            let (rows, onto) = (UInt32Array::from(copies.rows), UInt32Array::from(copies.onto));
            for name in names {
                let (there, now) = (there.column_by_name(name), now.column_by_name(name));
                let (Some(there), Some(now)) = (there, now) else { return Ok(None) };
                if take(there, &rows, None)?.to_data() != take(now, &onto, None)?.to_data() {
                    return Ok(None);
                }
            }
            let go: Vec<u32> = (0..copies.part.rows as u32).filter(|row| stay.binary_search(row).is_err()).collect();
            let (key, recipe, made_from, dropped) = (row.key.clone(), row.recipe.clone(), row.made_from(), row.dropped);
            Ok(Some(Part { key, recipe, made_from, dropped, ..store.without(&copies.part, &go)? }))
        };
        self.engine.pool.run(work).await?
    }

    /// What reads the rows that are computed.
    async fn leaf(
        &self,
        recipe: &Recipe,
        steps: &[Arc<Step>],
        row: &WorkRow,
        below: &StageStore,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = &recipe.columns.0;
        let Some(rows) = row.compute.clone() else {
            let group = row.sources.iter().map(|part| below.open(part)).collect();
            let projection = projection(schema, steps.first().map(|step| step.columns.as_slice()));
            return scan::files(schema, &[group], projection, None, None).map_err(convert::unwrap);
        };
        let (sources, base, below) = (row.sources.clone(), schema.clone(), below.clone());
        let read = move || -> Result<RecordBatch> {
            let all = sources_of(&below, &sources, None, &base)?;
            Ok(take_record_batch(&all, &UInt32Array::from(rows))?)
        };
        let given = self.engine.pool.run(read).await??;
        scan::memory(schema, &[vec![given]]).map_err(convert::unwrap)
    }

    /// The steps of a recipe, made once.
    async fn steps(&self, recipe: &Recipe) -> Result<Vec<Arc<Step>>> {
        let text = serde_json::to_string(recipe)?;
        let cell = {
            let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            prepared.entry(text).or_default().clone()
        };
        cell.get_or_try_init(|| self.prepare(recipe)).await.cloned()
    }

    async fn prepare(&self, recipe: &Recipe) -> Result<Vec<Arc<Step>>> {
        let mut steps = Vec::new();
        for step in &recipe.steps {
            steps.push(self.step(step, recipe).await?);
        }
        Ok(steps)
    }

    fn step<'a>(&'a self, step: &'a StepRecipe, recipe: &'a Recipe) -> BoxFuture<'a, Result<Arc<Step>>> {
        Box::pin(async move {
            let mut sides = Inputs::default();
            for (name, side) in &step.sides {
                sides.0.insert(name.clone(), self.side(side, recipe).await?);
            }
            let failed = |error| anyhow::Error::new(StageError { stage: step.stage.clone(), error });
            let spec = tessera_operators::find(&step.operator)
                .filter(|spec| spec.version() == step.version)
                .with_context(|| format!("this build has no operator `{}` of version {}", step.operator, step.version))?;
            let bound = {
                let inputs = Inputs(step.inputs.iter().map(|(name, schema)| (name.clone(), schema.0.clone())).collect());
                let files = self.engine.files.as_ref();
                let binding = Binding { inputs: &inputs, base: &recipe.folder, planner: &NoQueries, files };
                spec.bind(step.config.clone(), &binding).map_err(|errors| {
                    let said: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
                    failed(RunError::Engine(said.join("; ")))
                })?
            };
            // The parts' keys name the content of files: the kernel must have read that same content.
            bound.content().and_then(|now| same_content(&step.content, &now)).map_err(failed)?;
            let context = Context {
                seed: step.seed,
                threads: self.engine.threads,
                base: recipe.folder.clone(),
                scratch: self.store.scratch().to_owned(),
            };
            let kernel = aside(&step.stage, move || bound.kernel(&context)).await?.map_err(failed)?;
            let Kernel::Map(map) = kernel else { return Err(anyhow!("stage `{}` is no map", step.stage)) };
            let (stage, reads, roots) = (step.stage.clone(), step.reads.clone(), step.roots.clone());
            Ok(Arc::new(Step::new(stage, step.yields.0.clone(), reads, roots, spec.looks_back(), map, sides)))
        })
    }

    /// All rows of a table that a step reads whole.
    async fn side(&self, side: &Side, recipe: &Recipe) -> Result<Vec<RecordBatch>> {
        let mut steps = Vec::new();
        for step in &side.steps {
            steps.push(self.step(step, recipe).await?);
        }
        let store = self.store.stage(&side.base);
        let (schema, parts) = (&side.columns.0, store.manifest(&side.snapshot)?.parts);
        let wanted = steps.first().map_or(&side.wanted, |step| &step.columns);
        let group = parts.iter().map(|part| store.open(part)).collect();
        let leaf = scan::files(schema, &[group], projection(schema, Some(wanted)), None, None).map_err(convert::unwrap)?;
        let (block, window) = (block(&steps), self.engine.threads + 1);
        let state = Arc::new(ScanState { block, window, dropped: vec![Mutex::default()], ..ScanState::default() });
        let plan = scan::stack(leaf, &steps, &state, &self.engine);
        collect(plan, self.engine.context.task_ctx()).await.map_err(convert::unwrap)
    }
}

/// A map has none.
struct NoQueries;

impl QueryPlanner for NoQueries {
    fn plan(
        &self,
        _: &str,
        _: &Inputs<SchemaRef>,
    ) -> Result<(SchemaRef, std::collections::BTreeMap<String, Vec<String>>), String> {
        Err("a map asks no queries".to_owned())
    }
}

/// Rows of parts, one part behind the other, with the columns of a table or some of them.
fn sources_of(store: &StageStore, parts: &[Part], wanted: Option<&[String]>, table: &SchemaRef) -> Result<RecordBatch> {
    let fields = table.fields().iter().filter(|field| wanted.is_none_or(|wanted| wanted.contains(field.name())));
    let schema =
        Arc::new(arrow::datatypes::Schema::new_with_metadata(fields.cloned().collect::<Vec<_>>(), table.metadata().clone()));
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let read = |part: &Part| -> Result<RecordBatch> {
        let rows = store.read_columns(part, &names)?;
        let column = |name: &&str| Ok(rows.column(rows.schema().index_of(name)?).clone());
        let columns = names.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    };
    let batches = parts.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// Rows of an earlier part with the columns of a table; the part may have columns that the table has no more. What is handed on is
/// as the rows below have it now.
fn copied(store: &StageStore, copies: &Copies, handed: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    ensure!(copies.rows.len() == copies.onto.len(), "as many rows are copied as there are to copy for");
    let (part, rows) = (store.read(&copies.part)?, UInt32Array::from(copies.rows.clone()));
    let onto = UInt32Array::from(copies.onto.clone());
    let columns = schema.fields().iter().map(|field| match handed.column_by_name(field.name()) {
        Some(column) => Ok(take(column, &onto, None)?),
        None => Ok(take(part.column(part.schema().index_of(field.name())?), &rows, None)?),
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_>>()?)?)
}
