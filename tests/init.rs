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
    let told = made.out.lines().find(|line| line.starts_with("a run will take ")).expect(&made.out);
    assert!(told.ends_with("training") || told == "a run will take a few seconds on this machine", "{told}");
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
    assert_eq!(init(&place, &["photos", "-o", "pipelines/mine.toml", "--force", "--no-trial"]).code, 0);
    assert!(fs::read_to_string(place.path("pipelines/mine.toml")).unwrap().contains("path = \"../photos\"\n"));
    assert_eq!(place.call("check", "pipelines/mine.toml", &[]).code, 0);
    let printed = init(&place, &["photos", "--stdout"]);
    assert!(printed.out.contains("path = \"photos\"\n") && printed.out.starts_with("# Clusters of 3 images: 3 png.\n"));
    assert!(!place.path("pipeline.toml").exists());
    // As they are given: from the root, from the home, with a slash at the end.
    let photos = place.path("photos").to_str().unwrap().to_owned();
    for (given, named) in
        [(photos.as_str(), photos.as_str()), ("photos/", "photos/"), ("./photos", "./photos"), ("~/photos", "~/photos")]
    {
        let mut call = Command::new(binary());
        call.args(["init", given, "-o", "mine.toml", "--force", "--no-trial"]).current_dir(place.path(""));
        let made = run({
            call.env("HOME", place.path(""));
            call
        });
        assert_eq!(made.code, 0, "{given}: {}", made.err);
        let text = fs::read_to_string(place.path("mine.toml")).unwrap();
        assert!(text.contains(&format!("path = \"{named}\"\n")), "{given}: {text}");
        let mut check = place.command("check", "mine.toml", &[]);
        check.env("HOME", place.path(""));
        assert_eq!(run(check).code, 0, "{given}");
    }
}

/// Runs what `init` wrote, as it stands and with its probe, but for the epochs of a network.
fn works(place: &Place, arguments: &[&str], set: &[&str]) -> (String, Answer) {
    let made = init(place, &[arguments, &["--force", "--no-trial"]].concat());
    assert_eq!((made.code, made.err.as_str()), (0, ""), "{arguments:?}");
    let ran = place.tessera("run", &[&["-q", "--format", "json"], set].concat());
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
    let text = fs::read_to_string(place.path("pipeline.toml")).unwrap();
    let (stages, probe) = text.split_once("# [stage.probed]").expect("a probe");
    let probed = format!("{stages}[stage.probed]{}", probe.replace("\n# ", "\n"));
    place.write("probed.toml", probed);
    let probed = place.call("run", "probed.toml", &[&["-q", "--format", "json"], set].concat());
    assert!(probed.stage("probed")["rows_out"].as_u64().unwrap() > 0, "{}", probed.err);
    (made.out, ran)
}

#[test]
fn halves_need_no_network() {
    let place = Place::new();
    place.images(30);
    for half in ["train", "test"] {
        fs::create_dir_all(place.path("halves").join(half)).unwrap();
    }
    for class in ["red", "green", "blue"] {
        for (at, name) in fs::read_dir(place.path("photos").join(class)).unwrap().enumerate() {
            let half = place.path("halves").join(if at % 3 == 0 { "test" } else { "train" }).join(class);
            fs::create_dir_all(&half).unwrap();
            fs::copy(name.as_ref().unwrap().path(), half.join(name.unwrap().file_name())).unwrap();
        }
    }
    let (said, ran) = works(&place, &["halves", "--features", "hog"], &[]);
    assert!(said.contains("halves, from the sub-folders: test, train (the column `split`)\n"), "{said}");
    assert!(said.contains("labels, from the sub-folders: blue (10)"), "{said}");
    assert_eq!(ran.stage("assigned")["rows_out"], 30);
    assert!(!fs::read_to_string(place.path("pipeline.toml")).unwrap().contains("train\""));
}

#[test]
fn a_model_gets_images_of_the_side_that_it_takes() {
    let place = Place::new();
    place.images(30);
    let mut forward = |inputs: &[tch::Tensor]| {
        // Of images of 64 x 64 pixels alone.
        let flat = inputs[0].reshape([-1, 3, 64 * 64]);
        vec![flat.mean_dim([2i64].as_slice(), false, tch::Kind::Float)]
    };
    let example = tch::Tensor::zeros([2, 3, 64, 64], (tch::Kind::Float, tch::Device::Cpu));
    let module = tch::CModule::create_by_tracing("Model", "forward", &[example], &mut forward).unwrap();
    module.save(place.path("model.ts")).unwrap();
    let (_, ran) = works(&place, &["photos", "--model", "model.ts"], &[]);
    assert_eq!(ran.stage("features")["rows_out"], 30);
    let text = fs::read_to_string(place.path("pipeline.toml")).unwrap();
    assert!(
        text.contains("model = \"model.ts\"\n") && text.contains("\nside = 64\n") && !text.contains("op = \"train\""),
        "{text}"
    );
    place.write("broken.ts", "no model");
    let refused = init(&place, &["photos", "--model", "broken.ts", "-o", "other.toml"]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    assert!(
        refused.err.contains("a pipeline of this folder would not work: ") && refused.err.contains("broken.ts"),
        "{}",
        refused.err
    );
    assert!(!place.path("other.toml").exists());
}

#[test]
fn labels_beside_the_images_are_joined() {
    let place = Place::new();
    place.images(12);
    let mut rows = String::from("file,class,split\n");
    for at in 0..12 {
        let half = if at % 4 == 0 { "test" } else { "train" };
        rows.push_str(&format!("{at:04},{},{half}\n", ["green", "red", "blue"][at % 3]));
    }
    place.write("labels.csv", &rows);
    let (said, ran) = works(&place, &["photos", "--features", "hog"], &[]);
    assert!(
        said.contains("labels, from the column `class` of labels.csv: 3 labels of 12 images, with the column `split`\n"),
        "{said}"
    );
    assert!(said.contains("FROM labelled WHERE label IS NOT NULL\""), "{said}");
    assert_eq!(ran.stage("labelled")["rows_out"], 12);
    assert_eq!(place.sql("SELECT count(*) AS n FROM labelled WHERE starts_with(image_id, label)")[0]["n"], 12);
}

#[test]
fn known_data_sets_are_taken() {
    let place = Place::new();
    place.images(12);
    for folder in ["voc/JPEGImages", "voc/ImageSets/Main"] {
        fs::create_dir_all(place.path(folder)).unwrap();
    }
    let (mut train, mut val, mut sets) = (String::new(), String::new(), vec![String::new(); 4]);
    for at in 0..12 {
        let class = ["green", "red", "blue"][at % 3];
        fs::copy(place.path(&format!("photos/{class}/{at:04}.png")), place.path(&format!("voc/JPEGImages/{at:04}.png")))
            .unwrap();
        let (half, base) = if at % 4 == 0 { (&mut val, 2) } else { (&mut train, 0) };
        half.push_str(&format!("{at:04}\n"));
        for (place, name) in ["red", "green"].iter().enumerate() {
            sets[base + place].push_str(&format!("{at:04} {}\n", if *name == class { 1 } else { -1 }));
        }
    }
    for (name, text) in [
        ("train", &train),
        ("val", &val),
        ("red_train", &sets[0]),
        ("green_train", &sets[1]),
        ("red_val", &sets[2]),
        ("green_val", &sets[3]),
    ] {
        place.write(&format!("voc/ImageSets/Main/{name}.txt"), text);
    }
    let (said, ran) = works(&place, &["voc", "--features", "hog"], &[]);
    assert!(
        said.contains("a data set of format \"voc\", with 2 columns of classes (1, -1 or 0), halves (the column `split`)\n"),
        "{said}"
    );
    assert_eq!(ran.stage("assigned")["rows_out"], 12);
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

#[test]
fn clusters_are_to_be_named() {
    let place = Place::new();
    place.images(12);
    let made = init(&place, &["photos", "--features", "hog", "--label", "--no-trial"]);
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    assert!(made.out.contains("tessera serve pipeline.toml --edit"), "{}", made.out);
    let ran = place.tessera("run", &["-q", "--format", "json"]);
    assert_eq!((ran.stage("named")["rows_out"].as_u64(), ran.stage("sorted")["rows_out"].as_u64()), (Some(0), Some(12)));
    let queue = place.sql("SELECT sum(images) AS images, sum(gain) AS gain FROM queue");
    assert_eq!((queue[0]["images"].as_u64(), queue[0]["gain"].as_f64()), (Some(12), Some(12.0)), "nothing is known yet");
    place.write("names.csv", "clusters,key,cluster,action,value,seen,by,at\nimage,,green/0000.png,name,leaf,,,\nimage,,red/0001.png,name,brick,,,\n");
    let ran = place.tessera("run", &["-q", "--format", "json"]);
    assert_eq!(
        (ran.stage("named")["rows_out"].as_u64(), ran.stage("clusters")["action"].as_str()),
        (Some(2), Some("reuse"))
    );
    let labels = place.sql("SELECT count(*) AS n FROM sorted WHERE label IN ('leaf', 'brick') AND margin BETWEEN 0 AND 1");
    assert_eq!(labels[0]["n"], 12);
    assert!(place.sql("SELECT sum(images) AS images FROM queue")[0]["images"] == 10);
}
