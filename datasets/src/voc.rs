//! A data set as PASCAL VOC lays it out: images, each of which may show several classes.
//!
//! `JPEGImages` holds the images, `ImageSets/Main` text files about them. `train.txt`, `val.txt`, `test.txt` name the images of a
//! split, one a line. `CLASS_train.txt` and so on have an image and a number a line: 1 if it shows the class, -1 if not, 0 if it
//! does so in a way that is not to count (difficult). `trainval.txt` and `CLASS_trainval.txt` repeat what the files of its two halves
//! say: each is read only where one of those is not there, and only for images that the other does not name. Other files are not looked at.
//!
//! An image is named by its file in `JPEGImages`, with or without the ending. Blank lines, Windows' line endings and any number of
//! spaces are fine; an image that is not there, or has two lines, is an error, since the split would not be the one that was meant.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tessera_schemas::{images, presence};

pub use crate::folder::SPLIT;
use crate::layout::{Layout, Role, Rows};
use crate::{Entry, Error, Files, Fingerprint, LeftOut, Listed, folder};

/// The folder of the images.
pub const IMAGES: &str = "JPEGImages";
/// The folder of the files that say what they show.
pub const SETS: &str = "ImageSets/Main";
/// The column of an images table that this one lacks: an image may show several classes.
const LABEL: &str = "label";

/// A data set as VOC has it, with its classes.
#[derive(Debug)]
pub struct Voc {
    root: PathBuf,
    classes: Vec<String>,
}

impl Voc {
    /// Reads the names of the classes.
    ///
    /// # Errors
    /// The folder cannot be read, or there are none.
    pub fn open(files: &dyn Files, root: &Path) -> Result<Self, Error> {
        Ok(Self { root: root.to_owned(), classes: classes(files, root)? })
    }

    /// The classes' names, sorted.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }
}

impl Layout for Voc {
    fn schema(&self) -> SchemaRef {
        schema(&self.classes)
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        list(files, &self.root, &self.classes)
    }

    fn role(&self, path: &str) -> Role {
        if is_image(path) { Role::Image } else { Role::Beside }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let found = batches(files, &self.root, &self.classes, prints)?;
        Ok(Box::new(found.map(|rows| rows.map(Into::into).map_err(|error| Error::format(&self.root, error)))))
    }
}

/// What images a file of `ImageSets/Main` is about, in the order in which files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Set {
    Train,
    Val,
    Test,
    /// Train and val.
    Both,
}

impl Set {
    const ALL: [Self; 4] = [Self::Train, Self::Val, Self::Test, Self::Both];

    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
            Self::Both => "trainval",
        }
    }

    /// Whether the other one may name its images again.
    fn is_repeated_by(self, other: Self) -> bool {
        other == Self::Both && matches!(self, Self::Train | Self::Val)
    }
}

/// What a file of `ImageSets/Main` tells: the class, unless it tells which images there are, and the set; none if it is another file.
fn about(name: &str) -> Option<(Option<&str>, Set)> {
    let name = name.strip_suffix(".txt")?;
    let of = |text: &str| Set::ALL.into_iter().find(|set| set.name() == text);
    // VOC has a class `train`: `train_val.txt` is about it, `trainval.txt` is not.
    match name.rsplit_once('_') {
        Some(("", _)) => None,
        Some((class, set)) => Some((Some(class), of(set)?)),
        None => Some((None, of(name)?)),
    }
}

fn file_name(class: Option<&str>, set: Set) -> String {
    match class {
        Some(class) => format!("{class}_{}.txt", set.name()),
        None => format!("{}.txt", set.name()),
    }
}

/// The sets that are to be read, of each class and of the images as such.
fn sets<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<Option<&'a str>, BTreeSet<Set>> {
    let mut found: BTreeMap<Option<&str>, BTreeSet<Set>> = BTreeMap::new();
    for (class, set) in names.into_iter().filter_map(about) {
        found.entry(class).or_default().insert(set);
    }
    for sets in found.values_mut().filter(|sets| sets.contains(&Set::Train) && sets.contains(&Set::Val)) {
        sets.remove(&Set::Both);
    }
    found
}

/// Whether a file of the data set is an image, and not one that says what images show.
fn is_image(path: &str) -> bool {
    path.strip_prefix(IMAGES).is_some_and(|rest| rest.starts_with('/'))
}

/// The classes' names, sorted; reads names of files only.
///
/// # Errors
/// The folder cannot be read, or there are none.
fn classes(files: &dyn Files, root: &Path) -> Result<Vec<String>, Error> {
    let folder = root.join(SETS);
    let entries = whole(&folder, files.list(&folder)?)?;
    let known = sets(entries.iter().map(|entry| &*entry.path));
    let classes: Vec<String> = known.into_keys().flatten().map(str::to_owned).collect();
    if classes.is_empty() {
        let message = format!("no class among {} files; those of a class are named as cat_train.txt is", entries.len());
        return Err(Error::format(folder, message));
    }
    Ok(classes)
}

/// All files of `ImageSets/Main`.
///
/// # Errors
/// What was left out may say what images show.
fn whole(folder: &Path, listed: Listed) -> Result<Vec<Entry>, Error> {
    match listed.left_out.into_iter().find(|one| about(&one.path).is_some()) {
        Some(LeftOut { path, reason, .. }) => Err(Error::format(folder.join(path), reason)),
        None => Ok(listed.files),
    }
}

/// An images table without `label`, and behind it `split` and a [`presence`] column a class.
fn schema(classes: &[String]) -> SchemaRef {
    let images = images::schema();
    let mut fields: Vec<FieldRef> = images.fields().iter().filter(|field| field.name() != LABEL).cloned().collect();
    fields.push(Arc::new(Field::new(SPLIT, DataType::Utf8, true)));
    fields.extend(classes.iter().map(|class| Arc::new(presence::field(class))));
    Arc::new(Schema::new(fields))
}

/// The files that the table depends on: those of the classes, and the images.
///
/// # Errors
/// One of the two folders cannot be read, or not all of what says what images show.
fn list(files: &dyn Files, root: &Path, classes: &[String]) -> Result<Listed, Error> {
    let inside = |folder: &str, path: &str| format!("{folder}/{path}");
    let folder = root.join(SETS);
    let mut entries: Vec<Entry> = whole(&folder, files.list(&folder)?)?
        .into_iter()
        .map(|entry| Entry { path: inside(SETS, &entry.path).into(), ..entry })
        .collect();
    let names = entries.iter().filter_map(|entry| set_name(&entry.path));
    let classes: HashSet<&str> = classes.iter().map(String::as_str).collect();
    let known = |class: &Option<&str>| class.is_none_or(|class| classes.contains(class));
    let sets = sets(names).into_iter().filter(|(class, _)| known(class));
    let wanted: HashSet<String> =
        sets.flat_map(|(class, sets)| sets.into_iter().map(move |set| file_name(class, set))).collect();
    entries.retain(|entry| set_name(&entry.path).is_some_and(|name| wanted.contains(name)));
    let images = folder::images(files.list(&root.join(IMAGES))?);
    entries.extend(images.files.into_iter().map(|entry| Entry { path: inside(IMAGES, &entry.path).into(), ..entry }));
    let left_out = images.left_out.into_iter().map(|one| LeftOut { path: inside(IMAGES, &one.path), ..one });
    Ok(Listed { files: entries, left_out: left_out.collect(), aside: images.aside })
}

fn set_name(path: &str) -> Option<&str> {
    path.strip_prefix(SETS)?.strip_prefix('/')
}

/// The table, given its files: all that say what images show, and the images that it is to have, which need not be all.
///
/// # Errors
/// A file cannot be read; a line is not what it should be, which the message says with file and line.
fn batches<'a>(
    files: &dyn Files,
    root: &Path,
    classes: &[String],
    prints: &'a [Fingerprint],
) -> Result<impl Iterator<Item = Result<RecordBatch, tessera_schemas::SchemaError>> + use<'a>, Error> {
    let (images, about_them): (Vec<&Fingerprint>, Vec<&Fingerprint>) =
        prints.iter().partition(|print| is_image(&print.entry.path));
    let sets = sets(about_them.iter().filter_map(|print| set_name(&print.entry.path)));
    let mut reader = Reader { files, root, rows: rows(&images), count: images.len(), elsewhere: None };
    let mut read = |class| reader.read(class, sets.get(&class).into_iter().flatten().copied());
    let splits = read(None)?;
    let shown = classes.iter().map(|class| read(Some(class))).collect::<Result<Vec<_>, _>>()?;
    let schema = schema(classes);
    let starts = (0..images.len()).step_by(folder::BATCH_ROWS);
    Ok(starts.map(move |start| {
        let rows = start..images.len().min(start + folder::BATCH_ROWS);
        let listed = images::batch(images[rows.clone()].iter().map(|print| folder::image(print, None)))?;
        let listed = schema.fields().iter().map_while(|field| listed.column_by_name(field.name()).cloned());
        let split: StringArray = splits[rows.clone()].iter().map(|line| Some(line.as_ref()?.set.name())).collect();
        let shown = shown.iter().map(|lines| -> ArrayRef {
            let value = |line: &Option<Line>| line.as_ref()?.value;
            Arc::new(lines[rows.clone()].iter().map(value).collect::<Int32Array>())
        });
        let columns = listed.chain([Arc::new(split) as ArrayRef]).chain(shown).collect();
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }))
}

/// Whether a file of the data set may say to which split images belong.
pub(crate) fn is_split_file(path: &str) -> bool {
    matches!(set_name(path).and_then(about), Some((None, _)))
}

/// The files, among those of a data set, that are to be read to know the splits: none where no image is in [`IMAGES`].
pub(crate) fn split_files<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    if !paths.clone().any(is_image) {
        return Vec::new();
    }
    let sets = sets(paths.filter_map(set_name)).remove(&None);
    sets.into_iter().flatten().map(|set| format!("{SETS}/{}", file_name(None, set))).collect()
}

/// The splits of images, given the paths of all files that may say it; none if none of these does.
///
/// # Errors
/// As [`batches`].
pub(crate) fn splits<'a>(
    files: &dyn Files,
    root: &Path,
    images: &[&Fingerprint],
    paths: impl Iterator<Item = &'a str>,
) -> Result<Option<Vec<Option<&'static str>>>, Error> {
    let Some(sets) = sets(paths.filter_map(set_name)).remove(&None) else { return Ok(None) };
    let (places, named): (Vec<usize>, Vec<&Fingerprint>) =
        images.iter().enumerate().filter(|(_, print)| is_image(&print.entry.path)).unzip();
    let mut reader = Reader { files, root, rows: rows(&named), count: named.len(), elsewhere: None };
    let mut splits = vec![None; images.len()];
    for (place, line) in places.into_iter().zip(reader.read(None, sets)?) {
        splits[place] = line.map(|line| line.set.name());
    }
    Ok(Some(splits))
}

/// The row of each image, by its names; none for a name that several have.
fn rows<'a>(images: &[&'a Fingerprint]) -> HashMap<&'a str, Option<usize>> {
    let mut rows: HashMap<&str, Option<usize>> = HashMap::new();
    for (row, print) in images.iter().enumerate() {
        for name in names(&print.entry.path[IMAGES.len() + 1..]) {
            rows.entry(name).and_modify(|known| *known = None).or_insert(Some(row));
        }
    }
    rows
}

/// An image's names: its path in `JPEGImages`, with and without its ending.
fn names(path: &str) -> [&str; 2] {
    [path, path.rsplit_once('.').map_or(path, |(stem, _)| stem)]
}

/// What a line said of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    set: Set,
    /// From 1.
    number: usize,
    /// What the line says of the class.
    value: Option<i32>,
}

struct Reader<'a> {
    files: &'a dyn Files,
    root: &'a Path,
    /// By image.
    rows: HashMap<&'a str, Option<usize>>,
    count: usize,
    /// Names of all images that there are, read when one is not among the rows.
    elsewhere: Option<HashSet<String>>,
}

impl Reader<'_> {
    /// What the files of a class, or those without one, say of each row.
    fn read(&mut self, class: Option<&str>, sets: impl IntoIterator<Item = Set>) -> Result<Vec<Option<Line>>, Error> {
        let mut said: Vec<Option<Line>> = vec![None; self.count];
        for set in sets {
            let path = self.root.join(SETS).join(file_name(class, set));
            let bytes = self.files.read(&path)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| Error::format(&path, "it should be UTF-8 text"))?;
            let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).enumerate();
            for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
                let number = at + 1;
                let fail = |message: String| Error::format(&path, format!("line {number}: {message}"));
                let (image, value) = match class {
                    None => (line, None),
                    Some(_) => valued(line).map(|(image, value)| (image, Some(value))).map_err(fail)?,
                };
                let Some(row) = self.row(image)?.map_err(fail)? else { continue };
                match &said[row] {
                    None => said[row] = Some(Line { set, number, value }),
                    Some(before) if before.set.is_repeated_by(set) => {}
                    Some(before) => {
                        let file = file_name(class, before.set);
                        return Err(fail(format!("image `{image}` is in line {} of {file} already", before.number)));
                    }
                }
            }
        }
        Ok(said)
    }

    /// The row of an image; `None` if the image is there but makes no row; or else what is wrong with its name.
    fn row(&mut self, image: &str) -> Result<Result<Option<usize>, String>, Error> {
        match self.rows.get(image) {
            Some(Some(row)) => return Ok(Ok(Some(*row))),
            Some(None) => return Ok(Err(format!("`{image}` may be several images in {IMAGES}: add the ending"))),
            None => {}
        }
        if self.elsewhere.is_none() {
            let entries = self.files.list(&self.root.join(IMAGES))?.files;
            let all = entries.iter().filter(|entry| folder::is_image(&entry.path)).flat_map(|entry| names(&entry.path));
            self.elsewhere = Some(all.map(str::to_owned).collect());
        }
        let there = self.elsewhere.as_ref().is_some_and(|all| all.contains(image));
        Ok(if there { Ok(None) } else { Err(format!("{IMAGES} has no image `{image}`")) })
    }
}

/// An image and its number.
fn valued(line: &str) -> Result<(&str, i32), String> {
    let parts = line.rsplit_once(char::is_whitespace).map(|(image, value)| (image.trim_end(), value.parse::<i32>()));
    match parts {
        Some((image, Ok(value @ -1..=1))) => Ok((image, value)),
        _ => {
            let found: String = line.chars().take(60).collect();
            Err(format!("`{found}` should be an image and -1, 0 or 1"))
        }
    }
}

#[cfg(test)]
mod tests;
