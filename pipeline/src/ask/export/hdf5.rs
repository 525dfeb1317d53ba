//! A table as HDF5: a dataset a column, in chunks that are compressed and may grow.
//!
//! `tessera_datasets::tables::hdf5` says what becomes of types and nulls; `table` reads such a file back as the same table.

use anyhow::{Context as _, Result, anyhow};
use tessera_datasets::tables::hdf5::write::Writer;

use super::{NewFile, Rows};
use crate::watch::progress::Bar;

/// Writes rows, with threads that compress. Returns how many there were.
///
/// # Errors
/// A column or a value has no place in HDF5, or a row cannot be made or written.
pub fn write(rows: &mut Rows<'_>, file: &NewFile, threads: usize, bar: &Bar) -> Result<u64> {
    let failed = |message: String| anyhow!(message);
    let mut writer = Writer::create(file.temporary(), &rows.schema, threads).map_err(failed)?;
    let expected = rows.expected;
    let mut count = 0;
    for batch in rows {
        let batch = batch?;
        writer.write(&batch).map_err(failed)?;
        count += batch.num_rows() as u64;
        bar.at(count, expected, "");
    }
    writer.finish().map_err(failed).context("the file could not be finished")
}
