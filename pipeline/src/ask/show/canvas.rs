//! A picture to draw on: RGB pixels, rows from the top.

/// Background.
const PAPER: [u8; 3] = [255; 3];
/// Columns and rows of a character, without the gap behind it.
const GLYPH: (usize, usize) = (3, 5);
/// Pixels a dot of a character.
const DOT: usize = 2;
/// Height of a line of text, in pixels.
pub const LINE: usize = (GLYPH.1 + 2) * DOT;

/// The digits, five rows of three dots, the top row in the highest bits.
const DIGITS: [u16; 10] = [
    0b111_101_101_101_111,
    0b010_110_010_010_111,
    0b111_001_111_100_111,
    0b111_001_111_001_111,
    0b101_101_111_001_001,
    0b111_100_111_001_111,
    0b111_100_111_101_111,
    0b111_001_010_010_010,
    0b111_101_111_101_111,
    0b111_101_111_001_111,
];

/// RGB pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height x width x 3`.
    pub pixels: Vec<u8>,
}

impl Canvas {
    /// An empty one.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: PAPER.repeat(width * height) }
    }

    fn dot(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if x < self.width && y < self.height {
            self.pixels[(y * self.width + x) * 3..][..3].copy_from_slice(&colour);
        }
    }

    /// Puts an image (`h x w x 3`) there, its upper left corner at `(x, y)`.
    pub fn put(&mut self, (x, y): (usize, usize), (height, width): (usize, usize), image: &[u8]) {
        for (row, line) in image.chunks_exact(width * 3).take(height).enumerate() {
            for (column, pixel) in line.as_chunks::<3>().0.iter().enumerate() {
                self.dot(x + column, y + row, *pixel);
            }
        }
    }

    /// Draws a frame around a rectangle, so many pixels thick, inside it.
    pub fn frame(&mut self, (x, y): (usize, usize), (height, width): (usize, usize), thick: usize, colour: [u8; 3]) {
        for row in 0..height {
            for column in 0..width {
                if row < thick || column < thick || row + thick >= height || column + thick >= width {
                    self.dot(x + column, y + row, colour);
                }
            }
        }
    }

    /// Writes a number.
    pub fn number(&mut self, (x, y): (usize, usize), number: i64, colour: [u8; 3]) {
        for (place, digit) in number.to_string().bytes().filter(u8::is_ascii_digit).enumerate() {
            let glyph = DIGITS[usize::from(digit - b'0')];
            for at in 0..GLYPH.0 * GLYPH.1 {
                if glyph >> (GLYPH.0 * GLYPH.1 - 1 - at) & 1 == 0 {
                    continue;
                }
                let left = x + (place * (GLYPH.0 + 1) + at % GLYPH.0) * DOT;
                let top = y + at / GLYPH.0 * DOT;
                for dot in 0..DOT * DOT {
                    self.dot(left + dot % DOT, top + dot / DOT, colour);
                }
            }
        }
    }
}

/// Pixels that a number takes, side by side.
pub fn number_width(number: i64) -> usize {
    number.to_string().len() * (GLYPH.0 + 1) * DOT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_frames_and_numbers() {
        let mut canvas = Canvas::new(4, 3);
        canvas.put((1, 1), (1, 2), &[1, 2, 3, 4, 5, 6]);
        assert_eq!(canvas.pixels[15..21], [1, 2, 3, 4, 5, 6]);
        assert_eq!(canvas.pixels[..15], [255; 15]);
        canvas.frame((0, 0), (3, 4), 1, [0; 3]);
        let black = canvas.pixels.chunks(3).filter(|pixel| *pixel == [0; 3]).count();
        assert_eq!((black, &canvas.pixels[15..18]), (10, &[1, 2, 3][..]));
        canvas.put((3, 2), (2, 2), &[9; 12]);
        assert_eq!(canvas.pixels[33..], [9; 3], "what lies outside is cut off");
        let mut seven = Canvas::new(number_width(7), LINE);
        seven.number((0, 0), 7, [0; 3]);
        let dots: Vec<usize> = (0..5)
            .map(|row| (0..3).filter(|column| seven.pixels[(row * DOT * seven.width + column * DOT) * 3] == 0).count())
            .collect();
        assert_eq!(dots, [3, 1, 1, 1, 1]);
    }
}
