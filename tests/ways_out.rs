//! Images and answers as files for other programs.

use std::fs;

use tessera_tests::{Place, clustered};

/// Nine images in three clusters.
fn made() -> Place {
    let place = Place::new();
    place.images(9).write("pipeline.toml", clustered(4, false));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

fn export(place: &Place, arguments: &[&str]) -> String {
    let wrote = place.tessera("export", arguments);
    assert_eq!(wrote.code, 0, "{arguments:?}: {}", wrote.err);
    wrote.err
}

/// The images of a pipeline over what was written: label, digest and what hog makes of them.
fn read_back(place: &Place, path: &str) -> String {
    place.write(
        "back.toml",
        format!(
            "[stage]\nimages = {{ op = \"images\", path = \"{path}\" }}\n\
             decoded = {{ op = \"decode\", input = \"images\", side = 24 }}\n\
             gradients = {{ op = \"hog\", input = \"decoded\" }}\n"
        ),
    );
    let run = place.call("run", "back.toml", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let query = "SELECT i.label, i.digest, g.feature FROM images i JOIN gradients g ON i.image_id = g.image_id ORDER BY 2";
    let answer = place.call("sql", "back.toml", &["--format", "csv", query]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    answer.out
}

#[test]
fn images_come_out_by_class_and_go_in_again() {
    let place = made();
    let by_cluster = {
        let query = "SELECT CAST(a.cluster AS VARCHAR) AS label, i.digest, g.feature FROM assigned a
            JOIN images i ON i.image_id = a.image_id JOIN gradients g ON g.image_id = a.image_id ORDER BY 2";
        place.tessera("sql", &["--format", "csv", query]).out
    };
    assert_eq!(by_cluster.lines().count(), 10);
    for to in ["out/clusters", "clusters.parquet", "clusters.tar"] {
        fs::create_dir_all(place.path("out")).unwrap();
        let told = export(&place, &["assigned", "--images", to, "--by", "cluster"]);
        assert!(told.contains(&format!("{to}: 9 images")), "{told}");
        assert_eq!(read_back(&place, to), by_cluster, "{to}");
    }
    // A table's own label, without a table that has features.
    export(&place, &["images", "--images", "labels.parquet", "--by", "label"]);
    let by_label =
        "SELECT i.label, i.digest, g.feature FROM images i JOIN gradients g ON i.image_id = g.image_id ORDER BY 2";
    assert_eq!(read_back(&place, "labels.parquet"), place.tessera("sql", &["--format", "csv", by_label]).out);
}

#[test]
fn links_are_made_where_they_are_asked_for() {
    use std::os::unix::fs::MetadataExt as _;
    let place = made();
    export(&place, &["images", "--images", "linked", "--by", "label", "--hard-links", "-q"]);
    export(&place, &["images", "--images", "copied", "-q"]);
    let inode = |path: &str| fs::metadata(place.path(path)).unwrap().ino();
    assert_eq!(inode("linked/green/green_0000.png"), inode("photos/green/0000.png"));
    assert_ne!(inode("copied/green_0000.png"), inode("photos/green/0000.png"));
    let again = place.tessera("export", &["images", "--images", "copied"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("is not empty: --force adds to it"), "{}", again.err);
    export(&place, &["images", "--images", "copied", "--force", "-q"]);
    export(&place, &["images", "--images", "linked", "--by", "label", "--hard-links", "--force", "-q"]);
    let wrong = place.tessera("export", &["assigned", "--images", "x", "--by", "breed"]);
    assert!(wrong.err.contains("there is no column `breed` to sort by; columns: image_id, cluster"), "{}", wrong.err);
    let none = place.tessera("export", &["clusters", "--images", "x"]);
    assert!(none.err.contains("has no `image_id`"), "{}", none.err);
    assert!(!place.path("x").exists());
    // An image that is no longer what was listed is not written under its name.
    fs::write(place.path("photos/red/0001.png"), "other").unwrap();
    let changed = place.tessera("export", &["images", "--images", "late"]);
    assert_eq!(changed.code, 1);
    assert!(changed.err.contains("red/0001.png") && changed.err.contains("changed after it was listed"), "{}", changed.err);
}

#[test]
fn a_tar_has_members_that_tar_knows() {
    let place = made();
    export(&place, &["assigned", "--images", "a.tar", "--by", "cluster", "-q"]);
    let listed = std::process::Command::new("tar").arg("-tf").arg(place.path("a.tar")).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(names.lines().count(), 27);
    assert!(names.starts_with("blue_0002.png\nblue_0002.cls\nblue_0002.json\n"), "{names}");
    let shown = std::process::Command::new("tar")
        .args(["-xOf", place.path("a.tar").to_str().unwrap(), "blue_0002.json"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(json["image_id"], "blue/0002.png");
    assert!(json["cluster"].is_number() && json["distance"].is_number(), "{json}");
}

#[test]
fn long_names_are_whole_in_a_tar() {
    let place = Place::new();
    place.images(2);
    let long = format!("{}/{}.png", "ż".repeat(60), "b".repeat(99));
    fs::create_dir_all(place.path("photos").join(&long).parent().unwrap()).unwrap();
    fs::rename(place.path("photos/red/0001.png"), place.path("photos").join(&long)).unwrap();
    place.write("pipeline.toml", "stage.images = { op = \"images\", path = \"photos\" }\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    export(&place, &["images", "--images", "a.tar", "--by", "label", "-q"]);
    let listed = std::process::Command::new("tar")
        .args(["--quoting-style=literal", "-tf", place.path("a.tar").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let (names, stem) = (String::from_utf8(listed.stdout).unwrap(), long.replace('/', "_").replace(".png", ""));
    let ends = [".png", ".cls", ".json"].map(|end| format!("{stem}{end}"));
    assert_eq!(names.lines().skip(3).collect::<Vec<_>>(), ends);
    place.write("back.toml", "stage.images = { op = \"images\", path = \"a.tar\" }\n");
    assert_eq!(place.call("run", "back.toml", &["-q"]).code, 0);
    let digests =
        |file: &str| place.call("sql", file, &["--format", "csv", "SELECT digest, label FROM images ORDER BY 1"]).out;
    assert_eq!(digests("back.toml"), digests("pipeline.toml"));
    // The same images make the same bytes.
    let before = fs::read(place.path("a.tar")).unwrap();
    export(&place, &["images", "--images", "a.tar", "--by", "label", "-q", "--force"]);
    assert_eq!(fs::read(place.path("a.tar")).unwrap(), before);
}

/// A table and an answer are the same in each format.
#[test]
fn answers_go_into_files() {
    let place = made();
    let query = "SELECT image_id, feature FROM gradients ORDER BY image_id";
    for (file, op) in [("a.parquet", ""), ("a.arrow", ""), ("a.h5", ""), ("b.out", "parquet")] {
        let mut arguments = vec![query, "-o", file];
        arguments.extend(if op.is_empty() { vec![] } else { vec!["--format", op] });
        let wrote = place.tessera("sql", &arguments);
        assert_eq!(wrote.code, 0, "{file}: {}", wrote.err);
        assert!(wrote.err.contains(&format!("{file}: 9 rows of 2 columns, ")) && wrote.out.is_empty(), "{}", wrote.err);
        if file == "b.out" {
            assert!(fs::read(place.path(file)).unwrap().starts_with(b"PAR1"));
            continue;
        }
        place.write("t.toml", format!("stage.t = {{ op = \"table\", path = \"{file}\" }}\n"));
        assert_eq!(place.call("run", "t.toml", &["-q"]).code, 0);
        let back = place.call("sql", "t.toml", &["--format", "csv", "SELECT image_id, feature FROM t ORDER BY 1"]);
        assert_eq!(back.out, place.tessera("sql", &["--format", "csv", query]).out, "{file}");
    }
    assert_eq!(place.tessera("sql", &[query, "-o", "a.parquet"]).code, 1, "it is there");
    assert_eq!(place.tessera("sql", &[query, "-o", "a.parquet", "--force"]).code, 0);
    assert_eq!(place.tessera("sql", &["SELECT 1 AS one", "-o", "one.json"]).code, 0);
    assert_eq!(fs::read_to_string(place.path("one.json")).unwrap().trim(), "[{\"one\":1}]");
    let printed = place.tessera("sql", &["SELECT 1 AS one", "-o", "-", "--format", "csv"]);
    assert_eq!((&*printed.out, place.path("-").exists()), ("one\n1\n", false));
    let usage = place.tessera("sql", &["SELECT 1", "--format", "arrow"]);
    assert_eq!(usage.code, 2);
    assert!(usage.err.contains("arrow is written to a file: -o answer.arrow"), "{}", usage.err);
    let unknown = place.tessera("sql", &["SELECT 1", "-o", "a.xyz"]);
    assert!(unknown.err.contains("names no format: parquet, arrow, csv, npy, h5 and safetensors do"), "{}", unknown.err);
}

#[test]
fn numbers_go_into_npy() {
    let place = made();
    let several = place.tessera("export", &["assigned", "-o", "a.npy"]);
    assert_eq!(several.code, 1);
    assert!(several.err.contains("there are cluster, distance"), "{}", several.err);
    assert!(!place.path("a.npy").exists());
    export(&place, &["gradients", "-o", "f.npy"]);
    place.write("t.toml", "stage.t = { op = \"table\", path = \"f.npy\" }\n");
    assert_eq!(place.call("run", "t.toml", &["-q"]).code, 0);
    let back = place.call("sql", "t.toml", &["--format", "csv", "SELECT feature FROM t ORDER BY image_id"]).out;
    let rows = place.tessera("sql", &["--format", "csv", "SELECT feature FROM gradients ORDER BY image_id"]).out;
    assert_eq!(back, rows);
    export(&place, &["assigned", "-o", "c.npy", "--columns", "cluster"]);
    place.write("t.toml", "stage.t = { op = \"table\", path = \"c.npy\" }\n");
    assert_eq!(place.call("run", "t.toml", &["-q"]).code, 0);
    let clusters = place.tessera("sql", &["--format", "csv", "SELECT cluster AS value FROM assigned ORDER BY image_id"]).out;
    assert_eq!(place.call("sql", "t.toml", &["--format", "csv", "SELECT value FROM t ORDER BY image_id"]).out, clusters);
}
