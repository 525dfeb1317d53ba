//! A table or an answer as one file, for other programs: Parquet, Arrow, CSV, NumPy, HDF5 or safetensors.
//!
//! A file is written under another name and gets its own when it is whole. Rows come in the table's order, and memory holds some
//! batches of them, whatever their number; only a table of weights is held whole.

pub mod arrow;
pub mod csv;
pub mod format;
pub mod hdf5;
pub mod images;
pub mod imports;
mod json;
mod new_file;
pub mod npy;
pub mod safetensors;
pub mod swept;

use std::io::{self, BufWriter};
use std::sync::{Arc, Mutex, PoisonError};

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::{Schema, SchemaRef};
use anyhow::{Context as _, Result, bail};
use parquet::arrow::ArrowWriter;

use crate::engine::catalog::Catalog;
use crate::engine::in_order::in_order;
use crate::engine::operator_exec::ScanState;
use crate::engine::request::Request;
use crate::store::{DroppedRow, part};
use crate::watch::interrupt::Interrupted;
use crate::watch::progress::Bar;

pub use new_file::{NewFile, is_stdout};

/// Rows on their way into a file, batch by batch and in order.
pub struct Rows<'a> {
    /// Their columns.
    pub schema: SchemaRef,
    /// Rows at the table's base: what progress counts.
    pub expected: u64,
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send + 'a>,
    scans: Scans,
}

/// The scans that rows come from; they know what was left out.
type Scans = Arc<Mutex<Vec<Arc<ScanState>>>>;

impl<'a> Rows<'a> {
    /// Rows of these columns, of which it is not known how many there are.
    pub fn of(schema: SchemaRef, batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'a) -> Self {
        Self { schema, expected: 0, batches: Box::new(batches), scans: Scans::default() }
    }

    /// Begins to read some columns of a stage's table.
    ///
    /// # Errors
    /// A stage has no snapshot, or an operator lacks something.
    pub async fn open(catalog: &Arc<Catalog>, node: usize, schema: &SchemaRef) -> Result<Self> {
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        let scan = catalog.scan(node, Request { columns: Some(names), ..Request::default() }).await?;
        let task = catalog.engine.context.task_ctx();
        let found = in_order(scan.plan, task, catalog.engine.threads, &tokio::runtime::Handle::current());
        let (wanted, interrupt) = (schema.clone(), catalog.engine.interrupt.clone());
        let batches = found.map(move |batch| {
            if interrupt.asked() {
                return Err(Interrupted.into());
            }
            let batch = batch?;
            let column = |name: &String| {
                batch.column_by_name(name).cloned().with_context(|| format!("the scan gives no column `{name}`"))
            };
            let columns = wanted.fields().iter().map(|field| column(field.name())).collect::<Result<Vec<_>>>()?;
            // The declared schema is the table's: metadata that the engine lost on the way is put back.
            Ok(RecordBatch::try_new(wanted.clone(), columns)?)
        });
        let scans = Arc::new(Mutex::new(vec![scan.state]));
        Ok(Self { schema: schema.clone(), expected: scan.rows, batches: Box::new(batches), scans })
    }

    /// Images that views could not handle, once all rows were read.
    pub fn dropped(&self) -> Vec<DroppedRow> {
        let scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |scan: &Arc<ScanState>| (0..scan.dropped.len()).flat_map(|at| scan.take_dropped(at)).collect::<Vec<_>>();
        let mut rows: Vec<DroppedRow> = scans.iter().flat_map(of).collect();
        rows.sort();
        rows.dedup();
        rows
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}

/// The columns of a stage's table that are asked for, in that order; all columns, if no name is given.
///
/// # Errors
/// The table has no such column.
pub fn columns(schema: &SchemaRef, names: &[String]) -> Result<SchemaRef> {
    if names.is_empty() {
        return Ok(schema.clone());
    }
    let one = |name: &String| match schema.field_with_name(name) {
        Ok(field) => Ok(field.clone()),
        Err(_) => {
            let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            bail!("there is no column `{name}`; columns: {}", known.join(", "))
        }
    };
    Ok(Arc::new(Schema::new(names.iter().map(one).collect::<Result<Vec<_>>>()?)))
}

/// Writes rows as Parquet: text and numbers compressed, vectors as they are. Returns how many there were.
///
/// # Errors
/// A row cannot be made or written.
pub fn parquet(rows: &mut Rows<'_>, file: &NewFile, bar: &Bar) -> Result<u64> {
    let sink = BufWriter::with_capacity(1 << 20, file.file()?);
    let mut writer = ArrowWriter::try_new(sink, rows.schema.clone(), Some(part::properties(&rows.schema)))?;
    let (mut count, expected) = (0, rows.expected);
    for batch in rows {
        let batch = batch?;
        writer.write(&batch)?;
        if writer.in_progress_size() > part::ROW_GROUP_BYTES {
            writer.flush()?;
        }
        count += batch.num_rows() as u64;
        bar.at(count, expected, "");
    }
    writer.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(count)
}
