//! A generation: what all stages of a pipeline have published, read once.
//!
//! Who only asks reads a generation, and then no pointer again: while a run publishes, all of an answer is of one moment. It needs no
//! pipeline file, no operator and no data set, for a manifest says what its table is.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;

use super::{Damaged, Manifest, Store};

/// The current snapshots of a pipeline's stages, by name.
#[derive(Debug, Clone, Default)]
pub struct Generation {
    stages: BTreeMap<String, Result<Arc<Manifest>, Damaged>>,
}

impl Generation {
    /// Reads the pointers of all stages that the store has of the pipeline, whether its file still names them or not.
    ///
    /// # Errors
    /// A folder cannot be read, or a newer Tessera wrote there. What is damaged is kept as such, and fails who asks for it.
    pub fn read(store: &Store) -> Result<Self> {
        let mut stages = BTreeMap::new();
        for name in store.stages()? {
            match store.stage(&name).current() {
                Ok(None) => {}
                Ok(Some(mut manifest)) => {
                    if manifest.schema.is_none() {
                        manifest.schema = store.stage(&name).schema_of(&manifest).ok();
                    }
                    stages.insert(name, Ok(Arc::new(manifest)));
                }
                Err(error) => {
                    stages.insert(name, Err(error.downcast::<Damaged>()?));
                }
            }
        }
        Ok(Self { stages })
    }

    /// Whether no stage has published.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// A stage's snapshot; none if it never published.
    ///
    /// # Errors
    /// It is damaged.
    pub fn stage(&self, name: &str) -> Result<Option<&Arc<Manifest>>, &Damaged> {
        self.stages.get(name).map(Result::as_ref).transpose()
    }

    /// All snapshots that can be read, in an order in which each stands behind those that its stage reads.
    pub fn in_order(&self) -> Vec<&Arc<Manifest>> {
        let mut open: Vec<&Arc<Manifest>> = self.stages.values().flatten().collect();
        let mut placed: Vec<&Arc<Manifest>> = Vec::new();
        while !open.is_empty() {
            let waits = |manifest: &&Arc<Manifest>| {
                let reads = |other: &&Arc<Manifest>| manifest.inputs.values().flatten().any(|input| *input == other.stage);
                open.iter().any(|other| other.stage != manifest.stage && reads(other))
            };
            let (later, next): (Vec<_>, Vec<_>) = open.iter().copied().partition(waits);
            // Stages of several versions of a file may read each other in a circle.
            let (next, later) = if next.is_empty() { (later, next) } else { (next, later) };
            placed.extend(next);
            open = later;
        }
        placed
    }
}

/// The names of the current snapshots, by stage: what tells a generation from others, without reading it. A pointer that is damaged is named
/// by what is wrong with it.
///
/// # Errors
/// A folder or a pointer cannot be read.
pub fn names(store: &Store) -> Result<BTreeMap<String, String>> {
    let mut names = BTreeMap::new();
    for stage in store.stages()? {
        match store.stage(&stage).pointer() {
            Ok(None) => {}
            Ok(Some((snapshot, _))) => drop(names.insert(stage, snapshot)),
            Err(error) => drop(names.insert(stage, error.downcast::<Damaged>()?.to_string())),
        }
    }
    Ok(names)
}
