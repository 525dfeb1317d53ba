//! The paper's experiments, `pipeline/experiments`: every file is sound, and the small ones run from one end to the other.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use serde_json::json;
use tessera_tests::{Answer, Place, checkout, is_sound, run};

const VARIABLES: [&str; 6] = ["IMAGES", "IMAGENET", "OTHERS", "PLACES", "PROBED", "VOC"];

/// Pictures of three classes in three splits, as a folder and as PASCAL VOC has them.
fn place() -> Place {
    let place = Place::new();
    for at in 0..60u32 {
        let (class, split) = (at % 3, ["train", "train", "train", "validation", "test"][at as usize / 3 % 5]);
        let picture = RgbImage::from_fn(80, 72, |x, y| {
            let wave = [x, y, x + y][class as usize] / 5 % 2 * 120;
            let noise = (x * 7 + y * 13 + at * 29) % 40;
            Rgb([wave as u8 + noise as u8, (wave / 2 + at) as u8, noise as u8 + 60])
        });
        let path = format!("images/{split}/{}/{at:06}.jpg", ["level", "upright", "slanted"][class as usize]);
        place.write(&path, "");
        picture.save(place.path(&path)).unwrap();
        place.write(&format!("VOC2007/JPEGImages/{at:06}.jpg"), fs::read(place.path(&path)).unwrap());
    }
    for (name, class) in [("level", 0), ("upright", 1), ("slanted", 2)] {
        for (split, part) in [("train", 0), ("val", 1)] {
            let lines = (0..60).filter(|at| at / 3 % 2 == part);
            let lines = lines.map(|at| format!("{at:06} {:>2}\n", if at % 3 == class { 1 } else { -1 }));
            place.write(&format!("VOC2007/ImageSets/Main/{name}_{split}.txt"), lines.collect::<String>());
        }
    }
    for (split, part) in [("train", 0), ("val", 1)] {
        let lines = (0..60).filter(|at| at / 3 % 2 == part).map(|at| format!("{at:06}\n"));
        place.write(&format!("VOC2007/ImageSets/Main/{split}.txt"), lines.collect::<String>());
    }
    place
}

fn files(form: &str) -> Vec<PathBuf> {
    let folder = checkout("pipeline/experiments").join(form);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

/// Calls the binary on a file that was copied to the place.
fn call(place: &Place, command: &str, file: &Path, arguments: &[&str]) -> Answer {
    let name = file.file_name().unwrap().to_str().unwrap();
    place.write(name, fs::read(file).unwrap());
    let mut call = place.command(command, name, arguments);
    for variable in VARIABLES {
        call.env(variable, place.path(if variable == "VOC" { "VOC2007" } else { "images" }));
    }
    run(call)
}

#[test]
fn every_experiment_is_sound() {
    let place = place();
    for file in ["paper", "small"].into_iter().flat_map(files) {
        let checked = call(&place, "check", &file, &[]);
        assert!(is_sound(&checked), "{}: {}{}", file.display(), checked.out, checked.err);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() < 100, "{} is longer than a page", file.display());
    }
}

/// The paper from puzzles to probes, as short as it can be: that it learns is for `pipeline/experiments/RESULTS.md`.
#[test]
fn the_whole_paper_runs_from_one_file() {
    let place = place();
    let file = files("small").into_iter().find(|file| file.ends_with("whole.toml")).unwrap();
    let short = [
        "teacher.epochs=1",
        "student.epochs=1",
        "clusters.k=5",
        "teacher.batch=8",
        "student.batch=8",
        "directions.components=8",
    ];
    let short: Vec<&str> = short.iter().flat_map(|set| ["--set", set]).chain(["--format", "json"]).collect();
    let first = call(&place, "run", &file, &short);
    assert_eq!(first.code, 0, "{}", first.err);
    let again = call(&place, "run", &file, &short);
    assert!(again.actions().iter().all(|action| action.ends_with(":reuse")), "{:?}", again.actions());
    let query = "SELECT weights, layer, value FROM probe WHERE metric = 'top1' AND split = 'test' ORDER BY weights, layer";
    let scores = call(&place, "sql", &file, &["--format", "json", query]).json();
    let scores = scores.as_array().unwrap();
    assert!(scores.len() >= 10, "{scores:?}");
    assert!(scores.iter().all(|row| (0.0..=1.0).contains(&row["value"].as_f64().unwrap())), "{scores:?}");
    // Another k is another clustering, and no other pretext.
    let short: Vec<&str> = short.iter().map(|set| if *set == "clusters.k=5" { "clusters.k=4" } else { set }).collect();
    let other = call(&place, "run", &file, &short);
    let action = |name: &str| other.stage(name)["action"].clone();
    assert_eq!(
        ["teacher", "features", "clusters", "student"].map(action),
        ["reuse", "reuse", "run", "run"].map(|does| json!(does))
    );
}
