//! Snapshots of one key in a store: whoever made one, all who need it have it.

use std::fs;

use serde_json::{Value, json};
use tessera_tests::{Answer, Place};

const FILE: &str = r#"
[pipeline]
part_rows = 8
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 32, on_error = "drop" }
gradients = { op = "hog", input = "decoded" }
clusters = { op = "kmeans", input = "gradients", k = 3 }
assigned = { op = "assign", inputs = { features = "gradients", clusters = "clusters" } }
"#;

/// A folder with a broken image, and its pipeline run once.
fn place() -> Place {
    let place = Place::new();
    place.images(20).write("one.toml", FILE);
    place.write("photos/red/broken.png", "no picture");
    let run = place.call("run", "one.toml", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    place
}

fn ran(place: &Place, file: &str) -> Answer {
    let run = place.call("run", file, &["--format", "json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

fn sql(place: &Place, file: &str, query: &str) -> Value {
    place.call("sql", file, &["--format", "json", query]).json()
}

const ALL: [&str; 4] = ["images:reuse", "gradients:reuse", "clusters:reuse", "assigned:reuse"];

#[test]
fn two_files_with_the_same_stages_share_them() {
    let place = place();
    place.write("two.toml", FILE);
    let planned = place.call("plan", "two.toml", &["--format", "json"]);
    assert_eq!(planned.stage("images")["action"], "run", "nothing is hashed for a plan: {}", planned.out);
    let run = ran(&place, "two.toml");
    assert_eq!(run.actions(), ALL);
    assert!(run.err.contains("gradients: reuse (the snapshot of one/gradients has the same key)"), "{}", run.err);
    assert_eq!(place.digests("one"), place.digests("two"));
    for query in [
        "SELECT * FROM assigned ORDER BY 1",
        "SELECT * FROM dropped",
        "SELECT stage, name, epoch, value FROM metrics ORDER BY 1, 2, 3",
        "SELECT stage, rows, file FROM parts ORDER BY 1, 3",
        "SELECT count(pixels) AS n FROM decoded",
    ] {
        assert_eq!(sql(&place, "one.toml", query), sql(&place, "two.toml", query), "{query}");
    }
    let stray = sql(&place, "two.toml", "SELECT count(*) AS n FROM metrics m JOIN snapshots s USING (stage, snapshot)");
    assert!(stray[0]["n"].as_u64().unwrap() > 0, "metrics belong to the snapshot that is here");
    assert_eq!(ran(&place, "two.toml").actions(), ALL, "and now they are its own");
    assert_eq!(place.strays("two").iter().filter(|path| !path.starts_with("one/")).count(), 0);
}

#[test]
fn what_one_pipeline_collects_another_keeps() {
    let place = place();
    place.write("two.toml", FILE);
    ran(&place, "two.toml");
    let before = place.digests("two");
    fs::remove_file(place.path("photos/red/0001.png")).unwrap();
    ran(&place, "one.toml");
    let collected = place.call("gc", "one.toml", &["--keep-runs", "0", "--delete", "--format", "json"]).json();
    assert!(!collected.as_array().unwrap().is_empty());
    assert_eq!(place.digests("two"), before, "whole, every byte checked");
    fs::remove_dir_all(place.path(".tessera/one")).unwrap();
    assert_eq!(place.digests("two"), before);
}

#[test]
fn a_renamed_stage_has_its_table_and_its_dropped_rows() {
    let place = place();
    let renamed = FILE.replace("images = { op", "photos = { op").replace("input = \"images\"", "input = \"photos\"");
    let renamed = renamed.replace("gradients = {", "hogs = {").replace("\"gradients\"", "\"hogs\"");
    place.write("one.toml", renamed);
    let run = ran(&place, "one.toml");
    assert_eq!(run.actions(), ["photos:reuse", "hogs:reuse", "clusters:reuse", "assigned:reuse"]);
    assert_eq!(sql(&place, "one.toml", "SELECT count(pixels) AS n FROM decoded"), json!([{ "n": 20 }]), "bytes are found");
    // Rows that are copied come from the parts that were taken over.
    place.image(21);
    let more = ran(&place, "one.toml");
    assert_eq!(more.stage("hogs")["rows_computed"], 1, "{}", more.out);
    let kept = FILE.replace("on_error = \"drop\"", "on_error = \"drop\", keep = true");
    place.write("three.toml", &kept);
    ran(&place, "three.toml");
    place.write("three.toml", kept.replace("decoded = {", "pictures = {").replace("\"decoded\"", "\"pictures\""));
    let run = ran(&place, "three.toml");
    assert!(run.actions().iter().all(|action| action.ends_with(":reuse")), "{}", run.out);
    let dropped = sql(&place, "three.toml", "SELECT DISTINCT stage, image_id FROM dropped WHERE stage = 'pictures'");
    assert_eq!(dropped, json!([{ "stage": "pictures", "image_id": "red/broken.png" }]));
}

#[test]
fn a_damaged_snapshot_is_not_taken_over() {
    let place = place();
    let (_, features) = place.snapshots("one").remove_entry("gradients").unwrap();
    let path = place.path(".tessera/one/gradients/parts").join(&features.parts[0].file);
    let whole = fs::read(&path).unwrap();
    // Its size tells; then its bytes do, when they are read.
    fs::write(&path, &whole[..100]).unwrap();
    place.write("two.toml", FILE);
    let run = ran(&place, "two.toml");
    assert_eq!(run.stage("gradients")["rows_computed"], 20, "{}", run.out);
    let mut flipped = whole.clone();
    flipped[200] ^= 1;
    fs::write(&path, &flipped).unwrap();
    place.write("three.toml", FILE.replace("k = 3", "k = 4"));
    fs::remove_dir_all(place.path(".tessera/two")).unwrap();
    let run = ran(&place, "three.toml");
    assert!(run.err.contains("is damaged"), "{}", run.err);
    fs::write(&path, &whole).unwrap();
    place.write("other.toml", FILE.replace("k = 3", "k = 4").replace("[pipeline]", "[pipeline]\nstore = \"other\""));
    ran(&place, "other.toml");
    assert_eq!(place.digests("three"), place.digests_in("other", "other"));

    let metrics = fs::read_dir(place.path(".tessera/one/clusters/snapshots")).unwrap();
    let metrics = metrics.map(|file| file.unwrap().path()).find(|path| path.extension().unwrap() == "parquet").unwrap();
    fs::write(metrics, "rotten").unwrap();
    place.write("four.toml", FILE);
    let run = ran(&place, "four.toml");
    assert_eq!(run.stage("clusters")["action"], "run");
    assert!(run.err.contains("the file of metrics") && run.err.contains("it is made anew"), "{}", run.err);
}

#[test]
fn a_crash_while_it_is_taken_over_leaves_nothing_half() {
    let place = place();
    place.write("two.toml", FILE);
    let mut failed = 0;
    for at in (1..300).step_by(5) {
        let _ = fs::remove_dir_all(place.path(".tessera/two"));
        let mut call = place.command("run", "two.toml", &["-q"]);
        let first = tessera_tests::run({
            call.env("TESSERA_FAULT", format!("eio:{at}+"));
            call
        });
        place.snapshots("two");
        if first.code == 0 {
            break;
        }
        failed += 1;
        assert_eq!(ran(&place, "two.toml").actions(), ALL, "step {at}");
        assert_eq!(place.digests("two"), place.digests("one"), "step {at}");
    }
    assert!(failed > 4, "{failed}");
}

#[test]
fn clusters_with_a_history_are_not_given_others() {
    let place = Place::new();
    let file = FILE.replace("k = 3", "k = 3, init = \"previous\"");
    place.images(20).write("one.toml", &file);
    place.write("two.toml", &file);
    ran(&place, "one.toml");
    place.image(20);
    ran(&place, "one.toml");
    // A new pipeline has no numbers to keep: it is given those that there are.
    let run = ran(&place, "two.toml");
    assert_eq!(run.stage("clusters")["action"], "reuse");
    place.image(21);
    ran(&place, "one.toml");
    let run = ran(&place, "two.toml");
    assert_eq!((&run.stage("gradients")["action"], &run.stage("clusters")["action"]), (&json!("reuse"), &json!("run")));
    assert!(run.err.contains("clusters: starts from the centroids of snapshot"), "{}", run.err);
}
