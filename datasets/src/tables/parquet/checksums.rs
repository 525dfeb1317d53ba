//! What the headers of pages claim: checksums, where a file has them (few writers make them unless they are asked to), and how long
//! the unpacked pages are.
//!
//! The `parquet` crate looks at them only with a feature of its own, for all of its users at once; what is needed of a page's header
//! is four numbers. They are read as that crate reads them, which believes a field's number and not its type: what is read otherwise here
//! would not be checked. Reference: the Parquet format, "Checksumming" and `PageHeader`; Thrift's compact protocol.

/// Compact's type of structs.
const STRUCT: u8 = 12;
/// Bytes that any page may claim to be of.
const HARMLESS: i64 = 64 << 20;
/// How many times its packed bytes a page of more than that may have: deflate makes up to 1032 of one.
const MOST_UNPACKED: i64 = 1032;
/// How deep a header's structs may lie in each other.
const DEEPEST: usize = 64;

/// A page's place in its column chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    /// Bytes of its header.
    header: usize,
    /// Bytes behind it.
    size: usize,
    /// Bytes that these unpack to.
    unpacked: i64,
    /// For a dictionary's page, the number of its values.
    values: i64,
    /// CRC-32 of those.
    checksum: Option<u32>,
}

/// Checks the pages of a column chunk; returns the place of the first that does not fit its checksum, or claims to have more bytes or values
/// than it could, and what of these it does: room is made for what a page claims. What cannot be read as a page ends the walk: the reader says
/// better what is wrong with it.
pub fn check(chunk: &[u8]) -> Result<(), (usize, String)> {
    let mut start = 0;
    while let Some(page) = chunk.get(start..).and_then(page) {
        let Page { size, unpacked, values, .. } = page;
        if unpacked > HARMLESS.max((size as i64).saturating_mul(MOST_UNPACKED)) {
            return Err((start, format!("claims to be of {unpacked} bytes, which its {size} packed ones cannot be")));
        }
        if !(0..=unpacked.max(0)).contains(&values) {
            return Err((start, format!("claims to hold {values} values, which its {unpacked} bytes cannot be")));
        }
        let Some(bytes) = chunk[start + page.header..].get(..page.size) else { return Ok(()) };
        if page.checksum.is_some_and(|checksum| checksum != crc32fast::hash(bytes)) {
            return Err((start, "does not fit its checksum".to_owned()));
        }
        start += page.header + page.size;
    }
    Ok(())
}

/// The page whose header these bytes begin with.
fn page(bytes: &[u8]) -> Option<Page> {
    let mut header = Compact { bytes, at: 0 };
    let (mut size, mut unpacked, mut checksum, mut values) = (None, 0, None, 0);
    let mut field = 0;
    while let Some(kind) = header.field(&mut field)? {
        match field {
            1 => drop(header.short()?),
            2 => unpacked = header.short()?.into(),
            3 => size = Some(usize::try_from(header.short()?).ok()?),
            4 => checksum = Some(header.short()? as u32),
            // The headers of data pages of both versions, and of dictionaries, have so many numbers before other fields.
            5 => drop(header.numbers::<4>()?),
            7 => values = header.numbers::<2>()?[0].into(),
            8 => drop(header.numbers::<6>()?),
            _ => header.skip(kind, DEEPEST)?,
        }
    }
    Some(Page { header: header.at, size: size?, unpacked, values, checksum })
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
        let (mut value, mut shift) = (0, 0_u32);
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    }

    /// A signed number.
    fn number(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed number of 32 bits. Of one that is written with more, the lowest count, as they do for the reader of the pages.
    fn short(&mut self) -> Option<i32> {
        self.number().map(|number| number as i32)
    }

    /// A struct whose first N fields are numbers of 32 bits; those that it lacks are 0.
    fn numbers<const N: usize>(&mut self) -> Option<[i32; N]> {
        let (mut numbers, mut field) = ([0; N], 0);
        while let Some(kind) = self.field(&mut field)? {
            match usize::try_from(field).ok().and_then(|field| numbers.get_mut(field.checked_sub(1)?)) {
                Some(number) => *number = self.short()?,
                None => self.skip(kind, DEEPEST)?,
            }
        }
        Some(numbers)
    }

    /// The next field's type, its number put in place of the last one's; none inside at a struct's end, outside at the bytes'.
    fn field(&mut self, number: &mut i16) -> Option<Option<u8>> {
        let byte = self.byte()?;
        let kind = byte & 0x0f;
        if kind == 0 {
            return Some(None);
        }
        *number = match byte >> 4 {
            0 => self.number()? as i16,
            step => number.checked_add(step.into())?,
        };
        Some(Some(kind))
    }

    fn advance(&mut self, bytes: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(bytes).ok()?)?;
        self.at = end;
        (end <= self.bytes.len()).then_some(())
    }

    fn skip(&mut self, kind: u8, deepest: usize) -> Option<()> {
        let deepest = deepest.checked_sub(1)?;
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
                self.skip_each(count, &[head & 0x0f], deepest)
            }
            11 => match self.varint()? {
                0 => Some(()),
                count => {
                    let kinds = self.byte()?;
                    self.skip_each(count, &[kinds >> 4, kinds & 0x0f], deepest)
                }
            },
            STRUCT => {
                while let Some(kind) = self.field(&mut 0)? {
                    self.skip(kind, deepest)?;
                }
                Some(())
            }
            13 => self.advance(16),
            _ => None,
        }
    }

    /// As many values of each of those types.
    fn skip_each(&mut self, count: u64, kinds: &[u8], deepest: usize) -> Option<()> {
        let count = i32::try_from(count).ok()?;
        // The crate passes over truth values without reading any.
        if kinds.iter().all(|kind| matches!(kind, 1 | 2)) {
            return (deepest > 0 || count == 0).then_some(());
        }
        (0..count).try_for_each(|_| kinds.iter().try_for_each(|&kind| self.skip(kind, deepest)))
    }
}

#[cfg(test)]
mod tests;
