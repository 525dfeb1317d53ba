//! Where the batches of a file lie. Their heads are read, and none of their bodies.

use arrow::datatypes::SchemaRef;
use arrow_ipc::{Block, MessageHeader, MetadataVersion, root_as_footer, root_as_message};

use super::{CONTINUATION, FILE_MAGIC, Raw, footer, message, place, refuse_feather_1, rows_of, schema};
use crate::Error;

/// Bytes that are read at once where a head of unknown length begins.
const HEAD_BYTES: u64 = 4 << 10;

/// What a file has.
pub(crate) struct Index {
    pub schema: SchemaRef,
    pub version: MetadataVersion,
    /// Dictionaries and batches, in the order in which they are to be read.
    pub messages: Vec<Place>,
    /// Why a stream is over before its end, if it is.
    pub cut: Option<String>,
}

/// Where a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its first byte in the file.
    pub at: u64,
    /// Bytes of its head, its prefix among them; behind it lies the body.
    pub head: u64,
    /// Bytes of its body.
    pub body: u64,
    /// Rows of a batch; `None` for a dictionary.
    pub rows: Option<u64>,
}

/// What comes next in a stream.
enum Next {
    /// A head, and how many bytes its body has.
    Head(Vec<u8>, u64),
    End,
    Cut(String),
}

impl Index {
    /// Reads all heads. A stream that was cut off has those of what is whole.
    ///
    /// # Errors The file cannot be read, is not an Arrow file, or has a damaged footer.
    pub(crate) fn of(raw: Raw<'_>) -> Result<Self, Error> {
        let magic = raw.read(0, raw.size.min(FILE_MAGIC.len() as u64))?;
        refuse_feather_1(raw, &magic)?;
        if magic == FILE_MAGIC { Self::of_file(raw) } else { Self::of_stream(raw) }
    }

    /// How many rows the batches have.
    pub(crate) fn rows(&self) -> u64 {
        self.messages.iter().filter_map(|place| place.rows).sum()
    }

    fn of_file(raw: Raw<'_>) -> Result<Self, Error> {
        let bytes = footer(raw)?;
        let footer = root_as_footer(&bytes).map_err(|error| raw.error(format!("its footer is damaged: {error}")))?;
        let of = |block: &Block| -> Result<Place, Error> {
            let [at, head, body] = place(raw, block)?;
            if at.checked_add(head + body).is_none_or(|end| end > raw.size) {
                return Err(raw.error(format!("its footer claims a block of {} bytes from byte {at} on", head + body)));
            }
            Ok(Place { at, head, body, rows: None })
        };
        let mut messages = footer.dictionaries().into_iter().flatten().map(of).collect::<Result<Vec<_>, _>>()?;
        for block in footer.recordBatches().ok_or_else(|| raw.error("its footer lists no batches"))? {
            let place = of(block)?;
            let head = raw.read(place.at, place.head)?;
            let rows = rows_of(&message(raw, &head)?).map_err(|message| raw.error(message))?;
            messages.extend(rows.map(|rows| Place { rows: Some(rows), ..place }));
        }
        Ok(Self { schema: schema(raw, footer.schema())?, version: footer.version(), messages, cut: None })
    }

    fn of_stream(raw: Raw<'_>) -> Result<Self, Error> {
        let (head, body) = match next(raw, 0)? {
            Next::Head(head, body) => (head, body),
            Next::End => return Err(raw.error("is empty")),
            Next::Cut(why) => return Err(raw.error(why)),
        };
        let first = message(raw, &head)?;
        if first.header_type() != MessageHeader::Schema {
            return Err(raw.error("is no table of Arrow's: it should begin with its columns"));
        }
        let (schema, version) = (schema(raw, first.header_as_schema())?, first.version());
        let mut found = Self { schema, version, messages: Vec::new(), cut: None };
        let mut at = head.len() as u64 + body;
        loop {
            match next(raw, at)? {
                Next::End => return Ok(found),
                Next::Cut(why) => {
                    found.cut = Some(why);
                    return Ok(found);
                }
                Next::Head(head, body) => {
                    let message = message(raw, &head)?;
                    let rows = rows_of(&message).map_err(|message| raw.error(message))?;
                    let place = Place { at, head: head.len() as u64, body, rows };
                    if rows.is_some() || message.header_type() == MessageHeader::DictionaryBatch {
                        found.messages.push(place);
                    }
                    at += place.head + body;
                }
            }
        }
    }
}

/// The message of a stream that begins at a byte.
fn next(raw: Raw<'_>, at: u64) -> Result<Next, Error> {
    let left = raw.size.saturating_sub(at);
    if left == 0 {
        return Ok(Next::End);
    }
    let mut bytes = raw.read(at, left.min(HEAD_BYTES))?;
    let prefix = if bytes.starts_with(&CONTINUATION) { 8 } else { 4 };
    let length = bytes.get(prefix - 4..prefix).and_then(|length| length.first_chunk());
    let Some(length) = length.map(|length| u64::from(u32::from_le_bytes(*length))) else {
        return Ok(Next::Cut(format!("is over within a message, at byte {at}")));
    };
    if length == 0 {
        return Ok(Next::End);
    }
    let head = prefix as u64 + length;
    if head > left {
        return Ok(Next::Cut(format!("is over within a message: at byte {at} it claims {head} bytes, and {left} are left")));
    }
    if head > bytes.len() as u64 {
        bytes.extend(raw.read(at + bytes.len() as u64, head - bytes.len() as u64)?);
    }
    bytes.truncate(head as usize);
    let body = match root_as_message(&bytes[prefix..]) {
        Ok(message) => message.bodyLength(),
        Err(error) => return Ok(Next::Cut(format!("is damaged: the message at byte {at}: {error}"))),
    };
    match u64::try_from(body).ok().filter(|&body| body <= left - head) {
        Some(body) => Ok(Next::Head(bytes, body)),
        None => {
            let left = left - head;
            Ok(Next::Cut(format!("is over within a batch: at byte {at} it claims {body} bytes, and {left} are left")))
        }
    }
}
