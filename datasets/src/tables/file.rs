//! A file of a table: which kind it is of, and the reader of that kind.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow::array::ArrayRef;
use arrow::datatypes::{Schema, SchemaRef};
use tessera_schemas::IMAGE_ID;

use super::raw::Raw;
use super::rows::{ALL, within};
use super::{
    BATCH_ROWS, Batches, Datasets, FIRST_ROWS, Header, MOST_COLUMNS, Reading, convert, csv, hdf5, ipc, json, npy, parquet,
};
use crate::{Entry, Error, Files};

/// Endings of the files that hold tables, and what is in them.
pub const KINDS: [(&str, Kind); 12] = [
    ("parquet", Kind::Parquet),
    ("csv", Kind::Csv),
    ("npy", Kind::Npy),
    ("arrow", Kind::Ipc),
    ("feather", Kind::Ipc),
    ("h5", Kind::Hdf5),
    ("hdf5", Kind::Hdf5),
    ("tsv", Kind::Csv),
    ("csv.gz", Kind::Csv),
    ("tsv.gz", Kind::Csv),
    ("jsonl", Kind::Json),
    ("ndjson", Kind::Json),
];

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Parquet,
    Csv,
    Npy,
    Ipc,
    Hdf5,
    Json,
}

impl Kind {
    /// By the name of a file, in whichever case it is written.
    pub fn of(path: &str) -> Option<Self> {
        let name = Path::new(path).file_name()?.to_str()?.to_ascii_lowercase();
        let ends = |ending: &str| {
            let stem = name.strip_suffix(ending).and_then(|rest| rest.strip_suffix('.'));
            stem.is_some_and(|stem| !stem.is_empty())
        };
        KINDS.iter().find(|(ending, _)| ends(ending)).map(|&(_, kind)| kind)
    }
}

/// Whether a file's header says how many rows it has.
pub fn promises(path: &str) -> bool {
    matches!(Kind::of(path), Some(Kind::Parquet | Kind::Npy | Kind::Hdf5))
}

/// A table file whose header was read.
pub struct File {
    pub path: PathBuf,
    bytes: u64,
    pub kind: Kind,
    pub header: Header,
    reading: Reading,
}

impl File {
    /// Reads a file's header. Of text, whose header has no types, it looks at the values, unless the table is known.
    ///
    /// # Errors
    /// The file cannot be read or understood, or the options are for another kind of file.
    pub fn open(
        files: &dyn Files,
        root: &Path,
        entry: &Entry,
        reading: &Reading,
        known: Option<&Schema>,
    ) -> Result<Self, Error> {
        let (path, bytes) = (root.join(&*entry.path), entry.size);
        let raw = Raw { files, path: &path, size: bytes };
        let kind = Kind::of(&entry.path).ok_or_else(|| raw.error("is not a table of a known kind"))?;
        if kind != Kind::Hdf5 && reading.datasets != Datasets::All {
            return Err(raw.error("is no HDF5 file, and `dataset` names datasets of such files"));
        }
        if kind != Kind::Csv && !reading.csv.is_default() {
            return Err(raw.error("is no CSV file, and `types`, `separator` and `header` say how to read such files"));
        }
        let header = guard(raw, || match kind {
            Kind::Parquet => parquet::header(raw),
            Kind::Csv => csv::header(raw, &reading.csv, known),
            Kind::Npy => npy::header(raw),
            Kind::Ipc => ipc::header(raw),
            Kind::Hdf5 => hdf5::header(raw, &reading.datasets),
            Kind::Json => json::header(raw, known),
        })?;
        match header.schema.fields().len() {
            // Any number of rows of nothing would fit into a few bytes.
            0 => return Err(raw.error("has no columns")),
            columns if columns > MOST_COLUMNS => {
                return Err(raw.error(format!("has {columns} columns, and {MOST_COLUMNS} are the most that are read")));
            }
            _ => {}
        }
        let mut names = HashSet::new();
        if let Some(twice) = header.schema.fields().iter().find(|field| !names.insert(field.name().as_str())) {
            return Err(raw.error(format!("has two columns named `{}`", twice.name())));
        }
        Ok(Self { path, bytes, kind, header, reading: reading.clone() })
    }

    /// Its bytes.
    pub fn raw<'a>(&'a self, files: &'a dyn Files) -> Raw<'a> {
        Raw { files, path: &self.path, size: self.bytes }
    }

    /// Where the columns of those names lie.
    ///
    /// # Errors
    /// One is missing, or there are others.
    pub fn columns<'a>(&self, names: impl Iterator<Item = &'a String>, other: &Path) -> Result<Vec<usize>, Error> {
        let wrong = |message: String| Error::format(&self.path, message);
        let other = other.display();
        let fields = self.header.schema.fields();
        let places: HashMap<&str, usize> = fields.iter().map(|field| field.name().as_str()).zip(0..).collect();
        let find = |name: &String| {
            let found = places.get(name.as_str()).copied();
            found.ok_or_else(|| wrong(format!("has no column `{name}`, which {other} has")))
        };
        let columns: Vec<usize> = names.map(find).collect::<Result<_, _>>()?;
        let asked: HashSet<usize> = columns.iter().copied().collect();
        match (0..fields.len()).find(|at| !asked.contains(at)) {
            Some(more) => Err(wrong(format!("has a column `{}`, which {other} has not", fields[more].name()))),
            None => Ok(columns),
        }
    }

    /// Where the table's columns lie; the ids lie nowhere if they are not given.
    ///
    /// # Errors
    /// A column is missing or has another type, or there are others.
    pub fn order(&self, files: &dyn Files, schema: &SchemaRef, given: bool) -> Result<Vec<Option<usize>>, Error> {
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

    /// Some of its rows, in batches of up to `rows`, or as they lie in the file.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn batches<'a>(
        &'a self,
        files: &'a dyn Files,
        schema: &SchemaRef,
        rows: usize,
        range: Range<u64>,
    ) -> Result<Batches<'a>, Error> {
        let raw = self.raw(files);
        let mut batches = guard(raw, || match self.kind {
            Kind::Parquet => parquet::batches(raw, rows, range),
            Kind::Csv => csv::batches(raw, &self.reading.csv, schema, rows, range.start)
                .map(|batches| within(batches, range.start, range)),
            Kind::Npy => npy::batches(raw, rows, range),
            Kind::Ipc => ipc::batches(raw, range),
            Kind::Hdf5 => hdf5::batches(raw, &self.reading.datasets, self.reading.threads, range),
            Kind::Json => json::batches(raw, &self.header.schema, rows).map(|batches| within(batches, 0, range)),
        })?;
        Ok(Box::new(std::iter::from_fn(move || guard(raw, || batches.next().transpose()).transpose())))
    }

    /// A column's first rows, if there are any. Only Parquet, Arrow, HDF5 and JSON have lists.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn first(&self, files: &dyn Files, column: usize) -> Result<Option<ArrayRef>, Error> {
        let raw = self.raw(files);
        if self.kind == Kind::Parquet {
            return guard(raw, || parquet::first(raw, column, FIRST_ROWS));
        }
        let mut batches = self.batches(files, &self.header.schema, FIRST_ROWS, ALL)?;
        let filled = batches.find(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0)).transpose()?;
        Ok(filled.map(|batch| batch.column(column).clone()))
    }

    /// How many rows it has.
    ///
    /// # Errors
    /// The file has to be read to find out, and cannot be.
    pub fn rows(&self, files: &dyn Files, schema: &SchemaRef) -> Result<u64, Error> {
        match self.header.rows {
            Some(rows) => Ok(rows),
            None if self.kind == Kind::Csv => csv::rows(self.raw(files), &self.reading.csv),
            None if self.kind == Kind::Ipc => guard(self.raw(files), || ipc::rows(self.raw(files))),
            None => self.batches(files, schema, BATCH_ROWS, ALL)?.map(|batch| Ok(batch?.num_rows() as u64)).sum(),
        }
    }
}

/// Runs a format's reader. Those of Arrow and Parquet panic at some damaged bytes, and then too the file has to be named.
pub(crate) fn guard<T>(raw: Raw<'_>, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // Nobody reads on after an error.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(raw.error(format!("is damaged: {}", why.unwrap_or("its reader panicked"))))
    })
}
