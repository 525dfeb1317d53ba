//! What an image file's first bytes say: its format, width and height. No pixel is decoded.
//!
//! The format is what the bytes are, whatever the file is called. Width and height are those of the stored pixels: an orientation in
//! Exif's data is not applied. Of formats that no operator decodes (HEIF, AVIF, JPEG XL, Photoshop's) the name alone is told. A
//! header that is cut or damaged leaves width and height open; nothing here fails.
//!
//! References: ITU T.81 (JPEG), B.1 and B.2; PNG (third edition), 5.2 and 11.2.1; GIF89a, 17 and 18; TIFF 6.0, section 2, and
//! BigTIFF; RFC 9649 (WebP), 2.5 to 2.7; `BITMAPFILEHEADER` and what follows it; Netpbm's pbm(5), pgm(5) and ppm(5).

/// What a header says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// The format's name, if it is one of [`FORMATS`].
    pub format: Option<&'static str>,
    /// Pixels a row, if that is known and not 0.
    pub width: Option<u32>,
    /// Rows of pixels, as they are stored.
    pub height: Option<u32>,
}

/// All formats that are told apart.
pub const FORMATS: [&str; 11] = ["avif", "bmp", "gif", "heif", "jpeg", "jxl", "png", "ppm", "psd", "tiff", "webp"];
/// How far the search for a JPEG's frame header goes: profiles and previews come before it.
const JPEG_SEGMENTS: usize = 4096;
/// Stray bytes that may stand before a JPEG's marker: its decoder skips them.
const JPEG_STRAY: u64 = 1 << 16;
/// Tags of a TIFF's directory that are looked at; those of width and height are among the first.
const TIFF_TAGS: u64 = 4096;
/// Bytes in which a Netpbm file has its width and height, comments before them among that.
const PPM_BYTES: u64 = 4096;

/// Fills the buffer with a file's bytes from an offset on, if there are as many.
pub type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> bool + 'a;

impl Header {
    /// The header of a file whose bytes are all there.
    pub fn of(bytes: &[u8]) -> Self {
        Self::read(&mut |offset, buffer| copy(bytes, offset, buffer))
    }

    /// The header of a file.
    pub fn read(file: &mut ReadAt<'_>) -> Self {
        // A short file has the rest zero, which is no format's beginning.
        let mut front = [0; 12];
        for length in (1..=front.len()).rev() {
            if file(0, &mut front[..length]) {
                break;
            }
        }
        let Some(format) = format(&front) else { return Self::default() };
        let size = match format {
            "jpeg" => jpeg(file),
            "png" => png(file),
            "gif" => at(file, 6).map(|[a, b, c, d]| (little16([a, b]), little16([c, d]))),
            "bmp" => bmp(file),
            "webp" => webp(file),
            "tiff" => tiff(file),
            "ppm" => ppm(file),
            _ => None,
        };
        let known = |side: u32| Some(side).filter(|&side| side > 0);
        let (width, height) = size.map_or((None, None), |(width, height)| (known(width), known(height)));
        Self { format: Some(format), width, height }
    }
}

/// Copies a slice's bytes from an offset on, if there are as many.
pub fn copy(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> bool {
    let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(buffer.len())?));
    let found = range.and_then(|range| bytes.get(range));
    if let Some(found) = found {
        buffer.copy_from_slice(found);
    }
    found.is_some()
}

/// The format that begins with these bytes.
fn format(front: &[u8; 12]) -> Option<&'static str> {
    let brand = &front[8..12];
    Some(match front {
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "png",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => "webp",
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => "tiff",
        [b'B', b'M', ..] => "bmp",
        // All of Netpbm's formats, as Pillow calls them.
        [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n', ..] => "ppm",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] if brand.starts_with(b"avi") => "avif",
        [_, _, _, _, b'f', b't', b'y', b'p', ..]
            if [b"hei", b"hev", b"mif", b"msf"].iter().any(|b| brand.starts_with(*b)) =>
        {
            "heif"
        }
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "jxl",
        [b'8', b'B', b'P', b'S', ..] => "psd",
        _ => return None,
    })
}

/// `N` bytes from an offset on.
fn at<const N: usize>(file: &mut ReadAt<'_>, offset: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file(offset, &mut bytes).then_some(bytes)
}

fn little16(bytes: [u8; 2]) -> u32 {
    u16::from_le_bytes(bytes).into()
}

/// The first frame header outside of other segments: a preview within Exif's data is not met. Where lengths lead past the file's end,
/// those of segments that no pixel depends on are doubted, as the decoder does.
fn jpeg(file: &mut ReadAt<'_>) -> Option<(u32, u32)> {
    frame(file, true).or_else(|| frame(file, false))
}

/// With `trusting`, every segment's length is believed; else that of an APP or COM segment only where a marker follows.
fn frame(file: &mut ReadAt<'_>, trusting: bool) -> Option<(u32, u32)> {
    let mut place = 2;
    for _ in 0..JPEG_SEGMENTS {
        // Fill bytes and stray ones may come before a marker.
        let last = place + JPEG_STRAY;
        let mut marker: [u8; 2] = at(file, place)?;
        while marker[0] != 0xff || matches!(marker[1], 0 | 0xff) {
            place += 1;
            if place > last {
                return None;
            }
            marker = at(file, place)?;
        }
        place += 2;
        match marker[1] {
            // Those without a body: TEM, RSTn and SOI.
            0x01 | 0xd0..=0xd8 => {}
            // The scan, or the end.
            0xd9 | 0xda => return None,
            kind => {
                let [high, low] = at(file, place)?;
                if matches!(kind, 0xc0..=0xcf) && !matches!(kind, 0xc4 | 0xc8 | 0xcc) {
                    let [h1, h2, w1, w2] = at(file, place + 3)?;
                    return Some((u16::from_be_bytes([w1, w2]).into(), u16::from_be_bytes([h1, h2]).into()));
                }
                let behind = place + u64::from(u16::from_be_bytes([high, low])).max(2);
                let optional = matches!(kind, 0xe0..=0xef | 0xfe);
                let believed = trusting || !optional || at(file, behind) == Some([0xff]);
                place = if believed { behind } else { next_segment(file, place + 2)? };
            }
        }
    }
    None
}

/// Where the next segment begins that another follows: behind a length that cannot be right.
fn next_segment(file: &mut ReadAt<'_>, start: u64) -> Option<u64> {
    for place in start..=start + JPEG_STRAY {
        let [mark, kind, high, low] = at(file, place)?;
        let length = u64::from(u16::from_be_bytes([high, low]));
        let named = mark == 0xff && matches!(kind, 0xc0..=0xcf | 0xdb | 0xdd | 0xe0..=0xef | 0xfe);
        if named && length >= 2 && at(file, place + 2 + length) == Some([0xff]) {
            return Some(place);
        }
    }
    None
}

fn png(file: &mut ReadAt<'_>) -> Option<(u32, u32)> {
    let kind: [u8; 4] = at(file, 12)?;
    let side = |file: &mut ReadAt<'_>, offset| at(file, offset).map(u32::from_be_bytes);
    if &kind != b"IHDR" { None } else { Some((side(file, 16)?, side(file, 20)?)) }
}

/// Rows may come from the top, which a negative height says.
fn bmp(file: &mut ReadAt<'_>) -> Option<(u32, u32)> {
    let size = u32::from_le_bytes(at(file, 14)?);
    if size == 12 {
        let [a, b, c, d] = at(file, 18)?;
        return Some((little16([a, b]), little16([c, d])));
    }
    let side = |file: &mut ReadAt<'_>, offset| at(file, offset).map(|bytes| i32::from_le_bytes(bytes).unsigned_abs());
    if size < 16 { None } else { Some((side(file, 18)?, side(file, 22)?)) }
}

/// Two numbers behind the magic bytes, among blanks and comments; of the youngest format, behind words.
fn ppm(file: &mut ReadAt<'_>) -> Option<(u32, u32)> {
    if at(file, 1) == Some([b'7']) {
        return pam(file);
    }
    let mut place = 2;
    let mut number = || {
        let (mut value, mut in_comment) = (None::<u32>, false);
        while place < PPM_BYTES {
            let [byte] = at(file, place)?;
            place += 1;
            match byte {
                _ if in_comment => in_comment = !matches!(byte, b'\n' | b'\r'),
                b'0'..=b'9' => {
                    let digit = u32::from(byte - b'0');
                    value = Some(value.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
                }
                _ if value.is_some() => {
                    // It may begin a comment.
                    place -= 1;
                    return value;
                }
                b'#' => in_comment = true,
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => {}
                _ => return None,
            }
        }
        None
    };
    Some((number()?, number()?))
}

/// Lines of a word and a value, up to `ENDHDR`.
fn pam(file: &mut ReadAt<'_>) -> Option<(u32, u32)> {
    let (mut width, mut height, mut line) = (None, None, Vec::new());
    for place in 2..PPM_BYTES {
        let [byte] = at(file, place)?;
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        let text = std::str::from_utf8(&line).ok()?;
        match text.trim().split_once(char::is_whitespace) {
            Some(("WIDTH", value)) => width = value.trim().parse().ok(),
            Some(("HEIGHT", value)) => height = value.trim().parse().ok(),
            _ if text.trim() == "ENDHDR" => return width.zip(height),
            _ => {}
        }
        line.clear();
    }
    None
}

fn webp(file: &mut ReadAt<'_>) -> Option<(u32, u32)> {
    let kind: [u8; 4] = at(file, 12)?;
    match &kind {
        b"VP8 " => {
            let [s1, s2, s3, a, b, c, d] = at(file, 23)?;
            // The upper two bits are a scale for showing it.
            let side = |bytes| little16(bytes) & 0x3fff;
            ([s1, s2, s3] == [0x9d, 0x01, 0x2a]).then(|| (side([a, b]), side([c, d])))
        }
        b"VP8L" => {
            let [signature, a, b, c, d] = at(file, 20)?;
            let bits = u32::from_le_bytes([a, b, c, d]);
            (signature == 0x2f).then_some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        b"VP8X" => {
            let [a, b, c, d, e, f] = at(file, 24)?;
            Some((u32::from_le_bytes([a, b, c, 0]) + 1, u32::from_le_bytes([d, e, f, 0]) + 1))
        }
        _ => None,
    }
}

/// The size in the first directory of a TIFF, which may lie anywhere in the file.
fn tiff(file: &mut ReadAt<'_>) -> Option<(u32, u32)> {
    let [order, _, a, b] = at(file, 0)?;
    let little = order == b'I';
    let big = [a, b].contains(&43);
    let number = |bytes: &[u8]| {
        let join = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        if little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) }
    };
    let directory = if big { number(&at::<8>(file, 8)?) } else { number(&at::<4>(file, 4)?) };
    let (tags, first, step, place) = if big {
        (number(&at::<8>(file, directory)?), directory.checked_add(8)?, 20, 12)
    } else {
        (number(&at::<2>(file, directory)?), directory.checked_add(2)?, 12, 8)
    };
    let (mut width, mut height) = (None, None);
    for tag in 0..tags.min(TIFF_TAGS) {
        let entry: [u8; 20] = match big {
            true => at(file, first.checked_add(tag * step)?)?,
            false => {
                let mut entry = [0; 20];
                entry[..12].copy_from_slice(&at::<12>(file, first.checked_add(tag * step)?)?);
                entry
            }
        };
        let value = || {
            let length = match number(&entry[2..4]) {
                1 => 1,
                3 => 2,
                4 => 4,
                16 if big => 8,
                _ => return None,
            };
            u32::try_from(number(&entry[place..place + length])).ok()
        };
        match number(&entry[..2]) {
            0x100 => width = value(),
            0x101 => height = value(),
            _ => {}
        }
        if let (Some(width), Some(height)) = (width, height) {
            return Some((width, height));
        }
    }
    None
}

#[cfg(test)]
mod tests;
