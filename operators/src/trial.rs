//! A stage's surroundings for unit tests: bindings, tables in memory, and a sink that remembers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use tessera_datasets::local::LocalFiles;
use tessera_schemas::features;

use crate::config;
use crate::operator::{
    Batches, BindError, Binding, Context, Dropped, Inputs, Kernel, Map, MapFn, Operator, Order, QueryPlanner, RunError,
    Scope, Sink, Tables,
};
use crate::spec::Spec;

/// Answers no query.
pub struct NoQueries;

impl QueryPlanner for NoQueries {
    fn plan(&self, _: &str, _: &Inputs<SchemaRef>) -> Result<(SchemaRef, BTreeMap<String, Vec<String>>), String> {
        Err("no queries here".into())
    }
}

/// Binds an operator to a config (an object) and the inputs' schemas.
pub fn bind<O: Operator>(config: serde_json::Value, inputs: &[(&str, SchemaRef)]) -> Result<O, Vec<BindError>> {
    bind_in(Path::new(""), config, inputs)
}

/// The same where paths start from a folder.
pub fn bind_in<O: Operator>(
    base: &Path,
    config: serde_json::Value,
    inputs: &[(&str, SchemaRef)],
) -> Result<O, Vec<BindError>> {
    let serde_json::Value::Object(keys) = config else { panic!("a config is an object") };
    bind_to(base, config::parse(keys, O::LIMITS)?, inputs)
}

/// The same of a config whose numbers are not held against the operator's limits.
pub fn bind_to<O: Operator>(base: &Path, config: O::Config, inputs: &[(&str, SchemaRef)]) -> Result<O, Vec<BindError>> {
    let inputs = Inputs(inputs.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect());
    O::bind(config, &Binding { inputs: &inputs, base, planner: &NoQueries, files: &LocalFiles })
}

/// What a run gives kernels.
pub fn context(seed: u64, threads: usize) -> Context {
    Context { seed, threads, base: "".into(), scratch: std::env::temp_dir() }
}

/// An operator's kernel.
pub fn kernel<O: Operator>(operator: O, seed: u64, threads: usize) -> Result<O::Kernel, RunError> {
    operator.kernel(&context(seed, threads))
}

/// Sides by their ports.
pub fn sides(sides: &[(&str, Vec<RecordBatch>)]) -> Inputs<Vec<RecordBatch>> {
    Inputs(sides.iter().map(|(name, batches)| ((*name).to_owned(), batches.clone())).collect())
}

/// One worker of a map.
pub fn open<O: Operator<Kernel = Box<dyn Map>>>(
    operator: O,
    of: &[(&str, Vec<RecordBatch>)],
) -> Result<Box<dyn MapFn>, RunError> {
    kernel(operator, 0, 1)?.open(&sides(of))
}

/// What surrounds a batch outside training.
pub fn scope(dropped: &mut Vec<Dropped>) -> Scope<'_> {
    Scope { epoch: 0, lead: None, unread: &[], dropped }
}

/// What a worker makes of one batch.
pub fn call_worker(worker: &mut dyn MapFn, rows: &RecordBatch) -> Result<RecordBatch, RunError> {
    worker.call(rows, &mut scope(&mut Vec::new()))
}

/// A table of features.
pub fn features(rows: &[(&str, &[f32])]) -> RecordBatch {
    let dimension = rows[0].1.len();
    let ids = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let vectors = features::array(rows.iter().flat_map(|row| row.1).copied().collect(), dimension);
    let schema = features::schema([(features::FEATURE, dimension)]);
    RecordBatch::try_new(schema, vec![Arc::new(ids), vectors]).unwrap()
}

/// Numbers that another implementation can make too, for golden values: `((i · 7919 + number · 104729) mod 1009) / 1009 - 0.5`, as
/// `tests/peers/golden/made.py` has it.
pub fn unit(i: usize, number: usize) -> f64 {
    ((i * 7919 + number * 104_729) % 1009) as f64 / 1009.0 - 0.5
}

/// The sum of values, each times the [`unit`] of its place: values that change places change it.
pub fn weighted(values: &[f32]) -> f64 {
    values.iter().enumerate().map(|(place, &value)| f64::from(value) * unit(place, 0)).sum()
}

/// What a map makes of one batch.
pub fn call<O: Operator<Kernel = Box<dyn Map>>>(
    operator: O,
    sides: &[(&str, Vec<RecordBatch>)],
    rows: &RecordBatch,
) -> Result<RecordBatch, RunError> {
    call_worker(&mut *open(operator, sides)?, rows)
}

/// Runs any operator that reads rows: a map its first input's, with the others for its sides.
pub fn run(
    spec: &dyn Spec,
    config: serde_json::Value,
    inputs: &[(&'static str, RecordBatch)],
) -> Result<Vec<RecordBatch>, RunError> {
    let serde_json::Value::Object(keys) = config else { panic!("a config is an object") };
    let schemas = Inputs(inputs.iter().map(|(name, table)| ((*name).to_owned(), table.schema())).collect());
    let bound = spec
        .bind(keys, &Binding { inputs: &schemas, base: Path::new(""), planner: &NoQueries, files: &LocalFiles })
        .unwrap();
    match bound.kernel(&context(0, 1))? {
        Kernel::Map(map) => {
            let of: Vec<_> = inputs[1..].iter().map(|(name, table)| (*name, vec![table.clone()])).collect();
            call_worker(&mut *map.open(&sides(&of))?, &inputs[0].1).map(|made| vec![made])
        }
        Kernel::Whole(whole) => {
            let mut record = Record::default();
            let tables = inputs.iter().map(|(name, table)| (*name, vec![table.clone()]));
            whole.run(&Memory(tables.collect()), &mut record).map(|()| record.batches)
        }
        _ => panic!("`{}` reads no rows", spec.name()),
    }
}

/// The name of the stage's own last table in [`Memory`].
pub const LAST: &str = "its own last table";

/// Tables that lie in memory, in the order that they have there.
pub struct Memory(pub BTreeMap<&'static str, Vec<RecordBatch>>);

impl Tables for Memory {
    fn schema(&self, input: &str) -> Option<SchemaRef> {
        self.0.get(input).map(|batches| batches[0].schema())
    }

    fn rows(&self, input: &str) -> Result<usize, RunError> {
        Ok(self.0[input].iter().map(RecordBatch::num_rows).sum())
    }

    fn scan(&self, input: &str, _: Order<'_>) -> Result<Batches, RunError> {
        Ok(Box::new(self.0[input].clone().into_iter().map(Ok)))
    }

    fn place(&self, input: &str, _: Order<'_>, image_id: &str) -> Result<Option<usize>, RunError> {
        let ids = self.0[input].iter().map(|batch| tessera_schemas::text(batch, tessera_schemas::IMAGE_ID));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(ids.into_iter().flatten().flatten().position(|id| id == image_id))
    }

    fn last(&self) -> Result<Option<Vec<RecordBatch>>, RunError> {
        Ok(self.0.get(LAST).cloned())
    }
}

/// The output of a kernel.
#[derive(Default)]
pub struct Record {
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// Epoch, name, value.
    pub metrics: Vec<(usize, String, f64)>,
    /// Done, of how many.
    pub progress: Vec<(usize, usize)>,
    /// Lines for the user.
    pub said: Vec<String>,
    /// Rows that it left out.
    pub dropped: Vec<Dropped>,
    /// Whether it went on from an earlier table.
    pub went_on: bool,
    /// Whether to say that the run was interrupted.
    pub cancel: bool,
}

impl Record {
    /// The values of one metric, epoch by epoch.
    pub fn values(&self, name: &str) -> Vec<f64> {
        self.metrics.iter().filter(|metric| metric.1 == name).map(|metric| metric.2).collect()
    }
}

impl Sink for Record {
    fn write(&mut self, batch: RecordBatch) -> Result<(), RunError> {
        self.batches.push(batch);
        Ok(())
    }

    fn metric(&mut self, epoch: usize, _: usize, name: &str, value: f64) {
        self.metrics.push((epoch, name.to_owned(), value));
    }

    fn leave_out(&mut self, row: Dropped) {
        self.dropped.push(row);
    }

    fn say(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }

    fn goes_on(&mut self) {
        self.went_on = true;
    }

    fn progress(&mut self, done: usize, total: usize, _: &str) {
        self.progress.push((done, total));
    }

    fn cancelled(&self) -> bool {
        self.cancel
    }
}
