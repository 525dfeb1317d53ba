//! Weights that training starts from, layers that keep them, and what probes say of features.

use serde_json::json;
use tessera_tests::{Place, untimed};

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
        let line =
            run.err.lines().find_map(|line| untimed(line).strip_prefix(&begins)).unwrap_or_else(|| panic!("{}", run.err));
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

#[test]
fn an_exported_network_needs_no_keys() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q", "--to", "features", "--to", "tuned"]).code, 0);
    for stage in ["pretext", "tuned"] {
        let file = format!("{stage}.safetensors");
        assert_eq!(place.tessera("export", &[stage, "-q", "-o", &file]).code, 0);
    }
    let features = |file: &str| {
        let answer = place.call("sql", file, &["--format", "csv", "SELECT * FROM features ORDER BY image_id"]);
        assert_eq!(answer.code, 0, "{}", answer.err);
        answer.out
    };
    let before = features("pipeline.toml");
    let pinned = |more: &str| {
        let file = format!(
            "[pipeline]\npart_rows = 16\n[stage]\nimages = {{ op = \"images\", path = \"photos\" }}\n\
             decoded = {{ op = \"decode\", input = \"images\", side = 64 }}\n\
             network = {{ op = \"weights\", path = \"pretext.safetensors\"{more} }}\n\
             features = {{ op = \"infer\", inputs = {{ images = \"decoded\", weights = \"network\" }}, \
             layer = [\"conv2\", \"conv4\"], pool = 2 }}\n"
        );
        place.write("pinned.toml", file);
    };
    // Puzzles' tiles were normalised each by itself: the file says so, and so are images.
    pinned("");
    let run = place.call("run", "pinned.toml", &["--format", "json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(features("pinned.toml") == before, "as of the network where it was trained");
    // Spelled out, it is the same.
    pinned(", network = \"small\", normalisation = \"tile\"");
    assert_eq!(
        place.call("run", "pinned.toml", &["--format", "json"]).actions(),
        ["images:reuse", "network:reuse", "features:reuse"]
    );
    // What `check` says, on one line, without the frame around it.
    let refused = |more: &str| {
        pinned(more);
        let check = place.call("check", "pinned.toml", &[]);
        assert_eq!(check.code, 2, "{}", check.err);
        check.err.replace(['│', '╰', '·', '─'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (more, message) in [
        (", network = \"vgg16\"", "is `vgg16`, and the file says that its tensors are of `small`"),
        (", normalisation = \"none\"", "the file says that images are normalised otherwise"),
    ] {
        let said = refused(more);
        assert!(said.contains(message), "{said}");
    }
    // Another network, another file.
    pinned("");
    let set = ["--set", "network.path=tuned.safetensors", "--format", "json"];
    assert_eq!(place.call("run", "pinned.toml", &set).code, 0);
    assert!(features("pinned.toml") != before);
    // A file that says nothing is not guessed about.
    let bytes = std::fs::read(place.path("pretext.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header.as_object_mut().unwrap().remove("__metadata__");
    let header = header.to_string();
    let bare = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]].concat();
    place.write("pretext.safetensors", bare);
    for (more, message) in [
        ("", "stage `network`: does not say which network its tensors are of, and stage `features` needs it"),
        (", network = \"small\"", "normalisation = \"tile\" in their stage `weights`"),
        (", network = \"resnet18\"", "they are those of `small`: network = \"small\""),
        (", network = \"resnet18\"", "pinned.toml:6"),
    ] {
        let said = refused(more);
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn where_a_network_was_trained_is_kept_and_said() {
    let place = place();
    let run = |threads: &str| place.tessera("run", &["--to", "pretext", "--format", "json", "--threads", threads]);
    assert_eq!(run("1").stage("pretext")["action"], "run");
    let query = "SELECT stage, device, threads FROM snapshots ORDER BY stage";
    let rows = [
        json!({"stage": "images", "device": null, "threads": null}),
        json!({"stage": "pretext", "device": "cpu", "threads": 1}),
    ];
    assert_eq!(place.sql(query), rows);
    let plan = |threads: &str| {
        place.tessera("plan", &["--to", "pretext", "--format", "json", "--threads", threads]).stage("pretext")
    };
    assert_eq!((&plan("1")["action"], &plan("1")["reasons"]), (&json!("reuse"), &json!([])));
    let said =
        "pretext: made on cpu with 1 thread, and here it is cpu with 2 threads: made anew, its last digits would differ";
    assert_eq!((&plan("2")["action"], &plan("2")["reasons"]), (&json!("reuse"), &json!([said])));
    assert_eq!(run("2").stage("pretext")["action"], "reuse");
    // What `auto` became is in the key: spelled out, it is the same.
    let spelled = place.tessera("plan", &["--to", "pretext", "--format", "json", "--set", "pretext.precision=float32"]);
    assert_eq!(spelled.stage("pretext")["action"], "reuse");
    let other = place.tessera("plan", &["--to", "pretext", "--format", "json", "--set", "pretext.precision=bfloat16"]);
    assert_eq!(other.stage("pretext")["reasons"], json!(["pretext: train.precision \"float32\" -> \"bfloat16\""]));
}
