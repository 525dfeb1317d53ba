//! Damaged input: clear errors, nothing silent.

use std::fs;
use std::sync::LazyLock;

use serde_json::json;
use tessera_tests::{Place, decoded};

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

static FILE: LazyLock<String> = LazyLock::new(|| decoded(32, "on_error = \"drop\"\nkeep = true", ""));

#[test]
fn dropped_images_are_listed_with_their_reasons() {
    let place = Place::new();
    place.images(60).write("pipeline.toml", &*FILE);
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
    // What stood among dropped rows has its own pixels and label.
    let among = place.digests("pipeline");
    let run = place.tessera("run", &["--format", "json", "--force", "decoded"]);
    assert_eq!(run.stage("decoded")["rows_computed"], 60);
    assert!(place.digests("pipeline") == among);
}

#[test]
fn folders_without_images() {
    let place = Place::new();
    place.write("photos/readme.txt", "nothing here");
    place.write("pipeline.toml", &*FILE);
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
    assert!(run.err.contains("stage `clusters`: k is 3, but there are 2 images"), "{}", run.err);
    table(&place, "image_id,x,y\na,1.0,2.0\nbad,NaN,3.0\nc,1.5,2.5\n", 2);
    let run = place.tessera("run", &[]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("stage `clusters`: image `bad`"), "{}", run.err);
}

#[test]
fn a_damaged_store_is_named() {
    let place = Place::new();
    place.images(4).write("pipeline.toml", &*FILE);
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

/// A sound JPEG of 96 x 80 pixels.
fn jpeg() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(96, 80, |x, y| image::Rgb([(x * 2) as u8, (y * 3) as u8, ((x * y) % 251) as u8]));
    let mut bytes = Vec::new();
    picture.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
    bytes
}

#[test]
fn jpegs_that_end_too_early() {
    let place = Place::new();
    place.write("pipeline.toml", &*FILE);
    let whole = jpeg();
    place.write("photos/whole.jpg", &whole);
    // Wherever it is cut, but for the last bytes, which only say that this is the end.
    let cuts: Vec<usize> = (1..20).map(|at| whole.len() * at / 20).collect();
    for (at, &cut) in cuts.iter().enumerate() {
        place.write(&format!("photos/cut{at:02}.jpg"), &whole[..cut]);
    }
    let run = place.tessera("run", &["--format", "json"]);
    let whole = place.sql("SELECT reason FROM dropped WHERE image_id = 'whole.jpg'");
    assert!(whole.is_empty(), "{whole:?}");
    assert_eq!(run.stage("decoded")["rows_dropped"], cuts.len(), "{}", run.out);
    assert_eq!(place.sql("SELECT image_id FROM decoded"), [json!({"image_id": "whole.jpg"})]);
    for row in place.sql("SELECT image_id, reason FROM dropped") {
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.contains("JPEG") && !reason.contains("panicked"), "{row}");
    }
}

#[test]
fn names_and_endings_do_not_matter() {
    let place = Place::new();
    place.images(3).write("pipeline.toml", FILE.replace("\"drop\"", "\"fail\""));
    place.write("photos/png in truth.jpg", fs::read(place.path("photos/red/0001.png")).unwrap());
    place.write("photos/JPEG in truth.PNG", jpeg());
    place.write("photos/naïve 猫/it's \"quoted\", 100%.jpeg", jpeg());
    place.write("photos/.hidden.jpg", "not an image");
    place.write("photos/notes.txt", "not an image");
    fs::create_dir_all(place.path("photos/folder.jpg/within")).unwrap();
    fs::copy(place.path("photos/red/0001.png"), place.path("photos/folder.jpg/within/a.png")).unwrap();
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!(run.stage("decoded")["rows_out"], 7, "{}", run.err);
    let labels = place.sql("SELECT image_id, label FROM images WHERE label IS NULL OR label > 'red' ORDER BY image_id");
    let expected =
        [json!({"image_id": "JPEG in truth.PNG", "label": null}), json!({"image_id": "png in truth.jpg", "label": null})];
    assert_eq!(labels, expected);
    let same = "SELECT count(*) AS n FROM decoded a JOIN decoded b USING (pixels) WHERE a.image_id = 'red/0001.png'";
    assert_eq!(place.sql(same), [json!({"n": 3})], "the same picture under three names");
}

#[test]
fn dropping_everything_leaves_an_empty_table() {
    let place = Place::new();
    let clusters = "\n[stage.puzzles]\nop = \"jigsaw\"\ninput = \"decoded\"\npermutations = 5\n\
                    [stage.network]\nop = \"train\"\ninput = \"puzzles\"\nnetwork = \"small\"\n";
    place.write("pipeline.toml", format!("{}{clusters}", FILE.replace("side = 32", "side = 48")));
    for at in 0..3 {
        place.write(&format!("photos/{at}.jpg"), "nothing");
    }
    let run = place.tessera("run", &["--format", "json", "--to", "decoded"]);
    assert_eq!((&run.stage("decoded")["rows_out"], &run.stage("decoded")["rows_dropped"]), (&json!(0), &json!(3)));
    assert_eq!(place.sql("SELECT count(*) AS n FROM puzzles"), [json!({"n": 0})]);
    let run = place.tessera("run", &[]);
    assert_eq!(run.code, 1, "{}", run.out);
    assert!(run.err.contains("error: stage `network`: there are too few examples to learn from"), "{}", run.err);
}

#[test]
fn training_goes_round_damaged_images() {
    let place = Place::new();
    place.images(24);
    let bad = damaged(&place);
    let more = "\n[stage.puzzles]\nop = \"jigsaw\"\ninput = \"decoded\"\npermutations = 5\n\
                [stage.network]\nop = \"train\"\ninput = \"puzzles\"\nnetwork = \"small\"\nepochs = 2\nbatch = 8\nmetrics_every = 1\n";
    let text = FILE.replace("side = 32", "side = 48").replace("keep = true\n", "");
    place.write("pipeline.toml", format!("{text}{more}"));
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!(run.stage("decoded")["rows_dropped"], bad.len(), "{}", run.out);
    assert_eq!(place.sql("SELECT count(*) AS n FROM dropped WHERE stage = 'decoded'"), [json!({"n": bad.len()})]);
    let steps = place.sql("SELECT max(step) AS n FROM metrics WHERE stage = 'network'");
    assert_eq!(steps, [json!({"n": 6})], "two passes over 24 sound images in steps of 8");
    // A puzzle's other image is never a damaged one, and every sound image has its puzzle.
    assert_eq!(place.sql("SELECT count(DISTINCT image_id) AS n FROM puzzles"), [json!({"n": 24})]);
    let refused = place.tessera("run", &["--set", "decoded.on_error=fail", "--force", "network"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("stage `decoded`: image `red/"), "{}", refused.err);
}

#[test]
fn questions_to_a_view_tell_of_what_they_left_out() {
    let place = Place::new();
    place.images(6).write("pipeline.toml", FILE.replace("keep = true\n", ""));
    place.write("photos/red/bad.jpg", "nothing");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let answer = place.tessera("sql", &["--format", "csv", "SELECT count(*) AS n FROM decoded"]);
    assert_eq!((answer.code, answer.out.as_str()), (0, "n\n6\n"), "{}", answer.err);
    assert!(answer.err.contains("red/bad.jpg"), "never silent: `{}`", answer.err);
}

#[test]
fn an_image_that_goes_away_behind_its_listing() {
    let place = Place::new();
    place.images(6).write("pipeline.toml", FILE.replace("keep = true\n", "").replace("\"drop\"", "\"fail\""));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    fs::remove_file(place.path("photos/red/0004.png")).unwrap();
    let answer = place.tessera("sql", &["SELECT count(pixels) FROM decoded"]);
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    assert!(answer.err.contains("stage `decoded`: image `red/0004.png`: "), "{}", answer.err);
    fs::remove_dir_all(place.path("photos")).unwrap();
    let answer = place.tessera("run", &[]);
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(answer.err.contains("photos` does not exist"), "{}", answer.err);
}

#[test]
fn vectors_that_are_no_numbers_name_their_image() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use tessera_schemas::features;

    let place = Place::new();
    let vectors = |at: usize, value: f32| {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..9).map(|at| format!("row{at}"))));
        let mut values: Vec<f32> = (0..27).map(|at| (at * at % 13) as f32).collect();
        values[at * 3 + 1] = value;
        let schema = features::schema([("feature", 3)]);
        let batch = RecordBatch::try_new(schema.clone(), vec![ids, features::array(values, 3)]).unwrap();
        let file = fs::File::create(place.path("rows.parquet")).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    };
    let file = |k: usize| {
        format!(
            "[stage.rows]\nop = \"table\"\npath = \"rows.parquet\"\n[stage.clusters]\nop = \"kmeans\"\ninput = \"rows\"\nk = {k}\n\
             [stage.assigned]\nop = \"assign\"\ninputs = {{ features = \"rows\", clusters = \"clusters\" }}\n"
        )
    };
    place.write("pipeline.toml", file(2));
    for value in [f32::NAN, f32::INFINITY] {
        vectors(7, value);
        let run = place.tessera("run", &[]);
        assert_eq!(run.code, 1);
        assert!(run.err.contains("error: stage `clusters`: image `row7`: "), "{}", run.err);
        assert_eq!(run.err.matches("`row7`").count(), 1, "said once: {}", run.err);
    }
    vectors(7, 1.0);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let exact = place.sql("SELECT sum(size) AS n FROM clusters");
    assert_eq!(exact, [json!({"n": 9})]);
    place.write("pipeline.toml", file(10));
    let run = place.tessera("run", &[]);
    assert!(run.err.contains("stage `clusters`: k is 10, but there are 9 images"), "{}", run.err);
    place.write("pipeline.toml", file(9));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert_eq!(place.sql("SELECT max(distance) AS d FROM assigned"), [json!({"d": 0.0})], "each is its own centre");
}

#[test]
fn tables_with_wrong_ids() {
    let place = Place::new();
    place.write("pipeline.toml", "[stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n");
    for (csv, said) in [
        ("image_id,x\na,1\nb,2\na,3\n", "row 2: the image_id `a` occurs for the second time"),
        ("image_id,x\na,1\n,2\n", "row 1: `image_id` is null"),
        ("image_id,x\na,1\nb,2,3\n", "line 3 has 3 values, and line 1 names 2 columns"),
    ] {
        place.write("rows.csv", csv);
        let run = place.tessera("run", &[]);
        assert!(run.code == 1 || run.code == 2, "{csv}: {}", run.out);
        assert!(run.err.contains(&format!("rows.csv: {said}")), "{csv}: {}", run.err);
    }
}

#[test]
fn every_reader_of_a_view_lists_what_it_left_out_once() {
    let place = Place::new();
    let more = "\n[stage.means]\nop = \"sql\"\ninput = \"decoded\"\nquery = \"SELECT image_id, array_length(pixels) AS n FROM decoded\"\n\
                [stage.counts]\nop = \"sql\"\ninput = \"decoded\"\nquery = \"SELECT label, count(*) AS n FROM decoded GROUP BY label\"\n";
    place.images(9).write("pipeline.toml", format!("{}{more}", FILE.replace("keep = true\n", "")));
    place.write("photos/red/bad.jpg", "nothing");
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!((&run.stage("decoded")["rows_dropped"], &run.stage("means")["rows_out"]), (&json!(1), &json!(9)));
    assert_eq!(place.sql("SELECT stage, image_id FROM dropped"), [json!({"stage": "decoded", "image_id": "red/bad.jpg"})]);
    let refused = place.tessera("run", &["--set", "decoded.on_error=fail"]);
    assert_eq!(refused.code, 1, "what was made by dropping is not reused: {}", refused.out);
    assert!(refused.err.contains("stage `decoded`: image `red/bad.jpg`"), "{}", refused.err);
    fs::write(place.path("photos/red/bad.jpg"), jpeg()).unwrap();
    let run = place.tessera("run", &["--format", "json", "--set", "decoded.on_error=fail"]);
    assert_eq!((run.code, &run.stage("means")["rows_out"]), (0, &json!(10)));
    assert!(place.sql("SELECT * FROM dropped").is_empty());
}
