//! Killed at any moment, by SIGKILL: nothing is lost that was finished, nothing published is made twice, nothing stays behind.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tessera_pipeline::store::Store;
use tessera_tests::{Dice, Place};

const FILE: &str = r#"
[pipeline]
name = "NAME"
store = "STORE"
part_rows = 2

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = SIDE
keep = true

[stage.gradients]
op = "hog"
input = "decoded"

[stage.clusters]
op = "kmeans"
input = "gradients"
k = 3

[stage.assigned]
op = "assign"
inputs = { features = "gradients", clusters = "clusters" }

[stage.labelled]
op = "sql"
inputs = { a = "assigned", i = "images" }
query = "SELECT image_id, a.cluster, i.label FROM a JOIN i USING (image_id)"
"#;
const STAGES: [&str; 6] = ["images", "decoded", "gradients", "clusters", "assigned", "labelled"];

/// Starts a command and kills it `after` a while that begins when it is `due`.
///
/// Says whether the command was killed; it may come to its end before.
fn killed(mut command: Command, due: impl Fn() -> bool, after: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut start = None;
    while start.is_none_or(|start: Instant| start.elapsed() < after) {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        if start.is_none() && due() {
            start = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let ended = child.wait_with_output().unwrap();
    let code = ended.status.code();
    assert!(matches!(code, None | Some(0)), "{code:?}: {}", String::from_utf8_lossy(&ended.stderr));
    code.is_none()
}

/// Whether a run has noted a finished part that no published snapshot has yet.
fn noted(place: &Place) -> bool {
    STAGES.iter().any(|stage| {
        let notes = std::fs::read_dir(place.path(&format!(".tessera/killed/{stage}/parts")));
        notes.is_ok_and(|notes| notes.flatten().any(|note| note.path().extension().is_some_and(|end| end == "json")))
    })
}

/// Kills runs, and now and then the collection behind them, until there were `count` kills.
fn kill(count: usize, seed: u64) {
    let place = Place::new();
    place.images(16);
    let store = Store::new(&place.path(".tessera"), "killed");
    let (mut dice, mut kills, mut in_gc, mut round, mut behind_parts) = (Dice(seed), 0, 0, 0, 0);
    while kills < count {
        // Another size of pictures and one image more: all is made anew.
        round += 1;
        place.image(15 + round);
        // The twin's store is another: nothing of it can be taken over.
        let file = |name: &str, store: &str| {
            FILE.replace("NAME", name).replace("STORE", store).replace("SIDE", &(24 + round % 16).to_string())
        };
        place.write("pipeline.toml", file("killed", ".tessera"));
        place.write("twin.toml", file("twin", "other"));
        let start = Instant::now();
        let twin = place.call("run", "twin.toml", &["-q"]);
        assert_eq!(twin.code, 0, "{}", twin.err);
        let whole = start.elapsed();
        let after = place.digests_in("other", "twin");

        let before = place.snapshots("killed");
        let mut finished: BTreeMap<(String, String), String> = BTreeMap::new();
        loop {
            let wait = if kills < count { whole.mul_f64(dice.roll() * 1.1) } else { Duration::from_secs(60) };
            // Every other kill comes behind a finished part, however fast the machine is.
            let behind = kills % 2 == 1;
            let wait = if behind { wait / 2 } else { wait };
            if !killed(place.command("run", "pipeline.toml", &["-q"]), || !behind || noted(&place), wait) {
                break;
            }
            kills += 1;
            for (stage, manifest) in place.snapshots("killed") {
                let old = before.get(&stage).map(|manifest| &manifest.id);
                if old == Some(&manifest.id) {
                    continue;
                }
                assert_eq!(tessera_tests::digest(&manifest), after[&stage], "{stage}: what is published is whole");
                for part in manifest.parts {
                    finished.insert((stage.clone(), part.key), part.file);
                }
            }
            for stage in STAGES {
                let (noted, damaged) = store.stage(stage).noted().unwrap();
                assert!(damaged.is_empty(), "{damaged:?}");
                for part in noted {
                    let file = finished.entry((stage.to_owned(), part.key)).or_insert_with(|| part.file.clone());
                    assert_eq!(*file, part.file, "{stage}: a part that was finished is not made again");
                }
            }
            behind_parts += usize::from(!finished.is_empty());
        }
        assert_eq!(place.digests("killed"), after, "round {round}: as if undisturbed");
        let mut parts = BTreeMap::new();
        for row in place.sql("SELECT stage, key, file FROM parts") {
            let text = |column: &str| row[column].as_str().unwrap().to_owned();
            let twice = parts.insert((text("stage"), text("key")), text("file"));
            assert_eq!(twice, None, "round {round}: {row}");
        }
        for (part, file) in &finished {
            assert_eq!(parts.get(part), Some(file), "round {round}: {part:?} was finished before a kill");
        }

        let collect = || place.command("gc", "pipeline.toml", &["--keep-runs", "0", "--delete"]);
        if kills < count && dice.roll() < 0.5 && killed(collect(), || true, whole.mul_f64(dice.roll() * 0.6)) {
            kills += 1;
            in_gc += 1;
            assert_eq!(place.digests("killed"), after, "round {round}: half a collection");
        }
        assert!(!killed(collect(), || true, Duration::from_secs(60)));
        assert_eq!(place.strays("killed"), Vec::<String>::new(), "round {round}");
        let again = place.tessera("run", &["--format", "json"]);
        assert!(again.actions().iter().all(|action| action.ends_with(":reuse")), "round {round}: {}", again.out);
    }
    println!(
        "{kills} kills, {behind_parts} behind finished parts, {in_gc} while collecting, over {round} rounds of changes"
    );
    assert!(kills == count && round > 1, "{kills} in {round} rounds");
    assert!(behind_parts > count / 4, "{behind_parts} of {kills} kills found parts that a run had finished");
}

#[test]
fn twenty_kills() {
    kill(20, 7);
}

#[test]
#[ignore = "minutes: 200 kills"]
fn two_hundred_kills() {
    kill(200, 2026);
}
