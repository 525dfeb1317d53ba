//! What of the past stays in the store.

use super::*;

/// Snapshots of a stage that are in the store.
fn snapshots(place: &Place, stage: &str) -> usize {
    let folder = place.path(".tessera/pipeline").join(stage).join("snapshots");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".json")).count()
}

#[test]
fn history_is_kept_by_runs_that_changed_something_or_by_time() {
    let place = place();
    let garbage = |more: &[&str]| {
        let found = place.tessera("gc", &[&["--format", "json"], more].concat()).json();
        found.as_array().unwrap().iter().filter(|file| file["kind"] == "snapshot").count()
    };
    for at in 12..15 {
        place.image(at);
        assert_eq!(quiet(&place, &[]).code, 3);
    }
    for _ in 0..4 {
        assert_eq!(quiet(&place, &[]).code, 0);
    }
    assert_eq!(snapshots(&place, "assigned"), 3);
    assert_eq!(garbage(&[]), 0, "runs that changed nothing do not count");
    let all = garbage(&["--keep-runs", "1"]);
    assert!(all > 0);
    assert_eq!((garbage(&["--keep", "7 days"]), garbage(&["--keep", "1h", "--keep-runs", "1"])), (0, 0));
    // Of before the span, what was current when it began stays: here the newest.
    std::thread::sleep(Duration::from_millis(4100));
    assert_eq!(garbage(&["--keep", "3s"]), all);
    place.image(15);
    assert_eq!(quiet(&place, &["--gc", "--keep", "3s"]).code, 3);
    assert_eq!(snapshots(&place, "assigned"), 2, "this one, and the one that was current three seconds ago");
    let kept = place.tessera("diff", &["images", "--format", "json"]).json();
    assert_eq!((&kept["added"], &kept["removed"]), (&json!(1), &json!(0)));
    let last: Value = place.tessera("run", &["--gc", "--keep-runs", "1", "--format", "json"]).json();
    assert!(last["collected"]["files"].as_u64().unwrap() > 0, "{last}");
    assert_eq!(snapshots(&place, "assigned"), 1);
    for wrong in [&["--keep", "1s"][..], &["--gc", "--limit", "3"], &["--gc", "--keep", "soon"], &["--wait=soon"]] {
        assert_eq!(place.tessera("run", wrong).code, 2, "{wrong:?}");
    }
}

/// A table that was made long ago and was current since then is history as much as one that was made since then.
#[test]
fn history_is_what_was_current() {
    let place = place();
    let with = |k: usize| {
        place.write("pipeline.toml", FILE.replace("k = 3\ninit = \"previous\"", &format!("k = {k}")));
        assert_eq!(quiet(&place, &[]).code, 3);
        place.sql("SELECT snapshot FROM stages WHERE stage = 'clusters'")[0]["snapshot"].as_str().unwrap().to_owned()
    };
    let (three, four) = (with(3), with(4));
    assert_eq!(with(3), three, "taken as it is");
    let five = with(5);
    let difference = place.tessera("diff", &["clusters", "--format", "json"]).json();
    assert_eq!((&difference["old"], &difference["new"]), (&json!(three), &json!(five)));
    let previous = place.sql("SELECT count(*) AS n FROM snapshot('clusters', 'previous')");
    assert_eq!(previous, [json!({"n": 3})]);
    let goes = |more: &[&str]| {
        let found = place.tessera("gc", &[&["--format", "json"], more].concat()).json();
        let found: Vec<&Value> = found.as_array().unwrap().iter().collect();
        let of = found.iter().filter(|file| file["stage"] == "clusters" && file["kind"] == "snapshot");
        let names = of.filter_map(|file| file["path"].as_str()?.strip_suffix(".json")?.rsplit('/').next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(goes(&["--keep", "1h"]), Vec::<String>::new());
    assert_eq!(
        goes(&["--keep-runs", "2"]),
        [four],
        "it was current before those runs, though it was made after the first one"
    );
    assert_eq!(goes(&["--keep-runs", "1"]).len(), 2);
    assert_eq!(quiet(&place, &["--gc", "--keep-runs", "2"]).code, 0);
    assert_eq!(place.tessera("diff", &["clusters", "--format", "json"]).json()["old"], three);
}

/// What `path` wrote anew has the rows of the snapshot that it is a rewrite of: only one of the two stays.
#[test]
fn gc_keeps_rows_in_one_set_of_files() {
    let place = place();
    assert_eq!(quiet(&place, &[]).code, 3);
    fs::remove_file(place.path("photos/green/0000.png")).unwrap();
    assert_eq!(quiet(&place, &[]).code, 3);
    assert_eq!(place.tessera("path", &["features"]).code, 0);
    assert_eq!(snapshots(&place, "features"), 3, "both runs', and the rewrite");
    assert_eq!(place.tessera("gc", &["--delete"]).code, 0);
    assert_eq!(snapshots(&place, "features"), 2);
    assert_eq!(place.sql("SELECT count(*) AS n FROM features"), [json!({"n": 11})]);
    let before = place.tessera("diff", &["features", "--format", "json"]).json();
    assert_eq!((&before["added"], &before["removed"]), (&json!(0), &json!(1)), "the earlier table is still there");
    assert_eq!(quiet(&place, &[]).code, 0);
}
