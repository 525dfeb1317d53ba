//! Pictures that would take more memory than there is.

use std::fs::File;

use serde_json::json;
use tessera_tests::{Place, peak_memory};

/// The most memory that a call of the binary had, in MiB.
fn peak(place: &Place, command: &str, arguments: &[&str]) -> u64 {
    let (answer, bytes) = peak_memory(place.command(command, "pipeline.toml", arguments));
    assert_eq!(answer.code, 0, "{}", answer.err);
    bytes >> 20
}

#[test]
#[cfg(target_os = "linux")]
fn many_crops_of_small_photos_take_little_memory() {
    let place = Place::new();
    place.images(3).write(
        "pipeline.toml",
        r#"
[stage.images]
op = "images"
path = "photos"

[stage.tiles]
op = "tile"
input = "images"
side = 256
stride = 32
scale = 1024
"#,
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    // 25 by 29 crops of each photo, of 192 KiB: 408 MiB.
    let query = "SELECT count(*) AS n, count(DISTINCT photo) AS photos, count(DISTINCT image_id) AS ids FROM tiles";
    assert_eq!(place.sql(query)[0], json!({"n": 2175, "photos": 3, "ids": 2175}));
    // The pixels are asked for as well.
    let query = "SELECT count(pixels) AS n FROM tiles";
    let most = peak(&place, "sql", &[query]);
    let idle = peak(&place, "sql", &["SELECT count(*) AS n FROM images"]);
    println!("{most} MiB, and {idle} MiB without crops");
    assert!(most < idle + 220, "{most} MiB, and {idle} MiB without crops");
}

#[test]
fn a_file_that_no_column_can_hold_is_left_out() {
    let place = Place::new();
    place.images(2).write(
        "pipeline.toml",
        r#"
[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 16
on_error = "drop"
keep = true
"#,
    );
    // Two GiB that take no place on the disk.
    File::create(place.path("photos/red/huge.jpg")).unwrap().set_len(2 << 30).unwrap();
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!((&run.stage("decoded")["rows_out"], &run.stage("decoded")["rows_dropped"]), (&json!(2), &json!(1)));
    let rows = place.sql("SELECT image_id, reason FROM dropped");
    assert_eq!(
        rows,
        [json!({"image_id": "red/huge.jpg", "reason": "has 2048 MiB, and at most 1024 MiB are read of an image"})]
    );
}
