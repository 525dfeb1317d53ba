//! Features made shorter, and clusters of them: DeepCluster's recipe, and what does not fit into memory.

use serde_json::json;
use tessera_tests::Place;

/// HOG features of images, whitened, of length 1, and clusters of them.
fn place() -> Place {
    let place = Place::new();
    let file = r#"
[pipeline]
part_rows = 16
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 32 }
features = { op = "hog", input = "decoded" }
directions = { op = "pca", input = "features", components = 8 }
short = { op = "project", inputs = { features = "features", components = "directions" }, whiten = true }
unit = { op = "normalize", input = "short" }
clusters = { op = "kmeans", input = "unit", k = 3 }
assigned = { op = "assign", inputs = { features = "unit", clusters = "clusters" } }
"#;
    place.images(40).write("pipeline.toml", file);
    place
}

#[test]
fn a_recipe_of_three_stages_leads_to_clusters() {
    let place = place();
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let spread =
        "SELECT stddev(feature[1]) AS one, stddev(feature[8]) AS eight, corr(feature[1], feature[2]) AS both FROM short";
    let spread = &place.sql(spread)[0];
    for (name, expected) in [("one", 1.0), ("eight", 1.0), ("both", 0.0)] {
        let found = spread[name].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-3, "{name} {found}");
    }
    let lengths = place.sql("SELECT min(l) AS a, max(l) AS b FROM (SELECT sqrt(sum(v * v)) AS l FROM (SELECT image_id, unnest(feature) AS v FROM unit) GROUP BY image_id)");
    for side in ["a", "b"] {
        assert!((lengths[0][side].as_f64().unwrap() - 1.0).abs() < 1e-5, "{lengths:?}");
    }
    let variances = place.sql("SELECT component, variance, share FROM directions ORDER BY component");
    let values: Vec<f64> = variances.iter().map(|row| row["variance"].as_f64().unwrap()).collect();
    assert!(values.len() == 8 && values.is_sorted_by(|a, b| a >= b), "{values:?}");
    let explained =
        place.sql("SELECT value FROM metrics WHERE stage = 'directions' AND name = 'explained'")[0]["value"].clone();
    let shares: f64 = variances.iter().map(|row| row["share"].as_f64().unwrap()).sum();
    assert!((explained.as_f64().unwrap() - shares).abs() < 1e-9);
    assert_eq!(place.sql("SELECT count(*) AS n FROM assigned"), [json!({ "n": 40 })]);
}

#[test]
fn memory_changes_neither_clusters_nor_keys() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let clusters = || place.rows("clusters");
    let first = clusters();
    let small = ["--set", "clusters.memory=1KiB"];
    let plan = place.tessera("plan", &[&["--format", "json"], &small[..]].concat());
    let stages = ["images", "features", "directions", "short", "unit", "clusters", "assigned"];
    assert_eq!(plan.actions(), stages.map(|stage| format!("{stage}:reuse")));
    let again = place.tessera("run", &[&["--force", "clusters"], &small[..]].concat());
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.err.contains("features go to a temporary file"), "{}", again.err);
    assert!(clusters() == first);
    let wrong = place.tessera("check", &["--set", "clusters.memory=lots"]);
    assert!(wrong.code == 2 && wrong.err.contains("bytes such as \"2GiB\""), "{}", wrong.err);
}

#[test]
fn features_of_half_precision_are_read() {
    let place = Place::new();
    place.images(0).write("numbers.csv", "image_id,a,b\nx,1,2\ny,1,2.5\nz,9,9\n");
    let file = r#"
[stage]
numbers = { op = "table", path = "numbers.csv" }
halves = { op = "sql", input = "numbers", query = "SELECT image_id, arrow_cast(make_array(a, b), 'FixedSizeList(2, Float16)') AS feature FROM numbers" }
clusters = { op = "kmeans", input = "halves", k = 2 }
assigned = { op = "assign", inputs = { features = "halves", clusters = "clusters" } }
"#;
    place.write("pipeline.toml", file);
    let rows = place.sql_after_run("SELECT image_id, cluster, distance FROM assigned ORDER BY image_id");
    assert_eq!(rows[0]["cluster"], rows[1]["cluster"]);
    assert_ne!(rows[0]["cluster"], rows[2]["cluster"]);
    assert_eq!(rows[0]["distance"], 0.25);
}

/// Vectors around three directions, of lengths from 1 to 50, and a k-means stage with some more keys.
fn directions(keys: &str) -> Place {
    let place = Place::new();
    let row = |at: usize| {
        let (angle, length) = ((at % 3) as f64 * 0.5 + (at % 7) as f64 * 0.02, 1.0 + (at * 13 % 50) as f64);
        format!("r{at:03},{},{}\n", length * angle.cos(), length * angle.sin())
    };
    place.write("numbers.csv", format!("image_id,a,b\n{}", (0..150).map(row).collect::<String>()));
    let file = format!(
        r#"
[stage]
numbers = {{ op = "table", path = "numbers.csv" }}
features = {{ op = "sql", input = "numbers", query = "SELECT image_id, arrow_cast(make_array(a, b), 'FixedSizeList(2, Float32)') AS feature FROM numbers" }}
clusters = {{ op = "kmeans", input = "features", k = 3, {keys} }}
assigned = {{ op = "assign", inputs = {{ features = "features", clusters = "clusters" }} }}
"#
    );
    place.write("pipeline.toml", file);
    place
}

/// In how many clusters the images of each of the three directions lie.
const SPREAD: &str = "SELECT count(DISTINCT cluster) AS n FROM assigned GROUP BY CAST(substr(image_id, 2) AS INT) % 3";

#[test]
fn spherical_clusters_are_directions_of_any_length() {
    let place = directions("spherical = true");
    assert_eq!(place.sql_after_run(SPREAD), [json!({"n": 1}), json!({"n": 1}), json!({"n": 1})]);
    let norms = "SELECT sqrt(centroid[1] * centroid[1] + centroid[2] * centroid[2]) AS norm FROM clusters";
    for row in place.sql(norms) {
        assert!((row["norm"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{row}");
    }
    let lengths = directions("spherical = false");
    let spread = lengths.sql_after_run(SPREAD);
    assert!(spread.iter().any(|row| row["n"] != 1), "by distance, long and short vectors lie apart: {spread:?}");
}

#[test]
fn batches_find_groups_that_lie_apart_and_the_same_ones_again() {
    let place = directions("spherical = true, mini_batch = 40, iterations = 30");
    assert_eq!(place.sql_after_run(SPREAD), [json!({"n": 1}), json!({"n": 1}), json!({"n": 1})]);
    let first = place.rows("clusters");
    assert_eq!(place.tessera("run", &["-q", "--force", "clusters", "--threads", "1"]).code, 0);
    assert!(place.rows("clusters") == first, "batches are drawn by the seed");
    let other = place.tessera("run", &["-q", "--set", "clusters.mini_batch=20"]);
    assert_eq!(other.code, 0, "{}", other.err);
    assert!(place.rows("clusters") != first, "the size of a batch matters");
}
