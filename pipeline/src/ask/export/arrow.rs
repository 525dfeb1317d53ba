//! A table in Arrow's file format, which readers map into memory.

use std::io::{BufWriter, IntoInnerError};

use anyhow::Result;
use arrow::ipc::writer::FileWriter;

use super::{NewFile, Rows};
use crate::watch::progress::Bar;

/// Writes rows. Returns how many there were.
///
/// # Errors
/// A row cannot be made or written.
pub fn write(rows: &mut Rows<'_>, file: &NewFile, bar: &Bar) -> Result<u64> {
    let sink = BufWriter::with_capacity(1 << 20, file.file()?);
    let mut writer = FileWriter::try_new(sink, &rows.schema)?;
    let (mut count, expected) = (0, rows.expected);
    for batch in rows {
        let batch = batch?;
        writer.write(&batch)?;
        count += batch.num_rows() as u64;
        bar.at(count, expected, "");
    }
    writer.into_inner()?.into_inner().map_err(IntoInnerError::into_error)?;
    Ok(count)
}
