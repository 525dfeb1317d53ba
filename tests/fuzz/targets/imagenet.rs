//! ImageNet's files of labels and names.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_fuzz::{Memory, images, parts};

tessera_fuzz::fuzz!(|data| {
    let Some((&[labels, names], data)) = data.split_first_chunk() else { return };
    let [one, two, three] = parts(data);
    let labels = [
        "LOC_val_solution.csv",
        "val_annotations.txt",
        "ILSVRC2012_validation_ground_truth.txt",
        "imagenet_2012_validation_synset_labels.txt",
    ][usize::from(labels & 3)];
    let names =
        ["LOC_synset_mapping.txt", "synset_words.txt", "words.txt", "imagenet_class_index.json"][usize::from(names & 3)];
    let pictures = ["train/n01440764/a.JPEG", "val/ILSVRC2012_val_00000001.JPEG"].map(|path| (path, &b""[..]));
    let files = Memory::new(pictures.into_iter().chain([(labels, one), (names, two), ("map_clsloc.txt", three)]));
    images(&files, Format::ImageNet, "", &Options::default());
});
