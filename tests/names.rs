//! Names of clusters: what they make anew, what carries them to other clusters, and what is wrong with their file.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tessera_pipeline::store::Store;
use tessera_schemas::clusters;
use tessera_tests::{Place, clustered};

const HEADER: &str = "clusters,key,cluster,action,value,seen,by,at";

/// Clusters of gradients, their names, and what a classifier learns of those.
fn place() -> Place {
    let place = Place::new();
    let more = r#"
named = { op = "names", inputs = { clusters = "clusters", assigned = "assigned" } }
classifier = { op = "classifier", inputs = { features = "gradients", labels = "named" } }
sorted = { op = "classify", inputs = { features = "gradients", classifier = "classifier" } }
counts = { op = "sql", input = "assigned", query = "SELECT cluster, count(*) AS n FROM assigned GROUP BY cluster" }
"#;
    place.images(24).write("pipeline.toml", clustered(8, false) + more);
    place
}

fn run(place: &Place) -> tessera_tests::Answer {
    let answer = place.tessera("run", &["--format", "json"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    answer
}

fn key(place: &Place, stage: &str) -> String {
    let store = Store::new(&place.path(".tessera"), "pipeline").stage(stage);
    let manifest = store.current().unwrap().unwrap();
    let batches: Vec<_> = manifest.parts.iter().map(|part| store.read(part).unwrap()).collect();
    clusters::sorted(&batches).unwrap().key()
}

/// The images of a cluster, the nearest first.
fn members(place: &Place, table: &str, cluster: i64) -> Vec<String> {
    let rows = place.sql(&format!("SELECT image_id FROM {table} WHERE cluster = {cluster} ORDER BY distance, image_id"));
    rows.iter().map(|row| row["image_id"].as_str().unwrap().to_owned()).collect()
}

fn write(place: &Place, lines: &[String]) {
    place.write("names.csv", format!("{HEADER}\n{}\n", lines.join("\n")));
}

fn line(key: &str, cluster: i64, action: &str, value: &str, seen: &[String]) -> String {
    format!("clusters,{key},{cluster},{action},{value},{},ana,2026-11-27T10:00:0{cluster}Z", seen.join(";"))
}

fn actions(answer: &tessera_tests::Answer, wanted: &str) -> Vec<String> {
    answer.actions().into_iter().filter(|action| action.ends_with(wanted)).collect()
}

#[test]
fn a_name_makes_anew_what_reads_it_and_nothing_else() {
    let place = place();
    let first = run(&place);
    assert_eq!(first.stage("named")["rows_out"], 0, "nothing is named yet");
    let nothing = place.sql("SELECT count(*) AS n, count(label) AS labels FROM sorted");
    assert_eq!(nothing, [json!({ "n": 24, "labels": 0 })]);
    assert!(first.err.contains("no image has a label yet"), "{}", first.err);

    let key = key(&place, "clusters");
    write(&place, &[line(&key, 0, "name", "hat", &[]), line(&key, 1, "name", "dress", &[])]);
    let planned = place.tessera("plan", &["--format", "json"]);
    assert_eq!(
        planned.stage("named")["reasons"],
        json!(["named: names.csv: cluster 0 named hat, names.csv: cluster 1 named dress"])
    );
    assert_eq!(
        actions(&planned, ":reuse"),
        ["images:reuse", "gradients:reuse", "clusters:reuse", "assigned:reuse", "counts:reuse"]
    );
    run(&place);
    let labels =
        place.sql("SELECT label, how, certainty, count(*) AS n FROM named GROUP BY label, how, certainty ORDER BY label");
    let count = |cluster: i64| members(&place, "assigned", cluster).len();
    let row = |label: &str, n: usize| json!({ "label": label, "how": "given", "certainty": 1.0, "n": n });
    assert_eq!(labels, [row("dress", count(1)), row("hat", count(0))]);
    let all: BTreeSet<String> =
        place.sql("SELECT label FROM sorted").iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect();
    assert!(all.iter().all(|label| ["dress", "hat"].contains(&label.as_str())), "{all:?}");
    assert!(run(&place).actions().iter().all(|action| action.ends_with(":reuse")));

    // One name changes, and the line that was its.
    write(&place, &[line(&key, 0, "name", "hat", &[]), line(&key, 1, "name", "skirt", &[])]);
    let planned = place.tessera("plan", &["--format", "json"]);
    let expected = json!(["named: names.csv: cluster 1 named skirt, names.csv: cluster 1 named dress no more"]);
    assert_eq!(planned.stage("named")["reasons"], expected);
    let again = run(&place);
    assert_eq!(again.stage("gradients")["action"], "reuse");
    assert_eq!(again.stage("clusters")["action"], "reuse");
    // Who says so, and the order of lines, are no change.
    let lines = [line(&key, 1, "name", "skirt", &[]).replace(",ana,", ",bo,"), line(&key, 0, "name", "hat", &[])];
    write(&place, &lines);
    assert!(run(&place).actions().iter().all(|action| action.ends_with(":reuse")));
    // Without the file, nothing is named again.
    fs::remove_file(place.path("names.csv")).unwrap();
    assert_eq!(run(&place).stage("named")["rows_out"], 0);
}

#[test]
fn names_are_carried_to_clusters_that_are_found_anew() {
    let place = place();
    run(&place);
    let first = key(&place, "clusters");
    let seen: Vec<Vec<String>> = (0..3).map(|cluster| members(&place, "assigned", cluster)).collect();
    let names = ["hat", "dress", "skirt"];
    let lines: Vec<String> = (0..3)
        .map(|at| line(&first, at, "name", names[at as usize], &seen[at as usize][..seen[at as usize].len().min(9)]))
        .collect();
    write(&place, &lines);
    run(&place);
    let before = place.sql("SELECT image_id, label FROM named ORDER BY image_id");
    assert_eq!(before.len(), 24);
    // Other images came: other centroids, and another key.
    for at in 24..30 {
        place.image(at);
    }
    run(&place);
    assert_ne!(key(&place, "clusters"), first);
    let after = place.sql("SELECT image_id, label, how FROM named ORDER BY image_id");
    assert!(after.iter().all(|row| row["how"] == "carried"), "{after:?}");
    let name = |rows: &[Value], id: &Value| rows.iter().find(|row| row["image_id"] == *id).map(|row| row["label"].clone());
    let kept = before.iter().filter(|row| name(&after, &row["image_id"]) == Some(row["label"].clone())).count();
    assert!(kept * 4 >= before.len() * 3, "{kept} of {}", before.len());
    // A new image is of a cluster that has a name, too.
    assert!(after.len() > 24, "{}", after.len());
    // An image of its own.
    write(&place, &[lines.clone(), vec![format!("image,,{},name,shoe,,,", seen[0][0])]].concat());
    run(&place);
    let own = place.sql(&format!("SELECT label, how FROM named WHERE image_id = '{}'", seen[0][0]));
    assert_eq!(own, [json!({ "label": "shoe", "how": "image" })]);
}

#[test]
fn new_images_alone_are_classified() {
    let place = place();
    run(&place);
    let key = key(&place, "clusters");
    write(&place, &[line(&key, 0, "name", "hat", &[]), line(&key, 1, "name", "dress", &[])]);
    // The clusters, and what they are called, stay.
    let frozen = clustered(8, false)
        + r#"
some = { op = "sql", input = "named", query = "SELECT image_id, label FROM named WHERE image_id < 'blue/0020.png'" }
named = { op = "names", inputs = { clusters = "clusters", assigned = "assigned" } }
classifier = { op = "classifier", inputs = { features = "old", labels = "some" } }
old = { op = "sql", input = "gradients", query = "SELECT * FROM gradients WHERE image_id < 'blue/0020.png'" }
sorted = { op = "classify", inputs = { features = "gradients", classifier = "classifier" } }
"#;
    place.write("pipeline.toml", frozen);
    run(&place);
    for at in [24, 25] {
        place.image(at);
    }
    let again = run(&place);
    assert_eq!(again.stage("sorted")["rows_computed"], 2, "{}", again.out);
    assert_eq!(again.stage("sorted")["action"], "update");
}

#[test]
fn a_wrong_file_is_told_with_its_line() {
    let place = place();
    run(&place);
    let key = key(&place, "clusters");
    write(&place, &[line(&key, 0, "name", "hat", &[]), line(&key, 0, "name", "dress", &[])]);
    for command in ["check", "plan", "run"] {
        let answer = place.tessera(command, &[]);
        let told = "names.csv: lines 2 and 3: cluster 0 is named hat and named dress: keep one of the lines";
        assert!(answer.code != 0 && answer.err.contains(told), "{command}: {} {}", answer.code, answer.err);
        assert!(answer.err.contains("stage `named`"), "{}", answer.err);
    }
    write(&place, &["<<<<<<< ours".to_owned()]);
    let answer = place.tessera("check", &[]);
    assert!(answer.err.contains("names.csv: line 2: git left a conflict here"), "{}", answer.err);
    // What there is can be asked all the same.
    assert_eq!(place.sql("SELECT count(*) AS n FROM named"), [json!({ "n": 0 })]);
    place.write("names.csv", "");
    assert_eq!(place.tessera("check", &[]).code, 0);
}

#[test]
fn a_split_makes_clusters_of_its_own() {
    let place = Place::new();
    let more = r#"
refined = { op = "refine", inputs = { features = "gradients", clusters = "clusters", assigned = "assigned" } }
groups = { op = "assign", inputs = { features = "gradients", clusters = "refined" } }
named = { op = "names", inputs = { clusters = "refined", assigned = "groups" } }
"#;
    place.images(24).write("pipeline.toml", clustered(8, false) + more);
    run(&place);
    assert_eq!(place.rows("refined"), place.rows("clusters"), "nothing is to be split");
    let first = key(&place, "refined");
    assert_eq!(first, key(&place, "clusters"));
    let largest =
        place.sql("SELECT cluster FROM assigned GROUP BY cluster ORDER BY count(*) DESC, cluster LIMIT 1")[0]["cluster"]
            .as_i64()
            .unwrap();
    let split = line(&first, largest, "split", "2", &members(&place, "groups", largest));
    write(&place, std::slice::from_ref(&split));
    let planned = place.tessera("plan", &["--format", "json"]);
    assert_eq!(planned.stage("refined")["reasons"], json!([format!("refined: names.csv: cluster {largest} split in 2")]));
    run(&place);
    let numbers: Vec<i64> =
        place.sql("SELECT cluster FROM refined ORDER BY 1").iter().map(|row| row["cluster"].as_i64().unwrap()).collect();
    let expected: Vec<i64> = (0..3).filter(|number| *number != largest).chain([3, 4]).collect();
    assert_eq!(numbers, expected);
    // A name is no split: the clusters stay, and the next number is still the next.
    let second = key(&place, "refined");
    write(&place, &[split.clone(), line(&second, 3, "name", "hat", &[])]);
    let named = run(&place);
    assert_eq!(
        (named.stage("refined")["action"].clone(), named.stage("groups")["action"].clone()),
        (json!("reuse"), json!("reuse"))
    );
    assert_eq!(place.sql("SELECT DISTINCT label, cluster FROM named"), [json!({ "label": "hat", "cluster": 3 })]);
    // The other half is split as well, and the name of its sister is carried by what was seen.
    let seen = members(&place, "groups", 3);
    let lines = [
        split,
        line(&second, 3, "name", "hat", &seen[..seen.len().min(9)]),
        line(&second, 4, "split", "2", &members(&place, "groups", 4)),
    ];
    write(&place, &lines);
    run(&place);
    let numbers: Vec<i64> =
        place.sql("SELECT cluster FROM refined ORDER BY 1").iter().map(|row| row["cluster"].as_i64().unwrap()).collect();
    assert!(!numbers.contains(&4) && numbers.contains(&3) && numbers.iter().any(|&number| number >= 5), "{numbers:?}");
    let kept = place.sql("SELECT DISTINCT label, how FROM named WHERE cluster = 3");
    if seen.len() >= 3 {
        assert_eq!(kept, [json!({ "label": "hat", "how": "carried" })]);
    }
}
