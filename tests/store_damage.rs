//! Damage in the store: named, and made anew by `run` or refused by readers; never a wrong table, never a panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tessera_schemas::digest::TableDigest;
use tessera_tests::{Answer, Place, clustered, untimed};

fn file() -> String {
    clustered(4, true)
}

const TABLES: [&str; 5] = ["images", "decoded", "gradients", "clusters", "assigned"];

fn made() -> Place {
    let place = Place::new();
    place.images(12).write("pipeline.toml", file());
    let run = place.tessera("run", &["-q"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    place
}

/// Files of a stage's folder, by name.
fn files(place: &Place, folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path(".tessera/pipeline").join(folder)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    found
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Flips a bit in the middle of a file; its size and time stay.
fn flip(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    fs::write(path, bytes).unwrap();
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

/// What the tables are; the bytes of all their parts are checked.
fn tables(place: &Place) -> BTreeMap<String, TableDigest> {
    place.digests("pipeline")
}

/// No table, one line that names the file, no panic.
fn refused(answer: &Answer, file: &Path) {
    assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{}", answer.err);
    assert!(answer.err.starts_with("error: ") && answer.err.contains(name(file)), "{}", answer.err);
    assert!(answer.err.contains(" is damaged: expected ") && answer.err.contains(", found "), "{}", answer.err);
    assert!(answer.err.contains("a run makes it anew") && !answer.err.contains("panicked"), "{}", answer.err);
}

#[test]
fn a_flipped_bit_in_a_part_is_found_by_its_reader_and_made_anew() {
    let place = made();
    let whole = tables(&place);
    // Nothing reads a part of `assigned` in a run: the reader that found it tells the next run by a note beside it.
    for stage in ["decoded", "gradients", "clusters", "assigned"] {
        let part = files(&place, &format!("{stage}/parts"), "parquet").remove(0);
        flip(&part);
        let asked = place.tessera("sql", &[&format!("SELECT count(*) FROM {stage}")]);
        refused(&asked, &part);
        let status = place.tessera("status", &[]);
        assert_eq!(status.code, 1);
        assert!(status.err.contains(name(&part)) && status.out.contains(stage), "{}{}", status.out, status.err);
        let planned = place.tessera("plan", &["--format", "json"]).stage(stage);
        let reasons = planned["reasons"].to_string();
        assert!(planned["action"] != "reuse" && reasons.contains(name(&part)), "{planned}");

        let run = place.tessera("run", &["-q", "--format", "json"]);
        assert!(run.err.contains(&format!("warning: stage `{stage}`: the part ")), "{}", run.err);
        assert!(run.err.contains(name(&part)) && run.err.contains("expected checksum"), "{}", run.err);
        let made = run.stage(stage);
        assert_eq!(made["parts_written"], 1, "{made}");
        assert!(tables(&place) == whole, "{stage}");
        assert_eq!(place.tessera("status", &[]).code, 0);
        let again = place.tessera("run", &["--format", "json"]);
        assert!(again.actions().iter().all(|action| action.ends_with(":reuse")), "{}", again.out);
        assert!(!again.err.contains("damaged"), "{}", again.err);
    }
    assert_eq!(place.tessera("gc", &["--keep-runs", "0", "--delete"]).code, 0);
    for stage in TABLES {
        assert!(files(&place, &format!("{stage}/parts"), "damaged").is_empty(), "{stage}: notes go with their parts");
    }
    assert!(tables(&place) == whole);
}

#[test]
fn a_run_that_meets_a_damaged_part_makes_it_anew_and_goes_on() {
    let place = made();
    // Of each table, a part that the new stages read; `images` is read by both.
    let damaged: Vec<PathBuf> =
        ["images", "decoded"].map(|stage| files(&place, &format!("{stage}/parts"), "parquet").remove(1)).into();
    damaged.iter().for_each(|part| flip(part));
    let more = "\n[stage.again]\nop = \"hog\"\ninput = \"decoded\"\ncell = 6\n\
                [stage.counts]\nop = \"sql\"\ninput = \"images\"\nquery = \"SELECT label, count(*) AS n FROM images GROUP BY label\"\n";
    place.write("pipeline.toml", file() + more);
    let run = place.tessera("run", &["--format", "json"]);
    for part in &damaged {
        let found = run.err.lines().filter(|line| untimed(line).starts_with("warning: ") && line.contains(name(part)));
        assert!(found.count() >= 1, "{}", run.err);
    }
    let stage = |name: &str| run.stage(name);
    assert_eq!((&stage("images")["rows_out"], &stage("again")["rows_out"]), (&json!(12), &json!(12)), "{}", run.out);
    assert_eq!(stage("decoded")["rows_computed"], 4, "one part of three: {}", run.out);
    assert_eq!(stage("gradients")["action"], "reuse", "the same rows came out: {}", run.out);

    let fresh = Place::new();
    fresh.images(12).write("pipeline.toml", file() + more);
    assert_eq!(fresh.tessera("run", &["-q"]).code, 0);
    // Files that are made twice have two times.
    let images = "(SELECT image_id, label, digest, width, height, format, bytes FROM images)";
    for table in TABLES.into_iter().chain(["again", "counts"]).map(|table| if table == "images" { images } else { table }) {
        assert!(place.rows(table) == fresh.rows(table), "{table}");
    }
}

#[test]
fn rows_are_not_copied_from_damaged_parts() {
    let place = made();
    let whole = tables(&place);
    // Of the current snapshot, a part whose other rows hold: flipped before the folder changes.
    let damage = |stage: &str| {
        let file = place.snapshots("pipeline")[stage].parts[0].file.clone();
        flip(&place.path(&format!(".tessera/pipeline/{stage}/parts/{file}")));
        file
    };
    let remove = |at: usize| {
        let class = ["green", "red", "blue"][at % 3];
        fs::remove_file(place.path("photos").join(class).join(format!("{at:04}.png"))).unwrap();
    };
    // An image less in every part: the rows of the others are copied.
    for (stage, gone, rows) in [("decoded", [0, 5, 10], 9), ("images", [3, 8, 1], 6)] {
        let file = damage(stage);
        gone.into_iter().for_each(remove);
        let run = place.tessera("run", &["--format", "json"]);
        assert_eq!(run.stage("decoded")["rows_out"], rows, "{}", run.err);
        let told = run.err.lines().any(|line| untimed(line).starts_with("warning: ") && line.contains(&file));
        assert!(told, "{stage}, {file}: {}", run.err);
    }
    for at in [0, 1, 3, 5, 8, 10] {
        place.image(at);
    }
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert!(tables(&place) == whole);
}

#[test]
fn lost_and_cut_parts_are_named() {
    let place = made();
    let whole = tables(&place);
    for lost in [true, false] {
        let part = files(&place, "gradients/parts", "parquet").remove(1);
        if lost {
            fs::remove_file(&part).unwrap();
        } else {
            fs::write(&part, &fs::read(&part).unwrap()[..100]).unwrap();
        }
        let said = if lost { "bytes, found no file" } else { "bytes, found 100 bytes" };
        let asked = place.tessera("sql", &["SELECT * FROM gradients"]);
        refused(&asked, &part);
        assert!(asked.err.contains(said), "{}", asked.err);
        assert_eq!(place.tessera("sql", &["SELECT count(*) FROM decoded"]).code, 0, "other tables can be read");
        let run = place.tessera("run", &["-q", "--format", "json"]);
        assert!(run.err.contains(name(&part)) && run.err.contains(said), "{}", run.err);
        assert_eq!(run.stage("gradients")["rows_computed"], 4);
        assert!(tables(&place) == whole);
        assert_eq!(place.tessera("gc", &["--keep-runs", "0", "--delete"]).code, 0);
    }
}

#[test]
fn damaged_manifests_and_pointers_are_named_and_made_anew() {
    let place = made();
    let whole = tables(&place);
    type Damage = (&'static str, fn(&Place) -> PathBuf);
    fn manifest(place: &Place) -> PathBuf {
        let current = fs::read_to_string(place.path(".tessera/pipeline/decoded/current")).unwrap();
        let current = current.split_whitespace().next().unwrap();
        place.path(&format!(".tessera/pipeline/decoded/snapshots/{current}.json"))
    }
    fn pointer(place: &Place, text: &[u8]) -> PathBuf {
        let path = place.path(".tessera/pipeline/decoded/current");
        fs::write(&path, text).unwrap();
        path
    }
    let damages: [Damage; 9] = [
        ("a flipped bit in a manifest", |place| {
            flip(&manifest(place));
            manifest(place)
        }),
        ("another number in a manifest", |place| {
            let text = fs::read_to_string(manifest(place)).unwrap();
            fs::write(manifest(place), text.replacen("\"rows\": 4", "\"rows\": 5", 1)).unwrap();
            manifest(place)
        }),
        ("half a manifest", |place| {
            let text = fs::read(manifest(place)).unwrap();
            fs::write(manifest(place), &text[..text.len() / 2]).unwrap();
            manifest(place)
        }),
        ("an empty manifest", |place| {
            fs::write(manifest(place), "").unwrap();
            manifest(place)
        }),
        ("no manifest", |place| {
            fs::remove_file(manifest(place)).unwrap();
            place.path(".tessera/pipeline/decoded/current")
        }),
        ("an empty pointer", |place| pointer(place, b"")),
        ("half a pointer", |place| pointer(place, b"0123456789abcdef")),
        ("a pointer out of the folder", |place| pointer(place, b"../../../../../../../../../etc/passwd")),
        ("a pointer of other bytes", |place| pointer(place, &[0xff; 40])),
    ];
    for (damage, bring_about) in damages {
        let file = bring_about(&place);
        refused(&place.tessera("sql", &["SELECT count(*) FROM decoded"]), &file);
        let status = place.tessera("status", &[]);
        assert!(status.code == 1 && status.err.contains(name(&file)), "{damage}: {}", status.err);
        let planned = place.tessera("plan", &["--format", "json"]).stage("decoded");
        assert!(planned["reasons"].to_string().contains(name(&file)), "{damage}: {planned}");
        let run = place.tessera("run", &["--format", "json"]);
        assert!(
            run.err.contains("warning: stage `decoded`: the ") && run.err.contains(name(&file)),
            "{damage}: {}",
            run.err
        );
        assert_eq!(run.stage("decoded")["rows_out"], 12, "{damage}");
        assert_eq!(run.stage("gradients")["action"], "reuse", "{damage}: {}", run.out);
        assert!(tables(&place) == whole, "{damage}");
        assert_eq!(place.tessera("gc", &["--delete", "--keep-runs", "0"]).code, 0, "{damage}");
        assert!(tables(&place) == whole, "{damage}");
    }
}

#[test]
fn a_damaged_listing_is_named_and_nothing_made_anew() {
    let place = made();
    let listing = place.path(".tessera/pipeline/images/listing");
    let whole = fs::read(&listing).unwrap();
    for bytes in [&b"junk"[..], b"", &whole[..whole.len() / 2]] {
        fs::write(&listing, bytes).unwrap();
        let run = place.tessera("run", &["--format", "json"]);
        assert!(run.err.contains("warning: stage `images`: the listing ") && run.err.contains("is damaged"), "{}", run.err);
        assert!(run.actions().iter().all(|action| action.ends_with(":reuse")), "{}", run.out);
        let again = place.tessera("run", &["-q"]);
        assert_eq!((again.code, again.err.as_str()), (0, ""), "it was written anew");
    }
}

#[test]
fn a_damaged_note_is_named_and_its_part_made_anew() {
    let place = made();
    let whole = tables(&place);
    // As a kill leaves it: a finished part with its note, and no manifest that lists it.
    let part = files(&place, "decoded/parts", "parquet").remove(0);
    let note = part.with_extension("json");
    fs::write(&note, "{\"seal\":\"0123").unwrap();
    place.write("pipeline.toml", file().replace("side = 24", "side = 32"));
    let run = place.tessera("run", &["--format", "json"]);
    assert!(run.err.contains("warning: stage `decoded`: the note ") && run.err.contains(name(&note)), "{}", run.err);
    assert_eq!(run.stage("decoded")["rows_computed"], 12);
    place.write("pipeline.toml", file());
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert!(tables(&place) == whole);
}

#[test]
fn a_damaged_record_or_metric_is_named() {
    let place = made();
    let metrics = files(&place, "clusters/snapshots", "parquet").remove(0);
    flip(&metrics);
    let asked = place.tessera("sql", &["SELECT * FROM metrics"]);
    assert_eq!((asked.code, asked.out.as_str()), (1, ""));
    assert!(asked.err.contains(name(&metrics)) && asked.err.contains("`tessera run --force clusters`"), "{}", asked.err);
    assert_eq!(place.tessera("run", &["-q", "--force", "clusters"]).code, 0);
    assert_eq!(place.tessera("sql", &["SELECT * FROM metrics"]).code, 0);

    let record = files(&place, "runs", "json").remove(0);
    flip(&record);
    let asked = place.tessera("sql", &["SELECT * FROM runs"]);
    assert_eq!(asked.code, 0, "the others are there");
    assert!(asked.err.contains(name(&record)) && asked.err.contains("damaged"), "{}", asked.err);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
}

#[test]
fn a_newer_store_is_left_alone() {
    let place = made();
    let manifest = files(&place, "gradients/snapshots", "json").remove(0);
    let text = fs::read_to_string(&manifest).unwrap().replace("\"format\": 1", "\"format\": 9");
    fs::write(&manifest, &text).unwrap();
    let calls: [&[&str]; 5] =
        [&["sql", "SELECT 1"], &["plan"], &["run"], &["status"], &["gc", "--delete", "--keep-runs", "0"]];
    for call in calls {
        let answer = place.tessera(call[0], &call[1..]);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{call:?}: {}", answer.err);
        assert!(answer.err.contains(name(&manifest)) && answer.err.contains("use a newer one"), "{call:?}: {}", answer.err);
    }
    // Also where it is not the current one.
    fs::remove_file(place.path(".tessera/pipeline/gradients/current")).unwrap();
    let gc = place.tessera("gc", &["--delete", "--keep-runs", "0"]);
    assert_eq!(gc.code, 1, "{}", gc.err);
    assert_eq!(fs::read_to_string(&manifest).unwrap(), text);
}
