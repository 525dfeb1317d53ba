//! JSON lines: an object a line, whose keys are columns.
//!
//! Types come from all values of the file, in a pass over it: numbers with and without a fraction together are Float64, a whole number that
//! 64 bits do not hold makes its column text, and so do texts, numbers and truth values together. A key that a line lacks is null
//! there. Lists and objects are lists and structs; one of them beside anything else is an error, which names the line.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use serde_json::{Map, Value};
use tessera_schemas::{IMAGE_ID, printable};

use super::raw::{Raw, Stream};
use super::{BATCH_BYTES, Batches, Header};
use crate::Error;

/// What Windows programs begin UTF-8 text with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Bytes that a line may have.
const LONGEST_LINE_BYTES: u64 = 64 << 20;
/// What JSON lines are, for messages.
const ONE_A_LINE: &str = "JSON lines have an object a line: {\"n\": 1}";

/// Columns and their types: the table's, if it is known already.
pub fn header(raw: Raw<'_>, known: Option<&Schema>) -> Result<Header, Error> {
    let mut lines = Lines::new(raw)?;
    let first = lines.next()?.ok_or_else(|| raw.error("is empty; a file of JSON lines has an object a line"))?;
    if let Some(known) = known {
        // Ids are in all rows or in none.
        let has_ids = first.contains_key(IMAGE_ID);
        let fields = known.fields().iter().filter(|field| has_ids || field.name() != IMAGE_ID).map(|field| decoded(field));
        return Ok(Header::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), None));
    }
    let mut columns = Columns::default();
    let mut next = Some(first);
    while let Some(row) = next {
        columns.add(&row).map_err(|message| raw.error(format!("line {}: {message}", lines.line)))?;
        next = lines.next()?;
    }
    let fields: Vec<Field> = columns.all.iter().map(|(name, seen)| Field::new(name, seen.kind(), true)).collect();
    Ok(Header::new(Arc::new(Schema::new(fields)), None))
}

/// All rows, as that schema has them.
pub fn batches<'a>(raw: Raw<'a>, schema: &SchemaRef, rows: usize) -> Result<Batches<'a>, Error> {
    let decoder =
        ReaderBuilder::new(schema.clone()).with_batch_size(rows).with_coerce_primitive(true).with_strict_mode(true);
    let mut decoder = decoder.build_decoder().map_err(|error| raw.error(error))?;
    let mut lines = Lines::new(raw)?;
    let mut next = move || -> Result<Option<RecordBatch>, Error> {
        // Lines may be long.
        let (mut count, mut bytes) = (0, 0);
        while count < rows && bytes < BATCH_BYTES && lines.advance()? {
            let (line, text) = (lines.line, &lines.bytes[..]);
            let taken = decoder.decode(text).map_err(|error| raw.error(format!("line {line}: {error}")))?;
            count += 1;
            bytes += text.len();
            if taken != text.len() || decoder.has_partial_record() || decoder.len() != count {
                return Err(raw.error(format!("line {line}: is no object; {ONE_A_LINE}")));
            }
        }
        decoder.flush().map_err(|error| raw.error(error))
    };
    Ok(Box::new(std::iter::from_fn(move || next().transpose())))
}

/// A file's text without a byte order mark.
fn input(raw: Raw<'_>) -> Result<BufReader<Stream<'_>>, Error> {
    let mut input = raw.buffered();
    let start = input.fill_buf().map_err(|error| Error::io(raw.path, error))?;
    let mark = if start.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    input.consume(mark);
    Ok(input)
}

/// A type that has the values of both, if there is one.
pub fn unify(one: &DataType, other: &DataType) -> Option<DataType> {
    match (one, other) {
        (one, other) if one == other => Some(one.clone()),
        (DataType::Null, kind) | (kind, DataType::Null) => Some(kind.clone()),
        (DataType::List(one), DataType::List(other)) => {
            unify(one.data_type(), other.data_type()).map(|item| DataType::new_list(item, true))
        }
        (one, other) if one.is_nested() || other.is_nested() => None,
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => Some(DataType::Float64),
        _ => Some(DataType::Utf8),
    }
}

/// How a column of the table is read: vectors as lists, whose lengths are checked later.
fn decoded(field: &Field) -> Field {
    match field.data_type() {
        DataType::FixedSizeList(item, _) => {
            Field::new(field.name(), DataType::new_list(item.data_type().clone(), true), true)
        }
        kind => Field::new(field.name(), kind.clone(), true),
    }
}

/// The lines of a file.
struct Lines<'a, R> {
    raw: Raw<'a>,
    input: R,
    /// The number of the last one, from 1.
    line: u64,
    bytes: Vec<u8>,
}

impl<'a> Lines<'a, BufReader<Stream<'a>>> {
    fn new(raw: Raw<'a>) -> Result<Self, Error> {
        Ok(Self { raw, input: input(raw)?, line: 0, bytes: Vec::new() })
    }
}

impl<R: BufRead> Lines<'_, R> {
    /// Reads the next line; blank ones are passed over. Returns whether there is one.
    fn advance(&mut self) -> Result<bool, Error> {
        loop {
            self.bytes.clear();
            let mut limited = self.input.by_ref().take(LONGEST_LINE_BYTES);
            let length = limited.read_until(b'\n', &mut self.bytes).map_err(|error| Error::io(self.raw.path, error))?;
            if length == 0 {
                return Ok(false);
            }
            self.line += 1;
            if length as u64 == LONGEST_LINE_BYTES {
                let (line, most) = (self.line, LONGEST_LINE_BYTES >> 20);
                return Err(self
                    .raw
                    .error(format!("line {line}: is longer than {most} MiB; JSON lines have an object a line")));
            }
            if !self.bytes.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The next line's object.
    fn next(&mut self) -> Result<Option<Map<String, Value>>, Error> {
        if !self.advance()? {
            return Ok(None);
        }
        let line = self.line;
        match serde_json::from_slice(&self.bytes) {
            Ok(Value::Object(row)) => Ok(Some(row)),
            Ok(_) => Err(self.raw.error(format!("line {line}: is no object; {ONE_A_LINE}"))),
            Err(error) => Err(self.raw.error(format!("line {line}: {error} of that line"))),
        }
    }
}

/// What the values of a column are.
enum Seen {
    Nothing,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Seen>),
    Struct(Columns),
}

impl Seen {
    /// Adds a value.
    fn add(&mut self, value: &Value) -> Result<(), String> {
        if let Self::Nothing = self {
            match value {
                Value::Array(_) => *self = Self::List(Box::new(Self::Nothing)),
                Value::Object(_) => *self = Self::Struct(Columns::default()),
                _ => {}
            }
        }
        let is_whole = value.is_i64();
        *self = match (&mut *self, value) {
            (_, Value::Null) => return Ok(()),
            (Self::List(item), Value::Array(values)) => return values.iter().try_for_each(|value| item.add(value)),
            (Self::Struct(fields), Value::Object(object)) => return fields.add(object),
            (seen @ (Self::List(_) | Self::Struct(_)), value) | (seen, value @ (Value::Array(_) | Value::Object(_))) => {
                return Err(format!("is {}, and {} in lines before", told(value), seen.told()));
            }
            (Self::Nothing | Self::Bool, Value::Bool(_)) => Self::Bool,
            (Self::Nothing | Self::Int, Value::Number(_)) if is_whole => Self::Int,
            (Self::Float, Value::Number(_)) if is_whole => Self::Float,
            (Self::Nothing | Self::Int | Self::Float, Value::Number(number)) if number.is_f64() => Self::Float,
            _ => Self::Text,
        };
        Ok(())
    }

    fn kind(&self) -> DataType {
        match self {
            Self::Nothing => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::List(item) => DataType::new_list(item.inner(), true),
            Self::Struct(fields) => DataType::Struct(
                fields.all.iter().map(|(name, seen)| Field::new(name, seen.inner(), true)).collect::<Fields>(),
            ),
        }
    }

    /// Its type within a list or an object, where there has to be one.
    fn inner(&self) -> DataType {
        match self.kind() {
            DataType::Null => DataType::Utf8,
            kind => kind,
        }
    }

    fn told(&self) -> &'static str {
        match self {
            Self::List(_) => "a list",
            Self::Struct(_) => "an object",
            _ => "a text, number or truth value",
        }
    }
}

fn told(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        _ => "a text, number or truth value",
    }
}

/// The keys of objects, in the order in which they come first.
#[derive(Default)]
struct Columns {
    all: Vec<(String, Seen)>,
    /// Where each of them is.
    places: HashMap<String, usize>,
}

impl Columns {
    /// Takes in an object's values.
    fn add(&mut self, object: &Map<String, Value>) -> Result<(), String> {
        for (at, (name, value)) in object.iter().enumerate() {
            // Most lines have the same keys in the same order.
            let place = match self.all.get(at) {
                Some((known, _)) if known == name => at,
                _ => self.place(name),
            };
            self.all[place].1.add(value).map_err(|message| format!("`{}` {message}", printable(name)))?;
        }
        Ok(())
    }

    fn place(&mut self, name: &str) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let place = self.all.len();
        self.all.push((name.to_owned(), Seen::Nothing));
        self.places.insert(name.to_owned(), place);
        place
    }
}

#[cfg(test)]
mod tests;
