//! Where the bytes of a store are: all of them go through one trait, so that the rest of the store knows names and no disk.
//!
//! A name is relative to the store's root, with `/` between its parts. What a storage refuses is an [`io::Error`], whose kind says what
//! the rest of the store acts on: `NotFound`, `AlreadyExists`, `IsADirectory`, `StorageFull`, and `ResourceBusy` of what another process
//! wrote meanwhile.

pub(super) mod disk;
pub mod object;

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

/// What tells one writing of a name from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

/// What a storage calls while it takes the right to write.
pub struct Locking<'a> {
    /// Told what a person who waits should know.
    pub say: &'a dyn Fn(&str),
    /// Called where the last holder did not give the right back, and may not know yet that it lost it: changes the version of every name
    /// that [`replace_if`](Storage::replace_if) writes, so that whatever that one has still under way is refused.
    pub fence: &'a dyn Fn() -> anyhow::Result<()>,
}

/// Another process has the right to write.
#[derive(Debug, thiserror::Error)]
#[error("the store {} is in use by {holder}; wait for it, or stop it{more}", .place.display())]
pub struct InUse {
    /// Where the store lies.
    pub place: PathBuf,
    /// Which process, for people.
    pub holder: String,
    /// What else there is to know; empty, or it goes on behind the sentence.
    pub more: String,
}

/// The bytes of a store.
pub trait Storage: Debug + Send + Sync {
    /// Where a name lies, as messages have it and other programs find it.
    fn place(&self, name: &str) -> PathBuf;

    /// All that is written under a name.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Reads what is under a name, and says which version of it that is.
    fn read_version(&self, name: &str) -> io::Result<(Vec<u8>, Version)>;

    /// What is written under a name, to be read in ranges. That there is nothing, the first range may say. On a disk it stays readable while
    /// it is open.
    fn open(&self, name: &str) -> io::Result<Box<dyn Ranges>>;

    /// Says what is under a name, without reading it.
    fn look(&self, name: &str) -> io::Result<Item>;

    /// What lies directly below a name, sorted; nothing where nothing does.
    fn list(&self, folder: &str) -> io::Result<Vec<Item>>;

    /// Begins something new under a name that nothing has yet. It is there, whole, when it is finished.
    fn put(&self, name: &str) -> io::Result<Box<dyn Upload>>;

    /// Writes a name anew: there is what was there or all of what is given, at any moment and after a power cut.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Writes a name anew if its version is the one that is given; with none, if nothing is there.
    ///
    /// # Errors
    /// `ResourceBusy`: another process wrote it meanwhile.
    fn replace_if(&self, name: &str, bytes: &[u8], version: Option<&Version>) -> io::Result<Version>;

    /// Gives what is under a name a second one, that nothing has yet, without reading it; not every storage can.
    fn link(&self, from: &str, to: &str, bytes: u64) -> io::Result<()>;

    /// Waits until links to names of a folder will survive a power cut.
    fn settle(&self, folder: &str) -> io::Result<()>;

    /// Removes a name. That it is not there may be an error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes names, together where the storage can. The first that cannot be removed is named, and those before it are gone.
    fn remove_all(&self, names: &[&str]) -> io::Result<()> {
        names.iter().try_for_each(|name| self.remove(name))
    }

    /// Removes a folder that nothing lies in, where folders are more than parts of names.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;

    /// A new name for lines that are written as they come, or now and then, all of them at its end; they may be lost.
    fn log(&self, name: &str) -> io::Result<Box<dyn Write + Send>>;

    /// Takes the right to write to the whole store, until what is returned is dropped. Who lost it cannot write any more.
    ///
    /// # Errors
    /// Another process has it: [`InUse`].
    fn lock(&self, with: &Locking<'_>) -> anyhow::Result<Box<dyn Debug + Send>>;

    /// Who has that right now, if anybody has.
    fn holder(&self) -> io::Result<Option<String>>;
}

/// Something that is open for reading.
pub trait Ranges: Debug + Send + Sync {
    /// A range of its bytes; `UnexpectedEof` where it has fewer.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;
}

/// Something that is being written. Dropped before it is finished, it leaves nothing behind.
pub trait Upload: Write + Send {
    /// Waits until it is there, and will survive a power cut. `AlreadyExists`, here or when it began: something else has its name.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A refusal because of what another process did.
fn meanwhile(place: &std::path::Path) -> io::Error {
    let said = format!("another process wrote {} meanwhile; it is left as that one wrote it", place.display());
    io::Error::new(io::ErrorKind::ResourceBusy, said)
}

#[cfg(test)]
pub(super) mod tests;
