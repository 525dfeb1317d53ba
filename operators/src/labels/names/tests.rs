use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Int32Array, StringArray};
use arrow::datatypes::Float32Type;
use serde_json::json;
use tessera_datasets::names::HEADER;

use super::*;
use crate::trial::{self, Memory, Record};

/// Three clusters; the fourth centroid's place says which clustering it is.
fn clusters_table(place: f32) -> RecordBatch {
    clusters::batch(&clusters::schema(3, 1), vec![1; 3], vec![0.0, 1.0, place]).unwrap()
}

/// Images `a0` to `a3`, `b0` to `b3`, and so on, of clusters 0, 1 and 2.
fn assigned() -> RecordBatch {
    let ids: Vec<String> = ["a", "b", "c"].iter().flat_map(|class| (0..4).map(move |at| format!("{class}{at}"))).collect();
    let ids: ArrayRef = Arc::new(StringArray::from(ids));
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values((0..12).map(|at| at / 4)));
    RecordBatch::try_from_iter([(IMAGE_ID, ids), ("cluster", numbers)]).unwrap()
}

fn bound(folder: &Path) -> NamesOf {
    trial::bind_in(folder, json!({}), &[(CLUSTERS, clusters_table(2.0).schema()), (ASSIGNED, assigned().schema())]).unwrap()
}

/// The labels by those lines, each as `id label how certainty`.
fn labels(lines: &str) -> Result<(Vec<String>, Record), RunError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("names.csv"), format!("{HEADER}\n{lines}")).unwrap();
    run(bound(folder.path()))
}

fn run(operator: NamesOf) -> Result<(Vec<String>, Record), RunError> {
    let table = assigned();
    let parts = vec![table.slice(0, 5), table.slice(5, 7)];
    let tables = Memory([(CLUSTERS, vec![clusters_table(2.0)]), (ASSIGNED, parts)].into());
    let mut record = Record::default();
    trial::kernel(operator, 0, 1)?.run(&tables, &mut record)?;
    let mut all = Vec::new();
    for batch in &record.batches {
        let text = |column: usize| batch.column(column).as_string::<i32>();
        let certainty = batch.column(4).as_primitive::<Float32Type>();
        let row = |row: usize| {
            format!("{} {} {} {:.2}", text(0).value(row), text(1).value(row), text(2).value(row), certainty.value(row))
        };
        all.extend((0..batch.num_rows()).map(row));
    }
    Ok((all, record))
}

fn key(place: f32) -> String {
    clusters::sorted(&[clusters_table(place)]).unwrap().key()
}

#[test]
fn names_of_these_clusters_are_given() {
    let lines = format!(
        "clusters,{0},0,name,Hat,,,\nclusters,{0},1,mixed,,,,\nimage,,b2,name,hat,,,\nimage,,gone,name,x,,,\n",
        key(2.0)
    );
    let (all, record) = labels(&lines).unwrap();
    let expected = ["a0 Hat given 1.00", "a1 Hat given 1.00", "a2 Hat given 1.00", "a3 Hat given 1.00", "b2 Hat image 1.00"];
    assert_eq!(all, expected);
    assert_eq!((record.values("images"), record.values("clusters_given")), (vec![5.0], vec![1.0]));
    assert_eq!((record.values("clusters_mixed"), record.values("share")), (vec![1.0], vec![5.0 / 12.0]));
}

#[test]
fn names_of_other_clusters_are_carried_by_what_was_seen() {
    let old = key(3.0);
    // Cluster 2 of then is cluster 0 of now, but for one image; of cluster 1, too few were seen.
    let lines = format!("clusters,{old},2,name,hat,a0;a1;./a2;b0,,\nclusters,{old},1,name,dress,c0;c1,,\n");
    let (all, record) = labels(&lines).unwrap();
    assert_eq!(all, ["a0 hat carried 1.00", "a1 hat carried 1.00", "a2 hat carried 1.00", "a3 hat carried 1.00"]);
    assert_eq!(record.values("clusters_carried"), [1.0]);
}

#[test]
fn nothing_is_named_without_a_file_or_lines() {
    let folder = tempfile::tempdir().unwrap();
    let operator = bound(folder.path());
    assert_eq!(operator.content().unwrap(), Vec::<String>::new());
    assert_eq!(run(operator).unwrap().0, Vec::<String>::new());
    assert_eq!(labels("").unwrap().0, Vec::<String>::new());
    std::fs::write(folder.path().join("names.csv"), "").unwrap();
    assert_eq!(bound(folder.path()).content().unwrap(), Vec::<String>::new());
}

#[test]
fn a_wrong_line_is_an_error_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("names.csv");
    std::fs::write(&path, format!("{HEADER}\nclusters,{},x,name,hat,,,\n", key(2.0))).unwrap();
    let told = format!("{}: line 2: `cluster` is x, and should be a number from 0", path.display());
    assert_eq!(bound(folder.path()).content().unwrap_err().to_string(), told);
    assert_eq!(bound(folder.path()).notes().unwrap_err().to_string(), told);
    let error = labels(&format!("clusters,{},3,name,hat,,,\n", key(2.0))).err().unwrap().to_string();
    assert!(
        error.ends_with("it has a line about cluster 3, and the clusters with its key have none of that number"),
        "{error}"
    );
    let inputs = [(CLUSTERS, clusters_table(2.0).schema()), (ASSIGNED, assigned().schema())];
    let errors = trial::bind::<NamesOf>(json!({ "path": "s3://bucket/names.csv" }), &inputs).err().unwrap();
    assert_eq!(errors[0].message, "names are written to a file on a disk, and this is a URL");
}

#[test]
fn each_line_is_in_the_key_and_a_run_keeps_what_it_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("names.csv");
    let line = |cluster: i32, name: &str, by: &str| format!("clusters,{},{cluster},name,{name},a0,{by},\n", key(2.0));
    let write = |lines: &[String]| std::fs::write(&path, format!("{HEADER}\n{}", lines.concat())).unwrap();
    write(&[line(0, "hat", "ana"), line(1, "dress", "ana")]);
    let operator = bound(folder.path());
    let first = operator.content().unwrap();
    let names: Vec<&str> = first.iter().filter_map(|entry| entry.splitn(3, ' ').nth(2)).collect();
    assert_eq!(names, ["names.csv: cluster 0 named hat", "names.csv: cluster 1 named dress"]);
    write(&[line(0, "hat", "bo"), line(1, "skirt", "ana")]);
    let second = bound(folder.path()).content().unwrap();
    assert_eq!(second[0], first[0], "who decided changes nothing");
    assert_ne!(second[1], first[1]);
    assert_eq!(operator.content().unwrap(), first);
    assert!(
        run(operator).unwrap().0.contains(&"b0 dress given 1.00".to_owned()),
        "the key and the table are of one reading"
    );
}
