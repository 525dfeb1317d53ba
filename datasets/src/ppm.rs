//! Pixels as Netpbm's binary PPM: bytes that say what they are, of images that are stored as bare numbers.

/// What comes before the pixels.
pub fn header(width: usize, height: usize) -> String {
    format!("P6\n{width} {height}\n255\n")
}

/// The bytes of an image of `height x width x 3`.
pub fn encode(width: usize, height: usize, rgb: &[u8]) -> Vec<u8> {
    let mut bytes = header(width, height).into_bytes();
    bytes.extend_from_slice(rgb);
    bytes
}
