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
