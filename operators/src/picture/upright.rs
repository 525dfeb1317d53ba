//! Pictures that lie otherwise than they are seen.

use image::metadata::Orientation;

/// Whether columns become rows.
pub fn transposes(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Whether columns and rows, as a picture lies, run against the upright picture's.
pub fn mirrors(orientation: Orientation) -> [bool; 2] {
    use Orientation::{FlipHorizontal, FlipVertical, Rotate90, Rotate180, Rotate270, Rotate270FlipH};
    [
        matches!(orientation, FlipHorizontal | Rotate180 | Rotate270 | Rotate270FlipH),
        matches!(orientation, FlipVertical | Rotate180 | Rotate90 | Rotate270FlipH),
    ]
}

/// Where a pixel of the upright picture, in column `x` and row `y`, is in the picture of `w x h` as it lies.
#[inline]
pub fn origin((x, y): (usize, usize), [w, h]: [usize; 2], orientation: Orientation) -> (usize, usize) {
    use Orientation::{
        FlipHorizontal, FlipVertical, NoTransforms, Rotate90, Rotate90FlipH, Rotate180, Rotate270, Rotate270FlipH,
    };
    match orientation {
        NoTransforms => (x, y),
        FlipHorizontal => (w - 1 - x, y),
        FlipVertical => (x, h - 1 - y),
        Rotate180 => (w - 1 - x, h - 1 - y),
        Rotate90 => (y, h - 1 - x),
        Rotate270 => (w - 1 - y, x),
        Rotate90FlipH => (y, x),
        Rotate270FlipH => (w - 1 - y, h - 1 - x),
    }
}

/// Turns `w x h` pixels upright into `out`.
pub fn turn(pixels: &[u8], w: usize, h: usize, orientation: Orientation, out: &mut [u8]) {
    let out_w = if transposes(orientation) { h } else { w };
    for (at, pixel) in out.chunks_exact_mut(3).enumerate() {
        let (from_x, from_y) = origin((at % out_w, at / out_w), [w, h], orientation);
        let start = (from_y * w + from_x) * 3;
        pixel.copy_from_slice(&pixels[start..start + 3]);
    }
}
