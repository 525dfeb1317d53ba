//! The chain from images to pseudo-labels.

use serde_json::json;
use tessera_tests::Place;

/// The method on a few images, small enough for a test.
pub fn chain(place: &Place, images: usize) {
    place.images(images).write(
        "pipeline.toml",
        r#"
[pipeline]
seed = 5
part_rows = 16

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 64

[stage.puzzles]
op = "jigsaw"
input = "decoded"
permutations = 10

[stage.pretext]
op = "train"
input = "puzzles"
network = "small"
epochs = 2
batch = 16
metrics_every = 1

[stage.features]
op = "infer"
inputs = { images = "decoded", weights = "pretext" }
layer = "conv2"
pool = 2

[stage.clusters]
op = "kmeans"
input = "features"
k = 3

[stage.assigned]
op = "assign"
inputs = { features = "features", clusters = "clusters" }

[stage.labelled]
op = "sql"
inputs = { a = "assigned", i = "images" }
query = "SELECT a.image_id, a.cluster, i.label FROM a JOIN i USING (image_id)"
"#,
    );
}

#[test]
fn images_to_pseudo_labels() {
    let place = Place::new();
    chain(&place, 45);
    let planned = place.tessera("plan", &["--format", "json"]);
    assert_eq!(planned.stage("images")["action"], "run");
    assert_eq!(planned.stage("decoded")["action"], "view");
    assert!(planned.stage("clusters")["reasons"][0].as_str().unwrap().contains("features"));
    assert!(!place.path(".tessera/pipeline/images/current").exists(), "a plan makes nothing");

    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!(run.stage("images")["rows_out"], 45);
    assert_eq!(run.stage("decoded")["rows_out"], json!(null));
    assert_eq!(run.stage("features")["parts_written"], 3);
    for key in ["stage", "action", "parts_written", "rows_out", "rows_computed", "rows_reused", "rows_dropped", "seconds"] {
        assert!(run.stage("clusters").get(key).is_some(), "{key}");
    }
    assert!(run.json()["seconds"].as_f64().unwrap() > 0.0);
    assert!(run.err.contains("pretext: run (pretext: never run)"), "{}", run.err);

    let rows = place
        .sql("SELECT count(*) n, count(DISTINCT image_id) ids, min(permutation) low, max(permutation) high FROM puzzles");
    assert_eq!((&rows[0]["n"], &rows[0]["ids"]), (&json!(45), &json!(45)));
    assert!(rows[0]["low"].as_i64().unwrap() >= 0 && rows[0]["high"].as_i64().unwrap() < 10);

    let rows = place.sql("SELECT * FROM clusters ORDER BY cluster");
    assert_eq!(rows.len(), 3);
    assert_eq!(rows.iter().map(|row| row["size"].as_i64().unwrap()).sum::<i64>(), 45);
    let width = rows[0]["centroid"].as_array().unwrap().len();
    let features = place.sql("SELECT feature FROM features LIMIT 1");
    assert_eq!(features[0]["feature"].as_array().unwrap().len(), width);

    // The distances are those to the centroids, and the second cluster is farther.
    let query = "SELECT max(abs(array_distance(f.feature, c.centroid) - a.distance)) AS off, \
                 min(a.second_distance - a.distance) AS gap FROM assigned a JOIN features f USING (image_id) JOIN clusters c USING (cluster)";
    let rows = place.sql(query);
    assert!(rows[0]["off"].as_f64().unwrap() < 1e-3 && rows[0]["gap"].as_f64().unwrap() >= 0.0, "{rows:?}");

    // Three colours, three clusters: even a network that hardly learnt tells them apart.
    let rows = place.sql("SELECT purity(cluster, label) AS purity, nmi(cluster, label) AS nmi FROM labelled");
    assert!(rows[0]["purity"].as_f64().unwrap() > 0.6, "{rows:?}");

    let rows = place.sql("SELECT name, count(*) AS n FROM metrics WHERE stage = 'pretext' GROUP BY name ORDER BY name");
    assert_eq!(rows.iter().find(|row| row["name"] == "loss").unwrap()["n"], 4, "two epochs of two steps: {rows:?}");
    let rows = place.sql("SELECT value FROM metrics WHERE stage = 'clusters' AND name = 'objective' ORDER BY epoch");
    let objective: Vec<f64> = rows.iter().map(|row| row["value"].as_f64().unwrap()).collect();
    assert!(objective.len() > 1 && objective.is_sorted_by(|a, b| a >= b), "{objective:?}");
}

#[test]
fn the_graph_is_drawn() {
    let place = Place::new();
    chain(&place, 3);
    let text = place.tessera("graph", &[]).out;
    assert!(text.contains("decoded   (decode, view) <- images"), "{text}");
    let dot = place.tessera("graph", &["--format", "dot"]).out;
    assert!(dot.starts_with("digraph \"pipeline\" {") && dot.contains("pretext -> features [label=\"weights\"];"), "{dot}");
    let mermaid = place.tessera("graph", &["--format", "mermaid"]).out;
    assert!(mermaid.starts_with("graph LR") && mermaid.contains("decoded -- images --> features"), "{mermaid}");
}

#[test]
fn tiles_are_shuffled_and_learnt_from() {
    let place = Place::new();
    place.images(6).write(
        "pipeline.toml",
        r#"
[stage.images]
op = "images"
path = "photos"

[stage.tiles]
op = "tile"
input = "images"
side = 48
stride = 8

[stage.puzzles]
op = "jigsaw"
input = "tiles"
permutations = 10

[stage.pretext]
op = "train"
input = "puzzles"
network = "small"
epochs = 1
batch = 8
"#,
    );
    // 64 px give 3 crops of 48, 8 apart; 72 px give 4.
    assert_eq!(
        place.sql_after_run("SELECT count(*) AS n, count(DISTINCT photo) AS photos FROM tiles")[0],
        json!({"n": 72, "photos": 6})
    );
    let steps = place.sql("SELECT max(step) AS steps FROM metrics WHERE name = 'epoch_loss'");
    assert_eq!(steps[0]["steps"], 9, "72 crops in steps of 8");
    let puzzles =
        place.sql("SELECT count(DISTINCT image_id) AS n, count(*) FILTER (WHERE occluded > 0) AS occluded FROM puzzles");
    assert_eq!(puzzles[0]["n"], 72);
    assert!(puzzles[0]["occluded"].as_i64().unwrap() > 30);
}

/// Steps c and d of the method: clusters name classes, and another network learns them from other views of the images.
#[test]
fn pseudo_labels_teach_another_network() {
    let place = Place::new();
    place.images(45).write(
        "pipeline.toml",
        r#"
[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 48

[stage.features]
op = "hog"
input = "decoded"

[stage.clusters]
op = "kmeans"
input = "features"
k = 3

[stage.assigned]
op = "assign"
inputs = { features = "features", clusters = "clusters" }

[stage.labelled]
op = "label_join"
inputs = { images = "images", labels = "assigned" }
columns = ["cluster"]

[stage.pictures]
op = "decode"
input = "labelled"
side = 48

[stage.views]
op = "augment"
input = "pictures"
side = 32
brightness = 0.2

[stage.target]
op = "train"
inputs = { examples = "views", probe = "pictures" }
network = "small"
optimizer = "adamw"
warmup = 0.5
epochs = 3
batch = 16

[stage.learnt]
op = "infer"
inputs = { images = "pictures", weights = "target" }
layer = "conv4"
pool = 1
"#,
    );
    let width = place.sql_after_run("SELECT count(*) AS n, min(array_length(feature)) AS width FROM learnt");
    assert_eq!(width, [json!({"n": 45, "width": 192})]);
    // Three clusters, three classes.
    let shape = place.sql("SELECT shape FROM target WHERE tensor = 'fc.weight'");
    assert_eq!(shape, [json!({"shape": [3, 192]})]);
    let probed = place
        .sql("SELECT count(*) AS n, min(value) >= 0 AND max(value) <= 1 AS share FROM metrics WHERE name = 'knn_accuracy'");
    assert_eq!(probed, [json!({"n": 3, "share": true})]);
    let seen = place.sql("SELECT min(array_length(pixels)) AS n, count(DISTINCT cluster) AS clusters FROM views");
    assert_eq!(seen, [json!({"n": 32 * 32 * 3, "clusters": 3})]);
    let again =
        place.tessera("run", &["--format", "json", "--set", "target.device=cpu", "--set", "target.checkpoint_minutes=1"]);
    assert!(again.actions().iter().all(|action| action.ends_with(":reuse")), "{}", again.out);
}
