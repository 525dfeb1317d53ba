//! A file of labels beside the images or among them, and how its rows name images.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array as _, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use tessera_datasets::local::LocalFiles;
use tessera_datasets::tables::{self, Reading};
use tessera_datasets::{Error, Files as _, Fingerprint};
use tessera_schemas::{IMAGE_ID, printable};

use super::super::counted;
use super::found::Found;

/// What such files are called, less their endings, and these.
const NAMES: [&str; 4] = ["labels", "label", "annotations", "classes"];
const ENDINGS: [&str; 4] = ["csv", "tsv", "jsonl", "parquet"];
/// Columns that are labels before all others.
const LABELS: [&str; 6] = ["label", "labels", "class", "class_name", "category", "target"];
/// The column that says to which half an image belongs.
const SPLIT: &str = "split";
/// Larger files are left alone: this one is read for what its columns are.
const MOST_BYTES: u64 = 256 << 20;

/// A file of labels.
#[derive(Debug, PartialEq, Eq)]
pub struct LabelFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The column that names images.
    key: String,
    /// How it names them.
    naming: Naming,
    /// The column of labels.
    label: String,
    /// Whether it has the column `split`.
    has_split: bool,
    /// How many of the images it names.
    named: usize,
    /// How many labels there are.
    labels: usize,
}

/// What of an image's path a file of labels has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Naming {
    /// All of it: the `image_id`.
    Path,
    /// All but the ending.
    Stem,
    /// The name without the folders.
    Name,
    /// The name without folders and ending.
    NameStem,
}

impl Naming {
    const ALL: [Self; 4] = [Self::Path, Self::Stem, Self::Name, Self::NameStem];

    fn of(self, id: &str) -> &str {
        let name = |path: &str| path.rsplit_once('/').map_or(0, |(folders, _)| folders.len() + 1);
        match self {
            Self::Path => id,
            Self::Name => &id[name(id)..],
            Self::NameStem => Self::Stem.of(Self::Name.of(id)),
            Self::Stem => match id[name(id)..].rfind('.') {
                Some(dot) => &id[..name(id) + dot],
                None => id,
            },
        }
    }

    /// The same in SQL, of the images' `image_id`.
    fn sql(self) -> &'static str {
        match self {
            Self::Path => "i.image_id",
            Self::Stem => r"regexp_replace(i.image_id, '\.[^./]*$', '')",
            Self::Name => "regexp_replace(i.image_id, '^.*/', '')",
            Self::NameStem => r"regexp_replace(regexp_replace(i.image_id, '^.*/', ''), '\.[^./]*$', '')",
        }
    }
}

impl LabelFile {
    /// The query that makes `image_id`, `label` and maybe `split` of it, over the inputs `images` and `label_file`.
    pub fn query(&self) -> String {
        let named = |column: &str| format!("f.\"{}\"", column.replace('"', "\"\""));
        let split = if self.has_split { format!(", {} AS split", named(SPLIT)) } else { String::new() };
        let (key, label, image) = (named(&self.key), named(&self.label), self.naming.sql());
        format!(
            "SELECT i.image_id, {label} AS label{split} FROM images i JOIN label_file f ON CAST({key} AS VARCHAR) = {image}"
        )
    }

    /// What a person should know of it.
    pub fn sentence(&self, path: &str) -> String {
        let split = if self.has_split { ", with the column `split`" } else { "" };
        format!(
            "labels, from the column `{}` of {}: {} of {}{split}",
            printable(&self.label),
            printable(path),
            counted(self.labels, "label"),
            counted(self.named, "image")
        )
    }
}

/// Finds a file of labels in a data set's folder, or beside it, that names images of it.
///
/// # Errors
/// A folder cannot be read. A file that cannot is none.
pub fn find(folder: &Path, found: &Found) -> Result<Option<LabelFile>> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    // A folder that ends in `/` or `.` has a parent all the same.
    let above = std::path::absolute(folder)?.parent().map(Path::to_owned);
    for place in [Some(folder.to_owned()), above].into_iter().flatten() {
        let mut here = Vec::new();
        LocalFiles.names(&place, &mut |name, is_folder| {
            let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
            let is_known = |known: &[&str], text: &str| known.iter().any(|known| known.eq_ignore_ascii_case(text));
            if !is_folder && is_known(&NAMES, stem) && is_known(&ENDINGS, ending) {
                here.push(place.join(name));
            }
            true
        })?;
        here.sort();
        candidates.extend(here);
    }
    Ok(candidates.into_iter().find_map(|path| of_file(path, found).ok().flatten()))
}

/// What a file says of images; none if it says nothing of them.
fn of_file(path: PathBuf, found: &Found) -> Result<Option<LabelFile>, Error> {
    let entries = LocalFiles.list(&path)?.files;
    if entries.iter().any(|entry| entry.size > MOST_BYTES) {
        return Ok(None);
    }
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    let reading = Reading::default();
    let schema = tables::schema(&LocalFiles, &root, &entries, &reading)?;
    let prints: Vec<Fingerprint> =
        entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let (mut columns, mut rows) = (Columns::new(&schema), 0);
    tables::read(&LocalFiles, &root, &prints, &schema, &reading, &mut |batch: RecordBatch| -> Result<(), Error> {
        rows += batch.num_rows();
        columns.add(&batch);
        Ok(())
    })?;
    Ok(columns.choose(rows, found).map(|chosen| LabelFile { path, ..chosen }))
}

/// The values of columns that may name images or be labels.
struct Columns(BTreeMap<String, Vec<Arc<StringArray>>>);

impl Columns {
    fn new(schema: &Schema) -> Self {
        let may_be = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8) || kind.is_integer();
        let fields = schema.fields().iter().filter(|field| may_be(field.data_type()));
        Self(fields.map(|field| (field.name().clone(), Vec::new())).collect())
    }

    fn add(&mut self, batch: &RecordBatch) {
        for (name, values) in &mut self.0 {
            let text = batch.column_by_name(name).and_then(|column| cast(column, &DataType::Utf8).ok());
            let text = text.and_then(|text| text.as_any().downcast_ref::<StringArray>().cloned());
            values.extend(text.map(Arc::new));
        }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().flat_map(|values| values.iter().flatten())
    }

    /// Whether a column is the numbers of the rows, which rows without ids have in place of them.
    fn is_counted(&self, name: &str) -> bool {
        name == IMAGE_ID && self.values(name).enumerate().all(|(row, value)| value.parse() == Ok(row))
    }

    /// The column that names most images, if it names most of those that its rows are about, and the one that says what they show.
    fn choose(&self, rows: usize, found: &Found) -> Option<LabelFile> {
        let mut best: Option<(usize, Naming, &String)> = None;
        for naming in Naming::ALL {
            let mut names: HashSet<&str> = HashSet::with_capacity(found.ids.len());
            // A name that two images have says which of them is meant only to who knows.
            if !found.ids.iter().all(|id| names.insert(naming.of(id))) {
                continue;
            }
            for key in self.0.keys().filter(|key| !self.is_counted(key)) {
                let mut seen = HashSet::new();
                let (mut hits, mut is_unique) = (0, true);
                for value in self.values(key) {
                    is_unique &= seen.insert(value);
                    hits += usize::from(names.contains(value));
                }
                let is_better = best.is_none_or(|(most, ..)| hits > most);
                if is_unique && hits * 2 > rows.min(found.ids.len()) && is_better {
                    best = Some((hits, naming, key));
                }
            }
        }
        let (named, naming, key) = best?;
        let counts: HashMap<&String, usize> = self
            .0
            .keys()
            .filter(|name| *name != key && *name != IMAGE_ID && *name != SPLIT)
            .map(|name| (name, self.values(name).collect::<HashSet<_>>().len()))
            .collect();
        let known = LABELS.iter().find_map(|known| counts.keys().find(|name| name.eq_ignore_ascii_case(known)).copied());
        // Else one whose values come again and again.
        let repeated = || counts.iter().filter(|(_, count)| **count > 1 && **count * 2 <= rows).min().map(|(name, _)| *name);
        let label = known.or_else(repeated)?;
        Some(LabelFile {
            path: PathBuf::new(),
            key: key.clone(),
            naming,
            label: label.clone(),
            has_split: self.0.contains_key(SPLIT) && key != SPLIT,
            named,
            labels: counts[label],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found_in(file: &str, text: &str, ids: &[&str]) -> Option<LabelFile> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("photos");
        fs::create_dir(&folder).unwrap();
        fs::write(dir.path().join(file), text).unwrap();
        let found = Found { ids: ids.iter().map(|id| (*id).into()).collect(), ..Found::default() };
        find(&folder, &found).unwrap()
    }

    #[test]
    fn rows_find_their_images_however_they_are_named() {
        let ids = ["a/1.jpg", "a/2.jpg", "b/3.jpg"];
        for (keys, naming) in [
            (["a/1.jpg", "a/2.jpg", "b/3.jpg"], Naming::Path),
            (["a/1", "a/2", "b/3"], Naming::Stem),
            (["1.jpg", "2.jpg", "3.jpg"], Naming::Name),
            (["1", "2", "3"], Naming::NameStem),
        ] {
            let text = format!("file,class,split\n{},cat,train\n{},dog,test\n{},cat,train\n", keys[0], keys[1], keys[2]);
            for place in ["photos/labels.csv", "Labels.CSV"] {
                let labels = found_in(place, &text, &ids).unwrap();
                assert_eq!(
                    (labels.naming, labels.key.as_str(), labels.label.as_str()),
                    (naming, "file", "class"),
                    "{keys:?}"
                );
                assert_eq!((labels.named, labels.labels, labels.has_split), (3, 2, true));
            }
        }
        let quoted = found_in("labels.csv", "\"a \"\"file\"\"\",Class\na/1.jpg,x\na/2.jpg,x\n", &ids).unwrap();
        let query = "SELECT i.image_id, f.\"Class\" AS label FROM images i JOIN label_file f ON CAST(f.\"a \"\"file\"\"\" AS VARCHAR) = i.image_id";
        assert_eq!(quoted.query(), query);
    }

    #[test]
    fn other_files_are_none() {
        assert_eq!(
            found_in("labels.csv", "label\ncat\ndog\ncat\n", &["0.jpg", "1.jpg", "2.jpg"]),
            None,
            "rows have no names"
        );
        let ids = ["a/1.jpg", "b/1.jpg"];
        for (file, text) in [
            ("labels.csv", "file,label\nx.jpg,cat\ny.jpg,dog\n"),
            ("labels.csv", "file,label\n1.jpg,cat\n"),
            ("labels.csv", "file\na/1.jpg\nb/1.jpg\n"),
            ("labels.csv", "file,label\na/1.jpg,cat\na/1.jpg,dog\n"),
            ("labels.csv", "\"open"),
            ("labels.csv", ""),
            ("notes.csv", "file,label\na/1.jpg,cat\nb/1.jpg,dog\n"),
        ] {
            assert_eq!(found_in(file, text, &ids), None, "{text}");
        }
    }
}
