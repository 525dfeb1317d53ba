//! Files that change while nobody looks, and clocks that jump: no row of one picture under the key of another.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use image::{Rgb, RgbImage};
use serde_json::json;
use tessera_pipeline::run::listing;
use tessera_pipeline::store::Store;
use tessera_tests::Place;

const FILE: &str = r#"
[pipeline]
part_rows = 4

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 24
on_error = "drop"
KEEP
"#;

fn file(keep: bool) -> String {
    FILE.replace("KEEP", if keep { "keep = true" } else { "" })
}

/// A picture whose file has the same size whatever it shows.
fn bitmap(path: &Path, shade: u8, time: SystemTime) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(32, 32, Rgb([shade, 9, 200])).save(path).unwrap();
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

/// A file whose bytes are others than its listing says, though its size, times and inode are what they were: an image that was swapped on a
/// disk that keeps no times, say.
#[test]
fn a_listing_that_the_bytes_belie_is_forgotten() {
    let place = Place::new();
    place.images(6).write("pipeline.toml", file(true));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let pixels = place.rows("decoded");
    let store = Store::new(&place.path(".tessera"), "pipeline").stage("images");
    let lie = || {
        let mut known = listing::load(&store).unwrap();
        known.prints[1].digest = "0".repeat(32).into();
        // Old enough to be believed.
        known.since_ns = i64::MAX / 2;
        listing::save(&store, &known).unwrap();
    };
    lie();
    let refused = place.tessera("run", &["-q"]);
    assert!(refused.code == 1 && refused.err.contains("changed after it was listed; run again"), "{}", refused.err);
    let again = place.tessera("run", &["-q"]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(place.rows("decoded"), pixels);
    // Nobody need wait for that: --force believes nothing.
    lie();
    let forced = place.tessera("run", &["-q", "--force", "images"]);
    assert_eq!(forced.code, 0, "{}", forced.err);
    assert_eq!(place.rows("decoded"), pixels);
}

/// A link that is led to another file of the same size and time.
#[test]
fn another_file_under_the_same_name() {
    let place = Place::new();
    place.images(3).write("pipeline.toml", file(true));
    let time = SystemTime::now() - Duration::from_secs(3600);
    for (name, shade) in [("one", 1), ("two", 2)] {
        bitmap(&place.path(&format!("{name}.bmp")), shade, time);
    }
    let link = place.path("photos/red/link.bmp");
    let lead = |to: &str| {
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(place.path(to), &link).unwrap();
    };
    lead("one.bmp");
    // What was listed within two seconds of its last change is looked at again in any case.
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    lead("two.bmp");
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!(run.stage("decoded")["rows_computed"], 1, "{}", run.err);
    let shade = place.sql("SELECT CAST(pixels[1] AS INT) AS shade FROM decoded WHERE image_id = 'red/link.bmp'");
    assert_eq!(shade, [json!({"shade": 2})]);
}

/// Paths of a user's table lead nowhere but into the data set.
#[test]
fn a_table_reaches_no_other_files() {
    let place = Place::new();
    place.images(3).write("secret.png", fs::read(place.path("photos/red/0001.png")).unwrap());
    place.write(
        "pipeline.toml",
        r#"
[stage.images]
op = "images"
path = "photos"

[stage.changed]
op = "sql"
input = "images"
query = """SELECT image_id, digest, label, named_struct('path', CASE label
    WHEN 'red' THEN '../secret.png' WHEN 'blue' THEN '/dev/zero' ELSE source['path'] END, 'offset', source['offset'],
    'length', source['length'], 'row', source['row']) AS source FROM images"""

[stage.decoded]
op = "decode"
input = "changed"
side = 24
on_error = "drop"
keep = true
"#,
    );
    let run = place.tessera("run", &["-q", "--format", "json"]);
    assert_eq!(run.stage("decoded")["rows_out"], 1, "{}", run.err);
    let dropped = place.sql("SELECT image_id, reason FROM dropped ORDER BY image_id");
    assert_eq!(dropped.len(), 2, "{dropped:?}");
    for row in dropped {
        assert!(row["reason"].as_str().unwrap().contains("leads out of the data set"), "{row}");
    }
}

#[test]
fn the_same_size_and_time_as_young_as_the_listing() {
    let place = Place::new();
    place.images(6).write("pipeline.toml", file(true));
    // A time that a listing cannot vouch for, on whatever file system: so it is, too, when the clock is set back.
    let time = SystemTime::now() + Duration::from_secs(3600);
    let path = place.path("photos/red/young.bmp");
    bitmap(&path, 1, time);
    let size = fs::metadata(&path).unwrap().len();
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert_eq!(place.tessera("run", &["--format", "json"]).actions(), ["images:reuse", "decoded:reuse"]);
    bitmap(&path, 2, time);
    let now = fs::metadata(&path).unwrap();
    assert_eq!((now.len(), now.modified().unwrap()), (size, time));
    let planned = place.tessera("plan", &["--format", "json"]).stage("images");
    assert_eq!(planned["action"], "update", "{planned}");
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!(run.stage("decoded")["rows_computed"], 1, "{}", run.out);
    let shade = place.sql("SELECT CAST(pixels[1] AS INT) AS shade FROM decoded WHERE image_id = 'red/young.bmp'");
    assert_eq!(shade, [json!({"shade": 2})]);
}

#[test]
fn an_image_that_changes_behind_its_listing_is_refused_by_a_view() {
    let place = Place::new();
    place.images(6).write("pipeline.toml", file(false));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    fs::copy(place.path("photos/blue/0005.png"), place.path("photos/red/0004.png")).unwrap();
    let asked = place.tessera("sql", &["SELECT image_id, pixels FROM decoded"]);
    assert_eq!((asked.code, asked.out.as_str()), (1, ""));
    let said = "stage `decoded`: image `red/0004.png`: ";
    assert!(asked.err.contains(said) && asked.err.contains("changed after it was listed; run again"), "{}", asked.err);
    fs::remove_file(place.path("photos/red/0004.png")).unwrap();
    let asked = place.tessera("sql", &["SELECT image_id, pixels FROM decoded"]);
    assert!(asked.code == 1 && asked.err.contains(said) && asked.err.contains("cannot be read"), "{}", asked.err);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert_eq!(place.sql("SELECT count(pixels) AS n FROM decoded"), [json!({"n": 5})]);
}

#[test]
fn an_image_that_changes_during_a_run_is_neither_kept_nor_dropped() {
    let place = Place::new();
    place.images(150).write("pipeline.toml", file(true).replace("side = 24", "side = 200"));
    let mut run = place.command("run", "pipeline.toml", &["-q", "--threads", "1"]);
    let child = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (listed, start) = (place.path(".tessera/pipeline/images/current"), Instant::now());
    while !listed.exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The last of the order: most of a second is left before it is read.
    fs::copy(place.path("photos/blue/0005.png"), place.path("photos/red/0148.png")).unwrap();
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{err}");
    assert!(err.contains("image `red/0148.png`") && err.contains("changed after it was listed"), "{err}");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert!(place.sql("SELECT * FROM dropped").is_empty());
    let same = "SELECT count(*) AS n FROM decoded a JOIN decoded b USING (pixels) WHERE a.image_id = 'blue/0005.png'";
    assert_eq!(place.sql(same), [json!({"n": 2})], "it shows what it shows now");
}

#[test]
fn bytes_are_read_by_their_digest() {
    let place = Place::new();
    let query = "\n[stage.few]\nop = \"sql\"\ninput = \"images\"\nquery = \"SELECT image_id, source FROM images\"\n";
    place.images(3).write("pipeline.toml", format!("{}{query}", file(true).replace("\"images\"\nside", "\"few\"\nside")));
    let check = place.tessera("check", &[]);
    assert_eq!(check.code, 2, "{}", check.out);
    assert!(check.err.contains("`decode` needs a column `digest` beside `source`"), "{}", check.err);
}

#[test]
fn runs_keep_their_order_when_the_clock_is_set_back() {
    let place = Place::new();
    let rows: String = (0..40).map(|at| format!("{at},{}.5,{}.25\n", at * at % 17, at * 7 % 23)).collect();
    place.write("rows.csv", format!("image_id,x,y\n{rows}"));
    let text = r#"
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
k = 3
"#;
    place.write("pipeline.toml", text);
    let run = |k: &str| assert_eq!(place.tessera("run", &["-q", "--set", k]).code, 0);
    run("clusters.k=3");
    // As if that run had been made in the year 2128.
    let runs = place.path(".tessera/pipeline/runs");
    let mut records = fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path());
    let record = records.find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap();
    fs::rename(record, runs.join("5000000000000-00000000.json")).unwrap();
    run("clusters.k=4");
    run("clusters.k=5");
    let order = place.sql("SELECT run, rows_out, started < now() AS past FROM runs WHERE stage = 'clusters' ORDER BY run");
    let order: Vec<_> = order.iter().map(|row| (&row["rows_out"], &row["past"])).collect();
    assert_eq!(order, [(&json!(3), &json!(true)), (&json!(4), &json!(true)), (&json!(5), &json!(true))]);
    let garbage = |keep: &str| {
        let found = place.tessera("gc", &["--format", "json", "--keep-runs", keep]).json();
        found.as_array().unwrap().iter().filter(|file| file["kind"] != "record").count()
    };
    // A snapshot is a manifest, its metrics and a part.
    assert_eq!((garbage("2"), garbage("1")), (3, 6), "the last runs are the last ones, whatever the clock said");
}

#[test]
fn the_holder_of_a_store_is_named() {
    let place = Place::new();
    place.images(3).write("pipeline.toml", file(true));
    let held = Store::new(&place.path(".tessera"), "pipeline").lock(&|_| {}).unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    for call in [&["run"][..], &["gc", "--delete"]] {
        let answer = place.tessera(call[0], &call[1..]);
        assert_eq!((answer.code, answer.out.as_str()), (4, ""));
        let holder = format!("is in use by process {} on {}", std::process::id(), host.trim());
        assert!(answer.err.contains(&holder) && answer.err.contains(" since 20"), "{}", answer.err);
    }
    assert_eq!(place.tessera("plan", &[]).code, 0, "readers need no lock");
    drop(held);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
}
