//! CSV with a header line and commas; types come from the first rows.

use std::sync::Arc;

use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tessera_schemas::IMAGE_ID;

use super::raw::Raw;
use super::{Batches, FIRST_ROWS, Header};
use crate::Error;

/// Columns, with the types that the first rows' texts suggest ([`DataType::Null`]: they are all empty). Ids are text.
pub fn header(raw: Raw<'_>) -> Result<Header, Error> {
    let format = Format::default().with_header(true);
    let (schema, _) = format.infer_schema(raw.buffered(), Some(FIRST_ROWS)).map_err(|error| raw.error(error))?;
    if schema.fields().is_empty() {
        return Err(raw.error("is empty; the first line of a CSV file names its columns"));
    }
    let fields = schema.fields().iter().map(|field| {
        // `007` is not 7.
        let kind = if field.name() == IMAGE_ID { DataType::Utf8 } else { field.data_type().clone() };
        Field::new(field.name(), kind, true)
    });
    Ok(Header { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), rows: None })
}

/// A type that has the texts of both; there always is one.
pub fn unify(one: &DataType, other: &DataType) -> DataType {
    match (one, other) {
        (one, other) if one == other => one.clone(),
        (DataType::Null, kind) | (kind, DataType::Null) => kind.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        _ => DataType::Utf8,
    }
}

/// All rows, read as the types of that schema, which has the columns in the file's order.
pub fn batches(raw: Raw<'_>, schema: SchemaRef, rows: usize) -> Result<Batches<'_>, Error> {
    let reader = ReaderBuilder::new(schema).with_header(true).with_batch_size(rows).build_buffered(raw.buffered());
    let reader = reader.map_err(|error| raw.error(error))?;
    Ok(Box::new(reader.map(move |batch| batch.map_err(|error| raw.error(error)))))
}
