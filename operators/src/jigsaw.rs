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
//! Exact: a puzzle depends on the seed, the epoch, the image and the one before it. What fits a network's eye is left to the
//! reader of the puzzles: `normalisation` only travels with them.

mod permutations;

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tessera_schemas::pixels::{self, PIXELS, Pixels};
use tessera_schemas::puzzles::{self, Columns, Layout};
use tessera_schemas::{IMAGE_ID, PREVIOUS, text};

use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Inputs, Kernel, Map, MapFn, Operator, Port, RunError, Scope,
};
use crate::random::Draw;

const IMAGES: &str = "images";
/// `occluded` has 32 bits.
const LARGEST_GRID: usize = 5;
/// Sums of distances to more permutations than that would not fit their bits.
const MOST_PERMUTATIONS: usize = 500_000;

/// Keys of a `jigsaw` stage. Lengths are in pixels.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Cells a side. Default 3.
    #[serde(default = "grid")]
    grid: usize,
    /// A cell's side. Default: the image's side over `grid`.
    #[serde(default)]
    cell: Option<usize>,
    /// A tile's side. Default: 64/85 of the cell, as the paper has it.
    #[serde(default)]
    tile: Option<usize>,
    /// How many permutations there are to tell apart. Default 701.
    #[serde(default = "count")]
    permutations: usize,
    /// The number of places in which any two permutations differ at least. Default 3.
    #[serde(default = "min_distance")]
    min_distance: usize,
    /// The largest number of tiles from another image; 0 to this many are as likely. Default 2.
    #[serde(default = "max_occluded")]
    max_occluded: usize,
    /// The probability of a gray puzzle. Default 0.7.
    #[serde(default = "gray")]
    gray: f64,
    /// Whether tiles from another image are gray when the puzzle is, so that colour does not give them away. Default true.
    #[serde(default = "share_gray")]
    share_gray: bool,
    /// The largest offset of a tile in its cell, in each direction. Default: what the cell leaves.
    #[serde(default)]
    jitter: Option<usize>,
    /// The largest shift of each colour channel, in each direction, against chromatic aberration. Default 2.
    #[serde(default = "channel_shift")]
    channel_shift: usize,
    /// What a reader normalises by its own mean and deviation. Default `"tile"`.
    #[serde(default)]
    normalisation: Normalisation,
}

/// What a reader normalises by its own mean and deviation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// Each tile, over its channels together.
    #[default]
    Tile,
    /// Each channel of each tile.
    TileChannel,
    /// Nothing.
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

fn count() -> usize {
    701
}

fn min_distance() -> usize {
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
    schema: SchemaRef,
}

/// What a puzzle is cut by: lengths in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cutter {
    height: usize,
    width: usize,
    grid: usize,
    cell: usize,
    tile: usize,
    jitter: usize,
    shift: usize,
}

impl Operator for Jigsaw {
    const NAME: &'static str = "jigsaw";
    const SUMMARY: &'static str = "Jigsaw++ puzzles, with tiles of another image among them";
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] =
        &[Port::stream(IMAGES, &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(PIXELS, ColumnKind::Octets)])];
    const SEEDED: bool = true;
    const VIEW: bool = true;
    type Config = Config;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut errors = check(&config);
        let cutter = match pixels::size(inputs.inputs.required(IMAGES)) {
            Ok(size) => Cutter::new(&config, size, &mut errors),
            Err(error) => {
                errors.push(BindError::input(IMAGES, error.to_string()).help("`decode` and `tile` make such a table"));
                None
            }
        };
        match cutter {
            Some(cutter) if errors.is_empty() => {
                let layout = Layout { grid: cutter.grid, tile: cutter.tile, permutations: config.permutations };
                let schema = puzzles::schema(layout, config.normalisation.name());
                Ok(Self { config, cutter, schema })
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

    fn kernel(self, context: &Context) -> Result<Kernel, RunError> {
        let Config { permutations: count, min_distance, .. } = self.config;
        let permutations = permutations::choose(self.cutter.places(), count, min_distance).map_err(|reached| {
            let places = format!("of {} tiles that differ in at least {min_distance} places", self.cutter.places());
            RunError::Input(format!(
                "{count} permutations {places} were not found, only {reached}: ask for fewer, or nearer ones"
            ))
        })?;
        let puzzler =
            Puzzler { seed: context.seed, config: self.config, cutter: self.cutter, schema: self.schema, permutations };
        Ok(Kernel::Map(Box::new(Puzzles(Arc::new(puzzler)))))
    }
}

/// What is wrong with a config, whatever the images.
fn check(config: &Config) -> Vec<BindError> {
    let mut errors = Vec::new();
    let mut refuse = |key: &str, message: String| errors.push(BindError::key(key, message));
    if !(0.0..=1.0).contains(&config.gray) {
        refuse("gray", format!("{} is no probability: 0 to 1", config.gray));
    }
    if config.permutations < 2 {
        refuse("permutations", format!("{} leaves nothing to tell apart: at least 2", config.permutations));
    }
    if !(2..=LARGEST_GRID).contains(&config.grid) {
        refuse("grid", format!("{} cells a side: 2 to {LARGEST_GRID} make a puzzle", config.grid));
        return errors;
    }
    let places = config.grid * config.grid;
    if config.max_occluded > places {
        refuse("max_occluded", format!("{} tiles: the puzzle has {places}", config.max_occluded));
    }
    if config.min_distance > places {
        refuse("min_distance", format!("{} places: the puzzle has {places}", config.min_distance));
    } else {
        let most = permutations::most(places, config.min_distance).min(MOST_PERMUTATIONS as u128);
        if config.permutations as u128 > most {
            let distance = config.min_distance;
            let message = format!(
                "{} of {places} tiles with `min_distance` {distance}: there are at most {most}",
                config.permutations
            );
            refuse("permutations", message);
        }
    }
    errors
}

impl Cutter {
    fn new(config: &Config, (height, width): (usize, usize), errors: &mut Vec<BindError>) -> Option<Self> {
        let (grid, shift, side) = (config.grid, config.channel_shift, height.min(width));
        if !(2..=LARGEST_GRID).contains(&grid) {
            return None;
        }
        let cell = config.cell.unwrap_or(side / grid);
        if cell == 0 {
            let (key, message) = match config.cell {
                Some(_) => ("cell", "a cell of 0 px shows nothing".to_owned()),
                None => ("grid", format!("{grid} cells need {grid} px, the input gives {side}")),
            };
            errors.push(BindError::key(key, message));
            return None;
        }
        if cell * grid > side {
            let message = format!("needs {} px ({grid} cells of {cell}), the input gives {side}", cell * grid);
            errors.push(BindError::key("cell", message).help(format!("at most {}", side / grid)));
            return None;
        }
        let tile = config.tile.unwrap_or(((cell * 64 + 42) / 85).max(1));
        if tile == 0 || tile > cell {
            errors.push(BindError::key("tile", format!("{tile} px: a cell of {cell} px has room for 1 to {cell}")));
            return None;
        }
        let Some(slack) = (cell - tile).checked_sub(shift) else {
            let message = format!("a tile of {tile} px, shifted by up to {shift}, does not fit a cell of {cell} px");
            errors.push(BindError::key("channel_shift", message).help(format!("at most {}", cell - tile)));
            return None;
        };
        let jitter = config.jitter.unwrap_or(slack);
        if jitter > slack {
            let message = format!(
                "a cell of {cell} px leaves a tile of {tile} px, shifted by up to {shift}, {slack} px, not {jitter}"
            );
            errors.push(BindError::key("jitter", message));
            return None;
        }
        Some(Self { height, width, grid, cell, tile, jitter, shift })
    }

    fn places(self) -> usize {
        self.grid * self.grid
    }

    /// Bytes of a tile.
    fn bytes(self) -> usize {
        self.tile * self.tile * 3
    }

    /// Cuts a tile (`T x T x 3`) from a cell of an image (`H x W x 3`).
    fn cut(self, image: &[u8], cell: usize, offset: Offset, gray: bool, tile: &mut [u8]) {
        let top = (self.height - self.grid * self.cell) / 2 + cell / self.grid * self.cell + offset.y;
        let left = (self.width - self.grid * self.cell) / 2 + cell % self.grid * self.cell + offset.x;
        for (y, line) in tile.chunks_exact_mut(self.tile * 3).enumerate() {
            let channels = offset.shifts.map(|[down, right]| {
                let start = ((top + y + down) * self.width + left + right) * 3;
                image[start..start + self.tile * 3].as_chunks::<3>().0
            });
            let pixels = channels[0].iter().zip(channels[1]).zip(channels[2]).map(|((r, g), b)| [r[0], g[1], b[2]]);
            let line = line.as_chunks_mut::<3>().0.iter_mut();
            if gray {
                line.zip(pixels).for_each(|(to, pixel)| *to = [luma(pixel); 3]);
            } else {
                line.zip(pixels).for_each(|(to, pixel)| *to = pixel);
            }
        }
    }
}

/// ITU-R 601, as Pillow rounds it.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

/// Where a tile is cut in its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset {
    y: usize,
    x: usize,
    /// Down and right, of red, green and blue.
    shifts: [[usize; 2]; 3],
}

/// What a puzzle is to be, before any pixel is looked at.
#[derive(Debug, Clone, PartialEq)]
struct Plan {
    permutation: usize,
    /// Place in the puzzle and cell of the other image.
    occluders: Vec<(usize, usize)>,
    gray: bool,
    /// Whether the other image's tiles are gray.
    other_gray: bool,
    /// One a place.
    offsets: Vec<Offset>,
}

impl Plan {
    fn draw(config: &Config, cutter: Cutter, seed: u64, image_id: &str, epoch: u64) -> Self {
        let start = |purpose| Draw::new(seed, Jigsaw::NAME, purpose, image_id, epoch);
        let places = cutter.places();
        let mut occlusion = start("occlusion");
        let occluded = occlusion.below(config.max_occluded + 1);
        let at = occlusion.distinct(occluded, places);
        let occluders = at.into_iter().zip(occlusion.distinct(occluded, places)).collect();
        let mut color = start("gray");
        let (gray, other_gray) = (color.chance(config.gray), color.chance(config.gray));
        let mut cuts = start("offsets");
        let mut up_to = |largest| cuts.below(largest + 1);
        let mut offset = || Offset {
            y: up_to(cutter.jitter),
            x: up_to(cutter.jitter),
            shifts: std::array::from_fn(|_| [up_to(cutter.shift), up_to(cutter.shift)]),
        };
        Self {
            permutation: start("permutation").below(config.permutations),
            occluders,
            gray,
            other_gray: if config.share_gray { gray } else { other_gray },
            offsets: (0..places).map(|_| offset()).collect(),
        }
    }
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
        let plan = Plan::draw(&self.config, self.cutter, self.seed, image_id, epoch);
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
            self.cutter.cut(image, cell, *offset, gray, tile);
        }
        (plan, mask)
    }
}

struct Puzzles(Arc<Puzzler>);

impl Map for Puzzles {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        Ok(Box::new(Worker(self.0.clone())))
    }

    fn looks_back(&self) -> bool {
        true
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
