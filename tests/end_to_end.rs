//! The chain from images to pseudo-labels.

use serde_json::json;
use tessera_tests::{Place, decoded};

/// The method on a few images, small enough for a test.
pub fn chain(place: &Place, images: usize) {
    place.images(images).write(
        "pipeline.toml",
        "[pipeline]\nseed = 5\npart_rows = 16\n\n".to_owned()
            + &decoded(
                64,
                "",
                r#"[stage.puzzles]
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
            ),
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

    assert!(!place.path(".tessera/pipeline/decoded/parts").exists(), "pixels of a view are not kept");

    let rows = place.sql(
        "SELECT count(DISTINCT image_id) AS ids, array_agg(DISTINCT permutation ORDER BY permutation) AS all FROM puzzles",
    );
    assert_eq!(rows, [json!({"ids": 45, "all": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]})], "each of ten among 45 puzzles");

    let rows = place.sql("SELECT * FROM clusters ORDER BY cluster");
    assert_eq!(rows.len(), 3);
    let sizes = place.sql("SELECT cluster, size FROM clusters ORDER BY cluster");
    assert_eq!(sizes, place.sql("SELECT cluster, count(*) AS size FROM assigned GROUP BY cluster ORDER BY cluster"));
    let width = rows[0]["centroid"].as_array().unwrap().len();
    let features = place.sql("SELECT feature FROM features LIMIT 1");
    assert_eq!(features[0]["feature"].as_array().unwrap().len(), width);

    // Clusters and distances are those of the nearest two centroids.
    let distances = "SELECT image_id, c.cluster, array_distance(feature, centroid) AS d FROM features CROSS JOIN clusters c";
    let ranked = format!("SELECT *, row_number() OVER (PARTITION BY image_id ORDER BY d) AS nth FROM ({distances})");
    let query = format!(
        "SELECT count(*) AS n, max(abs(a.distance / x.d - 1)) AS first, max(abs(a.second_distance / y.d - 1)) AS second \
         FROM assigned a JOIN ({ranked}) x ON x.image_id = a.image_id AND x.cluster = a.cluster AND x.nth = 1 \
         JOIN ({ranked}) y ON y.image_id = a.image_id AND y.cluster = a.second_cluster AND y.nth = 2"
    );
    let rows = place.sql(&query);
    assert_eq!(rows[0]["n"], 45);
    assert!(["first", "second"].iter().all(|nth| rows[0][nth].as_f64().unwrap() < 1e-4), "{rows:?}");

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
    // A crop shows what its name says: of 72 x 64 px, four columns from 0 on, and three rows.
    let picture = image::open(place.path("photos/blue/0002.png")).unwrap().to_rgb8();
    let crops = place.sql("SELECT image_id, pixels FROM tiles WHERE photo = 'blue/0002.png' ORDER BY image_id");
    let places = (0..3).flat_map(|row| (0..4).map(move |column| (row, column)));
    assert_eq!(crops.len(), 12);
    for (crop, (row, column)) in crops.iter().zip(places) {
        assert_eq!(crop["image_id"], format!("blue/0002.png#{row:03},{column:03}"));
        let expected = image::imageops::crop_imm(&picture, column * 8, row * 8, 48, 48).to_image();
        assert!(crop["pixels"] == json!(expected.as_raw()), "{}", crop["image_id"]);
    }
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
        decoded(
            48,
            "",
            r#"[stage.features]
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
        ),
    );
    let width = place.sql_after_run("SELECT count(*) AS n, min(array_length(feature)) AS width FROM learnt");
    assert_eq!(width, [json!({"n": 45, "width": 192})]);
    // Three clusters, three classes.
    let shape = place.sql("SELECT shape FROM target WHERE tensor = 'fc.weight'");
    assert_eq!(shape, [json!({"shape": [3, 192]})]);
    let probed =
        place.sql("SELECT epoch, value FROM metrics WHERE stage = 'target' AND name = 'knn_accuracy' ORDER BY epoch");
    assert_eq!(probed.iter().map(|row| &row["epoch"]).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(probed[2]["value"].as_f64().unwrap() > 0.5, "three clusters are no riddle: {probed:?}");
    let seen = place.sql("SELECT min(array_length(pixels)) AS n, count(DISTINCT cluster) AS clusters FROM views");
    assert_eq!(seen, [json!({"n": 32 * 32 * 3, "clusters": 3})]);
    let again =
        place.tessera("run", &["--format", "json", "--set", "target.device=cpu", "--set", "target.checkpoint_minutes=1"]);
    assert!(again.actions().iter().all(|action| action.ends_with(":reuse")), "{}", again.out);
}
