//! Labels from another table.

use serde_json::json;
use tessera_tests::Place;

/// Six images, of which `labels.csv` knows some; `more` are keys of the join.
fn place(labels: &str, more: &str) -> Place {
    let place = Place::new();
    place.images(6).write("labels.csv", labels);
    let file = format!(
        "[stage]\nphotos = {{ op = \"images\", path = \"photos\" }}\nnames = {{ op = \"table\", path = \"labels.csv\" }}\n\
         joined = {{ op = \"label_join\", inputs = {{ images = \"photos\", labels = \"names\" }}{more} }}\n\
         decoded = {{ op = \"decode\", input = \"joined\", side = 32 }}\nshapes = {{ op = \"hog\", input = \"decoded\" }}\n"
    );
    place.write("pipeline.toml", file);
    place
}

/// Of the six: green 0 and 3, red 1, blue 2; red 4 and blue 5 are not there.
const FOUR: &str = "image_id,label,size\ngreen/0000.png,leaf,1\nred/0001.png,,2\nblue/0002.png,sky,3\ngreen/0003.png,leaf,4\n\
                    brown/0009.png,bark,5\n";

#[test]
fn unmatched_rows_are_kept_and_counted() {
    let place = place(FOUR, "");
    let rows = place.sql_after_run("SELECT image_id, label, size FROM joined");
    let row = |id: &str, label: Option<&str>, size: Option<i64>| json!({ "image_id": id, "label": label, "size": size });
    let expected = [
        row("blue/0002.png", Some("sky"), Some(3)),
        row("blue/0005.png", None, None),
        row("green/0000.png", Some("leaf"), Some(1)),
        row("green/0003.png", Some("leaf"), Some(4)),
        row("red/0001.png", None, Some(2)),
        row("red/0004.png", None, None),
    ];
    assert_eq!(rows, expected);
    let counts = place.sql("SELECT name, value FROM metrics WHERE stage = 'joined' ORDER BY name");
    let count = |name: &str, value: f64| json!({ "name": name, "value": value });
    assert_eq!(counts, [count("matched", 4.0), count("unmatched", 2.0), count("unused", 1.0)]);
    // What the labels came to is still a table of images.
    assert_eq!(place.sql("SELECT count(*) AS n FROM shapes")[0]["n"], 6);
}

#[test]
fn unmatched_rows_are_dropped_and_listed() {
    let place = place(FOUR, ", unmatched = \"drop\", columns = [\"size\"]");
    let rows = place.sql_after_run("SELECT label, size FROM joined");
    let labels: Vec<_> = rows.iter().map(|row| (row["label"].as_str().unwrap(), row["size"].as_i64().unwrap())).collect();
    assert_eq!(labels, [("blue", 3), ("green", 1), ("green", 4), ("red", 2)], "the folder's label is not asked for another");
    let dropped = place.sql("SELECT stage, image_id, reason FROM dropped ORDER BY image_id");
    let lost = |id: &str| json!({ "stage": "joined", "image_id": id, "reason": format!("no label of image_id `{id}`") });
    assert_eq!(dropped, [lost("blue/0005.png"), lost("red/0004.png")]);
    let counts = place.sql("SELECT value FROM metrics WHERE stage = 'joined' ORDER BY name");
    assert_eq!(counts, [json!({ "value": 4.0 }), json!({ "value": 2.0 }), json!({ "value": 1.0 })]);
}

/// A view is computed by whoever reads it: once, though checks and counts ask for its rows too.
#[test]
fn pixels_are_labelled_in_one_pass_and_take_a_byte_each() {
    for (unmatched, rows) in [("keep", 6), ("drop", 4)] {
        let place = place(FOUR, "");
        let file = "[stage]\nphotos = { op = \"images\", path = \"photos\" }\nnames = { op = \"table\", path = \"labels.csv\" }\n\
                    large = { op = \"decode\", input = \"photos\", side = 128 }\n\
                    joined = { op = \"label_join\", inputs = { images = \"large\", labels = \"names\" }, unmatched = \"@\" }\n";
        place.write("pipeline.toml", file.replace('@', unmatched));
        let run = place.tessera("run", &["--format", "json"]);
        assert_eq!((&run.stage("large")["rows_computed"], &run.stage("joined")["rows_out"]), (&json!(6), &json!(rows)));
        let counts = place.sql("SELECT value FROM metrics WHERE stage = 'joined' ORDER BY name");
        assert_eq!(counts, [json!({ "value": 4.0 }), json!({ "value": 2.0 }), json!({ "value": 1.0 })]);
        assert_eq!(place.sql("SELECT count(*) AS n FROM dropped"), [json!({ "n": 6 - rows })]);
        let same = "SELECT count(*) AS n FROM joined j JOIN large l ON j.image_id = l.image_id AND j.pixels = l.pixels";
        assert_eq!(place.sql(same), [json!({ "n": rows })]);
        let parts = &place.snapshots("pipeline")["joined"].parts;
        let (bytes, raw) = (parts.iter().map(|part| part.bytes).sum::<u64>(), rows * 128 * 128 * 3);
        assert!(bytes < raw + 16_384, "{bytes} bytes for {raw} of pixels");
        // What is wrong is found all the same, and nothing of such a table is published.
        place.write("labels.csv", "image_id,label\nnone.png,x\n");
        let refused = place.tessera("run", &["-q"]);
        assert!(refused.code == 1 && refused.err.contains("0 of 6 rows of `images` have a label"), "{}", refused.err);
        assert_eq!(place.sql("SELECT count(*) AS n FROM joined"), [json!({ "n": rows })]);
    }
}

#[test]
fn unmatched_rows_can_fail_the_run() {
    let answer = place(FOUR, ", unmatched = \"fail\"").tessera("run", &["-q"]);
    assert_eq!(answer.code, 1);
    let message = "stage `joined`: `labels` has no row of image_id `blue/0005.png`; rows of `images` without a label: 2";
    assert!(answer.err.contains(message), "{}", answer.err);
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    // A table's own ids are told apart when it is read; a query's need not be.
    let more = "SELECT * FROM names UNION ALL SELECT * FROM names WHERE image_id < 'c' AND size = 5 \
                UNION ALL SELECT * FROM names WHERE size IN (2, 5)";
    for unmatched in ["keep", "drop", "fail"] {
        let place = place(FOUR, &format!(", unmatched = \"{unmatched}\""));
        let sound = std::fs::read_to_string(place.path("pipeline.toml")).unwrap();
        let twice = sound.replace("labels = \"names\"", "labels = \"more\"");
        place.write("pipeline.toml", format!("{twice}more = {{ op = \"sql\", input = \"names\", query = \"{more}\" }}\n"));
        let answer = place.tessera("run", &["-q"]);
        assert_eq!(answer.code, 1);
        let message = "stage `joined`: `labels` has 3 rows of image_id `brown/0009.png`, and may have one of each; \
                       keys with several rows: 2";
        assert!(answer.err.contains(message), "{}", answer.err);
        place.write("pipeline.toml", sound);
        let answer = place.tessera("run", &["-q"]);
        assert_eq!(answer.code == 0, unmatched != "fail", "{}", answer.err);
    }
}

#[test]
fn vectors_can_be_labels() {
    let place = place(FOUR, "");
    let file = std::fs::read_to_string(place.path("pipeline.toml")).unwrap();
    let more = "some = { op = \"sql\", input = \"shapes\", query = \"SELECT * FROM shapes WHERE image_id < 'h'\" }\n\
                both = { op = \"label_join\", inputs = { images = \"photos\", labels = \"some\" } }\n";
    place.write("pipeline.toml", file + more);
    let rows = place.sql_after_run("SELECT image_id, feature IS NULL AS without FROM both");
    let without: Vec<_> = rows.iter().map(|row| row["without"].as_bool().unwrap()).collect();
    assert_eq!(without, [false, false, false, false, true, true]);
}

/// macOS writes `é` as two characters, and people write `./` before names: both name the image that there is.
#[test]
fn names_are_compared_as_people_mean_them() {
    let place = place("image_id,breed\n./cafe\u{301}/1.png,espresso\n././green/0000.png,leaf\n", "");
    let image = std::fs::read(place.path("photos/red/0001.png")).unwrap();
    place.write("photos/caf\u{e9}/1.png", image);
    let rows = place.sql_after_run("SELECT image_id, breed FROM joined WHERE breed IS NOT NULL ORDER BY breed");
    let row = |id: &str, breed: &str| json!({ "image_id": id, "breed": breed });
    assert_eq!(rows, [row("caf\u{e9}/1.png", "espresso"), row("green/0000.png", "leaf")]);
    let twice = "image_id,breed\n./green/0000.png,a\ngreen/0000.png,b\n";
    place.write("labels.csv", twice);
    let run = place.tessera("run", &["-q"]);
    assert!(run.err.contains("`labels` has 2 rows of image_id `green/0000.png`"), "{}", run.err);
}

#[test]
fn labels_that_match_nothing_are_refused_unless_that_is_allowed() {
    let labels = "image_id,breed\n0000.png,leaf\n0001.png,fire\n";
    for unmatched in ["", ", unmatched = \"drop\"", ", unmatched = \"fail\""] {
        let run = place(labels, unmatched).tessera("run", &["-q"]);
        assert_eq!(run.code, 1);
        let message = "stage `joined`: 0 of 6 rows of `images` have a label, by image_id: `blue/0002.png` against `0000.png`; \
                       allow_no_match = true permits it";
        assert!(run.err.contains(message), "{}", run.err);
    }
    assert_eq!(place(labels, ", allow_no_match = true").sql_after_run("SELECT * FROM joined").len(), 6);
    assert_eq!(place("image_id,breed\nred/0001.png,fire\n", "").sql_after_run("SELECT * FROM joined").len(), 6);
}
