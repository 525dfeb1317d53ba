//! Boxes as PASCAL VOC's XML files have them, one file an image.
//!
//! Two ways to lay them out are known. As VOC does it, a folder `Annotations` has the XML files and `JPEGImages` (or `images`)
//! beside it the images, in whatever folders below these, but in the same in both. Or an XML file lies beside its image, as
//! LabelImg writes it, and exports for PASCAL VOC have it in `train`, `valid` and `test`. An image and its XML file have the same
//! name but for the ending; what `<filename>` and `<path>` say is not looked at, since it is often that of another computer.
//!
//! The split is what `ImageSets/Main/{train,val,test,trainval}.txt` say, by the rules of [`crate::voc`], if one of them is there;
//! else what the folders of the image are called. The classes' files of `ImageSets/Main` are not looked at.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;

use super::pairs::{self, Labels};
use super::{Known, ends_in, folder_of, inside, keep, name_of, refuse_left_out, some, split_of, stem_of, text};
use crate::layout::{Found, Layout, Role, Rows};
use crate::{Entry, Error, Files, Fingerprint, Listed, folder, voc};

mod parse;

/// The ending of label files.
const XML: &str = ".xml";
/// The folder of label files, in letters of either case.
const ANNOTATIONS: &str = "annotations";
/// Names of the folder of images beside it, in letters of either case.
const IMAGES: [&str; 2] = ["jpegimages", "images"];

/// A data set with an XML file an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voc {
    root: PathBuf,
    /// Folders of label files, and of their images; if there are none, files lie beside their images.
    folders: Vec<(String, String)>,
}

impl Voc {
    /// Finds out how the files are laid out; reads their names only.
    ///
    /// # Errors
    /// The folder cannot be read, or no XML file has the name of an image.
    pub fn open(files: &dyn Files, root: &Path) -> Result<Self, Error> {
        let entries = files.list(root)?.files;
        let folders = folders(&entries);
        let voc = Self { root: root.to_owned(), folders };
        if voc.has_pairs(&entries) {
            return Ok(voc);
        }
        let labels: Vec<&str> = entries.iter().map(|entry| &*entry.path).filter(|path| ends_in(path, XML)).collect();
        let images = entries.iter().filter(|entry| folder::is_image(&entry.path)).count();
        let message = format!(
            "no XML file that has the name of an image: looked for Annotations/a.xml with JPEGImages/a.jpg or images/a.jpg, and for \
             a.xml beside a.jpg; among {} files are {images} images and {} XML files ({})",
            entries.len(),
            labels.len(),
            some(&labels)
        );
        Err(Error::format(root, message))
    }

    /// Whether a folder is laid out so, by the names of its files.
    pub fn recognises(files: &dyn Files, root: &Path) -> bool {
        files.list(root).is_ok_and(|listed| Self::is_among(&listed.files))
    }

    /// Whether files are laid out so.
    pub fn is_among(entries: &[Entry]) -> bool {
        Self { root: PathBuf::new(), folders: folders(entries) }.has_pairs(entries)
    }

    fn has_pairs(&self, entries: &[Entry]) -> bool {
        let labels = entries.iter().map(|entry| &*entry.path).filter(|path| self.is_label(path));
        let stems: std::collections::HashSet<&str> = labels.map(stem_of).collect();
        let mut images = entries.iter().filter(|entry| self.is_image(&entry.path));
        !stems.is_empty() && images.any(|image| stems.contains(&*self.label_stem(&image.path)))
    }

    /// The path, without its ending, of the file that is about an image.
    fn label_stem(&self, image: &str) -> String {
        let below = self.folders.iter().find_map(|(labels, images)| Some(inside(labels, below(image, images)?)));
        stem_of(&below.unwrap_or_else(|| image.to_owned())).to_owned()
    }

    fn is_label(&self, path: &str) -> bool {
        let is_inside = || self.folders.iter().any(|(labels, _)| below(path, labels).is_some());
        ends_in(path, XML) && (self.folders.is_empty() || is_inside())
    }

    fn is_image(&self, path: &str) -> bool {
        let is_inside = || self.folders.iter().any(|(_, images)| below(path, images).is_some());
        folder::is_image(path) && (self.folders.is_empty() || is_inside())
    }

    /// Where the image of a label file would be.
    fn wanted(&self, label: &str) -> String {
        let stem = stem_of(label);
        let moved = self.folders.iter().find_map(|(labels, images)| Some(inside(images, below(stem, labels)?)));
        let stem = moved.unwrap_or_else(|| stem.to_owned());
        format!("{stem}.jpg (or another ending: {})", folder::EXTENSIONS.join(", "))
    }
}

/// The rest of a path below a folder.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder)?.strip_prefix('/')
}

/// Folders of label files, each with the folder of images that is beside it.
fn folders(entries: &[Entry]) -> Vec<(String, String)> {
    let mut known: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    for entry in entries {
        let mut folder = folder_of(&entry.path);
        while !folder.is_empty() && known.insert(folder) {
            folder = folder_of(folder);
        }
    }
    let labels = known.iter().filter(|folder| name_of(folder).eq_ignore_ascii_case(ANNOTATIONS));
    let pair = |labels: &&str| {
        let named = |name: &str| {
            let is_it =
                |folder: &&&str| folder_of(folder) == folder_of(labels) && name_of(folder).eq_ignore_ascii_case(name);
            known.iter().find(is_it)
        };
        Some(((*labels).to_owned(), (*IMAGES.into_iter().find_map(named)?).to_owned()))
    };
    labels.filter_map(pair).collect()
}

impl Layout for Voc {
    fn schema(&self) -> SchemaRef {
        super::schema()
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let root = &self.root;
        let listed = files.list(root)?;
        let is_in_labels =
            |path: &str| self.folders.iter().any(|(labels, _)| path == labels || below(path, labels).is_some());
        refuse_left_out(root, &listed, |path, is_folder| {
            (is_folder && is_in_labels(path)) || self.is_label(path) || voc::is_split_file(path)
        })?;
        let splits = voc::split_files(listed.files.iter().map(|entry| &*entry.path));
        let mut listed = keep(listed, |entry| self.is_label(&entry.path) || splits.iter().any(|path| **path == *entry.path));
        listed.files.retain(|entry| !folder::is_image(&entry.path) || self.is_image(&entry.path));
        let paths = || listed.files.iter().map(|entry| &*entry.path);
        let labels = Labels::of(paths().filter(|path| self.is_label(path)), root)?;
        let owner = |image: &str| Ok(labels.get(&self.label_stem(image)));
        let (all, images) = (paths().filter(|path| self.is_label(path)), paths().filter(|path| self.is_image(path)));
        pairs::check(root, all, images, owner, |label| self.wanted(label))?;
        Ok(listed)
    }

    fn role(&self, path: &str) -> Role {
        if folder::is_image(path) { Role::Image } else { Role::Beside }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let root = &self.root;
        let paths = || prints.iter().map(|print| &*print.entry.path);
        let labels = Labels::of(paths().filter(|path| self.is_label(path)), root)?;
        let images: Vec<&Fingerprint> = prints.iter().filter(|print| self.is_image(&print.entry.path)).collect();
        let given = voc::splits(files, root, &images, paths())?;
        let mut start = 0;
        Ok(Box::new(std::iter::from_fn(move || {
            let end = images.len().min(start + folder::BATCH_ROWS);
            let range = start..end;
            start = end;
            let images = &images[range.clone()];
            let given = given.as_ref().map(|given| &given[range]);
            (!images.is_empty()).then(|| self.batch(files, &labels, images, given))
        })))
    }
}

impl Voc {
    /// The rows of some images, and the splits that they are given, if any are.
    fn batch(
        &self,
        files: &dyn Files,
        labels: &Labels<'_>,
        images: &[&Fingerprint],
        given: Option<&[Option<&'static str>]>,
    ) -> Result<Found, Error> {
        let paths: Vec<Option<&str>> = images.iter().map(|image| labels.get(&self.label_stem(&image.entry.path))).collect();
        let bytes = pairs::read(files, &self.root, &paths)?;
        let known = images.iter().zip(paths.iter().zip(bytes)).enumerate().map(|(row, (image, (path, bytes)))| {
            let objects = match (path, bytes) {
                (Some(path), Some(bytes)) => {
                    let parsed = text(&bytes).and_then(parse::objects);
                    Some(parsed.map_err(|message| Error::format(self.root.join(path), message))?)
                }
                _ => None,
            };
            let split = given.map_or_else(|| split_of(&image.entry.path), |given| given[row]);
            Ok(Known { split, objects })
        });
        let known = known.collect::<Result<Vec<_>, Error>>()?;
        Ok(super::batch(images, known)?.into())
    }
}

#[cfg(test)]
mod tests;
