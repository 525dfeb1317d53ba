//! Data is generated.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};
use tessera_schemas::puzzles::{self, Layout as PuzzleLayout};

use super::*;
use crate::operator::{At, Batches, Dropped, Order, Sink, Tables};
use crate::random::Draw;
use crate::torch::examples::tests::table;
use crate::trial;

mod course;
mod pictures;
mod resume;
mod steps;

fn bind(config: Value, schema: SchemaRef) -> Result<Train, Vec<BindError>> {
    trial::bind_to(Path::new(""), serde_json::from_value(config).unwrap(), &[(EXAMPLES, schema)])
}

/// A table in memory that comes in batches of some rows, in another order each epoch.
struct Memory {
    table: RecordBatch,
    rows: usize,
    /// Whether the same puzzles are the validation set.
    validates: bool,
    /// Rows of the table that come; those behind them are counted and left out.
    sound: usize,
    /// How long a scan of the validation set takes to begin.
    slow: Duration,
}

impl Memory {
    fn new(table: RecordBatch, rows: usize) -> Self {
        Self { table, rows, validates: false, sound: usize::MAX, slow: Duration::ZERO }
    }
    fn order(&self, epoch: u64) -> Vec<usize> {
        let count = self.table.num_rows();
        Draw::new(9, "test", "order", "", epoch).distinct(count, count)
    }
}

impl Tables for Memory {
    fn schema(&self, input: &str) -> Option<SchemaRef> {
        (input == EXAMPLES || self.validates && input == VALIDATION).then(|| self.table.schema())
    }
    fn rows(&self, _: &str) -> Result<usize, RunError> {
        Ok(self.table.num_rows())
    }
    fn place(&self, _: &str, order: Order<'_>, image_id: &str) -> Result<Option<usize>, RunError> {
        let Order::Shuffled { epoch, .. } = order else { panic!("`train` shuffles") };
        let ids = tessera_schemas::text(&self.table, IMAGE_ID)?;
        Ok(self.order(epoch).iter().position(|&row| ids.value(row) == image_id))
    }
    fn scan(&self, input: &str, order: Order<'_>) -> Result<Batches, RunError> {
        let Order::Shuffled { epoch, after, .. } = order else {
            return Ok(Box::new(std::iter::once(Ok(self.table.clone()))));
        };
        let order = self.order(epoch);
        let ids = tessera_schemas::text(&self.table, IMAGE_ID)?;
        let start = after.map_or(0, |id| order.iter().position(|&row| ids.value(row) == id).unwrap() + 1);
        if input == VALIDATION {
            std::thread::sleep(self.slow);
        }
        let sound = order[start..].iter().filter(|&&row| row < self.sound);
        let rows: Vec<_> = sound.map(|&row| self.table.slice(row, 1)).collect();
        let schema = self.table.schema();
        let batches =
            rows.chunks(self.rows).map(|rows| arrow::compute::concat_batches(&schema, rows).map_err(RunError::from));
        Ok(Box::new(batches.collect::<Vec<_>>().into_iter()))
    }
}

#[derive(Default)]
struct Record {
    batches: Vec<RecordBatch>,
    metrics: Vec<(usize, usize, String, f64)>,
    notes: Vec<(usize, usize, String)>,
    lines: Vec<String>,
    warnings: Vec<String>,
    cancel_after: Option<usize>,
    /// How many checkpoints there were.
    keeps: usize,
    /// The last checkpoint, and how many numbers there were.
    kept: Option<(Vec<u8>, usize)>,
}

impl Sink for Record {
    fn leave_out(&mut self, row: Dropped) {
        panic!("{} was left out: {}", row.image_id, row.reason);
    }

    fn warn(&mut self, line: &str) {
        self.warnings.push(line.to_owned());
    }
    fn forget(&mut self, line: &str) {
        self.lines.push(line.to_owned());
        self.metrics.clear();
        self.kept = None;
    }
    fn write(&mut self, batch: RecordBatch) -> Result<(), RunError> {
        self.batches.push(batch);
        Ok(())
    }
    fn metric(&mut self, epoch: usize, step: usize, name: &str, value: f64) {
        self.metrics.push((epoch, step, name.to_owned(), value));
    }
    fn progress(&mut self, done: usize, total: usize, note: &str) {
        self.notes.push((done, total, note.to_owned()));
    }
    fn say(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }
    fn resume(&mut self) -> Option<Vec<u8>> {
        let (state, count) = self.kept.clone()?;
        self.metrics.truncate(count);
        Some(state)
    }
    fn checkpoint(&mut self, state: Vec<u8>) -> Result<(), RunError> {
        self.kept = Some((state, self.metrics.len()));
        self.keeps += 1;
        Ok(())
    }
    fn cancelled(&self) -> bool {
        self.cancel_after.is_some_and(|steps| self.notes.len() >= steps)
    }
}

/// Trains on a table that comes in batches of `rows`.
fn run(config: &Value, table: &RecordBatch, rows: usize, seed: u64, record: &mut Record) -> Result<(), RunError> {
    run_on(1, config, table, rows, seed, record)
}

fn run_on(
    threads: usize,
    config: &Value,
    table: &RecordBatch,
    rows: usize,
    seed: u64,
    record: &mut Record,
) -> Result<(), RunError> {
    let train = bind(config.clone(), table.schema()).unwrap();
    let kernel = trial::kernel(train, seed, threads).unwrap();
    kernel.run(&Memory::new(table.clone(), rows), record)
}

/// Trains on those tables, with one thread.
fn run_with(config: &Value, tables: &Memory, record: &mut Record) -> Result<(), RunError> {
    let train = bind(config.clone(), tables.table.schema()).unwrap();
    let kernel = trial::kernel(train, 1, 1).unwrap();
    kernel.run(tables, record)
}

fn config(more: Value) -> Value {
    let mut config = json!({"network": "small", "epochs": 6, "batch": 16, "device": "cpu", "metrics_every": 2});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[test]
fn it_learns() {
    let table = table(102, 4);
    let mut record = Record::default();
    run(&config(json!({"metrics_every": 1})), &table, 40, 1, &mut record).unwrap();
    let metric = |name: &str| {
        let of_name = record.metrics.iter().filter(|metric| metric.2 == name);
        of_name.map(|&(epoch, step, _, value)| (epoch, step, value)).collect::<Vec<_>>()
    };
    let (loss, accuracy) = (metric("epoch_loss"), metric("epoch_accuracy"));
    assert_eq!(
        loss.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(),
        (0..6).map(|e| (e, e * 6 + 6)).collect::<Vec<_>>()
    );
    let first = metric("loss")[0];
    assert!((first.2 - 4f64.ln()).abs() < 0.05, "all classes start about equally likely, hence ln 4: {first:?}");
    assert!(loss[5].2 < 0.2 && accuracy[5].2 > 0.95, "{loss:?} {accuracy:?}");
    assert_eq!(metric("loss").len(), 36);
    let rates = metric("learning_rate");
    assert!(rates.is_sorted_by(|a, b| a.2 > b.2) && rates[0].2 == 0.05);
    assert!(metric("images_per_second").iter().all(|row| row.2 > 0.0));
    assert_eq!(record.notes.len(), 36);
    let (done, total, note) = record.notes.last().unwrap();
    assert_eq!((*done, *total), (36, 36));
    assert!(note.starts_with("epoch 6/6, loss 0."), "{note}");
    let network = weights::network(record.batches[0].schema_ref()).unwrap();
    assert_eq!((network.name.as_deref(), network.normalisation.as_deref()), (Some("small"), Some("tile")));
    let tensors: Vec<_> = weights::rows(&record.batches[0]).unwrap().into_iter().map(|row| row.tensor).collect();
    for name in ["bn1.running_mean", "conv1.weight", "conv5.weight", "fc6.weight", "fc7.bias", "fc8.weight"] {
        assert!(tensors.contains(&name), "{tensors:?}");
    }
}

#[test]
fn the_seed_alone_decides() {
    let table = table(40, 3);
    let config = config(json!({"epochs": 2}));
    let of = |threads, rows, seed| {
        let mut record = Record::default();
        run_on(threads, &config, &table, rows, seed, &mut record).unwrap();
        record.batches
    };
    for threads in [1, 2] {
        let first = of(threads, 40, 1);
        assert_eq!(first, of(threads, 40, 1));
        assert_eq!(first, of(threads, 7, 1));
        assert_ne!(first, of(threads, 40, 2));
    }
}

#[test]
fn validation_is_measured_and_changes_nothing() {
    let table = table(48, 4);
    let trained = |validates: bool, record: &mut Record| {
        let train = bind(config(json!({"epochs": 2})), table.schema()).unwrap();
        let kernel = trial::kernel(train, 1, 1).unwrap();
        kernel.run(&Memory { validates, ..Memory::new(table.clone(), 10) }, record)
    };
    let [mut alone, mut validated] = [Record::default(), Record::default()];
    trained(false, &mut alone).unwrap();
    trained(true, &mut validated).unwrap();
    assert_eq!(alone.batches, validated.batches);
    let named = |record: &Record| record.metrics.iter().filter(|metric| metric.2.starts_with("validation_")).count();
    assert_eq!((named(&alone), named(&validated)), (0, 4));

    // Told to stop behind an epoch's last step, it does so in the midst of validation, and then validates anew.
    let mut stopped = Record { cancel_after: Some(3), ..Record::default() };
    assert!(matches!(trained(true, &mut stopped), Err(RunError::Cancelled)));
    assert_eq!(named(&stopped), 0);
    let mut resumed = Record { kept: stopped.kept, metrics: stopped.metrics, ..Record::default() };
    trained(true, &mut resumed).unwrap();
    assert_eq!((&resumed.batches, timeless(&resumed)), (&validated.batches, timeless(&validated)));
}

/// Numbers but for those that tell time.
fn timeless(record: &Record) -> Vec<&(usize, usize, String, f64)> {
    record.metrics.iter().filter(|metric| metric.2 != "images_per_second").collect()
}

/// Images of 16 x 16 pixels, random but for a bright column in four that is their class's.
fn pictures(rows: usize, classes: usize) -> RecordBatch {
    let mut draw = Draw::new(3, "test", "pictures", "", 0);
    let mut labels = Vec::new();
    let mut bytes = Vec::new();
    for _ in 0..rows {
        let class = draw.below(classes);
        labels.push(class as i32);
        bytes.extend((0..16 * 16 * 3).map(|i| draw.below(100) as u8 + if i / 3 % 4 == class { 100 } else { 0 }));
    }
    let ids = StringArray::from_iter_values((0..rows).map(|row| format!("{row:04}")));
    let fields = vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        tessera_schemas::pixels::field(16, 16),
        Field::new("label", DataType::Int32, false),
    ];
    let columns: Vec<ArrayRef> =
        vec![Arc::new(ids), tessera_schemas::pixels::array(bytes, 16, 16), Arc::new(Int32Array::from(labels))];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn half_of_the_bits_do_for_learning() {
    let mut record = Record::default();
    run(&config(json!({"precision": "bfloat16"})), &table(102, 4), 40, 1, &mut record).unwrap();
    let last = record.metrics.iter().rfind(|metric| metric.2 == "epoch_accuracy").unwrap();
    assert!(last.3 > 0.9, "{last:?}");
    assert!(weights::rows(&record.batches[0]).unwrap().iter().all(|row| row.dtype == "F32"));
}

#[test]
fn a_diverging_loss_stops_it() {
    let mut record = Record::default();
    let config = config(json!({"learning_rate": 1e20, "schedule": "constant"}));
    let error = run(&config, &table(64, 3), 64, 1, &mut record).unwrap_err().to_string();
    assert!(error.contains(" in epoch 1, step 2, with a learning rate of 1.000e20: try a `learning_rate` of a "), "{error}");
    assert!(error.starts_with("the loss is "), "{error}");
    assert!(record.batches.is_empty());
}

#[test]
fn it_stops_when_told_to() {
    let mut record = Record { cancel_after: Some(3), ..Record::default() };
    let error = run(&config(json!({})), &table(102, 4), 40, 1, &mut record).unwrap_err();
    assert!(matches!(error, RunError::Cancelled) && record.notes.len() == 3);
}

#[test]
fn nothing_to_learn_from_is_an_error() {
    for rows in [0, 1] {
        let error = run(&config(json!({})), &table(rows, 4), 40, 1, &mut Record::default()).unwrap_err().to_string();
        assert_eq!(error, "there are too few examples to learn from: at least 2 are needed");
    }
}

#[test]
fn what_is_wrong_is_found_at_once() {
    let faults = |config: Value, schema| {
        let faults = bind(config, schema).unwrap_err();
        faults.into_iter().map(|fault| (fault.at, fault.message)).collect::<Vec<_>>()
    };
    let schema = |tile| puzzles::schema(PuzzleLayout { grid: 3, tile, permutations: 701 }, "tile");
    let wrong = json!({"network": "alexnet-torchvision", "epochs": 0, "learning_rate": -0.1, "momentum": 1.0});
    let found = faults(wrong, schema(16));
    let at: Vec<_> = found.iter().map(|fault| fault.0.clone()).collect();
    let key = |key: &str| At::Key(key.to_owned());
    assert_eq!(at, [key("epochs"), key("learning_rate"), key("momentum"), key("network")], "{found:?}");
    assert!(found[3].1.starts_with("`alexnet-torchvision` cannot take tiles of 16 px: a pooling of 3x3 needs"), "{found:?}");
    let unfit = Arc::new(Schema::empty());
    let wrong = json!({
        "network": "small", "optimizer": "adamw", "momentum": 0.9, "clip": 0.0, "label_smoothing": 1.0, "warmup": 10, "step_every": 1,
        "step_factor": 0, "checkpoint_minutes": -1, "classes": 3, "mean": [0.5, 0.5, 0.5], "probe_every": 0
    });
    let at: Vec<_> = faults(wrong, schema(16)).into_iter().map(|fault| fault.0).collect();
    let expected =
        ["probe_every", "clip", "label_smoothing", "step_factor", "checkpoint_minutes", "warmup", "momentum", "step_every"];
    assert_eq!(at[..8], expected.map(key));
    assert_eq!(at.last(), Some(&key("classes")), "{at:?}");
    let found = faults(json!({"network": "small", "batch": 1}), unfit);
    assert_eq!((found[0].0.clone(), found[1].0.clone()), (key("batch"), At::Input(EXAMPLES.to_owned())));
}
