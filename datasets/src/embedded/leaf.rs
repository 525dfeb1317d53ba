//! A column of bytes or texts in a batch of an Arrow file: where each value lies, and its bytes, a piece at a time.
//!
//! A batch of images may be larger than memory, and so its buffers are not read as a whole: of those that are stored as they are, the bytes
//! of an image have a place in the file; those that are compressed are unpacked from their beginning on, as far as is asked for.

use std::io::{self, Read, Seek as _, SeekFrom};

use arrow::datatypes::DataType;
use arrow_ipc::{CompressionType, MetadataVersion, RecordBatch};
use bytes::Bytes;

use crate::Error;
use crate::tables::ipc::index::Place;
use crate::tables::raw::Raw;

/// Bytes that are read at once where values follow each other: of a near file, and of one that each request takes its time to.
const NEAR_BYTES: u64 = 1 << 20;
const FAR_BYTES: u64 = 8 << 20;
/// Bytes that a value may have that is unpacked.
const MOST_BYTES: u64 = 1 << 30;
/// Rows that a batch of images may have: where they begin is in memory.
const MOST_ROWS: u64 = 1 << 24;
/// The length of a compressed buffer that is stored as it is.
const STORED: i64 = -1;
/// Bytes of a view, and of a value that lies in it.
const VIEW_BYTES: usize = 16;
const INLINE_BYTES: u32 = 12;

/// A batch's buffers.
pub(super) struct Buffers {
    spans: Vec<Span>,
    codec: Option<CompressionType>,
    rows: u64,
    /// How many buffers of values each column of views has.
    variadic: Vec<usize>,
}

/// Where a buffer lies in the file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) at: u64,
    pub(super) length: u64,
}

impl Buffers {
    /// The buffers of a batch that lies there.
    ///
    /// # Errors
    /// One lies outside the batch's body, or the batch has too many rows.
    pub(super) fn of(batch: &RecordBatch<'_>, place: &Place) -> Result<Self, String> {
        let rows = place.rows.unwrap_or(0);
        if rows > MOST_ROWS {
            return Err(format!("a batch has {rows} rows, and {MOST_ROWS} images at most can be in one"));
        }
        let span = |(number, buffer): (usize, &arrow_ipc::Buffer)| {
            let (offset, length) = (u64::try_from(buffer.offset()).ok(), u64::try_from(buffer.length()).ok());
            let found = offset
                .zip(length)
                .filter(|(offset, length)| offset.checked_add(*length).is_some_and(|end| end <= place.body));
            let outside = || format!("buffer {number} of the batch at byte {} lies outside it", place.at);
            found.map(|(offset, length)| Span { at: place.at + place.head + offset, length }).ok_or_else(outside)
        };
        let spans: Vec<Span> = batch.buffers().into_iter().flatten().enumerate().map(span).collect::<Result<_, _>>()?;
        let most = spans.len();
        let count = |count: i64| {
            let known = usize::try_from(count).ok().filter(|&count| count <= most);
            known.ok_or_else(|| format!("a column of a batch claims {count} buffers, and the batch has {most}"))
        };
        let variadic = batch.variadicBufferCounts().into_iter().flatten().map(count).collect::<Result<_, _>>()?;
        Ok(Self { spans, codec: batch.compression().map(|compression| compression.codec()), rows, variadic })
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }
}

/// A walk over a batch's columns: how many of its buffers are behind it.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) buffers: usize,
    views: usize,
    version: MetadataVersion,
}

impl Walk {
    pub(super) fn new(version: MetadataVersion) -> Self {
        Self { version, ..Self::default() }
    }

    /// Passes over a column.
    pub(super) fn pass(&mut self, of: &Buffers, kind: &DataType) {
        self.buffers += match kind {
            DataType::Null | DataType::RunEndEncoded(..) => 0,
            DataType::Struct(_) | DataType::FixedSizeList(..) => 1,
            DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => 3,
            DataType::ListView(_) | DataType::LargeListView(_) => 3,
            DataType::Utf8View | DataType::BinaryView => 2 + self.variadic(of),
            DataType::Union(_, mode) => {
                let validity = usize::from(self.version < MetadataVersion::V5);
                1 + validity + usize::from(*mode == arrow::datatypes::UnionMode::Dense)
            }
            _ => 2,
        };
        match kind {
            DataType::Struct(fields) => fields.iter().for_each(|field| self.pass(of, field.data_type())),
            DataType::Union(fields, _) => fields.iter().for_each(|(_, field)| self.pass(of, field.data_type())),
            DataType::RunEndEncoded(ends, values) => {
                [ends, values].iter().for_each(|field| self.pass(of, field.data_type()))
            }
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _) => self.pass(of, item.data_type()),
            _ => {}
        }
    }

    fn variadic(&mut self, of: &Buffers) -> usize {
        self.views += 1;
        of.variadic.get(self.views - 1).copied().unwrap_or(0)
    }

    fn next(&mut self, of: &Buffers) -> Result<Span, String> {
        self.buffers += 1;
        of.spans.get(self.buffers - 1).copied().ok_or_else(|| "a batch has fewer buffers than its columns need".to_owned())
    }

    /// Which rows have a value, by the next buffer.
    pub(super) fn validity(&mut self, of: &Buffers, raw: Raw<'_>) -> Result<Validity, Error> {
        let span = self.next(of).map_err(|message| raw.error(message))?;
        if span.length == 0 {
            return Ok(Validity(None));
        }
        Data::of(raw, span, of.codec)?.read(0, of.rows.div_ceil(8)).map(|bits| Validity(Some(bits)))
    }

    /// The next column, which is one of bytes or texts.
    pub(super) fn leaf<'a>(&mut self, of: &Buffers, raw: Raw<'a>, kind: &DataType) -> Result<Leaf<'a>, Error> {
        let wrong = |message: String| raw.error(message);
        let validity = self.validity(of, raw)?;
        let shape = match kind {
            DataType::Binary | DataType::Utf8 => Shape::Short,
            DataType::LargeBinary | DataType::LargeUtf8 => Shape::Long,
            DataType::BinaryView | DataType::Utf8View => Shape::Views,
            other => return Err(wrong(format!("a column of {other} holds no bytes"))),
        };
        let places = self.next(of).map_err(wrong)?;
        let buffers = if shape == Shape::Views { self.variadic(of) } else { 1 };
        let wanted = match shape {
            Shape::Short => (of.rows + 1) * 4,
            Shape::Long => (of.rows + 1) * 8,
            Shape::Views => of.rows * VIEW_BYTES as u64,
        };
        let mut table = Data::of(raw, places, of.codec)?;
        // Of no rows, some programs write no offsets.
        let places = if of.rows == 0 { Bytes::new() } else { table.read(0, wanted)? };
        let inline = table.place(0);
        let data = (0..buffers).map(|_| Data::of(raw, self.next(of).map_err(wrong)?, of.codec));
        let data = data.collect::<Result<Vec<_>, Error>>()?;
        Ok(Leaf { raw, shape, validity, places, inline, data, rows: of.rows })
    }
}

/// Which rows have a value; all, if nothing is said.
pub(super) struct Validity(Option<Bytes>);

impl Validity {
    pub(super) fn is_valid(&self, row: u64) -> bool {
        let byte = |bits: &Bytes| bits.get((row / 8) as usize).copied().unwrap_or(0);
        self.0.as_ref().is_none_or(|bits| byte(bits) >> (row % 8) & 1 == 1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Offsets of 4 bytes.
    Short,
    /// Offsets of 8 bytes.
    Long,
    /// A length, and the value or where it lies.
    Views,
}

/// A column of bytes or texts.
pub(super) struct Leaf<'a> {
    raw: Raw<'a>,
    shape: Shape,
    validity: Validity,
    places: Bytes,
    /// Where the views lie in the file, if they do as they are.
    inline: Option<u64>,
    data: Vec<Data<'a>>,
    rows: u64,
}

/// A value.
pub(super) struct Value {
    /// Its bytes.
    pub(super) bytes: Bytes,
    /// Where they lie in the file, if they do as they are.
    pub(super) offset: Option<u64>,
}

impl Leaf<'_> {
    /// The value of a row, if it has one.
    ///
    /// # Errors
    /// It lies outside its buffer, or cannot be read or unpacked.
    pub(super) fn read(&mut self, row: u64) -> Result<Option<Value>, Error> {
        if row >= self.rows || !self.validity.is_valid(row) {
            return Ok(None);
        }
        let damaged = || self.raw.error(format!("is damaged: row {row} of a batch lies nowhere in it"));
        let (buffer, start, length) = match self.shape {
            Shape::Views => {
                let at = row as usize * VIEW_BYTES;
                let view = self.places.slice(at..at + VIEW_BYTES);
                let number = |at: usize| u32::from_le_bytes([view[at], view[at + 1], view[at + 2], view[at + 3]]);
                let length = number(0);
                if length <= INLINE_BYTES {
                    let offset = self.inline.map(|first| first + at as u64 + 4);
                    return Ok(Some(Value { bytes: view.slice(4..4 + length as usize), offset }));
                }
                (number(8) as usize, u64::from(number(12)), u64::from(length))
            }
            _ => {
                let bounds = [self.bound(row), self.bound(row + 1)];
                let [Some(start), Some(end)] = bounds else { return Err(damaged()) };
                (0, start, end.checked_sub(start).ok_or_else(damaged)?)
            }
        };
        let Some(data) = self.data.get_mut(buffer) else { return Err(damaged()) };
        let bytes = data.read(start, length)?;
        Ok(Some(Value { offset: data.place(start), bytes }))
    }

    fn bound(&self, row: u64) -> Option<u64> {
        let row = row as usize;
        match self.shape {
            Shape::Short => {
                let bytes = self.places.get(row * 4..row * 4 + 4)?.first_chunk()?;
                u64::try_from(i32::from_le_bytes(*bytes)).ok()
            }
            _ => {
                let bytes = self.places.get(row * 8..row * 8 + 8)?.first_chunk()?;
                u64::try_from(i64::from_le_bytes(*bytes)).ok()
            }
        }
    }
}

/// A buffer, of which pieces are read.
enum Data<'a> {
    Plain { raw: Raw<'a>, span: Span, start: u64, bytes: Bytes },
    Packed(Packed<'a>),
}

struct Packed<'a> {
    raw: Raw<'a>,
    span: Span,
    codec: CompressionType,
    decoder: Option<Box<dyn Read + 'a>>,
    /// Where the decoder is, in unpacked bytes.
    at: u64,
}

impl<'a> Data<'a> {
    fn of(raw: Raw<'a>, span: Span, codec: Option<CompressionType>) -> Result<Self, Error> {
        let plain = |span| Self::Plain { raw, span, start: 0, bytes: Bytes::new() };
        let Some(codec) = codec.filter(|_| span.length > 0) else { return Ok(plain(span)) };
        if span.length < 8 {
            return Err(raw.error("is damaged: a compressed buffer is too short for its length"));
        }
        let claim = raw.read(span.at, 8)?;
        let inner = Span { at: span.at + 8, length: span.length - 8 };
        if claim.first_chunk().is_some_and(|claim| i64::from_le_bytes(*claim) == STORED) {
            return Ok(plain(inner));
        }
        Ok(Self::Packed(Packed { raw, span: inner, codec, decoder: None, at: 0 }))
    }

    /// Where a byte of it lies in the file, if it does.
    fn place(&self, start: u64) -> Option<u64> {
        match self {
            Self::Plain { span, .. } => Some(span.at + start),
            Self::Packed(_) => None,
        }
    }

    /// Some of its bytes.
    fn read(&mut self, from: u64, length: u64) -> Result<Bytes, Error> {
        match self {
            Self::Plain { raw, span, start, bytes } => {
                let end = from.checked_add(length).filter(|&end| end <= span.length);
                let end = end.ok_or_else(|| {
                    raw.error(format!(
                        "is damaged: {length} bytes from byte {from} on are asked of a buffer of {}",
                        span.length
                    ))
                })?;
                if from < *start || end > *start + bytes.len() as u64 {
                    *bytes = raw.read(span.at + from, length.max(piece(*raw)).min(span.length - from))?.into();
                    *start = from;
                }
                let first = (from - *start) as usize;
                Ok(bytes.slice(first..first + length as usize))
            }
            Self::Packed(packed) => packed.read(from, length),
        }
    }
}

/// Bytes that are read at once.
fn piece(raw: Raw<'_>) -> u64 {
    if raw.files.at_once(raw.path) > 1 { FAR_BYTES } else { NEAR_BYTES }
}

impl Packed<'_> {
    fn read(&mut self, from: u64, length: u64) -> Result<Bytes, Error> {
        let raw = self.raw;
        let damaged = |error: io::Error| raw.error(format!("is damaged: a compressed buffer cannot be unpacked: {error}"));
        if length > MOST_BYTES {
            return Err(raw.error(format!("has a value of {length} bytes, and {MOST_BYTES} at most are unpacked")));
        }
        let mut decoder = match self.decoder.take().filter(|_| self.at <= from) {
            Some(decoder) => decoder,
            None => {
                self.at = 0;
                let mut stream = raw.stream();
                stream.seek(SeekFrom::Start(self.span.at)).map_err(damaged)?;
                let stream = io::BufReader::with_capacity(piece(raw) as usize, stream.take(self.span.length));
                match self.codec {
                    CompressionType::LZ4_FRAME => Box::new(lz4_flex::frame::FrameDecoder::new(stream)) as Box<dyn Read>,
                    CompressionType::ZSTD => Box::new(zstd::stream::read::Decoder::new(stream).map_err(damaged)?),
                    other => return Err(raw.error(format!("is compressed by {other:?}, which is not known"))),
                }
            }
        };
        let passed = io::copy(&mut decoder.by_ref().take(from - self.at), &mut io::sink()).map_err(damaged)?;
        let mut bytes = Vec::new();
        decoder.by_ref().take(length).read_to_end(&mut bytes).map_err(damaged)?;
        if passed < from - self.at || (bytes.len() as u64) < length {
            return Err(raw.error("is damaged: a compressed buffer is shorter than its values"));
        }
        self.at = from + length;
        self.decoder = Some(decoder);
        Ok(bytes.into())
    }
}
