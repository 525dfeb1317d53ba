//! Arrow's files and streams, as tables and as images.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_datasets::tables::Reading;
use tessera_fuzz::{Memory, images, table};

tessera_fuzz::fuzz!(|data| {
    let files = Memory::new([("a.arrow", data)]);
    table(&files, &Reading::default());
    images(&files, Format::Arrow, "a.arrow", &Options::default());
});
