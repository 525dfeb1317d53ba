//! A dataset as it lies in the file: in one piece, or in chunks, of which rows are read without the library.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::buffer::{Buffer, MutableBuffer};

use super::super::raw::Raw;
use super::filters::{Filter, Undo};
use super::kind::{Kind, MOST_BYTES, sides};
use crate::Error;

/// Bytes of chunks that reach into the next rows and are kept for them.
const KEPT_BYTES: usize = 128 << 20;
/// How many times its bytes a file's values may have: deflate makes up to 1032 of one, and some need never have been written.
const MOST_INFLATED: u64 = 4096;
/// Bytes of values that any file may have.
const ALWAYS_BYTES: u64 = 64 << 20;

/// A dataset.
#[derive(Debug)]
pub struct Stored {
    /// Its path in the file.
    pub path: String,
    /// Its values' type.
    pub kind: Kind,
    /// Its shape; the first axis is the rows.
    pub shape: Vec<u64>,
    /// What a value is that was never written; empty: zeros.
    pub fill: Vec<u8>,
    /// Where its values lie.
    pub place: Place,
}

/// Where values lie.
#[derive(Debug)]
pub enum Place {
    /// Among the file's descriptions, and so here.
    Here(Vec<u8>),
    /// In one piece, from that byte on.
    At(u64),
    /// They were never written.
    Nowhere,
    /// In pieces.
    Chunks(Chunks),
}

/// The pieces of a dataset.
#[derive(Debug)]
pub struct Chunks {
    /// The shape of a piece.
    pub shape: Vec<u64>,
    /// What each has gone through, in that order.
    pub filters: Vec<Filter>,
    /// The chunks that were written, by their numbers in the order of rows, columns, ….
    pub written: HashMap<u64, Chunk>,
    /// The chunks that reach into rows that come next.
    pub kept: Mutex<HashMap<u64, Arc<Vec<u8>>>>,
}

/// A piece.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Its first byte in the file.
    pub address: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Filters that were left out for it, a bit each.
    pub skipped: u32,
}

impl Stored {
    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or_default()
    }

    /// Values of a row.
    pub fn width(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.width() as usize * self.kind.bytes()
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> u64 {
        self.rows().saturating_mul(self.row_bytes() as u64)
    }

    /// Whether it would have far more bytes than a file of so many could keep, even where it is deflated.
    pub fn is_sparse(&self, file_bytes: u64) -> bool {
        self.bytes() > file_bytes.saturating_mul(MOST_INFLATED).saturating_add(ALWAYS_BYTES)
    }

    /// Rows that are best read together: as many as a chunk has.
    pub fn band(&self) -> u64 {
        match &self.place {
            Place::Chunks(chunks) => chunks.shape[0],
            _ => 1,
        }
    }

    /// Checks that sizes can be computed with.
    ///
    /// # Errors
    /// A row or a chunk is larger than what is read at once.
    pub fn check(self) -> Result<Self, String> {
        let bytes = |shape: &[u64]| {
            let values = shape.iter().try_fold(self.kind.bytes() as u64, |all, &side| all.checked_mul(side));
            values.filter(|&bytes| bytes <= MOST_BYTES)
        };
        let too_large = |what: &str, shape: &[u64]| {
            let (path, kind) = (&self.path, &self.kind);
            format!("`{path}` has {what} of {} {kind}; up to {MOST_BYTES} bytes are read at once", sides(shape))
        };
        if bytes(&self.shape[1..]).is_none() || self.width() > i32::MAX as u64 {
            return Err(too_large("rows", &self.shape[1..]));
        }
        if self.rows().checked_mul(self.row_bytes().max(1) as u64).is_none_or(|bytes| bytes > i64::MAX as u64) {
            return Err(format!("`{}` has {} rows, which no file holds", self.path, self.rows()));
        }
        if let Place::Chunks(chunks) = &self.place {
            if chunks.shape.len() != self.shape.len() || chunks.shape.contains(&0) {
                return Err(format!("`{}` has chunks of {}, and {}", self.path, sides(&chunks.shape), sides(&self.shape)));
            }
            if bytes(&chunks.shape).is_none() {
                return Err(too_large("chunks", &chunks.shape));
            }
        }
        Ok(self)
    }

    /// The bytes of some rows, side by side.
    ///
    /// # Errors
    /// They cannot be read, or a chunk is damaged.
    pub fn read(&self, raw: Raw<'_>, rows: Range<u64>, threads: usize) -> Result<Buffer, Error> {
        let row_bytes = self.row_bytes();
        let length = (rows.end - rows.start) as usize * row_bytes;
        let start = rows.start as usize * row_bytes;
        match &self.place {
            Place::Here(bytes) => match bytes.get(start..start + length) {
                Some(bytes) => Ok(Buffer::from(bytes)),
                None => Err(raw.error(format!("is damaged: `{}` has {} bytes", self.path, bytes.len()))),
            },
            Place::At(address) => {
                let from = address.checked_add(start as u64);
                let from = from.ok_or_else(|| raw.error(format!("is damaged: `{}` lies nowhere", self.path)))?;
                Ok(Buffer::from_vec(raw.read(from, length as u64)?))
            }
            Place::Nowhere => Ok(self.filled(length).into()),
            Place::Chunks(chunks) => chunks.read(self, raw, rows, length, threads),
        }
    }

    /// `length` bytes of values that were never written.
    fn filled(&self, length: usize) -> MutableBuffer {
        let mut buffer = MutableBuffer::from_len_zeroed(length);
        if !self.fill.is_empty() {
            for value in buffer.as_slice_mut().chunks_exact_mut(self.fill.len()) {
                value.copy_from_slice(&self.fill);
            }
        }
        buffer
    }
}

impl Chunks {
    fn read(&self, of: &Stored, raw: Raw<'_>, rows: Range<u64>, length: usize, threads: usize) -> Result<Buffer, Error> {
        let mut out = of.filled(length);
        if length == 0 {
            return Ok(out.into());
        }
        let bands = rows.start / self.shape[0]..rows.end.div_ceil(self.shape[0]);
        let across: u64 = self.grid(of).skip(1).product();
        let numbers = bands.start * across..bands.end * across;
        let wanted: Vec<(u64, Chunk)> = if numbers.end - numbers.start > self.written.len() as u64 {
            // Most of these were never written.
            let here = self.written.iter().filter(|(number, _)| numbers.contains(number));
            let mut wanted: Vec<_> = here.map(|(number, chunk)| (*number, *chunk)).collect();
            wanted.sort_unstable_by_key(|(number, _)| *number);
            wanted
        } else {
            numbers.filter_map(|number| Some((number, *self.written.get(&number)?))).collect()
        };
        // Rows behind these that the last band has as well.
        let open = (!rows.end.is_multiple_of(self.shape[0]) && rows.end < of.rows()).then(|| (bands.end - 1) * across);
        let bytes = self.shape.iter().product::<u64>() as usize * of.kind.bytes();
        let keeps = bytes.saturating_mul(across as usize) <= KEPT_BYTES;
        let before = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let target = Mutex::new(out.as_slice_mut());
        let work = || {
            let mut undo = Undo::new();
            while let Some(&(number, chunk)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let whole = match before.get(&number) {
                    Some(known) => Ok(known.clone()),
                    None => self.whole(of, raw, chunk, bytes, &mut undo, number).map(Arc::new),
                };
                let whole = match whole {
                    Ok(whole) => whole,
                    Err(error) => {
                        next.store(wanted.len(), Ordering::Relaxed);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        return;
                    }
                };
                self.place(of, number, &whole, &rows, &mut target.lock().unwrap_or_else(PoisonError::into_inner));
                if keeps && open.is_some_and(|first| number >= first) {
                    self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(number, whole);
                }
            }
        };
        match threads.min(wanted.len()) {
            0 | 1 => work(),
            threads => std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(work);
                }
            }),
        }
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(out.into()),
        }
    }

    /// How many chunks there are along each axis.
    pub fn grid<'a>(&'a self, of: &'a Stored) -> impl Iterator<Item = u64> + 'a {
        of.shape.iter().zip(&self.shape).map(|(&side, &chunk)| side.div_ceil(chunk))
    }

    /// Where a chunk begins, along each axis.
    fn start(&self, of: &Stored, number: u64) -> Vec<u64> {
        let grid: Vec<u64> = self.grid(of).collect();
        let mut rest = number;
        let mut start = vec![0; grid.len()];
        for axis in (0..grid.len()).rev() {
            start[axis] = rest % grid[axis].max(1) * self.shape[axis];
            rest /= grid[axis].max(1);
        }
        start
    }

    fn whole(
        &self,
        of: &Stored,
        raw: Raw<'_>,
        chunk: Chunk,
        bytes: usize,
        undo: &mut Undo,
        number: u64,
    ) -> Result<Vec<u8>, Error> {
        let named = |message: String| {
            let start = self.start(of, number).iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            raw.error(format!("is damaged: the chunk of `{}` at ({start}): {message}", of.path))
        };
        if chunk.bytes > raw.size {
            return Err(named(format!("it has {} bytes, and the file {}", chunk.bytes, raw.size)));
        }
        let stored = raw.read(chunk.address, chunk.bytes)?;
        undo.all(&self.filters, chunk.skipped, stored, bytes).map_err(named)
    }

    /// Copies what a chunk has of some rows to its place among them.
    fn place(&self, of: &Stored, number: u64, whole: &[u8], rows: &Range<u64>, out: &mut [u8]) {
        let start = self.start(of, number);
        // Axes behind this one are whole in each chunk, so that a run of it lies side by side here and there.
        let last = (0..start.len()).rev().find(|&axis| self.shape[axis] != of.shape[axis]).unwrap_or(0);
        let axes = start.len();
        let item = of.kind.bytes() as u64;
        // The chunk's part of each axis: the first is cut to the rows, all to the dataset's shape.
        let from: Vec<u64> = (0..axes).map(|axis| if axis == 0 { rows.start.max(start[0]) } else { start[axis] }).collect();
        let to: Vec<u64> = (0..axes)
            .map(|axis| {
                let end = (start[axis] + self.shape[axis]).min(of.shape[axis]);
                if axis == 0 { end.min(rows.end) } else { end }
            })
            .collect();
        if from.iter().zip(&to).any(|(from, to)| from >= to) {
            return;
        }
        let run = ((to[last] - from[last]) * of.shape[last + 1..].iter().product::<u64>() * item) as usize;
        let mut at = from.clone();
        loop {
            let place = |shape: &[u64], origin: &dyn Fn(usize) -> u64| {
                (0..axes).fold(0, |sum, axis| sum * shape[axis] + (at[axis] - origin(axis))) * item
            };
            let source = place(&self.shape, &|axis| start[axis]) as usize;
            let target = place(&of.shape, &|axis| if axis == 0 { rows.start } else { 0 }) as usize;
            out[target..target + run].copy_from_slice(&whole[source..source + run]);
            // The next run: the last axis but one counts fastest.
            let Some(axis) = (0..last).rev().find(|&axis| at[axis] + 1 < to[axis]) else { break };
            at[axis] += 1;
            at[axis + 1..last].copy_from_slice(&from[axis + 1..last]);
        }
    }
}
