//! The store: a folder of immutable parts, manifests that list them, and one pointer a stage.
//!
//! ```text
//! STORE/lock                                     held while a run writes; names its holder
//! STORE/PIPELINE/STAGE/current                   the pointer: the name of a snapshot
//! STORE/PIPELINE/STAGE/snapshots/ID.json         a manifest
//! STORE/PIPELINE/STAGE/snapshots/ID.parquet      metrics that the stage emitted, if any
//! STORE/PIPELINE/STAGE/parts/KEY-ATTEMPT.parquet a part; beside it KEY-ATTEMPT.json until a manifest lists it
//! STORE/PIPELINE/STAGE/listing.parquet           of a source: the files as they were last seen
//! STORE/PIPELINE/runs/TIME.json                  what a run did
//! ```
//!
//! Parts get names that no other attempt has; a manifest appears by rename after its parts are on disk, and the pointer by
//! rename after its manifest. Readers go through manifests only, so that a crash at any moment leaves them the old table.

pub mod gc;
mod lock;
mod manifest;
pub(crate) mod part;
pub mod snapshots;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

pub use lock::Lock;
pub use manifest::{DroppedRow, FORMAT, Manifest, Part};
pub use part::{PartWriter, WrittenPart, read_part};

/// A pipeline's part of a store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    pipeline: PathBuf,
}

impl Store {
    /// Names a store; touches nothing.
    pub fn new(root: &Path, pipeline: &str) -> Self {
        Self { root: root.to_owned(), pipeline: root.join(pipeline) }
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
        StageStore { dir: self.pipeline.join(name) }
    }

    /// Records what a run did, under a name that sorts by time.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record_run(&self, id: &str, record: &serde_json::Value) -> Result<()> {
        let dir = self.pipeline.join("runs");
        make_dir(&dir)?;
        write_atomically(&dir.join(format!("{id}.json")), record.to_string().as_bytes())
    }

    /// The records of earlier runs, oldest first.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn runs(&self) -> Result<Vec<(String, serde_json::Value)>> {
        let mut runs = Vec::new();
        for path in files(&self.pipeline.join("runs"), "json")? {
            let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            runs.push((id, read_json(&path)?));
        }
        Ok(runs)
    }
}

/// A stage's snapshots and parts.
#[derive(Debug, Clone)]
pub struct StageStore {
    dir: PathBuf,
}

impl StageStore {
    /// The snapshot that readers see, if there is one.
    ///
    /// # Errors
    /// The pointer or its manifest is damaged, or from a newer Tessera.
    pub fn current(&self) -> Result<Option<Manifest>> {
        let pointer = self.dir.join("current");
        let id = match fs::read_to_string(&pointer) {
            Ok(id) => id.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", pointer.display())),
        };
        let named = id.len() >= 32 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !named {
            bail!("{} is damaged: it should name a snapshot; delete the file to have the stage remade", pointer.display());
        }
        Ok(Some(self.manifest(&id)?))
    }

    /// The snapshot of that name.
    ///
    /// # Errors
    /// There is none, it is damaged, or from a newer Tessera.
    pub fn manifest(&self, id: &str) -> Result<Manifest> {
        Manifest::read(&self.dir.join("snapshots").join(format!("{id}.json")))
    }

    /// The newest readable snapshot made under a key, current or not.
    pub fn find(&self, key: &str) -> Option<Manifest> {
        let all = files(&self.dir.join("snapshots"), "json").ok()?;
        let named = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(key));
        all.iter().filter(named).filter_map(|path| Manifest::read(path).ok()).max_by(|a, b| a.created.cmp(&b.created))
    }

    /// The path of a part.
    pub fn part(&self, part: &Part) -> PathBuf {
        self.part_file(&part.file)
    }

    /// The path of a part's file, by its name.
    pub fn part_file(&self, name: &str) -> PathBuf {
        self.dir.join("parts").join(name)
    }

    /// Whether all parts of a snapshot lie there with their sizes.
    pub fn complete(&self, manifest: &Manifest) -> bool {
        manifest.parts.iter().all(|part| fs::metadata(self.part(part)).is_ok_and(|found| found.len() == part.bytes))
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
        write_atomically(&path, &serde_json::to_vec(part).context("a part's note")?)
    }

    /// Finished parts that no manifest lists yet.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn noted(&self) -> Result<Vec<Part>> {
        let notes = files(&self.dir.join("parts"), "json")?;
        let parts = notes.iter().filter_map(|path| read_json::<Part>(path).ok());
        Ok(parts.filter(|part| fs::metadata(self.part(part)).is_ok_and(|found| found.len() == part.bytes)).collect())
    }

    /// Publishes a snapshot: its manifest, then the pointer.
    ///
    /// # Errors
    /// Something cannot be written; readers then still see the old snapshot.
    pub fn publish(&self, manifest: &Manifest) -> Result<()> {
        make_dir(&self.dir.join("snapshots"))?;
        write_atomically(&self.manifest_path(&manifest.id), &serde_json::to_vec_pretty(manifest).context("a manifest")?)?;
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
        self.dir.join("listing.parquet")
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

/// Makes a folder and those above it.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))
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

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", attempt()));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        anyhow::Error::new(error).context(format!("cannot write {} ({} bytes)", path.display(), bytes.len()))
    })
}

/// Makes a file's entry in its folder durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
