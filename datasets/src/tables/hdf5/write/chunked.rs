//! A dataset that rows are appended to, chunk by chunk.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use hdf5_metno::Group;
use hdf5_metno::dataset::Dataset;
use libdeflater::{CompressionLvl, Compressor};

use super::super::filters::{Filter, Undo};
use super::raw::{self, Item};

/// How much is deflated: as h5py does by default.
const LEVEL: u32 = 4;
/// Bytes of a chunk, unless a row has more.
const CHUNK_BYTES: usize = 1 << 20;
/// Rows of a chunk of small values.
const CHUNK_ROWS: usize = 1 << 14;
/// Bytes of a row from which on several chunks are deflated at once: a table has few such columns, and may have thousands of others.
const WIDE_BYTES: usize = 1 << 10;

/// A dataset.
pub struct Chunked {
    dataset: Dataset,
    name: String,
    item: Item,
    /// A chunk's shape.
    chunk: Vec<u64>,
    row_bytes: usize,
    /// Rows that are not written yet.
    pending: Vec<u8>,
    /// Bytes of the chunks that were written.
    written: Vec<usize>,
    rows: u64,
    threads: usize,
}

impl Chunked {
    /// An empty dataset, whose rows have that shape.
    ///
    /// # Errors
    /// A row is too large, or the library says no.
    pub fn create(group: &Group, name: &str, item: Item, row: &[u64], threads: usize) -> Result<Self, String> {
        let values = row.iter().product::<u64>() as usize;
        let row_bytes = values * item.bytes();
        if row_bytes == 0 || row_bytes > 1 << 30 {
            return Err(format!("rows of {row_bytes} bytes, and HDF5 has chunks of 1 to 2^30"));
        }
        let rows = (CHUNK_BYTES / row_bytes).clamp(1, CHUNK_ROWS);
        let chunk: Vec<u64> = std::iter::once(rows as u64).chain(row.iter().copied()).collect();
        let dataset = raw::dataset(group, name, item, &chunk, LEVEL)?;
        let (name, pending, written) = (name.to_owned(), Vec::new(), Vec::new());
        Ok(Self { dataset, name, item, chunk, row_bytes, pending, written, rows: 0, threads: threads.max(1) })
    }

    /// The dataset.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// How many rows it was given.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of a value.
    pub fn width(&self) -> usize {
        self.item.bytes()
    }

    /// Appends rows.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        self.rows += (bytes.len() / self.row_bytes) as u64;
        let most = self.chunk_bytes() * if self.row_bytes < WIDE_BYTES { 1 } else { self.threads * 2 };
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(most - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = rest;
            if self.pending.len() == most {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes all that is left, and the number of rows.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self) -> Result<(), String> {
        let whole = self.pending.len().next_multiple_of(self.chunk_bytes());
        self.pending.resize(whole, 0);
        self.flush()?;
        raw::resize(&self.dataset, &self.shape(self.rows))
    }

    /// Writes the texts anew into a dataset of the same name, with room for longer ones.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn widen(&mut self, group: &Group, bytes: usize) -> Result<(), String> {
        let beside = format!("{} (shorter)", self.name);
        raw::rename(group, &self.name, &beside)?;
        let mut wide = Self::create(group, &self.name, Item::Text(bytes), &self.chunk[1..], self.threads)?;
        let width = self.width();
        let mut push = |texts: &[u8]| {
            let mut padded = vec![0; texts.len() / width * bytes];
            for (text, place) in texts.chunks_exact(width).zip(padded.chunks_exact_mut(bytes)) {
                place[..width].copy_from_slice(text);
            }
            wide.push(&padded)
        };
        let mut undo = Undo::new();
        for (at, &size) in self.written.iter().enumerate() {
            let chunk = raw::read_chunk(&self.dataset, &self.start(at), size)?;
            push(&undo.all(&[Filter::Deflate], 0, chunk, self.chunk_bytes())?)?;
        }
        push(&self.pending)?;
        *self = wide;
        raw::remove(group, &beside)
    }

    fn chunk_bytes(&self) -> usize {
        self.chunk[0] as usize * self.row_bytes
    }

    fn shape(&self, rows: u64) -> Vec<u64> {
        std::iter::once(rows).chain(self.chunk[1..].iter().copied()).collect()
    }

    fn start(&self, chunk: usize) -> Vec<u64> {
        let mut start = vec![0; self.chunk.len()];
        start[0] = chunk as u64 * self.chunk[0];
        start
    }

    /// Writes the chunks that are whole: all of `pending`.
    fn flush(&mut self) -> Result<(), String> {
        let pending = std::mem::take(&mut self.pending);
        let chunks: Vec<&[u8]> = pending.chunks_exact(self.chunk_bytes()).collect();
        let deflated = deflate(&chunks, self.item, self.threads)?;
        if !deflated.is_empty() {
            let whole = (self.written.len() + deflated.len()) as u64 * self.chunk[0];
            raw::resize(&self.dataset, &self.shape(whole))?;
        }
        for bytes in deflated {
            raw::write_chunk(&self.dataset, &self.start(self.written.len()), &bytes)?;
            self.written.push(bytes.len());
        }
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }
}

/// Chunks as the filters make them, in their order.
fn deflate(chunks: &[&[u8]], item: Item, threads: usize) -> Result<Vec<Vec<u8>>, String> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![Vec::new(); chunks.len()]);
    let work = || -> Result<(), String> {
        let mut tool = Compressor::new(CompressionLvl::new(LEVEL as i32).unwrap_or_default());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(at) else { return Ok(()) };
            let shuffled = item.shuffles().then(|| shuffle(chunk, item.bytes()));
            let chunk = shuffled.as_deref().unwrap_or(chunk);
            let mut out = vec![0; tool.zlib_compress_bound(chunk.len())];
            let size = tool.zlib_compress(chunk, &mut out).map_err(|error| format!("cannot deflate: {error}"))?;
            out.truncate(size);
            done.lock().unwrap_or_else(PoisonError::into_inner)[at] = out;
        }
    };
    match threads.min(chunks.len()) {
        0 | 1 => work()?,
        threads => std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a thread panicked".to_owned())?)
        })?,
    }
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// All first bytes of values, all second bytes, ….
fn shuffle(bytes: &[u8], width: usize) -> Vec<u8> {
    let rows = bytes.len() / width;
    let mut out = vec![0; bytes.len()];
    for (plane, out) in out.chunks_exact_mut(rows.max(1)).enumerate() {
        for (place, value) in out.iter_mut().zip(bytes.chunks_exact(width)) {
            *place = value[plane];
        }
    }
    out
}
