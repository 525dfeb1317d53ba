//! A folder of images: one class a sub-folder, or flat; in halves, if its folders are named so.
//!
//! As in Hugging Face's imagefolder, a data set is in halves where each folder that it has is named `train`, `validation` or `test`, or as
//! people say that: then `split` names them, and paths begin behind them. A table `metadata` beside the images, with the column
//! `file_name`, says more of each image ([`about`]).

mod about;
pub mod naming;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tessera_schemas::images::{self, About as OfFile, Image, Source};

use self::about::{About, Told};
use self::naming::{Naming, split};
use crate::layout::{Layout, Role, Rows};
use crate::{Error, Files, Fingerprint, Listed, Version, as_url};

/// Endings of the files that count as images; what is in them decides how they are decoded.
pub const EXTENSIONS: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"];
/// Folders that systems and programs make, which hold no image of a data set. Those that begin with a dot are never listed.
const OF_PROGRAMS: [&str; 6] =
    ["@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"];
/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;
/// The column with the half that an image belongs to.
pub const SPLIT: &str = "split";
/// The column with the class.
const LABEL: &str = "label";

/// A folder of images.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    naming: Naming,
    /// Whether the first folder of a path is a half.
    in_splits: bool,
    about: Option<About>,
    schema: SchemaRef,
}

impl Folder {
    /// Looks at the folder's names, and at what lies beside the images. `splits` says whether its folders are halves of the data set;
    /// with `None` their names decide, and in a bucket they are not.
    ///
    /// # Errors It cannot be read, or a file beside the images that should be a table is not one.
    pub fn open(files: &dyn Files, root: &Path, naming: Naming, splits: Option<bool>) -> Result<Self, Error> {
        // A bucket is asked when it is listed: until then its folders are what they are said to be.
        let top = if as_url(root).is_some() { Top::default() } else { Top::of(files, root)? };
        let in_splits = splits.unwrap_or(top.in_splits);
        let about = About::open(files, root, &top.tables(files, root, in_splits)?)?;
        let mut fields: Vec<FieldRef> = images::schema().fields().to_vec();
        if in_splits {
            fields.push(Arc::new(Field::new(SPLIT, DataType::Utf8, true)));
        }
        let more = about.iter().flat_map(About::fields);
        let more: Vec<FieldRef> = more.filter(|field| field.name() != LABEL).cloned().collect();
        if let Some(field) = more.iter().find(|field| fields.iter().any(|known| known.name() == field.name())) {
            let message = format!("its column `{}` has the name of one that images have: rename it", field.name());
            return Err(Error::format(root.join(about::NAME), message));
        }
        fields.extend(more);
        Ok(Self { root: root.to_owned(), naming, in_splits, about, schema: Arc::new(Schema::new(fields)) })
    }

    /// Whether the first folder of each path is a half.
    pub fn in_splits(&self) -> bool {
        self.in_splits
    }

    /// The half that a path lies in, and what is behind it.
    fn parted<'a>(&self, path: &'a str) -> (Option<&'static str>, &'a str) {
        let parts = path.split_once('/').filter(|_| self.in_splits);
        // A folder that is no half may be one of classes.
        parts.and_then(|(first, rest)| Some((Some(split(first)?), rest))).unwrap_or((None, path))
    }

    fn batch(&self, prints: &[&Fingerprint], told: Option<&Told>) -> Result<RecordBatch, Error> {
        let fail = |message: String| Error::format(&self.root, message);
        let label = |print: &&Fingerprint| self.naming.label(self.parted(&print.entry.path).1).map(str::to_owned);
        let labels: Vec<Option<String>> = prints.iter().map(label).collect();
        let rows = prints.iter().zip(&labels).map(|(print, label)| image(print, label.as_deref()));
        let listed = images::batch(rows).map_err(|error| fail(error.to_string()))?;
        let paths: Vec<&str> = prints.iter().map(|print| &*print.entry.path).collect();
        let columns = self.schema.fields().iter().map(|field| -> Result<ArrayRef, Error> {
            let told = told.and_then(|told| told.column(field.name(), &paths));
            let own = listed.column_by_name(field.name());
            match (told, own) {
                // What the table says of a class goes before the folder.
                (Some(told), Some(own)) => Ok(naming::over(&told?, own)),
                (Some(told), None) => told,
                (None, Some(own)) => Ok(own.clone()),
                (None, None) => Ok(Arc::new(paths.iter().map(|path| self.parted(path).0).collect::<StringArray>())),
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| fail(error.to_string()))
    }
}

impl Folder {
    /// Refuses a table that names images which are not there. These may be some of all.
    fn complete(&self, files: &dyn Files, told: &Told, images: &[&Fingerprint]) -> Result<(), Error> {
        let find = |path: &str| images.binary_search_by(|print| (*print.entry.path).cmp(path)).is_ok();
        let mut lacking = told.lacking(&find);
        if !lacking.is_empty() {
            let there: HashSet<Box<str>> = files.list(&self.root)?.files.into_iter().map(|entry| entry.path).collect();
            lacking.retain(|path| !there.contains(*path));
        }
        let Some(first) = lacking.first() else { return Ok(()) };
        let more = lacking.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(Error::format(self.root.join(about::NAME), format!("names the image `{first}`{more}, which is not there")))
    }
}

impl Layout for Folder {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let mut listed = files.list(&self.root)?;
        let is_about = |path: &str| self.about.as_ref().is_some_and(|about| about.is_of(path));
        let mut aside = std::mem::take(&mut listed.aside);
        listed.files.retain(|entry| {
            let path = &*entry.path;
            if is_about(path) {
                return true;
            }
            if !is_image(path) {
                naming::set_aside(path, &mut aside);
                return false;
            }
            !is_of_program(path) && self.naming.wants(path)
        });
        listed.left_out.retain(|one| one.is_folder || is_image(&one.path));
        listed.aside = aside;
        Ok(listed)
    }

    fn role(&self, path: &str) -> Role {
        if self.about.as_ref().is_some_and(|about| about.is_of(path)) { Role::Beside } else { Role::Image }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let told = self.about.as_ref().map(|about| about.read(files, &self.root, prints)).transpose()?;
        let images: Vec<&Fingerprint> = prints.iter().filter(|print| self.role(&print.entry.path) == Role::Image).collect();
        if let Some(told) = &told {
            self.complete(files, told, &images)?;
        }
        let starts = (0..images.len()).step_by(BATCH_ROWS);
        Ok(Box::new(starts.map(move |start| {
            let end = images.len().min(start + BATCH_ROWS);
            Ok(self.batch(&images[start..end], told.as_ref())?.into())
        })))
    }
}

/// What lies in a data set's folder itself.
#[derive(Default)]
struct Top {
    folders: Vec<String>,
    tables: Vec<String>,
    in_splits: bool,
}

impl Top {
    fn of(files: &dyn Files, root: &Path) -> Result<Self, Error> {
        let mut top = Self::default();
        let (mut halves, mut others) = (0, 0);
        files.names(root, &mut |name, is_folder| {
            if is_folder && !is_of_program(&format!("{name}/")) {
                if split(name).is_some() {
                    halves += 1
                } else {
                    others += 1
                }
                top.folders.push(name.to_owned());
            } else if about::is_name(name) {
                top.tables.push(name.to_owned());
            } else if is_image(name) {
                others += 1;
            }
            true
        })?;
        top.in_splits = halves > 0 && others == 0;
        Ok(top)
    }

    /// The tables beside the images: in the folder itself, or in its halves.
    fn tables(&self, files: &dyn Files, root: &Path, in_splits: bool) -> Result<Vec<String>, Error> {
        let mut found = self.tables.clone();
        if in_splits && found.is_empty() {
            for folder in &self.folders {
                files.names(&root.join(folder), &mut |name, is_folder| {
                    if !is_folder && about::is_name(name) {
                        found.push(format!("{folder}/{name}"));
                    }
                    true
                })?;
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The images among what a folder holds. What was left out stays, if images may be among it.
pub fn images(mut listed: Listed) -> Listed {
    listed.files.retain(|entry| is_image(&entry.path) && !is_of_program(&entry.path));
    listed.left_out.retain(|one| one.is_folder || is_image(&one.path));
    listed
}

/// What to say of a folder of so many files that holds no image.
pub fn no_image(files: usize) -> String {
    format!("no image among {files} files; images end in {}", EXTENSIONS.join(", "))
}

/// Files of a bucket that were taken for none of a data set's, and what would read the images in them: a bucket is not asked what it holds
/// before it is listed.
pub fn holders(listed: &Listed) -> Option<String> {
    let known = |ending: &str| match ending {
        "tar" | "tgz" | "gz" | "zst" => Some("webdataset"),
        "parquet" => Some("parquet"),
        "arrow" | "feather" => Some("arrow"),
        "h5" | "hdf5" => Some("hdf5"),
        _ => None,
    };
    let found = listed.aside.iter().filter_map(|(ending, count)| Some((count, ending, known(ending)?)));
    let (count, ending, format) = found.max_by_key(|(count, ..)| **count)?;
    Some(format!("; {count} are .{ending}: `format = \"{format}\"` reads the images in them"))
}

pub(crate) fn is_image(path: &str) -> bool {
    let extension = naming::extension(path);
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Whether a path lies in a folder that is no part of a data set.
fn is_of_program(path: &str) -> bool {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').any(|folder| OF_PROGRAMS.contains(&folder))
}

/// The image that a file is.
pub(crate) fn image<'a>(print: &'a Fingerprint, label: Option<&'a str>) -> Image<'a> {
    let path = &print.entry.path;
    let source = Source { path, offset: None, length: Some(print.entry.size), row: None };
    Image { image_id: path, source, label, digest: print.digest.to_string().into(), about: of_file(print) }
}

/// What a file says of itself.
fn of_file(print: &Fingerprint) -> OfFile<'_> {
    let Fingerprint { entry, digest, header } = print;
    // A link that leads nowhere has neither length nor time.
    let nothing = digest.is_unreadable() && entry.version() == Version::default();
    let there = |value: i64| (!nothing).then_some(value);
    OfFile {
        width: header.width.map(i64::from),
        height: header.height.map(i64::from),
        format: header.format,
        bytes: i64::try_from(entry.size).ok().and_then(there),
        modified_us: there(entry.modified_ns.div_euclid(1000)),
    }
}

#[cfg(test)]
mod tests;
