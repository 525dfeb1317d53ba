use std::io::Cursor;

use image::{DynamicImage, ExtendedColorType, ImageEncoder as _, ImageFormat, Rgb, RgbImage, codecs};
use turbojpeg::{Compressor, PixelFormat, Subsamp};

use super::*;

/// A smooth picture whose four corners differ.
fn picture(width: u32, height: u32) -> RgbImage {
    let scale = |at: u32, length: u32| (at * 255 / length.max(2).saturating_sub(1)) as u8;
    RgbImage::from_fn(width, height, |x, y| Rgb([scale(x, width), scale(y, height), 255 - scale(x + y, width + height)]))
}

/// A picture with edges, patches of one colour and some noise: what a camera might see.
pub fn textured(width: u32, height: u32, seed: u64) -> RgbImage {
    let mut draw = crate::random::Draw::new(seed, "picture", "textured", "", 0);
    let mut image = RgbImage::from_fn(width, height, |x, y| Rgb([(x * 3) as u8, (y * 2) as u8, (x + y) as u8]));
    for _ in 0..12 {
        let [x, y, w, h] = [width, height, width, height].map(|length| draw.below(length as usize) as u32);
        let colour = Rgb([draw.bits() as u8, draw.bits() as u8, draw.bits() as u8]);
        for (px, py) in (x..width.min(x + w / 2)).flat_map(|px| (y..height.min(y + h / 2)).map(move |py| (px, py))) {
            image.put_pixel(px, py, colour);
        }
    }
    for value in image.iter_mut() {
        *value = value.saturating_add(draw.below(12) as u8);
    }
    image
}

pub fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(95).unwrap();
    compressor.set_subsamp(Subsamp::None).unwrap();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let source =
        turbojpeg::Image { pixels: image.as_raw().as_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    compressor.compress_to_vec(source).unwrap()
}

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

pub fn with_orientation(jpeg: &[u8], value: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([value, 0, 0, 0, 0, 0, 0, 0]);
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend(((exif.len() + 2) as u16).to_be_bytes());
    bytes.extend(exif);
    bytes.extend(&jpeg[2..]);
    bytes
}

pub fn square(bytes: &[u8], side: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![0; side * side * 3];
    Decoder::new(MAX_MEGAPIXELS).square(bytes, side, &mut out).map(|_| out)
}

pub fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

/// The centre of the picture, resized by other means.
fn expected(image: &RgbImage, side: u32) -> Vec<u8> {
    let short = image.width().min(image.height());
    let (left, top) = ((image.width() - short) / 2, (image.height() - short) / 2);
    let crop = image::imageops::crop_imm(image, left, top, short, short).to_image();
    image::imageops::resize(&crop, side, side, image::imageops::FilterType::Triangle).into_raw()
}

#[test]
fn a_jpeg_is_scaled_and_cropped() {
    let image = picture(300, 200);
    for side in [16, 50, 64, 100, 150, 200, 260] {
        let found = square(&jpeg(&image), side).unwrap();
        let off = difference(&found, &expected(&image, side as u32));
        assert!(off < 2.0, "side {side}: mean difference {off}");
    }
}

#[test]
fn every_format_gives_the_same_picture() {
    let image = picture(90, 60);
    let dynamic = DynamicImage::ImageRgb8(image.clone());
    let reference = square(&png(&dynamic), 48).unwrap();
    assert!(difference(&reference, &expected(&image, 48)) < 1.0);
    for format in [ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
        let mut bytes = Vec::new();
        dynamic.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        assert_eq!(square(&bytes, 48).unwrap(), reference, "{format:?}");
    }
    let mut gif = Vec::new();
    codecs::gif::GifEncoder::new(&mut gif).encode(image.as_raw(), 90, 60, ExtendedColorType::Rgb8).unwrap();
    // Its palette takes some colours away; what is left is read exactly.
    let with_palette = DynamicImage::ImageRgb8(image::load_from_memory(&gif).unwrap().to_rgb8());
    assert_eq!(square(&gif, 48).unwrap(), square(&png(&with_palette), 48).unwrap());
    // 16 bits, alpha, gray.
    assert!(difference(&square(&png(&DynamicImage::ImageRgb16(dynamic.to_rgb16())), 48).unwrap(), &reference) < 0.5);
    assert_eq!(square(&png(&DynamicImage::ImageRgba8(dynamic.to_rgba8())), 48).unwrap(), reference);
    let luma = DynamicImage::ImageLuma8(dynamic.to_luma8());
    let gray = square(&png(&luma), 48).unwrap();
    assert_eq!(gray, square(&png(&DynamicImage::ImageRgb8(luma.to_rgb8())), 48).unwrap());
}

#[test]
fn gray_jpegs_become_rgb() {
    let image = DynamicImage::ImageRgb8(picture(64, 64));
    let gray = image.to_luma8();
    let mut bytes = Vec::new();
    codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95)
        .write_image(gray.as_raw(), 64, 64, ExtendedColorType::L8)
        .unwrap();
    let found = square(&bytes, 64).unwrap();
    let expected: Vec<u8> = gray.as_raw().iter().flat_map(|&l| [l, l, l]).collect();
    assert!(difference(&found, &expected) < 2.0);
}

#[test]
fn all_eight_orientations_come_upright() {
    let upright = DynamicImage::ImageRgb8(picture(64, 64));
    let reference = square(&jpeg(&upright.to_rgb8()), 32).unwrap();
    for value in 1..=8 {
        // The stored image is the upright one, turned back.
        let back = Orientation::from_exif([1, 2, 3, 4, 5, 8, 7, 6][value - 1]).unwrap();
        let mut stored = upright.clone();
        stored.apply_orientation(back);
        let bytes = with_orientation(&jpeg(&stored.to_rgb8()), value as u8);
        let off = difference(&square(&bytes, 32).unwrap(), &reference);
        assert!(off < 2.0, "orientation {value}: {off}");
        let photo = Decoder::new(1).whole(&bytes, None).unwrap();
        assert_eq!(photo.size, [64, 64]);
        assert!(difference(&photo.pixels, upright.as_bytes()) < 2.0, "orientation {value}");
    }
    let long = with_orientation(&jpeg(&picture(80, 40)), 6);
    assert_eq!(Decoder::new(1).whole(&long, Some(20)).map(|photo| photo.size), Ok([20, 40]));
}

#[test]
fn an_uneven_crop_is_the_same_however_the_image_lies() {
    // Noise: a crop that begins one pixel off shows.
    let noise = |x: u32, y: u32| blake3::hash(&(u64::from(x) << 32 | u64::from(y)).to_le_bytes());
    let upright = RgbImage::from_fn(80, 40, |x, y| Rgb(*noise(x, y).as_bytes().first_chunk().unwrap()));
    let reference = square(&jpeg(&upright), 21).unwrap();
    let whole = Decoder::new(1).whole(&jpeg(&upright), Some(21)).unwrap().pixels;
    // 21 of 42 pixels: 10.5 are left at either end, and halves are rounded to even.
    let centre: Vec<u8> = whole.chunks_exact(42 * 3).flat_map(|row| row[10 * 3..31 * 3].to_vec()).collect();
    assert!(difference(&reference, &centre) < 0.1);
    for value in 1..=8 {
        let back = Orientation::from_exif([1, 2, 3, 4, 5, 8, 7, 6][value - 1]).unwrap();
        let mut stored = DynamicImage::ImageRgb8(upright.clone());
        stored.apply_orientation(back);
        let found = square(&with_orientation(&jpeg(&stored.to_rgb8()), value as u8), 21).unwrap();
        let off = difference(&found, &reference);
        assert!(off < 2.5, "orientation {value}: {off}");
    }
}

#[test]
fn damage_gives_reasons_and_no_panics() {
    let image = DynamicImage::ImageRgb8(picture(40, 30));
    let mut files = vec![with_orientation(&jpeg(&image.to_rgb8()), 6)];
    for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        files.push(bytes);
    }
    let mut decoder = Decoder::new(1);
    let mut out = vec![0; 16 * 16 * 3];
    let mut draw = crate::random::Draw::new(0, "picture", "damage", "", 0);
    let rounds = 300;
    for good in &files {
        let mut refused = 0;
        for _ in 0..rounds {
            let mut bytes = good.clone();
            for _ in 0..=draw.below(4) {
                // Headers are where the damage is dangerous.
                let within = if draw.chance(0.7) { bytes.len().min(120) } else { bytes.len() };
                bytes[draw.below(within)] = draw.bits() as u8;
            }
            if draw.chance(0.2) {
                bytes.truncate(draw.below(bytes.len()));
            }
            refused += usize::from(decoder.square(&bytes, 16, &mut out).is_err());
            let _ = decoder.whole(&bytes, Some(12));
        }
        assert!(refused > rounds / 10, "{refused} of {rounds}");
    }
}

#[test]
fn a_scale_that_would_fill_the_memory_is_refused() {
    let thin = jpeg(&picture(1, 2000));
    let error = Decoder::new(1).whole(&thin, Some(8192)).err().unwrap();
    assert!(error.starts_with("8192x16384000 is more than max_megapixels = 1"), "{error}");
    // A square of it costs no more than any other.
    let mut out = vec![0; 64 * 64 * 3];
    Decoder::new(1).square(&thin, 64, &mut out).unwrap();
}

#[test]
fn what_is_wrong_is_said() {
    let good = jpeg(&picture(200, 200));
    let cases: [(&[u8], &str); 6] = [
        (b"", "the file is empty"),
        (b"hello, I am a text file\n", "it begins like text"),
        (&[0, 1, 2, 3, 200, 201, 202], "none of a known format"),
        (&good[..20], "broken JPEG: it has no frame"),
        (&good[..good.len() / 2], "broken JPEG: Premature end of JPEG file"),
        (&png(&DynamicImage::ImageRgb8(picture(50, 50)))[..60], "broken PNG"),
    ];
    for (bytes, words) in cases {
        let error = square(bytes, 32).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_is_whole_and_unknown_is_not_called_broken() {
    // A TIFF of one pixel of 32 bits, as elevation models have them.
    let entries: [(u16, u16, u32); 9] = [
        (256, 3, 1),
        (257, 3, 1),
        (258, 3, 32),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 122),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 4),
    ];
    let mut bytes = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, kind, value) in entries {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([1u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend([0; 8]);
    let error = square(&bytes, 32).unwrap_err();
    assert!(error.starts_with("a TIFF of more than 16 bits a sample, which is not read: "), "{error}");
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    // A PNG header of 30000 x 20000 pixels and nothing behind it.
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(30_000u32.to_be_bytes());
    bytes.extend(20_000u32.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0]);
    let crc = !bytes[12..].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    });
    bytes.extend(crc.to_be_bytes());
    bytes.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    let error = square(&bytes, 32).unwrap_err();
    assert!(error.starts_with("30000x20000 is more than max_megapixels = 178"), "{error}");
}

#[test]
fn an_image_smaller_than_wanted_is_enlarged() {
    let image = picture(11, 7);
    let found = square(&jpeg(&image), 32).unwrap();
    assert!(difference(&found, &expected(&image, 32)) < 3.0);
}

#[test]
fn a_damaged_picture_does_no_harm_to_the_next() {
    let (whole, image) = (jpeg(&picture(40, 30)), png(&picture(40, 30).into()));
    let expected = square(&whole, 16).unwrap();
    let mut decoder = Decoder::new(MAX_MEGAPIXELS);
    let mut out = vec![0; expected.len()];
    for length in (0..whole.len()).step_by(3) {
        assert!(decoder.square(&whole[..length.min(whole.len() - 6)], 16, &mut out).is_err(), "{length} bytes");
        let _ = decoder.square(&image[..length.min(image.len())], 16, &mut out);
        decoder.square(&whole, 16, &mut out).unwrap_or_else(|error| panic!("behind one of {length} bytes: {error}"));
        assert!(out == expected, "behind one of {length} bytes");
    }
}

#[test]
fn workers_share_a_budget_and_hold_nothing_of_it_behind_an_image() {
    // RGB of 2 megapixels needs 6 MB: of a budget of 10 MB only one worker can have so much at once.
    let budget: &'static Budget = Box::leak(Box::new(Budget::new(10_000_000)));
    let image = DynamicImage::ImageRgb8(picture(2000, 1000));
    let files = [png(&image), jpeg(&picture(2000, 1000))];
    let work = || {
        let mut decoder = Decoder::within(MAX_MEGAPIXELS, budget);
        let mut out = vec![0; 32 * 32 * 3];
        for bytes in &files {
            // The short side of the JPEG is scaled down to 125.
            decoder.square(bytes, 32, &mut out).unwrap();
            let photo = decoder.whole(bytes, None).unwrap();
            assert_eq!(photo.size, [2000, 1000]);
            drop(photo);
            decoder.square(b"no image", 32, &mut out).unwrap_err();
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
    assert!((6_000_000..=10_000_000).contains(&budget.most()), "{}", budget.most());
    assert!(budget.try_take(10_000_000).is_some(), "all is given back");
}

#[test]
fn what_an_image_needs_depends_on_its_format() {
    let need = |image: &DynamicImage, format| {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        Raster::of(&bytes, 1 << 30).unwrap().need()
    };
    let image = DynamicImage::ImageRgb8(picture(100, 50));
    let pixels = 100 * 50;
    assert_eq!(need(&image, ImageFormat::Png), pixels * 3);
    assert_eq!(need(&image.to_rgba8().into(), ImageFormat::Png), pixels * 4);
    assert_eq!(need(&image.to_rgba16().into(), ImageFormat::Png), pixels * (8 + 3));
    assert_eq!(need(&image.to_rgba16().into(), ImageFormat::Tiff), pixels * (8 + 8 + 3));
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(90).unwrap();
    compressor.set_subsamp(Subsamp::None).unwrap();
    compressor.set_progressive(true).unwrap();
    let source = picture(96, 48);
    let source =
        turbojpeg::Image { pixels: source.as_raw().as_slice(), width: 96, pitch: 288, height: 48, format: PixelFormat::RGB };
    let progressive = compressor.compress_to_vec(source).unwrap();
    let least = 96 * 48 * (3 * 2 + 3);
    let found = Jpeg::of(&progressive, None).unwrap().need();
    assert!((least..least + 40_000).contains(&found), "{found} of {least}");
}
