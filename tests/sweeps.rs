//! Sweeps: what a grid costs, how it goes on, and how it answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tessera_tests::{Answer, Place};

mod faults;

const STAGES: &str = r#"
[pipeline]
part_rows = 16
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 32 }
features = { op = "hog", input = "decoded" }
clusters = { op = "kmeans", input = "features", k = 3, init = "random" }
assigned = { op = "assign", inputs = { features = "features", clusters = "clusters" } }
sizes = { op = "sql", input = "assigned", query = "SELECT cluster, count(*) AS n FROM assigned GROUP BY cluster" }
"#;

const KS: [i64; 5] = [2, 3, 4, 5, 6];

/// Generated images, HOG features, and clusterings of them over five k and three seeds.
fn place() -> Place {
    let place = Place::new();
    place.images(40);
    sweep(&place, "\"clusters.k\" = [2, 3, 4, 5, 6]\n\"clusters.seed\" = [1, 2, 3]\n");
    place
}

fn sweep(place: &Place, axes: &str) {
    place.write("pipeline.toml", format!("{STAGES}[sweep]\n{axes}"));
}

/// How many stages did something, and the rows that they computed, by the name in the file.
fn made(run: &Answer) -> BTreeMap<String, (usize, u64)> {
    let mut made = BTreeMap::new();
    for stage in run.json()["stages"].as_array().unwrap() {
        let base = stage["stage"].as_str().unwrap().split('@').next().unwrap();
        if stage["action"] != "view" && stage["action"] != "reuse" {
            let entry: &mut (usize, u64) = made.entry(base.to_owned()).or_default();
            entry.0 += 1;
            entry.1 += stage["rows_computed"].as_u64().unwrap();
        }
    }
    made
}

fn run(place: &Place, arguments: &[&str]) -> BTreeMap<String, (usize, u64)> {
    made(&place.tessera("run", &[&["--format", "json"], arguments].concat()))
}

#[test]
fn fifteen_clusterings_cost_one_feature_extraction() {
    let place = place();
    let first = place.tessera("run", &["--format", "json"]);
    let made_first = made(&first);
    assert_eq!(made_first["features"], (1, 40));
    assert_eq!(made_first["clusters"], (15, 3 * KS.iter().sum::<i64>() as u64));
    assert_eq!((made_first["assigned"], made_first["sizes"].0), ((15, 15 * 40), 15));
    assert_eq!(first.stage("decoded")["rows_computed"], 40, "each image is decoded once");
    assert!(run(&place, &[]).is_empty(), "the second run has nothing to do");

    // One more k costs its three seeds, and a value that is gone costs nothing.
    sweep(&place, "\"clusters.k\" = [2, 3, 4, 5, 7]\n\"clusters.seed\" = [1, 2, 3]\n");
    let more = run(&place, &[]);
    assert_eq!((more["clusters"], more["assigned"], more.len()), ((3, 21), (3, 120), 3));
    assert!(place.strays("pipeline").is_empty(), "{:?}", place.strays("pipeline"));
}

/// `gc` keeps cells of a sweep that the command line named as long as it keeps what else that run made.
#[test]
fn cells_of_the_command_line_are_kept_for_some_runs() {
    let place = Place::new();
    place.images(20).write("pipeline.toml", STAGES);
    assert_eq!(place.tessera("run", &["-q", "--set", "sweep.clusters.k=[2,3]"]).code, 0);
    let cell = place.path(".tessera/pipeline/clusters@k=2");
    assert!(cell.exists());
    let gc = |runs: &str| assert_eq!(place.tessera("gc", &["--keep-runs", runs, "--delete"]).code, 0);
    gc("1");
    assert!(cell.join("current").exists());
    gc("0");
    assert!(!cell.exists());
}

#[test]
fn an_interrupted_sweep_goes_on() {
    let place = place();
    let some = run(&place, &["--to", "clusters@k=3", "--to", "assigned@seed=1,k=5"]);
    assert_eq!((some["features"], some["clusters"], some["assigned"]), ((1, 40), (4, 14), (1, 40)));
    let answer = place
        .tessera("sql", &["--format", "json", "SELECT k, seed, count(*) AS n FROM clusters GROUP BY k, seed ORDER BY 1, 2"]);
    assert_eq!(
        answer.json(),
        json!([{"k": 3, "seed": 1, "n": 3}, {"k": 3, "seed": 2, "n": 3}, {"k": 3, "seed": 3, "n": 3}, {"k": 5, "seed": 1, "n": 5}])
    );
    assert!(
        answer.err.contains("note: 11 of 15 cells of `clusters` are not made yet: clusters@k=2,seed=1, "),
        "{}",
        answer.err
    );
    let report = place.tessera("report", &["clusters", "--format", "json"]);
    assert!(report.err.contains("11 of 15 cells of `clusters`"), "{}", report.err);
    let seeds: Vec<Value> = report.json().as_array().unwrap().iter().map(|row| row["seeds"].clone()).collect();
    assert_eq!(seeds, [json!(0), json!(3), json!(0), json!(1), json!(0)]);

    // A run that stops in the middle keeps each cell that it finished, and the next one makes the others.
    let mut stopped = place.command("run", "pipeline.toml", &["-q"]);
    stopped.env("TESSERA_FAULT", "enospc:60+");
    let stopped = tessera_tests::run(stopped);
    assert_eq!(stopped.code, 1, "{}", stopped.err);
    let before =
        place.sql("SELECT count(*) AS n FROM stages WHERE stage LIKE 'clusters@%' AND rows > 0")[0]["n"].as_u64().unwrap();
    let rest = run(&place, &[]);
    assert!((5..15).contains(&before), "{before}");
    // Of one more cell, all but the pointer may have been written: it is found by its key.
    assert!([15 - before, 14 - before].contains(&(rest["clusters"].0 as u64)), "{before}: {rest:?}");
    assert!(!rest.contains_key("features"));
    let answer = place.tessera("sql", &["SELECT * FROM clusters"]);
    assert!(!answer.err.contains("note"), "{}", answer.err);
}

#[test]
fn cells_answer_together_and_alone() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let cells = place.sql("SELECT k, seed, count(*) AS n, sum(n) AS images FROM sizes GROUP BY k, seed");
    assert_eq!(cells.len(), 15);
    assert!(cells.iter().all(|cell| cell["images"] == 40 && cell["n"].as_i64() <= cell["k"].as_i64()), "{cells:?}");
    let one = place.sql("SELECT image_id, cluster FROM \"assigned@k=4,seed=2\" ORDER BY image_id");
    assert_eq!(one, place.sql("SELECT image_id, cluster FROM assigned WHERE k = 4 AND seed = 2 ORDER BY image_id"));
    assert_eq!(one.len(), 40);
    let explain = "EXPLAIN SELECT image_id FROM assigned WHERE k = 4 AND seed = 2";
    let plan = place.tessera("sql", &["--format", "csv", explain]).out;
    assert_eq!(plan.matches("DataSourceExec").count(), 1, "only that cell is read: {plan}");
    let agreement = "SELECT k, seed, nmi(cluster, label) AS nmi FROM assigned JOIN images USING (image_id) GROUP BY k, seed";
    let agreement = place.sql(agreement);
    assert_eq!(agreement.len(), 15);
    assert!(agreement.iter().all(|cell| (0.0..=1.0).contains(&cell["nmi"].as_f64().unwrap())), "{agreement:?}");
    let found = place.sql("SELECT k, count(DISTINCT cluster) AS n FROM assigned GROUP BY k ORDER BY k");
    assert_eq!(found, KS.map(|k| json!({ "k": k, "n": k })), "no cluster of any k is empty");
    // Seeds are seeds: another one starts elsewhere, the same one at the same place.
    let seeds = place.sql("SELECT count(DISTINCT centroid) AS n FROM (SELECT array_to_string(centroid, ' ') AS centroid FROM clusters WHERE k = 6)");
    assert!(seeds[0]["n"].as_u64().unwrap() > 6, "{seeds:?}");
    let own = run(&place, &["--force", "clusters@k=6,seed=3"]);
    assert_eq!((own["clusters"].0, own.len()), (1, 1), "and the rows that come out are the same");
    let wrong = place.tessera("show", &["assigned", "-o", "x.png"]);
    assert!(
        wrong.code == 2
            && wrong.err.contains("stage `assigned` is swept, and one cell is wanted here: assigned@k=2,seed=1,"),
        "{}",
        wrong.err
    );
    assert_eq!(place.tessera("export", &["assigned@seed=1,k=2", "-o", "x.csv"]).code, 0);
    assert_eq!(place.tessera("sql", &["SELECT * FROM snapshot('clusters@k=2,seed=1', 'current')"]).code, 0);
    let set = run(&place, &["--set", "clusters.k=9", "--to", "clusters"]);
    assert_eq!((set["clusters"], set.len()), ((3, 27), 1), "a single value on the axis");
    for format in ["text", "dot", "mermaid"] {
        let drawn = place.tessera("graph", &["--format", format]);
        assert!(drawn.code == 0 && drawn.out.contains("clusters@k=6,seed=3"), "{}", drawn.out);
    }
}

/// A file has the rows of all cells, as the table has in SQL, and the metrics know where their cells stand.
#[test]
fn a_swept_stage_is_one_table_for_other_programs() {
    let place = Place::new();
    place.images(20);
    sweep(&place, "decoded.side = [24, 32]\nclusters.k = [2, 3]\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let wrote = place.tessera("export", &["assigned", "-q", "-o", "all.csv", "--columns", "image_id,cluster,side,k"]);
    assert_eq!(wrote.code, 0, "{}", wrote.err);
    let query = "SELECT image_id, cluster, side, k FROM assigned ORDER BY side, k, image_id";
    let expected = place.tessera("sql", &["--format", "csv", query]).out;
    let written = std::fs::read_to_string(place.path("all.csv")).unwrap();
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!((written.lines().count(), sorted(&written)), (81, sorted(&expected)));
    // Vectors of different lengths are lists; of a view as well.
    assert_eq!(place.tessera("export", &["features", "-q", "-o", "features.parquet"]).code, 0);
    assert_eq!(place.tessera("export", &["decoded", "-q", "-o", "decoded.arrow"]).code, 0);
    let wrong = place.tessera("export", &["assigned", "--images", "copies"]);
    assert!(wrong.code == 2 && wrong.err.contains("one cell is wanted here"), "{}", wrong.err);
    let metrics = place.sql("SELECT DISTINCT stage, side, k FROM metrics WHERE k = 3 ORDER BY side");
    let cell = |side: i64| json!({"stage": format!("clusters@side={side},k=3"), "side": side, "k": 3});
    assert_eq!(metrics, [cell(24), cell(32)]);
}

/// The numbers of a query's only row are reported as metrics are.
#[test]
fn a_query_of_one_row_is_reported() {
    let place = Place::new();
    place.images(20);
    let agreement = "agreement = { op = \"sql\", inputs = { a = \"assigned\", i = \"images\" }, \
                     query = \"SELECT count(*) AS n, nmi(a.cluster, i.label) AS nmi FROM a JOIN i USING (image_id)\" }\n";
    place.write(
        "pipeline.toml",
        format!("{STAGES}{agreement}[sweep]\n\"clusters.k\" = [2, 3]\n\"clusters.seed\" = [1, 2]\n"),
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let report = place.tessera("report", &["agreement", "--format", "json"]).json();
    let expected = place.sql("SELECT k, avg(nmi) AS nmi_mean FROM agreement GROUP BY k ORDER BY k");
    for (row, expected) in report.as_array().unwrap().iter().zip(&expected) {
        assert_eq!((&row["k"], &row["seeds"], &row["n_mean"]), (&expected["k"], &json!(2), &json!(20.0)));
        let (found, expected) = (row["nmi_mean"].as_f64().unwrap(), expected["nmi_mean"].as_f64().unwrap());
        assert!((found - expected).abs() < 1e-12, "{row}");
    }
    let none = place.tessera("report", &["sizes@k=2,seed=1"]);
    assert!(none.code == 1 && none.err.contains("stage `sizes` measured nothing; "), "{}", none.err);
}

#[test]
fn cells_go_on_when_another_fails() {
    let place = place();
    sweep(&place, "\"clusters.k\" = [2, 100, 3, 200]\n");
    let failed = place.tessera("run", &["-q"]);
    assert_eq!(failed.code, 1);
    for said in
        ["`clusters@k=100`: k is 100", "2 cells failed: clusters@k=100, clusters@k=200, and 4 that read them were left out"]
    {
        assert!(failed.err.contains(said), "{said}: {}", failed.err);
    }
    let counts = place.sql("SELECT k, count(*) AS n FROM assigned GROUP BY k ORDER BY k");
    assert_eq!(counts, [json!({"k": 2, "n": 40}), json!({"k": 3, "n": 40})]);
    let exported = place.tessera("export", &["assigned", "-o", "-", "--format", "csv"]);
    assert!(exported.code == 0 && exported.err.contains("2 of 4 cells of `assigned` are not made yet"), "{}", exported.err);
    assert_eq!(exported.out.lines().count(), 81);
    // Of a cell, its clusters can be looked at.
    let shown = place.tessera("show", &["assigned@k=3", "-o", "out.png", "--format", "json"]);
    assert!(shown.json().as_array().unwrap().len() >= 3);
    let other = place.tessera("report", &["clusters@k=3", "--set", "features.cell=4"]);
    let said = "`clusters@k=3` is of features.cell = 8, and --set says 4";
    assert!(other.code == 1 && other.out.is_empty() && other.err.contains(said), "{}", other.err);
    sweep(&place, "\"clusters.k\" = [2, 3, 4]\n");
    assert_eq!(run(&place, &[])["clusters"].0, 1);
    let report = place.tessera("report", &["clusters"]);
    assert!(report.code == 0 && report.err.is_empty(), "{}", report.err);
}

#[test]
fn the_report_is_what_the_metrics_say() {
    let place = place();
    assert_eq!(place.tessera("report", &[]).code, 1, "nothing is made yet");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let report = place.tessera("report", &["--format", "json", "--metric", "objective"]).json();
    let rows = report.as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for (row, k) in rows.iter().zip(KS) {
        assert_eq!((&row["stage"], &row["k"], &row["seeds"]), (&json!("clusters"), &json!(k), &json!(3)));
        let last = format!(
            "SELECT avg(value) AS mean, stddev_samp(value) AS sd, count(*) AS n FROM (SELECT value, row_number() OVER (PARTITION BY stage \
             ORDER BY epoch DESC, step DESC) AS nth FROM metrics WHERE name = 'objective' AND stage LIKE 'clusters@k={k},%') WHERE nth = 1"
        );
        let expected = &place.sql(&last)[0];
        assert_eq!(expected["n"], 3);
        for (found, expected) in [(&row["objective_mean"], &expected["mean"]), (&row["objective_sd"], &expected["sd"])] {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "k {k}: {found}, by SQL {expected}");
        }
    }
    let csv = place.tessera("report", &["clusters@k=3,seed=2", "--metric", "objective", "--format", "csv"]).out;
    assert!(csv.starts_with("stage,k,seeds,objective_mean,objective_sd\nclusters,3,1,") && csv.ends_with(",\n"), "{csv}");
    let mean = rows[0]["objective_mean"].as_f64().unwrap();
    let read = place.tessera("report", &["--metric", "obj*"]).out;
    assert!(read.contains(&format!("| {mean:.4} ±")) || read.contains(&format!("| {mean:.3e} ±")), "{read}");
    assert_eq!(
        read.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
        "| stage | k | seeds | objective |"
    );
    let unknown = place.tessera("report", &["--metric", "loss"]);
    assert!(unknown.code == 2 && unknown.err.contains("unknown metric `loss`; metrics: "), "{}", unknown.err);

    let plain = Place::new();
    plain.images(20).write("pipeline.toml", STAGES);
    assert_eq!(plain.tessera("run", &["-q"]).code, 0);
    let report = plain.tessera("report", &["clusters", "--format", "json"]).json();
    assert_eq!(
        (report.as_array().unwrap().len(), &report[0]["seeds"], &report[0]["objective_sd"]),
        (1, &json!(1), &Value::Null)
    );
}

#[test]
fn views_and_vectors_of_different_lengths() {
    let place = Place::new();
    place.images(20);
    sweep(&place, "decoded.side = [24, 32]\nclusters.init = [\"random\", \"k-means++\"]\n");
    let made = run(&place, &[]);
    assert_eq!((made["features"].0, made["clusters"].0, made["sizes"].0), (2, 4, 4));
    let sides = place.sql("SELECT side, count(*) AS n FROM decoded GROUP BY side ORDER BY side");
    assert_eq!(sides, [json!({"side": 24, "n": 20}), json!({"side": 32, "n": 20})]);
    let lengths = place.sql("SELECT side, min(array_length(feature)) AS n FROM features GROUP BY side ORDER BY side");
    assert!(lengths[0]["n"].as_u64() < lengths[1]["n"].as_u64(), "{lengths:?}");
    let inits = place.sql("SELECT DISTINCT init FROM clusters ORDER BY 1");
    assert_eq!(inits, [json!({"init": "k-means++"}), json!({"init": "random"})]);
    // A column that has an axis' name keeps it.
    sweep(&place, "clusters.k = [2, 3]\n");
    let file = std::fs::read_to_string(place.path("pipeline.toml"))
        .unwrap()
        .replace("SELECT cluster,", "SELECT 'own' AS k, cluster,");
    place.write("pipeline.toml", file);
    let clash = place.sql_after_run("SELECT k, \"clusters.k\", count(*) AS n FROM sizes GROUP BY 1, 2 ORDER BY 2");
    assert_eq!(clash, [json!({"k": "own", "clusters.k": 2, "n": 2}), json!({"k": "own", "clusters.k": 3, "n": 3})]);
}

#[test]
fn two_sources_of_one_name() {
    let place = Place::new();
    place.images(12);
    std::fs::create_dir_all(place.path("other")).unwrap();
    std::fs::rename(place.path("photos/red"), place.path("other/red")).unwrap();
    sweep(&place, "images.path = [\"photos\", \"./other\"]\nclusters.k = [2]\n");
    let rows = place.sql_after_run("SELECT path, label, count(*) AS n FROM images GROUP BY 1, 2 ORDER BY 1, 2");
    assert_eq!(
        rows,
        [
            json!({"path": "./other", "label": "red", "n": 4}),
            json!({"path": "photos", "label": "blue", "n": 4}),
            json!({"path": "photos", "label": "green", "n": 4})
        ]
    );
    let pixels = place.sql("SELECT path, count(*) AS n FROM decoded d WHERE pixels IS NOT NULL GROUP BY path ORDER BY path");
    assert_eq!(pixels, [json!({"path": "./other", "n": 4}), json!({"path": "photos", "n": 8})]);
    assert_eq!(place.sql("SELECT count(source) AS n FROM images WHERE digest IS NOT NULL"), [json!({"n": 12})]);
}

#[test]
fn a_seed_of_a_stages_own() {
    let place = Place::new();
    let file = |seed: &str| STAGES.replace("k = 3,", &format!("k = 3, {seed}"));
    place.images(20).write("pipeline.toml", file(""));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place.write("pipeline.toml", file("seed = 0,"));
    assert!(run(&place, &[]).is_empty(), "the pipeline's seed, spelled out");
    place.write("pipeline.toml", file("seed = 4,"));
    let plan = place.tessera("plan", &["--format", "json"]);
    assert_eq!(plan.stage("clusters")["reasons"], json!(["clusters: seed 0 -> 4"]));
    assert_eq!(plan.stage("features")["action"], "reuse");
    let unseeded = place.tessera("check", &["--set", "features.seed=1"]);
    assert!(unseeded.code == 2 && unseeded.err.contains("those that do: augment, "), "{}", unseeded.err);
}

/// Networks that are compared need not have the same axes.
#[test]
fn stages_to_read_are_compared() {
    let place = Place::new();
    place.images(24).write(
        "pipeline.toml",
        r#"
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 32 }
gradients = { op = "hog", input = "decoded" }
random = { op = "weights", network = "small", normalisation = "tile" }
known = { op = "infer", inputs = { images = "decoded", weights = "random" }, layer = "conv3", pool = 2 }
chosen = { op = "sql", query = "SELECT image_id, feature FROM source" }
probe = { op = "probe", inputs = { features = "chosen", labels = "images" } }
[sweep]
"random.seed" = [1, 2]
"chosen.inputs.source" = ["gradients", "known"]
"#,
    );
    let first = run(&place, &[]);
    assert_eq!((first["known"].0, first["chosen"].0, first["probe"].0), (2, 3, 3));
    let cells = place.sql("SELECT DISTINCT source, seed FROM probe ORDER BY source, seed");
    let cell = |source: &str, seed: Value| json!({ "source": source, "seed": seed });
    assert_eq!(cells, [cell("gradients", Value::Null), cell("known", json!(1)), cell("known", json!(2))]);
    assert_eq!(place.sql("SELECT count(*) AS n FROM chosen WHERE seed IS NULL"), [json!({ "n": 24 })]);
    let report = place.tessera("report", &["probe", "--format", "json", "--metric", "*_top1"]).json();
    let names = report[0].as_object().unwrap().keys().filter(|key| key.contains("top"));
    assert_eq!(names.collect::<Vec<_>>(), ["feature_top1_mean", "feature_top1_sd"]);
    let rows: Vec<_> = report.as_array().unwrap().iter().map(|row| (row["source"].clone(), row["seeds"].clone())).collect();
    assert_eq!(rows, [(json!("gradients"), json!(1)), (json!("known"), json!(2))]);
    let forced = run(&place, &["--to", "probe@source=gradients", "--force", "probe@source=gradients"]);
    assert_eq!(forced.get("probe").map(|probe| probe.0), Some(1));
    assert!(run(&place, &["--set", "chosen.inputs.source=known"]).is_empty(), "one value of the axis, made before");
    let unknown = place.tessera("check", &["--set", "chosen.inputs.source=nothing"]);
    assert!(unknown.code == 2 && unknown.err.contains("unknown input stage `nothing`"), "{}", unknown.err);
}
