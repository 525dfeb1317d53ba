//! `features`: one vector of f32 an image; f16 is read as well.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{IMAGE_ID, SchemaError, column};

/// The name of the vector's column, unless a stage makes several.
pub const FEATURE: &str = "feature";

fn item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Float32, false))
}

/// A non-null `FixedSizeList<Float32, dimension>` field.
pub fn field(name: &str, dimension: usize) -> Field {
    Field::new(name, DataType::FixedSizeList(item(), dimension as i32), false)
}

/// `image_id` and one vector column a name.
pub fn schema<'a>(vectors: impl IntoIterator<Item = (&'a str, usize)>) -> SchemaRef {
    let id = Field::new(IMAGE_ID, DataType::Utf8, false);
    Arc::new(Schema::new(std::iter::once(id).chain(vectors.into_iter().map(|(name, d)| field(name, d))).collect::<Vec<_>>()))
}

/// A vector column from `N x dimension` values (no copy).
pub fn array(values: Vec<f32>, dimension: usize) -> ArrayRef {
    Arc::new(FixedSizeListArray::new(item(), dimension as i32, Arc::new(Float32Array::from(values)), None))
}

/// The length of a vector column.
///
/// # Errors
/// The column is missing, or is no list of f32 or f16.
pub fn dimension(schema: &SchemaRef, name: &str) -> Result<usize, SchemaError> {
    match column::field(schema, name)?.data_type() {
        DataType::FixedSizeList(item, length) if is_element(item.data_type()) => Ok(*length as usize),
        other => Err(column::wrong(name, column::VECTOR, other)),
    }
}

/// Whether vectors of such values are vectors: f32, and f16 that others wrote.
pub fn is_element(kind: &DataType) -> bool {
    matches!(kind, DataType::Float32 | DataType::Float16)
}
