//! CIFAR's pickles and binaries, and STL-10's: the pictures, and the names of classes.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_fuzz::{Memory, images, parts};

tessera_fuzz::fuzz!(|data| {
    let Some((how, data)) = data.split_first() else { return };
    let [one, two, three] = parts(data);
    let files: &[(&str, &[u8])] = match how % 5 {
        0 => &[("data_batch_1", one), ("batches.meta", two)],
        1 => &[("train", one), ("meta", two)],
        2 => &[("data_batch_1.bin", one), ("batches.meta.txt", two)],
        3 => &[("train.bin", one), ("fine_label_names.txt", two), ("coarse_label_names.txt", three)],
        _ => &[("train_X.bin", one), ("train_y.bin", two), ("class_names.txt", three)],
    };
    let format = if how % 5 == 4 { Format::Stl10 } else { Format::Cifar };
    images(&Memory::new(files.iter().copied()), format, "", &Options::default());
});
