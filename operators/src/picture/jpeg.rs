//! JPEG to RGB through libjpeg-turbo, and what it takes to say that a JPEG is sound.
//!
//! A file is first taken apart (`markers`), and its scans are read without making pixels of them (`entropy`). libjpeg-turbo then gets the
//! picture alone, and any warning of it is an error. Its decompressor is a new one for each file: tables stay in it, so that a file
//! without tables of its own would get those of the file before.

mod entropy;
mod huffman;
mod markers;
mod progressive;

use std::fmt;

use image::metadata::Orientation;
use turbojpeg::{Colorspace, Decompressor, PixelFormat, ScalingFactor};

use markers::Parts;

use super::orientation;

/// Scales with fast inverse transforms, smallest first.
const SCALES: [ScalingFactor; 3] = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF];
/// How much larger than wanted a JPEG is decoded at least, where it is scaled in the DCT domain: that scaling is a box filter,
/// and at less than twice the size its aliases show (27 % sharper edges than a resize of the whole image, measured at once).
const OVERSAMPLED: usize = 2;
/// Scans of a JPEG. Real ones have ten or so, and each costs a pass over the image.
const MAX_SCANS: usize = 100;
/// So many scans may be as large as `max_megapixels` allows; with more, scans times pixels may not be more than that.
const LARGE_SCANS: usize = 20;

/// Why a JPEG is no sound picture; where libjpeg-turbo has words for it, in these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// What is wrong with it before its first scan.
    Header(&'static str),
    /// The data end before the picture does.
    Short,
    /// No code begins like that.
    Code,
    /// Bytes behind the last block of a scan or of a restart interval.
    Left(usize),
    /// A restart marker is not the next one.
    Restart,
    /// A coefficient is larger than samples can make it.
    Range,
    /// A block has more than 64 coefficients, or more blocks are empty than there are.
    Run,
    /// A component has no scan, or a file without an end not all of them.
    Missing,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(what) => f.write_str(what),
            Self::Short => f.write_str("Premature end of JPEG file: its data end before its picture does"),
            Self::Code => f.write_str("Corrupt JPEG data: bad Huffman code"),
            Self::Left(bytes) => write!(f, "Corrupt JPEG data: {bytes} extraneous bytes behind the picture's"),
            Self::Restart => f.write_str("Corrupt JPEG data: a restart marker is missing"),
            Self::Range => f.write_str("Corrupt JPEG data: a coefficient is larger than samples can make it"),
            Self::Run => f.write_str("Corrupt JPEG data: a block has more than 64 coefficients"),
            Self::Missing => f.write_str("Premature end of JPEG file: a scan is missing"),
        }
    }
}

/// A JPEG, taken apart.
pub struct Jpeg<'a> {
    bytes: &'a [u8],
    parts: Parts<'a>,
    scale: ScalingFactor,
}

/// The buffers of a worker.
#[derive(Default)]
pub struct Buffers {
    /// The picture's part of the file.
    pub distilled: Vec<u8>,
    /// Pixels of four channels.
    pub cmyk: Vec<u8>,
}

impl<'a> Jpeg<'a> {
    /// Takes a JPEG apart, to be decoded for a short side of `wanted` or as it is.
    ///
    /// # Errors
    /// There is no picture in it.
    pub fn of(bytes: &'a [u8], wanted: Option<usize>) -> Result<Self, String> {
        let parts = Parts::of(bytes).map_err(broken)?;
        let lossless = matches!(parts.frame.process, 0xc3 | 0xcb);
        let short = parts.frame.size[0].min(parts.frame.size[1]);
        let enough = |scale: &&ScalingFactor| wanted.is_some_and(|wanted| scale.scale(short) >= OVERSAMPLED * wanted);
        let scale = if lossless { None } else { SCALES.iter().find(enough) };
        Ok(Self { bytes, parts, scale: scale.copied().unwrap_or(ScalingFactor::ONE) })
    }

    /// Columns and rows of the file.
    pub fn full(&self) -> [usize; 2] {
        self.parts.frame.size
    }

    /// Columns and rows of pixels that come out.
    pub fn size(&self) -> [usize; 2] {
        self.full().map(|length| self.scale.scale(length))
    }

    /// Those that the picture covers: fewer by a fraction where its last pixel is filled up.
    pub fn covered(&self) -> [f64; 2] {
        self.full().map(|length| (length * self.scale.num()) as f64 / self.scale.denom() as f64)
    }

    /// How it lies.
    pub fn orientation(&self) -> Orientation {
        orientation::of_jpeg(&self.parts.app1)
    }

    /// Refuses more scans than decoding takes seconds for.
    ///
    /// # Errors
    /// There are too many.
    pub fn check_scans(&self, max_pixels: u64) -> Result<(), String> {
        let (scans, [width, height]) = (self.parts.scans(), self.full());
        let work = scans as u64 * width as u64 * height as u64;
        let large = scans > LARGE_SCANS && work > LARGE_SCANS as u64 * max_pixels;
        if scans <= MAX_SCANS && !large {
            return Ok(());
        }
        let limit = if large { LARGE_SCANS } else { MAX_SCANS };
        Err(format!("a JPEG of {width}x{height} in {scans} scans, where at most {limit} are read: it would take too long"))
    }

    /// Bytes that decoding takes.
    pub fn need(&self) -> u64 {
        let frame = &self.parts.frame;
        let [width, height] = self.size().map(|length| length as u64);
        // Rows on their way through the transform and the upsampling.
        let rows = frame.size[0] as u64 * frame.components.len() as u64 * 64;
        let coefficients = if self.parts.scans() > 1 || frame.is_progressive() {
            let blocks = |component| frame.blocks(component).map(|length| length as u64);
            frame.components.iter().map(|component| blocks(component)[0] * blocks(component)[1] * 128).sum()
        } else {
            0
        };
        let channels = if frame.components.len() == 4 { 7 } else { 3 };
        coefficients + rows + width * height * channels + self.bytes.len() as u64
    }

    /// Decodes it into `size` pixels of RGB.
    ///
    /// # Errors
    /// It is damaged, or of a kind that libjpeg-turbo does not read.
    pub fn decode(&self, buffers: &mut Buffers, pixels: &mut Vec<u8>) -> Result<(), String> {
        let end = entropy::check(&self.parts, self.bytes).map_err(broken)?;
        self.parts.distil(self.bytes, end, &mut buffers.distilled);
        let failed = |error: turbojpeg::Error| broken(plain_words(&error));
        let mut decompressor = Decompressor::new().map_err(failed)?;
        decompressor.set_scan_limit(MAX_SCANS as u32).map_err(failed)?;
        let header = decompressor.read_header(&buffers.distilled).map_err(failed)?;
        decompressor.set_scaling_factor(self.scale).map_err(failed)?;
        let [width, height] = self.size();
        let four = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
        let (buffer, format) = if four { (&mut buffers.cmyk, PixelFormat::CMYK) } else { (&mut *pixels, PixelFormat::RGB) };
        let pitch = width * format.size();
        let image = turbojpeg::Image { pixels: super::sized(buffer, pitch * height), width, pitch, height, format };
        decompressor.decompress(&buffers.distilled, image).map_err(failed)?;
        if four {
            let rgb = super::sized(pixels, width * height * 3);
            cmyk_to_rgb(&buffers.cmyk[..width * height * 4], rgb);
        }
        Ok(())
    }
}

fn broken(what: impl fmt::Display) -> String {
    format!("broken JPEG: {what}")
}

fn plain_words(error: &turbojpeg::Error) -> String {
    match error {
        turbojpeg::Error::TurboJpegError(message) => message.trim_end_matches('.').to_owned(),
        other => other.to_string(),
    }
}

/// CMYK to RGB without a profile. Four-channel JPEGs hold the complement of the inks, as Adobe's programs write it, also where
/// its marker was lost: Pillow and the browsers take them so, too.
fn cmyk_to_rgb(complements: &[u8], rgb: &mut [u8]) {
    for (four, three) in complements.chunks_exact(4).zip(rgb.chunks_exact_mut(3)) {
        for (ink, out) in four.iter().zip(three) {
            *out = ((u32::from(*ink) * u32::from(four[3]) + 127) / 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests;
