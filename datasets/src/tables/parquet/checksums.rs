//! Checksums of pages, where a file has them (few writers make them unless they are asked to).
//!
//! The `parquet` crate looks at them only with a feature of its own, for all of its users at once; what is needed of a page's header
//! is three numbers. Reference: the Parquet format, "Checksumming" and `PageHeader`; Thrift's compact protocol.

/// Compact types with a meaning here.
const I32: u8 = 5;
/// How deep a header's structs may lie in each other.
const DEEPEST: usize = 16;

/// A page's place in its column chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    /// Bytes of its header.
    header: usize,
    /// Bytes behind it.
    size: usize,
    /// CRC-32 of those.
    checksum: Option<u32>,
}

/// Checks the pages of a column chunk; returns the place of the first that does not fit its checksum. What cannot be read as a page
/// ends the walk: the reader says better what is wrong with it.
pub fn check(chunk: &[u8]) -> Result<(), usize> {
    let mut start = 0;
    while let Some(page) = chunk.get(start..).and_then(page) {
        let Some(bytes) = chunk[start + page.header..].get(..page.size) else { return Ok(()) };
        if page.checksum.is_some_and(|checksum| checksum != crc32fast::hash(bytes)) {
            return Err(start);
        }
        start += page.header + page.size;
    }
    Ok(())
}

/// The page whose header these bytes begin with.
fn page(bytes: &[u8]) -> Option<Page> {
    let mut header = Compact { bytes, at: 0 };
    let (mut size, mut checksum) = (None, None);
    let mut field = 0;
    while let Some(kind) = header.field(&mut field)? {
        match (field, kind) {
            (3, I32) => size = Some(usize::try_from(header.number()?).ok()?),
            // Written as a signed number of 32 bits.
            (4, I32) => checksum = Some(i32::try_from(header.number()?).ok()? as u32),
            (_, kind) => header.skip(kind, DEEPEST)?,
        }
    }
    Some(Page { header: header.at, size: size?, checksum })
}

/// Thrift's compact protocol, from the front.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A signed number.
    fn number(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next field's type, its number put in place of the last one's; none inside at a struct's end, outside at the bytes'.
    fn field(&mut self, number: &mut i64) -> Option<Option<u8>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        *number = match byte >> 4 {
            0 => self.number()?,
            step => *number + i64::from(step),
        };
        Some(Some(byte & 0x0f))
    }

    fn advance(&mut self, bytes: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(bytes).ok()?)?;
        self.at = end;
        (end <= self.bytes.len()).then_some(())
    }

    fn skip(&mut self, kind: u8, deepest: usize) -> Option<()> {
        match kind {
            // Truth lies in a field's type.
            1 | 2 => Some(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.advance(8),
            8 => {
                let length = self.varint()?;
                self.advance(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                let kind = head & 0x0f;
                (0..count)
                    .try_for_each(|_| if kind <= 2 { self.advance(1) } else { self.skip(kind, deepest.checked_sub(1)?) })
            }
            12 => {
                let (deepest, mut number) = (deepest.checked_sub(1)?, 0);
                while let Some(kind) = self.field(&mut number)? {
                    self.skip(kind, deepest)?;
                }
                Some(())
            }
            // No header has maps.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
