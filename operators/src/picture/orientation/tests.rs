//! Eight values by every carrier: whatever a file says of how its picture lies, it comes upright.

use std::io::{Cursor, Write as _};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{DynamicImage, ImageFormat, RgbImage};

use super::super::tests::{difference, jpeg, square};
use super::*;

/// An Exif body whose only tag is the orientation, of type SHORT (3) or LONG (4).
fn exif(value: u8, kind: u16, little: bool) -> Vec<u8> {
    let two = |number: u16| if little { number.to_le_bytes() } else { number.to_be_bytes() };
    let four = |number: u32| if little { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut bytes = if little { b"II".to_vec() } else { b"MM".to_vec() };
    bytes.extend(two(42));
    bytes.extend(four(8));
    bytes.extend([two(1), two(0x0112), two(kind)].concat());
    bytes.extend(four(1));
    if kind == 3 {
        bytes.extend([two(value.into()), two(0)].concat())
    } else {
        bytes.extend(four(value.into()))
    }
    bytes.extend(four(0));
    bytes
}

fn xmp(value: u8, element: bool) -> Vec<u8> {
    let said = if element {
        format!("><tiff:Orientation>{value}</tiff:Orientation></rdf:Description>")
    } else {
        format!(" tiff:Orientation=\"{value}\"/>")
    };
    format!("<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF><rdf:Description{said}</rdf:RDF></x:xmpmeta>").into_bytes()
}

fn app1(jpeg: &[u8], prefix: &[u8], body: &[u8]) -> Vec<u8> {
    let length = (2 + prefix.len() + body.len()) as u16;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), prefix, body, &jpeg[2..]].concat()
}

/// A PNG with one more chunk, before its pixels or behind them.
fn chunk(png: &[u8], before: bool, name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(body);
    let chunk = [&(body.len() as u32).to_be_bytes(), &name[..], body, &crc.sum().to_be_bytes()].concat();
    // Behind the signature and IHDR, or before IEND.
    let at = if before { 33 } else { png.len() - 12 };
    [&png[..at], &chunk, &png[at..]].concat()
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A profile as ImageMagick writes it.
fn profile(name: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("\n{name}\n{:8}", body.len());
    for (at, byte) in body.iter().enumerate() {
        text += if at % 36 == 0 { "\n" } else { "" };
        text += &format!("{byte:02x}");
    }
    text.push('\n');
    text.into_bytes()
}

/// A WebP with one more chunk.
fn webp(plain: &[u8], image: &RgbImage, name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let flag = if name == b"EXIF" { 8 } else { 4 };
    let three = |length: u32| (length - 1).to_le_bytes()[..3].to_vec();
    let head = [vec![flag, 0, 0, 0], three(image.width()), three(image.height())].concat();
    let chunk = |name: &[u8], body: &[u8]| {
        let pad = vec![0; body.len() % 2];
        [name, &(body.len() as u32).to_le_bytes(), body, &pad].concat()
    };
    let rest = [b"WEBP".to_vec(), chunk(b"VP8X", &head), plain[12..].to_vec(), chunk(name, body)].concat();
    [b"RIFF".to_vec(), (rest.len() as u32).to_le_bytes().to_vec(), rest].concat()
}

/// An RGB TIFF with one more tag.
fn tiff(image: &RgbImage, big: bool, tag: u16, kind: u16, value: &[u8]) -> Vec<u8> {
    let (count, length): (usize, usize) = if kind == 1 { (value.len(), 1) } else { (1, if kind == 3 { 2 } else { 4 }) };
    let mut entries: Vec<(u16, u16, usize, Vec<u8>)> = vec![(tag, kind, count, value[..count * length].to_vec())];
    let pixels = image.as_raw();
    let short = |value: u32| (value as u16).to_le_bytes().to_vec();
    let number = |tag, value: u32| (tag, 3, 1, short(value));
    entries.extend([number(256, image.width()), number(257, image.height()), number(259, 1), number(262, 2)]);
    entries.extend([number(277, 3), number(278, image.height()), (258, 3, 3, [short(8), short(8), short(8)].concat())]);
    let start: u32 = if big { 16 } else { 8 };
    entries.extend([(273, 4, 1, start.to_le_bytes().to_vec()), (279, 4, 1, (pixels.len() as u32).to_le_bytes().to_vec())]);
    entries.sort();
    let wide = if big { 8 } else { 4 };
    let word = |value: usize| (value as u64).to_le_bytes()[..wide].to_vec();
    let mut data = pixels.clone();
    let mut directory = if big { (entries.len() as u64).to_le_bytes().to_vec() } else { short(entries.len() as u32) };
    for (tag, kind, count, mut value) in entries {
        directory.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        directory.extend(word(count));
        if value.len() > wide {
            let at = data.len() + start as usize;
            data.extend(value);
            value = word(at);
        }
        value.resize(wide, 0);
        directory.extend(value);
    }
    directory.extend(word(0));
    let mut bytes = if big { b"II+\0\x08\0\0\0".to_vec() } else { b"II*\0".to_vec() };
    bytes.extend(word(start as usize + data.len()));
    [bytes, data, directory].concat()
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    DynamicImage::ImageRgb8(image.clone()).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// All carriers of a value, by name, around a picture as it lies.
fn carriers(image: &RgbImage, value: u8) -> Vec<(&'static str, Vec<u8>)> {
    let (jpeg, png, plain) = (jpeg(image), encoded(image, ImageFormat::Png), encoded(image, ImageFormat::WebP));
    let other = value % 8 + 1;
    let (short, long, big) = (exif(value, 3, true), exif(value, 4, true), exif(value, 4, false));
    let exif_segment = |jpeg: &[u8], body: &[u8]| app1(jpeg, b"Exif\0\0", body);
    let xmp_segment = |body: &[u8]| app1(&jpeg, b"http://ns.adobe.com/xap/1.0/\0", body);
    // The segment that is put in last comes first.
    let two = exif_segment(&exif_segment(&jpeg, &exif(other, 3, true)), &short);
    let none = b"II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec();
    let with_prefix = [b"Exif\0\0".to_vec(), long.clone()].concat();
    let raw = profile("exif", &with_prefix);
    let keyed = |keyword: &str, flags: &[u8], text: &[u8]| [keyword.as_bytes(), &[0], flags, text].concat();
    let name = "Raw profile type exif";
    let xmp_name = "XML:com.adobe.xmp";
    vec![
        ("JPEG, Exif SHORT", exif_segment(&jpeg, &short)),
        ("JPEG, Exif SHORT, big-endian", exif_segment(&jpeg, &exif(value, 3, false))),
        ("JPEG, Exif LONG", exif_segment(&jpeg, &long)),
        ("JPEG, Exif LONG, big-endian", exif_segment(&jpeg, &big)),
        ("JPEG, the first of two Exif segments", two),
        ("JPEG, XMP attribute", xmp_segment(&xmp(value, false))),
        ("JPEG, XMP element", xmp_segment(&xmp(value, true))),
        ("JPEG, XMP beside Exif without it", exif_segment(&xmp_segment(&xmp(value, false)), &none)),
        ("JPEG, Exif beside XMP that says otherwise", exif_segment(&xmp_segment(&xmp(other, false)), &short)),
        ("PNG, eXIf", chunk(&png, true, b"eXIf", &short)),
        ("PNG, eXIf LONG behind the pixels", chunk(&png, false, b"eXIf", &big)),
        ("PNG, profile in zTXt", chunk(&png, true, b"zTXt", &keyed(name, &[0], &packed(&raw)))),
        ("PNG, profile in zTXt behind the pixels", chunk(&png, false, b"zTXt", &keyed(name, &[0], &packed(&raw)))),
        ("PNG, profile in tEXt", chunk(&png, true, b"tEXt", &keyed(name, &[], &raw))),
        ("PNG, profile in iTXt", chunk(&png, true, b"iTXt", &keyed(name, &[0, 0, 0, 0], &raw))),
        ("PNG, profile in packed iTXt", chunk(&png, true, b"iTXt", &keyed(name, &[1, 0, 0, 0], &packed(&raw)))),
        (
            "PNG, profile APP1",
            chunk(&png, true, b"zTXt", &keyed("Raw profile type APP1", &[0], &packed(&profile("APP1", &with_prefix)))),
        ),
        ("PNG, XMP", chunk(&png, true, b"iTXt", &keyed(xmp_name, &[0, 0, 0, 0], &xmp(value, false)))),
        ("PNG, packed XMP", chunk(&png, true, b"iTXt", &keyed(xmp_name, &[1, 0, 0, 0], &packed(&xmp(value, true))))),
        ("WebP, EXIF", webp(&plain, image, b"EXIF", &short)),
        ("WebP, EXIF LONG with JPEG's prefix", webp(&plain, image, b"EXIF", &with_prefix)),
        ("WebP, XMP", webp(&plain, image, b"XMP ", &xmp(value, false))),
        ("TIFF, SHORT", tiff(image, false, ORIENTATION, 3, &[value, 0])),
        ("TIFF, LONG", tiff(image, false, ORIENTATION, 4, &[value, 0, 0, 0])),
        ("TIFF, XMP", tiff(image, false, XMP, 1, &xmp(value, false))),
        ("BigTIFF, SHORT", tiff(image, true, ORIENTATION, 3, &[value, 0])),
        ("BigTIFF, XMP", tiff(image, true, XMP, 1, &xmp(value, true))),
    ]
}

#[test]
fn eight_orientations_come_upright_by_every_carrier() {
    let upright = super::super::tests::textured(48, 40, 3);
    let reference = square(&encoded(&upright, ImageFormat::Png), 20).unwrap();
    for value in 1..=8 {
        // The stored image is the upright one, turned back.
        let mut stored = DynamicImage::ImageRgb8(upright.clone());
        stored.apply_orientation(Orientation::from_exif([1, 2, 3, 4, 5, 8, 7, 6][usize::from(value) - 1]).unwrap());
        for (carrier, bytes) in carriers(&stored.to_rgb8(), value) {
            let found = square(&bytes, 20).unwrap_or_else(|error| panic!("{carrier}, {value}: {error}"));
            let off = difference(&found, &reference);
            assert!(off < 4.0, "{carrier}, {value}: mean difference {off}");
        }
    }
}

#[test]
fn odd_bodies_mean_upright() {
    let image = super::super::tests::textured(16, 16, 4);
    let png = encoded(&image, ImageFormat::Png);
    let expected = square(&png, 16).unwrap();
    let long = exif(6, 4, true);
    let mut bodies: Vec<Vec<u8>> = (0..long.len()).map(|length| long[..length].to_vec()).collect();
    bodies.extend([exif(0, 3, true), exif(9, 3, true), exif(255, 4, false), exif(6, 2, true), exif(6, 5, true)]);
    for body in bodies.iter().filter(|body| body.len() < 22 || body.len() == long.len()) {
        assert_eq!(square(&chunk(&png, true, b"eXIf", body), 16).unwrap(), expected, "{body:?}");
        assert_eq!(of_webp(&webp(&encoded(&image, ImageFormat::WebP), &image, b"EXIF", body)), Orientation::NoTransforms);
    }
    for text in
        ["tiff:Orientation", "tiff:Orientation=", "tiff:Orientation=\"x\"", "tiff:Orientation=\"66\"", "Orientation=\"6\""]
    {
        assert_eq!(first([], [text.as_bytes()]), Orientation::NoTransforms, "{text}");
    }
    assert_eq!(raw_profile(b"exif"), None);
}
