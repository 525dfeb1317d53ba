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
pub mod key;
mod manifest;
mod owner;
pub(crate) mod part;
mod seal;
pub mod snapshots;
pub mod storage;
pub mod writer;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

pub use health::{Damaged, Health, PartReader};
pub use manifest::{DroppedRow, FORMAT, Machine, Manifest, Part};
pub use part::{PartWriter, WrittenPart};
use storage::disk::Disk;
use storage::{Item, Storage};

/// The file that says who writes to a store.
const LOCK: &str = "lock";
/// The folder of records beside the stages' folders: no stage can have that name.
const RUNS: &str = "runs";
/// Names in a stage's folder.
const CURRENT: &str = "current";
const LISTING: &str = "listing";
const SNAPSHOTS: &str = "snapshots";
const PARTS: &str = "parts";
const CHECKPOINTS: &str = "checkpoints";
/// Ending of a run's events.
const EVENTS: &str = "events";

/// A pipeline's part of a store.
#[derive(Debug, Clone)]
pub struct Store {
    storage: Arc<dyn Storage>,
    pipeline: String,
    health: Arc<Health>,
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
        let storage: Arc<dyn Storage> = Arc::new(disk);
        Self { health: Arc::new(Health::new(storage.clone())), storage, pipeline: pipeline.to_owned(), scratch }
    }

    /// Where it lies.
    pub fn place(&self) -> PathBuf {
        self.storage.place("")
    }

    /// A folder of a disk for what does not fit into memory.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Takes the store for writing.
    ///
    /// # Errors
    /// Another run holds it, or the folder cannot be made.
    pub fn lock(&self) -> Result<Lock> {
        Ok(Lock { _held: self.storage.lock()? })
    }

    /// A stage's part of it.
    pub fn stage(&self, name: &str) -> StageStore {
        self.at(&self.pipeline, name)
    }

    fn at(&self, pipeline: &str, stage: &str) -> StageStore {
        let dir = format!("{pipeline}/{stage}");
        StageStore { storage: self.storage.clone(), dir, health: self.health.clone() }
    }

    /// What is known of its parts' bytes.
    pub fn health(&self) -> &Health {
        &self.health
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

/// A stage's snapshots and parts.
#[derive(Debug, Clone)]
pub struct StageStore {
    storage: Arc<dyn Storage>,
    /// `PIPELINE/STAGE`.
    dir: String,
    health: Arc<Health>,
}

impl StageStore {
    fn name(&self, below: &str) -> String {
        format!("{}/{below}", self.dir)
    }

    fn files(&self, folder: &str, extension: &str) -> Result<Vec<Item>> {
        files(self.storage.as_ref(), &self.name(folder), extension)
    }

    /// The snapshot that readers see, if there is one.
    ///
    /// # Errors
    /// The pointer or its manifest is [`Damaged`], or from a newer Tessera.
    pub fn current(&self) -> Result<Option<Manifest>> {
        let pointer = self.name(CURRENT);
        let id = match seal::read_file(self.storage.as_ref(), "pointer", &pointer) {
            Ok(id) => String::from_utf8_lossy(&id).trim().to_owned(),
            Err(error) if seal::is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let place = self.storage.place(&pointer);
        let damaged = |found: String| Damaged::new("pointer", &place, "the name of a snapshot", found);
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
        Manifest::read(self.storage.as_ref(), &self.manifest_name(id))
    }

    /// The readable snapshots made under a key, current or not, newest first.
    pub fn find(&self, key: &str) -> Vec<Manifest> {
        let all = self.files(SNAPSHOTS, "json").unwrap_or_default();
        let named = all.iter().filter(|item| stem(&item.name).starts_with(key));
        let mut found: Vec<Manifest> = named.filter_map(|item| self.read_manifest(item).ok()).collect();
        found.sort_by_key(|manifest| std::cmp::Reverse(manifest.created));
        found
    }

    fn read_manifest(&self, item: &Item) -> Result<Manifest> {
        Manifest::read(self.storage.as_ref(), &item.name)
    }

    /// Every part of that name that a readable manifest lists, current or not.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn listed(&self) -> Result<BTreeMap<String, Part>> {
        let manifests = self.files(SNAPSHOTS, "json")?;
        let parts = manifests.iter().filter_map(|item| self.read_manifest(item).ok()).flat_map(|manifest| manifest.parts);
        Ok(parts.map(|part| (part.file.clone(), part)).collect())
    }

    /// Where a part lies, for messages and other programs.
    pub fn part(&self, part: &Part) -> PathBuf {
        self.storage.place(&self.part_name(&part.file))
    }

    fn part_name(&self, file: &str) -> String {
        format!("{}/{PARTS}/{file}", self.dir)
    }

    /// The first part of a snapshot that is gone, cut short, or was found damaged; their bytes are not read for it.
    pub fn damage(&self, manifest: &Manifest) -> Option<Damaged> {
        manifest.parts.iter().find_map(|part| self.health.glance(&self.part_name(&part.file), part))
    }

    /// Whether a part lies there with its size, and was not found damaged.
    pub fn holds(&self, part: &Part) -> bool {
        self.health.glance(&self.part_name(&part.file), part).is_none()
    }

    /// Opens a part for reading; what is read of it is checked, unless that was done.
    pub fn open(&self, part: &Part) -> PartReader {
        PartReader::new(self.part_name(&part.file), part.clone(), self.health.clone())
    }

    /// Reads a part, whole and in order, and checks it unless that was done.
    ///
    /// # Errors
    /// It is [`Damaged`] or gone, or cannot be read.
    pub fn read(&self, part: &Part) -> Result<RecordBatch> {
        self.reading(part, part::read)
    }

    /// Some columns of a part, in order; of those that it has. No more is read and checked than they take.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_columns(&self, part: &Part, columns: &[&str]) -> Result<RecordBatch> {
        self.reading(part, |reader| part::read_columns(reader, columns))
    }

    fn reading<T>(&self, part: &Part, read: impl FnOnce(PartReader) -> Result<T>) -> Result<T> {
        read(self.open(part)).map_err(|error| match health::damage_in(&error) {
            Some(damaged) => damaged.into(),
            None => error.context(format!("cannot read the part {}", self.part(part).display())),
        })
    }

    /// A snapshot's columns. A manifest of an earlier version does not say them: then its first part does.
    ///
    /// # Errors
    /// There is no part, or its file cannot be read.
    pub fn schema_of(&self, manifest: &Manifest) -> Result<SchemaRef> {
        if let Some(schema) = &manifest.schema {
            return Ok(schema.clone());
        }
        let first = manifest.parts.first().with_context(|| format!("the snapshot {} has no part", manifest.id))?;
        self.reading(first, part::schema)
    }

    /// What is known of parts' bytes.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Begins a part under a name that no other attempt has.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn write(&self, key: &str, schema: SchemaRef) -> Result<PartWriter> {
        let file = format!("{key}-{}.parquet", attempt());
        let name = self.part_name(&file);
        PartWriter::new(self.storage.put(&name)?, file, self.storage.place(&name), schema)
    }

    /// Notes a finished part that no manifest lists yet, so that an interrupted run goes on behind it.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note(&self, part: &Part) -> Result<()> {
        self.health.wrote(&self.part_name(&part.file));
        seal::write(self.storage.as_ref(), "note", &self.note_name(part), part)
    }

    fn note_name(&self, part: &Part) -> String {
        self.part_name(&format!("{}.json", stem(&part.file)))
    }

    /// A part that this process wrote needs no check.
    pub fn wrote(&self, part: &Part) {
        self.health.wrote(&self.part_name(&part.file));
    }

    /// Finished parts that no manifest lists yet, and notes of such that are damaged: those parts are made anew.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn noted(&self) -> Result<(Vec<Part>, Vec<Damaged>)> {
        let (mut parts, mut damaged) = (Vec::new(), Vec::new());
        for item in self.files(PARTS, "json")? {
            match seal::read::<Part>(self.storage.as_ref(), "note", &item.name) {
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
        seal::write(self.storage.as_ref(), "manifest", &self.manifest_name(&manifest.id), manifest)?;
        self.point_to(&manifest.id)?;
        for part in &manifest.parts {
            // A note that stays behind is harmless: the part's key says what it is.
            let _ = self.storage.remove(&self.note_name(part));
        }
        Ok(())
    }

    /// Makes a snapshot the current one.
    ///
    /// # Errors
    /// The pointer cannot be written.
    pub fn point_to(&self, id: &str) -> Result<()> {
        Ok(self.storage.replace(&self.name(CURRENT), id.as_bytes())?)
    }

    /// The same, if it is not the current one already.
    ///
    /// # Errors
    /// The pointer cannot be written.
    pub fn point_to_if_other(&self, id: &str) -> Result<()> {
        let current = self.storage.read(&self.name(CURRENT)).unwrap_or_default();
        if String::from_utf8_lossy(&current).trim() == id { Ok(()) } else { self.point_to(id) }
    }

    /// A name for a new snapshot under a key.
    pub fn new_snapshot(&self, key: &str) -> String {
        let is_taken = self.storage.look(&self.manifest_name(key)).is_ok();
        if is_taken { format!("{key}-{}", attempt()) } else { key.to_owned() }
    }

    /// Writes what a snapshot of that name measured; returns the checksum that its manifest is to have.
    ///
    /// # Errors
    /// The disk says no.
    pub fn write_metrics(&self, id: &str, rows: &RecordBatch) -> Result<String> {
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None)?;
        writer.write(rows)?;
        let bytes = writer.into_inner()?;
        self.storage.replace(&self.metrics_name(id), &bytes)?;
        Ok(blake3::hash(&bytes).to_hex().to_string())
    }

    /// What a snapshot measured.
    ///
    /// # Errors
    /// Its file is damaged, or cannot be read.
    pub fn metrics(&self, manifest: &Manifest) -> Result<Vec<RecordBatch>> {
        let Some(checksum) = &manifest.metrics else { return Ok(Vec::new()) };
        let name = self.metrics_name(&manifest.id);
        let place = self.storage.place(&name);
        let bytes = self.storage.read(&name).with_context(|| format!("cannot read {}", place.display()))?;
        let found = blake3::hash(&bytes).to_hex();
        if found.as_str() != checksum {
            let (expected, found) = (format!("checksum {checksum}"), format!("checksum {found}"));
            return Err(Damaged::new("file of metrics", &place, expected, found).into());
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()?;
        Ok(reader.collect::<Result<Vec<_>, _>>()?)
    }

    /// A source's listing, as it was written last.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn listing(&self) -> io::Result<Option<Vec<u8>>> {
        match self.storage.read(&self.name(LISTING)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where that lies.
    pub fn listing_place(&self) -> PathBuf {
        self.storage.place(&self.name(LISTING))
    }

    /// Writes a source's listing.
    ///
    /// # Errors
    /// The disk says no.
    pub fn write_listing(&self, bytes: &[u8]) -> io::Result<()> {
        self.storage.replace(&self.name(LISTING), bytes)
    }

    fn manifest_name(&self, id: &str) -> String {
        format!("{}/{SNAPSHOTS}/{id}.json", self.dir)
    }

    fn metrics_name(&self, id: &str) -> String {
        format!("{}/{SNAPSHOTS}/{id}.parquet", self.dir)
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
