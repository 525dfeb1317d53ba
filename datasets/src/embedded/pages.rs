//! Parquet page by page: a row group of images may be larger than memory.

use std::collections::VecDeque;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use bytes::{Buf as _, Bytes, buf};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::kind::{Batch, Encoded, until_one_fails};
use crate::tables::raw::{Raw, Stream};
use crate::tables::{check_pages, guard, parquet_rows};
use crate::{Error, Files};

/// Bytes that are read ahead for a page's header.
const HEADER_BYTES: usize = 4 << 10;

/// A file whose footer was read, and its column of images.
pub(super) struct Reader<'a> {
    raw: Raw<'a>,
    footer: ArrowReaderMetadata,
}

impl<'a> Reader<'a> {
    /// Reads the footer.
    ///
    /// # Errors
    /// It is no Parquet file, or cannot be read.
    pub(super) fn open(files: &'a dyn Files, path: &'a Path, size: u64) -> Result<Self, Error> {
        let raw = Raw { files, path, size };
        let footer = guard(raw, || {
            let loaded = ArrowReaderMetadata::load(&raw, ArrowReaderOptions::new());
            let footer = loaded.map_err(|error| raw.error(error))?;
            parquet_rows(raw, &footer).map(|_| footer)
        })?;
        Ok(Self { raw, footer })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        self.footer.schema()
    }

    /// How many rows the footer promises.
    pub(super) fn rows(&self) -> u64 {
        u64::try_from(self.footer.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// The leaf with the images' bytes.
    fn leaf(&self, column: &str) -> Result<usize, Error> {
        let columns = self.footer.parquet_schema().columns();
        let is_it = |parts: &[String]| match parts {
            [only] => only == column,
            [first, second] => first == column && second == super::columns::BYTES,
            _ => false,
        };
        let found = columns.iter().position(|leaf| is_it(leaf.path().parts()));
        let leaf = found.ok_or_else(|| self.raw.error(format!("has no column `{column}` of images")))?;
        let kind = columns[leaf].physical_type();
        if kind != parquet::basic::Type::BYTE_ARRAY || columns[leaf].max_rep_level() > 0 {
            return Err(self.raw.error(format!("its column `{column}` should be one image a row, and is {kind}")));
        }
        Ok(leaf)
    }

    /// The images of a row group.
    fn images(&self, group: usize, leaf: usize) -> Result<Images<'a>, Error> {
        let metadata = self.footer.metadata().row_group(group);
        let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(Arc::new(Pages(self.raw)), metadata.column(leaf), rows, None);
        let pages = pages.map_err(|error| self.raw.error(error))?;
        let descriptor = self.footer.parquet_schema().column(leaf);
        let most = descriptor.max_def_level();
        let queue = Queue::default();
        let reader = get_typed_column_reader(get_column_reader(descriptor, Box::new(queue.clone())));
        Ok(Images { raw: self.raw, pages, queue, buffered: 0, reader, most, rows })
    }

    /// All rows, some at a time.
    pub(super) fn all(self, column: &str, rows: usize) -> Result<impl Iterator<Item = Result<Batch, Error>> + 'a, Error> {
        let leaf = self.leaf(column)?;
        let (raw, groups) = (self.raw, self.footer.metadata().num_row_groups());
        let mut group = 0;
        let mut open: Option<(ParquetRecordBatchReader, Images<'a>)> = None;
        let next = move || -> Result<Option<Batch>, Error> {
            loop {
                if let Some((others, images)) = &mut open {
                    if let Some(batch) = others.next() {
                        let others = batch.map_err(|error| raw.error(error))?;
                        let found = images.read(others.num_rows())?.into_iter();
                        let found = found.map(|bytes| bytes.map(|bytes| Encoded { bytes, offset: None }));
                        return Ok(Some(Batch { others, images: found.collect() }));
                    }
                    open = None;
                }
                if group == groups {
                    return Ok(None);
                }
                open = Some((self.others(group, leaf, rows)?, self.images(group, leaf)?));
                group += 1;
            }
        };
        Ok(until_one_fails(raw, next))
    }

    /// All columns of a row group but one.
    fn others(&self, group: usize, leaf: usize, rows: usize) -> Result<ParquetRecordBatchReader, Error> {
        let metadata = self.footer.metadata().row_group(group);
        let leaves: Vec<usize> = (0..metadata.num_columns()).filter(|&at| at != leaf).collect();
        let mut chunks = Chunks { chunks: Vec::new(), file_bytes: self.raw.size };
        for &at in &leaves {
            let (start, length) = metadata.column(at).byte_range();
            let bytes = self.raw.read(start, length)?;
            check_pages(&bytes).map_err(|(page, what)| {
                let (name, page) = (metadata.column(at).column_path(), start + page as u64);
                self.raw.error(format!("is damaged: column {name}, row group {group}: the page at byte {page} {what}"))
            })?;
            chunks.chunks.push((start, bytes.into()));
        }
        let mask = ProjectionMask::leaves(self.footer.parquet_schema(), leaves);
        ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, self.footer.clone())
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(rows)
            .build()
            .map_err(|error| self.raw.error(error))
    }
}

/// The images of some rows of a file, which are sorted; a row may come several times.
///
/// # Errors
/// The file cannot be read, or has no such row.
pub(super) fn rows(files: &dyn Files, path: &Path, column: &str, rows: &[u64]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let size = files.list(path)?.files.first().map_or(0, |entry| entry.size);
    let reader = Reader::open(files, path, size)?;
    let leaf = reader.leaf(column)?;
    guard(reader.raw, || {
        let mut found: Vec<Option<Vec<u8>>> = Vec::with_capacity(rows.len());
        let (mut start, mut rest) = (0, rows);
        for group in 0..reader.footer.metadata().num_row_groups() {
            let end = start + u64::try_from(reader.footer.metadata().row_group(group).num_rows()).unwrap_or(0);
            let here = rest.partition_point(|row| *row < end);
            if here > 0 {
                let mut images = reader.images(group, leaf)?;
                let mut last = None;
                for &row in &rest[..here] {
                    if last != Some(row) {
                        images.skip(row - last.map_or(start, |last: u64| last + 1))?;
                        found.push(images.read(1)?.pop().flatten().map(|bytes| bytes.data().to_vec()));
                        last = Some(row);
                    } else {
                        found.push(found.last().cloned().flatten());
                    }
                }
                rest = &rest[here..];
            }
            start = end;
        }
        match rest.first() {
            Some(row) => Err(reader.raw.error(format!("has no row {row} any more"))),
            None => Ok(found),
        }
    })
}

/// The images of a row group, from one on.
struct Images<'a> {
    raw: Raw<'a>,
    pages: SerializedPageReader<Pages<'a>>,
    queue: Queue,
    /// Rows of pages that were handed to the reader, and are not read yet.
    buffered: usize,
    reader: ColumnReaderImpl<ByteArrayType>,
    /// The definition level of a row that has an image.
    most: i16,
    rows: usize,
}

impl Images<'_> {
    /// The next ones.
    fn read(&mut self, count: usize) -> Result<Vec<Option<ByteArray>>, Error> {
        self.fill(count)?;
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let definitions = (self.most > 0).then_some(&mut levels);
        let read = self.reader.read_records(count, definitions, None, &mut values);
        let (records, ..) = read.map_err(|error| self.raw.error(error))?;
        if records != count {
            return Err(self.short());
        }
        self.buffered -= count;
        if self.most == 0 {
            return Ok(values.into_iter().map(Some).collect());
        }
        let mut values = values.into_iter();
        Ok(levels.iter().map(|level| if *level == self.most { values.next() } else { None }).collect())
    }

    /// Passes over some. Pages that hold no others are not read.
    fn skip(&mut self, count: u64) -> Result<(), Error> {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        let here = left.min(self.buffered);
        self.pass(here)?;
        left -= here;
        while left > 0 {
            let page = self.pages.peek_next_page().map_err(|error| self.raw.error(error))?;
            let page = page.ok_or_else(|| self.short())?;
            match page.num_rows.or(page.num_levels).filter(|_| !page.is_dict) {
                Some(rows) if rows <= left => {
                    self.pages.skip_next_page().map_err(|error| self.raw.error(error))?;
                    left -= rows;
                }
                _ if page.is_dict => self.queue_next()?,
                _ => break,
            }
        }
        self.fill(left)?;
        self.pass(left)
    }

    /// Passes over some whose pages were handed to the reader.
    fn pass(&mut self, count: usize) -> Result<(), Error> {
        if count > 0 {
            let skipped = self.reader.skip_records(count).map_err(|error| self.raw.error(error))?;
            if skipped != count {
                return Err(self.short());
            }
            self.buffered -= count;
        }
        Ok(())
    }

    /// Hands pages to the reader until they have as many rows.
    fn fill(&mut self, count: usize) -> Result<(), Error> {
        while self.buffered < count {
            self.queue_next()?;
        }
        Ok(())
    }

    fn queue_next(&mut self) -> Result<(), Error> {
        let page = self.pages.get_next_page().map_err(|error| self.raw.error(error))?;
        let page = page.ok_or_else(|| self.short())?;
        match &page {
            // Room is made for all of them, and each has a byte at least.
            Page::DictionaryPage { buf, num_values, .. } if *num_values as usize > buf.len() => {
                let bytes = buf.len();
                return Err(self.raw.error(format!("is damaged: {num_values} values of a dictionary have {bytes} bytes")));
            }
            Page::DictionaryPage { .. } => {}
            page => self.buffered += page.num_values() as usize,
        }
        self.queue.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(page);
        Ok(())
    }

    fn short(&self) -> Error {
        self.raw.error(format!("a row group has fewer images than its {} rows", self.rows))
    }
}

/// Pages on their way to the reader, which may borrow nothing.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<Page>>>);

impl Iterator for Queue {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Queue {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front())
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(pages.front().map(|page| {
            let is_dict = matches!(page, Page::DictionaryPage { .. });
            let rows = (!is_dict).then(|| page.num_values() as usize);
            PageMetadata { num_rows: rows, num_levels: rows, is_dict }
        }))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.get_next_page().map(drop)
    }
}

/// A file as its library reads pages of it.
#[derive(Clone, Copy)]
struct Pages<'a>(Raw<'a>);

impl Length for Pages<'_> {
    fn len(&self) -> u64 {
        self.0.size
    }
}

impl<'a> ChunkReader for Pages<'a> {
    type T = BufReader<Stream<'a>>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let mut stream = self.0.stream();
        stream.seek(SeekFrom::Start(start))?;
        Ok(BufReader::with_capacity(HEADER_BYTES, stream))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.read(start, length as u64).map(Bytes::from).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Some column chunks of a file, addressed as the file is.
struct Chunks {
    chunks: Vec<(u64, Bytes)>,
    file_bytes: u64,
}

impl Chunks {
    fn from(&self, start: u64) -> ParquetResult<Bytes> {
        let found = self.chunks.iter().find_map(|(first, bytes)| {
            let at = usize::try_from(start.checked_sub(*first)?).ok()?;
            (at < bytes.len()).then(|| bytes.slice(at..))
        });
        found.ok_or_else(|| ParquetError::EOF(format!("byte {start} is in no column that is read")))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file_bytes
    }
}

impl ChunkReader for Chunks {
    type T = buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let rest = self.from(start)?;
        if rest.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes from byte {start} on leave their column")));
        }
        Ok(rest.slice(..length))
    }
}
