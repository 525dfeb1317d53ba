//! Writing a part: Parquet, its digests, its checksum, all in one pass.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use arrow::array::{Array, RecordBatch, RecordBatchReader as _};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tessera_schemas::digest::TableDigest;
use tessera_schemas::{IMAGE_ID, text};

use super::disk::{Output, sync_dir};
use super::manifest::{DroppedRow, Part};

/// Bytes of a row group: readers hold at least one.
pub(crate) const ROW_GROUP_BYTES: usize = 64 << 20;

/// Writes one part. Dropped before [`finish`](Self::finish), it leaves nothing behind.
pub struct PartWriter {
    path: PathBuf,
    schema: SchemaRef,
    writer: Option<ArrowWriter<Hashing>>,
    digest: TableDigest,
    ids: Option<(String, String)>,
}

/// What was written.
pub struct WrittenPart {
    path: PathBuf,
    checksum: String,
    bytes: u64,
    digest: TableDigest,
    ids: Option<(String, String)>,
}

/// Hashes what goes by.
struct Hashing {
    file: BufWriter<Output>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl PartWriter {
    /// Starts a part at a path that [`new_part`](super::StageStore::new_part) gave.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(path: PathBuf, schema: SchemaRef) -> Result<Self> {
        let file = Output::create(&path)?;
        let sink = Hashing { file: BufWriter::with_capacity(1 << 20, file), hasher: blake3::Hasher::new(), bytes: 0 };
        let writer = ArrowWriter::try_new(sink, schema.clone(), Some(properties(&schema)))
            .with_context(|| format!("cannot write the part {}", path.display()))?;
        Ok(Self { path, schema, writer: Some(writer), digest: TableDigest::default(), ids: None })
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
        let path = std::mem::take(&mut self.path);
        let close = || -> Result<(blake3::Hash, u64)> {
            let sink = writer.into_inner().map_err(plain)?;
            let bytes = sink.bytes;
            let file = sink.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync()?;
            sync_dir(&path)?;
            Ok((sink.hasher.finalize(), bytes))
        };
        match close() {
            Ok((hash, bytes)) => Ok(WrittenPart {
                path,
                checksum: hash.to_hex().to_string(),
                bytes,
                digest: std::mem::take(&mut self.digest),
                ids: self.ids.take(),
            }),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error.context(format!("cannot finish the part {}", path.display())))
            }
        }
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl WrittenPart {
    /// Its entry in a manifest.
    pub fn entry(self, key: &str, recipe: &str, made_from: Vec<String>, dropped: Vec<DroppedRow>) -> Part {
        Part {
            file: self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            key: key.to_owned(),
            rows: self.digest.rows,
            bytes: self.bytes,
            checksum: self.checksum,
            digests: self.digest.columns.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect(),
            ids: self.ids,
            recipe: recipe.to_owned(),
            made_from,
            dropped,
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

/// A part's rows, whole and in order, from its file's bytes.
pub(super) fn decode(bytes: Bytes) -> Result<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let schema = reader.schema().clone();
    let batches = reader.build()?.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// The same of some columns; of those that it has.
pub(super) fn decode_columns(bytes: Bytes, columns: &[&str]) -> Result<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let roots = reader.schema().fields().iter().enumerate().filter(|(_, field)| columns.contains(&field.name().as_str()));
    let mask = ProjectionMask::roots(reader.parquet_schema(), roots.map(|(at, _)| at));
    let reader = reader.with_projection(mask).build()?;
    let schema = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// The schema of a part's file.
pub(super) fn schema(path: &Path) -> Result<SchemaRef> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path)?)?.schema().clone())
}

/// zstd for text and numbers; vectors, pixels and weights as they are: they do not compress, and are read at memory's speed.
pub(crate) fn properties(schema: &SchemaRef) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("tessera ", env!("CARGO_PKG_VERSION")).to_owned());
    for field in schema.fields() {
        let leaf = match field.data_type() {
            DataType::FixedSizeList(item, _) => vec![field.name().clone(), "list".into(), item.name().clone()],
            DataType::LargeBinary | DataType::Binary => vec![field.name().clone()],
            _ => continue,
        };
        let column = ColumnPath::new(leaf);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(column, EnabledStatistics::None);
    }
    builder.build()
}
