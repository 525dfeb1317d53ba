//! Tables in files, as they are: Parquet, CSV, NumPy's `.npy`, HDF5, Arrow's file and stream formats.
//!
//! A table is a file, or all such files of a folder in the order of their paths, which have the same columns. What differs
//! from a file: text is Utf8, lists of floats that have one length are vectors of f32
//! ([`features::field`](tessera_schemas::features::field)), and there is an `image_id` of unique text: the file's own, or the
//! row's number over all files, zero-padded. A column that is ragged in its first rows stays a list. A `.npy` file has one
//! column, `feature` or `value`; an HDF5 file those of the datasets that [`Datasets`] names.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tessera_schemas::{IMAGE_ID, meta};

use crate::{Entry, Error, Files, Fingerprint, Listed};
use ids::Ids;
use raw::Raw;

mod convert;
mod csv;
pub mod hdf5;
mod ids;
mod ipc;
mod npy;
mod parquet;
mod raw;

/// Rows of a batch, unless they are wide.
const BATCH_ROWS: usize = 8192;
/// Bytes of a batch's vectors, unless one row has more.
const BATCH_BYTES: usize = 32 << 20;
/// Rows that decide what the files leave open: the length of lists, the types in CSV.
const FIRST_ROWS: usize = 1024;

/// Endings of the files that hold tables, and what is in them.
const KINDS: [(&str, Kind); 7] = [
    ("parquet", Kind::Parquet),
    ("csv", Kind::Csv),
    ("npy", Kind::Npy),
    ("arrow", Kind::Ipc),
    ("feather", Kind::Ipc),
    ("h5", Kind::Hdf5),
    ("hdf5", Kind::Hdf5),
];
/// The column of an array that has one value a row.
const VALUE: &str = "value";

/// How files are read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Which of an HDF5 file's datasets are the table.
    pub datasets: Datasets,
    /// Threads that inflate what is compressed; of 0, as of 1, there are none beside the caller's.
    pub threads: usize,
}

/// Datasets of HDF5 files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Datasets {
    /// Those in the root, a column each.
    #[default]
    All,
    /// One, or those of a group.
    One(String),
    /// A column's name, and the path of its dataset.
    Columns(BTreeMap<String, String>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parquet,
    Csv,
    Npy,
    Ipc,
    Hdf5,
}

/// What the front of a file, or its end, says.
struct Header {
    schema: SchemaRef,
    /// How many, if it says so.
    rows: Option<u64>,
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
        sources.push(File::open(files, root, entry, reading)?);
    }
    let Some((first, others)) = sources.split_first() else { return Err(Error::format(root, "no files")) };
    let mut found: Vec<Field> = first.header.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    for other in others {
        let columns = other.columns(found.iter().map(Field::name), &first.path)?;
        let texts = [first, other].iter().all(|file| file.kind == Kind::Csv);
        for (field, column) in found.iter_mut().zip(columns) {
            let column = other.header.schema.field(column);
            *field = unify(field, column, texts).ok_or_else(|| {
                let (name, kind, before) = (field.name(), told(column), told(field));
                other.raw(files).error(format!("column `{name}` is {kind}, and {before} in {}", first.path.display()))
            })?;
        }
    }
    let mut fields = Vec::with_capacity(found.len() + 1);
    if !found.iter().any(|field| field.name() == IMAGE_ID) {
        fields.push(Field::new(IMAGE_ID, DataType::Utf8, false));
    }
    for field in found {
        let settled = convert::settle(&field).map_err(|message| first.raw(files).error(message))?;
        fields.push(match settled.data_type() {
            kind if convert::is_open(kind) => close(files, &sources, settled)?,
            // A CSV column without a value.
            DataType::Null if first.kind == Kind::Csv => settled.with_data_type(DataType::Utf8),
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

/// Yields the table in batches.
///
/// # Errors
/// A file cannot be read or understood, has other columns than the schema, an id is null or not unique, a vector has another
/// length, or `emit` fails.
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
        sources.push(File::open(files, root, &print.entry, reading)?);
    }
    let given = sources.first().is_none_or(|first| first.header.schema.column_with_name(IMAGE_ID).is_some());
    let mut ids = if given {
        Ids::Given(HashSet::new())
    } else {
        let rows: Result<u64, Error> = sources.iter().map(|file| file.rows(files, schema)).sum();
        Ids::numbers(rows?)
    };
    let most = batch_rows(schema);
    for file in &sources {
        let raw = file.raw(files);
        let order = file.order(files, schema, given)?;
        let mut row = 0;
        for batch in file.batches(files, schema, most)? {
            let batch = batch?;
            for start in (0..batch.num_rows()).step_by(most) {
                let batch = batch.slice(start, most.min(batch.num_rows() - start));
                let columns = columns(&batch, schema, &order, row, &mut ids);
                let table = columns
                    .and_then(|columns| RecordBatch::try_new(schema.clone(), columns).map_err(|error| error.to_string()));
                emit(table.map_err(|message| raw.error(message))?)?;
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
    let widths = schema.fields().iter().map(|field| match field.data_type() {
        DataType::FixedSizeList(item, width) => item.data_type().primitive_width().unwrap_or(1) * *width as usize,
        _ => 0,
    });
    let row = widths.sum::<usize>().max(1);
    (BATCH_BYTES / row).clamp(1, BATCH_ROWS)
}

/// The type of a column in two files; with `texts`, both are CSV, whose types are guesses.
fn unify(known: &Field, other: &Field, texts: bool) -> Option<Field> {
    let nullable = known.is_nullable() || other.is_nullable();
    let known = known.clone().with_nullable(nullable);
    if texts {
        let kind = csv::unify(known.data_type(), other.data_type());
        return Some(known.with_data_type(kind));
    }
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

impl Kind {
    fn of(path: &str) -> Option<Self> {
        let ending = Path::new(path).extension()?.to_str()?;
        KINDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending)).map(|&(_, kind)| kind)
    }
}

/// A table file whose header was read.
struct File {
    path: PathBuf,
    bytes: u64,
    kind: Kind,
    header: Header,
    reading: Reading,
}

impl File {
    fn open(files: &dyn Files, root: &Path, entry: &Entry, reading: &Reading) -> Result<Self, Error> {
        let (path, bytes) = (root.join(&*entry.path), entry.size);
        let raw = Raw { files, path: &path, size: bytes };
        let kind = Kind::of(&entry.path).ok_or_else(|| raw.error("is of no known kind of table"))?;
        if kind != Kind::Hdf5 && reading.datasets != Datasets::All {
            return Err(raw.error("is no HDF5 file, and `dataset` names datasets of such files"));
        }
        let header = guard(raw, || match kind {
            Kind::Parquet => parquet::header(raw),
            Kind::Csv => csv::header(raw),
            Kind::Npy => npy::header(raw),
            Kind::Ipc => ipc::header(raw),
            Kind::Hdf5 => hdf5::header(raw, &reading.datasets),
        })?;
        let mut names = HashSet::new();
        if let Some(twice) = header.schema.fields().iter().find(|field| !names.insert(field.name().as_str())) {
            return Err(raw.error(format!("has two columns named `{}`", twice.name())));
        }
        Ok(Self { path, bytes, kind, header, reading: reading.clone() })
    }

    fn raw<'a>(&'a self, files: &'a dyn Files) -> Raw<'a> {
        Raw { files, path: &self.path, size: self.bytes }
    }

    /// Where the columns of those names lie; these and no others.
    fn columns<'a>(&self, names: impl Iterator<Item = &'a String>, other: &Path) -> Result<Vec<usize>, Error> {
        let wrong = |message: String| Error::format(&self.path, message);
        let other = other.display();
        let find = |name: &String| {
            let found = self.header.schema.column_with_name(name).map(|(at, _)| at);
            found.ok_or_else(|| wrong(format!("has no column `{name}`, which {other} has")))
        };
        let columns: Vec<usize> = names.map(find).collect::<Result<_, _>>()?;
        match (0..self.header.schema.fields().len()).find(|at| !columns.contains(at)) {
            Some(more) => {
                Err(wrong(format!("has a column `{}`, which {other} has not", self.header.schema.field(more).name())))
            }
            None => Ok(columns),
        }
    }

    /// Where the table's columns lie, which fit it; the ids lie nowhere if they are not given.
    fn order(&self, files: &dyn Files, schema: &SchemaRef, given: bool) -> Result<Vec<Option<usize>>, Error> {
        let asked = schema.fields().iter().filter(|field| given || field.name() != IMAGE_ID);
        let columns = self.columns(asked.clone().map(|field| field.name()), Path::new("the table"))?;
        for (field, &column) in asked.zip(&columns) {
            let found = self.header.schema.field(column);
            if self.kind != Kind::Csv && !convert::fits(found, field) {
                let (name, kind, target) = (field.name(), found.data_type(), field.data_type());
                return Err(self.raw(files).error(format!("column `{name}` should be {target}, found {kind}")));
            }
        }
        let mut columns = columns.into_iter();
        Ok(schema
            .fields()
            .iter()
            .map(|field| if given || field.name() != IMAGE_ID { columns.next() } else { None })
            .collect())
    }

    fn batches<'a>(&'a self, files: &'a dyn Files, schema: &SchemaRef, rows: usize) -> Result<Batches<'a>, Error> {
        let raw = self.raw(files);
        let mut batches = guard(raw, || match self.kind {
            Kind::Parquet => parquet::batches(raw, rows),
            Kind::Csv => {
                let fields = self.header.schema.fields().iter();
                let typed = fields.map(|field| match schema.field_with_name(field.name()) {
                    // What lacks an id says so better than the reader.
                    Ok(target) => field.as_ref().clone().with_data_type(target.data_type().clone()),
                    Err(_) => field.as_ref().clone(),
                });
                csv::batches(raw, Arc::new(Schema::new(typed.collect::<Vec<_>>())), rows)
            }
            Kind::Npy => npy::batches(raw, rows),
            Kind::Ipc => ipc::batches(raw),
            Kind::Hdf5 => hdf5::batches(raw, &self.reading.datasets, self.reading.threads),
        })?;
        Ok(Box::new(std::iter::from_fn(move || guard(raw, || batches.next().transpose()).transpose())))
    }

    /// A column's first rows, if there are any. Only Parquet, Arrow and HDF5 have lists.
    fn first(&self, files: &dyn Files, column: usize) -> Result<Option<ArrayRef>, Error> {
        let raw = self.raw(files);
        if self.kind == Kind::Parquet {
            return guard(raw, || parquet::first(raw, column, FIRST_ROWS));
        }
        let mut batches = self.batches(files, &self.header.schema, FIRST_ROWS)?;
        let filled = batches.find(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0)).transpose()?;
        Ok(filled.map(|batch| batch.column(column).clone()))
    }

    /// How many rows it has.
    fn rows(&self, files: &dyn Files, schema: &SchemaRef) -> Result<u64, Error> {
        match self.header.rows {
            Some(rows) => Ok(rows),
            None => self.batches(files, schema, BATCH_ROWS)?.map(|batch| Ok(batch?.num_rows() as u64)).sum(),
        }
    }
}

/// Runs a format's reader. Those of Arrow and Parquet panic at some damaged bytes, and then too the file has to be named.
fn guard<T>(raw: Raw<'_>, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // Nobody reads on after an error.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(raw.error(format!("is damaged: {}", why.unwrap_or("its reader panicked"))))
    })
}

#[cfg(test)]
mod tests;
