//! Snapshots of the same key in other folders of the store: of another pipeline file with the same stages, or of a stage that has
//! another name by now.
//!
//! Such a snapshot is taken over, not referred to: its parts get a second name (a hard link, or a copy where the disk has none) in the
//! folder of the stage that takes it, and a manifest of its own lists them. So each folder is whole by itself: what one pipeline
//! collects or finds damaged, another still has, and a crash on the way leaves files that no manifest lists.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::disk::{attempted, make_dir, sync_dir, write_atomically};
use super::{Manifest, Part, StageStore, Store, folders};

impl Store {
    /// Readable snapshots of a key in the folders of other stages, of this pipeline or of others.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn elsewhere(&self, stage: &str, key: &str) -> Result<Vec<(StageStore, Manifest)>> {
        let mut found = Vec::new();
        for pipeline in folders(&self.root)? {
            let pipeline = self.root.join(pipeline);
            for name in folders(&pipeline)? {
                let dir = pipeline.join(&name);
                let here = StageStore { dir, health: self.health.clone() };
                if here.dir == self.pipeline.join(stage) || !here.manifest_path(key).exists() {
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
    pub fn place(&self) -> String {
        let names: Vec<_> = self.dir.iter().rev().take(2).map(|name| name.to_string_lossy()).collect();
        names.into_iter().rev().collect::<Vec<_>>().join("/")
    }

    /// Takes over the parts of another stage's snapshot, under their names.
    ///
    /// # Errors
    /// One of them is damaged or gone, another file of its name is here, or the disk says no.
    pub fn take_over(&self, from: &Self, parts: &[Part]) -> Result<()> {
        let dir = self.dir.join("parts");
        make_dir(&dir)?;
        for part in parts {
            let (theirs, ours) = (from.part(part), self.part(part));
            if ours.exists() {
                if !self.holds(part) {
                    bail!("{} is there and is another file", ours.display());
                }
                continue;
            }
            if let Some(damaged) = from.health.glance(&theirs, part) {
                return Err(damaged.into());
            }
            link(&theirs, &ours, part).with_context(|| format!("cannot take over {}", theirs.display()))?;
        }
        if let Some(part) = parts.last() {
            sync_dir(&self.part(part))?;
        }
        Ok(())
    }
}

/// Gives a part's file a second name, or copies it.
fn link(theirs: &Path, ours: &Path, part: &Part) -> Result<()> {
    match attempted("link", ours, part.bytes, || fs::hard_link(theirs, ours)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::AlreadyExists) => Err(error.into()),
        Err(_) => {
            let bytes = fs::read(theirs)?;
            if blake3::hash(&bytes).to_hex().as_str() != part.checksum {
                bail!("its bytes are not those that were written");
            }
            write_atomically(ours, &bytes)
        }
        Ok(()) => Ok(()),
    }
}
