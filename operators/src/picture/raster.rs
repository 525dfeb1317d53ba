//! PNG, WebP, GIF (first frame), BMP, TIFF and Netpbm's formats to RGB, through the `image` crate.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::ifd::Directory;
use super::orientation;

/// An image whose header was read.
pub struct Raster<'a> {
    name: &'static str,
    format: ImageFormat,
    bytes: &'a [u8],
    decoder: Box<dyn ImageDecoder + 'a>,
}

impl<'a> Raster<'a> {
    /// Reads the header; `max_bytes` is the most that anything in the file may take.
    ///
    /// # Errors
    /// It is no image, is broken, or is of a kind that is not read.
    pub fn of(bytes: &'a [u8], max_bytes: u64) -> Result<Self, String> {
        let big_tiff = bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+");
        let format = if big_tiff { Some(ImageFormat::Tiff) } else { image::guess_format(bytes).ok() };
        let (format, name) = match format {
            Some(ImageFormat::Png) => (ImageFormat::Png, "PNG"),
            Some(ImageFormat::Gif) => (ImageFormat::Gif, "GIF"),
            Some(ImageFormat::WebP) => (ImageFormat::WebP, "WebP"),
            Some(ImageFormat::Bmp) => (ImageFormat::Bmp, "BMP"),
            Some(ImageFormat::Tiff) => (ImageFormat::Tiff, "TIFF"),
            Some(ImageFormat::Pnm) => (ImageFormat::Pnm, "PPM"),
            _ => return Err(unknown(bytes)),
        };
        if let Some(kind) = tiff_kind(bytes) {
            return Err(format!("a TIFF {kind}, which is not read: convert it to RGB or gray of 8 or 16 bits"));
        }
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::default();
        limits.max_alloc = Some(max_bytes);
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(|error| broken(name, error))?;
        Ok(Self { name, format, bytes, decoder: Box::new(decoder) })
    }

    /// Columns and rows.
    pub fn size(&self) -> [usize; 2] {
        let (width, height) = self.decoder.dimensions();
        [width as usize, height as usize]
    }

    /// How it lies.
    pub fn orientation(&self) -> Orientation {
        match self.format {
            ImageFormat::Png => orientation::of_png(self.bytes),
            ImageFormat::WebP => orientation::of_webp(self.bytes),
            ImageFormat::Tiff => orientation::of_tiff(self.bytes),
            _ => Orientation::NoTransforms,
        }
    }

    /// Bytes that decoding takes.
    pub fn need(&self) -> u64 {
        let [width, height] = self.size().map(|length| length as u64);
        let (pixels, decoded) = (width * height, self.decoder.total_bytes());
        let inner = match self.format {
            // A buffer of the file's samples, beside that of the image.
            ImageFormat::Tiff => decoded.max(pixels * 4),
            // Planes or predicted colours, and the canvas of an animation.
            ImageFormat::WebP => pixels * 6,
            ImageFormat::Gif => pixels * 5,
            _ => 0,
        };
        let rgb = if matches!(self.decoder.color_type(), ColorType::Rgb8 | ColorType::Rgba8) { 0 } else { pixels * 3 };
        decoded + inner + rgb
    }

    /// Decodes it.
    ///
    /// # Errors
    /// It is broken, or its samples cannot be told from the file.
    pub fn decode(self) -> Result<Vec<u8>, String> {
        let image = DynamicImage::from_decoder(self.decoder).map_err(|error| broken(self.name, error))?;
        let floats = match &image {
            DynamicImage::ImageRgb32F(image) => image.as_raw().as_slice(),
            DynamicImage::ImageRgba32F(image) => image.as_raw(),
            _ => &[],
        };
        if let Some(value) = floats.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            let name = self.name;
            return Err(format!(
                "a {name} of floating-point samples that has {value}, and they are read from 0 (black) to 1 (white) alone: \
                 convert it to 8 or 16 bits"
            ));
        }
        Ok(match image {
            DynamicImage::ImageRgb8(image) => image.into_raw(),
            DynamicImage::ImageRgba8(image) => without_alpha(image.into_raw()),
            other => other.into_rgb8().into_raw(),
        })
    }
}

/// RGBA to RGB where it lies.
fn without_alpha(mut pixels: Vec<u8>) -> Vec<u8> {
    let count = pixels.len() / 4;
    for pixel in 0..count {
        pixels.copy_within(pixel * 4..pixel * 4 + 3, pixel * 3);
    }
    pixels.truncate(count * 3);
    pixels
}

fn broken(name: &str, error: image::ImageError) -> String {
    match error {
        image::ImageError::Unsupported(error) => format!("a {name} of a kind that cannot be read: {error}"),
        error => format!("broken {name}: {error}"),
    }
}

fn unknown(bytes: &[u8]) -> String {
    let text = bytes.iter().take(64).all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let what = if text { "it begins like text" } else { "its first bytes are none of a known format" };
    format!("not an image: {what} (known: JPEG, PNG, WebP, GIF, BMP, TIFF)")
}

/// What a TIFF is, in words, if it is of a kind that is not read.
fn tiff_kind(bytes: &[u8]) -> Option<&'static str> {
    const BITS: u16 = 258;
    const COLOURS: u16 = 262;
    const SAMPLES: u16 = 277;
    const SAMPLE_FORMAT: u16 = 339;
    let directory = Directory::of(bytes)?;
    let first = |tag, default| directory.numbers(tag).and_then(|all| all.first().copied()).unwrap_or(default);
    let (bits, samples, kind) = (first(BITS, 1), first(SAMPLES, 1), first(SAMPLE_FORMAT, 1));
    match first(COLOURS, u64::MAX) {
        3 => Some("with a palette of colours"),
        6 => Some("of YCbCr colours"),
        8..=10 => Some("of CIE Lab colours"),
        _ if kind == 2 => Some("of signed samples"),
        _ if kind == 3 && bits != 32 => Some("of floating-point samples of other than 32 bits"),
        0 | 1 if kind == 3 => Some("of floating-point gray"),
        0 | 1 if samples == 2 => Some("of gray with alpha"),
        0 | 1 if samples > 2 => Some("of several bands that are no colours"),
        _ if bits > 16 && kind == 1 => Some("of more than 16 bits a sample"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
