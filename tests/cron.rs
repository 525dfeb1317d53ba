//! Runs that nobody looks at: what is printed when, exit codes, waiting for another run, what is new, and what is deleted afterwards.

mod history;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tessera_pipeline::store::Store;
use tessera_tests::{Answer, Place, binary, decoded, untimed};

static FILE: LazyLock<String> = LazyLock::new(|| {
    decoded(
        32,
        "on_error = \"drop\"",
        r#"[stage.features]
op = "hog"
input = "decoded"

[stage.clusters]
op = "kmeans"
input = "features"
k = 3
init = "previous"

[stage.assigned]
op = "assign"
inputs = { features = "features", clusters = "clusters" }
"#,
    )
});

fn place() -> Place {
    let place = Place::new();
    place.images(12).write("pipeline.toml", &*FILE);
    place
}

fn quiet(place: &Place, more: &[&str]) -> Answer {
    place.tessera("run", &[&["-q", "--exit-code"], more].concat())
}

#[test]
fn cron_hears_of_changes_alone() {
    let place = place();
    let first = quiet(&place, &[]);
    assert_eq!((first.code, first.err.as_str()), (3, ""));
    let said =
        ["images: 12 new\n", "assigned: 12 new, in clusters ", "made: images, features, clusters, assigned\ndone in "];
    assert!(said.iter().all(|said| first.out.contains(said)), "{}", first.out);
    let again = quiet(&place, &[]);
    assert_eq!((again.code, again.out.as_str(), again.err.as_str()), (0, "", ""));
    assert_eq!(place.tessera("run", &["-q"]).code, 0, "who does not ask is told no more than that it went well");

    let broken = place.image(12);
    let bytes = fs::read(place.path(&format!("photos/{broken}"))).unwrap();
    place.image(13);
    place.image(14);
    // Half an image.
    fs::write(place.path(&format!("photos/{broken}")), &bytes[..bytes.len() / 2]).unwrap();
    fs::remove_file(place.path("photos/green/0000.png")).unwrap();
    let changed = quiet(&place, &[]);
    assert_eq!(changed.code, 3, "{}", changed.err);
    let told: Vec<&str> = changed.out.lines().collect();
    assert_eq!(told[0], "images: 3 new, 1 gone", "{}", changed.out);
    assert!(told[1].starts_with("assigned: 2 new, in cluster") && told[1].contains("; 1 gone"), "{}", changed.out);
    assert!(told[2].starts_with(&format!("decoded: 1 dropped: {broken} (")), "{}", changed.out);

    let document = |more: &[&str]| place.tessera("run", &[&["-q", "--format", "json"], more].concat()).json();
    let same = document(&[]);
    assert_eq!((&same["changed"], &same["news"]), (&json!(false), &json!({"stages": [], "dropped": []})));
    fs::remove_file(place.path(&format!("photos/{broken}"))).unwrap();
    place.image(0);
    let found = document(&[]);
    assert_eq!(found["changed"], true);
    let images = json!({"stage": "images", "new": 1, "gone": 1, "changed": 0, "moved": null, "clusters": []});
    assert_eq!(found["news"]["stages"][0], images);
    let assigned = &found["news"]["stages"][1];
    assert_eq!((&assigned["stage"], &assigned["new"], &assigned["gone"]), (&json!("assigned"), &json!(1), &json!(0)));
    assert_eq!(assigned["clusters"].as_array().unwrap().len(), 1);
    assert_eq!(found["news"]["dropped"], json!([]), "what is gone is not dropped");
}

/// The time of a file is no change of a table, and neither is a table of the same rows that was made anew.
#[test]
fn the_same_rows_are_no_change() {
    let place = place();
    assert_eq!(quiet(&place, &[]).code, 3);
    let photo = fs::File::options().write(true).open(place.path("photos/green/0000.png")).unwrap();
    photo.set_modified(std::time::SystemTime::now() + Duration::from_secs(60)).unwrap();
    for more in [&[][..], &["--force", "features"]] {
        let same = quiet(&place, more);
        assert_eq!((same.code, same.out.as_str(), same.err.as_str()), (0, "", ""));
    }
}

/// A table that is an earlier one again has changed, though nothing was made.
#[test]
fn an_earlier_table_is_a_change() {
    let place = place();
    assert_eq!(quiet(&place, &[]).code, 3);
    let gone = place.path("photos/green/0000.png");
    let (bytes, modified) = (fs::read(&gone).unwrap(), fs::metadata(&gone).unwrap().modified().unwrap());
    fs::remove_file(&gone).unwrap();
    assert_eq!(quiet(&place, &["--to", "images"]).code, 3);
    fs::write(&gone, bytes).unwrap();
    fs::File::options().write(true).open(&gone).unwrap().set_modified(modified).unwrap();
    let back = quiet(&place, &["--to", "images"]);
    assert_eq!((back.code, back.out.lines().next().unwrap()), (3, "images: 1 new"), "{}", back.err);
}

#[test]
fn what_goes_wrong_is_one_message_with_its_time() {
    let place = place();
    fs::remove_dir_all(place.path("photos")).unwrap();
    fs::create_dir(place.path("photos")).unwrap();
    fs::write(place.path("photos/only.png"), b"no image").unwrap();
    let failed = quiet(&place, &[]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""));
    assert_eq!(failed.err.lines().count(), 1, "{}", failed.err);
    assert!(untimed(&failed.err).starts_with("error: ") && !failed.err.starts_with("error"), "{}", failed.err);
    let status = place.tessera("status", &[]).out;
    let last = status.lines().last().unwrap();
    assert!(last.starts_with("last run: 20") && last.contains("; it failed: "), "{status}");
    place.write("pipeline.toml", FILE.replace("side", "sides"));
    let wrong = quiet(&place, &[]);
    assert_eq!(wrong.code, 2);
    assert_ne!(untimed(&wrong.err), wrong.err, "faults as well");
}

#[test]
fn status_says_how_the_last_run_ended() {
    let place = place();
    let last = || {
        place
            .tessera("status", &[])
            .out
            .lines()
            .skip_while(|line| !line.starts_with("last"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(last(), Vec::<String>::new());
    assert_eq!(quiet(&place, &[]).code, 3);
    let one = last();
    assert!(one.len() == 1 && one[0].ends_with("; it made images, features, clusters, assigned"), "{one:?}");
    for _ in 0..2 {
        assert_eq!(quiet(&place, &[]).code, 0);
    }
    let two = last();
    assert!(two[0].starts_with("last run: 20") && two[0].ends_with("; nothing had changed"), "{two:?}");
    assert!(
        two[1].starts_with("last change: 20")
            && two[1].ends_with(", 2 runs before; it made images, features, clusters, assigned"),
        "{two:?}"
    );
    let changed = place.sql("SELECT count(*) FILTER (WHERE changed) AS n, count(DISTINCT run) AS runs FROM runs");
    assert_eq!(changed, [json!({"n": 4, "runs": 3})]);
}

/// A run that fails before its first stage, one that is under way, and one that was killed.
#[test]
fn status_says_of_runs_that_have_no_end() {
    let place = place();
    let faults = place.path("photos-elsewhere");
    fs::rename(place.path("photos"), &faults).unwrap();
    assert_eq!(quiet(&place, &[]).code, 2);
    assert!(!place.path(".tessera").exists(), "what never ran has no store");
    fs::rename(&faults, place.path("photos")).unwrap();
    assert_eq!(quiet(&place, &[]).code, 3);
    fs::rename(place.path("photos"), &faults).unwrap();
    assert_eq!(quiet(&place, &[]).code, 2);
    let status = place.tessera("status", &[]).out;
    let last: Vec<&str> = status.lines().filter(|line| line.starts_with("last")).collect();
    assert!(last[0].contains("; it failed: pipeline.toml: ") && last[0].contains("photos"), "{status}");
    assert!(last[1].ends_with(", 1 run before; it made images, features, clusters, assigned"), "{status}");
    let errors = place.sql("SELECT stage, error IS NOT NULL AS failed FROM runs WHERE stage IS NULL");
    assert_eq!(errors, [json!({"stage": null, "failed": true})]);
    fs::rename(&faults, place.path("photos")).unwrap();

    let slow = r#"
        [stage.slow]
        op = "command"
        input = "images"
        command = ["sleep", "60"]
        columns = { n = "int64" }
    "#;
    place.write("pipeline.toml", format!("{}{slow}", *FILE));
    let mut run = Command::new(binary())
        .args(["run", "pipeline.toml", "-q"])
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let says = |what: &str| {
        let start = Instant::now();
        loop {
            let status = place.tessera("status", &[]).out;
            match status.lines().find(|line| line.contains(what)) {
                Some(line) => return line.to_owned(),
                None => assert!(start.elapsed() < Duration::from_secs(20), "{status}"),
            }
        }
    };
    let line = says("; it makes slow");
    assert!(line.starts_with("under way: a run since 20") && line.contains(&format!("by process {} ", run.id())), "{line}");
    run.kill().unwrap();
    run.wait().unwrap();
    let line = says("ended from outside");
    assert!(line.contains("was killed while it made slow"), "{line}");
}

#[test]
fn lines_have_the_time() {
    let place = place();
    let run = place.tessera("run", &[]);
    assert!(run.err.lines().count() >= 8, "{}", run.err);
    for line in run.err.lines() {
        assert_ne!(untimed(line), line);
        assert!(line.starts_with("20") && line.as_bytes()[10] == b'T' && line.as_bytes()[19] == b'Z', "{line}");
    }
    assert!(run.err.contains("Z images: run (images: never run)"), "{}", run.err);
}

#[test]
fn a_run_waits_for_another_one() {
    let place = place();
    let store = Store::new(&place.path(".tessera"), "pipeline");
    let held = store.lock(&|_| {}).unwrap();
    let start = Instant::now();
    let vain = place.tessera("run", &["--wait", "1500ms"]);
    assert!(start.elapsed() >= Duration::from_millis(1500));
    assert_eq!(vain.code, 4, "{}", vain.err);
    let told: Vec<&str> = vain.err.lines().map(untimed).collect();
    let holder = format!("in use by process {}", std::process::id());
    assert_eq!(told.len(), 2, "who holds it is said once: {told:?}");
    assert!(told[0].starts_with("waiting for the store ") && told[0].contains(&holder), "{told:?}");
    assert!(told[1].starts_with("error: waited 1.5 s in vain: the store ") && told[1].contains(&holder), "{told:?}");
    let collected = place.tessera("gc", &["--delete", "--wait=0s"]);
    assert_eq!(collected.code, 4, "{}", collected.err);

    // The option stands before the file, and has no value.
    let mut call = Command::new(binary());
    call.args(["run", "--wait", "pipeline.toml", "-q"])
        .current_dir(place.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = call.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    // What the file says when its turn comes counts.
    place.write("pipeline.toml", FILE.replace("side = 32", "side = 40"));
    drop(held);
    let ended = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(out.contains("images: 12 new"), "{out}");
    assert_eq!(quiet(&place, &[]).code, 0, "it made what the file says now");
}

/// What a run changed before it failed is told by the next one that succeeds.
#[test]
fn news_of_a_run_that_failed_are_not_lost() {
    let place = place();
    assert_eq!(quiet(&place, &[]).code, 3);
    place.image(12);
    let failed = quiet(&place, &["--set", "clusters.k=100", "--set", "clusters.init=\"k-means++\""]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    fs::remove_file(place.path("photos/green/0000.png")).unwrap();
    let failed = quiet(&place, &["--set", "clusters.k=100", "--set", "clusters.init=\"k-means++\""]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    // One that is about other stages tells of those alone.
    let other = quiet(&place, &["--to", "images"]);
    assert_eq!((other.code, other.out.lines().next()), (3, Some("images: 1 new, 1 gone")), "{}", other.err);
    let next = quiet(&place, &[]);
    assert_eq!(next.code, 3, "{}", next.err);
    assert!(next.out.starts_with("assigned: 1 new, in cluster ") && next.out.contains("; 1 gone"), "{}", next.out);
    assert!(next.out.contains("made: features, clusters, assigned\n"), "{}", next.out);
    assert_eq!(quiet(&place, &[]).out, "");
}

/// Thirty days of some images more and some less: what is written grows by what comes, and small parts do not stay.
#[test]
fn daily_increments_stay_small() {
    let place = Place::new();
    place
        .images(60)
        .write("pipeline.toml", format!("[pipeline]\npart_rows = 20\n{}", FILE.split("\n[stage.clusters]").next().unwrap()));
    assert_eq!(quiet(&place, &[]).code, 3);
    let bytes = |stage: &str| -> u64 {
        let files = fs::read_dir(place.path(".tessera/pipeline").join(stage).join("parts")).unwrap();
        files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    let first = bytes("features");
    let mut next = 60;
    for day in 0..12 {
        for _ in 0..2 {
            place.image(next);
            next += 1;
        }
        // One of the first ones, of another part each day.
        let gone = day * 5;
        let (class, _) = [("green", 0), ("red", 1), ("blue", 2)][gone % 3];
        fs::remove_file(place.path(&format!("photos/{class}/{gone:04}.png"))).unwrap();
        assert_eq!(quiet(&place, &[]).code, 3);
    }
    let rows = place.sql("SELECT count(*) AS n FROM features");
    assert_eq!(rows, [json!({"n": 60 + 24 - 12})]);
    // 24 rows came to 60; small parts were written together a few times.
    assert!(bytes("features") < first * 3, "{} became {}", first, bytes("features"));
    let parts = place.sql("SELECT count(*) AS n FROM parts WHERE stage = 'features'")[0]["n"].as_i64().unwrap();
    assert!(parts <= 3 + 8 + 1, "{parts} parts");
}
