//! Arrow files of images, batch by batch: their heads say where everything lies, and of the bodies the images' bytes are read in pieces.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch, StringArray, StructArray};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow_ipc::Block;
use arrow_ipc::reader::FileDecoder;

use super::columns::{BYTES, PATH};
use super::kind::{Batch, Encoded, until_one_fails};
use super::leaf::{Buffers, Leaf, Validity, Value, Walk};
use crate::tables::guard;
use crate::tables::ipc::index::{Index, Place};
use crate::tables::ipc::{lengths, message};
use crate::tables::raw::Raw;
use crate::{Error, Files, Read};

/// Bytes of images that are held together, unless one has more: views and packed buffers may stand for any number.
const MOST_TOGETHER: usize = 256 << 20;
/// How many times its bytes the buffers of a batch may have: they lie side by side, but for one that stands for several.
const MOST_SHARED: u64 = 4;
/// Where buffers begin in memory.
const ALIGNED: usize = 64;

/// A file whose heads were read.
pub(super) struct Reader<'a> {
    raw: Raw<'a>,
    index: Index,
}

/// The images of a batch.
struct Images<'a> {
    /// Which rows of the struct have a value, where the images are in one.
    outer: Option<Validity>,
    bytes: Leaf<'a>,
    path: Option<Leaf<'a>>,
    /// Which of the batch's buffers are theirs.
    buffers: std::ops::Range<usize>,
}

impl Images<'_> {
    fn read(&mut self, row: u64) -> Result<Option<Value>, Error> {
        if self.outer.as_ref().is_some_and(|outer| !outer.is_valid(row)) {
            return Ok(None);
        }
        self.bytes.read(row)
    }
}

impl<'a> Reader<'a> {
    /// Reads the heads.
    ///
    /// # Errors It is not an Arrow file, or cannot be read.
    pub(super) fn open(files: &'a dyn Files, path: &'a Path, size: u64) -> Result<Self, Error> {
        let raw = Raw { files, path, size };
        Ok(Self { raw, index: guard(raw, || Index::of(raw))? })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.index.schema
    }

    /// How many rows its batches have.
    pub(super) fn rows(&self) -> u64 {
        self.index.rows()
    }

    /// Why it is over before its end, if it is.
    pub(super) fn cut(&self) -> Option<&str> {
        self.index.cut.as_deref()
    }

    /// A message's head.
    fn head(&self, place: &Place) -> Result<Vec<u8>, Error> {
        self.raw.read(place.at, place.head)
    }

    /// The buffers of a batch, and its images.
    fn images(&self, place: &Place, head: &[u8], column: &str) -> Result<(Buffers, Images<'a>), Error> {
        let raw = self.raw;
        let wrong = |message: String| raw.error(message);
        let batch =
            message(raw, head)?.header_as_record_batch().ok_or_else(|| wrong("a block of it holds no batch".into()))?;
        let buffers = Buffers::of(&batch, place).map_err(wrong)?;
        let (at, field) =
            self.schema().column_with_name(column).ok_or_else(|| wrong(format!("has no column `{column}`")))?;
        let mut walk = Walk::new(self.index.version);
        self.schema().fields()[..at].iter().for_each(|field| walk.pass(&buffers, field.data_type()));
        let first = walk.buffers;
        let (outer, bytes, path) = match field.data_type() {
            DataType::Struct(fields) => {
                let outer = walk.validity(&buffers, raw)?;
                let (mut bytes, mut path) = (None, None);
                for field in fields {
                    match field.name().as_str() {
                        BYTES => bytes = Some(walk.leaf(&buffers, raw, field.data_type())?),
                        PATH if field.data_type().is_string() => path = Some(walk.leaf(&buffers, raw, field.data_type())?),
                        _ => walk.pass(&buffers, field.data_type()),
                    }
                }
                (Some(outer), bytes.ok_or_else(|| wrong(format!("its column `{column}` has no field `{BYTES}`")))?, path)
            }
            kind => (None, walk.leaf(&buffers, raw, kind)?, None),
        };
        let images = Images { outer, bytes, path, buffers: first..walk.buffers };
        Ok((buffers, images))
    }

    /// All columns of a batch but that of the images; they are read as a whole.
    fn others(
        &self,
        place: &Place,
        mut head: Vec<u8>,
        buffers: &Buffers,
        left_out: &std::ops::Range<usize>,
        decoder: &FileDecoder,
    ) -> Result<RecordBatch, Error> {
        let raw = self.raw;
        let kept = |(number, _): &(usize, &super::leaf::Span)| !left_out.contains(number);
        let all = buffers.spans().iter().enumerate().filter(kept);
        let all = all.fold(0_u64, |all, (_, span)| all.saturating_add(span.length));
        if all > place.body.saturating_mul(MOST_SHARED) {
            let (at, body) = (place.at, place.body);
            return Err(raw.error(format!("the buffers of the batch at byte {at} have {all} bytes, and it has {body}")));
        }
        let reads: Vec<Read> = buffers
            .spans()
            .iter()
            .enumerate()
            .filter(kept)
            .filter(|(_, span)| span.length > 0)
            .map(|(_, span)| Read { path: raw.path.to_owned(), range: Some((span.at, span.length)) })
            .collect();
        let mut found = raw.files.read_each(&reads).into_iter();
        // A body of these buffers alone, and the head with their places in it.
        let (mut body, mut places) = (Vec::new(), Vec::with_capacity(buffers.spans().len()));
        for (number, span) in buffers.spans().iter().enumerate() {
            if left_out.contains(&number) || span.length == 0 {
                places.push((0_u64, 0_u64));
                continue;
            }
            let bytes = found.next().ok_or_else(|| raw.error("fewer buffers were read than were asked for"))??;
            body.resize(body.len().next_multiple_of(ALIGNED), 0);
            places.push((body.len() as u64, bytes.len() as u64));
            body.extend(bytes);
        }
        let start = {
            let message = message(raw, &head)?;
            let batch = message.header_as_record_batch().ok_or_else(|| raw.error("a block of it holds no batch"))?;
            let table = batch.buffers().map_or(&[][..], |buffers| buffers.bytes());
            // The list of buffers is a part of the head.
            (table.as_ptr() as usize).checked_sub(head.as_ptr() as usize).filter(|start| start + table.len() <= head.len())
        };
        if let Some(start) = start {
            for (slot, (offset, length)) in head[start..].as_chunks_mut::<16>().0.iter_mut().zip(&places) {
                slot[..8].copy_from_slice(&offset.to_le_bytes());
                slot[8..].copy_from_slice(&length.to_le_bytes());
            }
        }
        lengths::check(&message(raw, &head)?, &body).map_err(|message| raw.error(message))?;
        let block = Block::new(0, place.head as i32, body.len() as i64);
        head.extend(body);
        let batch = decoder.read_record_batch(&block, &Buffer::from_vec(head)).map_err(|error| raw.error(error))?;
        batch.ok_or_else(|| raw.error("a block of it holds no batch"))
    }

    /// All rows, some at a time.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub(super) fn all(self, column: &str, rows: usize) -> Result<impl Iterator<Item = Result<Batch, Error>> + 'a, Error> {
        let raw = self.raw;
        let (at, _) =
            self.schema().column_with_name(column).ok_or_else(|| raw.error(format!("has no column `{column}`")))?;
        let others = (0..self.schema().fields().len()).filter(|other| *other != at).collect();
        let mut decoder = FileDecoder::new(self.schema().clone(), self.index.version).with_projection(others);
        let mut left: VecDeque<Place> = self.index.messages.iter().copied().collect();
        let (mut open, column) = (None::<(RecordBatch, Images<'a>, u64)>, column.to_owned());
        let next = move || -> Result<Option<Batch>, Error> {
            loop {
                if let Some((others, images, row)) = &mut open {
                    let end = (*row + rows as u64).min(others.num_rows() as u64);
                    let here = *row..end;
                    if !here.is_empty() {
                        let one = |value: Value| Encoded { bytes: value.bytes.into(), offset: value.offset };
                        let (mut found, mut bytes) = (Vec::new(), 0_usize);
                        for row in here.clone() {
                            let image = images.read(row)?.map(one);
                            bytes = bytes.saturating_add(image.as_ref().map_or(0, |image| image.bytes.len()));
                            found.push(image);
                            if bytes > MOST_TOGETHER {
                                break;
                            }
                        }
                        let here = here.start..here.start + found.len() as u64;
                        *row = here.end;
                        let others = others.slice(here.start as usize, found.len());
                        let others = with_path(others, &column, images, here).map_err(|message| raw.error(message))?;
                        return Ok(Some(Batch { others, images: found }));
                    }
                    open = None;
                }
                let Some(place) = left.pop_front() else { return Ok(None) };
                let mut head = self.head(&place)?;
                if place.rows.is_none() {
                    let body = raw.read(place.at + place.head, place.body)?;
                    lengths::check(&message(raw, &head)?, &body).map_err(|message| raw.error(message))?;
                    let block = Block::new(0, place.head as i32, place.body as i64);
                    head.extend(body);
                    decoder.read_dictionary(&block, &Buffer::from_vec(head)).map_err(|error| raw.error(error))?;
                    continue;
                }
                let (buffers, images) = self.images(&place, &head, &column)?;
                let others = self.others(&place, head, &buffers, &images.buffers, &decoder)?;
                open = Some((others, images, 0));
            }
        };
        Ok(until_one_fails(raw, next))
    }
}

/// Some rows with a column more: the struct of the images, less their bytes.
fn with_path(
    others: RecordBatch,
    column: &str,
    images: &mut Images<'_>,
    rows: std::ops::Range<u64>,
) -> Result<RecordBatch, String> {
    let Some(path) = &mut images.path else { return Ok(others) };
    let (mut texts, mut left) = (Vec::new(), MOST_TOGETHER);
    for row in rows {
        let text = path.read(row).map_err(|error| error.to_string())?;
        let length = text.as_ref().map_or(0, |text| text.bytes.len());
        left = left.checked_sub(length).ok_or_else(|| format!("its `{PATH}` of row {row} of a batch has {length} bytes"))?;
        let text = text.map(|text| String::from_utf8(text.bytes.to_vec())).transpose();
        texts.push(text.map_err(|_| format!("is damaged: `{PATH}` of row {row} of a batch is not UTF-8"))?);
    }
    let field = Fields::from(vec![Field::new(PATH, DataType::Utf8, true)]);
    let paths = StructArray::try_new(field.clone(), vec![Arc::new(StringArray::from(texts))], None);
    let paths = paths.map_err(|error| error.to_string())?;
    let mut fields = others.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(column, DataType::Struct(field), false)));
    let mut columns = others.columns().to_vec();
    debug_assert_eq!(paths.len(), others.num_rows());
    columns.push(Arc::new(paths));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())
}

/// The images of some rows of a file, which are sorted; a row may come several times.
///
/// # Errors
/// The file cannot be read, or has no such row.
pub(super) fn rows(files: &dyn Files, path: &Path, column: &str, rows: &[u64]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let size = files.list(path)?.files.first().map_or(0, |entry| entry.size);
    let reader = Reader::open(files, path, size)?;
    guard(reader.raw, || {
        let mut found: Vec<Option<Vec<u8>>> = Vec::with_capacity(rows.len());
        let (mut start, mut rest) = (0, rows);
        for (place, count) in reader.index.messages.iter().filter_map(|place| Some((place, place.rows?))) {
            let end = start + count;
            let here = rest.partition_point(|row| *row < end);
            if here > 0 {
                let (_, mut images) = reader.images(place, &reader.head(place)?, column)?;
                let mut last = None;
                for &row in &rest[..here] {
                    if last == Some(row) {
                        found.push(found.last().cloned().flatten());
                    } else {
                        found.push(images.read(row - start)?.map(|value| value.bytes.to_vec()));
                        last = Some(row);
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
