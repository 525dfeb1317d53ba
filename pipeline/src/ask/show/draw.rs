//! Drawing: rows and their pictures on a sheet, and the legend of what is where.

use std::collections::BTreeMap;

use super::Entry;
use super::canvas::{Canvas, LINE, number_width};
use super::gallery::Gallery;
use super::rows::{Puzzle, spread};
use super::sheet::{GAP, Sheet};

/// Pixels between the tiles of a puzzle.
const SEAM: usize = 2;
/// Thickness of a frame.
const FRAME: usize = 2;
/// Frames of tiles from another image.
const STRANGE: [u8; 3] = [230, 40, 40];
/// Numbers.
const INK: [u8; 3] = [40, 40, 40];

/// Pictures, up to so many of them from all over the gallery.
pub fn pixels(gallery: &Gallery, count: usize) -> (Canvas, Vec<Entry>) {
    let images: Vec<(&String, &Vec<u8>)> = gallery.images.iter().collect();
    let sheet = Sheet::square(count.min(images.len()), (gallery.height, gallery.width));
    let (mut canvas, mut legend) = (sheet.canvas(), Vec::new());
    for (at, from) in spread(count, images.len()).enumerate() {
        let (image_id, image) = images[from];
        canvas.put(sheet.place(at), (gallery.height, gallery.width), image);
        legend.push(entry(&sheet, at, image_id));
    }
    (canvas, legend)
}

/// The grid of a puzzle: tiles a side, and pixels a side of each.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Tiles a side.
    pub grid: usize,
    /// Pixels a side of a tile.
    pub tile: usize,
}

impl Grid {
    /// Pixels a side of the puzzle as it is drawn.
    fn side(self) -> usize {
        self.grid * self.tile + (self.grid - 1) * SEAM
    }

    /// Pixels of a puzzle beside its image of that size, from top to bottom and from left to right.
    pub fn cell(self, (height, width): (usize, usize)) -> (usize, usize) {
        (self.side().max(height), width + GAP + self.side())
    }
}

/// Puzzles beside their images.
pub fn puzzles(puzzles: &[Puzzle], grid: Grid, gallery: &Gallery) -> (Canvas, Vec<Entry>) {
    let size = (gallery.height, gallery.width);
    let sheet = Sheet::square(puzzles.len(), grid.cell(size));
    let (mut canvas, mut legend) = (sheet.canvas(), Vec::new());
    for (at, puzzle) in puzzles.iter().enumerate() {
        let (x, y) = sheet.place(at);
        if let Some(image) = gallery.images.get(&puzzle.image_id) {
            canvas.put((x, y), size, image);
        }
        tiles(&mut canvas, (x + gallery.width + GAP, y), puzzle, grid);
        legend.push(Entry { number: Some(puzzle.permutation.into()), ..entry(&sheet, at, &puzzle.image_id) });
    }
    (canvas, legend)
}

/// The tiles of a puzzle, those of another image framed.
fn tiles(canvas: &mut Canvas, (x, y): (usize, usize), puzzle: &Puzzle, Grid { grid, tile }: Grid) {
    for (number, pixels) in puzzle.tiles.chunks_exact(tile * tile * 3).enumerate() {
        let step = tile + SEAM;
        let corner = (x + number % grid * step, y + number / grid * step);
        canvas.put(corner, (tile, tile), pixels);
        if puzzle.occluded >> number & 1 == 1 {
            canvas.frame(corner, (tile, tile), FRAME, STRANGE);
        }
    }
}

/// The sheet of clusters: a row for each, its number in front of so many images of a size.
pub fn cluster_sheet(numbers: impl Iterator<Item = i32> + Clone, columns: usize, (height, width): (usize, usize)) -> Sheet {
    let margin = numbers.clone().map(|number| number_width(number.into())).max().unwrap_or(0) + GAP;
    Sheet { columns: columns.max(1), rows: numbers.count().max(1), height: height.max(LINE), width, margin }
}

/// Clusters: of each the images with their distances.
pub fn clusters(rows: &BTreeMap<i32, Vec<(String, f32)>>, gallery: &Gallery) -> (Canvas, Vec<Entry>) {
    let columns = rows.values().map(Vec::len).max().unwrap_or(1);
    let sheet = cluster_sheet(rows.keys().copied(), columns, (gallery.height, gallery.width));
    let (mut canvas, mut legend) = (sheet.canvas(), Vec::new());
    for (row, (cluster, images)) in rows.iter().enumerate() {
        let first = row * sheet.columns;
        canvas.number((GAP, sheet.place(first).1 + (sheet.height - LINE) / 2), (*cluster).into(), INK);
        for (column, (image_id, distance)) in images.iter().enumerate() {
            if let Some(image) = gallery.images.get(image_id) {
                canvas.put(sheet.place(first + column), (gallery.height, gallery.width), image);
            }
            let (number, distance) = (Some((*cluster).into()), Some(f64::from(*distance)));
            legend.push(Entry { number, distance, ..entry(&sheet, first + column, image_id) });
        }
    }
    (canvas, legend)
}

/// An image in a cell of a sheet.
fn entry(sheet: &Sheet, at: usize, image_id: &str) -> Entry {
    let (row, column) = (at / sheet.columns, at % sheet.columns);
    Entry { row, column, image_id: image_id.to_owned(), number: None, distance: None }
}
