//! An image's gradients, counted cell by cell.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Values of a gradient of bytes, in each direction: -255 to 255.
const REACH: usize = 511;

/// Directions, told apart by number.
pub(super) struct Bins {
    count: usize,
    /// The number by row gradient and column gradient, for gradients of bytes.
    table: Vec<u8>,
}

impl Bins {
    /// Bins for up to 255 directions.
    pub(super) fn new(count: usize) -> Self {
        let values = || (0..REACH).map(|at| at as f64 - 255.0);
        let table = values().flat_map(|down| values().map(move |right| direction(right, down, count) as u8)).collect();
        Self { count, table }
    }

    fn of_bytes(&self, right: i16, down: i16) -> usize {
        self.table[((down + 255) as usize) * REACH + (right + 255) as usize].into()
    }
}

/// Which of `count` equal parts of half a turn a gradient points to.
fn direction(right: f64, down: f64, count: usize) -> usize {
    let width = 180.0 / count as f64;
    // Above 0 and up to half a turn, or turned by half: opposite directions are one.
    let angle = match down.atan2(right).to_degrees() {
        angle if angle < 0.0 => angle + 180.0,
        angle => angle,
    };
    let angle = if angle >= 180.0 { angle - 180.0 } else { angle };
    // The quotient may be off by one where the angle is on a border; the border is what counts.
    let near = (angle / width) as usize;
    let at = if angle < width * near as f64 {
        near - 1
    } else if angle >= width * (near + 1) as f64 {
        near + 1
    } else {
        near
    };
    at.min(count - 1)
}

/// What gradients are taken of.
enum Of {
    /// The three channels' bytes.
    Bytes(Line),
    /// The three channels' square roots, by byte.
    Roots(Box<[f64; 256]>),
    /// The luminance, 0 to 1.
    Luminance,
    /// The luminance's square root.
    LuminanceRoot,
}

/// Counts gradients of images of one size.
pub(super) struct Histograms {
    bins: Arc<Bins>,
    height: usize,
    width: usize,
    cell: usize,
    of: Of,
    /// `H x W x channels`, unless gradients are of bytes.
    values: Vec<f64>,
    /// `cell rows x cell columns x directions`.
    counts: Vec<f64>,
}

impl Histograms {
    /// Histograms for images of `height x width` pixels, in cells of `cell x cell`.
    pub(super) fn new(bins: Arc<Bins>, height: usize, width: usize, cell: usize, sqrt: bool, gray: bool) -> Self {
        let of = match (gray, sqrt) {
            (true, true) => Of::LuminanceRoot,
            (true, false) => Of::Luminance,
            (false, true) => Of::Roots(Box::new(std::array::from_fn(|byte| (byte as f64).sqrt()))),
            (false, false) => Of::Bytes(Line::new(width)),
        };
        let counts = vec![0.0; (height / cell) * (width / cell) * bins.count];
        Self { bins, height, width, cell, of, values: Vec::new(), counts }
    }

    /// Rows and columns of cells.
    pub(super) fn cells(&self) -> (usize, usize) {
        (self.height / self.cell, self.width / self.cell)
    }

    /// `cell rows x cell columns x directions`: the gradients of `H x W x 3` bytes, their lengths averaged over a cell's pixels.
    pub(super) fn of(&mut self, pixels: &[u8]) -> &[f64] {
        let Self { height, width, cell, .. } = *self;
        let (rows, columns) = self.cells();
        let Self { bins, values, counts, .. } = self;
        counts.fill(0.0);
        let stride = (columns * bins.count).max(1);
        let lines = counts.chunks_exact_mut(stride).enumerate().take(rows);
        match &mut self.of {
            Of::Bytes(line) => {
                for (row, counts) in lines {
                    for y in row * cell..(row + 1) * cell {
                        line.read(pixels, height, y);
                        vote(counts, bins.count, cell, |x| line.gradient(x, bins));
                    }
                }
            }
            of => {
                let channels = of.values(pixels, values);
                let field = Field { values, height, width, channels };
                for (row, counts) in lines {
                    for y in row * cell..(row + 1) * cell {
                        vote(counts, bins.count, cell, |x| field.gradient(x, y, bins.count));
                    }
                }
            }
        }
        let area = (cell * cell) as f64;
        counts.iter_mut().for_each(|count| *count /= area);
        counts
    }
}

/// Adds one line of pixels to the cells that it crosses; `gradient` gives direction and length at a column.
fn vote(counts: &mut [f64], directions: usize, cell: usize, gradient: impl Fn(usize) -> (usize, f64)) {
    for (at, counts) in counts.chunks_exact_mut(directions).enumerate() {
        for x in at * cell..(at + 1) * cell {
            let (direction, length) = gradient(x);
            counts[direction] += length;
        }
    }
}

/// Gradients of one line of bytes.
struct Line {
    /// To the right. The first pixel's and the last's stay 0.
    right: Vec<i16>,
    /// Downwards.
    down: Vec<i16>,
    /// The lengths, squared.
    squares: Vec<i32>,
}

impl Line {
    fn new(width: usize) -> Self {
        let length = width * 3;
        Self { right: vec![0; length], down: vec![0; length], squares: vec![0; length] }
    }

    /// Takes line `y` of `H x W x 3` bytes.
    fn read(&mut self, pixels: &[u8], height: usize, y: usize) {
        let length = self.down.len();
        let line = |y: usize| &pixels[y * length..(y + 1) * length];
        let (this, inside) = (line(y), y > 0 && y + 1 < height);
        let difference = |after: u8, before: u8| i16::from(after) - i16::from(before);
        // Two pixels apart are 6 bytes; an image of one pixel a line has none such.
        for ((right, &after), &before) in self.right[3..].iter_mut().zip(this.get(6..).unwrap_or_default()).zip(this) {
            *right = difference(after, before);
        }
        let (above, below) = if inside { (line(y - 1), line(y + 1)) } else { (this, this) };
        for ((down, &after), &before) in self.down.iter_mut().zip(below).zip(above) {
            *down = difference(after, before);
        }
        for ((square, &right), &down) in self.squares.iter_mut().zip(&self.right).zip(&self.down) {
            let (right, down) = (i32::from(right), i32::from(down));
            *square = right * right + down * down;
        }
    }

    /// Direction and length of the longest gradient of a pixel's channels.
    fn gradient(&self, x: usize, bins: &Bins) -> (usize, f64) {
        let gradient = |at: usize| (f64::from(self.right[at]), f64::from(self.down[at]));
        let at = strongest(x * 3..x * 3 + 3, |at, best| match self.squares[at].cmp(&self.squares[best]) {
            Ordering::Equal => longer(gradient(at), gradient(best)),
            order => order.is_gt(),
        });
        (bins.of_bytes(self.right[at], self.down[at]), f64::from(self.squares[at]).sqrt())
    }
}

/// The first of the places that no other beats.
fn strongest(mut places: Range<usize>, beats: impl Fn(usize, usize) -> bool) -> usize {
    let first = places.start;
    places.next();
    places.fold(first, |best, at| if beats(at, best) { at } else { best })
}

/// Whether a gradient is longer than another. Where squares cannot tell them apart, the rounding of `hypot` decides, as it does in
/// scikit-image: of equal channels that point elsewhere, another one would give other histograms.
fn longer(one: (f64, f64), other: (f64, f64)) -> bool {
    let square = |(right, down): (f64, f64)| right * right + down * down;
    let (left, right) = (square(one), square(other));
    if (left - right).abs() > 1e-12 * right {
        return left > right;
    }
    one != other && one.0.hypot(one.1) > other.0.hypot(other.1)
}

impl Of {
    /// Turns `H x W x 3` bytes into values, and says how many channels they have.
    fn values(&self, pixels: &[u8], values: &mut Vec<f64>) -> usize {
        // Weights as ITU-R BT.709 has them, in integers: colours of equal luminance have no gradient.
        let luminance = |pixel: &[u8]| {
            let sum: u32 = pixel.iter().zip([2125, 7154, 721]).map(|(&byte, weight)| u32::from(byte) * weight).sum();
            f64::from(sum) / 2_550_000.0
        };
        values.clear();
        match self {
            Self::Bytes(_) => values.extend(pixels.iter().map(|&byte| f64::from(byte))),
            Self::Roots(roots) => values.extend(pixels.iter().map(|&byte| roots[usize::from(byte)])),
            Self::Luminance => values.extend(pixels.chunks_exact(3).map(luminance)),
            Self::LuminanceRoot => values.extend(pixels.chunks_exact(3).map(|pixel| luminance(pixel).sqrt())),
        }
        if matches!(self, Self::Bytes(_) | Self::Roots(_)) { 3 } else { 1 }
    }
}

/// An image of any values.
struct Field<'a> {
    /// `H x W x channels`.
    values: &'a [f64],
    height: usize,
    width: usize,
    channels: usize,
}

impl Field<'_> {
    /// Direction and length of the longest gradient of a pixel's channels.
    fn gradient(&self, x: usize, y: usize, directions: usize) -> (usize, f64) {
        let line = self.width * self.channels;
        let start = y * line + x * self.channels;
        let across = |at: usize, step: usize, inside: bool| {
            if inside { self.values[at + step] - self.values[at - step] } else { 0.0 }
        };
        let right = |at: usize| across(at, self.channels, x > 0 && x + 1 < self.width);
        let down = |at: usize| across(at, line, y > 0 && y + 1 < self.height);
        let gradient = |at: usize| (right(at), down(at));
        let at = strongest(start..start + self.channels, |at, best| longer(gradient(at), gradient(best)));
        let (right, down) = gradient(at);
        (direction(right, down, directions), (right * right + down * down).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_go_half_round() {
        let of = |right, down| direction(right, down, 9);
        assert_eq!([of(1.0, 0.0), of(-1.0, 0.0), of(0.0, 1.0), of(0.0, -1.0), of(0.0, 0.0)], [0, 0, 4, 4, 0]);
        assert_eq!([of(1.0, 1.0), of(-1.0, -1.0), of(-1.0, 1.0), of(255.0, -1.0)], [2, 2, 6, 8]);
        // On a border: the larger one.
        assert_eq!([direction(3.0, 3.0, 4), direction(0.0, 2.0, 4), direction(-5.0, 5.0, 4)], [1, 2, 3]);
        for count in 1..=180 {
            let bins = Bins::new(count);
            assert!(bins.table.iter().all(|&bin| usize::from(bin) < count));
            assert_eq!(bins.of_bytes(-7, 200), direction(-7.0, 200.0, count), "{count}");
        }
    }

    #[test]
    fn bytes_and_values_agree() {
        let (height, width) = (11, 9);
        let pixels: Vec<u8> = (0..height * width * 3).map(|at| (at * at * 31 + at * 7) as u8).collect();
        let bins = Arc::new(Bins::new(7));
        let mut fast = Histograms::new(bins.clone(), height, width, 2, false, false);
        let mut slow = Histograms::new(bins, height, width, 2, true, false);
        slow.of = Of::Roots(Box::new(std::array::from_fn(|byte| byte as f64)));
        assert_eq!(fast.cells(), (5, 4));
        assert_eq!(fast.of(&pixels), slow.of(&pixels));
        assert!(fast.of(&pixels).iter().sum::<f64>() > 100.0, "the second image is not added to the first");
    }

    #[test]
    fn the_strongest_channel_votes() {
        // One line rises by 10 a pixel in red, and by 4 downwards in green.
        let pixels: Vec<u8> = (0..9).flat_map(|at| [at % 3 * 10, at / 3 * 4, 7]).collect();
        let mut histograms = Histograms::new(Arc::new(Bins::new(2)), 3, 3, 3, false, false);
        // Inside, red: 20 to the right. At the left and right edge green's 8 downwards is all there is.
        assert_eq!(histograms.of(&pixels), [3.0 * 20.0 / 9.0, 2.0 * 8.0 / 9.0]);
    }
}
