//! Tables in files, as they are: Parquet, CSV, JSON lines, NumPy's `.npy`, HDF5, Arrow's file and stream formats.
//!
//! A table is a file, or all such files of a folder in the order of their paths, which have the same columns. What differs
//! from a file: text is Utf8, lists of floats that have one length are vectors of f32
//! ([`features::field`](tessera_schemas::features::field)), and there is an `image_id` of unique text: the file's own, or the
//! row's number over all files, zero-padded. A column that is ragged in its first rows stays a list. A `.npy` file has one
//! column, `feature` or `value`; an HDF5 file those of the datasets that [`Datasets`] names.
//!
//! Of a [`RowRange`], the rows alone are read, as far as the format has them apart: columns, their types and the rows' numbers are those of
//! the whole table.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tessera_schemas::{IMAGE_ID, meta};

use crate::{Entry, Error, Files, Fingerprint, Listed};
pub use csv::{ColumnType, CsvOptions};
pub(crate) use file::guard;
use file::{File, KINDS, Kind};
use ids::Ids;
pub use ipc::lengths::check as check_lengths;
pub(crate) use parquet::{check_pages, rows as parquet_rows};
use rows::ALL;
pub use rows::RowRange;

mod convert;
mod csv;
mod file;
pub mod hdf5;
mod ids;
pub(crate) mod ipc;
mod json;
mod npy;
mod parquet;
pub(crate) mod raw;
mod rows;

/// Rows of a batch, unless they are wide.
const BATCH_ROWS: usize = 8192;
/// Bytes of a batch's vectors, unless one row has more.
const BATCH_BYTES: usize = 32 << 20;
/// Columns that a table may have: what asks for each of them in turn would take for ever.
const MOST_COLUMNS: usize = 100_000;
/// Rows that decide how long lists are.
const FIRST_ROWS: usize = 1024;

/// The column of an array that has one value a row.
const VALUE: &str = "value";

/// How files are read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Which of an HDF5 file's datasets are the table.
    pub datasets: Datasets,
    /// What CSV files do not say.
    pub csv: CsvOptions,
    /// Which rows of all files are read; `None` for all.
    pub rows: Option<RowRange>,
    /// Threads that inflate what is compressed; of 0, as of 1, there are none beside the caller's.
    pub threads: usize,
}

/// Datasets of HDF5 files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Datasets {
    /// The datasets in the root, a column each.
    #[default]
    All,
    /// One, or those of a group.
    One(String),
    /// A column's name, and the path of its dataset.
    Columns(BTreeMap<String, String>),
}

/// What the front of a file, or its end, says.
struct Header {
    schema: SchemaRef,
    /// How many, if it says so.
    rows: Option<u64>,
    /// For CSV, where types are found by looking: the kinds of the columns' values.
    seen: Vec<csv::Seen>,
}

impl Header {
    fn new(schema: SchemaRef, rows: Option<u64>) -> Self {
        Self { schema, rows, seen: Vec::new() }
    }
}

type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + 'a>;

/// The table files among those of a folder, or of a listed file.
///
/// # Errors
/// There is none, and the message says which kinds are known; or one was left out, without which the table is another.
pub fn tables(root: &Path, listed: Listed) -> Result<Vec<Entry>, Error> {
    if let Some(lacking) = listed.left_out.into_iter().find(|one| one.is_folder || Kind::of(&one.path).is_some()) {
        return Err(Error::format(root.join(lacking.path), lacking.reason));
    }
    let others = listed.files.len();
    let tables: Vec<Entry> = listed.files.into_iter().filter(|entry| Kind::of(&entry.path).is_some()).collect();
    if tables.is_empty() {
        let known = KINDS.map(|(ending, _)| ending).join(", ");
        return Err(Error::format(root, format!("no table among {others} files; tables end in {known}")));
    }
    Ok(tables)
}

/// The table's columns, from the files' headers and first rows. Nothing else is read.
///
/// # Errors
/// A file cannot be read or understood, or has other columns than the first.
pub fn schema(files: &dyn Files, root: &Path, entries: &[Entry], reading: &Reading) -> Result<SchemaRef, Error> {
    let mut sources = Vec::with_capacity(entries.len());
    for entry in entries {
        sources.push(File::open(files, root, entry, reading, None)?);
    }
    let Some((first, others)) = sources.split_first() else { return Err(Error::format(root, "no files")) };
    let mut found: Vec<Field> = first.header.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    // What the values are says more than what type each file alone would have.
    let mut seen = first.header.seen.clone();
    if others.iter().any(|other| other.kind != Kind::Csv) {
        seen.clear();
    }
    for other in others {
        let columns = other.columns(found.iter().map(Field::name), &first.path)?;
        for (at, (field, column)) in found.iter_mut().zip(columns).enumerate() {
            let both = seen.get_mut(at).zip(other.header.seen.get(column));
            let column = other.header.schema.field(column);
            let unified = match both {
                Some((known, more)) => known.merge(more).map(|both| {
                    *known = both;
                    known.field(field.name())
                }),
                None if [first, other].iter().all(|file| file.kind == Kind::Json) => {
                    json::unify(field.data_type(), column.data_type()).map(|kind| field.clone().with_data_type(kind))
                }
                None => unify(field, column),
            };
            *field = unified.ok_or_else(|| {
                let (name, kind, before) = (field.name(), told(column), told(field));
                other.raw(files).error(format!("column `{name}` is {kind}, and {before} in {}", first.path.display()))
            })?;
        }
    }
    if let Some(at) = seen.iter().position(csv::Seen::lacks_width) {
        let name = found[at].name();
        return Err(first
            .raw(files)
            .error(format!("no row says how long the vectors of `{name}` are, and `types` wants vectors")));
    }
    let mut fields = Vec::with_capacity(found.len() + 1);
    if !found.iter().any(|field| field.name() == IMAGE_ID) {
        fields.push(Field::new(IMAGE_ID, DataType::Utf8, false));
    }
    for field in found {
        let settled = convert::settle(&field).map_err(|message| first.raw(files).error(message))?;
        fields.push(match settled.data_type() {
            kind if convert::is_open(kind) => close(files, &sources, settled)?,
            // A column of texts without a value.
            DataType::Null if matches!(first.kind, Kind::Csv | Kind::Json) => settled.with_data_type(DataType::Utf8),
            _ => settled,
        });
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The rows of a `.npy` file that holds integers in two dimensions.
///
/// # Errors
/// The file cannot be read or holds something else.
pub fn integers(files: &dyn Files, path: &Path) -> Result<Vec<Vec<i64>>, Error> {
    let size = files.list(path)?.files.iter().map(|entry| entry.size).sum();
    npy::integers(raw::Raw { files, path, size })
}

/// How many rows there are, if all files' headers say it.
///
/// # Errors
/// A header cannot be read.
pub fn promised(files: &dyn Files, root: &Path, entries: &[Entry], reading: &Reading) -> Result<Option<u64>, Error> {
    let mut rows = Some(0_u64);
    for entry in entries {
        if !file::promises(&entry.path) {
            return Ok(None);
        }
        let file = File::open(files, root, entry, reading, None)?;
        rows = rows.zip(file.header.rows).map(|(sum, rows)| sum.saturating_add(rows));
    }
    Ok(rows)
}

/// Yields the table in batches, or a range of it.
///
/// # Errors
/// A file cannot be read or understood, has other columns than the schema, an id is null or not unique, a vector has another
/// length, the range has no row, or `emit` fails.
pub fn read<E: From<Error>>(
    files: &dyn Files,
    root: &Path,
    entries: &[Fingerprint],
    schema: &SchemaRef,
    reading: &Reading,
    emit: &mut dyn FnMut(RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    let mut sources = Vec::with_capacity(entries.len());
    for print in entries {
        sources.push(File::open(files, root, &print.entry, reading, Some(schema))?);
    }
    let given = sources.first().is_none_or(|first| first.header.schema.column_with_name(IMAGE_ID).is_some());
    let counts: Vec<u64> = if given && reading.rows.is_none() {
        vec![u64::MAX; sources.len()]
    } else {
        sources.iter().map(|file| file.rows(files, schema)).collect::<Result<_, Error>>()?
    };
    let all = counts.iter().fold(0, |sum: u64, rows| sum.saturating_add(*rows));
    let range = match &reading.rows {
        Some(rows) => {
            let place = if let [only] = &sources[..] { only.path.as_path() } else { root };
            rows.of(all).map_err(|message| Error::format(place, message))?
        }
        None => ALL,
    };
    let mut ids = if given { Ids::Given(HashSet::new()) } else { Ids::numbers(all, range.start) };
    let most = batch_rows(schema);
    let mut before = 0_u64;
    for (file, count) in sources.iter().zip(counts) {
        let raw = file.raw(files);
        let order = file.order(files, schema, given)?;
        let here = match &reading.rows {
            Some(_) => range.start.saturating_sub(before)..range.end.saturating_sub(before).min(count),
            None => ALL,
        };
        before = before.saturating_add(count);
        if here.is_empty() {
            continue;
        }
        let mut row = here.start;
        for batch in file.batches(files, schema, most, here)? {
            let batch = batch?;
            for start in (0..batch.num_rows()).step_by(most) {
                let batch = batch.slice(start, most.min(batch.num_rows() - start));
                let table = guard(raw, || {
                    let columns = columns(&batch, schema, &order, row, &mut ids).map_err(|message| raw.error(message))?;
                    RecordBatch::try_new(schema.clone(), columns).map_err(|error| raw.error(error))
                });
                emit(table?)?;
                row += batch.num_rows() as u64;
            }
        }
    }
    Ok(())
}

/// A batch's columns as the schema has them; `order` says where each lies, and `row` which of its file is the batch's first.
fn columns(
    batch: &RecordBatch,
    schema: &SchemaRef,
    order: &[Option<usize>],
    row: u64,
    ids: &mut Ids,
) -> Result<Vec<ArrayRef>, String> {
    let column = |(field, at): (&Arc<Field>, &Option<usize>)| {
        let column = at.map(|at| convert::column(batch.column(at), field, row)).transpose()?;
        if field.name() == IMAGE_ID {
            return ids.column(column, batch.num_rows(), row);
        }
        Ok(column.expect("only ids can be missing"))
    };
    schema.fields().iter().zip(order).map(column).collect()
}

/// How many rows a batch may have.
fn batch_rows(schema: &SchemaRef) -> usize {
    let is_vector = |field: &&Arc<Field>| matches!(field.data_type(), DataType::FixedSizeList(..));
    let (vectors, others): (Vec<&Arc<Field>>, Vec<&Arc<Field>>) = schema.fields().iter().partition(is_vector);
    // Vectors have the room for themselves: batches of them alone have a round number of rows.
    let bytes = |fields: &[&Arc<Field>]| {
        fields.iter().fold(0_usize, |row, field| row.saturating_add(value_bytes(field.data_type())))
    };
    (BATCH_BYTES / bytes(&vectors).max(bytes(&others)).max(1)).clamp(1, BATCH_ROWS)
}

/// How many bytes a value has at least; of those whose length is their own, what says where they lie.
fn value_bytes(kind: &DataType) -> usize {
    match kind {
        DataType::FixedSizeList(item, width) => value_bytes(item.data_type()).saturating_mul(*width as usize),
        DataType::Struct(fields) => {
            fields.iter().fold(0, |all: usize, field| all.saturating_add(value_bytes(field.data_type())))
        }
        kind => kind.primitive_width().unwrap_or(4),
    }
}

/// The type of a column in two files.
fn unify(known: &Field, other: &Field) -> Option<Field> {
    let nullable = known.is_nullable() || other.is_nullable();
    let known = known.clone().with_nullable(nullable);
    let (one, two) = (convert::settle(&known).ok()?, convert::settle(other).ok()?);
    let shape = |field: &Field| field.metadata().get(meta::SHAPE).cloned();
    if shape(&one) != shape(&two) {
        return None;
    }
    match (one.data_type(), two.data_type()) {
        (one, two) if one == two => Some(known),
        (_, DataType::Null) => Some(known.with_nullable(true)),
        (DataType::Null, _) => Some(other.clone().with_nullable(true)),
        _ => None,
    }
}

/// A column's type, with its shape where it has one.
fn told(field: &Field) -> String {
    let shape = field.metadata().get(meta::SHAPE).map(|shape| format!(" of shape {shape}"));
    format!("{}{}", field.data_type(), shape.unwrap_or_default())
}

/// A column of lists as vectors, if the first rows have one length.
fn close(files: &dyn Files, sources: &[File], field: Field) -> Result<Field, Error> {
    for file in sources {
        let Some((column, _)) = file.header.schema.column_with_name(field.name()) else { continue };
        if let Some(lists) = file.first(files, column)?.filter(|lists| !lists.is_empty()) {
            return Ok(convert::width(&lists).map_or(field.clone(), |width| convert::vector_field(&field, width)));
        }
    }
    Ok(field)
}

#[cfg(test)]
mod tests;
