//! A stage's pointer: the name of the snapshot that readers see, and behind it what tells one writing from all others.
//!
//! It is written over only if it is the version that this process goes by, so that two who write at once are found out.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use super::storage::Version;
use super::{CURRENT, Damaged, Manifest, StageStore, attempt, seal};

/// What a pointer should be.
const A_SNAPSHOT: &str = "the name of a snapshot";

/// Which version of each pointer this process goes by, and the snapshot that it names: the one that it read first since it took the store,
/// or wrote last.
#[derive(Debug, Default)]
pub(super) struct Pointers(Mutex<HashMap<String, (String, Version)>>);

impl Pointers {
    fn all(&self) -> MutexGuard<'_, HashMap<String, (String, Version)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes by none any more.
    pub(super) fn forget(&self) {
        self.all().clear();
    }
}

impl StageStore {
    /// The snapshot that readers see, if there is one.
    ///
    /// # Errors
    /// The pointer or its manifest is [`Damaged`], or from a newer Tessera.
    pub fn current(&self) -> Result<Option<Manifest>> {
        let Some((id, version)) = self.pointer()? else { return Ok(None) };
        let name = self.name(CURRENT);
        self.pointers.all().entry(name.clone()).or_insert((id.clone(), version));
        match self.manifest(&id) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if seal::is_missing(&error) => {
                let found = format!("{id:?}, of which there is no manifest");
                Err(Damaged::new("pointer", &self.storage.place(&name), A_SNAPSHOT, found).into())
            }
            Err(error) => Err(error),
        }
    }

    /// The snapshot that this process found to be current, or made so; none before it looked.
    pub fn found_current(&self) -> Option<String> {
        self.pointers.all().get(&self.name(CURRENT)).map(|(id, _)| id.clone())
    }

    /// Which snapshot the pointer names, and the pointer's version.
    pub(super) fn pointer(&self) -> Result<Option<(String, Version)>> {
        let name = self.name(CURRENT);
        let damaged = |found: String| Damaged::new("pointer", &self.storage.place(&name), A_SNAPSHOT, found);
        let (bytes, version) = match self.storage.read_version(&name) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Err(damaged("a folder".into()).into()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.storage.place(&name).display())),
        };
        let text = String::from_utf8_lossy(&bytes);
        // Behind the name stands what tells this writing from all others.
        let id = text.split_whitespace().next().unwrap_or_default();
        let named = id.len() >= 32 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if named {
            Ok(Some((id.to_owned(), version)))
        } else {
            Err(damaged(format!("{:?}", text.trim().chars().take(64).collect::<String>())).into())
        }
    }

    pub(super) fn write_pointer(&self, id: &str, version: Option<&Version>) -> io::Result<Version> {
        self.storage.replace_if(&self.name(CURRENT), format!("{id} {}\n", attempt()).as_bytes(), version)
    }

    /// When the pointer to the current snapshot was written; `None` while there is none.
    pub(super) fn published(&self) -> Result<Option<SystemTime>> {
        match self.storage.look(&self.name(CURRENT)) {
            Ok(pointer) => Ok(Some(pointer.modified)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a snapshot the current one.
    ///
    /// # Errors
    /// The pointer cannot be written, or another process wrote it since this one read it.
    pub fn point_to(&self, id: &str) -> Result<()> {
        let name = self.name(CURRENT);
        let known = self.pointers.all().get(&name).cloned();
        let version = match known {
            Some((_, version)) => Some(version),
            None => match self.pointer() {
                Ok(found) => found.map(|(_, version)| version),
                // What is damaged is written over.
                Err(error) if error.is::<Damaged>() => {
                    self.storage.replace(&name, b"")?;
                    Some(self.storage.read_version(&name)?.1)
                }
                Err(error) => return Err(error),
            },
        };
        let written = self.write_pointer(id, version.as_ref())?;
        self.pointers.all().insert(name, (id.to_owned(), written));
        Ok(())
    }

    /// The same, if it is not the current one already; whether it was not.
    ///
    /// # Errors
    /// As [`point_to`](Self::point_to).
    pub fn point_to_if_other(&self, id: &str) -> Result<bool> {
        let known = self.pointers.all().get(&self.name(CURRENT)).map(|(current, _)| current == id);
        let is_current =
            known.unwrap_or_else(|| self.pointer().is_ok_and(|found| found.is_some_and(|(current, _)| current == id)));
        if !is_current {
            self.point_to(id)?;
        }
        Ok(!is_current)
    }
}
