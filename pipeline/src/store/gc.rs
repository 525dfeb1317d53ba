//! Finding what nothing needs any more.
//!
//! Needed are the current snapshots and those that the last few runs made; of parts, those that such a snapshot lists; of
//! checkpoints, a stage's newest, unless the stage has published since. Everything else in a pipeline's folder (older snapshots,
//! their parts, leftovers of interrupted runs) can go. The lock must be held, so that
//! no run is at work.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::health::SUSPECT;
use super::manifest::Newer;
use super::{Manifest, Store, files, folders};

/// A file that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Garbage {
    /// Whose it was.
    pub stage: String,
    /// `snapshot`, `part`, or `leftover` of an interrupted run.
    pub kind: &'static str,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Lists what nothing needs, in all stages that the store has of this pipeline, whether its file still names them or not.
///
/// # Errors
/// A folder cannot be read, or a newer Tessera wrote here. A damaged manifest is garbage, unless it is current: then nothing is.
pub fn find(store: &Store, keep_runs: usize) -> Result<Vec<Garbage>> {
    let runs: Vec<String> = store.runs()?.into_iter().map(|(id, _)| id).collect();
    let recent: BTreeSet<&String> = runs.iter().rev().take(keep_runs).collect();
    let mut garbage = Vec::new();
    for stage in folders(&store.pipeline)?.into_iter().filter(|name| name != "runs") {
        let (here, mut needed) = (store.stage(&stage), BTreeSet::new());
        let current = here.current().with_context(|| format!("stage `{stage}` is left alone"))?;
        let (current, published) = current.map(|manifest| (manifest.id, manifest.created)).unwrap_or_default();
        for path in files(&here.dir.join("snapshots"), "json")? {
            let manifest = Manifest::read(&path);
            match manifest {
                Ok(manifest) if manifest.id == current || recent.contains(&manifest.run) => {
                    needed.extend(manifest.parts.iter().map(|part| here.part(part)));
                    needed.insert(here.metrics(&manifest.id));
                    needed.insert(path);
                }
                Err(error) if error.is::<Newer>() => return Err(error),
                _ => garbage.push(entry(&stage, "snapshot", path)?),
            }
        }
        for (folder, extension, kind) in [("snapshots", "parquet", "snapshot"), ("parts", "parquet", "part")] {
            let all = files(&here.dir.join(folder), extension)?;
            for path in all.into_iter().filter(|path| !needed.contains(path)) {
                garbage.push(entry(&stage, kind, path)?);
            }
        }
        for path in files(&here.dir.join("parts"), "json")? {
            garbage.push(entry(&stage, "leftover", path)?);
        }
        for path in stale_checkpoints(&here.checkpoints(), published)? {
            garbage.push(entry(&stage, "leftover", path)?);
        }
        for path in files(&here.dir.join("parts"), SUSPECT)? {
            if !needed.contains(&path.with_extension("parquet")) {
                garbage.push(entry(&stage, "leftover", path)?);
            }
        }
        for folder in [here.dir.clone(), here.dir.join("snapshots"), here.dir.join("parts"), here.checkpoints()] {
            for path in files(&folder, "tmp")? {
                garbage.push(entry(&stage, "leftover", path)?);
            }
        }
    }
    for path in files(&store.pipeline.join("runs"), "tmp")? {
        garbage.push(entry("runs", "leftover", path)?);
    }
    garbage.sort();
    Ok(garbage)
}

/// All checkpoints of a stage but the newest, and that one too if it is older than `published`, in seconds since 1970.
fn stale_checkpoints(folder: &Path, published: u64) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let context = || format!("cannot read the folder {}", folder.display());
    let mut found = Vec::new();
    for item in fs::read_dir(folder).with_context(context)? {
        let item = item.with_context(context)?;
        if item.path().extension().is_none() {
            let modified = item.metadata().and_then(|metadata| metadata.modified()).with_context(context)?;
            let seconds = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            found.push((seconds, item.path()));
        }
    }
    found.sort();
    if found.last().is_some_and(|(seconds, _)| seconds.as_secs() >= published) {
        found.pop();
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Deletes what was found.
///
/// # Errors
/// A file cannot be deleted; those before it are gone.
pub fn delete(garbage: &[Garbage]) -> Result<()> {
    // Manifests go first: one without its parts would be a damaged snapshot.
    let manifests = garbage.iter().filter(|file| file.kind == "snapshot");
    for file in manifests.chain(garbage.iter().filter(|file| file.kind != "snapshot")) {
        fs::remove_file(&file.path).with_context(|| format!("cannot delete {}", file.path.display()))?;
    }
    Ok(())
}

fn entry(stage: &str, kind: &'static str, path: PathBuf) -> Result<Garbage> {
    let bytes = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
    Ok(Garbage { stage: stage.to_owned(), kind, path, bytes })
}
