//! Data sets as PASCAL VOC lays them out, from their files to an average precision.

use std::collections::BTreeSet;
use std::fs;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tessera_tests::Place;

const COUNT: usize = 40;
const SPLITS: [&str; 4] = ["train", "train", "val", "test"];

const FILE: &str = r#"
[pipeline]
part_rows = 16

[stage]
photos = { op = "images", path = "VOC2007", format = "voc" }
decoded = { op = "decode", input = "photos", side = 48, keep = true }
shapes = { op = "hog", input = "decoded" }
precision = { op = "probe", inputs = { features = "shapes", labels = "photos" }, c = [0.01] }
"#;

fn name(at: usize) -> String {
    format!("{at:06}")
}

fn id(at: usize) -> String {
    format!("JPEGImages/{}.jpg", name(at))
}

/// What an image has of `cat` (upright stripes) and `dog` (level ones), some have both.
fn value(class: &str, at: usize) -> i32 {
    let shows = if class == "cat" { !at.is_multiple_of(3) } else { !(at + 1).is_multiple_of(3) };
    if at % 10 == 9 {
        0
    } else if shows {
        1
    } else {
        -1
    }
}

/// A file of `ImageSets/Main`; the lines of a class are padded as VOC's are.
fn lines(class: Option<&str>, split: &str) -> String {
    let line = |at: usize| match class {
        Some(class) => format!("{} {:>2}\n", name(at), value(class, at)),
        None => format!("{}\n", name(at)),
    };
    (0..COUNT).filter(|at| SPLITS[at % 4] == split).map(line).collect()
}

/// Forty images of two classes, and one of which nothing is said.
fn place() -> Place {
    let place = Place::new();
    place.write("pipeline.toml", FILE);
    place.write("VOC2007/JPEGImages/none.txt", "");
    for at in 0..=COUNT {
        let (upright, level) = (value("cat", at) >= 0, value("dog", at) >= 0);
        let wave = |at: u32, on: bool| if on && (at / 4).is_multiple_of(2) { 110 } else { 0 };
        let shade = at as u8;
        let image = RgbImage::from_fn(60, 48, |x, y| Rgb([shade, shade + wave(x, upright) + wave(y, level), 30]));
        image.save(place.path(&format!("VOC2007/{}", id(at)))).unwrap();
    }
    for split in ["train", "val", "test"] {
        place.write(&main(&format!("{split}.txt")), lines(None, split));
        for class in ["cat", "dog"] {
            place.write(&main(&format!("{class}_{split}.txt")), lines(Some(class), split));
        }
    }
    place
}

fn main(name: &str) -> String {
    format!("VOC2007/ImageSets/Main/{name}")
}

fn edit(place: &Place, file: &str, from: &str, to: &str) {
    let path = main(file);
    let text = fs::read_to_string(place.path(&path)).unwrap();
    assert!(text.contains(from), "{text}");
    place.write(&path, text.replace(from, to));
}

fn run(place: &Place) -> tessera_tests::Answer {
    let answer = place.tessera("run", &["--format", "json"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    answer
}

#[test]
fn classes_are_learnt_and_measured() {
    let place = place();
    run(&place);
    let rows = place.sql("SELECT * FROM photos ORDER BY image_id");
    assert_eq!(rows.len(), COUNT + 1);
    let columns: BTreeSet<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    let of_files = ["width", "height", "format", "bytes", "modified"];
    assert_eq!(columns, ["image_id", "source", "digest", "split", "cat", "dog"].into_iter().chain(of_files).collect());
    assert!(
        rows.iter().all(|row| (&row["width"], &row["height"], &row["format"]) == (&json!(60), &json!(48), &json!("jpeg")))
    );
    for (at, row) in rows.iter().enumerate() {
        let known = at < COUNT;
        let number = |class: &str| if known { json!(value(class, at)) } else { Value::Null };
        let split = if known { json!(SPLITS[at % 4]) } else { Value::Null };
        let found = [&row["image_id"], &row["split"], &row["cat"], &row["dog"]];
        assert_eq!(found, [&json!(id(at)), &split, &number("cat"), &number("dog")]);
    }
    let unlabelled = place.sql("SELECT value FROM metrics WHERE name = 'unlabelled'");
    assert_eq!(unlabelled, [json!({ "value": 1.0 })], "only the image that no file names");
    let scores = place.sql("SELECT metric, class, value FROM precision WHERE split = 'test' ORDER BY metric, class");
    let told: Vec<_> = scores.iter().map(|row| (row["metric"].as_str().unwrap(), row["class"].as_str())).collect();
    assert_eq!(told, [("ap", Some("cat")), ("ap", Some("dog")), ("map", None)]);
    assert!(scores.iter().all(|row| row["value"] == 1.0), "stripes are easy: {scores:?}");
}

/// Fine-tuning, from the weights of an earlier network or from none, with each epoch's precision on unseen images.
#[test]
fn a_network_learns_which_classes_images_show() {
    let place = place();
    let more = r#"
learnt = { op = "sql", input = "decoded", query = "SELECT * FROM decoded WHERE split = 'train'" }
unseen = { op = "sql", input = "decoded", query = "SELECT * FROM decoded WHERE split = 'val'" }
first = { op = "train", inputs = { examples = "learnt", validation = "unseen" }, network = "small", epochs = 8, batch = 4, learning_rate = 0.02 }
tuned = { op = "train", inputs = { examples = "learnt", validation = "unseen", weights = "first" }, network = "small", freeze = "conv4", epochs = 2, batch = 4, target = ["cat"] }
"#;
    place.write("pipeline.toml", FILE.to_owned() + more);
    run(&place);
    let last = |stage: &str| {
        let query = format!(
            "SELECT name, value FROM metrics WHERE stage = '{stage}' AND name LIKE 'validation_%' AND epoch = \
             (SELECT max(epoch) FROM metrics WHERE stage = '{stage}') ORDER BY name"
        );
        let rows = place.sql(&query);
        rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row["value"].as_f64().unwrap())).collect::<Vec<_>>()
    };
    let (first, tuned) = (last("first"), last("tuned"));
    let names = |found: &[(String, f64)]| found.iter().map(|pair| pair.0.clone()).collect::<Vec<_>>();
    let common = ["validation_accuracy", "validation_ap_cat"];
    assert_eq!(names(&first), [&common[..], &["validation_ap_dog", "validation_loss", "validation_map"]].concat());
    assert_eq!(names(&tuned), [&common[..], &["validation_loss", "validation_map"]].concat());
    assert!(first[4].1 > 0.9, "stripes are easy: {first:?}");
    assert!(tuned[3].1 == tuned[1].1 && tuned[3].1 > 0.9, "one class is their mean: {tuned:?}");
    let shapes = place.sql("SELECT shape FROM tuned WHERE tensor = 'fc.weight'");
    assert_eq!(shapes, [json!({ "shape": [1, 192] })]);
    let check = place.tessera("check", &["--set", "first.target=[\"cat\", \"cow\"]"]);
    assert!(check.code == 2 && check.err.contains("`cow` is no column of whole numbers"), "{}", check.err);
}

#[test]
fn a_line_that_changes_changes_its_row() {
    let place = place();
    run(&place);
    edit(&place, "cat_val.txt", "000022  1", "000022 -1");
    let again = run(&place);
    let counts = |stage: &str| {
        let stage = again.stage(stage);
        [stage["parts_written"].clone(), stage["rows_computed"].clone(), stage["rows_reused"].clone()]
    };
    assert_eq!(counts("photos"), [json!(1), json!(1), json!(40)]);
    assert_eq!(counts("decoded"), [json!(1), json!(0), json!(41)], "pixels are copied, and the classes are those of now");
    assert_eq!(again.stage("shapes")["action"], "reuse");
    assert_eq!(again.stage("precision")["action"], "run");
    for table in ["photos", "decoded"] {
        let row = place.sql(&format!("SELECT cat, dog FROM {table} WHERE image_id = '{}'", id(22)));
        assert_eq!(row, [json!({ "cat": -1, "dog": value("dog", 22) })], "{table}");
    }
    // What was updated is what a new run makes.
    let updated = place.digests("pipeline");
    fs::remove_dir_all(place.path(".tessera")).unwrap();
    run(&place);
    assert_eq!(place.digests("pipeline"), updated);

    let readme = main("readme.txt");
    place.write(&readme, "not looked at");
    let text = fs::read_to_string(place.path(&main("dog_val.txt"))).unwrap();
    place.write(&main("dog_val.txt"), text.replace('\n', "\r\n"));
    let again = run(&place);
    assert_eq!(
        (again.stage("photos")["rows_computed"].clone(), again.stage("decoded")["action"].clone()),
        (json!(0), json!("reuse"))
    );
}

#[test]
fn classes_and_images_come_and_go() {
    let place = place();
    run(&place);
    let decoded = |place: &Place, rows: u64, of_them_new: u64| {
        let again = run(place);
        assert_eq!(again.stage("decoded")["rows_computed"], rows, "{}", again.out);
        assert_eq!(again.stage("shapes")["rows_computed"], of_them_new, "{}", again.out);
        place.sql("SELECT * FROM decoded LIMIT 1")[0].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>()
    };
    for split in ["train", "val", "test"] {
        fs::rename(place.path(&main(&format!("dog_{split}.txt"))), place.path(&format!("dog_{split}.txt"))).unwrap();
    }
    assert!(!decoded(&place, 0, 0).contains("dog"), "rows are copied without it");
    place.write(&main("owl_test.txt"), "000003 1\n");
    assert!(decoded(&place, 41, 0).contains("owl"));
    let owls = place.sql("SELECT image_id FROM decoded WHERE owl IS NOT NULL");
    assert_eq!(owls, [json!({ "image_id": id(3) })]);

    fs::copy(place.path(&format!("VOC2007/{}", id(0))), place.path("VOC2007/JPEGImages/000000b.jpg")).unwrap();
    decoded(&place, 0, 0);
    edit(&place, "train.txt", "000000\n", "");
    edit(&place, "cat_train.txt", "000000 -1\n", "");
    fs::remove_file(place.path(&format!("VOC2007/{}", id(0)))).unwrap();
    decoded(&place, 0, 0);
    assert_eq!(place.sql("SELECT count(*) AS n FROM decoded"), [json!({ "n": 41 })]);

    let few = place.tessera("run", &["--limit", "5", "--to", "shapes", "--format", "json"]);
    assert_eq!(few.stage("photos")["rows_out"], 5, "{}", few.err);
}

#[test]
fn classes_keep_their_mark_on_the_way() {
    let place = place();
    place.write("names.csv", format!("image_id,breed\n{},x\n", id(1)));
    let more = r#"
names = { op = "table", path = "names.csv" }
joined = { op = "label_join", inputs = { images = "photos", labels = "names" } }
turned = { op = "augment", input = "decoded", keep = true }
asked = { op = "sql", input = "joined", query = "SELECT image_id, dog, split, 1 AS one FROM joined" }
by_joined = { op = "probe", inputs = { features = "shapes", labels = "joined" }, c = [0.01] }
by_turned = { op = "probe", inputs = { features = "shapes", labels = "turned" }, c = [0.01] }
by_asked = { op = "probe", inputs = { features = "shapes", labels = "asked" }, c = [0.01] }
"#;
    place.write("pipeline.toml", FILE.to_owned() + more);
    run(&place);
    let classes = |table: &str| {
        let rows = place.sql(&format!("SELECT DISTINCT class FROM {table} WHERE class IS NOT NULL ORDER BY class"));
        rows.iter().map(|row| row["class"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        ["by_joined", "by_turned", "by_asked"].map(classes).map(|found| found.join(" ")),
        ["cat dog", "cat dog", "dog"]
    );
}

#[test]
fn faults_are_named_with_file_and_line() {
    let place = place();
    edit(&place, "dog_val.txt", "000006  1", "000006  x");
    let answer = place.tessera("run", &["-q"]);
    assert_eq!(answer.code, 1);
    let line = "ImageSets/Main/dog_val.txt: line 2: `000006  x` should be an image and -1, 0 or 1";
    assert!(answer.err.contains("stage `photos`: ") && answer.err.contains(line), "{}", answer.err);
    fs::remove_file(place.path(&format!("VOC2007/{}", id(39)))).unwrap();
    edit(&place, "dog_val.txt", "000006  x", "000006  1");
    let answer = place.tessera("run", &["-q"]);
    assert!(answer.code == 1 && answer.err.contains("line 10: JPEGImages has no image `000039`"), "{}", answer.err);

    let check = place.tessera("check", &["--set", "photos.path=."]);
    assert_eq!(check.code, 2);
    assert!(check.err.contains("`VOC2007` has: try path = "), "{}", check.err);
    let check = place.tessera("check", &["--set", "photos.format=cocoa"]);
    assert!(
        check.code == 2 && check.err.contains("unknown variant `cocoa`, expected one of `folder`, `list`, "),
        "{}",
        check.err
    );
    place.write(&main("split_train.txt"), "");
    let check = place.tessera("check", &[]);
    assert!(check.code == 2 && check.err.contains("the class `split` of `ImageSets/Main`"), "{}", check.err);
}
