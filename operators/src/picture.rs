//! Encoded bytes to RGB, shared by `decode` and `tile`.
//!
//! What a file is, its content says, never its name. JPEG goes through libjpeg-turbo, scaled in the DCT domain as far as the
//! wanted size allows; PNG, WebP, GIF (first frame), BMP, TIFF and Netpbm's formats (PBM, PGM, PPM) through the `image` crate. Gray becomes RGB, 16 bits become 8,
//! alpha is left away (as Pillow's `convert("RGB")` does), CMYK is converted without a colour profile, and the orientation that Exif
//! or XMP name is applied. A JPEG whose data are not exactly those of its picture is an error (`jpeg`); what is odd about
//! its header, or lies behind its end, is not.
//!
//! What an image needs is known from its header. One that needs more than its [`Limits`] is refused, and all workers of the process
//! share a [`Budget`].
//!
//! Sizes and crops are those of torchvision's `Resize` and `CenterCrop` on Pillow images.

mod budget;
mod ifd;
mod jpeg;
mod limits;
pub mod mask;
mod orientation;
mod raster;
pub mod resize;
mod upright;

use image::metadata::Orientation;

use budget::{Budget, Permit};
use jpeg::Jpeg;
use limits::Limits;
pub use limits::MAX_MEGAPIXELS;
use mask::{Mask, Stored};
use raster::Raster;
use resize::{Part, Resizer, centre, resized, within};
use upright::{mirrors, transposes, turn};

/// Buffers that grew larger for one image are given back behind it.
const KEPT_BYTES: usize = 64 << 20;

/// A decoder with its buffers; one a worker.
pub struct Decoder {
    resizer: Resizer,
    limits: Limits,
    /// The decoded image, `height x width x 3`.
    pixels: Vec<u8>,
    jpeg: jpeg::Buffers,
    /// The resized image before it is turned.
    turned: Vec<u8>,
    /// The decoded mask.
    indices: Vec<u8>,
    budget: &'static Budget,
    /// For the image at work.
    permit: Option<Permit<'static>>,
}

/// A whole image, upright.
pub struct Photo {
    /// Columns and rows.
    pub size: [usize; 2],
    /// `height x width x 3`.
    pub pixels: Vec<u8>,
    /// For its memory.
    permit: Option<Permit<'static>>,
}

impl Photo {
    /// The image, to be kept while its worker waits for others; none if there is no memory for that.
    pub fn keep(mut self) -> Option<Self> {
        self.permit = Some(Budget::keeping().try_take(self.pixels.capacity() as u64)?);
        Some(self)
    }
}

/// What becomes of a decoded image.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    /// The short side is resized to that, and the centre cropped.
    Square(usize),
    /// The whole image, its short side resized to that or left as it is.
    Whole(Option<usize>),
}

impl Target {
    fn short(self) -> Option<usize> {
        match self {
            Self::Square(side) => Some(side),
            Self::Whole(short) => short,
        }
    }
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
        resized(self.full, short)
    }

    /// Bytes that resizing takes, beside those of the decoded image.
    fn need(&self, target: Target) -> u64 {
        let (width, height) = match target {
            Target::Square(side) => (side, side),
            Target::Whole(short) => short.map_or(self.size, |short| self.resized(short)).into(),
        };
        let [out, between] = [width * height, width * self.size[1]].map(|pixels| pixels as u64 * 3);
        let plain = self.orientation == Orientation::NoTransforms;
        match target {
            Target::Whole(None) if plain => 0,
            Target::Whole(None) => out,
            _ if plain => out + between,
            _ => 2 * out + between,
        }
    }
}

impl Decoder {
    /// A decoder that refuses images of more than that many million pixels.
    pub fn new(max_megapixels: u32) -> Self {
        Self::within(max_megapixels, Budget::decoding())
    }

    fn within(max_megapixels: u32, budget: &'static Budget) -> Self {
        let (resizer, limits) = (Resizer::default(), Limits::new(max_megapixels));
        let (pixels, jpeg) = (Vec::new(), jpeg::Buffers::default());
        let (turned, indices) = (Vec::new(), Vec::new());
        Self { resizer, limits, pixels, jpeg, turned, indices, budget, permit: None }
    }

    /// Decodes, resizes the short side to `side` with antialiasing, and crops the centre, into `side x side x 3` bytes. Only
    /// what the crop shows is resized. Says how the image is stored.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn square(&mut self, bytes: &[u8], side: usize, out: &mut [u8]) -> Result<Stored, String> {
        let done = self.decode(bytes, Target::Square(side)).and_then(|decoded| {
            self.crop(decoded, side, out)?;
            Ok(Stored { size: decoded.full, orientation: decoded.orientation })
        });
        self.give_back();
        done
    }

    /// Decodes the mask of an image, and brings it to the same square of `side x side` bytes, each an index: see [`mask`].
    ///
    /// # Errors
    /// What is wrong with the bytes; or the mask has another size than the image.
    pub fn mask(&mut self, bytes: &[u8], image: Stored, side: usize, out: &mut [u8]) -> Result<(), String> {
        let mask = Mask::of(bytes, self.limits.bytes())?;
        if mask.size() != image.size {
            let ([width, height], [w, h]) = (mask.size(), image.size);
            return Err(format!("its mask is {width}x{height}, and the image, as it is stored, {w}x{h}"));
        }
        self.permit = Some(self.budget.take(mask.need()));
        let done = mask.square(image, side, &mut self.indices, out);
        self.give_back();
        done
    }

    fn crop(&mut self, decoded: Decoded, side: usize, out: &mut [u8]) -> Result<(), String> {
        let mirrored = mirrors(decoded.orientation);
        let resized = decoded.resized(side);
        // The upright picture's offsets, as the picture lies.
        let offset = [0, 1].map(|axis| {
            let (spare, centred) = (resized[axis] - side, centre(resized[axis], side));
            if mirrored[axis] { spare - centred } else { centred }
        });
        self.resize(decoded, resized, offset, [side, side], out)
    }

    /// Decodes a whole image upright; with `short`, resized to that short side.
    ///
    /// # Errors
    /// What is wrong with the bytes, or that the resized image would be too large.
    pub fn whole(&mut self, bytes: &[u8], short: Option<usize>) -> Result<Photo, String> {
        let done = self.decode(bytes, Target::Whole(short)).and_then(|decoded| self.upright(decoded, short));
        let mut permit = self.permit.take();
        self.give_back();
        let (size, pixels) = done?;
        if let Some(permit) = &mut permit {
            permit.shrink(pixels.capacity() as u64);
        }
        Ok(Photo { size, pixels, permit })
    }

    fn upright(&mut self, decoded: Decoded, short: Option<usize>) -> Result<([usize; 2], Vec<u8>), String> {
        let resized = short.map_or(decoded.size, |short| decoded.resized(short));
        let [w, h] = if transposes(decoded.orientation) { [resized[1], resized[0]] } else { resized };
        if short.is_none() && decoded.orientation == Orientation::NoTransforms {
            let mut pixels = std::mem::take(&mut self.pixels);
            pixels.truncate(w * h * 3);
            return Ok(([w, h], pixels));
        }
        let mut out = vec![0; w * h * 3];
        self.resize(decoded, resized, [0, 0], resized, &mut out)?;
        Ok(([w, h], out))
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
        let per_pixel = [0, 1].map(|axis| decoded.covered[axis] / resized[axis] as f64);
        let start = [0, 1].map(|axis| offset[axis] as f64 * per_pixel[axis]);
        let ends = |axis: usize| within(start[axis], size[axis] as f64 * per_pixel[axis], decoded.size[axis] as f64);
        let pixels = &self.pixels[..width * height * 3];
        self.resizer.resize(&Part { pixels, size: decoded.size, start, length: [ends(0), ends(1)] }, size, target)?;
        if !plain {
            turn(&self.turned, size[0], size[1], decoded.orientation, out);
        }
        Ok(())
    }

    /// Fills `pixels`.
    fn decode(&mut self, bytes: &[u8], target: Target) -> Result<Decoded, String> {
        if bytes.is_empty() {
            return Err("the file is empty".into());
        }
        if bytes.starts_with(&[0xff, 0xd8]) { self.decode_jpeg(bytes, target) } else { self.decode_raster(bytes, target) }
    }

    fn decode_jpeg(&mut self, bytes: &[u8], target: Target) -> Result<Decoded, String> {
        let jpeg = Jpeg::of(bytes, target.short())?;
        let full = jpeg.full();
        let decoded = Decoded { size: jpeg.size(), covered: jpeg.covered(), full, orientation: jpeg.orientation() };
        self.limits.check_size(full)?;
        jpeg.check_scans(self.limits.pixels)?;
        self.reserve(&decoded, target, jpeg.need())?;
        jpeg.decode(&mut self.jpeg, &mut self.pixels)?;
        Ok(decoded)
    }

    fn decode_raster(&mut self, bytes: &[u8], target: Target) -> Result<Decoded, String> {
        let raster = Raster::of(bytes, self.limits.bytes())?;
        let full = raster.size();
        self.limits.check_size(full)?;
        let covered = full.map(|length| length as f64);
        let decoded = Decoded { size: full, covered, full, orientation: raster.orientation() };
        self.reserve(&decoded, target, raster.need())?;
        self.pixels = Vec::new();
        self.pixels = raster.decode()?;
        Ok(decoded)
    }

    /// Waits for the memory that an image needs.
    fn reserve(&mut self, decoded: &Decoded, target: Target, need: u64) -> Result<(), String> {
        if let Target::Whole(Some(short)) = target {
            let [width, height] = decoded.resized(short);
            self.limits.check_size(if transposes(decoded.orientation) { [height, width] } else { [width, height] })?;
        }
        let need = need + decoded.need(target);
        self.limits.check_need(decoded.full, need)?;
        self.permit = Some(self.budget.take(need));
        Ok(())
    }

    /// Frees what is more than everyday images need, and then the memory's permit.
    fn give_back(&mut self) {
        let Self { pixels, turned, indices, jpeg, .. } = self;
        for buffer in [pixels, turned, indices, &mut jpeg.cmyk, &mut jpeg.distilled] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        self.resizer.shrink(KEPT_BYTES);
        self.permit = None;
    }
}

/// The buffer at that length; what was in it is of no interest.
fn sized(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;
