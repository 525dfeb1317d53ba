//! Images in HDF5 files, and what lies beside them: pixels, or files' bytes, of which one is a row of a dataset or a dataset of its own.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array as _, ArrayRef};
use arrow::datatypes::{Schema, SchemaRef};
use hdf5_metno::{File, Group, LocationType};
use tessera_schemas::pixels;

use super::columns::Table;
use super::describe::{Found, find, members, single, stored};
use super::heap::{Heap, MOST_TAKEN, REFERENCE_BYTES};
use super::kind::Kind;
use super::stored::{Place, Stored};
use super::walk::Walk;
use super::{Datasets, driver};
use crate::Error;
use crate::header::Header;
use crate::tables::raw::Raw;
pub(crate) use choose::choose;

mod choose;

/// Groups within groups that are looked into.
const DEEPEST: usize = 4;
/// Pictures in one group, a dataset each.
const MOST_PICTURES: usize = 10_000_000;
/// Bytes that no picture is shorter than.
const FEWEST_BYTES: usize = 16;
/// Rows of files' bytes that are read together.
const ENCODED_ROWS: u64 = 32;

/// The columns of some datasets, of which rows are read.
pub(crate) struct Opened {
    /// What lies beside files' bytes; with pixels among it, if the images are such.
    table: Option<Table>,
    images: Images,
    /// Bytes before the file's HDF5 part.
    base: u64,
    file_bytes: u64,
}

enum Images {
    /// The column `pixels` of the table.
    Pixels,
    /// Files' bytes, one of them a row.
    Rows(Box<Stored>),
    /// Files' bytes, one of them a dataset; and their paths in the group.
    Datasets(Vec<(String, Stored)>),
}

/// An image's bytes.
pub(crate) struct Encoded {
    pub bytes: Vec<u8>,
    /// Where they lie in the file, if they do as they are.
    pub offset: Option<u64>,
}

/// Whether a row of a dataset may be a file's bytes: numbers of one byte, as many as there are; or bytes or text of one length, which is
/// filled up with zeros.
fn holds_encoded(values: &Stored) -> bool {
    match (&values.kind, &values.shape[..]) {
        (Kind::List(item), [_]) => item.bytes() == 1,
        (Kind::Opaque { bytes } | Kind::Text { bytes, .. }, [_]) => *bytes >= FEWEST_BYTES,
        (Kind::Int { bytes: 1, .. }, [_, width]) => *width >= FEWEST_BYTES as u64,
        _ => false,
    }
}

/// Whether all of a dataset may be a file's bytes: numbers of one byte, or a single value as a row may be.
fn is_single(values: &Stored) -> bool {
    match (&values.kind, &values.shape[..]) {
        (Kind::Int { bytes: 1, .. }, [length]) => *length >= FEWEST_BYTES as u64,
        (_, [1]) => holds_encoded(values),
        _ => false,
    }
}

impl Opened {
    /// Asks where the values lie.
    ///
    /// # Errors
    /// The file cannot be read, or has other datasets.
    pub(crate) fn new(raw: Raw<'_>, datasets: &BTreeMap<String, String>) -> Result<Self, Error> {
        super::check(raw)?;
        let opened = driver::with_file(raw, |file| Self::of(file, raw.size, datasets))?;
        super::refuse_sparse(raw, opened.sparse())?;
        if !opened.has_pixels() && opened.rows() > raw.size {
            return Err(raw.error(format!("claims to have {} images, and has {} bytes", opened.rows(), raw.size)));
        }
        Ok(opened)
    }

    fn of(file: &File, file_bytes: u64, datasets: &BTreeMap<String, String>) -> Result<Self, String> {
        let path = datasets.get(pixels::PIXELS).ok_or("no images are asked for")?;
        let mut beside = datasets.clone();
        let images = match find(file, path)? {
            Found::Group(group) => {
                let mut pictures = Vec::new();
                collect(&Walk::new(file, true), &group, "", 0, &mut pictures)?;
                beside.clear();
                Images::Datasets(pictures)
            }
            Found::Dataset(dataset) => {
                let values = stored(&dataset, path, true)?;
                if holds_encoded(&values) {
                    beside.remove(pixels::PIXELS);
                    Images::Rows(Box::new(values))
                } else {
                    Images::Pixels
                }
            }
        };
        let table = if beside.is_empty() { None } else { Some(Table::of(file, &Datasets::Columns(beside), true)?) };
        if let (Images::Rows(values), Some(table)) = (&images, &table)
            && values.rows() != table.rows
        {
            return Err(format!("`{path}` has {} rows, and what lies beside it {}", values.rows(), table.rows));
        }
        Ok(Self { table, images, base: file.userblock(), file_bytes })
    }

    /// A dataset that would have far more bytes than the file could keep.
    fn sparse(&self) -> Option<&Stored> {
        let is_sparse = |values: &&Stored| values.is_sparse(self.file_bytes);
        let beside = self.table.as_ref().and_then(|table| table.sparse(self.file_bytes));
        beside.or_else(|| match &self.images {
            Images::Pixels => None,
            Images::Rows(values) => Some(&**values).filter(is_sparse),
            Images::Datasets(pictures) => pictures.iter().map(|(_, values)| values).find(is_sparse),
        })
    }

    /// A dataset that is one picture.
    fn single(raw: Raw<'_>, path: &str) -> Result<Self, Error> {
        let opened = driver::with_file(raw, |file| match find(file, path)? {
            Found::Dataset(dataset) => {
                let images = Images::Datasets(vec![(path.to_owned(), single(&dataset, path, true)?)]);
                Ok(Self { table: None, images, base: file.userblock(), file_bytes: raw.size })
            }
            Found::Group(_) => Err(format!("`{path}` is a group")),
        })?;
        super::refuse_sparse(raw, opened.sparse())?;
        Ok(opened)
    }

    /// The columns, in the order of their names.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.table.as_ref().map_or_else(|| Schema::empty().into(), Table::schema)
    }

    /// Whether the images are pixels, in the column of that name.
    pub(crate) fn has_pixels(&self) -> bool {
        matches!(self.images, Images::Pixels)
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> u64 {
        match &self.images {
            Images::Pixels => self.table.as_ref().map_or(0, |table| table.rows),
            Images::Rows(values) => values.rows(),
            Images::Datasets(pictures) => pictures.len() as u64,
        }
    }

    /// What a row's dataset is called in its group, where each is one.
    pub(crate) fn name(&self, row: u64) -> Option<&str> {
        let Images::Datasets(pictures) = &self.images else { return None };
        pictures.get(usize::try_from(row).ok()?).map(|(path, _)| path.as_str())
    }

    /// Whether pictures lie in groups within the group.
    pub(crate) fn in_groups(&self) -> bool {
        matches!(&self.images, Images::Datasets(pictures) if pictures.iter().any(|(path, _)| path.contains('/')))
    }

    /// How many rows are best read together, if that is to be so many bytes: whole chunks.
    pub(crate) fn step(&self, bytes: u64) -> u64 {
        let most = match &self.images {
            Images::Pixels => u64::MAX,
            Images::Rows(values) => ENCODED_ROWS.min(bytes / values.row_bytes().max(1) as u64).max(1),
            Images::Datasets(_) => ENCODED_ROWS,
        };
        self.table.as_ref().map_or(most, |table| table.block(bytes, self.file_bytes).min(most))
    }

    /// Some rows of all columns, and which rows they are: fewer than those that are asked for, from the first on, where texts are long.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn read(&self, raw: Raw<'_>, rows: Range<u64>, threads: usize) -> Result<(Range<u64>, Vec<ArrayRef>), Error> {
        let Some(table) = &self.table else { return Ok((rows, Vec::new())) };
        let (rows, columns) = table.read_some(raw, rows, threads)?;
        let count = (rows.end - rows.start) as usize;
        match columns.iter().find(|column| column.len() != count) {
            Some(short) => Err(raw.error(format!("gave {} rows, and {count} were asked for", short.len()))),
            None => Ok((rows, columns)),
        }
    }

    /// Some rows' images, if they are files' bytes; none, where a row has none. They are fewer than those that are asked for, from the
    /// first on, where they are long.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn encoded(&self, raw: Raw<'_>, rows: Range<u64>) -> Result<Vec<Option<Encoded>>, Error> {
        let heap = Heap::new(raw, self.base);
        let wrong = |message: String| raw.error(message);
        match &self.images {
            Images::Pixels => Ok(Vec::new()),
            Images::Rows(values) => {
                let width = values.row_bytes().max(1);
                let most = (MOST_TAKEN / width as u64).max(1);
                let rows = rows.start..rows.end.min(rows.start.saturating_add(most));
                let bytes = values.read(raw, rows.clone(), 1)?;
                let one = |(row, bytes): (u64, &[u8])| encoded(values, row, bytes, &heap).map_err(wrong);
                together(&heap, rows.zip(bytes.chunks_exact(width)).map(one))
            }
            Images::Datasets(pictures) => {
                let pictures = pictures.iter().skip(rows.start as usize).take((rows.end - rows.start) as usize);
                let one = |(_, values): &(String, Stored)| {
                    heap.take(values.bytes()).map_err(wrong)?;
                    let bytes = values.read(raw, 0..values.rows(), 1)?;
                    encoded(values, 0, &bytes, &heap).map_err(wrong)
                };
                together(&heap, pictures.map(one))
            }
        }
    }
}

/// As many of some images as may be taken together by their bytes, and the first one in any case.
fn together(
    heap: &Heap<'_>,
    images: impl Iterator<Item = Result<Option<Encoded>, Error>>,
) -> Result<Vec<Option<Encoded>>, Error> {
    let mut found = Vec::new();
    for image in images {
        match image {
            Err(_) if heap.is_full() && !found.is_empty() => break,
            image => found.push(image?),
        }
    }
    Ok(found)
}

/// The picture in a row's bytes, if there is one.
fn encoded(values: &Stored, row: u64, bytes: &[u8], heap: &Heap<'_>) -> Result<Option<Encoded>, String> {
    let found = match &values.kind {
        Kind::List(_) => {
            let reference = bytes.get(..REFERENCE_BYTES).ok_or("is damaged: a reference is cut")?;
            let bytes = heap.find(reference, 1)?;
            Encoded { bytes, offset: heap.place(reference)? }
        }
        kind => {
            let is_filled = !matches!((kind, &values.shape[..]), (Kind::Int { .. }, [_]));
            let bytes = if is_filled { unfilled(bytes) } else { bytes };
            let offset = match &values.place {
                Place::At(first) => row.checked_mul(values.row_bytes() as u64).and_then(|at| first.checked_add(at)),
                _ => None,
            };
            Encoded { bytes: bytes.to_vec(), offset }
        }
    };
    Ok(if found.bytes.is_empty() { None } else { Some(found) })
}

/// A picture without the zeros that fill up its place. A file of another kind than these may end in zeros itself, and its readers pass over
/// more of them.
fn unfilled(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let ends_in_none = matches!(Header::of(bytes).format, Some("jpeg" | "png" | "gif"));
    if ends_in_none || end == 0 { &bytes[..end] } else { bytes }
}

/// The pictures below a group, a dataset each, in the order of their paths.
fn collect(
    walk: &Walk<'_>,
    group: &Group,
    path: &str,
    depth: usize,
    pictures: &mut Vec<(String, Stored)>,
) -> Result<(), String> {
    let is_new = walk.enter(group);
    for (name, kind) in members(group, MOST_PICTURES)? {
        if !is_new {
            walk.step()?;
        }
        let inner = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let unread = |error: hdf5_metno::Error| format!("is damaged: `{inner}` cannot be read: {error}");
        match kind {
            LocationType::Dataset => {
                let dataset = group.dataset(&name).map_err(unread)?;
                // What is no picture lies beside them.
                if let Some(values) = single(&dataset, &inner, true).ok().filter(is_single) {
                    pictures.push((inner, values));
                }
            }
            LocationType::Group if depth < DEEPEST => {
                collect(walk, &group.group(&name).map_err(unread)?, &inner, depth + 1, pictures)?;
            }
            _ => {}
        }
    }
    Ok(())
}
