//! What a source's files were when they were last seen: path, size, times, digest, and of images what their headers say.
//!
//! A file whose size, times and inode are the same has the same bytes, and may be read by the same people, but for one case: it was
//! written to in the very moment of the listing, before and after it was looked at, and its time is too coarse to tell. So files that
//! are not older than the listing itself are hashed again by the next one, as git does with its index. An object has the same bytes if
//! its ETag and its size are the same.
//!
//! A data set may have ten million files. So a file is in memory once: its [`Entry`] is moved into its [`Fingerprint`], and the last
//! listing is compared with it batch by batch while it is read.

mod compare;
mod file;
mod hashing;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tessera_datasets::{FileDigest, Fingerprint, Version};

pub use compare::{Changes, Compared, compare};
pub use file::{Known, Reading};
pub use hashing::{Hashing, hash};

use crate::store::{Damaged, StageStore};

/// How far a file's time may lag behind the clock: FAT's has steps of two seconds, others' are finer.
const COARSE_NS: i64 = 2_000_000_000;

/// A source's files, and when they were listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The files, by path. One whose digest is not known is left out of what is kept.
    pub prints: Vec<Fingerprint>,
    /// When listing them began, in nanoseconds since 1970.
    pub since_ns: i64,
    /// Whether an earlier version wrote it, which told less: then all files are read again, once.
    pub outdated: bool,
}

/// Whether a file that is still this version of itself has still the bytes that it had when it was listed. What could not be read may be
/// readable by now.
fn sure(version: Version<'_>, digest: &FileDigest, since_ns: i64) -> bool {
    let last = version.modified_ns.max(version.changed_ns);
    let older = last < since_ns.saturating_sub(COARSE_NS);
    (version.e_tag.is_some() || older) && !digest.is_unreadable()
}

/// The time, in nanoseconds since 1970.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64)
}

/// Begins to read the last listing, on a thread of its own.
pub fn read(store: &StageStore) -> Reading {
    Reading::begin(store)
}

/// The last listing, all of it; an empty one where there is none.
///
/// # Errors
/// Its file is damaged or cannot be read: then all files are to be hashed again.
pub fn load(store: &StageStore) -> Result<Listing, Damaged> {
    let known = read(store).open()?;
    let (since_ns, outdated) = (known.since_ns, known.outdated);
    let mut prints = Vec::with_capacity(known.files());
    for rows in known {
        let rows = rows?;
        prints.extend((0..rows.count()).map(|row| rows.print(row)));
    }
    Ok(Listing { prints, since_ns, outdated })
}

/// Keeps a listing for the next run.
///
/// # Errors
/// It cannot be written.
pub fn save(store: &StageStore, listing: &Listing) -> Result<()> {
    keep(store, &listing.prints, listing.since_ns)
}

/// Keeps what is known of files by now; those that were not hashed yet are left out.
///
/// # Errors
/// It cannot be written.
pub fn keep(store: &StageStore, prints: &[Fingerprint], since_ns: i64) -> Result<()> {
    let hashed = prints.iter().filter(|print| print.digest.is_known());
    Ok(store.write_listing(&file::encode(hashed, since_ns)?)?)
}

/// Forgets what a listing says of a file, which its bytes have belied: the next run reads it anew.
///
/// # Errors
/// The listing cannot be written.
pub fn void(store: &StageStore, file: &str) -> Result<()> {
    // A listing that cannot be read has nothing to void.
    let Ok(mut listing) = load(store) else { return Ok(()) };
    let before = listing.prints.len();
    listing.prints.retain(|print| *print.entry.path != *file);
    if listing.prints.len() == before { Ok(()) } else { save(store, &listing) }
}

#[cfg(test)]
mod tests;
