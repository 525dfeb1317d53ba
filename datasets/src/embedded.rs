//! Images in a column of Parquet or Arrow files, as Hugging Face's `datasets` writes them: each row has an image's bytes and what is
//! said of it.
//!
//! The column is a struct of `bytes` and `path`, or plain binary. Bytes stay in the file until an image is decoded: a row knows the file
//! and its number in it, and of an Arrow file that is not compressed also where they lie. What the file's metadata under the key
//! `huggingface` call a class label becomes the class's name, and `label` is the only such column, or the column of that name. `name` is
//! the path that the struct has. Other columns are handed on as they are. A file, or a folder of it, that is called after a half of a data
//! set puts its rows into that `split`. A row without bytes is left out and told, and so is what is cut off of an Arrow stream.
//!
//! Of what `Dataset.save_to_disk` wrote, the files are those that `state.json` names (`saved.rs`): others beside them are caches.
//!
//! Reference: Hugging Face `datasets`, features `Image` and `ClassLabel`.

mod batches;
mod columns;
mod kind;
mod leaf;
mod pages;
mod reads;
mod saved;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use serde_json::Value;
use tessera_schemas::images::{self, About, Image, Source};

use crate::folder::{SPLIT, naming};
use crate::header::Header;
use crate::layout::{Access, Found, Layout, Role, Rows};
use crate::{Entry, Error, FileDigest, Files, Fingerprint, LeftOut, Listed};
use columns::Columns;
pub use kind::Kind;
use kind::{Batch, Reader};
pub(crate) use reads::{by_file, placed_or, read_each};
use saved::Saved;

/// Rows that are looked at together: images may be large.
const BATCH_ROWS: usize = 32;
/// The column with the path that a file's own row has.
const NAME: &str = "name";

/// Files of images in a column.
#[derive(Debug)]
pub struct Embedded {
    kind: Kind,
    root: PathBuf,
    /// The only file, if it is not a folder's.
    only: Option<String>,
    columns: Columns,
    in_splits: bool,
    /// The file that names the classes, if those of the images do not.
    info: Option<String>,
}

impl Embedded {
    /// Reads the columns of a file, or of the first of a folder. `column` names the column of the images; with `None` it is the only
    /// column that can be it.
    ///
    /// # Errors
    /// There is no such file, or it has no column of images, or several.
    pub fn open(files: &dyn Files, path: &Path, kind: Kind, column: Option<&str>) -> Result<Self, Error> {
        let listed = files.list(path)?;
        let saved = Saved::of(files, path, &listed, kind)?;
        let is_ours = |entry: &&Entry| Kind::of(&entry.path) == Some(kind) && saved.has(&entry.path);
        let ours: Vec<&Entry> = listed.files.iter().filter(is_ours).collect();
        let Some(first) = ours.first() else {
            let count = listed.files.len();
            let endings = kind.endings().join(" or ");
            return Err(Error::format(path, format!("no {kind:?} file among {count} files; their names end in {endings}")));
        };
        // A file lists itself, by its name.
        let is_file = listed.files.len() == 1 && path.file_name().is_some_and(|name| *name == *first.path);
        let is_file = is_file && Kind::of(&path.to_string_lossy()) == Some(kind);
        let root = if is_file { path.parent().unwrap_or(path) } else { path };
        let only = is_file.then(|| first.path.to_string());
        let in_splits = ours.iter().any(|entry| split_of(&entry.path).is_some());
        let place = root.join(&*first.path);
        let reader = Reader::open(kind, files, &place, first.size)?;
        let (known, info) = match columns::features(reader.schema()) {
            Value::Null => saved::features(files, root, &first.path, &listed)?,
            known => (known, None),
        };
        let columns = Columns::of(reader.schema(), &known, column, in_splits);
        let columns = columns.map_err(|message| Error::format(&place, message))?;
        Ok(Self { kind, root: root.to_owned(), only, columns, in_splits, info })
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a file has a column that must be one of images: a struct with `bytes`, or one that its metadata call so.
    pub fn recognises(files: &dyn Files, path: &Path, kind: Kind, entry: &Entry) -> bool {
        let reader = Reader::open(kind, files, path, entry.size);
        reader.is_ok_and(|reader| columns::has_images(reader.schema()))
    }

    fn is_info(&self, path: &str) -> bool {
        self.info.as_deref() == Some(path)
    }

    /// The rows of a file.
    fn read<'a>(&'a self, files: &'a dyn Files, path: &'a Path, entry: &'a Entry) -> Result<Rows<'a>, Error> {
        let reader = Reader::open(self.kind, files, path, entry.size)?;
        self.columns.check(reader.schema()).map_err(|message| Error::format(path, message))?;
        let digits = reader.rows().max(1).saturating_sub(1).to_string().len();
        let mut row = 0;
        let cut = reader.cut().map(|why| LeftOut { path: entry.path.to_string(), is_folder: false, reason: why.to_owned() });
        let batches = reader.all(self.columns.image())?;
        let found = batches.map(move |batch| {
            let batch = batch?;
            let start = row;
            row += batch.images.len() as u64;
            self.found(&batch, entry, start, digits).map_err(|message| Error::format(path, message))
        });
        let rows = RecordBatch::new_empty(self.columns.schema().clone());
        let cut = cut.map(|cut| Ok(Found { rows, left_out: vec![cut] }));
        Ok(Box::new(found.chain(cut)))
    }

    /// The images in some rows of a file, which begin at a given row of it.
    fn found(&self, batch: &Batch, entry: &Entry, start: u64, digits: usize) -> Result<Found, String> {
        let Batch { others, images } = batch;
        let (labels, own) = (self.columns.label(others)?, self.columns.ids(others));
        let (mut ids, mut kept, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for (row, image) in images.iter().enumerate() {
            let number = start + row as u64;
            let id = match own.as_ref().filter(|own| own.is_valid(row)) {
                Some(own) => own.value(row).to_owned(),
                None => format!("{}/{number:0digits$}", entry.path),
            };
            match image {
                Some(image) => {
                    kept.push(row as u32);
                    ids.push((id, number, image));
                }
                None => left_out.push(LeftOut {
                    path: format!("{}/{number:0digits$}", entry.path),
                    is_folder: false,
                    reason: "the row has no bytes".to_owned(),
                }),
            }
        }
        let mut images = Vec::with_capacity(kept.len());
        for ((id, number, image), &at) in ids.iter().zip(&kept) {
            let bytes = image.bytes.data();
            let (header, at) = (Header::of(bytes), at as usize);
            images.push(Image {
                image_id: id,
                source: Source {
                    path: &entry.path,
                    offset: image.offset,
                    length: Some(bytes.len() as u64),
                    row: Some(*number),
                },
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
        let mut listed = files.list(&path)?;
        let saved = Saved::of(files, &self.root, &listed, self.kind)?;
        // What `datasets` wrote of its own is none of the files that were left aside.
        listed.files.retain(|entry| !saved.is_note(&entry.path) || self.is_info(&entry.path));
        let is_ours = |path: &str| self.is_info(path) || Kind::of(path) == Some(self.kind) && saved.has(path);
        let mut listed = naming::only(listed, &is_ours);
        if let (Some(info), Some(_)) = (&self.info, &self.only) {
            // It lies beside the only file.
            let entries = files.list(&self.root.join(info))?.files;
            listed.files.extend(entries.into_iter().map(|entry| Entry { path: info.as_str().into(), ..entry }));
            listed.files.sort();
        }
        listed.left_out.extend(saved.lacking(&listed));
        Ok(listed)
    }

    fn role(&self, path: &str) -> Role {
        if self.is_info(path) { Role::Beside } else { Role::Shard }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let read = move |print: &'a Fingerprint| -> Result<Vec<Found>, Error> {
            let path = self.root.join(&*print.entry.path);
            self.read(files, &path, &print.entry)?.collect()
        };
        // What is found of a file takes little memory: its images stay there.
        let shards = prints.iter().filter(|print| !self.is_info(&print.entry.path));
        Ok(Box::new(shards.flat_map(move |print| match read(print) {
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

#[cfg(test)]
mod tests;
