//! Snapshots of the same key in other folders of the store: of another pipeline file with the same stages, or of a stage that has
//! another name by now.
//!
//! Such a snapshot is taken over, not referred to: its parts get a second name (a hard link, or a copy where the disk has none) in the
//! folder of the stage that takes it, and a manifest of its own lists them. So each folder is whole by itself: what one pipeline
//! collects or finds damaged, another still has, and a crash on the way leaves files that no manifest lists.

use std::io;

use anyhow::{Context as _, Result, bail};

use super::{Manifest, PARTS, Part, StageStore, Store, folders};

impl Store {
    /// Readable snapshots of a key in the folders of other stages, of this pipeline or of others.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn elsewhere(&self, stage: &str, key: &str) -> Result<Vec<(StageStore, Manifest)>> {
        let mut found = Vec::new();
        for pipeline in folders(self.storage.as_ref(), "")? {
            for name in folders(self.storage.as_ref(), &pipeline)? {
                let here = self.at(&pipeline, &name);
                let is_own = here.dir == format!("{}/{stage}", self.pipeline);
                if is_own || self.storage.look(&here.manifest_name(key)).is_err() {
                    continue;
                }
                // One that cannot be read is that pipeline's to complain about.
                found.extend(here.manifest(key).ok().map(|manifest| (here, manifest)));
            }
        }
        Ok(found)
    }
}

impl StageStore {
    /// Where the stage's folder lies in the store, as `PIPELINE/STAGE`.
    pub fn place(&self) -> &str {
        &self.dir
    }

    /// Takes over the parts of another stage's snapshot, under their names.
    ///
    /// # Errors
    /// One of them is damaged or gone, another file of its name is here, or the disk says no.
    pub fn take_over(&self, from: &Self, parts: &[Part]) -> Result<()> {
        let (own, others) = (self.shelf()?, from.shelf()?);
        for part in parts {
            let (theirs, ours) = (from.part_name(&part.file), self.part_name(&part.file));
            if own.has(part) {
                if !own.holds(part) {
                    bail!("{} is there and is another file", self.part(part).display());
                }
                continue;
            }
            if let Some(damaged) = others.glance(part) {
                return Err(damaged.into());
            }
            self.link(&theirs, &ours, part).with_context(|| format!("cannot take over {}", from.part(part).display()))?;
        }
        if !parts.is_empty() {
            self.storage.settle(&self.name(PARTS))?;
        }
        Ok(())
    }

    /// Gives a part's file a second name, or copies it.
    fn link(&self, theirs: &str, ours: &str, part: &Part) -> Result<()> {
        match self.storage.link(theirs, ours, part.bytes) {
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::AlreadyExists) => {
                Err(error.into())
            }
            Err(_) => {
                let bytes = self.storage.read(theirs)?;
                if blake3::hash(&bytes).to_hex().as_str() != part.checksum {
                    bail!("its bytes are not those that were written");
                }
                Ok(self.storage.replace(ours, &bytes)?)
            }
            Ok(()) => Ok(()),
        }
    }
}
