//! COCO's JSON.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_fuzz::{Memory, images, parts};

tessera_fuzz::fuzz!(|data| {
    let [train, val] = parts(data);
    let pictures = [("1.jpg", &b""[..]), ("train2017/1.jpg", b""), ("val2017/2.jpg", b"")];
    let labels = [("annotations/instances_train2017.json", train), ("annotations/instances_val2017.json", val)];
    let count = if val.is_empty() { 1 } else { 2 };
    let files = Memory::new(pictures.into_iter().chain(labels[..count].iter().copied()));
    images(&files, Format::Coco, "", &Options::default());
});
