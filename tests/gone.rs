//! Rows that leave a table: the files that hold them stay, and no reader sees them any more.

use std::fs::{self, File};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tessera_schemas::{IMAGE_ID, text};
use tessera_tests::Place;

const FILE: &str = r#"
[pipeline]
part_rows = 64

[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 24, keep = true }
gradients = { op = "hog", input = "decoded" }
clusters = { op = "kmeans", input = "gradients", k = 3 }
assigned = { op = "assign", inputs = { features = "gradients", clusters = "clusters" } }
"#;

/// Bytes of a store's parts.
fn bytes(place: &Place) -> u64 {
    let mut sum = 0;
    for stage in fs::read_dir(place.path(".tessera/pipeline")).unwrap() {
        let Ok(parts) = fs::read_dir(stage.unwrap().path().join("parts")) else { continue };
        sum += parts.map(|part| part.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    sum
}

/// Rows of a stage that are in files and no longer in the table.
fn gone(place: &Place, stage: &str) -> usize {
    place.snapshots("pipeline")[stage].parts.iter().map(|part| part.gone.len()).sum()
}

#[test]
fn a_store_grows_by_what_comes() {
    let place = Place::new();
    place.images(300).write("pipeline.toml", FILE);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let first = bytes(&place);
    let mut there: Vec<usize> = (0..300).collect();
    for day in 0..12 {
        for turn in 0..2 {
            let at = there.remove((day * 37 + turn * 101) % there.len());
            fs::remove_file(place.path("photos").join(id(at))).unwrap();
        }
        for at in [300 + day * 3, 301 + day * 3, 302 + day * 3] {
            place.image(at);
            there.push(at);
        }
        let run = place.tessera("run", &["--format", "json"]);
        for stage in ["images", "decoded", "gradients"] {
            let stage = run.stage(stage);
            assert_eq!(
                (&stage["rows_computed"], &stage["rows_out"]),
                (&3.into(), &(there.len()).into()),
                "day {day}: {stage}"
            );
        }
    }
    assert!(gone(&place, "decoded") > 15 && gone(&place, "images") > 15);
    // 36 images came to 300: those rows are written a few times, and the small tables of whole kernels each day.
    let whole = ["clusters", "assigned"].map(|stage| whole_bytes(&place, stage));
    let grown = bytes(&place) - whole.iter().sum::<u64>();
    assert!(grown < first * 8 / 5, "{first} bytes became {grown}");
    let parts = place.snapshots("pipeline")["decoded"].parts.len();
    assert!(parts <= 9, "{parts} parts of 336 rows");

    // All readers see what a store has that was made at once.
    place.write("fresh.toml", FILE.replace("[pipeline]", "[pipeline]\nname = \"pipeline\"\nstore = \"fresh\""));
    assert_eq!(place.call("run", "fresh.toml", &["-q"]).code, 0);
    assert_eq!(place.digests("pipeline"), place.digests_in("fresh", "pipeline"));
    for query in [
        "SELECT count(*) FROM decoded",
        "SELECT count(image_id), min(image_id), max(image_id) FROM gradients",
        "SELECT image_id, label, width FROM images ORDER BY 1",
        "SELECT * FROM assigned ORDER BY image_id",
        "SELECT image_id FROM decoded WHERE image_id > 'green/0200' ORDER BY 1",
        "SELECT label, count(*) FROM images GROUP BY label ORDER BY 1",
        "SELECT count(*) FROM (SELECT * FROM decoded LIMIT 250)",
    ] {
        let ask = |file: &str| place.call("sql", file, &["--format", "csv", query]);
        let (grown, fresh) = (ask("pipeline.toml"), ask("fresh.toml"));
        assert_eq!((grown.code, &grown.out), (0, &fresh.out), "{query}: {}", grown.err);
    }
    for file in ["pipeline", "fresh"] {
        let arguments = ["gradients", "-o", &format!("{file}.csv")];
        assert_eq!(place.call("export", &format!("{file}.toml"), &arguments).code, 0);
    }
    let sorted = |name: &str| {
        let text = fs::read_to_string(place.path(name)).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted("pipeline.csv"), sorted("fresh.csv"));
}

/// Bytes of a stage's parts.
fn whole_bytes(place: &Place, stage: &str) -> u64 {
    let parts = fs::read_dir(place.path(".tessera/pipeline").join(stage).join("parts")).unwrap();
    parts.map(|part| part.unwrap().metadata().unwrap().len()).sum()
}

/// The image of a number.
fn id(at: usize) -> String {
    format!("{}/{at:04}.png", ["green", "red", "blue"][at % 3])
}

fn place() -> Place {
    let place = Place::new();
    place.images(90).write("pipeline.toml", FILE);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

#[test]
fn what_comes_back_is_not_computed() {
    let place = place();
    let whole = place.digests("pipeline");
    let away: Vec<(String, Vec<u8>)> =
        [4, 17, 60].map(|at| (id(at), fs::read(place.path("photos").join(id(at))).unwrap())).to_vec();
    for (id, _) in &away {
        fs::remove_file(place.path("photos").join(id)).unwrap();
    }
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    assert_eq!(gone(&place, "decoded"), 3);
    let difference = place.tessera("diff", &["decoded", "--format", "json"]).json();
    assert_eq!((&difference["removed"], &difference["unchanged"], &difference["added"]), (&3.into(), &87.into(), &0.into()));
    for (id, bytes) in away {
        place.write(&format!("photos/{id}"), bytes);
    }
    let back = place.tessera("run", &["--format", "json"]);
    assert_eq!(back.stage("decoded")["rows_computed"], 0);
    let digests = |mut all: std::collections::BTreeMap<String, tessera_schemas::digest::TableDigest>| {
        all.remove("images");
        all
    };
    assert_eq!(digests(place.digests("pipeline")), digests(whole));
}

#[test]
fn a_changed_image_is_one_row() {
    let place = place();
    let before = place.snapshots("pipeline")["decoded"].parts[0].file.clone();
    fs::copy(place.path("photos").join(id(33)), place.path("photos").join(id(9))).unwrap();
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!((&run.stage("images")["rows_computed"], &run.stage("decoded")["rows_out"]), (&1.into(), &90.into()));
    let after = place.snapshots("pipeline");
    assert!(after["decoded"].parts.iter().any(|part| part.file == before && part.gone.len() == 1));
    let same = "SELECT count(*) AS n FROM gradients a JOIN gradients b ON a.feature = b.feature \
                WHERE a.image_id = 'green/0009.png' AND b.image_id = 'green/0033.png'";
    assert_eq!(place.sql(same)[0]["n"], 1);
}

/// Other programs read files whole.
#[test]
fn path_prints_files_without_rows_that_are_gone() {
    let place = place();
    for at in [3, 50] {
        fs::remove_file(place.path("photos").join(id(at))).unwrap();
    }
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let digests = place.digests("pipeline");
    let path = place.tessera("path", &["decoded"]);
    assert!(path.code == 0 && path.err.contains("hold rows that are gone"), "{}", path.err);
    let mut ids = Vec::new();
    for file in path.out.lines() {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap();
        for batch in reader {
            ids.extend(text(&batch.unwrap(), IMAGE_ID).unwrap().iter().flatten().map(str::to_owned));
        }
    }
    ids.sort();
    let mut expected: Vec<String> = (0..90).filter(|at| ![3, 50].contains(at)).map(id).collect();
    expected.sort();
    assert_eq!(ids, expected);
    assert_eq!((gone(&place, "decoded"), place.digests("pipeline")), (0, digests));
    let again = place.tessera("path", &["decoded"]);
    assert_eq!((again.out, again.err.as_str()), (path.out, ""));
    // That is no other snapshot: compared is still with the table before the run.
    let difference = place.tessera("diff", &["decoded", "--format", "json"]).json();
    assert_eq!((&difference["removed"], &difference["unchanged"], &difference["added"]), (&2.into(), &88.into(), &0.into()));
    assert_eq!(place.sql("SELECT count(*) AS n FROM snapshot('decoded', 'previous')")[0]["n"], 90);
    let listed =
        place.sql("SELECT snapshot, rewrite_of FROM snapshots WHERE stage = 'decoded' ORDER BY is_current DESC, run DESC");
    assert_eq!((listed.len(), &listed[0]["rewrite_of"]), (3, &listed[1]["snapshot"]));
    let run = place.tessera("run", &["--format", "json"]);
    assert!(run.actions().iter().all(|action| action.ends_with(":reuse")), "{:?}", run.actions());
}
