use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use serde_json::json;
use tessera_datasets::names::HEADER;

use super::*;
use crate::trial::{self, Memory, Record};

/// Groups of four images each, at 0, 10, 20 and 30, of which the first two are cluster 0 and the others cluster 1.
const GROUPS: [(&str, f32); 4] = [("a", 0.0), ("b", 10.0), ("c", 20.0), ("d", 30.0)];

fn rows() -> RecordBatch {
    let rows: Vec<(String, [f32; 1])> = GROUPS
        .iter()
        .flat_map(|(group, place)| (0..4).map(move |at| (format!("{group}{at}"), [place + at as f32 * 0.1])))
        .collect();
    trial::features(&rows.iter().map(|(id, row)| (id.as_str(), &row[..])).collect::<Vec<_>>())
}

fn clusters_table() -> RecordBatch {
    clusters::batch(&clusters::schema(2, 1), vec![8, 8], vec![5.15, 25.15]).unwrap()
}

fn assigned() -> RecordBatch {
    let ids: ArrayRef = rows().column(0).clone();
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values((0..16).map(|at| at / 8)));
    RecordBatch::try_from_iter([(IMAGE_ID, ids), ("cluster", numbers)]).unwrap()
}

fn key(table: &RecordBatch) -> String {
    clusters::sorted(std::slice::from_ref(table)).unwrap().key()
}

/// Numbers, sizes and centroids by those lines, and what the run said.
fn refined(lines: &[String], order: &[usize]) -> (RecordBatch, Record) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("names.csv"), format!("{HEADER}\n{}\n", lines.join("\n"))).unwrap();
    let inputs = [(FEATURES, rows().schema()), (CLUSTERS, clusters_table().schema()), (ASSIGNED, assigned().schema())];
    let operator: Refine = trial::bind_in(folder.path(), json!({}), &inputs).unwrap();
    let schema = operator.schema();
    let parts: Vec<RecordBatch> = order.iter().map(|&at| rows().slice(at * 4, 4)).collect();
    let tables = Memory([(FEATURES, parts), (CLUSTERS, vec![clusters_table()]), (ASSIGNED, vec![assigned()])].into());
    let mut record = Record::default();
    trial::kernel(operator, 3, 1).unwrap().run(&tables, &mut record).unwrap();
    assert_eq!(record.batches[0].schema(), schema);
    (record.batches[0].clone(), record)
}

fn told(table: &RecordBatch) -> Vec<(i32, i64, f32)> {
    let clusters::Sorted { numbers, sizes, centroids, .. } = clusters::sorted(std::slice::from_ref(table)).unwrap();
    numbers
        .into_iter()
        .zip(sizes.unwrap())
        .zip(centroids)
        .map(|((number, size), centroid)| (number, size, centroid))
        .collect()
}

fn line(key: &str, cluster: i32, parts: u32, seen: &str, at: u32) -> String {
    format!("clusters,{key},{cluster},split,{parts},{seen},,2026-11-27T10:00:{at:02}Z")
}

const ALL: [usize; 4] = [0, 1, 2, 3];

#[test]
fn a_split_cluster_becomes_its_parts_under_new_numbers() {
    let key = key(&clusters_table());
    let lines = [line(&key, 1, 2, "", 0), format!("clusters,{key},0,mixed,,,,")];
    let (table, record) = refined(&lines, &ALL);
    let rows = told(&table);
    assert_eq!(rows.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(), [(0, 8), (2, 4), (3, 4)]);
    let mut places: Vec<f32> = rows[1..].iter().map(|row| row.2).collect();
    places.sort_by(f32::total_cmp);
    assert!((places[0] - 20.15).abs() < 1e-4 && (places[1] - 30.15).abs() < 1e-4, "{rows:?}");
    assert_eq!(
        (record.values("split"), record.values("left"), record.values("clusters")),
        (vec![1.0], vec![0.0], vec![3.0])
    );
    assert_eq!(refined(&lines, &[3, 1, 0, 2]).0, table, "the order of rows changes no bit");
}

#[test]
fn nothing_to_split_leaves_the_clusters_as_they_are() {
    let (table, record) = refined(&[format!("clusters,{},0,name,hat,,,", key(&clusters_table()))], &ALL);
    assert_eq!(table, clusters_table());
    assert_eq!(record.values("split"), [0.0]);
}

#[test]
fn lines_are_followed_in_their_order_and_parts_are_split_again() {
    let first = key(&clusters_table());
    let one = [line(&first, 1, 2, "", 5)];
    let (table, _) = refined(&one, &ALL);
    let part = told(&table)[1];
    // One of the new clusters is split, in the table that was looked at; and cluster 0, looked at before both, in the first table.
    let both = [line(&key(&table), part.0, 2, "", 7), one[0].clone(), line(&first, 0, 2, "", 6)];
    let (table, record) = refined(&both, &ALL);
    assert_eq!(record.said, Vec::<String>::new());
    let rows = told(&table);
    let other = 5 - part.0;
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [other, 4, 5, 6, 7]);
    assert_eq!(rows.iter().map(|row| row.1).sum::<i64>(), 16);
}

#[test]
fn clusters_of_another_table_are_found_by_what_was_seen() {
    let other = "b3:00112233445566778899aabbccddeeff";
    let (table, _) = refined(&[line(other, 40, 2, "c0;c1;d0;gone", 0)], &ALL);
    assert_eq!(told(&table).iter().map(|row| row.0).collect::<Vec<_>>(), [0, 2, 3]);
    let (table, record) = refined(&[line(other, 40, 2, "a0;a1;d0;d1", 0), line(other, 41, 2, "a0;a1", 1)], &ALL);
    assert_eq!(told(&table).iter().map(|row| row.0).collect::<Vec<_>>(), [0, 1]);
    assert!(
        record.said[0].starts_with("the line that splits cluster 40 is left: the images that were seen"),
        "{:?}",
        record.said
    );
    assert_eq!((record.said.len(), record.values("left")), (2, vec![2.0]));
}

#[test]
fn images_that_are_alike_are_not_split() {
    let ids: Vec<String> = (0..4).map(|at| at.to_string()).collect();
    let (sizes, centroids) = kmeans::of_rows(&ids, &[1.0; 8], 2, &trial::context(0, 1), &|| false).unwrap();
    assert_eq!((sizes.iter().sum::<i64>(), centroids), (4, vec![1.0; 4]));
    assert!(sizes.contains(&0));
}

#[test]
fn faults_are_told_when_it_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("names.csv"), format!("{HEADER}\n{}\n", line("b3:x", 1, 2, "", 0))).unwrap();
    let wide = trial::features(&[("a", &[1.0, 2.0])]);
    let inputs = [(FEATURES, wide.schema()), (CLUSTERS, clusters_table().schema()), (ASSIGNED, assigned().schema())];
    let errors = trial::bind_in::<Refine>(folder.path(), json!({}), &inputs).err().unwrap();
    assert_eq!(errors[0].message, "centroids have 1 dimensions, but `feature` has 2");
    assert!(errors[1].message.contains("names.csv: line 2: `key` is b3:x"), "{errors:?}");
}
