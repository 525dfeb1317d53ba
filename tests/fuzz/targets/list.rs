//! Lists of the paths of images, as text and as tables.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_fuzz::{Memory, images};

tessera_fuzz::fuzz!(|data| {
    let Some((how, data)) = data.split_first() else { return };
    let name = ["l.txt", "l.csv", "l.jsonl", "l.tsv"][usize::from(how & 3)];
    let files = Memory::new([("a.jpg", &b"a"[..]), ("b/c.jpg", b"c"), (name, data)]);
    let column = (how & 4 != 0).then(|| "path".to_owned());
    images(&files, Format::List, name, &Options { column, ..Options::default() });
});
