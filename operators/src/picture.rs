//! Encoded bytes to RGB, shared by `decode` and `tile`.
//!
//! What a file is, its content says, never its name. JPEG goes through libjpeg-turbo, scaled in the DCT domain as far as the
//! wanted size allows; PNG, WebP, GIF (first frame), BMP and TIFF through the `image` crate. Gray becomes RGB, 16 bits become 8,
//! alpha is left away (as Pillow's `convert("RGB")` does), CMYK is converted without a colour profile, and EXIF's orientation is
//! applied. libjpeg-turbo's warnings (a truncated file, broken Huffman codes) are errors, but for extraneous bytes between
//! the markers of a file that has its end, which harm nothing.
//!
//! Sizes and crops are those of torchvision's `Resize` and `CenterCrop` on Pillow images.

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits};
use turbojpeg::{Colorspace, Decompressor, PixelFormat, ScalingFactor};

use crate::operator::RunError;

/// Pixels per image that are decoded unless config says otherwise, in millions: where Pillow, too, suspects a bomb.
pub const MAX_MEGAPIXELS: u32 = 178;
/// Scales with fast inverse transforms, smallest first.
const SCALES: [ScalingFactor; 3] = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF];

/// How much larger than wanted a JPEG is decoded at least, where it is scaled in the DCT domain: that scaling is a box filter,
/// and at less than twice the size its aliases show (27 % sharper edges than a resize of the whole image, measured at once).
const OVERSAMPLED: usize = 2;
/// Scans of a progressive JPEG; real ones have about ten, and each costs a pass over the image.
const MAX_SCANS: u32 = 500;
/// Buffers that grew larger for one image are given back at the next.
const KEPT_BYTES: usize = 64 << 20;

/// A decoder with its buffers; one a worker.
pub struct Decoder {
    jpeg: Decompressor,
    resizer: Resizer,
    max_pixels: u64,
    /// The decoded image, `height x width x 3`.
    pixels: Vec<u8>,
    /// Four channels, where the file has them.
    cmyk: Vec<u8>,
    /// The resized image before it is turned.
    turned: Vec<u8>,
}

/// What is in [`Decoder::pixels`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct Decoded {
    /// Columns and rows of pixels.
    size: [usize; 2],
    /// Those that the picture covers: fewer by a fraction where a scaled JPEG fills up its last pixel.
    covered: [f64; 2],
    /// Columns and rows of the file.
    full: [usize; 2],
    orientation: Orientation,
}

impl Decoded {
    /// Columns and rows once the short side is resized to `short`, as torchvision's `Resize` counts them.
    fn resized(&self, short: usize) -> [usize; 2] {
        let shortest = self.full[0].min(self.full[1]).max(1);
        self.full.map(|length| if length == shortest { short } else { short * length / shortest })
    }
}

impl Decoder {
    /// A decoder that refuses images of more than that many million pixels.
    ///
    /// # Errors
    /// libjpeg-turbo has no memory.
    pub fn new(max_megapixels: u32) -> Result<Self, RunError> {
        let jpeg = decompressor().map_err(|error| RunError::Engine(error.to_string()))?;
        let max_pixels = u64::from(max_megapixels) * 1_000_000;
        let (pixels, cmyk, turned) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { jpeg, resizer: Resizer::new(), max_pixels, pixels, cmyk, turned })
    }

    /// Decodes, resizes the short side to `side` with antialiasing, and crops the centre, into `side x side x 3` bytes. Only
    /// what the crop shows is resized.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn square(&mut self, bytes: &[u8], side: usize, out: &mut [u8]) -> Result<(), String> {
        let decoded = self.decode(bytes, Some(side))?;
        let mirrored = mirrors(decoded.orientation);
        let resized = decoded.resized(side);
        // The upright picture's offsets, as the picture lies.
        let offset = [0, 1].map(|axis| {
            let (spare, centred) = (resized[axis] - side, centre(resized[axis], side));
            if mirrored[axis] { spare - centred } else { centred }
        });
        self.resize(decoded, resized, offset, [side, side], out)
    }

    /// Decodes a whole image upright; with `short`, resized to that short side. Returns width, height and `height x width x 3`
    /// bytes.
    ///
    /// # Errors
    /// What is wrong with the bytes, or that the resized image would be too large.
    pub fn whole(&mut self, bytes: &[u8], short: Option<usize>) -> Result<(usize, usize, Vec<u8>), String> {
        let decoded = self.decode(bytes, short)?;
        let resized = short.map_or(decoded.size, |short| decoded.resized(short));
        let [w, h] = if transposes(decoded.orientation) { [resized[1], resized[0]] } else { resized };
        self.check_size(w, h)?;
        let mut out = vec![0; w * h * 3];
        self.resize(decoded, resized, [0, 0], resized, &mut out)?;
        Ok((w, h, out))
    }

    /// Resizes the picture to `resized`, and writes the `size` pixels from `offset` on upright. All sizes are columns and rows
    /// as the picture lies.
    fn resize(
        &mut self,
        decoded: Decoded,
        resized: [usize; 2],
        offset: [usize; 2],
        size: [usize; 2],
        out: &mut [u8],
    ) -> Result<(), String> {
        let plain = decoded.orientation == Orientation::NoTransforms;
        let target: &mut [u8] = if plain { out } else { sized(&mut self.turned, size[0] * size[1] * 3) };
        let [width, height] = decoded.size;
        let source = ImageRef::new(width as u32, height as u32, &self.pixels[..width * height * 3], PixelType::U8x3);
        let source = source.map_err(|error| error.to_string())?;
        let mut image = Image::from_slice_u8(size[0] as u32, size[1] as u32, target, PixelType::U8x3);
        let image = image.as_mut().map_err(|error| error.to_string())?;
        let [(left, width), (top, height)] = [0, 1].map(|axis| {
            let per_pixel = decoded.covered[axis] / resized[axis] as f64;
            span(offset[axis] as f64 * per_pixel, size[axis] as f64 * per_pixel, decoded.size[axis] as f64)
        });
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        let options = options.crop(left, top, width, height);
        self.resizer.resize(&source, image, &options).map_err(|error| error.to_string())?;
        if !plain {
            turn(&self.turned, size[0], size[1], decoded.orientation, out);
        }
        Ok(())
    }

    /// Fills `pixels`, for a short side of `wanted` or as they are.
    fn decode(&mut self, bytes: &[u8], wanted: Option<usize>) -> Result<Decoded, String> {
        if bytes.is_empty() {
            return Err("the file is empty".into());
        }
        if bytes.starts_with(&[0xff, 0xd8]) { self.decode_jpeg(bytes, wanted) } else { self.decode_other(bytes) }
    }

    fn check_size(&self, width: usize, height: usize) -> Result<(), String> {
        let pixels = width as u64 * height as u64;
        if pixels == 0 {
            return Err(format!("the image is {width}x{height}"));
        }
        if pixels > self.max_pixels {
            let limit = self.max_pixels / 1_000_000;
            return Err(format!("{width}x{height} is more than max_megapixels = {limit}: maybe a decompression bomb"));
        }
        Ok(())
    }

    fn decode_jpeg(&mut self, bytes: &[u8], wanted: Option<usize>) -> Result<Decoded, String> {
        let broken = |error: turbojpeg::Error| format!("broken JPEG: {}", plain_words(&error));
        let header = match self.jpeg.read_header(bytes) {
            Ok(header) => header,
            Err(error) => {
                // libjpeg-turbo stays within a header that it failed at, and would go on there in the next file.
                self.jpeg = decompressor().map_err(broken)?;
                return Err(broken(error));
            }
        };
        self.check_size(header.width, header.height)?;
        let short = header.width.min(header.height);
        let enough = |scale: &&ScalingFactor| wanted.is_some_and(|wanted| scale.scale(short) >= OVERSAMPLED * wanted);
        let scale = if header.is_lossless { None } else { SCALES.iter().find(enough) };
        let scale = scale.copied().unwrap_or(ScalingFactor::ONE);
        self.jpeg.set_scaling_factor(scale).map_err(broken)?;
        let (width, height) = (scale.scale(header.width), scale.scale(header.height));
        let four = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
        let (buffer, format) = if four { (&mut self.cmyk, PixelFormat::CMYK) } else { (&mut self.pixels, PixelFormat::RGB) };
        let pitch = width * format.size();
        let image = turbojpeg::Image { pixels: sized(buffer, pitch * height), width, pitch, height, format };
        if let Err(error) = self.jpeg.decompress(bytes, image)
            && !(plain_words(&error).contains("extraneous bytes before marker") && ends(bytes))
        {
            return Err(broken(error));
        }
        let markers = Markers::of(bytes);
        if four {
            let rgb = sized(&mut self.pixels, width * height * 3);
            cmyk_to_rgb(&self.cmyk[..width * height * 4], markers.adobe, rgb);
        }
        let full = [header.width, header.height];
        let covered = full.map(|length| (length * scale.num()) as f64 / scale.denom() as f64);
        Ok(Decoded { size: [width, height], covered, full, orientation: markers.orientation })
    }

    fn decode_other(&mut self, bytes: &[u8]) -> Result<Decoded, String> {
        let format = image::guess_format(bytes).map_err(|_| unknown(bytes))?;
        let name = match format {
            ImageFormat::Png => "PNG",
            ImageFormat::Gif => "GIF",
            ImageFormat::WebP => "WebP",
            ImageFormat::Bmp => "BMP",
            ImageFormat::Tiff => "TIFF",
            _ => return Err(unknown(bytes)),
        };
        let broken = |error: image::ImageError| match error {
            image::ImageError::Unsupported(error) => format!("a {name} of a kind that cannot be read: {error}"),
            error => format!("broken {name}: {error}"),
        };
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::default();
        // Two copies of 16-bit RGBA at most.
        limits.max_alloc = Some(self.max_pixels * 16);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(broken)?;
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        self.check_size(width, height)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let image = DynamicImage::from_decoder(decoder).map_err(broken)?;
        self.pixels = image.into_rgb8().into_raw();
        let full = [width, height];
        Ok(Decoded { size: full, covered: full.map(|length| length as f64), full, orientation })
    }
}

fn decompressor() -> Result<Decompressor, turbojpeg::Error> {
    let mut jpeg = Decompressor::new()?;
    jpeg.set_scan_limit(MAX_SCANS)?;
    Ok(jpeg)
}

/// The buffer at that length; what was in it is of no interest.
fn sized(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() > KEPT_BYTES && length <= KEPT_BYTES {
        *buffer = Vec::new();
    }
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

/// Where a crop of `side` begins in the middle of `length`: torchvision's `CenterCrop`, which rounds halves to even.
fn centre(length: usize, side: usize) -> usize {
    ((length - side) as f64 / 2.0).round_ties_even() as usize
}

/// A span that ends within `limit`, whatever rounding made of it.
fn span(start: f64, length: f64, limit: f64) -> (f64, f64) {
    let mut length = length;
    if start + length > limit {
        length = limit - start;
    }
    while start + length > limit {
        length = length.next_down();
    }
    (start, length)
}

/// Whether a JPEG has its end marker, zeros or line ends behind it aside.
fn ends(jpeg: &[u8]) -> bool {
    let padding = jpeg.iter().rev().take_while(|byte| matches!(byte, 0 | b'\r' | b'\n')).count();
    jpeg[..jpeg.len() - padding].ends_with(&[0xff, 0xd9])
}

fn plain_words(error: &turbojpeg::Error) -> String {
    match error {
        turbojpeg::Error::TurboJpegError(message) => message.trim_end_matches('.').to_owned(),
        other => other.to_string(),
    }
}

fn unknown(bytes: &[u8]) -> String {
    let text = bytes.iter().take(64).all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let what = if text { "it begins like text" } else { "its first bytes are none of a known format" };
    format!("not an image: {what} (known: JPEG, PNG, WebP, GIF, BMP, TIFF)")
}

fn transposes(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Whether columns and rows, as a picture lies, run against the upright picture's.
fn mirrors(orientation: Orientation) -> [bool; 2] {
    use Orientation::{FlipHorizontal, FlipVertical, Rotate90, Rotate180, Rotate270, Rotate270FlipH};
    [
        matches!(orientation, FlipHorizontal | Rotate180 | Rotate270 | Rotate270FlipH),
        matches!(orientation, FlipVertical | Rotate180 | Rotate90 | Rotate270FlipH),
    ]
}

/// Turns `w x h` pixels upright into `out`.
fn turn(pixels: &[u8], w: usize, h: usize, orientation: Orientation, out: &mut [u8]) {
    use Orientation::{
        FlipHorizontal, FlipVertical, NoTransforms, Rotate90, Rotate90FlipH, Rotate180, Rotate270, Rotate270FlipH,
    };
    let out_w = if transposes(orientation) { h } else { w };
    for (at, pixel) in out.chunks_exact_mut(3).enumerate() {
        let (x, y) = (at % out_w, at / out_w);
        let (from_x, from_y) = match orientation {
            NoTransforms => (x, y),
            FlipHorizontal => (w - 1 - x, y),
            FlipVertical => (x, h - 1 - y),
            Rotate180 => (w - 1 - x, h - 1 - y),
            Rotate90 => (y, h - 1 - x),
            Rotate270 => (w - 1 - y, x),
            Rotate90FlipH => (y, x),
            Rotate270FlipH => (w - 1 - y, h - 1 - x),
        };
        let start = (from_y * w + from_x) * 3;
        pixel.copy_from_slice(&pixels[start..start + 3]);
    }
}

/// CMYK to RGB without a profile. Adobe's programs store the complement.
fn cmyk_to_rgb(cmyk: &[u8], adobe: bool, rgb: &mut [u8]) {
    let flip = if adobe { 0 } else { 255 };
    for (four, three) in cmyk.chunks_exact(4).zip(rgb.chunks_exact_mut(3)) {
        let key = u32::from(four[3] ^ flip);
        for (ink, out) in four.iter().zip(three) {
            *out = ((u32::from(ink ^ flip) * key + 127) / 255) as u8;
        }
    }
}

/// What a JPEG's markers say beyond its frame.
#[derive(Debug, PartialEq)]
struct Markers {
    orientation: Orientation,
    adobe: bool,
}

impl Markers {
    /// Walks the segments before the first scan.
    fn of(bytes: &[u8]) -> Self {
        let mut markers = Self { orientation: Orientation::NoTransforms, adobe: false };
        let mut at = 2;
        while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4).and_then(|head| head.first_chunk::<4>()) {
            if marker == 0xff {
                at += 1;
                continue;
            }
            let length = usize::from(u16::from_be_bytes([high, low]));
            let body = bytes.get(at + 4..at + 2 + length.max(2)).unwrap_or_default();
            match marker {
                0xda | 0xd9 => break,
                0xe1 => {
                    if let Some(exif) = body.strip_prefix(b"Exif\0\0") {
                        markers.orientation = Orientation::from_exif_chunk(exif).unwrap_or(markers.orientation);
                    }
                }
                0xee => markers.adobe |= body.starts_with(b"Adobe"),
                _ => {}
            }
            at += 2 + length.max(2);
        }
        markers
    }
}

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;
