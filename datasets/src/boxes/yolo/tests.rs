use super::super::tests::{Row, made, message, put, row, rows};
use super::data::yaml;
use super::*;
use crate::local::LocalFiles;

fn read(images: &[&str], others: &[(&str, &str)]) -> Result<(Vec<Row>, Vec<String>), String> {
    let dir = made(images, others);
    let yolo = Yolo::open(&LocalFiles, dir.path()).map_err(|error| message(&dir, error))?;
    assert!(Yolo::recognises(&LocalFiles, dir.path()));
    rows(&yolo, dir.path(), 9).map_err(|error| message(&dir, error))
}

/// What is wrong with a text file about an image.
fn fault(text: &str) -> String {
    let error = read(&["a.jpg"], &[("a.txt", text), ("classes.txt", "cat\ndog")]).unwrap_err();
    error.strip_prefix("a.txt: ").unwrap().to_owned()
}

fn names(text: &str) -> Result<Vec<String>, String> {
    yaml(text).map(|data| data.names.iter().map(|name| name.to_string()).collect())
}

/// Images are 200 x 100.
const HALF: &str = "1 0.5 0.5 0.5 0.5";

#[test]
fn parallel_folders_have_the_splits_of_data_yaml() {
    let yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n\nroboflow:\n  \
                workspace: a\n  license: CC BY 4.0\n";
    let files =
        [("data.yaml", yaml), ("train/labels/a.txt", HALF), ("valid/labels/b.txt", ""), ("README.roboflow.txt", "x")];
    let found = read(&["train/images/a.jpg", "valid/images/b.jpg", "valid/images/c.jpg"], &files).unwrap();
    let expected = vec![
        row("train/images/a.jpg", Some("train"), Some(&["dog 50 25 150 75"])),
        row("valid/images/b.jpg", Some("val"), Some(&[])),
        row("valid/images/c.jpg", Some("val"), None),
    ];
    assert_eq!(found, (expected, vec![]));
    // What a demonstration validates on is what it trains on; the last folder called `images` counts.
    let yaml = "path: ../datasets/few # here\ntrain: images/first\nval: images/first\ntest:\nnames:\n  0: cat\n  1: dog\n\
                download: |\n  names: \"\"\"it's [\n\n  } # x\n";
    let found = read(&["images/first/images/a.jpg"], &[("few.yaml", yaml), ("images/first/labels/a.txt", HALF)]).unwrap();
    assert_eq!(found.0, [row("images/first/images/a.jpg", Some("train"), Some(&["dog 50 25 150 75"]))]);
}

#[test]
fn text_files_may_lie_beside_images() {
    let files =
        [("obj.names", "cat\r\ndog\r\n"), ("train.txt", "data/x/a.jpg"), ("x/a.txt", "\r\n1 0.5\t0.5 1 1\r\n0 0 0 0 0\n")];
    let found = read(&["x/a.jpg", "valid/b.jpg"], &files).unwrap().0;
    let expected = [row("valid/b.jpg", Some("val"), None), row("x/a.jpg", None, Some(&["dog 0 0 200 100", "cat 0 0 0 0"]))];
    assert_eq!(found, expected);
    let files = [("images/classes.txt", "cat\ndog"), ("images/a.txt", HALF)];
    assert_eq!(read(&["images/a.jpg"], &files).unwrap().0, [row("images/a.jpg", None, Some(&["dog 50 25 150 75"]))]);
}

#[test]
fn lists_of_images_are_splits() {
    let yaml = "train: [first.txt, more]\nval:\n- /home/me/few/second.txt\ntest: /home/me/few/test\nnames: [cat, dog]\n";
    let files = [
        ("data.yaml", yaml),
        ("first.txt", "./images/a.jpg\n\nimages\\b.jpg\r\n"),
        ("second.txt", "/home/me/few/images/b.jpg\nimages/c.jpg\n"),
        ("labels/a.txt", HALF),
    ];
    let images = ["images/a.jpg", "images/b.jpg", "images/c.jpg", "images/d.jpg", "more/e.jpg", "test/f.jpg"];
    let found = read(&images, &files).unwrap().0;
    let splits: Vec<_> = found.iter().map(|(_, split, _)| split.as_deref().unwrap_or("-")).collect();
    assert_eq!(splits, ["train", "train", "val", "-", "train", "test"]);
    // No system has such paths, and each end of one would be looked for.
    let deep = "/a".repeat(50_000);
    let yaml = format!("train: {deep}\nval: second.txt\nnames: [cat, dog]\n");
    let error = read(&images, &[("data.yaml", &yaml), ("second.txt", &deep), files[3]]).unwrap_err();
    assert!(error.ends_with("is not there; data.yaml names this list"), "{error}");
    let mut wrong = files;
    wrong[2].1 = "images/c.jpg\nimages/x.jpg";
    let error = read(&images, &wrong).unwrap_err();
    assert_eq!(error, "second.txt: line 2: image `images/x.jpg` is not there; data.yaml names this list");
}

#[test]
fn polygons_have_a_box_around_them_and_keypoints_are_passed_over() {
    let files = [("data.yaml", "names: [cat]"), ("a.txt", "0 0.5 0.1 0.2 0.9 0.3 0.4\n0 0 0 1 0 1 1 0 1")];
    assert_eq!(read(&["a.jpg"], &files).unwrap().0[0].2.as_ref().unwrap(), &["cat 40 10 100 90", "cat 0 0 200 100"]);
    let files = [("data.yaml", "kpt_shape: [2, 3]\nnames: [cat]"), ("a.txt", "0 0.5 0.5 0.5 0.5 0.1 0.2 2 0 0 0")];
    assert_eq!(read(&["a.jpg"], &files).unwrap().0[0].2.as_ref().unwrap(), &["cat 50 25 150 75"]);
}

#[test]
fn images_of_unknown_size_are_left_out_of_boxes() {
    let dir = made(&["b.jpg"], &[("a.txt", HALF), ("b.txt", HALF), ("c.txt", ""), ("classes.txt", "cat\ndog")]);
    put(&dir, "a.jpg", b"no image");
    put(&dir, "c.jpg", b"no image");
    let yolo = Yolo::open(&LocalFiles, dir.path()).unwrap();
    let (found, left_out) = rows(&yolo, dir.path(), 9).unwrap();
    let expected =
        [row("a.jpg", None, None), row("b.jpg", None, Some(&["dog 50 25 150 75"])), row("c.jpg", None, Some(&[]))];
    assert_eq!(found, expected);
    let reason = "a.jpg: a.txt has boxes as parts of the image's size, which the image's header does not tell";
    assert_eq!(left_out, [reason]);
}

#[test]
fn damaged_lines_say_where() {
    let dog = "1 0.5 0.5 0.5 0.5\n";
    let second = |line: &str| fault(&format!("{dog}{line}"));
    assert_eq!(second("2 0.5 0.5 0.5 0.5"), "line 2: `2 0.5 0.5 0.5 0.5` is of class 2, and there are 2 (0 to 1)");
    assert_eq!(
        second("1e99 0 0 0 0"),
        format!("line 2: `1e99 0 0 0 0` is of class 1{}, and there are 2 (0 to 1)", "0".repeat(99))
    );
    assert_eq!(second("-1 0 0 0 0"), "line 2: `-1 0 0 0 0` should begin with the number of a class");
    assert_eq!(second("0.5 0 0 0 0"), "line 2: `0.5 0 0 0 0` should begin with the number of a class");
    for line in ["cat 0 0 0 0", "1 NaN 0 0 0", "1 inf 0 0 0", "1,0,0,0,0", "1 0x1 0 0 0"] {
        assert_eq!(second(line), format!("line 2: `{line}` should be numbers, with spaces between"));
    }
    for line in ["1", "1 0 0 0", "1 0 0 0 0 0.9", "1 0 0 0 0 0 0 0"] {
        let what = "should be a class, x, y, width and height, or a class and the points of a polygon";
        assert_eq!(second(line), format!("line 2: `{line}` {what}"));
    }
    assert_eq!(second("1 0 0 -0.1 0"), "line 2: `1 0 0 -0.1 0` has a width or a height below 0");
    for line in ["1 20 30 40 50", "1 -0.2 0 0 0", "1 0 0 0 0 0 1e300"] {
        let what = "should have coordinates as parts of the image's width and height, from 0 to 1";
        assert_eq!(second(line), format!("line 2: `{line}` {what}"));
    }
    let dir = made(&["a.jpg"], &[("classes.txt", "cat\ndog")]);
    put(&dir, "a.txt", b"\xff\xfe1\0");
    let yolo = Yolo::open(&LocalFiles, dir.path()).unwrap();
    assert_eq!(message(&dir, rows(&yolo, dir.path(), 9).unwrap_err()), "a.txt: it is UTF-16 text; save it as UTF-8");
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    let fault = |images: &[&str], others: &[(&str, &str)]| read(images, others).unwrap_err();
    let classes = ("classes.txt", "cat\ndog");
    let error = fault(&["images/a.jpg"], &[classes, ("labels/a.txt", ""), ("labels/b.txt", "")]);
    assert!(error.starts_with("labels/b.txt: it has no image images/b.jpg (or another ending: jpg"), "{error}");
    let error = fault(&["images/a.jpg"], &[classes, ("labels/a.txt", ""), ("images/a.txt", "")]);
    assert_eq!(error, "images/a.jpg: both labels/a.txt and images/a.txt say what it shows: remove one of them");
    let error = fault(&["a.jpg", "a.png"], &[classes, ("a.txt", "")]);
    assert_eq!(error, "a.txt: it may be about a.jpg or a.png: images must differ in more than their endings");
    let error = fault(&["a.jpg"], &[("a.txt", "")]);
    assert!(error.contains("no file has the classes' names: looked for data.yaml"), "{error}");
    let error = fault(&["a.jpg"], &[classes, ("b.txt", "")]);
    assert!(error.contains("no text file that has the name of an image: looked for labels/a.txt"), "{error}");
    let error = fault(&["a.jpg"], &[("classes.txt", "cat\n\ndog"), ("a.txt", "")]);
    assert_eq!(error, "classes.txt: line 2: it is blank, and should be the name of class 1");
    let error = fault(&["a.jpg"], &[("data.yaml", "nc: 1\n"), ("a.txt", "")]);
    assert_eq!(error, "data.yaml: it has no `names:`; write them as `names: [cat, dog]`, the first for class 0");
    // The names are those that the numbers of this run mean.
    let dir = made(&["a.jpg"], &[classes, ("a.txt", HALF)]);
    let yolo = Yolo::open(&LocalFiles, dir.path()).unwrap();
    put(&dir, "classes.txt", b"dog\ncat");
    let error = message(&dir, rows(&yolo, dir.path(), 9).unwrap_err());
    assert_eq!(error, "classes.txt: it was changed while the data set was read; try again");
}

#[test]
fn names_are_read_as_yaml_has_them() {
    let same = ["cat", "traffic light", "it's", "a: \"b\" # c", "5"];
    let texts = [
        "names: [cat, traffic light, 'it''s', \"a: \\\"b\\\" \\x23 \\u0063\", \"\\U00000035\"]",
        "nc: 5 # five\nnames:\n  [ cat, # first\n   'traffic light',\n 'it''s', 'a: \"b\" # c',\n '5',\n]\nother: {a: [1, {b: 2}]}\n",
        "names:\n- cat\n- traffic light\n-  it's\n- 'a: \"b\" # c'\n- 5\nother:\n- - 1\n  - 2\n",
        "---\nnames:\n  0: cat\n  1: traffic light\n\n  # more\n  3: 'a: \"b\" # c'\n  2: it's\n  '4': \"5\"\n...\n",
        "names: {0: cat, 1: traffic light, 2: it's,\n  3: 'a: \"b\" # c', 4: 5}\r\n",
        "other:\n  names: [x]\n\"names\": [cat,traffic light,it's,'a: \"b\" # c',5,]",
    ];
    for text in texts {
        assert_eq!(names(text).as_deref(), Ok(&same.map(str::to_owned)[..]), "{text}");
    }
}

#[test]
fn other_yaml_says_where() {
    let faults = [
        ("names: [a, b]\nnames: [c]", "line 2: `names` is in line 1 already"),
        ("nc: 3\nnames: [a, b]", "`nc` is 3, and `names` has 2 names"),
        ("nc: many\nnames: [a]", "line 1: `nc` should be the number of classes"),
        ("names: a b", "line 1: `names` should be a list, or a map from the classes' numbers"),
        ("names:", "line 1: `names` should be a list, or a map from the classes' numbers"),
        ("names: [a, [b]]", "line 1: lists in lists are not read here"),
        ("names: [a,\n b", "line 1: its brackets are not closed"),
        ("names: [a}\nx: 1]", "line 1: `]` is missing"),
        ("names: [a] b", "line 1: `b` follows `]`"),
        ("names: ['a]", "line 1: a text in quotes should end on its line"),
        ("names: &x [a]", "line 1: a value that begins with `&` is not read here: write it as a plain text"),
        ("names:\n- a\n- *b", "line 3: a value that begins with `*` is not read here: write it as a plain text"),
        ("names: [a, , b]", "line 1: a name is empty"),
        ("names:\n- a\n  b", "line 3: it should begin with `- `, as those before it"),
        ("names:\n  0: a\n  2: b", "line 3: class 1 has no name, and class 2 has one"),
        ("names:\n  0: a\n  0: b", "line 3: class 0 has a name already"),
        ("names:\n  a: 0", "line 2: `a: 0` should be the number of a class and its name, as `0: cat`"),
        ("names: [\"a\\x4\"]", "line 1: `\\x4` is not read here"),
        ("names: [\"a\\ud800\"]", "line 1: `\\ud800` is not read here"),
        ("names: [\"a\\a\"]", "line 1: `\\a` is not read here"),
        ("names: [a]\ntrain: a\n  b", "line 3: the value of `train` should be on one line"),
        ("names: [a]\ntrain: {0: a}", "line 2: it should be a folder or a file, or a list of these"),
        ("names: [a]\npath: [a]", "line 2: `path` should be one text"),
        ("  - a", "line 1: it belongs to no key"),
        ("names", "line 1: it should be a key and a colon"),
    ];
    for (text, message) in faults {
        assert_eq!(names(text), Err(message.to_owned()), "{text}");
    }
    let deep = format!("names: {}", "[".repeat(100_000));
    assert_eq!(names(&deep), Err("line 1: its brackets are not closed".to_owned()));
}
