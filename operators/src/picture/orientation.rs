//! How a picture lies: what its file's Exif or XMP says of it.
//!
//! As in Pillow, Exif's Orientation counts if there is one, else XMP's. A value that is none of the eight means upright.

use std::io::Read as _;

use image::metadata::Orientation;

use super::ifd::Directory;

/// Exif's tag.
const ORIENTATION: u16 = 0x0112;
/// The tag of a TIFF's XMP.
const XMP: u16 = 700;
/// What a text chunk may unpack to at most: profiles are some kilobytes.
const MAX_TEXT: u64 = 16 << 20;

/// The orientation that bodies of Exif and XMP give: the first that names one.
fn first<'a>(exif: impl IntoIterator<Item = &'a [u8]>, xmp: impl IntoIterator<Item = &'a [u8]>) -> Orientation {
    let value = exif.into_iter().find_map(of_exif).or_else(|| xmp.into_iter().find_map(of_xmp));
    value.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
}

/// Of a JPEG, by the bodies of its APP1 segments.
pub fn of_jpeg(app1: &[&[u8]]) -> Orientation {
    let exif = app1.iter().filter_map(|body| body.strip_prefix(b"Exif\0"));
    let xmp = app1.iter().filter_map(|body| body.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0"));
    first(exif.map(|body| body.get(1..).unwrap_or_default()), xmp)
}

/// Of a PNG: chunk eXIf, or profiles in text chunks, before or behind the pixels.
pub fn of_png(bytes: &[u8]) -> Orientation {
    let (mut exif, mut xmp) = (Vec::new(), Vec::new());
    for (name, body) in png_chunks(bytes) {
        if name == b"eXIf" {
            exif.insert(0, body.to_vec());
        }
        let Some((keyword, text)) = text(name, body) else { continue };
        match keyword {
            b"Raw profile type exif" => exif.extend(raw_profile(&text)),
            b"Raw profile type APP1" => {
                let profile = raw_profile(&text).unwrap_or_default();
                if profile.starts_with(b"Exif\0") { exif.push(profile) } else { xmp.push(profile) }
            }
            b"Raw profile type xmp" => xmp.extend(raw_profile(&text)),
            b"XML:com.adobe.xmp" => xmp.push(text),
            _ => {}
        }
    }
    first(exif.iter().map(Vec::as_slice), xmp.iter().map(Vec::as_slice))
}

/// Of a WebP, by its chunks.
pub fn of_webp(bytes: &[u8]) -> Orientation {
    let (mut exif, mut xmp) = (None, None);
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let body = &behind[..length.min(behind.len())];
        match &head[..4] {
            b"EXIF" => exif = exif.or(Some(body)),
            b"XMP " => xmp = xmp.or(Some(body)),
            _ => {}
        }
        rest = behind.get(length + length % 2..).unwrap_or_default();
    }
    first(exif, xmp)
}

/// Of a TIFF, by its own tag, or by XMP.
pub fn of_tiff(bytes: &[u8]) -> Orientation {
    let xmp = Directory::of(bytes).and_then(|directory| directory.text(XMP));
    first([bytes], xmp)
}

/// The number in an Exif body, whatever its integer type; 0 for one that is none of the eight.
fn of_exif(body: &[u8]) -> Option<u8> {
    // Some writers keep JPEG's prefix in other containers.
    let body = body.strip_prefix(b"Exif\0\0").unwrap_or(body);
    let value = Directory::of(body)?.numbers(ORIENTATION)?.first().copied();
    Some(value.and_then(|value| u8::try_from(value).ok()).unwrap_or(0))
}

/// The number in an XMP body, written as an attribute or as an element.
fn of_xmp(body: &[u8]) -> Option<u8> {
    let name = b"tiff:Orientation";
    let places = body.windows(name.len()).enumerate().filter(|(_, window)| window == name);
    places.map(|(at, _)| &body[at + name.len()..]).find_map(|behind| {
        let behind = behind.trim_ascii_start();
        let value = match behind.strip_prefix(b"=") {
            Some(value) => value.trim_ascii_start().strip_prefix(b"\"").or(value.trim_ascii_start().strip_prefix(b"'"))?,
            None => behind.strip_prefix(b">")?,
        };
        let value = value.trim_ascii_start();
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (digits > 0).then(|| std::str::from_utf8(&value[..digits]).ok()?.parse().ok()).map(|value| value.unwrap_or(0))
    })
}

/// Names and bodies of a PNG's chunks.
fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<8>()?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let body = behind.get(..length)?;
        let name = &rest[4..8];
        // Behind the body is its checksum.
        rest = behind.get(length + 4..).unwrap_or_default();
        Some((name, body))
    })
}

/// Keyword and text of a text chunk, unpacked.
fn text<'a>(name: &[u8], body: &'a [u8]) -> Option<(&'a [u8], Vec<u8>)> {
    let cut = |bytes: &'a [u8]| {
        let end = bytes.iter().position(|&byte| byte == 0)?;
        Some((&bytes[..end], &bytes[end + 1..]))
    };
    let (keyword, rest) = cut(body)?;
    let profile = keyword.starts_with(b"Raw profile type ") || keyword == b"XML:com.adobe.xmp";
    let text = match name {
        _ if !profile => return None,
        b"tEXt" => rest.to_vec(),
        b"zTXt" => unpacked(rest.get(1..)?),
        b"iTXt" => {
            let packed = *rest.first()? == 1;
            let (_, translated) = cut(rest.get(2..)?)?;
            let (_, text) = cut(translated)?;
            if packed { unpacked(text) } else { text.to_vec() }
        }
        _ => return None,
    };
    Some((keyword, text))
}

/// As much as can be unpacked.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // What came before an error is there nevertheless.
    let _ = flate2::read::ZlibDecoder::new(bytes).take(MAX_TEXT).read_to_end(&mut text);
    text
}

/// The bytes of a profile as ImageMagick writes them: a line with its name, one with its length, then hexadecimal digits.
fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.trim_ascii_start().splitn(3, |&byte| byte == b'\n');
    let (_, _, digits) = (lines.next()?, lines.next()?, lines.next()?);
    let digits: Vec<u8> = digits.iter().filter_map(|&byte| Some(char::from(byte).to_digit(16)? as u8)).collect();
    Some(digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect())
}

#[cfg(test)]
mod tests;
