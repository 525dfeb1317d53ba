//! What a source's files were when they were last seen: path, size, time and digest, as Parquet,
//! with a checksum behind it that is looked at first: Parquet of flipped bits may have its reader panic.
//!
//! A file whose size and time are the same has the same bytes, but for one case: it was written to in the very moment of the
//! listing, before and after it was looked at, and its time is too coarse to tell. So files that are not older than the listing
//! itself are hashed again by the next one, as git does with its index.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Int64Type, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tessera_datasets::{Entry, Files, Fingerprint};
use tessera_operators::parallel;
use tessera_schemas::text;

use crate::keys::short;
use crate::store::{Damaged, make_dir, write_atomically};

/// How far a file's time may lag behind the clock: FAT's has steps of two seconds, others' are finer.
const COARSE_NS: i64 = 2_000_000_000;
/// Bytes of a file that are hashed at once.
const PIECE: u64 = 64 << 20;
/// How the digest of a file begins that could not be read.
pub const UNREADABLE: &str = "unreadable: ";
/// Key of the file's metadata for when listing began.
const SINCE: &str = "tessera.since_ns";

/// A source's files, and when they were listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The files.
    pub prints: Vec<Fingerprint>,
    /// When listing them began, in nanoseconds since 1970.
    pub since_ns: i64,
}

impl Listing {
    /// Whether a file that has still this size and time has still these bytes. What could not be read may be readable by now.
    fn sure(&self, print: &Fingerprint) -> bool {
        let older = print.entry.modified_ns < self.since_ns.saturating_sub(COARSE_NS);
        older && !print.digest.starts_with(UNREADABLE)
    }

    /// Whether there is a file of which size and time do not say it.
    pub fn unsure(&self) -> bool {
        !self.prints.iter().all(|print| self.sure(print))
    }
}

/// The time, in nanoseconds since 1970.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64)
}

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

/// The last listing; an empty one where there is none.
///
/// # Errors
/// Its file is damaged or cannot be read: then all files are to be hashed again.
pub fn load(path: &Path) -> Result<Listing, Damaged> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Listing::default()),
        Err(error) => return Err(Damaged::new("listing", path, "a file", error.to_string())),
    };
    let size = bytes.len();
    let read = || -> Result<Listing> {
        let (rows, checksum) = bytes.split_last_chunk::<{ blake3::OUT_LEN }>().context("no checksum")?;
        ensure!(blake3::hash(rows) == *checksum, "they do not fit their checksum");
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(rows))?;
        let since_ns = reader.schema().metadata().get(SINCE).context("no time")?.parse()?;
        let mut listing = Listing { prints: Vec::new(), since_ns };
        for batch in reader.build()? {
            let batch = batch?;
            let (paths, digests) = (text(&batch, "path")?, text(&batch, "digest")?);
            let sizes = batch.column(1).as_primitive_opt::<UInt64Type>().context("sizes")?;
            let times = batch.column(2).as_primitive_opt::<Int64Type>().context("times")?;
            listing.prints.extend((0..batch.num_rows()).map(|row| Fingerprint {
                entry: Entry { path: paths.value(row).to_owned(), size: sizes.value(row), modified_ns: times.value(row) },
                digest: digests.value(row).to_owned(),
            }));
        }
        Ok(listing)
    };
    read().map_err(|error| Damaged::new("listing", path, "rows and a checksum", format!("{size} bytes: {error:#}")))
}

/// Keeps a listing for the next run.
///
/// # Errors
/// It cannot be written.
pub fn save(path: &Path, listing: &Listing) -> Result<()> {
    let prints = &listing.prints;
    let texts =
        |get: fn(&Fingerprint) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(prints.iter().map(get))) };
    let sizes: ArrayRef = Arc::new(UInt64Array::from_iter_values(prints.iter().map(|p| p.entry.size)));
    let times: ArrayRef = Arc::new(Int64Array::from_iter_values(prints.iter().map(|p| p.entry.modified_ns)));
    let columns =
        [("path", texts(|p| &p.entry.path)), ("size", sizes), ("modified_ns", times), ("digest", texts(|p| &p.digest))];
    let batch = RecordBatch::try_from_iter(columns)?;
    let since = HashMap::from([(SINCE.to_owned(), listing.since_ns.to_string())]);
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(since));
    let batch = batch.with_schema(schema)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    if let Some(dir) = path.parent() {
        make_dir(dir)?;
    }
    let mut bytes = writer.into_inner()?;
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    write_atomically(path, &bytes)
}

/// For each entry its place in the last listing, if it has one. Both are sorted by path.
fn places(entries: &[Entry], known: &[Fingerprint]) -> Vec<Option<usize>> {
    let mut at = 0;
    let place = |entry: &Entry| {
        at += known[at..].iter().take_while(|print| print.entry.path < entry.path).count();
        known.get(at).is_some_and(|print| print.entry.path == entry.path).then_some(at)
    };
    entries.iter().map(place).collect()
}

/// Compares a listing with the last one. Both are sorted by path.
pub fn changes(entries: &[Entry], known: &[Fingerprint]) -> Changes {
    let mut changes = Changes { removed: known.len(), ..Changes::default() };
    for (entry, place) in entries.iter().zip(places(entries, known)) {
        match place {
            None => changes.added += 1,
            Some(place) => {
                changes.removed -= 1;
                changes.touched += usize::from(known[place].entry != *entry);
            }
        }
    }
    changes
}

/// Digests of all files, which are sorted by path as the last listing is: the last ones where size and time hold and say enough,
/// else of the bytes, read on all threads.
///
/// # Errors
/// A file cannot be read.
pub fn fingerprint(
    files: &dyn Files,
    root: &Path,
    entries: Vec<Entry>,
    known: &Listing,
    threads: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Vec<Fingerprint>> {
    let held = |(entry, place): (&Entry, Option<usize>)| {
        let print = &known.prints[place?];
        (print.entry == *entry && known.sure(print)).then(|| print.digest.clone())
    };
    let mut digests: Vec<Option<String>> = entries.iter().zip(places(&entries, &known.prints)).map(held).collect();
    let fresh: Vec<usize> = (0..entries.len()).filter(|&at| digests[at].is_none()).collect();
    let total: u64 = fresh.iter().map(|&at| entries[at].size).sum();
    let done = std::sync::atomic::AtomicU64::new(0);
    let hashed = parallel::each(threads, fresh.len(), |at| {
        let entry = &entries[fresh[at]];
        let digest = digest(files, &root.join(&entry.path), entry.size);
        let before = done.fetch_add(entry.size, std::sync::atomic::Ordering::Relaxed);
        progress(before + entry.size, total);
        match digest {
            Ok(digest) => Ok(digest),
            // The reader finds out why, and `on_error` decides what that means.
            Err(tessera_datasets::Error::Io { source, .. }) => Ok(format!("{UNREADABLE}{}", source.kind())),
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

/// The hash of a file's bytes, in pieces where it is large: a table may be larger than memory.
fn digest(files: &dyn Files, path: &Path, size: u64) -> Result<String, tessera_datasets::Error> {
    if size <= PIECE {
        return Ok(short(&blake3::hash(&files.read(path)?)));
    }
    let mut hasher = blake3::Hasher::new();
    for start in (0..size).step_by(PIECE as usize) {
        hasher.update(&files.read_range(path, start, PIECE.min(size - start))?);
    }
    Ok(short(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(path: &str, size: u64, modified_ns: i64) -> Fingerprint {
        Fingerprint { entry: Entry { path: path.into(), size, modified_ns }, digest: format!("d{path}") }
    }

    #[test]
    fn large_files_are_hashed_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        let mut bytes = vec![7; PIECE as usize + 5];
        bytes[PIECE as usize + 2] = 1;
        std::fs::write(&path, &bytes).unwrap();
        let files = tessera_datasets::local::LocalFiles;
        assert_eq!(digest(&files, &path, bytes.len() as u64).unwrap(), short(&blake3::hash(&bytes)));
        assert!(digest(&files, &path, 2 * PIECE).is_err(), "it became shorter");
    }

    #[test]
    fn a_listing_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("listing");
        assert_eq!(load(&path).unwrap(), Listing::default());
        let listing = Listing { prints: vec![print("a/b.jpg", 3, -5), print("c.jpg", 0, 7)], since_ns: 12 };
        save(&path, &listing).unwrap();
        assert_eq!(load(&path).unwrap(), listing);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            assert!(load(&path).is_err(), "byte {at}");
        }
        std::fs::write(&path, b"junk").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("/listing is damaged"));
    }

    #[test]
    fn a_file_as_young_as_its_listing_is_hashed_again() {
        let dir = tempfile::tempdir().unwrap();
        let files = tessera_datasets::local::LocalFiles;
        for name in ["future", "old", "unread", "young"] {
            std::fs::write(dir.path().join(name), "new bytes").unwrap();
        }
        let known = |since_ns: i64| {
            let unread = Fingerprint { digest: format!("{UNREADABLE}permission denied"), ..print("unread", 9, 5) };
            let (old, young) = (print("old", 9, since_ns - COARSE_NS - 1), print("young", 9, since_ns - COARSE_NS));
            Listing { prints: vec![print("future", 9, since_ns + 1), old, unread, young], since_ns }
        };
        let known = known(1_700_000_000_000_000_000);
        let entries: Vec<Entry> = known.prints.iter().map(|print| print.entry.clone()).collect();
        let first = |at: usize| Listing { prints: vec![known.prints[at].clone()], since_ns: known.since_ns };
        assert!(changes(&entries, &known.prints).none());
        assert_eq!([0, 1, 2, 3].map(|at| first(at).unsure()), [true, false, true, true]);
        let now = fingerprint(&files, dir.path(), entries, &known, 1, &|_, _| {}).unwrap();
        let digest = short(&blake3::hash(b"new bytes"));
        assert_eq!(now.iter().map(|print| print.digest.as_str()).collect::<Vec<_>>(), [&digest, "dold", &digest, &digest]);
    }

    #[test]
    fn changes_are_counted() {
        let known = [print("a", 1, 1), print("b", 1, 1), print("c", 1, 1)];
        let now = [print("a", 1, 1), print("b", 1, 2), print("d", 1, 1)].map(|p| p.entry);
        assert_eq!(changes(&now, &known), Changes { added: 1, removed: 1, touched: 1 });
        assert!(changes(&known.clone().map(|p| p.entry), &known).none());
    }
}
