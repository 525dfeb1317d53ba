//! What a source's files were when they were last seen: path, size, times, digest, and of images what their headers say, as Parquet,
//! with a checksum behind it that is looked at first: Parquet of flipped bits may have its reader panic.
//!
//! A file whose size, times and inode are the same has the same bytes, and may be read by the same people, but for one case: it was
//! written to in the very moment of the listing, before and after it was looked at, and its time is too coarse to tell. So files that
//! are not older than the listing itself are hashed again by the next one, as git does with its index. An object has the same bytes if
//! its ETag and its size are the same.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use arrow::array::{Array as _, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Int64Type, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tessera_datasets::header::{FORMATS, Header, copy};
use tessera_datasets::{Entry, Files, Fingerprint, UNREADABLE, as_url};
use tessera_operators::parallel;
use tessera_schemas::text;

use crate::store::key::short;
use crate::store::{Damaged, StageStore};

/// How far a file's time may lag behind the clock: FAT's has steps of two seconds, others' are finer.
const COARSE_NS: i64 = 2_000_000_000;
/// How often a listing that is being made is kept.
const KEPT_EVERY: Duration = Duration::from_secs(5);
/// Files that are hashed between two looks at the clock, and their bytes, of which the last file may have more.
const SLICE_FILES: usize = 1024;
const SLICE_BYTES: u64 = 1 << 30;
/// Bytes of a file that are hashed at once.
const PIECE: u64 = 16 << 20;
/// Key of the file's metadata for when listing began.
const SINCE: &str = "tessera.since_ns";
/// Key of the file's metadata for what it tells of each file.
const FORMAT: &str = "tessera.listing";
/// What it tells of each file by now. An earlier one lacked headers and the time of the last change.
const FORMAT_NOW: &str = "2";

/// A source's files, and when they were listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The files.
    pub prints: Vec<Fingerprint>,
    /// When listing them began, in nanoseconds since 1970.
    pub since_ns: i64,
    /// Whether an earlier version wrote it, which told less: then all files are read again, once.
    pub outdated: bool,
}

impl Listing {
    /// Whether a file that has still this size and time has still these bytes. What could not be read may be readable by now.
    fn sure(&self, print: &Fingerprint) -> bool {
        if print.entry.e_tag.is_some() {
            return !print.digest.starts_with(UNREADABLE);
        }
        let last = print.entry.modified_ns.max(print.entry.changed_ns);
        let older = last < self.since_ns.saturating_sub(COARSE_NS);
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files that were not there.
    pub added: usize,
    /// Files that are gone.
    pub removed: usize,
    /// Files with another size or time.
    pub touched: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [(self.added, "added"), (self.removed, "removed"), (self.touched, "touched")];
        let told: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        f.write_str(&told.join(", "))
    }
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
pub fn load(store: &StageStore) -> Result<Listing, Damaged> {
    let path = &store.listing_place();
    let bytes = match store.listing() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Listing::default()),
        Err(error) => return Err(Damaged::new("listing", path, "a file", error.to_string())),
    };
    let size = bytes.len();
    let read = || -> Result<Listing> {
        let (rows, checksum) = bytes.split_last_chunk::<{ blake3::OUT_LEN }>().context("no checksum")?;
        ensure!(blake3::hash(rows) == *checksum, "they do not fit their checksum");
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(rows))?;
        let metadata = reader.schema().metadata();
        let since_ns = metadata.get(SINCE).context("no time")?.parse()?;
        if metadata.get(FORMAT).is_none_or(|format| format != FORMAT_NOW) {
            return Ok(Listing { since_ns, outdated: true, prints: Vec::new() });
        }
        let mut listing = Listing { since_ns, ..Listing::default() };
        for batch in reader.build()? {
            let batch = batch?;
            let (paths, digests, formats) = (text(&batch, "path")?, text(&batch, "digest")?, text(&batch, "format")?);
            let whole = |name: &'static str| {
                batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>()).context(name)
            };
            let unsigned = |name: &'static str| {
                batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<UInt64Type>()).context(name)
            };
            let (sizes, widths, heights) = (unsigned("size")?, unsigned("width")?, unsigned("height")?);
            let (modified, changed) = (whole("modified_ns")?, whole("changed_ns")?);
            // An earlier version did not look at it.
            let inodes = unsigned("inode").ok();
            let e_tags = text(&batch, "e_tag").ok();
            let e_tag = |row: usize| e_tags.filter(|tags| tags.is_valid(row)).map(|tags| tags.value(row).into());
            let side = |sides: &UInt64Array, row: usize| {
                sides.is_valid(row).then(|| u32::try_from(sides.value(row)).ok()).flatten()
            };
            let format =
                |row: usize| FORMATS.into_iter().find(|format| formats.is_valid(row) && formats.value(row) == *format);
            listing.prints.extend((0..batch.num_rows()).map(|row| Fingerprint {
                entry: Entry {
                    path: paths.value(row).to_owned(),
                    size: sizes.value(row),
                    modified_ns: modified.value(row),
                    changed_ns: changed.value(row),
                    inode: inodes.map_or(0, |inodes| inodes.value(row)),
                    e_tag: e_tag(row),
                },
                digest: digests.value(row).to_owned(),
                header: Header { format: format(row), width: side(widths, row), height: side(heights, row) },
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
pub fn save(store: &StageStore, listing: &Listing) -> Result<()> {
    let prints = &listing.prints;
    let texts =
        |get: fn(&Fingerprint) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(prints.iter().map(get))) };
    let unsigned =
        |get: fn(&Fingerprint) -> Option<u64>| -> ArrayRef { Arc::new(prints.iter().map(get).collect::<UInt64Array>()) };
    let times =
        |get: fn(&Fingerprint) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(prints.iter().map(get))) };
    let e_tags: ArrayRef = Arc::new(prints.iter().map(|p| p.entry.e_tag.as_deref()).collect::<StringArray>());
    let formats: ArrayRef = Arc::new(prints.iter().map(|p| p.header.format).collect::<StringArray>());
    let columns = [
        ("path", texts(|p| &p.entry.path), false),
        ("size", unsigned(|p| Some(p.entry.size)), false),
        ("modified_ns", times(|p| p.entry.modified_ns), false),
        ("changed_ns", times(|p| p.entry.changed_ns), false),
        ("inode", unsigned(|p| Some(p.entry.inode)), false),
        ("e_tag", e_tags, true),
        ("digest", texts(|p| &p.digest), false),
        ("format", formats, true),
        ("width", unsigned(|p| p.header.width.map(u64::from)), true),
        ("height", unsigned(|p| p.header.height.map(u64::from)), true),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
    let since =
        HashMap::from([(SINCE.to_owned(), listing.since_ns.to_string()), (FORMAT.to_owned(), FORMAT_NOW.to_owned())]);
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(since));
    let batch = batch.with_schema(schema)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    let mut bytes = writer.into_inner()?;
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    Ok(store.write_listing(&bytes)?)
}

/// Forgets what a listing says of a file, which its bytes have belied: the next run reads it anew.
///
/// # Errors
/// The listing cannot be written.
pub fn void(store: &StageStore, file: &str) -> Result<()> {
    // One that cannot be read says nothing any more.
    let Ok(mut listing) = load(store) else { return Ok(()) };
    let before = listing.prints.len();
    listing.prints.retain(|print| print.entry.path != file);
    if listing.prints.len() == before { Ok(()) } else { save(store, &listing) }
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
                changes.touched += usize::from(!known[place].entry.is(entry));
            }
        }
    }
    changes
}

/// How files are fingerprinted.
pub struct Hashing<'a> {
    /// What reaches them.
    pub files: &'a dyn Files,
    /// The folder that their paths are relative to.
    pub root: &'a Path,
    /// How many are read at once.
    pub threads: usize,
    /// Whether a file should be an image, whose header is read along.
    pub is_image: &'a (dyn Fn(&str) -> bool + Sync),
    /// Told (done, total) bytes.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Told all that is known, every few seconds, so that a run that ends before loses little.
    pub keep: &'a dyn Fn(&[Fingerprint]),
}

/// Digests of all files, which are sorted by path as the last listing is, and headers of the images among them: the last ones where
/// size and times hold and say enough, else of the bytes, read on all threads.
///
/// # Errors
/// A file cannot be read.
pub fn fingerprint(entries: Vec<Entry>, known: &Listing, with: &Hashing<'_>) -> Result<Vec<Fingerprint>> {
    type Told = (String, Header);
    let held = |(entry, place): (&Entry, Option<usize>)| {
        let print = &known.prints[place?];
        (print.entry.is(entry) && known.sure(print)).then(|| (print.digest.clone(), print.header))
    };
    let mut told: Vec<Option<Told>> = entries.iter().zip(places(&entries, &known.prints)).map(held).collect();
    let fresh: Vec<usize> = (0..entries.len()).filter(|&at| told[at].is_none()).collect();
    let total: u64 = fresh.iter().map(|&at| entries[at].size).sum();
    let done = std::sync::atomic::AtomicU64::new(0);
    let mut kept = (Instant::now(), Duration::ZERO);
    let mut rest = &fresh[..];
    while !rest.is_empty() {
        let (slice, behind) = rest.split_at(slice(rest, &entries));
        let hashed = parallel::each(with.threads.max(with.files.at_once(with.root)), slice.len(), |at| {
            let entry = &entries[slice[at]];
            let digest = digest(with.files, &with.root.join(&entry.path), entry.size, (with.is_image)(&entry.path));
            let before = done.fetch_add(entry.size, std::sync::atomic::Ordering::Relaxed);
            (with.progress)(before + entry.size, total);
            match digest {
                Ok(told) => Ok(told),
                // The reader finds out why, and `on_error` decides what that means. But a bucket that is out of reach says nothing of a file.
                Err(tessera_datasets::Error::Io { source, .. })
                    if as_url(with.root).is_none() || source.kind() != io::ErrorKind::Other =>
                {
                    Ok((format!("{UNREADABLE}{}", source.kind()), Header::default()))
                }
                Err(error) => Err(error),
            }
        });
        for (&at, hashed) in slice.iter().zip(hashed) {
            told[at] = Some(hashed?);
        }
        rest = behind;
        let (since, took) = kept;
        if !rest.is_empty() && since.elapsed() > KEPT_EVERY.max(took * 20) {
            let start = Instant::now();
            let whole = |(entry, told): (&Entry, &Option<Told>)| {
                let (digest, header) = told.clone()?;
                Some(Fingerprint { entry: entry.clone(), digest, header })
            };
            (with.keep)(&entries.iter().zip(&told).filter_map(whole).collect::<Vec<_>>());
            kept = (Instant::now(), start.elapsed());
        }
    }
    let whole = |(entry, told): (Entry, Option<Told>)| {
        let (digest, header) = told.unwrap_or_default();
        Fingerprint { entry, digest, header }
    };
    Ok(entries.into_iter().zip(told).map(whole).collect())
}

/// How many of these files are hashed before the next look at the clock.
fn slice(files: &[usize], entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let within = |&&at: &&usize| {
        let fits = bytes < SLICE_BYTES;
        bytes += entries[at].size;
        fits
    };
    files.iter().take(SLICE_FILES).take_while(within).count()
}

/// The hash of a file's bytes, in pieces where it is large: a table may be larger than memory. Of an image, its header as well.
fn digest(files: &dyn Files, path: &Path, size: u64, is_image: bool) -> Result<(String, Header), tessera_datasets::Error> {
    let mut header = Header::default();
    if size <= PIECE {
        let bytes = files.read(path)?;
        if is_image {
            header = Header::of(&bytes);
        }
        return Ok((short(&blake3::hash(&bytes)), header));
    }
    let mut hasher = blake3::Hasher::new();
    for start in (0..size).step_by(PIECE as usize) {
        let piece = files.read_range(path, start, PIECE.min(size - start))?;
        hasher.update(&piece);
        if is_image && start == 0 {
            // A TIFF may have it at its end.
            let further = |offset: u64, buffer: &mut [u8]| {
                let read = files.read_range(path, offset, buffer.len() as u64);
                read.is_ok_and(|bytes| copy(&bytes, 0, buffer))
            };
            header = Header::read(&mut |offset, buffer| copy(&piece, offset, buffer) || further(offset, buffer));
        }
    }
    Ok((short(&hasher.finalize()), header))
}

#[cfg(test)]
mod tests;
