//! ImageNet, in the forms in which people keep it: images of a class in a folder that is called as its WordNet number is
//! (`n01440764`).
//!
//! `label` is that number, `class_name` what a file of names says of it, and `split` what the folders are called (`train`, `val`,
//! `test`). The folders may lie anywhere, as `ILSVRC/Data/CLS-LOC/train/n01440764`.
//!
//! Images of `val` may lie in one folder, as they were published. Their labels then come from the first of these files that there
//! is: `LOC_val_solution.csv` (Kaggle's), `val_annotations.txt` (Tiny ImageNet's), `ILSVRC2012_validation_ground_truth.txt` (the
//! development kit's) or `imagenet_2012_validation_synset_labels.txt`. Lines of the last two are of the images in the order of
//! their numbers; those of the development kit are its own numbers of classes, which are not in the order of WordNet's:
//! `map_clsloc.txt` has them both. `meta.mat`, which has them too, is not read. Images of `test` that lie in one folder have no
//! label.
//!
//! Names are in `LOC_synset_mapping.txt`, `synset_words.txt`, `words.txt`, `imagenet_class_index.json` or `map_clsloc.txt`, the
//! first of these that there is; without one, `class_name` is null. All these files may lie anywhere as well.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tessera_schemas::images;

use crate::boxes::{SPLIT, keep, name_of, refuse_left_out, some, split_of};
use crate::layout::{Layout, Role, Rows};
use crate::{Entry, Error, Files, Fingerprint, Listed, folder};

mod labels;
mod names;

/// The column with the classes' names.
pub const CLASS_NAME: &str = "class_name";

/// A data set whose classes are WordNet's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNet {
    root: PathBuf,
    /// The file of the classes' names.
    names: Option<String>,
    /// The file of the labels of images that lie in no folder of a class.
    labels: Option<String>,
    /// The file that translates the development kit's numbers, if those are to be read.
    numbers: Option<String>,
}

impl ImageNet {
    /// Finds the files; reads their names only.
    ///
    /// # Errors
    /// The folder cannot be read; no image is in the folder of a class; two files of one kind are there; or images of `val` have no
    /// labels.
    pub fn open(files: &dyn Files, root: &Path) -> Result<Self, Error> {
        let entries = files.list(root)?.files;
        let images = || entries.iter().map(|entry| &*entry.path).filter(|path| folder::is_image(path));
        if !Self::is_among(&entries) {
            let message = format!(
                "no image is in the folder of a class: looked for folders called as n01440764 is; among {} files are {} images",
                entries.len(),
                images().count()
            );
            return Err(Error::format(root, message));
        }
        let find = |known: &[&str]| find(root, &entries, known);
        let mut found = Self { root: root.to_owned(), names: find(&names::FILES)?, labels: None, numbers: None };
        let flat: Vec<&str> = images().filter(|path| is_flat(path)).collect();
        if flat.is_empty() {
            return Ok(found);
        }
        found.labels = find(&labels::FILES)?;
        match found.labels.as_deref().map(name_of) {
            Some(labels::GROUND_TRUTH) => found.numbers = find(&[names::NUMBERS])?,
            Some(_) => {}
            None => {
                let message = format!(
                    "{} images of `val` are in no folder of a class ({}), and no file has their labels: looked for {}",
                    flat.len(),
                    some(&flat),
                    labels::FILES.join(", ")
                );
                return Err(Error::format(root, message));
            }
        }
        if found.numbers.is_none() && found.labels.as_deref().is_some_and(|path| name_of(path) == labels::GROUND_TRUTH) {
            let message = format!(
                "{} has the development kit's numbers of classes, and {} is not there, which says what they mean; instead of it, \
                 LOC_val_solution.csv will do, or images of `val` in folders of classes",
                labels::GROUND_TRUTH,
                names::NUMBERS
            );
            return Err(Error::format(root, message));
        }
        Ok(found)
    }

    /// Whether a folder is laid out so, by the names of its files.
    pub fn recognises(files: &dyn Files, root: &Path) -> bool {
        files.list(root).is_ok_and(|listed| Self::is_among(&listed.files))
    }

    /// Whether files are laid out so.
    pub fn is_among(entries: &[Entry]) -> bool {
        entries.iter().any(|entry| folder::is_image(&entry.path) && class_of(&entry.path).is_some())
    }

    fn beside(&self) -> impl Iterator<Item = &str> {
        [&self.names, &self.labels, &self.numbers].into_iter().flatten().map(String::as_str)
    }
}

/// The file, of a data set's, that has the first of some names.
///
/// # Errors
/// There are two of that name.
fn find(root: &Path, entries: &[Entry], known: &[&str]) -> Result<Option<String>, Error> {
    for name in known {
        let mut found = entries.iter().map(|entry| &*entry.path).filter(|path| name_of(path) == *name);
        match (found.next(), found.next()) {
            (Some(one), Some(other)) => {
                return Err(Error::format(root.join(other), format!("{one} has the same name: remove one of them")));
            }
            (Some(one), None) => return Ok(Some(one.to_owned())),
            (None, _) => {}
        }
    }
    Ok(None)
}

/// The class whose folder an image is in: the innermost that is called as a class is.
fn class_of(path: &str) -> Option<&str> {
    path.rsplit('/').skip(1).find(|part| is_class(part))
}

/// Whether a name is a number of WordNet's nouns.
fn is_class(name: &str) -> bool {
    name.len() == 9 && name.starts_with('n') && name.bytes().skip(1).all(|byte| byte.is_ascii_digit())
}

/// Whether an image of `val` is in no folder of a class.
fn is_flat(path: &str) -> bool {
    class_of(path).is_none() && split_of(path) == Some("val")
}

impl Layout for ImageNet {
    fn schema(&self) -> SchemaRef {
        let mut fields: Vec<FieldRef> = images::schema().fields().iter().cloned().collect();
        fields.extend([CLASS_NAME, SPLIT].map(|name| Arc::new(Field::new(name, DataType::Utf8, true))));
        Arc::new(Schema::new(fields))
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let listed = files.list(&self.root)?;
        refuse_left_out(&self.root, &listed, |path, _| self.beside().any(|beside| beside == path))?;
        for beside in self.beside() {
            if !listed.files.iter().any(|entry| *entry.path == *beside) {
                return Err(Error::format(self.root.join(beside), "it was there, and is not any more; try again"));
            }
        }
        Ok(keep(listed, |entry| self.beside().any(|beside| *beside == *entry.path)))
    }

    fn role(&self, path: &str) -> Role {
        if folder::is_image(path) { Role::Image } else { Role::Beside }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let images: Vec<&Fingerprint> = prints.iter().filter(|print| folder::is_image(&print.entry.path)).collect();
        let names = self.names.as_deref().map(|path| names::read(files, &self.root, path)).transpose()?;
        let flat: HashMap<String, String> = match &self.labels {
            Some(path) => labels::read(files, &self.root, path, self.numbers.as_deref())?,
            None => HashMap::new(),
        };
        let mut start = 0;
        Ok(Box::new(std::iter::from_fn(move || {
            let end = images.len().min(start + folder::BATCH_ROWS);
            let images = &images[std::mem::replace(&mut start, end)..end];
            (!images.is_empty()).then(|| Ok(self.batch(images, names.as_ref(), &flat)?.into()))
        })))
    }
}

impl ImageNet {
    fn batch(
        &self,
        images: &[&Fingerprint],
        names: Option<&HashMap<String, String>>,
        flat: &HashMap<String, String>,
    ) -> Result<RecordBatch, Error> {
        let label = |print: &&'_ Fingerprint| {
            let path = &*print.entry.path;
            match (class_of(path), &self.labels) {
                (Some(class), _) => Ok(Some(class.to_owned())),
                (None, Some(labels)) if is_flat(path) => {
                    let class = flat.get(labels::stem(path)).ok_or_else(|| {
                        Error::format(self.root.join(path), format!("it is in no folder of a class, and not in {labels}"))
                    })?;
                    Ok(Some(class.clone()))
                }
                (None, _) => Ok(None),
            }
        };
        let found = images.iter().map(label).collect::<Result<Vec<Option<String>>, Error>>()?;
        let name = |class: &Option<String>| match (class, names) {
            (Some(class), Some(names)) => names.get(class).map(|name| Some(name.as_str())).ok_or_else(|| {
                let file = self.names.as_deref().unwrap_or_default();
                Error::format(self.root.join(file), format!("it has no name of the class {class}, which has images"))
            }),
            _ => Ok(None),
        };
        let class_names = found.iter().map(name).collect::<Result<StringArray, Error>>()?;
        let splits: StringArray = images.iter().map(|print| split_of(&print.entry.path)).collect();
        let build = || {
            let rows = images.iter().zip(&found).map(|(print, label)| folder::image(print, label.as_deref()));
            let listed = images::batch(rows)?;
            let columns = listed.columns().iter().cloned().chain([Arc::new(class_names) as ArrayRef, Arc::new(splits)]);
            Ok::<_, tessera_schemas::SchemaError>(RecordBatch::try_new(self.schema(), columns.collect())?)
        };
        build().map_err(|error| Error::format(&self.root, error))
    }
}

#[cfg(test)]
mod tests;
