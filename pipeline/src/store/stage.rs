//! A stage's part of a store.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tessera_datasets::layout::Found;

use super::health::{self, Health, PartReader};
use super::part::PartWriter;
use super::pointer::Pointers;
use super::storage::{Item, Storage};
use super::{Damaged, LISTING, Manifest, PARTS, Part, SHARDS, SNAPSHOTS, attempt, files, part, seal, shard, stem};

/// A stage's snapshots and parts.
#[derive(Debug, Clone)]
pub struct StageStore {
    pub(super) storage: Arc<dyn Storage>,
    /// `PIPELINE/STAGE`.
    pub(super) dir: String,
    pub(super) health: Arc<Health>,
    pub(super) pointers: Arc<Pointers>,
}

impl StageStore {
    pub(super) fn name(&self, below: &str) -> String {
        format!("{}/{below}", self.dir)
    }

    pub(super) fn files(&self, folder: &str, extension: &str) -> Result<Vec<Item>> {
        files(self.storage.as_ref(), &self.name(folder), extension)
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

    pub(super) fn read_manifest(&self, item: &Item) -> Result<Manifest> {
        Manifest::read(self.storage.as_ref(), &item.name)
    }

    /// Every part that a readable manifest lists, current or not, by its content.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn listed(&self) -> Result<BTreeMap<String, Part>> {
        let manifests = self.files(SNAPSHOTS, "json")?;
        let parts = manifests.iter().filter_map(|item| self.read_manifest(item).ok()).flat_map(|manifest| manifest.parts);
        Ok(parts.map(|part| (part.content(), part)).collect())
    }

    /// Where a part lies, for messages and other programs.
    pub fn part(&self, part: &Part) -> PathBuf {
        self.storage.place(&self.part_name(&part.file))
    }

    pub(super) fn part_name(&self, file: &str) -> String {
        format!("{}/{PARTS}/{file}", self.dir)
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

    pub(super) fn reading<T>(&self, part: &Part, read: impl FnOnce(PartReader) -> Result<T>) -> Result<T> {
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
        self.schema_in(first)
    }

    /// The columns in a part's file.
    ///
    /// # Errors
    /// It is [`Damaged`] or gone, or cannot be read.
    pub fn schema_in(&self, part: &Part) -> Result<SchemaRef> {
        self.reading(part, part::schema)
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

    /// Notes a finished part that no manifest lists yet, so that an interrupted run goes on behind it. The first note of a key wins: where
    /// there is one, and its part is whole and has the same rows, that part is returned and this one's file deleted. `anew`: this one is
    /// noted in any case.
    ///
    /// # Errors
    /// The note cannot be written, or another process made the same part of other rows.
    pub fn note(&self, part: Part, anew: bool) -> Result<Part> {
        self.health.wrote(&self.part_name(&part.file));
        let (storage, name) = (self.storage.as_ref(), self.note_name(&part));
        if anew {
            seal::write(storage, "note", &name, &part)?;
            return Ok(part);
        }
        match seal::create(storage, "note", &name, &part) {
            Ok(()) => Ok(part),
            Err(error) if seal::is_taken(&error) => {
                let first = seal::read::<Part>(storage, "note", &name).ok();
                let Some(first) = first.filter(|first| self.shelf().is_ok_and(|shelf| shelf.holds(first))) else {
                    // A note of nothing that is there.
                    seal::write(storage, "note", &name, &part)?;
                    return Ok(part);
                };
                if (first.rows, &first.digests, &first.dropped) != (part.rows, &part.digests, &part.dropped) {
                    bail!(
                        "the part {} was made before, of the same key and with other rows: {} is that one; the machines or their \
                         builds differ",
                        self.part(&part).display(),
                        self.part(&first).display()
                    );
                }
                if first.file != part.file {
                    self.storage.remove(&self.part_name(&part.file))?;
                }
                Ok(first)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn note_name(&self, part: &Part) -> String {
        self.part_name(&format!("{}.json", part.key))
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
        let notes = self.files(PARTS, "json")?;
        if notes.is_empty() {
            return Ok((parts, damaged));
        }
        for item in notes {
            match seal::read::<Part>(self.storage.as_ref(), "note", &item.name) {
                Ok(part) => parts.push(part),
                Err(error) => damaged.push(error.downcast::<Damaged>()?),
            }
        }
        let shelf = self.shelf()?;
        parts.retain(|part| shelf.holds(part));
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

    /// Names of shards whose rows are kept.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn shards(&self) -> Result<Vec<String>> {
        Ok(self.files(SHARDS, "arrow")?.iter().map(|item| stem(&item.name).to_owned()).collect())
    }

    /// What is kept of a shard; nothing if it is damaged.
    pub fn read_shard(&self, name: &str) -> Option<Found> {
        shard::decode(&self.storage.read(&self.shard_name(name)).ok()?)
    }

    /// Keeps what was found in a shard, whatever it was before.
    ///
    /// # Errors
    /// The disk says no.
    pub fn write_shard(&self, name: &str, found: &Found) -> Result<()> {
        Ok(self.storage.replace(&self.shard_name(name), &shard::encode(found)?)?)
    }

    /// Forgets a shard. One that stays does no harm.
    pub fn remove_shard(&self, name: &str) {
        let _ = self.storage.remove(&self.shard_name(name));
    }

    fn shard_name(&self, name: &str) -> String {
        self.name(&format!("{SHARDS}/{name}.arrow"))
    }

    pub(super) fn manifest_name(&self, id: &str) -> String {
        format!("{}/{SNAPSHOTS}/{id}.json", self.dir)
    }

    pub(super) fn metrics_name(&self, id: &str) -> String {
        format!("{}/{SNAPSHOTS}/{id}.parquet", self.dir)
    }
}
