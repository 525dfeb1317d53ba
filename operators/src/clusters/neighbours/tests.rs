use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use proptest::prelude::*;
use serde_json::json;
use tessera_schemas::{floats, int32};

use super::*;
use crate::nearest::squared_distance;
use crate::random::Draw;
use crate::trial::{self, Record};

/// Neighbours of one image: their ids and distances, nearest first.
type Near = Vec<(String, f32)>;

fn table(values: &[(String, Vec<f32>)]) -> RecordBatch {
    trial::features(&values.iter().map(|(id, row)| (id.as_str(), row.as_slice())).collect::<Vec<_>>())
}

fn made(n: usize, d: usize, seed: u64, levels: f64) -> Vec<(String, Vec<f32>)> {
    let mut draw = Draw::new(seed, "test", "values", "", 0);
    let mut row = || (0..d).map(|_| (draw.unit() * levels).floor() as f32).collect();
    (0..n).map(|number| (format!("{:04}", number * 7919 % 10_000), row())).collect()
}

fn centroids(rows: &[(String, Vec<f32>)], k: usize) -> RecordBatch {
    let d = rows[0].1.len();
    let values: Vec<f32> = rows.iter().take(k).flat_map(|row| &row.1).copied().collect();
    clusters::batch(&clusters::schema(k, d), vec![1; k], values).unwrap()
}

fn run(
    config: serde_json::Value,
    rows: &[RecordBatch],
    clusters: Option<&RecordBatch>,
    threads: usize,
) -> Result<(BTreeMap<String, Near>, Record), RunError> {
    let inputs: Vec<_> =
        [(FEATURES, rows[0].schema())].into_iter().chain(clusters.map(|c| (CLUSTERS, c.schema()))).collect();
    let operator: Neighbours = trial::bind(config, &inputs).unwrap();
    let tables = [(FEATURES, rows.to_vec())].into_iter().chain(clusters.map(|c| (CLUSTERS, vec![c.clone()])));
    let mut record = Record::default();
    trial::kernel(operator, 0, threads)?.run(&trial::Memory(tables.collect()), &mut record)?;
    let all = concat_batches(&neighbours::schema(), &record.batches).unwrap();
    let (ids, others) = (tessera_schemas::text(&all, "image_id")?, tessera_schemas::text(&all, "neighbour")?);
    let (ranks, distances) = (int32(&all, "rank")?, floats(&all, "distance")?);
    let mut found: BTreeMap<String, Near> = BTreeMap::new();
    for row in 0..all.num_rows() {
        let near = found.entry(ids.value(row).to_owned()).or_default();
        near.push((others.value(row).to_owned(), distances.value(row)));
        assert_eq!(ranks.value(row) as usize, near.len(), "ranks rise by one");
    }
    Ok((found, record))
}

fn plainly(rows: &[(String, Vec<f32>)], count: usize) -> BTreeMap<String, Near> {
    let near = |(id, row): &(String, Vec<f32>)| {
        let others = rows.iter().filter(|other| other.0 != *id);
        let mut all: Vec<(f64, &str)> = others.map(|other| (squared_distance(row, &other.1), other.0.as_str())).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        (id.clone(), all.iter().take(count).map(|(squared, id)| ((*id).to_owned(), squared.sqrt() as f32)).collect())
    };
    rows.iter().map(near).filter(|(_, near): &(_, Near)| !near.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Few levels: many distances are equal, and many images are duplicates.
    #[test]
    fn they_are_what_a_plain_search_finds(n in 1usize..220, d in 1usize..70, count in 1usize..40, levels in 2u32..9, seed: u64, threads in 1usize..4) {
        let rows = made(n, d, seed, f64::from(levels));
        let expected = plainly(&rows, count);
        let whole = table(&rows);
        let config = json!({"count": count});
        prop_assert_eq!(&run(config.clone(), std::slice::from_ref(&whole), None, threads).unwrap().0, &expected);
        // Of all clusters, of a few of which each has too few images, and from files.
        let k = n.min(5);
        let clusters = centroids(&rows, k);
        let mut all = json!({"count": count, "probes": 9, "memory": 1});
        prop_assert_eq!(&run(all.clone(), &[whole.slice(n / 2, n - n / 2), whole.slice(0, n / 2)], Some(&clusters), threads).unwrap().0, &expected);
        all["probes"] = json!(1);
        let (some, record) = run(all, std::slice::from_ref(&whole), Some(&clusters), threads).unwrap();
        prop_assert_eq!(some.len(), expected.len());
        let mut kept = 0;
        for (id, near) in &some {
            prop_assert_eq!(near.len(), expected[id].len());
            prop_assert!(near.iter().all(|(other, _)| other != id) && near.is_sorted_by_key(|near| near.1));
            kept += near.iter().filter(|near| expected[id].contains(near)).count();
        }
        let all = expected.values().map(Vec::len).sum::<usize>();
        if all > 0 {
            prop_assert_eq!(record.values("recall"), vec![kept as f64 / all as f64]);
        }
    }
}

#[test]
fn neighbours_are_of_the_image_s_own_clusters_alone() {
    // Two groups, and an image of the first that is nearer to one of the second.
    let values = [("a", 0.0), ("b", 1.0), ("c", 4.9), ("d", 5.2), ("e", 9.0), ("f", 10.0)];
    let rows: Vec<_> = values.iter().map(|(id, value)| ((*id).to_owned(), vec![*value])).collect();
    let clusters = clusters::batch(&clusters::schema(2, 1), vec![3; 2], vec![0.0, 10.0]).unwrap();
    let of = |probes: usize| run(json!({"count": 1, "probes": probes}), &[table(&rows)], Some(&clusters), 1).unwrap();
    let (found, record) = of(1);
    assert_eq!((found["c"][0].0.as_str(), found["d"][0].0.as_str()), ("b", "e"));
    assert_eq!(record.values("recall"), [4.0 / 6.0]);
    let (found, record) = of(2);
    assert_eq!((found["c"][0].0.as_str(), found["d"][0].0.as_str()), ("d", "c"));
    assert_eq!(record.values("recall"), [1.0]);
}

#[test]
fn small_tables_have_what_there_is() {
    let rows = made(3, 2, 1, 100.0);
    assert_eq!(run(json!({"count": 1000}), &[table(&rows)], None, 2).unwrap().0, plainly(&rows, 2));
    assert!(run(json!({}), &[table(&rows[..1])], None, 2).unwrap().0.is_empty());
    assert!(run(json!({}), &[table(&rows).slice(0, 0)], None, 2).unwrap().0.is_empty());
}

#[test]
fn faults_are_named() {
    let rows = table(&made(3, 2, 1, 100.0));
    let bound = |config, inputs: &[(&str, SchemaRef)]| trial::bind::<Neighbours>(config, inputs).err().unwrap();
    let alone = [(FEATURES, rows.schema())];
    let message = |errors: Vec<BindError>| (errors[0].at.clone(), errors[0].message.clone());
    let key = |key: &str| crate::operator::At::Key(key.to_owned());
    let expected = "16 clusters are to be searched, and there is no input `clusters`";
    assert_eq!(message(bound(json!({"probes": 16}), &alone)), (key("probes"), expected.into()));
    assert_eq!(message(bound(json!({"probes": 0}), &alone)).0, key("probes"));
    assert_eq!(message(bound(json!({"probes": "most"}), &alone)).0, key("probes"));
    assert_eq!(message(bound(json!({"count": 0}), &alone)), (key("count"), "0 neighbours are none: at least 1".into()));
    let others = [(FEATURES, rows.schema()), (CLUSTERS, clusters::schema(3, 5))];
    assert_eq!(message(bound(json!({}), &others)).1, "centroids have 5 dimensions, but `feature` has 2");
    let none = clusters::batch(&clusters::schema(3, 2), vec![], vec![]).unwrap();
    let error = run(json!({}), std::slice::from_ref(&rows), Some(&none), 1).err().unwrap().to_string();
    assert_eq!(error, "the table of clusters is empty: there is nothing to search in");
    let nan = trial::features(&[("x/y.jpg", &[0.0, f32::NAN])]);
    let error = run(json!({}), &[rows, nan], None, 1).err().unwrap().to_string();
    assert!(error.starts_with("image `x/y.jpg`: `feature` has NaN in dimension 1"), "{error}");
}

#[test]
fn a_run_that_is_cancelled_ends() {
    let rows = table(&made(200, 2, 1, 100.0));
    let operator: Neighbours = trial::bind(json!({}), &[(FEATURES, rows.schema())]).unwrap();
    let mut record = Record { cancel: true, ..Record::default() };
    let done = trial::kernel(operator, 0, 1).unwrap().run(&trial::Memory([(FEATURES, vec![rows])].into()), &mut record);
    assert!(matches!(done, Err(RunError::Cancelled)));
}
