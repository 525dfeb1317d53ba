//! `pixels`: decoded RGB images of one size, `H x W x 3` bytes each, channels last.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::{DataType, Field, SchemaRef};

use crate::{IMAGE_ID, SchemaError, column, meta, text};

/// The name of the column of pixels.
pub const PIXELS: &str = "pixels";

/// A `FixedSizeList<UInt8>` field of that shape, the shape in its metadata.
pub(crate) fn tensor_field(name: &str, shape: &[usize]) -> Field {
    let item = Arc::new(Field::new("element", DataType::UInt8, false));
    let length = shape.iter().product::<usize>() as i32;
    meta::with(Field::new(name, DataType::FixedSizeList(item, length), false), meta::SHAPE, meta::join(shape))
}

/// The pixels field of images of that size.
pub fn field(height: usize, width: usize) -> Field {
    tensor_field(PIXELS, &[height, width, 3])
}

/// Height and width of a schema's pixels.
///
/// # Errors
/// There is no pixels column, or it lacks its shape.
pub fn size(schema: &SchemaRef) -> Result<(usize, usize), SchemaError> {
    let field = column::field(schema, PIXELS)?;
    let [height, width, _] = meta::array::<usize, 3>(field, meta::SHAPE)?;
    Ok((height, width))
}

/// Wraps `N x length` bytes as a list column (no copy).
pub(crate) fn list(bytes: Vec<u8>, length: usize) -> ArrayRef {
    let item = Arc::new(Field::new("element", DataType::UInt8, false));
    Arc::new(FixedSizeListArray::new(item, length as i32, Arc::new(UInt8Array::from(bytes)), None))
}

/// The pixels column for [`field`], from `N x H x W x 3` bytes (no copy).
pub fn array(bytes: Vec<u8>, height: usize, width: usize) -> ArrayRef {
    list(bytes, height * width * 3)
}

/// A batch's pixels, checked.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    /// The images' ids.
    pub ids: &'a StringArray,
    /// `N x H x W x 3`.
    pub bytes: &'a [u8],
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
}

impl<'a> Pixels<'a> {
    /// # Errors
    /// A column is missing, has another type or a null, or the shape is not there.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        let (height, width) = size(batch.schema_ref())?;
        let (bytes, length) = column::octets(batch, PIXELS)?;
        if length != height * width * 3 {
            return Err(SchemaError::Metadata { column: PIXELS.into(), key: meta::SHAPE });
        }
        Ok(Self { ids: text(batch, IMAGE_ID)?, bytes, height, width })
    }

    /// The `H x W x 3` bytes of one row.
    pub fn row(&self, row: usize) -> &'a [u8] {
        let length = self.height * self.width * 3;
        &self.bytes[row * length..(row + 1) * length]
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
