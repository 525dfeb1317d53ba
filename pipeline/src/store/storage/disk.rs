//! A store in a folder of a disk: files, renames, and waiting for the disk.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use steps::{attempted, step};

use super::{Item, Locking, Ranges, Storage, Upload, Version, meanwhile};
use crate::store::attempt;

pub(in crate::store) mod lock;
mod steps;

/// A folder.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Names a folder; touches nothing.
    pub fn new(root: &Path) -> Self {
        Self { root: settled(root) }
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folder of a name, and those above it.
    fn make_room(&self, path: &Path) -> io::Result<()> {
        let Some(dir) = path.parent().filter(|dir| !dir.is_dir()) else { return Ok(()) };
        let made = step().and_then(|()| fs::create_dir_all(dir));
        made.map_err(|error| io::Error::new(error.kind(), format!("cannot make the folder {}: {error}", dir.display())))
    }

    fn item(&self, name: String, metadata: &fs::Metadata) -> Item {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        Item { name, is_folder: metadata.is_dir(), bytes: metadata.len(), modified }
    }
}

impl Storage for Disk {
    fn place(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.place(name))
    }

    fn read_version(&self, name: &str) -> io::Result<(Vec<u8>, Version)> {
        let mut file = File::open(self.place(name))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((bytes, version(&file.metadata()?)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Ranges>> {
        Ok(Box::new(Open(File::open(self.place(name))?)))
    }

    fn look(&self, name: &str) -> io::Result<Item> {
        Ok(self.item(name.to_owned(), &fs::metadata(self.place(name))?))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Item>> {
        let path = self.place(folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(named("read the folder", &path, &error)),
        };
        let mut items = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| named("read the folder", &path, &error))?;
            // No name of the store's is anything else.
            let Ok(own) = entry.file_name().into_string() else { continue };
            let name = if folder.is_empty() { own } else { format!("{folder}/{own}") };
            match entry.metadata() {
                Ok(metadata) => items.push(self.item(name, &metadata)),
                // It went in this very moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(named("read", &entry.path(), &error)),
            }
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(items)
    }

    fn put(&self, name: &str) -> io::Result<Box<dyn Upload>> {
        let path = self.place(name);
        self.make_room(&path)?;
        Ok(Box::new(Output::create(&path)?))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.place(name);
        self.make_room(&path)?;
        write_atomically(&path, bytes)
    }

    fn replace_if(&self, name: &str, bytes: &[u8], expected: Option<&Version>) -> io::Result<Version> {
        let path = self.place(name);
        if expected.is_none() {
            self.make_room(&path)?;
            create_atomically(&path, bytes)?;
            return Ok(version(&fs::metadata(&path)?));
        }
        // Whoever writes over something holds the lock, so that nobody comes between.
        let found = match fs::metadata(&path) {
            Ok(metadata) => Some(version(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(named("read", &path, &error)),
        };
        if found.as_ref() != expected {
            return Err(meanwhile(&path));
        }
        self.replace(name, bytes)?;
        Ok(version(&fs::metadata(&path)?))
    }

    fn link(&self, from: &str, to: &str, bytes: u64) -> io::Result<()> {
        let (from, to) = (self.place(from), self.place(to));
        self.make_room(&to)?;
        attempted("link", &to, bytes, || fs::hard_link(from, &to))
    }

    fn settle(&self, folder: &str) -> io::Result<()> {
        let dir = self.place(folder);
        attempted("keep", &dir, 0, || File::open(&dir)?.sync_all())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.place(name);
        fs::remove_file(&path).map_err(|error| named("delete", &path, &error))
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let path = self.place(folder);
        fs::remove_dir(&path).map_err(|error| named("delete", &path, &error))
    }

    fn log(&self, name: &str) -> io::Result<Box<dyn Write + Send>> {
        let path = self.place(name);
        self.make_room(&path)?;
        // No step that a test has fail: it may be lost.
        Ok(Box::new(File::create_new(path)?))
    }

    fn lock(&self, _: &Locking<'_>) -> anyhow::Result<Box<dyn std::fmt::Debug + Send>> {
        let path = self.place(super::super::LOCK);
        self.make_room(&path)?;
        Ok(Box::new(lock::take(&path, &self.root)?))
    }

    fn holder(&self) -> io::Result<Option<String>> {
        lock::holder_of(&self.place(super::super::LOCK))
    }
}

/// A file that is written anew is another file, or has another time.
fn version(metadata: &fs::Metadata) -> Version {
    use std::os::unix::fs::MetadataExt as _;
    Version(format!("{}-{}.{:09}", metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// An error with what was tried.
fn named(action: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {}: {error}", path.display()))
}

#[derive(Debug)]
struct Open(File);

impl Ranges for Open {
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)];
        self.0.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }
}

/// A new file.
#[derive(Debug)]
struct Output {
    file: File,
    path: PathBuf,
    written: u64,
    finished: bool,
}

impl Output {
    /// Makes a file that must not be there yet.
    fn create(path: &Path) -> io::Result<Self> {
        let file = attempted("make", path, 0, || File::create_new(path))?;
        Ok(Self { file, path: path.to_owned(), written: 0, finished: false })
    }

    /// Waits until what was written is on the disk.
    fn sync(&self) -> io::Result<()> {
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

impl Upload for Output {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.sync()?;
        sync_dir(&self.path)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Gives what lies where a file of the store should be another name, so that nothing of it is lost and it stands in nobody's way.
fn put_aside(path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}.{}.aside", attempt()));
    attempted("put aside", path, 0, || fs::rename(path, &aside))
}

/// Writes a file so that it is there whole or not at all, also after a power cut. A folder of that name is put aside.
pub(in crate::store) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", attempt()));
    let write = || -> io::Result<()> {
        let mut file = Output::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync()?;
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            put_aside(path)?;
        }
        attempted("rename to", path, bytes.len() as u64, || fs::rename(&temporary, path))?;
        file.finished = true;
        sync_dir(path)
    };
    write().map_err(|error| {
        let said = format!("cannot write {} ({} bytes): {error}", path.display(), bytes.len());
        io::Error::new(error.kind(), said)
    })
}

/// Writes a new file at once; of several processes that write it at the same time, one does.
fn create_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", attempt()));
    let write = || -> io::Result<()> {
        let mut file = Output::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync()?;
        // A rename would write over what is there. The temporary name goes with its writer.
        let linked = attempted("link to", path, bytes.len() as u64, || fs::hard_link(&temporary, path));
        match linked {
            // A disk without links: the name is taken first, and then written over.
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
                attempted("make", path, 0, || File::create_new(path))?;
                attempted("rename to", path, bytes.len() as u64, || fs::rename(&temporary, path))?;
                file.finished = true;
            }
            linked => linked?,
        }
        drop(file);
        sync_dir(path)
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => meanwhile(path),
        kind => io::Error::new(kind, format!("cannot write {} ({} bytes): {error}", path.display(), bytes.len())),
    })
}

/// Makes a file's entry in its folder durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => attempted("keep", dir, 0, || File::open(dir)?.sync_all()),
        None => Ok(()),
    }
}

/// A path from the root, without links, `.` and `..` as far as it is there already: what other libraries take for the name of a file.
pub(in crate::store) fn settled(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    for above in path.ancestors() {
        if let Ok(found) = above.canonicalize() {
            let mut settled = found;
            for name in missing.into_iter().rev() {
                match name {
                    Component::ParentDir => drop(settled.pop()),
                    Component::CurDir => {}
                    name => settled.push(name),
                }
            }
            return settled;
        }
        missing.extend(above.components().next_back());
    }
    path
}

/// Whether two paths lead to one file, by a hard link or a mount.
pub(in crate::store) fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let of = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    of(one).is_ok_and(|one| of(other).is_ok_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use super::*;

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
