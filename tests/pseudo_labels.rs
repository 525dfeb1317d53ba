//! What pseudo-labels need besides labels: classes of equal weight, clusters of some size, and the baseline of visual words.

use std::fs;

use serde_json::json;
use tessera_schemas::digest::TableDigest;
use tessera_tests::Place;

/// Classes of 4, 9 and 25 images, seen equally often, and an image that is none.
const UNEQUAL: &str = r#"
[pipeline]
part_rows = 16

[stage]
images = { op = "images", path = "photos" }
some = { op = "sql", input = "images", query = "SELECT *, CASE WHEN label = 'red' AND image_id < 'red/0014' THEN 0 WHEN label = 'blue' THEN 1 ELSE 2 END AS kind FROM images WHERE label <> 'blue' OR image_id < 'blue/0029'" }
decoded = { op = "decode", input = "some", side = 32, on_error = "drop" }
target = { op = "train", input = "decoded", network = "small", target = "kind", classes = 3, sampling = "classes", epochs = 4, batch = 8, checkpoint_minutes = 0, metrics_every = 1 }
"#;

fn unequal() -> Place {
    let place = Place::new();
    place.images(45).write("photos/red/0001.png", "no image");
    place.write("pipeline.toml", UNEQUAL);
    place
}

fn run(place: &Place, more: &[&str]) -> tessera_tests::Answer {
    let answer = place.tessera("run", &[&["--format", "json"], more].concat());
    assert_eq!(answer.code, 0, "{}", answer.err);
    answer
}

/// Weights and dropped rows.
fn left(place: &Place) -> (TableDigest, Vec<serde_json::Value>) {
    (place.digests("pipeline").remove("target").unwrap(), place.sql("SELECT stage, image_id FROM dropped ORDER BY 1, 2"))
}

#[test]
fn classes_are_seen_equally_often_also_after_a_kill() {
    let undisturbed = unequal();
    run(&undisturbed, &["--threads", "1"]);
    let rows = undisturbed.sql("SELECT count(*) AS n FROM decoded")[0]["n"].as_u64().unwrap();
    let steps = undisturbed.sql("SELECT max(step) AS n FROM metrics WHERE name = 'epoch_loss'")[0]["n"].as_u64().unwrap();
    assert!(steps <= 4 * (rows / 8) && steps >= 3 * (rows / 8), "as many examples as there are images: {steps} of {rows}");
    let (weights, dropped) = left(&undisturbed);
    let names: Vec<_> = dropped.iter().map(|row| row["image_id"].as_str().unwrap()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| *name == "red/0001.png"), "by their own names: {dropped:?}");
    // Otherwise other examples are seen.
    let place = unequal();
    run(&place, &["--threads", "1", "--set", "target.sampling=images"]);
    assert_ne!(left(&place).0, weights);

    let place = unequal();
    // One that is being written has an extension.
    let kept = || {
        let files = fs::read_dir(place.path(".tessera/pipeline/target/checkpoints"));
        files.is_ok_and(|mut files| files.any(|file| file.unwrap().path().extension().is_none()))
    };
    place.kill_when(kept);
    let again = run(&place, &["--threads", "1"]);
    assert!(again.err.contains("target: resumed at epoch "), "{}", again.err);
    assert!(left(&place) == (weights, dropped), "other weights, or other rows were dropped");
}

const WORDS: &str = r#"
[stage]
images = { op = "images", path = "photos" }
crops = { op = "tile", input = "images", side = 16, stride = 8 }
gradients = { op = "hog", input = "crops", cell = 8, block = 2 }
words = { op = "kmeans", input = "gradients", k = 12 }
spelt = { op = "assign", inputs = { features = "gradients", clusters = "words" } }
bags = { op = "bag_of_words", input = "spelt" }
clusters = { op = "kmeans", input = "bags", k = 9 }
assigned = { op = "assign", inputs = { features = "bags", clusters = "clusters" } }
"#;

/// The paper's CC+HOG: photos as bags of the words that their crops are, in clusters.
#[test]
fn visual_words_make_clusters_of_photos() {
    let place = Place::new();
    place.images(40).write("pipeline.toml", WORDS);
    run(&place, &[]);
    let bags = place.sql("SELECT count(*) AS n, min(array_length(feature)) AS width FROM bags");
    assert_eq!(bags, [json!({"n": 40, "width": 12})]);
    // A bag is what SQL counts.
    let counted = place.sql(
        "SELECT b.image_id FROM bags b JOIN (SELECT split_part(image_id, '#', 1) AS image_id, \
         avg(CASE WHEN cluster = 3 THEN 1.0 ELSE 0.0 END) AS share FROM spelt GROUP BY 1) s USING (image_id) \
         WHERE abs(s.share - b.feature[4]) < 1e-6",
    );
    assert_eq!(counted.len(), 40);

    let sizes = place.sql("SELECT cluster, size FROM clusters ORDER BY size, cluster");
    let least = sizes[sizes.len() / 2]["size"].as_i64().unwrap();
    let small: Vec<i64> =
        sizes.iter().filter(|row| row["size"].as_i64() < Some(least)).map(|row| row["cluster"].as_i64().unwrap()).collect();
    assert!(!small.is_empty(), "some clusters are smaller than others: {sizes:?}");
    let list = small.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let of_small = place.sql(&format!("SELECT count(*) AS n FROM assigned WHERE cluster IN ({list})"))[0]["n"].clone();
    let size = format!("assigned.min_size={least}");
    run(&place, &["--set", &size]);
    let merged =
        place.sql(&format!("SELECT count(*) AS n, count(*) FILTER (WHERE cluster IN ({list})) AS small FROM assigned"));
    assert_eq!(merged, [json!({"n": 40, "small": 0})]);
    run(&place, &["--set", &size, "--set", "assigned.small=drop"]);
    let dropped = place.sql("SELECT count(*) AS n FROM dropped WHERE stage = 'assigned'");
    assert_eq!(dropped[0]["n"], of_small);
}
