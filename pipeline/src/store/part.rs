//! Writing a part: Parquet, its digests, its checksum, all in one pass.

use std::io::{self, BufWriter, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use arrow::array::{Array, RecordBatch, RecordBatchReader as _};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tessera_schemas::digest::TableDigest;
use tessera_schemas::{IMAGE_ID, text};

use super::health::{BLOCK_BYTES, NARROW_BLOCK_BYTES, PartReader};
use super::key::short;
use super::manifest::{DroppedRow, Part};
use super::storage::Upload;

/// Bytes of a row group: readers hold at least one.
pub(crate) const ROW_GROUP_BYTES: usize = 64 << 20;

/// Writes one part. Dropped before [`finish`](Self::finish), it leaves nothing behind.
pub struct PartWriter {
    /// The name of its file.
    file: String,
    /// Where that lies, for messages.
    path: PathBuf,
    schema: SchemaRef,
    writer: Option<ArrowWriter<Hashing>>,
    digest: TableDigest,
    ids: Option<(String, String)>,
}

/// What was written.
pub struct WrittenPart {
    file: String,
    checksum: String,
    block_bytes: Option<NonZeroU64>,
    blocks: Vec<String>,
    bytes: u64,
    digest: TableDigest,
    ids: Option<(String, String)>,
}

/// Hashes what goes by: the whole, and block by block.
struct Hashing {
    file: BufWriter<Box<dyn Upload>>,
    hasher: blake3::Hasher,
    block: blake3::Hasher,
    block_bytes: u64,
    blocks: Vec<String>,
    bytes: u64,
}

impl Hashing {
    fn hash(&mut self, mut buffer: &[u8]) {
        self.hasher.update(buffer);
        while !buffer.is_empty() {
            let room = (self.block_bytes - self.bytes % self.block_bytes) as usize;
            let (now, later) = buffer.split_at(room.min(buffer.len()));
            self.block.update(now);
            self.bytes += now.len() as u64;
            if self.bytes.is_multiple_of(self.block_bytes) {
                self.close_block();
            }
            buffer = later;
        }
    }

    fn close_block(&mut self) {
        self.blocks.push(short(&self.block.finalize()));
        self.block.reset();
    }
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl PartWriter {
    /// Starts a part in a new file of that name, which lies at `path`.
    ///
    /// # Errors
    /// Parquet has no such columns.
    pub(super) fn new(upload: Box<dyn Upload>, file: String, path: PathBuf, schema: SchemaRef) -> Result<Self> {
        let sink = Hashing {
            file: BufWriter::with_capacity(1 << 20, upload),
            hasher: blake3::Hasher::new(),
            block: blake3::Hasher::new(),
            block_bytes: block_bytes(&schema),
            blocks: Vec::new(),
            bytes: 0,
        };
        let writer = ArrowWriter::try_new(sink, schema.clone(), Some(properties_of_part(&schema)))
            .with_context(|| format!("cannot write the part {}", path.display()))?;
        Ok(Self { file, path, schema, writer: Some(writer), digest: TableDigest::default(), ids: None })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// They have another schema, or the disk says no.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        // The declared schema is the table's: metadata that the engine lost on the way is put back.
        let batch = RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec())
            .with_context(|| format!("rows do not fit the table's schema ({})", self.path.display()))?;
        self.digest.add(&TableDigest::of(&batch)?);
        if let Ok(ids) = text(&batch, IMAGE_ID) {
            for id in (0..ids.len()).map(|row| ids.value(row)) {
                match &mut self.ids {
                    None => self.ids = Some((id.to_owned(), id.to_owned())),
                    Some((low, _)) if id < low.as_str() => *low = id.to_owned(),
                    Some((_, high)) if id > high.as_str() => *high = id.to_owned(),
                    Some(_) => {}
                }
            }
        }
        let bytes = batch.get_array_memory_size();
        let writer = self.writer.as_mut().context("the part is finished already")?;
        let mut write = || {
            writer.write(&batch)?;
            if writer.in_progress_size() > ROW_GROUP_BYTES { writer.flush() } else { Ok(()) }
        };
        write().map_err(plain).with_context(|| format!("cannot write {bytes} bytes of rows to {}", self.path.display()))?;
        Ok(())
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.digest.rows
    }

    /// Closes the file and waits for the disk.
    ///
    /// # Errors
    /// The disk says no.
    pub fn finish(mut self) -> Result<WrittenPart> {
        let writer = self.writer.take().context("the part is finished already")?;
        let close = || -> Result<Hashed> {
            let mut sink = writer.into_inner().map_err(plain)?;
            if !sink.bytes.is_multiple_of(sink.block_bytes) {
                sink.close_block();
            }
            let upload = sink.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            upload.finish()?;
            let block_bytes = NonZeroU64::new(sink.block_bytes).filter(|bytes| bytes.get() != BLOCK_BYTES);
            Ok(Hashed { checksum: sink.hasher.finalize(), block_bytes, blocks: sink.blocks, bytes: sink.bytes })
        };
        let Hashed { checksum, block_bytes, blocks, bytes } =
            close().with_context(|| format!("cannot finish the part {}", self.path.display()))?;
        let (checksum, digest) = (checksum.to_hex().to_string(), std::mem::take(&mut self.digest));
        Ok(WrittenPart { file: self.file, checksum, block_bytes, blocks, bytes, digest, ids: self.ids })
    }
}

/// What is known of a file that was written.
struct Hashed {
    checksum: blake3::Hash,
    block_bytes: Option<NonZeroU64>,
    blocks: Vec<String>,
    bytes: u64,
}

impl WrittenPart {
    /// Its entry in a manifest.
    pub fn entry(self, key: &str, recipe: &str, made_from: Vec<String>, dropped: Vec<DroppedRow>) -> Part {
        Part {
            file: self.file,
            key: key.to_owned(),
            rows: self.digest.rows,
            bytes: self.bytes,
            checksum: self.checksum,
            block_bytes: self.block_bytes,
            blocks: self.blocks,
            digests: self.digest.columns.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect(),
            ids: self.ids,
            recipe: recipe.to_owned(),
            made_from,
            dropped,
            gone: Vec::new(),
        }
    }
}

/// A refusal without Parquet's word for it.
fn plain(error: ParquetError) -> anyhow::Error {
    match error {
        ParquetError::External(inner) => anyhow!("{inner}"),
        other => other.into(),
    }
}

/// Reads a part's rows, without those of its file that are gone.
///
/// # Errors
/// The file is no Parquet, or damaged.
pub(crate) fn rows(reader: PartReader) -> Result<ParquetRecordBatchReaderBuilder<PartReader>> {
    let selection = reader.part().selection();
    let builder = ParquetRecordBatchReaderBuilder::try_new(reader)?;
    Ok(match selection {
        Some(selection) => builder.with_row_selection(selection),
        None => builder,
    })
}

/// A part's rows, in order.
pub(super) fn read(reader: PartReader) -> Result<RecordBatch> {
    collect(rows(reader)?)
}

/// Reads some columns of a part, those of them that it has.
pub(super) fn read_columns(reader: PartReader, columns: &[&str]) -> Result<RecordBatch> {
    let builder = rows(reader)?;
    let roots = builder.schema().fields().iter().enumerate().filter(|(_, field)| columns.contains(&field.name().as_str()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|(at, _)| at));
    collect(builder.with_projection(mask))
}

pub(super) fn collect(builder: ParquetRecordBatchReaderBuilder<PartReader>) -> Result<RecordBatch> {
    let reader = builder.build()?;
    let schema = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// The schema of a part's file.
pub(super) fn schema(reader: PartReader) -> Result<SchemaRef> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(reader)?.schema().clone())
}

/// Whether a column's values are vectors, pixels or files: they do not compress, and are most of a row.
fn is_wide(kind: &DataType) -> bool {
    matches!(kind, DataType::FixedSizeList(..) | DataType::LargeBinary | DataType::Binary)
}

/// Bytes of a file that have a hash of their own.
fn block_bytes(schema: &SchemaRef) -> u64 {
    let is_wide = schema.fields().iter().any(|field| is_wide(field.data_type()));
    if is_wide { BLOCK_BYTES } else { NARROW_BLOCK_BYTES }
}

/// Whether Parquet, which knows no smaller number than four bytes, would store a number at several times its size.
fn is_small(kind: &DataType) -> bool {
    matches!(kind, DataType::Int8 | DataType::UInt8 | DataType::Int16 | DataType::UInt16)
}

/// zstd for text and numbers; what is wide as it is, to be read at memory's speed. Pixels are stored by their differences, in as many bits
/// as these need: of photographs 0.93 bytes a value, which are read half as fast again as the four bytes of a plain one.
pub(crate) fn properties(schema: &SchemaRef) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("tessera ", env!("CARGO_PKG_VERSION")).to_owned());
    for field in schema.fields() {
        let leaf = match field.data_type() {
            DataType::FixedSizeList(item, _) => vec![field.name().clone(), "list".into(), item.name().clone()],
            kind if is_wide(kind) => vec![field.name().clone()],
            _ => continue,
        };
        let column = ColumnPath::new(leaf);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_statistics_enabled(column.clone(), EnabledStatistics::None);
        builder = match field.data_type() {
            DataType::FixedSizeList(item, _) if is_small(item.data_type()) => {
                builder.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
            }
            _ => builder.set_column_compression(column, Compression::UNCOMPRESSED),
        };
    }
    builder.build()
}

/// How a part is written. Each id comes once, so that a dictionary of ids would hold all of them and a number for each; but an id
/// begins as the one before it does.
fn properties_of_part(schema: &SchemaRef) -> WriterProperties {
    let properties = properties(schema);
    if !schema.field_with_name(IMAGE_ID).is_ok_and(|field| field.data_type() == &DataType::Utf8) {
        return properties;
    }
    let id = ColumnPath::new(vec![IMAGE_ID.to_owned()]);
    let builder = properties.into_builder().set_column_dictionary_enabled(id.clone(), false);
    builder.set_column_encoding(id, Encoding::DELTA_BYTE_ARRAY).build()
}
