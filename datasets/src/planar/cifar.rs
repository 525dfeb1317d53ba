//! CIFAR-10 and CIFAR-100 as their authors give them: <https://www.cs.toronto.edu/~kriz/cifar.html>.
//!
//! Both the binary and the Python version are read. Pictures have 32 x 32 pixels. CIFAR-100 has a `coarse_label` beside the `label`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use arrow::datatypes::SchemaRef;

use super::dictionary::Dictionary;
use super::{Labelling, Labels, Order, Planes, Sheet, named, names, records, schema};
use crate::layout::{Access, Layout, Role, Rows};
use crate::{Entry, Error, Files, Fingerprint, Listed};

/// Bytes of a picture.
const PICTURE: u64 = 3 * 32 * 32;

/// The four data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// CIFAR-10 as `data_batch_1.bin`.
    Binary10,
    /// CIFAR-10 as `data_batch_1`.
    Python10,
    /// CIFAR-100 as `train.bin`.
    Binary100,
    /// CIFAR-100 as `train`.
    Python100,
}

impl Version {
    const ALL: [Self; 4] = [Self::Binary10, Self::Python10, Self::Binary100, Self::Python100];

    /// The folder in which its archive has the files.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Binary10 => "cifar-10-batches-bin",
            Self::Python10 => "cifar-10-batches-py",
            Self::Binary100 => "cifar-100-binary",
            Self::Python100 => "cifar-100-python",
        }
    }

    /// The files with the names of the classes, and of their groups.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Binary10 => &["batches.meta.txt"],
            Self::Python10 => &["batches.meta"],
            Self::Binary100 => &["fine_label_names.txt", "coarse_label_names.txt"],
            Self::Python100 => &["meta"],
        }
    }

    fn is_binary(self) -> bool {
        matches!(self, Self::Binary10 | Self::Binary100)
    }

    fn has_groups(self) -> bool {
        matches!(self, Self::Binary100 | Self::Python100)
    }

    /// What of a picture's record comes before its planes.
    fn ahead(self) -> u64 {
        match self {
            Self::Binary10 => 1,
            Self::Binary100 => 2,
            Self::Python10 | Self::Python100 => 0,
        }
    }

    /// The split of a file of pictures; none if it is another file.
    fn split(self, name: &str) -> Option<&'static str> {
        let stem = if self.is_binary() { name.strip_suffix(".bin")? } else { name };
        let is_batch = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        match (self.has_groups(), stem) {
            (true, "train") => Some("train"),
            (true, "test") | (false, "test_batch") => Some("test"),
            (false, _) => stem.strip_prefix("data_batch_").filter(|number| is_batch(number)).map(|_| "train"),
            (true, _) => None,
        }
    }

    /// Whether a folder has its pictures, and the names of the classes.
    fn is_in(self, listed: &Listed, folder: &str) -> bool {
        let mut inside = super::inside(listed, folder);
        let names = super::inside(listed, folder).any(|name| self.names().contains(&name));
        // `train` and `test` alone may be anything.
        inside.any(|name| self.split(name).is_some()) && (names || self == Self::Binary10)
    }
}

/// A CIFAR data set.
#[derive(Debug)]
pub struct Cifar {
    root: PathBuf,
    version: Version,
    planes: Planes,
}

/// The version that lies in a folder, and in which folder below it.
fn found(listed: &Listed) -> Vec<(Version, &'static str)> {
    let below = Version::ALL.map(|version| (version, version.folder()));
    let places = Version::ALL.map(|version| (version, ""));
    places.into_iter().chain(below).filter(|(version, folder)| version.is_in(listed, folder)).collect()
}

/// Names that only CIFAR's files and folders have.
const NAMES: [&str; 6] = [
    "data_batch_1",
    "data_batch_1.bin",
    "batches.meta",
    "batches.meta.txt",
    "fine_label_names.txt",
    "coarse_label_names.txt",
];

/// Whether a file or folder of that name is CIFAR's.
pub fn is_name(name: &str) -> bool {
    NAMES.contains(&name) || Version::ALL.iter().any(|version| version.folder() == name)
}

/// Whether a folder that holds these files is CIFAR's, or one around it.
pub fn recognises_listed(listed: &Listed) -> bool {
    !found(listed).is_empty()
}

/// Whether a folder is CIFAR's, by the names of its files.
///
/// # Errors
/// The folder cannot be listed.
pub fn recognises(files: &dyn Files, path: &Path) -> Result<bool, Error> {
    Ok(recognises_listed(&files.list(path)?))
}

impl Cifar {
    /// Opens the folder of the files, or the one that has it under the name that its archive gives it.
    ///
    /// # Errors
    /// The folder cannot be listed, or has none or several of the data sets; a file of the Python version is not what it should be.
    pub fn open(files: &dyn Files, root: &Path) -> Result<Self, Error> {
        let listed = files.list(root)?;
        let (version, folder) = match found(&listed)[..] {
            [only] => only,
            [] => {
                let message = "no file of CIFAR is there: data_batch_1.bin or data_batch_1 with batches.meta, \
                               train.bin with fine_label_names.txt, or train with meta";
                return Err(Error::format(root, message));
            }
            ref several => {
                let names = several.iter().map(|(version, _)| version.folder()).collect::<Vec<_>>().join(", ");
                return Err(Error::format(root, format!("several data sets are there: {names}; choose one")));
            }
        };
        let root = if folder.is_empty() { root.to_owned() } else { root.join(folder) };
        let stride = PICTURE + version.ahead();
        let mut planes =
            Planes { width: 32, height: 32, order: Order::Rows, stride, start: version.ahead(), starts: BTreeMap::new() };
        if !version.is_binary() {
            let inside = listed.files.iter().filter_map(|file| {
                let name =
                    if folder.is_empty() { &*file.path } else { file.path.strip_prefix(folder)?.strip_prefix('/')? };
                version.split(name).map(|_| (name, file))
            });
            for (name, file) in inside {
                let (start, ..) = pictures(&Dictionary::open(files, root.join(name), file.size)?, &root.join(name))?;
                planes.starts.insert(name.to_owned(), start);
            }
        }
        Ok(Self { root, version, planes })
    }

    /// The folder that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Which data set it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The names of classes, and of their groups.
    fn names(&self, files: &dyn Files) -> Result<[Vec<Rc<str>>; 2], Error> {
        let at = |place: usize| self.root.join(self.version.names()[place]);
        let pickled = |keys: &[&str]| {
            let path = at(0);
            let size = files.list(&path)?.files.first().map_or(0, |file: &Entry| file.size);
            let pickle = Dictionary::open(files, path, size)?;
            let names = keys.iter().map(|key| Ok(pickle.texts(key)?.into_iter().map(Rc::from).collect()));
            names.collect::<Result<Vec<Vec<Rc<str>>>, Error>>()
        };
        Ok(match self.version {
            Version::Binary10 => [names(files, &at(0))?, Vec::new()],
            Version::Binary100 => [names(files, &at(0))?, names(files, &at(1))?],
            Version::Python10 => [pickled(&["label_names"])?.swap_remove(0), Vec::new()],
            Version::Python100 => {
                let mut both = pickled(&["fine_label_names", "coarse_label_names"])?.into_iter();
                [both.next().unwrap_or_default(), both.next().unwrap_or_default()]
            }
        })
    }

    fn sheet<'a>(
        &'a self,
        files: &'a dyn Files,
        print: &'a Fingerprint,
        split: &'static str,
        known: [Vec<Rc<str>>; 2],
    ) -> Result<Sheet<'a>, Error> {
        let path = self.root.join(&*print.entry.path);
        let name = move |numbers: [Option<i64>; 2]| -> Result<Labels, String> {
            let one = |place: usize| {
                let number = numbers[place].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
                number.map_or(Ok(None), |number| named(&known[place], number))
            };
            Ok([one(0)?, one(1)?])
        };
        let (rows, left_out, labels): (_, _, Labelling<'a>) = match self.version {
            Version::Binary10 | Version::Binary100 => {
                let (rows, left_out) = records(print, self.planes.stride);
                // CIFAR-100's have the group first.
                let labels = move |_: u64, ahead: &[u8]| match *ahead {
                    [label] => name([Some(label.into()), None]),
                    [coarse, label] => name([Some(label.into()), Some(coarse.into())]),
                    _ => Ok([None, None]),
                };
                (rows, left_out, Box::new(labels))
            }
            Version::Python10 | Version::Python100 => {
                let pickle = Dictionary::open(files, path.clone(), print.entry.size)?;
                let (start, rows) = pictures(&pickle, &path)?;
                if self.planes.starts.get(&*print.entry.path) != Some(&start) {
                    return Err(Error::format(path, "the file has changed meanwhile: start again"));
                }
                let (fine, coarse) = if self.version.has_groups() {
                    (pickle.numbers("fine_labels")?, Some(pickle.numbers("coarse_labels")?))
                } else {
                    (pickle.numbers("labels")?, None)
                };
                if let Some(other) = [Some(&fine), coarse.as_ref()].into_iter().flatten().find(|n| n.len() as u64 != rows) {
                    let count = other.len();
                    return Err(Error::format(path, format!("it has {rows} pictures and {count} labels")));
                }
                let labels = move |row: u64, _: &[u8]| {
                    name([fine.get(row as usize).copied(), coarse.as_ref().and_then(|c| c.get(row as usize).copied())])
                };
                (rows, Vec::new(), Box::new(labels))
            }
        };
        let (planes, schema, ahead) = (&self.planes, self.schema(), self.version.ahead());
        Ok(Sheet { files, path, print, planes, schema, split, ahead, rows, next: 0, left_out, labels })
    }
}

/// Where a pickle's pictures begin, and how many there are.
fn pictures(pickle: &Dictionary, path: &Path) -> Result<(u64, u64), Error> {
    let array = pickle.array("data")?;
    match array.shape[..] {
        [rows, PICTURE] => Ok((array.offset, rows)),
        ref shape => {
            Err(Error::format(path, format!("`data` has the sides {shape:?}; those of pictures are N x {PICTURE}")))
        }
    }
}

impl Layout for Cifar {
    fn schema(&self) -> SchemaRef {
        schema(self.version.has_groups())
    }

    fn list(&self, files: &dyn Files) -> Result<Listed, Error> {
        let listed = files.list(&self.root)?;
        let names = self.version.names();
        let there: Vec<String> = super::inside(&listed, "").map(str::to_owned).collect();
        let pictures = there.iter().map(String::as_str).filter(|name| self.version.split(name).is_some());
        super::only(&self.root, listed, pictures.chain(names.iter().copied()).collect(), names)
    }

    fn role(&self, path: &str) -> Role {
        if self.version.split(path).is_some() { Role::Shard } else { Role::Beside }
    }

    fn rows<'a>(&'a self, files: &'a dyn Files, prints: &'a [Fingerprint]) -> Result<Rows<'a>, Error> {
        let names = self.names(files)?;
        let sheets = prints.iter().filter_map(move |print| {
            let split = self.version.split(&print.entry.path)?;
            Some(self.sheet(files, print, split, names.clone()))
        });
        Ok(super::all(sheets))
    }

    fn access(&self) -> Access {
        Access::Planar(self.planes.clone())
    }
}
