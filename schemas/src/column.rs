//! Typed access to a batch's columns.

use std::borrow::Cow;

use arrow::array::{
    Array, ArrayRef, BinaryArray, FixedSizeListArray, Float16Array, Float32Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::datatypes::{DataType, Field, SchemaRef};

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
        /// What it is.
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
/// # Errors
/// There is none.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, SchemaError> {
    batch.column_by_name(name).ok_or_else(|| missing(batch.schema_ref(), name))
}

/// The field of that name.
///
/// # Errors
/// There is none.
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

/// An Int32 column.
///
/// # Errors
/// It is missing or of another type.
pub fn int32<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array, SchemaError> {
    typed(batch, name, "Int32")
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

/// What a column of vectors is.
pub(crate) const VECTOR: &str = "FixedSizeList<Float32 or Float16>";

/// The values of a `FixedSizeList<Float32, D>` column as one row-major `N x D` slice (no copy), and D; those of a
/// `FixedSizeList<Float16, D>` column as a copy.
///
/// # Errors
/// It is missing, of another type, or has a null.
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
    if let Some(row) = list.nulls().and_then(|nulls| (0..list.len()).find(|&row| nulls.is_null(row))) {
        return Err(SchemaError::Null { column: name.to_owned(), row });
    }
    Ok((list, list.value_length() as usize))
}
