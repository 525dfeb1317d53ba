//! Interrupted runs, lost files, failed stages: the next run makes what is missing, and no more.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tessera_tests::{Answer, Place, binary};

const KEPT: &str = r#"
[pipeline]
part_rows = 4

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 200
keep = true
"#;

fn kept(images: usize) -> Place {
    let place = Place::new();
    place.images(images).write("pipeline.toml", KEPT);
    place
}

fn run(place: &Place, arguments: &[&str]) -> Answer {
    let answer = place.tessera("run", &[&["--format", "json"], arguments].concat());
    assert_eq!(answer.code, 0, "{}", answer.err);
    answer
}

fn files(place: &Place, folder: &str, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place.path(".tessera/pipeline").join(folder)) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    found
}

#[test]
fn a_killed_run_goes_on_behind_its_finished_parts() {
    let place = kept(120);
    let mut first = Command::new(binary())
        .args(["run", "pipeline.toml", "--threads", "1"])
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    // A finished part has a note beside it until its snapshot is published.
    while files(&place, "decoded/parts", "json").len() < 2 && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!place.path(".tessera/pipeline/decoded/current").exists(), "it was killed before the end");
    let answer = place.tessera("sql", &["SELECT count(*) FROM decoded"]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("stage `decoded` has no snapshot yet"), "{}", answer.err);

    let again = run(&place, &[]);
    let count = |key: &str| again.stage("decoded")[key].as_u64().unwrap();
    assert_eq!(again.stage("images")["action"], "reuse");
    assert_eq!((count("rows_out"), count("rows_computed") + count("rows_reused")), (120, 120));
    assert!(count("rows_reused") >= 8, "two parts were finished: {}", again.out);
    assert_eq!(place.sql("SELECT count(DISTINCT image_id) AS n FROM decoded"), [json!({"n": 120})]);
    assert!(files(&place, "decoded/parts", "json").is_empty(), "no note outlives its snapshot");
}

#[test]
fn a_lost_part_is_made_anew_and_no_other() {
    let place = kept(20);
    run(&place, &[]);
    let whole = place.rows("decoded");
    let parts = files(&place, "decoded/parts", "parquet");
    assert_eq!(parts.len(), 5);
    for damage in ["lost", "cut"] {
        let part = &files(&place, "decoded/parts", "parquet")[2];
        let bytes = fs::read(part).unwrap();
        match damage {
            "lost" => fs::remove_file(part).unwrap(),
            _ => fs::write(part, &bytes[..bytes.len() / 2]).unwrap(),
        }
        let planned = place.tessera("plan", &["--format", "json"]);
        assert_eq!(planned.stage("decoded")["stale_parts"], 1, "{damage}: {}", planned.out);
        let again = run(&place, &[]);
        let stage = again.stage("decoded");
        assert_eq!(
            (&stage["rows_computed"], &stage["rows_reused"], &stage["parts_written"]),
            (&json!(4), &json!(16), &json!(1))
        );
        assert!(place.rows("decoded") == whole, "{damage}");
    }
}

#[test]
fn a_lost_listing_is_only_hashed_again() {
    let place = kept(8);
    run(&place, &[]);
    place.write(".tessera/pipeline/images/listing", "junk");
    let again = run(&place, &[]);
    assert_eq!(again.actions(), ["images:reuse", "decoded:reuse"]);
}

#[test]
fn an_image_that_changes_and_changes_back() {
    let place = kept(12);
    run(&place, &[]);
    let path = place.path("photos/red/0004.png");
    let (before, whole) = (fs::read(&path).unwrap(), place.rows("decoded"));
    fs::copy(place.path("photos/blue/0005.png"), &path).unwrap();
    assert_eq!(run(&place, &[]).stage("decoded")["rows_computed"], 1);
    assert!(place.rows("decoded") != whole);
    fs::write(&path, before).unwrap();
    let back = run(&place, &[]);
    assert_eq!(back.stage("decoded")["rows_computed"], 0, "{}", back.out);
    assert!(place.rows("decoded") == whole);
}

#[test]
fn a_renamed_class_is_a_new_label_of_the_same_pictures() {
    let place = kept(12);
    run(&place, &[]);
    fs::rename(place.path("photos/red"), place.path("photos/amber")).unwrap();
    let planned = place.tessera("plan", &["--format", "json"]);
    assert!(planned.stage("images")["reasons"].to_string().contains("4 added, 4 removed"), "{}", planned.out);
    let again = run(&place, &[]);
    assert_eq!(again.stage("decoded")["rows_out"], 12);
    let labels = place.sql("SELECT label, count(*) AS n FROM decoded GROUP BY label ORDER BY label");
    assert_eq!(
        labels,
        [json!({"label": "amber", "n": 4}), json!({"label": "blue", "n": 4}), json!({"label": "green", "n": 4})]
    );
}

#[test]
fn a_failed_stage_leaves_those_before_it() {
    let place = kept(6);
    place.write(
        "pipeline.toml",
        format!(
            "{KEPT}\n[stage.counts]\nop = \"sql\"\ninput = \"images\"\n\
             query = \"SELECT label, CAST(label AS INT) AS number FROM images\"\n"
        ),
    );
    let failed = place.tessera("run", &["--format", "json"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert!(failed.err.contains("error: stage `counts`") && failed.err.contains("Int32"), "{}", failed.err);
    assert_eq!(place.sql("SELECT count(*) AS n FROM decoded"), [json!({"n": 6})]);
    let runs = place.sql("SELECT stage, error IS NULL AS fine FROM runs ORDER BY stage");
    assert_eq!(runs, [json!({"stage": "decoded", "fine": false}), json!({"stage": "images", "fine": false})]);
    place.write("pipeline.toml", KEPT);
    assert_eq!(run(&place, &[]).actions(), ["images:reuse", "decoded:reuse"]);
}

#[test]
fn two_pipelines_in_one_store_do_not_meet() {
    let place = kept(6);
    place.write("other.toml", KEPT.replace("part_rows = 4", "name = \"other\"").replace("side = 200", "side = 10"));
    run(&place, &[]);
    let other = place.call("run", "other.toml", &["--format", "json"]);
    assert_eq!(other.actions(), ["images:run", "decoded:run"]);
    assert_eq!(run(&place, &[]).actions(), ["images:reuse", "decoded:reuse"]);
    let length = |file: &str| {
        let query = "SELECT DISTINCT array_length(pixels) AS n FROM decoded";
        place.call("sql", file, &["--format", "json", query]).json()
    };
    assert_eq!((length("pipeline.toml"), length("other.toml")), (json!([{"n": 120_000}]), json!([{"n": 300}])));
}

#[test]
fn the_seed_changes_what_draws_and_nothing_else() {
    let place = Place::new();
    let rows: String = (0..40).map(|at| format!("{at},{}.5,{}.25\n", at * at % 17, at * 7 % 23)).collect();
    place.images(6).write("rows.csv", format!("image_id,x,y\n{rows}"));
    let more = r#"
[stage.rows]
op = "table"
path = "rows.csv"

[stage.points]
op = "sql"
input = "rows"
query = "SELECT image_id, arrow_cast(make_array(x, y), 'FixedSizeList(2, Float32)') AS feature FROM rows"

[stage.clusters]
op = "kmeans"
input = "points"
k = 5
iterations = 1

[stage.puzzles]
op = "jigsaw"
input = "decoded"
permutations = 50
keep = true
"#;
    place.write("pipeline.toml", format!("{KEPT}{more}"));
    run(&place, &[]);
    let (clusters, puzzles) = (place.rows("clusters"), place.rows("puzzles"));
    let again = run(&place, &["--set", "pipeline.seed=1"]);
    let made: Vec<String> = again.actions().into_iter().filter(|action| !action.ends_with(":reuse")).collect();
    assert_eq!(made, ["clusters:run", "puzzles:run"]);
    assert!(place.rows("clusters") != clusters && place.rows("puzzles") != puzzles, "other draws");
    let back = run(&place, &[]);
    assert!(back.actions().iter().all(|action| action.ends_with(":reuse")), "{}", back.out);
    assert!(place.rows("clusters") == clusters && place.rows("puzzles") == puzzles);
}

#[test]
fn what_is_left_after_gc_is_enough_for_the_next_change() {
    let place = kept(12);
    run(&place, &[]);
    fs::copy(place.path("photos/blue/0005.png"), place.path("photos/red/0004.png")).unwrap();
    run(&place, &[]);
    let whole = place.rows("decoded");
    assert_eq!(place.tessera("gc", &["--keep-runs", "0", "--delete"]).code, 0);
    assert!(place.rows("decoded") == whole);
    assert_eq!(run(&place, &[]).actions(), ["images:reuse", "decoded:reuse"]);
    fs::copy(place.path("photos/blue/0008.png"), place.path("photos/red/0007.png")).unwrap();
    let again = run(&place, &[]);
    assert_eq!((&again.stage("decoded")["rows_computed"], &again.stage("decoded")["rows_out"]), (&json!(1), &json!(12)));
}
