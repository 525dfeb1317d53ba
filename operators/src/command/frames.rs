//! An Arrow stream as it comes through a pipe, message by message.
//!
//! No size that a message claims is believed: memory is asked for as bytes come, and a message may claim so many at most. Reference:
//! the Arrow columnar format, "IPC Streaming Format".

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::{MessageHeader, root_as_message};
use tessera_datasets::tables::check_lengths;
use tessera_schemas::printable;

/// What each message begins with.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Bytes before a message: those, and its head's length.
const PREFIX: usize = 8;
/// The longest head: that of a schema of many thousands of columns.
const MOST_HEAD: usize = 16 << 20;
/// The longest body.
const MOST_BODY: usize = 1 << 30;
/// Bytes that memory is asked for at first.
const FIRST_ROOM: usize = 1 << 20;
/// Characters that are shown of what is no stream.
const SHOWN: usize = 60;

/// What came.
#[derive(Debug)]
pub enum Came {
    /// What the columns are.
    Schema(SchemaRef),
    /// Rows.
    Batch(RecordBatch),
    /// The end of the stream.
    End,
}

/// A stream, as far as it came.
pub struct Frames {
    /// The columns, once they came.
    schema: Option<SchemaRef>,
    /// The message that comes: its prefix, its head, its body.
    message: Vec<u8>,
    /// How many of those bytes came.
    filled: usize,
    /// The length of prefix and head, once the prefix came.
    head: Option<usize>,
    /// How long it is, as far as is known.
    wanted: usize,
    ended: bool,
}

impl Frames {
    /// A stream of which nothing came.
    pub fn new() -> Self {
        Self { schema: None, message: Vec::new(), filled: 0, head: None, wanted: PREFIX, ended: false }
    }

    /// Whether nothing came of a next message.
    pub fn is_between(&self) -> bool {
        self.filled == 0
    }

    /// Whether the end of the stream came.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Room for the bytes that come next.
    pub fn room(&mut self) -> &mut [u8] {
        if self.message.len() == self.filled {
            // As much again as came already: what is claimed is not there yet.
            let more = self.filled.max(FIRST_ROOM).min(self.wanted - self.filled);
            self.message.resize(self.filled + more, 0);
        }
        &mut self.message[self.filled..]
    }

    /// Takes note of so many bytes in the [room](Self::room). The next message may be complete then.
    ///
    /// # Errors
    /// They are no stream of Arrow's, as the message says: a fragment such as "its stream …".
    pub fn came(&mut self, bytes: usize) -> Result<Option<Came>, String> {
        self.filled += bytes;
        let came = &self.message[..self.filled];
        if self.ended {
            return Err(format!("wrote {} to stdout behind the end of its stream; {TO_STDERR}", shown(came)));
        }
        let start = came.len().min(CONTINUATION.len());
        if came[..start] != CONTINUATION[..start] {
            return Err(format!("wrote {} to stdout, where an Arrow stream is to come; {TO_STDERR}", shown(came)));
        }
        while self.filled == self.wanted {
            match self.head {
                None => {
                    let length =
                        self.message[4..PREFIX].first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
                    if length == 0 {
                        self.ended = true;
                        self.clear();
                        return Ok(Some(Came::End));
                    }
                    if length > MOST_HEAD {
                        let limit = format!("the head of a message claims {length} bytes, and {MOST_HEAD} are the most");
                        return Err(format!("wrote a damaged Arrow stream: {limit}"));
                    }
                    self.head = Some(PREFIX + length);
                    self.wanted = PREFIX + length;
                }
                Some(head) if self.wanted == head => match self.body(head)? {
                    0 => return self.decoded(head).map(Some),
                    body => self.wanted = head + body,
                },
                Some(head) => return self.decoded(head).map(Some),
            }
        }
        Ok(None)
    }

    fn clear(&mut self) {
        (self.message, self.filled, self.head, self.wanted) = (Vec::new(), 0, None, PREFIX);
    }

    /// The length of the body that follows a head.
    fn body(&self, head: usize) -> Result<usize, String> {
        let message = root_as_message(&self.message[PREFIX..head]).map_err(damaged)?;
        match message.header_type() {
            MessageHeader::Schema | MessageHeader::RecordBatch => {}
            MessageHeader::DictionaryBatch => {
                return Err(
                    "wrote a column with a dictionary; write its values, as `column.cast(pa.string())` does".to_owned()
                );
            }
            other => return Err(damaged(format!("a message is of the kind {}", other.0))),
        }
        let body = message.bodyLength();
        let length = usize::try_from(body).map_err(|_| damaged(format!("a message claims {body} bytes")))?;
        if length > MOST_BODY {
            let limit = MOST_BODY >> 20;
            return Err(format!(
                "wrote a batch of {length} bytes, and {limit} MiB are the most: write batches of fewer rows"
            ));
        }
        Ok(length)
    }

    /// What the message says, which came whole.
    fn decoded(&mut self, head: usize) -> Result<Came, String> {
        let bytes = Buffer::from(std::mem::take(&mut self.message));
        self.clear();
        let message = root_as_message(&bytes[PREFIX..head]).map_err(damaged)?;
        check_lengths(&message, &bytes[head..]).map_err(damaged)?;
        // What a head says beyond lengths may make no sense either: such as another number of buffers than its columns need.
        let understood = |work: &mut dyn FnMut() -> Result<Came, String>| {
            catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged("a message cannot be understood")))
        };
        match (message.header_as_schema(), message.header_as_record_batch(), &self.schema) {
            (Some(schema), _, None) if schema.endianness().equals_to_target_endianness() => {
                let came = understood(&mut || Ok(Came::Schema(Arc::new(fb_to_schema(schema)))))?;
                if let Came::Schema(schema) = &came {
                    self.schema = Some(schema.clone());
                }
                Ok(came)
            }
            (Some(_), _, None) => Err(damaged("its bytes are in the other order")),
            (_, Some(batch), _) if batch.compression().is_some() => {
                Err("wrote a compressed batch; write the stream without compression".to_owned())
            }
            (_, Some(batch), Some(schema)) => understood(&mut || {
                let (body, version) = (bytes.slice(head), message.version());
                let batch = read_record_batch(&body, batch, schema.clone(), &HashMap::new(), None, &version);
                batch.map(Came::Batch).map_err(damaged)
            }),
            _ => Err(damaged("its columns come once, and first")),
        }
    }
}

const TO_STDERR: &str = "print to stderr instead (in Python, `print(…, file=sys.stderr)`)";

fn damaged(why: impl std::fmt::Display) -> String {
    format!("wrote a damaged Arrow stream: {why}")
}

/// The first of some bytes, as text.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.trim_end_matches(['\n', '\r']);
    let first: String = line.chars().take(SHOWN).collect();
    let more = if first.len() < line.len() { "…" } else { "" };
    format!("`{}{more}`", printable(&first))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, StringArray};
    use arrow::datatypes::Int8Type;
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
    use proptest::prelude::*;

    use super::*;

    fn rows() -> RecordBatch {
        let numbers = Arc::new(Int32Array::from_iter_values(0..100));
        let texts = Arc::new(StringArray::from_iter_values((0..100).map(|row| "x".repeat(row))));
        RecordBatch::try_from_iter([("number", numbers as _), ("text", texts as _)]).unwrap()
    }

    fn stream(batches: &[RecordBatch]) -> Vec<u8> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap()
    }

    /// What comes of bytes that come so many at once.
    fn come(mut bytes: &[u8], at_once: usize) -> Result<Vec<Came>, String> {
        let (mut frames, mut all) = (Frames::new(), Vec::new());
        while !bytes.is_empty() {
            let room = frames.room();
            let count = room.len().min(bytes.len()).min(at_once);
            room[..count].copy_from_slice(&bytes[..count]);
            all.extend(frames.came(count)?);
            assert!(
                frames.message.len() <= 2 * frames.filled.max(FIRST_ROOM),
                "no memory is asked for what is only claimed"
            );
            bytes = &bytes[count..];
        }
        Ok(all)
    }

    #[test]
    fn batches_come_as_they_were_however_they_are_cut() {
        let (rows, none) = (rows(), RecordBatch::new_empty(rows().schema()));
        let bytes = stream(&[rows.clone(), none.clone(), rows.slice(7, 3)]);
        for at_once in [1, 7, 8, 100, usize::MAX] {
            let came = come(&bytes, at_once).unwrap();
            let [Came::Schema(schema), Came::Batch(one), Came::Batch(two), Came::Batch(three), Came::End] = &came[..] else {
                panic!("{came:?}")
            };
            assert_eq!((schema, one, two, three), (&rows.schema(), &rows, &none, &rows.slice(7, 3)));
        }
    }

    #[test]
    fn what_is_no_stream_is_shown() {
        let told = |bytes: &[u8]| come(bytes, usize::MAX).unwrap_err();
        let end = "print to stderr instead (in Python, `print(…, file=sys.stderr)`)";
        assert_eq!(told(b"epoch 1\n"), format!("wrote `epoch 1` to stdout, where an Arrow stream is to come; {end}"));
        assert_eq!(told(b"\x1b[2J"), format!("wrote `\\u{{1b}}[2J` to stdout, where an Arrow stream is to come; {end}"));
        let bytes = [stream(&[rows()]), b"done\n".to_vec()].concat();
        assert_eq!(told(&bytes), format!("wrote `done` to stdout behind the end of its stream; {end}"));
        let mut bytes = stream(&[rows()]);
        bytes.truncate(bytes.len() - 8);
        bytes.extend(b"done");
        assert_eq!(told(&bytes), format!("wrote `done` to stdout, where an Arrow stream is to come; {end}"));
    }

    #[test]
    fn what_a_message_claims_is_not_believed() {
        let told = |bytes: &[u8]| come(bytes, 4096).unwrap_err();
        let head = [&CONTINUATION[..], &u32::MAX.to_le_bytes()].concat();
        let message = "the head of a message claims 4294967295 bytes, and 16777216 are the most";
        assert_eq!(told(&head), format!("wrote a damaged Arrow stream: {message}"));
        // The length of a body is where the bytes of that of this one are.
        let bytes = stream(&[rows()]);
        let schema = PREFIX + u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()) as usize;
        let head = &bytes[schema + PREFIX..];
        let length = root_as_message(&head[..u32::from_le_bytes(*bytes[schema + 4..].first_chunk().unwrap()) as usize])
            .unwrap()
            .bodyLength();
        let at = schema + head.windows(8).position(|bytes| bytes == length.to_le_bytes()).unwrap() + PREFIX;
        let claim = |length: i64| {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
            come(&bytes, usize::MAX)
        };
        assert_eq!(claim(-1).unwrap_err(), "wrote a damaged Arrow stream: a message claims -1 bytes");
        assert_eq!(
            claim(1 << 40).unwrap_err(),
            "wrote a batch of 1099511627776 bytes, and 1024 MiB are the most: write batches of fewer rows"
        );
        assert_eq!(claim(1 << 30).unwrap().len(), 1, "the rest of the gigabyte did not come");
        assert!(claim(8).unwrap_err().starts_with("wrote a damaged Arrow stream: buffer "));
    }

    #[test]
    fn what_would_need_more_than_its_bytes_is_refused() {
        let words: DictionaryArray<Int8Type> = ["a", "b"].into_iter().collect();
        let rows = RecordBatch::try_from_iter([("word", Arc::new(words) as _)]).unwrap();
        let told = come(&stream(&[rows]), usize::MAX).unwrap_err();
        assert_eq!(told, "wrote a column with a dictionary; write its values, as `column.cast(pa.string())` does");
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
        let rows = self::rows();
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options).unwrap();
        writer.write(&rows).unwrap();
        let told = come(&writer.into_inner().unwrap(), usize::MAX).unwrap_err();
        assert_eq!(told, "wrote a compressed batch; write the stream without compression");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn damaged_streams_are_errors_or_rows(
            changes in prop::collection::vec((0usize..2000, any::<u8>()), 1..6), cut in 0usize..3000, at_once in 1usize..5000
        ) {
            let mut bytes = stream(&[rows(), rows().slice(3, 5)]);
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(bytes.len() - cut.saturating_sub(1500).min(bytes.len()));
            for came in come(&bytes, at_once).into_iter().flatten() {
                // Whatever it holds can be looked at.
                let shown = format!("{came:?}");
                prop_assert!(!shown.is_empty());
            }
        }
    }
}
