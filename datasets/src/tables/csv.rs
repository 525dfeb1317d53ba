//! CSV: text, of which it has to be found out what the columns are.
//!
//! - **Separator**: `,`, `;`, tab or `|`, by which all first rows have equally many values; tab in `.tsv`.
//! - **Names**: the first line has them, always. One that has numbers alone is an error that asks which is meant. Spaces around
//!   names are dropped; a column without a name is called by its place, `column_1`, and left out if it is the last and empty
//!   in every row.
//! - **Types**: every value of the file has a say ([`values`]), so no late value can contradict. That takes a pass over the file,
//!   in constant memory, which is left out if [`CsvOptions::types`] has all columns. Ids are text.
//! - **Vectors**: columns `feature_0`, `feature_1`, … that are numbers without a gap are the vector `feature`, as `export` writes it; other
//!   names are if `types` says so. `types` of one of them, `feature_0`, keeps them apart.
//!
//! Rows are read by [`records`], which says what is malformed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use tessera_schemas::{IMAGE_ID, features, printable};

use super::raw::Raw;
use super::{Batches, Header};
use crate::Error;
use arrays::Builder;
use opening::Opened;
pub use seen::Seen;
pub use values::ColumnType;

mod arrays;
mod opening;
mod records;
mod seen;
mod values;

/// Columns that a complaint lists.
const LISTED_COLUMNS: usize = 20;

/// How a CSV file is to be read, where it should not be as a look at it suggests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsvOptions {
    /// Columns' types, by their names. Default: what no value contradicts.
    pub types: BTreeMap<String, ColumnType>,
    /// What separates values. Default: `,`, `;`, tab or `|`, whichever the first rows have equally often.
    pub separator: Option<u8>,
    /// Whether the first line names the columns; otherwise they are called `column_1`, `column_2`, … Default: it does.
    pub header: Option<bool>,
}

impl CsvOptions {
    /// Whether all is found by looking.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// A separator as a pipeline file writes it.
    ///
    /// # Errors
    /// It is not one character of ASCII, or one that has another meaning.
    pub fn parse_separator(text: &str) -> Result<u8, String> {
        match text.as_bytes() {
            [b'"' | b'\r' | b'\n' | 0] => Err("is a character that has another meaning in CSV".to_owned()),
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err(format!("\"{}\" is not one ASCII character, as \",\", \";\" and \"\\t\" are", printable(text))),
        }
    }

    /// What is wrong about `types`, of a table with that schema: each column's name and a complaint.
    pub fn faults(&self, schema: &Schema) -> Vec<(String, String)> {
        let fields = schema.fields();
        let complaint = |(name, kind): (&String, &ColumnType)| {
            if name == IMAGE_ID && *kind != ColumnType::Text {
                return Some((name.clone(), format!("`{IMAGE_ID}` is \"text\" always")));
            }
            if fields.iter().any(|field| field.name() == name) {
                return None;
            }
            let listed: Vec<&str> = fields.iter().take(LISTED_COLUMNS).map(|field| field.name().as_str()).collect();
            let more = if fields.len() > LISTED_COLUMNS { ", …" } else { "" };
            let message = format!("the table has no column `{}`; there are {}{more}", printable(name), listed.join(", "));
            Some((name.clone(), message))
        };
        self.types.iter().filter_map(complaint).collect()
    }
}

/// A column of the table.
struct Column {
    name: String,
    /// Which values of a row it is made of: several are a vector.
    places: Range<usize>,
    is_spread: bool,
}

/// Columns and their types: the table's, if it is known already.
pub fn header(raw: Raw<'_>, options: &CsvOptions, known: Option<&Schema>) -> Result<Header, Error> {
    let mut opened = Opened::new(raw, options)?;
    if let Some(known) = known {
        let known = by_name(known);
        let fields = known_columns(&opened, &known).into_iter().map(|column| match known.get(column.name.as_str()) {
            Some(field) => (*field).clone(),
            None => Field::new(column.name, DataType::Utf8, true),
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        return Ok(Header::new(schema, None));
    }
    let seen = look(raw, &mut opened, options)?;
    let is_known = |stem: &str, places: &Range<usize>| match options.types.get(stem) {
        Some(kind) => *kind == ColumnType::Vector,
        None => {
            let free = opened.names[places.clone()].iter().all(|name| !options.types.contains_key(name));
            stem == features::FEATURE && free && seen[places.clone()].iter().all(Seen::fits_f32)
        }
    };
    let keeps_last = !opened.is_last_nameless || !seen[opened.names.len() - 1].is_empty();
    let columns = columns(&opened.names[..opened.names.len() - usize::from(!keeps_last)], is_known);
    let seen: Vec<Seen> = columns
        .iter()
        .map(|column| if column.is_spread { Seen::spread(column.places.len()) } else { seen[column.places.start].clone() })
        .collect();
    let fields: Vec<Field> = columns.iter().zip(&seen).map(|(column, seen)| seen.field(&column.name)).collect();
    Ok(Header { schema: Arc::new(Schema::new(fields)), rows: None, seen })
}

/// The rows from `first` on, as the known table has them; its columns in the file's order.
pub fn batches<'a>(
    raw: Raw<'a>,
    options: &CsvOptions,
    known: &Schema,
    rows: usize,
    first: u64,
) -> Result<Batches<'a>, Error> {
    let mut opened = Opened::new(raw, options)?;
    for _ in 0..first {
        if opened.next(raw)?.is_none() {
            break;
        }
    }
    let known = by_name(known);
    let columns = known_columns(&opened, &known);
    let fields = columns.iter().map(|column| match known.get(column.name.as_str()) {
        // What lacks an id says so better than this reader.
        Some(field) => (*field).clone().with_nullable(true),
        None => Field::new(&column.name, DataType::Utf8, true),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let left_out = columns.last().map_or(0, |last| last.places.end)..opened.names.len();
    Ok(Box::new(std::iter::from_fn(move || {
        let mut builders: Vec<Builder> = schema.fields().iter().map(|field| Builder::new(field, rows)).collect();
        let (mut count, mut is_full) = (0, false);
        while count < rows && !is_full {
            let row = match opened.next(raw) {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(error) => return Some(Err(error)),
            };
            for (builder, column) in builders.iter_mut().zip(&columns) {
                for (at, place) in column.places.clone().enumerate() {
                    let value = row.value(place);
                    if let Err(expected) = builder.push(value, column.is_spread) {
                        let part = if column.is_spread { format!("_{at}") } else { String::new() };
                        let (name, value) = (printable(&column.name), values::shown(value));
                        let message = format!("line {}: `{name}{part}` should be {expected}, found {value}", row.line);
                        return Some(Err(raw.error(message)));
                    }
                }
                is_full |= builder.is_full();
            }
            if let Some(place) = left_out.clone().find(|&place| !row.value(place).is_empty()) {
                let value = values::shown(row.value(place));
                return Some(Err(
                    raw.error(format!("line {}: the last column has no name, and the value {value}", row.line))
                ));
            }
            count += 1;
        }
        if count == 0 {
            return None;
        }
        let arrays = builders.into_iter().map(Builder::finish).collect();
        Some(RecordBatch::try_new(schema.clone(), arrays).map_err(|error| raw.error(error)))
    })))
}

/// How many rows there are.
pub fn rows(raw: Raw<'_>, options: &CsvOptions) -> Result<u64, Error> {
    let mut opened = Opened::new(raw, options)?;
    let mut rows = 0;
    while opened.next(raw)?.is_some() {
        rows += 1;
    }
    Ok(rows)
}

/// What the values of each column are: all of them, unless their types are known.
fn look(raw: Raw<'_>, opened: &mut Opened<'_>, options: &CsvOptions) -> Result<Vec<Seen>, Error> {
    let of_vectors = columns(&opened.names, |stem, _| options.types.get(stem) == Some(&ColumnType::Vector));
    let mut seen = Vec::with_capacity(opened.names.len());
    for column in of_vectors {
        let declared = options.types.get(&column.name).copied();
        let is_id = column.name == IMAGE_ID;
        let declared = if is_id { Some(ColumnType::Text) } else { declared };
        seen.extend(column.places.clone().map(|_| Seen::of(declared.filter(|_| !column.is_spread), column.is_spread)));
    }
    // Vectors need a row that shows how long they are.
    let open: Vec<usize> = (0..seen.len()).filter(|&at| seen[at].is_open()).collect();
    let is_one_enough = seen.iter().all(Seen::is_declared);
    if open.is_empty() {
        return Ok(seen);
    }
    while let Some(row) = opened.next(raw)? {
        for &at in &open {
            seen[at].add(row.value(at));
        }
        if is_one_enough && open.iter().all(|&at| seen[at].has_width()) {
            break;
        }
    }
    Ok(seen)
}

/// The table's columns, if columns `NAME_0`, `NAME_1`, … are a vector where that is so of `NAME` and their places.
fn columns(names: &[String], is_vector: impl Fn(&str, &Range<usize>) -> bool) -> Vec<Column> {
    let mut columns = Vec::with_capacity(names.len());
    let known: HashSet<&str> = names.iter().map(String::as_str).collect();
    let mut at = 0;
    while at < names.len() {
        let spread = names[at].strip_suffix("_0").and_then(|stem| {
            let is_next = |(part, name): &(usize, &String)| name.strip_prefix(stem) == Some(&format!("_{part}"));
            let places = at..at + names[at..].iter().enumerate().take_while(is_next).count();
            (!known.contains(stem) && is_vector(stem, &places)).then_some((stem, places))
        });
        let column = match spread {
            Some((stem, places)) => Column { name: stem.to_owned(), places, is_spread: true },
            None => Column { name: names[at].clone(), places: at..at + 1, is_spread: false },
        };
        at = column.places.end;
        columns.push(column);
    }
    columns
}

/// A table's columns by their names.
fn by_name(schema: &Schema) -> HashMap<&str, &Field> {
    schema.fields().iter().map(|field| (field.name().as_str(), &**field)).collect()
}

/// The columns of a file whose table is known.
fn known_columns(opened: &Opened<'_>, known: &HashMap<&str, &Field>) -> Vec<Column> {
    let names = &opened.names[..];
    let lacks = |name: &&String| !known.contains_key(name.as_str());
    let last = usize::from(opened.is_last_nameless && names.last().as_ref().is_some_and(lacks));
    columns(&names[..names.len() - last], |stem, places| {
        known.get(stem).is_some_and(
            |field| matches!(field.data_type(), DataType::FixedSizeList(_, width) if *width as usize == places.len()),
        )
    })
}

#[cfg(test)]
mod tests;
