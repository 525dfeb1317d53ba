//! Rows are known by their content: what was moved, copied, or away for a while is not computed again.

use std::fs;

use serde_json::json;
use tessera_operators::OPERATORS;
use tessera_operators::operator::PortKind;
use tessera_tests::{Answer, Place};

/// Every map that keeps its rows, each as a table of its own, over images in folders.
const FILE: &str = r#"
[pipeline]
part_rows = 16
seed = 3
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 32, keep = true, on_error = "drop" }
small = { op = "decode", input = "images", side = 24, on_error = "drop" }
gradients = { op = "hog", input = "small" }
unit = { op = "normalize", input = "gradients" }
echoed = { op = "command", input = "gradients", command = ["cat"], columns = { feature = "float32[81]" } }
random = { op = "weights", network = "small", normalisation = "tile" }
features = { op = "infer", inputs = { images = "decoded", weights = "random" }, layer = "conv2", pool = 1 }
still = { op = "images", path = "still" }
still_decoded = { op = "decode", input = "still", side = 24 }
still_gradients = { op = "hog", input = "still_decoded" }
clusters = { op = "kmeans", input = "still_gradients", k = 3 }
directions = { op = "pca", input = "still_gradients", components = 4 }
assigned = { op = "assign", inputs = { features = "gradients", clusters = "clusters" } }
short = { op = "project", inputs = { features = "gradients", components = "directions" } }
classifier = { op = "classifier", inputs = { features = "still_gradients", labels = "known" } }
known = { op = "sql", input = "still", query = "SELECT image_id, CASE WHEN image_id < '5' THEN 'a' ELSE 'b' END AS label FROM still" }
sorted = { op = "classify", inputs = { features = "gradients", classifier = "classifier" } }
map = { op = "layout", inputs = { features = "still_gradients" }, count = 4, epochs = 5 }
placed = { op = "place", inputs = { features = "gradients", map = "map" }, count = 3 }
"#;

/// Maps whose rows follow from their `image_id` as well.
const DRAWN: &str = r#"
[pipeline]
part_rows = 6
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 32 }
views = { op = "augment", input = "decoded", side = 24, keep = true }
tiles = { op = "tile", input = "images", side = 24, keep = true }
puzzles = { op = "jigsaw", input = "decoded", grid = 2, tile = 12, permutations = 5, keep = true }
gradients = { op = "hog", input = "views" }
crops = { op = "hog", input = "tiles" }
"#;

#[test]
fn every_map_is_known_by_its_content_or_by_its_name() {
    for spec in OPERATORS {
        if spec.inputs().iter().any(|port| port.kind == PortKind::Stream) {
            let named = format!("op = \"{}\"", spec.name());
            let by_name = spec.seeded() || spec.name() == "tile";
            let file = if by_name { DRAWN } else { FILE };
            assert!(
                file.contains(&named),
                "`{}` is new here: add a stage of it, so that its rows are compared",
                spec.name()
            );
        }
    }
}

fn place() -> Place {
    let place = Place::new();
    place.images(40).write("pipeline.toml", FILE);
    fs::create_dir(place.path("still")).unwrap();
    for at in 0..9 {
        let id = ["green", "red", "blue"][at % 3];
        fs::copy(place.path(&format!("photos/{id}/{at:04}.png")), place.path(&format!("still/{at}.png"))).unwrap();
    }
    ran(&place, &["-q"]);
    place
}

fn ran(place: &Place, arguments: &[&str]) -> Answer {
    let run = place.tessera("run", &[&["--format", "json"], arguments].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

/// What a new store gives must be what the old one has.
fn as_if_made_at_once(place: &Place) {
    let file = fs::read_to_string(place.path("pipeline.toml")).unwrap();
    place.write("fresh.toml", file.replace("[pipeline]", "[pipeline]\nname = \"pipeline\"\nstore = \"other\""));
    let _ = fs::remove_dir_all(place.path("other"));
    assert_eq!(place.call("run", "fresh.toml", &["-q"]).code, 0);
    assert_eq!(place.digests("pipeline"), place.digests_in("other", "pipeline"));
    let rows = |file: &str, query: &str| place.call("sql", file, &["--format", "csv", query]).out;
    for query in ["SELECT * FROM dropped ORDER BY 1, 2", "SELECT image_id, source, label FROM decoded ORDER BY 1"] {
        assert_eq!(rows("pipeline.toml", query), rows("fresh.toml", query), "{query}");
    }
}

const MAPS: [&str; 9] = ["decoded", "gradients", "unit", "echoed", "features", "assigned", "short", "sorted", "placed"];

fn computed(run: &Answer, expected: u64) {
    for stage in MAPS {
        let report = run.stage(stage);
        assert_eq!(report["rows_computed"], expected, "{stage}: {report}");
    }
}

#[test]
fn a_renamed_folder_is_written_and_not_computed() {
    let place = place();
    fs::rename(place.path("photos/red"), place.path("photos/crimson")).unwrap();
    let run = ran(&place, &[]);
    computed(&run, 0);
    assert_eq!((&run.stage("features")["rows_out"], &run.stage("features")["rows_reused"]), (&json!(40), &json!(40)));
    assert_eq!(
        place.sql("SELECT count(*) AS n FROM decoded WHERE label = 'crimson' AND image_id LIKE 'crimson/%'")[0]["n"],
        13
    );
    as_if_made_at_once(&place);
    computed(&ran(&place, &[]), 0);
}

#[test]
fn copies_and_swapped_names_are_their_contents() {
    let place = place();
    let path = |id: &str| place.path("photos").join(id);
    fs::copy(path("red/0001.png"), path("blue/copy.png")).unwrap();
    fs::copy(path("red/0001.png"), path("again.png")).unwrap();
    fs::rename(path("green/0000.png"), path("swap.png")).unwrap();
    fs::rename(path("green/0003.png"), path("green/0000.png")).unwrap();
    fs::rename(path("swap.png"), path("green/0003.png")).unwrap();
    let new = place.image(41);
    let run = ran(&place, &[]);
    computed(&run, 1);
    assert_eq!(run.stage("features")["rows_out"], 43);
    as_if_made_at_once(&place);
    let same = format!(
        "SELECT a.image_id FROM features a JOIN features b USING (feature) WHERE b.image_id = 'red/0001.png' AND a.image_id <> \
         '{new}' ORDER BY 1"
    );
    assert_eq!(place.sql(&same).len(), 3);
}

#[test]
fn a_folder_that_was_away_costs_nothing_when_it_is_back() {
    let place = place();
    let (away, home) = (place.path("away"), place.path("photos/blue"));
    fs::rename(&home, &away).unwrap();
    assert_eq!(ran(&place, &[]).stage("features")["rows_out"], 27);
    // Another change before it comes back, so that the table is one that never was.
    place.image(42);
    computed(&ran(&place, &[]), 1);
    fs::create_dir_all(place.path("photos/more")).unwrap();
    for file in fs::read_dir(&away).unwrap() {
        let file = file.unwrap();
        fs::rename(file.path(), place.path("photos/more").join(file.file_name())).unwrap();
    }
    fs::remove_file(place.path("photos/red/0001.png")).unwrap();
    computed(&ran(&place, &[]), 0);
    as_if_made_at_once(&place);
}

#[test]
fn settings_that_come_back_find_their_rows() {
    let place = place();
    ran(&place, &["--set", "small.side=28"]);
    place.image(43);
    ran(&place, &["--set", "small.side=28"]);
    let back = ran(&place, &[]);
    assert_eq!(
        (&back.stage("gradients")["rows_computed"], &back.stage("gradients")["rows_reused"]),
        (&json!(1), &json!(40))
    );
    as_if_made_at_once(&place);
}

#[test]
fn a_broken_file_stays_left_out_under_its_new_name() {
    let place = place();
    place.write("photos/red/broken.png", "no picture");
    fs::write(place.path("photos/blue/0002.png"), &fs::read(place.path("photos/blue/0002.png")).unwrap()[..90]).unwrap();
    ran(&place, &[]);
    let dropped = || place.sql("SELECT stage, image_id, path, reason FROM dropped ORDER BY 1, 2");
    let before = dropped();
    assert_eq!(before.len(), 4, "two images, of each of two views: {before:?}");
    fs::rename(place.path("photos/red"), place.path("photos/crimson")).unwrap();
    fs::rename(place.path("photos/blue/0002.png"), place.path("photos/crimson/0002.png")).unwrap();
    let run = ran(&place, &[]);
    computed(&run, 0);
    let now = dropped();
    for (before, now) in before.iter().zip(&now) {
        assert_eq!(before["reason"], now["reason"]);
        assert!(now["image_id"].as_str().unwrap().starts_with("crimson/") && now["path"] == now["image_id"], "{now}");
    }
    as_if_made_at_once(&place);
    // What was let go is not let go under another policy, whatever its name.
    let refused = place.tessera("run", &["--set", "decoded.on_error=fail"]);
    assert!(refused.code == 1 && refused.err.contains("crimson/"), "{}", refused.err);
}

#[test]
fn a_view_that_was_renamed_does_not_hide_what_it_dropped() {
    let place = Place::new();
    let file = "[stage]\nimages = { op = \"images\", path = \"photos\" }\nNAME = { op = \"decode\", input = \"images\", side = 24, \
                on_error = \"POLICY\" }\ngradients = { op = \"hog\", input = \"NAME\" }\n";
    let write = |name: &str, policy: &str| {
        place.write("pipeline.toml", file.replace("NAME", name).replace("POLICY", policy));
    };
    place.images(6).write("photos/red/broken.png", "no picture");
    write("decoded", "drop");
    ran(&place, &[]);
    write("pictures", "drop");
    assert_eq!(ran(&place, &[]).stage("gradients")["action"], "reuse");
    write("pictures", "fail");
    let refused = place.tessera("run", &[]);
    assert!(refused.code == 1 && refused.err.contains("red/broken.png"), "{}", refused.err);
}

#[test]
fn what_is_drawn_by_name_is_drawn_again() {
    let place = Place::new();
    place.images(18).write("pipeline.toml", DRAWN);
    ran(&place, &[]);
    fs::rename(place.path("photos/red"), place.path("photos/crimson")).unwrap();
    fs::copy(place.path("photos/blue/0002.png"), place.path("photos/blue/copy.png")).unwrap();
    let run = ran(&place, &[]);
    assert_eq!(run.stage("views")["rows_computed"], 7, "another name, other draws: {}", run.out);
    place.write(
        "fresh.toml",
        fs::read_to_string(place.path("pipeline.toml")).unwrap().replace("[pipeline]", "[pipeline]\nstore = \"other\""),
    );
    assert_eq!(place.call("run", "fresh.toml", &["-q"]).code, 0);
    assert_eq!(place.digests("pipeline"), place.digests_in("other", "fresh"));
    let both = "SELECT count(*) AS n FROM views a JOIN views b USING (pixels) WHERE a.image_id = 'blue/0002.png'";
    assert_eq!(place.sql(both), [json!({ "n": 1 })]);
}
