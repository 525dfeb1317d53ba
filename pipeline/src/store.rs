//! The store: a folder of immutable parts, manifests that list them, and one pointer a stage.
//!
//! ```text
//! STORE/lock                                     held while a run writes; names its holder
//! STORE/PIPELINE/STAGE/current                   the pointer: the name of a snapshot
//! STORE/PIPELINE/STAGE/snapshots/ID.json         a manifest
//! STORE/PIPELINE/STAGE/snapshots/ID.parquet      metrics that the stage emitted, if any
//! STORE/PIPELINE/STAGE/parts/KEY-ATTEMPT.parquet a part; beside it KEY.json until a manifest lists it, and
//!                                                KEY-ATTEMPT.damaged once it was found so
//! STORE/PIPELINE/STAGE/checkpoints/KEY           what an interrupted stage had reached, until it is published
//! STORE/PIPELINE/STAGE/listing                   of a source: the files as they were last seen
//! STORE/PIPELINE/owner                           the pipeline file whose tables these are, seen from the store
//! STORE/PIPELINE/runs/TIME.json                  what a run did
//! STORE/PIPELINE/runs/TIME.events                what happened in it, a line each
//! ```
//!
//! Parts get names that no other attempt has; a manifest appears by rename after its parts are on disk, and the pointer by
//! rename after its manifest. Readers go through manifests only, so that a crash at any moment leaves them the old table. Manifests,
//! notes and records begin with a checksum ([`seal`]); parts and metrics have theirs in the manifest ([`health`]).

pub mod checkpoint;
mod elsewhere;
pub mod gc;
pub mod generation;
pub mod health;
pub mod history;
pub mod key;
mod manifest;
pub mod names;
mod owner;
pub(crate) mod part;
mod pointer;
pub mod schema;
mod seal;
mod shard;
mod shelf;
pub mod snapshots;
mod stage;
pub mod storage;
pub mod thin;
pub mod writer;

use std::fmt::Debug;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

pub use health::{Damaged, Health, PartReader};
pub use manifest::{DroppedRow, FORMAT, Machine, Manifest, Part};
pub use part::{PartWriter, WrittenPart};
use pointer::Pointers;
pub use shelf::Shelf;
pub use stage::StageStore;
pub use storage::InUse;
use storage::disk::Disk;
use storage::object::Objects;
use storage::object::bucket::Bucket;
use storage::{Item, Locking, Storage};

/// The file that says who writes to a store.
const LOCK: &str = "lock";
/// The folder of records beside the stages' folders: no stage can have that name.
const RUNS: &str = "runs";
/// Names in a stage's folder.
const CURRENT: &str = "current";
const LISTING: &str = "listing";
/// The folder of compressed tars, unpacked.
const UNPACKED: &str = ".unpacked";
/// The folder of what is known of the images in files that hold many.
const SHARDS: &str = "shards";
const SNAPSHOTS: &str = "snapshots";
const PARTS: &str = "parts";
const CHECKPOINTS: &str = "checkpoints";
/// Ending of a run's events.
const EVENTS: &str = "events";
/// Bytes of them that are read at once.
const EVENTS_AT_ONCE: u64 = 8 << 20;

/// A pipeline's part of a store.
#[derive(Debug, Clone)]
pub struct Store {
    storage: Arc<dyn Storage>,
    pipeline: String,
    health: Arc<Health>,
    pointers: Arc<Pointers>,
    scratch: PathBuf,
}

/// The right to write to a store, until dropped.
#[derive(Debug)]
pub struct Lock {
    _held: Box<dyn Debug + Send>,
}

impl Store {
    /// Names a store in a folder; touches nothing.
    pub fn new(root: &Path, pipeline: &str) -> Self {
        let disk = Disk::new(root);
        let scratch = disk.root().to_owned();
        Self::over(Arc::new(disk), pipeline, scratch)
    }

    /// Names a store by its place, a folder or the URL of a part of a bucket; asks it nothing.
    ///
    /// # Errors
    /// It is a URL of no kind that is known, or the environment is wrong.
    pub fn at_place(place: &Path, pipeline: &str) -> Result<Self> {
        match tessera_datasets::as_url(place) {
            Some(url) => {
                let objects = Objects::new(Bucket::of(url).context("the store cannot be reached")?);
                Ok(Self::over(Arc::new(objects), pipeline, std::env::temp_dir()))
            }
            None => Ok(Self::new(place, pipeline)),
        }
    }

    fn over(storage: Arc<dyn Storage>, pipeline: &str, scratch: PathBuf) -> Self {
        let (health, pointers) = (Arc::new(Health::new(storage.clone())), Arc::default());
        Self { health, storage, pointers, pipeline: pipeline.to_owned(), scratch }
    }

    /// Where it lies.
    pub fn place(&self) -> PathBuf {
        self.storage.place("")
    }

    /// A folder of a disk for compressed tars, unpacked; it may not be there. No pipeline can have its name.
    pub fn unpacked(&self) -> PathBuf {
        self.scratch.join(UNPACKED)
    }

    /// A folder of a disk for what does not fit into memory.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Takes the store for writing; `say` is told what a person who waits should know.
    ///
    /// # Errors
    /// Another run holds it ([`InUse`]), or the folder cannot be made.
    pub fn lock(&self, say: &dyn Fn(&str)) -> Result<Lock> {
        let held = self.storage.lock(&Locking { say, fence: &|| self.fence() })?;
        // What was read before it was taken may be old.
        self.pointers.forget();
        Ok(Lock { _held: held })
    }

    /// Gives all pointers other versions, so that nobody writes over one who read it before.
    fn fence(&self) -> Result<()> {
        for pipeline in folders(self.storage.as_ref(), "")? {
            for stage in folders(self.storage.as_ref(), &pipeline)? {
                let here = self.at(&pipeline, &stage);
                match here.pointer() {
                    Ok(Some((id, version))) => drop(here.write_pointer(&id, Some(&version))?),
                    Ok(None) => {}
                    // One that is damaged is nobody's to write over but a run's.
                    Err(error) if error.is::<Damaged>() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// A stage's part of it.
    pub fn stage(&self, name: &str) -> StageStore {
        self.at(&self.pipeline, name)
    }

    fn at(&self, pipeline: &str, stage: &str) -> StageStore {
        let dir = format!("{pipeline}/{stage}");
        StageStore { storage: self.storage.clone(), dir, health: self.health.clone(), pointers: self.pointers.clone() }
    }

    /// What is known of its parts' bytes.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Who holds it for writing now, as far as that can be told.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn holder(&self) -> Result<Option<String>> {
        self.storage.holder().with_context(|| format!("cannot ask who holds the store {}", self.place().display()))
    }

    /// Names of the pipeline's folders, records aside.
    fn stages(&self) -> Result<Vec<String>> {
        let mut names = folders(self.storage.as_ref(), &self.pipeline)?;
        names.retain(|name| name != RUNS);
        Ok(names)
    }

    fn runs_dir(&self) -> String {
        format!("{}/{RUNS}", self.pipeline)
    }

    /// A name for a run that starts now. Names sort by the order of the runs, also if the clock was set back.
    ///
    /// # Errors
    /// The folder of records cannot be read.
    pub fn new_run(&self) -> Result<String> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        let millis = |item: &Item| stem(&item.name).split('-').next()?.parse::<u128>().ok();
        let last = files(self.storage.as_ref(), &self.runs_dir(), "json")?.iter().filter_map(millis).max();
        Ok(format!("{:013}-{}", now.max(last.map_or(0, |last| last + 1)), attempt()))
    }

    /// Records what a run did, under a name that sorts by time.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record_run(&self, id: &str, record: &serde_json::Value) -> Result<()> {
        seal::write(self.storage.as_ref(), "record of a run", &format!("{}/{id}.json", self.runs_dir()), record)
    }

    /// A file for the events of a run that begins.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn events(&self, id: &str) -> io::Result<Box<dyn Write + Send>> {
        self.storage.log(&format!("{}/{id}.{EVENTS}", self.runs_dir()))
    }

    /// The newest run, if it has no record yet: its name and its events so far. It goes on, or it was ended from outside.
    ///
    /// # Errors
    /// The folder of records cannot be read.
    pub fn underway(&self) -> Result<Option<(String, Vec<u8>)>> {
        let Some(newest) = files(self.storage.as_ref(), &self.runs_dir(), EVENTS)?.pop() else { return Ok(None) };
        let id = stem(&newest.name).to_owned();
        if self.storage.look(&format!("{}/{id}.json", self.runs_dir())).is_ok() {
            return Ok(None);
        }
        Ok(self.storage.read(&newest.name).ok().map(|events| (id, events)))
    }

    /// The same, without what is known already: its name, the bytes that are left out, and those behind them, or some of them where they are
    /// many. `known` has the name of a run and how many bytes of its events were read.
    ///
    /// # Errors
    /// The folder of records or the events cannot be read.
    pub fn underway_since(&self, known: Option<(&str, u64)>) -> Result<Option<(String, u64, Vec<u8>)>> {
        let Some(newest) = files(self.storage.as_ref(), &self.runs_dir(), EVENTS)?.pop() else { return Ok(None) };
        let id = stem(&newest.name).to_owned();
        if self.storage.look(&format!("{}/{id}.json", self.runs_dir())).is_ok() {
            return Ok(None);
        }
        let start = known.filter(|(name, offset)| *name == id && *offset <= newest.bytes).map_or(0, |(_, offset)| offset);
        let end = newest.bytes.min(start.saturating_add(EVENTS_AT_ONCE));
        let bytes = if start == end { Vec::new() } else { self.storage.open(&newest.name)?.read(start..end)?.to_vec() };
        Ok(Some((id, start, bytes)))
    }

    /// The newest records of runs, the newest first, each read when it is asked for. Those that are damaged are left out.
    ///
    /// # Errors
    /// The folder of records cannot be read.
    pub fn newest_runs(&self) -> Result<impl Iterator<Item = serde_json::Value>> {
        let all = files(self.storage.as_ref(), &self.runs_dir(), "json")?.into_iter().rev();
        Ok(all.filter_map(|item| seal::read(self.storage.as_ref(), "record of a run", &item.name).ok()))
    }

    /// The records of earlier runs, oldest first; of each its name, and what it says or that it is damaged.
    ///
    /// # Errors
    /// The folder of records cannot be read, or a record for another reason than its bytes.
    pub fn runs(&self) -> Result<Vec<(String, Result<serde_json::Value, Damaged>)>> {
        let mut runs = Vec::new();
        for item in files(self.storage.as_ref(), &self.runs_dir(), "json")? {
            let id = stem(&item.name).to_owned();
            runs.push(match seal::read(self.storage.as_ref(), "record of a run", &item.name) {
                Ok(record) => (id, Ok(record)),
                Err(error) => (id, Err(error.downcast::<Damaged>()?)),
            });
        }
        Ok(runs)
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

/// What lies in a folder with that ending, by name.
fn files(storage: &dyn Storage, folder: &str, extension: &str) -> Result<Vec<Item>> {
    let mut items = storage.list(folder)?;
    items.retain(|item| !item.is_folder && item.name.rsplit_once('.').is_some_and(|(_, ending)| ending == extension));
    Ok(items)
}

/// Names of the folders in a folder, sorted.
fn folders(storage: &dyn Storage, folder: &str) -> Result<Vec<String>> {
    let items = storage.list(folder)?.into_iter().filter(|item| item.is_folder);
    Ok(items.map(|item| item.name.rsplit('/').next().unwrap_or_default().to_owned()).collect())
}

/// The last part of a name, without its ending.
fn stem(name: &str) -> &str {
    let own = name.rsplit('/').next().unwrap_or(name);
    own.rsplit_once('.').map_or(own, |(stem, _)| stem)
}
