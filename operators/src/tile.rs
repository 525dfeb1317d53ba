//! `tile`: encoded images to pixels, a grid of crops an image, in place of `decode`.
//!
//! Input: an images table, whose bytes the engine reads. Output: `image_id` (the photo's, `#`, row and column of the crop),
//! [`pixels`](tessera_schemas::pixels) of `side x side x 3`, `photo` (the image that the crop comes from), and the table's further
//! columns. The whole image is decoded, resized to the short side `scale` if that is given, and cut into whole crops, `stride`
//! apart, the grid in the middle; they come in batches that are bounded in bytes. Config: `side`, `stride`, `scale`, `on_error`, `max_megapixels`. Bit-exact for any batching.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{BYTES, IMAGE_ID, bytes, column, images, pixels};

use crate::config::Limits;
use crate::decode::{OnError, check, labels, max_megapixels, refuse, unread};
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Inputs, Map, MapFn, Operator, Port, RunError, Scope,
};
use crate::picture::{Decoder, Photo};

/// Keys of a `tile` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Pixels a side of a crop.
    side: usize,
    /// Pixels from one crop to the next. Default: `side`.
    #[serde(default)]
    stride: Option<usize>,
    /// Short side that images are resized to before they are cut. Default: they are cut as they are.
    #[serde(default)]
    scale: Option<usize>,
    /// What happens to a file that is no sound image, or smaller than a crop.
    #[serde(default)]
    on_error: OnError,
    /// Images of more than so many million pixels are refused.
    #[serde(default = "max_megapixels")]
    max_megapixels: u32,
}

/// Pixels that are handed on at once: small photos may give thousands of large crops.
const PIECE_BYTES: usize = 8 << 20;

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
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", "the photo's id, `#`, the row and the column of the crop: `a.jpg#000,003`"),
        ("pixels", "side x side x 3, red, green, blue, 0 to 255"),
        ("photo", "the image that the crop comes from"),
        ("each other of the images", "as it is; columns that describe the file, such as `width`, are left out"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.tiles]
op = "tile"
input = "images"
side = 64
scale = 256
"#;
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] =
        &[Port::stream("images", &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(BYTES, ColumnKind::Bytes)])];
    const VIEW: bool = true;
    const MULTIPLIES: bool = true;
    const NEUTRAL: &'static [&'static str] = &["on_error"];
    const LIMITS: Limits = &[("stride", 1e6), ("scale", 1e5), ("max_megapixels", 1e5)];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn faults(config: &Config) -> Vec<BindError> {
        let mut errors = check(config.side, config.max_megapixels);
        if config.stride == Some(0) {
            errors.push(BindError::key("stride", "stride is 0, and crops must be at least 1 px apart"));
        }
        if let Some(scale) = config.scale.filter(|&scale| scale < config.side) {
            let message = format!("scale is {scale} px, and a crop needs side = {}", config.side);
            errors.push(BindError::key("scale", message));
        }
        errors
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let errors = Self::faults(&config);
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

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(self))
    }
}

impl Map for Tile {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let decoder = Decoder::new(self.config.max_megapixels);
        let (config, schema) = (self.config.clone(), self.schema.clone());
        Ok(Box::new(Worker { decoder, config, schema, photos: None, row: 0, photo: None, crop: 0 }))
    }

    fn keeps_ids(&self) -> bool {
        !Self::MULTIPLIES
    }
}

struct Worker {
    decoder: Decoder,
    config: Config,
    schema: SchemaRef,
    /// The batch whose photos are not all cut up yet.
    photos: Option<RecordBatch>,
    /// Which photo comes next, of the batch's rows.
    row: usize,
    /// Its pixels, if they are kept.
    photo: Option<Photo>,
    /// Which of its crops comes next, row by row.
    crop: usize,
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        (self.photos, self.row, self.photo, self.crop) = (Some(batch.clone()), 0, None, 0);
        self.go_on(scope)
    }

    fn is_done(&self) -> bool {
        self.photos.is_none()
    }

    /// The next crops, [`PIECE_BYTES`] of pixels at most, but one at least.
    fn go_on(&mut self, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let Some(batch) = self.photos.take() else { return Ok(RecordBatch::new_empty(self.schema.clone())) };
        let (ids, encoded) = (images::ids(&batch)?, bytes(&batch, BYTES)?);
        let side = self.config.side;
        let most = (PIECE_BYTES / (side * side * 3)).max(1);
        let (mut crops, mut names, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        while self.row < batch.num_rows() && names.len() < most {
            let photo = match self.photo.take() {
                Some(photo) => Ok(photo),
                None if encoded.is_null(self.row) => Err(unread(scope, self.row)),
                None => self.decoder.whole(encoded.value(self.row), self.config.scale),
            };
            let fits = photo.and_then(|photo| {
                let [width, height] = photo.size;
                let small = width < side || height < side;
                if small { Err(format!("{width}x{height} is smaller than a crop of {side} px")) } else { Ok(photo) }
            });
            match fits {
                Ok(photo) => {
                    let grid = Grid::of(photo.size, &self.config);
                    let until = grid.crops().min(self.crop + most - names.len());
                    for (x, y) in (self.crop..until).map(|crop| grid.place(crop)) {
                        grid.cut(&photo, (x, y), &mut crops);
                        names.push(format!("{}#{y:03},{x:03}", ids.value(self.row)));
                        rows.push(self.row as u32);
                    }
                    self.crop = until;
                    if until < grid.crops() {
                        // Without memory to keep it in, it is decoded again.
                        self.photo = photo.keep();
                        break;
                    }
                }
                Err(reason) => refuse(self.config.on_error, ids.value(self.row), reason, scope)?,
            }
            (self.row, self.crop) = (self.row + 1, 0);
        }
        let rows = UInt32Array::from(rows);
        let columns = self.schema.fields().iter().map(|field| -> Result<ArrayRef, RunError> {
            Ok(match field.name().as_str() {
                IMAGE_ID => Arc::new(StringArray::from(std::mem::take(&mut names))),
                pixels::PIXELS => pixels::array(std::mem::take(&mut crops), side, side),
                PHOTO => take(column(&batch, IMAGE_ID)?, &rows, None)?,
                other => take(column(&batch, other)?, &rows, None)?,
            })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let piece = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.photos = (self.row < batch.num_rows()).then_some(batch);
        Ok(piece)
    }
}

/// Where a photo's crops lie.
struct Grid {
    side: usize,
    stride: usize,
    /// Crops across and down.
    count: [usize; 2],
    /// Columns and rows before the first.
    margin: [usize; 2],
}

impl Grid {
    /// The grid in the middle of a photo, which is at least as large as a crop.
    fn of(size: [usize; 2], config: &Config) -> Self {
        let (side, stride) = (config.side, config.stride.unwrap_or(config.side));
        let count = size.map(|length| (length - side) / stride + 1);
        let margin = [0, 1].map(|axis| (size[axis] - side - (count[axis] - 1) * stride) / 2);
        Self { side, stride, count, margin }
    }

    fn crops(&self) -> usize {
        self.count[0] * self.count[1]
    }

    /// Column and row of a crop in the grid.
    fn place(&self, crop: usize) -> (usize, usize) {
        (crop % self.count[0], crop / self.count[0])
    }

    /// Appends a crop's pixels.
    fn cut(&self, photo: &Photo, (x, y): (usize, usize), out: &mut Vec<u8>) {
        let (left, top) = (self.margin[0] + x * self.stride, self.margin[1] + y * self.stride);
        for line in top..top + self.side {
            let start = (line * photo.size[0] + left) * 3;
            out.extend_from_slice(&photo.pixels[start..start + self.side * 3]);
        }
    }
}

/// The photo that a crop of that `image_id` comes from; none if it names no crop.
pub fn photo(image_id: &str) -> Option<&str> {
    let (photo, place) = image_id.rsplit_once('#')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    place.split_once(',').is_some_and(|(row, column)| is_number(row) && is_number(column)).then_some(photo)
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

    fn config(side: usize, stride: usize) -> Config {
        Config { side, stride: Some(stride), scale: None, on_error: OnError::Fail, max_megapixels: 1 }
    }

    #[test]
    fn crops_lie_in_the_middle() {
        let offsets = |length, side, stride| {
            let grid = Grid::of([length, side], &config(side, stride));
            (0..grid.crops()).map(|crop| grid.margin[0] + grid.place(crop).0 * stride).collect::<Vec<_>>()
        };
        assert_eq!(offsets(100, 30, 30), [5, 35, 65]);
        assert_eq!(offsets(30, 30, 7), [0]);
        assert_eq!(offsets(64, 32, 16), [0, 16, 32]);
        assert_eq!(offsets(63, 32, 16), [7, 23]);
    }

    #[test]
    fn crops_come_in_pieces_that_are_bounded_and_make_the_whole() {
        let (seen, ids) = (crate::picture::MAX_MEGAPIXELS, ["a", "b", "bad", "c"]);
        let png = |seed: u8| {
            let image = image::RgbImage::from_fn(24, 20, |x, y| image::Rgb([x as u8 * seed, y as u8 * 9, seed]));
            let mut bytes = std::io::Cursor::new(Vec::new());
            image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            bytes.into_inner()
        };
        let files = [png(3), png(5), b"no image".to_vec(), png(7)];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            Arc::new(arrow::array::BinaryArray::from_iter_values(&files)),
        ];
        let schema = Arc::new(Schema::new(vec![
            Field::new(IMAGE_ID, DataType::Utf8, false),
            Field::new(BYTES, DataType::Binary, true),
        ]));
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let json = serde_json::json!({"side": 100, "stride": 16, "scale": 400, "on_error": "drop"});
        let map = crate::trial::bind::<Tile>(json, &[("images", schema)]).unwrap();
        let mut worker = Map::open(&map, &Inputs::default()).unwrap();
        let (mut dropped, mut pieces) = (Vec::new(), Vec::new());
        let mut scope = crate::trial::scope(&mut dropped);
        pieces.push(worker.call(&batch, &mut scope).unwrap());
        while !worker.is_done() {
            pieces.push(worker.go_on(&mut scope).unwrap());
        }
        assert!(worker.go_on(&mut scope).unwrap().num_rows() == 0);
        assert_eq!(dropped.iter().map(|row| row.image_id.as_str()).collect::<Vec<_>>(), ["bad"]);
        let length = 100 * 100 * 3;
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.num_rows() * length <= PIECE_BYTES));
        let whole = arrow::compute::concat_batches(&pieces[0].schema(), &pieces).unwrap();
        let made = pixels::Pixels::of(&whole).unwrap();
        let mut row = 0;
        for (id, bytes) in ids.iter().zip(&files).filter(|(id, _)| **id != "bad") {
            let photo = Decoder::new(seen).whole(bytes, Some(400)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(photo.size, [480, 400]);
            // 24 of 480 - 100 = 380 columns, 19 of 300 rows; 12 of each are left over.
            for (y, x) in (0..19).flat_map(|y| (0..24).map(move |x| (y, x))) {
                assert_eq!(made.ids.value(row), format!("{id}#{y:03},{x:03}"));
                let crop = made.row(row);
                for line in [0, 57, 99] {
                    let start = ((6 + y * 16 + line) * 480 + 6 + x * 16) * 3;
                    assert_eq!(crop[line * 300..(line + 1) * 300], photo.pixels[start..start + 300], "{id} {y} {x} {line}");
                }
                row += 1;
            }
        }
        assert_eq!(row, whole.num_rows());
    }
}
