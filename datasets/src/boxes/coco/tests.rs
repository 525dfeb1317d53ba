use super::super::tests::{made, message, put, row, rows};
use super::*;
use crate::local::LocalFiles;

/// A file with two categories, of which numbers are left out.
fn json(images: &[(i64, &str)], annotations: &str) -> String {
    let images: Vec<String> = images.iter().map(|(id, name)| format!(r#"{{"id":{id},"file_name":"{name}"}}"#)).collect();
    let images = images.join(",");
    let categories = r#"[{"id":7,"name":"dog","supercategory":"animal"},{"id":90,"name":"cat"}]"#;
    format!("{{\"info\":{{}},\n\"annotations\":[{annotations}],\n\"images\":[{images}],\n\"categories\":{categories}}}")
}

/// What is wrong with a file of one image.
fn fault(text: &str) -> String {
    let dir = made(&["a.jpg"], &[("_annotations.coco.json", text)]);
    let coco = Coco::open(&LocalFiles, dir.path()).unwrap();
    let error = rows(&coco, dir.path(), 9).unwrap_err();
    message(&dir, error).strip_prefix("_annotations.coco.json: ").unwrap().to_owned()
}

#[test]
fn files_are_splits() {
    let train = json(
        &[(3, "a.jpg"), (1, "b.jpg"), (2, "c.jpg")],
        "{\"id\":5,\"image_id\":1,\"category_id\":90,\"bbox\":[1,2.5,3,4],\"iscrowd\":1,\"segmentation\":[[1,2],{}]},\n\
         {\"id\":4,\"image_id\":3,\"category_id\":7,\"bbox\":[-0.5,0,10,20],\"area\":null},\n\
         {\"id\":6,\"image_id\":1,\"category_id\":7,\"bbox\":[0,0,0,0],\"iscrowd\":false}",
    );
    let dir = made(
        &["train2017/a.jpg", "train2017/b.jpg", "train2017/c.jpg", "train2017/d.jpg", "val2017/a.jpg", "test2017/e.jpg"],
        &[
            ("annotations/instances_train2017.json", &train),
            ("annotations/instances_val2017.json", &json(&[(3, "a.jpg")], "")),
            ("annotations/captions_train2017.json", "nonsense"),
        ],
    );
    assert!(Coco::recognises(&LocalFiles, dir.path()));
    let coco = Coco::open(&LocalFiles, dir.path()).unwrap();
    let expected = vec![
        row("test2017/e.jpg", Some("test"), None),
        row("train2017/a.jpg", Some("train"), Some(&["dog -0.5 0 9.5 20"])),
        row("train2017/b.jpg", Some("train"), Some(&["cat 1 2.5 4 6.5 difficult", "dog 0 0 0 0"])),
        row("train2017/c.jpg", Some("train"), Some(&[])),
        row("train2017/d.jpg", Some("train"), None),
        row("val2017/a.jpg", Some("val"), Some(&[])),
    ];
    assert_eq!(rows(&coco, dir.path(), 9).unwrap().0, expected);
    assert_eq!(rows(&coco, dir.path(), 3).unwrap().0, expected[..3]);
}

#[test]
fn exports_and_other_names_are_read() {
    let one = json(&[(0, "a.jpg")], r#"{"image_id":0,"category_id":7,"bbox":[0,0,1,1]}"#);
    let boxes: Option<&[&str]> = Some(&["dog 0 0 1 1"]);
    let read = |images: &[&str], others: &[(&str, &str)]| {
        let dir = made(images, others);
        let coco = Coco::open(&LocalFiles, dir.path()).unwrap();
        rows(&coco, dir.path(), 9).unwrap().0
    };
    let found = read(
        &["train/a.jpg", "valid/a.jpg"],
        &[("train/_annotations.coco.json", &one), ("valid/_annotations.coco.json", &one)],
    );
    assert_eq!(found, [row("train/a.jpg", Some("train"), boxes), row("valid/a.jpg", Some("val"), boxes)]);
    // Annotation programs: the name of the default split says nothing, paths may be those of another system.
    let found = read(&["images/a.jpg"], &[("annotations/instances_default.json", &one)]);
    assert_eq!(found, [row("images/a.jpg", None, boxes)]);
    let found = read(&["images/a.jpg"], &[("result.json", &one.replace("a.jpg", ".\\\\images\\\\a.jpg"))]);
    assert_eq!(found, [row("images/a.jpg", None, boxes)]);
    let found = read(&["images/minival/a.jpg", "a.jpg"], &[("annotations/instances_minival.json", &one)]);
    assert_eq!(found, [row("a.jpg", None, None), row("images/minival/a.jpg", Some("minival"), boxes)]);
    // COCO's test images have nobody's boxes.
    let found = read(&["a.jpg"], &[("instances_test.json", r#"{"images":[{"id":1,"file_name":"a.jpg"}]}"#)]);
    assert_eq!(found, [row("a.jpg", Some("test"), None)]);
}

#[test]
fn images_that_are_not_there_are_named() {
    let dir = made(
        &["train2017/a.jpg"],
        &[("annotations/instances_train2017.json", &json(&[(1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg")], ""))],
    );
    let coco = Coco::open(&LocalFiles, dir.path()).unwrap();
    let expected = "annotations/instances_train2017.json: image 2 is not there: `b.jpg`; 2 of its 3 images are missing; looked in \
                    `annotations/`, `train2017/`, `images/train2017/`, `images/`, the data set's folder";
    assert_eq!(message(&dir, rows(&coco, dir.path(), 9).unwrap_err()), expected);
    let twice = json(&[(1, "a.jpg")], "");
    let dir = made(&["a.jpg"], &[("a.coco.json", &twice), ("b.coco.json", &twice)]);
    let coco = Coco::open(&LocalFiles, dir.path()).unwrap();
    assert_eq!(
        message(&dir, rows(&coco, dir.path(), 9).unwrap_err()),
        "b.coco.json: image 1 (`a.jpg`) is in a.coco.json too"
    );
    let dir = made(&["a.jpg"], &[("deep/a.json", "")]);
    assert!(!Coco::recognises(&LocalFiles, dir.path()));
    let error = message(&dir, Coco::open(&LocalFiles, dir.path()).unwrap_err());
    assert!(error.contains("no file of boxes: looked for instances_NAME.json"), "{error}");
    assert!(error.ends_with("among 2 files are 1 images and 1 JSON files (deep/a.json)"), "{error}");
}

#[test]
fn damaged_files_say_where() {
    let with = |annotation: &str| fault(&json(&[(1, "a.jpg")], annotation));
    let own = |rest: &str| with(&format!("\n{{\"id\":4,\"image_id\":1,\"category_id\":7,{rest}}}"));
    let hint = "; a file of boxes has `images` (id, file_name), `annotations` (image_id, category_id, bbox of 4 numbers) and \
                `categories` (id, name)";
    let at = |message: &str, what: &str, line: usize| {
        assert!(message.starts_with(what), "{message}");
        assert!(message.contains(&format!(" at line {line} column ")), "{message}");
    };
    let message = own("\"bbox\":[1,2,3]");
    at(&message, "invalid length 3, expected a list of 4 numbers", 3);
    assert!(message.ends_with(hint), "{message}");
    at(&own("\"bbox\":[1,2,3,4,5]"), "invalid length 5, expected a list of 4 numbers", 3);
    at(&own("\"bbox\":[1,2,-3,4]"), "invalid value: floating point `-3.0`, expected a width and a height of 0 or more", 3);
    at(&own("\"bbox\":[1,2,1e39,4]"), "the numbers of `bbox` are too large", 3);
    at(&own("\"bbox\":[1,2,1e999,4]"), "number out of range", 3);
    at(&own("\"bbox\":[1,2,NaN,4]"), "expected value", 3);
    at(&own("\"bbox\":[1,2,\"3\",4]"), "invalid type: string \"3\", expected f64", 3);
    at(&own("\"bbox\":[1,2,3,4],\"iscrowd\":2"), "invalid value: integer `2`, expected 0 or 1", 3);
    at(&own("\"area\":1"), "missing field `bbox`", 3);
    at(&own("\"bbox\":[1,2,3,4],\"bbox\":[1,2,3,4]"), "duplicate field `bbox`", 3);
    at(&fault(&"[".repeat(100_000)), "invalid type: sequence", 1);
    at(&own(&format!("\"segmentation\":{}", "[".repeat(1_000_000))), "expected value", 3);
    at(&fault("{\"images\":[],\n\"images\":[]}"), "duplicate field `images`", 2);
    at(&fault(""), "EOF while parsing a value", 1);
    at(&fault("{\"images\":[]}\n]"), "trailing characters", 2);
    let whole = json(&[(1, "a.jpg")], "");
    at(&fault(&whole[..whole.len() - 20]), "EOF while parsing", 4);

    let fine = "\"bbox\":[1,2,3,4]";
    assert_eq!(
        with(&format!("{{\"image_id\":1,\"category_id\":8,{fine}}}")),
        "annotation 1: no category has the id 8 (there are: 7, 90)"
    );
    let one = format!("{{\"id\":4,\"image_id\":1,\"category_id\":7,{fine}}}");
    let twice = "annotation 2 (its id is 4): another one before it has the same id";
    assert_eq!(with(&format!("{one},{one}")), twice);
    assert_eq!(with(&one.replace("\"image_id\":1", "\"image_id\":9")), "annotation 1 (its id is 4): no image has the id 9");
    assert_eq!(fault(&json(&[(1, "a.jpg"), (1, "b.jpg")], "")), "two images have the id 1 (the second is `b.jpg`)");
    let twice = whole.replace("\"id\":90", "\"id\":7");
    assert_eq!(fault(&twice), "two categories have the id 7 (the second is `cat`)");
}

#[test]
fn other_encodings_are_refused() {
    let dir = made(&["a.jpg"], &[]);
    let coco = |bytes: &[u8]| {
        put(&dir, "a.coco.json", bytes);
        let coco = Coco::open(&LocalFiles, dir.path()).unwrap();
        rows(&coco, dir.path(), 9).map(|(rows, _)| rows.len()).map_err(|error| message(&dir, error))
    };
    let whole = json(&[(1, "a.jpg")], "");
    assert_eq!(coco(format!("\u{feff}{whole}").as_bytes()), Ok(1));
    assert_eq!(coco(b"\xff\xfe{\0"), Err("a.coco.json: it is UTF-16 text; save it as UTF-8".to_owned()));
    let latin: Vec<u8> = whole.replace("dog", "d\u{1}g").bytes().map(|byte| if byte == 1 { 0xe9 } else { byte }).collect();
    let error = coco(&latin).unwrap_err();
    assert!(error.contains("at line 4 column") && error.ends_with("; it should be JSON, in UTF-8"), "{error}");
}
