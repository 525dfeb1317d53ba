//! A table file as its readers see it: ranges of bytes, or a stream over them.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::{Error, Files};

/// Bytes that a sequential reader fetches at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A file and its length.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    pub files: &'a dyn Files,
    pub path: &'a Path,
    /// Bytes.
    pub size: u64,
}

impl<'a> Raw<'a> {
    /// A range of its bytes.
    ///
    /// # Errors
    /// The range leaves the file, or cannot be read.
    pub fn read(self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(self.error(format!("needs {length} bytes from byte {offset} on and has {} in all", self.size)));
        }
        self.files.read_range(self.path, offset, length)
    }

    /// An error that says what is wrong with the file.
    pub fn error(self, message: impl ToString) -> Error {
        Error::format(self.path, message)
    }

    /// A stream from its start, for readers that ask for large pieces.
    pub fn stream(self) -> Stream<'a> {
        Stream { raw: self, at: 0 }
    }

    /// A stream from its start, for readers that ask for small pieces.
    pub fn buffered(self) -> BufReader<Stream<'a>> {
        BufReader::with_capacity(BUFFER_BYTES, self.stream())
    }
}

/// A position in a file.
pub struct Stream<'a> {
    raw: Raw<'a>,
    at: u64,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.raw.size.saturating_sub(self.at).min(buffer.len() as u64);
        if length == 0 {
            return Ok(0);
        }
        let bytes = self.raw.files.read_range(self.raw.path, self.at, length).map_err(|error| match error {
            Error::Io { source, .. } => source,
            Error::Format { message, .. } => io::Error::other(message),
        })?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += length;
        Ok(bytes.len())
    }
}

impl Seek for Stream<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.raw.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the file is too short"))?;
        Ok(self.at)
    }
}
