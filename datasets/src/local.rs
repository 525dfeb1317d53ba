//! Files on a local disk.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::{Entry, Error, Files};

/// Threads that list folders: they wait for the disk more than they compute.
const LISTERS: usize = 4;

/// The local file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn list(&self, root: &Path) -> Result<Vec<Entry>, Error> {
        let metadata = fs::metadata(root).map_err(|error| Error::io(root, error))?;
        let mut entries = if metadata.is_file() {
            let name = root.file_name().and_then(|name| name.to_str()).ok_or_else(|| not_text(root))?;
            vec![entry(name.to_owned(), &metadata)]
        } else {
            Walk::new(root).run()?
        };
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        fs::read(path).map_err(|error| Error::io(path, error))
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let read = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; length as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| Error::io(path, error))
    }
}

fn entry(path: String, metadata: &fs::Metadata) -> Entry {
    let modified_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    Entry { path, size: metadata.len(), modified_ns }
}

fn not_text(path: &Path) -> Error {
    Error::format(path, "the name is not UTF-8, and an image's id is its path: rename the file")
}

/// A walk over a tree of folders by several threads.
struct Walk<'a> {
    root: &'a Path,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Folders to list, relative to the root, each with those that lead to it (device, inode): a link back up is not followed.
    open: Vec<(String, Vec<(u64, u64)>)>,
    /// Threads that list one.
    busy: usize,
    found: Vec<Entry>,
    failed: Option<Error>,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path) -> Self {
        let state = State { open: vec![(String::new(), Vec::new())], ..State::default() };
        Self { root, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn run(self) -> Result<Vec<Entry>, Error> {
        std::thread::scope(|scope| {
            for _ in 0..LISTERS {
                scope.spawn(|| self.work());
            }
        });
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.failed {
            Some(error) => Err(error),
            None => Ok(state.found),
        }
    }

    fn work(&self) {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = lock();
        loop {
            if state.failed.is_some() {
                return;
            }
            let Some((folder, above)) = state.open.pop() else {
                if state.busy == 0 {
                    self.changed.notify_all();
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            drop(state);
            let listed = self.list(&folder, above);
            state = lock();
            state.busy -= 1;
            match listed {
                Ok((files, folders)) => {
                    state.found.extend(files);
                    state.open.extend(folders);
                }
                Err(error) => state.failed = state.failed.take().or(Some(error)),
            }
            self.changed.notify_all();
        }
    }

    /// Files and folders of one folder.
    #[expect(clippy::type_complexity, reason = "two lists of the state's own types")]
    fn list(&self, folder: &str, mut above: Vec<(u64, u64)>) -> Result<(Vec<Entry>, Vec<(String, Vec<(u64, u64)>)>), Error> {
        let path = self.root.join(folder);
        let itself = fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
        let identity = (itself.dev(), itself.ino());
        if above.contains(&identity) {
            return Ok(Default::default());
        }
        above.push(identity);
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for item in fs::read_dir(&path).map_err(|error| Error::io(&path, error))? {
            let item = item.map_err(|error| Error::io(&path, error))?;
            let name = item.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let name = name.to_str().ok_or_else(|| not_text(&item.path()))?;
            let relative = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let kind = item.file_type().map_err(|error| Error::io(item.path(), error))?;
            if kind.is_dir() {
                folders.push((relative, above.clone()));
                continue;
            }
            // The entry's own metadata spares the walk from the root, unless it is a link.
            let metadata = if kind.is_symlink() { fs::metadata(item.path()) } else { item.metadata() };
            match metadata {
                Ok(metadata) if metadata.is_dir() => folders.push((relative, above.clone())),
                Ok(metadata) if metadata.is_file() => files.push(entry(relative, &metadata)),
                Ok(_) => {}
                // A link to nothing is a file that cannot be read: its reader says so, and `on_error` what that means.
                Err(error) if kind.is_symlink() && error.kind() == io::ErrorKind::NotFound => {
                    files.push(Entry { path: relative, size: 0, modified_ns: 0 });
                }
                Err(error) => return Err(Error::io(item.path(), error)),
            }
        }
        Ok((files, folders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_sorted_and_hidden_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b.jpg", "a/z.jpg", "a/b/c.jpg", ".hidden/x.jpg", "a/.x.jpg"] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"xyz").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("b.jpg"), dir.path().join("c.jpg")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("d.jpg")).unwrap();
        let entries = LocalFiles.list(dir.path()).unwrap();
        let paths: Vec<&str> = entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["a/b/c.jpg", "a/z.jpg", "b.jpg", "c.jpg", "d.jpg"]);
        assert!(entries[..4].iter().all(|e| e.size == 3 && e.modified_ns > 0));
        assert_eq!((entries[4].size, entries[4].modified_ns), (0, 0));
        assert_eq!(LocalFiles.list(&dir.path().join("b.jpg")).unwrap()[0].path, "b.jpg");
    }

    #[test]
    fn a_missing_root_is_named() {
        let error = LocalFiles.list(Path::new("/no/such/folder")).unwrap_err().to_string();
        assert!(error.starts_with("/no/such/folder: "), "{error}");
    }

    #[test]
    fn ranges_are_exact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"0123456789").unwrap();
        assert_eq!(LocalFiles.read_range(&path, 3, 4).unwrap(), b"3456");
        assert!(LocalFiles.read_range(&path, 8, 4).is_err());
    }

    #[test]
    #[ignore = "a benchmark"]
    fn listing_rate() {
        let dir = tempfile::tempdir().unwrap();
        for folder in (0..100).map(|at| dir.path().join(format!("class-{at}"))) {
            fs::create_dir(&folder).unwrap();
            (0..1000).for_each(|at| fs::write(folder.join(format!("{at}.jpg")), b"").unwrap());
        }
        let best = |work: &dyn Fn()| {
            let pass = |_| {
                let start = std::time::Instant::now();
                work();
                start.elapsed()
            };
            (0..5).map(pass).min().unwrap()
        };
        let ours = best(&|| assert_eq!(LocalFiles.list(dir.path()).unwrap().len(), 100_000));
        let find = best(&|| {
            let found =
                std::process::Command::new("find").arg(dir.path()).args(["-printf", "%p %s %T@\n"]).output().unwrap();
            assert!(found.status.success());
        });
        println!("100,000 files: listed in {ours:.2?}, by find in {find:.2?}");
    }
}
