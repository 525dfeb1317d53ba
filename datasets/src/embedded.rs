//! Images in a column of Parquet files, as Hugging Face's `datasets` writes them: each row has an image's bytes and what is said of it.
//!
//! The column is a struct of `bytes` and `path`, or plain binary. Bytes stay in the file until an image is decoded: a row knows the file
//! and its number in it. What the file's metadata under the key `huggingface` call a class label becomes the class's name, and `label`
//! is the only such column, or the column of that name. `name` is the path that the struct has. Other columns are handed on as they are.
//! A file, or a folder of it, that is called after a half of a data set puts its rows into that `split`.
//!
//! Reference: Hugging Face `datasets`, features `Image` and `ClassLabel`.

mod columns;
mod pages;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use tessera_schemas::images::{self, About, Image, Source};

use crate::folder::{SPLIT, naming};
use crate::header::Header;
use crate::layout::{Access, Found, Layout, Role, Rows};
use crate::{Entry, Error, FileDigest, Files, Fingerprint, LeftOut, Listed};
use columns::Columns;
use pages::{Batch, Reader};

/// Ending of the files.
const EXTENSION: &str = "parquet";
/// Rows that are looked at together: images may be large.
const BATCH_ROWS: usize = 32;
/// The column with the path that a file's own row has.
const NAME: &str = "name";

/// Parquet files of images.
#[derive(Debug)]
pub struct Embedded {
    root: PathBuf,
    /// The only file, if it is not a folder's.
    only: Option<String>,
    columns: Columns,
    in_splits: bool,
}

impl Embedded {
    /// Reads the columns of a file, or of the first of a folder. `column` names that of the images; none: the only one that may be it.
    ///
    /// # Errors
    /// There is no such file, or it has no column of images, or several.
    pub fn open(files: &dyn Files, path: &Path, column: Option<&str>) -> Result<Self, Error> {
        let listed = files.list(path)?;
        let is_ours = |entry: &&Entry| naming::extension(&entry.path).eq_ignore_ascii_case(EXTENSION);
        let ours: Vec<&Entry> = listed.files.iter().filter(is_ours).collect();
        let Some(first) = ours.first() else {
            let count = listed.files.len();
            return Err(Error::format(path, format!("no Parquet file among {count} files; their names end in parquet")));
        };
        // A file lists itself, by its name.
        let is_file = listed.files.len() == 1 && path.file_name().is_some_and(|name| *name == *first.path);
        let is_file = is_file && naming::extension(&path.to_string_lossy()).eq_ignore_ascii_case(EXTENSION);
        let root = if is_file { path.parent().unwrap_or(path) } else { path };
        let only = is_file.then(|| first.path.to_string());
        let in_splits = ours.iter().any(|entry| split_of(&entry.path).is_some());
        let place = root.join(&*first.path);
        let reader = Reader::open(files, &place, first.size)?;
        let columns = Columns::of(reader.schema(), column, in_splits);
        let columns = columns.map_err(|message| Error::format(&place, message))?;
        Ok(Self { root: root.to_owned(), only, columns, in_splits })
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a file has a column that must be one of images: a struct with `bytes`, or one that its metadata call so.
    pub fn recognises(files: &dyn Files, path: &Path, entry: &Entry) -> bool {
        let reader = Reader::open(files, path, entry.size);
        reader.is_ok_and(|reader| columns::has_images(reader.schema()))
    }

    /// The rows of a file.
    fn read<'a>(&'a self, files: &'a dyn Files, path: &'a Path, entry: &'a Entry) -> Result<Rows<'a>, Error> {
        let reader = Reader::open(files, path, entry.size)?;
        self.columns.check(reader.schema()).map_err(|message| Error::format(path, message))?;
        let digits = reader.rows().max(1).saturating_sub(1).to_string().len();
        let mut row = 0;
        let batches = reader.all(self.columns.image(), BATCH_ROWS)?;
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch?;
            let start = row;
            row += batch.bytes.len() as u64;
            self.found(&batch, entry, start, digits).map_err(|message| Error::format(path, message))
        })))
    }

    /// What some rows of a file are, from one of its rows on.
    fn found(&self, batch: &Batch, entry: &Entry, start: u64, digits: usize) -> Result<Found, String> {
        let Batch { others, bytes } = batch;
        let (labels, own) = (self.columns.label(others)?, self.columns.ids(others));
        let (mut ids, mut kept, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for (row, bytes) in bytes.iter().enumerate() {
            let number = start + row as u64;
            let id = match own.as_ref().filter(|own| own.is_valid(row)) {
                Some(own) => own.value(row).to_owned(),
                None => format!("{}/{number:0digits$}", entry.path),
            };
            match bytes {
                Some(bytes) => {
                    kept.push(row as u32);
                    ids.push((id, number, bytes.data()));
                }
                None => left_out.push(LeftOut {
                    path: format!("{}/{number:0digits$}", entry.path),
                    is_folder: false,
                    reason: "the row has no bytes".to_owned(),
                }),
            }
        }
        let mut images = Vec::with_capacity(kept.len());
        for ((id, number, bytes), &at) in ids.iter().zip(&kept) {
            let (header, at) = (Header::of(bytes), at as usize);
            images.push(Image {
                image_id: id,
                source: Source { path: &entry.path, offset: None, length: Some(bytes.len() as u64), row: Some(*number) },
                label: labels.as_ref().filter(|labels| labels.is_valid(at)).map(|labels| labels.value(at)),
                digest: FileDigest::of(&blake3::hash(bytes)).to_string().into(),
                about: About {
                    width: header.width.map(i64::from),
                    height: header.height.map(i64::from),
                    format: header.format,
                    bytes: Some(bytes.len() as i64),
                    modified_us: None,
                },
            });
        }
        let listed = images::batch(images).map_err(|error| error.to_string())?;
        let split: ArrayRef = Arc::new(StringArray::from(vec![split_of(&entry.path); kept.len()]));
        let columns = self.columns.schema().fields().iter().enumerate().map(|(at, field)| -> Result<ArrayRef, String> {
            if let Some(column) = listed.column_by_name(field.name()) {
                return Ok(column.clone());
            }
            if self.in_splits && field.name() == SPLIT {
                return Ok(split.clone());
            }
            self.columns.handed(others, at, &kept)
        });
        let columns = columns.collect::<Result<Vec<_>, String>>()?;
        let rows = RecordBatch::try_new(self.columns.schema().clone(), columns).map_err(|error| error.to_string())?;
        Ok(Found { rows, left_out })
    }
}

impl Layout for Embedded {
    fn schema(&self) -> SchemaRef {
        self.columns.schema().clone()
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let path = self.only.as_ref().map_or_else(|| self.root.clone(), |only| self.root.join(only));
        Ok(naming::only(files.list(&path)?, &|path| naming::extension(path).eq_ignore_ascii_case(EXTENSION)))
    }

    fn role(&self, _: &str) -> Role {
        Role::Shard
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let read = move |print: &'a Fingerprint| -> Result<Vec<Found>, Error> {
            let path = self.root.join(&*print.entry.path);
            self.read(files, &path, &print.entry)?.collect()
        };
        // What is found of a file takes little memory: its images stay there.
        Ok(Box::new(prints.iter().flat_map(move |print| match read(print) {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })))
    }

    fn rule(&self) -> String {
        format!("{:?} {}", self.columns, self.in_splits)
    }

    fn access(&self) -> Access {
        Access::Column(self.columns.image().to_owned())
    }
}

/// The half that a file is called after, or else the folder that it lies in, as in `data/train-00000-of-00002.parquet`.
fn split_of(path: &str) -> Option<&'static str> {
    let words = path.split(|c: char| !c.is_ascii_alphabetic()).rev();
    words.into_iter().find_map(naming::split)
}

/// The bytes of some images, by the rows of their files.
pub(crate) fn read_each(
    files: &dyn Files,
    root: &Path,
    column: &str,
    sources: &[Source<'_>],
) -> Vec<Result<Vec<u8>, Error>> {
    by_file(root, sources, |path, rows| pages::rows(files, path, column, rows))
}

/// Has the rows of each file read together, in their order; a row that is asked for twice comes twice.
pub(crate) fn by_file(
    root: &Path,
    sources: &[Source<'_>],
    read: impl Fn(&Path, &[u64]) -> Result<Vec<Option<Vec<u8>>>, Error>,
) -> Vec<Result<Vec<u8>, Error>> {
    let mut by_file: HashMap<&str, Vec<(u64, usize)>> = HashMap::new();
    let mut found: Vec<Option<Result<Vec<u8>, Error>>> = Vec::new();
    found.resize_with(sources.len(), || None);
    for (at, source) in sources.iter().enumerate() {
        match source.row {
            Some(row) => by_file.entry(source.path).or_default().push((row, at)),
            None => found[at] = Some(Err(Error::format(root.join(source.path), "the image is in no row of it"))),
        }
    }
    for (path, mut rows) in by_file {
        rows.sort_unstable();
        let path = root.join(path);
        match read(&path, &rows.iter().map(|(row, _)| *row).collect::<Vec<_>>()) {
            Ok(read) => {
                for ((row, at), bytes) in rows.into_iter().zip(read) {
                    let lacking = || Error::format(&path, format!("row {row} has no bytes"));
                    found[at] = Some(bytes.ok_or_else(lacking));
                }
            }
            Err(error) => {
                let said = error.to_string();
                let mut first = Some(error);
                for (_, at) in rows {
                    found[at] = Some(Err(first.take().unwrap_or_else(|| Error::format(&path, &said))));
                }
            }
        }
    }
    let lacking = || Error::format(root, "fewer images were read than were asked for");
    found.into_iter().map(|found| found.unwrap_or_else(|| Err(lacking()))).collect()
}

#[cfg(test)]
mod tests;
