//! Masks beside images, from their files to indices of one size.

use std::fs;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tessera_tests::{Answer, Place};

const COUNT: usize = 12;
const FILE: &str = r#"
[pipeline]
part_rows = 4

[stage]
photos = { op = "images", path = "VOC2007", format = "voc-xml", masks = "SegmentationClass" }
decoded = { op = "decode", input = "photos", side = 20 }
features = { op = "hog", input = "decoded", cell = 5 }
segments = { op = "decode", input = "photos", side = 20, mask = true, on_error = "drop", keep = true }
"#;

const XML: &str = "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>";

fn id(at: usize) -> String {
    format!("JPEGImages/{at:02}.png")
}

fn mask(place: &Place, at: usize) -> std::path::PathBuf {
    place.path(&format!("VOC2007/SegmentationClass/{at:02}.png"))
}

/// A mask of `index` on the left, and of 255 on the right.
fn draw(place: &Place, at: usize, index: u8) {
    let made = image::GrayImage::from_fn(40, 20, |x, _| image::Luma([if x < 20 { index } else { 255 }]));
    made.save(mask(place, at)).unwrap();
}

/// Twelve images, of which every second has a mask, and the first a box.
fn place() -> Place {
    let place = Place::new();
    place.write("pipeline.toml", FILE);
    place.write("VOC2007/Annotations/00.xml", XML);
    for folder in ["JPEGImages", "SegmentationClass"] {
        fs::create_dir_all(place.path("VOC2007").join(folder)).unwrap();
    }
    for at in 0..COUNT {
        let image = RgbImage::from_fn(40, 20, |x, y| Rgb([x as u8 * 5, y as u8 * 9, at as u8 * 20]));
        image.save(place.path(&format!("VOC2007/{}", id(at)))).unwrap();
        if at % 2 == 0 {
            draw(&place, at, at as u8);
        }
    }
    place
}

fn run(place: &Place) -> Answer {
    let answer = place.tessera("run", &["--format", "json"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    answer
}

/// Of each stage that is no view: how many rows were computed.
fn computed(answer: &Answer) -> [u64; 3] {
    ["photos", "features", "segments"].map(|stage| answer.stage(stage)["rows_computed"].as_u64().unwrap())
}

/// The index on the left of each image's mask, and the one on the right.
fn indices(place: &Place) -> Vec<(String, Value, Value)> {
    let rows = place.sql("SELECT image_id, mask[1] AS left, mask[400] AS right FROM segments ORDER BY image_id");
    rows.into_iter()
        .map(|row| (row["image_id"].as_str().unwrap().to_owned(), row["left"].clone(), row["right"].clone()))
        .collect()
}

fn expected(index: impl Fn(usize) -> Option<u8>) -> Vec<(String, Value, Value)> {
    let value = |at: usize| match index(at) {
        Some(index) => (id(at), json!(index), json!(255)),
        None => (id(at), Value::Null, Value::Null),
    };
    (0..COUNT).map(value).collect()
}

fn even(at: usize) -> Option<u8> {
    at.is_multiple_of(2).then_some(at as u8)
}

#[test]
fn a_mask_that_changes_changes_its_own_row() {
    let place = place();
    assert_eq!(computed(&run(&place)), [12, 12, 12]);
    assert_eq!(indices(&place), expected(even));
    let query = "SELECT image_id, mask['path'] AS path, mask['length'] AS bytes, boxes IS NULL AS bare FROM photos ORDER BY 1 LIMIT 2";
    let bytes = fs::metadata(mask(&place, 0)).unwrap().len();
    let rows = place.sql(query);
    assert_eq!(
        rows,
        [
            json!({"image_id": id(0), "path": "SegmentationClass/00.png", "bytes": bytes, "bare": false}),
            json!({"image_id": id(1), "path": null, "bytes": null, "bare": true}),
        ]
    );
    assert_eq!(run(&place).actions(), ["photos:reuse", "features:reuse", "segments:reuse"]);

    draw(&place, 4, 77);
    let answer = run(&place);
    assert_eq!(computed(&answer), [1, 0, 1]);
    assert!(answer.actions().contains(&"features:reuse".to_owned()), "features know nothing of masks");
    assert_eq!(indices(&place), expected(|at| if at == 4 { Some(77) } else { even(at) }));

    // One that comes, and one that goes.
    draw(&place, 5, 55);
    fs::remove_file(mask(&place, 4)).unwrap();
    assert_eq!(computed(&run(&place)), [2, 0, 2]);
    let now = |at: usize| match at {
        4 => None,
        5 => Some(55),
        _ => even(at),
    };
    assert_eq!(indices(&place), expected(now));

    // Two that are exchanged, with the times that they had.
    let (two, six) = (mask(&place, 2), mask(&place, 6));
    let aside = place.path("aside.png");
    fs::rename(&two, &aside).unwrap();
    fs::rename(&six, &two).unwrap();
    fs::rename(&aside, &six).unwrap();
    assert_eq!(computed(&run(&place)), [2, 0, 2]);
    let now = |at: usize| match at {
        2 => Some(6),
        6 => Some(2),
        _ => now(at),
    };
    assert_eq!(indices(&place), expected(now));

    // What a rerun gave is what a new store gives.
    let fresh = FILE.replace("[pipeline]", "[pipeline]\nstore = \"fresh\"");
    place.write("pipeline.toml", fresh);
    assert_eq!(computed(&run(&place)), [12, 12, 12]);
    assert_eq!(place.digests_in("fresh", "pipeline"), place.digests("pipeline"));
}

#[test]
fn masks_that_are_none_are_told_and_those_that_break_are_dropped() {
    let place = place();
    image::GrayImage::new(20, 40).save(mask(&place, 2)).unwrap();
    let whole = fs::read(mask(&place, 4)).unwrap();
    fs::write(mask(&place, 4), &whole[..40]).unwrap();
    draw(&place, 99, 1);
    run(&place);
    let now = |at: usize| if at == 2 { None } else { even(at) };
    assert_eq!(indices(&place), expected(now).into_iter().filter(|row| row.0 != id(4)).collect::<Vec<_>>());
    let dropped = place.sql("SELECT stage, path, reason FROM dropped ORDER BY path");
    let told: Vec<[&str; 3]> =
        dropped.iter().map(|row| ["stage", "path", "reason"].map(|key| row[key].as_str().unwrap())).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0][..2], ["segments", &id(4)]);
    assert!(told[0][2].starts_with("its mask is a broken PNG"), "{told:?}");
    assert_eq!(told[1], ["photos", "SegmentationClass", "1 mask has no image: SegmentationClass/99.png"]);
    let message = "the mask is 20x40, and its image, as it is stored, 40x20";
    assert_eq!(told[2], ["photos", "SegmentationClass/02.png", message]);
    let strict = place.tessera("run", &["--set", "photos.on_error=\"fail\""]);
    assert!(strict.code == 1 && strict.err.contains("1 mask has no image"), "{}", strict.err);

    // Colours are guesses.
    RgbImage::new(40, 20).save(mask(&place, 0)).unwrap();
    let answer = place.tessera("run", &[]);
    let message = "00.png: a mask's pixels should be indices of classes, and this PNG is RGB: save it with a palette";
    assert!(answer.code == 1 && answer.err.contains(message), "{}", answer.err);
}

#[test]
fn what_cannot_have_masks_says_so() {
    let place = place();
    let refused = |line: &str| {
        place.write("pipeline.toml", format!("[stage]\n{line}\n"));
        let answer = place.tessera("check", &[]);
        assert_eq!(answer.code, 2, "{}", answer.err);
        answer.err.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let found = refused("a = { op = \"images\", path = \"VOC2007\", masks = \"Segmentation\" }");
    assert!(found.contains("VOC2007/Segmentation` does not exist"), "{found}");
    let found = refused("a = { op = \"images\", path = \"VOC2007\", masks = \"../masks\" }");
    assert!(found.contains("`../masks` is no folder within the data set's"), "{found}");
    place.write("list.txt", "VOC2007/JPEGImages/00.png\n");
    let found = refused("a = { op = \"images\", path = \"list.txt\", masks = \"SegmentationClass\" }");
    assert!(found.contains("`masks` is for format = \"folder\" or \"voc\" or"), "{found}");
    let found = refused(
        "a = { op = \"images\", path = \"VOC2007\" }\nb = { op = \"decode\", input = \"a\", side = 8, mask = true }",
    );
    assert!(found.contains("the input has no column `mask` that says where masks lie"), "{found}");
}
