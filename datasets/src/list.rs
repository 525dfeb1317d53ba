//! A list of images: a text file with a path a line, or a table with a column of paths and what is said of each.
//!
//! Paths start from the list's folder; or all of them are absolute, or URLs of one kind of bucket. The column of paths is the first of
//! `path`, `image`, `file_name`, … that there is, or the one that is named. Other columns are handed on; `label` is the class, as text.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tessera_schemas::{IMAGE_ID, images, text};

use crate::folder::{self, BATCH_ROWS, naming};
use crate::layout::{Layout, Role, Rows};
use crate::tables::{self, Reading};
use crate::{Entry, Error, Files, Fingerprint, LeftOut, Listed, as_url};

/// What a column of paths is called.
const PATHS: [&str; 9] = ["path", "image", "file_name", "filename", "file", "image_path", "filepath", "image_id", "url"];
/// Endings of lists that are tables.
const TABLES: [&str; 4] = ["csv", "tsv", "jsonl", "parquet"];
const LABEL: &str = "label";

/// A list of images.
#[derive(Debug)]
pub struct List {
    /// The list's own place.
    place: PathBuf,
    /// What the images' paths start from.
    root: PathBuf,
    /// The list's path from there, or its absolute one.
    own: String,
    /// The column of paths; `None` for a text file.
    column: Option<String>,
    /// As the table is read.
    table: SchemaRef,
    schema: SchemaRef,
}

/// What a list says.
struct Told {
    /// Paths from the root on, in the list's order.
    paths: Vec<String>,
    /// The table's rows.
    rows: RecordBatch,
}

/// Whether a path ends like a list.
pub fn is_list(path: &str) -> bool {
    let ending = naming::extension(path).to_ascii_lowercase();
    ending == "txt" || TABLES.contains(&&*ending)
}

impl List {
    /// Reads a list's columns and paths. `column` names that of paths.
    ///
    /// # Errors
    /// It cannot be read, has no column of paths, or its paths lie in different worlds.
    pub fn open(files: &dyn Files, path: &Path, column: Option<&str>) -> Result<Self, Error> {
        let fail = |message: String| Error::format(path, message);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let is_text = naming::extension(&path.to_string_lossy()).eq_ignore_ascii_case("txt");
        let entry = entry(files, path)?;
        let table = if is_text {
            Arc::new(Schema::empty())
        } else {
            tables::schema(files, &folder, std::slice::from_ref(&entry), &Reading::default())?
        };
        let column = if is_text { None } else { Some(path_column(&table, column).map_err(fail)?) };
        let mut list = Self {
            place: path.to_owned(),
            root: folder,
            own: entry.path.to_string(),
            column,
            schema: images::schema(),
            table,
        };
        let print = Fingerprint { entry, ..Fingerprint::default() };
        let written = list.written(files, &print)?.0;
        list.root = list.root_of(&written).map_err(fail)?;
        if list.root != path.parent().unwrap_or(Path::new("")) {
            list.own = std::path::absolute(path).map_err(|error| Error::io(path, error))?.to_string_lossy().into_owned();
        }
        list.schema = list.columns().map_err(fail)?;
        Ok(list)
    }

    /// What paths start from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The columns of the images.
    fn columns(&self) -> Result<SchemaRef, String> {
        let own = images::schema();
        let mut fields: Vec<FieldRef> = own.fields().to_vec();
        for field in self.table.fields() {
            let name = field.name();
            if [LABEL, IMAGE_ID].contains(&name.as_str()) || Some(name) == self.column.as_ref() {
                continue;
            }
            if own.field_with_name(name).is_ok() {
                return Err(format!("its column `{name}` has the name of one that images have: rename it"));
            }
            fields.push(Arc::new(Field::clone(field).with_nullable(true)));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The paths as the list has them, and its rows.
    fn written(&self, files: &dyn Files, print: &Fingerprint) -> Result<(Vec<String>, RecordBatch), Error> {
        let fail = |message: String| Error::format(&self.place, message);
        let Some(column) = &self.column else {
            let bytes = files.read(&self.place)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| fail("it should be UTF-8 text".to_owned()))?;
            let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty());
            return Ok((lines.map(str::to_owned).collect(), RecordBatch::new_empty(self.table.clone())));
        };
        let (mut paths, mut batches) = (Vec::new(), Vec::new());
        let folder = self.place.parent().unwrap_or(Path::new(""));
        let name = self.place.file_name().unwrap_or_default().to_string_lossy();
        let print = Fingerprint { entry: Entry { path: (*name).into(), ..print.entry.clone() }, ..print.clone() };
        let mut take_in = |batch: RecordBatch| -> Result<(), Error> {
            for path in text(&batch, column).map_err(|error| fail(error.to_string()))? {
                let row = paths.len() + 1;
                paths.push(path.ok_or_else(|| fail(format!("row {row} has no `{column}`")))?.to_owned());
            }
            batches.push(batch);
            Ok(())
        };
        tables::read(files, folder, std::slice::from_ref(&print), &self.table, &Reading::default(), &mut take_in)?;
        let rows = concat_batches(&self.table, &batches).map_err(|error| fail(error.to_string()))?;
        Ok((paths, rows))
    }

    /// What all paths start from: the list's folder, the root of the disk, or of a bucket.
    fn root_of(&self, paths: &[String]) -> Result<PathBuf, String> {
        let world = |path: &str| match as_url(Path::new(path)) {
            Some(url) => {
                let behind = url.find("://").map_or(0, |at| at + 3);
                let end = url[behind..].find('/').map_or(url.len(), |at| behind + at);
                PathBuf::from(&url[..end])
            }
            None if path.starts_with('/') => PathBuf::from("/"),
            None => self.place.parent().unwrap_or(Path::new("")).to_owned(),
        };
        let Some(first) = paths.first() else { return Err("names no image".to_owned()) };
        let root = world(first);
        match paths.iter().find(|path| world(path) != root) {
            Some(other) => Err(format!(
                "has `{first}` and `{other}`: all paths should be relative to the list, or absolute, or URLs of one bucket"
            )),
            None => Ok(root),
        }
    }

    /// What the list says, its paths from the root on.
    fn read(&self, files: &dyn Files, print: &Fingerprint) -> Result<Told, Error> {
        let fail = |message: String| Error::format(&self.place, message);
        let (written, rows) = self.written(files, print)?;
        if self.root_of(&written).map_err(fail)? != self.root {
            return Err(fail("was changed while it was read: run again".to_owned()));
        }
        let root = self.root.to_string_lossy();
        let mut paths = Vec::with_capacity(written.len());
        let mut seen = HashMap::new();
        for (at, path) in written.iter().enumerate() {
            let inner = if as_url(Path::new(path)).is_some() { path.strip_prefix(&*root).unwrap_or(path) } else { path };
            let mut inner = inner.trim_start_matches('/');
            while let Some(rest) = inner.strip_prefix("./") {
                inner = rest;
            }
            if inner.split('/').any(|part| part == "..") {
                return Err(fail(format!("row {}: `{path}` leads out of the list's folder: write it from / on", at + 1)));
            }
            if inner.is_empty() || inner == self.own.trim_start_matches('/') {
                return Err(fail(format!("row {}: `{path}` is no image", at + 1)));
            }
            if let Some(before) = seen.insert(inner.to_owned(), at) {
                return Err(fail(format!("row {}: `{path}` is in row {} already", at + 1, before + 1)));
            }
            paths.push(inner.to_owned());
        }
        Ok(Told { paths, rows })
    }
}

impl Layout for List {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let own = Entry { path: self.own.as_str().into(), ..entry(files, &self.place)? };
        let told = self.read(files, &Fingerprint { entry: own.clone(), ..Fingerprint::default() })?;
        let mut listed = Listed::default();
        // Of a bucket, all is listed at once.
        let bucket: Option<HashMap<Box<str>, Entry>> = match as_url(&self.root) {
            None => None,
            Some(_) => {
                let all = files.list(&self.root)?.files;
                Some(all.into_iter().map(|entry| (entry.path.clone(), entry)).collect())
            }
        };
        for path in told.paths {
            let found = match &bucket {
                Some(bucket) => bucket.get(path.as_str()).cloned(),
                // A file lists itself, by its name, and a folder what lies in it.
                None => files
                    .list(&self.root.join(&path))
                    .ok()
                    .and_then(|listed| listed.files.into_iter().next())
                    .filter(|found| path.rsplit('/').next() == Some(&*found.path)),
            };
            match found {
                Some(found) => listed.files.push(Entry { path: path.into(), ..found }),
                None => {
                    let reason = format!("{} names it, and there is no such file", self.place.display());
                    listed.left_out.push(LeftOut { path, is_folder: false, reason });
                }
            }
        }
        listed.files.push(own);
        listed.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        listed.left_out.sort_unstable();
        Ok(listed)
    }

    fn role(&self, path: &str) -> Role {
        if path == self.own { Role::Beside } else { Role::Image }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let own = prints.iter().find(|print| *print.entry.path == *self.own);
        let own = own.ok_or_else(|| Error::format(&self.place, "is not among its own files"))?;
        let told = self.read(files, own)?;
        let rows: HashMap<String, u32> = told.paths.into_iter().zip(0..).collect();
        let images: Vec<&Fingerprint> = prints.iter().filter(|print| *print.entry.path != *self.own).collect();
        let fail = |error: arrow::error::ArrowError| Error::format(&self.place, error);
        let label = told.rows.column_by_name(LABEL).map(|column| cast(column, &DataType::Utf8)).transpose().map_err(fail)?;
        let starts = (0..images.len()).step_by(BATCH_ROWS);
        Ok(Box::new(starts.map(move |start| {
            let images = &images[start..images.len().min(start + BATCH_ROWS)];
            let places: UInt32Array = images.iter().map(|print| rows.get(&*print.entry.path).copied()).collect();
            let listed = images::batch(images.iter().map(|print| folder::image(print, None)));
            let listed = listed.map_err(|error| Error::format(&self.place, error))?;
            let columns = self.schema.fields().iter().map(|field| -> Result<ArrayRef, Error> {
                let told = match field.name().as_str() {
                    LABEL => label.as_ref(),
                    name if listed.column_by_name(name).is_some() => None,
                    name => told.rows.column_by_name(name),
                };
                match told {
                    Some(told) => take(told, &places, None).map_err(fail),
                    None => Ok(listed.column_by_name(field.name()).expect("it is one of the images'").clone()),
                }
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(RecordBatch::try_new(self.schema.clone(), columns).map_err(fail)?.into())
        })))
    }
}

/// A file, as it lists itself.
fn entry(files: &dyn Files, path: &Path) -> Result<Entry, Error> {
    let first = files.list(path)?.files.into_iter().next();
    first.ok_or_else(|| Error::format(path, "is no file"))
}

/// The column of paths.
fn path_column(table: &Schema, named: Option<&str>) -> Result<String, String> {
    let texts: Vec<&str> = table
        .fields()
        .iter()
        .filter(|field| *field.data_type() == DataType::Utf8)
        .map(|field| field.name().as_str())
        .collect();
    if let Some(named) = named {
        return match texts.contains(&named) {
            true => Ok(named.to_owned()),
            false => Err(format!("has no column of text `{named}`; it has {}", texts.join(", "))),
        };
    }
    // Rows that are numbered have no ids of their own.
    let known = PATHS.iter().find(|known| texts.contains(known) && **known != IMAGE_ID || is_given(table, known));
    known.map(|name| (*name).to_owned()).ok_or_else(|| {
        let others = texts.iter().filter(|name| **name != IMAGE_ID).copied().collect::<Vec<_>>().join(", ");
        format!("has no column of paths, such as `path`; of text it has {others}: column = \"NAME\" says which")
    })
}

/// Whether a table has ids of its own under that name.
fn is_given(table: &Schema, name: &str) -> bool {
    // Numbers that were added stand first, and are never null: so are ids; a list whose only texts are ids is one of them.
    name == IMAGE_ID && table.fields().iter().filter(|field| *field.data_type() == DataType::Utf8).count() == 1
}

#[cfg(test)]
mod tests;
