//! Files on a local disk.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::Utf8Chunk;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::{Entry, Error, Files, LeftOut, Listed, as_url};

/// Threads that list folders: they wait for the disk more than they compute.
const LISTERS: usize = 4;

/// The local file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn list(&self, root: &Path) -> Result<Listed, Error> {
        let metadata = fs::metadata(root).map_err(|error| Error::io(root, error))?;
        if metadata.is_file() {
            let name = root.file_name().and_then(|name| name.to_str()).ok_or_else(|| Error::format(root, NOT_TEXT))?;
            return Ok(Listed { files: vec![entry(name.to_owned(), &metadata)], left_out: Vec::new() });
        }
        // A root that cannot be read is no data set; a folder below it may be.
        fs::read_dir(root).map_err(|error| Error::io(root, error))?;
        let mut listed = Walk::new(root).run();
        listed.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        listed.left_out.sort_unstable();
        Ok(listed)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let read = || {
            refuse_devices(path)?;
            fs::read(path)
        };
        read().map_err(|error| Error::io(path, error))
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let read = || {
            refuse_devices(path)?;
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; length as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| Error::io(path, error))
    }
}

/// A device or a pipe, which a link may lead to, has no end.
fn refuse_devices(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() || kind.is_dir() { Ok(()) } else { Err(io::Error::other("it is a device or a pipe, and no file")) }
}

fn entry(path: String, metadata: &fs::Metadata) -> Entry {
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
const NOT_TEXT: &str = "the name is not UTF-8, and names in tables are: rename it";

/// A name as text; of one that is not UTF-8, the bytes that are not as `\xe9`.
fn readable(name: &OsStr) -> String {
    let chunks = name.as_encoded_bytes().utf8_chunks();
    let one = |chunk: Utf8Chunk<'_>| {
        let broken: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("{}{broken}", chunk.valid())
    };
    chunks.map(one).collect()
}

/// A walk over a tree of folders by several threads.
struct Walk<'a> {
    root: &'a Path,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: Vec<Folder>,
    /// Threads that list one.
    busy: usize,
    found: Listed,
}

/// A folder to list, relative to the root, with those that lead to it (device, inode): a link back up is not followed.
#[derive(Default)]
struct Folder {
    path: String,
    above: Vec<(u64, u64)>,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path) -> Self {
        let state = State { open: vec![Folder::default()], ..State::default() };
        Self { root, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn run(self) -> Listed {
        std::thread::scope(|scope| {
            for _ in 0..LISTERS {
                scope.spawn(|| self.work());
            }
        });
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).found
    }

    fn work(&self) {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = lock();
        loop {
            let Some(folder) = state.open.pop() else {
                if state.busy == 0 {
                    self.changed.notify_all();
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            drop(state);
            let path = folder.path.clone();
            let (mut found, mut below) = (Listed::default(), Vec::new());
            // One that went in this very moment holds nothing.
            if let Err(error) = self.list(folder, &mut found, &mut below)
                && error.kind() != io::ErrorKind::NotFound
            {
                let reason = format!("the folder cannot be read: {error}");
                found.left_out.push(LeftOut { path, is_folder: true, reason });
            }
            state = lock();
            state.busy -= 1;
            state.found.files.extend(found.files);
            state.found.left_out.extend(found.left_out);
            state.open.extend(below);
            self.changed.notify_all();
        }
    }

    /// Files and folders of one folder.
    fn list(&self, folder: Folder, found: &mut Listed, below: &mut Vec<Folder>) -> io::Result<()> {
        let Folder { path: folder, mut above } = folder;
        let path = self.root.join(&folder);
        let itself = fs::metadata(&path)?;
        let identity = (itself.dev(), itself.ino());
        if above.contains(&identity) {
            return Ok(());
        }
        above.push(identity);
        let within = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        for item in fs::read_dir(&path)? {
            let item = item?;
            let name = item.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let kind = item.file_type()?;
            // The entry's own metadata spares the walk from the root, unless it is a link.
            let metadata = if kind.is_symlink() { fs::metadata(item.path()) } else { item.metadata() };
            let is_folder = metadata.as_ref().map_or(kind.is_dir(), fs::Metadata::is_dir);
            let Some(name) = name.to_str() else {
                let reason = NOT_TEXT.to_owned();
                found.left_out.push(LeftOut { path: within(&readable(&name)), is_folder, reason });
                continue;
            };
            match metadata {
                _ if is_folder => below.push(Folder { path: within(name), above: above.clone() }),
                Ok(metadata) if metadata.is_file() => found.files.push(entry(within(name), &metadata)),
                Ok(_) => {}
                // It went in this very moment.
                Err(error) if !kind.is_symlink() && error.kind() == io::ErrorKind::NotFound => {}
                // A link to nothing or to itself is a file that cannot be read: its reader says so, and `on_error` what that means.
                Err(_) => found.files.push(Entry { path: within(name), ..Entry::default() }),
            }
        }
        Ok(())
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
        std::os::unix::fs::symlink(dir.path().join("e.jpg"), dir.path().join("e.jpg")).unwrap();
        let Listed { files, left_out } = LocalFiles.list(dir.path()).unwrap();
        let paths: Vec<&str> = files.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["a/b/c.jpg", "a/z.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]);
        assert!(files[..4].iter().all(|e| e.size == 3 && e.modified_ns > 0 && e.changed_ns > 0));
        for (link, path) in files[4..].iter().zip(["d.jpg", "e.jpg"]) {
            assert_eq!(*link, Entry { path: path.to_owned(), ..Entry::default() });
        }
        assert_eq!(left_out, []);
        assert_eq!(LocalFiles.list(&dir.path().join("b.jpg")).unwrap().files[0].path, "b.jpg");
    }

    #[test]
    fn what_cannot_be_listed_is_told_and_the_rest_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let name = |bytes: &'static [u8]| <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes);
        fs::create_dir_all(dir.path().join(name(b"caf\xe9/x"))).unwrap();
        fs::create_dir_all(dir.path().join("a")).unwrap();
        for path in [&b"caf\xe9/1.jpg"[..], b"a/\xff\xc3\xa9.jpg", b"a/\x1b[2J.jpg", b"b.jpg"] {
            fs::write(dir.path().join(name(path)), b"xyz").unwrap();
        }
        let Listed { files, left_out } = LocalFiles.list(dir.path()).unwrap();
        assert_eq!(files.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["a/\u{1b}[2J.jpg", "b.jpg"]);
        let told: Vec<_> = left_out.iter().map(|one| (one.path.as_str(), one.is_folder)).collect();
        assert_eq!(told, [("a/\\xffé.jpg", false), ("caf\\xe9", true)]);
        assert!(left_out.iter().all(|one| one.reason == NOT_TEXT));
    }

    /// A path that is too long cannot be opened, whoever asks.
    #[test]
    fn folders_that_lie_too_deep_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("z.jpg"), b"").unwrap();
        let script =
            "n=$(printf %0200d 0); for at in $(seq 25); do mkdir $n && cd -P $n 2>/dev/null && touch 1.jpg || exit 1; done";
        assert!(std::process::Command::new("sh").args(["-c", script]).current_dir(dir.path()).status().unwrap().success());
        let Listed { files, left_out } = LocalFiles.list(dir.path()).unwrap();
        let depth = |path: &str| path.split('/').count();
        let [only] = &left_out[..] else { panic!("{left_out:?}") };
        assert!(only.is_folder && only.reason.starts_with("the folder cannot be read: File name too long"), "{only:?}");
        assert!((10..25).contains(&depth(&only.path)) && files.len() == depth(&only.path), "{}", files.len());
    }

    /// A folder that only its owner may read: whoever may read everything does not see the difference.
    #[test]
    fn a_folder_that_cannot_be_read_is_left_out() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("1.jpg"), b"").unwrap();
        fs::write(dir.path().join("2.jpg"), b"").unwrap();
        let mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
        mode(0);
        let (may, listed) = (fs::read_dir(&closed).is_ok(), LocalFiles.list(dir.path()).unwrap());
        let root = LocalFiles.list(&closed);
        mode(0o755);
        let found: Vec<&str> = listed.files.iter().map(|e| e.path.as_str()).collect();
        let told: Vec<_> = listed.left_out.iter().map(|one| (one.path.as_str(), one.is_folder)).collect();
        if may {
            assert_eq!((found, told), (vec!["2.jpg", "closed/1.jpg"], vec![]));
        } else {
            assert_eq!((found, told), (vec!["2.jpg"], vec![("closed", true)]));
            assert!(listed.left_out[0].reason.contains("Permission denied"), "{listed:?}");
            assert!(root.unwrap_err().to_string().contains("closed: Permission denied"));
        }
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
        let ours = best(&|| assert_eq!(LocalFiles.list(dir.path()).unwrap().files.len(), 100_000));
        let find = best(&|| {
            let found =
                std::process::Command::new("find").arg(dir.path()).args(["-printf", "%p %s %T@\n"]).output().unwrap();
            assert!(found.status.success());
        });
        println!("100,000 files: listed in {ours:.2?}, by find in {find:.2?}");
    }
}
