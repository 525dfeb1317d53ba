//! Whose tables a pipeline's folder in a store holds: a store that several projects share keeps those of one name apart.
//!
//! `STORE/PIPELINE/owner` names the pipeline file, relative to the store, so that both can move together; in a bucket, by its machine and
//! path. A file that is not there any more was moved or deleted, and another one of its name takes its place. Whether a file on another
//! machine is a copy of this one, nobody knows: that is told, and not refused.

use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};
use tessera_datasets::as_url;

use super::Store;
use super::storage::disk::lock::host;
use super::storage::disk::{is_same, settled};

impl Store {
    /// Says whether the tables are those of this pipeline file, or of none yet. Returns what is to be told of it.
    ///
    /// # Errors
    /// They are another file's.
    pub fn check_owner(&self, file: &Path) -> Result<Option<String>> {
        self.compare(self.owner()?.as_deref(), file)
    }

    fn compare(&self, owner: Option<&str>, file: &Path) -> Result<Option<String>> {
        let Some(named) = owner else { return Ok(None) };
        let owner = match (self.is_remote(), named.split_once(':')) {
            (false, _) => settled(&self.place().join(named)),
            (true, Some((machine, path))) if machine == host() => PathBuf::from(path),
            (true, _) => {
                let place = self.place();
                return Ok(Some(format!(
                    "the tables of `{}` in {} were last made from {named}",
                    self.pipeline,
                    place.display()
                )));
            }
        };
        let file = settled(file);
        if owner == file || !owner.exists() || is_same(&owner, &file) {
            return Ok(None);
        }
        bail!(
            "the store {} holds the tables of `{}` for {}: `[pipeline] name = \"…\"` gives those of {} another name",
            self.place().display(),
            self.pipeline,
            owner.display(),
            file.display()
        )
    }

    /// Makes the tables those of this pipeline file. The store must be locked.
    ///
    /// # Errors
    /// They are another file's, or the disk says no.
    pub fn claim(&self, file: &Path) -> Result<()> {
        let owner = self.owner()?;
        self.compare(owner.as_deref(), file)?;
        let file = settled(file);
        let named = if self.is_remote() {
            format!("{}:{}", host(), file.display())
        } else {
            relative(&self.place(), &file).to_string_lossy().into_owned()
        };
        if owner.is_some_and(|owner| owner == named) {
            return Ok(());
        }
        Ok(self.storage.replace(&self.owner_name(), named.as_bytes())?)
    }

    fn is_remote(&self) -> bool {
        as_url(&self.place()).is_some()
    }

    fn owner_name(&self) -> String {
        format!("{}/{OWNER}", self.pipeline)
    }

    fn owner(&self) -> Result<Option<String>> {
        match self.storage.read(&self.owner_name()) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    || self.is_remote() && error.kind() != io::ErrorKind::NotFound =>
            {
                Err(error.into())
            }
            Err(_) => Ok(None),
        }
    }
}

/// The file's name.
const OWNER: &str = "owner";

/// A path as seen from a folder, both from the root and without `..`.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    from[shared..].iter().map(|_| Component::ParentDir).chain(to[shared..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_name_is_one_file_s() {
        let dir = tempfile::tempdir().unwrap();
        let file = |project: &str| {
            let path = dir.path().join(project).join("pipeline.toml");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        let (one, other) = (file("one"), file("other"));
        let store = Store::new(&dir.path().join("one/../shared"), "pipeline");
        store.check_owner(&one).unwrap();
        store.claim(&one).unwrap();
        store.claim(&dir.path().join("one/./../one/pipeline.toml")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("shared/pipeline/owner")).unwrap(), "../one/pipeline.toml");
        let message = store.claim(&other).unwrap_err().to_string();
        assert!(message.contains("one/pipeline.toml") && message.contains("[pipeline] name"), "{message}");
        assert!(store.check_owner(&other).is_err());
        Store::new(&dir.path().join("shared"), "another").claim(&other).unwrap();
        // A link to the same file is the same.
        let linked = dir.path().join("linked.toml");
        fs::hard_link(&one, &linked).unwrap();
        store.check_owner(&linked).unwrap();
        // The whole tree moves, and then the file alone.
        fs::rename(dir.path().join("one"), dir.path().join("two")).unwrap();
        fs::remove_file(linked).unwrap();
        store.claim(&dir.path().join("two/pipeline.toml")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("shared/pipeline/owner")).unwrap(), "../two/pipeline.toml");
    }

    #[test]
    fn a_store_beside_its_file_moves_with_it() {
        assert_eq!(relative(Path::new("/a/b/.tessera"), Path::new("/a/b/p.toml")), Path::new("../p.toml"));
        assert_eq!(relative(Path::new("/a"), Path::new("/a/b")), Path::new("b"));
    }
}
