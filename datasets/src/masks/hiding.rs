//! A data set without one of its folders.

use std::path::{Path, PathBuf};

use crate::{Error, Files, Listed, Read};

/// Reaches files, but lists none of one folder.
pub struct Hiding<'a> {
    files: &'a dyn Files,
    hidden: PathBuf,
}

impl<'a> Hiding<'a> {
    /// Hides a folder.
    pub fn new(files: &'a dyn Files, hidden: PathBuf) -> Self {
        Self { files, hidden }
    }
}

impl Files for Hiding<'_> {
    fn list(&self, root: &Path) -> Result<Listed, Error> {
        let mut listed = self.files.list(root)?;
        if let Some(hidden) = self.hidden.strip_prefix(root).ok().and_then(Path::to_str).filter(|hidden| !hidden.is_empty())
        {
            let stays =
                |path: &str| path.strip_prefix(hidden).is_none_or(|rest| !(rest.is_empty() || rest.starts_with('/')));
            listed.files.retain(|entry| stays(&entry.path));
            listed.left_out.retain(|one| stays(&one.path));
        }
        Ok(listed)
    }

    fn names(&self, root: &Path, visit: &mut dyn FnMut(&str, bool) -> bool) -> Result<(), Error> {
        let hidden = self.hidden.file_name().filter(|_| self.hidden.parent() == Some(root)).and_then(|name| name.to_str());
        self.files.names(root, &mut |name, is_folder| hidden == Some(name) || visit(name, is_folder))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.files.read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        self.files.read_range(path, offset, length)
    }

    fn read_each(&self, reads: &[Read]) -> Vec<Result<Vec<u8>, Error>> {
        self.files.read_each(reads)
    }

    fn at_once(&self, root: &Path) -> usize {
        self.files.at_once(root)
    }
}
