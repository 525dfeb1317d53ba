//! What an image may have and need, by `max_megapixels`: what is more is refused by its header, before anything is decoded.

/// Pixels per image that are decoded unless config says otherwise, in millions: where Pillow, too, suspects a bomb.
pub const MAX_MEGAPIXELS: u32 = 178;
/// Bytes that an image may need to be decoded and resized, for each pixel that it may have: twice those of RGB.
const BYTES_PER_PIXEL: u64 = 6;
/// Bytes that any image may need, however few pixels it may have.
const ALWAYS_BYTES: u64 = 256 << 20;

/// The limits of one decoder.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most pixels of an image.
    pub pixels: u64,
}

impl Limits {
    /// At most that many million pixels.
    pub fn new(max_megapixels: u32) -> Self {
        Self { pixels: u64::from(max_megapixels) * 1_000_000 }
    }

    /// The most bytes that an image may need.
    pub fn bytes(self) -> u64 {
        (self.pixels * BYTES_PER_PIXEL).max(ALWAYS_BYTES)
    }

    /// Checks an image's columns and rows.
    ///
    /// # Errors
    /// There are none, or too many.
    pub fn check_size(self, [width, height]: [usize; 2]) -> Result<(), String> {
        let pixels = width as u64 * height as u64;
        if pixels == 0 {
            return Err(format!("the image is {width}x{height}"));
        }
        if pixels > self.pixels {
            let limit = self.pixels / 1_000_000;
            return Err(format!("{width}x{height} is more than max_megapixels = {limit}: maybe a decompression bomb"));
        }
        Ok(())
    }

    /// Checks the bytes that an image of that size needs.
    ///
    /// # Errors
    /// They are too many.
    pub fn check_need(self, [width, height]: [usize; 2], bytes: u64) -> Result<(), String> {
        let limit = self.bytes();
        if bytes > limit {
            return Err(format!(
                "{width}x{height} of its kind needs {} MB to decode, and at most {} MB are given to an image \
                 ({BYTES_PER_PIXEL} bytes for each pixel of max_megapixels)",
                bytes / 1_000_000,
                limit / 1_000_000
            ));
        }
        Ok(())
    }
}
