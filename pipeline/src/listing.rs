//! What a source's files were when they were last seen: path, size, time and digest, in one small Parquet file.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Int64Type, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tessera_datasets::{Entry, Files, Fingerprint};
use tessera_operators::parallel;
use tessera_schemas::text;

use crate::keys::short;
use crate::store::write_atomically;

/// What differs between a listing and the last one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files that were not there.
    pub added: usize,
    /// Files that are gone.
    pub removed: usize,
    /// Files with another size or time.
    pub touched: usize,
}

impl Changes {
    /// Whether there are none.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

/// The last listing; none where there is none, or it cannot be read: then all files are hashed again.
pub fn load(path: &Path) -> Vec<Fingerprint> {
    let read = || -> Result<Vec<Fingerprint>> {
        let mut all = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
            let batch = batch?;
            let (paths, digests) = (text(&batch, "path")?, text(&batch, "digest")?);
            let sizes = batch.column(1).as_primitive_opt::<UInt64Type>().context("sizes")?;
            let times = batch.column(2).as_primitive_opt::<Int64Type>().context("times")?;
            all.extend((0..batch.num_rows()).map(|row| Fingerprint {
                entry: Entry { path: paths.value(row).to_owned(), size: sizes.value(row), modified_ns: times.value(row) },
                digest: digests.value(row).to_owned(),
            }));
        }
        Ok(all)
    };
    read().unwrap_or_default()
}

/// Keeps a listing for the next run.
///
/// # Errors
/// It cannot be written.
pub fn save(path: &Path, prints: &[Fingerprint]) -> Result<()> {
    let texts =
        |get: fn(&Fingerprint) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(prints.iter().map(get))) };
    let sizes: ArrayRef = Arc::new(UInt64Array::from_iter_values(prints.iter().map(|p| p.entry.size)));
    let times: ArrayRef = Arc::new(Int64Array::from_iter_values(prints.iter().map(|p| p.entry.modified_ns)));
    let columns =
        [("path", texts(|p| &p.entry.path)), ("size", sizes), ("modified_ns", times), ("digest", texts(|p| &p.digest))];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    write_atomically(path, &writer.into_inner()?)
}

/// Compares a listing with the last one.
pub fn changes(entries: &[Entry], known: &[Fingerprint]) -> Changes {
    let before: HashMap<&str, &Entry> = known.iter().map(|print| (print.entry.path.as_str(), &print.entry)).collect();
    let mut changes = Changes::default();
    let mut kept = 0;
    for entry in entries {
        match before.get(entry.path.as_str()) {
            None => changes.added += 1,
            Some(old) => {
                kept += 1;
                changes.touched += usize::from(*old != entry);
            }
        }
    }
    changes.removed = before.len() - kept;
    changes
}

/// Digests of all files: the last ones where size and time hold, else of the bytes, read on all threads.
///
/// # Errors
/// A file cannot be read.
pub fn fingerprint(
    files: &dyn Files,
    root: &Path,
    entries: Vec<Entry>,
    known: &[Fingerprint],
    threads: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Vec<Fingerprint>> {
    let before: HashMap<&str, &Fingerprint> = known.iter().map(|print| (print.entry.path.as_str(), print)).collect();
    let held =
        |entry: &Entry| before.get(entry.path.as_str()).filter(|print| print.entry == *entry).map(|p| p.digest.clone());
    let mut digests: Vec<Option<String>> = entries.iter().map(held).collect();
    let fresh: Vec<usize> = (0..entries.len()).filter(|&at| digests[at].is_none()).collect();
    let total: u64 = fresh.iter().map(|&at| entries[at].size).sum();
    let done = std::sync::atomic::AtomicU64::new(0);
    let hashed = parallel::each(threads, fresh.len(), |at| {
        let entry = &entries[fresh[at]];
        let bytes = files.read(&root.join(&entry.path));
        let before = done.fetch_add(entry.size, std::sync::atomic::Ordering::Relaxed);
        progress(before + entry.size, total);
        match bytes {
            Ok(bytes) => Ok(short(&blake3::hash(&bytes))),
            // The reader finds out why, and `on_error` decides what that means.
            Err(tessera_datasets::Error::Io { source, .. }) => Ok(format!("unreadable: {}", source.kind())),
            Err(error) => Err(error),
        }
    });
    for (at, digest) in fresh.into_iter().zip(hashed) {
        digests[at] = Some(digest?);
    }
    Ok(entries
        .into_iter()
        .zip(digests)
        .map(|(entry, digest)| Fingerprint { entry, digest: digest.unwrap_or_default() })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(path: &str, size: u64, modified_ns: i64) -> Fingerprint {
        Fingerprint { entry: Entry { path: path.into(), size, modified_ns }, digest: format!("d{path}") }
    }

    #[test]
    fn a_listing_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("listing.parquet");
        let prints = vec![print("a/b.jpg", 3, -5), print("c.jpg", 0, 7)];
        save(&path, &prints).unwrap();
        assert_eq!(load(&path), prints);
        std::fs::write(&path, b"junk").unwrap();
        assert!(load(&path).is_empty());
    }

    #[test]
    fn changes_are_counted() {
        let known = [print("a", 1, 1), print("b", 1, 1), print("c", 1, 1)];
        let now = [print("a", 1, 1), print("b", 1, 2), print("d", 1, 1)].map(|p| p.entry);
        assert_eq!(changes(&now, &known), Changes { added: 1, removed: 1, touched: 1 });
        assert!(changes(&known.clone().map(|p| p.entry), &known).none());
    }
}
