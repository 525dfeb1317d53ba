use tempfile::TempDir;

use super::*;
use crate::local::LocalFiles;

/// What a folder of these files looks like.
fn format(paths: &[&str]) -> Format {
    let dir = TempDir::new().unwrap();
    for path in paths {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    Format::recognise(&LocalFiles, dir.path()).unwrap()
}

#[test]
fn folders_are_what_they_look_like() {
    for (paths, expected) in [
        (&["cat/1.jpg", "dog/2.jpg"][..], Format::Folder),
        (&["train/cat/1.jpg", "val/cat/2.jpg"], Format::Folder),
        (&["1.jpg", "2.jpg", "1.xml"], Format::Folder),
        (&[], Format::Folder),
        (&["JPEGImages/1.jpg", "ImageSets/Main/cat_train.txt"], Format::Voc),
        (&["JPEGImages/1.jpg", "Annotations/1.xml"], Format::VocXml),
        (&["train/1.jpg", "train/1.xml", "valid/2.jpg", "valid/2.xml"], Format::VocXml),
        (&["annotations/instances_val2017.json", "val2017/1.jpg"], Format::Coco),
        (&["train/_annotations.coco.json", "train/1.jpg"], Format::Coco),
        (&["data.yaml", "train/images/1.jpg", "train/labels/1.txt"], Format::Yolo),
        (&["images/1.jpg", "labels/1.txt", "classes.txt"], Format::Yolo),
        (&["train-000.tar", "train-001.tar", "README.md"], Format::WebDataset),
        (&["data_batch_1.bin", "batches.meta.txt"], Format::Cifar),
        (&["cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/batches.meta"], Format::Cifar),
        (&["stl10_binary/train_X.bin"], Format::Stl10),
        (&["train/n01440764/n01440764_1.JPEG", "synset_words.txt"], Format::ImageNet),
        (&["a.h5"], Format::Hdf5),
        (&["data-00000-of-00001.arrow", "dataset_info.json", "state.json"], Format::Arrow),
        (&["dataset_dict.json", "train/data-00000-of-00001.arrow", "train/state.json"], Format::Arrow),
        (&["a.arrow"], Format::Folder),
        (&["state.json", "photos/1.jpg"], Format::Folder),
    ] {
        assert_eq!(format(paths), expected, "{paths:?}");
    }
}

#[test]
fn files_are_what_their_endings_say() {
    let dir = TempDir::new().unwrap();
    for (name, expected) in [
        ("a.txt", Format::List),
        ("a.csv", Format::List),
        ("a.jsonl", Format::List),
        ("a.parquet", Format::List),
        ("a.hdf5", Format::Hdf5),
        ("a.arrow", Format::Arrow),
        ("a.feather", Format::Arrow),
        ("a.tar.gz", Format::WebDataset),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, "x").unwrap();
        assert_eq!(Format::recognise(&LocalFiles, &path).unwrap(), expected, "{name}");
    }
    let pattern = dir.path().join("train-{000..127}.tar");
    assert_eq!(Format::recognise(&LocalFiles, &pattern).unwrap(), Format::WebDataset, "it need not be there");
    // A folder may be called like a file.
    let folder = dir.path().join("photos.txt");
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(Format::recognise(&LocalFiles, &folder).unwrap(), Format::Folder);
}
