//! `tile`: encoded images to pixels, a grid of crops an image, in place of `decode`.
//!
//! Input: an images table, whose bytes the engine reads. Output: `image_id` (the photo's, `#`, row and column of the crop),
//! [`pixels`](tessera_schemas::pixels) of `side x side x 3`, `photo` (the image that the crop comes from), and the table's further
//! columns. The whole image is decoded, resized to the short side `scale` if that is given, and cut into whole crops, `stride`
//! apart, the grid in the middle. Config: `side`, `stride`, `scale`, `on_error`, `max_megapixels`. Bit-exact for any batching.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use tessera_schemas::{BYTES, IMAGE_ID, bytes, column, images, pixels};

use crate::config::Limits;
use crate::decode::{OnError, check, labels, max_megapixels, refuse, unread};
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Inputs, Kernel, Map, MapFn, Operator, Port, RunError, Scope,
};
use crate::picture::Decoder;

/// Keys of a `tile` stage.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Pixels a side of a crop.
    side: usize,
    /// Pixels from one crop to the next; by default `side`.
    #[serde(default)]
    stride: Option<usize>,
    /// Short side that images are resized to before they are cut; by default they are cut as they are.
    #[serde(default)]
    scale: Option<usize>,
    /// What happens to a file that is no sound image, or smaller than a crop.
    #[serde(default)]
    on_error: OnError,
    /// Images of more million pixels are refused.
    #[serde(default = "max_megapixels")]
    max_megapixels: u32,
}

/// The column with the image that a crop comes from.
const PHOTO: &str = "photo";

/// The bound operator.
pub struct Tile {
    config: Config,
    schema: SchemaRef,
}

impl Operator for Tile {
    const NAME: &'static str = "tile";
    const SUMMARY: &'static str = "encoded images to pixels: a grid of crops an image";
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] =
        &[Port::stream("images", &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(BYTES, ColumnKind::Bytes)])];
    const VIEW: bool = true;
    const NEUTRAL: &'static [&'static str] = &["on_error"];
    const LIMITS: Limits = &[("stride", 1e6), ("scale", 1e5), ("max_megapixels", 1e5)];
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = check(config.side, config.max_megapixels);
        if config.stride == Some(0) {
            errors.push(BindError::key("stride", "stride is 0, and crops must be at least 1 px apart"));
        }
        if let Some(scale) = config.scale.filter(|&scale| scale < config.side) {
            let message = format!("scale is {scale} px, and a crop needs side = {}", config.side);
            errors.push(BindError::key("scale", message));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let text = |name| Arc::new(Field::new(name, DataType::Utf8, false));
        let mut fields = vec![text(IMAGE_ID), Arc::new(pixels::field(config.side, config.side)), text(PHOTO)];
        fields.extend(labels(inputs.inputs.required("images")).into_iter().filter(|field| field.name() != PHOTO));
        Ok(Self { config, schema: Arc::new(Schema::new(fields)) })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn passes(&self) -> Vec<String> {
        let made = [IMAGE_ID, pixels::PIXELS, PHOTO];
        self.schema.fields().iter().map(|field| field.name().clone()).filter(|name| !made.contains(&name.as_str())).collect()
    }

    fn refuses_drops(&self) -> bool {
        self.config.on_error == OnError::Fail
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("stride", self.config.stride.unwrap_or(self.config.side).into())]
    }

    fn kernel(self, _: &Context) -> Result<Kernel, RunError> {
        Ok(Kernel::Map(Box::new(self)))
    }
}

impl Map for Tile {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let decoder = Decoder::new(self.config.max_megapixels)?;
        Ok(Box::new(Worker { decoder, config: self.config.clone(), schema: self.schema.clone() }))
    }

    fn keeps_ids(&self) -> bool {
        false
    }
}

struct Worker {
    decoder: Decoder,
    config: Config,
    schema: SchemaRef,
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let (ids, encoded) = (images::ids(batch)?, bytes(batch, BYTES)?);
        let side = self.config.side;
        let stride = self.config.stride.unwrap_or(side);
        let (mut crops, mut names, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            let decoded = if encoded.is_null(row) {
                Err(unread(scope, row))
            } else {
                self.decoder.whole(encoded.value(row), self.config.scale)
            };
            let fits = decoded.and_then(|(width, height, pixels)| {
                let small = width < side || height < side;
                if small {
                    Err(format!("{width}x{height} is smaller than a crop of {side} px"))
                } else {
                    Ok((width, height, pixels))
                }
            });
            match fits {
                Ok((width, height, pixels)) => {
                    for (y, top) in offsets(height, side, stride).enumerate() {
                        for (x, left) in offsets(width, side, stride).enumerate() {
                            for line in top..top + side {
                                let start = (line * width + left) * 3;
                                crops.extend_from_slice(&pixels[start..start + side * 3]);
                            }
                            names.push(format!("{}#{y:03},{x:03}", ids.value(row)));
                            rows.push(row as u32);
                        }
                    }
                }
                Err(reason) => refuse(self.config.on_error, ids.value(row), reason, scope)?,
            }
        }
        let rows = UInt32Array::from(rows);
        let columns = self.schema.fields().iter().map(|field| -> Result<ArrayRef, RunError> {
            Ok(match field.name().as_str() {
                IMAGE_ID => Arc::new(StringArray::from(std::mem::take(&mut names))),
                pixels::PIXELS => pixels::array(std::mem::take(&mut crops), side, side),
                PHOTO => take(column(batch, IMAGE_ID)?, &rows, None)?,
                other => take(column(batch, other)?, &rows, None)?,
            })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// The photo that a crop of that `image_id` comes from; none if it names no crop.
pub fn photo(image_id: &str) -> Option<&str> {
    let (photo, place) = image_id.rsplit_once('#')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    place.split_once(',').is_some_and(|(row, column)| is_number(row) && is_number(column)).then_some(photo)
}

/// Where crops begin along one side, what is left over shared by both ends. `length` is at least `side`.
fn offsets(length: usize, side: usize, stride: usize) -> impl Iterator<Item = usize> {
    let count = (length - side) / stride + 1;
    let margin = (length - side - (count - 1) * stride) / 2;
    (0..count).map(move |at| margin + at * stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_names_its_photo() {
        assert_eq!(photo("a/b#2.jpg#003,012"), Some("a/b#2.jpg"));
        for other in ["a.jpg", "a#2.jpg", "a#1", "a#1,", "a#,1", "a#1,x"] {
            assert_eq!(photo(other), None, "{other}");
        }
    }

    #[test]
    fn crops_lie_in_the_middle() {
        assert_eq!(offsets(100, 30, 30).collect::<Vec<_>>(), [5, 35, 65]);
        assert_eq!(offsets(30, 30, 7).collect::<Vec<_>>(), [0]);
        assert_eq!(offsets(64, 32, 16).collect::<Vec<_>>(), [0, 16, 32]);
        assert_eq!(offsets(63, 32, 16).collect::<Vec<_>>(), [7, 23]);
    }
}
