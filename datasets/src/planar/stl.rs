//! STL-10 as its authors give it: <https://cs.stanford.edu/~acoates/stl10/>.
//!
//! `train_X.bin`, `test_X.bin` and `unlabeled_X.bin` hold pictures of 96 x 96 pixels, whose planes come column by column. `train_y.bin` and
//! `test_y.bin` hold a byte a picture: the line of its class in `class_names.txt`, from 1. Other files are not looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use arrow::datatypes::SchemaRef;

use super::{Order, Planes, Sheet, named, names, records, schema};
use crate::layout::{Access, Layout, Role, Rows};
use crate::{Error, Files, Fingerprint, Listed};

/// The folder in which its archive has the files.
const FOLDER: &str = "stl10_binary";
const NAMES: &str = "class_names.txt";
const SPLITS: [Split; 3] = [
    Split { name: "test", pictures: "test_X.bin", labels: Some("test_y.bin") },
    Split { name: "train", pictures: "train_X.bin", labels: Some("train_y.bin") },
    Split { name: "unlabeled", pictures: "unlabeled_X.bin", labels: None },
];

/// The files of a split.
struct Split {
    name: &'static str,
    pictures: &'static str,
    labels: Option<&'static str>,
}

/// STL-10, or splits of it.
#[derive(Debug)]
pub struct Stl {
    root: PathBuf,
    planes: Planes,
}

impl Stl {
    /// Opens the folder of the files, or the one that has it as `stl10_binary`.
    ///
    /// # Errors
    /// The folder cannot be listed, or is another data set's.
    pub fn open(files: &dyn Files, root: &Path) -> Result<Self, Error> {
        let listed = files.list(root)?;
        let root = if is_one(&listed, "") {
            root.to_owned()
        } else if is_one(&listed, FOLDER) {
            root.join(FOLDER)
        } else {
            let known = SPLITS.map(|split| split.pictures).join(", ");
            return Err(Error::format(root, format!("no file of STL-10 is there: {known}")));
        };
        let stride = 3 * 96 * 96;
        let planes = Planes { width: 96, height: 96, order: Order::Columns, stride, start: 0, starts: BTreeMap::new() };
        Ok(Self { root, planes })
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Whether a file or folder of that name is STL-10's.
pub fn is_name(name: &str) -> bool {
    name == FOLDER || SPLITS.iter().any(|split| split.pictures == name)
}

/// Whether a folder that holds these files is STL-10's, or the one around it.
pub fn recognises_listed(listed: &Listed) -> bool {
    is_one(listed, "") || is_one(listed, FOLDER)
}

/// Whether a folder is STL-10's, by the names of its files.
///
/// # Errors
/// The folder cannot be listed.
pub fn recognises(files: &dyn Files, path: &Path) -> Result<bool, Error> {
    Ok(recognises_listed(&files.list(path)?))
}

fn is_one(listed: &Listed, folder: &str) -> bool {
    let mut names = super::inside(listed, folder);
    names.any(|name| SPLITS.iter().any(|split| split.pictures == name))
}

impl Layout for Stl {
    fn schema(&self) -> SchemaRef {
        schema(false)
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let listed = files.list(&self.root)?;
        let there: Vec<&str> = super::inside(&listed, "").collect();
        let splits: Vec<&Split> = SPLITS.iter().filter(|split| there.contains(&split.pictures)).collect();
        let labels = splits.iter().filter_map(|split| split.labels);
        let names = splits.iter().any(|split| split.labels.is_some()).then_some(NAMES);
        let beside: Vec<&str> = labels.chain(names).collect();
        let wanted = splits.iter().map(|split| split.pictures).chain(beside.iter().copied()).collect();
        super::only(&self.root, listed, wanted, &beside)
    }

    fn role(&self, path: &str) -> Role {
        if SPLITS.iter().any(|split| split.pictures == path) { Role::Shard } else { Role::Beside }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let sheets = prints.iter().filter_map(move |print| {
            let split = SPLITS.iter().find(|split| split.pictures == &*print.entry.path)?;
            Some(self.sheet(files, print, split))
        });
        Ok(super::all(sheets))
    }

    fn access(&self) -> Access {
        Access::Planar(self.planes.clone())
    }
}

impl Stl {
    fn sheet<'a>(&'a self, files: &'a dyn Files, print: &'a Fingerprint, split: &Split) -> Result<Sheet<'a>, Error> {
        let (rows, left_out) = records(print, self.planes.stride);
        let mut numbers = None;
        let mut classes: Vec<Rc<str>> = Vec::new();
        if let Some(labels) = split.labels {
            let path = self.root.join(labels);
            let bytes = files.read(&path)?;
            if bytes.len() as u64 != rows {
                let pictures = split.pictures;
                let message = format!("it has {} labels, and {pictures} has {rows} pictures", bytes.len());
                return Err(Error::format(path, message));
            }
            classes = names(files, &self.root.join(NAMES))?;
            numbers = Some(bytes);
        }
        let labels = move |row: u64, _: &[u8]| {
            let Some(numbers) = &numbers else { return Ok([None, None]) };
            let number = usize::from(numbers[row as usize]);
            let place = number.checked_sub(1).ok_or("its label is 0, and labels begin at 1")?;
            let label = named(&classes, place)
                .map_err(|_| format!("its label is {number}, and names are known of 1 to {}", classes.len()))?;
            Ok([label, None])
        };
        Ok(Sheet {
            files,
            path: self.root.join(split.pictures),
            print,
            planes: &self.planes,
            schema: self.schema(),
            split: split.name,
            ahead: 0,
            rows,
            next: 0,
            left_out,
            labels: Box::new(labels),
        })
    }
}
