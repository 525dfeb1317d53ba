//! Arrow's file format, which is Feather's second version, and its stream format, which Hugging Face's `datasets` saves.

use arrow::array::RecordBatchReader;
use arrow::ipc::reader::{FileReader, StreamReader};

use super::raw::Raw;
use super::{Batches, Header};
use crate::Error;

/// What a file in the file format begins with; one in the stream format begins with its schema.
const FILE_MAGIC: &[u8] = b"ARROW1";
/// What Feather's first version begins with, which is another format.
const FEATHER_1_MAGIC: &[u8] = b"FEA1";

/// Columns; the rows are in each batch's header only.
pub fn header(raw: Raw<'_>) -> Result<Header, Error> {
    Ok(Header { schema: open(raw)?.schema(), rows: None })
}

/// All rows, in batches as the file has them.
pub fn batches(raw: Raw<'_>) -> Result<Batches<'_>, Error> {
    Ok(Box::new(open(raw)?.map(move |batch| batch.map_err(|error| raw.error(error)))))
}

fn open<'a>(raw: Raw<'a>) -> Result<Box<dyn RecordBatchReader + 'a>, Error> {
    let magic = raw.read(0, raw.size.min(FILE_MAGIC.len() as u64))?;
    if magic.starts_with(FEATHER_1_MAGIC) {
        return Err(raw.error("is Feather version 1; write version 2, which is Arrow's file format"));
    }
    let reader: Result<Box<dyn RecordBatchReader + 'a>, _> = if magic == FILE_MAGIC {
        FileReader::try_new(raw.stream(), None).map(|reader| Box::new(reader) as _)
    } else {
        StreamReader::try_new(raw.buffered(), None).map(|reader| Box::new(reader) as _)
    };
    reader.map_err(|error| raw.error(error))
}
