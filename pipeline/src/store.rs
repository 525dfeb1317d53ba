//! The store: a folder of immutable parts, manifests that list them, and one pointer a stage.
//!
//! ```text
//! STORE/lock                                     held while a run writes; names its holder
//! STORE/PIPELINE/STAGE/current                   the pointer: the name of a snapshot
//! STORE/PIPELINE/STAGE/snapshots/ID.json         a manifest
//! STORE/PIPELINE/STAGE/snapshots/ID.parquet      metrics that the stage emitted, if any
//! STORE/PIPELINE/STAGE/parts/KEY-ATTEMPT.parquet a part; beside it KEY-ATTEMPT.json until a manifest lists it, and
//!                                                KEY-ATTEMPT.damaged once it was found so
//! STORE/PIPELINE/STAGE/checkpoints/KEY           what an interrupted stage had reached, until it is published
//! STORE/PIPELINE/STAGE/listing                   of a source: the files as they were last seen
//! STORE/PIPELINE/runs/TIME.json                  what a run did
//! ```
//!
//! Parts get names that no other attempt has; a manifest appears by rename after its parts are on disk, and the pointer by
//! rename after its manifest. Readers go through manifests only, so that a crash at any moment leaves them the old table. Manifests,
//! notes and records begin with a checksum ([`seal`]); parts and metrics have theirs in the manifest ([`health`]).

pub mod checkpoint;
pub mod disk;
mod elsewhere;
pub mod gc;
pub mod health;
mod lock;
mod manifest;
pub(crate) mod part;
mod seal;
pub mod snapshots;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub(crate) use disk::{make_dir, write_atomically};
pub use health::{Damaged, Health};
pub use lock::Lock;
pub use manifest::{DroppedRow, FORMAT, Machine, Manifest, Part};
pub use part::{PartWriter, WrittenPart};

/// A pipeline's part of a store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    pipeline: PathBuf,
    health: Arc<Health>,
}

impl Store {
    /// Names a store; touches nothing.
    pub fn new(root: &Path, pipeline: &str) -> Self {
        Self { root: root.to_owned(), pipeline: root.join(pipeline), health: Arc::default() }
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the store for writing.
    ///
    /// # Errors
    /// Another run holds it, or the folder cannot be made.
    pub fn lock(&self) -> Result<Lock> {
        make_dir(&self.pipeline)?;
        Lock::take(&self.root)
    }

    /// A stage's part of it.
    pub fn stage(&self, name: &str) -> StageStore {
        StageStore { dir: self.pipeline.join(name), health: self.health.clone() }
    }

    /// What is known of its parts' bytes.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// A name for a run that starts now. Names sort by the order of the runs, also if the clock was set back.
    ///
    /// # Errors
    /// The folder of records cannot be read.
    pub fn new_run(&self) -> Result<String> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        let millis = |path: &PathBuf| path.file_stem()?.to_str()?.split('-').next()?.parse::<u128>().ok();
        let last = files(&self.pipeline.join("runs"), "json")?.iter().filter_map(millis).max();
        Ok(format!("{:013}-{}", now.max(last.map_or(0, |last| last + 1)), attempt()))
    }

    /// Records what a run did, under a name that sorts by time.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record_run(&self, id: &str, record: &serde_json::Value) -> Result<()> {
        let dir = self.pipeline.join("runs");
        make_dir(&dir)?;
        seal::write("record of a run", &dir.join(format!("{id}.json")), record)
    }

    /// The records of earlier runs, oldest first.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn runs(&self) -> Result<Vec<(String, serde_json::Value)>> {
        let mut runs = Vec::new();
        for path in files(&self.pipeline.join("runs"), "json")? {
            let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let read = seal::read("record of a run", &path);
            runs.push((id, read.context("a record says only what a run did: delete it to go on without")?));
        }
        Ok(runs)
    }
}

/// A stage's snapshots and parts.
#[derive(Debug, Clone)]
pub struct StageStore {
    dir: PathBuf,
    health: Arc<Health>,
}

impl StageStore {
    /// The snapshot that readers see, if there is one.
    ///
    /// # Errors
    /// The pointer or its manifest is [`Damaged`], or from a newer Tessera.
    pub fn current(&self) -> Result<Option<Manifest>> {
        let pointer = self.dir.join("current");
        let id = match fs::read(&pointer) {
            Ok(id) => String::from_utf8_lossy(&id).trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", pointer.display())),
        };
        let damaged = |found: String| Damaged::new("pointer", &pointer, "the name of a snapshot", found);
        let named = id.len() >= 32 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !named {
            return Err(damaged(format!("{:?}", id.chars().take(64).collect::<String>())).into());
        }
        match self.manifest(&id) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if seal::is_missing(&error) => Err(damaged(format!("{id:?}, of which there is no manifest")).into()),
            Err(error) => Err(error),
        }
    }

    /// The snapshot of that name.
    ///
    /// # Errors
    /// There is none, it is [`Damaged`], or from a newer Tessera.
    pub fn manifest(&self, id: &str) -> Result<Manifest> {
        Manifest::read(&self.dir.join("snapshots").join(format!("{id}.json")))
    }

    /// The readable snapshots made under a key, current or not, newest first.
    pub fn find(&self, key: &str) -> Vec<Manifest> {
        let named = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(key));
        let all = files(&self.dir.join("snapshots"), "json").unwrap_or_default();
        let mut found: Vec<Manifest> = all.iter().filter(named).filter_map(|path| Manifest::read(path).ok()).collect();
        found.sort_by_key(|manifest| std::cmp::Reverse(manifest.created));
        found
    }

    /// Every part of that name that a readable manifest lists, current or not.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn listed(&self) -> Result<BTreeMap<String, Part>> {
        let manifests = files(&self.dir.join("snapshots"), "json")?;
        let parts = manifests.iter().filter_map(|path| Manifest::read(path).ok()).flat_map(|manifest| manifest.parts);
        Ok(parts.map(|part| (part.file.clone(), part)).collect())
    }

    /// The path of a part.
    pub fn part(&self, part: &Part) -> PathBuf {
        self.part_file(&part.file)
    }

    /// The path of a part's file, by its name.
    pub fn part_file(&self, name: &str) -> PathBuf {
        self.dir.join("parts").join(name)
    }

    /// The first part of a snapshot that is gone, cut short, or was found damaged; their bytes are not read for it.
    pub fn damage(&self, manifest: &Manifest) -> Option<Damaged> {
        manifest.parts.iter().find_map(|part| self.health.glance(&self.part(part), part))
    }

    /// Whether a part lies there with its size, and was not found damaged.
    pub fn holds(&self, part: &Part) -> bool {
        self.health.glance(&self.part(part), part).is_none()
    }

    /// Reads a part, whole and in order, and checks it unless that was done.
    ///
    /// # Errors
    /// It is [`Damaged`] or gone, or cannot be read.
    pub fn read(&self, part: &Part) -> Result<RecordBatch> {
        let path = self.part(part);
        let bytes = self.health.read(&path, part)?;
        part::decode(bytes).with_context(|| format!("cannot read the part {}", path.display()))
    }

    /// Some columns of a part, in order; of those that it has. The whole file is checked, unless that was done.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_columns(&self, part: &Part, columns: &[&str]) -> Result<RecordBatch> {
        let path = self.part(part);
        let bytes = self.health.read(&path, part)?;
        part::decode_columns(bytes, columns).with_context(|| format!("cannot read the part {}", path.display()))
    }

    /// The schema in a part's file; its rows are not read, and nothing is checked.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn schema(&self, part: &Part) -> Result<SchemaRef> {
        let path = self.part(part);
        part::schema(&path).with_context(|| format!("cannot read the part {}", path.display()))
    }

    /// What is known of parts' bytes.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Makes room for a part: a path that no other attempt has.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new_part(&self, key: &str) -> Result<PathBuf> {
        let dir = self.dir.join("parts");
        make_dir(&dir)?;
        Ok(dir.join(format!("{key}-{}.parquet", attempt())))
    }

    /// Notes a finished part that no manifest lists yet, so that an interrupted run goes on behind it.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note(&self, part: &Part) -> Result<()> {
        let path = self.part(part).with_extension("json");
        self.health.wrote(&self.part(part));
        seal::write("note", &path, part)
    }

    /// Finished parts that no manifest lists yet, and notes of such that are damaged: those parts are made anew.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn noted(&self) -> Result<(Vec<Part>, Vec<Damaged>)> {
        let (mut parts, mut damaged) = (Vec::new(), Vec::new());
        for path in files(&self.dir.join("parts"), "json")? {
            match seal::read::<Part>("note", &path) {
                Ok(part) => parts.push(part),
                Err(error) => damaged.push(error.downcast::<Damaged>()?),
            }
        }
        parts.retain(|part| self.holds(part));
        Ok((parts, damaged))
    }

    /// Publishes a snapshot: its manifest, then the pointer.
    ///
    /// # Errors
    /// Something cannot be written; readers then still see the old snapshot.
    pub fn publish(&self, manifest: &Manifest) -> Result<()> {
        make_dir(&self.dir.join("snapshots"))?;
        seal::write("manifest", &self.manifest_path(&manifest.id), manifest)?;
        self.point_to(&manifest.id)?;
        for part in &manifest.parts {
            // A note that stays behind is harmless: the part's key says what it is.
            let _ = fs::remove_file(self.part(part).with_extension("json"));
        }
        Ok(())
    }

    /// Makes a snapshot the current one.
    ///
    /// # Errors
    /// The pointer cannot be written.
    pub fn point_to(&self, id: &str) -> Result<()> {
        write_atomically(&self.dir.join("current"), id.as_bytes())
    }

    /// The same, if it is not the current one already.
    ///
    /// # Errors
    /// The pointer cannot be written.
    pub fn point_to_if_other(&self, id: &str) -> Result<()> {
        let current = fs::read_to_string(self.dir.join("current")).unwrap_or_default();
        if current.trim() == id { Ok(()) } else { self.point_to(id) }
    }

    /// A name for a new snapshot under a key.
    pub fn new_snapshot(&self, key: &str) -> String {
        if self.manifest_path(key).exists() { format!("{key}-{}", attempt()) } else { key.to_owned() }
    }

    /// Where a snapshot's metrics lie.
    pub fn metrics(&self, id: &str) -> PathBuf {
        self.manifest_path(id).with_extension("parquet")
    }

    /// Where a source's listing lies.
    pub fn listing(&self) -> PathBuf {
        self.dir.join("listing")
    }

    fn manifest_path(&self, id: &str) -> PathBuf {
        self.dir.join("snapshots").join(format!("{id}.json"))
    }
}

/// Text that no other attempt has.
pub fn attempt() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let mut hasher = blake3::Hasher::new();
    for number in [nanos, u64::from(std::process::id()), count] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finalize().to_hex()[..8].to_owned()
}

/// Files of a folder with that ending, by name; none where there is no folder.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read the folder {}", dir.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read the folder {}", dir.display()))?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Names of the folders in a folder, sorted; none where there is no folder.
fn folders(dir: &Path) -> Result<Vec<String>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for item in fs::read_dir(dir).with_context(|| format!("cannot read the folder {}", dir.display()))? {
        let item = item.with_context(|| format!("cannot read the folder {}", dir.display()))?;
        if item.path().is_dir() {
            names.push(item.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
