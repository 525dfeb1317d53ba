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
pub mod npy;
pub mod safetensors;

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::{Schema, SchemaRef};
use anyhow::{Context as _, Error, Result, anyhow, bail};
use parquet::arrow::ArrowWriter;
use tempfile::{Builder, NamedTempFile};

use crate::engine::catalog::Catalog;
use crate::engine::in_order::in_order;
use crate::engine::operator_exec::ScanState;
use crate::engine::request::Request;
use crate::store::{DroppedRow, part};
use crate::watch::interrupt::Interrupted;
use crate::watch::progress::Bar;

/// Rows on their way into a file, batch by batch and in order.
pub struct Rows<'a> {
    /// Their columns.
    pub schema: SchemaRef,
    /// Rows at the table's base: what progress counts.
    pub expected: u64,
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send + 'a>,
    state: Arc<ScanState>,
}

impl<'a> Rows<'a> {
    /// Rows of these columns, of which it is not known how many there are.
    pub fn of(schema: SchemaRef, batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'a) -> Self {
        Self { schema, expected: 0, batches: Box::new(batches), state: Arc::default() }
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
        Ok(Self { schema: schema.clone(), expected: scan.rows, batches: Box::new(batches), state: scan.state })
    }

    /// Images that views could not handle, once all rows were read.
    pub fn dropped(&self) -> Vec<DroppedRow> {
        let mut rows: Vec<DroppedRow> = (0..self.state.dropped.len()).flat_map(|at| self.state.take_dropped(at)).collect();
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

/// A file that gets its name when it is whole; dropped before, it leaves nothing behind.
pub struct NewFile {
    path: PathBuf,
    file: NamedTempFile,
    force: bool,
}

impl NewFile {
    /// Begins a file that is to have that path.
    ///
    /// # Errors
    /// There is one already and `force` is not given, or the folder cannot be written to.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        refuse_existing(path, force)?;
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_string_lossy();
        let file = Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".tmp")
            // As the umask has it.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder(path))
            .with_context(|| format!("cannot write to {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, force })
    }

    /// Where it lies until it is whole, for writers that open it themselves.
    pub fn temporary(&self) -> &Path {
        self.file.path()
    }

    /// The file.
    ///
    /// # Errors
    /// Its handle cannot be had twice.
    pub fn file(&self) -> Result<File> {
        self.file.as_file().try_clone().with_context(|| format!("cannot write to {}", self.path.display()))
    }

    /// Waits for the disk and gives the file its name. Returns its size in bytes.
    ///
    /// # Errors
    /// The disk says no, or another file took the name meanwhile.
    pub fn finish(self) -> Result<u64> {
        let Self { path, file, force } = self;
        refuse_existing(&path, force)?;
        let close = || -> io::Result<u64> {
            file.as_file().sync_all()?;
            let bytes = file.as_file().metadata()?.len();
            if force {
                file.persist(&path)?
            } else {
                file.persist_noclobber(&path)?
            };
            File::open(folder(&path))?.sync_all()?;
            Ok(bytes)
        };
        close().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => is_there(&path),
            _ => Error::new(error).context(format!("cannot finish {}", path.display())),
        })
    }
}

/// The folder of a path.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_there(path: &Path) -> Error {
    anyhow!("{} is there already: --force overwrites it", path.display())
}

fn refuse_existing(path: &Path, force: bool) -> Result<()> {
    // A rename would put a file in the place of a device, a pipe or a link.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        bail!("{} is no plain file: name another; `tessera sql --format csv` writes to a pipe", path.display());
    }
    if force || !path.exists() { Ok(()) } else { Err(is_there(path)) }
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
