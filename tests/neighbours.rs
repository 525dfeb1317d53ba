//! Like images, near-duplicates and maps, as the book tells of them.

use std::fs;

use serde_json::json;
use tessera_tests::{Dice, Place};

const FILE: &str = r#"
[pipeline]
part_rows = 16
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 32 }
features = { op = "hog", input = "decoded" }
clusters = { op = "kmeans", input = "features", k = 4 }
near = { op = "neighbours", inputs = { features = "features", clusters = "clusters" }, count = 5, probes = 2 }
exact = { op = "neighbours", input = "features", count = 5 }
duplicates = { op = "groups", input = "near", below = 0.0 }
some = { op = "sql", inputs = { features = "features" }, query = "SELECT * FROM features WHERE image_id NOT LIKE 'red/%'" }
map = { op = "layout", input = "some", epochs = 30 }
placed = { op = "place", inputs = { features = "features", map = "map" } }
"#;

const TABLES: [&str; 5] = ["near", "exact", "duplicates", "map", "placed"];

#[test]
fn neither_threads_nor_parts_nor_memory_matter_and_new_images_cost_what_they_are() {
    let place = Place::new();
    place.images(60).write("pipeline.toml", FILE);
    let make = |threads: &str, rows: &str, more: &[&str]| {
        let set = format!("pipeline.part_rows={rows}");
        let force = ["images", "features", "clusters", "some"].into_iter().chain(TABLES);
        let mut arguments = vec!["-q", "--threads", threads, "--set", &set];
        arguments.extend(force.flat_map(|stage| ["--force", stage]));
        arguments.extend(more);
        let run = place.tessera("run", &arguments);
        assert_eq!(run.code, 0, "{}", run.err);
        TABLES.map(|table| place.sql(&format!("SELECT * FROM {table} ORDER BY 1, 2")))
    };
    let first = make("2", "16", &[]);
    assert!(make("1", "7", &[]) == first, "one thread, parts of 7 rows");
    assert!(make("2", "1024", &["--set", "near.memory=1", "--set", "exact.memory=1"]) == first, "little memory");
    for (stage, rows) in [("near", 300), ("exact", 300), ("duplicates", 60), ("map", 40), ("placed", 60)] {
        assert_eq!(place.sql(&format!("SELECT count(*) AS n FROM {stage}"))[0]["n"], rows, "{stage}");
    }
    let moved = "SELECT count(*) AS n FROM placed JOIN map USING (image_id) WHERE placed.x <> map.x OR placed.y <> map.y";
    assert_eq!(place.sql(moved)[0]["n"], 0, "landmarks lie where they are");
    let numbers = place.sql("SELECT stage, name, value FROM metrics WHERE name IN ('recall', 'kept') ORDER BY name");
    assert_eq!((&numbers[0]["name"], &numbers[1]["name"]), (&json!("kept"), &json!("recall")));
    assert!(numbers.iter().all(|row| (0.0..=1.0).contains(&row["value"].as_f64().unwrap())), "{numbers:?}");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);

    // Two new red images (numbers 61, 64): the map is of the others.
    place.image(61);
    place.image(64);
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!((&run.stage("map")["action"], &run.stage("placed")["rows_computed"]), (&json!("reuse"), &json!(2)));
    let incremental = place.digests("pipeline")["placed"].clone();
    let forced = place.tessera("run", &["-q", "--force", "placed"]);
    assert_eq!(forced.code, 0, "{}", forced.err);
    assert!(place.digests("pipeline")["placed"] == incremental, "as if it were made afresh");
}

#[test]
fn duplicates_are_found_and_one_of_each_is_kept() {
    let place = Place::new();
    place.images(12).write("pipeline.toml", FILE.split("some = ").next().unwrap());
    for (from, to) in [("green/0000.png", "copy/a.png"), ("green/0000.png", "zoo/b.png"), ("blue/0005.png", "zoo/c.png")] {
        let path = |id: &str| place.path("photos").join(id);
        fs::create_dir_all(path(to).parent().unwrap()).unwrap();
        fs::copy(path(from), path(to)).unwrap();
    }
    let run = place.tessera("run", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let groups = "SELECT first, size, string_agg(image_id, ' ' ORDER BY image_id) AS images FROM duplicates WHERE size > 1 \
                  GROUP BY first, size ORDER BY size DESC, first";
    let expected = [
        json!({"first": "copy/a.png", "size": 3, "images": "copy/a.png green/0000.png zoo/b.png"}),
        json!({"first": "blue/0005.png", "size": 2, "images": "blue/0005.png zoo/c.png"}),
    ];
    assert_eq!(place.sql(groups), expected);
    let left_out = place.sql("SELECT image_id FROM duplicates WHERE image_id <> first ORDER BY image_id");
    assert_eq!(left_out, ["green/0000.png", "zoo/b.png", "zoo/c.png"].map(|id| json!({"image_id": id})));
    let metrics = place.sql("SELECT name, value FROM metrics WHERE stage = 'duplicates' ORDER BY name");
    assert_eq!(metrics, [json!({"name": "duplicates", "value": 3.0}), json!({"name": "groups", "value": 2.0})]);
    let pairs = "SELECT image_id, neighbour FROM near WHERE distance = 0 AND image_id < neighbour ORDER BY 1, 2";
    assert_eq!(place.sql(pairs).len(), 4);
}

#[test]
fn a_polygon_chooses_rows() {
    let place = Place::new();
    let mut dice = Dice(5);
    let rows: String = (0..200).map(|row| format!("{row:03},{},{}\n", 10.0 * dice.roll(), 10.0 * dice.roll())).collect();
    place.write("points.csv", format!("image_id,x,y\n{rows}"));
    place.write("pipeline.toml", "stage.points = { op = \"table\", path = \"points.csv\" }\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let differ = "SELECT count(*) AS n, sum(CASE WHEN inside(x, y, '2,1 8,1 8,7 2,7') THEN 1 ELSE 0 END) AS within FROM points \
                  WHERE inside(CAST(x AS FLOAT), y, '2,1 8,1 8,7 2,7') = (x > 2 AND x < 8 AND y > 1 AND y < 7)";
    let row = &place.sql(differ)[0];
    assert_eq!(row["n"], 200);
    assert!((40..100).contains(&row["within"].as_i64().unwrap()), "{row}");
    let wrong = place.tessera("sql", &["SELECT inside(x, y, '1,1 2') FROM points"]);
    assert!(
        wrong.code == 1 && wrong.err.contains("inside: `2` is no corner: write x,y as in '0,0 4,0 4,3'"),
        "{}",
        wrong.err
    );
}
