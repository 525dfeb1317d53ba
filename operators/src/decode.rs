//! `decode`: encoded images to pixels of one size.
//!
//! Input: an images table, whose bytes the engine reads. Output: `image_id`, [`pixels`](tessera_schemas::pixels) of
//! `side x side x 3`, and the table's further columns (labels). The short side is resized to `side` with antialiasing (a triangle
//! filter, as torchvision's default), then the centre is cropped. Config: `side`, `on_error`, `max_megapixels`. Bit-exact for any
//! batching.
//!
//! With `mask = true`, the table has [`mask`](tessera_schemas::masks) too, the indices of each image's mask: `side x side` bytes, null where
//! the image has none. The input's column `mask` says where masks lie, as `masks` of an `images` stage makes it, or has their bytes.
//! They are read as indices, resized to the same square by nearest neighbour, and turned as the image is ([`crate::picture::mask`]).
//! An image whose mask is broken, or of another size, is as one that is no sound image. Who reads the pixels alone depends on the masks as
//! well, so that such a reader is better given a `decode` without them.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tessera_schemas::masks::{self, MASK};
use tessera_schemas::{BYTES, IMAGE_ID, bytes, column, images, pixels};

use crate::config::Limits;
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Dropped, Inputs, Map, MapFn, Operator, Port, RunError, Scope,
};
use crate::picture::{Decoder, MAX_MEGAPIXELS};

/// Keys of a `decode` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Pixels a side of the result.
    side: usize,
    /// What happens to a file that is no sound image.
    #[serde(default)]
    on_error: OnError,
    /// Images of more than so many million pixels are refused.
    #[serde(default = "max_megapixels")]
    max_megapixels: u32,
    /// Whether masks are decoded too, as indices of classes: the input's column `mask`, which an `images` stage with `masks` has. Default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    mask: bool,
}

/// What happens to a file that is no sound image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The run fails, and names it.
    #[default]
    Fail,
    /// It is left out, and listed in the table `dropped`.
    Drop,
}

pub(crate) fn max_megapixels() -> u32 {
    MAX_MEGAPIXELS
}

/// The bound operator.
pub struct Decode {
    side: usize,
    on_error: OnError,
    max_megapixels: u32,
    mask: bool,
    schema: SchemaRef,
}

/// The largest side: a row of pixels must stay far below what a list can hold.
pub(crate) const MAX_SIDE: usize = 8192;

/// The columns of an images table that say where or what the bytes are, and not of what.
const CONSUMED: [&str; 3] = ["source", "digest", BYTES];

/// The columns that stay when an images table becomes pixels, `image_id` aside: not those that describe the file, whose size and
/// time are not the pixels'.
pub(crate) fn labels(table: &SchemaRef) -> Vec<Arc<Field>> {
    let consumed = |field: &Field| CONSUMED.contains(&field.name().as_str()) || images::describes_file(field);
    let stays = |field: &&Arc<Field>| field.name() != IMAGE_ID && !consumed(field);
    table.fields().iter().filter(stays).cloned().collect()
}

/// Complaints about `side` and `max_megapixels`.
pub(crate) fn check(side: usize, max_megapixels: u32) -> Vec<BindError> {
    let mut errors = Vec::new();
    if !(1..=MAX_SIDE).contains(&side) {
        errors.push(BindError::key("side", format!("side is {side}, and should be 1 to {MAX_SIDE} px")));
    }
    if max_megapixels == 0 {
        errors.push(BindError::key("max_megapixels", "max_megapixels is 0, so that every image is refused"));
    }
    errors
}

impl Operator for Decode {
    const NAME: &'static str = "decode";
    const SUMMARY: &'static str = "encoded images to pixels: short side resized, centre cropped";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", ""),
        ("pixels", "side x side x 3, red, green, blue, 0 to 255"),
        ("each other of the images", "as it is; columns that describe the file, such as `width`, are left out"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.decoded]
op = "decode"
input = "images"
side = 256
"#;
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] =
        &[Port::stream("images", &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(BYTES, ColumnKind::Bytes)])];
    const VIEW: bool = true;
    const NEUTRAL: &'static [&'static str] = &["on_error"];
    const LIMITS: Limits = &[("max_megapixels", 1e5)];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn faults(config: &Config) -> Vec<BindError> {
        check(config.side, config.max_megapixels)
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = Self::faults(&config);
        let Config { side, on_error, max_megapixels, mask } = config;
        let images = inputs.inputs.required("images");
        let is_mask = |field: &Field| masks::is_located(field) || field.data_type() == &DataType::Binary;
        if mask && !images.field_with_name(MASK).is_ok_and(is_mask) {
            let error =
                BindError::key("mask", "the input has no column `mask` that says where masks lie, or has their bytes");
            errors.push(error.help("`masks` in its `images` stage makes it, such as masks = \"SegmentationClass\""));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut fields = vec![Arc::new(Field::new(IMAGE_ID, DataType::Utf8, false)), Arc::new(pixels::field(side, side))];
        if mask {
            fields.push(Arc::new(masks::field(side, side)));
        }
        fields.extend(labels(images).into_iter().filter(|field| !(mask && field.name() == MASK)));
        Ok(Self { side, on_error, max_megapixels, mask, schema: Arc::new(Schema::new(fields)) })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, _: &str, port: &'static Port) -> Vec<String> {
        let columns = port.columns.iter().map(|column| column.name);
        columns.chain(self.mask.then_some(MASK)).map(str::to_owned).collect()
    }

    fn passes(&self) -> Vec<String> {
        let names = self.schema.fields().iter().map(|field| field.name().clone());
        names.filter(|name| name != pixels::PIXELS && !(self.mask && name == MASK)).collect()
    }

    fn refuses_drops(&self) -> bool {
        self.on_error == OnError::Fail
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(self))
    }
}

impl Map for Decode {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let (decoder, schema) = (Decoder::new(self.max_megapixels), self.schema.clone());
        Ok(Box::new(Worker { decoder, side: self.side, on_error: self.on_error, mask: self.mask, schema }))
    }
}

struct Worker {
    decoder: Decoder,
    side: usize,
    on_error: OnError,
    mask: bool,
    schema: SchemaRef,
}

/// Why a row's bytes are not there.
pub(crate) fn unread(scope: &Scope<'_>, row: usize) -> String {
    let known = scope.unread.iter().find(|(at, _)| *at == row);
    known.map_or_else(|| "there are no bytes".to_owned(), |(_, reason)| reason.clone())
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let (ids, encoded) = (images::ids(batch)?, bytes(batch, BYTES)?);
        let found = if self.mask { Some(bytes(batch, MASK)?) } else { None };
        let (area, length) = (self.side * self.side, self.side * self.side * 3);
        let mut out = vec![0; batch.num_rows() * length];
        let mut masks = Masks { indices: vec![0; found.map_or(0, |_| batch.num_rows() * area)], present: Vec::new() };
        let mut kept = Vec::with_capacity(batch.num_rows());
        let mut at = 0;
        for row in 0..batch.num_rows() {
            let slot = &mut out[at * length..(at + 1) * length];
            let decoded = if encoded.is_null(row) {
                Err(unread(scope, row))
            } else {
                self.decoder.square(encoded.value(row), self.side, slot)
            };
            let decoded = decoded.and_then(|image| match found {
                Some(found) => {
                    let mask = found.is_valid(row).then(|| found.value(row));
                    masks.push(mask, area, |mask, slot| self.decoder.mask(mask, image, self.side, slot))
                }
                None => Ok(()),
            });
            kept.push(decoded.is_ok());
            match decoded {
                Ok(()) => at += 1,
                Err(reason) => refuse(self.on_error, ids.value(row), reason, scope)?,
            }
        }
        out.truncate(at * length);
        masks.indices.truncate(at * area);
        let all = at == batch.num_rows();
        let kept = BooleanArray::from(kept);
        let columns = self.schema.fields().iter().map(|field| -> Result<ArrayRef, RunError> {
            if field.name() == pixels::PIXELS {
                return Ok(pixels::array(std::mem::take(&mut out), self.side, self.side));
            }
            if self.mask && field.name() == MASK {
                let Masks { indices, present } = std::mem::take(&mut masks);
                return Ok(masks::array(indices, present, self.side, self.side)?);
            }
            let whole = column(batch, field.name())?;
            Ok(if all { whole.clone() } else { filter(whole, &kept)? })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// The masks of the rows that are kept so far.
#[derive(Default)]
struct Masks {
    indices: Vec<u8>,
    /// Which rows have one.
    present: Vec<bool>,
}

impl Masks {
    /// The next row's; `square` writes its `area` indices.
    fn push(
        &mut self,
        mask: Option<&[u8]>,
        area: usize,
        square: impl FnOnce(&[u8], &mut [u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let at = self.present.len() * area;
        let slot = &mut self.indices[at..at + area];
        match mask {
            Some(mask) => square(mask, slot)?,
            // One that failed may have left something.
            None => slot.fill(0),
        }
        self.present.push(mask.is_some());
        Ok(())
    }
}

/// Drops an image or fails for it.
pub(crate) fn refuse(on_error: OnError, image_id: &str, reason: String, scope: &mut Scope<'_>) -> Result<(), RunError> {
    let image_id = image_id.to_owned();
    match on_error {
        OnError::Fail => Err(RunError::Row { image_id, reason }),
        OnError::Drop => {
            scope.dropped.push(Dropped { image_id, reason });
            Ok(())
        }
    }
}

#[cfg(test)]
mod with_masks;
#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, RgbImage};

    use super::*;

    /// Each byte is that of torchvision's `Resize` and `CenterCrop` on a Pillow image, or next to it: the two resizers round otherwise.
    #[test]
    fn squares_are_pillows() {
        for (width, height, expected) in SQUARES {
            let pixels = (0..width as usize * height as usize * 3).map(|i| ((i * i * 31 + i * 17) % 251) as u8).collect();
            let (mut png, mut found) = (Cursor::new(Vec::new()), [0; 108]);
            RgbImage::from_raw(width, height, pixels).unwrap().write_to(&mut png, ImageFormat::Png).unwrap();
            Decoder::new(1).square(png.get_ref(), 6, &mut found).unwrap();
            let close = found.iter().zip(expected).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 1);
            assert!(close, "{width} x {height}: {found:?}, not {expected:?}");
        }
    }

    /// Columns and rows of an image, and its square of 6 x 6 (`tests/peers/golden/crops.py`).
    #[rustfmt::skip]
    const SQUARES: [(u32, u32, [u8; 108]); 3] = [
        (31, 20, [
            156, 135, 115, 139, 130, 105, 127, 139, 103, 113, 129, 127, 104, 139, 144, 113, 126, 150,
            145, 122, 106, 131, 138, 105, 135, 151, 116, 117, 139, 134, 135, 142, 139, 127, 134, 130,
            145, 130, 122, 146, 141, 131, 136, 129, 127, 128, 141, 100, 107, 140, 139, 97, 144, 137,
            129, 102, 126, 145, 124, 110, 140, 142, 95, 125, 147, 119, 104, 130, 130, 132, 137, 142,
            143, 107, 129, 141, 128, 107, 132, 136, 134, 139, 142, 130, 129, 146, 118, 109, 145, 142,
            142, 142, 142, 134, 115, 126, 153, 137, 108, 139, 130, 104, 118, 143, 121, 99, 129, 133,
        ]),
        (20, 37, [
            126, 141, 102, 129, 128, 125, 130, 125, 116, 119, 119, 133, 140, 137, 132, 140, 128, 144,
            132, 134, 150, 137, 106, 123, 131, 126, 131, 122, 121, 132, 118, 131, 117, 120, 136, 145,
            128, 150, 132, 133, 146, 135, 115, 131, 135, 124, 123, 124, 122, 132, 121, 135, 119, 121,
            124, 135, 144, 137, 124, 125, 139, 136, 137, 138, 134, 122, 121, 124, 127, 124, 114, 124,
            119, 126, 131, 134, 134, 128, 129, 128, 140, 140, 129, 124, 125, 136, 132, 132, 126, 118,
            123, 115, 126, 126, 125, 120, 117, 134, 139, 136, 136, 143, 126, 121, 138, 144, 132, 125,
        ]),
        (5, 4, [
            0, 48, 158, 45, 56, 129, 118, 82, 108, 214, 132, 112, 171, 43, 156, 152, 85, 116,
            101, 112, 185, 83, 129, 164, 112, 129, 154, 219, 100, 168, 186, 111, 133, 178, 145, 121,
            176, 180, 203, 121, 183, 193, 116, 156, 197, 207, 80, 225, 188, 165, 114, 194, 183, 116,
            73, 194, 169, 124, 114, 170, 157, 76, 188, 142, 134, 229, 138, 112, 131, 156, 97, 75,
            42, 156, 81, 129, 134, 94, 181, 122, 125, 150, 134, 180, 159, 97, 96, 138, 83, 90,
            37, 114, 2, 132, 172, 23, 195, 188, 64, 174, 121, 130, 193, 94, 56, 129, 91, 114,
        ]),
    ];
}
