//! What the first bytes of a mask say.

/// Bytes that are read of a mask.
pub const BYTES: u64 = 26;

/// Columns and rows of a mask; none if it is no PNG.
///
/// # Errors
/// Its pixels are no indices.
pub fn size(bytes: &[u8]) -> Result<Option<(i64, i64)>, String> {
    let [front @ .., a, b, c, d, e, f, g, h, depth, colours] = bytes else { return Ok(None) };
    if front != b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" {
        return Ok(None);
    }
    let found = match (colours, depth) {
        (0 | 3, 1 | 2 | 4 | 8) => {
            let side = |bytes| i64::from(u32::from_be_bytes(bytes));
            return Ok(Some((side([*a, *b, *c, *d]), side([*e, *f, *g, *h]))));
        }
        (0, 16) => "gray of 16 bits",
        (2, _) => "RGB",
        (4, _) => "gray with alpha",
        (6, _) => "RGBA",
        _ => return Ok(None),
    };
    Err(format!(
        "a mask's pixels should be indices of classes, and this PNG is {found}: save it with a palette or as gray of 8 bits \
         whose values are the classes' numbers (in Pillow, Image.fromarray(classes.astype(\"uint8\")))"
    ))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The first bytes of a PNG.
    pub fn png(width: u32, height: u32, depth: u8, colours: u8) -> Vec<u8> {
        [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colours]].concat()
    }

    #[test]
    fn indices_are_told_from_colours() {
        for (depth, colours) in [(1, 0), (2, 3), (4, 0), (8, 3), (8, 0)] {
            assert_eq!(size(&png(500, 375, depth, colours)), Ok(Some((500, 375))));
        }
        for (depth, colours, what) in [(16, 0, "gray of 16 bits"), (8, 2, "RGB"), (16, 4, "gray with alpha"), (8, 6, "RGBA")]
        {
            let message = size(&png(500, 375, depth, colours)).unwrap_err();
            assert!(message.contains(&format!("this PNG is {what}: save it with a palette")), "{message}");
        }
        let whole = png(500, 375, 8, 3);
        for other in [&whole[..25], b"", b"\xff\xd8\xff\xe0", &png(1, 1, 9, 3), &png(1, 1, 16, 3), &png(1, 1, 8, 1)] {
            assert_eq!(size(other), Ok(None));
        }
        assert_eq!(whole.len() as u64, BYTES);
    }
}
