//! Where the bytes of a store are: all of them go through one trait, so that the rest of the store knows names and no disk.
//!
//! A name is relative to the store's root, with `/` between its parts. What a storage refuses is an [`io::Error`], whose kind says what
//! the rest of the store acts on: `NotFound`, `AlreadyExists`, `IsADirectory`, `StorageFull`.

pub mod disk;

use std::fmt::Debug;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;

/// What a storage has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The name.
    pub name: String,
    /// Whether other names lie below it.
    pub is_folder: bool,
    /// Its size.
    pub bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// The bytes of a store.
pub trait Storage: Debug + Send + Sync {
    /// Where a name lies, as messages have it and other programs find it.
    fn place(&self, name: &str) -> PathBuf;

    /// All that is written under a name.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// What is written under a name, to be read in ranges; it stays readable while it is open.
    fn open(&self, name: &str) -> io::Result<Box<dyn Ranges>>;

    /// What is known of a name.
    fn look(&self, name: &str) -> io::Result<Item>;

    /// What lies directly below a name, sorted; nothing where nothing does.
    fn list(&self, folder: &str) -> io::Result<Vec<Item>>;

    /// Begins something new under a name that nothing has yet. It is there, whole, when it is finished.
    fn put(&self, name: &str) -> io::Result<Box<dyn Upload>>;

    /// Writes a name anew: there is what was there or all of what is given, at any moment and after a power cut.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Gives what is under a name a second one, that nothing has yet, without copying it; not every storage can.
    fn link(&self, from: &str, to: &str, bytes: u64) -> io::Result<()>;

    /// Waits until links to names of a folder will survive a power cut.
    fn settle(&self, folder: &str) -> io::Result<()>;

    /// Removes a name, or a folder with nothing below it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// A new name for lines that are written as they come, and may be lost.
    fn log(&self, name: &str) -> io::Result<Box<dyn Write + Send>>;

    /// Takes the right to write to the whole store, until what is returned is dropped.
    ///
    /// # Errors
    /// Another process has it; the message names that one.
    fn lock(&self) -> anyhow::Result<Box<dyn Debug + Send>>;
}

/// Something that is open for reading.
pub trait Ranges: Debug + Send + Sync {
    /// A range of its bytes; `UnexpectedEof` where it has fewer.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;
}

/// Something that is being written. Dropped before it is finished, it leaves nothing behind.
pub trait Upload: Write + Send {
    /// Waits until it will survive a power cut.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::disk::Disk;
    use super::*;

    fn names(storage: &dyn Storage, folder: &str) -> Vec<(String, bool)> {
        storage.list(folder).unwrap().into_iter().map(|item| (item.name, item.is_folder)).collect()
    }

    /// What the rest of the store relies on, of any storage.
    fn contract(storage: &dyn Storage) {
        let missing = |name: &str| {
            assert_eq!(storage.read(name).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(storage.open(name).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(storage.look(name).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(storage.remove(name).unwrap_err().kind(), io::ErrorKind::NotFound);
        };
        missing("p/s/current");
        assert_eq!(names(storage, "p/s"), []);

        storage.replace("p/s/current", b"one").unwrap();
        storage.replace("p/s/current", b"second").unwrap();
        assert_eq!(storage.read("p/s/current").unwrap(), b"second");
        let item = storage.look("p/s/current").unwrap();
        assert_eq!((item.name.as_str(), item.bytes, item.is_folder), ("p/s/current", 6, false));
        assert!(item.modified.elapsed().unwrap().as_secs() < 60);

        let mut upload = storage.put("p/s/parts/a.parquet").unwrap();
        upload.write_all(b"0123").unwrap();
        upload.write_all(b"456789").unwrap();
        upload.finish().unwrap();
        let file = storage.open("p/s/parts/a.parquet").unwrap();
        assert_eq!(file.read(0..10).unwrap(), "0123456789");
        assert_eq!(file.read(3..7).unwrap(), "3456");
        assert_eq!(file.read(10..10).unwrap(), "");
        assert_eq!(file.read(8..11).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let again = storage.put("p/s/parts/a.parquet").err().map(|error| error.kind());
        assert_eq!(again, Some(io::ErrorKind::AlreadyExists));
        let mut given_up = storage.put("p/s/parts/b.parquet").unwrap();
        given_up.write_all(b"half").unwrap();
        drop(given_up);
        missing("p/s/parts/b.parquet");

        let mut log = storage.log("p/runs/1.events").unwrap();
        log.write_all(b"a line\n").unwrap();
        log.flush().unwrap();
        assert_eq!(storage.read("p/runs/1.events").unwrap(), b"a line\n");

        if storage.link("p/s/parts/a.parquet", "q/s/parts/a.parquet", 10).is_ok() {
            storage.settle("q/s/parts").unwrap();
            assert_eq!(storage.read("q/s/parts/a.parquet").unwrap(), b"0123456789");
            let again = storage.link("p/s/current", "q/s/parts/a.parquet", 6).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
            storage.remove("q/s/parts/a.parquet").unwrap();
            assert_eq!(storage.read("p/s/parts/a.parquet").unwrap(), b"0123456789");
        }
        let named = |name: &str, is_folder| (name.to_owned(), is_folder);
        assert_eq!(names(storage, "p/s"), [named("p/s/current", false), named("p/s/parts", true)]);
        assert_eq!(names(storage, "p"), [named("p/runs", true), named("p/s", true)]);
        assert!(storage.remove("p/s/parts").is_err(), "something lies below it");
        storage.remove("p/s/parts/a.parquet").unwrap();
        // What is open stays readable.
        assert_eq!(file.read(0..2).unwrap(), "01");
        missing("p/s/parts/a.parquet");

        let held = storage.lock().unwrap();
        let refused = storage.lock().unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
        drop(held);
        storage.lock().unwrap();
    }

    #[test]
    fn a_disk_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        contract(&Disk::new(&dir.path().join("not/there/yet")));
    }

    /// Folders and links where files should be.
    #[test]
    fn a_disk_puts_aside_what_is_in_its_way() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path());
        for name in ["p/s/current", "lock"] {
            std::fs::create_dir_all(dir.path().join(name).join("inside")).unwrap();
        }
        assert_eq!(disk.read("p/s/current").unwrap_err().kind(), io::ErrorKind::IsADirectory);
        disk.replace("p/s/current", b"id").unwrap();
        drop(disk.lock().unwrap());
        assert_eq!(disk.read("p/s/current").unwrap(), b"id");
        let aside = |folder: &str| disk.list(folder).unwrap().into_iter().find(|item| item.name.ends_with(".aside"));
        for folder in ["p/s", ""] {
            let kept = aside(folder).unwrap();
            assert!(kept.is_folder && disk.list(&kept.name).unwrap().len() == 1, "nothing is lost");
        }
    }
}
