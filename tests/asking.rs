//! Tables answer by themselves: with the images gone, a variable unset, the file edited.

use std::fs;

use serde_json::json;
use tessera_tests::{Answer, Place, run};

const PIPELINE: &str = r#"
[stage.images]
op = "images"
path = "${ASKED_PHOTOS}"

[stage.decoded]
op = "decode"
input = "images"
side = 32

[stage.gradients]
op = "hog"
input = "decoded"

[stage.clusters]
op = "kmeans"
input = "gradients"
k = 3
iterations = 5

[stage.assigned]
op = "assign"
inputs = { features = "gradients", clusters = "clusters" }

[stage.sizes]
op = "sql"
input = "assigned"
query = "SELECT cluster, count(*) AS n FROM assigned GROUP BY cluster"
"#;

fn made() -> Place {
    let place = Place::new();
    place.images(12).write("pipeline.toml", PIPELINE);
    let run = with(&place, "run", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    place
}

/// A call that knows where the photos are.
fn with(place: &Place, command: &str, arguments: &[&str]) -> Answer {
    let mut call = place.command(command, "pipeline.toml", arguments);
    call.env("ASKED_PHOTOS", "photos");
    run(call)
}

fn edit(place: &Place, from: &str, to: &str) {
    let text = fs::read_to_string(place.path("pipeline.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(place.path("pipeline.toml"), text.replace(from, to)).unwrap();
}

#[test]
fn nothing_but_the_store_is_needed() {
    let place = made();
    let ask = |place: &Place| place.tessera("sql", &["--format", "csv", "SELECT * FROM assigned ORDER BY image_id"]);
    let before = with(&place, "sql", &["--format", "csv", "SELECT * FROM assigned ORDER BY image_id"]);
    assert!(before.code == 0 && before.err.is_empty(), "{}", before.err);
    fs::rename(place.path("photos"), place.path("moved")).unwrap();
    edit(&place, "k = 3", "k = 4");
    for command in ["plan", "check"] {
        let refused = place.tessera(command, &[]);
        assert!(refused.code == 2 && refused.err.contains("ASKED_PHOTOS"), "{command}: {}", refused.err);
    }
    let note = "note: pipeline.toml: ";
    let answer = ask(&place);
    assert_eq!((answer.code, &answer.out), (0, &before.out), "{}", answer.err);
    assert!(answer.err.starts_with(note) && answer.err.contains("ASKED_PHOTOS"), "{}", answer.err);
    let status = place.tessera("status", &["--format", "json"]);
    let stages = status.json();
    let names: Vec<&str> = stages.as_array().unwrap().iter().map(|row| row["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["images", "gradients", "clusters", "assigned", "sizes"], "{}", status.err);
    let inputs = place.tessera("sql", &["--format", "csv", "SELECT inputs FROM stages WHERE stage = 'assigned'"]);
    assert_eq!(inputs.out, "inputs\n\"clusters, gradients\"\n");
    let report = place.tessera("report", &["clusters", "--format", "json"]);
    assert_eq!(report.json()[0]["stage"], "clusters", "{}", report.err);
    let out = place.path("assigned.csv");
    let export = place.tessera("export", &["assigned", "-o", out.to_str().unwrap()]);
    assert_eq!(export.code, 0, "{}", export.err);
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 13);
    let diff = place.tessera("diff", &["assigned", "current", "current", "--format", "json"]);
    assert_eq!(diff.json()["unchanged"], 12, "{}", diff.err);
    let gc = place.tessera("gc", &["--format", "json"]);
    assert_eq!(gc.json(), json!([]), "{}", gc.err);
    assert!(gc.err.contains("all stages stay"), "{}", gc.err);
    // What needs the images says so.
    let view = place.tessera("sql", &["SELECT count(*) FROM decoded"]);
    let said = "while the file has faults, there is what was made: images, gradients, clusters, assigned, sizes";
    assert!(view.code == 1 && view.err.contains("decoded") && view.err.contains(said), "{}", view.err);
    // With a value from the command line, the file has to be sound.
    let set = place.tessera("sql", &["--set", "clusters.k=3", "SELECT 1"]);
    assert_eq!((set.code, set.out.as_str()), (2, ""), "{}", set.err);
    // Broken in the middle of an edit.
    edit(&place, "[stage.sizes]", "[stage.sizes");
    let answer = ask(&place);
    assert_eq!((answer.code, &answer.out), (0, &before.out), "{}", answer.err);
    assert!(answer.err.contains("not TOML"), "{}", answer.err);
    // Nothing was made under that name: then the faults are the answer.
    edit(&place, "[stage.images]", "[pipeline]\nname = \"other\"\n[stage.images]");
    let answer = ask(&place);
    assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{}", answer.err);
}

#[test]
fn what_the_file_says_meanwhile_is_told() {
    let place = made();
    let ask = |query: &str| with(&place, "sql", &["--format", "csv", query]);
    let (sizes, one) = ("SELECT count(*) FROM sizes", "SELECT count(*) FROM gradients");
    assert_eq!(ask(sizes).err, "");
    edit(&place, "k = 3", "k = 4");
    let told =
        "note: `sizes` is of clusters.k = 3, and the file says 4: `tessera run pipeline.toml --to sizes` makes it so\n";
    assert_eq!(ask(sizes).err, told);
    assert_eq!(ask(one).err, "", "it does not depend on it");
    let status = with(&place, "status", &[]);
    assert!(status.err.contains("note: `clusters` is of clusters.k = 3, and the file says 4"), "{}", status.err);
    // The clusters alone are made anew: what was made of them is not.
    assert_eq!(with(&place, "run", &["-q", "--to", "clusters"]).code, 0);
    assert_eq!(ask("SELECT count(*) FROM clusters").err, "");
    let told = ask("SELECT count(*) FROM assigned").err;
    assert!(told.contains("`assigned` is of clusters.k = 3, and the file says 4"), "{told}");
    let export = with(&place, "export", &["assigned", "-q", "-o", place.path("a.csv").to_str().unwrap()]);
    assert!(
        export.code == 0 && export.err.contains("`assigned` is of clusters.k = 3, and the file says 4"),
        "{}",
        export.err
    );
    assert_eq!(with(&place, "run", &["-q"]).code, 0);
    assert_eq!(ask(sizes).err, "");
}

/// What a table was made from counts, and not what its inputs are by now.
#[test]
fn a_table_of_earlier_clusters_is_told_of_those() {
    let place = made();
    let ask = |query: &str| with(&place, "sql", &["--format", "csv", query]).err;
    assert_eq!(with(&place, "run", &["-q", "--set", "clusters.k=5", "--to", "clusters"]).code, 0);
    assert!(ask("SELECT 1 FROM clusters LIMIT 1").contains("`clusters` is of clusters.k = 5, and the file says 3"));
    assert_eq!(ask("SELECT 1 FROM assigned LIMIT 1"), "", "it is what the file says");
    assert_eq!(ask("SELECT * FROM sizes"), "");
    let status = with(&place, "status", &[]).err;
    assert!(status.contains("`clusters` is of") && !status.contains("`assigned`"), "{status}");
    // The same clusters made once more are others to whoever read the first ones.
    assert_eq!(with(&place, "run", &["-q"]).code, 0);
    assert_eq!(ask("SELECT * FROM sizes"), "");
    // The images behind it are others by now: the clusters of today are told of their k, and what is of the earlier ones of those images.
    place.image(70);
    assert_eq!(with(&place, "run", &["-q", "--set", "clusters.k=5", "--to", "clusters"]).code, 0);
    let told = ask("SELECT * FROM sizes");
    assert!(told.contains("`sizes` is of an earlier `images`") && !told.contains("clusters.k"), "{told}");
}

#[test]
fn a_table_has_the_columns_that_it_was_made_with() {
    let place = made();
    edit(
        &place,
        "SELECT cluster, count(*) AS n FROM assigned",
        "SELECT cluster, count(*) AS n, max(distance) AS far FROM assigned",
    );
    let answer = with(&place, "sql", &["--format", "csv", "SELECT * FROM sizes LIMIT 1"]);
    assert!(answer.out.starts_with("cluster,n\n"), "{}", answer.out);
    assert!(answer.err.contains("`sizes` is of sizes.query = "), "{}", answer.err);
    let missing = with(&place, "sql", &["SELECT far FROM sizes"]);
    assert!(missing.code == 1 && missing.err.contains("far"), "{}", missing.err);
    // A stage that the file does not name any more.
    edit(&place, "[stage.sizes]", "[stage.counts]");
    let earlier = with(&place, "sql", &["--format", "csv", "SELECT * FROM sizes LIMIT 1"]);
    assert!(earlier.code == 0 && earlier.out.starts_with("cluster,n\n"), "{}", earlier.err);
    assert_eq!(with(&place, "run", &["-q"]).code, 0);
    let gc = with(&place, "gc", &["--format", "json"]);
    let kinds: Vec<String> =
        gc.json().as_array().unwrap().iter().map(|file| format!("{}:{}", file["stage"], file["kind"])).collect();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| kind == "\"sizes\":\"stage\""), "{kinds:?}");
    assert_eq!(with(&place, "gc", &["--delete"]).code, 0);
    assert!(!place.path(".tessera/pipeline/sizes").exists());
    assert_eq!(with(&place, "sql", &["SELECT * FROM sizes"]).code, 1);
}

#[test]
fn a_broken_record_fails_nobody_who_does_not_ask_for_it() {
    let place = made();
    let runs = place.path(".tessera/pipeline/runs");
    let mut records = fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path());
    let record = records.find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap();
    fs::write(&record, "junk").unwrap();
    assert_eq!(with(&place, "run", &["-q"]).code, 0);
    for (command, arguments) in [("sql", vec!["SELECT 1"]), ("status", vec![]), ("gc", vec![]), ("report", vec!["clusters"])]
    {
        let answer = with(&place, command, &arguments);
        assert!(answer.code == 0 && answer.err.is_empty(), "{command}: {}", answer.err);
    }
    let answer = with(&place, "sql", &["--format", "json", "SELECT DISTINCT run FROM runs"]);
    assert_eq!(answer.json().as_array().unwrap().len(), 1);
    let name = record.file_name().unwrap().to_str().unwrap();
    assert!(answer.err.contains(name) && answer.err.contains("damaged"), "{}", answer.err);
    // The same of a stage's pointer: others answer.
    fs::write(place.path(".tessera/pipeline/clusters/current"), "junk").unwrap();
    assert_eq!(with(&place, "sql", &["SELECT count(*) FROM assigned"]).code, 0);
    let broken = with(&place, "sql", &["SELECT count(*) FROM clusters"]);
    assert!(broken.code == 1 && broken.err.contains("current"), "{}", broken.err);
    let status = with(&place, "status", &[]);
    assert!(status.code == 1 && status.err.contains("current"), "{}", status.err);
}
