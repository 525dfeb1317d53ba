use image::{DynamicImage, ImageFormat, RgbImage};

use super::*;

const KINDS: [(ImageFormat, &str); 7] = [
    (ImageFormat::Jpeg, "jpeg"),
    (ImageFormat::Png, "png"),
    (ImageFormat::Gif, "gif"),
    (ImageFormat::Bmp, "bmp"),
    (ImageFormat::WebP, "webp"),
    (ImageFormat::Tiff, "tiff"),
    (ImageFormat::Pnm, "ppm"),
];

fn encoded(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let pixels = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7 + y) as u8, (y * 3) as u8, x as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::from(pixels).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn told(format: &'static str, width: u32, height: u32) -> Header {
    let known = |side: u32| Some(side).filter(|&side| side > 0);
    Header { format: Some(format), width: known(width), height: known(height) }
}

#[test]
fn every_format_that_is_written_is_read() {
    for (format, name) in KINDS {
        for (width, height) in [(1, 1), (17, 300), (300, 17), (640, 255)] {
            assert_eq!(Header::of(&encoded(format, width, height)), told(name, width, height), "{name}");
        }
        assert!(FORMATS.contains(&name));
    }
}

/// A file that ends anywhere says what it is, as soon as it can, and never another size.
#[test]
fn cut_files_leave_open_what_they_do_not_say() {
    for (format, name) in KINDS {
        let bytes = encoded(format, 61, 47);
        let whole = told(name, 61, 47);
        let mut complete = 0;
        for length in 0..bytes.len() {
            let header = Header::of(&bytes[..length]);
            assert!(header.format.is_none() || header.format == Some(name), "{name} of {length} bytes: {header:?}");
            let size = (header.width, header.height);
            assert!(size == (None, None) || header == whole, "{name} of {length} bytes: {header:?}");
            complete += usize::from(header == whole);
        }
        assert!(complete > 0 || name == "tiff", "{name}: its directory alone may be the file's last bytes");
    }
}

#[test]
fn netpbm_files_have_blanks_and_comments() {
    for (text, size) in
        [("P6\n# by hand\n 61\t47 255\n", (61, 47)), ("P1 #a 9 9\n#b\n2#c\n 3\n", (2, 3)), ("P5\r\n0 7 255\n", (0, 7))]
    {
        assert_eq!(Header::of(text.as_bytes()), told("ppm", size.0, size.1), "{text}");
    }
    for text in ["P6 x 3 255 ......", "P6 99999999999 1 255", "P6 4", "P6 -4 3 255 ..."] {
        let header = Header::of(text.as_bytes());
        assert_eq!((header.width, header.height), (None, None), "{text}");
    }
    let pam = "P7\n# by hand\nWIDTH 3\nHEIGHT 4\nDEPTH 3\nENDHDR\n";
    assert_eq!(Header::of(pam.as_bytes()), told("ppm", 3, 4));
    for text in ["P8\nWIDTH 3\nHEIGHT", "P60 3 3 255 ....", "Pages 3 4 5 6 7"] {
        assert_eq!(Header::of(text.as_bytes()), Header::default(), "{text}");
    }
}

#[test]
fn jpeg_previews_fill_bytes_and_stray_bytes_are_passed_over() {
    let (bytes, preview) = (encoded(ImageFormat::Jpeg, 50, 40), encoded(ImageFormat::Jpeg, 8, 6));
    let mut exif = vec![0xff, 0xe1];
    exif.extend(((preview.len() + 2) as u16).to_be_bytes());
    exif.extend(&preview);
    for between in [&exif[..], &[0xff, 0xff, 0xff], b"stray", &[0xff, 0x01], &[0, 0xff, 0]] {
        // Behind the first segment: a file that does not begin as JPEGs do is none.
        let behind = 4 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let odd = [&bytes[..behind], between, &bytes[behind..]].concat();
        assert_eq!(Header::of(&odd), told("jpeg", 50, 40), "{between:?}");
    }
    // A segment that claims bytes of those behind it, or more than there are.
    for length in [40_u16, 300, u16::MAX] {
        for marker in [0xed, 0xe1, 0xfe] {
            let [high, low] = length.to_be_bytes();
            let odd = [&bytes[..2], &[0xff, marker, high, low], b"8BIM\xff\xc0\0", &bytes[2..]].concat();
            assert_eq!(Header::of(&odd), told("jpeg", 50, 40), "{marker:x} of {length} bytes");
        }
    }
    let frame = (0..bytes.len()).find(|&at| bytes[at..].starts_with(&[0xff, 0xc0])).unwrap();
    let mut unknown = bytes.clone();
    unknown[frame + 5..frame + 7].fill(0);
    assert_eq!(Header::of(&unknown), told("jpeg", 50, 0), "the height comes behind the scan");
    for length in [0, 1] {
        let endless: Vec<u8> = [0xff, 0xd8].into_iter().chain([0xff, 0xe0, 0, length].repeat(JPEG_SEGMENTS * 2)).collect();
        assert_eq!(Header::of(&endless), told("jpeg", 0, 0));
    }
}

#[test]
fn tiff_directories_of_both_orders_and_sizes_lie_anywhere() {
    let number = |little: bool, value: u64, length: usize| {
        let bytes = value.to_be_bytes()[8 - length..].to_vec();
        if little { bytes.into_iter().rev().collect::<Vec<_>>() } else { bytes }
    };
    for (little, big, kind) in
        [(true, false, 3), (false, false, 4), (true, true, 4), (false, true, 16), (true, true, 3), (false, false, 3)]
    {
        let put = |value, length| number(little, value, length);
        let (offset, count) = if big { (8, 8) } else { (4, 2) };
        let value = match kind {
            3 => 2,
            4 => 4,
            _ => 8,
        };
        let mut file = if little { b"II".to_vec() } else { b"MM".to_vec() };
        file.extend(put(if big { 43 } else { 42 }, 2));
        if big {
            file.extend(put(8, 2));
            file.extend(put(0, 2));
        }
        let far = 5000;
        file.extend(put(far, offset));
        file.resize(far as usize, 9);
        file.extend(put(3, count));
        for (tag, side) in [(0xfe, 0), (0x100, 700), (0x101, 90)] {
            file.extend(put(tag, 2));
            file.extend(put(kind, 2));
            file.extend(put(1, offset));
            file.extend(put(side, value));
            file.resize(file.len() + offset - value, 0);
        }
        assert_eq!(Header::of(&file), told("tiff", 700, 90), "{little} {big} {kind}");
        let end = file.len();
        file[far as usize..].fill(0xff);
        assert_eq!(Header::of(&file[..end]), told("tiff", 0, 0), "a directory of nonsense");
    }
}

#[test]
fn other_formats_are_named_at_most() {
    let named = [
        (&b"\0\0\0\x20ftypheic\0\0\0\0"[..], Some("heif")),
        (b"\0\0\0\x20ftypavif\0\0\0\0", Some("avif")),
        (b"\0\0\0\x20ftypmp42\0\0\0\0", None),
        (b"\xff\x0a\x10\x20", Some("jxl")),
        (b"8BPS\0\x01", Some("psd")),
        (b"<html>", None),
        (b"", None),
        (b"BM", Some("bmp")),
    ];
    for (bytes, format) in named {
        assert_eq!(Header::of(bytes), Header { format, ..Header::default() }, "{bytes:?}");
        assert!(format.is_none_or(|format| FORMATS.contains(&format)));
    }
}
