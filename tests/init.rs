//! `init`: what it writes works as it stands.

use std::fs;
use std::process::Command;

use tessera_tests::{Answer, Place, binary, run};

fn init(place: &Place, arguments: &[&str]) -> Answer {
    let mut call = Command::new(binary());
    call.arg("init").args(arguments).current_dir(place.path(""));
    run(call)
}

#[test]
fn a_folder_becomes_a_pipeline() {
    let place = Place::new();
    place.images(12);
    let made = init(&place, &["photos", "-o", "sub.toml"]);
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    for said in [
        "12 images: 12 png",
        "of 12 looked at, half are at least 72 x 64, the smallest is 72 x 64",
        "labels, from the sub-folders: blue (4), green (4), red (4)",
        "tessera run sub.toml",
        "nmi(cluster, label)",
    ] {
        assert!(made.out.contains(said), "{said}: {}", made.out);
    }
    let text = fs::read_to_string(place.path("sub.toml")).unwrap();
    for line in ["path = \"photos\"\n", "side = 64\n", "k = 3 ", "batch = 12\n", "the first sub-folder is the label: 3\n"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let checked = place.call("check", "sub.toml", &[]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(checked.out.ends_with("\nsub.toml: 7 stages, nothing wrong\n"), "{}", checked.out);
    let ran = place.call("run", "sub.toml", &["-q", "--set", "pretext.epochs=1", "--format", "json"]);
    assert_eq!(ran.stage("assigned")["rows_out"], 12);
    let asked = place.call("sql", "sub.toml", &["--format", "csv", "SELECT count(DISTINCT cluster) AS k FROM assigned"]);
    assert_eq!(asked.out, "k\n3\n");
}

#[test]
fn paths_and_what_is_there() {
    let place = Place::new();
    place.images(3).write("pipelines/mine.toml", "mine");
    let refused = init(&place, &["photos", "-o", "pipelines/mine.toml"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("pipelines/mine.toml is there already: --force overwrites it"), "{}", refused.err);
    assert_eq!(fs::read_to_string(place.path("pipelines/mine.toml")).unwrap(), "mine");
    assert_eq!(init(&place, &["photos", "-o", "pipelines/mine.toml", "--force"]).code, 0);
    assert!(fs::read_to_string(place.path("pipelines/mine.toml")).unwrap().contains("path = \"../photos\"\n"));
    assert_eq!(place.call("check", "pipelines/mine.toml", &[]).code, 0);
    let printed = init(&place, &["photos", "--stdout"]);
    assert!(printed.out.contains("path = \"photos\"\n") && printed.out.starts_with("# Clusters of 3 images: 3 png.\n"));
    assert!(!place.path("pipeline.toml").exists());
}

#[test]
fn what_is_no_folder_of_images() {
    let place = Place::new();
    place.images(1).write("docs/notes.txt", "text");
    fs::create_dir(place.path("empty")).unwrap();
    for (folder, said) in [
        ("absent", "there is no folder absent"),
        ("empty", "the folder empty is empty"),
        ("docs", "docs: no image among 1 files; images end in jpg"),
        ("docs/notes.txt", "docs/notes.txt is no folder"),
    ] {
        let answer = init(&place, &[folder]);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{folder}");
        assert!(answer.err.contains(said), "{said}: {}", answer.err);
    }
    assert!(!place.path("pipeline.toml").exists());
}
