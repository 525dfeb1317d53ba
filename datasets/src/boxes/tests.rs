use tempfile::TempDir;
use tessera_schemas::boxes::Boxes;
use tessera_schemas::images;

use super::*;
use crate::Files;
use crate::header::Header;
use crate::layout::{Layout, Role};
use crate::local::LocalFiles;

/// The first bytes of a PNG of that size.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes
}

/// A data set of these images, 200 x 100 each, and these other files.
pub(crate) fn made(images: &[&str], others: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for image in images {
        put(&dir, image, &png(200, 100));
    }
    for (path, text) in others {
        put(&dir, path, text.as_bytes());
    }
    dir
}

pub(crate) fn put(dir: &TempDir, path: &str, bytes: &[u8]) {
    let path = dir.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// The files of a data set as the engine hands them to a layout: only the first few of the images.
pub(crate) fn prints(layout: &dyn Layout, root: &Path, limit: usize) -> Result<Vec<Fingerprint>, Error> {
    let mut entries = layout.list(&LocalFiles)?.files;
    assert!(entries.is_sorted_by(|one, other| one.path < other.path));
    let mut images = 0;
    entries.retain(|entry| {
        images += usize::from(layout.role(&entry.path) == Role::Image);
        layout.role(&entry.path) != Role::Image || images <= limit
    });
    let print = |entry: Entry| {
        let header = Header::of(&LocalFiles.read(&root.join(&*entry.path)).unwrap_or_default());
        Fingerprint { digest: format!("of {}", entry.path).into(), header, entry }
    };
    Ok(entries.into_iter().map(print).collect())
}

/// A row: the image, its split, and its boxes as text.
pub(crate) type Row = (String, Option<String>, Option<Vec<String>>);

/// The rows of a data set's first images, and what is left out.
pub(crate) fn rows(layout: &dyn Layout, root: &Path, limit: usize) -> Result<(Vec<Row>, Vec<String>), Error> {
    let prints = prints(layout, root, limit)?;
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    for found in layout.rows(&LocalFiles, &prints)? {
        let found = found?;
        assert_eq!(found.rows.schema(), layout.schema());
        let boxes = Boxes::of(&found.rows).unwrap();
        let splits = tessera_schemas::text(&found.rows, SPLIT).unwrap();
        for (row, id) in images::ids(&found.rows).unwrap().iter().enumerate() {
            let text = |one: Boxed<'_>| {
                let difficult = if one.difficult { " difficult" } else { "" };
                format!("{} {} {} {} {}{difficult}", one.label, one.x0, one.y0, one.x1, one.y1)
            };
            let split = arrow::array::Array::is_valid(splits, row).then(|| splits.value(row).to_owned());
            rows.push((id.unwrap().to_owned(), split, boxes.row(row).map(|boxes| boxes.map(text).collect())));
        }
        left_out.extend(found.left_out.iter().map(|one| format!("{}: {}", one.path, one.reason)));
    }
    Ok((rows, left_out))
}

pub(crate) fn row(image: &str, split: Option<&str>, boxes: Option<&[&str]>) -> Row {
    let boxes = boxes.map(|boxes| boxes.iter().map(|&one| one.to_owned()).collect());
    (image.to_owned(), split.map(str::to_owned), boxes)
}

/// A message, without the folder of the data set.
pub(crate) fn message(dir: &TempDir, error: Error) -> String {
    error.to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn names_speak_of_splits() {
    for (name, split) in [("train2017", "train"), ("VALID", "val"), ("val_2", "val"), ("testing", "test")] {
        assert_eq!(split_word(name), Some(split), "{name}");
    }
    for name in ["", "2017", "trainval", "minival", "images"] {
        assert_eq!(split_word(name), None, "{name}");
    }
    assert_eq!(split_of("data/valid/images/test/train.jpg"), Some("val"));
    assert_eq!(split_of("train.jpg"), None);
    assert_eq!([stem_of("a.b/c"), stem_of("a.b/c.d.jpg"), stem_of("a/.jpg")], ["a.b/c", "a.b/c.d", "a/.jpg"]);
    assert!(ends_in("A.XML", ".xml") && !ends_in(".xml", ".xml") && !ends_in("aé", ".xml") && !ends_in("é", "xx"));
    assert_eq!([some(&[]), some(&["a", "b", "c"]), some(&["a"; 5])], ["none", "a, b, c", "a, a, a and 2 more"]);
}

#[test]
fn text_of_other_encodings_is_refused_with_its_line() {
    assert_eq!(text(b"\xef\xbb\xbfa\n").unwrap(), "a\n");
    assert_eq!(text(b"\xff\xfea\0").unwrap_err(), "it is UTF-16 text; save it as UTF-8");
    assert_eq!(text(b"\xfe\xff\0a").unwrap_err(), "it is UTF-16 text; save it as UTF-8");
    let latin = "line 2: the byte 0xe9 is not UTF-8 (it may be Latin-1); save the file as UTF-8";
    assert_eq!(text(b"a\ncaf\xe9\n").unwrap_err(), latin);
}
