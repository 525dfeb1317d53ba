//! Images with one class or several, and the probe.

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;

use super::*;

#[test]
fn it_learns_classes_of_images() {
    let table = pictures(96, 3);
    let mut record = Record::default();
    run(&config(json!({"classes": 3})), &table, 40, 1, &mut record).unwrap();
    let last = record.metrics.iter().rfind(|metric| metric.2 == "epoch_accuracy").unwrap();
    assert!(last.3 > 0.95, "{last:?}");
    let network = weights::network(record.batches[0].schema_ref()).unwrap();
    assert_eq!(network.mean, Some([0.485, 0.456, 0.406]));
    assert_eq!(network.normalisation, None);
    let tensors: Vec<_> =
        weights::rows(&record.batches[0]).unwrap().into_iter().map(|row| (row.tensor, row.shape)).collect();
    assert!(tensors.contains(&("fc.weight", vec![3, 192])), "{tensors:?}");

    // Of more than five classes, the five that score highest count too.
    let mut record = Record::default();
    let train = bind(config(json!({"classes": 6})), table.schema()).unwrap();
    let kernel = trial::kernel(train, 1, 1).unwrap();
    kernel.run(&Memory { validates: true, ..Memory::new(table, 40) }, &mut record).unwrap();
    let of = |name: &str| record.metrics.iter().filter(|metric| metric.2 == name).map(|metric| metric.3).collect::<Vec<_>>();
    let (first, five) = (of("validation_accuracy"), of("validation_top5"));
    assert!(first.iter().zip(&five).all(|(first, five)| first <= five) && five.len() == 6, "{first:?} {five:?}");
    assert_eq!(five[5], 1.0, "{first:?} {five:?}");
}

#[test]
fn it_learns_which_classes_images_show() {
    let one = pictures(100, 3);
    let classes = one.column(2).as_primitive::<Int32Type>().clone();
    // Each class is a question; what every seventh image shows of the third is not known, and nothing of every tenth, which is neither
    // right nor wrong.
    let presence = |class: i32| -> ArrayRef {
        let answer = |(row, found): (usize, i32)| match class {
            2 if row.is_multiple_of(7) => 0,
            _ if row.is_multiple_of(10) => 0,
            _ if found == class => 1,
            _ => -1,
        };
        Arc::new(Int32Array::from_iter_values(classes.values().iter().copied().enumerate().map(answer)))
    };
    let names = ["a", "b", "c"];
    let schema = one.schema();
    let fields =
        schema.fields()[..2].iter().cloned().chain(names.map(|name| Arc::new(tessera_schemas::presence::field(name))));
    let columns = [&one.columns()[..2], &[presence(0), presence(1), presence(2)]].concat();
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let learnt = |columns: Vec<ArrayRef>, record: &mut Record| {
        let table = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let train = bind(config(json!({"metrics_every": 1})), schema.clone()).unwrap();
        let kernel = trial::kernel(train, 1, 1).unwrap();
        kernel.run(&Memory { validates: true, ..Memory::new(table, 40) }, record)
    };
    let mut record = Record::default();
    learnt(columns.clone(), &mut record).unwrap();
    let metrics = |name: &str| -> Vec<f64> {
        record.metrics.iter().filter(|metric| metric.2 == name).map(|metric| metric.3).collect()
    };
    let first = metrics("loss")[0];
    assert!(
        (first - 0.9 * 3.0 * 2f64.ln()).abs() < 0.3,
        "three questions of nine images in ten start about undecided: {first}"
    );
    assert!(metrics("epoch_accuracy")[5] > 0.95, "{:?}", metrics("epoch_accuracy"));
    let precision = metrics("validation_map");
    assert!(precision[5] > 0.95 && precision.len() == 6, "{precision:?}");

    // Columns of 1 and 0, as other sets have them: 0 is not "no" here.
    let yes = |column: &ArrayRef| -> ArrayRef {
        let answers = column.as_primitive::<Int32Type>().values().iter().map(|&answer| answer.max(0));
        Arc::new(Int32Array::from_iter_values(answers))
    };
    let odd = [&columns[..2], &columns[2..].iter().map(yes).collect::<Vec<_>>()].concat();
    let error = learnt(odd, &mut Record::default()).unwrap_err().to_string();
    assert!(error.contains("a column of a class has 1 and -1, and 0 does not count"), "{error}");
    let of_classes = names.map(|name| metrics(&format!("validation_ap_{name}"))[5]);
    assert!((of_classes.iter().sum::<f64>() / 3.0 - precision[5]).abs() < 1e-12);
    let faults = bind(config(json!({"sampling": "classes", "label_smoothing": 0.1})), schema).unwrap_err();
    let at: Vec<_> = faults.into_iter().map(|fault| fault.at).collect();
    assert_eq!(at, [At::Key("sampling".to_owned()), At::Key("label_smoothing".to_owned())]);
}

#[test]
fn the_probe_measures_features_and_changes_nothing() {
    let table = pictures(96, 3);
    let trained = |probes: bool| {
        let inputs = [EXAMPLES, PROBE].map(|input| (input, table.schema()));
        let inputs = if probes { &inputs[..] } else { &inputs[..1] };
        let train: Train = trial::bind(config(json!({"classes": 3, "probe_every": 4})), inputs).unwrap();
        let kernel = trial::kernel(train, 1, 1).unwrap();
        let mut record = Record::default();
        kernel.run(&Memory::new(table.clone(), 40), &mut record).unwrap();
        record
    };
    let (alone, probed) = (trained(false), trained(true));
    assert!(alone.batches == probed.batches);
    let found: Vec<_> = probed.metrics.iter().filter(|metric| metric.2 == "knn_accuracy").collect();
    // Every fourth epoch, and the last.
    assert_eq!(found.iter().map(|metric| (metric.0, metric.1)).collect::<Vec<_>>(), [(3, 24), (5, 36)]);
    assert!(found[1].3 > 0.9, "{found:?}");
}
