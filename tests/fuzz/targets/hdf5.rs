//! HDF5, as a table and as images.

#![no_main]

use tessera_datasets::formats::{Format, Options};
use tessera_datasets::tables::Reading;
use tessera_fuzz::{Memory, images, table};

tessera_fuzz::fuzz!(|data| {
    let files = Memory::new([("a.h5", data)]);
    table(&files, &Reading::default());
    images(&files, Format::Hdf5, "a.h5", &Options::default());
});
