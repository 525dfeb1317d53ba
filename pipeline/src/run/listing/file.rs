//! A listing as a file: Parquet, with a checksum behind it that is looked at first, since Parquet of flipped bits may have its reader
//! panic.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context as _, Result, ensure};
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Int64Array, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tessera_datasets::header::{FORMATS, Header};
use tessera_datasets::{Entry, FileDigest, Fingerprint, Version};
use tessera_schemas::text;

use crate::store::{Damaged, StageStore};

/// Key of the file's metadata for when listing began.
pub(super) const SINCE: &str = "tessera.since_ns";
/// Key of the file's metadata for what it tells of each file.
pub(super) const FORMAT: &str = "tessera.listing";
/// What it tells of each file by now: digests as bytes.
pub(super) const FORMAT_NOW: &str = "3";
/// The same, with digests as texts. An earlier one lacked headers and the time of the last change.
pub(super) const FORMAT_OF_TEXTS: &str = "2";
/// Rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Rows that are encoded before they are written.
const GROUP_ROWS: usize = 32 * BATCH_ROWS;
/// Batches that wait to be looked at.
const AHEAD: usize = 16;
/// Bytes of a digest.
const DIGEST_BYTES: i32 = 16;
/// Column of digests that are no hashes.
const DIGEST_TEXT: &str = "digest_text";

/// The last listing, which a thread reads.
pub struct Reading {
    place: PathBuf,
    head: Receiver<Result<Known, Damaged>>,
}

impl Reading {
    /// Begins to read it.
    pub(super) fn begin(store: &StageStore) -> Self {
        let (store, place, (sender, head)) = (store.clone(), store.listing_place(), sync_channel(1));
        let reading = Self { place: place.clone(), head };
        std::thread::spawn(move || {
            let bytes = match store.listing() {
                Ok(Some(bytes)) => Bytes::from(bytes),
                Ok(None) => return drop(sender.send(Ok(Known::default()))),
                Err(error) => {
                    return drop(sender.send(Err(Damaged::new("listing", &place, "a file", error.to_string()))));
                }
            };
            let size = bytes.len();
            let damaged = |error: anyhow::Error| {
                Damaged::new("listing", &place, "rows and a checksum", format!("{size} bytes: {error:#}"))
            };
            match open(bytes) {
                Err(error) => drop(sender.send(Err(damaged(error)))),
                Ok((known, None)) => drop(sender.send(Ok(known))),
                Ok((known, Some(reader))) => {
                    let (rows, batches) = sync_channel(AHEAD);
                    // A receiver that is gone wants no rows either.
                    if sender.send(Ok(Known { batches: Some(batches), ..known })).is_ok() {
                        send(reader, &rows, &damaged);
                    }
                }
            }
        });
        reading
    }

    /// Waits until it is known what the listing is. One that is not there is empty.
    ///
    /// # Errors
    /// Its file is damaged or cannot be read.
    pub fn open(self) -> Result<Known, Damaged> {
        let known = self.head.recv().unwrap_or_else(|_| Err(cut_short(&self.place)))?;
        Ok(Known { place: self.place, ..known })
    }
}

/// What is said of a listing that its reader gave up.
fn cut_short(place: &Path) -> Damaged {
    Damaged::new("listing", place, "rows and a checksum", "what Parquet cannot read".to_owned())
}

/// Looks at the checksum and at what the file says of itself.
fn open(bytes: Bytes) -> Result<(Known, Option<ParquetRecordBatchReader>)> {
    let (rows, checksum) = bytes.split_last_chunk::<{ blake3::OUT_LEN }>().context("no checksum")?;
    ensure!(blake3::hash(rows) == *checksum, "they do not fit their checksum");
    let rows = bytes.slice(..rows.len());
    let reader = ParquetRecordBatchReaderBuilder::try_new(rows)?.with_batch_size(BATCH_ROWS);
    let metadata = reader.schema().metadata();
    let since_ns = metadata.get(SINCE).context("no time")?.parse()?;
    let is_told = |format: &String| [FORMAT_NOW, FORMAT_OF_TEXTS].contains(&format.as_str());
    if !metadata.get(FORMAT).is_some_and(is_told) {
        return Ok((Known { since_ns, outdated: true, ..Known::default() }, None));
    }
    let count = usize::try_from(reader.metadata().file_metadata().num_rows())?;
    Ok((Known { since_ns, count, rest: count, ..Known::default() }, Some(reader.build()?)))
}

/// Hands on all batches, as long as somebody takes them.
fn send(
    reader: ParquetRecordBatchReader,
    to: &SyncSender<Result<Rows, Damaged>>,
    damaged: &dyn Fn(anyhow::Error) -> Damaged,
) {
    for batch in reader {
        let rows = batch.map_err(Into::into).and_then(|batch| Rows::of(&batch));
        let failed = rows.is_err();
        if to.send(rows.map_err(damaged)).is_err() || failed {
            return;
        }
    }
}

/// The last listing, as an iterator of its rows, sorted by path.
#[derive(Default)]
pub struct Known {
    /// When listing began, in nanoseconds since 1970.
    pub since_ns: i64,
    /// Whether an earlier version wrote it, which told less. It has no rows then.
    pub outdated: bool,
    /// Where it lies.
    place: PathBuf,
    count: usize,
    /// Rows that were not handed out yet.
    rest: usize,
    batches: Option<Receiver<Result<Rows, Damaged>>>,
}

impl Known {
    /// How many files it has.
    pub fn files(&self) -> usize {
        self.count
    }

    /// The same without its files.
    #[must_use]
    pub fn forgotten(self) -> Self {
        Self { since_ns: self.since_ns, outdated: self.outdated, ..Self::default() }
    }
}

impl Iterator for Known {
    type Item = Result<Rows, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest == 0 {
            return None;
        }
        let rows = self.batches.as_ref()?.recv().unwrap_or_else(|_| Err(cut_short(&self.place)));
        self.rest = rows.as_ref().map_or(0, |rows| self.rest.saturating_sub(rows.count()));
        Some(rows)
    }
}

/// Some files of a listing.
pub struct Rows {
    paths: StringArray,
    sizes: UInt64Array,
    modified_ns: Int64Array,
    changed_ns: Int64Array,
    /// An earlier version did not look at these.
    inodes: Option<UInt64Array>,
    e_tags: Option<StringArray>,
    /// Those that are hashes, unless all are texts.
    hashes: Option<FixedSizeBinaryArray>,
    texts: StringArray,
    formats: StringArray,
    widths: UInt64Array,
    heights: UInt64Array,
}

impl Rows {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let text = |name: &'static str| text(batch, name).cloned();
        let column = |name: &'static str| batch.column_by_name(name).context(name);
        let signed = |name| column(name)?.as_primitive_opt::<Int64Type>().cloned().context(name);
        let unsigned = |name| column(name)?.as_primitive_opt::<UInt64Type>().cloned().context(name);
        let digests = column("digest")?;
        let hashes = digests.as_fixed_size_binary_opt().filter(|hashes| hashes.value_length() == DIGEST_BYTES).cloned();
        let texts = text(if hashes.is_some() { DIGEST_TEXT } else { "digest" })?;
        Ok(Self {
            paths: text("path")?,
            sizes: unsigned("size")?,
            modified_ns: signed("modified_ns")?,
            changed_ns: signed("changed_ns")?,
            inodes: unsigned("inode").ok(),
            e_tags: text("e_tag").ok(),
            hashes,
            texts,
            formats: text("format")?,
            widths: unsigned("width")?,
            heights: unsigned("height")?,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.paths.len()
    }

    /// A file's path.
    pub fn path(&self, row: usize) -> &str {
        self.paths.value(row)
    }

    /// Which version of a file was listed.
    pub fn version(&self, row: usize) -> Version<'_> {
        Version {
            size: self.sizes.value(row),
            modified_ns: self.modified_ns.value(row),
            changed_ns: self.changed_ns.value(row),
            inode: self.inodes.as_ref().map_or(0, |inodes| inodes.value(row)),
            e_tag: self.e_tags.as_ref().filter(|tags| tags.is_valid(row)).map(|tags| tags.value(row)),
        }
    }

    /// The digest of a file's bytes.
    pub fn digest(&self, row: usize) -> FileDigest {
        let hash = self.hashes.as_ref().filter(|hashes| hashes.is_valid(row)).map(|hashes| hashes.value(row));
        match hash.and_then(|hash| <[u8; DIGEST_BYTES as usize]>::try_from(hash).ok()) {
            Some(hash) => hash.into(),
            None => self.texts.value(row).into(),
        }
    }

    /// What a file's header says.
    pub fn header(&self, row: usize) -> Header {
        let side = |sides: &UInt64Array| sides.is_valid(row).then(|| u32::try_from(sides.value(row)).ok()).flatten();
        let format = self.formats.is_valid(row).then(|| self.formats.value(row));
        Header {
            format: format.and_then(|format| FORMATS.into_iter().find(|known| *known == format)),
            width: side(&self.widths),
            height: side(&self.heights),
        }
    }

    /// All that is said of a file.
    pub fn print(&self, row: usize) -> Fingerprint {
        let Version { size, modified_ns, changed_ns, inode, e_tag } = self.version(row);
        let (path, e_tag) = (self.path(row).into(), e_tag.map(Into::into));
        let entry = Entry { path, size, modified_ns, changed_ns, inode, e_tag };
        Fingerprint { entry, digest: self.digest(row), header: self.header(row) }
    }
}

/// The bytes of a listing's file.
///
/// # Errors
/// Arrow or Parquet refuses the columns (never).
pub(super) fn encode<'a>(prints: impl Iterator<Item = &'a Fingerprint>, since_ns: i64) -> Result<Vec<u8>> {
    let schema = schema(since_ns);
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties()))?;
    let mut prints = prints.peekable();
    while prints.peek().is_some() {
        let some: Vec<&Fingerprint> = prints.by_ref().take(BATCH_ROWS).collect();
        writer.write(&batch(&schema, &some)?)?;
    }
    let mut bytes = writer.into_inner()?;
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    Ok(bytes)
}

/// How columns are laid out: sorted paths share their beginnings, digests look random, and nobody asks for a few rows alone.
fn properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_column_compression("digest".into(), Compression::UNCOMPRESSED)
        .set_column_encoding("path".into(), Encoding::DELTA_BYTE_ARRAY)
        .set_column_dictionary_enabled("format".into(), true);
    for name in ["size", "modified_ns", "changed_ns", "inode", "width", "height"] {
        properties = properties.set_column_encoding(name.into(), Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}

fn schema(since_ns: i64) -> SchemaRef {
    let field = Field::new;
    let fields = vec![
        field("path", DataType::Utf8, false),
        field("size", DataType::UInt64, false),
        field("modified_ns", DataType::Int64, false),
        field("changed_ns", DataType::Int64, false),
        field("inode", DataType::UInt64, false),
        field("e_tag", DataType::Utf8, true),
        field("digest", DataType::FixedSizeBinary(DIGEST_BYTES), true),
        field(DIGEST_TEXT, DataType::Utf8, true),
        field("format", DataType::Utf8, true),
        field("width", DataType::UInt64, true),
        field("height", DataType::UInt64, true),
    ];
    let said = [(SINCE, since_ns.to_string()), (FORMAT, FORMAT_NOW.to_owned())];
    let said: HashMap<String, String> = said.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Arc::new(Schema::new(fields).with_metadata(said))
}

fn batch(schema: &SchemaRef, prints: &[&Fingerprint]) -> Result<RecordBatch> {
    let texts = |get: fn(&Fingerprint) -> Option<&str>| -> ArrayRef {
        Arc::new(prints.iter().map(|print| get(print)).collect::<StringArray>())
    };
    let unsigned = |get: fn(&Fingerprint) -> Option<u64>| -> ArrayRef {
        Arc::new(prints.iter().map(|print| get(print)).collect::<UInt64Array>())
    };
    let times = |get: fn(&Fingerprint) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(prints.iter().map(|print| get(print))))
    };
    let mut hashes = FixedSizeBinaryBuilder::with_capacity(prints.len(), DIGEST_BYTES);
    for print in prints {
        match print.digest.hash() {
            Some(hash) => hashes.append_value(hash)?,
            None => hashes.append_null(),
        }
    }
    let other = |print: &&Fingerprint| print.digest.hash().is_none().then(|| print.digest.to_string());
    let columns = vec![
        texts(|p| Some(&p.entry.path)),
        unsigned(|p| Some(p.entry.size)),
        times(|p| p.entry.modified_ns),
        times(|p| p.entry.changed_ns),
        unsigned(|p| Some(p.entry.inode)),
        texts(|p| p.entry.e_tag.as_deref()),
        Arc::new(hashes.finish()),
        Arc::new(prints.iter().map(other).collect::<StringArray>()),
        texts(|p| p.header.format),
        unsigned(|p| p.header.width.map(u64::from)),
        unsigned(|p| p.header.height.map(u64::from)),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
