use super::super::tests::{made, message, put, row, rows};
use super::*;
use crate::local::LocalFiles;

fn object(name: &str, [xmin, ymin, xmax, ymax]: [&str; 4], more: &str) -> String {
    format!(
        "\t<object>\n\t\t<name>{name}</name>\n{more}\t\t<bndbox>\n<xmin>{xmin}</xmin><ymin>{ymin}</ymin>\n\
         <xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n\t</object>\n"
    )
}

fn xml(objects: &str) -> String {
    format!("<annotation>\n\t<filename>elsewhere.jpg</filename>\n{objects}</annotation>\n")
}

/// The only file's objects, as text, or what is wrong with it.
fn parsed(text: &str) -> Result<Vec<String>, String> {
    let dir = made(&["a.jpg"], &[("a.xml", text)]);
    let voc = Voc::open(&LocalFiles, dir.path()).unwrap();
    match rows(&voc, dir.path(), 9) {
        Ok((mut rows, _)) => Ok(rows.remove(0).2.unwrap()),
        Err(error) => Err(message(&dir, error).strip_prefix("a.xml: ").unwrap().to_owned()),
    }
}

#[test]
fn annotations_are_read_with_their_splits() {
    let cat = xml(&object("cat", ["1", "2", "30", "40"], "<difficult>1</difficult>"));
    let dir = made(
        &["JPEGImages/a.jpg", "JPEGImages/deep/b.png", "JPEGImages/c.jpg", "SegmentationClass/a.png", "JPEGImages/d.jpg"],
        &[
            ("Annotations/a.xml", &cat),
            ("Annotations/deep/b.XML", &xml("")),
            ("Annotations/d.xml", &cat),
            ("ImageSets/Main/train.txt", "a\nd\n"),
            ("ImageSets/Main/val.txt", "deep/b\n"),
            ("ImageSets/Main/cat_train.txt", "nonsense"),
            ("other.xml", "nonsense"),
        ],
    );
    assert!(Voc::recognises(&LocalFiles, dir.path()));
    let voc = Voc::open(&LocalFiles, dir.path()).unwrap();
    let paths: Vec<_> = voc.list(&LocalFiles).unwrap().files.into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths.len(), 9, "{paths:?}");
    let expected = vec![
        row("JPEGImages/a.jpg", Some("train"), Some(&["cat 0 1 30 40 difficult"])),
        row("JPEGImages/c.jpg", None, None),
        row("JPEGImages/d.jpg", Some("train"), Some(&["cat 0 1 30 40 difficult"])),
        row("JPEGImages/deep/b.png", Some("val"), Some(&[])),
    ];
    assert_eq!(rows(&voc, dir.path(), 9).unwrap().0, expected);
    // A part of the images: lines about the others are no error.
    assert_eq!(rows(&voc, dir.path(), 2).unwrap().0, expected[..2]);
    put(&dir, "ImageSets/Main/val.txt", b"none\n");
    let error = message(&dir, rows(&voc, dir.path(), 9).unwrap_err());
    assert_eq!(error, "ImageSets/Main/val.txt: line 1: JPEGImages has no image `none`");
}

/// Each object knows its line, for which the lines before it are not counted again.
#[test]
fn many_objects_are_read_in_one_pass() {
    let one = object("cat", ["1", "2", "3", "4"], "");
    let many = one.repeat(40_000);
    assert_eq!(parsed(&xml(&many)).unwrap().len(), 40_000);
    let error = parsed(&xml(&format!("{many}<object/>\n"))).unwrap_err();
    assert_eq!(error, format!("line {}: the object of line {0} has no <name>", 3 + 40_000 * one.lines().count()));
}

#[test]
fn files_beside_their_images_have_splits_by_folder() {
    let dog = xml(&object("dog", ["1", "1", "2", "2"], ""));
    let dir = made(&["train/a.jpg", "valid/b.jpg"], &[("train/a.xml", &dog), ("valid/b.xml", &dog), ("README.txt", "")]);
    let voc = Voc::open(&LocalFiles, dir.path()).unwrap();
    let expected =
        [row("train/a.jpg", Some("train"), Some(&["dog 0 0 2 2"])), row("valid/b.jpg", Some("val"), Some(&["dog 0 0 2 2"]))];
    assert_eq!(rows(&voc, dir.path(), 9).unwrap().0, expected);
    let dir = made(&["x/images/a.jpg", "b.jpg"], &[("x/annotations/a.xml", &dog), ("b.xml", "nonsense")]);
    let voc = Voc::open(&LocalFiles, dir.path()).unwrap();
    assert_eq!(rows(&voc, dir.path(), 9).unwrap().0, [row("x/images/a.jpg", None, Some(&["dog 0 0 2 2"]))]);
}

#[test]
fn pairs_that_are_none_are_refused() {
    let open = |images: &[&str], others: &[(&str, &str)]| {
        let dir = made(images, others);
        let listed = Voc::open(&LocalFiles, dir.path()).and_then(|voc| voc.list(&LocalFiles));
        let error = listed.unwrap_err();
        message(&dir, error)
    };
    let error = open(&["a.jpg"], &[("a.xml", ""), ("b.xml", ""), ("c.xml", "")]);
    assert!(error.starts_with("b.xml: it has no image b.jpg (or another ending: jpg, "), "{error}");
    assert!(error.ends_with("; nor have c.xml"), "{error}");
    let error = open(&["JPEGImages/a.jpg"], &[("Annotations/a.xml", ""), ("Annotations/x/b.xml", "")]);
    assert!(error.starts_with("Annotations/x/b.xml: it has no image JPEGImages/x/b.jpg"), "{error}");
    let error = open(&["a.jpg", "a.png"], &[("a.xml", "")]);
    assert_eq!(error, "a.xml: it may be about a.jpg or a.png: images must differ in more than their endings");
    let error = open(&["a.jpg"], &[("a.xml", ""), ("a.XML", "")]);
    assert_eq!(error, "a.xml: a.XML is about the same image: remove one of them");
    let error = open(&["a.jpg"], &[("b.xml", "")]);
    assert!(error.contains("no XML file that has the name of an image: looked for Annotations/a.xml with"), "{error}");
    assert!(error.ends_with("among 2 files are 1 images and 1 XML files (b.xml)"), "{error}");
}

#[test]
fn a_folder_of_annotations_that_cannot_be_read_is_no_folder_without() {
    let dir = made(&["JPEGImages/a.jpg"], &[("Annotations/a.xml", &xml(""))]);
    let voc = Voc::open(&LocalFiles, dir.path()).unwrap();
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"b\xe9.xml");
    std::fs::write(dir.path().join("Annotations").join(name), "").unwrap();
    let error = message(&dir, voc.list(&LocalFiles).unwrap_err());
    assert!(error.starts_with("Annotations/b\\xe9.xml: the name is not UTF-8"), "{error}");
}

#[test]
fn what_programs_write_is_read() {
    // Sides in any order, numbers with fractions, no difficult, parts with boxes of their own, entities and comments.
    let part = "<part><name>head</name><bndbox><xmin>7</xmin><ymin>7</ymin><xmax>8</xmax><ymax>8</ymax></bndbox></part>";
    let text = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><!DOCTYPE annotation>\n<annotation verified=\"yes\"><!-- a -- b? -->\
         <size><width>3</width></size><object>{part}<bndbox>\n<xmax> 30.5 </xmax><xmin>-2</xmin><ymax>1e2</ymax><ymin>0.25</ymin>\
         </bndbox><pose/><name>\n salt &amp; <![CDATA[<pepper>]]> &#xe9;</name><difficult/></object></annotation>"
    )
    .replace("<!-- a -- b? -->", "<!-- a b? -->");
    assert_eq!(parsed(&text).unwrap(), ["salt & <pepper> é -3 -0.75 30.5 100"]);
    let polygon = |inner: &str| xml(&format!("<object><name>a</name><polygon>{inner}</polygon></object>"));
    let both = [
        "<x1>5</x1><y1>6</y1><x2>1</x2><y2>9</y2><x3>3</x3><y3>2</y3>",
        "<username>x</username><pt><x>5</x><y>6</y></pt><pt><x>1</x><y>9</y></pt><pt><x>3</x><y>2</y></pt>",
    ];
    for inner in both {
        assert_eq!(parsed(&polygon(inner)).unwrap(), ["a 0 1 5 9"], "{inner}");
    }
    assert_eq!(parsed("<annotation/>").unwrap(), Vec::<String>::new());
}

#[test]
fn damaged_files_say_where() {
    let sides = |at: usize, value: &str| {
        let mut sides = ["1", "2", "3", "4"];
        sides[at] = value;
        parsed(&xml(&object("cat", sides, ""))).unwrap_err()
    };
    assert_eq!(sides(0, "NaN"), "line 6: <xmin> should be a number, found `NaN`");
    assert_eq!(sides(1, "1e39"), "line 6: <ymin> should be a number, found `1e39`");
    assert_eq!(sides(2, "ten"), "line 7: <xmax> should be a number, found `ten`");
    assert_eq!(sides(3, ""), "line 7: <ymax> should be a number, found ``");
    assert_eq!(sides(0, "9"), "line 8: <xmin> of the object of line 3 is 9, which is more than its <xmax>, 3");
    assert_eq!(sides(3, "-1"), "line 8: <ymin> of the object of line 3 is 2, which is more than its <ymax>, -1");
    let broken = |objects: &str| parsed(&xml(objects)).unwrap_err();
    let whole = object("cat", ["1", "2", "3", "4"], "");
    let with = |more: &str| broken(&object("cat", ["1", "2", "3", "4"], more));
    assert_eq!(with("<difficult>2</difficult>"), "line 5: <difficult> should be 0 or 1, found `2`");
    assert_eq!(with("<name>b</name>"), "line 5: the object has a second <name>");
    assert_eq!(with("<bndbox></bndbox>"), "line 5: the object has a second <bndbox>");
    assert_eq!(
        broken(&whole.replace("<ymin>", "<xmin>").replace("</ymin>", "</xmin>")),
        "line 6: the box has a second <xmin>"
    );
    assert_eq!(broken(&whole.replace("<name>cat</name>", "")), "line 8: the object of line 3 has no <name>");
    assert_eq!(broken(&whole.replace("cat", " ")), "line 4: <name> is empty");
    assert_eq!(broken(&whole.replace("ymax", "other")), "line 8: the box of the object of line 3 has no <ymax>");
    let none = "line 3: the object of line 3 has neither a <bndbox> nor a <polygon>";
    assert_eq!(broken("<object><name>a</name></object>"), none);
    assert_eq!(broken("<object><name>a</name><polygon><x>1</x></polygon></object>"), none);
    assert_eq!(broken("&unknown;"), "line 3: `&unknown;` is not expanded: write what it is");
    let entity = "<!DOCTYPE a [<!ENTITY b \"cccc\">]>\n<annotation><object><name>&b;</name></object></annotation>";
    assert_eq!(parsed(entity).unwrap_err(), "line 2: `&b;` is not expanded: write what it is");
    assert_eq!(parsed("").unwrap_err(), "it has no <annotation>; an empty one says that an image shows nothing");
    assert_eq!(parsed("<html>\n</html>").unwrap_err(), "line 1: it begins with <html> and not with <annotation>");
    let twice = parsed("<annotation/>\n<annotation/>").unwrap_err();
    assert_eq!(twice, "line 2: <annotation> follows the end of <annotation>");
    let deep = format!("<annotation>\n{}", "<a>".repeat(100_000));
    assert_eq!(parsed(&deep).unwrap_err(), "line 2: elements lie more than 32 deep in each other");
    let text = xml(&whole);
    let place = text.find("<ymax>").unwrap();
    assert_eq!(parsed(&text[..place]).unwrap_err(), "line 7: the file ends within <bndbox>");
    for end in 1..text.trim_end().len() {
        let error = parse::objects(&text[..end]).unwrap_err();
        assert!(error.starts_with("line ") || end < "<annotation>".len(), "{end}: {error}");
    }
}

#[test]
fn other_encodings_are_refused() {
    let latin = |declared: &str, bytes: &[u8]| {
        let dir = made(&["a.jpg"], &[]);
        let text = format!("<?xml version='1.0' encoding='{declared}'?>\n<annotation>\n");
        put(&dir, "a.xml", &[text.as_bytes(), bytes, b"</annotation>"].concat());
        let voc = Voc::open(&LocalFiles, dir.path()).unwrap();
        rows(&voc, dir.path(), 9).map_err(|error| message(&dir, error))
    };
    let error = latin("ISO-8859-1", b"<folder>caf\xe9</folder>").unwrap_err();
    assert_eq!(error, "a.xml: line 3: the byte 0xe9 is not UTF-8 (it may be Latin-1); save the file as UTF-8");
    let error = latin("gbk", "é".as_bytes()).unwrap_err();
    assert_eq!(error, "a.xml: line 1: it says that it is gbk; save it as UTF-8");
    assert!(latin("ISO-8859-1", b"").is_ok() && latin("UTF-8", "é".as_bytes()).is_ok());
}
