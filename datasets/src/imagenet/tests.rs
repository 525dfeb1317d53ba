use tempfile::TempDir;
use tessera_schemas::text;

use super::*;
use crate::boxes::tests::{made, message, prints};
use crate::local::LocalFiles;

type Texts = [Option<String>; 4];

/// Ids, labels, names and splits.
fn rows(dir: &TempDir, limit: usize) -> Result<Vec<Texts>, String> {
    let fail = |error| message(dir, error);
    let found = ImageNet::open(&LocalFiles, dir.path()).map_err(fail)?;
    let prints = prints(&found, dir.path(), limit).map_err(fail)?;
    let mut rows = Vec::new();
    for batch in found.rows(&LocalFiles, &prints).map_err(fail)? {
        let batch = batch.map_err(fail)?.rows;
        assert_eq!(batch.schema(), found.schema());
        let columns = ["image_id", "label", CLASS_NAME, SPLIT].map(|name| text(&batch, name).unwrap());
        rows.extend(
            (0..batch.num_rows()).map(|row| columns.map(|column| column.iter().nth(row).flatten().map(str::to_owned))),
        );
    }
    Ok(rows)
}

fn texts(row: [&str; 4]) -> Texts {
    row.map(|text| (text != "-").then(|| text.to_owned()))
}

const NAMES: (&str, &str) = ("LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n");
const MAP: (&str, &str) = ("devkit/data/map_clsloc.txt", "n01443537 1 gold_fish\nn01440764 2 tench\n");
const TRAIN: &str = "ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_1.JPEG";
const VAL: [&str; 2] = ["val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG"];

#[test]
fn folders_are_classes() {
    let dir = made(&[TRAIN, "val/n01443537/x.JPEG", "test/y.JPEG"], &[NAMES, ("ILSVRC/Annotations/n01440764_1.xml", "")]);
    assert!(ImageNet::recognises(&LocalFiles, dir.path()));
    let expected = [
        texts([TRAIN, "n01440764", "tench, Tinca tinca", "train"]),
        texts(["test/y.JPEG", "-", "-", "test"]),
        texts(["val/n01443537/x.JPEG", "n01443537", "goldfish", "val"]),
    ];
    assert_eq!(rows(&dir, 9).unwrap(), expected);
    let dir = made(&["train/n01440764/images/a.JPEG"], &[]);
    assert_eq!(rows(&dir, 9).unwrap(), [texts(["train/n01440764/images/a.JPEG", "n01440764", "-", "train"])]);
    let index = r#"{"0": ["n01440764", "tench_fish"]}"#;
    for (file, content, name) in [
        ("words.txt", "n01440764\ttench\nn00001740\tentity", "tench"),
        ("imagenet_class_index.json", index, "tench fish"),
        (MAP.0, MAP.1, "tench"),
    ] {
        let dir = made(&[TRAIN], &[(file, content)]);
        assert_eq!(rows(&dir, 9).unwrap(), [texts([TRAIN, "n01440764", name, "train"])], "{file}");
    }
}

#[test]
fn labels_of_val_come_from_the_files_beside_it() {
    let expected =
        [texts([VAL[0], "n01440764", "tench, Tinca tinca", "val"]), texts([VAL[1], "n01443537", "goldfish", "val"])];
    let images = [TRAIN, VAL[0], VAL[1]];
    let solution = "ImageId,PredictionString\nILSVRC2012_val_00000002,n01443537 1 2 3 4 n01443537 5 6 7 8 \n\
                    ILSVRC2012_val_00000001,n01440764 1 2 3 4 \n";
    let tiny = "ILSVRC2012_val_00000001.JPEG\tn01440764\t0\t0\t1\t1\nILSVRC2012_val_00000002.JPEG\tn01443537\t0\t0\t1\t1\n";
    for (name, content) in [
        ("LOC_val_solution.csv", solution),
        ("val/val_annotations.txt", tiny),
        ("devkit/data/ILSVRC2012_validation_ground_truth.txt", "2\n1\n"),
        ("imagenet_2012_validation_synset_labels.txt", "n01440764\nn01443537\n"),
    ] {
        let dir = made(&images, &[NAMES, MAP, (name, content)]);
        assert_eq!(rows(&dir, 9).unwrap()[1..], expected, "{name}");
        assert_eq!(rows(&dir, 2).unwrap()[1..], expected[..1], "{name}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let fault = |images: &[&str], others: &[(&str, &str)]| rows(&made(images, others), 9).unwrap_err();
    let error = fault(&["cat/a.jpg"], &[]);
    assert!(
        error.ends_with(
            "no image is in the folder of a class: looked for folders called as n01440764 is; among 1 files are 1 images"
        ),
        "{error}"
    );
    let error = fault(&[TRAIN, VAL[0]], &[]);
    assert!(error.contains("1 images of `val` are in no folder of a class (val/ILSVRC2012_val_00000001.JPEG)"), "{error}");
    let truth = ("ILSVRC2012_validation_ground_truth.txt", "2\n3\n");
    assert!(fault(&[TRAIN, VAL[0]], &[truth]).contains("map_clsloc.txt is not there"));
    assert_eq!(fault(&[TRAIN, VAL[0]], &[truth, MAP]), format!("{}: line 2: map_clsloc.txt has no class 3", truth.0));
    assert_eq!(
        fault(&[TRAIN], &[NAMES, ("a/LOC_synset_mapping.txt", "")]),
        "a/LOC_synset_mapping.txt: LOC_synset_mapping.txt has the same name: remove one of them"
    );
    let error = fault(&["train/n00000001/a.JPEG"], &[NAMES]);
    assert_eq!(error, "LOC_synset_mapping.txt: it has no name of the class n00000001, which has images");
    let error = fault(&[TRAIN, VAL[1]], &[("imagenet_2012_validation_synset_labels.txt", "n01440764\n")]);
    assert_eq!(
        error,
        format!("{}: it is in no folder of a class, and not in imagenet_2012_validation_synset_labels.txt", VAL[1])
    );
}

#[test]
fn damaged_lines_say_where() {
    let names = |file: &str, content: &str| rows(&made(&[TRAIN], &[(file, content)]), 9).unwrap_err();
    let wrong = "words.txt: line 2: `tench` should be a class and its name, as `n01440764 tench`";
    assert_eq!(names("words.txt", "n01440764 a\ntench"), wrong);
    let twice = "words.txt: line 2: the class n01440764 is there for the second time";
    assert_eq!(names("words.txt", "n01440764 a\nn01440764 b"), twice);
    let map = "map_clsloc.txt: line 1: `n01440764 x y` should be a class, its number and its name, as `n02119789 1 kit_fox`";
    assert_eq!(names("map_clsloc.txt", "n01440764 x y"), map);
    assert!(names("imagenet_class_index.json", "{\"0\": 1}").contains("line 1 column 7; it should be as"));
    let labels = |file: &str, content: &str| rows(&made(&[TRAIN, VAL[0]], &[MAP, (file, content)]), 9).unwrap_err();
    let csv = "LOC_val_solution.csv: line 2: `a,cat` should be an image and its classes, as `ILSVRC2012_val_00000001,n01751748 111 108 431 202`";
    assert_eq!(labels("LOC_val_solution.csv", "ImageId,PredictionString\na,cat"), csv);
    assert!(
        labels("LOC_val_solution.csv", "a,n01440764\na,n01440764")
            .ends_with("line 2: the image a is there for the second time")
    );
    assert!(labels("val_annotations.txt", "a.JPEG").contains("line 1: `a.JPEG` should be an image and its class"));
    let truth = "ILSVRC2012_validation_ground_truth.txt: line 1: `x` should be the number of a class";
    assert_eq!(labels("ILSVRC2012_validation_ground_truth.txt", "x"), truth);
}
