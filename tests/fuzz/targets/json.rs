//! JSON lines of one file or two.

#![no_main]

use tessera_datasets::tables::Reading;
use tessera_fuzz::{Memory, parts, table};

tessera_fuzz::fuzz!(|data| {
    let [one, two] = parts(data);
    let files = [("a.jsonl", one), ("b.ndjson", two)];
    let count = if two.is_empty() { 1 } else { 2 };
    table(&Memory::new(files[..count].iter().copied()), &Reading::default());
});
