//! Sizes and crops as torchvision's `Resize` and `CenterCrop` have them on Pillow images, and the one resizer of RGB bytes.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions};

/// Resizes pictures of RGB bytes with antialiasing: a triangle filter, as Pillow's `BILINEAR`. One a worker.
#[derive(Default)]
pub struct Resizer(fast_image_resize::Resizer);

/// A part of a picture.
pub struct Part<'a> {
    /// The picture, `height x width x 3`.
    pub pixels: &'a [u8],
    /// Its columns and rows.
    pub size: [usize; 2],
    /// Where the part begins, from the left and from the top: whole pixels or fractions.
    pub start: [f64; 2],
    /// The part's columns and rows: whole pixels or fractions.
    pub length: [f64; 2],
}

impl<'a> Part<'a> {
    /// The whole picture.
    pub fn whole(pixels: &'a [u8], size: [usize; 2]) -> Self {
        Self { pixels, size, start: [0.0; 2], length: size.map(|length| length as f64) }
    }
}

impl Resizer {
    /// Writes a part as a picture of that many columns and rows.
    ///
    /// # Errors
    /// There are fewer bytes than that.
    pub fn resize(&mut self, part: &Part<'_>, [columns, rows]: [usize; 2], out: &mut [u8]) -> Result<(), String> {
        let Part { pixels, size: [width, height], start, length } = *part;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let source = ImageRef::new(width as u32, height as u32, pixels, PixelType::U8x3).map_err(|error| text(&error))?;
        let target = Image::from_slice_u8(columns as u32, rows as u32, out, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        let options = options.crop(start[0], start[1], length[0], length[1]);
        self.0.resize(&source, &mut target.map_err(|error| text(&error))?, &options).map_err(|error| text(&error))
    }

    /// Frees its buffers, if they take more than so many bytes.
    pub fn shrink(&mut self, most_bytes: usize) {
        if self.0.size_of_internal_buffers() > most_bytes {
            self.0.reset_internal_buffers();
        }
    }
}

/// Columns and rows once the short side is resized to `short`, as torchvision's `Resize` counts them.
pub fn resized(size: [usize; 2], short: usize) -> [usize; 2] {
    let shortest = size[0].min(size[1]).max(1);
    size.map(|length| if length == shortest { short } else { short * length / shortest })
}

/// Where a crop of `side` begins in the middle of `length`: torchvision's `CenterCrop`, which rounds halves to even.
pub fn centre(length: usize, side: usize) -> usize {
    ((length - side) as f64 / 2.0).round_ties_even() as usize
}

/// The length of a span from `start` on that ends within `limit`, whatever rounding made of it.
pub fn within(start: f64, length: f64, limit: f64) -> f64 {
    let mut length = if start + length > limit { limit - start } else { length };
    while start + length > limit {
        length = length.next_down();
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stay_within_the_image() {
        assert_eq!(within(1.0, 2.0, 3.0), 2.0);
        for (start, length, limit) in [(0.1, 0.2, 0.3), (1e-9, 7.0, 7.0), (4.0 / 3.0, 5.0, 19.0 / 3.0)] {
            let length = within(start, length, limit);
            assert!(start + length <= limit && length > 0.0);
        }
    }
}
