//! Clusters that keep their numbers: `init = "previous"` goes on from the stage's last centroids.

use std::fs;
use std::time::Duration;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tessera_tests::{Answer, Place};

const FILE: &str = r#"
[pipeline]
part_rows = 256
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 32 }
features = { op = "hog", input = "decoded" }
clusters = { op = "kmeans", input = "features", k = 56, init = "previous" }
assigned = { op = "assign", inputs = { features = "features", clusters = "clusters" } }
"#;

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

/// Pictures of three waves each, in directions, lengths and colours of their own.
fn pictures(place: &Place, numbers: std::ops::Range<usize>) {
    fs::create_dir_all(place.path("photos")).unwrap();
    for number in numbers {
        let mut dice = Dice(number as u64 * 7919 + 11);
        // The first ones of neighbouring seeds are alike.
        for _ in 0..4 {
            dice.below(2);
        }
        let waves: Vec<[f64; 4]> = (0..3).map(|_| [60, 60, 628, 255].map(|end| dice.below(end) as f64 / 100.0)).collect();
        let shade = |x: f64, y: f64, [a, b, phase, height]: [f64; 4]| height * (a * x + b * y + phase).sin();
        let image = RgbImage::from_fn(32, 32, |x, y| {
            let sum: f64 = waves.iter().map(|wave| shade(x.into(), y.into(), *wave)).sum();
            Rgb([(128.0 + 20.0 * sum) as u8, (number % 200) as u8, (number / 200) as u8])
        });
        image.save(place.path(&format!("photos/{number:05}.png"))).unwrap();
    }
}

/// The cluster of each image, but for those of images that are not in both tables.
fn shared(place: &Place, before: &str, now: &str) -> (usize, usize) {
    let query = format!(
        "SELECT count(*) AS n, sum(CASE WHEN a.cluster = b.cluster THEN 1 ELSE 0 END) AS kept FROM {before} a JOIN {now} b \
         USING (image_id)"
    );
    let row = &place.sql(&query)[0];
    (row["n"].as_u64().unwrap() as usize, row["kept"].as_u64().unwrap() as usize)
}

fn objective(place: &Place, file: &str) -> f64 {
    let query = "SELECT value FROM metrics WHERE stage = 'clusters' AND name = 'objective' ORDER BY epoch DESC LIMIT 1";
    place.call("sql", file, &["--format", "json", query]).json()[0]["value"].as_f64().unwrap()
}

fn ran(place: &Place, arguments: &[&str]) -> Answer {
    let run = place.tessera("run", arguments);
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

/// Snapshots of `clusters`, oldest first: their names, and what they started from.
fn history(place: &Place) -> Vec<(String, Value)> {
    let rows = place.sql("SELECT snapshot, started_from FROM snapshots WHERE stage = 'clusters' ORDER BY run");
    rows.iter().map(|row| (row["snapshot"].as_str().unwrap().to_owned(), row["started_from"].clone())).collect()
}

#[test]
fn nineteen_of_3163_images_go_and_the_others_keep_their_clusters() {
    let place = Place::new();
    pictures(&place, 0..3163);
    place.write("pipeline.toml", FILE);
    let first = ran(&place, &[]);
    assert!(!first.err.contains("starts"), "{}", first.err);
    for number in (0..19).map(|at| at * 166 + 5) {
        fs::remove_file(place.path(&format!("photos/{number:05}.png"))).unwrap();
    }
    let before = history(&place);
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].1, Value::Null, "a new store has nothing to start from");
    let planned = place.tessera("plan", &["--format", "json"]);
    let reason = format!("clusters: starts from the centroids of snapshot {}", &before[0].0[..12]);
    assert!(planned.stage("clusters")["reasons"].as_array().unwrap().contains(&json!(reason)), "{}", planned.out);
    let second = ran(&place, &[]);
    assert!(second.err.contains(&reason), "{}", second.err);
    let (both, kept) = shared(&place, "snapshot('assigned', 'previous')", "assigned");
    place.write("fresh.toml", FILE.replace("[pipeline]", "[pipeline]\nname = \"fresh\"\nstore = \"other\""));
    assert_eq!(place.call("run", "fresh.toml", &["-q"]).code, 0);
    let (again, afresh) = (objective(&place, "pipeline.toml"), objective(&place, "fresh.toml"));
    println!("{kept} of {both} images kept their cluster's number; objective {again:.4}, afresh {afresh:.4}");
    assert_eq!(both, 3144);
    assert!(kept * 100 >= both * 99, "{kept} of {both}");
    assert!(again <= 1.01 * afresh, "{again} {afresh}");
    assert_eq!(history(&place)[1].1, json!(before[0].0));
    let rest = ran(&place, &["--format", "json"]);
    assert!(rest.actions().iter().all(|action| action.ends_with(":reuse")), "{}", rest.out);
}

/// A small one of 60 images and `k = 6`.
fn small() -> Place {
    let place = Place::new();
    pictures(&place, 0..60);
    place.write("pipeline.toml", FILE.replace("k = 56", "k = 6"));
    ran(&place, &["-q"]);
    place
}

#[test]
fn going_back_finds_the_earlier_clusters_and_force_starts_afresh() {
    let place = small();
    let first = place.rows("assigned");
    let away = place.path("away.png");
    fs::rename(place.path("photos/00007.png"), &away).unwrap();
    ran(&place, &["-q"]);
    fs::rename(&away, place.path("photos/00007.png")).unwrap();
    let back = ran(&place, &["--format", "json"]);
    assert_eq!(back.stage("clusters")["action"], "reuse");
    assert_eq!(place.rows("assigned"), first);

    // What is current now is what the next one starts from, not what was made last.
    pictures(&place, 60..62);
    ran(&place, &["-q"]);
    let made = history(&place);
    assert_eq!((made.len(), &made[2].1), (3, &json!(made[0].0)), "{made:?}");

    let planned = place.tessera("plan", &["--format", "json", "--force", "clusters"]);
    let reasons = json!(["clusters: forced", "clusters: starts afresh and not from the last centroids"]);
    assert_eq!(planned.stage("clusters")["reasons"], reasons);
    ran(&place, &["-q", "--force", "clusters"]);
    let made = history(&place);
    assert_eq!((made.len(), &made[3].1), (4, &Value::Null), "{made:?}");
    place.write(
        "fresh.toml",
        fs::read_to_string(place.path("pipeline.toml")).unwrap().replace("[pipeline]", "[pipeline]\nstore = \"other\""),
    );
    assert_eq!(place.call("run", "fresh.toml", &["-q"]).code, 0);
    let fresh = place.call("sql", "fresh.toml", &["--format", "csv", "SELECT * FROM clusters ORDER BY 1"]).out;
    assert_eq!(place.rows("clusters"), fresh, "forced: as in a new store");
}

#[test]
fn what_does_not_fit_is_said_and_starts_afresh() {
    let place = small();
    let cases = [
        ("clusters.k=5", "they are 6, and k is 5"),
        // Shorter vectors.
        ("features.cell=10", "dimensions, and features have"),
    ];
    for (set, why) in cases {
        let id = place.sql("SELECT snapshot FROM snapshots WHERE stage = 'clusters' AND is_current")[0]["snapshot"].clone();
        let run = ran(&place, &["--set", set]);
        let said = format!("starts afresh and not from the centroids of snapshot {}: ", &id.as_str().unwrap()[..12]);
        assert!(run.err.contains(&said) && run.err.contains(why), "{set}: {}", run.err);
        assert_eq!(history(&place).last().unwrap().1, Value::Null);
        ran(&place, &["-q"]);
    }
    // From k-means++ to previous: the last clusters are those of the other key, and stay.
    let plain = place.tessera("run", &["--set", "clusters.init=k-means++", "--set", "clusters.iterations=3"]);
    assert_eq!(plain.code, 0, "{}", plain.err);
    assert!(!plain.err.contains("starts"), "{}", plain.err);
    let run = ran(&place, &["--set", "clusters.iterations=50"]);
    assert!(run.err.contains("starts from the centroids of snapshot"), "{}", run.err);
}

#[test]
fn tables_of_a_limit_and_cells_of_a_sweep_go_on_from_their_own() {
    let place = small();
    let limited = ran(&place, &["--limit", "30"]);
    assert!(!limited.err.contains("starts from"), "{}", limited.err);
    pictures(&place, 60..61);
    fs::remove_file(place.path("photos/00000.png")).unwrap();
    assert!(ran(&place, &["--limit", "30"]).err.contains("starts from the centroids of snapshot"));

    let swept = fs::read_to_string(place.path("pipeline.toml")).unwrap().replace("k = 6", "k = 4, seed = 1")
        + "\n[sweep]\n\"clusters.k\" = [4, 5]\n";
    place.write("swept.toml", swept);
    let run = |file: &str| place.call("run", file, &[]);
    let first = run("swept.toml");
    assert!(first.code == 0 && !first.err.contains("starts from"), "{}", first.err);
    fs::remove_file(place.path("photos/00001.png")).unwrap();
    let second = run("swept.toml");
    for cell in ["clusters@k=4: starts from", "clusters@k=5: starts from"] {
        assert!(second.err.contains(cell), "{cell}: {}", second.err);
    }
}

#[test]
fn a_killed_or_damaged_run_ends_as_the_undisturbed_one() {
    let place = small();
    fs::remove_file(place.path("photos/00003.png")).unwrap();
    // The two folders' files have times of their own, and `images` says so: what follows from the pictures is the same.
    let made = |place: &Place| {
        let mut digests = place.digests("pipeline");
        digests.remove("images");
        digests
    };
    // The twin has the same history.
    let twin = Place::new();
    pictures(&twin, 0..60);
    twin.write("pipeline.toml", fs::read_to_string(place.path("pipeline.toml")).unwrap());
    ran(&twin, &["-q"]);
    fs::remove_file(twin.path("photos/00003.png")).unwrap();
    ran(&twin, &["-q"]);
    for wait in [5, 20, 40, 60, 80] {
        let start = std::time::Instant::now();
        place.kill_when(|| start.elapsed() > Duration::from_millis(wait));
    }
    ran(&place, &["-q"]);
    assert_eq!(made(&place), made(&twin));

    // A part of the clusters rots: they are made anew from what they were made from.
    let parts = fs::read_dir(place.path(".tessera/pipeline/clusters/parts")).unwrap();
    let current = place.snapshots("pipeline")["clusters"].parts[0].file.clone();
    let path = parts.map(|part| part.unwrap().path()).find(|path| path.ends_with(&current)).unwrap();
    fs::write(&path, "rotten").unwrap();
    let run = ran(&place, &[]);
    assert!(run.err.contains("starts from the centroids of snapshot"), "{}", run.err);
    assert_eq!(made(&place), made(&twin));
}
