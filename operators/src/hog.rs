//! `hog`: histograms of oriented gradients, features that need no network (Dalal, Triggs, CVPR 2005).
//!
//! Input: decoded `images`. Output: [`features`](tessera_schemas::features), `image_id` and one vector an image. At each pixel the
//! channel with the longest gradient (the first of equals) votes for one of `orientations` unsigned directions, as much as its
//! gradient is long. Votes are averaged over cells of `cell x cell` pixels; pixels that fill no cell are left out. Each square of
//! `block x block` cells, one cell apart, is normalised by itself. The vector is
//! `block rows x block columns x block x block x orientations`, row by row.
//!
//! That, the defaults, and the values to 1e-5, are `skimage.feature.hog(pixels, channel_axis=-1)`; `gray` is the same of
//! `rgb2gray(pixels)`. There is no interpolation between cells or directions, and no Gaussian window.
//!
//! Config: `orientations`, `cell`, `block`, `norm`, `sqrt`, `gray`. Bit-exact for any batching. A gradient that lies exactly
//! between two directions (at 45 degrees, where `orientations` is a multiple of 4) goes to the larger angle. With `sqrt` there are
//! more of those (roots of 3 and 1 lie at 60 degrees), and with `gray` sums are rounded first: there the last bit of an arc tangent
//! decides, in scikit-image too, and its numpy may come to another.

mod histogram;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::IMAGE_ID;
use tessera_schemas::features::{self, FEATURE};
use tessera_schemas::pixels::{self, PIXELS, Pixels};

use crate::config::Limits;
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Inputs, Map, MapFn, Operator, Port, RunError, Scope,
};
use crate::vectors;
use histogram::{Bins, Histograms};

const IMAGES: &str = "images";
/// Directions are numbered by a byte, and one of less than a degree tells nothing.
const MOST_ORIENTATIONS: usize = 180;
/// A vector of more numbers than that is a mistake: it takes 64 MiB.
const LONGEST_VECTOR: usize = 1 << 24;
/// Keeps empty blocks from being divided by nothing.
const EPSILON: f64 = 1e-5;
/// What `l2-hys` cuts values at (Lowe, IJCV 2004, section 6.1).
const CLIP: f64 = 0.2;

/// Keys of a `hog` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many directions, over half a turn, are told apart.
    #[serde(default = "orientations")]
    orientations: usize,
    /// A cell's side in pixels.
    #[serde(default = "cell")]
    cell: usize,
    /// A block's side in cells.
    #[serde(default = "block")]
    block: usize,
    /// How blocks are normalised.
    #[serde(default)]
    norm: Norm,
    /// Whether gradients are of the pixels' square roots, against shadows and light.
    #[serde(default)]
    sqrt: bool,
    /// Whether gradients are of the luminance instead of the strongest channel.
    #[serde(default)]
    gray: bool,
}

/// How blocks are normalised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// By the Euclidean norm; then values are cut at 0.2, and divided by the norm again.
    #[default]
    L2Hys,
    /// By the Euclidean norm.
    L2,
    /// By the sum.
    L1,
    /// By the sum, and then the square root.
    L1Sqrt,
}

fn orientations() -> usize {
    9
}

fn cell() -> usize {
    8
}

fn block() -> usize {
    3
}

/// The bound operator.
pub struct Hog {
    config: Config,
    height: usize,
    width: usize,
    bins: Arc<Bins>,
    schema: SchemaRef,
}

/// Complaints about the config alone.
fn check(config: &Config) -> Vec<BindError> {
    let mut errors = Vec::new();
    if !(1..=MOST_ORIENTATIONS).contains(&config.orientations) {
        let message = format!("orientations is {}, and should be 1 to {MOST_ORIENTATIONS}", config.orientations);
        errors.push(BindError::key("orientations", message));
    }
    for (key, side, unit) in [("cell", config.cell, "pixel"), ("block", config.block, "cell")] {
        if side == 0 {
            errors.push(BindError::key(key, format!("{key} is 0, and should be at least one {unit}")));
        }
    }
    errors
}

/// The length of an image's vector.
fn dimension(config: &Config, height: usize, width: usize) -> Result<usize, BindError> {
    let Config { orientations, cell, block, .. } = *config;
    let (rows, columns) = (height / cell, width / cell);
    if block > rows || block > columns {
        let gives = format!("images of {width}x{height} px give {columns}x{rows} cells of {cell} px");
        let side = block * cell;
        let help = match height.min(width) / block {
            0 => format!("blocks of {block} cells need images of at least {side}x{side} px"),
            most => format!("images of at least {side}x{side} px would do, or a `cell` of at most {most} px"),
        };
        return Err(BindError::input(IMAGES, format!("{gives}, and a block needs {block}x{block}")).help(help));
    }
    // Below 2^13 pixels a side and 180 directions, the product fits 64 bits with room.
    let length = (rows - block + 1) * (columns - block + 1) * block * block * orientations;
    if length > LONGEST_VECTOR {
        let message =
            format!("images of {width}x{height} px give vectors of {length} numbers, and {LONGEST_VECTOR} is the limit");
        return Err(
            BindError::input(IMAGES, message).help("larger cells, or smaller blocks or images, give shorter vectors")
        );
    }
    Ok(length)
}

impl Operator for Hog {
    const NAME: &'static str = "hog";
    const SUMMARY: &'static str = "features without a network: histograms of oriented gradients";
    const OUTPUT: &'static [(&'static str, &'static str)] =
        &[("image_id", ""), ("feature", "block rows x block columns x block x block x orientations values")];
    const EXAMPLE: &'static str = r#"
[stage.features]
op = "hog"
input = "decoded"
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] =
        &[Port::stream(IMAGES, &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(PIXELS, ColumnKind::Octets)])];
    const LIMITS: Limits = &[("orientations", 360.0), ("cell", 8192.0), ("block", 8192.0)];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn faults(config: &Config) -> Vec<BindError> {
        check(config)
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = Self::faults(&config);
        let size = pixels::size(inputs.inputs.required(IMAGES));
        let size = size.map_err(|error| BindError::input(IMAGES, error.to_string()).help("`decode` makes such a table"));
        let (height, width, length) = match size {
            Ok((height, width)) if errors.is_empty() => match dimension(&config, height, width) {
                Ok(length) => (height, width, length),
                Err(error) => return Err(vec![error]),
            },
            Ok(_) => return Err(errors),
            Err(error) => {
                errors.push(error);
                return Err(errors);
            }
        };
        let bins = Arc::new(Bins::new(config.orientations));
        Ok(Self { config, height, width, bins, schema: features::schema([(FEATURE, length)]) })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn passes(&self) -> Vec<String> {
        vec![IMAGE_ID.to_owned()]
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Map>, RunError> {
        Ok(Box::new(self))
    }
}

impl Map for Hog {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let Config { cell, block, orientations, norm, sqrt, gray } = self.config;
        let histograms = Histograms::new(self.bins.clone(), self.height, self.width, cell, sqrt, gray);
        let scratch = vec![0.0; block * block * orientations];
        let length = features::dimension(&self.schema, FEATURE)?;
        Ok(Box::new(Worker { histograms, block, norm, scratch, length, schema: self.schema.clone() }))
    }
}

struct Worker {
    histograms: Histograms,
    block: usize,
    norm: Norm,
    /// One block.
    scratch: Vec<f64>,
    length: usize,
    schema: SchemaRef,
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, _: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let images = Pixels::of(batch)?;
        let mut vectors = vec![0.0; images.len() * self.length];
        for (row, vector) in vectors.chunks_exact_mut(self.length).enumerate() {
            self.describe(images.row(row), vector);
        }
        vectors::table(batch, &self.schema, [vectors])
    }
}

impl Worker {
    /// The vector of `H x W x 3` bytes.
    fn describe(&mut self, pixels: &[u8], vector: &mut [f32]) {
        let (rows, columns) = self.histograms.cells();
        let across = columns - self.block + 1;
        let line = self.scratch.len() / self.block;
        let (cells, orientations) = (self.histograms.of(pixels), line / self.block);
        for (at, out) in vector.chunks_exact_mut(self.scratch.len()).enumerate() {
            let (top, left) = (at / across, at % across);
            debug_assert!(top + self.block <= rows);
            for (y, part) in self.scratch.chunks_exact_mut(line).enumerate() {
                let start = ((top + y) * columns + left) * orientations;
                part.copy_from_slice(&cells[start..start + line]);
            }
            normalise(&mut self.scratch, self.norm, out);
        }
    }
}

/// Normalises a block of histograms, none below 0, into `out`.
fn normalise(block: &mut [f64], norm: Norm, out: &mut [f32]) {
    let sum = |block: &[f64]| total(block, |value| value);
    let euclid = |block: &[f64]| (total(block, |value| value * value) + EPSILON * EPSILON).sqrt();
    let scale = match norm {
        Norm::L2Hys => {
            let first = 1.0 / euclid(block);
            block.iter_mut().for_each(|value| *value = (*value * first).min(CLIP));
            1.0 / euclid(block)
        }
        Norm::L2 => 1.0 / euclid(block),
        Norm::L1 | Norm::L1Sqrt => 1.0 / (sum(block) + EPSILON),
    };
    for (value, out) in block.iter().zip(out) {
        let value = value * scale;
        *out = if norm == Norm::L1Sqrt { value.sqrt() } else { value } as f32;
    }
}

/// A sum in four strands, which are added up in one order whatever the machine: so it can be vectorised.
fn total(values: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    let mut strands = [0.0; 4];
    let chunks = values.chunks_exact(4);
    let rest: f64 = chunks.remainder().iter().map(|&value| term(value)).sum();
    for chunk in chunks {
        strands.iter_mut().zip(chunk).for_each(|(strand, &value)| *strand += term(value));
    }
    (strands[0] + strands[1]) + (strands[2] + strands[3]) + rest
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use arrow::datatypes::{DataType, Field, Schema};
    use serde_json::json;

    use super::*;
    use crate::operator::At;
    use crate::trial;

    /// Red, green and blue of a made image, 13 x 17 pixels, the golden values' input.
    fn image() -> Vec<u8> {
        let byte = |x: usize, y: usize, c: usize| (x * x * 3 + y * y * 5 + x * y * 7 + c * (x * 11 + y * 2) + c * 37) as u8;
        let pixel = |y: usize, x: usize| (0..3).map(move |c| byte(x, y, c));
        (0..13).flat_map(|y| (0..17).flat_map(move |x| pixel(y, x))).collect()
    }

    fn schema(height: usize, width: usize) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(IMAGE_ID, DataType::Utf8, false), pixels::field(height, width)]))
    }

    fn bind(config: serde_json::Value, height: usize, width: usize) -> Result<Hog, Vec<BindError>> {
        trial::bind::<Hog>(config, &[(IMAGES, schema(height, width))])
    }

    fn run(config: serde_json::Value, images: &[Vec<u8>], (height, width): (usize, usize)) -> Vec<f32> {
        let operator = bind(config, height, width).unwrap();
        let ids = StringArray::from_iter_values((0..images.len()).map(|at| format!("{at}.png")));
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(ids), pixels::array(images.concat(), height, width)];
        let batch = RecordBatch::try_new(schema(height, width), columns).unwrap();
        let made = trial::call_worker(&mut *operator.open(&Inputs::default()).unwrap(), &batch).unwrap();
        assert_eq!((made.schema(), made.num_rows()), (operator.schema(), images.len()));
        tessera_schemas::vector(&made, FEATURE).unwrap().0.to_vec()
    }

    /// Values of scikit-image (`tests/peers/golden/hog.py`).
    #[test]
    fn equals_scikit_image() {
        for (config, length, first, sum) in GOLDEN {
            let vector = run(serde_json::from_str(config).unwrap(), &[image()], (13, 17));
            assert_eq!(vector.len(), length, "{config}");
            for (at, (found, expected)) in vector.iter().zip(first).enumerate() {
                assert!((found - expected).abs() < 1e-5, "{config}: value {at} is {found}, not {expected}");
            }
            let found = trial::weighted(&vector);
            assert!((found - sum).abs() < 1e-5, "{config}: the sum is {found}, not {sum}");
        }
    }

    /// A config, the vector's length, its first values, and the [`trial::weighted`] sum of all.
    #[rustfmt::skip]
    const GOLDEN: [(&str, usize, [f32; 12], f64); 8] = [
        (r#"{"cell": 4, "block": 2, "norm": "l2-hys"}"#, 216, [0.099005, 0.316796, 0.318085, 0.0, 0.069886, 0.0, 0.0, 0.0, 0.0, 0.30478, 0.0, 0.421309], 0.291809),
        (r#"{"cell": 4, "block": 2, "norm": "l2"}"#, 216, [0.046999, 0.150386, 0.150998, 0.0, 0.033176, 0.0, 0.0, 0.0, 0.0, 0.144683, 0.0, 0.571914], 0.701689),
        (r#"{"cell": 4, "block": 2, "norm": "l1"}"#, 216, [0.01835, 0.058715, 0.058954, 0.0, 0.012953, 0.0, 0.0, 0.0, 0.0, 0.056488, 0.0, 0.22329], 0.237288),
        (r#"{"cell": 4, "block": 2, "norm": "l1-sqrt"}"#, 216, [0.13546, 0.242311, 0.242804, 0.0, 0.11381, 0.0, 0.0, 0.0, 0.0, 0.237672, 0.0, 0.472535], 0.376018),
        (r#"{"cell": 4, "block": 2, "sqrt": true}"#, 216, [0.094965, 0.0, 0.421955, 0.0, 0.122599, 0.0, 0.0, 0.0, 0.0, 0.324112, 0.0, 0.421955], 0.301168),
        (r#"{"cell": 4, "block": 2, "gray": true}"#, 216, [0.113314, 0.051466, 0.355396, 0.0, 0.114706, 0.0, 0.0, 0.0, 0.0, 0.247667, 0.303823, 0.355396], -0.0139),
        (r#"{"cell": 4, "block": 2, "gray": true, "sqrt": true}"#, 216, [0.150693, 0.072133, 0.347351, 0.0, 0.154729, 0.0, 0.0, 0.0, 0.0, 0.254401, 0.209036, 0.347351], -0.001315),
        (r#"{"orientations": 8, "cell": 3, "block": 3}"#, 432, [0.051993, 0.170981, 0.0, 0.0, 0.031867, 0.0, 0.0, 0.0, 0.166043, 0.22764, 0.257977, 0.0], 0.245125),
    ];

    #[test]
    fn batches_do_not_matter() {
        let images: Vec<Vec<u8>> =
            (0..3).map(|at| image().iter().map(|byte| byte.wrapping_mul(2 * at + 1)).collect()).collect();
        for config in [json!({ "cell": 4 }), json!({ "cell": 4, "sqrt": true }), json!({ "cell": 4, "gray": true })] {
            let alone: Vec<f32> =
                images.iter().flat_map(|image| run(config.clone(), std::slice::from_ref(image), (13, 17))).collect();
            assert_eq!(run(config, &images, (13, 17)), alone);
            assert_ne!(alone[..alone.len() / 3], alone[alone.len() / 3..alone.len() / 3 * 2]);
        }
    }

    #[test]
    fn an_image_of_one_colour_has_no_gradient() {
        for norm in ["l2-hys", "l2", "l1", "l1-sqrt"] {
            let vector = run(json!({ "norm": norm, "cell": 1, "block": 1 }), &[vec![77; 2 * 3]], (1, 2));
            assert_eq!(vector, [0.0; 18], "{norm}");
        }
    }

    #[test]
    fn faults_are_told_together() {
        let errors = bind(json!({ "orientations": 0, "cell": 0, "block": 0 }), 64, 64).err().unwrap();
        assert_eq!(
            errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>(),
            [
                "orientations is 0, and should be 1 to 180",
                "cell is 0, and should be at least one pixel",
                "block is 0, and should be at least one cell"
            ]
        );
    }

    #[test]
    fn a_block_must_fit() {
        let errors = bind(json!({}), 23, 40).err().unwrap();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].at, At::Input(IMAGES.into()));
        assert_eq!(errors[0].message, "images of 40x23 px give 5x2 cells of 8 px, and a block needs 3x3");
        let help = "images of at least 24x24 px would do, or a `cell` of at most 7 px";
        assert_eq!(errors[0].help.as_deref(), Some(help));
        assert_eq!(bind(json!({ "cell": 7 }), 23, 40).unwrap().schema(), features::schema([(FEATURE, 3 * 81)]));
        let errors = bind(json!({ "block": 41 }), 23, 40).err().unwrap();
        assert_eq!(errors[0].help.as_deref(), Some("blocks of 41 cells need images of at least 328x328 px"));
        let errors = bind(json!({ "block": usize::MAX }), 23, 40).err().unwrap();
        assert_eq!((errors.len(), &errors[0].at), (1, &At::Key("block".into())), "its limit is told first: {errors:?}");
        let errors = bind(json!({ "cell": 1, "block": 100, "orientations": 100 }), 200, 200).err().unwrap();
        assert!(errors[0].message.ends_with("vectors of 10201000000 numbers, and 16777216 is the limit"), "{errors:?}");
    }
}
