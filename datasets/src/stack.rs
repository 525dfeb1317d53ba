//! Images in HDF5 files: pixels, a dataset of `N x H x W x 3`, `N x 3 x H x W` or `N x H x W` bytes; or whole files' bytes, one of them
//! a row.
//!
//! A row knows its file and its number in it, and the bytes of pixels are what a PPM file of the image would have. Files' bytes are lists
//! of numbers of one byte, opaque values, texts of one length or `N x L` bytes; zeros that fill up the place of a JPEG, PNG or GIF are no
//! part of it, and where they lie as they are in the file, a row knows that place as well. A row without bytes is left out and told.
//!
//! The other datasets of the same group that have as many rows are columns: `label`, `labels` or `y` is the class, as text, and `image_id`
//! has the ids, if it is text. Of a group of pictures, a dataset each, the ids are their paths, and the class the first group of these.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UInt8Type};
use tessera_schemas::IMAGE_ID;
use tessera_schemas::images::{self, About, Image, Source};
use tessera_schemas::pixels;

use crate::folder::naming;
use crate::header::Header;
use crate::layout::{Access, Found, Layout, Role, Rows};
use crate::tables::guard;
use crate::tables::hdf5::images::{Encoded, Opened, choose};
use crate::tables::raw::Raw;
use crate::{Entry, Error, FileDigest, Files, Fingerprint, LeftOut, Listed, ppm};

/// Endings of the files.
const EXTENSIONS: [&str; 2] = ["h5", "hdf5"];
/// What datasets of classes are called.
const LABELS: [&str; 3] = ["label", "labels", "y"];
const LABEL: &str = "label";
/// Bytes of rows that are read together, unless a chunk has more.
const BLOCK_BYTES: u64 = 16 << 20;
/// Rows that follow each other and are read at once, when some are asked for.
const MOST_ROWS: u64 = 1024;
/// Bytes of pixels that are read at once then, unless a row has more.
const TOGETHER_BYTES: u64 = 256 << 20;
/// Files whose places of chunks are remembered.
const MOST_OPENED: usize = 64;

/// HDF5 files of images.
#[derive(Debug)]
pub struct Stack {
    root: PathBuf,
    only: Option<String>,
    /// Columns, and the paths of their datasets; the images are `pixels`.
    datasets: BTreeMap<String, String>,
    label: Option<Labels>,
    schema: SchemaRef,
    threads: usize,
}

/// Where the classes are said.
#[derive(Debug)]
enum Labels {
    /// In a dataset.
    Column(String),
    /// By the groups that pictures lie in.
    Groups,
}

/// Whether a path ends like those of such files.
pub fn is_ours(path: &str) -> bool {
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(naming::extension(path)))
}

impl Stack {
    /// Reads the names of a file's datasets, or of the first file's of a folder. `column` is the path of the images' dataset; with
    /// `None` it is the only dataset that can hold images.
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
        let label = LABELS.iter().find(|name| datasets.contains_key(**name));
        let label = label.map(|name| Labels::Column((*name).to_owned()));
        let label = label.or_else(|| opened.in_groups().then_some(Labels::Groups));
        let is_label = |name: &str| matches!(&label, Some(Labels::Column(label)) if label == name);
        let mut fields: Vec<FieldRef> = images::schema().fields().to_vec();
        if label.is_none() {
            fields.retain(|field| field.name() != LABEL);
        }
        for field in opened.schema().fields() {
            let name = field.name();
            // What a table of images said of their files is not true of this one; its ids are kept.
            if name == pixels::PIXELS || fields.iter().any(|known| known.name() == name) || is_label(name) {
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
            let found = self.block(Raw { files, path: &path, size: entry.size }, &opened, entry, here);
            // Nothing is read behind what cannot be.
            start = found.as_ref().map_or(rows, |(end, _)| *end);
            Some(found.map(|(_, found)| found))
        })))
    }

    /// Some rows, from the first of those that are asked for on, and the row behind them.
    fn block(&self, raw: Raw<'_>, opened: &Opened, entry: &Entry, rows: Range<u64>) -> Result<(u64, Found), Error> {
        let digits = opened.rows().max(1).saturating_sub(1).to_string().len();
        let (rows, columns) = guard(raw, || opened.read(raw, rows, self.threads))?;
        let schema = opened.schema();
        let named: HashMap<&str, &ArrayRef> =
            schema.fields().iter().map(|field| field.name().as_str()).zip(&columns).collect();
        let start = rows.start;
        let images = guard(raw, || images_of(raw, opened, rows, &columns))?;
        let id = |row: u64| match opened.name(row) {
            Some(name) => format!("{}/{name}", entry.path),
            None => format!("{}/{row:0digits$}", entry.path),
        };
        let group = |row: u64| opened.name(row).and_then(|name| Some(name.split_once('/')?.0.to_owned()));
        let found = self.found(&images, &named, entry, start, &id, &group).map_err(|message| raw.error(message))?;
        Ok((start + images.len() as u64, found))
    }

    /// The rows of some images, from one on.
    fn found(
        &self,
        pictures: &[Option<Encoded>],
        columns: &HashMap<&str, &ArrayRef>,
        entry: &Entry,
        start: u64,
        id: &dyn Fn(u64) -> String,
        group: &dyn Fn(u64) -> Option<String>,
    ) -> Result<Found, String> {
        let column = |name: &str| columns.get(name).copied().ok_or_else(|| format!("has no column `{name}`"));
        let label = match &self.label {
            Some(Labels::Column(label)) => {
                Some(cast(column(label)?, &DataType::Utf8).map_err(|error| format!("`{label}`: {error}"))?)
            }
            _ => None,
        };
        let label_of = |row: usize| match (&self.label, &label) {
            (Some(Labels::Groups), _) => group(start + row as u64),
            (_, Some(label)) if label.is_valid(row) => Some(label.as_string::<i32>().value(row).to_owned()),
            _ => None,
        };
        let own = columns.get(IMAGE_ID).filter(|ids| *ids.data_type() == DataType::Utf8);
        let id = |row: usize| match own.filter(|own| own.is_valid(row)) {
            Some(own) => own.as_string::<i32>().value(row).to_owned(),
            None => id(start + row as u64),
        };
        let kept: Vec<(usize, &Encoded)> =
            pictures.iter().enumerate().filter_map(|(row, picture)| Some((row, picture.as_ref()?))).collect();
        let told: Vec<(String, String, Option<String>)> = kept
            .iter()
            .map(|(row, image)| (id(*row), FileDigest::of(&blake3::hash(&image.bytes)).to_string(), label_of(*row)))
            .collect();
        let listed = images::batch(kept.iter().zip(&told).map(|((row, image), (id, digest, label))| {
            let (length, header) = (image.bytes.len() as u64, Header::of(&image.bytes));
            let row = start + *row as u64;
            Image {
                image_id: id,
                source: Source { path: &entry.path, offset: image.offset, length: Some(length), row: Some(row) },
                label: label.as_deref(),
                digest: digest.as_str().into(),
                about: About {
                    width: header.width.map(i64::from),
                    height: header.height.map(i64::from),
                    format: header.format,
                    bytes: Some(length as i64),
                    modified_us: None,
                },
            }
        }));
        let listed = listed.map_err(|error| error.to_string())?;
        let rows: UInt32Array = kept.iter().map(|(row, _)| *row as u32).collect();
        let columns = self.schema.fields().iter().map(|field| match listed.column_by_name(field.name()) {
            Some(own) => Ok(own.clone()),
            None => take(column(field.name())?, &rows, None).map_err(|error| error.to_string()),
        });
        let columns = columns.collect::<Result<Vec<_>, String>>()?;
        let rows = RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| error.to_string())?;
        let lacking = pictures.iter().enumerate().filter(|(_, picture)| picture.is_none());
        let reason = "the row has no bytes".to_owned();
        let left_out = lacking.map(|(row, _)| LeftOut { path: id(row), is_folder: false, reason: reason.clone() });
        Ok(Found { rows, left_out: left_out.collect() })
    }
}

/// Some rows' images as files' bytes: of the first at least.
fn images_of(raw: Raw<'_>, opened: &Opened, rows: Range<u64>, columns: &[ArrayRef]) -> Result<Vec<Option<Encoded>>, Error> {
    if !opened.has_pixels() {
        let images = opened.encoded(raw, rows)?;
        return if images.is_empty() { Err(raw.error("has no image where one was asked for")) } else { Ok(images) };
    }
    let schema = opened.schema();
    let at = schema.index_of(pixels::PIXELS).map_err(|_| raw.error("has no images"))?;
    let pictures = Pictures::of(&columns[at], &schema).map_err(|message| raw.error(message))?;
    Ok((0..pictures.count()).map(|row| Some(Encoded { bytes: pictures.ppm(row), offset: None })).collect())
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
    crate::embedded::placed_or(files, root, sources, |path, rows| {
        let entry = files.list(path)?.files.into_iter().next().ok_or_else(|| Error::format(path, "is gone"))?;
        let raw = Raw { files, path, size: entry.size };
        let opened = opened(raw, &entry, &datasets)?;
        let mut found = Vec::with_capacity(rows.len());
        let mut rest = rows;
        while let Some(&first) = rest.first() {
            // Rows that follow each other are read at once.
            let most = if opened.has_pixels() { opened.step(TOGETHER_BYTES).min(MOST_ROWS) } else { MOST_ROWS };
            let run = rest.iter().zip(first..).take_while(|(row, next)| *row == next).count().min(most as usize);
            let end = first + run as u64;
            if end > opened.rows() {
                return Err(raw.error(format!("has no row {} any more", end - 1)));
            }
            let (here, columns) = guard(raw, || opened.read(raw, first..end, 1))?;
            let images = guard(raw, || images_of(raw, &opened, here, &columns))?;
            rest = &rest[images.len()..];
            found.extend(images.into_iter().map(|image| image.map(|image| image.bytes)));
        }
        Ok(found)
    })
}

#[cfg(test)]
mod tests;
