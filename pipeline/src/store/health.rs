//! Whether files of the store are what they were when they were written.
//!
//! Size and presence of a part are looked at whenever a stage is decided about; its bytes are hashed when they are read, once a
//! process and part. What is found damaged is noted in a file beside the part, `KEY-ATTEMPT.damaged`, so that the next run looks
//! again and makes it anew, whoever found it. A part that was mended (from a backup, say) loses the note.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;

use super::disk::write_atomically;
use super::manifest::Part;

/// Bytes that are hashed at once.
const BLOCK_BYTES: usize = 1 << 20;
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
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl Damaged {
    /// Describes a damaged file.
    pub fn new(what: &'static str, path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what, path: path.to_owned(), expected: expected.into(), found: found.into() }
    }
}

type Verdict = Result<(), Damaged>;

/// What a process knows of parts' bytes.
#[derive(Debug, Default)]
pub struct Health {
    verdicts: Mutex<HashMap<PathBuf, Arc<OnceLock<Verdict>>>>,
}

impl Health {
    /// Hashes a part's file, unless that was done. Blocks.
    ///
    /// # Errors
    /// It is [`Damaged`] or gone, or cannot be read.
    pub fn check(&self, path: &Path, part: &Part) -> Result<()> {
        let verdict = self.verdict(path);
        if verdict.get().is_none() {
            let seen = match File::open(path).and_then(hash) {
                Ok(seen) => Some(seen),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("cannot read the part {}", path.display())),
            };
            verdict.get_or_init(|| self.judge(path, part, seen));
        }
        self.speak(&verdict)
    }

    /// Reads a part's file, and hashes what was read, unless that was done.
    ///
    /// # Errors
    /// It is [`Damaged`] or gone, or cannot be read.
    pub fn read(&self, path: &Path, part: &Part) -> Result<Bytes> {
        let verdict = self.verdict(path);
        let bytes = match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read the part {}", path.display())),
        };
        let sum = |bytes: &Vec<u8>| (bytes.len() as u64, blake3::hash(bytes));
        verdict.get_or_init(|| self.judge(path, part, bytes.as_ref().map(sum)));
        self.speak(&verdict)?;
        // A file that went away behind its verdict.
        let bytes = bytes.with_context(|| format!("the part {} is gone", path.display()))?;
        Ok(Bytes::from(bytes))
    }

    /// What can be seen without reading: the part is gone, has another size, or was found damaged and still is.
    pub fn glance(&self, path: &Path, part: &Part) -> Option<Damaged> {
        let size = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(_) => return Some(missing(path, part)),
        };
        if size != part.bytes {
            return Some(Damaged::new("part", path, bytes(part.bytes), bytes(size)));
        }
        if !path.with_extension(SUSPECT).exists() {
            return None;
        }
        match self.check(path, part) {
            Ok(()) => None,
            Err(error) => Some(error.downcast().unwrap_or_else(|e| Damaged::new("part", path, sum(part), format!("{e:#}")))),
        }
    }

    /// A part that this process wrote needs no check.
    pub fn wrote(&self, path: &Path) {
        let _ = self.verdict(path).set(Ok(()));
    }

    /// The damaged part that an error's text names. (On its way through DataFusion and operators an error becomes text.)
    pub fn blamed(&self, error: &str) -> Option<Damaged> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut damaged = verdicts.values().filter_map(|verdict| verdict.get()?.clone().err());
        damaged.find(|damaged| error.contains(&damaged.to_string()))
    }

    fn verdict(&self, path: &Path) -> Arc<OnceLock<Verdict>> {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.entry(path.to_owned()).or_default().clone()
    }

    fn speak(&self, verdict: &OnceLock<Verdict>) -> Result<()> {
        Ok(verdict.get().cloned().unwrap_or(Ok(()))?)
    }

    fn judge(&self, path: &Path, part: &Part, seen: Option<(u64, blake3::Hash)>) -> Verdict {
        let suspect = path.with_extension(SUSPECT);
        let damaged = match seen {
            None => missing(path, part),
            Some((size, _)) if size != part.bytes => Damaged::new("part", path, bytes(part.bytes), bytes(size)),
            Some((_, hash)) if hash.to_hex().as_str() == part.checksum => {
                // There is hardly ever such a note; where there is one, it no longer holds.
                let _ = fs::remove_file(&suspect);
                return Ok(());
            }
            Some((_, hash)) => {
                let found = format!("checksum {}", &hash.to_hex()[..SHOWN]);
                let damaged = Damaged::new("part", path, sum(part), found);
                // Whoever found it may have no right to write here; then the next reader finds it as well.
                let _ = write_atomically(&suspect, damaged.to_string().as_bytes());
                damaged
            }
        };
        Err(damaged)
    }
}

fn missing(path: &Path, part: &Part) -> Damaged {
    Damaged::new("part", path, bytes(part.bytes), "no file")
}

fn bytes(count: u64) -> String {
    format!("{count} bytes")
}

fn sum(part: &Part) -> String {
    format!("checksum {}", part.checksum.get(..SHOWN).unwrap_or(&part.checksum))
}

/// A file's size and hash.
fn hash(mut file: File) -> io::Result<(u64, blake3::Hash)> {
    let (mut hasher, mut block, mut size) = (blake3::Hasher::new(), vec![0; BLOCK_BYTES], 0);
    loop {
        match file.read(&mut block)? {
            0 => return Ok((size, hasher.finalize())),
            read => {
                hasher.update(&block[..read]);
                size += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(path: &Path) -> Part {
        let bytes = fs::read(path).unwrap();
        let text = serde_json::json!({
            "file": "a.parquet", "key": "k", "rows": 1, "bytes": bytes.len(), "checksum": blake3::hash(&bytes).to_hex().as_str(),
            "digests": {}, "ids": null, "recipe": "", "made_from": [], "dropped": []
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn damage_is_found_once_and_forgotten_when_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let whole = vec![7u8; 3 * BLOCK_BYTES / 2];
        fs::write(&path, &whole).unwrap();
        let part = part(&path);
        let sound = Health::default();
        sound.check(&path, &part).unwrap();
        assert_eq!(sound.read(&path, &part).unwrap().len(), whole.len());
        assert_eq!((sound.glance(&path, &part), sound.blamed("an error")), (None, None));

        let mut flipped = whole.clone();
        flipped[BLOCK_BYTES] ^= 1;
        fs::write(&path, &flipped).unwrap();
        sound.check(&path, &part).expect("once a process");
        let health = Health::default();
        assert_eq!(health.glance(&path, &part), None, "its size is right, and nobody looked yet");
        let message = health.read(&path, &part).unwrap_err().to_string();
        assert!(message.contains("a.parquet is damaged: expected checksum"), "{message}");
        assert!(health.check(&path, &part).is_err());
        assert_eq!(health.blamed(&format!("stage `x`: {message}")).unwrap().path, path);
        assert_eq!(health.blamed("stage `x`: another error"), None);
        assert!(Health::default().glance(&path, &part).is_some(), "another process knows");
        fs::write(&path, &whole).unwrap();
        assert_eq!(Health::default().glance(&path, &part), None, "it was mended");
        assert!(!path.with_extension(SUSPECT).exists());

        for (cut, said) in [(Some(10), "found 10 bytes"), (None, "found no file")] {
            match cut {
                Some(cut) => fs::write(&path, &whole[..cut]).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let health = Health::default();
            assert!(health.glance(&path, &part).unwrap().to_string().contains(said));
            assert!(health.check(&path, &part).unwrap_err().to_string().contains(said));
            assert!(health.read(&path, &part).is_err());
        }
    }
}
