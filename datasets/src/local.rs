//! Files on a local disk.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::Utf8Chunk;

use crate::{Entry, Error, Files, Listed, as_url};

mod walk;

/// The local file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn list(&self, root: &Path) -> Result<Listed, Error> {
        let metadata = fs::metadata(root).map_err(|error| Error::io(root, error))?;
        if metadata.is_file() {
            let name = root.file_name().and_then(|name| name.to_str()).ok_or_else(|| Error::format(root, NOT_TEXT))?;
            return Ok(Listed { files: vec![entry(name.into(), &metadata)], ..Listed::default() });
        }
        // A root that cannot be read is no data set; a folder below it may be.
        fs::read_dir(root).map_err(|error| Error::io(root, error))?;
        walk::Walk::new(root).run()
    }

    fn names(&self, root: &Path, visit: &mut dyn FnMut(&str, bool) -> bool) -> Result<(), Error> {
        for entry in fs::read_dir(root).map_err(|error| Error::io(root, error))? {
            let Ok(entry) = entry else { continue };
            let (name, kind) = (entry.file_name(), entry.file_type());
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let is_folder = kind.is_ok_and(|kind| {
                kind.is_dir() || kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|there| there.is_dir())
            });
            if !visit(name, is_folder) {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let read = || {
            size(path)?;
            fs::read(path)
        };
        read().map_err(|error| Error::io(path, error))
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let read = || {
            // Room is made for no more than there is.
            let size = size(path)?;
            if offset.checked_add(length).is_none_or(|end| end > size) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            // Bytes that are read need not be zeros before.
            let mut bytes = Vec::with_capacity(length as usize);
            file.take(length).read_to_end(&mut bytes)?;
            if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        read().map_err(|error| Error::io(path, error))
    }
}

/// How many bytes a file has. A device or a pipe, which a link may lead to, has no end.
fn size(path: &Path) -> io::Result<u64> {
    let found = fs::metadata(path)?;
    match found.file_type() {
        kind if kind.is_file() => Ok(found.len()),
        kind if kind.is_dir() => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        _ => Err(io::Error::other("it is a device or a pipe, and no file")),
    }
}

fn entry(path: Box<str>, metadata: &fs::Metadata) -> Entry {
    let time = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
    Entry {
        path,
        size: metadata.len(),
        modified_ns: time(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: time(metadata.ctime(), metadata.ctime_nsec()),
        inode: metadata.ino(),
        e_tag: None,
    }
}

/// A path as people write it, from a folder on: `~/photos` is in their home; a URL is where it says.
pub fn joined(base: &Path, path: &Path) -> PathBuf {
    if as_url(path).is_some() {
        return path.to_owned();
    }
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(below), Some(home)) if !home.is_empty() => Path::new(&home).join(below),
        _ => base.join(path),
    }
}

/// Why a name is left out.
pub(crate) const NOT_TEXT: &str = "the name is not UTF-8, and names in tables are: rename it";

/// A name as text; of one that is not UTF-8, the bytes that are not as `\xe9`.
pub(crate) fn readable(name: &OsStr) -> String {
    let chunks = name.as_encoded_bytes().utf8_chunks();
    let one = |chunk: Utf8Chunk<'_>| {
        let broken: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("{}{broken}", chunk.valid())
    };
    chunks.map(one).collect()
}

#[cfg(test)]
mod tests;
