//! Boxes as text files for YOLO have them, one file an image and one object a line.
//!
//! An image `…/images/REST.jpg` has its text in `…/labels/REST.txt` (the last folder of its path that is called `images` counts),
//! or else any image in a text file of its name beside it. The classes' names are in `data.yaml` or `dataset.yaml`, or in
//! `obj.names`, `NAME.names` or `classes.txt`, one name a line, or in another YAML file of the data set's own folder; the first of
//! these that there is counts.
//!
//! A line is a class's number, from 0, and x, y, width and height of the box as parts of the image's: its centre is at (x, y). Or
//! it is a number and the three or more points of a polygon, of which the box around it is kept; where `data.yaml` has `kpt_shape`,
//! points behind the box are keypoints, which are not kept. An empty file says that an image shows nothing. Since coordinates in
//! pixels need an image's size, one whose header does not tell it has null boxes, and is named among what is left out.
//!
//! The split is what `train`, `val` and `test` of `data.yaml` say, each a folder, a text file of images, or a list of these; of an
//! image that several of them name the first of the three counts (demonstrations validate on what they train on). Of an image that
//! none of them names, or without `data.yaml`, it is what the image's folders are called.
//!
//! Programs that turn an image by its Exif data before they annotate it write coordinates of the turned image; these are not turned
//! back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::pairs::{self, Labels};
use super::{Known, ends_in, folder_of, keep, name_of, refuse_left_out, some, stem_of, text};
use crate::layout::{Found, Layout, Role, Rows};
use crate::{Entry, Error, Files, Fingerprint, LeftOut, Listed, folder};

mod data;
mod lines;
mod splits;

use data::Data;
use splits::Splits;

/// The ending of label files.
const TXT: &str = ".txt";
/// The folder of images, and that of their texts beside it.
const FOLDERS: [&str; 2] = ["images", "labels"];
/// The text file of names that annotation programs write.
const CLASSES: &str = "classes.txt";

/// A data set with a text file an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Yolo {
    root: PathBuf,
    /// The file that has the classes' names.
    names: String,
    /// What was in it.
    data: Data,
    /// Files that `data.yaml` names, which list images.
    lists: Vec<String>,
}

impl Yolo {
    /// Finds out how the files are laid out; reads the file of the classes' names.
    ///
    /// # Errors
    /// The folder cannot be read, no text file has the name of an image, or the names cannot be read.
    pub fn open(files: &dyn Files, root: &Path) -> Result<Self, Error> {
        let entries = files.list(root)?.files;
        let images = entries.iter().filter(|entry| folder::is_image(&entry.path)).count();
        if !has_pairs(&entries) {
            let texts: Vec<&str> = entries.iter().map(|entry| &*entry.path).filter(|path| ends_in(path, TXT)).collect();
            let message = format!(
                "no text file that has the name of an image: looked for labels/a.txt with images/a.jpg, and for a.txt beside a.jpg; \
                 among {} files are {images} images and {} text files ({})",
                entries.len(),
                texts.len(),
                some(&texts)
            );
            return Err(Error::format(root, message));
        }
        let Some(names) = names_file(&entries) else {
            let message = "no file has the classes' names: looked for data.yaml (with `names:`), obj.names and classes.txt; write \
                           classes.txt with one name a line, the first for class 0";
            return Err(Error::format(root, message));
        };
        let data = read_data(files, root, names)?;
        let lists = Splits::lists(&data, entries.iter().map(|entry| &*entry.path));
        Ok(Self { root: root.to_owned(), names: names.to_owned(), data, lists })
    }

    /// Whether a folder is laid out so, by the names of its files.
    pub fn recognises(files: &dyn Files, root: &Path) -> bool {
        files.list(root).is_ok_and(|listed| Self::is_among(&listed.files))
    }

    /// Whether files are laid out so.
    pub fn is_among(entries: &[Entry]) -> bool {
        names_file(entries).is_some() && has_pairs(entries)
    }

    fn is_beside(&self, path: &str) -> bool {
        path == self.names || self.lists.iter().any(|list| list == path)
    }

    /// Label files, given the paths of all images: other text files may lie beside these.
    fn is_label(&self, path: &str, stems: &HashSet<String>) -> bool {
        is_text(path) && !self.is_beside(path) && (stems.contains(stem_of(path)) || is_in_labels(path))
    }

    /// The rows of some images.
    fn batch(
        &self,
        files: &dyn Files,
        labels: &Labels<'_>,
        splits: &Splits,
        images: &[&Fingerprint],
    ) -> Result<Found, Error> {
        let owned = images.iter().map(|image| owner(labels, &image.entry.path, &self.root));
        let paths = owned.collect::<Result<Vec<_>, _>>()?;
        let bytes = pairs::read(files, &self.root, &paths)?;
        let mut left_out = Vec::new();
        let known = images.iter().zip(paths.iter().zip(bytes)).map(|(image, (path, bytes))| {
            let split = splits.of(&image.entry.path);
            let (Some(path), Some(bytes)) = (path, bytes) else { return Ok(Known { split, objects: None }) };
            let size = image.header.width.zip(image.header.height);
            // The text is checked, whether or not the image's size is known.
            let parsed = text(&bytes).and_then(|text| lines::objects(text, size.unwrap_or((1, 1)), &self.data));
            let objects = parsed.map_err(|message| Error::format(self.root.join(path), message))?;
            if size.is_none() && !objects.is_empty() {
                let reason =
                    format!("{path} has boxes as parts of the image's size, which the image's header does not tell");
                left_out.push(LeftOut { path: image.entry.path.to_string(), is_folder: false, reason });
                return Ok(Known { split, objects: None });
            }
            Ok(Known { split, objects: Some(objects) })
        });
        let known = known.collect::<Result<Vec<_>, Error>>()?;
        Ok(Found { rows: super::batch(images, known)?, left_out })
    }
}

/// Whether a file may say of an image what it shows.
fn is_text(path: &str) -> bool {
    ends_in(path, TXT) && name_of(path) != CLASSES
}

/// Whether a file is in a folder for label files.
fn is_in_labels(path: &str) -> bool {
    folder_of(path).split('/').any(|part| part == FOLDERS[1])
}

/// The paths, without an ending, that a label file of an image may have: in `labels`, and beside it.
fn label_stems(image: &str) -> [Option<String>; 2] {
    let stem = stem_of(image);
    let mut parts: Vec<&str> = stem.split('/').collect();
    let folders = parts.len() - 1;
    let moved = parts[..folders].iter().rposition(|part| *part == FOLDERS[0]).map(|at| {
        parts[at] = FOLDERS[1];
        parts.join("/")
    });
    [moved, Some(stem.to_owned())]
}

/// The label file of an image.
///
/// # Errors
/// There are two.
fn owner<'a>(labels: &Labels<'a>, image: &str, root: &Path) -> Result<Option<&'a str>, Error> {
    let mut found = label_stems(image).into_iter().flatten().filter_map(|stem| labels.get(&stem));
    let label = found.next();
    match (label, found.next()) {
        (Some(label), Some(other)) => {
            Err(Error::format(root.join(image), format!("both {label} and {other} say what it shows: remove one of them")))
        }
        _ => Ok(label),
    }
}

/// The paths, without an ending, that label files may have.
fn all_stems<'a>(paths: impl Iterator<Item = &'a str>) -> HashSet<String> {
    paths.filter(|path| folder::is_image(path)).flat_map(label_stems).flatten().collect()
}

fn has_pairs(entries: &[Entry]) -> bool {
    let texts: HashSet<&str> = entries.iter().map(|entry| &*entry.path).filter(|path| is_text(path)).map(stem_of).collect();
    let mut images = entries.iter().filter(|entry| folder::is_image(&entry.path));
    !texts.is_empty()
        && images.any(|image| label_stems(&image.path).into_iter().flatten().any(|stem| texts.contains(&*stem)))
}

/// The file of the classes' names: the first of those that may have them.
fn names_file(entries: &[Entry]) -> Option<&str> {
    let paths = || entries.iter().map(|entry| &*entry.path);
    let shallow = |path: &&str| folder_of(path).is_empty();
    let yaml = |path: &str| ends_in(path, ".yaml") || ends_in(path, ".yml");
    let named = |names: &'static [&'static str]| paths().find(move |path| names.iter().any(|name| path == name));
    let by_depth =
        |is_it: &dyn Fn(&str) -> bool| paths().filter(|path| is_it(path)).min_by_key(|path| path.matches('/').count());
    named(&["data.yaml", "data.yml", "dataset.yaml", "dataset.yml"])
        .or_else(|| by_depth(&|path| ends_in(path, ".names")))
        .or_else(|| by_depth(&|path| name_of(path) == CLASSES))
        .or_else(|| paths().filter(shallow).find(|path| yaml(path)))
}

fn read_data(files: &dyn Files, root: &Path, names: &str) -> Result<Data, Error> {
    let path = root.join(names);
    let bytes = files.read(&path)?;
    let read = if ends_in(names, TXT) || ends_in(names, ".names") { data::lines } else { data::yaml };
    text(&bytes).and_then(read).map_err(|message| Error::format(path, message))
}

impl Layout for Yolo {
    fn schema(&self) -> SchemaRef {
        super::schema()
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let root = &self.root;
        let listed = files.list(root)?;
        refuse_left_out(root, &listed, |path, is_folder| {
            let is_labels = || is_in_labels(path) || name_of(path) == FOLDERS[1];
            self.is_beside(path) || (is_labels() && (is_folder || ends_in(path, TXT)))
        })?;
        let paths: Vec<String> = listed.files.iter().map(|entry| entry.path.to_string()).collect();
        let paths = || paths.iter().map(String::as_str);
        let stems = all_stems(paths());
        let listed = keep(listed, |entry| self.is_beside(&entry.path) || self.is_label(&entry.path, &stems));
        let all = || paths().filter(|path| self.is_label(path, &stems));
        let labels = Labels::of(all(), root)?;
        let images = paths().filter(|path| folder::is_image(path));
        let wanted = |label: &str| {
            let at = format!("/{}/", stem_of(label)).replacen("/labels/", "/images/", 1);
            format!("{}.jpg (or another ending: {})", at.trim_matches('/'), folder::EXTENSIONS.join(", "))
        };
        pairs::check(root, all(), images, |image| owner(&labels, image, root), wanted)?;
        for list in &self.lists {
            if !paths().any(|path| path == list) {
                return Err(Error::format(root.join(list), format!("{} names it, and it is not there", self.names)));
            }
        }
        Ok(listed)
    }

    fn role(&self, path: &str) -> Role {
        if folder::is_image(path) { Role::Image } else { Role::Beside }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let root = &self.root;
        if read_data(files, root, &self.names)? != self.data {
            return Err(Error::format(root.join(&self.names), "it was changed while the data set was read; try again"));
        }
        let (images, beside): (Vec<&Fingerprint>, Vec<&Fingerprint>) =
            prints.iter().partition(|print| folder::is_image(&print.entry.path));
        let beside = beside.iter().map(|print| &*print.entry.path).filter(|path| !self.is_beside(path));
        let labels = Labels::of(beside, root)?;
        let splits = Splits::read(files, root, &self.data, &self.names, &self.lists)?;
        let mut start = 0;
        Ok(Box::new(std::iter::from_fn(move || {
            let end = images.len().min(start + folder::BATCH_ROWS);
            let images = &images[std::mem::replace(&mut start, end)..end];
            (!images.is_empty()).then(|| self.batch(files, &labels, &splits, images))
        })))
    }
}

/// The names of a data set's classes, by their numbers.
type Names = Vec<Arc<str>>;

#[cfg(test)]
mod tests;
