//! Rows of a column.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, FixedSizeListArray, NullArray, StructArray};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options, not, nullif};
use arrow::datatypes::{DataType, Fields, Int64Type};

use super::super::super::raw::Raw;
use super::super::heap::Heap;
use super::super::stored::Stored;
use super::lists::{binary, list};
use super::{Column, What};
use crate::Error;

/// What reading a column takes.
pub struct Reader<'a> {
    /// The file.
    pub raw: Raw<'a>,
    /// What lies in its heap.
    pub heap: &'a Heap<'a>,
    /// Threads that inflate chunks.
    pub threads: usize,
}

impl Reader<'_> {
    fn bytes(&self, values: &Stored, rows: Range<u64>) -> Result<Buffer, Error> {
        values.read(self.raw, rows, self.threads)
    }
}

impl Column {
    /// Some rows of it.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(&self, reader: &Reader<'_>, rows: Range<u64>) -> Result<ArrayRef, Error> {
        let count = (rows.end - rows.start) as usize;
        let wrong = |message: String| {
            reader.raw.error(format!("column `{}`, rows from {}: {message}", self.field.name(), rows.start))
        };
        let array: ArrayRef = match &self.what {
            What::Pictures(values, picture) => picture.column(&reader.bytes(values, rows.clone())?),
            What::Values(values) => {
                let flat = values.kind.column(&reader.bytes(values, rows.clone())?, reader.heap).map_err(wrong)?;
                match self.field.data_type() {
                    DataType::FixedSizeList(item, width) if values.shape.len() > 1 => {
                        Arc::new(FixedSizeListArray::new(item.clone(), *width, flat, None))
                    }
                    DataType::Null => Arc::new(NullArray::new(count)),
                    kind if kind == flat.data_type() => flat,
                    kind => {
                        let strict = CastOptions { safe: false, ..CastOptions::default() };
                        cast_with_options(&flat, kind, &strict).map_err(|error| wrong(error.to_string()))?
                    }
                }
            }
            What::Struct(columns) => {
                let fields = columns.iter().map(|column| column.field.clone()).collect::<Fields>();
                let arrays =
                    columns.iter().map(|column| column.read(reader, rows.clone())).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new(fields, arrays, None).map_err(|error| wrong(error.to_string()))?)
            }
            What::List { offsets, values } => {
                let bounds =
                    offsets.kind.column(&reader.bytes(offsets, rows.start..rows.end + 1)?, reader.heap).map_err(wrong)?;
                let bounds = bounds.as_primitive::<Int64Type>().values().to_vec();
                let (first, last) = (bounds[0], bounds[count]);
                if first < 0 || last as u64 > values.rows() || bounds.is_sorted().eq(&false) {
                    return Err(wrong("is damaged: its offsets are not those of its values".into()));
                }
                let count = last as u64 - first as u64;
                reader.heap.take(count.saturating_mul(values.row_bytes(values.rows()))).map_err(wrong)?;
                let items = values.read(reader, first as u64..last as u64)?;
                match self.field.data_type() {
                    DataType::List(item) => list::<i32>(item, &bounds, items),
                    DataType::LargeList(item) => list::<i64>(item, &bounds, items),
                    DataType::Binary => binary::<i32>(&bounds, &items),
                    _ => binary::<i64>(&bounds, &items),
                }
                .map_err(wrong)?
            }
        };
        let Some(valid) = &self.valid else { return Ok(array) };
        if valid.rows() < rows.end {
            return Err(wrong(format!("`{}` has {} rows", valid.path, valid.rows())));
        }
        let known = valid.kind.column(&reader.bytes(valid, rows.clone())?, reader.heap).map_err(wrong)?;
        if array.data_type() == &DataType::Null {
            return Ok(array);
        }
        let missing = not(known.as_boolean()).and_then(|missing| nullif(&array, &missing));
        missing.map_err(|error| wrong(error.to_string()))
    }
}
