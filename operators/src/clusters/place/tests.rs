use arrow::array::{Float32Array, RecordBatch};
use proptest::prelude::*;
use serde_json::json;
use tessera_schemas::floats;

use super::*;
use crate::random::Draw;
use crate::trial;

fn rows(from: usize, count: usize, d: usize) -> RecordBatch {
    let values: Vec<(String, Vec<f32>)> = (from..from + count)
        .map(|number| {
            let mut draw = Draw::new(1, "test", "row", "", number as u64);
            let row = (0..d).map(|_| (number % 4) as f32 * 3.0 + draw.unit() as f32).collect();
            (format!("{number:04}"), row)
        })
        .collect();
    trial::features(&values.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>())
}

fn map(of: &RecordBatch) -> Vec<RecordBatch> {
    trial::run(crate::find("layout").unwrap(), json!({"epochs": 50}), &[(FEATURES, of.clone())]).unwrap()
}

fn bound(config: serde_json::Value, rows: &RecordBatch, map: &RecordBatch) -> Result<Place, Vec<BindError>> {
    trial::bind(config, &[(FEATURES, rows.schema()), (MAP, map.schema())])
}

fn open(map: &[RecordBatch], rows: &RecordBatch) -> Result<Box<dyn MapFn>, RunError> {
    trial::open(bound(json!({}), rows, &map[0]).unwrap(), &[(MAP, map.to_vec())])
}

fn places(batch: &RecordBatch) -> Vec<[f32; 2]> {
    let (x, y) = (floats(batch, "x").unwrap(), floats(batch, "y").unwrap());
    (0..batch.num_rows()).map(|row| [x.value(row), y.value(row)]).collect()
}

#[test]
fn landmarks_lie_where_they_are_and_others_among_their_like() {
    let landmarks = rows(0, 400, 6);
    let map = map(&landmarks);
    let mut worker = open(&map, &landmarks).unwrap();
    let own: Vec<[f32; 2]> = map.iter().flat_map(places).collect();
    assert_eq!(places(&trial::call_worker(&mut *worker, &landmarks).unwrap()), own);
    // The order of the map's rows is nothing to it.
    let others = rows(400, 40, 6);
    let found = places(&trial::call_worker(&mut *worker, &others).unwrap());
    let whole = arrow::compute::concat_batches(&map[0].schema(), &map).unwrap();
    let mut mixed = open(&[whole.slice(300, 100), whole.slice(0, 300)], &others).unwrap();
    assert_eq!(places(&trial::call_worker(&mut *mixed, &others).unwrap()), found);
    for (number, [x, y]) in found.iter().enumerate() {
        let squared = |place: &[f32; 2]| (place[0] - x).powi(2) + (place[1] - y).powi(2);
        let nearest = (0..400).min_by(|&a, &b| squared(&own[a]).total_cmp(&squared(&own[b]))).unwrap();
        assert_eq!(nearest % 4, number % 4, "row {number} lies in another group");
    }
}

#[test]
fn a_map_of_one_image_takes_all() {
    let one = rows(0, 1, 3);
    let map = map(&one);
    let found = places(&trial::call_worker(&mut *open(&map, &one).unwrap(), &rows(5, 3, 3)).unwrap());
    assert!(found.iter().flatten().all(|value| value.is_finite()), "{found:?}");
}

#[test]
fn faults_are_named() {
    let landmarks = rows(0, 8, 3);
    let map = map(&landmarks);
    let errors = bound(json!({}), &rows(0, 1, 4), &map[0]).err().unwrap();
    assert_eq!(errors[0].message, "its landmarks have 3 dimensions, but `feature` has 4");
    let errors = bound(json!({}), &landmarks, &map[0].project(&[0, 1, 2]).unwrap()).err().unwrap();
    assert!(errors[0].message.starts_with("column `feature` is missing"), "{}", errors[0].message);
    assert_eq!(
        bound(json!({"count": 0}), &landmarks, &map[0]).err().unwrap()[0].message,
        "0 landmarks pull nothing: at least 1"
    );
    let error = open(&[map[0].slice(0, 0)], &landmarks).err().unwrap().to_string();
    assert_eq!(error, "the map is empty: there is nothing to place images by");
    let mut columns = map[0].columns().to_vec();
    columns[1] = Arc::new(Float32Array::from(vec![f32::NAN; map[0].num_rows()]));
    let lost = RecordBatch::try_new(map[0].schema(), columns).unwrap();
    let error = open(&[lost], &landmarks).err().unwrap().to_string();
    assert!(error.starts_with("image `0000`: the map has it at x = NaN, y = "), "{error}");
    let twice = open(&[map[0].clone(), map[0].clone()], &landmarks).err().unwrap().to_string();
    assert_eq!(twice, "image `0000`: it is there twice: an image has one row");
    let bad = trial::features(&[("b.jpg", &[0.0, f32::INFINITY, 0.0])]);
    let error = trial::call_worker(&mut *open(&map, &landmarks).unwrap(), &bad).unwrap_err().to_string();
    assert!(error.starts_with("image `b.jpg`: `feature` has inf in dimension 1"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn batches_change_no_bit(cut in 1usize..199) {
        let (landmarks, others) = (rows(0, 150, 5), rows(1000, 200, 5));
        let mut worker = open(&map(&landmarks), &others).unwrap();
        let mut call = |rows: &RecordBatch| trial::call_worker(&mut *worker, rows).unwrap();
        let whole = call(&others);
        prop_assert_eq!(call(&others.slice(0, cut)), whole.slice(0, cut));
        prop_assert_eq!(call(&others.slice(cut, 200 - cut)), whole.slice(cut, 200 - cut));
    }
}
