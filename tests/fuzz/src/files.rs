//! Files in memory.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use tessera_datasets::header::Header;
use tessera_datasets::local::LocalFiles;
use tessera_datasets::{Entry, Error, FileDigest, Files, Fingerprint, Listed};

/// The folder that they lie in.
pub const ROOT: &str = "/data";

/// Files by their paths below [`ROOT`].
pub struct Memory {
    files: BTreeMap<String, Vec<u8>>,
    /// Which input they belong to: what a reader remembers of a version of a file is not that of another input's.
    version: i64,
}

impl Memory {
    /// These files.
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        static VERSION: AtomicI64 = AtomicI64::new(1);
        let files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
        Self { files, version: VERSION.fetch_add(1, Ordering::Relaxed) }
    }

    fn get(&self, path: &Path) -> Result<&[u8], Error> {
        let inner = path.strip_prefix(ROOT).ok().and_then(Path::to_str);
        let file = inner.and_then(|inner| self.files.get(inner));
        file.map(Vec::as_slice).ok_or_else(|| Error::io(path, ErrorKind::NotFound.into()))
    }

    /// What was unpacked of them lies on a disk.
    fn is_elsewhere(path: &Path) -> bool {
        !path.starts_with(ROOT)
    }

    fn entry(&self, path: &str, bytes: &[u8]) -> Entry {
        Entry { path: path.into(), size: bytes.len() as u64, modified_ns: self.version, ..Entry::default() }
    }

    /// A file's fingerprint, as the engine makes it.
    pub fn print(&self, root: &Path, entry: &Entry) -> Fingerprint {
        let bytes = self.get(&root.join(&*entry.path)).expect("what is listed is there");
        Fingerprint { entry: entry.clone(), digest: FileDigest::of(&blake3::hash(bytes)), header: Header::of(bytes) }
    }
}

impl Files for Memory {
    fn list(&self, root: &Path) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        if let (Ok(bytes), Some(name)) = (self.get(root), root.file_name().and_then(|name| name.to_str())) {
            listed.files.push(self.entry(name, bytes));
            return Ok(listed);
        }
        for (path, bytes) in &self.files {
            let full = Path::new(ROOT).join(path);
            if let Some(inner) = full.strip_prefix(root).ok().and_then(Path::to_str) {
                listed.files.push(self.entry(inner, bytes));
            }
        }
        if listed.files.is_empty() { Err(Error::io(root, ErrorKind::NotFound.into())) } else { Ok(listed) }
    }

    fn names(&self, root: &Path, visit: &mut dyn FnMut(&str, bool) -> bool) -> Result<(), Error> {
        if self.get(root).is_ok() {
            return Err(Error::io(root, ErrorKind::NotADirectory.into()));
        }
        let mut last = None;
        for entry in self.list(root)?.files {
            let (name, is_folder) = entry.path.split_once('/').map_or((&*entry.path, false), |(first, _)| (first, true));
            if last.as_deref() != Some(name) && !visit(name, is_folder) {
                break;
            }
            last = Some(name.to_owned());
        }
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        if Self::is_elsewhere(path) {
            return LocalFiles.read(path);
        }
        Ok(self.get(path)?.to_vec())
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        if Self::is_elsewhere(path) {
            return LocalFiles.read_range(path, offset, length);
        }
        let bytes = self.get(path)?;
        // On a disk, so many bytes were made room for.
        assert!(length <= bytes.len() as u64, "{length} bytes are asked for, of {}", bytes.len());
        let found = offset.checked_add(length).and_then(|end| bytes.get(offset as usize..end as usize));
        found.map(<[u8]>::to_vec).ok_or_else(|| Error::io(path, ErrorKind::UnexpectedEof.into()))
    }
}
