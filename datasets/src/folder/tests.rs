use std::path::PathBuf;

use tempfile::TempDir;
use tessera_schemas::text;

use super::naming::Label;
use super::*;
use crate::local::LocalFiles;
use crate::{Entry, FileDigest, UNREADABLE};

/// A folder of files with these contents.
fn made(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

fn images_of(paths: &[&str]) -> TempDir {
    made(&paths.iter().map(|path| (*path, *path)).collect::<Vec<_>>())
}

/// The table of a folder.
fn read(dir: &TempDir, naming: Naming, splits: Option<bool>) -> Result<RecordBatch, Error> {
    let folder = Folder::open(&LocalFiles, dir.path(), naming, splits)?;
    let listed = folder.list(&LocalFiles)?;
    let print = |entry: Entry| Fingerprint { digest: format!("of {}", entry.path).into(), entry, ..Fingerprint::default() };
    let prints: Vec<Fingerprint> = listed.files.into_iter().map(print).collect();
    let found: Vec<RecordBatch> =
        folder.rows(&LocalFiles, &prints)?.map(|found| Ok(found?.rows)).collect::<Result<_, Error>>()?;
    assert!(found.iter().all(|rows| rows.schema() == folder.schema()));
    Ok(arrow::compute::concat_batches(&folder.schema(), &found).unwrap())
}

fn column(rows: &RecordBatch, name: &str) -> Vec<String> {
    let column = text(rows, name).unwrap();
    column.iter().map(|value| value.unwrap_or("-").to_owned()).collect()
}

fn labels(paths: &[&str], rule: &str) -> Vec<String> {
    let naming = Naming { label: rule.parse().unwrap(), ..Naming::default() };
    column(&read(&images_of(paths), naming, None).unwrap(), "label")
}

#[test]
fn labels_are_first_folders() {
    let dir = images_of(&["cat/1.JPG", "cat/deep/2.png", "flat.webp", "notes.txt"]);
    let rows = read(&dir, Naming::default(), None).unwrap();
    assert_eq!(column(&rows, "image_id"), ["cat/1.JPG", "cat/deep/2.png", "flat.webp"]);
    assert_eq!(column(&rows, "label"), ["cat", "cat", "-"]);
    assert_eq!(column(&rows, "digest"), ["of cat/1.JPG", "of cat/deep/2.png", "of flat.webp"]);
    let sources: Vec<Source<'_>> = images::sources(&rows).unwrap().collect();
    assert_eq!(sources[1], Source { path: "cat/deep/2.png", offset: None, length: Some(14), row: None });
    assert_eq!(rows.schema(), images::schema());
}

#[test]
fn labels_come_from_where_a_rule_says() {
    let paths = ["2024/cat/a_1.jpg", "2024/dog/b_2.jpg", "c_3.jpg"];
    assert_eq!(labels(&paths, "path:1"), ["2024", "2024", "-"]);
    assert_eq!(labels(&paths, "path:2"), ["cat", "dog", "-"]);
    assert_eq!(labels(&paths, "path:3"), ["-", "-", "-"], "a file's name is no folder");
    assert_eq!(labels(&paths, "none"), ["-", "-", "-"]);
    assert_eq!(labels(&paths, r"regex:(?:^|/)(\w+)_\d+\.jpg$"), ["a", "b", "c"]);
    assert_eq!(labels(&["cat_1.jpg", "dog_2.jpg", "é.jpg"], r"regex:^(\w+)_"), ["cat", "dog", "-"]);
    let refused = |rule: &str| rule.parse::<Label>().unwrap_err();
    assert_eq!(refused("path:0"), "`0` should be a folder's place in the path, from 1, as in \"path:2\"");
    assert_eq!(refused("regex:cat"), "`cat` should have a group in parentheses, which is the class");
    assert_eq!(refused("regex:(cat"), "unclosed group");
    assert_eq!(refused("folder"), "`folder` is no rule for labels");
}

#[test]
fn halves_are_known_by_their_names() {
    let paths = ["Train/cat/1.jpg", "test/3.jpg", "test/dog/2.jpg", "val/cat/4.jpg"];
    let rows = read(&images_of(&paths), Naming::default(), None).unwrap();
    assert_eq!(column(&rows, "image_id"), paths);
    assert_eq!(column(&rows, "split"), ["train", "test", "test", "validation"]);
    assert_eq!(column(&rows, "label"), ["cat", "-", "dog", "cat"], "paths begin behind a half");
    let rows = read(&images_of(&paths), Naming::default(), Some(false)).unwrap();
    assert!(rows.column_by_name("split").is_none());
    assert_eq!(column(&rows, "label"), ["Train", "test", "test", "val"]);
    // Another folder, or an image beside them, makes them classes.
    for other in ["bus/5.jpg", "5.jpg"] {
        let rows = read(&images_of(&[&paths[..], &[other]].concat()), Naming::default(), None).unwrap();
        assert!(rows.column_by_name("split").is_none(), "{other}");
    }
    // What programs leave behind is no class, and no image.
    let left =
        ["__MACOSX/1.jpg", "train/@eaDir/2.jpg", "lost+found/x.jpg", "$RECYCLE.BIN/3.jpg", ".ipynb_checkpoints/4.jpg"];
    let rows = read(&images_of(&[&paths[..], &left].concat()), Naming::default(), None).unwrap();
    assert_eq!(column(&rows, "split").len(), 4);
    for (name, half) in [("training", "train"), ("VALID", "validation"), ("dev", "validation"), ("eval", "test")] {
        assert_eq!(split(name), Some(half));
    }
    assert!(["trains", "contest", "", "unlabeled"].iter().all(|name| split(name).is_none()));
}

#[test]
fn patterns_choose_files() {
    let dir = images_of(&["2023/a.jpg", "2024/b.jpg", "2024/deep/c.jpg", "2024/deep/thumb_c.jpg", "d.jpg"]);
    let chosen = |include: &[&str], exclude: &[&str]| {
        let patterns = |texts: &[&str]| texts.iter().map(|text| glob::Pattern::new(text).unwrap()).collect();
        let naming = Naming { include: patterns(include), exclude: patterns(exclude), ..Naming::default() };
        column(&read(&dir, naming, None).unwrap(), "image_id")
    };
    assert_eq!(chosen(&["2024/**"], &[]), ["2024/b.jpg", "2024/deep/c.jpg", "2024/deep/thumb_c.jpg"]);
    assert_eq!(chosen(&["2024/*"], &[]), ["2024/b.jpg"], "a star stays in one folder");
    assert_eq!(chosen(&["2024/**", "*.jpg"], &["**/thumb_*"]), ["2024/b.jpg", "2024/deep/c.jpg", "d.jpg"]);
}

#[test]
fn a_table_beside_the_images_says_more() {
    let files = [
        ("cat/1.jpg", ""),
        ("dog/2.jpg", ""),
        ("3.jpg", ""),
        ("metadata.csv", "file_name,stars,label,text\n./cat/1.jpg,5,lion,\"a, b\"\n3.jpg,,,\n"),
    ];
    let rows = read(&made(&files), Naming::default(), None).unwrap();
    assert_eq!(column(&rows, "image_id"), ["3.jpg", "cat/1.jpg", "dog/2.jpg"]);
    assert_eq!(column(&rows, "label"), ["-", "lion", "dog"]);
    assert_eq!(column(&rows, "text")[1], "a, b");
    let stars = arrow::compute::cast(rows.column_by_name("stars").unwrap(), &DataType::Utf8).unwrap();
    assert_eq!(format!("{stars:?}").matches("null").count(), 2);
    // In halves, each has its own.
    let halves = [
        ("train/1.jpg", ""),
        ("test/1.jpg", ""),
        ("train/metadata.csv", "file_name,caption\n1.jpg,one\n"),
        ("test/metadata.csv", "file_name,caption\n1.jpg,two\n"),
    ];
    let rows = read(&made(&halves), Naming::default(), None).unwrap();
    assert_eq!(column(&rows, "caption"), ["two", "one"]);
    let refused = |table: &str| {
        let dir = made(&[("1.jpg", ""), ("metadata.csv", table)]);
        let error = read(&dir, Naming::default(), None).unwrap_err().to_string();
        error.strip_prefix(&format!("{}/", dir.path().display())).unwrap_or_else(|| panic!("{error}")).to_owned()
    };
    assert_eq!(
        refused("name,stars\n1.jpg,2\n"),
        "metadata.csv: has no column `file_name`, which says whose row it is; it has name, stars"
    );
    assert_eq!(refused("file_name,s\n2.jpg,2\n"), "metadata: names the image `2.jpg`, which is not there");
    assert_eq!(refused("file_name,s\n1.jpg,2\n1.jpg,3\n"), "metadata.csv: has two rows of `1.jpg`");
    assert_eq!(
        refused("file_name,width\n1.jpg,2\n"),
        "metadata: its column `width` has the name of one that images have: rename it"
    );
}

#[test]
fn other_files_are_counted() {
    let dir = images_of(&["a.jpg", "b.HEIC", "c.heic", "d.mov", "LICENSE", "e/f.ppm"]);
    let folder = Folder::open(&LocalFiles, dir.path(), Naming::default(), None).unwrap();
    let listed = folder.list(&LocalFiles).unwrap();
    let paths: Vec<&str> = listed.files.iter().map(|entry| &*entry.path).collect();
    assert_eq!(paths, ["a.jpg", "e/f.ppm"]);
    let aside: Vec<(&str, u64)> = listed.aside.iter().map(|(ending, count)| (&**ending, *count)).collect();
    assert_eq!(aside, [("", 1), ("heic", 2), ("mov", 1)]);
}

#[test]
fn what_was_left_out_stays_if_it_may_hold_images() {
    let one = |path: &str, is_folder| crate::LeftOut { path: path.into(), is_folder, reason: String::new() };
    let left_out = vec![one("a\\xe9.JPG", false), one("b\\xe9.txt", false), one("c\\xe9", true)];
    let listed = images(Listed { left_out: left_out.clone(), ..Listed::default() });
    assert_eq!(listed.left_out, [left_out[0].clone(), left_out[2].clone()]);
    let known = "jpg, jpeg, jpe, jfif, png, webp, gif, bmp, tif, tiff, ppm, pgm, pbm, pnm";
    assert_eq!(no_image(2), format!("no image among 2 files; images end in {known}"));
    let missing = Folder::open(&LocalFiles, &PathBuf::from("/no/such/folder"), Naming::default(), None);
    assert!(missing.unwrap_err().to_string().starts_with("/no/such/folder: "));
}

#[test]
fn files_tell_what_they_are_and_links_to_nothing_tell_nothing() {
    let entry = |path: &str| Entry { path: path.into(), size: 5, modified_ns: 1, ..Entry::default() };
    let header = crate::header::Header { format: Some("png"), width: Some(3), height: None };
    let there = Fingerprint { entry: Entry { modified_ns: -1, ..entry("a.jpg") }, digest: "d".into(), header };
    let about = OfFile { width: Some(3), height: None, format: Some("png"), bytes: Some(5), modified_us: Some(-1) };
    assert_eq!(image(&there, None).about, about);
    let digest = FileDigest::from(format!("{UNREADABLE}not found"));
    let closed = Fingerprint { entry: entry("b.jpg"), digest: digest.clone(), ..Fingerprint::default() };
    assert_eq!(image(&closed, None).about, OfFile { bytes: Some(5), modified_us: Some(0), ..OfFile::default() });
    let path = Entry { path: "c.jpg".into(), ..Entry::default() };
    let nowhere = Fingerprint { entry: path.clone(), digest, ..Fingerprint::default() };
    assert_eq!(image(&nowhere, None).about, OfFile::default());
    let empty = Fingerprint { entry: path, digest: "d".into(), ..Fingerprint::default() };
    assert_eq!(image(&empty, None).about.bytes, Some(0));
}
