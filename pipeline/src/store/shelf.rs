//! What lies among a stage's parts: one listing in place of a look at each.

use std::collections::HashMap;

use anyhow::Result;

use super::health::SUSPECT;
use super::storage::Item;
use super::{Damaged, Manifest, PARTS, Part, StageStore, stem};

/// What lies among a stage's parts, as it was looked at once.
#[derive(Debug)]
pub struct Shelf {
    stage: StageStore,
    /// Files and their sizes, by the names that parts have.
    files: HashMap<String, u64>,
}

impl Shelf {
    /// The first part of a snapshot that is gone, cut short, or was found damaged; their bytes are not read for it.
    pub fn damage(&self, manifest: &Manifest) -> Option<Damaged> {
        manifest.parts.iter().find_map(|part| self.glance(part))
    }

    /// Whether a part lies there with its size, and was not found damaged.
    pub fn holds(&self, part: &Part) -> bool {
        self.glance(part).is_none()
    }

    /// Whether something lies there under its name.
    pub(super) fn has(&self, part: &Part) -> bool {
        self.files.contains_key(&part.file)
    }

    pub(super) fn glance(&self, part: &Part) -> Option<Damaged> {
        let name = self.stage.part_name(&part.file);
        let is_suspect = self.files.contains_key(&format!("{}.{SUSPECT}", stem(&part.file)));
        self.stage.health.glance(&name, part, self.files.get(&part.file).copied(), is_suspect)
    }
}

impl StageStore {
    /// What lies among its parts: one look, whatever their number.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn shelf(&self) -> Result<Shelf> {
        let own = |item: Item| Some((item.name.rsplit('/').next()?.to_owned(), item.bytes));
        let items = self.storage.list(&self.name(PARTS))?.into_iter().filter(|item| !item.is_folder);
        Ok(Shelf { stage: self.clone(), files: items.filter_map(own).collect() })
    }
}
