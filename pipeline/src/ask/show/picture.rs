//! The formats of pictures, as the ending of a file's name says them.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

use super::canvas::Canvas;

/// The quality of a JPEG, of 100: tiles keep their edges.
const QUALITY: u8 = 90;

/// A format of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// PNG: without loss.
    Png,
    /// JPEG: small, and with loss.
    Jpeg,
    /// WebP: without loss.
    Webp,
}

impl Picture {
    /// The format that a file's ending names.
    ///
    /// # Errors
    /// It names none; the message says which do.
    pub fn of(path: &Path) -> Result<Self, String> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "png" => Ok(Self::Png),
            "jpg" | "jpeg" => Ok(Self::Jpeg),
            "webp" => Ok(Self::Webp),
            _ => Err(format!("the ending of {} names no picture: .png, .jpg and .webp do", path.display())),
        }
    }

    /// The most pixels a side, where the format has a bound.
    pub fn most_side(self) -> Option<usize> {
        match self {
            Self::Png => None,
            Self::Jpeg => Some(65_535),
            Self::Webp => Some(16_383),
        }
    }

    /// Writes a picture.
    ///
    /// # Errors
    /// It cannot be written, or has more pixels a side than the format allows.
    pub fn write(self, canvas: &Canvas, out: &mut dyn Write) -> Result<()> {
        let (pixels, width, height, kind) =
            (&canvas.pixels, u32::try_from(canvas.width)?, u32::try_from(canvas.height)?, ExtendedColorType::Rgb8);
        if let Some(most) = self.most_side().filter(|&most| canvas.width.max(canvas.height) > most) {
            bail!(
                "a picture of {width} x {height} pixels is too large for this format, which has at most {most} a side: write a .png"
            );
        }
        match self {
            Self::Png => {
                // The encoder's own choice is quick, and its files are several times as large.
                let encoder = PngEncoder::new_with_quality(out, CompressionType::Default, FilterType::Adaptive);
                encoder.write_image(pixels, width, height, kind)?;
            }
            Self::Jpeg => JpegEncoder::new_with_quality(out, QUALITY).write_image(pixels, width, height, kind)?,
            Self::Webp => WebPEncoder::new_lossless(out).write_image(pixels, width, height, kind)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::*;

    #[test]
    fn a_picture_is_what_its_ending_says() {
        let mut canvas = Canvas::new(9, 7);
        canvas.frame((0, 0), (7, 9), 1, [0; 3]);
        for (name, format) in [
            ("a.png", ImageFormat::Png),
            ("a.JPG", ImageFormat::Jpeg),
            ("a.jpeg", ImageFormat::Jpeg),
            ("a.webp", ImageFormat::WebP),
        ] {
            let mut bytes = Vec::new();
            Picture::of(Path::new(name)).unwrap().write(&canvas, &mut bytes).unwrap();
            assert_eq!(image::guess_format(&bytes).unwrap(), format, "{name}");
            let read = image::load_from_memory(&bytes).unwrap().to_rgb8();
            assert_eq!(read.dimensions(), (9, 7), "{name}");
            let is_paper = read.get_pixel(4, 3).0.iter().all(|value| *value > 200);
            assert!(is_paper && read.get_pixel(0, 0).0.iter().all(|value| *value < 55), "{name}");
        }
        let said = Picture::of(Path::new("a.gif")).unwrap_err();
        assert_eq!(said, "the ending of a.gif names no picture: .png, .jpg and .webp do");
        assert!(Picture::of(Path::new("png")).is_err());
    }
}
