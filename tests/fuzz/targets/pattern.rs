//! Paths that stand for several shards.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_fuzz::{Memory, images};

tessera_fuzz::fuzz!(|data| {
    let Ok(pattern) = std::str::from_utf8(data) else { return };
    let files = Memory::new(["a-0.tar", "a-1.tar", "b/a-00.tar.gz"].map(|path| (path, &[0; 1024][..])));
    images(&files, Format::WebDataset, pattern, &Options::default());
});
