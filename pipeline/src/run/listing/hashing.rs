//! Hashing the files whose digests are not known.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tessera_datasets::header::{Header, copy};
use tessera_datasets::{Error, FileDigest, Files, Fingerprint, as_url, is_exhausted};
use tessera_operators::parallel;

/// How often a listing that is being made is kept.
const KEPT_EVERY: Duration = Duration::from_secs(5);
/// Files that are hashed between two looks at the clock, and their bytes, of which the last file may have more.
const SLICE_FILES: usize = 1024;
pub(super) const SLICE_BYTES: u64 = 1 << 30;
/// Bytes of a file that are hashed at once.
pub(super) const PIECE: u64 = 16 << 20;

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
    /// Told all files every few seconds, those that were not hashed yet among them, so that a run that ends before loses little.
    pub keep: &'a dyn Fn(&[Fingerprint]),
}

/// Sets the digests of files that have none yet, and of the images among them the headers: reads their bytes, on all threads.
///
/// # Errors
/// A bucket is out of reach.
pub fn hash(prints: &mut [Fingerprint], with: &Hashing<'_>) -> Result<()> {
    let total: u64 = prints.iter().filter(|print| !print.digest.is_known()).map(|print| print.entry.size).sum();
    let done = AtomicU64::new(0);
    let mut kept = (Instant::now(), Duration::ZERO);
    let mut from = 0;
    loop {
        let slice = slice(prints, from);
        let Some(last) = slice.last() else { return Ok(()) };
        from = last + 1;
        let (since, took) = kept;
        if since.elapsed() > KEPT_EVERY.max(took * 20) {
            let start = Instant::now();
            (with.keep)(prints);
            kept = (Instant::now(), start.elapsed());
        }
        let hashed = parallel::each(with.threads.max(with.files.at_once(with.root)), slice.len(), |at| {
            let entry = &prints[slice[at]].entry;
            let told = digest(with.files, &with.root.join(&*entry.path), entry.size, (with.is_image)(&entry.path));
            let before = done.fetch_add(entry.size, Ordering::Relaxed);
            (with.progress)(before + entry.size, total);
            match told {
                Ok(told) => Ok(told),
                // The reader finds out why, and `on_error` decides what that means. But a bucket that is out of reach says nothing of a file.
                // Nor does a system that has no more files to open.
                Err(Error::Io { source, .. })
                    if !is_exhausted(&source) && (as_url(with.root).is_none() || source.kind() != io::ErrorKind::Other) =>
                {
                    Ok((FileDigest::unreadable(source.kind()), Header::default()))
                }
                Err(error) => Err(error),
            }
        });
        for (at, hashed) in slice.into_iter().zip(hashed) {
            (prints[at].digest, prints[at].header) = hashed?;
        }
    }
}

/// The next files that are to be hashed, as many as there are between two looks at the clock.
pub(super) fn slice(prints: &[Fingerprint], from: usize) -> Vec<usize> {
    let mut bytes = 0;
    let within = |&at: &usize| {
        let fits = bytes < SLICE_BYTES;
        bytes += prints[at].entry.size;
        fits
    };
    (from..prints.len()).filter(|&at| !prints[at].digest.is_known()).take(SLICE_FILES).take_while(within).collect()
}

/// The hash of a file's bytes, in pieces where it is large: a table may be larger than memory. Of an image, its header as well.
pub(super) fn digest(files: &dyn Files, path: &Path, size: u64, is_image: bool) -> Result<(FileDigest, Header), Error> {
    let mut header = Header::default();
    if size <= PIECE {
        let bytes = files.read(path)?;
        if is_image {
            header = Header::of(&bytes);
        }
        return Ok((FileDigest::of(&blake3::hash(&bytes)), header));
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
    Ok((FileDigest::of(&hasher.finalize()), header))
}
