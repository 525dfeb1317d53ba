//! `augment`: another view of each image in each epoch, between `decode` and `train`.
//!
//! Input: `images` (`image_id`, `pixels`). Output: the same table with pixels of `side x side`. In this order, as torchvision does on
//! Pillow images: `RandomResizedCrop`, `RandomHorizontalFlip`, `ColorJitter`, `RandomGrayscale`. Config: below; by default
//! crop and flip are on, colours stay. `sql` and `show` see epoch 0. A [`mask`](tessera_schemas::masks) of the input is cropped and
//! mirrored as its image is: each pixel takes the index of the one in which its middle lies, as a resize by Pillow's nearest neighbour does.
//!
//! What is drawn is a function of (seed, image_id, epoch), so that rows are exact for any batching and threads. Colours are computed
//! by Pillow's formulas, bit by bit; the resize is antialiased by a triangle filter, and differs from Pillow's by rounding.

mod colour;
mod crop;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::masks::{self, MASK};
use tessera_schemas::pixels::{self, PIXELS, Pixels};
use tessera_schemas::{IMAGE_ID, column};

use crate::config::Limits;
use crate::decode::MAX_SIDE;
use crate::luma::take_colours;
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Inputs, Map, MapFn, Operator, Port, RunError, Scope,
};
use crate::random::Draw;
use colour::Jitter;
use crop::{Cropper, Window};

const IMAGES: &str = "images";

/// Keys of an `augment` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Pixels a side of the result. Default: the shorter side of the input.
    #[serde(default)]
    side: Option<usize>,
    /// The smallest and the largest share of the image's area that a crop takes. With `scale = [1.0, 1.0]` and `ratio = [1.0, 1.0]` a
    /// crop is the whole of a square image.
    #[serde(default = "scale")]
    scale: [f64; 2],
    /// The smallest and the largest ratio of a crop's width to its height.
    #[serde(default = "ratio")]
    ratio: [f64; 2],
    /// The probability of a mirror image.
    #[serde(default = "flip")]
    flip: f64,
    /// The probability that an image's colours are changed, by `brightness`, `contrast`, `saturation` and `hue`.
    #[serde(default = "jitter")]
    jitter: f64,
    /// The brightness is multiplied by a random number from 1 - `brightness` to 1 + `brightness`.
    #[serde(default)]
    brightness: f64,
    /// The distance of each pixel from the mean gray is multiplied by a random number from 1 - `contrast` to 1 + `contrast`.
    #[serde(default)]
    contrast: f64,
    /// The distance of each pixel from its own gray is multiplied by a random number from 1 - `saturation` to 1 + `saturation`.
    #[serde(default)]
    saturation: f64,
    /// The hue is turned by -`hue` to `hue` of a full circle; at most 0.5.
    #[serde(default)]
    hue: f64,
    /// The probability of a gray image.
    #[serde(default)]
    gray: f64,
}

fn scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

fn flip() -> f64 {
    0.5
}

fn jitter() -> f64 {
    1.0
}

impl Config {
    fn faults(&self) -> Vec<BindError> {
        let mut faults = Vec::new();
        let mut refuse = |key: &str, message: String| faults.push(BindError::key(key, message));
        if let Some(side) = self.side.filter(|side| !(1..=MAX_SIDE).contains(side)) {
            refuse("side", format!("side is {side}, and should be 1 to {MAX_SIDE} px"));
        }
        let [low, high] = self.scale;
        if !(low > 0.0 && low <= high && high <= 1.0) {
            refuse(
                "scale",
                format!("[{low}, {high}] should be two shares of the area, above 0, at most 1, the smaller first"),
            );
        }
        let [low, high] = self.ratio;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            refuse("ratio", format!("[{low}, {high}] should be two ratios of width to height, above 0, the smaller first"));
        }
        for (key, value) in [("flip", self.flip), ("jitter", self.jitter), ("gray", self.gray)] {
            if !(0.0..=1.0).contains(&value) {
                refuse(key, format!("{value} is no probability: 0 to 1"));
            }
        }
        let strengths = [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        for (key, value) in strengths {
            if !(value >= 0.0 && value.is_finite()) {
                refuse(key, format!("{value} should be at least 0"));
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            refuse("hue", format!("{} should be 0 to 0.5 of the circle", self.hue));
        }
        faults
    }
}

/// The bound operator.
#[derive(Debug)]
pub struct Augment {
    config: Config,
    side: usize,
    /// Whether there are masks.
    masks: bool,
    schema: SchemaRef,
}

impl Operator for Augment {
    const NAME: &'static str = "augment";
    const SUMMARY: &'static str = "pixels, cropped, mirrored and recoloured at random in each epoch";
    const OUTPUT: &'static [(&'static str, &'static str)] =
        &[("each of the input", "as it is; only `pixels` are others: side x side x 3, another view in each epoch")];
    const EXAMPLE: &'static str = r#"
[stage.views]
op = "augment"
input = "decoded"
side = 224
brightness = 0.4
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] =
        &[Port::stream(IMAGES, &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(PIXELS, ColumnKind::Octets)])];
    const SEEDED: bool = true;
    const VIEW: bool = true;
    const LIMITS: Limits = &[("ratio", 1e3), ("brightness", 1e3), ("contrast", 1e3), ("saturation", 1e3)];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn faults(config: &Config) -> Vec<BindError> {
        config.faults()
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut faults = Self::faults(&config);
        let images = inputs.inputs.required(IMAGES);
        let size = pixels::size(images).map_err(|error| {
            faults.push(BindError::input(IMAGES, error.to_string()).help("`decode` and `tile` make such a table"));
        });
        let (Ok((height, width)), true) = (size, faults.is_empty()) else { return Err(faults) };
        let side = config.side.unwrap_or(height.min(width));
        let masks = images.fields().iter().any(|field| masks::is_of(field, height, width));
        let replaced = |field: &Arc<Field>| match field.name().as_str() {
            PIXELS => Arc::new(pixels::field(side, side)),
            MASK if masks => Arc::new(masks::field(side, side)),
            _ => field.clone(),
        };
        let schema = Arc::new(Schema::new(images.fields().iter().map(replaced).collect::<Vec<_>>()));
        Ok(Self { config, side, masks, schema })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, _: &str, port: &'static Port) -> Vec<String> {
        let columns = port.columns.iter().map(|column| column.name);
        columns.chain(self.masks.then_some(MASK)).map(str::to_owned).collect()
    }

    fn passes(&self) -> Vec<String> {
        let made = |name: &str| name == PIXELS || self.masks && name == MASK;
        self.schema.fields().iter().map(|field| field.name().clone()).filter(|name| !made(name)).collect()
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut settled = vec![("side", self.side.into())];
        if self.masks {
            // Earlier versions handed on such a column as it was.
            settled.push(("mask", true.into()));
        }
        settled
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(Views { augment: self, seed: context.seed }))
    }
}

struct Views {
    augment: Augment,
    seed: u64,
}

impl Map for Views {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let Augment { config, side, masks, schema } = &self.augment;
        let (config, schema) = (config.clone(), schema.clone());
        Ok(Box::new(Worker { config, side: *side, masks: *masks, schema, seed: self.seed, cropper: Cropper::default() }))
    }
}

struct Worker {
    config: Config,
    side: usize,
    masks: bool,
    schema: SchemaRef,
    seed: u64,
    cropper: Cropper,
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let images = Pixels::of(batch)?;
        let side = self.side;
        let mut found = if self.masks { Some(masks::indices(batch)?) } else { None };
        let (mut indices, mut present) = (Vec::new(), Vec::new());
        let mut out = vec![0; images.len() * side * side * 3];
        for (row, view) in out.chunks_exact_mut(side * side * 3).enumerate() {
            let plan =
                Plan::draw(&self.config, [images.width, images.height], self.seed, images.ids.value(row), scope.epoch);
            self.cropper.resize(images.row(row), images.width, plan.window, side, view).map_err(|reason| {
                let image_id = images.ids.value(row).to_owned();
                RunError::Row { image_id, reason }
            })?;
            plan.finish(side, view);
            if let Some(mask) = found.as_mut().and_then(Iterator::next) {
                present.push(mask.is_some());
                match mask {
                    Some(mask) => crop::mask(mask, images.width, plan.window, plan.mirrored, side, &mut indices),
                    None => indices.resize(present.len() * side * side, 0),
                }
            }
        }
        let columns = self.schema.fields().iter().map(|field| -> Result<ArrayRef, RunError> {
            Ok(match field.name().as_str() {
                PIXELS => pixels::array(std::mem::take(&mut out), side, side),
                MASK if self.masks => masks::array(std::mem::take(&mut indices), std::mem::take(&mut present), side, side)?,
                other => column(batch, other)?.clone(),
            })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// What is done to one image in one epoch.
#[derive(Debug, Clone, PartialEq)]
struct Plan {
    window: Window,
    mirrored: bool,
    jitter: Option<Jitter>,
    gray: bool,
}

impl Plan {
    /// Draws one for an image of that width and height. Each purpose has a stream of its own: changing a key changes what the key is
    /// about, and nothing else.
    fn draw(config: &Config, size: [usize; 2], seed: u64, image_id: &str, epoch: u64) -> Self {
        let stream = |purpose| Draw::new(seed, "augment", purpose, image_id, epoch);
        let mut colours = stream("jitter");
        let jittered = colours.chance(config.jitter);
        let strengths = [config.brightness, config.contrast, config.saturation, config.hue];
        Self {
            window: Window::draw(&mut stream("crop"), size, config.scale, config.ratio),
            mirrored: stream("flip").chance(config.flip),
            jitter: jittered.then(|| Jitter::draw(&mut colours, strengths)),
            gray: stream("gray").chance(config.gray),
        }
    }

    /// All that comes behind the resize, in place.
    fn finish(&self, side: usize, view: &mut [u8]) {
        if self.mirrored {
            crop::mirror(view, side);
        }
        if let Some(jitter) = &self.jitter {
            jitter.apply(view);
        }
        if self.gray {
            take_colours(view);
        }
    }
}

#[cfg(test)]
mod tests;
