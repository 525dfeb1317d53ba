//! HDF5 out and in again, through the binary.

use std::fs;

use tessera_tests::Place;

/// Seven images, their pixels and features, and a table of several types.
fn place() -> Place {
    let place = Place::new();
    place.images(7).write(
        "pipeline.toml",
        r#"
[pipeline]
part_rows = 3

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 16

[stage.features]
op = "hog"
input = "decoded"
cell = 4

[stage.mixed]
op = "sql"
input = "images"
query = """SELECT image_id, label, CASE WHEN label = 'red' THEN width END AS n, label = 'red' AS red, [width, bytes] AS list,
    modified, source, named_struct('w', width, 'l', label) AS pair FROM images"""
"#,
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

#[test]
fn what_export_writes_table_reads_with_the_same_digests() {
    let place = place();
    for stage in ["images", "mixed", "features"] {
        let file = format!("{stage}.h5");
        let wrote = place.tessera("export", &[stage, "-o", &file]);
        assert_eq!(wrote.code, 0, "{}", wrote.err);
        assert!(wrote.err.contains(&format!("{file}: 7 rows of ")), "{}", wrote.err);
        place.write(&format!("{stage}.toml"), format!("[stage.{stage}]\nop = \"table\"\npath = \"{file}\"\n"));
        let run = place.call("run", &format!("{stage}.toml"), &["-q"]);
        assert_eq!(run.code, 0, "{}", run.err);
        assert_eq!(place.digests(stage)[stage], place.digests("pipeline")[stage], "{stage}");
    }
}

#[test]
fn pixels_that_were_exported_are_read_as_pixels() {
    let place = place();
    let wrote = place.tessera("export", &["decoded", "-q", "-o", "out/../pixels.h5", "--columns", "pixels,image_id"]);
    assert_eq!(wrote.code, 1, "a folder that is not there: {}", wrote.err);
    assert_eq!(place.tessera("export", &["decoded", "-q", "-o", "pixels.h5"]).code, 0);
    place.write(
        "back.toml",
        "stage.given = { op = \"table\", path = \"pixels.h5\", dataset = { pixels = \"/pixels\", image_id = \"/image_id\" } }\n\
         stage.features = { op = \"hog\", input = \"given\", cell = 4 }\n",
    );
    let run = place.call("run", "back.toml", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(place.digests("back")["features"], place.digests("pipeline")["features"]);
}

/// Which dataset a table is of is a part of its key, and a wrong one is underlined with those that there are.
#[test]
fn the_dataset_is_part_of_the_key() {
    let place = place();
    assert_eq!(place.tessera("export", &["features", "-q", "-o", "f.h5"]).code, 0);
    let stage = |dataset: &str| format!("stage.t = {{ op = \"table\", path = \"f.h5\", dataset = {dataset} }}\n");
    place.write("t.toml", stage("\"feature\""));
    let run = || place.call("run", "t.toml", &["--format", "json"]);
    assert_eq!(run().actions(), ["t:run"]);
    assert_eq!(run().actions(), ["t:reuse"]);
    place.write("t.toml", stage("{ vector = \"feature\" }"));
    assert_eq!(run().actions(), ["t:run"]);
    place.write("t.toml", stage("\"/features\""));
    let check = place.call("check", "t.toml", &[]);
    assert_eq!(check.code, 2);
    for said in ["has no `/features`; datasets: `/feature` (float32 7 x ", "`/image_id` (text of ", "dataset = "] {
        assert!(check.err.contains(said), "{said}: {}", check.err);
    }
    place.write("t.toml", stage("3"));
    let check = place.call("check", "t.toml", &[]);
    assert!(check.err.contains("a dataset's path, a list of paths, or { column = \"/path\", … }"), "{}", check.err);
}

#[test]
fn a_file_that_fails_half_way_is_not_there() {
    let place = place();
    place.write("photos/red/0004.png", "no image");
    let answer = place.tessera("export", &["decoded", "-o", "g.h5"]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("image `red/0004.png`"), "{}", answer.err);
    let left: Vec<_> = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("g.h5")), "{left:?}");
}
