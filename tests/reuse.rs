//! Reruns do only what changed.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tessera_tests::{Place, binary};

/// Features without training: a table of numbers, clustered; and images, decoded and clustered by an untrained network's layer.
fn chain(images: usize) -> Place {
    let place = Place::new();
    crate::end_to_end::chain(&place, images);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

const ALL_REUSED: [&str; 6] =
    ["images:reuse", "pretext:reuse", "features:reuse", "clusters:reuse", "assigned:reuse", "labelled:reuse"];

fn edit(place: &Place, from: &str, to: &str) {
    let path = place.path("pipeline.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn nothing_changed_nothing_done() {
    let place = chain(36);
    let run = || place.tessera("run", &["--format", "json"]);
    let again = run();
    assert_eq!(again.actions(), ALL_REUSED);
    assert!(again.json()["stages"].as_array().unwrap().iter().all(|s| s["rows_computed"] == 0 && s["parts_written"] == 0));

    // Touched files, another order, defaults spelt out, other threads, part sizes and policies.
    for at in 0..36 {
        let file = fs::File::options()
            .append(true)
            .open(place.path("photos").join(["green", "red", "blue"][at % 3]).join(format!("{at:04}.png")));
        file.unwrap().set_modified(SystemTime::now() - Duration::from_secs(at as u64 + 100)).unwrap();
    }
    let touched = run();
    assert_eq!(touched.actions()[0], "images:update", "a row tells its file's time");
    assert_eq!(touched.actions()[1..], ALL_REUSED[1..], "touched files");
    edit(&place, "side = 64", "on_error = \"drop\"\nside = 64\nmax_megapixels = 178");
    assert_eq!(run().actions(), ALL_REUSED, "on_error and a default");
    edit(&place, "permutations = 10", "tile = 16\ncell = 21\npermutations = 10\ngrid = 3");
    edit(&place, "k = 3", "iterations = 100\nk = 3\ninit = \"k-means++\"");
    assert_eq!(run().actions(), ALL_REUSED, "defaults that depend on the input");
    let other = ["--format", "json", "--threads", "1", "--set", "pipeline.part_rows=5"];
    assert_eq!(place.tessera("run", &other).actions(), ALL_REUSED, "threads and part sizes");
    let text = fs::read_to_string(place.path("pipeline.toml")).unwrap();
    let stages: Vec<&str> = text.split("\n\n").collect();
    place.write("pipeline.toml", stages.iter().rev().copied().collect::<Vec<_>>().join("\n\n"));
    let mut actions = run().actions();
    actions.sort();
    let mut expected = ALL_REUSED;
    expected.sort_unstable();
    assert_eq!(actions, expected, "another order");
}

#[test]
fn a_moved_folder_is_the_same_folder() {
    let place = chain(9);
    let moved = place.path("elsewhere");
    fs::create_dir(&moved).unwrap();
    for name in ["photos", ".tessera", "pipeline.toml"] {
        fs::rename(place.path(name), moved.join(name)).unwrap();
    }
    let run = place.call("run", "elsewhere/pipeline.toml", &["--format", "json"]);
    assert_eq!(run.actions(), ALL_REUSED);
    let sql = place.call("sql", "elsewhere/pipeline.toml", &["--format", "json", "SELECT count(pixels) AS n FROM decoded"]);
    assert_eq!(sql.json(), json!([{"n": 9}]), "images are found where they are now");
}

#[test]
fn k_is_changed_and_changed_back() {
    let place = chain(36);
    let planned = place.tessera("plan", &["--format", "json", "--set", "clusters.k=4"]);
    assert_eq!(planned.stage("clusters")["reasons"], json!(["clusters: kmeans.k 3 -> 4"]));
    // As the book's first hour shows it.
    let csv = place.tessera("plan", &["--set", "clusters.k=4", "--format", "csv"]).out;
    let lines: Vec<&str> = csv.lines().filter(|line| !line.contains("puzzles") && !line.contains("pretext")).collect();
    let expected = [
        "stage,action,parts,stale_parts,reasons",
        "images,reuse,3,0,",
        "decoded,view,0,0,",
        "features,reuse,3,0,",
        "clusters,run,1,1,clusters: kmeans.k 3 -> 4",
        "assigned,update,3,3,assigned: input clusters will be made first",
    ];
    assert_eq!(lines[..6], expected, "{csv}");
    let run = place.tessera("run", &["--format", "json", "--set", "clusters.k=4"]);
    let expected = ["images:reuse", "pretext:reuse", "features:reuse", "clusters:run", "assigned:run", "labelled:run"];
    assert_eq!(run.actions(), expected);
    assert_eq!(run.stage("decoded")["rows_computed"], 0);
    assert_eq!(place.sql("SELECT count(*) AS n FROM clusters")[0]["n"], 4);
    let back = place.tessera("run", &["--format", "json"]);
    assert_eq!(back.actions(), ALL_REUSED, "the old snapshots are still there");
    assert_eq!(place.sql("SELECT count(*) AS n FROM clusters")[0]["n"], 3);
}

#[test]
fn labels_are_no_reason_to_compute_features() {
    let place = Place::new();
    place.images(12).write(
        "pipeline.toml",
        r#"
[stage.raw]
op = "images"
path = "photos"

[stage.images]
op = "sql"
input = "raw"
query = "SELECT image_id, source, digest, label || '!' AS label FROM raw"

[stage.decoded]
op = "decode"
input = "images"
side = 32

[stage.network]
op = "train"
input = "puzzles"
network = "small"
epochs = 1
batch = 4

[stage.puzzles]
op = "jigsaw"
input = "decoded"
permutations = 5
cell = 10
tile = 8
channel_shift = 0

[stage.features]
op = "infer"
inputs = { images = "decoded", weights = "network" }
layer = "conv1"
pool = 1

[stage.counts]
op = "sql"
input = "images"
query = "SELECT label, count(*) AS n FROM images GROUP BY label"
"#,
    );
    let first = place.tessera("run", &["--format", "json"]);
    assert_eq!(first.stage("features")["rows_out"], 12);
    edit(&place, "|| '!'", "|| '?'");
    let again = place.tessera("run", &["--format", "json"]);
    let mut actions = again.actions();
    actions.sort();
    assert_eq!(actions, ["counts:run", "features:reuse", "images:run", "network:reuse", "raw:reuse"]);
    assert_eq!(again.stage("decoded")["rows_computed"], 0);
    assert_eq!(place.sql("SELECT label FROM decoded LIMIT 1")[0]["label"].as_str().unwrap().chars().last(), Some('?'));
}

#[test]
fn the_seed_reruns_what_draws() {
    let place = chain(18);
    let planned = place.tessera("plan", &["--format", "json", "--set", "pipeline.seed=6"]);
    assert_eq!(planned.stage("images")["action"], "reuse");
    assert_eq!(planned.stage("pretext")["action"], "run");
    let reasons = planned.stage("pretext")["reasons"].to_string();
    assert!(reasons.contains("seed 5 -> 6"), "{reasons}");
}

#[test]
fn forced_stages_are_made_anew_and_equal_rows_stop_there() {
    let place = chain(18);
    let run = place.tessera("run", &["--format", "json", "--force", "features"]);
    assert_eq!(run.stage("features")["action"], "run");
    assert_eq!(run.stage("features")["rows_computed"], 18);
    assert_eq!(run.stage("clusters")["action"], "reuse", "the same rows came out");
}

#[test]
fn images_come_and_go() {
    let place = chain(40);
    // Features depend on the pretext, and that on all images: hold it still, as from an earlier store.
    let file = fs::read_to_string(place.path("pipeline.toml")).unwrap();
    let (before, rest) = file.split_once("[stage.features]").unwrap();
    place.write("net.toml", before);
    let still = format!(
        "[pipeline]\nname = \"still\"\nstore = \"other\"\npart_rows = 16\n{}[stage.features]{}",
        before.split_once("part_rows = 16\n").unwrap().1.split_once("[stage.puzzles]").unwrap().0,
        rest.replace(
            "weights = \"pretext\" }",
            "weights = \"weights\" }\nmean = [0.5, 0.5, 0.5]\ndeviation = [0.2, 0.2, 0.2]"
        )
    );
    let weights = "\n[stage.weights]\nop = \"weights\"\npath = \"net.safetensors\"\nnetwork = \"small\"\n";
    place.write("still.toml", format!("{still}{weights}"));
    safetensors(&place);
    let run = || place.call("run", "still.toml", &["--format", "json"]);
    assert_eq!(run().stage("features")["rows_computed"], 40);

    for gone in [0, 17, 39] {
        let class = ["green", "red", "blue"][gone % 3];
        fs::remove_file(place.path("photos").join(class).join(format!("{gone:04}.png"))).unwrap();
    }
    for new in 40..45 {
        place.image(new);
    }
    fs::copy(place.path("photos/red/0040.png"), place.path("photos/green/0003.png")).unwrap();
    let run = run();
    assert_eq!(run.stage("images")["rows_out"], 42);
    assert_eq!(run.stage("decoded")["rows_computed"], 6, "five new ones and one changed");
    assert_eq!((&run.stage("features")["rows_computed"], &run.stage("features")["rows_reused"]), (&json!(6), &json!(36)));
    assert_eq!(run.stage("features")["action"], "update");

    let table = |file: &str, table: &str| {
        let answer = place.call("sql", file, &["--format", "csv", &format!("SELECT * FROM {table} ORDER BY 1")]);
        assert_eq!(answer.code, 0, "{}", answer.err);
        answer.out
    };
    place.write(
        "fresh.toml",
        fs::read_to_string(place.path("still.toml"))
            .unwrap()
            .replace("\"still\"\nstore = \"other\"", "\"fresh\"\nstore = \"third\""),
    );
    assert_eq!(place.call("run", "fresh.toml", &["-q"]).code, 0);
    for name in ["images", "features", "clusters", "assigned", "labelled"] {
        assert_eq!(table("still.toml", name), table("fresh.toml", name), "{name}: as if made at once");
    }
}

/// Weights of `small` made by arithmetic, in safetensors' format.
fn safetensors(place: &Place) {
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    let rows = place.sql("SELECT tensor, shape FROM pretext ORDER BY tensor");
    for row in rows {
        let shape: Vec<usize> = row["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        let count: usize = shape.iter().product();
        let name = row["tensor"].as_str().unwrap();
        let start = data.len();
        for at in 0..count {
            let value =
                ((at * 37 + name.len() * 11) % 101) as f32 / 500.0 + if name.contains("running_var") { 0.5 } else { -0.1 };
            data.extend(value.to_le_bytes());
        }
        header.insert(name.to_owned(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = fs::File::create(place.path("net.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(&data).unwrap();
}

#[test]
fn what_nothing_needs_can_go() {
    let place = chain(12);
    for k in ["clusters.k=4", "clusters.k=5"] {
        assert_eq!(place.tessera("run", &["-q", "--set", k]).code, 0);
    }
    place.write(".tessera/pipeline/features/parts/interrupted.parquet", "half a part");
    let found = |arguments: &[&str]| place.tessera("gc", &[&["--format", "json"], arguments].concat()).json();
    let kinds = |found: &serde_json::Value| {
        let all = found.as_array().unwrap().iter();
        all.map(|file| format!("{}:{}", file["stage"].as_str().unwrap(), file["kind"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&found(&[])), ["features:part"], "three runs are kept by default");
    let dry = found(&["--keep-runs", "0"]);
    assert!(kinds(&dry).iter().filter(|kind| *kind == "clusters:part").count() == 2, "{dry}");
    assert_eq!(found(&["--keep-runs", "0"]), dry, "nothing was deleted");
    found(&["--keep-runs", "0", "--delete"]);
    assert_eq!(found(&["--keep-runs", "0"]), json!([]));
    assert_eq!(place.sql("SELECT count(*) AS n FROM clusters")[0]["n"], 5, "the current snapshots are whole");
    assert_eq!(place.tessera("run", &["--format", "json", "--set", "clusters.k=5"]).actions(), ALL_REUSED);
    let back = place.tessera("run", &["--format", "json"]);
    assert_eq!(back.stage("clusters")["action"], "run", "older ones are gone");
}

#[test]
fn a_limit_has_tables_of_its_own() {
    let place = chain(18);
    let run = place.tessera("run", &["--format", "json", "--limit", "6", "--to", "images"]);
    assert_eq!(run.stage("images")["rows_out"], 6);
    let ids = |limit: &str| {
        let query = "SELECT image_id FROM images ORDER BY image_id";
        let answer = place.tessera("sql", &["--format", "csv", "--limit", limit, query]);
        answer.out.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let few = ids("6");
    let classes: std::collections::BTreeSet<&str> = few.iter().map(|id| id.split('/').next().unwrap()).collect();
    assert!(few.len() == 6 && classes.len() == 3, "from all folders: {few:?}");
    assert_eq!(place.tessera("run", &["-q", "--limit", "9", "--to", "images"]).code, 0);
    let more = ids("9");
    assert!(more.len() == 9 && few.iter().all(|id| more.contains(id)), "a smaller sample is a part of a larger one");
    assert_eq!(place.tessera("run", &["--format", "json"]).actions(), ALL_REUSED, "the full tables are untouched");
}

#[test]
fn two_runs_at_once_do_not_mix() {
    let place = Place::new();
    crate::end_to_end::chain(&place, 30);
    let mut first = Command::new(binary())
        .args(["run", "pipeline.toml", "--set", "pretext.epochs=500"])
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !place.path(".tessera/pipeline/images/current").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = place.tessera("run", &[]);
    first.kill().unwrap();
    let _ = first.wait();
    assert_eq!(second.code, 4);
    let holder = format!("is in use by process {}", first.id());
    assert!(second.err.contains(&holder), "{}", second.err);
    assert_eq!(place.tessera("run", &["-q"]).code, 0, "a killed run holds nothing");
}
