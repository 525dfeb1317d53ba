//! Typed access to a batch's columns.

use std::borrow::Cow;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};

/// A table is not what its reader needs.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum SchemaError {
    /// The column does not exist.
    #[error("column `{column}` is missing (there are: {known})")]
    Missing {
        /// The column asked for.
        column: String,
        /// The columns that exist.
        known: String,
    },
    /// The column has another type.
    #[error("column `{column}` should be {expected}, found {found}")]
    Type {
        /// The column.
        column: String,
        /// What the reader needs.
        expected: &'static str,
        /// What the reader found.
        found: String,
    },
    /// A field lacks metadata, or it is malformed.
    #[error("column `{column}` has no usable metadata `{key}`")]
    Metadata {
        /// The column.
        column: String,
        /// The metadata key.
        key: &'static str,
    },
    /// A null where none may be.
    #[error("column `{column}` has a null at row {row}")]
    Null {
        /// The column.
        column: String,
        /// The row in its batch.
        row: usize,
    },
    /// Arrow refused to build a batch.
    #[error("{0}")]
    Build(String),
}

impl From<arrow::error::ArrowError> for SchemaError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Build(error.to_string())
    }
}

/// The column of that name.
///
/// # Errors The table has no such column.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, SchemaError> {
    batch.column_by_name(name).ok_or_else(|| missing(batch.schema_ref(), name))
}

/// The field of that name.
///
/// # Errors The table has no such column.
pub fn field<'a>(schema: &'a SchemaRef, name: &str) -> Result<&'a Field, SchemaError> {
    schema.field_with_name(name).map_err(|_| missing(schema, name))
}

fn missing(schema: &SchemaRef, name: &str) -> SchemaError {
    let known = schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
    SchemaError::Missing { column: name.to_owned(), known }
}

fn typed<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str, expected: &'static str) -> Result<&'a A, SchemaError> {
    let array = column(batch, name)?;
    array.as_any().downcast_ref::<A>().ok_or_else(|| wrong(name, expected, array.data_type()))
}

pub(crate) fn wrong(name: &str, expected: &'static str, found: &DataType) -> SchemaError {
    SchemaError::Type { column: name.to_owned(), expected, found: found.to_string() }
}

/// A Utf8 column.
///
/// # Errors
/// It is missing or of another type.
pub fn text<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, SchemaError> {
    typed(batch, name, "Utf8")
}

/// A Binary column.
///
/// # Errors
/// It is missing or of another type.
pub fn bytes<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a BinaryArray, SchemaError> {
    typed(batch, name, "Binary")
}

/// The column, unless it has a null: for readers of plain numbers, to whom a null would look like a 0.
///
/// # Errors
/// It has a null.
pub fn without_nulls<'a, A: Array>(array: &'a A, name: &str) -> Result<&'a A, SchemaError> {
    match array.logical_nulls().and_then(|nulls| (0..nulls.len()).find(|&row| nulls.is_null(row))) {
        Some(row) => Err(SchemaError::Null { column: name.to_owned(), row }),
        None => Ok(array),
    }
}

/// An Int32 column.
///
/// # Errors
/// It is missing or of another type.
pub fn int32<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array, SchemaError> {
    typed(batch, name, "Int32")
}

/// A column of whole numbers of any width as Int64, with its nulls.
///
/// # Errors
/// It is missing, of another type, or a number does not fit (a cast would make a null of it).
pub fn whole_numbers(batch: &RecordBatch, name: &str) -> Result<Int64Array, SchemaError> {
    let array = column(batch, name)?;
    if !array.data_type().is_integer() {
        return Err(wrong(name, "whole numbers", array.data_type()));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(array, &DataType::Int64, &strict);
    let cast = cast.map_err(|error| SchemaError::Build(format!("column `{name}`: {error}")))?;
    Ok(cast.as_primitive::<Int64Type>().clone())
}

/// An Int64 column.
///
/// # Errors
/// It is missing or of another type.
pub fn int64<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array, SchemaError> {
    typed(batch, name, "Int64")
}

/// A Float32 column.
///
/// # Errors
/// It is missing or of another type.
pub fn floats<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Float32Array, SchemaError> {
    typed(batch, name, "Float32")
}

/// A Float64 column without nulls.
pub(crate) fn doubles<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Float64Array, SchemaError> {
    typed(batch, name, "Float64").and_then(|array| without_nulls(array, name))
}

/// What a column of vectors is.
pub(crate) const VECTOR: &str = "FixedSizeList<Float32 or Float16>";

/// The values of a `FixedSizeList<Float32, D>` column as one row-major `N x D` slice (no copy), and D; those of a
/// `FixedSizeList<Float16, D>` column as a copy.
///
/// # Errors
/// It is missing, of another type, or has a null: a vector, or a value of one.
pub fn vector<'a>(batch: &'a RecordBatch, name: &str) -> Result<(Cow<'a, [f32]>, usize), SchemaError> {
    let (list, width) = fixed(batch, name, VECTOR)?;
    let start = list.value_offset(0) as usize;
    let range = start..start + list.len() * width;
    let values = list.values().as_any();
    if let Some(values) = values.downcast_ref::<Float32Array>() {
        return Ok((Cow::Borrowed(&values.values()[range]), width));
    }
    let halves = values.downcast_ref::<Float16Array>().ok_or_else(|| wrong(name, VECTOR, list.data_type()))?;
    Ok((halves.values()[range].iter().map(|half| half.to_f32()).collect(), width))
}

/// The values of a `FixedSizeList<UInt8, D>` column as one slice of `N x D` bytes (no copy), and D.
pub(crate) fn octets<'a>(batch: &'a RecordBatch, name: &str) -> Result<(&'a [u8], usize), SchemaError> {
    let (list, width) = fixed(batch, name, "FixedSizeList<UInt8>")?;
    let values = list
        .values()
        .as_any()
        .downcast_ref::<arrow::array::UInt8Array>()
        .ok_or_else(|| wrong(name, "FixedSizeList<UInt8>", list.data_type()))?;
    let start = list.value_offset(0) as usize;
    Ok((&values.values()[start..start + list.len() * width], width))
}

fn fixed<'a>(
    batch: &'a RecordBatch,
    name: &str,
    expected: &'static str,
) -> Result<(&'a FixedSizeListArray, usize), SchemaError> {
    let list: &FixedSizeListArray = typed(batch, name, expected)?;
    let (list, width) = (without_nulls(list, name)?, list.value_length() as usize);
    if let Some(nulls) = list.values().nulls() {
        let start = list.value_offset(0) as usize;
        if let Some(at) = (0..list.len() * width).find(|at| nulls.is_null(start + at)) {
            return Err(SchemaError::Null { column: name.to_owned(), row: at / width });
        }
    }
    Ok((list, width))
}
