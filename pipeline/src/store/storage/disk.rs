//! A store in a folder of a disk: files, renames, and waiting for the disk.
//!
//! Every write goes through here, so that a refusal names the path and the bytes, and so that tests can bring one about: with
//! `TESSERA_FAULT=enospc:17` in the environment, the process's 17th step (a folder or file made, a buffer written, a wait for
//! the disk, a rename) fails as on a full disk; `enospc:17+` fails that and all later ones, and `eio:17` fails as a broken disk
//! does. The variable is for tests, and read once.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::temporal_conversions::timestamp_s_to_datetime;
use bytes::Bytes;

use super::{Item, Ranges, Storage, Upload};
use crate::store::attempt;

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
fn attempted<T>(action: &'static str, path: &Path, bytes: u64, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    step().and_then(|()| work()).map_err(|cause| {
        let (kind, path) = (cause.kind(), path.to_owned());
        io::Error::new(kind, Refused { action, path, bytes, cause })
    })
}

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
        let is_folder = fs::symlink_metadata(&path)?.is_dir();
        let removed = if is_folder { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| named("delete", &path, &error))
    }

    fn log(&self, name: &str) -> io::Result<Box<dyn Write + Send>> {
        let path = self.place(name);
        self.make_room(&path)?;
        // No step that a test has fail: it may be lost.
        Ok(Box::new(File::create_new(path)?))
    }

    fn lock(&self) -> anyhow::Result<Box<dyn std::fmt::Debug + Send>> {
        let path = self.place(super::super::LOCK);
        self.make_room(&path)?;
        Ok(Box::new(take_lock(&path, &self.root)?))
    }
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
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
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

/// One writer a store: an flock, which the kernel lets go when its holder dies.
fn take_lock(path: &Path, root: &Path) -> anyhow::Result<File> {
    // Through a link, another file would be overwritten.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        put_aside(path)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).custom_flags(libc::O_NOFOLLOW);
    let mut file = attempted("open the lock", path, 0, || options.open(path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = Vec::new();
            let _ = file.read_to_end(&mut holder);
            let holder = String::from_utf8_lossy(&holder);
            // Between taking the lock and writing it, its holder has no name.
            let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
            anyhow::bail!("the store {} is in use by {holder}; wait for it, or stop it", root.display());
        }
        Err(TryLockError::Error(error)) => return Err(named("lock", path, &error).into()),
    }
    let holder = holder();
    attempted("write", path, holder.len() as u64, || {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())
    })?;
    Ok(file)
}

/// This process, as another one's message names it: its number, host, start and command.
fn holder() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    let host = host.map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let since = timestamp_s_to_datetime(now as i64).map_or_else(String::new, |time| format!(" since {time} UTC"));
    let command: Vec<String> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    format!("process {} on {host}{since} ({})", std::process::id(), command.join(" "))
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
