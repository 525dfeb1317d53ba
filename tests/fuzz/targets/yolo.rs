//! YOLO's texts: the names of classes, a list of a split, and boxes.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_fuzz::{Memory, images, parts};

tessera_fuzz::fuzz!(|data| {
    let Some((how, data)) = data.split_first() else { return };
    let [names, boxes, list] = parts(data);
    let name = ["data.yaml", "classes.txt", "obj.names", "dataset.yaml"][usize::from(how & 3)];
    let picture: &[u8] = b"P6\n4 4\n255\n";
    let pictures = [("images/train/1.jpg", picture), ("images/val/2.jpg", picture), ("train.txt", list)];
    let labels = [("labels/train/1.txt", boxes), (name, names)];
    images(&Memory::new(pictures.into_iter().chain(labels)), Format::Yolo, "", &Options::default());
});
