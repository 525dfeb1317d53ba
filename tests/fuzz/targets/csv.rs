//! CSV of one file or two, with what may be said of it.

#![no_main]

use tessera_datasets::tables::{ColumnType, CsvOptions, Reading};
use tessera_fuzz::{Memory, parts, table};

tessera_fuzz::fuzz!(|data| {
    let Some((&[how, kind, separator], data)) = data.split_first_chunk() else { return };
    let mut csv = CsvOptions::default();
    if how & 1 != 0 {
        csv.header = Some(how & 2 != 0);
    }
    if how & 4 != 0 {
        csv.separator = CsvOptions::parse_separator(&char::from(separator).to_string()).ok();
    }
    for (name, shift) in [("a", 0), ("feature", 3)].into_iter().filter(|_| how & 8 != 0) {
        if let Some((_, kind)) = ColumnType::NAMES.get(usize::from(kind >> shift & 7)) {
            csv.types.insert(name.to_owned(), *kind);
        }
    }
    let [one, two] = parts(data);
    let name = if how & 16 == 0 { "a.csv" } else { "a.csv.gz" };
    let files = [(name, one), ("b.tsv", two)];
    let count = if two.is_empty() { 1 } else { 2 };
    table(&Memory::new(files[..count].iter().copied()), &Reading { csv, ..Reading::default() });
});
