//! The first directory of a TIFF, as files of that format and Exif have it.

/// Tags and where their values lie; of the classic and the 64-bit format.
pub struct Directory<'a> {
    bytes: &'a [u8],
    little: bool,
    /// Bytes of a count or an offset.
    wide: usize,
    start: usize,
    count: usize,
}

impl<'a> Directory<'a> {
    /// The first directory, if the bytes begin like a TIFF.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let (little, wide) = match bytes.get(..4)? {
            b"II*\0" => (true, 4),
            b"MM\0*" => (false, 4),
            b"II+\0" => (true, 8),
            b"MM\0+" => (false, 8),
            _ => return None,
        };
        let mut directory = Self { bytes, little, wide, start: 0, count: 0 };
        let offset = usize::try_from(directory.number(wide, wide)?).ok()?;
        let length = if wide == 4 { 2 } else { 8 };
        directory.count = usize::try_from(directory.number(offset, length)?).ok()?;
        directory.start = offset.checked_add(length)?;
        Some(directory)
    }

    /// The unsigned number of that length.
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(length)?)?.iter();
        let add = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        Some(if self.little { bytes.rev().fold(0, add) } else { bytes.fold(0, add) })
    }

    /// The type, the count and the place of a tag's values.
    fn find(&self, tag: u16) -> Option<(u64, usize, usize)> {
        let size = 4 + 2 * self.wide;
        // A count that is made up ends with the bytes.
        for entry in 0..self.count {
            let at = entry.checked_mul(size)?.checked_add(self.start)?;
            if self.number(at, 2)? != u64::from(tag) {
                continue;
            }
            let (kind, count) = (self.number(at + 2, 2)?, usize::try_from(self.number(at + 4, self.wide)?).ok()?);
            let value = at + 4 + self.wide;
            let inline = count.checked_mul(width(kind)).is_some_and(|length| length <= self.wide);
            let place = if inline { value } else { usize::try_from(self.number(value, self.wide)?).ok()? };
            return Some((kind, count, place));
        }
        None
    }

    /// A tag's first values as whole numbers, 16 at most; none of a type that has none.
    pub fn numbers(&self, tag: u16) -> Option<Vec<u64>> {
        let (kind, count, place) = self.find(tag)?;
        let width = if matches!(kind, 1 | 3 | 4 | 6 | 8 | 9 | 13 | 16..=18) { width(kind) } else { return Some(Vec::new()) };
        Some((0..count.min(16)).map_while(|at| self.number(place.checked_add(at * width)?, width)).collect())
    }

    /// The bytes of a tag whose values are bytes.
    pub fn text(&self, tag: u16) -> Option<&'a [u8]> {
        let (kind, count, place) = self.find(tag)?;
        if width(kind) == 1 { self.bytes.get(place..place.checked_add(count)?) } else { None }
    }
}

/// Bytes of a value of that type.
fn width(kind: u64) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}
