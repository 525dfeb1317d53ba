//! Texts of a column as an array of its type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, FixedSizeListArray, Float32Array, Float64Builder, Int64Builder, StringBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef};

use super::super::BATCH_BYTES;
use super::values;

/// An array that grows.
pub enum Builder {
    Text(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Vector { values: Vec<f32>, width: usize, item: FieldRef },
}

impl Builder {
    /// An empty array for a column, with room for so many rows.
    pub fn new(field: &Field, rows: usize) -> Self {
        match field.data_type() {
            DataType::Int64 => Self::Int(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Self::Float(Float64Builder::with_capacity(rows)),
            DataType::Boolean => Self::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::FixedSizeList(item, width) if item.data_type() == &DataType::Float32 => {
                Self::Vector { values: Vec::new(), width: *width as usize, item: item.clone() }
            }
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Adds a value, or a part of a vector. What is empty is null.
    ///
    /// # Errors
    /// What the value should be.
    pub fn push(&mut self, text: &str, is_part: bool) -> Result<(), String> {
        match self {
            Self::Text(array) => array.append_option((!text.is_empty()).then_some(text)),
            Self::Int(array) => array.append_option(some(text).map(values::int).transpose()?),
            Self::Float(array) => array.append_option(some(text).map(values::float).transpose()?),
            Self::Bool(array) => array.append_option(some(text).map(values::bool).transpose()?),
            Self::Vector { values, .. } if is_part => values.push(values::float(text)?),
            Self::Vector { values, width, .. } => {
                let before = values.len();
                for item in values::list_items(text).ok_or_else(|| format!("a list of {width} numbers"))? {
                    values.push(values::float(item).map_err(|_| format!("a list of {width} numbers"))?);
                }
                let found = values.len() - before;
                if found != *width {
                    return Err(format!("a list of {width} numbers (this one has {found})"));
                }
            }
        }
        Ok(())
    }

    /// Whether it is so large that the batch should end.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Text(array) => array.values_slice().len() >= BATCH_BYTES,
            Self::Vector { values, .. } => size_of_val(&values[..]) >= BATCH_BYTES,
            _ => false,
        }
    }

    /// The array.
    pub fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut array) => Arc::new(array.finish()),
            Self::Int(mut array) => Arc::new(array.finish()),
            Self::Float(mut array) => Arc::new(array.finish()),
            Self::Bool(mut array) => Arc::new(array.finish()),
            Self::Vector { values, width, item } => {
                Arc::new(FixedSizeListArray::new(item, width as i32, Arc::new(Float32Array::from(values)), None))
            }
        }
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
