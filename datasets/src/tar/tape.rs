//! The bytes of a shard from its first one on, unpacked if they are packed, with a bounded part of them in memory.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::rc::Rc;

use flate2::bufread::GzDecoder;

use crate::{Error, Files};

/// Bytes that are fetched at once from a disk: they stay in the processor's cache until they are hashed.
const NEAR_BYTES: u64 = 1 << 20;
/// Bytes that are fetched at once from afar, where each request takes its time.
const FAR_BYTES: u64 = 8 << 20;

/// How a shard is packed; its name's ending says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// It is a tar.
    None,
    /// A tar within one or more members of gzip.
    Gzip,
    /// A tar within one or more frames of Zstandard.
    Zstd,
}

/// A shard's file.
#[derive(Clone)]
pub struct Raw<'a> {
    /// How it is reached.
    pub files: &'a dyn Files,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

impl Raw<'_> {
    fn read(&self, at: u64, length: u64) -> Result<Vec<u8>, Error> {
        self.files.read_range(&self.path, at, length)
    }
}

/// A shard and a position in its unpacked bytes.
pub struct Tape<'a> {
    source: Source<'a>,
    at: u64,
}

enum Source<'a> {
    Plain(Plain<'a>),
    Packed(Box<Packed<'a>>),
}

impl<'a> Tape<'a> {
    /// The beginning of a shard.
    ///
    /// # Errors
    /// Memory for unpacking cannot be had.
    pub fn open(raw: Raw<'a>, packing: Packing) -> Result<Self, Error> {
        let piece = if raw.files.at_once(&raw.path) > 1 { FAR_BYTES } else { NEAR_BYTES };
        let source = match packing {
            Packing::None => Source::Plain(Plain { raw, piece, fetched: 0, start: 0, bytes: Vec::new() }),
            Packing::Gzip | Packing::Zstd => Source::Packed(Box::new(Packed::open(raw, piece, packing)?)),
        };
        Ok(Self { source, at: 0 })
    }

    /// The position, in unpacked bytes.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The bytes from the position on, up to so many; fewer only where the shard ends or is damaged.
    ///
    /// # Errors
    /// The shard cannot be read.
    pub fn look(&mut self, length: u64) -> Result<&[u8], Error> {
        match &mut self.source {
            Source::Plain(plain) => plain.look(self.at, length),
            Source::Packed(packed) => packed.look(length),
        }
    }

    /// Moves forward, but not behind the end. Returns whether so many bytes are there.
    ///
    /// # Errors
    /// The shard cannot be read.
    pub fn skip(&mut self, length: u64) -> Result<bool, Error> {
        let skipped = match &mut self.source {
            Source::Plain(plain) => length.min(plain.raw.size.saturating_sub(self.at)),
            Source::Packed(packed) => packed.skip(length)?,
        };
        self.at += skipped;
        Ok(skipped == length)
    }

    /// Why the bytes end where they do, of a packed shard that could be unpacked up to there only.
    pub fn damage(&self) -> Option<&str> {
        match &self.source {
            Source::Plain(_) => None,
            Source::Packed(packed) => packed.damage.as_deref(),
        }
    }

    /// Bytes that were fetched or unpacked so far.
    pub fn cost(&self) -> u64 {
        match &self.source {
            Source::Plain(plain) => plain.fetched,
            Source::Packed(packed) => packed.unpacked,
        }
    }
}

struct Plain<'a> {
    raw: Raw<'a>,
    piece: u64,
    fetched: u64,
    /// Where the bytes in memory begin.
    start: u64,
    bytes: Vec<u8>,
}

impl Plain<'_> {
    fn look(&mut self, at: u64, length: u64) -> Result<&[u8], Error> {
        let left = self.raw.size.saturating_sub(at);
        let length = length.min(left);
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + length > end {
            // What is in memory of it already is fetched again: that is cheaper than to move it to another place.
            self.bytes = Vec::new();
            self.bytes = self.raw.read(at, length.max(self.piece).min(left))?;
            self.start = at;
            self.fetched += self.bytes.len() as u64;
        }
        let from = (at - self.start) as usize;
        Ok(&self.bytes[from..from + length as usize])
    }
}

/// A packed file whose failures to be read are told from damaged bytes.
struct Fetch<'a> {
    raw: Raw<'a>,
    at: u64,
    failure: Rc<RefCell<Option<Error>>>,
}

impl Read for Fetch<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.raw.size.saturating_sub(self.at).min(buffer.len() as u64);
        if length == 0 {
            return Ok(0);
        }
        let bytes = self.raw.read(self.at, length).map_err(|error| {
            let told = io::Error::other(error.to_string());
            *self.failure.borrow_mut() = Some(error);
            told
        })?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += length;
        Ok(bytes.len())
    }
}

/// All members of a gzip file, one behind another. What follows them and is no member is not read, as `gzip` does.
struct Gzip<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.0 {
            let length = decoder.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let Some(decoder) = self.0.take() else { break };
            let mut rest = decoder.into_inner();
            if rest.fill_buf()?.first() == Some(&0x1f) {
                self.0 = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

struct Packed<'a> {
    unpacking: Box<dyn Read + 'a>,
    failure: Rc<RefCell<Option<Error>>>,
    /// Bytes in memory, of which the first `used` are behind the position.
    bytes: Vec<u8>,
    used: usize,
    piece: usize,
    unpacked: u64,
    ended: bool,
    damage: Option<String>,
}

impl<'a> Packed<'a> {
    fn open(raw: Raw<'a>, piece: u64, packing: Packing) -> Result<Self, Error> {
        let failure = Rc::new(RefCell::new(None));
        let path = raw.path.clone();
        let fetch = BufReader::with_capacity(piece as usize, Fetch { raw, at: 0, failure: failure.clone() });
        let unpacking: Box<dyn Read + 'a> = match packing {
            Packing::None => Box::new(fetch),
            Packing::Gzip => Box::new(Gzip(Some(GzDecoder::new(fetch)))),
            Packing::Zstd => Box::new(zstd::Decoder::with_buffer(fetch).map_err(|error| Error::io(path, error))?),
        };
        let (bytes, piece) = (Vec::new(), NEAR_BYTES as usize);
        Ok(Self { unpacking, failure, bytes, used: 0, piece, unpacked: 0, ended: false, damage: None })
    }

    fn look(&mut self, length: u64) -> Result<&[u8], Error> {
        while !self.ended && ((self.bytes.len() - self.used) as u64) < length {
            self.more()?;
        }
        let there = &self.bytes[self.used..];
        let length = length.min(there.len() as u64) as usize;
        // `used` moves by `skip` alone.
        Ok(&there[..length])
    }

    fn skip(&mut self, length: u64) -> Result<u64, Error> {
        let mut left = length;
        loop {
            let step = left.min((self.bytes.len() - self.used) as u64);
            self.used += step as usize;
            left -= step;
            if left == 0 || self.ended {
                return Ok(length - left);
            }
            self.more()?;
        }
    }

    /// Unpacks up to a piece more.
    fn more(&mut self) -> Result<(), Error> {
        self.bytes.drain(..self.used);
        self.used = 0;
        let before = self.bytes.len();
        self.bytes.resize(before + self.piece, 0);
        let mut filled = before;
        while filled < self.bytes.len() {
            match self.unpacking.read(&mut self.bytes[filled..]) {
                Ok(0) => self.ended = true,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if let Some(failure) = self.failure.borrow_mut().take() {
                        return Err(failure);
                    }
                    self.ended = true;
                    self.damage = Some(error.to_string());
                }
            }
            if self.ended {
                break;
            }
        }
        self.unpacked += (filled - before) as u64;
        self.bytes.truncate(filled);
        Ok(())
    }
}
