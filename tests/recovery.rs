//! Interrupted runs, lost files, failed stages: the next run makes what is missing, and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tessera_tests::{Answer, Place, untimed};

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

/// Overwrites an image with one that no other is like.
fn new_picture(path: &Path, shade: u8) {
    image::RgbImage::from_pixel(72, 64, image::Rgb([shade; 3])).save(path).unwrap();
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
    // A finished part has a note beside it until its snapshot is published.
    place.kill_when(|| files(&place, "decoded/parts", "json").len() >= 2);
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
    new_picture(&path, 9);
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
    assert_eq!(other.actions(), ["images:reuse", "decoded:run"], "what has the same key is shared, and nothing else");
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
    new_picture(&place.path("photos/red/0004.png"), 9);
    run(&place, &[]);
    let whole = place.rows("decoded");
    assert_eq!(place.tessera("gc", &["--keep-runs", "0", "--delete"]).code, 0);
    assert!(place.rows("decoded") == whole);
    assert_eq!(run(&place, &[]).actions(), ["images:reuse", "decoded:reuse"]);
    new_picture(&place.path("photos/red/0007.png"), 10);
    let again = run(&place, &[]);
    assert_eq!((&again.stage("decoded")["rows_computed"], &again.stage("decoded")["rows_out"]), (&json!(1), &json!(12)));
}

const TRAINED: &str = r#"
[pipeline]
part_rows = 16

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 60
on_error = "drop"

[stage.puzzles]
op = "jigsaw"
input = "decoded"
permutations = 10

[stage.pretext]
op = "train"
input = "puzzles"
network = "small"
epochs = 3
batch = 8
metrics_every = 3
checkpoint_minutes = 0
"#;

/// 44 images, and one that is broken and left out.
fn trained() -> Place {
    let place = Place::new();
    place.images(44).write("photos/red/9999.png", "no image");
    place.write("pipeline.toml", TRAINED);
    place
}

/// What a training run left: the weights, the numbers but for those that tell time, and the rows that were left out.
fn left(place: &Place) -> [String; 3] {
    let csv = |query: &str| {
        let answer = place.tessera("sql", &["--format", "csv", query]);
        assert_eq!(answer.code, 0, "{}", answer.err);
        answer.out
    };
    let metrics =
        "SELECT epoch, step, name, value FROM metrics WHERE stage = 'pretext' AND name <> 'images_per_second' ORDER BY 2, 3";
    // Text has no more of a tensor than its size.
    let weights = format!("{:?}", place.digests("pipeline")["pretext"]);
    [weights, csv(metrics), csv("SELECT * FROM dropped ORDER BY image_id")]
}

/// The stage's checkpoint and others, and files that are about to become some.
fn checkpoints(place: &Place) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(place.path(".tessera/pipeline/pretext/checkpoints")) else { return Default::default() };
    entries.map(|entry| entry.unwrap().path()).partition(|path| path.extension().is_none())
}

#[test]
fn a_killed_training_ends_like_an_undisturbed_one() {
    let place = trained();
    let whole = {
        let place = trained();
        run(&place, &["--threads", "1"]);
        assert_eq!(checkpoints(&place), (vec![], vec![]), "a checkpoint does not outlive its snapshot");
        left(&place)
    };
    assert!(whole[2].contains("red/9999.png"), "{}", whole[2]);
    // Once behind a checkpoint, once while one is written.
    let mut seen = Vec::new();
    place.kill_when(|| {
        if let Some(modified) = checkpoints(&place).0.first().and_then(|path| fs::metadata(path).ok()?.modified().ok()) {
            seen.push(modified);
            seen.dedup();
        }
        seen.len() >= 6
    });
    assert_eq!(checkpoints(&place).0.len(), 1, "it was killed behind a checkpoint, and before its end");
    place.kill_when(|| !checkpoints(&place).1.is_empty());
    assert_eq!(checkpoints(&place).0.len(), 1, "that before the one that was being written");
    let again = run(&place, &["--threads", "1"]);
    let resumed = again.err.lines().find(|line| untimed(line).starts_with("pretext: resumed at epoch "));
    let step = resumed.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).expect(&again.err);
    assert!((5..15).contains(&step), "{resumed:?}");
    for (found, expected) in left(&place).iter().zip(&whole) {
        assert!(found == expected, "{found}\nand undisturbed\n{expected}");
    }
    assert_eq!(place.tessera("gc", &["--delete"]).code, 0);
    assert_eq!(checkpoints(&place), (vec![], vec![]));
}

#[test]
fn a_damaged_checkpoint_is_named_and_a_stale_one_collected() {
    let place = trained();
    place.kill_when(|| !checkpoints(&place).0.is_empty());
    let (found, _) = checkpoints(&place);
    let mut bytes = fs::read(&found[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&found[0], bytes).unwrap();
    let name = found[0].file_name().unwrap().to_str().unwrap();
    let garbage = place.tessera("gc", &["--format", "json"]).json().to_string();
    assert!(!garbage.contains(&format!("checkpoints/{name}\"")), "what the next run needs is none: {garbage}");

    // Another config has another key, and does not look at it.
    let other = run(&place, &["--threads", "1", "--set", "pretext.epochs=1"]);
    assert!(!other.err.contains("resumed") && !other.err.contains("checkpoint"), "{}", other.err);
    assert_eq!(checkpoints(&place).0, found);
    let again = run(&place, &["--threads", "1"]);
    assert!(again.err.contains(&format!("checkpoints/{name} is damaged: its ")), "{}", again.err);
    assert!(again.err.contains("; starting over") && !again.err.contains("resumed"), "{}", again.err);

    let sound = trained();
    sound.kill_when(|| !checkpoints(&sound).0.is_empty());
    std::thread::sleep(Duration::from_millis(1100));
    run(&sound, &["--threads", "1", "--set", "pretext.epochs=1"]);
    assert_eq!(checkpoints(&sound).0.len(), 1);
    let collected = sound.tessera("gc", &["--delete"]);
    assert!(collected.out.contains("checkpoints/"), "{}", collected.out);
    assert_eq!(checkpoints(&sound), (vec![], vec![]));
}
