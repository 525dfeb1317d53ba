//! A table's columns: which datasets they are made of, and rows of them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _};
use arrow::datatypes::{DataType, Field, Fields};
use hdf5_metno::dataset::Dataset;
use hdf5_metno::{File, Group, LocationType};
use tessera_schemas::{features, meta, pixels};

use super::super::raw::Raw;
use super::describe::{Found, MOST_MEMBERS, choices, find, members, stored, texts};
use super::heap::Heap;
use super::kind::{Kind, element};
use super::layout;
use super::picture::Picture;
use super::stored::Stored;
use super::walk::Walk;
use crate::Error;
use crate::tables::{Datasets, VALUE};
use rows::Reader;

mod lists;
mod rows;

/// Columns within columns that are followed.
const DEEPEST: usize = 8;

/// The columns of one file.
pub struct Table {
    /// In the table's order, with as many rows each.
    pub columns: Vec<Column>,
    /// How many rows.
    pub rows: u64,
    /// Bytes before the file's HDF5 part.
    pub base: u64,
    /// Whether the only column's fields are the table's.
    spread: bool,
}

/// A column.
pub struct Column {
    /// Its name, type and metadata.
    pub field: Field,
    what: What,
    /// Whether each row has a value.
    valid: Option<Stored>,
}

enum What {
    Values(Stored),
    Pictures(Stored, Picture),
    List { offsets: Stored, values: Box<Column> },
    Struct(Vec<Column>),
}

impl Table {
    /// The columns that are asked for; `whole`, with the places of their values.
    ///
    /// # Errors
    /// A dataset is missing or no column, or they differ in their rows. The message lists what there is.
    pub fn of(file: &File, datasets: &Datasets, whole: bool) -> Result<Self, String> {
        let mut spread = false;
        let walk = Walk::new(file, whole);
        let columns = match datasets {
            Datasets::All => group(&walk, "/")?,
            Datasets::One(path) => match find(file, path)? {
                Found::Group(_) => group(&walk, path)?,
                Found::Dataset(dataset) => {
                    let values = stored(&dataset, path, whole)?;
                    spread = matches!(values.kind, Kind::Struct { .. }) && values.shape.len() == 1;
                    let name = name_of(&values);
                    vec![Column::of_dataset(&walk, name, path, &dataset, values)?]
                }
            },
            Datasets::Columns(columns) if columns.is_empty() => {
                return Err(format!("no column is asked for; {}", choices(file)));
            }
            Datasets::Columns(columns) => {
                let one = |(name, path): (&String, &String)| match find(file, path)? {
                    Found::Dataset(dataset) => {
                        let values = stored(&dataset, path, whole)?;
                        Column::of_dataset(&walk, name, path, &dataset, values)
                    }
                    Found::Group(found) => {
                        let column = Column::of_group(&walk, name, path, &found, 0)?;
                        column.ok_or_else(|| format!("`{path}` is a group, not a dataset; {}", choices(file)))
                    }
                };
                columns.iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
        };
        let rows = columns.first().map(Column::rows).unwrap_or_default();
        if let Some(other) = columns.iter().find(|column| column.rows() != rows) {
            let (name, count, first) = (other.field.name(), other.rows(), columns[0].field.name());
            return Err(format!(
                "the columns are of different lengths: `{name}` has {count} rows, and `{first}` {rows}; the key `dataset` chooses \
                 some that belong together; {}",
                choices(file)
            ));
        }
        Ok(Self { columns, rows, base: file.userblock(), spread })
    }

    /// The fields that are columns, where the table is one dataset of structs.
    pub fn spread(&self) -> Option<&Fields> {
        match self.columns.first()?.field.data_type() {
            DataType::Struct(fields) if self.spread => Some(fields),
            _ => None,
        }
    }

    /// Some rows of all columns.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(&self, raw: Raw<'_>, rows: Range<u64>, heap: &Heap<'_>, threads: usize) -> Result<Vec<ArrayRef>, Error> {
        let reader = Reader { raw, heap, threads };
        let columns = self.columns.iter().map(|column| column.read(&reader, rows.clone()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(match self.spread() {
            Some(_) => columns[0].as_struct().columns().to_vec(),
            None => columns,
        })
    }
}

/// The column of a dataset that is the whole table: as of a `.npy` file, and `pixels` for images.
fn name_of(values: &Stored) -> &'static str {
    if Picture::may_be(&values.kind, &values.shape) {
        return pixels::PIXELS;
    }
    let is_float = |kind: &Kind| matches!(kind, Kind::Float { .. });
    match &values.kind {
        kind if is_float(kind) && values.shape.len() > 1 => features::FEATURE,
        Kind::Array { item, .. } if is_float(item) && values.shape.len() == 1 => features::FEATURE,
        _ => VALUE,
    }
}

/// A group's datasets, and those of its groups that are columns.
fn group(walk: &Walk<'_>, path: &str) -> Result<Vec<Column>, String> {
    let Found::Group(group) = find(walk.file, path)? else {
        return Err(format!("`{path}` is a dataset, not a group"));
    };
    let columns = children(walk, path, &group, 0)?;
    if columns.is_empty() {
        return Err(format!("`{path}` is a group that has no datasets with rows of its own; {}", choices(walk.file)));
    }
    Ok(columns)
}

/// The columns in a group, in the order that it says, else by their names.
fn children(walk: &Walk<'_>, path: &str, group: &Group, depth: usize) -> Result<Vec<Column>, String> {
    let path = path.trim_end_matches('/');
    let mut columns = BTreeMap::new();
    let mut beside = HashSet::new();
    for (name, kind) in members(group, MOST_MEMBERS)? {
        walk.step()?;
        let path = format!("{path}/{name}");
        let unread = |error: hdf5_metno::Error| format!("is damaged: `{path}` cannot be read: {error}");
        let column = match kind {
            LocationType::Dataset => {
                let dataset = group.dataset(&name).map_err(unread)?;
                if dataset.space().is_ok_and(|space| space.ndim() == 0) {
                    // A note about the others, and no column.
                    continue;
                }
                let values = stored(&dataset, &path, walk.whole)?;
                let mut about = texts(&dataset);
                beside.extend(about.remove(layout::VALID));
                let shown = about.remove(layout::NAME).unwrap_or_else(|| name.clone());
                Some(Column::of_dataset(walk, &shown, &path, &dataset, values)?)
            }
            LocationType::Group => {
                let found = group.group(&name).map_err(unread)?;
                let mut about = texts(&found);
                beside.extend(about.remove(layout::VALID));
                let shown = about.remove(layout::NAME).unwrap_or_else(|| name.clone());
                Column::of_group(walk, &shown, &path, &found, depth + 1)?
            }
            _ => None,
        };
        columns.extend(column.map(|column| (name, column)));
    }
    columns.retain(|name, _| !beside.contains(name));
    let order = texts(group).remove(layout::COLUMNS).and_then(|text| names(&text)).unwrap_or_default();
    let mut ordered: Vec<Column> = order.iter().filter_map(|name| columns.remove(name)).collect();
    ordered.extend(columns.into_values());
    Ok(ordered)
}

/// The texts in a JSON array of them.
fn names(json: &str) -> Option<Vec<String>> {
    serde_json::from_str(json).ok()
}

/// The dataset of bools beside a column.
fn valid(walk: &Walk<'_>, path: &str, about: &BTreeMap<String, String>) -> Result<Option<Stored>, String> {
    let Some(name) = about.get(layout::VALID) else { return Ok(None) };
    let beside = format!("{}/{name}", path.rsplit_once('/').map_or("", |(group, _)| group));
    match find(walk.file, &beside)? {
        Found::Dataset(dataset) => {
            let found = stored(&dataset, &beside, walk.whole)?;
            if found.kind != Kind::Bool || found.shape.len() != 1 {
                return Err(format!("`{beside}` should be bools, one for each row of `{path}`"));
            }
            Ok(Some(found))
        }
        Found::Group(_) => Err(format!("`{beside}` is a group, and should be a dataset of bools")),
    }
}

fn metadata(field: Field, about: &BTreeMap<String, String>) -> Field {
    about
        .iter()
        .filter(|(key, _)| key.starts_with(layout::METADATA))
        .fold(field, |field, (key, text)| meta::with(field, key, text))
}

impl Column {
    fn of_dataset(walk: &Walk<'_>, name: &str, path: &str, dataset: &Dataset, values: Stored) -> Result<Self, String> {
        let about = texts(dataset);
        let valid = valid(walk, path, &about)?;
        if name == pixels::PIXELS {
            let picture = Picture::of(&values.kind, &values.shape).map_err(|what| format!("`{path}` {what}"))?;
            let field = picture.field().with_nullable(valid.is_some());
            return Ok(Self { field, what: What::Pictures(values, picture), valid });
        }
        let mut kind = values.kind.arrow();
        let mut field = metadata(Field::new(name, kind.clone(), valid.is_some()), &about);
        if values.shape.len() > 1 {
            if values.width() == 0 {
                return Err(format!("`{path}` has rows without values"));
            }
            kind = DataType::FixedSizeList(element(kind), values.width() as i32);
            if values.shape.len() > 2 && !field.metadata().contains_key(meta::SHAPE) {
                field = meta::with(field, meta::SHAPE, meta::join(&values.shape[1..]));
            }
        } else if let Some(told) = about.get(layout::ARROW_TYPE).and_then(|text| text.parse().ok()) {
            kind = told;
        }
        Ok(Self { field: field.with_data_type(kind), what: What::Values(values), valid })
    }

    /// The column that a group is, if it is one.
    fn of_group(walk: &Walk<'_>, name: &str, path: &str, group: &Group, depth: usize) -> Result<Option<Self>, String> {
        let about = texts(group);
        let Some(told) = about.get(layout::ARROW_TYPE) else { return Ok(None) };
        if depth > DEEPEST {
            return Err(format!("`{path}`: columns nested more than {DEEPEST} deep"));
        }
        let valid = valid(walk, path, &about)?;
        let mut columns = children(walk, path, group, depth)?;
        let (kind, what) = if told == "Struct" {
            let fields = columns.iter().map(|column| column.field.clone()).collect();
            (DataType::Struct(fields), What::Struct(columns))
        } else {
            let wrong = || format!("`{path}` is a group of `{told}`, and should have the datasets `offsets` and `values`");
            let mut take =
                |name: &str| columns.iter().position(|column| column.field.name() == name).map(|at| columns.swap_remove(at));
            let (Some(offsets), Some(values)) = (take(layout::OFFSETS), take(layout::VALUES)) else { return Err(wrong()) };
            let What::Values(offsets) = offsets.what else { return Err(wrong()) };
            if !matches!(offsets.kind, Kind::Int { bytes: 8, signed: true, .. }) || offsets.shape.len() != 1 {
                return Err(wrong());
            }
            let item = Arc::new(values.field.clone().with_name("element"));
            let kind = match told.as_str() {
                "List" => DataType::List(item),
                "LargeList" => DataType::LargeList(item),
                _ if values.field.data_type() == &DataType::UInt8 && values.valid.is_none() => match told.as_str() {
                    "Binary" => DataType::Binary,
                    "LargeBinary" => DataType::LargeBinary,
                    _ => return Err(wrong()),
                },
                _ => return Err(wrong()),
            };
            (kind, What::List { offsets, values: Box::new(values) })
        };
        let field = metadata(Field::new(name, kind, valid.is_some()), &about);
        Ok(Some(Self { field, what, valid }))
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        match &self.what {
            What::Values(values) | What::Pictures(values, _) => values.rows(),
            What::List { offsets, .. } => offsets.rows().saturating_sub(1),
            What::Struct(columns) => columns.first().map(Self::rows).unwrap_or_default(),
        }
    }

    /// Bytes of a row, about.
    pub fn row_bytes(&self, rows: u64) -> u64 {
        match &self.what {
            What::Values(values) => values.row_bytes() as u64,
            What::Pictures(values, _) => 3 * values.row_bytes() as u64,
            What::List { values, .. } => {
                values.row_bytes(values.rows()).saturating_mul(values.rows().div_ceil(rows.max(1))).saturating_add(8)
            }
            What::Struct(columns) => columns.iter().fold(0, |all: u64, column| all.saturating_add(column.row_bytes(rows))),
        }
    }

    /// Whether some of its values lie in the heap.
    pub fn in_heap(&self) -> bool {
        match &self.what {
            What::Values(values) => values.kind.in_heap(),
            What::Pictures(..) => false,
            What::List { values, .. } => values.in_heap(),
            What::Struct(columns) => columns.iter().any(Self::in_heap),
        }
    }

    /// A dataset of it that would have far more bytes than the file could keep, even where it is deflated.
    pub fn sparse(&self, file_bytes: u64) -> Option<&Stored> {
        let is_sparse = |stored: &&Stored| stored.is_sparse(file_bytes);
        let own = match &self.what {
            What::Values(values) | What::Pictures(values, _) => Some(values).filter(is_sparse),
            What::List { offsets, values } => Some(offsets).filter(is_sparse).or_else(|| values.sparse(file_bytes)),
            What::Struct(columns) => columns.iter().find_map(|column| column.sparse(file_bytes)),
        };
        own.or_else(|| self.valid.as_ref().filter(is_sparse))
    }

    /// Rows that are best read together.
    pub fn band(&self) -> u64 {
        match &self.what {
            What::Values(values) | What::Pictures(values, _) => values.band(),
            _ => 1,
        }
    }
}
