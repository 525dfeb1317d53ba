//! Masks: PNGs whose pixels are indices of classes, never colours.
//!
//! A pixel is its index in the palette, or its value of gray as it is stored; those of 1, 2 and 4 bits are as many numbers. A mask is of the
//! image as that is stored: it has its size, and is turned as the image's Exif or XMP data say of the image. It is brought to the size of
//! the image's pixels without any value between two classes: each pixel of the upright square takes the one of the mask in which its
//! middle lies, as torchvision's `Resize(side, InterpolationMode.NEAREST)` and `CenterCrop` do on Pillow images, down to the way in
//! which Pillow adds up the steps.

use std::io::Cursor;

use image::metadata::Orientation;
use png::{BitDepth, ColorType, Decoder, Limits, Reader, Transformations};

use super::resize::{centre, resized};
use super::sized;
use super::upright::{origin, transposes};

/// How an image is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stored {
    /// Columns and rows of the file.
    pub(super) size: [usize; 2],
    pub(super) orientation: Orientation,
}

/// A mask whose header was read.
pub(super) struct Mask<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
    /// Bits of a pixel.
    depth: usize,
    size: [usize; 2],
}

impl<'a> Mask<'a> {
    /// Reads the header; `max_bytes` is the most that anything in the file may take.
    ///
    /// # Errors
    /// It is no PNG, is broken, or its pixels are no indices.
    pub fn of(bytes: &'a [u8], max_bytes: u64) -> Result<Self, String> {
        if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Err("its mask is no PNG".to_owned());
        }
        let bound = Limits { bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX) };
        let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), bound);
        decoder.set_transformations(Transformations::IDENTITY);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let reader = decoder.read_info().map_err(broken)?;
        let info = reader.info();
        let size = [info.width as usize, info.height as usize];
        let depth = match (info.color_type, info.bit_depth) {
            (ColorType::Indexed | ColorType::Grayscale, BitDepth::One) => 1,
            (ColorType::Indexed | ColorType::Grayscale, BitDepth::Two) => 2,
            (ColorType::Indexed | ColorType::Grayscale, BitDepth::Four) => 4,
            (ColorType::Indexed | ColorType::Grayscale, BitDepth::Eight) => 8,
            (colours, depth) => {
                let bits = depth as u8;
                return Err(format!(
                    "its mask is a PNG of {colours:?} with {bits} bits, and its pixels should be indices of classes: save it with a \
                     palette or as gray of 8 bits"
                ));
            }
        };
        Ok(Self { reader, depth, size })
    }

    /// Columns and rows.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Bytes that decoding takes.
    pub fn need(&self) -> u64 {
        self.size[1] as u64 * self.line() as u64
    }

    /// Bytes of a row.
    fn line(&self) -> usize {
        (self.size[0] * self.depth).div_ceil(8)
    }

    /// The square of an image's mask, upright, of `side x side` bytes. `buffer` is the worker's.
    ///
    /// # Errors
    /// It is broken, or has another size than the image.
    pub fn square(mut self, image: Stored, side: usize, buffer: &mut Vec<u8>, out: &mut [u8]) -> Result<(), String> {
        let (depth, line) = (self.depth, self.line());
        let packed = sized(buffer, line * self.size[1]);
        self.reader.next_frame(packed).map_err(broken)?;
        let upright = if transposes(image.orientation) { [image.size[1], image.size[0]] } else { image.size };
        let squared = resized(upright, side);
        let [columns, rows] = [0, 1].map(|axis| places(upright[axis], squared[axis], centre(squared[axis], side), side));
        let mut pixels = out.iter_mut();
        for &y in &rows {
            for (&x, out) in columns.iter().zip(&mut pixels) {
                let (x, y) = origin((x, y), image.size, image.orientation);
                let byte = packed[y * line + x * depth / 8];
                // The first pixel of a byte is its highest bits.
                *out = if depth == 8 { byte } else { byte >> (8 - depth - x * depth % 8) & ((1 << depth) - 1) };
            }
        }
        Ok(())
    }
}

/// Where `side` pixels lie in a side of `length`, once that is resized to `resized` pixels of which `offset` are left away.
pub fn places(length: usize, resized: usize, offset: usize, side: usize) -> Vec<usize> {
    let step = length as f64 / resized as f64;
    let mut at = step * 0.5;
    let place = |_: usize| {
        let place = (at as usize).min(length - 1);
        at += step;
        place
    };
    (0..offset + side).map(place).skip(offset).collect()
}

fn broken(error: png::DecodingError) -> String {
    format!("its mask is a broken PNG: {error}")
}

#[cfg(test)]
pub mod tests;
