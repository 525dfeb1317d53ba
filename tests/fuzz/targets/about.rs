//! Tables beside the images of a folder, in one or in two halves.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_fuzz::{Memory, images, parts};

tessera_fuzz::fuzz!(|data| {
    let Some((how, data)) = data.split_first() else { return };
    let [one, two] = parts(data);
    let ending = if how & 1 == 0 { "csv" } else { "jsonl" };
    let halves = ["train/a.jpg", "train/cat/b.jpg", "test/a.jpg"].map(|path| (path, &b"a"[..]));
    let in_halves = [format!("train/metadata.{ending}"), format!("test/metadata.{ending}")];
    let tables = [(&*in_halves[0], one), (&in_halves[1], two)];
    let count = if two.is_empty() { 1 } else { 2 };
    let files = Memory::new(halves.into_iter().chain(tables[..count].iter().copied()));
    images(&files, Format::Folder, "", &Options::default());
    let name = format!("metadata.{ending}");
    let flat = Memory::new([("a.jpg", &b"a"[..]), ("dog/b.jpg", b"b"), (&name, one)]);
    images(&flat, Format::Folder, "", &Options::default());
});
