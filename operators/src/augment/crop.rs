//! Crops of random size and shape, resized; mirror images.

use crate::picture::mask::places;
use crate::picture::resize::{Part, Resizer};
use crate::random::Draw;

/// Tries to find a crop within the image before its middle is taken (torchvision's number).
const TRIES: usize = 10;

/// A part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Window {
    /// As torchvision's `RandomResizedCrop.get_params`: an area in `scale` of the image's, and a ratio of width to height in `ratio`,
    /// even on a scale of logarithms.
    pub fn draw(draw: &mut Draw, [width, height]: [usize; 2], scale: [f64; 2], ratio: [f64; 2]) -> Self {
        let between = |draw: &mut Draw, low: f64, high: f64| low + (high - low) * draw.unit();
        let side = |length: f64| length.round_ties_even() as usize;
        for _ in 0..TRIES {
            let area = (width * height) as f64 * between(draw, scale[0], scale[1]);
            let shape = between(draw, ratio[0].ln(), ratio[1].ln()).exp();
            let (w, h) = (side((area * shape).sqrt()), side((area / shape).sqrt()));
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let (top, left) = (draw.below(height - h + 1), draw.below(width - w + 1));
                return Self { left, top, width: w, height: h };
            }
        }
        let shape = width as f64 / height as f64;
        let (w, h) = if shape < ratio[0] {
            (width, side(width as f64 / ratio[0]))
        } else if shape > ratio[1] {
            (side(height as f64 * ratio[1]), height)
        } else {
            (width, height)
        };
        let (w, h) = (w.clamp(1, width), h.clamp(1, height));
        Self { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
    }
}

/// Crops and resizes; one a worker.
#[derive(Default)]
pub struct Cropper {
    resizer: Resizer,
    /// The crop, before it is resized: pixels around it have no part in it.
    crop: Vec<u8>,
}

impl Cropper {
    /// Writes the window of an image, `width` pixels a row, as `side x side x 3` bytes.
    ///
    /// # Errors
    /// The resizer refuses.
    pub fn resize(&mut self, image: &[u8], width: usize, window: Window, side: usize, out: &mut [u8]) -> Result<(), String> {
        let rows = (window.top..window.top + window.height).map(|y| (y * width + window.left) * 3);
        let rows = rows.map(|start| &image[start..start + window.width * 3]);
        if (window.width, window.height) == (side, side) {
            out.chunks_exact_mut(side * 3).zip(rows).for_each(|(out, row)| out.copy_from_slice(row));
            return Ok(());
        }
        self.crop.clear();
        rows.for_each(|row| self.crop.extend_from_slice(row));
        self.resizer.resize(&Part::whole(&self.crop, [window.width, window.height]), [side, side], out)
    }
}

/// Appends the window of a mask, `width` indices a row, as `side x side` bytes.
pub fn mask(mask: &[u8], width: usize, window: Window, mirrored: bool, side: usize, out: &mut Vec<u8>) {
    let (mut columns, rows) = (places(window.width, side, 0, side), places(window.height, side, 0, side));
    if mirrored {
        columns.reverse();
    }
    for row in rows {
        let start = (window.top + row) * width + window.left;
        out.extend(columns.iter().map(|column| mask[start + column]));
    }
}

/// Turns left and right around, in place.
pub fn mirror(image: &mut [u8], width: usize) {
    for row in image.chunks_exact_mut(width * 3) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_within_and_have_the_size_asked_for() {
        let mut draw = Draw::new(1, "test", "window", "", 0);
        let (mut smallest, mut largest) = (f64::INFINITY, 0.0f64);
        let mut corners = [[0; 2]; 2];
        for _ in 0..2000 {
            let window = Window::draw(&mut draw, [100, 80], [0.08, 1.0], [0.75, 4.0 / 3.0]);
            assert!(window.left + window.width <= 100 && window.top + window.height <= 80, "{window:?}");
            let (share, shape) =
                ((window.width * window.height) as f64 / 8000.0, window.width as f64 / window.height as f64);
            // Rounding to whole pixels: a half on 22.
            assert!((0.075..=1.0).contains(&share) && (0.72..1.38).contains(&shape), "{window:?}");
            smallest = smallest.min(share);
            largest = largest.max(share);
            for (axis, (start, rest)) in
                [(window.left, 100 - window.width), (window.top, 80 - window.height)].into_iter().enumerate()
            {
                corners[axis][usize::from(2 * start > rest)] += 1;
            }
        }
        assert!(smallest < 0.09 && largest > 0.9, "{smallest} {largest}");
        assert!(corners.iter().flatten().all(|count| (850..1150).contains(count)), "at either end as often: {corners:?}");
    }

    #[test]
    fn what_fits_nowhere_is_taken_from_the_middle() {
        let of = |size| Window::draw(&mut Draw::new(1, "test", "window", "", 0), size, [1.0, 1.0], [0.75, 4.0 / 3.0]);
        assert_eq!(of([400, 100]), Window { left: 133, top: 0, width: 133, height: 100 });
        assert_eq!(of([100, 400]), Window { left: 0, top: 133, width: 100, height: 133 });
        let all = Window::draw(&mut Draw::new(1, "test", "window", "", 0), [30, 30], [1.0, 1.0], [1.0, 1.0]);
        assert_eq!(all, Window { left: 0, top: 0, width: 30, height: 30 });
    }

    #[test]
    fn pixels_around_a_window_have_no_part_in_it() {
        let image: Vec<u8> = (0..16 * 16).flat_map(|at| if at % 16 < 8 { [100; 3] } else { [255, 0, 9] }).collect();
        let window = Window { left: 0, top: 3, width: 8, height: 8 };
        for side in [4, 8, 20] {
            let mut out = vec![0; side * side * 3];
            Cropper::default().resize(&image, 16, window, side, &mut out).unwrap();
            assert!(out.iter().all(|&byte| byte == 100), "{side}: {out:?}");
        }
    }

    #[test]
    fn halves_are_means_with_a_triangles_weights() {
        let image: Vec<u8> = [0u8, 80, 160, 240].iter().flat_map(|&value| [value; 3]).collect();
        let mut out = vec![0; 3];
        Cropper::default().resize(&image, 4, Window { left: 0, top: 0, width: 4, height: 1 }, 1, &mut out).unwrap();
        assert_eq!(out, [120; 3]);
        let rows = image.repeat(4);
        let mut out = vec![0; 2 * 2 * 3];
        Cropper::default().resize(&rows, 4, Window { left: 0, top: 0, width: 4, height: 4 }, 2, &mut out).unwrap();
        // Around 1 (in pixels) with a support of 2: weights 3, 3, 1 of 7 on 0, 80, 160.
        assert_eq!(out, [[57; 3], [183; 3], [57; 3], [183; 3]].concat());
        let columns: Vec<u8> = image.chunks(3).flat_map(|pixel| pixel.repeat(6)).collect();
        Cropper::default().resize(&columns, 6, Window { left: 1, top: 0, width: 4, height: 4 }, 2, &mut out).unwrap();
        assert_eq!(out, [[57; 3], [57; 3], [183; 3], [183; 3]].concat());
    }

    #[test]
    fn mirrored_twice_is_as_before() {
        let image: Vec<u8> = (0..24).collect();
        let mut turned = image.clone();
        mirror(&mut turned, 4);
        assert_eq!(turned[..12], [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]);
        assert_eq!(turned[12..], [21, 22, 23, 18, 19, 20, 15, 16, 17, 12, 13, 14]);
        mirror(&mut turned, 4);
        assert_eq!(turned, image);
    }
}
