use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use tempfile::TempDir;
use tessera_schemas::text;

use super::*;
use crate::local::LocalFiles;

/// A data set of the images `a` to `e`, with these files in `ImageSets/Main`.
fn made(about_them: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in [IMAGES, SETS, "Annotations"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    for name in ["a", "b", "c", "d", "e"] {
        std::fs::write(dir.path().join(IMAGES).join(format!("{name}.jpg")), name).unwrap();
    }
    std::fs::write(dir.path().join("Annotations/a.xml"), "").unwrap();
    for (name, text) in about_them {
        std::fs::write(dir.path().join(SETS).join(name), text).unwrap();
    }
    dir
}

/// The table of all images, or of the first few.
fn read(dir: &TempDir, limit: usize) -> Result<RecordBatch, Error> {
    let root = dir.path();
    let classes = classes(&LocalFiles, root)?;
    let mut entries = list(&LocalFiles, root, &classes)?.files;
    assert!(entries.is_sorted_by_key(|entry| entry.path.clone()));
    let mut images = 0;
    entries.retain(|entry| {
        images += usize::from(is_image(&entry.path));
        !is_image(&entry.path) || images <= limit
    });
    let print = |entry: Entry| Fingerprint { digest: format!("of {}", entry.path).into(), entry, ..Fingerprint::default() };
    let prints: Vec<_> = entries.into_iter().map(print).collect();
    let found: Vec<_> = batches(&LocalFiles, root, &classes, &prints)?.map(Result::unwrap).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].schema(), schema(&classes));
    Ok(found[0].clone())
}

fn values(table: &RecordBatch, class: &str) -> Vec<Option<i32>> {
    table.column_by_name(class).unwrap().as_primitive::<Int32Type>().iter().collect()
}

fn splits(table: &RecordBatch) -> Vec<Option<&str>> {
    text(table, SPLIT).unwrap().iter().collect()
}

/// What is wrong with a data set whose class `cat` has these lines.
fn fault(name: &str, lines: &str) -> String {
    let dir = made(&[("cat_val.txt", "d 1\n"), ("train.txt", "a\n"), (name, lines)]);
    let error = read(&dir, 5).unwrap_err().to_string();
    error.strip_prefix(&format!("{}/{SETS}/", dir.path().display())).unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn files_are_told_apart_by_their_names() {
    assert_eq!(about("train.txt"), Some((None, Set::Train)));
    assert_eq!(about("trainval.txt"), Some((None, Set::Both)));
    assert_eq!(about("train_val.txt"), Some((Some("train"), Set::Val)));
    assert_eq!(about("dining_table_trainval.txt"), Some((Some("dining_table"), Set::Both)));
    for other in ["cat.txt", "cat_all.txt", "cat_train", "_train.txt", "deep/train.txt", "readme.md"] {
        assert_eq!(about(other), None, "{other}");
    }
}

#[test]
fn images_have_splits_and_classes() {
    let dir = made(&[
        ("train.txt", "a\r\nb\r\n\r\n"),
        ("val.txt", "  c.jpg\n\n"),
        ("test.txt", "d"),
        ("trainval.txt", "no such image"),
        ("dog_train.txt", "a -1\r\nb  1\r\n"),
        ("dog_val.txt", "\u{feff}c\t0\n\n"),
        ("dog_trainval.txt", "nonsense"),
        ("cat_train.txt", "b.jpg    +1\na 0\n"),
        ("readme.txt", "nonsense"),
    ]);
    let table = read(&dir, 5).unwrap();
    let schema = table.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let of_files = ["image_id", "source", "digest", "width", "height", "format", "bytes", "modified"];
    assert_eq!(names, [&of_files[..], &["split", "cat", "dog"]].concat());
    assert_eq!(presence::names(&schema), ["cat", "dog"]);
    let ids: Vec<_> = text(&table, "image_id").unwrap().iter().flatten().collect();
    assert_eq!(ids, ["a", "b", "c", "d", "e"].map(|name| format!("JPEGImages/{name}.jpg")));
    assert_eq!(splits(&table), [Some("train"), Some("train"), Some("val"), Some("test"), None]);
    assert_eq!(values(&table, "cat"), [Some(0), Some(1), None, None, None]);
    assert_eq!(values(&table, "dog"), [Some(-1), Some(1), Some(0), None, None]);
    let digests: Vec<_> = text(&table, "digest").unwrap().iter().flatten().collect();
    assert_eq!(digests, ids.iter().map(|id| format!("of {id}")).collect::<Vec<_>>());
    let sources: Vec<_> = tessera_schemas::images::sources(&table).unwrap().map(|source| source.path).collect();
    assert_eq!(sources, ids);
}

#[test]
fn files_that_tell_nothing_are_not_looked_at() {
    let dir = made(&[
        ("train.txt", "a"),
        ("trainval.txt", "a"),
        ("readme.txt", ""),
        ("dog_train.txt", "a 1"),
        ("cat_train.txt", "a 1"),
        ("cat_val.txt", "b 1"),
        ("cat_trainval.txt", ""),
    ]);
    let listed = |classes: &[&str]| -> Vec<String> {
        let classes: Vec<String> = classes.iter().map(|&class| class.to_owned()).collect();
        let entries = list(&LocalFiles, dir.path(), &classes).unwrap().files;
        entries.into_iter().filter_map(|entry| Some(entry.path.strip_prefix(SETS)?[1..].to_owned())).collect()
    };
    assert_eq!(listed(&["cat", "dog"]), ["cat_train.txt", "cat_val.txt", "dog_train.txt", "train.txt", "trainval.txt"]);
    // A class that came after the columns were known waits for the next run.
    assert_eq!(listed(&["dog"]), ["dog_train.txt", "train.txt", "trainval.txt"]);
}

#[test]
fn train_and_val_together_serve_where_one_is_not_there() {
    let dir = made(&[
        ("trainval.txt", "a\nb\n"),
        ("train.txt", "a\n"),
        ("cat_trainval.txt", "a 1\nb -1\n"),
        ("dog_train.txt", "a -1\n"),
        ("dog_trainval.txt", "a 1\nb 1\n"),
    ]);
    let table = read(&dir, 5).unwrap();
    assert_eq!(splits(&table)[..3], [Some("train"), Some("trainval"), None]);
    assert_eq!(values(&table, "cat")[..3], [Some(1), Some(-1), None]);
    assert_eq!(values(&table, "dog")[..3], [Some(-1), Some(1), None], "train tells more than trainval");
}

#[test]
fn a_table_of_the_first_images_knows_the_others() {
    let dir = made(&[("train.txt", "a\ne\n"), ("cat_train.txt", "e 1\na 1\n")]);
    let table = read(&dir, 2).unwrap();
    assert_eq!((splits(&table), values(&table, "cat")), (vec![Some("train"), None], vec![Some(1), None]));
}

#[test]
fn lines_that_are_wrong_are_named() {
    let wrong = |line: &str| format!("cat_train.txt: line 2: `{line}` should be an image and -1, 0 or 1");
    for line in ["b", "b 2", "b one", "b 1.0"] {
        assert_eq!(fault("cat_train.txt", &format!("a 1\n{line}\n")), wrong(line));
    }
    let unknown = "line 3: JPEGImages has no image `x`";
    assert_eq!(fault("cat_train.txt", "a 1\n\nx 1\n"), format!("cat_train.txt: {unknown}"));
    assert_eq!(fault("val.txt", "b\n\nx\n"), format!("val.txt: {unknown}"));
    let twice = fault("cat_train.txt", "a 1\nb 1\na 1\n");
    assert_eq!(twice, "cat_train.txt: line 3: image `a` is in line 1 of cat_train.txt already");
    assert_eq!(fault("cat_test.txt", "d 1\n"), "cat_test.txt: line 1: image `d` is in line 1 of cat_val.txt already");
    assert_eq!(fault("test.txt", "b\na.jpg\n"), "test.txt: line 2: image `a.jpg` is in line 1 of train.txt already");
}

#[test]
fn a_name_of_two_images_needs_its_ending() {
    let dir = made(&[("cat_train.txt", "a 1\n")]);
    std::fs::write(dir.path().join(IMAGES).join("a.png"), "").unwrap();
    let error = read(&dir, 9).unwrap_err().to_string();
    assert!(error.ends_with("line 1: `a` may be several images in JPEGImages: add the ending"), "{error}");
    std::fs::write(dir.path().join(SETS).join("cat_train.txt"), "a.png 1\na.jpg -1\n").unwrap();
    assert_eq!(values(&read(&dir, 9).unwrap(), "cat")[..3], [Some(-1), Some(1), None]);
}

#[test]
fn no_class_is_an_error() {
    let dir = made(&[("train.txt", "a\n"), ("trainval.txt", "a\n")]);
    let error = read(&dir, 5).unwrap_err().to_string();
    assert!(
        error.ends_with("ImageSets/Main: no class among 2 files; those of a class are named as cat_train.txt is"),
        "{error}"
    );
}
