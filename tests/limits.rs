//! Numbers that no machine could satisfy: each ends `check` with a fault, within moments, and no process with a signal.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tessera_tests::{Answer, Place, decoded};

static FILE: LazyLock<String> = LazyLock::new(|| {
    decoded(
        64,
        "",
        r#"[stage.puzzles]
op = "jigsaw"
input = "decoded"
grid = 3
permutations = 10

[stage.features]
op = "hog"
input = "decoded"

[stage.clusters]
op = "kmeans"
input = "features"
k = 3

[stage.random]
op = "weights"
network = "small"
classes = 10
"#,
    )
});

fn place() -> Place {
    let place = Place::new();
    place.images(3).write("pipeline.toml", &*FILE);
    place
}

fn soon(place: &Place, arguments: &[&str]) -> Answer {
    let start = Instant::now();
    let answer = place.tessera("check", arguments);
    assert!(start.elapsed() < Duration::from_secs(60), "{arguments:?}: {:?}", start.elapsed());
    answer
}

#[test]
fn numbers_beyond_reason_end_check_with_a_fault() {
    let place = place();
    let huge = [
        ("random.classes", "2000000000", "`classes` is 2000000000, and 1000000 is the most"),
        ("clusters.mini_batch", "9223372036854775807", "`mini_batch` is 9223372036854775807, and "),
        ("clusters.k", "4294967295", "4294967295 clusters: at most "),
        ("clusters.iterations", "18446744073709551616", "too large"),
        ("clusters.tolerance", "nan", "no finite number"),
        ("clusters.tolerance", "-inf", "no finite number"),
        ("clusters.tolerance", "1e300", "`tolerance` is 1e+300, and 1 is the most"),
        ("puzzles.permutations", "362880", "`permutations` is 362880, and 10000 is the most"),
        ("puzzles.channel_shift", "9223372036854775807", "`channel_shift` is 9223372036854775807, and "),
        ("decoded.max_megapixels", "4294967295", "`max_megapixels` is 4294967295, and "),
        ("pipeline.part_rows", "9223372036854775807", "`part_rows` is 9223372036854775807, and 1000000000 is the most"),
    ];
    for (key, value, said) in huge {
        let answer = soon(&place, &["--set", &format!("{key}={value}")]);
        assert_eq!(answer.code, 2, "{key} = {value}: {}{}", answer.out, answer.err);
        assert!(answer.err.contains(said), "{key} = {value}: {}", answer.err);
    }
    for threads in ["65535", "1025", "0", "1e9"] {
        let answer = soon(&place, &["--threads", threads]);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{threads}");
        assert!(answer.err.contains("--threads") && answer.err.contains(threads), "{}", answer.err);
    }
    let answer = place.tessera("check", &["--threads", "1024"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
}

/// Files are counted before anything is read.
#[test]
fn more_clusters_than_images_end_check_with_a_fault() {
    let place = place();
    assert_eq!(soon(&place, &["--set", "clusters.k=3"]).code, 0);
    let refused = soon(&place, &["--set", "clusters.k=4"]);
    assert_eq!(refused.code, 2, "{}", refused.out);
    assert!(
        refused.err.contains("stage `clusters`: k is 4, but there are 3 images: a cluster needs at least"),
        "{}",
        refused.err
    );
    // Of a photo, `tile` makes many rows.
    let tiles =
        FILE.replace("[stage.features]", "[stage.tiles]\nop = \"tile\"\ninput = \"images\"\nside = 24\n\n[stage.features]");
    place.write("pipeline.toml", tiles.replace("op = \"hog\"\ninput = \"decoded\"", "op = \"hog\"\ninput = \"tiles\""));
    assert_eq!(soon(&place, &["--set", "clusters.k=4"]).code, 0);
}

/// What the search cannot find is known, and not looked for.
#[test]
fn searches_for_permutations_end() {
    let place = place();
    for (count, distance, code, said) in
        [(500, 0, 0, "500 permutations of 9 tiles"), (420, 6, 2, "the search finds 419"), (99, 7, 2, "the search finds 98")]
    {
        let set = |key: &str, value: usize| format!("puzzles.{key}={value}");
        let answer = soon(&place, &["--set", &set("permutations", count), "--set", &set("min_distance", distance)]);
        assert_eq!(answer.code, code, "{}", answer.err);
        assert!(format!("{}{}", answer.out, answer.err).contains(said), "{}{}", answer.out, answer.err);
    }
}
