//! Arrow's file format, which is Feather's second version, and its stream format, which Hugging Face's `datasets` saves.
//!
//! What a file claims of its lengths is held against the file before memory is asked for it: a block that is longer than the file,
//! or a compressed buffer of 4 TiB, is an error and no end of the process. Reference: the Arrow columnar format, "Serialization and
//! interprocess communication".

use std::collections::VecDeque;
use std::io::{BufReader, Read as _};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_empty_array};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{FileDecoder, StreamDecoder, read_footer_length};
use arrow_ipc::{Block, Message, MessageHeader, Schema, root_as_footer, root_as_message};

use super::raw::{Raw, Stream};
use super::rows::within;
use super::{Batches, Header};
use crate::Error;

pub(crate) mod index;
pub(crate) mod lengths;

/// What a file in the file format begins with; one in the stream format begins with its schema.
const FILE_MAGIC: &[u8] = b"ARROW1";
/// What Feather's first version begins with, which is another format.
const FEATHER_1_MAGIC: &[u8] = b"FEA1";
/// Bytes that are read at once of a near stream's heads.
const NEAR_BYTES: usize = 64 << 10;
/// What comes before a message's length, but in files of Arrow before 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// What a stream ends with: a message of no length.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Columns; the rows are in each batch's header only.
pub(super) fn header(raw: Raw<'_>) -> Result<Header, Error> {
    Ok(Header::new(Opened::new(raw)?.schema().clone(), None))
}

/// Some rows, in batches as the file has them. The bodies of batches that have none of the rows are not read.
pub(super) fn batches(raw: Raw<'_>, range: Range<u64>) -> Result<Batches<'_>, Error> {
    let mut opened = Opened::new(raw)?;
    let first = if range.start > 0 { opened.skip(range.start)? } else { 0 };
    Ok(within(Box::new(std::iter::from_fn(move || opened.next().transpose())), first, range))
}

/// How many rows there are, as the heads of the batches say it.
pub(super) fn rows(raw: Raw<'_>) -> Result<u64, Error> {
    Opened::new(raw)?.skip(u64::MAX)
}

/// A file in one of the formats, at its next batch.
enum Opened<'a> {
    File(Blocks<'a>),
    Stream(Messages<'a>),
}

impl<'a> Opened<'a> {
    fn new(raw: Raw<'a>) -> Result<Self, Error> {
        let magic = raw.read(0, raw.size.min(FILE_MAGIC.len() as u64))?;
        refuse_feather_1(raw, &magic)?;
        if magic == FILE_MAGIC { Blocks::new(raw).map(Self::File) } else { Messages::new(raw).map(Self::Stream) }
    }

    fn schema(&self) -> &SchemaRef {
        match self {
            Self::File(blocks) => &blocks.schema,
            Self::Stream(messages) => &messages.schema,
        }
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        match self {
            Self::File(blocks) => blocks.next(),
            Self::Stream(messages) => messages.next(),
        }
    }

    /// Passes over batches as long as all of their rows are among so many. Returns how many rows they have.
    fn skip(&mut self, most: u64) -> Result<u64, Error> {
        match self {
            Self::File(blocks) => blocks.skip(most),
            Self::Stream(messages) => messages.skip(most),
        }
    }
}

/// How many rows a batch has, by its head; `None` for a message that is not a batch of rows.
fn rows_of(message: &Message<'_>) -> Result<Option<u64>, String> {
    let Some(batch) = message.header_as_record_batch() else { return Ok(None) };
    lengths::rows(&batch).map(Some)
}

/// The blocks of a file, as its footer lists them.
struct Blocks<'a> {
    raw: Raw<'a>,
    schema: SchemaRef,
    decoder: FileDecoder,
    left: VecDeque<Block>,
}

impl<'a> Blocks<'a> {
    fn new(raw: Raw<'a>) -> Result<Self, Error> {
        let refuse = |error: ArrowError| raw.error(error);
        let bytes = footer(raw)?;
        let footer = root_as_footer(&bytes).map_err(|error| raw.error(format!("its footer is damaged: {error}")))?;
        let schema = schema(raw, footer.schema())?;
        let mut decoder = FileDecoder::new(schema.clone(), footer.version());
        for block in footer.dictionaries().into_iter().flatten() {
            decoder.read_dictionary(block, &read_block(raw, block)?).map_err(refuse)?;
        }
        let batches = footer.recordBatches().ok_or_else(|| raw.error("its footer lists no batches"))?;
        Ok(Self { raw, schema, decoder, left: batches.iter().copied().collect() })
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        while let Some(block) = self.left.pop_front() {
            let bytes = read_block(self.raw, &block)?;
            let batch = self.decoder.read_record_batch(&block, &bytes).map_err(|error| self.raw.error(error))?;
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    fn skip(&mut self, most: u64) -> Result<u64, Error> {
        let mut rows = 0;
        while let Some(block) = self.left.front() {
            let [offset, head, _] = place(self.raw, block)?;
            let head = self.raw.read(offset, head)?;
            let more = rows_of(&message(self.raw, &head)?).map_err(|message| self.raw.error(message))?.unwrap_or(0);
            if more > most - rows {
                break;
            }
            rows += more;
            self.left.pop_front();
        }
        Ok(rows)
    }
}

/// The bytes of a file's footer.
fn footer(raw: Raw<'_>) -> Result<Vec<u8>, Error> {
    // The footer, its length and the magic bytes are the file's end.
    let end = raw.size.checked_sub(10).ok_or_else(|| raw.error("is too short for its footer"))?;
    let mut last = [0; 10];
    last.copy_from_slice(&raw.read(end, 10)?);
    let length = read_footer_length(last).map_err(|error| raw.error(error))? as u64;
    let start = end.checked_sub(length).ok_or_else(|| raw.error(format!("its footer claims {length} bytes")))?;
    raw.read(start, length)
}

fn refuse_feather_1(raw: Raw<'_>, magic: &[u8]) -> Result<(), Error> {
    if magic.starts_with(FEATHER_1_MAGIC) {
        return Err(raw.error("is Feather version 1; write version 2, which is Arrow's file format"));
    }
    Ok(())
}

/// Where a block begins, and the lengths of its message and body.
fn place(raw: Raw<'_>, block: &Block) -> Result<[u64; 3], Error> {
    let [offset, head, body] = [block.offset(), block.metaDataLength().into(), block.bodyLength()];
    let claimed = || raw.error(format!("its footer claims a block of {head} and {body} bytes from byte {offset} on"));
    let part = |value: i64| u64::try_from(value).map_err(|_| claimed());
    let (offset, head, body) = (part(offset)?, part(head)?, part(body)?);
    head.checked_add(body).ok_or_else(claimed)?;
    Ok([offset, head, body])
}

/// A block's message.
pub(crate) fn message<'m>(raw: Raw<'_>, head: &'m [u8]) -> Result<Message<'m>, Error> {
    let message = if head.starts_with(&CONTINUATION) { head.get(8..) } else { head.get(4..) };
    let message = message.ok_or_else(|| raw.error("a block of it is too short for a message"))?;
    root_as_message(message).map_err(|error| raw.error(format!("a block of it is damaged: {error}")))
}

/// A block's bytes: a message, then its body.
fn read_block(raw: Raw<'_>, block: &Block) -> Result<Buffer, Error> {
    let [offset, head, body] = place(raw, block)?;
    let bytes = raw.read(offset, head + body)?;
    let (head, body) = bytes.split_at(head as usize);
    lengths::check(&message(raw, head)?, body).map_err(|message| raw.error(message))?;
    Ok(bytes.into())
}

/// The messages of a stream.
struct Messages<'a> {
    raw: Raw<'a>,
    schema: SchemaRef,
    decoder: StreamDecoder,
    stream: BufReader<Stream<'a>>,
    /// Bytes that were not read yet.
    left: u64,
    /// The next message with its prefix, and how many bytes its body has, if they were looked at.
    ahead: Option<(Vec<u8>, u64)>,
    ended: bool,
}

impl<'a> Messages<'a> {
    fn new(raw: Raw<'a>) -> Result<Self, Error> {
        let (schema, decoder) = (Arc::new(arrow::datatypes::Schema::empty()), StreamDecoder::new());
        // Bodies that are passed over are not to be read for the heads between them, unless each read takes its time.
        let near = raw.files.at_once(raw.path) <= 1;
        let stream = if near { BufReader::with_capacity(NEAR_BYTES, raw.stream()) } else { raw.buffered() };
        let mut opened = Self { raw, schema, decoder, stream, left: raw.size, ahead: None, ended: false };
        let Some([head, body]) = opened.message()? else { return Err(raw.error("is empty")) };
        let first = opened.parsed(&head)?;
        if first.header_type() != MessageHeader::Schema {
            return Err(raw.error("is no table of Arrow's: it should begin with its columns"));
        }
        opened.schema = self::schema(raw, first.header_as_schema())?;
        opened.decode(head, body)?;
        Ok(opened)
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        while !self.ended {
            let batch = match self.message()? {
                Some([head, body]) => {
                    lengths::check(&self.parsed(&head)?, &body).map_err(|message| self.raw.error(message))?;
                    self.decode(head, body)?
                }
                None => {
                    self.ended = true;
                    // A last message without a body waits for what follows it.
                    self.decode(END.to_vec(), Vec::new())?
                }
            };
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    fn skip(&mut self, most: u64) -> Result<u64, Error> {
        let mut rows = 0;
        while let Some((head, body)) = self.head()? {
            match rows_of(&self.parsed(&head)?).map_err(|message| self.raw.error(message))? {
                Some(more) if more <= most - rows => {
                    rows += more;
                    self.pass(body)?;
                }
                Some(_) => {
                    self.ahead = Some((head, body));
                    break;
                }
                // Batches that follow it may need a dictionary.
                None => {
                    let body = self.take(body)?;
                    lengths::check(&self.parsed(&head)?, &body).map_err(|message| self.raw.error(message))?;
                    self.decode(head, body)?;
                }
            }
        }
        Ok(rows)
    }

    /// The next message with its prefix, and its body; none at the end.
    fn message(&mut self) -> Result<Option<[Vec<u8>; 2]>, Error> {
        let Some((head, body)) = self.head()? else { return Ok(None) };
        let body = self.take(body)?;
        Ok(Some([head, body]))
    }

    /// The next message with its prefix, and how many bytes its body has, which follows; none at the end.
    fn head(&mut self) -> Result<Option<(Vec<u8>, u64)>, Error> {
        if self.ahead.is_some() {
            return Ok(self.ahead.take());
        }
        if self.left == 0 {
            return Ok(None);
        }
        let mut head = self.take(4)?;
        if head == CONTINUATION {
            head.extend(self.take(4)?);
        }
        let length = head.last_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        if length == 0 {
            return Ok(None);
        }
        head.extend(self.take(length.into())?);
        let body = self.parsed(&head)?.bodyLength();
        let body = u64::try_from(body).map_err(|_| self.raw.error(format!("a message claims {body} bytes")))?;
        Ok(Some((head, body)))
    }

    fn parsed<'m>(&self, head: &'m [u8]) -> Result<Message<'m>, Error> {
        let message = if head.starts_with(&CONTINUATION) { &head[8..] } else { &head[4..] };
        root_as_message(message).map_err(|error| self.raw.error(format!("a message of it is damaged: {error}")))
    }

    fn less(&mut self, length: u64) -> Result<(), Error> {
        let left = self.left.checked_sub(length);
        let early = || self.raw.error(format!("ends early: a message claims {length} bytes, and {} are left", self.left));
        self.left = left.ok_or_else(early)?;
        Ok(())
    }

    /// Passes over bytes.
    fn pass(&mut self, length: u64) -> Result<(), Error> {
        self.less(length)?;
        let by = i64::try_from(length).map_err(|_| self.raw.error(format!("a message claims {length} bytes")))?;
        self.stream.seek_relative(by).map_err(|error| Error::io(self.raw.path, error))
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        self.less(length)?;
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).map_err(|error| Error::io(self.raw.path, error))?;
        Ok(bytes)
    }

    fn decode(&mut self, head: Vec<u8>, body: Vec<u8>) -> Result<Option<RecordBatch>, Error> {
        for bytes in [head, body] {
            let batch = self.decoder.decode(&mut bytes.into()).map_err(|error| self.raw.error(error))?;
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }
}

/// The columns of a file.
fn schema(raw: Raw<'_>, schema: Option<Schema<'_>>) -> Result<SchemaRef, Error> {
    let schema = schema.ok_or_else(|| raw.error("does not say what its columns are"))?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err(raw.error("was written on a machine with the other order of bytes"));
    }
    let schema = fb_to_schema(schema);
    // A type that no array can have, such as a map without keys, panics where the first array is made: better here, where that is caught.
    schema.fields().iter().for_each(|field| drop(new_empty_array(field.data_type())));
    Ok(Arc::new(schema))
}

#[cfg(test)]
mod tests;
