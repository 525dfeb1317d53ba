//! Arrow's files and streams.

#![no_main]

use tessera_datasets::tables::Reading;
use tessera_fuzz::{Memory, table};

tessera_fuzz::fuzz!(|data| table(&Memory::new([("a.arrow", data)]), &Reading::default()));
