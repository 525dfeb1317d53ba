//! Damaged input: clear errors, nothing silent.

use std::fs;

use serde_json::json;
use tessera_tests::Place;

/// Forty files that are no sound images, among good ones.
fn damaged(place: &Place) -> Vec<String> {
    let png = fs::read(place.path("photos/green/0000.png")).unwrap();
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bomb.extend(30_000u32.to_be_bytes());
    bomb.extend(20_000u32.to_be_bytes());
    bomb.extend([8, 2, 0, 0, 0]);
    let crc = !bomb[12..].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    });
    bomb.extend(crc.to_be_bytes());
    bomb.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    (0..40)
        .map(|at| {
            let (name, bytes): (String, Vec<u8>) = match at % 5 {
                0 => (format!("empty{at}.jpg"), Vec::new()),
                1 => (format!("header{at}.png"), png[..20 + at].to_vec()),
                2 => (format!("half{at}.png"), png[..png.len() / 2].to_vec()),
                3 => (format!("text{at}.jpg"), b"this is a text, whatever its name says\n".to_vec()),
                _ => (format!("bomb{at}.png"), bomb.clone()),
            };
            place.write(&format!("photos/red/{name}"), bytes);
            format!("red/{name}")
        })
        .collect()
}

const FILE: &str = r#"
[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 32
on_error = "drop"
keep = true
"#;

#[test]
fn dropped_images_are_listed_with_their_reasons() {
    let place = Place::new();
    place.images(60).write("pipeline.toml", FILE);
    let mut bad = damaged(&place);
    let run = place.tessera("run", &["--format", "json"]);
    let stage = run.stage("decoded");
    assert_eq!((&stage["rows_out"], &stage["rows_dropped"]), (&json!(60), &json!(40)));
    let rows = place.sql("SELECT * FROM dropped ORDER BY image_id");
    bad.sort();
    assert_eq!(rows.iter().map(|row| row["image_id"].as_str().unwrap()).collect::<Vec<_>>(), bad);
    for row in &rows {
        let (path, reason) = (row["path"].as_str().unwrap(), row["reason"].as_str().unwrap());
        assert_eq!((&row["stage"], path), (&json!("decoded"), row["image_id"].as_str().unwrap()));
        let expected = match path.trim_start_matches("red/") {
            name if name.starts_with("empty") => "the file is empty",
            name if name.starts_with("text") => "it begins like text",
            name if name.starts_with("bomb") => "30000x20000 is more than max_megapixels",
            _ => "broken PNG",
        };
        assert!(reason.contains(expected), "{path}: {reason}");
    }

    // Failing names the first. Nothing of the kept table is lost by it.
    let fail = place.tessera("run", &["--set", "decoded.on_error=fail"]);
    assert_eq!(fail.code, 1);
    assert!(fail.err.contains("error: stage `decoded`: image `red/"), "{}", fail.err);
    assert!(fail.err.contains(&bad[0]), "the first of {bad:?}: {}", fail.err);
    assert_eq!(place.sql("SELECT count(*) AS n FROM decoded")[0]["n"], 60);

    // Mending the files mends the table.
    for id in &bad {
        fs::remove_file(place.path("photos").join(id)).unwrap();
    }
    let run = place.tessera("run", &["--format", "json", "--set", "decoded.on_error=fail"]);
    assert_eq!((&run.stage("decoded")["rows_out"], &run.stage("decoded")["rows_computed"]), (&json!(60), &json!(0)));
    assert!(place.sql("SELECT * FROM dropped").is_empty());
}

#[test]
fn folders_without_images() {
    let place = Place::new();
    place.write("photos/readme.txt", "nothing here");
    place.write("pipeline.toml", FILE);
    let run = place.tessera("run", &[]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("stage `images`") && run.err.contains("no image among 1 files"), "{}", run.err);
}

fn table(place: &Place, csv: &str, k: usize) {
    place.write("rows.csv", csv);
    let file = format!(
        "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n[stage.features]\nop = \"sql\"\ninput = \"rows\"\n\
         query = \"SELECT image_id, arrow_cast(make_array(x, y), 'FixedSizeList(2, Float32)') AS feature FROM rows\"\n\
         [stage.clusters]\nop = \"kmeans\"\ninput = \"features\"\nk = {k}\n"
    );
    place.write("pipeline.toml", file);
}

#[test]
fn more_clusters_than_rows_and_values_that_are_none() {
    let place = Place::new();
    table(&place, "image_id,x,y\na,1.0,2.0\nb,2.0,3.0\n", 3);
    let run = place.tessera("run", &[]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.err.contains("stage `clusters`") && run.err.contains('3') && run.err.contains('2'), "{}", run.err);
    table(&place, "image_id,x,y\na,1.0,2.0\nbad,NaN,3.0\nc,1.5,2.5\n", 2);
    let run = place.tessera("run", &[]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("stage `clusters`: image `bad`"), "{}", run.err);
}

#[test]
fn a_damaged_store_is_named() {
    let place = Place::new();
    place.images(4).write("pipeline.toml", FILE);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let snapshots = place.path(".tessera/pipeline/decoded/snapshots");
    let manifest = fs::read_dir(snapshots).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    let answer = place.tessera("sql", &["SELECT count(*) FROM decoded"]);
    assert_eq!(answer.code, 1);
    assert!(
        answer.err.contains(manifest.file_name().unwrap().to_str().unwrap()) && answer.err.contains("damaged"),
        "{}",
        answer.err
    );
    fs::write(&manifest, whole.replace("\"format\": 1", "\"format\": 99")).unwrap();
    let answer = place.tessera("sql", &["SELECT count(*) FROM decoded"]);
    assert!(answer.err.contains("has format 99"), "{}", answer.err);
}
