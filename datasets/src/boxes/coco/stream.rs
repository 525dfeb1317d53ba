//! A JSON file, read block by block: COCO's largest has 450 MB, most of it segmentations that are not kept.

use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use serde::Deserialize as _;

use super::parse::Document;
use crate::{Error, Files};

/// Bytes that are read at once.
const BLOCK: usize = 4 << 20;

/// The document that a file of that many bytes has.
///
/// # Errors
/// It cannot be read, or is another kind of file; the message has the line and the place in it.
pub fn read(files: &dyn Files, path: &Path, size: u64) -> Result<Document, Error> {
    let mut source = Source { files, path, size, at: 0, failed: None };
    let parsed = parse(&mut source);
    match (source.failed, parsed) {
        (Some(error), _) => Err(error),
        (None, parsed) => parsed.map_err(|message| Error::format(path, message)),
    }
}

fn parse(source: &mut Source<'_>) -> Result<Document, String> {
    let mut buffered = BufReader::with_capacity(BLOCK, source);
    let front = buffered.fill_buf().map_err(|error| error.to_string())?;
    match front {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err("it is UTF-16 text; save it as UTF-8".to_owned()),
        [0xef, 0xbb, 0xbf, ..] => buffered.consume(3),
        _ => {}
    }
    let mut json = serde_json::Deserializer::from_reader(buffered);
    let parsed = Document::deserialize(&mut json).and_then(|document| json.end().map(|()| document));
    parsed.map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!(
            "{error}; a file of boxes has `images` (id, file_name), `annotations` (image_id, category_id, bbox of 4 numbers) and \
             `categories` (id, name)"
        ),
        _ => format!("{error}; it should be JSON, in UTF-8"),
    })
}

struct Source<'a> {
    files: &'a dyn Files,
    path: &'a Path,
    size: u64,
    at: u64,
    /// Why the file could not be read.
    failed: Option<Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = (self.size - self.at).min(buffer.len() as u64);
        if length == 0 {
            return Ok(0);
        }
        match self.files.read_range(self.path, self.at, length) {
            Ok(bytes) => {
                let length = bytes.len().min(buffer.len());
                buffer[..length].copy_from_slice(&bytes[..length]);
                self.at += length as u64;
                Ok(length)
            }
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("it cannot be read"))
            }
        }
    }
}
