//! Images as arrays of pixels in HDF5 files: a dataset of `N x H x W x 3`, `N x 3 x H x W` or `N x H x W` bytes.
//!
//! A row knows its file and its number in it, and its bytes are what a PPM file of the image would have. The other datasets of the same
//! group that have as many rows are columns: `label`, `labels` or `y` is the class, as text, and `image_id` has the ids, if it is text.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UInt8Type};
use tessera_schemas::IMAGE_ID;
use tessera_schemas::images::{self, About, Image, Source};
use tessera_schemas::pixels;

use crate::folder::naming;
use crate::layout::{Access, Layout, Role, Rows};
use crate::tables::guard;
use crate::tables::hdf5::images::{Opened, choose};
use crate::tables::raw::Raw;
use crate::{Entry, Error, FileDigest, Files, Fingerprint, Listed, ppm};

/// Endings of the files.
const EXTENSIONS: [&str; 2] = ["h5", "hdf5"];
/// What datasets of classes are called.
const LABELS: [&str; 3] = ["label", "labels", "y"];
const LABEL: &str = "label";
/// Bytes of rows that are read together, unless a chunk has more.
const BLOCK_BYTES: u64 = 16 << 20;
/// Rows that follow each other and are read at once, when some are asked for.
const MOST_ROWS: u64 = 1024;
/// Files whose places of chunks are remembered.
const MOST_OPENED: usize = 64;

/// HDF5 files of images.
#[derive(Debug)]
pub struct Stack {
    root: PathBuf,
    only: Option<String>,
    /// Columns, and the paths of their datasets; the images are `pixels`.
    datasets: BTreeMap<String, String>,
    label: Option<String>,
    schema: SchemaRef,
    threads: usize,
}

/// Whether a path ends like those of such files.
pub fn is_ours(path: &str) -> bool {
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(naming::extension(path)))
}

impl Stack {
    /// Reads the names of a file's datasets, or of the first file's of a folder. `column` is the path of the images' dataset; none: that of
    /// the only one that may hold some.
    ///
    /// # Errors
    /// There is no such file, or it has no dataset of images, or several.
    pub fn open(files: &dyn Files, path: &Path, column: Option<&str>) -> Result<Self, Error> {
        let listed = files.list(path)?;
        let ours: Vec<&Entry> = listed.files.iter().filter(|entry| is_ours(&entry.path)).collect();
        let Some(first) = ours.first() else {
            let count = listed.files.len();
            return Err(Error::format(path, format!("no HDF5 file among {count} files; their names end in h5 or hdf5")));
        };
        // A file lists itself, by its name.
        let is_file = is_ours(&path.to_string_lossy()) && path.file_name().is_some_and(|name| *name == *first.path);
        let root = if is_file { path.parent().unwrap_or(path) } else { path };
        let place = root.join(&*first.path);
        let raw = Raw { files, path: &place, size: first.size };
        let datasets = guard(raw, || choose(raw, column))?;
        let opened = opened(raw, first, &datasets)?;
        let label = LABELS.iter().find(|name| datasets.contains_key(**name)).map(|name| (*name).to_owned());
        let mut fields: Vec<FieldRef> = images::schema().fields().to_vec();
        if label.is_none() {
            fields.retain(|field| field.name() != LABEL);
        }
        for field in opened.schema().fields() {
            let name = field.name();
            // What a table of images said of their files is not true of this one; its ids are kept.
            if name == pixels::PIXELS || fields.iter().any(|known| known.name() == name) || Some(name) == label.as_ref() {
                continue;
            }
            fields.push(Arc::new(Field::clone(field).with_nullable(true)));
        }
        let only = is_file.then(|| first.path.to_string());
        Ok(Self { root: root.to_owned(), only, datasets, label, schema: Arc::new(Schema::new(fields)), threads: 1 })
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The rows of a file, some at a time.
    fn read<'a>(&'a self, files: &'a dyn Files, entry: &'a Entry) -> Result<Rows<'a>, Error> {
        let path = self.root.join(&*entry.path);
        let opened = opened(Raw { files, path: &path, size: entry.size }, entry, &self.datasets)?;
        let (rows, step) = (opened.rows(), opened.step(BLOCK_BYTES));
        let mut start = 0_u64;
        Ok(Box::new(std::iter::from_fn(move || {
            let here = start..rows.min(start.saturating_add(step));
            if here.is_empty() {
                return None;
            }
            let found = self.block(Raw { files, path: &path, size: entry.size }, &opened, entry, here.clone());
            // Nothing is read behind what cannot be.
            start = if found.is_ok() { here.end } else { rows };
            Some(found.map(Into::into))
        })))
    }

    fn block(&self, raw: Raw<'_>, opened: &Opened, entry: &Entry, rows: Range<u64>) -> Result<RecordBatch, Error> {
        let digits = opened.rows().max(1).saturating_sub(1).to_string().len();
        let start = rows.start;
        let columns = guard(raw, || opened.read(raw, rows, self.threads))?;
        let schema = opened.schema();
        let named: HashMap<&str, &ArrayRef> =
            schema.fields().iter().map(|field| field.name().as_str()).zip(&columns).collect();
        let pictures = named.get(pixels::PIXELS).copied().ok_or_else(|| raw.error("has no images"))?;
        let pictures = Pictures::of(pictures, &schema).map_err(|message| raw.error(message))?;
        self.found(&pictures, &named, entry, start, digits).map_err(|message| raw.error(message))
    }

    /// The rows of some images, from one on.
    fn found(
        &self,
        pictures: &Pictures<'_>,
        columns: &HashMap<&str, &ArrayRef>,
        entry: &Entry,
        start: u64,
        digits: usize,
    ) -> Result<RecordBatch, String> {
        let column = |name: &str| columns.get(name).copied().ok_or_else(|| format!("has no column `{name}`"));
        let label = match &self.label {
            Some(label) => Some(cast(column(label)?, &DataType::Utf8).map_err(|error| format!("`{label}`: {error}"))?),
            None => None,
        };
        let encoded: Vec<Vec<u8>> = (0..pictures.count()).map(|row| pictures.ppm(row)).collect();
        let own = columns.get(IMAGE_ID).filter(|ids| *ids.data_type() == DataType::Utf8);
        let id = |row: usize| match own.filter(|own| own.is_valid(row)) {
            Some(own) => own.as_string::<i32>().value(row).to_owned(),
            None => format!("{}/{:0digits$}", entry.path, start + row as u64),
        };
        let ids: Vec<String> = (0..encoded.len()).map(id).collect();
        let image = |(row, (bytes, id)): (usize, (&Vec<u8>, &String))| -> (String, u64, String, u64, Option<String>) {
            let digest = FileDigest::of(&blake3::hash(bytes)).to_string();
            let label = label.as_ref().filter(|label| label.is_valid(row));
            let label = label.map(|label| label.as_string::<i32>().value(row).to_owned());
            (id.clone(), start + row as u64, digest, bytes.len() as u64, label)
        };
        let told: Vec<_> = encoded.iter().zip(&ids).enumerate().map(image).collect();
        let (width, height) = (pictures.width as i64, pictures.height as i64);
        let listed = images::batch(told.iter().map(|(id, row, digest, length, label)| Image {
            image_id: id,
            source: Source { path: &entry.path, offset: None, length: Some(*length), row: Some(*row) },
            label: label.as_deref(),
            digest: digest.as_str().into(),
            about: About {
                width: Some(width),
                height: Some(height),
                format: Some("ppm"),
                bytes: Some(*length as i64),
                modified_us: None,
            },
        }));
        let listed = listed.map_err(|error| error.to_string())?;
        let columns = self.schema.fields().iter().map(|field| match listed.column_by_name(field.name()) {
            Some(own) => Ok(own.clone()),
            None => column(field.name()).cloned(),
        });
        let columns = columns.collect::<Result<Vec<_>, String>>()?;
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| error.to_string())
    }
}

impl Layout for Stack {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let path = self.only.as_ref().map_or_else(|| self.root.clone(), |only| self.root.join(only));
        Ok(naming::only(files.list(&path)?, &is_ours))
    }

    fn role(&self, _: &str) -> Role {
        Role::Shard
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        Ok(Box::new(prints.iter().flat_map(move |print| {
            self.read(files, &print.entry).unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
        })))
    }

    fn rule(&self) -> String {
        format!("{:?} {:?}", self.datasets, self.label)
    }

    fn use_threads(&mut self, threads: usize) {
        self.threads = threads;
    }

    fn access(&self) -> Access {
        Access::Array(self.datasets[pixels::PIXELS].clone())
    }
}

/// Pixels of some images.
struct Pictures<'a> {
    values: &'a [u8],
    width: usize,
    height: usize,
}

impl<'a> Pictures<'a> {
    fn of(column: &'a ArrayRef, schema: &SchemaRef) -> Result<Self, String> {
        let lists = column.as_fixed_size_list_opt().ok_or("its images are no lists")?;
        let values = lists.values().as_primitive_opt::<UInt8Type>().ok_or("its images are no bytes")?;
        let (height, width) = pixels::size(schema).map_err(|error| error.to_string())?;
        Ok(Self { values: values.values(), width, height })
    }

    fn count(&self) -> usize {
        self.values.len() / (self.width * self.height * 3)
    }

    fn ppm(&self, row: usize) -> Vec<u8> {
        let length = self.width * self.height * 3;
        ppm::encode(self.width, self.height, &self.values[row * length..(row + 1) * length])
    }
}

/// A file whose places of chunks are known. What is known of a version of a file is remembered: to ask the library takes milliseconds.
fn opened(raw: Raw<'_>, entry: &Entry, datasets: &BTreeMap<String, String>) -> Result<Arc<Opened>, Error> {
    type Known = (PathBuf, Entry, BTreeMap<String, String>, Arc<Opened>);
    static KNOWN: LazyLock<Mutex<Vec<Known>>> = LazyLock::new(Mutex::default);
    let lock = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |(path, version, columns, _): &&Known| {
        path == raw.path && version.version() == entry.version() && columns == datasets
    };
    if let Some((.., opened)) = lock().iter().find(is_it) {
        return Ok(opened.clone());
    }
    let opened = Arc::new(guard(raw, || Opened::new(raw, datasets))?);
    let mut known = lock();
    if known.len() == MOST_OPENED {
        known.remove(0);
    }
    known.push((raw.path.to_owned(), entry.clone(), datasets.clone(), opened.clone()));
    Ok(opened)
}

/// The bytes of some images, by the rows of their files.
pub(crate) fn read_each(
    files: &dyn Files,
    root: &Path,
    dataset: &str,
    sources: &[Source<'_>],
) -> Vec<Result<Vec<u8>, Error>> {
    let datasets = BTreeMap::from([(pixels::PIXELS.to_owned(), dataset.to_owned())]);
    crate::embedded::by_file(root, sources, |path, rows| {
        let entry = files.list(path)?.files.into_iter().next().ok_or_else(|| Error::format(path, "is gone"))?;
        let raw = Raw { files, path, size: entry.size };
        let opened = opened(raw, &entry, &datasets)?;
        let mut found = Vec::with_capacity(rows.len());
        let mut rest = rows;
        while let Some(&first) = rest.first() {
            // Rows that follow each other are read at once.
            let run = rest.iter().zip(first..).take_while(|(row, next)| *row == next).count().min(MOST_ROWS as usize);
            let end = first + run as u64;
            if end > opened.rows() {
                return Err(raw.error(format!("has no row {} any more", end - 1)));
            }
            let columns = guard(raw, || opened.read(raw, first..end, 1))?;
            let pictures = Pictures::of(&columns[0], &opened.schema()).map_err(|message| raw.error(message))?;
            found.extend((0..run).map(|row| Some(pictures.ppm(row))));
            rest = &rest[run..];
        }
        Ok(found)
    })
}

#[cfg(test)]
mod tests;
