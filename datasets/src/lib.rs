//! Bytes on disk to a fingerprinted listing.
//!
//! A data set is listed in two steps: names, sizes and times of its files ([`Entry`], cheap), then a digest of the bytes of
//! those that changed ([`Fingerprint`], which the engine computes in parallel and caches), and of images what their first bytes say
//! ([`header`]). Formats turn fingerprints into tables: [`folder`], [`voc`], [`boxes`] and [`imagenet`] into images, [`tables`] into the
//! rows of table files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use digest::{FileDigest, UNREADABLE};
use header::Header;
use tessera_schemas::printable;

pub mod boxes;
mod digest;
pub mod embedded;
pub mod folder;
pub mod formats;
pub mod header;
pub mod imagenet;
pub mod layout;
pub mod list;
pub mod local;
pub mod masks;
pub mod names;
pub mod pickle;
pub mod planar;
pub mod ppm;
pub mod stack;
pub mod tables;
pub mod tar;
pub mod voc;

/// A file of a data set, as a listing sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Relative to the data set's root, with `/` between its parts.
    pub path: Box<str>,
    /// Bytes.
    pub size: u64,
    /// When its bytes were last written to, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything of it was last changed, its permissions among that, in nanoseconds since 1970. No program can set it.
    pub changed_ns: i64,
    /// The file's number on its disk: another one that takes its name has another. 0 where it is not known.
    pub inode: u64,
    /// The ETag of an object in a bucket: its store changes it whenever the bytes are written.
    pub e_tag: Option<Box<str>>,
}

impl Entry {
    /// Whether both are the same version of a file: then its bytes are the same.
    pub fn is(&self, other: &Self) -> bool {
        self.path == other.path && self.version().is(other.version())
    }

    /// Which version of its file it is.
    pub fn version(&self) -> Version<'_> {
        let Self { path: _, size, modified_ns, changed_ns, inode, e_tag } = self;
        let (size, modified_ns, changed_ns, inode) = (*size, *modified_ns, *changed_ns, *inode);
        Version { size, modified_ns, changed_ns, inode, e_tag: e_tag.as_deref() }
    }
}

/// What tells one version of a file from another: an [`Entry`] less its path, whose fields say what each is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of an entry")]
pub struct Version<'a> {
    pub size: u64,
    pub modified_ns: i64,
    pub changed_ns: i64,
    pub inode: u64,
    pub e_tag: Option<&'a str>,
}

impl Version<'_> {
    /// Whether both are the same version of one file.
    pub fn is(self, other: Version<'_>) -> bool {
        match (self.e_tag, other.e_tag) {
            (Some(one), Some(two)) => one == two && self.size == other.size,
            (None, None) => {
                let same_file = self.inode == other.inode || self.inode == 0 || other.inode == 0;
                let what = |version: Version<'_>| (version.size, version.modified_ns, version.changed_ns);
                same_file && what(self) == what(other)
            }
            _ => false,
        }
    }
}

/// Schemes of the object stores that are known.
pub const URL_SCHEMES: [&str; 7] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];
/// What URLs of them look like.
pub const URL_EXAMPLES: &str = "s3://bucket/folder, gs://bucket/folder or az://container/folder";

/// A path that is a URL, of a kind that is known or not: it is kept as it was written.
pub fn as_url(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then_some(text)
}

/// What a folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its files, by path.
    pub files: Vec<Entry>,
    /// What cannot be listed, by path.
    pub left_out: Vec<LeftOut>,
    /// How many files that are not part of the data set there are, by their ending in lower case.
    pub aside: BTreeMap<Box<str>, u64>,
}

/// A file or folder that cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Relative to the data set's root; bytes that are not UTF-8 as `\xe9`.
    pub path: String,
    /// Whether more may lie below it.
    pub is_folder: bool,
    /// Why, and what to do.
    pub reason: String,
}

/// A file and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// The file.
    pub entry: Entry,
    /// Hash of its bytes.
    pub digest: FileDigest,
    /// What its first bytes say, of a file that should be an image.
    pub header: Header,
}

/// How files are reached; the pipeline implements it for each kind of storage.
pub trait Files: Send + Sync {
    /// All regular files below a folder, in the order of their paths' bytes; a file's path lists itself, by its name. Hidden
    /// files and folders are passed over. A link that leads nowhere is a file that cannot be read.
    ///
    /// # Errors
    /// The folder itself is not there or cannot be read.
    fn list(&self, root: &Path) -> Result<Listed, Error>;

    /// Tells what lies in a folder itself, in no order: each name, and whether it is a folder's. It ends where `visit` says no. Hidden names,
    /// and those that are not UTF-8, are passed over.
    ///
    /// # Errors
    /// The folder is not there or cannot be read.
    fn names(&self, root: &Path, visit: &mut dyn FnMut(&str, bool) -> bool) -> Result<(), Error> {
        let mut last = None;
        for entry in self.list(root)?.files {
            let (name, is_folder) = entry.path.split_once('/').map_or((&*entry.path, false), |(first, _)| (first, true));
            // All that lies in a folder comes together.
            if last.as_deref() != Some(name) {
                if !visit(name, is_folder) {
                    break;
                }
                last = Some(name.to_owned());
            }
        }
        Ok(())
    }

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

    /// Reads of many files, in their order; several at once where each takes its time.
    fn read_each(&self, reads: &[Read]) -> Vec<Result<Vec<u8>, Error>> {
        let read = |read: &Read| match read.range {
            None => self.read(&read.path),
            Some((offset, length)) => self.read_range(&read.path, offset, length),
        };
        reads.iter().map(read).collect()
    }

    /// How many reads of files below a folder should be under way at once, so that none waits for another.
    fn at_once(&self, root: &Path) -> usize {
        let _ = root;
        1
    }
}

/// A file, or a part of one, that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Which file.
    pub path: PathBuf,
    /// Offset and length; all of it if none.
    pub range: Option<(u64, u64)>,
}

/// Characters of an error's message.
const LONGEST_MESSAGE: usize = 4000;

/// A data set could not be listed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system said no.
    #[error("{}: {source}", printable(&path.to_string_lossy()))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The bytes are not what they should be.
    #[error("{}: {message}", printable(&path.to_string_lossy()))]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        message: String,
    },
}

/// Whether it is the system that has no more to give, files or memory: then an error says nothing of the file that was to be opened.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

impl Error {
    /// An IO error with its path.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// A format error with its path. What the message repeats of the file is fit to be shown; of far too much, the beginning is kept.
    pub fn format(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        let mut message = printable(&message.to_string()).into_owned();
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
            message.push('…');
        }
        Self::Format { path: path.into(), message }
    }
}
