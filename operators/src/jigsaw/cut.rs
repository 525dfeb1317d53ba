//! How a puzzle is cut: what lengths fit, what is drawn for an image, and the tiles themselves.

use super::{Config, Crop, Jigsaw, LARGEST_GRID};
use crate::luma::luma;
use crate::operator::{BindError, Operator};
use crate::random::Draw;

/// What a puzzle is cut by: lengths in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutter {
    /// The image's height.
    pub height: usize,
    /// The image's width.
    pub width: usize,
    /// Cells a side.
    pub grid: usize,
    /// A cell's side.
    pub cell: usize,
    /// A tile's side.
    pub tile: usize,
    /// The largest offset of a tile in its cell.
    pub jitter: usize,
    /// The largest shift of a channel on top of that.
    pub shift: usize,
}

impl Cutter {
    /// What the config asks of images of that size; if it cannot be had, `errors` say why.
    pub fn new(config: &Config, (height, width): (usize, usize), errors: &mut Vec<BindError>) -> Option<Self> {
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
        let needed = cell.saturating_mul(grid);
        if needed > side {
            let message = format!("needs {needed} px ({grid} cells of {cell}), the input gives {side}");
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
        let jitter = config.jitter.unwrap_or(slack.min(cell * 18 / 85));
        if jitter > slack {
            let message = format!(
                "a cell of {cell} px leaves a tile of {tile} px, shifted by up to {shift}, {slack} px, not {jitter}"
            );
            errors.push(BindError::key("jitter", message));
            return None;
        }
        Some(Self { height, width, grid, cell, tile, jitter, shift })
    }

    /// Tiles in a puzzle.
    pub fn places(self) -> usize {
        self.grid * self.grid
    }

    /// Bytes of a tile.
    pub fn bytes(self) -> usize {
        self.tile * self.tile * 3
    }

    /// What all cells leave of the image, down and right.
    fn rest(self) -> [usize; 2] {
        [self.height, self.width].map(|side| side - self.grid * self.cell)
    }

    /// Cuts a tile (`T x T x 3`) from a cell of an image (`H x W x 3`), whose cells begin at `[y, x]`.
    pub fn cut(self, image: &[u8], [y, x]: [usize; 2], cell: usize, offset: Offset, gray: bool, tile: &mut [u8]) {
        let top = y + cell / self.grid * self.cell + offset.y;
        let left = x + cell % self.grid * self.cell + offset.x;
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

/// Where a tile is cut in its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Down, within the jitter.
    pub y: usize,
    /// Right, within the jitter.
    pub x: usize,
    /// Down and right, of red, green and blue.
    pub shifts: [[usize; 2]; 3],
}

/// What a puzzle is to be, before any pixel is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The permutation's number.
    pub permutation: usize,
    /// Place in the puzzle and cell of the other image.
    pub occluders: Vec<(usize, usize)>,
    /// Whether the image's tiles are gray.
    pub gray: bool,
    /// Whether the other image's tiles are gray.
    pub other_gray: bool,
    /// Where the cells begin: down, right.
    pub corner: [usize; 2],
    /// One a place.
    pub offsets: Vec<Offset>,
}

impl Plan {
    /// Draws it for an image and an epoch.
    pub fn draw(config: &Config, cutter: Cutter, permutations: usize, seed: u64, image_id: &str, epoch: u64) -> Self {
        let start = |purpose| Draw::new(seed, Jigsaw::NAME, purpose, image_id, epoch);
        let places = cutter.places();
        let mut occlusion = start("occlusion");
        let occluded = occlusion.below(config.max_occluded + 1);
        let at = occlusion.distinct(occluded, places);
        let occluders = at.into_iter().zip(occlusion.distinct(occluded, places)).collect();
        let mut color = start("gray");
        let (gray, other_gray) = (color.chance(config.gray), color.chance(config.gray));
        let mut corner = start("corner");
        let corner = cutter.rest().map(|rest| match config.crop {
            Crop::Center => rest / 2,
            Crop::Random => corner.below(rest + 1),
        });
        let mut cuts = start("offsets");
        let mut up_to = |largest| cuts.below(largest + 1);
        let mut offset = || Offset {
            y: up_to(cutter.jitter),
            x: up_to(cutter.jitter),
            shifts: std::array::from_fn(|_| [up_to(cutter.shift), up_to(cutter.shift)]),
        };
        Self {
            permutation: start("permutation").below(permutations),
            occluders,
            gray,
            other_gray: if config.share_gray { gray } else { other_gray },
            corner,
            offsets: (0..places).map(|_| offset()).collect(),
        }
    }
}
