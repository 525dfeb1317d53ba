//! Data sets whose files hold pictures of one size, each as a plane of red, of green and of blue: CIFAR's and STL-10's.
//!
//! A picture is read as a binary PPM, the simplest of all image files: its `digest` is that of those bytes. `image_id` is the file's path, a
//! slash and the picture's row, as `data_batch_1.bin/00042`; `split` says which part of the data set it belongs to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use tessera_schemas::images::{self, About, Image, Source};

use crate::layout::{Found, Rows};
use crate::{Error, FileDigest, Files, Fingerprint, LeftOut, Listed, Read};

pub mod cifar;
mod dictionary;
pub mod stl;

/// The column with the part of a data set that a picture belongs to.
pub const SPLIT: &str = "split";
/// The column with the label of a group of classes.
pub const COARSE: &str = "coarse_label";
/// Bytes of records that are read at once.
const READ_BYTES: u64 = 8 << 20;

/// In what order the pixels of a plane come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The top row from left to right, then the row below.
    Rows,
    /// The left column from top to bottom, then the column to its right.
    Columns,
}

/// Where the pictures of a data set lie in its files: plain data.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Planes {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The order of the pixels in a plane.
    pub order: Order,
    /// Bytes from the beginning of a picture to that of the next.
    pub stride: u64,
    /// Where the first picture of a file begins, unless `starts` says it.
    pub start: u64,
    /// Where the first picture begins, by file.
    pub starts: BTreeMap<String, u64>,
}

impl Planes {
    /// Bytes of a picture's three planes.
    fn bytes(&self) -> u64 {
        3 * u64::from(self.width) * u64::from(self.height)
    }

    fn header(&self) -> String {
        crate::ppm::header(self.width as usize, self.height as usize)
    }

    /// Bytes of a picture as it is read.
    pub fn ppm_bytes(&self) -> u64 {
        self.header().len() as u64 + self.bytes()
    }

    /// The PPM of a picture's planes.
    fn ppm(&self, planes: &[u8]) -> Vec<u8> {
        let (width, height) = (self.width as usize, self.height as usize);
        let area = width * height;
        let mut ppm = Vec::with_capacity(self.ppm_bytes() as usize);
        ppm.extend_from_slice(self.header().as_bytes());
        let (red, rest) = planes.split_at(area);
        let (green, blue) = rest.split_at(area);
        match self.order {
            Order::Rows => ppm.extend(red.iter().zip(green).zip(blue).flat_map(|((r, g), b)| [*r, *g, *b])),
            Order::Columns => {
                let places = (0..height).flat_map(|y| (0..width).map(move |x| x * height + y));
                ppm.extend(places.flat_map(|at| [red[at], green[at], blue[at]]));
            }
        }
        ppm
    }

    /// Where the planes of a row begin.
    fn place(&self, path: &str, row: u64) -> Option<u64> {
        let start = self.starts.get(path).copied().unwrap_or(self.start);
        row.checked_mul(self.stride)?.checked_add(start)
    }
}

/// A picture of a file, which lies at `path` below `root`, as a PPM.
///
/// # Errors
/// The file cannot be read, or has fewer rows.
pub fn read_row(files: &dyn Files, root: &Path, planes: &Planes, path: &str, row: u64) -> Result<Vec<u8>, Error> {
    Ok(read_rows(files, root, planes, path, &[row])?.pop().unwrap_or_default())
}

/// Several pictures of a file, in the order of `rows`. Pictures that lie one behind another are read at once.
///
/// # Errors
/// The file cannot be read, or has fewer rows.
pub fn read_rows(files: &dyn Files, root: &Path, planes: &Planes, path: &str, rows: &[u64]) -> Result<Vec<Vec<u8>>, Error> {
    let full = root.join(path);
    let most = (READ_BYTES / planes.stride.max(1)).max(1);
    // First rows and lengths.
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &row in rows {
        match runs.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(row) && *count < most => *count += 1,
            _ => runs.push((row, 1)),
        }
    }
    let wrong = |row: u64| Error::format(&full, format!("it has no row {row}"));
    let read = |&(first, count): &(u64, u64)| {
        let start = planes.place(path, first).ok_or_else(|| wrong(first))?;
        Ok(Read { path: full.clone(), range: Some((start, (count - 1) * planes.stride + planes.bytes())) })
    };
    let reads = runs.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
    let mut pictures = Vec::with_capacity(rows.len());
    for (bytes, (first, count)) in files.read_each(&reads).into_iter().zip(&runs) {
        let bytes = bytes?;
        for row in 0..*count {
            let start = (row * planes.stride) as usize;
            let picture = bytes.get(start..start + planes.bytes() as usize).ok_or_else(|| wrong(first + row))?;
            pictures.push(planes.ppm(picture));
        }
    }
    Ok(pictures)
}

/// The label of a picture, and that of its group.
type Labels = [Option<Rc<str>>; 2];

/// Tells the labels of a row, given the bytes of its record that come before the planes; or why it has none.
type Labelling<'a> = Box<dyn Fn(u64, &[u8]) -> Result<Labels, String> + 'a>;

/// The pictures of one file, as they become rows.
struct Sheet<'a> {
    files: &'a dyn Files,
    path: PathBuf,
    print: &'a Fingerprint,
    planes: &'a Planes,
    schema: SchemaRef,
    split: &'static str,
    /// What of a record comes before its planes.
    ahead: u64,
    rows: u64,
    next: u64,
    left_out: Vec<LeftOut>,
    labels: Labelling<'a>,
}

impl Sheet<'_> {
    fn batch(&mut self) -> Result<Found, Error> {
        let (planes, print) = (self.planes, self.print);
        let name = &*print.entry.path;
        let (first, stride) = (self.next, planes.stride);
        let count = (self.rows - first).min((READ_BYTES / stride).max(1));
        self.next += count;
        let wrong = || Error::format(&self.path, "it has no such rows");
        let place = planes.place(name, first).and_then(|place| place.checked_sub(self.ahead)).ok_or_else(wrong)?;
        let length = if count == 0 { 0 } else { (count - 1) * stride + self.ahead + planes.bytes() };
        let bytes = self.files.read_range(&self.path, place, length)?;
        let records = bytes.chunks(stride as usize);
        let width = self.rows.to_string().len();
        let mut all = Vec::with_capacity(count as usize);
        for (row, record) in (first..first + count).zip(records) {
            let (ahead, picture) = record.split_at(self.ahead as usize);
            let labels = (self.labels)(row, ahead).map_err(|why| Error::format(&self.path, format!("row {row}: {why}")))?;
            let digest = FileDigest::of(&blake3::hash(&planes.ppm(&picture[..planes.bytes() as usize])));
            all.push((row, format!("{name}/{row:0width$}"), labels, digest));
        }
        let ppm_bytes = planes.ppm_bytes();
        let about = About {
            width: Some(planes.width.into()),
            height: Some(planes.height.into()),
            format: Some("ppm"),
            bytes: i64::try_from(ppm_bytes).ok(),
            modified_us: Some(print.entry.modified_ns.div_euclid(1000)),
        };
        let images = images::batch(all.iter().map(|(row, image_id, [label, _], digest)| Image {
            image_id,
            source: Source { path: name, offset: None, length: Some(ppm_bytes), row: Some(*row) },
            label: label.as_deref(),
            digest: digest.to_string().into(),
            about,
        }));
        let batch = images.map_err(|error| Error::format(&self.path, error)).and_then(|images| {
            let mut columns = images.columns().to_vec();
            if self.schema.column_with_name(COARSE).is_some() {
                columns.push(Arc::new(all.iter().map(|(_, _, [_, coarse], _)| coarse.as_deref()).collect::<StringArray>()));
            }
            let split: ArrayRef = Arc::new(StringArray::from_iter_values(all.iter().map(|_| self.split)));
            columns.push(split);
            RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| Error::format(&self.path, error))
        })?;
        Ok(Found { rows: batch, left_out: std::mem::take(&mut self.left_out) })
    }
}

impl Iterator for Sheet<'_> {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.rows && self.left_out.is_empty() {
            return None;
        }
        let batch = self.batch();
        if batch.is_err() {
            self.next = self.rows;
            self.left_out.clear();
        }
        Some(batch)
    }
}

/// The columns of an images table, and behind them `coarse_label`, if there are groups of classes, and `split`.
fn schema(has_groups: bool) -> SchemaRef {
    let coarse = has_groups.then_some(COARSE);
    let more = coarse.into_iter().chain([SPLIT]).map(|name| Arc::new(Field::new(name, DataType::Utf8, true)));
    let fields: Vec<FieldRef> = images::schema().fields().iter().cloned().chain(more).collect();
    Arc::new(Schema::new(fields))
}

/// Whole records of a file, and what is said of the rest.
fn records(print: &Fingerprint, record: u64) -> (u64, Vec<LeftOut>) {
    let (rows, rest) = (print.entry.size / record, print.entry.size % record);
    let reason = format!("its last {rest} bytes are no whole picture, which has {record}: the file may have been cut");
    let left_out = LeftOut { path: print.entry.path.to_string(), is_folder: false, reason };
    (rows, if rest > 0 { vec![left_out] } else { Vec::new() })
}

/// The lines of a file of names; blank ones at its end are not lines.
fn names(files: &dyn Files, path: &Path) -> Result<Vec<Rc<str>>, Error> {
    let bytes = files.read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::format(path, "it should be UTF-8 text"))?;
    Ok(text.trim_start_matches('\u{feff}').trim_end().lines().map(|line| line.trim().into()).collect())
}

/// The name that a number stands for.
fn named(names: &[Rc<str>], number: usize) -> Result<Option<Rc<str>>, String> {
    let known = names.get(number).cloned().map(Some);
    known.ok_or_else(|| format!("its label is {number}, and names are known of 0 to {}", names.len().saturating_sub(1)))
}

/// The names of the files that lie in a folder, and not below it; "" is the root.
fn inside<'l>(listed: &'l Listed, folder: &'l str) -> impl Iterator<Item = &'l str> {
    let name =
        move |path: &'l str| if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') };
    listed.files.iter().filter_map(move |file| name(&file.path)).filter(|name| !name.contains('/'))
}

/// Keeps only the files that are wanted.
///
/// # Errors A file that says what the others show is not there.
fn only(root: &Path, mut listed: Listed, wanted: Vec<&str>, beside: &[&str]) -> Result<Listed, Error> {
    listed.files.retain(|file| wanted.contains(&&*file.path));
    listed.left_out.retain(|one| wanted.contains(&one.path.as_str()));
    match beside.iter().find(|name| listed.files.iter().all(|file| *file.path != ***name)) {
        Some(name) => Err(Error::io(root.join(name), std::io::ErrorKind::NotFound.into())),
        None => Ok(listed),
    }
}

/// The rows of all sheets; of one that cannot be opened, the error.
fn all<'a>(sheets: impl Iterator<Item = Result<Sheet<'a>, Error>> + 'a) -> Rows<'a> {
    Box::new(sheets.flat_map(|sheet| -> Rows<'a> {
        match sheet {
            Ok(sheet) => Box::new(sheet),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }))
}

#[cfg(test)]
mod tests;
