//! `jigsaw`: Jigsaw++ puzzles (paper, section 4; Noroozi, Favaro, 2016, without occluders).
//!
//! Input: `images`, decoded, in an epoch's shuffled order. Output: `puzzles`, one an image and epoch. The image's centre is cut
//! into `grid x grid` cells; a tile is cut from each at a random offset, the colour channels shifted against each other; the tiles
//! are put in order: **place i of the puzzle shows tile `permutations[p][i]` of the image**, both counted row by row. Then up to
//! `max_occluded` places, chosen at random, get tiles of one other image, from different cells of it.
//!
//! The other image is the one before it in the epoch's order. If that was dropped, or is the image itself, the puzzle has no
//! occluder.
//!
//! Defaults are the paper's, for images of 255 pixels. The Jigsaw of 2016 is the special case without occluders, of the same
//! images' middle or any other part of 225 pixels:
//!
//! ```toml
//! [stage.decoded]
//! op = "decode"
//! input = "images"
//! side = 256
//!
//! [stage.puzzles]
//! op = "jigsaw"
//! input = "decoded"
//! cell = 75
//! tile = 64
//! crop = "random"
//! permutations = 1000     # or 100
//! max_occluded = 0
//! gray = 0.3
//! ```
//!
//! (Its colour jitter of two pixels is `channel_shift = 2`.) `tessera check` says how far the permutations are from each other.
//!
//! Exact: a puzzle depends on the seed, the epoch, the image and the one before it. What fits a network's eye is left to the
//! reader of the puzzles: `normalisation` only travels with them.

mod cut;
mod file;
mod permutations;
mod wanted;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::pixels::{self, PIXELS, Pixels};
use tessera_schemas::puzzles::{self, Columns, Layout};
use tessera_schemas::{IMAGE_ID, PREVIOUS, text};

use crate::config::Limits;
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Inputs, Map, MapFn, Operator, Port, RunError, Scope,
};
use cut::{Cutter, Plan};
use wanted::{MOST_PERMUTATIONS, Wanted, wanted};

const IMAGES: &str = "images";
/// `occluded` has 32 bits.
const LARGEST_GRID: usize = 5;

/// Keys of a `jigsaw` stage. Lengths are in pixels.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Cells a side.
    #[serde(default = "grid")]
    grid: usize,
    /// A cell's side. Default: the image's side over `grid`.
    #[serde(default)]
    cell: Option<usize>,
    /// A tile's side. Default: 64/85 of the cell, as the paper has it.
    #[serde(default)]
    tile: Option<usize>,
    /// How many permutations the network has to tell apart. Default: 701, or all of `permutations_file`; a smaller number takes the
    /// first of the file.
    #[serde(default)]
    permutations: Option<usize>,
    /// The least number of places in which two permutations may differ. Default: 3, or the least that is in `permutations_file`.
    #[serde(default)]
    min_distance: Option<usize>,
    /// A file of permutations, in place of those found here: `.npy`, one a row, or text, one a line; tile by place, counted from 0
    /// or from 1. Default: none.
    #[serde(default)]
    permutations_file: Option<PathBuf>,
    /// The largest number of tiles from another image. Each number from 0 to this one is equally likely.
    #[serde(default = "max_occluded")]
    max_occluded: usize,
    /// The probability of a gray puzzle.
    #[serde(default = "gray")]
    gray: f64,
    /// Whether tiles from another image are gray when the puzzle is, so that colour does not give them away.
    #[serde(default = "share_gray")]
    share_gray: bool,
    /// Tiles lie at random 0 to this many pixels right of and below their cells' corners. Default: 18/85 of the cell, as the paper has
    /// it, or what the cell leaves, if that is less.
    #[serde(default)]
    jitter: Option<usize>,
    /// Where the cells lie in an image that is larger than all of them.
    #[serde(default)]
    crop: Crop,
    /// The largest shift of each colour channel, in each direction, against chromatic aberration.
    #[serde(default = "channel_shift")]
    channel_shift: usize,
    /// How a network that reads the puzzles normalises their tiles: which values it brings to mean 0 and deviation 1, by their own mean
    /// and standard deviation.
    #[serde(default)]
    normalisation: Normalisation,
}

/// Where the cells lie in an image that is larger than all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// In the middle of the image.
    #[default]
    Center,
    /// Anywhere, drawn anew for each puzzle; the other image's cells lie there too.
    Random,
}

/// How a network that reads the puzzles normalises their tiles: which values it brings to mean 0 and deviation 1, by their own mean and
/// standard deviation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// The values of each tile, all channels together.
    #[default]
    Tile,
    /// The values of each channel of each tile.
    TileChannel,
    /// None: tiles stay as they are.
    None,
}

impl Normalisation {
    fn name(self) -> &'static str {
        match self {
            Self::Tile => "tile",
            Self::TileChannel => "tile-channel",
            Self::None => "none",
        }
    }
}

fn grid() -> usize {
    3
}

fn max_occluded() -> usize {
    2
}

fn gray() -> f64 {
    0.7
}

fn share_gray() -> bool {
    true
}

fn channel_shift() -> usize {
    2
}

/// The bound operator.
pub struct Jigsaw {
    config: Config,
    cutter: Cutter,
    wanted: Wanted,
    schema: SchemaRef,
}

impl Operator for Jigsaw {
    const NAME: &'static str = "jigsaw";
    const SUMMARY: &'static str = "Jigsaw++ puzzles, with tiles of another image among them";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[
        ("image_id", ""),
        ("permutation", "the number of the permutation: the class that a network learns to name"),
        ("occluded", "the places with tiles of another image: bit i is place i"),
        ("gray", "whether the puzzle is gray"),
        ("tiles", "grid x grid x tile x tile x 3, in the order of their places"),
    ];
    const EXAMPLE: &'static str = r#"
[stage.puzzles]
op = "jigsaw"
input = "decoded"
gray = 0.5
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] =
        &[Port::stream(IMAGES, &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(PIXELS, ColumnKind::Octets)])];
    const SEEDED: bool = true;
    const VIEW: bool = true;
    const LOOKS_BACK: bool = true;
    const FILES: &'static [&'static str] = &["permutations_file"];
    const LIMITS: Limits = &[
        ("cell", 8192.0),
        ("tile", 8192.0),
        ("permutations", MOST_PERMUTATIONS as f64),
        ("jitter", 8192.0),
        ("channel_shift", 8192.0),
    ];
    type Config = Config;
    type Kernel = Box<dyn Map>;

    fn faults(config: &Config) -> Vec<BindError> {
        check(config)
    }

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = Self::faults(&config);
        let wanted = wanted(&config, inputs, &mut errors);
        let cutter = match pixels::size(inputs.inputs.required(IMAGES)) {
            Ok(size) => Cutter::new(&config, size, &mut errors),
            Err(error) => {
                errors.push(BindError::input(IMAGES, error.to_string()).help("`decode` and `tile` make such a table"));
                None
            }
        };
        match cutter.zip(wanted) {
            Some((cutter, wanted)) if errors.is_empty() => {
                let layout = Layout { grid: cutter.grid, tile: cutter.tile, permutations: wanted.count() };
                let schema = puzzles::schema(layout, config.normalisation.name());
                Ok(Self { config, cutter, wanted, schema })
            }
            _ => Err(errors),
        }
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn passes(&self) -> Vec<String> {
        vec![IMAGE_ID.to_owned()]
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        let Cutter { cell, tile, jitter, .. } = self.cutter;
        let min_distance = match &self.wanted {
            Wanted::Found { min_distance, .. } => (*min_distance).into(),
            // The file decides, and is part of the key.
            Wanted::Given(_) => serde_json::Value::Null,
        };
        let permutations = self.wanted.count().into();
        let lengths = [("cell", cell.into()), ("tile", tile.into()), ("jitter", jitter.into())];
        lengths.into_iter().chain([("permutations", permutations), ("min_distance", min_distance)]).collect()
    }

    fn notes(&self) -> Result<Vec<String>, RunError> {
        let places = self.cutter.places();
        let counts = permutations::distances(&self.wanted.permutations(places)?);
        let pairs = counts.iter().sum::<u64>();
        let mean = counts.iter().zip(0..).map(|(count, distance)| count * distance).sum::<u64>() as f64 / pairs as f64;
        let shares = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let share = |(distance, count): (usize, &u64)| format!("{distance}: {:.2} %", *count as f64 / pairs as f64 * 100.0);
        let shares = shares.map(share).collect::<Vec<_>>().join(", ");
        let count = self.wanted.count();
        Ok(vec![format!("{count} permutations of {places} tiles; two differ in {mean:.3} places on average ({shares})")])
    }

    fn kernel(self, context: &Context) -> Result<Box<dyn Map>, RunError> {
        let permutations = self.wanted.permutations(self.cutter.places())?;
        let puzzler =
            Puzzler { seed: context.seed, config: self.config, cutter: self.cutter, schema: self.schema, permutations };
        Ok(Box::new(Puzzles(Arc::new(puzzler))))
    }
}

/// What is wrong with a config, whatever the images.
fn check(config: &Config) -> Vec<BindError> {
    let mut errors = Vec::new();
    let mut refuse = |key: &str, message: String| errors.push(BindError::key(key, message));
    if !(0.0..=1.0).contains(&config.gray) {
        refuse("gray", format!("{} is no probability: 0 to 1", config.gray));
    }
    if !(2..=LARGEST_GRID).contains(&config.grid) {
        refuse("grid", format!("{} cells a side: 2 to {LARGEST_GRID} make a puzzle", config.grid));
        return errors;
    }
    let places = config.grid * config.grid;
    if config.max_occluded > places {
        refuse("max_occluded", format!("{} tiles: the puzzle has {places}", config.max_occluded));
    }
    errors
}

struct Puzzler {
    seed: u64,
    config: Config,
    cutter: Cutter,
    schema: SchemaRef,
    permutations: Vec<Vec<u8>>,
}

impl Puzzler {
    /// Makes one puzzle, `G·G x T x T x 3`, and returns its plan and the mask of the places that show the other image.
    fn puzzle(&self, image_id: &str, epoch: u64, image: &[u8], other: Option<&[u8]>, tiles: &mut [u8]) -> (Plan, u32) {
        let plan = Plan::draw(&self.config, self.cutter, self.permutations.len(), self.seed, image_id, epoch);
        let own = self.permutations[plan.permutation].iter().map(|&cell| (image, usize::from(cell), plan.gray));
        let mut sources: Vec<_> = own.collect();
        let mut mask = 0;
        if let Some(other) = other {
            for &(place, cell) in &plan.occluders {
                sources[place] = (other, cell, plan.other_gray);
                mask |= 1 << place;
            }
        }
        let places = sources.into_iter().zip(&plan.offsets).zip(tiles.chunks_exact_mut(self.cutter.bytes()));
        for (((image, cell, gray), offset), tile) in places {
            self.cutter.cut(image, plan.corner, cell, *offset, gray, tile);
        }
        (plan, mask)
    }
}

struct Puzzles(Arc<Puzzler>);

impl Map for Puzzles {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        Ok(Box::new(Worker(self.0.clone())))
    }
}

struct Worker(Arc<Puzzler>);

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let Self(puzzler) = self;
        let (images, previous) = (Pixels::of(batch)?, text(batch, PREVIOUS)?);
        let lead = scope.lead.map(Pixels::of).transpose()?;
        let lead =
            lead.filter(|lead| !lead.is_empty()).map(|lead| (lead.ids.value(lead.len() - 1), lead.row(lead.len() - 1)));
        let length = puzzler.cutter.places() * puzzler.cutter.bytes();
        let rows: Vec<usize> = (0..images.len()).filter(|&row| previous.is_valid(row)).collect();
        let mut columns = Columns { tiles: vec![0; rows.len() * length], ..Columns::default() };
        for (row, tiles) in rows.into_iter().zip(columns.tiles.chunks_exact_mut(length)) {
            let (image_id, expected) = (images.ids.value(row), previous.value(row));
            let before = match row.checked_sub(1) {
                Some(before) => Some((images.ids.value(before), images.row(before))),
                None => lead,
            };
            let other = before.filter(|(id, _)| *id == expected && *id != image_id).map(|(_, image)| image);
            let (plan, mask) = puzzler.puzzle(image_id, scope.epoch, images.row(row), other, tiles);
            columns.ids.push(image_id.to_owned());
            columns.permutations.push(plan.permutation as i32);
            columns.occluded.push(mask);
            columns.gray.push(plan.gray);
        }
        Ok(columns.finish(&puzzler.schema)?)
    }
}

#[cfg(test)]
mod tests;
