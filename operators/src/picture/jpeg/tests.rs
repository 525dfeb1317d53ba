//! Sound files are read, damaged ones are named, and what is odd about a header does no harm.

use turbojpeg::{Compressor, Subsamp};

use super::super::tests::{difference, square, textured};
use super::super::{Decoder, MAX_MEGAPIXELS};
use super::*;
use crate::random::Draw;

/// A picture of some kind: its size, quality, sampling and process are drawn.
fn drawn(draw: &mut Draw, seed: u64) -> Vec<u8> {
    let (width, height) = (24 + draw.below(120), 24 + draw.below(120));
    let image = textured(width as u32, height as u32, seed);
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(40 + draw.below(56) as i32).unwrap();
    compressor.set_subsamp([Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Gray][draw.below(4)]).unwrap();
    compressor.set_progressive(draw.chance(0.3)).unwrap();
    compressor.set_optimize(draw.chance(0.5)).unwrap();
    compress(compressor, image.as_raw(), width, height, PixelFormat::RGB)
}

fn compress(mut compressor: Compressor, pixels: &[u8], width: usize, height: usize, format: PixelFormat) -> Vec<u8> {
    let pitch = width * format.size();
    compressor.compress_to_vec(turbojpeg::Image { pixels, width, pitch, height, format }).unwrap()
}

fn plain(seed: u64) -> Vec<u8> {
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(90).unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    compress(compressor, textured(64, 64, seed).as_raw(), 64, 64, PixelFormat::RGB)
}

/// Where segments begin, up to and with the first scan's.
fn places(jpeg: &[u8]) -> Vec<(u8, usize)> {
    let mut places = Vec::new();
    let mut at = 2;
    while places.last().is_none_or(|(marker, _)| *marker != 0xda) {
        places.push((jpeg[at + 1], at));
        at += 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
    }
    places
}

fn place(jpeg: &[u8], marker: u8) -> usize {
    places(jpeg).iter().find(|(found, _)| *found == marker).unwrap().1
}

/// Where the first scan's data begin.
fn data(jpeg: &[u8]) -> usize {
    let scan = place(jpeg, 0xda);
    scan + 2 + usize::from(u16::from_be_bytes([jpeg[scan + 2], jpeg[scan + 3]]))
}

/// Puts bytes in.
fn insert(jpeg: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&jpeg[..at], bytes, &jpeg[at..]].concat()
}

/// A segment.
fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff, marker], &(body.len() as u16 + 2).to_be_bytes()[..], body].concat()
}

/// The file without segments of a kind.
fn without(jpeg: &[u8], marker: u8) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    for (_, at) in places(jpeg).into_iter().rev().filter(|(found, _)| *found == marker) {
        let length = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        bytes.drain(at..at + length);
    }
    bytes
}

#[test]
fn sound_files_are_read_and_most_damaged_scans_are_named() {
    let mut draw = Draw::new(1, "picture", "sound", "", 0);
    let sound: Vec<Vec<u8>> = (0..200).map(|seed| drawn(&mut draw, seed)).collect();
    let mut decoder = Decoder::new(MAX_MEGAPIXELS);
    let mut out = vec![0; 64 * 64 * 3];
    for (number, jpeg) in sound.iter().enumerate() {
        decoder.square(jpeg, 64, &mut out).unwrap_or_else(|error| panic!("sound file {number}: {error}"));
    }
    type Damage = fn(&mut Draw, &mut [u8]);
    let kinds: [(&str, Damage, usize); 3] = [
        ("16 zeros", |_, bytes| bytes.fill(0), 16),
        ("16 bytes of noise", |draw, bytes| bytes.iter_mut().for_each(|byte| *byte = draw.bits() as u8), 16),
        ("one bit", |draw, bytes| bytes[0] ^= 1 << draw.below(8), 1),
    ];
    for (kind, damage, length) in kinds {
        let (mut named, mut visible, mut silent) = (0, 0, 0);
        for jpeg in &sound[..50] {
            let before = square(jpeg, 64).unwrap();
            let mut bytes = jpeg.clone();
            let from = data(jpeg);
            let at = from + draw.below(jpeg.len() - 2 - length - from);
            damage(&mut draw, &mut bytes[at..at + length]);
            match square(&bytes, 64) {
                Err(reason) => {
                    assert!(reason.starts_with("broken JPEG: "), "{reason}");
                    named += 1;
                }
                Ok(after) if difference(&before, &after) > 2.0 => visible += 1,
                Ok(_) => silent += 1,
            }
        }
        println!("{kind}: {named} of 50 named, {visible} pass and are visibly wrong, {silent} pass and are hardly changed");
        // A bit of a coefficient's value tells nothing, but changes one block alone.
        assert!(named >= if length > 1 { 40 } else { 15 }, "{kind}: {named} of 50 named");
        assert!(visible <= 5, "{kind}: {visible} of 50 are visibly wrong");
    }
}

#[test]
fn odd_headers_do_no_harm() {
    let mut draw = Draw::new(1, "picture", "odd", "", 0);
    let icc = |number: u8, of: u8, body: &[u8]| segment(0xe2, &[b"ICC_PROFILE\0", &[number, of][..], body].concat());
    let jfif = |major: u8| segment(0xe0, &[b"JFIF\0".as_slice(), &[major, 1, 0, 0, 1, 0, 1, 0, 0]].concat());
    let claims = |marker: u8, length: u16| [&[0xff, marker], &length.to_be_bytes()[..], b"8BIM"].concat();
    for seed in 0..5 {
        let jpeg = drawn(&mut draw, seed);
        let expected = square(&jpeg, 64).unwrap();
        let stray: Vec<u8> = (0..1 + draw.below(9)).map(|_| draw.below(255) as u8).collect();
        let any = places(&jpeg)[draw.below(places(&jpeg).len())].1;
        let (end, tables, scan) = (jpeg.len() - 2, place(&jpeg, 0xdb), place(&jpeg, 0xda));
        let odd = [
            ("stray bytes before a segment", insert(&jpeg, any, &stray)),
            ("zeros before the tables", insert(&jpeg, tables, &[0, 0])),
            ("stray bytes before the scan", insert(&jpeg, scan, &[1, 2, 3])),
            ("a stray 0xff 0", insert(&jpeg, scan, &[0xff, 0])),
            ("filling before a marker", insert(&jpeg, any, &[0xff, 0xff, 0xff])),
            ("an empty ICC profile", insert(&jpeg, 2, &icc(1, 1, &[]))),
            ("an ICC profile whose second part is missing", insert(&jpeg, 2, &icc(1, 2, &[7; 40]))),
            ("an ICC profile with a part 0", insert(&jpeg, 2, &icc(0, 1, &[7; 40]))),
            ("two ICC profiles", insert(&jpeg, 2, &[icc(1, 1, &[7; 40]), icc(1, 1, &[8; 40])].concat())),
            ("an unknown version of JFIF", insert(&without(&jpeg, 0xe0), 2, &jfif(2))),
            ("version 0 of JFIF", insert(&without(&jpeg, 0xe0), 2, &jfif(0))),
            ("a cut JFIF segment", insert(&jpeg, 2, &segment(0xe0, b"JFIF\0"))),
            ("an APP13 that claims too much of the file", insert(&jpeg, 2, &claims(0xed, 0xffff))),
            ("an APP13 that claims the tables", insert(&jpeg, tables, &claims(0xed, 100))),
            ("a comment that claims all but the end", insert(&jpeg, 2, &claims(0xfe, (jpeg.len() - 20) as u16))),
            ("an APP13 of no length", insert(&jpeg, 2, &[0xff, 0xed, 0, 0])),
            ("an Exif segment of nothing", insert(&jpeg, 2, &segment(0xe1, b"Exif\0\0"))),
            ("a marker without a body", insert(&jpeg, scan, &[0xff, 0x01, 0xff, 0xd3])),
            ("a second start", insert(&jpeg, tables, &[0xff, 0xd8])),
            ("no end", jpeg[..end].to_vec()),
            ("half an end", jpeg[..end + 1].to_vec()),
            ("noise behind the end", [jpeg.clone(), stray.clone(), vec![9; 500]].concat()),
            ("another picture behind the end", [jpeg.clone(), plain(7)].concat()),
            ("zeros before the end", insert(&jpeg, end, &[0; 5])),
            ("filling before the end", insert(&jpeg, end, &[0xff; 4])),
        ];
        for (what, bytes) in odd {
            let found = square(&bytes, 64).unwrap_or_else(|error| panic!("{what}, {seed}: {error}"));
            assert_eq!(found, expected, "{what}, {seed}");
        }
    }
}

#[test]
fn damage_is_named_also_behind_an_odd_header() {
    let jpeg = plain(3);
    let end = jpeg.len() - 2;
    let damaged = [
        (insert(&jpeg, end, &[1, 2, 3]), "3 extraneous bytes"),
        (insert(&jpeg, end, &[0xaa; 40]), "40 extraneous bytes"),
        (insert(&jpeg, end, &[0, 0, 0, 9]), "4 extraneous bytes"),
        (jpeg[..end - 20].to_vec(), "Premature end of JPEG file"),
        ([&jpeg[..end - 20], &[0xff, 0xd9]].concat(), "Premature end of JPEG file"),
    ];
    for (bytes, words) in damaged {
        for odd in [bytes.clone(), insert(&bytes, place(&jpeg, 0xdb), &[0, 0])] {
            let error = square(&odd, 64).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}

#[test]
fn a_progressive_file_without_an_end_lacks_no_scan() {
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(80).unwrap();
    compressor.set_subsamp(Subsamp::None).unwrap();
    compressor.set_progressive(true).unwrap();
    let jpeg = compress(compressor, textured(64, 64, 5).as_raw(), 64, 64, PixelFormat::RGB);
    let last = jpeg.windows(2).rposition(|two| two == [0xff, 0xda]).unwrap();
    let cut = &jpeg[..last];
    assert!(square(cut, 64).unwrap_err().contains("a scan is missing"));
    // With an end it is a picture that was sent so far.
    assert!(difference(&square(&[cut, &[0xff, 0xd9]].concat(), 64).unwrap(), &square(&jpeg, 64).unwrap()) < 8.0);
    assert_eq!(square(&jpeg[..jpeg.len() - 2], 64).unwrap(), square(&jpeg, 64).unwrap());
}

#[test]
fn nothing_of_a_file_reaches_the_next() {
    let jpeg = plain(1);
    let own = {
        let mut compressor = Compressor::new().unwrap();
        compressor.set_quality(5).unwrap();
        compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
        compressor.set_optimize(true).unwrap();
        compress(compressor, textured(64, 64, 2).as_raw(), 64, 64, PixelFormat::RGB)
    };
    let (no_steps, no_codes) = (without(&jpeg, 0xdb), without(&jpeg, 0xc4));
    let expected = square(&jpeg, 64).unwrap();
    let mut out = expected.clone();
    for before in [&own, &jpeg, &no_codes, &jpeg[..300].to_vec(), &b"none".to_vec()] {
        let mut decoder = Decoder::new(MAX_MEGAPIXELS);
        let _ = decoder.square(before, 64, &mut out);
        let error = decoder.square(&no_steps, 64, &mut out).unwrap_err();
        assert!(error.contains("Quantization table 0x00 was not defined"), "{error}");
        let _ = decoder.square(before, 64, &mut out);
        out.fill(0);
        decoder.square(&no_codes, 64, &mut out).unwrap();
        // The compressor used the standard's tables.
        assert_eq!(out, expected);
    }
}

#[test]
fn four_channels_are_complements_with_and_without_their_marker() {
    let rgb = textured(64, 64, 6);
    let inks: Vec<u8> = rgb.pixels().flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(95).unwrap();
    compressor.set_subsamp(Subsamp::None).unwrap();
    let jpeg = compress(compressor, &inks, 64, 64, PixelFormat::CMYK);
    let off = difference(&square(&jpeg, 64).unwrap(), rgb.as_raw());
    assert!(off < 6.0, "{off}");
    // Without the marker the channels are not luminance and colour differences, so that they must not be stored so.
    let adobe = place(&jpeg, 0xee);
    if jpeg[adobe + 15] == 0 {
        assert_eq!(square(&without(&jpeg, 0xee), 64).unwrap(), square(&jpeg, 64).unwrap());
    } else {
        let mut plain = jpeg.clone();
        plain[adobe + 15] = 0;
        assert_eq!(square(&without(&jpeg, 0xee), 64).unwrap(), square(&plain, 64).unwrap());
    }
    let mut found = [0; 6];
    cmyk_to_rgb(&[0, 255, 255, 255, 255, 255, 255, 127], &mut found);
    assert_eq!(found, [0, 255, 255, 127, 127, 127]);
}

/// A progressive JPEG of that size and number of components and scans, with no data.
fn hollow(size: u16, components: u8, scans: usize) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    bytes.extend(segment(0xdb, &[&[0][..], &[1; 64]].concat()));
    let mut frame = [&[8][..], &size.to_be_bytes(), &size.to_be_bytes(), &[components]].concat();
    frame.extend((1..=components).flat_map(|id| [id, 0x11, 0]));
    bytes.extend(segment(0xc2, &frame));
    for _ in 0..scans {
        bytes.extend(segment(0xda, &[1, 1, 0, 0, 0, 0]));
        bytes.push(0);
    }
    bytes.extend([0xff, 0xd9]);
    bytes
}

#[test]
fn files_that_would_take_too_long_or_too_much_are_refused_by_their_header() {
    let start = std::time::Instant::now();
    let cases = [
        (hollow(64, 1, 101), "a JPEG of 64x64 in 101 scans, where at most 100 are read"),
        (hollow(64, 1, 490), "in 490 scans, where at most 100 are read"),
        (hollow(13_300, 1, 21), "a JPEG of 13300x13300 in 21 scans, where at most 20 are read"),
        (hollow(13_000, 4, 1), "13000x13000 of its kind needs 1374 MB to decode, and at most 1068 MB are given to an image"),
        (hollow(13_400, 1, 1), "13400x13400 is more than max_megapixels = 178"),
    ];
    for (bytes, words) in cases {
        let error = square(&bytes, 64).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    // As many scans are no fault of a small picture, nor is its size.
    assert!(square(&hollow(64, 1, 100), 64).unwrap_err().starts_with("broken JPEG"));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
