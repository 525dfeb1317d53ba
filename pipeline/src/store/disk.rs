//! Every write to the store: folders, files, renames, and waiting for the disk.
//!
//! They all go through here, so that a refusal names the path and the bytes, and so that tests can bring one about: with
//! `TESSERA_FAULT=enospc:17` in the environment, the process's 17th step (a folder or file made, a buffer written, a wait for
//! the disk, a rename) fails as on a full disk; `enospc:17+` fails that and all later ones, and `eio:17` fails as a broken disk
//! does. The variable is for tests, and read once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

use super::attempt;

/// The variable that has a step fail.
const FAULT: &str = "TESSERA_FAULT";

/// A step that is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault {
    /// The system's number of the error.
    errno: i32,
    /// Which step, from 1.
    at: u64,
    /// Whether the later ones fail as well.
    onwards: bool,
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (kind, at) = text.split_once(':')?;
        // Linux's and macOS's numbers.
        let errno = match kind {
            "eio" => 5,
            "enospc" => 28,
            _ => return None,
        };
        let (at, onwards) = at.strip_suffix('+').map_or((at, false), |at| (at, true));
        Some(Self { errno, at: at.parse().ok()?, onwards })
    }

    fn hits(self, step: u64) -> bool {
        if self.onwards { step >= self.at } else { step == self.at }
    }
}

/// Counts a step; fails if it is the one that is to.
fn step() -> io::Result<()> {
    static WANTED: LazyLock<Option<Result<Fault, String>>> = LazyLock::new(|| {
        let text = std::env::var(FAULT).ok()?;
        let wrong = || format!("{FAULT} should look like `enospc:17`, `enospc:17+` or `eio:17`, found `{text}`");
        Some(Fault::parse(&text).ok_or_else(wrong))
    });
    static STEPS: AtomicU64 = AtomicU64::new(0);
    match &*WANTED {
        None => Ok(()),
        Some(Err(wrong)) => Err(io::Error::new(io::ErrorKind::InvalidInput, wrong.clone())),
        Some(Ok(fault)) if fault.hits(STEPS.fetch_add(1, Ordering::Relaxed) + 1) => {
            Err(io::Error::from_raw_os_error(fault.errno))
        }
        Some(Ok(_)) => Ok(()),
    }
}

/// A refusal: what was tried, where, how many bytes it was about, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {} ({bytes} bytes): {cause}", path.display())]
struct Refused {
    action: &'static str,
    path: PathBuf,
    bytes: u64,
    cause: io::Error,
}

/// One step, its refusal explained.
pub(super) fn attempted<T>(
    action: &'static str,
    path: &Path,
    bytes: u64,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    step().and_then(|()| work()).map_err(|cause| {
        let (kind, path) = (cause.kind(), path.to_owned());
        io::Error::new(kind, Refused { action, path, bytes, cause })
    })
}

/// A new file.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: PathBuf,
    written: u64,
}

impl Output {
    /// Makes a file that must not be there yet.
    ///
    /// # Errors
    /// It is there, or the disk says no.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = attempted("make", path, 0, || File::create_new(path))?;
        Ok(Self { file, path: path.to_owned(), written: 0 })
    }

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// The disk says no.
    pub fn sync(&self) -> io::Result<()> {
        attempted("keep", &self.path, self.written, || self.file.sync_all())
    }
}

impl Write for Output {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = attempted("write", &self.path, buffer.len() as u64, || self.file.write(buffer))?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Makes a folder and those above it.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    step().and_then(|()| fs::create_dir_all(dir)).with_context(|| format!("cannot make the folder {}", dir.display()))
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", attempt()));
    let write = || -> io::Result<()> {
        let mut file = Output::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync()?;
        attempted("rename to", path, bytes.len() as u64, || fs::rename(&temporary, path))?;
        sync_dir(path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        anyhow::Error::new(error).context(format!("cannot write {} ({} bytes)", path.display(), bytes.len()))
    })
}

/// Makes a file's entry in its folder durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => attempted("keep", dir, 0, || File::open(dir)?.sync_all()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_numbered() {
        let once = Fault::parse("enospc:17").unwrap();
        assert_eq!(once, Fault { errno: 28, at: 17, onwards: false });
        assert_eq!([16, 17, 18].map(|step| once.hits(step)), [false, true, false]);
        let onwards = Fault::parse("eio:17+").unwrap();
        assert_eq!(onwards.errno, 5);
        assert_eq!([16, 17, 18].map(|step| onwards.hits(step)), [false, true, true]);
        assert_eq!(["", "enospc", "enospc:", "enospc:x", "full:3"].map(Fault::parse), [None; 5]);
        assert_eq!(io::Error::from_raw_os_error(once.errno).kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_refusal_names_path_and_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nowhere").join("file.json");
        let message = format!("{:#}", write_atomically(&path, b"12345").unwrap_err());
        assert!(message.contains("nowhere/file.json (5 bytes)"), "{message}");
        let path = dir.path().join("file.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
        assert_eq!(Output::create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
