//! Weights that training starts from, layers that keep them, and what probes say of features.

use serde_json::json;
use tessera_tests::Place;

/// A pretext network, clusters of its features, and networks that learn those from its weights.
fn place() -> Place {
    let place = Place::new();
    let file = r#"
[pipeline]
part_rows = 16
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 64 }
puzzles = { op = "jigsaw", input = "decoded", permutations = 10 }
pretext = { op = "train", input = "puzzles", network = "small", epochs = 1, batch = 16 }
features = { op = "infer", inputs = { images = "decoded", weights = "pretext" }, layer = ["conv2", "conv4"], pool = 2 }
clusters = { op = "kmeans", input = "features", column = "conv4", k = 3 }
assigned = { op = "assign", inputs = { features = "features", clusters = "clusters" }, column = "conv4" }
labelled = { op = "label_join", inputs = { images = "images", labels = "assigned" }, columns = ["cluster"] }
pixels = { op = "decode", input = "labelled", side = 64 }
frozen = { op = "train", inputs = { examples = "pixels", weights = "pretext" }, network = "small", freeze = "conv3", epochs = 1, batch = 16 }
tuned = { op = "train", inputs = { examples = "pixels", weights = "pretext" }, network = "small", epochs = 1, batch = 16 }
probe = { op = "probe", inputs = { features = "features", labels = "images" }, c = [0.001, 0.1] }
"#;
    place.images(60).write("pipeline.toml", file);
    place
}

#[test]
fn layers_keep_their_weights_up_to_the_frozen_one() {
    let place = place();
    let run = place.tessera("run", &["--to", "frozen", "--to", "tuned"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let said = |stage: &str| {
        let begins = format!("{stage}: starts from `weights`; tensors that start anew: ");
        let line = run.err.lines().find_map(|line| line.strip_prefix(&begins)).unwrap_or_else(|| panic!("{}", run.err));
        line.split(", ").map(str::to_owned).collect::<Vec<_>>()
    };
    let anew = said("frozen");
    assert_eq!(anew.len(), 2 * 5 + 2, "what is behind the frozen layers, and the head: {anew:?}");
    assert!(anew.iter().all(|name| ["4", "5", "fc"].iter().any(|layer| name.contains(layer))), "{anew:?}");
    assert_eq!(said("tuned"), ["fc.bias", "fc.weight"]);
    let same = |stage: &str| {
        let query = format!(
            "SELECT tensor FROM pretext JOIN {stage} USING (tensor) WHERE pretext.data = {stage}.data ORDER BY tensor"
        );
        let rows = place.sql(&query);
        rows.iter().map(|row| row["tensor"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let kept: Vec<_> = same("frozen");
    assert_eq!(kept.len(), 3 * 5, "a kernel and four tensors of batch normalisation a layer: {kept:?}");
    assert!(kept.iter().all(|name| ["1", "2", "3"].iter().any(|number| name.contains(number))), "{kept:?}");
    assert_eq!(same("tuned"), [""; 0]);
    let all = place.tessera("run", &["--to", "frozen", "--set", "frozen.take=all"]);
    assert!(all.err.contains("frozen: starts from `weights`; tensors that start anew: fc.bias, fc.weight"), "{}", all.err);
    assert_eq!(same("frozen"), kept);
    // Images are normalised as its tiles were.
    let features =
        "tuned_features = { op = \"infer\", inputs = { images = \"decoded\", weights = \"tuned\" }, layer = \"conv5\" }\n";
    let file = std::fs::read_to_string(place.path("pipeline.toml")).unwrap();
    place.write("pipeline.toml", file + features);
    assert_eq!(place.tessera("run", &["-q", "--to", "tuned_features"]).code, 0);
}

#[test]
fn probes_tell_layers_apart() {
    let place = place();
    let run = place.tessera("run", &["--to", "probe"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let rows = place.sql(
        "SELECT layer, split, count(*) AS n FROM probe WHERE metric = 'top1' GROUP BY layer, split ORDER BY layer, split",
    );
    let row = |layer: &str, split: &str, n: i64| json!({ "layer": layer, "split": split, "n": n });
    let expected = ["conv2", "conv4"].map(|layer| [row(layer, "test", 1), row(layer, "validation", 2)]).concat();
    assert_eq!(rows, expected);
    // Red, green and blue are no riddle.
    let top = place.sql("SELECT value FROM metrics WHERE stage = 'probe' AND name = 'conv2_top1'");
    assert!(top[0]["value"].as_f64().unwrap() > 0.8, "{top:?}");
    assert!(place.tessera("plan", &["--format", "csv"]).out.contains("probe,reuse"));
}

#[test]
fn what_cannot_be_started_from_is_said() {
    let place = place();
    for (set, message) in [
        ("frozen.network=vgg16", "they are of `small`, and the stage trains `vgg16`"),
        ("frozen.freeze=conv9", "`conv9` is no layer of `small`"),
        ("tuned.take=frozen", "is `frozen`, and no layers are"),
        ("pretext.freeze=conv1", "is of the input `weights`, and the stage has none"),
    ] {
        let check = place.tessera("check", &["--set", set]);
        assert!(check.code == 2 && check.err.contains(message), "{}", check.err);
    }
}
