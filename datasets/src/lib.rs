//! Bytes on disk to a fingerprinted listing.
//!
//! A data set is listed in two steps: names, sizes and times of its files ([`Entry`], cheap), then a digest of the bytes of
//! those that changed ([`Fingerprint`], which the engine computes in parallel and caches). Formats turn fingerprints into
//! tables: [`folder`] and [`voc`] into images, [`tables`] into the rows of table files.

use std::io;
use std::path::{Path, PathBuf};

pub mod folder;
pub mod local;
pub mod tables;
pub mod voc;

/// A file of a data set, as a listing sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Relative to the data set's root, with `/` between its parts.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub modified_ns: i64,
}

/// A file and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The file.
    pub entry: Entry,
    /// Hash of its bytes, as text.
    pub digest: String,
}

/// How files are reached; the pipeline implements it for each kind of storage.
pub trait Files: Send + Sync {
    /// All regular files below a folder, in the order of their paths' bytes; a file's path lists itself, by its name. Hidden
    /// files and folders are left out.
    ///
    /// # Errors
    /// The folder is not there, or a part of it cannot be read.
    fn list(&self, root: &Path) -> Result<Vec<Entry>, Error>;

    /// A file's bytes.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, path: &Path) -> Result<Vec<u8>, Error>;

    /// A part of a file's bytes.
    ///
    /// # Errors
    /// It cannot be read, or ends before the range does.
    fn read_range(&self, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Error>;
}

/// A data set could not be listed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Of which file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The bytes are not what they should be.
    #[error("{}: {message}", path.display())]
    Format {
        /// Of which file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl Error {
    /// An IO error with its path.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// A format error with its path.
    pub fn format(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::Format { path: path.into(), message: message.to_string() }
    }
}
