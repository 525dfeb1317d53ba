//! HDF5: datasets of one file as a table's columns.
//!
//! A dataset of shape `N x …` has a row for each step of its first axis. `N` values are a column of numbers or text, `N x D` one of
//! vectors, more axes make vectors whose metadata has their shape; a dataset that becomes the column `pixels` is made images of
//! (`picture.rs`). Structs are columns of structs, or, where one such dataset is the whole table, a column a field.
//!
//! The C library is asked what there is and where it lies (`describe.rs`), and no more: its calls exclude each other, and it trusts
//! what it reads. Values are read beside it, and chunks inflated by all threads (`stored.rs`).
//!
//! What `export` writes has more: attributes with a column's metadata, its Arrow type where HDF5 has none, and its order; a dataset
//! of bools beside a column with nulls; groups for lists and structs. See [`layout`].

use std::fs;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::raw::Raw;
use super::rows::both;
use super::{Batches, Datasets, Header};
use crate::{Error, as_url};
use columns::{Column, Table};
use heap::Heap;
use stored::Stored;

mod columns;
mod describe;
mod driver;
mod filters;
mod heap;
pub(crate) mod images;
mod kind;
pub mod layout;
mod picture;
mod stored;
mod walk;
pub mod write;

/// Bytes of rows that are read together, and inflated by all threads.
const BLOCK_BYTES: u64 = 64 << 20;
/// Bytes of rows that are read together so that a chunk is not inflated twice.
const LARGEST_BLOCK_BYTES: u64 = 256 << 20;

/// What HDF5's part of a file begins with.
const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Bytes of a superblock, its version and flags among them, that each version has.
const SUPERBLOCK_BYTES: u64 = 12;
/// Flags of a superblock.
const WRITING: u8 = 1;
const WRITING_SWMR: u8 = 4;

/// Columns and number of rows.
pub(super) fn header(raw: Raw<'_>, datasets: &Datasets) -> Result<Header, Error> {
    let _writers_wait = hold(raw)?;
    let table = describe(raw, datasets, false)?;
    let rows = Some(table.rows);
    Ok(Header::new(table.schema(), rows))
}

/// Some rows. Holds one block of them at a time, and reads the chunks alone that have some of them.
pub(super) fn batches<'a>(
    raw: Raw<'a>,
    datasets: &Datasets,
    threads: usize,
    range: Range<u64>,
) -> Result<Batches<'a>, Error> {
    let writers_wait = hold(raw)?;
    let table = describe(raw, datasets, true)?;
    let (schema, mut step) = (table.schema(), table.block(BLOCK_BYTES, raw.size));
    let mut left = both(&range, &(0..table.rows));
    Ok(Box::new(std::iter::from_fn(move || {
        let _ = &writers_wait;
        if left.is_empty() {
            return None;
        }
        // Blocks begin where chunks do, but the first.
        let block = left.start..left.end.min((left.start / step + 1).saturating_mul(step));
        let batch = table.read_some(raw, block.clone(), threads).and_then(|(rows, columns)| {
            left.start = rows.end;
            if rows.end < block.end {
                // The texts of these rows are longer than others'.
                step = rows.end - rows.start;
            }
            RecordBatch::try_new(schema.clone(), columns).map_err(|error| raw.error(error))
        });
        if batch.is_err() {
            left.start = left.end;
        }
        Some(batch)
    })))
}

fn describe(raw: Raw<'_>, datasets: &Datasets, whole: bool) -> Result<Table, Error> {
    check(raw)?;
    let table = driver::with_file(raw, |file| Table::of(file, datasets, whole))?;
    refuse_sparse(raw, table.sparse(raw.size))?;
    Ok(table)
}

/// Refuses a dataset that would have far more bytes than the file could keep, if there is one.
fn refuse_sparse(raw: Raw<'_>, sparse: Option<&Stored>) -> Result<(), Error> {
    match sparse {
        Some(Stored { path, shape, kind, .. }) => Err(raw.error(format!(
            "`{path}` is {} of {kind}, of which a file of {} bytes can have next to none: make it as large as what was written",
            kind::sides(shape),
            raw.size
        ))),
        None => Ok(()),
    }
}

/// Refuses what is no HDF5 file, or one that is being written.
fn check(raw: Raw<'_>) -> Result<(), Error> {
    // It may lie behind a block of the user's, at 512, 1024, … bytes.
    let places = std::iter::once(0).chain((9..40).map(|power| 1_u64 << power));
    let mut found = None;
    for at in places.take_while(|&at| at + SUPERBLOCK_BYTES <= raw.size) {
        found = Some(raw.read(at, SUPERBLOCK_BYTES)?).filter(|bytes| bytes.starts_with(SIGNATURE));
        if found.is_some() {
            break;
        }
    }
    let superblock = found.ok_or_else(|| raw.error("is no HDF5 file: it does not have the signature \\x89HDF"))?;
    // From version 3 on it says whether a program that writes has closed the file.
    if superblock[8] >= 3 && superblock[11] & (WRITING | WRITING_SWMR) != 0 {
        return Err(raw.error(
            "is open for writing in another program, or was not closed by it: `h5clear -s FILE` says that it is sound",
        ));
    }
    Ok(())
}

/// Keeps programs that use HDF5 from writing to a file while it is read; dropped, they may.
fn hold(raw: Raw<'_>) -> Result<Option<fs::File>, Error> {
    if as_url(raw.path).is_some() {
        return Ok(None);
    }
    let Ok(file) = fs::File::open(raw.path) else { return Ok(None) };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(raw.error("is open for writing in another program: close it there, or wait"))
        }
        // Not all disks know locks.
        Err(fs::TryLockError::Error(_)) => Ok(None),
    }
}

impl Table {
    fn schema(&self) -> SchemaRef {
        let fields: Vec<Arc<Field>> = match self.spread() {
            Some(fields) => fields.iter().cloned().collect(),
            None => self.columns.iter().map(|column| Arc::new(column.field.clone())).collect(),
        };
        Arc::new(Schema::new(fields))
    }

    /// Some rows: from the first of those that are asked for on, fewer of them where their texts are long.
    fn read_some(&self, raw: Raw<'_>, rows: Range<u64>, threads: usize) -> Result<(Range<u64>, Vec<ArrayRef>), Error> {
        let Range { start, mut end } = rows;
        loop {
            let heap = Heap::new(raw, self.base);
            match self.read(raw, start..end, &heap, threads) {
                Err(_) if heap.is_full() && end - start > 1 => end = start + (end - start).div_ceil(2),
                columns => return Ok((start..end, columns?)),
            }
        }
    }

    /// A dataset that would have far more bytes than a file of so many could keep.
    fn sparse(&self, file_bytes: u64) -> Option<&Stored> {
        self.columns.iter().find_map(|column| column.sparse(file_bytes))
    }

    /// How many rows are read together, if that is to be so many bytes, of a file of `file_bytes`.
    fn block(&self, bytes: u64, file_bytes: u64) -> u64 {
        let row = self.columns.iter().fold(0, |row: u64, column| row.saturating_add(column.row_bytes(self.rows)));
        // All that lies in the heap is in the file.
        let heap = if self.columns.iter().any(Column::in_heap) { file_bytes.div_ceil(self.rows.max(1)) } else { 0 };
        let row = row.saturating_add(heap).max(1);
        let rows = (bytes / row).max(1);
        // Chunks of the widest column end where blocks do.
        let widest = self.columns.iter().max_by_key(|column| column.row_bytes(self.rows));
        let band = widest.map_or(1, Column::band).max(1);
        if rows >= band {
            rows / band * band
        } else if band.saturating_mul(row) <= LARGEST_BLOCK_BYTES {
            band
        } else {
            rows
        }
    }
}

#[cfg(test)]
mod tests;
