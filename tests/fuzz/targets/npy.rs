//! NumPy's arrays.

#![no_main]

use std::path::Path;

use tessera_datasets::tables::{Reading, integers};
use tessera_fuzz::{Memory, table};

tessera_fuzz::fuzz!(|data| {
    let files = Memory::new([("a.npy", data)]);
    table(&files, &Reading::default());
    if let Ok(rows) = integers(&files, Path::new("/data/a.npy")) {
        assert!(rows.iter().map(Vec::len).sum::<usize>() <= data.len());
    }
});
