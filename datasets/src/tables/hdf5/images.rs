//! Images in HDF5 files, and what lies beside them.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array as _, ArrayRef};
use arrow::datatypes::SchemaRef;
use hdf5_metno::{Group, LocationType};
use tessera_schemas::pixels;

use super::columns::Table;
use super::describe::{Found, choices, find, members, stored};
use super::heap::Heap;
use super::picture::Picture;
use super::walk::Walk;
use super::{Datasets, driver};
use crate::Error;
use crate::tables::raw::Raw;

/// Groups within groups that are looked into.
const DEEPEST: usize = 4;

/// A dataset that may be of use.
struct Seen {
    path: String,
    rows: u64,
    /// How many axes it has, if it may hold images.
    picture: Option<usize>,
}

/// The dataset of images, under the name `pixels`, and those of its group that have as many rows, under theirs. `column` names the images';
/// none: the only one that may hold some.
///
/// # Errors
/// There is none, or there are several; the message lists what there is.
pub(crate) fn choose(raw: Raw<'_>, column: Option<&str>) -> Result<BTreeMap<String, String>, Error> {
    super::check(raw)?;
    driver::with_file(raw, |file| {
        let Found::Group(root) = find(file, "/")? else { return Err("has no root".to_owned()) };
        let mut seen = Vec::new();
        look(&Walk::new(file, false), &root, "", 0, &mut seen)?;
        let image = match column {
            Some(named) => {
                let path = format!("/{}", named.trim_matches('/'));
                let one = seen.iter().find(|one| one.path == path);
                let one = one.ok_or_else(|| format!("has no dataset `{path}` with rows; {}", choices(file)))?;
                if one.picture.is_none() {
                    let what = "images are uint8, N x H x W x 3, N x 3 x H x W or N x H x W";
                    return Err(format!("`{path}` holds no images: {what}; {}", choices(file)));
                }
                one
            }
            None => {
                // Those with channels go before those that may be anything else.
                let most = seen.iter().filter_map(|one| one.picture).max();
                let found: Vec<&Seen> = seen.iter().filter(|one| one.picture.is_some() && one.picture == most).collect();
                match found[..] {
                    [only] => only,
                    [] => return Err(format!("has no dataset of images (uint8, N x H x W x 3); {}", choices(file))),
                    _ => {
                        let names: Vec<&str> = found.iter().map(|one| one.path.as_str()).collect();
                        let (names, first) = (names.join(", "), names[0]);
                        return Err(format!("several datasets may be the images: {names}; column = {first:?} says which"));
                    }
                }
            }
        };
        let (group, _) = image.path.rsplit_once('/').unwrap_or_default();
        let mut chosen = BTreeMap::from([(pixels::PIXELS.to_owned(), image.path.clone())]);
        for one in seen.iter().filter(|one| one.rows == image.rows && one.path != image.path) {
            match one.path.rsplit_once('/') {
                Some((of, name)) if of == group && name != pixels::PIXELS => {
                    chosen.insert(name.to_owned(), one.path.clone());
                }
                _ => {}
            }
        }
        Ok(chosen)
    })
}

fn look(walk: &Walk<'_>, group: &Group, path: &str, depth: usize, seen: &mut Vec<Seen>) -> Result<(), String> {
    for (name, kind) in members(group)? {
        walk.step()?;
        let path = format!("{path}/{name}");
        let unread = |error: hdf5_metno::Error| format!("is damaged: `{path}` cannot be read: {error}");
        match kind {
            LocationType::Dataset => {
                let dataset = group.dataset(&name).map_err(unread)?;
                if dataset.space().is_ok_and(|space| space.ndim() == 0) {
                    continue;
                }
                // One of a kind that is not read is no image.
                let Ok(values) = stored(&dataset, &path, false) else { continue };
                let picture = Picture::may_be(&values.kind, &values.shape).then_some(values.shape.len());
                seen.push(Seen { path, rows: values.rows(), picture });
            }
            LocationType::Group if depth < DEEPEST => {
                let found = group.group(&name).map_err(unread)?;
                look(walk, &found, &path, depth + 1, seen)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The columns of some datasets, of which rows are read.
pub(crate) struct Opened {
    table: Table,
    file_bytes: u64,
}

impl Opened {
    /// Asks where the values lie.
    ///
    /// # Errors
    /// The file cannot be read, or has other datasets.
    pub(crate) fn new(raw: Raw<'_>, datasets: &BTreeMap<String, String>) -> Result<Self, Error> {
        let table = super::describe(raw, &Datasets::Columns(datasets.clone()), true)?;
        Ok(Self { table, file_bytes: raw.size })
    }

    /// The columns, in the order of their names.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> u64 {
        self.table.rows
    }

    /// How many rows are best read together, if that is to be so many bytes: whole chunks.
    pub(crate) fn step(&self, bytes: u64) -> u64 {
        self.table.block(bytes, self.file_bytes)
    }

    /// Some rows.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn read(&self, raw: Raw<'_>, rows: Range<u64>, threads: usize) -> Result<Vec<ArrayRef>, Error> {
        let count = (rows.end - rows.start) as usize;
        let columns = self.table.read(raw, rows, &Heap::new(raw, self.table.base), threads)?;
        match columns.iter().find(|column| column.len() != count) {
            Some(short) => Err(raw.error(format!("gave {} rows, and {count} were asked for", short.len()))),
            None => Ok(columns),
        }
    }
}
