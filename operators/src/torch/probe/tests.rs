use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use serde_json::json;

use super::*;
use crate::numbers::Numbers;
use crate::operator::At;
use crate::torch::linear::data::{Examples, Split};
use crate::torch::linear::fit::Fitter;
use crate::torch::linear::read::read;
use crate::trial::{self, Memory, Record};

const N: usize = 90;

/// Vectors of four values that tell three classes apart, more or less.
fn values(row: usize) -> Vec<f32> {
    let i = row as f64;
    let one = |j: usize| {
        let j = j as f64;
        ((0.7 * i * (j + 1.0)).sin() * (1.0 + j) + (row % 3) as f64 * j.cos() * 0.8 + 10.0 * j) as f32
    };
    (0..4).map(one).collect()
}

fn id(row: usize) -> String {
    format!("{row:02}")
}

fn rows() -> RecordBatch {
    let all: Vec<_> = (0..N).map(|row| (id(row), values(row))).collect();
    trial::features(&all.iter().map(|(id, values)| (id.as_str(), values.as_slice())).collect::<Vec<_>>())
}

fn split(row: usize) -> &'static str {
    ["train", "train", "train", "val", "test"][row % 5]
}

/// Labels `label`, and of two classes `a` and `b`.
fn labels(with_split: bool) -> RecordBatch {
    let a = |row: usize| {
        if row.is_multiple_of(11) {
            0
        } else if row.is_multiple_of(3) {
            1
        } else {
            -1
        }
    };
    let b = |row: usize| if !row.is_multiple_of(3) && !row.is_multiple_of(7) { 1 } else { -1 };
    let text = |of: &dyn Fn(usize) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..N).map(of))) };
    let number = |of: &dyn Fn(usize) -> i32| -> ArrayRef { Arc::new(Int32Array::from_iter_values((0..N).map(of))) };
    let mut columns = vec![
        ("image_id", text(&id)),
        ("label", text(&|row| ["x", "y", "z"][row % 3].to_owned())),
        ("a", number(&a)),
        ("b", number(&b)),
    ];
    if with_split {
        columns.push(("split", text(&|row| split(row).to_owned())));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn bound(config: serde_json::Value, labels: &RecordBatch) -> Result<Probe, Vec<BindError>> {
    trial::bind(config, &[(FEATURES, rows().schema()), (LABELS, labels.schema())])
}

fn run(config: serde_json::Value, labels: RecordBatch) -> Result<Record, RunError> {
    let kernel = trial::kernel(bound(config, &labels).unwrap(), 1, 2)?;
    let mut record = Record::default();
    let parts = vec![rows().slice(40, 50), rows().slice(0, 40)];
    kernel.run(&Memory([(FEATURES, parts), (LABELS, vec![labels])].into()), &mut record)?;
    Ok(record)
}

fn examples(config: serde_json::Value) -> (Examples, Vec<Numbers<f32>>) {
    let probe = bound(config, &labels(true)).unwrap();
    let tables = Memory([(FEATURES, vec![rows()]), (LABELS, vec![labels(true)])].into());
    read(probe.wanted(), &tables, 1, None, &mut Record::default()).unwrap()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-3), "{found:?} {expected:?}");
}

fn weights(fitter: &Fitter<'_>) -> Vec<f64> {
    Vec::try_from(fitter.weights().contiguous().view([-1])).unwrap()
}

/// Coefficients, and then intercepts, of scikit-learn with a tolerance of 1e-10 (`tests/peers/golden/logistic.py`).
#[test]
fn weights_are_scikit_learns() {
    let (all, layers) = examples(json!({}));
    let mut fitter = Fitter::new(&layers[0], &all, &[Split::Train]).unwrap();
    fitter.fit(0.01, 500, &|| false).unwrap();
    let strong = [
        -0.12016, 0.01035, 0.10981, -0.04282, 0.00459, 0.03823, 0.05735, 0.14092, -0.19827, 0.03792, 0.0009, -0.03883,
        0.00518, 0.0126, -0.01779,
    ];
    close(&weights(&fitter), &strong);
    fitter.fit(0.5, 500, &|| false).unwrap();
    let weak = [
        -0.87829, 0.34395, 0.53434, -0.27137, 0.10823, 0.16314, 0.01547, 1.51463, -1.5301, 0.20443, -0.0079, -0.19653,
        0.24513, 0.01981, -0.26494,
    ];
    close(&weights(&fitter), &weak);
    let right = |split| fitter.scores(split).unwrap()[0].value;
    close(&[right(Split::Validation), right(Split::Test)], &[16.0 / 18.0, 15.0 / 18.0]);
}

/// The same, of a fit for each class by itself, to the images that count for it.
#[test]
fn what_is_difficult_is_not_learnt_from() {
    let (all, layers) = examples(json!({"classes": ["a", "b"]}));
    let mut fitter = Fitter::new(&layers[0], &all, &[Split::Train]).unwrap();
    fitter.fit(0.5, 500, &|| false).unwrap();
    let expected = [-1.20746, 1.14853, -0.26647, 0.3396, 0.1991, 0.12049, 0.21826, -0.38686, -1.0952, 0.46311];
    close(&weights(&fitter), &expected);
}

#[test]
fn the_best_on_validation_is_tested() {
    let record = run(json!({"c": [20.0, 0.5, 0.01, 5.0], "iterations": 500}), labels(true)).unwrap();
    let table = &record.batches[0];
    let text =
        |name| tessera_schemas::text(table, name).unwrap().iter().map(|value| value.unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(text("split").iter().filter(|split| *split == "validation").count(), 8);
    assert_eq!(text("metric")[8..], ["top1", "top5"]);
    assert_eq!(text("split")[8..], ["test", "test"]);
    assert_eq!(record.values("unlabelled"), [0.0]);
    let of = |name| table.column_by_name(name).unwrap().as_primitive::<arrow::datatypes::Float64Type>().values().to_vec();
    let (c, value) = (of("c"), of("value"));
    let right = |share: f64| (share * 18.0).round();
    let tried: Vec<_> = (0..8).step_by(2).map(|row| (c[row], right(value[row]))).collect();
    assert_eq!(tried, [(0.01, 16.0), (0.5, 16.0), (5.0, 17.0), (20.0, 17.0)], "of 18, from the strongest on");
    // The first of the best.
    assert_eq!((c[8], c[9], right(value[8])), (5.0, 5.0, 16.0));
    assert_eq!(record.values("feature_top1"), [value[8]]);
    assert_eq!(record.values("feature_top5"), [1.0]);
}

#[test]
fn splits_are_drawn_where_none_are_given() {
    let one = run(json!({}), labels(false)).unwrap();
    let again = run(json!({}), labels(false)).unwrap();
    assert_eq!(one.batches, again.batches);
    let images = one.batches[0].column(7).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
    let (validation, test) = (images[0], *images.last().unwrap());
    assert!((8..=28).contains(&test) && (5..=25).contains(&validation), "{images:?}");
}

/// The labels with their splits renamed.
fn renamed(split_of: impl Fn(&'static str) -> &'static str) -> RecordBatch {
    let with = labels(true);
    let splits: ArrayRef = Arc::new(StringArray::from_iter_values((0..N).map(|row| split_of(split(row)))));
    RecordBatch::try_new(with.schema(), [&with.columns()[..4], &[splits]].concat()).unwrap()
}

#[test]
fn without_a_test_validation_is_measured() {
    let record = run(json!({}), renamed(|split| if split == "test" { "train" } else { split })).unwrap();
    let table = &record.batches[0];
    let images = table.column(7).as_any().downcast_ref::<Int64Array>().unwrap();
    let last = tessera_schemas::text(table, "split").unwrap().value(table.num_rows() - 1);
    assert_eq!((last, images.value(table.num_rows() - 1)), ("test", 18), "all that were for validation");
    assert!((5..=25).contains(&images.value(0)), "chosen by others: {images:?}");
    assert!(record.values("feature_top1")[0] > 0.8);
}

#[test]
fn splits_of_other_names_are_said() {
    let record = run(json!({}), renamed(|split| if split == "test" { "extra" } else { split })).unwrap();
    assert_eq!(record.said[0], "18 rows of `labels` are left out, being of the splits `extra`");
    let error = run(json!({}), renamed(|split| if split == "train" { "Train" } else { "Test" })).err().unwrap().to_string();
    assert!(error.ends_with("for train; 90 rows of `labels` are left out, being of the splits `Test`, `Train`"), "{error}");
}

#[test]
fn classes_have_their_precisions() {
    let record = run(json!({"classes": ["a", "b"], "c": [0.5]}), labels(true)).unwrap();
    let table = &record.batches[0];
    let metrics: Vec<_> = tessera_schemas::text(table, "metric").unwrap().iter().map(|metric| metric.unwrap()).collect();
    assert_eq!(metrics, ["map", "ap", "ap", "map", "ap", "ap"]);
    assert!(record.values("feature_map")[0] > 0.8);
}

#[test]
fn marked_columns_are_classes() {
    let table = labels(true);
    let mark = |field: &Arc<Field>| match field.name().as_str() {
        "b" => Arc::new(tessera_schemas::presence::field("b")),
        _ => field.clone(),
    };
    let schema = Arc::new(Schema::new(table.schema().fields().iter().map(mark).collect::<Vec<_>>()));
    let table = RecordBatch::try_new(schema, table.columns().to_vec()).unwrap();
    let target = |config| bound(config, &table).unwrap().target;
    let each = |names: &[&str]| Target::Each(names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(target(json!({})), each(&["b"]));
    assert_eq!(target(json!({"classes": ["a", "b"]})), each(&["a", "b"]));
    assert_eq!(target(json!({"label": "label"})), Target::One("label".into()));
    let settled = bound(json!({}), &table).unwrap().settled();
    assert!(settled.contains(&("classes", json!(["b"]))) && settled.contains(&("label", json!(null))), "{settled:?}");
}

#[test]
fn images_without_labels_are_counted() {
    let record = run(json!({"c": [0.1]}), labels(true).slice(0, 80)).unwrap();
    assert_eq!(record.values("unlabelled"), [10.0]);
    let twice = arrow::compute::concat_batches(&labels(true).schema(), [&labels(true), &labels(true).slice(3, 1)]).unwrap();
    assert_eq!(run(json!({}), twice).err().unwrap().to_string(), "`labels` has image `03` twice");
    let few = run(json!({}), labels(true).slice(0, 4)).err().unwrap().to_string();
    assert!(few.contains("labelled images with features are 3 for train, 1 for validation, 0 for test"), "{few}");
}

/// All of a table's columns of numbers but the values, and those.
fn table_of(record: &Record) -> (Vec<ArrayRef>, Vec<f64>) {
    let table = &record.batches[0];
    let value = table.schema().index_of("value").unwrap();
    let values = table.column(value).as_any().downcast_ref::<Float64Array>().unwrap().values().to_vec();
    let others = (0..table.num_columns()).filter(|&at| at != value).map(|at| table.column(at).clone()).collect();
    (others, values)
}

#[test]
fn files_hold_what_memory_holds() {
    // Labels of some images alone, in an order of their own.
    let turned = |table: RecordBatch| {
        let parts: Vec<_> = (0..table.num_rows()).rev().map(|row| table.slice(row, 1)).collect();
        arrow::compute::concat_batches(&table.schema(), &parts).unwrap()
    };
    for (config, labels) in [
        (json!({"c": [0.01, 0.5]}), turned(labels(true).slice(0, 70))),
        (json!({"classes": ["a", "b"], "c": [0.5]}), labels(true)),
        (json!({"c": [0.1]}), turned(labels(false))),
    ] {
        let memory = run(config.clone(), labels.clone()).unwrap();
        let mut config = config;
        config["memory"] = json!(1);
        let files = run(config, labels).unwrap();
        assert!(memory.said.is_empty() && files.said[0].starts_with("features go to a temporary file"), "{:?}", files.said);
        let ((others, values), (of_files, from_files)) = (table_of(&memory), table_of(&files));
        assert_eq!(others, of_files);
        assert!(values.iter().zip(&from_files).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?} {from_files:?}");
        assert_eq!(memory.values("unlabelled"), files.values("unlabelled"));
    }
}

#[test]
fn pieces_add_up_to_the_whole() {
    let all = examples(json!({}));
    let mut pieces = examples(json!({}));
    pieces.0.in_files = true;
    let fit = |(examples, layers): &(Examples, Vec<Numbers<f32>>)| {
        let mut fitter = Fitter::new(&layers[0], examples, &[Split::Train]).unwrap();
        fitter.piecewise(7);
        fitter.fit(0.5, 500, &|| false).unwrap();
        (weights(&fitter), fitter.scores(Split::Test).unwrap())
    };
    let ((one, score), (other, piecewise)) = (fit(&all), fit(&pieces));
    assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-4), "{one:?} {other:?}");
    assert_eq!(score, piecewise);
}

#[test]
fn a_columns_offset_takes_no_precision() {
    // Exact in f32, so that the features are those less 2^14.
    let round = |value: f32| (value * 256.0).round() / 256.0;
    let of = |offset: f32| {
        let all: Vec<_> = (0..N)
            .map(|row| (id(row), values(row).into_iter().map(|value| round(value) + offset).collect::<Vec<_>>()))
            .collect();
        let rows = trial::features(&all.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>());
        let tables = Memory([(FEATURES, vec![rows]), (LABELS, vec![labels(true)])].into());
        let probe = bound(json!({}), &labels(true)).unwrap();
        let (examples, layers) = read(probe.wanted(), &tables, 1, None, &mut Record::default()).unwrap();
        let mut fitter = Fitter::new(&layers[0], &examples, &[Split::Train]).unwrap();
        fitter.fit(0.5, 500, &|| false).unwrap();
        weights(&fitter)
    };
    let (plain, moved) = (of(0.0), of(16384.0));
    assert!(plain.iter().zip(&moved).all(|(a, b)| (a - b).abs() < 0.02), "{plain:?} {moved:?}");
}

#[test]
fn faults_are_all_named() {
    let config = json!({"columns": ["conv4"], "label": "what", "split": "a", "c": [-1.0], "iterations": 0});
    let errors = bound(config, &labels(true)).err().unwrap();
    let keys: Vec<_> = errors.iter().map(|error| error.at.clone()).collect();
    assert_eq!(keys, ["columns", "label", "split", "c", "iterations"].map(|key| At::Key(key.into())));
    let errors = bound(json!({"label": "label", "classes": ["a", "label"]}), &labels(true)).err().unwrap();
    let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(
        messages,
        ["`classes` takes its place: remove one of them", "`label` of `labels` should be whole numbers, found Utf8"]
    );
}
