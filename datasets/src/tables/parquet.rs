//! Parquet: the footer, then a row group at a time.

use std::io::Seek as _;
use std::io::SeekFrom;
use std::ops::Range;

use arrow::array::ArrayRef;
use bytes::{Buf as _, Bytes, buf};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::raw::{Raw, Stream};
use super::rows::{ALL, both};
use super::{Batches, Header};
use crate::Error;

mod checksums;

pub(crate) use checksums::check as check_pages;

/// Bytes of a column that the search for its first rows begins with.
const FIRST_BYTES: u64 = 1 << 20;
/// Bytes that the rows of a batch have, by what their row group claims: texts and bytes may be long.
const LONG_BATCH_BYTES: usize = 128 << 20;

/// Columns and number of rows.
pub fn header(raw: Raw<'_>) -> Result<Header, Error> {
    let footer = footer(raw)?;
    let rows = rows(raw, &footer)?;
    Ok(Header::new(footer.schema().clone(), Some(rows)))
}

/// Some rows. Holds one row group's bytes at a time, of those that have some of the rows, and checks those that have checksums.
pub fn batches(raw: Raw<'_>, rows: usize, range: Range<u64>) -> Result<Batches<'_>, Error> {
    let footer = footer(raw)?;
    self::rows(raw, &footer)?;
    let mut next = 0_u64;
    let group = |(number, group): (usize, &RowGroupMetaData)| {
        let here = next..next.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
        next = here.end;
        let part = both(&here, &range);
        (!part.is_empty() || range == ALL).then(|| (number, part.start - here.start..part.end - here.start))
    };
    let groups: Vec<(usize, Range<u64>)> = footer.metadata().row_groups().iter().enumerate().filter_map(group).collect();
    Ok(Box::new(groups.into_iter().flat_map(move |(group, within)| -> Batches<'_> {
        let part = Part { raw, footer: &footer, group, mask: ProjectionMask::all() };
        let window = part.window(u64::MAX).and_then(|window| part.check(&window).map(|()| window));
        match window.and_then(|window| part.reader(window, part.most(rows), within.clone())) {
            Ok(reader) => counted(raw, reader, group, part.rows(), within),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    })))
}

/// Batches of a row group, which should have the rows that were asked for and no others.
fn counted<'a>(
    raw: Raw<'a>,
    reader: ParquetRecordBatchReader,
    group: usize,
    promised: u64,
    within: Range<u64>,
) -> Batches<'a> {
    let asked = within.end.saturating_sub(within.start);
    let (mut reader, mut found, mut is_over) = (reader.fuse(), 0_u64, false);
    Box::new(std::iter::from_fn(move || match reader.next() {
        Some(batch) => {
            is_over |= batch.is_err();
            found += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            Some(batch.map_err(|error| raw.error(error)))
        }
        None if std::mem::replace(&mut is_over, true) || found == asked => None,
        None if asked == promised => {
            Some(Err(raw.error(format!("row group {group} has {found} rows, and claims {promised}"))))
        }
        None => Some(Err(raw.error(format!("row group {group} claims {promised} rows, and lacks some of them")))),
    }))
}

/// The first rows of a column, at most `rows`; `None` if the file has no rows. Reads little more than their pages.
pub fn first(raw: Raw<'_>, column: usize, rows: usize) -> Result<Option<ArrayRef>, Error> {
    let footer = footer(raw)?;
    let groups = footer.metadata().row_groups();
    let Some(group) = groups.iter().position(|group| group.num_rows() > 0) else { return Ok(None) };
    let mask = ProjectionMask::roots(footer.parquet_schema(), [column]);
    let part = Part { raw, footer: &footer, group, mask };
    let mut limit = FIRST_BYTES;
    loop {
        let window = part.window(limit)?;
        let whole = window.whole;
        part.check(&window)?;
        let batch = part
            .reader(window, rows, 0..part.rows())
            .and_then(|mut reader| reader.next().transpose().map_err(|error| raw.error(error)));
        match batch {
            Ok(batch) => return Ok(batch.map(|batch| batch.column(0).clone())),
            Err(error) if whole => return Err(error),
            // The first rows end beyond the window.
            Err(_) => limit = limit.saturating_mul(8),
        }
    }
}

/// How many rows a file has, by its footer.
///
/// # Errors
/// The footer contradicts itself.
pub(crate) fn rows(raw: Raw<'_>, footer: &ArrowReaderMetadata) -> Result<u64, Error> {
    let all = footer.metadata().file_metadata().num_rows();
    let groups = footer.metadata().row_groups();
    let sum =
        groups.iter().try_fold(0_i64, |sum, group| sum.checked_add(group.num_rows()).filter(|_| group.num_rows() >= 0));
    match u64::try_from(all) {
        Ok(rows) if sum == Some(all) => Ok(rows),
        _ => {
            let groups: Vec<String> = groups.iter().map(|group| group.num_rows().to_string()).collect();
            Err(raw.error(format!("its footer promises {all} rows, and its row groups {}", groups.join(" + "))))
        }
    }
}

fn footer(raw: Raw<'_>) -> Result<ArrowReaderMetadata, Error> {
    ArrowReaderMetadata::load(&raw, ArrowReaderOptions::new()).map_err(|error| raw.error(error))
}

impl Length for Raw<'_> {
    fn len(&self) -> u64 {
        self.size
    }
}

impl<'a> ChunkReader for Raw<'a> {
    type T = Stream<'a>;

    fn get_read(&self, start: u64) -> ParquetResult<Stream<'a>> {
        let mut stream = self.stream();
        stream.seek(SeekFrom::Start(start))?;
        Ok(stream)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.read(start, length as u64).map(Bytes::from).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Some columns of a row group.
struct Part<'a> {
    raw: Raw<'a>,
    footer: &'a ArrowReaderMetadata,
    group: usize,
    mask: ProjectionMask,
}

impl Part<'_> {
    /// The bytes from the first of the columns' to the last, or as many of them as the limit allows.
    fn window(&self, limit: u64) -> Result<Window, Error> {
        let mut span: Option<(u64, u64)> = None;
        for (leaf, chunk) in self.footer.metadata().row_group(self.group).columns().iter().enumerate() {
            if !self.mask.leaf_included(leaf) {
                continue;
            }
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            let range = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let range = range.and_then(|(start, length)| Some((start, start.checked_add(length)?)));
            let (start, end) = range.ok_or_else(|| {
                self.raw.error(format!("its footer says that column {leaf} of row group {} lies nowhere", self.group))
            })?;
            span = Some(span.map_or((start, end), |(first, last)| (first.min(start), last.max(end))));
        }
        let (start, end) = span.unwrap_or_default();
        let length = (end - start).min(limit);
        let bytes = self.raw.read(start, length)?;
        Ok(Window { start, bytes: bytes.into(), file_bytes: self.raw.size, whole: length == end - start })
    }

    /// The number of rows to read at once: `rows`, or fewer where they are long.
    fn most(&self, rows: usize) -> usize {
        let group = self.footer.metadata().row_group(self.group);
        let row = group.total_byte_size().max(0) / group.num_rows().max(1);
        rows.min(LONG_BATCH_BYTES / usize::try_from(row).unwrap_or(usize::MAX).max(1)).max(1)
    }

    /// Holds the pages against what their headers claim.
    fn check(&self, window: &Window) -> Result<(), Error> {
        let group = self.footer.metadata().row_group(self.group);
        let chunks = group.columns().iter().enumerate().filter(|(leaf, _)| self.mask.leaf_included(*leaf));
        for (_, chunk) in chunks {
            // The window was made of these numbers.
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset()) as u64;
            let bytes = window.from(start).map_err(|error| self.raw.error(error))?;
            let bytes = &bytes[..bytes.len().min(chunk.compressed_size() as usize)];
            checksums::check(bytes).map_err(|(page, what)| {
                let (name, group, page) = (chunk.column_path(), self.group, start + page as u64);
                self.raw.error(format!("is damaged: column {name}, row group {group}: the page at byte {page} {what}"))
            })?;
        }
        Ok(())
    }

    /// How many rows the group claims.
    fn rows(&self) -> u64 {
        u64::try_from(self.footer.metadata().row_group(self.group).num_rows()).unwrap_or(0)
    }

    /// Some rows of the group. All of them are as many as there are, whatever it claims.
    fn reader(&self, window: Window, rows: usize, within: Range<u64>) -> Result<ParquetRecordBatchReader, Error> {
        let number = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, self.footer.clone())
            .with_row_groups(vec![self.group])
            .with_projection(self.mask.clone())
            .with_batch_size(rows);
        if within.start > 0 {
            builder = builder.with_offset(number(within.start));
        }
        if within.end < self.rows() {
            builder = builder.with_limit(number(within.end - within.start));
        }
        builder.build().map_err(|error| self.raw.error(error))
    }
}

/// A stretch of a file, addressed as the file is.
struct Window {
    start: u64,
    bytes: Bytes,
    file_bytes: u64,
    whole: bool,
}

impl Window {
    fn from(&self, start: u64) -> ParquetResult<Bytes> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok()).filter(|&at| at <= self.bytes.len());
        let at = at.ok_or_else(|| ParquetError::EOF(format!("byte {start} is outside its row group")))?;
        Ok(self.bytes.slice(at..))
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.file_bytes
    }
}

impl ChunkReader for Window {
    type T = buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let rest = self.from(start)?;
        if rest.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes from byte {start} on leave their row group")));
        }
        Ok(rest.slice(..length))
    }
}
