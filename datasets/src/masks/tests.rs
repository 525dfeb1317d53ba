use std::fs;

use arrow::array::Array as _;
use tempfile::TempDir;
use tessera_schemas::{images, masks, text};

use super::header::tests::png as mask;
use crate::boxes::tests::{made, message, png, put};
use crate::formats::{Format, Opened, Options};
use crate::header::Header;
use crate::layout::{Found, Role};
use crate::local::LocalFiles;
use crate::{Error, Files as _, Fingerprint, UNREADABLE};

fn open(dir: &TempDir, format: Format, folder: &str) -> Result<Opened, Error> {
    let options = Options { masks: Some(folder.to_owned()), ..Options::default() };
    format.open(&LocalFiles, dir.path(), &options)
}

/// The files as the engine hands them to a format: of the images, only the first few.
fn prints(dir: &TempDir, opened: &Opened, limit: usize) -> Result<Vec<Fingerprint>, Error> {
    let mut entries = opened.list(&LocalFiles)?.files;
    assert!(entries.is_sorted_by(|one, other| one.path < other.path));
    let mut images = 0;
    entries.retain(|entry| {
        images += usize::from(opened.role(&entry.path) == Role::Image);
        opened.role(&entry.path) != Role::Image || images <= limit
    });
    let print = |entry: crate::Entry| {
        let bytes = LocalFiles.read(&dir.path().join(&*entry.path)).unwrap_or_default();
        let digest = format!("of {}", entry.path).into();
        Fingerprint { digest, header: Header::of(&bytes), entry }
    };
    Ok(entries.into_iter().map(print).collect())
}

/// The images and their masks, and what is left out.
type Rows = (Vec<(String, Option<String>)>, Vec<String>);

fn rows(opened: &Opened, prints: &[Fingerprint]) -> Result<Rows, Error> {
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    opened.rows(&LocalFiles, prints, &mut |found: Found| -> Result<(), Error> {
        assert_eq!(found.rows.schema(), opened.schema());
        let ids = images::ids(&found.rows).unwrap();
        for (id, mask) in ids.iter().zip(masks::located(&found.rows).unwrap()) {
            let mask = mask.map(|mask| {
                assert_eq!((mask.length, mask.digest), (26, &*format!("of {}", mask.path)));
                mask.path.to_owned()
            });
            rows.push((id.unwrap().to_owned(), mask));
        }
        left_out.extend(found.left_out.iter().map(|one| format!("{}: {}", one.path, one.reason)));
        Ok(())
    })?;
    Ok((rows, left_out))
}

fn pairs(rows: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    rows.iter().map(|(image, mask)| ((*image).to_owned(), mask.map(str::to_owned))).collect()
}

const XML: &str = "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>";
const COCO: &str =
    r#"{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], "annotations": [], "categories": []}"#;

/// In each, `a` has a mask, and `b` none; a mask is no image.
#[test]
fn each_format_has_masks_beside_its_images() {
    for (format, images, others) in [
        (Format::Folder, ["cat/a.jpg", "dog/b.png"], &[][..]),
        (Format::Folder, ["train/cat/a.jpg", "val/cat/b.jpg"], &[]),
        (Format::Voc, ["JPEGImages/a.jpg", "JPEGImages/b.jpg"], &[("ImageSets/Main/cat_train.txt", "a 1\nb -1\n")]),
        (
            Format::VocXml,
            ["JPEGImages/a.jpg", "JPEGImages/b.jpg"],
            &[("Annotations/a.xml", XML), ("ImageSets/Main/train.txt", "a\nb\n")],
        ),
        (Format::VocXml, ["train/a.jpg", "train/b.jpg"], &[("train/a.xml", XML)]),
        (Format::Coco, ["val2017/a.jpg", "val2017/b.jpg"], &[("annotations/instances_val2017.json", COCO)]),
        (Format::Yolo, ["images/a.jpg", "images/b.jpg"], &[("labels/a.txt", "0 0.5 0.5 1 1\n"), ("classes.txt", "cat\n")]),
        (Format::ImageNet, ["train/n00000001/a.JPEG", "train/n00000001/b.JPEG"], &[("synset_words.txt", "n00000001 cat\n")]),
    ] {
        let deep =
            format!("deep/masks/{}.png", &images[0][..images[0].len() - images[0].rsplit('.').next().unwrap().len() - 1]);
        for mask_path in ["deep/masks/a.png", &deep] {
            let dir = made(&images, others);
            put(&dir, mask_path, &mask(200, 100, 8, 3));
            put(&dir, "deep/masks/readme.txt", b"");
            let opened = open(&dir, format, "deep/masks").unwrap_or_else(|error| panic!("{format:?}: {error}"));
            let plain = format.open(&LocalFiles, dir.path(), &Options::default());
            let names = |schema: &arrow::datatypes::SchemaRef| -> Vec<String> {
                schema.fields().iter().map(|field| field.name().clone()).collect()
            };
            let mut columns = names(&opened.layout.schema());
            columns.push("mask".to_owned());
            assert_eq!(names(&opened.schema()), columns);
            assert_eq!(opened.role(mask_path), Role::Beside, "{format:?}");
            if let (Format::Folder, Ok(plain)) = (format, plain) {
                assert_eq!(plain.role(mask_path), Role::Image, "without the key, it is one of the folder's images");
            }
            let listed = opened.list(&LocalFiles).unwrap();
            assert_eq!((listed.aside.get("txt"), listed.left_out), (Some(&1), Vec::new()), "{format:?}");
            let found =
                rows(&opened, &prints(&dir, &opened, 9).unwrap()).unwrap_or_else(|error| panic!("{format:?}: {error}"));
            assert_eq!(found, (pairs(&[(images[0], Some(mask_path)), (images[1], None)]), Vec::new()), "{format:?}");
            // Of some images, the rows are the same.
            let found = rows(&opened, &prints(&dir, &opened, 1).unwrap()).unwrap();
            assert_eq!(found.0, pairs(&[(images[0], Some(mask_path))]));
        }
    }
}

#[test]
fn halves_are_told_without_the_masks() {
    let dir = made(&["train/cat/a.jpg", "test/cat/b.jpg"], &[]);
    put(&dir, "masks/test/cat/b.png", &mask(200, 100, 8, 0));
    let opened = open(&dir, Format::Folder, "masks").unwrap();
    assert!(opened.in_splits);
    opened
        .rows(&LocalFiles, &prints(&dir, &opened, 9).unwrap(), &mut |found: Found| -> Result<(), Error> {
            assert_eq!(text(&found.rows, "split").unwrap().iter().collect::<Vec<_>>(), [Some("test"), Some("train")]);
            assert!(found.rows["mask"].is_valid(0) && found.rows["mask"].is_null(1));
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_mask_in_the_same_folder_counts() {
    let dir = made(&["a/x.jpg", "b/x.jpg", "x.jpg"], &[]);
    for path in ["masks/a/x.png", "masks/b/x.PNG", "masks/x.png"] {
        put(&dir, path, &mask(200, 100, 8, 3));
    }
    let opened = open(&dir, Format::Folder, "masks").unwrap();
    let expected = [("a/x.jpg", Some("masks/a/x.png")), ("b/x.jpg", Some("masks/b/x.PNG")), ("x.jpg", Some("masks/x.png"))];
    assert_eq!(rows(&opened, &prints(&dir, &opened, 9).unwrap()).unwrap().0, pairs(&expected));
    // Without one of its own, it would get that of another image.
    fs::remove_file(dir.path().join("masks/b/x.PNG")).unwrap();
    let said = message(&dir, opened.list(&LocalFiles).unwrap_err());
    let expected = "masks/x.png: it may be the mask of b/x.jpg or x.jpg: put masks into folders as the images are";
    assert_eq!(said, expected);
    put(&dir, "masks/b/x.png", &mask(200, 100, 8, 3));
    put(&dir, "masks/b/x.PNG", &mask(200, 100, 8, 3));
    let said = message(&dir, opened.list(&LocalFiles).unwrap_err());
    assert_eq!(said, "masks/b/x.png: masks/b/x.PNG is about the same image: remove one of them");
}

#[test]
fn masks_without_images_are_counted() {
    let dir = made(&["a.jpg", "b.jpg"], &[]);
    for name in ["b", "c", "d"] {
        put(&dir, &format!("masks/{name}.png"), &mask(200, 100, 8, 3));
    }
    let opened = open(&dir, Format::Folder, "masks").unwrap();
    let listed = opened.list(&LocalFiles).unwrap();
    assert_eq!(listed.files.iter().map(|entry| &*entry.path).collect::<Vec<_>>(), ["a.jpg", "b.jpg", "masks/b.png"]);
    let told: Vec<(&str, &str)> = listed.left_out.iter().map(|one| (&*one.path, &*one.reason)).collect();
    assert_eq!(told, [("masks", "2 masks have no image: masks/c.png, masks/d.png")]);
    fs::remove_file(dir.path().join("masks/c.png")).unwrap();
    assert_eq!(opened.list(&LocalFiles).unwrap().left_out[0].reason, "1 mask has no image: masks/d.png");
    fs::remove_file(dir.path().join("masks/b.png")).unwrap();
    let said = message(&dir, opened.list(&LocalFiles).unwrap_err());
    assert_eq!(said, "masks: no mask has the name of an image among 1 PNGs: looked for masks/a.png");
    fs::remove_dir_all(dir.path().join("masks")).unwrap();
    assert!(message(&dir, opened.list(&LocalFiles).unwrap_err()).starts_with("masks: No such file"));
}

#[test]
fn masks_that_are_none_are_told() {
    let dir = made(&["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"], &[]);
    put(&dir, "masks/a.png", &mask(100, 200, 8, 3));
    put(&dir, "masks/b.png", b"\xff\xd8\xff\xe0 a JPEG of twenty-six bytes");
    put(&dir, "masks/c.png", b"");
    put(&dir, "masks/d.png", &mask(200, 100, 8, 3));
    put(&dir, "masks/e.png", &mask(7, 7, 1, 0));
    put(&dir, "e.jpg", b"its header says nothing of its size");
    let opened = open(&dir, Format::Folder, "masks").unwrap();
    let mut prints = prints(&dir, &opened, 9).unwrap();
    let place = prints.iter().position(|print| &*print.entry.path == "masks/d.png").unwrap();
    prints[place].digest = format!("{UNREADABLE}permission denied").into();
    let (found, left_out) = rows(&opened, &prints).unwrap();
    let expected = [("a.jpg", None), ("b.jpg", None), ("c.jpg", None), ("d.jpg", None), ("e.jpg", Some("masks/e.png"))];
    assert_eq!(found, pairs(&expected));
    assert_eq!(
        left_out,
        [
            "masks/a.png: the mask is 100x200, and its image, as it is stored, 200x100",
            "masks/b.png: it is no PNG, and a mask has to be one",
            "masks/c.png: it is no PNG, and a mask has to be one",
            "masks/d.png: unreadable: permission denied",
        ]
    );
    put(&dir, "masks/a.png", &mask(200, 100, 8, 2));
    let said = message(&dir, rows(&opened, &prints).unwrap_err());
    assert!(
        said.starts_with("masks/a.png: a mask's pixels should be indices of classes, and this PNG is RGB: save it"),
        "{said}"
    );
}

#[test]
fn another_column_of_that_name_is_refused() {
    let dir = made(&["JPEGImages/a.jpg"], &[("ImageSets/Main/mask_train.txt", "a 1\n")]);
    put(&dir, "masks/a.png", &mask(200, 100, 8, 3));
    let said = open(&dir, Format::Voc, "masks").unwrap_err().to_string();
    assert!(
        said.ends_with(": has a column `mask` of its own, and that of the masks has the same name: rename it"),
        "{said}"
    );
}

#[test]
fn folders_lie_within_the_data_set() {
    use std::path::Path;
    let of = |path: &str| super::folder(Path::new(path));
    for (path, folder) in [("masks", "masks"), ("./a//b/", "a/b"), ("a/./b", "a/b")] {
        assert_eq!(of(path).as_deref(), Some(folder));
    }
    for path in ["", ".", "..", "a/../../b", "/masks"] {
        assert_eq!(of(path), None, "{path}");
    }
    // A folder whose name goes on is another one.
    let dir = made(&["masks2/a.jpg"], &[]);
    put(&dir, "masks/a.png", &png(200, 100));
    put(&dir, "masks/a.png", &mask(200, 100, 8, 3));
    let opened = open(&dir, Format::Folder, "masks").unwrap();
    assert_eq!([opened.role("masks2/a.jpg"), opened.role("masks/a.png")], [Role::Image, Role::Beside]);
    assert_eq!(
        rows(&opened, &prints(&dir, &opened, 1).unwrap()).unwrap().0,
        pairs(&[("masks2/a.jpg", Some("masks/a.png"))])
    );
}
