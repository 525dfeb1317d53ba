//! What a message claims of its buffers' lengths, held against its body.

use std::io::Read;

use arrow_ipc::{CompressionType, Message, MessageHeader, RecordBatch};

/// A compressed buffer may claim so much without a closer look: if it is not true, its decoder says so, and the memory was there.
const HARMLESS: u64 = 16 << 20;
/// The buffers of a batch may also have so many times their compressed bytes.
const USUAL: u64 = 4;
/// The length of a compressed buffer that is stored as it is.
const STORED: i64 = -1;
/// Rows of a batch: columns without a value have no bytes that could tell.
const MOST_ROWS: i64 = i32::MAX as i64;

/// Holds the lengths that a message claims against its body.
///
/// # Errors
/// They are wrong; the message says what is, as a fragment.
pub fn check(message: &Message<'_>, body: &[u8]) -> Result<(), String> {
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()),
        _ => return Ok(()),
    };
    let batch = batch.ok_or("a message of it holds no batch")?;
    rows(&batch)?;
    if let Some(node) = batch.nodes().into_iter().flatten().find(|node| node.length() < 0 || node.null_count() < 0) {
        return Err(format!("a column claims {} values, {} of them null", node.length(), node.null_count()));
    }
    buffers(&batch, body)
}

/// How many rows a batch has.
pub(super) fn rows(batch: &RecordBatch<'_>) -> Result<u64, String> {
    let rows = batch.length();
    let most = format!("a batch claims {rows} rows, and {MOST_ROWS} are the most");
    u64::try_from(rows).ok().filter(|_| rows <= MOST_ROWS).ok_or(most)
}

fn buffers(batch: &RecordBatch<'_>, body: &[u8]) -> Result<(), String> {
    let codec = batch.compression().map(|compression| compression.codec());
    for (at, buffer) in batch.buffers().into_iter().flatten().enumerate() {
        let (offset, length) = (buffer.offset(), buffer.length());
        let found = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let found = found.and_then(|(offset, length)| body.get(offset..offset.checked_add(length)?));
        let found = found.ok_or_else(|| {
            format!("buffer {at} of a batch claims {length} bytes from byte {offset} on, and there are {}", body.len())
        })?;
        let Some(codec) = codec.filter(|_| !found.is_empty()) else { continue };
        let (claim, packed) =
            found.split_first_chunk().ok_or_else(|| format!("buffer {at} of a batch is too short for its length"))?;
        match i64::from_le_bytes(*claim) {
            STORED => {}
            claim => {
                let length = u64::try_from(claim).ok().filter(|&claim| is_true(codec, packed, claim));
                length.ok_or_else(|| {
                    format!("buffer {at} of a batch claims to be of {claim} bytes, which its {} do not yield", packed.len())
                })?;
            }
        }
    }
    Ok(())
}

/// Whether memory of the claimed length may be asked for: there is as much, and if it is suspiciously long, the bytes yield it.
fn is_true(codec: CompressionType, packed: &[u8], claim: u64) -> bool {
    if claim <= HARMLESS.max(packed.len() as u64 * USUAL) {
        return true;
    }
    let Ok(length) = usize::try_from(claim) else { return false };
    if Vec::<u8>::new().try_reserve_exact(length).is_err() {
        return false;
    }
    match codec {
        CompressionType::LZ4_FRAME => yields(lz4_flex::frame::FrameDecoder::new(packed), claim),
        CompressionType::ZSTD => zstd::stream::read::Decoder::new(packed).is_ok_and(|decoder| yields(decoder, claim)),
        _ => false,
    }
}

/// Whether a decoder yields exactly so many bytes. It is asked for no more.
fn yields(mut decoder: impl Read, claim: u64) -> bool {
    let mut piece = vec![0; 1 << 18];
    let mut found = 0;
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return found == claim,
            Ok(more) => found += more as u64,
            Err(_) => return false,
        }
        if found > claim {
            return false;
        }
    }
}
