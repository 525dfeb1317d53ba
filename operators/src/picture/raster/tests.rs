//! Kinds of TIFF.

use super::super::tests::square;

/// A TIFF of one strip, little-endian: its size, bits a sample, colours, samples a pixel and their format, and the strip.
fn tiff(size: u16, bits: u16, colours: u16, samples: u16, format: u16, strip: &[u8]) -> Vec<u8> {
    let mut entries: Vec<(u16, u16, u32, u32)> = vec![
        (256, 3, 1, size.into()),
        (257, 3, 1, size.into()),
        (258, 3, samples.into(), bits.into()),
        (259, 3, 1, 1),
        (262, 3, 1, colours.into()),
        (273, 4, 1, 8),
        (277, 3, 1, samples.into()),
        (278, 3, 1, size.into()),
        (279, 4, 1, strip.len() as u32),
        (339, 3, samples.into(), format.into()),
    ];
    if samples == 2 {
        entries.insert(9, (338, 3, 1, 2));
    }
    let each = 8 + strip.len() as u32;
    let mut bytes = b"II*\0".to_vec();
    // Room for the values of tags with more than two, behind the strip.
    bytes.extend((each + 16).to_le_bytes());
    bytes.extend(strip);
    bytes.extend([bits.to_le_bytes(); 4].concat());
    bytes.extend([format.to_le_bytes(); 4].concat());
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend(count.to_le_bytes());
        let value = match (tag, count) {
            (258, 3..) => each,
            (339, 3..) => each + 8,
            (258 | 339, 2) => value << 16 | value,
            _ => value,
        };
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

#[test]
fn kinds_of_tiff_are_read_or_refused_in_plain_words() {
    let gray: Vec<u8> = (0..=255).collect();
    let read = square(&tiff(16, 8, 1, 1, 1, &gray), 16).unwrap();
    assert_eq!(read, gray.iter().flat_map(|&level| [level; 3]).collect::<Vec<_>>());
    let wide: Vec<u8> = gray.iter().flat_map(|&level| [level, level]).collect();
    assert_eq!(square(&tiff(16, 16, 1, 1, 1, &wide), 16).unwrap(), read);
    let floats = |most: f32| -> Vec<u8> {
        let value = |level: &u8| (f32::from(*level) / 255.0 * most).to_le_bytes();
        gray.iter().flat_map(|level| [value(level); 3].concat()).collect()
    };
    let unit = tiff(16, 32, 2, 3, 3, &floats(1.0));
    assert_eq!(square(&unit, 16).unwrap(), read);
    let refused = [
        (tiff(16, 32, 2, 3, 3, &floats(255.0)), "a TIFF of floating-point samples that has "),
        (tiff(16, 32, 2, 3, 3, &floats(f32::NAN)), "a TIFF of floating-point samples that has NaN, "),
        (tiff(16, 32, 1, 1, 3, &floats(1.0)[..1024]), "a TIFF of floating-point gray, which is not read: convert it to"),
        (tiff(16, 8, 3, 1, 1, &gray), "a TIFF with a palette of colours, which is not read: convert it to"),
        (tiff(16, 8, 6, 3, 1, &[7; 768]), "a TIFF of YCbCr colours, which is not read: convert it to"),
        (tiff(16, 8, 8, 3, 1, &[7; 768]), "a TIFF of CIE Lab colours, which is not read"),
        (tiff(16, 8, 1, 2, 1, &wide), "a TIFF of gray with alpha, which is not read"),
        (tiff(16, 8, 1, 1, 2, &gray), "a TIFF of signed samples, which is not read"),
        (tiff(16, 64, 1, 1, 3, &[0; 2048]), "a TIFF of floating-point samples of other than 32 bits"),
        (tiff(16, 32, 1, 1, 1, &[0; 1024]), "a TIFF of more than 16 bits a sample"),
    ];
    for (bytes, words) in refused {
        let error = square(&bytes, 16).unwrap_err();
        assert!(error.starts_with(words), "{error}");
    }
}
