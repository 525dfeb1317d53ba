//! Images that are gone: many at once are a mistake more often than not.

use std::fs;

use tessera_tests::Place;

const FILE: &str = r#"
[stage]
images = { op = "images", path = "photos", max_removed = "10%" }
decoded = { op = "decode", input = "images", side = 24 }
gradients = { op = "hog", input = "decoded" }
"#;

fn place() -> Place {
    let place = Place::new();
    place.images(30).write("pipeline.toml", FILE);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

#[test]
fn a_run_over_an_empty_mount_stops_and_says_what_to_do() {
    let place = place();
    let before = place.digests("pipeline");
    fs::rename(place.path("photos/red"), place.path("away")).unwrap();
    for command in ["run", "plan"] {
        let refused = place.tessera(command, &[]);
        assert_eq!(refused.code, 1, "{}", refused.err);
        for said in [
            "stage `images`: 10 of the 30 images that the last run listed were removed from",
            "such as `red/0001.png`",
            "`max_removed` is \"10%\"",
            "--set images.max_removed=10",
        ] {
            assert!(refused.err.contains(said), "{said}: {}", refused.err);
        }
    }
    assert_eq!(place.digests("pipeline"), before, "nothing is lost");
    // The listing is the published one still: the second time it is refused as well, and back it is nothing to read.
    assert_eq!(place.tessera("run", &[]).code, 1);
    fs::rename(place.path("away"), place.path("photos/red")).unwrap();
    let back = place.tessera("run", &["--format", "json"]);
    assert!(back.actions().iter().all(|action| action.ends_with(":reuse")), "{}", back.out);

    fs::rename(place.path("photos/red"), place.path("away")).unwrap();
    let meant = place.tessera("run", &["--format", "json", "--set", "images.max_removed=10"]);
    assert_eq!(meant.stage("images")["rows_out"], 20);
    assert_eq!(place.tessera("run", &["-q"]).code, 0, "it is the last listing now");
}

#[test]
fn few_may_go_and_moved_ones_are_not_gone() {
    let place = place();
    for id in ["red/0001.png", "red/0004.png", "blue/0002.png"] {
        fs::remove_file(place.path("photos").join(id)).unwrap();
    }
    assert_eq!(place.tessera("run", &["-q"]).code, 0, "3 of 30 are 10 %");
    fs::rename(place.path("photos/green"), place.path("photos/lime")).unwrap();
    let moved = place.tessera("run", &["--format", "json"]);
    assert_eq!(moved.stage("images")["rows_out"], 27);
    for id in ["red/0007.png", "red/0010.png", "blue/0005.png"] {
        fs::remove_file(place.path("photos").join(id)).unwrap();
    }
    assert_eq!(place.tessera("run", &[]).code, 1, "3 of 27 are more than 10 %");
    // How many may go changes no key.
    for id in ["red/0007.png", "red/0010.png", "blue/0005.png"] {
        place.image(id[id.len() - 8..id.len() - 4].parse().unwrap());
    }
    let other = place.tessera("run", &["--format", "json", "--set", "images.max_removed=5"]);
    // They were written anew: their times are others.
    assert_eq!(other.actions()[0], "images:update");
    assert!(other.actions()[1..].iter().all(|action| action.ends_with(":reuse")), "{}", other.out);
}

#[test]
fn all_are_never_gone_by_default() {
    let place = place();
    place.write("pipeline.toml", FILE.replace(", max_removed = \"10%\"", ""));
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    fs::rename(place.path("photos"), place.path("away")).unwrap();
    fs::create_dir(place.path("photos")).unwrap();
    let refused = place.tessera("run", &[]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(!place.digests("pipeline").is_empty());
    assert_eq!(place.digests("pipeline")["images"].rows, 30);
}

#[test]
fn a_limit_looks_at_the_first_and_misses_none_of_the_others() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q", "--limit", "10"]).code, 0);
    // They come before all others: of the first ten, nine are others now, and none is gone.
    for at in 0..9 {
        fs::copy(place.path("photos/red/0001.png"), place.path(&format!("photos/a{at}.png"))).unwrap();
    }
    let run = place.tessera("run", &["--format", "json", "--limit", "10"]);
    assert_eq!(run.stage("images")["rows_out"], 10);
}

#[test]
fn a_wrong_share_is_a_fault() {
    let place = place();
    place.write("pipeline.toml", FILE.replace("10%", "10"));
    let check = place.tessera("check", &[]);
    assert_eq!(check.code, 2);
    assert!(check.err.contains("max_removed") && check.err.contains("such as \"10%\""), "{}", check.err);
}
