//! PASCAL VOC: the files of its sets, and XML of boxes.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_fuzz::{Memory, images, parts};

tessera_fuzz::fuzz!(|data| {
    let [train, cat, xml] = parts(data);
    let both = ("ImageSets/Main/trainval.txt", cat);
    let sets = [("JPEGImages/1.jpg", &b""[..]), ("JPEGImages/2.jpg", b""), ("ImageSets/Main/train.txt", train), both];
    let files = Memory::new(sets.into_iter().chain([("ImageSets/Main/cat_train.txt", cat)]));
    images(&files, Format::Voc, "", &Options::default());
    images(&Memory::new(sets.into_iter().chain([("Annotations/1.xml", xml)])), Format::VocXml, "", &Options::default());
    let pair = [("train/1.jpg", &b""[..]), ("train/1.xml", data)];
    images(&Memory::new(pair), Format::VocXml, "", &Options::default());
});
