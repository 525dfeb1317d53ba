//! Boxes as COCO's JSON files have them, one file a split.
//!
//! A file is called `instances_NAME.json`, or `_annotations.coco.json` and the like, as exports for COCO have it; if there is none
//! of these, all JSON files of the data set's own folder and of `annotations` count. Its images are in its own folder, or, if that
//! is called `annotations`, below the folder above: in `NAME`, `images/NAME`, `images` or that folder itself. All are in one of
//! these, which is the first that has most of them; `file_name` is a path in it.
//!
//! The split is NAME (`train` of `instances_train2017.json`), or else what the folders are called, of the file or of an image that
//! no file names. Boxes with `iscrowd` are difficult. Of a file, `images`, `annotations` and `categories` are looked at, and no
//! segmentation is kept in memory.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::{
    Known, Object, ends_in, excerpt, folder_of, inside, keep, name_of, refuse_left_out, some, split_of, split_word,
};
use crate::layout::{Layout, Role, Rows};
use crate::{Entry, Error, Files, Fingerprint, Listed, folder};

mod parse;
mod stream;

use parse::Document;

/// The folder of the files, where it is not that of the images.
const ANNOTATIONS: &str = "annotations";
/// How the names of COCO's own files with boxes begin; the split follows.
const INSTANCES: &str = "instances_";
/// How the names of exports end.
const EXPORT: &str = ".coco.json";

/// A data set with a JSON file a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coco {
    root: PathBuf,
    /// Whether files count that are not named as COCO names them.
    any: bool,
}

impl Coco {
    /// Finds the files; reads their names only.
    ///
    /// # Errors
    /// The folder cannot be read, or there is none.
    pub fn open(files: &dyn Files, root: &Path) -> Result<Self, Error> {
        let entries = files.list(root)?.files;
        let named = Self { root: root.to_owned(), any: false };
        let loose = Self { any: true, ..named.clone() };
        let has = |coco: &Self| entries.iter().any(|entry| coco.is_label(&entry.path));
        match (has(&named), has(&loose)) {
            (true, _) => Ok(named),
            (false, true) => Ok(loose),
            (false, false) => {
                let images = entries.iter().filter(|entry| folder::is_image(&entry.path)).count();
                let others: Vec<&str> =
                    entries.iter().map(|entry| &*entry.path).filter(|path| ends_in(path, ".json")).collect();
                let message = format!(
                    "no file of boxes: looked for instances_NAME.json (as annotations/instances_train2017.json), for \
                     _annotations.coco.json, and for JSON files here and in {ANNOTATIONS}; among {} files are {images} images \
                     and {} JSON files ({})",
                    entries.len(),
                    others.len(),
                    some(&others)
                );
                Err(Error::format(root, message))
            }
        }
    }

    /// Whether a folder is laid out so, by the names of its files.
    pub fn recognises(files: &dyn Files, root: &Path) -> bool {
        files.list(root).is_ok_and(|listed| Self::is_among(&listed.files))
    }

    /// Whether files are laid out so: some are named as COCO or exports for it name them.
    pub fn is_among(entries: &[Entry]) -> bool {
        entries.iter().any(|entry| is_named(&entry.path)) && entries.iter().any(|entry| folder::is_image(&entry.path))
    }

    fn is_label(&self, path: &str) -> bool {
        let is_near = || matches!(folder_of(path), "" | ANNOTATIONS);
        is_named(path) || (self.any && ends_in(path, ".json") && is_near())
    }

    /// The boxes of a file, and where its images are.
    fn read(&self, files: &dyn Files, print: &Fingerprint, there: &HashSet<&str>) -> Result<Told, Error> {
        let path = &*print.entry.path;
        let full = self.root.join(path);
        let fail = |message: String| Error::format(&full, message);
        let document = stream::read(files, &full, print.entry.size)?;
        let document = document.checked().map_err(fail)?;
        let folders = image_folders(path);
        let found = |folder: &String| {
            document.images.iter().filter(|image| there.contains(&*inside(folder, &image.file_name))).count()
        };
        // The first of those that have most.
        let counts: Vec<usize> = folders.iter().map(found).collect();
        let most = counts.iter().copied().max().unwrap_or_default();
        let best = counts.iter().position(|&count| count == most).unwrap_or_default();
        let is_missing = |name: &str| !there.contains(&*inside(&folders[best], name));
        if let Some(image) = document.images.iter().find(|image| is_missing(&image.file_name)) {
            let places: Vec<String> = folders.iter().map(|folder| format!("`{folder}/`")).collect();
            let message = format!(
                "image {} is not there: `{}`; {} of its {} images are missing; looked in {}",
                image.id,
                excerpt(&image.file_name),
                document.images.len() - most,
                document.images.len(),
                places.join(", ").replace("`/`", "the data set's folder")
            );
            return Err(fail(message));
        }
        Ok(Told { split: split(path), folder: folders[best].clone(), path: path.to_owned(), document })
    }
}

/// What one file tells.
struct Told {
    path: String,
    split: Option<String>,
    /// Where its images are.
    folder: String,
    /// Its annotations are in the order of their images'.
    document: Document,
}

impl Told {
    /// The objects of one of its images.
    fn objects(&self, image: usize, labels: &HashMap<i64, Arc<str>>) -> Option<Vec<Object>> {
        let all = self.document.annotations.as_ref()?;
        let id = self.document.images[image].id;
        let start = all.partition_point(|one| one.image < id);
        let own = all[start..].iter().take_while(|one| one.image == id);
        let object = |one: &parse::Annotation| {
            Some(Object { sides: one.sides, label: labels.get(&one.category)?.clone(), difficult: one.is_crowd })
        };
        Some(own.filter_map(object).collect())
    }
}

fn is_named(path: &str) -> bool {
    let name = name_of(path);
    (name.starts_with(INSTANCES) && ends_in(name, ".json")) || ends_in(name, EXPORT)
}

/// The name that a file has behind `instances_`.
fn own_name(path: &str) -> &str {
    let name = name_of(path);
    let name = name.len().checked_sub(".json".len()).map_or(name, |end| &name[..end]);
    name.strip_prefix(INSTANCES).unwrap_or(name)
}

/// The split that the images of a file are in.
fn split(path: &str) -> Option<String> {
    let name = own_name(path);
    let of_folder = || split_of(path).map(str::to_owned);
    match split_word(name) {
        Some(split) => Some(split.to_owned()),
        // `minival` is a split, `_annotations` is none.
        None if name_of(path).starts_with(INSTANCES) && name != "default" => of_folder().or_else(|| Some(name.to_owned())),
        None => of_folder(),
    }
}

/// Folders that may have the images of a file.
fn image_folders(path: &str) -> Vec<String> {
    let own = folder_of(path);
    let mut folders = vec![own.to_owned()];
    if name_of(own).eq_ignore_ascii_case(ANNOTATIONS) {
        let above = folder_of(own);
        let name = own_name(path);
        folders.extend([name, &format!("images/{name}"), "images"].map(|below| inside(above, below)));
        folders.push(above.to_owned());
    } else {
        folders.push(inside(own, "images"));
    }
    folders
}

impl Layout for Coco {
    fn schema(&self) -> SchemaRef {
        super::schema()
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let listed = files.list(&self.root)?;
        refuse_left_out(&self.root, &listed, |path, is_folder| {
            self.is_label(path) || (is_folder && name_of(path).eq_ignore_ascii_case(ANNOTATIONS))
        })?;
        Ok(keep(listed, |entry| self.is_label(&entry.path)))
    }

    fn role(&self, path: &str) -> Role {
        if folder::is_image(path) { Role::Image } else { Role::Beside }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let (images, labels): (Vec<&Fingerprint>, Vec<&Fingerprint>) =
            prints.iter().partition(|print| folder::is_image(&print.entry.path));
        // The images of this call need not be all that there are.
        let listed = files.list(&self.root)?;
        let there: HashSet<&str> =
            listed.files.iter().map(|entry| &*entry.path).filter(|path| folder::is_image(path)).collect();
        let told = labels.iter().map(|print| self.read(files, print, &there)).collect::<Result<Vec<Told>, Error>>()?;
        let mut owners: HashMap<String, (usize, usize)> = HashMap::new();
        for (file, one) in told.iter().enumerate() {
            for (place, image) in one.document.images.iter().enumerate() {
                let path = inside(&one.folder, &image.file_name);
                if let Some((other, _)) = owners.insert(path, (file, place)) {
                    let message = format!("image {} (`{}`) is in {} too", image.id, image.file_name, told[other].path);
                    return Err(Error::format(self.root.join(&one.path), message));
                }
            }
        }
        let names: Vec<HashMap<i64, Arc<str>>> = told.iter().map(|one| one.document.labels()).collect();
        let mut start = 0;
        Ok(Box::new(std::iter::from_fn(move || {
            let end = images.len().min(start + folder::BATCH_ROWS);
            let images = &images[std::mem::replace(&mut start, end)..end];
            let known = images.iter().map(|print| {
                let path = &*print.entry.path;
                match owners.get(path) {
                    Some(&(file, place)) => {
                        let (told, names) = (&told[file], &names[file]);
                        Known { split: told.split.as_deref(), objects: told.objects(place, names) }
                    }
                    None => Known { split: split_of(path), objects: None },
                }
            });
            (!images.is_empty()).then(|| Ok(super::batch(images, known)?.into()))
        })))
    }
}

#[cfg(test)]
mod tests;
