//! Values of torchvision on Pillow (`tests/peers/golden/crops.py`), and what a mask and its image have in common.

use std::io::Write as _;

use image::{DynamicImage, GrayImage, Rgb, RgbImage};

use super::super::tests::{jpeg, textured, with_orientation};
use super::super::{Decoder, MAX_MEGAPIXELS};
use super::*;

/// Indices of a mask, row by row.
fn indices(width: usize, height: usize) -> Vec<u8> {
    let index = |at: usize| {
        let (x, y) = (at % width, at / width);
        ((x * x * 31 + x * y * 7 + y * 17) % 251) as u8
    };
    (0..width * height).map(index).collect()
}

/// Indices in as few bits each, a row from its own byte on.
fn packed(indices: &[u8], width: usize, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in indices.chunks(width) {
        let mut line = vec![0; (width * depth).div_ceil(8)];
        for (x, index) in row.iter().enumerate() {
            line[x * depth / 8] |= index << (8 - depth - x * depth % 8);
        }
        bytes.extend(line);
    }
    bytes
}

/// A PNG of those indices; its palette has two colours, however many indices there are.
pub fn png(indices: &[u8], width: usize, depth: BitDepth, colours: ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, (indices.len() / width) as u32);
    encoder.set_color(colours);
    encoder.set_depth(depth);
    encoder.set_palette(&[0u8, 0, 0, 224, 224, 192][..]);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&packed(indices, width, depth as usize)).unwrap();
    writer.finish().unwrap();
    bytes
}

fn palette(indices: &[u8], width: usize) -> Vec<u8> {
    png(indices, width, BitDepth::Eight, ColorType::Indexed)
}

/// A PNG whose pixels come in Adam7's seven passes.
fn interlaced(indices: &[u8], width: usize, depth: usize) -> Vec<u8> {
    const PASSES: [[usize; 4]; 7] =
        [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
    let height = indices.len() / width;
    let mut lines = Vec::new();
    for [x0, y0, across, down] in PASSES {
        for y in (y0..height).step_by(down) {
            let row: Vec<u8> = (x0..width).step_by(across).map(|x| indices[y * width + x]).collect();
            if !row.is_empty() {
                lines.push(0);
                lines.extend(packed(&row, row.len(), depth));
            }
        }
    }
    let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    deflated.write_all(&lines).unwrap();
    let mut header = [(width as u32).to_be_bytes(), (height as u32).to_be_bytes()].concat();
    header.extend([depth as u8, 0, 0, 0, 1]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"IHDR", header), (b"IDAT", deflated.finish().unwrap()), (b"IEND", Vec::new())] {
        let chunk = [&name[..], &data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&chunk);
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(chunk);
        bytes.extend(crc.sum().to_be_bytes());
    }
    bytes
}

fn square(mask: &[u8], size: [usize; 2], orientation: Orientation, side: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![0; side * side];
    Decoder::new(MAX_MEGAPIXELS).mask(mask, Stored { size, orientation }, side, &mut out).map(|()| out)
}

const PLAIN: Orientation = Orientation::NoTransforms;

#[test]
fn squares_are_pillows() {
    for (at, (width, height, side, expected)) in SQUARES.into_iter().enumerate() {
        let made = indices(width, height);
        let found = square(&palette(&made, width), [width, height], PLAIN, side).unwrap();
        if let Some(first) = FIRST.get(at) {
            assert_eq!(found, first);
        }
        let weighted: u64 = found.iter().zip(1..).map(|(&value, place)| u64::from(value) * place).sum();
        assert_eq!(weighted, expected, "{width} x {height} to {side}");
        // Gray says the same.
        let gray = png(&made, width, BitDepth::Eight, ColorType::Grayscale);
        assert_eq!(square(&gray, [width, height], PLAIN, side).unwrap(), found);
    }
}

#[test]
fn fewer_bits_and_passes_are_the_same_numbers() {
    for (width, height) in [(31, 20), (9, 13), (3, 2)] {
        for depth in [BitDepth::One, BitDepth::Two, BitDepth::Four] {
            let made: Vec<u8> = indices(width, height).iter().map(|index| index % (1 << depth as u8)).collect();
            let whole = square(&palette(&made, width), [width, height], PLAIN, 7).unwrap();
            assert!(whole.iter().any(|&index| index > 0));
            for colours in [ColorType::Indexed, ColorType::Grayscale] {
                let found = square(&png(&made, width, depth, colours), [width, height], PLAIN, 7).unwrap();
                assert_eq!(found, whole, "{width} x {height}, {depth:?}, {colours:?}");
            }
            let found = square(&interlaced(&made, width, depth as usize), [width, height], PLAIN, 7).unwrap();
            assert_eq!(found, whole, "{width} x {height}, {depth:?}, interlaced");
        }
        let made = indices(width, height);
        let whole = square(&palette(&made, width), [width, height], PLAIN, 7).unwrap();
        assert_eq!(square(&interlaced(&made, width, 8), [width, height], PLAIN, 7).unwrap(), whole);
    }
}

/// A mask is of the stored image: it is turned as that is.
#[test]
fn a_mask_is_turned_as_its_image() {
    for (width, height) in [(31, 20), (20, 37)] {
        let (made, image) = (indices(width, height), textured(width as u32, height as u32, 3));
        for value in 1..=8 {
            let orientation = Orientation::from_exif(value).unwrap();
            let mut upright =
                DynamicImage::ImageLuma8(GrayImage::from_raw(width as u32, height as u32, made.clone()).unwrap());
            upright.apply_orientation(orientation);
            let (w, h) = (upright.width() as usize, upright.height() as usize);
            let expected = square(&palette(upright.as_bytes(), w), [w, h], PLAIN, 6).unwrap();
            let mut decoder = Decoder::new(1);
            let file = with_orientation(&jpeg(&image), value);
            let stored = decoder.square(&file, 6, &mut [0; 108]).unwrap();
            assert_eq!(stored, Stored { size: [width, height], orientation });
            let mut found = vec![0; 36];
            decoder.mask(&palette(&made, width), stored, 6, &mut found).unwrap();
            assert_eq!(found, expected, "{width} x {height}, orientation {value}");
        }
    }
}

/// A picture that has a colour for each index of its mask: so have their squares, but where a pixel shows two.
#[test]
fn masks_lie_on_their_pixels() {
    let colours = [[230, 20, 20], [20, 200, 40], [30, 40, 220], [240, 240, 30]];
    let (width, height) = (300, 200);
    let index = |x: usize, y: usize| (x / 25 + y / 25 * 3) % 4;
    let made: Vec<u8> = (0..width * height).map(|at| index(at % width, at / width) as u8).collect();
    let image = RgbImage::from_fn(width as u32, height as u32, |x, y| Rgb(colours[index(x as usize, y as usize)]));
    for (value, side) in [(1, 50), (6, 50), (3, 64), (8, 240)] {
        let mut decoder = Decoder::new(1);
        let mut pixels = vec![0; side * side * 3];
        let stored = decoder.square(&with_orientation(&jpeg(&image), value), side, &mut pixels).unwrap();
        let mut mask = vec![0; side * side];
        decoder.mask(&palette(&made, width), stored, side, &mut mask).unwrap();
        let off = |pixel: &[u8], colour: [u8; 3]| -> u32 {
            pixel.iter().zip(colour).map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
        };
        let nearest = |pixel: &[u8]| (0..4).min_by_key(|&at| off(pixel, colours[at])).unwrap();
        let same = pixels.chunks(3).zip(&mask).filter(|(pixel, index)| nearest(pixel) == usize::from(**index)).count();
        // One pixel aside, a quarter of the smaller square would be another class.
        assert!(same * 100 > 90 * side * side, "orientation {value}, side {side}: {same} of {}", side * side);
    }
}

#[test]
fn what_is_no_mask_is_refused() {
    let made = indices(12, 10);
    let whole = palette(&made, 12);
    let refused = |bytes: &[u8]| square(bytes, [12, 10], PLAIN, 5).unwrap_err();
    assert_eq!(refused(b""), "its mask is no PNG");
    assert_eq!(refused(&jpeg(&textured(12, 10, 1))), "its mask is no PNG");
    let colours = |image: DynamicImage| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        refused(bytes.get_ref())
    };
    let rgb = DynamicImage::ImageRgb8(textured(12, 10, 1));
    let message = "its mask is a PNG of Rgb with 8 bits, and its pixels should be indices of classes: save it with a palette or \
                   as gray of 8 bits";
    assert_eq!(colours(rgb.clone()), message);
    assert!(colours(DynamicImage::ImageLuma16(rgb.to_luma16())).contains("a PNG of Grayscale with 16 bits, and its pixels"));
    assert!(colours(DynamicImage::ImageLumaA8(rgb.to_luma_alpha8())).contains("a PNG of GrayscaleAlpha with 8 bits"));
    let other = square(&whole, [10, 12], PLAIN, 5).unwrap_err();
    assert_eq!(other, "its mask is 12x10, and the image, as it is stored, 10x12");
    // A sound file, or an error: never another mask.
    let sound = square(&whole, [12, 10], PLAIN, 5).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert!(
            square(&bytes, [12, 10], PLAIN, 5).is_ok_and(|found| found == sound) == (at >= whole.len() - 12),
            "byte {at}"
        );
    }
    for length in 0..whole.len() - 20 {
        assert!(square(&whole[..length], [12, 10], PLAIN, 5).is_err(), "{length} bytes");
    }
}

/// Columns, rows and side of a mask, and the sum of its square's values, each times its place from 1 (`tests/peers/golden/crops.py`).
const SQUARES: [(usize, usize, usize, u64); 6] = [
    (31, 20, 6, 66320),
    (20, 37, 6, 77015),
    (5, 4, 6, 66669),
    (500, 375, 9, 368_521),
    (333, 500, 7, 150_256),
    (100, 100, 30, 49_521_299),
];

/// The squares of the first three.
#[rustfmt::skip]
const FIRST: [[u8; 36]; 3] = [
    [49, 47, 69, 147, 115, 240, 90, 200, 55, 217, 46, 4, 58, 1, 170, 144, 57, 78, 26, 53, 34, 71, 68, 152, 67, 206, 20,
     141, 250, 167, 35, 7, 135, 68, 10, 241],
    [223, 187, 58, 236, 170, 144, 44, 92, 26, 16, 34, 71, 140, 49, 67, 141, 20, 141, 212, 205, 35, 172, 135, 68, 33,
     110, 3, 203, 250, 246, 129, 67, 44, 77, 236, 65],
    [0, 31, 31, 124, 28, 28, 17, 55, 55, 155, 66, 66, 17, 55, 55, 155, 66, 66, 34, 79, 79, 186, 104, 104, 34, 79, 79,
     186, 104, 104, 51, 103, 103, 217, 142, 142],
];
