use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use serde_json::json;

use super::*;
use crate::trial::{self, Memory as Tabled, Record};

/// Points in two dimensions, of different scales, in three groups; one value never differs.
fn rows() -> RecordBatch {
    let centres = [("a", [0.0, 0.0]), ("b", [900.0, 0.1]), ("c", [450.0, 1.0])];
    let points: Vec<(String, [f32; 3])> = (0..30)
        .map(|at| {
            let (class, [x, y]) = centres[at % 3];
            let off = (at as f32 * 0.7).sin();
            (format!("{class}{at:02}"), [x + 60.0 * off, y + 0.06 * (at as f32).cos(), 7.0])
        })
        .collect();
    trial::features(&points.iter().map(|(id, point)| (id.as_str(), &point[..])).collect::<Vec<_>>())
}

fn labels(of: &[(&str, Option<&str>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(of.iter().map(|label| label.0)));
    let labels: ArrayRef = Arc::new(of.iter().map(|label| label.1).collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([(IMAGE_ID, ids, false), ("label", labels, true)]).unwrap()
}

fn learn(config: serde_json::Value, labels: RecordBatch) -> Result<(Found, Record), RunError> {
    let schemas = [(FEATURES, rows().schema()), (LABELS, labels.schema())];
    let operator: Classifier = trial::bind(config, &schemas).unwrap();
    let tables = Tabled([(FEATURES, vec![rows()]), (LABELS, vec![labels])].into());
    let mut record = Record::default();
    trial::kernel(operator, 0, 1)?.run(&tables, &mut record)?;
    let found = Found::of(&record.batches)?;
    Ok((found, record))
}

const SIX: [(&str, Option<&str>); 8] = [
    ("a00", Some("hat")),
    ("a03", Some("hat")),
    ("b01", Some("dress")),
    ("b04", Some("dress")),
    ("c02", Some("skirt")),
    ("c05", Some("skirt")),
    ("a06", None),
    ("gone", Some("shoe")),
];

/// The class of the largest product.
fn best(found: &Found, point: &[f32]) -> String {
    let score = |class: usize| {
        let weights = &found.weights[class * found.dimension..][..found.dimension];
        found.biases[class] + weights.iter().zip(point).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
    };
    let best = (0..found.labels.len()).max_by(|&one, &other| score(one).total_cmp(&score(other))).unwrap();
    found.labels[best].clone()
}

#[test]
fn weights_tell_features_apart_as_they_are() {
    for memory in [None, Some(1)] {
        let (found, record) = learn(json!({ "c": 1.0, "memory": memory }), labels(&SIX)).unwrap();
        assert_eq!(
            (found.labels.clone(), found.images.clone()),
            (vec!["dress".into(), "hat".into(), "skirt".into()], vec![2, 2, 2])
        );
        let table = rows();
        let (points, dimension) = tessera_schemas::vector(&table, "feature").unwrap();
        let ids = tessera_schemas::text(&table, IMAGE_ID).unwrap();
        for (id, point) in ids.iter().flatten().zip(points.chunks(dimension)) {
            let expected = match &id[..1] {
                "a" => "hat",
                "b" => "dress",
                _ => "skirt",
            };
            assert_eq!(best(&found, point), expected, "{id}");
        }
        assert!(found.weights.chunks(3).all(|weights| weights[2] == 0.0), "what never differs says nothing");
        assert_eq!((record.values("unlabelled"), record.values("labelled")), (vec![24.0], vec![6.0]));
        assert_eq!(record.values("classes"), [3.0]);
    }
}

#[test]
fn no_label_is_no_class_and_one_label_is_one() {
    let (none, record) = learn(json!({}), labels(&[("a00", None)])).unwrap();
    assert_eq!((none.labels.len(), record.said.len()), (0, 1));
    let (one, _) = learn(json!({}), labels(&[("a00", Some("hat"))])).unwrap();
    assert_eq!((one.labels, one.images), (vec!["hat".to_owned()], vec![1]));
    let error = learn(json!({}), labels(&[("x", Some("hat"))])).err().unwrap().to_string();
    assert_eq!(error, "no image of `labels` is in `features`: they should have the same `image_id`");
    let error = learn(json!({}), labels(&[("a00", Some("hat")), ("a00", Some("hat"))])).err().unwrap().to_string();
    assert_eq!(error, "`labels` has image `a00` twice");
}

#[test]
fn faults_are_told_at_once() {
    let schemas = [(FEATURES, rows().schema()), (LABELS, labels(&SIX).schema())];
    let config = json!({ "c": 0.0, "iterations": 0, "label": "class", "column": "conv4" });
    let errors = trial::bind::<Classifier>(config, &schemas).err().unwrap();
    let told: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(told[..2], ["c is 0, and should be above 0", "0 iterations fit nothing: at least 1"]);
    assert!(told[2].contains("conv4") && told[3].starts_with("`labels`: column `class` is missing"), "{told:?}");
}
