//! Whether files of the store are what they were when they were written.
//!
//! Size and presence of a part are looked at whenever a stage is decided about; its bytes are hashed when they are read, block by block,
//! once a process and block: who reads a column of a wide table pays for that column. (Parts of earlier versions have one hash of
//! the whole.) What is found damaged is noted in a file beside the part, `KEY-ATTEMPT.damaged`, so that the next run looks
//! again and makes it anew, whoever found it. A part that was mended (from a backup, say) loses the note.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use arrow::error::ArrowError;
use bytes::{Buf as _, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::key::short;
use super::manifest::Part;
use super::storage::{Ranges, Storage};

/// Bytes of a part's file that have a hash of their own, where the part does not say.
pub(crate) const BLOCK_BYTES: u64 = 256 << 10;
/// The bytes of a block in a new part of narrow rows, in which a column of numbers takes less than one of the other blocks.
pub(crate) const NARROW_BLOCK_BYTES: u64 = 64 << 10;
/// Bytes that are hashed at once.
const HASHED_BYTES: u64 = 1 << 20;
/// Hexadecimal digits of a checksum in messages.
const SHOWN: usize = 16;
/// Ending of the note beside a part that was found damaged.
pub(super) const SUSPECT: &str = "damaged";

/// A file of the store that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {what} {} is damaged: expected {expected}, found {found}; a run makes it anew", path.display())]
pub struct Damaged {
    /// What kind of file.
    pub what: &'static str,
    /// Which.
    pub path: PathBuf,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Damaged {
    /// Describes a damaged file.
    pub fn new(what: &'static str, path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what, path: path.to_owned(), expected: expected.into(), found: found.into() }
    }
}

type Verdict = Result<(), Damaged>;

/// What a process knows of one part's bytes.
#[derive(Debug, Default)]
struct Known {
    /// Whether all of it is sound; not known until somebody looked, or met a damaged block.
    whole: OnceLock<Verdict>,
    /// Blocks that were looked at and are sound.
    sound: Mutex<HashSet<u64>>,
}

/// What a process knows of parts' bytes.
#[derive(Debug)]
pub struct Health {
    storage: Arc<dyn Storage>,
    verdicts: Mutex<HashMap<String, Arc<Known>>>,
}

impl Health {
    /// The health of a storage's parts, of which nothing is known yet.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, verdicts: Mutex::default() }
    }

    /// Hashes a part's file, unless that was done. Blocks.
    ///
    /// # Errors
    /// It is [`Damaged`] or gone, or cannot be read.
    pub fn check(&self, name: &str, part: &Part) -> Result<()> {
        let known = self.known(name);
        if known.whole.get().is_none() {
            let seen = match self.storage.open(name).and_then(|file| self.hash(file.as_ref(), name)) {
                Ok(seen) => Some(seen),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| self.unreadable(name)),
            };
            known.whole.get_or_init(|| self.judge(name, part, seen));
        }
        self.speak(&known.whole)
    }

    fn unreadable(&self, name: &str) -> String {
        format!("cannot read the part {}", self.storage.place(name).display())
    }

    /// Reads bytes of a part's file, and checks the blocks that they lie in, unless that was done. Blocks.
    fn read(&self, file: &dyn Ranges, name: &str, part: &Part, range: Range<u64>) -> Result<Bytes> {
        let known = self.known(name);
        if part.blocks.is_empty() {
            self.check(name, part)?;
        }
        let block_bytes = part.block_bytes();
        let (first, last) = (range.start / block_bytes, range.end.saturating_sub(1) / block_bytes);
        let is_checked = || {
            let sound = known.sound.lock().unwrap_or_else(PoisonError::into_inner);
            (first..=last).all(|block| sound.contains(&block))
        };
        let unchecked = match known.whole.get() {
            Some(Err(damaged)) => return Err(damaged.clone().into()),
            Some(Ok(())) => false,
            None => !is_checked(),
        };
        // Whole blocks, where one has to be checked.
        let read = if unchecked {
            first * block_bytes..(last + 1).saturating_mul(block_bytes).min(part.bytes.max(range.end))
        } else {
            range.clone()
        };
        let start = read.start;
        let bytes = match file.read(read) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    // It is shorter than it was.
                    self.check(name, part)?;
                }
                return Err(error).with_context(|| self.unreadable(name));
            }
        };
        if unchecked {
            for (number, block) in (first..).zip(bytes.chunks(block_bytes as usize)) {
                if part.blocks.get(number as usize).is_none_or(|sum| *sum != short(&blake3::hash(block))) {
                    // What is damaged is told of the file as a whole.
                    self.check(name, part)?;
                    let found = format!("another at byte {}", number * block_bytes);
                    return Err(Damaged::new("part", &self.storage.place(name), sum(part), found).into());
                }
            }
            known.sound.lock().unwrap_or_else(PoisonError::into_inner).extend(first..=last);
        }
        let skipped = (range.start - start) as usize;
        Ok(bytes.slice(skipped..skipped + (range.end - range.start) as usize))
    }

    /// What can be told without reading, of the size of what lies there, and whether it was noted to be damaged: the part is gone, has another
    /// size, or was found damaged and still is.
    pub fn glance(&self, name: &str, part: &Part, size: Option<u64>, is_suspect: bool) -> Option<Damaged> {
        let Some(size) = size else { return Some(self.missing(name, part)) };
        let place = || self.storage.place(name);
        if size != part.bytes {
            return Some(Damaged::new("part", &place(), bytes(part.bytes), bytes(size)));
        }
        if !is_suspect {
            return None;
        }
        match self.check(name, part) {
            Ok(()) => None,
            Err(error) => {
                let other = |error: anyhow::Error| Damaged::new("part", &place(), sum(part), format!("{error:#}"));
                Some(error.downcast().unwrap_or_else(other))
            }
        }
    }

    /// A part that this process wrote needs no check.
    pub fn wrote(&self, name: &str) {
        let _ = self.known(name).whole.set(Ok(()));
    }

    /// The damaged part that an error's text names. (On its way through DataFusion and operators an error becomes text.)
    pub fn blamed(&self, error: &str) -> Option<Damaged> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut damaged = verdicts.values().filter_map(|known| known.whole.get()?.clone().err());
        damaged.find(|damaged| error.contains(&damaged.to_string()))
    }

    fn known(&self, name: &str) -> Arc<Known> {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.entry(name.to_owned()).or_default().clone()
    }

    fn speak(&self, verdict: &OnceLock<Verdict>) -> Result<()> {
        Ok(verdict.get().cloned().unwrap_or(Ok(()))?)
    }

    fn judge(&self, name: &str, part: &Part, seen: Option<(u64, blake3::Hash)>) -> Verdict {
        let place = self.storage.place(name);
        let damaged = match seen {
            None => self.missing(name, part),
            Some((size, _)) if size != part.bytes => Damaged::new("part", &place, bytes(part.bytes), bytes(size)),
            Some((_, hash)) if hash.to_hex().as_str() == part.checksum => {
                // There is hardly ever such a note; where there is one, it no longer holds.
                let _ = self.storage.remove(&suspect(name));
                return Ok(());
            }
            Some((_, hash)) => {
                let found = format!("checksum {}", &hash.to_hex()[..SHOWN]);
                let damaged = Damaged::new("part", &place, sum(part), found);
                // Whoever found it may have no right to write here; then the next reader finds it as well.
                let _ = self.storage.replace(&suspect(name), damaged.to_string().as_bytes());
                damaged
            }
        };
        Err(damaged)
    }

    fn missing(&self, name: &str, part: &Part) -> Damaged {
        Damaged::new("part", &self.storage.place(name), bytes(part.bytes), "no file")
    }

    /// A file's size and hash.
    fn hash(&self, file: &dyn Ranges, name: &str) -> io::Result<(u64, blake3::Hash)> {
        let size = self.storage.look(name)?.bytes;
        let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
        while at < size {
            let end = (at + HASHED_BYTES).min(size);
            hasher.update(&file.read(at..end)?);
            at = end;
        }
        Ok((size, hasher.finalize()))
    }
}

/// The name of the note beside a part that was found damaged.
fn suspect(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.{SUSPECT}")
}

fn bytes(count: u64) -> String {
    format!("{count} bytes")
}

fn sum(part: &Part) -> String {
    format!("checksum {}", part.checksum.get(..SHOWN).unwrap_or(&part.checksum))
}

/// A part's file, open for reading; what is read of it is checked. Two handles share what they know.
#[derive(Debug, Clone)]
pub struct PartReader {
    name: String,
    part: Arc<Part>,
    health: Arc<Health>,
    file: Arc<OnceLock<Box<dyn Ranges>>>,
}

impl PartReader {
    /// A part's file; it is opened when it is read.
    pub fn new(name: String, part: Part, health: Arc<Health>) -> Self {
        Self { name, part: Arc::new(part), health, file: Arc::default() }
    }

    /// What the manifest says of it.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Some of its bytes. Blocks.
    ///
    /// # Errors
    /// It is [`Damaged`] or gone, or cannot be read.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let file = match self.file.get() {
            Some(file) => file,
            None => match self.health.storage.open(&self.name) {
                Ok(file) => self.file.get_or_init(|| file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.health.check(&self.name, &self.part)?;
                    return Err(self.health.missing(&self.name, &self.part).into());
                }
                Err(error) => return Err(error).with_context(|| self.health.unreadable(&self.name)),
            },
        };
        self.health.read(file.as_ref(), &self.name, &self.part, range)
    }
}

impl Length for PartReader {
    fn len(&self) -> u64 {
        self.part.bytes
    }
}

impl ChunkReader for PartReader {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        // Read ahead is for headers of pages.
        let end = (start + self.part.block_bytes()).min(self.part.bytes);
        Ok(self.read(start..end.max(start)).map_err(external)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.read(start..start + length as u64).map_err(external)
    }
}

/// A refusal on its way through Parquet's reader.
pub(crate) fn external(error: anyhow::Error) -> ParquetError {
    match error.downcast::<Damaged>() {
        Ok(damaged) => ParquetError::External(damaged.into()),
        Err(error) => ParquetError::External(format!("{error:#}").into()),
    }
}

/// The damage that an error tells of, wherever it went through.
pub(super) fn damage_in(error: &anyhow::Error) -> Option<Damaged> {
    let mut found = error.downcast_ref::<Damaged>().cloned();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let (None, Some(at)) = (&found, cause) {
        found = match at.downcast_ref::<ParquetError>() {
            Some(ParquetError::External(inner)) => inner.downcast_ref::<Damaged>().cloned(),
            _ => match at.downcast_ref::<ArrowError>() {
                Some(ArrowError::ExternalError(inner)) => inner.downcast_ref::<Damaged>().cloned(),
                _ => at.downcast_ref::<Damaged>().cloned(),
            },
        };
        cause = at.source();
    }
    found
}

#[cfg(test)]
mod tests;
