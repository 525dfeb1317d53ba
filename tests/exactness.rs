//! The same tables for any number of threads, and any size of parts.

use tessera_tests::Place;

#[test]
fn neither_threads_nor_parts_matter() {
    let place = Place::new();
    crate::end_to_end::chain(&place, 50);
    // Training is exact for one number of threads: it is made once, and then reused whatever the number.
    let make = |arguments: &[&str]| {
        let run = place.tessera("run", &[&["--format", "json"], arguments].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        assert_eq!(run.stage("features")["rows_computed"], 50);
        ["features", "clusters", "assigned", "labelled", "puzzles"].map(|table| place.rows(table))
    };
    let first = make(&["--threads", "2"]);
    let force = ["--force", "features", "--force", "clusters", "--force", "assigned", "--force", "labelled"];
    for more in [["--threads", "1", "--set", "pipeline.part_rows=16"], ["--threads", "2", "--set", "pipeline.part_rows=16"]]
    {
        assert!(make(&[&more[..], &force[..]].concat()) == first, "{more:?}");
    }
    for rows in ["7", "33", "1024"] {
        let set = format!("pipeline.part_rows={rows}");
        let more = ["--threads", "1", "--set", &set, "--force", "images"];
        assert!(make(&[&more[..], &force[..]].concat()) == first, "parts of {rows} rows");
        let parts = place.sql("SELECT parts FROM stages WHERE stage = 'features'");
        assert_eq!(parts[0]["parts"], 50usize.div_ceil(rows.parse().unwrap()), "the parts really differ");
    }
}

/// Stages without a network: views of crops and other views, features, and what is made of features.
const WITHOUT_NETWORKS: &str = r#"
[pipeline]
part_rows = 16
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 48 }
varied = { op = "augment", input = "decoded", side = 32, brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1, gray = 0.2, keep = true }
crops = { op = "tile", input = "images", side = 24, scale = 48, keep = true }
gradients = { op = "hog", input = "crops" }
unit = { op = "normalize", input = "gradients" }
words = { op = "kmeans", input = "unit", k = 6 }
worded = { op = "assign", inputs = { features = "unit", clusters = "words" } }
bags = { op = "bag_of_words", input = "worded" }
directions = { op = "pca", input = "gradients", components = 5 }
short = { op = "project", inputs = { features = "gradients", components = "directions" } }
"#;

/// The numbers of a column of vectors, row by row.
fn vectors(place: &Place, table: &str, column: &str, order: &str) -> Vec<f64> {
    let rows = place.sql(&format!("SELECT {column} FROM {table} ORDER BY {order}"));
    let values = rows.iter().flat_map(|row| row[column].as_array().expect("a vector"));
    values.map(|value| value.as_f64().expect("a number")).collect()
}

#[test]
fn operators_without_networks_are_exact_for_threads_and_parts() {
    let place = Place::new();
    place.images(40).write("pipeline.toml", WITHOUT_NETWORKS);
    let make = |threads: &str, rows: &str| {
        let set = format!("pipeline.part_rows={rows}");
        let force = ["images", "varied", "crops", "gradients", "unit", "words", "worded", "bags", "directions", "short"];
        let mut arguments = vec!["-q", "--threads", threads, "--set", &set];
        arguments.extend(force.iter().flat_map(|stage| ["--force", stage]));
        let run = place.tessera("run", &arguments);
        assert_eq!(run.code, 0, "{}", run.err);
        let exact = ["varied", "crops", "gradients", "unit", "words", "worded", "bags"].map(|table| place.rows(table));
        (exact, vectors(&place, "directions", "direction", "component"), vectors(&place, "short", "feature", "image_id"))
    };
    let (exact, directions, short) = make("2", "16");
    assert!(exact.iter().all(|table| table.lines().count() > 6), "no table is empty");
    // 2 x 2 crops an image, and of each a block of 3 x 3 cells with 9 directions.
    assert_eq!((directions.len(), short.len()), (5 * 81, 5 * 160));
    for (threads, rows) in [("1", "16"), ("2", "7"), ("1", "1024")] {
        let (again, directions_again, short_again) = make(threads, rows);
        let parts = place.sql("SELECT parts FROM stages WHERE stage = 'images'")[0]["parts"].clone();
        assert_eq!(parts, 40usize.div_ceil(rows.parse().unwrap()), "the parts really differ");
        for (table, again) in exact.iter().zip(&again) {
            assert!(table == again, "{threads} threads, parts of {rows} rows: {}", table.lines().next().unwrap_or_default());
        }
        for (first, again) in [(&directions, &directions_again), (&short, &short_again)] {
            assert_eq!(first.len(), again.len());
            let largest = first.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            let worst = first.iter().zip(again).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 1e-6 * largest, "{threads} threads, parts of {rows} rows: off by {worst} of {largest}");
        }
    }
}

#[test]
fn training_is_exact_for_a_number_of_threads() {
    let place = Place::new();
    crate::end_to_end::chain(&place, 40);
    let weights = |arguments: &[&str]| {
        let run = place.tessera("run", &[&["-q", "--to", "pretext", "--threads", "2"], arguments].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        place.tessera("sql", &["--format", "json", "SELECT tensor, data FROM pretext ORDER BY tensor"]).out
    };
    let first = weights(&[]);
    assert!(first.len() > 100_000);
    assert!(weights(&["--force", "pretext"]) == first, "again");
    assert!(weights(&["--force", "images", "--force", "pretext", "--set", "pipeline.part_rows=9"]) == first, "other parts");
}

#[test]
fn a_view_that_is_kept_has_the_same_rows() {
    let place = Place::new();
    crate::end_to_end::chain(&place, 30);
    let made = |arguments: &[&str]| {
        let run = place.tessera("run", &[&["--format", "json", "--to", "puzzles"], arguments].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        run
    };
    made(&[]);
    let views = ["decoded", "puzzles"].map(|table| place.rows(table));
    let keep = ["--set", "decoded.keep=true", "--set", "puzzles.keep=true"];
    let run = made(&keep);
    assert_eq!((&run.stage("puzzles")["rows_computed"], &run.stage("puzzles")["parts_written"]), (&30.into(), &2.into()));
    let kept = ["decoded", "puzzles"].map(|table| {
        let query = format!("SELECT * FROM {table} ORDER BY 1");
        let answer = place.tessera("sql", &[&keep[..], &["--format", "csv", &query]].concat());
        assert_eq!(answer.code, 0, "{}", answer.err);
        answer.out
    });
    assert!(kept == views, "kept or not");
    assert_eq!(made(&keep).actions(), ["images:reuse", "decoded:reuse", "puzzles:reuse"]);
    // A new image has others before and behind it: every puzzle may change, and pixels do not.
    place.image(30);
    let run = made(&keep);
    assert_eq!((&run.stage("decoded")["rows_computed"], &run.stage("puzzles")["rows_computed"]), (&1.into(), &31.into()));
}
